# Everything a learner or a developer runs. It needs Python (3.11 to 3.13) and make, nothing else:
# each command first makes the environment in $(VENV), which takes seconds and happens once.
#
#   make lab     open the first lesson in JupyterLab
#   make test    run every check: style, types, model, kernel, notebooks, browser
#   make sweep   120,000 random probes and 10,000 commands against this machine's kernel (an hour)
#   make html    the lessons as pages, in build/html
#   make notebooks  run the lessons and store what they print
#   make bench   how fast it is, up to a cluster of 1,000 nodes (the last two minutes of it)
#   make mutants does a test notice small faults in the model
#   make format  put the style right;  make lint: only look;  make lock: renew the pinned versions
#
# Another interpreter: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
SWEEP_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# JupyterLab asks about news over the first lesson, and looks on the network for them: not here.
LABCONFIG := $(VENV)/etc/jupyter/labconfig
WORKERS := 2

.DEFAULT_GOAL := lab
.PHONY: lab test sweep lint format notebooks html bench mutants lock setup clean

lab: $(READY)
	$(BIN)/ekslearn start

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 $(PYTEST_ARGS)

# Model and kernel, packet by packet and text by text; it prints its counts. Then the exercises with
# more learners.
sweep: $(READY)
	$(BIN)/python -m tests.parity.sweep $(SWEEP_ARGS)
	EKSLEARN_LEARNERS=50 $(BIN)/python -m pytest -q -n $(WORKERS) tests/exercises

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Every lesson, run from its top, with its outputs stored in normal form.
notebooks: $(READY)
	$(BIN)/python -m tests.notebooks.regenerate

# The lessons as pages that need no kernel and no network, in build/html.
html: $(READY)
	$(BIN)/python -m ekslearn.widgets.export notebooks/*.ipynb

# How fast it is, beside pytricia, the real kernel, ping and networkx, measured in one run; then how
# building and asking a cluster grows, from 10 to 1,000 nodes (also drawn, in build/clusters.svg),
# and a node's rules from 10 to 1,000 Services, beside the real iptables-restore.
bench: $(READY)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --target build/bench \
	    --build-constraints tests/bench/requirements.lock -r tests/bench/requirements.lock \
	    || echo "pytricia can't be built here (it needs a C compiler): its rows are left out" >&2
	PYTHONPATH=build/bench $(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.clusters
	$(BIN)/python -m tests.bench.services

# Small faults put into the kernel model, a sample of them, and which of them no test notices.
mutants: $(READY)
	$(BIN)/python -m tests.bench.mutants

# Exact versions and their hashes, for every Python and system at once. It names no registry.
lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --upgrade --extra lab --extra test pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --upgrade tests/bench/requirements.in -o tests/bench/requirements.lock

setup: $(READY)

# uv's version and hashes are the lock's own, so pip fetches what the lock says and uv the rest.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	    "ekslearn needs Python 3.11 or newer; name one: make lab PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
	    "this Python can't make environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@mkdir -p $(LABCONFIG)
	@echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' \
	    > $(LABCONFIG)/page_config.json
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
