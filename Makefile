# make demo | make test: both set everything up first. TORCH_INDEX_URL takes torch from another index.
# TEST_PROCESSES=1 runs one test at a time; each of several takes whole files.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
TORCH_PIN := $(shell grep '^torch==' requirements.lock)
TEST_PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile
ifdef TORCH_INDEX_URL
TORCH_FROM := --index-url $(TORCH_INDEX_URL)
endif

.PHONY: setup demo lint test test-all clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PY) -c 'import sys; sys.exit("Tunesmith needs Python 3.11 or newer; this is %d.%d. Name another: make setup PY=python3.12" % sys.version_info[:2]) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIN) $(TORCH_FROM)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: setup
	$(BIN)/tunesmith demo --out runs/demo

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
