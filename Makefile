# Two commands: `make demo` (the whole chain on real turbulence) and `make test`. Both build their environment from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# Idle threads that spin cost a busy machine dearly.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-slow clean

demo: $(READY)
	$(BIN)/flowsr run configs/demo.yaml $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-slow: $(READY)
	$(BIN)/python -m pytest -m 'slow and not gpu' $(ARGS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pipeline,baselines,formats,test]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
