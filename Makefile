# People and CI use the same targets. Everything is installed into .venv, once; with
# VENV=/some/environment the targets use that one as it is and install nothing.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
# Two processes with one thread each: the tests' tensors are small, and threads of several
# processes on the same cores get in each other's way.
WORKERS ?= 2
# More arguments for pytest: make test ARGS="-m 'not slow' -k sampler"
ARGS ?=

ifeq ($(origin VENV),undefined)
VENV := .venv
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
else
RUNTIME := given-venv
DEV := given-venv
export PYTHONPATH := $(CURDIR)/src
endif

BIN := $(abspath $(VENV))/bin
PY := $(BIN)/python
# make setup CPU=1: PyTorch without CUDA, for machines without an NVIDIA GPU. Later calls keep the build
# that .venv has.
BUILD := $(patsubst 'None',cpu,$(patsubst None,cpu,$(shell sed -n 's/^cuda.*= *//p' .venv/lib/python3*/site-packages/torch/version.py 2>/dev/null)))
CPU ?= $(filter cpu,$(BUILD))
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP_INSTALL := "$(PY)" -m pip install -qq --disable-pip-version-check -c constraints.txt $(if $(CPU),--extra-index-url $(CPU_INDEX) --retries 1 --timeout 20)
SIZE := $(if $(CPU),2,6) GB

.PHONY: help setup demo claims fashion test fuzz slurm lint types bench gpu docs index given-venv

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(DEV) ## create .venv with everything the other targets need

demo: $(RUNTIME) ## train on handwritten digits and draw some: 2 to 5 minutes on 2 cores
	@PYTHON="$(PY)" PATH="$(BIN):$$PATH" bash scripts/demo_digits.sh

fashion: $(RUNTIME) ## train on Fashion-MNIST, draw clothes and score them: about an hour on 2 cores
	@PYTHON="$(PY)" PATH="$(BIN):$$PATH" bash scripts/demo_fashion.sh

claims: $(RUNTIME) ## run what is missing of docs/claims.md, and write its tables: about an hour on a CPU core
	OMP_NUM_THREADS=1 "$(PY)" scripts/claims.py run $(ARGS)

test: $(DEV) ## all tests
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore=tests/slurm $(ARGS)

fuzz: $(DEV) ## all cases of tests/robustness, of which make test runs a part: 15 minutes at most
	BIGR_FUZZ=1 OMP_NUM_THREADS=1 "$(PY)" -m pytest -n $(WORKERS) --dist worksteal tests/robustness $(ARGS)

slurm: $(DEV) ## train on a real SLURM of two nodes on this machine: needs Debian's packages and root
	"$(PY)" -m pytest tests/slurm $(ARGS)

lint: $(DEV) ## style, spelling, who may import whom
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .
	"$(BIN)/codespell"
	"$(BIN)/lint-imports"

types: $(DEV) ## static types
	"$(PY)" -m mypy

bench: $(DEV) ## sampler, training step, attention, data and scores against plain ones, on this machine
	"$(PY)" bench/sampler.py
	"$(PY)" bench/training_step.py
	"$(PY)" bench/attention.py
	"$(PY)" bench/onednn.py
	"$(PY)" bench/data.py
	"$(PY)" bench/evaluation.py

gpu: $(RUNTIME) ## the acceptance run on a CUDA GPU: 9 minutes; ARGS=--tiny tries it on the CPU
	"$(PY)" bench/gpu.py $(ARGS)

docs: $(DEV) ## the documentation site, in docs/_build/html; every warning is an error
	"$(PY)" -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# pip runs again only when what it would install has changed.
.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/pip index
	@echo "[setup] installing bigr and what it runs on (some minutes and about $(SIZE) the first time)"
	@$(PIP_INSTALL) -e .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/pip index
	@echo "[setup] installing bigr with the tools to develop it (some minutes and about $(SIZE) the first time)"
	@$(PIP_INSTALL) -e '.[dev]'
	@touch .venv/.runtime $@
	@echo "[setup] done"

# pip would not replace the installed build, and would try for minutes to reach an index that is not there.
index: | .venv/bin/pip
ifneq ($(and $(CPU),$(BUILD),$(filter-out cpu,$(BUILD))),)
	@echo ".venv has PyTorch with CUDA. To install PyTorch without CUDA, remove it first: rm -r .venv" >&2; exit 1
else ifneq ($(and $(CPU),$(if $(BUILD),,new)),)
	@"$(PY)" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20)' $(CPU_INDEX)/torch/ 2>/dev/null || { \
	  echo "PyTorch's index for CPUs, $(CPU_INDEX), cannot be reached. Run make setup without CPU=1 for PyTorch with CUDA, or name a mirror with CPU_INDEX=https://…" >&2; exit 1; }
endif

.venv/bin/pip:
	@"$(PYTHON)" -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 10) else f"Python 3.10 or newer is needed, $(PYTHON) is {v}: make PYTHON=python3.11 …")'
	@echo "[setup] creating .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear .venv

given-venv:
	@test -x "$(PY)" || { echo "VENV=$(VENV): there is no $(PY). Leave VENV out to have one made." >&2; exit 1; }
