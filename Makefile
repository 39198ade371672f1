# One-word entry points; the two that matter are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
# Workers of the suite share the cores: one numerical thread each.
SUITE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu lint format clean

help:
	@echo "make demo       train on the sample marketplace, results under runs/demo"
	@echo "make test       linters, types and the fast suite"
	@echo "make test-slow  the slow tests only"
	@echo "make test-gpu   the tests that need a GPU; the other targets hide it"
	@echo "make lint       linters and types only"
	@echo "make format     format the code"
	@echo "make clean      remove caches and results; the environment and mlruns/ stay"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV): about 3 minutes and 7 GB on Linux, most of it torch ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@echo "Installed."
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m purchase_predictor.train --market KR --output runs/demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The suite comes last, so that the summary line of pytest is the last line printed.
test: lint
	@$(SUITE) -m "not slow" -n $(WORKERS)

test-slow: $(STAMP)
	@$(SUITE) -m slow

test-gpu: $(STAMP)
	@$(SUITE) -m gpu

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find purchase_predictor features configs tests -name __pycache__ -type d -prune -exec rm -rf {} +
