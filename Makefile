# Every target sets up what it needs on a fresh machine. The targets are the steps of .ci/run: nothing is CI-only.
PYTHON ?= python3
BIN := .venv/bin
# One temporary folder of a recipe, removed however the recipe ends.
SCRATCH = scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT

# The main job of make run.
EPOCHS ?= 20
BATCH_SIZE ?= 64
# What each script of examples/ and benchmarks/ is given; .ci/run and bench-quick make it small.
EXAMPLE_ARGS ?= --epochs 1
BENCH_ARGS ?=
# A folder of photos by class; the example that trains on them is left out where it is not there.
PHOTOS ?= ../shared/data/flowers

PYTHON_FILES = .ci benchmarks examples setup.py tests tfjax
RUFF_FORMAT = $(BIN)/ruff format --isolated --line-length 120 --target-version py311
RUFF_CHECK = $(BIN)/ruff check --isolated --line-length 120 --target-version py311 \
	--select E,F,I,UP,B,RUF,ARG,BLE,S101,T20,D,ANN --ignore ANN401 \
	--config 'lint.pydocstyle.convention = "google"' \
	--per-file-ignores 'tests/**:D,tests/**:ANN,tests/**:S101,examples/**:ANN,examples/**:T20,benchmarks/**:T20,.ci/**:T20'

# CPU and the JAX backend, for what is run to be checked; datasets and indexes go to runs/, not to the user's home.
CHECKED = JAX_PLATFORMS=cpu KERAS_BACKEND=jax MPLBACKEND=Agg TF_CPP_MIN_LOG_LEVEL=3 \
	TFDS_DATA_DIR=$(CURDIR)/runs/tfds XDG_CACHE_HOME=$(CURDIR)/runs/cache

.DEFAULT_GOAL := help
.PHONY: help run test lint format-check format type doctest examples bench bench-quick dist extras-dry-run ci clean

help:  ## What there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.venv/.installed: setup.cfg setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

run: .venv/.installed  ## Train on digits with all five frameworks; results go to runs/digits
	mkdir -p runs
	$(BIN)/tfjax train digits --framework all --epochs $(EPOCHS) --batch-size $(BATCH_SIZE) \
		--data-dir runs/tfds --out runs/digits

test: .venv/.installed  ## The test suite
	$(BIN)/python -m pytest

lint: .venv/.installed  ## Ruff's rules
	$(RUFF_CHECK) $(PYTHON_FILES)

format-check: .venv/.installed  ## Whether ruff would format a file otherwise
	$(RUFF_FORMAT) --check $(PYTHON_FILES)

format: .venv/.installed  ## Format, and apply the safe fixes of the rules
	$(RUFF_CHECK) --fix $(PYTHON_FILES); $(RUFF_FORMAT) $(PYTHON_FILES)

type: .venv/.installed  ## Strict types of the package
	$(BIN)/mypy tfjax

doctest: .venv/.installed  ## The examples in docstrings, in the README and in docs/
	$(CHECKED) $(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' tfjax README.md docs examples/models

examples: .venv/.installed  ## Each script of examples/, with EXAMPLE_ARGS, and each model of examples/models
	@set -e; for script in examples/*.py examples/models/*.py; do arguments="$(EXAMPLE_ARGS)"; \
		case $$script in examples/models/*) arguments=;; *flowers* | *photos*) arguments="$$arguments --photos $(PHOTOS)"; \
			test -d $(PHOTOS) || { echo "== $$script: left out, as there is no $(PHOTOS)"; continue; };; esac; \
		echo "== $$script $$arguments"; $(CHECKED) $(BIN)/python $$script $$arguments; done

bench: .venv/.installed  ## Each benchmarks/bench_*.py, with BENCH_ARGS; JSON goes to runs/bench
	@mkdir -p runs/bench; set -e; for script in benchmarks/bench_*.py; do \
		echo "== $$script $(BENCH_ARGS)"; $(BIN)/python -m benchmarks.$$(basename $$script .py) $(BENCH_ARGS); done

bench-quick: BENCH_ARGS = --quick
bench-quick: bench  ## The same, as a quick pass that only shows that they run

dist: .venv/.installed  ## Build the wheel and try it from another folder, in environments of its own
	rm -rf build dist *.egg-info
	$(BIN)/python -m build --wheel --outdir dist
	@set -e; $(SCRATCH); wheel=$$(ls $(CURDIR)/dist/tfjax-*.whl); cp .ci/smoke.py $$scratch; \
	$(PYTHON) -m venv $$scratch/venv; cd $$scratch; \
	venv/bin/python -m pip install --quiet -c $(CURDIR)/constraints.txt $$wheel; \
	$(CHECKED) venv/bin/python smoke.py without-extras; \
	venv/bin/python -m pip install --quiet -c $(CURDIR)/constraints.txt "$$wheel[all]"; \
	$(CHECKED) TFDS_DATA_DIR=$$scratch/tfds PATH=$$scratch/venv/bin:$$PATH venv/bin/python smoke.py with-extras

extras-dry-run: .venv/.installed  ## Ask pip what each extra would install: TensorFlow by tf and all only
	@set -e; $(SCRATCH); $(PYTHON) -m venv $$scratch/venv; \
	$(BIN)/python .ci/extras_dry_run.py $$scratch/venv/bin/python

ci:  ## Everything that .ci/run does
	.ci/run

clean:  ## Remove what was built; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
