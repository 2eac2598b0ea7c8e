# A bare machine needs Python 3.10 or newer, make, git and a package registry; everything else is installed in $(VENV).
#   make demo      two photographs of a motorcycle become depth, cameras and a point cloud
#   make test      the test suite
#   make twins     every training recipe learns one batch by heart
#   make browser   the pages in Chromium, if there is one
#   make lint      style, types, import contracts
#   make network   the tests that install packages: other interpreters, torch-free
#   make peers     the tests that compare with large libraries and programs which nothing here needs
#   make licences  what the extra `all` would install, and under which licences

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# By its exact version and before everything else: a range would fetch the newest build with gigabytes of CUDA.
TORCH := torch==2.13.0
INPUTS := pyproject.toml constraints.txt Makefile
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test twins browser lint network peers licences clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo-installed
	$(BIN)/python examples/demo/run.py

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest

twins: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m twins -n 2

browser: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

network: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m network

peers: $(VENV)/.peers-installed
	NODE_PATH=$(abspath $(VENV))/node/node_modules $(BIN)/python -m pytest -m peers

licences: $(VENV)/.dev-installed
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report $(VENV)/resolved.json $(TORCH) ".[all]"
	$(BIN)/python tools/licences.py --report $(VENV)/resolved.json
	$(BIN)/python tools/licences.py

# Stamps: nothing is installed again until the files that decide what is installed change.
$(VENV)/.torch-installed: $(INPUTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade "pip>=24.1"
	$(INSTALL) -c constraints.txt $(TORCH)
	touch $@

$(VENV)/.demo-installed: $(VENV)/.torch-installed
	$(INSTALL) -c constraints.txt -e ".[demo]"
	touch $@

$(VENV)/.dev-installed: $(VENV)/.torch-installed
	$(INSTALL) -c constraints.txt -e ".[dev,demo,train,serve,app]"
	touch $@

# The validator of the Khronos group runs under node; where there is none, its test is skipped and says so.
$(VENV)/.peers-installed: $(VENV)/.dev-installed
	$(INSTALL) -c constraints.txt -e ".[peers]"
	if command -v npm > /dev/null; then npm install --silent --prefix $(VENV)/node gltf-validator; fi
	touch $@

clean:
	rm -rf $(VENV) demo-output
