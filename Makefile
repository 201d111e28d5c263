# `make help` lists the targets.
PYTHON ?= python3
OLDEST := 10
VENV   := .venv
RUN    = $(VENV)/bin/python
DATA   := data/FashionMNIST/raw/t10k-labels-idx1-ubyte
PAGES  := README.md CHANGELOG.md CITATION.cff LICENSE docs src/pytorch_intro/data/sample
PORT   ?= 8000
SHELL  := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help gpu-check train tensorboard tour notebooks test lint format torture docs site lock

help:  ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

train: $(VENV)/installed $(DATA)  ## train with the defaults on Fashion-MNIST
	@$(RUN) src/train.py

tensorboard: $(VENV)/installed  ## the curves of all runs, at http://localhost:6006
	@$(RUN) -m tensorboard.main --logdir outputs

tour: $(VENV)/installed  ## the tour of PyTorch
	@$(RUN) src/tour.py

notebooks: $(VENV)/installed-test  ## write the notebooks and the glossary of the tour, docs/tour*
	@PYTHONPATH=src $(RUN) -m pytorch_intro.tour.notebooks

test: $(VENV)/installed-test lint  ## lint and pytest
	@$(RUN) -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed-test  ## ruff, mypy and the layers of the imports
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@PYTHONPATH=src $(VENV)/bin/lint-imports --no-cache --no-logo >/dev/null || \
		PYTHONPATH=src $(VENV)/bin/lint-imports --no-cache

format: $(VENV)/installed-test  ## fix what ruff can fix
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

torture: $(VENV)/installed-test  ## ten minutes of runs that are killed at random times
	@$(RUN) -m pytest -m torture

gpu-check: $(VENV)/installed-test $(DATA)  ## measure and check what needs a GPU, in ten minutes; the next call continues
	@$(RUN) src/bench.py bench=gpu

docs: site  ## the documentation as a site, at http://localhost:8000; PORT=8001 for another
	@echo "the documentation: http://localhost:$(PORT)   (Ctrl-C ends)"
	@$(RUN) -m http.server $(PORT) --bind 127.0.0.1 --directory site/html >/dev/null 2>&1 || \
		{ echo "error: PORT=$(PORT): the server cannot use it; choose another, such as PORT=8001" >&2; exit 2; }

docs site .venv-docs/installed: VENV := .venv-docs
docs site .venv-docs/installed: OLDEST := 11

# The tool reads every file of its folder, so it gets one with the pages only.
site: .venv-docs/installed  ## build the documentation into site/html; a broken link is an error
	@rm -rf site
	@for path in $(PAGES); do mkdir -p "site/pages/$$(dirname $$path)" && cp -R $$path site/pages/$$path || exit 1; done
	@$(RUN) src/pytorch_intro/tour/pages.py site/pages
	@$(VENV)/bin/zensical build --clean --strict

# If neither the system nor the mirror has the data, try the system's package manager.
$(DATA): | $(VENV)/installed
	@$(FETCH) || { $(INSTALL_SYSTEM_PACKAGE) && $(FETCH); }

FETCH = PYTHONPATH=src $(RUN) -m pytorch_intro.data.ingest.fashion_mnist
INSTALL_SYSTEM_PACKAGE = command -v apt-get >/dev/null && echo "installing the system package dataset-fashion-mnist" && \
	root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; } && \
	root apt-get update -qq && root apt-get install -y -qq dataset-fashion-mnist >/dev/null

$(VENV)/installed: requirements.txt
	@$(call install,requirements.txt,3 GB)

# The test requirements include the others, in the same versions.
$(VENV)/installed-test: requirements-test.txt
	@$(call install,requirements-test.txt,3 GB)
	@touch $(VENV)/installed

.venv-docs/installed: requirements-docs.txt
	@$(call install,requirements-docs.txt,40 MB)

define install
	{ $(ENVIRONMENT); } && echo "installing $(1) into $(VENV), about $(2) to download on Linux" && \
	$(INSTALL) --require-hashes -r $(1) && touch $@
endef

ifneq ($(shell command -v uv 2>/dev/null),)
ENVIRONMENT = [ -x $(RUN) ] || uv venv --quiet --seed --python $(PYTHON) $(VENV)
INSTALL     = uv pip install --quiet --compile-bytecode --python $(RUN)
else
ENVIRONMENT = $(RUN) -m pip --version >/dev/null 2>&1 || \
	{ $(IS_NEW_ENOUGH) && { $(PYTHON) -m venv $(VENV) >/dev/null || $(WITHOUT_ENSUREPIP); }; }
INSTALL     = $(RUN) -m pip install --quiet --disable-pip-version-check
endif

IS_NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.version_info < (3, $(OLDEST)) and sys.exit("error: $(PYTHON) is Python " + \
	sys.version.split()[0] + ", and 3.$(OLDEST) or newer is needed; name one, as in PYTHON=python3.12")'
# Debian and Ubuntu keep ensurepip in a separate package; pip itself can install pip there.
WITHOUT_ENSUREPIP = { $(PYTHON) -m venv --without-pip $(VENV) && \
	$(PYTHON) -m pip --python $(RUN) install --quiet --disable-pip-version-check pip; }

lock:  ## resolve the requirements again (needs uv); ARGS=--upgrade for newer versions
	@uv pip compile --quiet $(LOCK) pyproject.toml --all-extras --group test -o requirements-test.txt $(ARGS)
	@uv pip compile --quiet $(LOCK) pyproject.toml -c requirements-test.txt -o requirements.txt
	@for extra in export openvino hub search scale photos wandb mlflow serve; do \
		uv pip compile --quiet $(LOCK) pyproject.toml --extra $$extra -c requirements-test.txt \
			-o requirements-$$extra.txt || exit 1; \
	done
	@uv pip compile --quiet $(subst 3.10,3.11,$(LOCK)) --group docs -o requirements-docs.txt $(ARGS)

LOCK = --universal --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command "make lock"
