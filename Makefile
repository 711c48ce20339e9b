# Everything a person or CI runs. `make demo` and `make test` set up all they need in .venv; the second time that takes
# no time, because .venv/.ready is newer than what it was made from.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first that really runs and is new enough: a version manager's stand-in may be on the path and run nothing.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA_DIR ?= .headrace
# Two workers: the machine that this was measured on has two cores; more of them only wait for each other. A file stays on
# one worker, so that a platform or a Kafka that its tests share is started once.
WORKERS ?= 2

.PHONY: help setup demo dev test check lint bench nightly lock protos format clean

help: ## List the recipes
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv and install what requirements.lock names, with hashes

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'setting up $(VENV): about 0.9 GB, a minute or two'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## The main job: start everything, replay three streams, kill the engine once, check every result
	$(BIN)/headrace demo --data-dir $(DATA_DIR)

dev: $(READY) ## Keep everything running until Ctrl-C
	$(BIN)/headrace dev --data-dir $(DATA_DIR)

test: $(READY) ## All tests but the nightly ones
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not nightly"

check: $(READY) ## What a change must pass before it is shown: ruff, mypy, import-linter, fast tests
	$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -q tests/unit

lint: $(READY) ## ruff, mypy --strict and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## Throughput and latency of the whole chain beside its raw parts
	$(BIN)/python benchmarks/chain.py

nightly: $(READY) ## The long tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m nightly

format: $(READY) ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(READY) ## Generate the messages of the V2 protocol for gRPC
	$(BIN)/uv run --no-project --with grpcio-tools --python $(BIN)/python python -m grpc_tools.protoc \
		-I api/v2/grpc --python_out=api/v2/grpc --pyi_out=api/v2/grpc api/v2/grpc/open_inference.proto

lock: $(READY) ## Rebuild requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --extra demo --extra dev --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## Remove the virtual environment, caches and state
	rm -rf $(VENV) $(DATA_DIR) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
