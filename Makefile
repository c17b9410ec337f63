# Two commands: `make demo` (the whole chain on real turbulence) and `make test`. Both build their environment from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# Idle threads that spin cost a busy machine dearly.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-slow check docs clean

demo: $(READY)
	$(BIN)/flowsr run configs/demo.yaml $(ARGS)
	@echo "next: . $(BIN)/activate, then flowsr --help (or $(BIN)/flowsr, without activating)"

# Three processes on two cores: one of them mostly waits for servers and for processes that it has killed.
# What Python has compiled is kept, whatever the environment says: the tests start hundreds of processes.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

test-slow: $(READY)
	$(BIN)/python -m pytest -m 'slow and not gpu' $(ARGS)

# Form: layout, lint, types, and which module may import which. Quick; no test runs.
check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

# The site: essays, modules, and a gallery whose pictures are drawn on the way.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/build
	@echo docs/build/index.html

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[baselines,formats,cluster,test]'
	touch $@

clean:
	rm -rf $(VENV) runs build docs/build docs/api_built docs/gallery_built *.egg-info
