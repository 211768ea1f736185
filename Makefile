# Two commands do everything on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: venv test test-full lint format demo bench digits-model digits-study digits-pooling clean

# The stamp is newer than setup.py and pyproject.toml when what is installed matches them.
$(VENV)/.installed: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	touch $@

# What only the full tests need: the TPU compiler.
$(VENV)/.installed-full: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[all,tpu-preflight]"
	touch $@

venv: $(VENV)/.installed

test: venv lint
	$(BIN)/python -m pytest tests -m "not full"

test-full: $(VENV)/.installed-full
	$(BIN)/python -m pytest tests

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: venv
	$(BIN)/python examples/demo.py

# On LiT-B16B_2: the published checkpoint if it can be had, else random weights of its layout.
demo-full: venv
	$(BIN)/python examples/demo_full.py

bench: venv
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	$(BIN)/python benchmarks/run.py

# Rebuilds the embedded model from nothing; ships it only if it meets its bars.
digits-model: venv
	$(BIN)/python -m lit_tf.training.digits.build --workdir runs/digits

# Locked against unlocked towers, with the image tower that digits-model left in runs/digits.
digits-study: venv
	$(BIN)/python -m lit_tf.training.digits.study --workdir runs/digits

# Attention pooling and the sigmoid loss beside the recipe, with what digits-model left in runs/digits.
digits-pooling: venv
	$(BIN)/python -m lit_tf.training.digits.pooling --workdir runs/digits

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
