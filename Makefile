# make help lists what there is to say.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
DATA   := data/FashionMNIST/raw/t10k-labels-idx1-ubyte
SHELL  := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help train tensorboard tour test lint format torture lock

help:  ## show this
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 22

train: $(VENV)/installed $(DATA)  ## train with the defaults on real Fashion-MNIST
	@$(RUN) src/train.py

tensorboard: $(VENV)/installed  ## the curves of all runs, at http://localhost:6006
	@$(RUN) -m tensorboard.main --logdir outputs

tour: $(VENV)/installed  ## the notes, live
	@$(RUN) src/tour.py

test: $(VENV)/installed-test lint  ## ruff, mypy and pytest
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed-test  ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(VENV)/installed-test  ## what ruff mends by itself
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

torture: $(VENV)/installed-test  ## ten minutes of runs ended at random moments
	@$(RUN) -m pytest -m torture

# Where neither the system nor the mirror has the data, the system's package manager may.
$(DATA): | $(VENV)/installed
	@$(FETCH) || { $(INSTALL_SYSTEM_PACKAGE) && $(FETCH); }

FETCH = PYTHONPATH=src $(RUN) -m pytorch_intro.data.fashion_mnist
INSTALL_SYSTEM_PACKAGE = command -v apt-get >/dev/null && echo "installing the system package dataset-fashion-mnist" && \
	root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; } && \
	root apt-get update -qq && root apt-get install -y -qq dataset-fashion-mnist >/dev/null

$(VENV)/installed: requirements.txt
	@$(call install,requirements.txt)

# The test requirements contain the others, in the same versions.
$(VENV)/installed-test: requirements-test.txt
	@$(call install,requirements-test.txt)
	@touch $(VENV)/installed

define install
	{ $(ENVIRONMENT); } && echo "installing $(1) into $(VENV), about 3 GB to download on Linux" && \
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

IS_NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.version_info < (3, 10) and sys.exit("error: $(PYTHON) is Python " + \
	sys.version.split()[0] + ", and 3.10 or newer is needed; name one, as in PYTHON=python3.12")'
# Debian and Ubuntu keep what venv takes for its pip in a package of its own; pip itself can bring one there.
WITHOUT_ENSUREPIP = { $(PYTHON) -m venv --without-pip $(VENV) && \
	$(PYTHON) -m pip --python $(RUN) install --quiet --disable-pip-version-check pip; }

lock:  ## resolve the requirements anew (needs uv); add ARGS=--upgrade for newer versions
	@uv pip compile --quiet $(LOCK) pyproject.toml --all-extras --group test -o requirements-test.txt $(ARGS)
	@uv pip compile --quiet $(LOCK) pyproject.toml -c requirements-test.txt -o requirements.txt
	@for extra in export search scale; do \
		uv pip compile --quiet $(LOCK) pyproject.toml --extra $$extra -c requirements-test.txt \
			-o requirements-$$extra.txt || exit 1; \
	done

LOCK = --universal --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command "make lock"
