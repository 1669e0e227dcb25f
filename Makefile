# Redtap's tasks. `make help` lists them; each sets up what it needs first.
#   REDTAP_PURE=1  the pure Python build, without a compiler      PYTHON=...  the interpreter to make .venv with
#   ARGS='...'     more arguments for the command that runs        (make up ARGS='--port 7000', make test ARGS='-k arp')

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
FUZZ_MINUTES ?= 60

export REDTAP_PURE
# "0" and "" both mean the compiled build, as in appliance/_build.py.
PURE := $(filter-out 0,$(REDTAP_PURE))
BUILT := $(VENV)/.stamp-$(if $(PURE),pure,compiled)

# All that can change the compiled modules. The list is a file of its own, so that a deleted module is noticed too.
SOURCES := $(sort $(shell find appliance/wire appliance/stack appliance/redis appliance/shell appliance/*.py appliance/bench/canned.py -name "*.py" 2>/dev/null))
SOURCE_LIST := $(VENV)/.sources
ifneq ($(wildcard $(VENV)),)
$(shell echo '$(SOURCES)' | cmp -s - $(SOURCE_LIST) || echo '$(SOURCES)' >$(SOURCE_LIST))
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup up test test-container check conformance format coverage bench bench-micro fuzz lock clean remove-extensions

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(BUILT) ## .venv with the locked dependencies and the build (compiled, or REDTAP_PURE=1)

up: setup ## setup, then `redtap serve` in the foreground (needs root)
	@$(BIN)/redtap serve $(ARGS)

test: setup ## setup, then the tests; those that need root skip without it
	@.ci/system tools test
	@$(BIN)/python -m pytest -m "not engine and not slow" $(ARGS)

test-container: setup ## setup, then the image and compose.yaml on the container engine that `docker` reaches
	@REDTAP_REQUIRE_ENGINE=1 $(BIN)/python -m pytest -m engine $(ARGS)

conformance: setup ## the conformance tests; writes appliance/docs/conformance.md from their outcomes
	@$(BIN)/python -m pytest -q tests/conformance -m row --ignore tests/conformance/redis --conformance-table $(ARGS)

check: $(VENV)/.stamp-installed ## lint, format, types, and the arrows between the layers
	@$(BIN)/ruff check --quiet . && echo "ruff check: ok"
	@$(BIN)/ruff format --quiet --check . && echo "ruff format: ok"
	@$(BIN)/mypy --no-error-summary && echo "mypy: ok"
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.stamp-installed ## format the code and apply the safe fixes
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

coverage: $(VENV)/.stamp-installed ## branch coverage, measured on the pure build
	@REDTAP_PURE=1 $(BIN)/python -m coverage run -m pytest -q -m "not engine" $(ARGS)
	@$(BIN)/python -m coverage report

bench: setup ## the side-by-side benchmark (needs root)
	@$(BIN)/redtap bench $(ARGS)

bench-micro: setup ## times of each layer by itself, and instructions per request
	@$(BIN)/python -m pytest tests/bench/micro_layers.py -q --benchmark-only --benchmark-columns=min,median,iqr,ops \
		--benchmark-sort=name $(ARGS)
	@if [ "$$($(BIN)/redtap --version | grep -c compiled)" = 1 ] && command -v valgrind >/dev/null; then \
		$(BIN)/python -m tests.bench.instructions; fi

fuzz: setup ## the property tests with ever new examples, for FUZZ_MINUTES (60)
	@end=$$(( $$(date +%s) + $(FUZZ_MINUTES) * 60 )); round=0; \
	while [ $$(date +%s) -lt $$end ]; do \
		round=$$((round + 1)); echo "fuzz: round $$round"; \
		$(BIN)/python -m pytest -q -x -m "(hypothesis or machine or slow) and not engine and not system" -p no:cacheprovider \
			--timeout=0 --hypothesis-profile=fuzz --hypothesis-seed=$$(date +%s) $(ARGS) || exit 1; \
	done

lock: $(VENV)/.stamp-dependencies ## resolve pyproject.toml anew into the lock files
	@$(BIN)/python -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install -qq uv
	@set -e; lock() { $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links "$$@"; }; \
	lock --extra test pyproject.toml -o requirements-dev.lock; \
	lock -c requirements-dev.lock --no-annotate pyproject.toml -o requirements.lock; \
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| lock -c requirements-dev.lock --no-annotate - -o requirements-build.lock
	@wc -l requirements*.lock

clean: remove-extensions ## remove .venv and everything that was built
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find appliance netns tests -name __pycache__ -type d -prune -exec rm -rf {} +

remove-extensions:
	@rm -rf build redtap__mypyc*.so redtap_types__mypyc*.so; find appliance -name '*.so' -delete

# --- the stamps --------------------------------------------------------------------------------------------------

$(VENV)/.stamp-dependencies: requirements-dev.lock
	@python=$$(.ci/system python tools $(if $(PURE),,compiler)) && $$python -m venv --clear $(VENV)
	@echo "redtap: installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Editable, with one .pth line for the whole tree: the compiled group is a module beside `appliance`, not inside it.
$(VENV)/.stamp-installed: $(VENV)/.stamp-dependencies pyproject.toml setup.py
	@REDTAP_PURE=1 $(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps \
		--config-settings editable_mode=compat --editable .
	@touch $@

# With REDTAP_PURE=1 the sources are loaded even where compiled modules lie beside them: nothing to build.
$(VENV)/.stamp-pure: $(VENV)/.stamp-installed
	@touch $@

$(VENV)/.stamp-compiled: $(VENV)/.stamp-installed $(SOURCES) $(SOURCE_LIST)
	@.ci/system compiler
	@$(MAKE) --no-print-directory remove-extensions
	@$(BIN)/python setup.py --quiet build_ext --inplace --parallel "$$(nproc)" >$(VENV)/build.log 2>&1 \
		|| { tail -n 30 $(VENV)/build.log; echo "redtap: the build failed: $(VENV)/build.log"; exit 1; }
	@grep '^redtap:' $(VENV)/build.log || true
	@touch $@

$(SOURCE_LIST):
	@echo '$(SOURCES)' >$@
