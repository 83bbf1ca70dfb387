# One environment in .venv, made once from pyproject.toml and the pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
CORES ?= all
export PATH := $(BIN):$(PATH)
export PYTHONPATH :=

.PHONY: help environment demo test benchmark gpu lint report tables config docs

help:
	@sed -n 's/^## //p' Makefile

## make environment   set up .venv (about 5 GB: torch brings CUDA)
environment: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmqsa needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[workflow,test,docs]'
	touch $@

## make demo          the whole chain on synthetic scenes, on a CPU, in minutes
demo: environment
	snakemake --cores $(CORES) --configfile config/demo.yaml
	@cat results/demo/tables/summary.md
	@echo "tables: results/demo/tables, figures: results/demo/figures"

# One more than there are cores, since the tests of SLURM mostly wait.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, 1 + os.cpu_count()))')

## make test          unit tests, and an end-to-end run on a handful of scenes
test: environment
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15

## make benchmark     speed and memory against a plain reading of the paper; BENCHMARK='--quick --out /tmp/b'
benchmark: environment
	python benchmarks/run.py --out benchmarks/results $(BENCHMARK)
	python benchmarks/memory.py --out benchmarks/results $(BENCHMARK)

## make gpu           tests, speed and every stage on a GPU, on one page; GPU="--minutes 8 --out /tmp/gpu"
gpu: environment
	python benchmarks/gpu.py --out benchmarks/results $(GPU)

## make lint          format, lint and types of Python and rules, and a dry run
lint: environment
	ruff check src tests benchmarks docs examples
	ruff format --check src tests benchmarks docs examples
	mypy
	mypy examples/*.py
	snakefmt --check Snakefile workflow
	snakemake --lint
	snakemake -n > /dev/null

## make report        one page of the demo's tables, figures and provenance, to open anywhere
report: environment
	snakemake --configfile config/demo.yaml --report results/demo/report.html

## make tables        tables, figures and pages of the results that ship again, from their metrics alone
# They need no torch: where there is no .venv yet, they get a small environment of their own.
SHIPPED := voc-subset voc-vits14 voc-vits14-trials voc-vits14-blocks voc-vits14-long voc-vits14-methods voc-vits14-layers
JOINED := voc-subset voc-vits14
LIGHT := $(if $(wildcard $(VENV)/ready),$(VENV),.venv-tables)
MMQSA := PYTHONPATH=src $(LIGHT)/bin/python -m mmqsa
tables: $(SHIPPED:%=tables-%)
	$(MMQSA) join $(JOINED:%=results/%/config/tables/summary.yaml) --out results/backbones

tables-%: $(LIGHT)/ready
	rm -rf results/$*/config/tables # specs of tables that the config no longer prints
	$(MMQSA) specs config.yaml config/tables.yaml config/$*.yaml --out results/$*/config/tables \
		--page results/$*/config/page.yaml
	$(MMQSA) table results/$*/config/tables/*.yaml --results results/$*
	$(MMQSA) figure metrics results/$*/config/tables/*.yaml --results results/$*
	$(MMQSA) page results/$*/config/page.yaml --results results/$*

.venv-tables/ready: constraints.txt
	$(PYTHON) -m venv .venv-tables
	.venv-tables/bin/python -m pip install -q -c constraints.txt \
		pandas jinja2 seaborn scipy pydantic pyyaml tabulate typer
	touch $@

## make config        write config.yaml's knobs, the schema and config/README.md from src/mmqsa/config
config: environment
	python -m mmqsa.config.render .

## make docs          the site from docs/, into site/; opens offline
# The variable keeps the theme from printing news about itself.
docs: environment
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site/index.html"
