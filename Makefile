# Two commands do everything on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
# Three processes share the files of tests, the longest first. On two cores, the third works while
# others wait for a browser or for processes that they started.
PARALLEL = -n 3 --dist loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Bytecode is written where a module is first imported; without it, every process would compile
# TensorFlow anew.
export PYTHONDONTWRITEBYTECODE =
# uv takes a quarter of pip's time, but does not read pip's settings (a private index, say): where it
# fails, pip tries.
INSTALL = install() { $(BIN)/python -m pip install --quiet uv && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python "$$@" || \
	$(BIN)/python -m pip install --quiet "$$@"; }; install

.PHONY: venv runtimes test quick-tests test-random test-full test-newest lint format demo bench
.PHONY: bench-quick
.PHONY: digits-model digits-study digits-pooling docs release clean

# The stamp is newer than setup.py and pyproject.toml when what is installed matches them.
$(VENV)/.installed: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable ".[all]"
	touch $@

# What only the full tests need: the TPU compiler.
$(VENV)/.installed-full: $(VENV)/.installed
	$(INSTALL) --editable ".[all,tpu-preflight]"
	touch $@

venv: $(VENV)/.installed

test: venv
	$(MAKE) --no-print-directory --jobs 2 lint quick-tests

# Tests run compiled code only a few times, so LLVM's optimization is off; `make test-full` keeps it.
quick-tests: export XLA_FLAGS ?= --xla_backend_optimization_level=0
quick-tests: venv
	$(BIN)/python -m pytest tests -m "not full" $(PARALLEL)

# The quick tests in an order by chance, while something else keeps both cores busy. What it prints
# first names its seed, for make test-random SEED=...
SEED ?= $(shell date +%s)
test-random: export XLA_FLAGS ?= --xla_backend_optimization_level=0
test-random: venv
	for core in 1 2; do $(BIN)/python -c "while True: pass" & busy="$$busy $$!"; done; \
	trap "kill $$busy" EXIT; \
	$(BIN)/python -m pytest tests -m "not full" $(PARALLEL) \
		-p randomly --randomly-seed=$(SEED)

test-full: $(VENV)/.installed-full test-newest runtimes
	$(BIN)/python -m pytest tests

# The runtimes that devices have, each in an environment of its own, for tests of what runs there.
# The oldest wants NumPy 1 and Python 3.11. What cannot be installed is skipped by the tests.
runtimes: venv
	make_one() { name=$(VENV)-runtimes/$$1; shift; test -x $$name/bin/python || \
		$(PYTHON) -m venv --without-pip $$name; \
		$(BIN)/python -m pip --python $$name/bin/python install --quiet "$$@" || rm -r $$name; }; \
	make_one tflite-2.14 tflite-runtime==2.14.0 "numpy<2"; \
	make_one tensorflow-2.16 "tensorflow-cpu==2.16.*"; \
	make_one tensorflow-2.17 "tensorflow-cpu==2.17.*"; \
	make_one litert-1.0 ai-edge-litert==1.0.1 "numpy<2"; \
	make_one litert-1.2 ai-edge-litert==1.2.0 numpy; \
	make_one litert-1.4 ai-edge-litert==1.4.0 numpy; \
	make_one litert-2.0 ai-edge-litert==2.0.2 numpy; \
	make_one openvino ai-edge-litert==2.3.0 ai-edge-litert-sdk-intel==2.3.0 numpy

# The newest Python, TensorFlow and Keras that are allowed. Training stops at TensorFlow 2.20, so what
# runs here are the tests of the library and of its exports.
NEWEST_PYTHON ?= $(shell python3.13 -c "" 2>/dev/null && echo python3.13 || echo $(PYTHON))
test-newest:
	test -x $(VENV)-newest/bin/python || $(NEWEST_PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--editable ".[lite,search,heif,tensorstore,demo,dev]"
	$(VENV)-newest/bin/lit-tf --version
	$(VENV)-newest/bin/python -m pytest tests -m "not full" $(PARALLEL)

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
	$(INSTALL) --editable ".[bench]"
	$(BIN)/python benchmarks/run.py

# Two to three minutes: one line each for image, text, train step, SavedModel and int8.
bench-quick: venv
	$(BIN)/python benchmarks/quick.py

# The guides and the API reference as a site in build/site; a broken link is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: venv
	$(INSTALL) --editable ".[docs]"
	rm -rf build/package
	$(BIN)/python setup.py -q build_py --build-lib build/package 2>/dev/null
	$(BIN)/mkdocs build --strict --quiet
	@echo "The site is in build/site: open build/site/index.html"

# sdist and wheel in dist/, and the README's first block with the wheel in a new environment.
release: venv
	rm -rf dist build/release
	$(BIN)/python -m build
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet dist/*.whl
	cd build && release/bin/python ../tests/workers/first_block.py ../README.md
	@echo "To publish: git tag -s v$$($(BIN)/python -c 'import lit_tf; print(lit_tf.__version__)') && git push --tags"
	@echo "            $(BIN)/python -m twine upload dist/*"

# Rebuilds the embedded model from nothing; ships it only if it meets its bars.
digits-model: venv
	$(BIN)/python -m recipes.digits.build --workdir runs/digits

# Locked against unlocked towers, with the image tower that digits-model left in runs/digits.
digits-study: venv
	$(BIN)/python -m recipes.digits.study --workdir runs/digits

# Attention pooling and the sigmoid loss beside the recipe, with the shipped image tower.
digits-pooling: venv
	$(BIN)/python -m recipes.digits.pooling --workdir runs/digits

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-runtimes build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
