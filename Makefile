# Two commands: `make bench` compares the backends on real digits, `make test` passes the tests. The rest is for contributors.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: bench test test-all check benchmark clean

bench: $(STAMP)
	$(BIN)/l2t-bench run quick

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typing
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/typing .
	cd build && MYPYPATH=typing ../$(BIN)/python -m mypy --config-file ../pyproject.toml -p l2t_bench
	$(BIN)/python -m pytest -q tests/test_packaging.py

benchmark: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-autosave

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache
