# Winnow: `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
CORES ?= all
CONFIG ?=
SCALE ?= demo
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
SNAKEMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores $(CORES)

.PHONY: help demo small plan rehearse download report check gc test lint format bench crawl-env lock clean install

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo "Options: CORES=4 (default: all), CONFIG='seeds=5 mirror=/data' (keys of config.yaml), ARGS (see above)."

$(READY): envs/lock.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(READY) ## create .venv with the pinned packages

demo: $(READY) ## run every suite on bundled data, minutes on a laptop; ends with the path of the report
	$(SNAKEMAKE) all --quiet rules host --config scale=demo $(CONFIG)
	@echo "Report: $(CURDIR)/results/demo/report/index.html"

small: $(READY) ## run every suite on real public data, about an hour each on two cores (CONFIG='mirror=/data')
	$(SNAKEMAKE) all --quiet rules host --config scale=small $(CONFIG)
	@echo "Report: $(CURDIR)/results/small/report/index.html"

plan: $(READY) ## print what would run: stages, jobs, sharing, bytes and time (ARGS='--scale paper')
	@$(BIN)/python scripts/plan.py $(ARGS)

rehearse: $(READY) ## what a scale will cost and what will not fit (SCALE=paper ARGS='--card h100 --gpus 8')
	@$(BIN)/python scripts/rehearse.py --scale $(SCALE) $(ARGS)

download: $(READY) ## fetch and check the data of a scale (CONFIG='scale=small mirror=/data')
	$(SNAKEMAKE) download --quiet rules host --config scale=demo $(CONFIG)

report: $(READY) ## bring the report up to date (CONFIG='scale=small')
	$(SNAKEMAKE) report --quiet rules host --config scale=demo $(CONFIG)

check: $(READY) ## read all artefacts against their digests (ARGS=--remove deletes the damaged)
	@$(BIN)/python scripts/check.py $(ARGS)

gc: $(READY) ## list what no plan needs (ARGS='--scale demo small', ARGS=--delete)
	@$(BIN)/python scripts/garbage.py $(ARGS)

test: $(READY) ## run all tests, three at a time (ARGS='-k sas')
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 3 --no-loadscope-reorder $(ARGS)

lint: $(READY) ## formats, lint, types, import layers, Snakemake's own lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakefmt --check Snakefile rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint

format: $(READY) ## format Python and Snakemake files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakefmt Snakefile rules

.venv/.bench: $(READY) envs/lock-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/lock-bench.txt
	@touch $@

bench: .venv/.bench ## time our code beside named peers (ARGS=sas for one)
	$(BIN)/python benchmarks/run.py $(ARGS)

.venv-crawl/.ready: envs/crawl.txt
	$(PYTHON) -m venv --clear .venv-crawl
	.venv-crawl/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/crawl.txt
	@touch $@

crawl-env: .venv-crawl/.ready ## create .venv-crawl with img2dataset, which downloads image-text pairs

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --custom-compile-command "make lock" --quiet
LOCK := $(COMPILE) pyproject.toml --extra dev

lock: ## resolve pyproject.toml into envs/lock.txt, lock-bench.txt (the benchmarks' peers) and crawl.txt (needs uv)
	$(LOCK) --output-file envs/lock.txt
	$(LOCK) --extra bench --constraint envs/lock.txt --output-file envs/lock-bench.txt
	$(COMPILE) envs/crawl.in --output-file envs/crawl.txt

clean: ## delete results and caches (the data in results/data is kept)
	rm -rf .snakemake .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name data -exec rm -rf {} +
