# Needs python3 (3.11 or newer) with venv and pip, and PyPI; everything else is made in .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DATA ?= ./data
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test bench torture clean

run: export TAMS_HOST = $(HOST)
run: export TAMS_PORT = $(PORT)
run: export TAMS_DATA = $(DATA)
run: $(VENV)/run.stamp
	exec $(BIN)/tams-proxy serve --demo

test: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m "not slow"

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench $(ROWS)

torture: $(VENV)/dev.stamp
	$(BIN)/python -m tests.torture $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/run.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[media]"
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[media,s3,traces,vast,vast-tests,dev]"
	touch $@ $(VENV)/run.stamp
