# One environment in .venv, made once from pyproject.toml and the pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
CORES ?= all
export PATH := $(BIN):$(PATH)
export PYTHONPATH :=

.PHONY: help environment demo test benchmark lint tables schema

help:
	@sed -n 's/^## //p' Makefile

## make environment   set up .venv (about 5 GB: torch brings CUDA)
environment: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmqsa needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[workflow,test]'
	touch $@

## make demo          the whole chain on synthetic scenes, on a CPU, in minutes
demo: environment
	snakemake --cores $(CORES) --configfile config/demo.yaml
	@cat results/demo/tables/masking.md
	@echo "tables: results/demo/tables, figures: results/demo/figures"

## make test          unit tests, and an end-to-end run on a handful of scenes
test: environment
	python -m pytest

## make benchmark     speed against a plain reading of the paper, on the CPU: see benchmarks/run.py
benchmark: environment
	python benchmarks/run.py --out benchmarks/results
	python benchmarks/memory.py --out benchmarks/results

## make lint          format and lint of Python and rules, and a dry run
lint: environment
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks
	snakefmt --check Snakefile workflow
	snakemake --lint
	snakemake -n > /dev/null

## make tables        tables and figures of results/voc-subset again, from its metrics alone
SHIPPED := results/voc-subset
tables: environment
	mmqsa specs config.yaml config/voc-subset.yaml --out $(SHIPPED)/settings/tables
	mmqsa table $(SHIPPED)/settings/tables/*.yaml --results $(SHIPPED)
	mmqsa figure heads $(SHIPPED)/settings/tables/heads.yaml --results $(SHIPPED)
	mmqsa figure controls $(SHIPPED)/settings/tables/masking.yaml --results $(SHIPPED)
	mmqsa figure training $(SHIPPED)/settings/tables/masking.yaml --results $(SHIPPED)

## make schema        write the config's schema from settings.py and config.py
schema: environment
	python -m mmqsa.config > workflow/schemas/config.schema.yaml
