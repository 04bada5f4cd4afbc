# Every target makes its own environment in .venv, with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq

.PHONY: demo test test-ray lint format fixtures bench clean

demo: $(VENV)/.installed
	$(BIN)/bnaudit check fixtures/digits_resnet/model.onnx --data fixtures/digits_resnet/batch.npz

test: $(VENV)/.installed-test lint
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Ray is large and takes long to start: its tests are a command of their own.
test-ray: $(VENV)/.installed-ray
	@$(BIN)/python -m pytest -q tests/fleet/ray_cluster.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fixtures: $(VENV)/.installed-test
	$(PIP) -e '.[fixtures]'
	$(BIN)/python fixtures/build.py

bench: $(VENV)/.installed
	$(BIN)/python -m bench.first_order

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo 'setting up $(VENV) (PyTorch is large: this can take minutes)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.installed-ray: $(VENV)/.installed-test
	@$(PIP) -e '.[fleet]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
