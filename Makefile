# Two commands on a fresh machine with Python >= 3.11: `make train` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BUDGET ?= smoke
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --compile-bytecode
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-fast lint bench finding clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## make the environment in .venv from requirements.lock

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "error: cvkan needs Python 3.11 to 3.13, $(PYTHON) is another. Run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing (2 to 3 GB the first time)"
	$(UV) -r requirements.lock
	$(UV) --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q cvkan conf
	@touch $@

train: $(INSTALLED) ## train the main job on embedded data and show the results
	$(BIN)/cvkan-train

test: lint ## lint, then all tests
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(INSTALLED) ## the tests that start no process and train nothing
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED) ## train every domain and compare with benchmark/reference.json: make bench BUDGET=smoke|cpu|gpu
	$(BIN)/cvkan-bench suite=overnight budget=$(BUDGET)

finding: $(INSTALLED) ## add a finding to the research log: make finding ARGS="--help"
	@$(BIN)/python scripts/log_finding.py $(ARGS)

clean: ## remove the environment and everything generated but runs
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find benchmark -mindepth 1 ! -name reference.json -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
