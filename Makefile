# `make demo` runs the main job, `make test` passes the tests; each installs what it needs first.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
QEMU := qemu-system-x86_64
ARGS ?=

.PHONY: help venv system databases demo test test-all check generate lock bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.installed  ## the virtual environment, from the lock

.venv/.installed: requirements/ci.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "interlock needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ci.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

system:  ## QEMU from the distribution, where it is missing and we may install it
	@command -v $(QEMU) >/dev/null && command -v qemu-img >/dev/null || sh tools/install-qemu

databases: ## MariaDB from the distribution, where it is missing and we may install it; PostgreSQL comes with the lock
	@command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || sh tools/install-mariadb

demo: venv system  ## a real live migration, killed half-way and finished; ARGS="--help" shows the options
	$(BIN)/interlock demo $(ARGS)

test: venv system databases  ## everything CI checks
	$(BIN)/python -m tools.check $(ARGS)

test-all: venv system databases  ## the slow matrices too
	$(BIN)/python -m tools.check --nightly $(ARGS)

generate: venv  ## write everything that is generated
	$(BIN)/python -m tools.generate

bench: venv  ## durable steps per second next to the device's own limit
	$(BIN)/interlock bench $(ARGS)

lock: venv  ## pin requirements/ci.in anew
	$(PYTHON) -m venv .venv/lock && .venv/lock/bin/python -m pip install --quiet pip-tools
	.venv/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --output-file requirements/ci.lock requirements/ci.in
	rm -rf .venv/lock

clean:  ## remove what was installed and built
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
