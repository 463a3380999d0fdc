# Two commands: `make bench` compares the backends on real digits, `make test` passes the tests.
# Both make .venv and install what constraints.txt pins, once; the rest is for contributors.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
INSTALLED_COPY := build/typing

.PHONY: help bench test test-all slurm-test check lint types wheel docs benchmark benchmark-all clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

bench: $(STAMP)  ## compare the backends on handwritten digits: a table, and the page runs/quick/report.html
	$(BIN)/l2t-bench run quick

# A file's tests go to one process, where they share what is dear to make; in order, so that none long comes last.
ON_ALL_CORES = -n auto --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## the tests, without the longer proofs
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m "not slow"

test-all: $(STAMP)  ## every test, and which take longest
	$(BIN)/python -m pytest $(ON_ALL_CORES) --durations=60 --durations-min=5

# 77: there can be no SLURM here; the reason is printed.
slurm-test: $(STAMP)  ## runs on a real SLURM of one node, two minutes; as root it installs slurm-wlm and munge
	$(BIN)/python tests/slurm/check.py || test $$? -eq 77

check: lint types wheel  ## ruff, mypy --strict, and what the wheel holds

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not see through an editable install's mapping of folders: it reads an installed copy. build/lib is what
# setuptools leaves behind, and would put files that are gone into the next wheel.
types: $(STAMP)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(INSTALLED_COPY) .
	cd $(INSTALLED_COPY) && MYPYPATH="$(CURDIR)/$(INSTALLED_COPY)" "$(CURDIR)/$(BIN)/mypy" --strict \
		--config-file "$(CURDIR)/pyproject.toml" --cache-dir "$(CURDIR)/.mypy_cache" -p l2t_bench

wheel: $(STAMP)
	$(BIN)/python -m pytest -q tests/test_packaging.py

# MkDocs' theme advertises its successor wherever it is imported. With --quiet MkDocs sees no warning, and is not strict.
docs: $(DOCS_STAMP)  ## the documentation as pages in site/, to open from the disk: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

BENCHMARK = $(BIN)/python -m pytest tests/benchmarks -o addopts="--import-mode=importlib --strict-markers -ra" \
	--benchmark-only --benchmark-autosave --benchmark-save-data --benchmark-storage=.benchmarks

benchmark: $(STAMP)  ## micro-benchmarks, forty minutes: JSON goes to .benchmarks/, `l2t-bench report .benchmarks` shows it
	$(BENCHMARK) -m "not slow"

benchmark-all: $(STAMP)  ## the same, and those that take hours more: large batches over long horizons, estimates of large students
	$(BENCHMARK)

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): some gigabytes, one or two minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:  ## remove build products and caches; .venv and runs stay
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
