# `make` lists the targets. Everything runs in .venv, made from the lock file;
# PYTHON chooses the interpreter: `make test PYTHON=python3.12`; JOBS, how many
# processes run the tests. gpu-check makes no .venv: PYTHON is one that has JAX
# for the GPU, WHEELS a folder with what it lacks, OUTPUT where the table goes.

PYTHON ?= python3
JOBS ?= 2
MODEL_DIR ?= models/bookings

PIP := .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check
SOURCES := pid_jax tasks gin_configs tests setup.py

.DEFAULT_GOAL := help
.PHONY: help quickstart bookings test test-slow gpu-check lint format lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

quickstart: .venv/.installed  ## train, evaluate and predict in some minutes
	@.venv/bin/python -m pid_jax.quickstart

bookings: .venv/.installed  ## the long run; resumes where it was stopped
	@.venv/bin/python -m pid_jax.train --gin_file=runs/bookings.gin \
	  --gin.MODEL_DIR="'$(MODEL_DIR)'"
	@.venv/bin/python -m pid_jax.evaluate --model_dir=$(MODEL_DIR) --split=test

test: .venv/.installed-test  ## run the tests
	@.venv/bin/python -m pytest --numprocesses=$(JOBS) --dist=loadfile

test-slow: .venv/.installed-test  ## run the tests that take long
	@.venv/bin/python -m pytest -m slow

gpu-check:  ## measure on one GPU, within 8 minutes; see docs/gpu.md
	@$(PYTHON) -P pid_jax/experiments/gpu_check.py \
	  $(if $(WHEELS),--wheels='$(WHEELS)') $(if $(OUTPUT),--output='$(OUTPUT)')

lint: .venv/.installed-test  ## check style, change nothing
	@.venv/bin/ruff format --check --quiet $(SOURCES)
	@.venv/bin/ruff check --quiet $(SOURCES)

format: .venv/.installed-test  ## format, and mend what can be mended
	@.venv/bin/ruff check --fix --quiet $(SOURCES)
	@.venv/bin/ruff format --quiet $(SOURCES)

# One resolution for all Pythons and platforms that setup.py allows. The test
# lock holds the first one too, so that neither undoes the other.
lock: .cache/uv/bin/uv  ## resolve the lock files anew
	@$< pip compile setup.py --upgrade $(LOCK_FLAGS) -o requirements.lock
	@$< pip compile setup.py --extra test --upgrade $(LOCK_FLAGS) \
	  --constraints requirements.lock -o requirements-test.lock
LOCK_FLAGS := --quiet --extra train --universal --python-version 3.11 --no-annotate \
  --custom-compile-command 'make lock'

clean:  ## remove the environment and caches; keep models
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis build dist \
	  *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(None if (3, 11) <= v <= (3, 13) else \
	  "error: Python 3.11 to 3.13 is needed, this is %d.%d; choose one with" \
	  " make PYTHON=..." % v)'
	@$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python requirements.lock setup.py
	@echo 'Installing requirements.lock into .venv; this takes some minutes.'
	@$(PIP) install --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.installed-test: .venv/.installed requirements-test.lock
	@echo 'Installing requirements-test.lock into .venv.'
	@$(PIP) install --requirement requirements-test.lock
	@touch $@

.cache/uv/bin/uv:
	@$(PYTHON) -m venv .cache/uv
	@.cache/uv/bin/python -m pip --quiet --disable-pip-version-check install uv
