# On a fresh machine with Python 3.11 or newer: `make demo` and `make test` do all that they need themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help install demo reproduce-small bench readme torture test slow lint format clean

help:
	@echo "make demo    install, then the main job on a real data set that ships inside scikit-learn (minutes)"
	@echo "make reproduce-small   the tables and figures of the other experiments on the same data (20 minutes for the repairs, then some)"
	@echo "make bench   timings against straightforward forms, into benchmarks/results (half an hour)"
	@echo "make readme  every command of README and docs at its real settings (hours)"
	@echo "make torture kills, damaged stores, hostile files and senseless values, a quarter of an hour of them, counted"
	@echo "make test    install, then style, types and the tests (minutes)"
	@echo "make slow    every option, README line, experiment and example, run in its tiny form (minutes)"
	@echo "make lint    style and types only"
	@echo "make clean   remove the environment; results stay in multirun/"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mcr needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV): torch is large, this takes a few minutes once"
	$(INSTALL) --editable ".[launchers]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@

install: $(VENV)/.installed

# Two jobs at a time, each with one thread.
demo: install
	$(BIN)/mcr experiment=zhao2020_fig4_barrier_digits hydra/launcher=joblib hydra.launcher.n_jobs=2

# Tables are made by the verb repair, figures of paths by the verb report.
reproduce-small: install
	$(BIN)/mcr repair experiment=zhao2020_table2_backdoor_digits
	$(BIN)/mcr repair experiment=zhao2020_table3_injection_digits
	$(BIN)/mcr experiment=zhao2020_fig2_backdoor_path_digits
	$(BIN)/mcr experiment=zhao2020_path_aware_digits
	$(BIN)/mcr experiment=zhao2020_robust_connection_digits
	$(BIN)/mcr experiment=zhao2020_ensemble_digits
	$(BIN)/mcr experiment=zhao2020_gradient_similarity_digits
	$(BIN)/mcr experiment=garipov2018_curves_digits
	$(BIN)/mcr experiment=ainsworth2023_alignment_digits
	$(BIN)/mcr experiment=ren2025_surface_digits
	$(BIN)/mcr experiment=ren2025_snapshots_digits
	$(BIN)/mcr experiment=ren2025_robust_surface_digits
	$(BIN)/mcr experiment=wortsman2021_simplex_digits
	$(BIN)/mcr experiment=benton2021_simplex_digits
	$(BIN)/mcr experiment=jafarpour2022_certified_digits
	$(BIN)/mcr experiment=jha2018_detection_digits
	$(BIN)/mcr experiment=jha2018_confidence_digits
	$(BIN)/mcr experiment=deng2020_first_order_digits
	$(BIN)/mcr experiment=yin2018_quantised_digits
	$(BIN)/mcr experiment=li2020_ternary_digits
	$(BIN)/mcr experiment=kundu2021_dnr_digits
	$(BIN)/mcr experiment=wang2019_enresnet_digits
	$(BIN)/mcr experiment=garg2021_mistakes_digits
	$(BIN)/mcr experiment=newman2018_tnn_digits

bench: install
	$(BIN)/python -m benchmarks

readme: install
	$(BIN)/python -m torture.readme

torture: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m torture

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a process: the networks of the tests are too small for two, and the processes share the cores.
# And bytecode is written whatever the environment says: processes that tests start would compile all of mcr anew.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

test: lint
	$(PYTEST) -m "not slow"

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
