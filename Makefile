# make table: sets up and runs the pipeline on the embedded default.
# make test: sets up and runs the tests; make test-all: also those that take long, such as kills, several processes and what DVC re-runs,
# and more examples of each property.
PYTHON ?= python3
SPREAD := -n auto --dist loadscope --no-loadscope-reorder
export PATH := $(CURDIR)/.venv/bin:$(PATH)

table: .venv/ready
	dvc repro
	python -m stages.page

test: .venv/ready
	OMP_NUM_THREADS=1 python -m pytest $(SPREAD) -m "not slow" --hypothesis-profile=few

test-all: .venv/ready
	OMP_NUM_THREADS=1 python -m pytest $(SPREAD)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade --editable '.[test]'
	touch .venv/ready

.PHONY: table test test-all
