# make table: sets up and runs the pipeline on the embedded default.
# make test: sets up and runs the tests; make test-all: also those that take long, such as kills and several processes.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

table: .venv/ready
	dvc repro
	python -m stages.page

test: .venv/ready
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadscope -m "not slow"

test-all: .venv/ready
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadscope

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade --editable '.[test]'
	touch .venv/ready

.PHONY: table test test-all
