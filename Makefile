# `make demo`, `make test` and `make docs`; each builds .venv on first use.
PYTHON ?= python3
# The CPU build installs faster and behaves the same; TENSORFLOW=tensorflow takes the one with GPU support.
TENSORFLOW ?= tensorflow-cpu
# Another virtual environment, with other extras and with further requirements, such as "keras==3.13.*".
VENV ?= .venv
EXTRAS ?= $(TENSORFLOW),dev
PINS ?=
BIN := $(VENV)/bin
# The suite runs on this many processes: one more than two cores, because many tests wait for a process or a server.
JOBS ?= 3
# Files stay whole, and the longest come first, by `tests/conftest.py`. A worker that steals tests would split a file
# and set up again what its tests share: of `test_equality.py` alone that is minutes. A worker that crashes ends the
# run; pytest-xdist may wait for ever if it starts another one.
DIST := -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# The quick test files of `make check`.
QUICK := tests/layers tests/models tests/weights tests/visualization \
	$(addprefix tests/data_pipelines/test_,card.py image_ops.py preprocessing.py) \
	$(addprefix tests/test_,applications.py cores.py files.py reported.py stubs.py)

# The tests that also run on JAX and PyTorch are in these places.
ON_BACKENDS := tests/layers tests/models tests/weights tests/visualization tests/test_applications.py

.PHONY: demo docs stubs check test coverage lint test-tensorflow test-jax test-torch test-backends all-jax all-torch test-long test-environments environment-oldest environment-torch clean

demo: $(VENV)/.demo
	$(BIN)/keras-mixer train --recipe digits --output runs/digits
	$(BIN)/keras-mixer evaluate runs/digits --sheet runs/digits/predictions.png
	$(BIN)/keras-mixer predict --model runs/digits tests/data/digits/*.png
	$(BIN)/keras-mixer export runs/digits --formats saved_model --formats litert --output saved_models --name digits
	$(BIN)/keras-mixer weights save mixer_nano cifar10 runs/mixer_nano
	$(BIN)/keras-mixer predict --model runs/mixer_nano --top 2 tests/data/cifar10/test/*/0000?.jpg
	@echo "Pictures: runs/digits/curves.png (learning curves), runs/digits/predictions.png (wrong ones in red)."

# The documentation site in build/site. A link or reference that leads nowhere, and a cell that fails, are errors.
docs: $(VENV)/.docs
	KERAS_BACKEND=tensorflow $(BIN)/sphinx-build -W --keep-going -c docs -d build/doctrees . build/site
	@echo "Open build/site/index.html."

# The lists of variants and layers for editors and type checkers, from the code.
stubs: $(VENV)/.test
	$(BIN)/python tools/stubs.py

# What to run between two edits: lint, types, contracts, and the tests that neither train, convert nor start a process.
check: lint
	KERAS_BACKEND=tensorflow $(BIN)/pytest -n 2 --dist load -m "not slow and not long" $(QUICK)

test: lint test-tensorflow
	$(MAKE) -j2 test-jax test-torch

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test-tensorflow: $(VENV)/.test
	KERAS_BACKEND=tensorflow $(BIN)/pytest $(DIST) -m "not long"

# The share of lines that the tests execute, and which test executes which line: see benchmarks/mutants.py.
coverage: $(VENV)/.test
	KERAS_BACKEND=tensorflow $(BIN)/pytest $(DIST) -m "not long" --cov --cov-context=test --cov-report=term

# The reference logits on the other backends of Keras. JAX spends most of the time in compiling what runs once.
test-jax test-torch: test-%: $(VENV)/.test
	KERAS_BACKEND=$* XLA_FLAGS=--xla_backend_optimization_level=0 $(BIN)/pytest -m backends -k "golden or reference" tests/models tests/weights

# All tests of models and weights on them; takes longer.
test-backends: all-jax all-torch
all-jax all-torch: all-%: $(VENV)/.test
	KERAS_BACKEND=$* $(BIN)/pytest $(DIST) -m backends $(ON_BACKENDS)

# The long tests, and the suite in each environment of the matrix. .github/workflows/tests.yml has the same rows.
test-environments: test-long environment-oldest environment-python3.11 environment-python3.12 environment-python3.13 environment-torch

# What takes long: see tests/tiers.toml.
test-long: $(VENV)/.test
	KERAS_BACKEND=tensorflow $(BIN)/pytest $(DIST) -m long

environment-oldest:
	$(MAKE) test-tensorflow VENV=.environments/oldest PYTHON=python3.11 EXTRAS=$(TENSORFLOW),test \
		PINS="$(TENSORFLOW)==2.20.* keras==3.13.*"

environment-python%:
	$(MAKE) test-tensorflow VENV=.environments/python$* PYTHON=python$* EXTRAS=$(TENSORFLOW),test

# PyTorch alone: without TensorFlow and JAX.
environment-torch:
	$(MAKE) all-torch VENV=.environments/torch PYTHON=python3.11 EXTRAS=pytest \
		PINS="torch==2.13.0 matplotlib pillow scikit-learn trustme"

$(VENV)/.demo: pyproject.toml | $(VENV)
	$(BIN)/pip install --quiet --editable ".[$(TENSORFLOW)]"
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)
	$(BIN)/pip install --quiet --editable ".[$(EXTRAS)]" $(PINS)
	# The stubs of two gRPC protocols: one asks for the full TensorFlow beside the CPU build, the other for an old protobuf.
	$(BIN)/pip install --quiet --no-deps "tensorflow-serving-api>=2.20,<2.22" "tritonclient>=2.60"
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(VENV)
	$(BIN)/pip install --quiet --editable ".[$(TENSORFLOW),docs]"
	$(BIN)/pip install --quiet --no-deps "tensorflow-serving-api>=2.20,<2.22"
	touch $@

$(VENV):
	$(PYTHON) -m venv $@
	$(BIN)/pip install --quiet --upgrade pip

clean:
	rm -rf .venv .environments build dist *.egg-info
