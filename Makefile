# `make repro` runs the default experiment and `make test` the tests; both set up the environment first.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# Stages start in half the time when the libraries are compiled to bytecode once; some systems forbid it by default.
unexport PYTHONDONTWRITEBYTECODE
# Large blocks stay with the allocator between training steps, instead of going back to the system (glibc).
export MALLOC_MMAP_THRESHOLD_ := 2000000000
export MALLOC_TRIM_THRESHOLD_ := 8000000000
export MALLOC_TOP_PAD_ := 268435456
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help environment repro test soak audit lint bench lock

help: ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

environment: .venv/.installed ## The locked environment in .venv

.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

repro: environment ## Run the default experiment and print its table
	@python -m stages.repro && python -m stages.show

test: environment ## Run the tests
	@python -m pytest

soak: environment ## Kill, break and share for an hour, and print the figures of docs/reliability.md
	@SOAK=1 python -m pytest -n 0 -rP --no-header tests/test_fuzz.py tests/pipeline/test_kills.py tests/pipeline/test_bytes.py tests/pipeline/test_sharing.py tests/pipeline/test_readme.py

audit: environment ## Ask whether a fault is known in a locked package; needs the vulnerability service of PyPI
	@pip-audit --strict --disable-pip --require-hashes --requirement requirements.txt

lint: environment ## Check style and types
	@ruff check . && ruff format --check . && mypy

bench: environment ## Time the engine against a plain loop, and each part against its floor
	@python -m bench

lock: environment ## Renew requirements.txt from pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra test pyproject.toml -o requirements.txt

