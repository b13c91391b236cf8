# Everything is done from here; `make help` lists it. Needs Python 3.11 or newer, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## Show this.
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.ready: pyproject.toml $(VENV)/bin/python
	$(PIP) install --editable '.[all]' --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.ready
	$(PIP) install --group lint
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready ## Make the environment (.venv).

.PHONY: demo
demo: $(VENV)/.ready ## Run the bookshop: what was raised, what travelled, what was caught, what was logged.
	@$(BIN)/python -m examples.bookshop.demo

.PHONY: test
test: $(VENV)/.ready ## Run the fast tests (under two minutes on two cores).
	$(PYTEST) -n 3 --dist loadscope -m 'not slow and not soak'

.PHONY: test-all
test-all: $(VENV)/.ready ## Run all tests.
	$(PYTEST) -n 2 --dist loadscope -m 'not soak'

.PHONY: test-lowest
test-lowest: ## Run the tests of the core, servers and callers on the oldest supported grpcio and protobuf.
	test -x .venvs/lowest/bin/python || $(PYTHON) -m venv .venvs/lowest
	.venvs/lowest/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	.venvs/lowest/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[all]' --group test \
		grpcio==1.75.1 grpcio-status==1.75.1 grpcio-health-checking==1.75.1 grpcio-reflection==1.75.1 protobuf==6.31.1
	.venvs/lowest/bin/python -m pytest -n 2 --dist loadscope -m 'not slow and not soak' -q -p no:cacheprovider \
		tests/unit/test_*.py tests/calls/test_exits.py tests/calls/test_flavours.py tests/calls/test_leaks.py \
		tests/calls/test_recovery.py tests/calls/sync_client tests/calls/aio_client \
		--ignore tests/calls/aio_client/test_aio_others.py  # that grpcio fails with several interceptors of its own kind

.PHONY: cover
cover: $(VENV)/.ready ## Run the fast tests and show the branches that they do not reach.
	$(PYTEST) -m 'not slow and not soak' -q --cov --cov-branch --cov-report=term-missing

.PHONY: soak
soak: $(VENV)/.ready ## 10,000 randomised exits under concurrency and cancellation: no hang, nothing left behind.
	$(PYTEST) -m soak -q

.venvs/bench/.ready: pyproject.toml
	$(PYTHON) -m venv .venvs/bench
	.venvs/bench/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	.venvs/bench/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[all]' --group bench
	@touch $@

.PHONY: bench
bench: .venvs/bench/.ready ## Measure what it costs, beside its peers: a look (docs/benchmarks.md).
	.venvs/bench/bin/python -m benchmarks quick

.PHONY: bench-full
bench-full: .venvs/bench/.ready ## Measure everything, and write docs/benchmarks.md; a run that was cut goes on.
	.venvs/bench/bin/python -m benchmarks full
	.venvs/bench/bin/python -m benchmarks.docs

.PHONY: scale
scale: .venvs/bench/.ready ## Measure load, methods and breaker keys, and soak for five minutes.
	.venvs/bench/bin/python -m benchmarks full scale soak

.PHONY: bench-check
bench-check: $(VENV)/.ready ## Count calls and memory of each kind of RPC, and hold them against the committed budgets.
	PYTHONHASHSEED=0 $(BIN)/python -m benchmarks.budgets

.PHONY: simulate
simulate: $(VENV)/.ready ## Simulate outages: the production policies against a virtual clock; writes docs/simulations.md.
	$(BIN)/python -m simulations --out docs/simulations
	$(BIN)/python -m simulations.docs

.PHONY: lint
lint: $(VENV)/.lint ## Check style, and who imports whom.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

.PHONY: types
types: $(VENV)/.lint ## Check types with mypy --strict and pyright.
	$(BIN)/mypy
	$(BIN)/pyright

.PHONY: fmt
fmt: $(VENV)/.lint ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venvs/protos/.ready: scripts/protos.py
	$(PYTHON) -m venv .venvs/protos
	.venvs/protos/bin/python -m pip --disable-pip-version-check --quiet install \
		$$(sed -nE 's/^# dependencies = \[(.*)\]/\1/p' scripts/protos.py | tr -d '",')
	@touch $@

.PHONY: protos
protos: .venvs/protos/.ready ## Write generated/ anew from protos/.
	PATH="$(CURDIR)/.venvs/protos/bin:$$PATH" .venvs/protos/bin/python scripts/protos.py

.PHONY: protos-check
protos-check: protos ## Fail if generated/ is not what protos/ gives.
	test -z "$$(git status --porcelain generated | tee /dev/stderr)"

.PHONY: build
build: $(VENV)/.ready ## Build the wheel and the source distribution into dist/.
	$(PIP) install build
	$(BIN)/python -m build --outdir dist

.PHONY: ci
ci: ## What must pass before a change lands.
	.ci/run

.PHONY: clean
clean: ## Remove all that make has made.
	rm -rf $(VENV) .venvs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
