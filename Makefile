# make demo: train on faces, verify on people never seen, track in MLflow.   make test: lint and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/demo.yaml
MLFLOW := MLFLOW_DISABLE_TELEMETRY=true mlflow

.PHONY: demo test lint env
.DELETE_ON_ERROR:

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml
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

test: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup --cov --cov-report=term --cov-fail-under=90
