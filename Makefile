# One environment in .venv, made once from pyproject.toml and the pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
CORES ?= all
export PATH := $(BIN):$(PATH)
export PYTHONPATH :=

.PHONY: help environment other-build develop demo test benchmark gpu rehearsal lint report tables config docs

help:
	@sed -n 's/^## //p' Makefile

## make environment   set up .venv, to run all but tests (1.6 GB, or 5 GB with CUDA where a GPU may be); TORCH=cpu, TORCH=cuda
# With TORCH, and another build in .venv, it is made anew; tools/environment says what else may be chosen.
OTHER := $(filter-out $(shell cat $(VENV)/build 2> /dev/null),$(TORCH))
environment: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt $(OTHER:%=other-build)
	tools/environment $(VENV) workflow
	touch $@

## make develop       add to it what tests, lint and docs need (0.7 GB)
develop: $(VENV)/develop

$(VENV)/develop: $(VENV)/ready
	tools/environment $(VENV) workflow,test,docs
	touch $@

## make demo          the whole chain on synthetic scenes, on a CPU, in minutes
demo: environment
	snakemake --cores $(CORES) --configfile config/demo.yaml
	@cat results/demo/tables/summary.md
	@echo "tables: results/demo/tables, figures: results/demo/figures"

# One more than there are cores, since the tests of SLURM mostly wait.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, 1 + os.cpu_count()))')

## make test          unit tests, and an end-to-end run on a handful of scenes
test: develop
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15

## make benchmark     speed and memory against a plain reading of the paper; BENCHMARK='--quick --out /tmp/b'
benchmark: environment
	python benchmarks/run.py --out benchmarks/results $(BENCHMARK)
	python benchmarks/memory.py --out benchmarks/results $(BENCHMARK)

## make gpu           tests, speed and every stage on a GPU, on one page; GPU="--minutes 8 --out /tmp/gpu"
gpu: develop
	python benchmarks/gpu.py --out benchmarks/results $(GPU)

## make rehearsal     config.yaml at full size on a CPU, to docs/scale.md: hours, 48 GB; REHEARSAL="--images 0.02"
rehearsal: environment
	python benchmarks/rehearsal.py --page docs/scale.md --out benchmarks/results $(REHEARSAL)

## make lint          format, lint and types of Python and rules, and a dry run
lint: develop
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
docs: develop
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site/index.html"
