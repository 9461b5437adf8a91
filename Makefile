# make quickstart   sets everything up and does a real job
# make test         every gate and every test
# make check        the gates and the unit tests, in under a minute
# make crash        10,000 simulated histories, each failpoint, damages, the long run: docs/explanation/reliability.md
# make bench        the figures of docs/benchmarks.md

PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: quickstart test check crash bench gates
.DELETE_ON_ERROR:

quickstart: .venv/.run
	@$(BIN)/python examples/quickstart/run.py $(ARGS)

# Several files at a time, for most of a test's time is spent waiting.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile

test: gates
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

check: gates
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/unit

crash: .venv/.dev
	SIMULATED=10000 $(BIN)/python -m pytest tests/simulation
	DAMAGES=500 $(BIN)/python -m pytest tests/crash/test_damage.py
	FAILPOINTS=all $(BIN)/python -m pytest tests/crash/test_failpoints.py
	$(BIN)/python -m tests.crash.long --write $(ARGS)

bench: .venv/.bench
	$(BIN)/python benchmarks/run.py $(ARGS)

gates: .venv/.dev
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/python -m tools.gates
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# One stamp for each thing that is installed, so that it is installed once and again when its list changes.
.venv/.run: .venv/.made pyproject.toml constraints.txt
	@echo "Installing Arriero into .venv"
	@$(PIP) --editable '.[examples]'
	@touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	@echo "Installing Arriero and its tools into .venv"
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/.run

.venv/.bench: .venv/.dev $(wildcard benchmarks/requirements.txt)
	@$(PIP) $(patsubst %,--requirement %,$(wildcard benchmarks/requirements.txt)) --editable '.[dev]'
	@touch $@

.venv/.made:
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec sh -c "$$python -m venv --clear .venv && touch $@"; \
	    fi; \
	done; \
	echo "Arriero needs Python 3.11 or newer, and none of $(PYTHONS) is: install one and run make again." >&2; exit 1
