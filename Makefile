# make table: sets up and runs the pipeline on the embedded default. make test: sets up and runs the tests.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

table: .venv/ready
	dvc repro
	python -m stages.page

test: .venv/ready
	python -m pytest

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade --editable '.[test]'
	touch .venv/ready

.PHONY: table test
