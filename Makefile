# The verbs of this repository; `make` lists them. Each sets up .venv first, once for each content of requirements.lock.

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Named after the lock's content, not its date, so that a fresh checkout of the same versions sets nothing up again.
READY := $(VENV)/.ready-$(shell cksum < requirements.lock | tr ' ' '-')

MODULES := $(filter-out _%,$(patsubst experiments/%.py,%,$(wildcard experiments/*.py)))
EXPERIMENTS := $(subst _,-,$(MODULES))

# $(call option,name,VARIABLE) is '--name=value', and nothing where the variable is empty; 0 is a value.
quote = '$(subst ','\'',$(1))'
option = $(if $($(2)),$(call quote,--$(1)=$($(2))))
OPTIONS = $(call option,preset,PRESET) $(call option,devices,DEVICES) $(call option,seeds,SEEDS) \
  $(call option,data_root,DATA_ROOT) $(call option,num_nodes,NODES) $(call option,jobs,JOBS) $(call option,model,MODEL) \
  $(call option,engine,ENGINE) $(call option,partition,PARTITION) $(call option,tasks,TASKS)

.PHONY: help setup check test bench sweep sweep-file lock report figure compare tables explain explore data data-check show doctor $(EXPERIMENTS:%=exp-%)

help:
	@echo 'make setup             install the locked versions into .venv (about 6 GB, once)'
	@echo 'make check             style, types and layering: ruff, mypy, import-linter'
	@echo 'make test              every test, the slow ones too   [ARGS="-k name"]'
	@echo 'make bench             speed against the plain way and against the limit   [ARGS=...]'
	@echo 'make exp-<name>        an experiment, to its figure and verdict: $(EXPERIMENTS)'
	@echo '                       [PRESET=smoke|cpu|gpu|paper DEVICES= NODES= JOBS= SEEDS= DATA_ROOT= ARGS="--key=value ..."]'
	@echo '                       [ENGINE=slurm PARTITION= TASKS=: as a job array, see docs/clusters.md]'
	@echo 'make sweep FILE=...    the trials of a W&B sweep file, without an account   [ENGINE=local JOBS=2 DEVICES= ARGS="--trials=20 ..."]'
	@echo 'make sweep-file EXP=.. the grid of a preset as a W&B sweep file, on standard output   [PRESET=...]'
	@echo 'make report             one static site: every claim, figure and number   [ARGS=...]'
	@echo 'make figure OF=...     a figure again, for a paper or slides   [STYLE=iclr|neurips|cvpr|icml|nature|slides ARGS=...]'
	@echo 'make compare A=. B=.   which numbers of two results differ by more than their noise   [ARGS=--csv=FILE]'
	@echo 'make tables            our parameters and FLOPs beside the published ones   [ARGS=...]'
	@echo 'make explain MODEL=... layer by layer: shapes, parameters, memory, FLOPs   [IMAGE=224 ARGS=...]'
	@echo 'make explore           a page to walk over the attention of a model   [MODEL= WEIGHTS= DATA= IMAGE=32 ARGS=...]'
	@echo 'make data DATA=...     fetch a data set, or say which file to put where   [DATA_ROOT=...]'
	@echo 'make data-check DATA=. broken files, wrong labels, images in two splits   [DATA_ROOT=...]'
	@echo 'make show DATA=...     a picture of training images   [AUG=inception+mixup0.2 IMAGE=224 ARGS=...]'
	@echo 'make doctor            what this machine can do, and what to do about what is missing   [DATA_ROOT=...]'
	@echo 'make lock              resolve requirements.lock anew from pyproject.toml   [ARGS=--upgrade]'

setup: $(READY)
	@:

# The stamp comes last, and without one the folder is made afresh: an interrupted installation never counts as done.
# uv, which installs the rest, comes from the lock too and trusts the certificates that the system trusts; one relative
# line puts this folder on the path.
$(VENV)/.ready-%:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: try make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	@echo "Setting up $(VENV)" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@sed -n '/^uv==/,/^    # via/p' requirements.lock > $(VENV)/uv.lock
	@$(RUN) -m pip install -qq --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(VENV)/bin/uv pip sync --system-certs $$(test -t 2 || echo --quiet) --python $(RUN) --require-hashes requirements.lock
	@echo '../../../..' > "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vision_repro.pth"
	@touch $@

check: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

# Two files at a time, each in one process: many tests wait for others they start. TESTS=0 runs all in this process.
test: $(READY)
	$(RUN) -m pytest -n $(or $(TESTS),2) --dist=loadfile $(ARGS)

bench: $(READY)
	$(RUN) -m benchmarks $(ARGS)

$(EXPERIMENTS:%=exp-%): exp-%: $(READY)
	@$(RUN) -m experiments.$(subst -,_,$*) $(OPTIONS) $(ARGS)

exp-%:
	@echo 'There is no experiment "$*"; known: $(or $(EXPERIMENTS),none).' >&2; exit 2

sweep: $(READY)
	@$(RUN) -m vision_repro.search.sweep $(if $(FILE),$(call quote,$(FILE)),$(error sweep needs FILE=sweeps/<name>.yaml)) \
	  $(filter-out '--preset=% '--seeds=% '--model=%,$(OPTIONS)) $(ARGS)

sweep-file: $(READY)
	@$(RUN) -m vision_repro.search.sweep_file \
	  $(if $(EXP),$(call quote,$(EXP)),$(error sweep-file needs EXP=<experiment>, such as EXP=data-scaling)) \
	  $(call option,preset,PRESET) $(ARGS)

report: $(READY)
	@$(RUN) -m vision_repro.report $(ARGS)

figure: $(READY)
	@$(RUN) -m vision_repro.figures $(if $(OF),$(call quote,$(OF)),$(error figure needs OF=results/<experiment>/<preset>)) \
	  $(call option,style,STYLE) $(ARGS)

compare: $(READY)
	@$(RUN) -m vision_repro.analysis.compare \
	  $(if $(and $(A),$(B)),$(call quote,$(A)) $(call quote,$(B)),$(error compare needs A=... B=...)) $(ARGS)

tables: $(READY)
	@$(RUN) -m vision_repro.published.tables $(ARGS)

explain: $(READY)
	@$(RUN) -m vision_repro.accounting.explain $(call option,model,MODEL) $(call option,image_size,IMAGE) $(ARGS)

explore: $(READY)
	@$(RUN) -m vision_repro.explorer $(call option,model,MODEL) $(call option,weights,WEIGHTS) \
	  $(call option,image_size,IMAGE) $(ABOUT_DATA) $(ARGS)

ABOUT_DATA = $(call option,dataset,DATA) $(call option,data_root,DATA_ROOT)

data data-check show: $(READY)
	@$(RUN) -m vision_repro.data $(patsubst data,get,$(patsubst data-check,check,$@)) $(ABOUT_DATA) \
	  $(call option,augmentation,AUG) $(call option,image_size,IMAGE) $(ARGS)

doctor: $(READY)
	@$(RUN) -m vision_repro.launch.doctor $(call option,data_root,DATA_ROOT) $(ARGS)

lock: $(READY)
	@$(VENV)/bin/uv pip compile --system-certs --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make lock' --extra dev pyproject.toml -o requirements.lock $(ARGS)
