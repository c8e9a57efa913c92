PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart tour test soak lint clean

quickstart: $(READY)
	$(BIN)/vlm-ft quickstart $(if $(filter 0,$(QUICKSTART_APP)),--no-app)

tour: $(READY)
	$(BIN)/vlm-ft tour $(if $(filter 0,$(TOUR_APP)),--no-app)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What takes longer than the tests: kills while scoring, training and serving, work on a cluster and with DeepSpeed,
# overload, a large ledger, a step with the recipe that each real set gets, and the matrix of families.
soak: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,deepspeed]'
	$(BIN)/python -m pytest tests/soak/cluster.py tests/soak/deepspeed_launch.py
	$(BIN)/python -m tests.soak.scoring --out recipes/benchmarks/soak.json
	$(BIN)/python -m tests.soak.training --out recipes/benchmarks/soak.json
	$(BIN)/python -m tests.soak.serving --out recipes/benchmarks/soak.json
	$(BIN)/python -m tests.soak.proposals --out recipes/benchmarks/soak.json
	$(BIN)/python -m tests.soak.families --out recipes/benchmarks/families.json

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# constraints.txt has the tested versions, pyproject.toml the minimum versions. The default base is fetched here, so
# that everything else runs offline.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/vlm-ft base get compact
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info
