# What a person and CI both call. `make demo` and `make test` need Python 3.11, pip and make, nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test bench sweeps lint proto policy-mutants requirements vectors

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: Python 3.11 is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv (once; a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup
	@$(BIN)/puente demo

test: setup vectors
	@$(BIN)/python tools/generate_proto.py --check
	@$(BIN)/python -m pytest -n 2 --dist loadfile

vectors: setup  # what the foreign verifier of the frozen vectors needs; without npm its test says why it is skipped
	@cd tests/vectors && { [ -d node_modules ] || ! command -v npm >/dev/null || npm ci --ignore-scripts --silent --no-audit --no-fund || true; }

bench: setup
	@$(BIN)/python -m bench

sweeps: setup
	@$(BIN)/python -m bench.sweeps

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/generate_proto.py --check
	@$(BIN)/python tools/lint_proto.py

proto: setup
	@$(BIN)/python tools/generate_proto.py

policy-mutants: setup
	@$(BIN)/python tools/policy_mutants.py

requirements: setup
	@for name in runtime dev; do CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile -q --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-options -o requirements/$$name.txt requirements/$$name.in; done
