# make demo: train on faces, verify on people never seen, track in MLflow.   make test: lint and tests.
# make test-slow: the tests that take longer: kills, servers, databases, a browser.
# make mutants: put faults into a copy of the project, one by one, and see the named tests fail.
# make fuzz SECONDS=600: coverage-guided fuzzing of the readers of records, pair sets and served pictures, one by one.
# make test-mxnet: our record reader against the retired mxnet, in an environment of its own.
# make test-lowest: the tests on the oldest versions that pyproject.toml allows.
# make test-wheel: the installed wheel, outside the checkout.
# make bench: every benchmark that this machine can run, into docs/results.md; half an hour on two cores. With
#   PEER=<folder arcface_torch of a checkout> DATA=<pack folder> it compares, ONLY="verify serve" runs some, QUICK=1 tries.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MXNET_VENV ?= .venv-mxnet
LOWEST_VENV ?= .venv-lowest
WHEEL_VENV ?= .venv-wheel
PYTEST := python -m pytest -n auto --dist loadgroup
CONFIG ?= configs/demo.yaml
SECONDS ?= 600
MLFLOW := MLFLOW_DISABLE_TELEMETRY=true mlflow

.PHONY: bench detector demo test test-slow test-mxnet test-lowest test-wheel lint env mutants fuzz
.DELETE_ON_ERROR:

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo '$(PYTHON) is not Python 3.11 to 3.13; name one that is: make $(or $(MAKECMDGOALS),env) PYTHON=python3.11' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	touch $@

demo: env
	$(BIN)/python -m facerec data demo data/orl
	. $(BIN)/activate && $(MLFLOW) run . -e train --experiment-name facerec-demo -P config=$(CONFIG) --env-manager local
	$(BIN)/python -m facerec summary --config $(CONFIG)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile docker/serve.Dockerfile

test: lint
	$(BIN)/$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered --cov-fail-under=90

test-slow: env
	$(BIN)/$(PYTEST) -m slow

mutants: env
	$(BIN)/python -m tests.mutations.run

fuzz: env
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,fuzz]'
	for target in records pairs images; do $(BIN)/python -m tests.fuzz.run $$target --seconds $(SECONDS) || exit 1; done

# mxnet 1.9.1 needs numpy 1, so it cannot live in the main environment.
$(MXNET_VENV)/installed: pyproject.toml $(VENV)/installed
	test -x $(MXNET_VENV)/bin/python || $(PYTHON) -m venv $(MXNET_VENV)
	$(BIN)/uv pip install --quiet --python $(MXNET_VENV)/bin/python -e '.[mxnet,test]'
	touch $@

test-mxnet: $(MXNET_VENV)/installed
	$(MXNET_VENV)/bin/python -m pytest tests/mxnet_parity tests/data/test_mxnet_reader.py

$(LOWEST_VENV)/installed: pyproject.toml $(VENV)/installed
	test -x $(LOWEST_VENV)/bin/python || $(PYTHON) -m venv $(LOWEST_VENV)
	$(BIN)/uv pip install --quiet --python $(LOWEST_VENV)/bin/python --resolution lowest-direct -e '.[demo,tensorboard,test]'
	touch $@

test-lowest: $(LOWEST_VENV)/installed
	$(LOWEST_VENV)/bin/$(PYTEST)

# The interpreter of `make test-mxnet` is the peer of the record reader where it is there.
MXNET_PYTHON ?= $(wildcard $(MXNET_VENV)/bin/python)

bench: env
	$(BIN)/python -m facerec data demo data/orl
	$(BIN)/python benchmarks/run_all.py $(if $(PEER),--peer "$(PEER)") $(if $(DATA),--data "$(DATA)") \
		$(if $(MXNET_PYTHON),--mxnet-python "$(MXNET_PYTHON)") $(if $(ONLY),--only "$(ONLY)") $(if $(QUICK),--quick)

# The wheel in an environment and a folder of its own: demo data, training, registry, one answer of the served model.
test-wheel: $(VENV)/installed
	rm -rf $(WHEEL_VENV) dist && $(BIN)/uv build --quiet --wheel --out-dir dist
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(BIN)/uv pip install --quiet --python $(WHEEL_VENV)/bin/python "$$(echo $(CURDIR)/dist/*.whl)[demo]"
	sh tests/packaging/try_wheel.sh $(abspath $(WHEEL_VENV)) $(CURDIR)/docker/serve.Dockerfile
	rm -rf $(WHEEL_VENV) dist

# The face detector of facerec data align. Its metadata asks for a torch of 2024; it runs with current ones.
detector: env
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps facenet-pytorch==2.6.0
