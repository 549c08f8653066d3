# Everything runs in .venv, which the first target that needs it creates. `make PYTHON=python3.12 test` names the
# Python to create it with.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Files of tests run two at a time. Without these options pytest runs one test after the other.
TEST := $(RUN) -m pytest --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint types clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.stamp-demo ## train on real hospital data that is split between two owners
	$(VENV)/bin/veilboost demo --out demo

test: $(VENV)/.stamp-dev ## run the quick tests
	$(TEST)

test-slow: $(VENV)/.stamp-dev ## run the slow tests
	$(TEST) -m slow

lint: $(VENV)/.stamp-dev ## check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.stamp-dev ## check types
	$(RUN) -m mypy

clean: ## remove caches and builds; .venv stays
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that exists is used as it is.
$(VENV)/.stamp-venv:
	@if ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	        echo "veilboost needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | head -n 1):" \
	            "name another one, as in 'make PYTHON=python3.12 test'" >&2; exit 2; }; \
	    echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv $(VENV); \
	fi
	@$(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(VENV) holds a Python older than 3.11: remove $(VENV) and run make again" >&2; exit 2; }
	@touch $@

# pip leaves alone what is there already and new enough.
$(VENV)/.stamp-demo: pyproject.toml | $(VENV)/.stamp-venv
	$(RUN) -m pip install --quiet --editable '.[analyst]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(VENV)/.stamp-venv
	$(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@
