# make run     serve on http://127.0.0.1:8080 (HOST=… PORT=… change that); installs what it needs
# make test    install what the tests need, and run them (ARGS="-k words" for some)
# make check   formatting, lint, types, import layers, generated files
# make bench   measure this machine (ARGS="--quick"; benchmarks/run.py says more)
# make lock    resolve the locked versions anew
# make clean   forget .venv and caches (not the data)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help run test check bench lock proto clean system model vendor

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then command -v $$python; break; fi; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
ARGS ?=
RPC := mediaserver/inference/rpc
CHECKED := mediaserver tests clients/python $(wildcard benchmarks)

help:
	@sed -n 's/^# make/make/p' Makefile

run: $(VENV)/.runtime vendor
	@exec $(BIN)/mediaserver serve --pull $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT))

test: $(VENV)/.development system model vendor
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory proto OUT=$(VENV)/generated
	@for file in $(RPC)/speech_pb2*; do cmp "$$file" "$(VENV)/generated/$$file" \
		|| { echo "run: make proto"; exit 1; }; done; echo "generated gRPC code is up to date"

bench: $(VENV)/.development system model
	@$(BIN)/python -m benchmarks.run $(ARGS)

# The gRPC code from its contract; OUT is where to.
OUT ?= .
proto: $(VENV)/.development
	@mkdir -p $(OUT)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -I. --python_out=$(OUT) --mypy_out=quiet:$(OUT) \
		--grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(RPC)/speech.proto

# ---- what is installed; a stamp says that it is as the locks want it -----------------------

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; is it installed?"; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) || { echo "on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing the packages of requirements.lock into $(VENV) (once; about 500 MB on disk)"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install -qq --no-deps -e .
	@touch $@

$(VENV)/.development: requirements-dev.lock clients/python/pyproject.toml $(VENV)/.runtime
	@echo "installing the packages of requirements-dev.lock into $(VENV) (once)"
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@$(PIP) install -qq --no-deps -e clients/python
	@touch $@

# hls.js, for browsers that play no HLS themselves; all else works without it.
HLS_JS := vendor/node_modules/.package-lock.json
vendor:
	@if [ ! $(HLS_JS) -nt vendor/package-lock.json ]; then \
		if ! command -v npm >/dev/null; then \
			echo "without npm there is no hls.js: Firefox and older browsers will not play HLS"; \
		elif (cd vendor && npm ci --loglevel=error); then touch $(HLS_JS); \
		else echo "npm could not fetch hls.js: Firefox and older browsers will not play HLS"; \
		fi; fi

model: $(VENV)/.runtime
	@if [ -z "$${MEDIASERVER_TEST_MODEL:-}" ]; then \
		MEDIASERVER_DATA_DIR=data $(BIN)/mediaserver models pull whisper-base; fi

# What the tests need of the system: a browser, Node, recorded speech, fonts for screenshots,
# PostgreSQL and a Redis that speaks TLS (their programs; the tests run servers of their own).
system:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	[ -d /usr/share/pocketsphinx/test/data/librivox ] || missing="$$missing pocketsphinx-testdata"; \
	[ -n "$$(ls /usr/share/fonts/truetype 2>/dev/null)" ] || missing="$$missing fonts-dejavu-core"; \
	[ -n "$$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || command -v postgres >/dev/null \
		|| missing="$$missing postgresql"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq; \
			apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		else echo "the tests need:$$missing; install them (on Debian: apt-get install$$missing)"; \
		exit 1; fi; fi

# ---- the locks: every version with its hashes, and nothing of the machine that made them ---

COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
	--allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --no-emit-options --annotation-style=line --resolver=backtracking

lock: | $(VENV)/bin/python
	$(PIP) install --quiet pip-tools
	$(COMPILE) $(ARGS) --extra dev --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) $(ARGS) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	@! grep -nE '://|^-|/(home|root|opt|tmp|usr)/' requirements.lock requirements-dev.lock

clean:
	rm -rf $(VENV) vendor/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		build *.egg-info clients/python/*.egg-info
