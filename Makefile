# Run `make` for what there is. ARGS passes anything on: make train ARGS="trainer.max_epochs=3 seed=1"
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TRAIN := $(RUN) src/train.py
PIP := $(RUN) -m pip install
STAMP := $(VENV)/.installed# what runs need
DEV_STAMP := $(VENV)/.installed-dev# and what work on the code needs
# where torch comes from; https://download.pytorch.org/whl/cpu saves several GB on a machine without a GPU
TORCH_INDEX ?=
# LOCKED=1 installs the releases in requirements/, by their checksums, instead of the newest that pyproject.toml allows
LOCKED ?=

# what `make ca` compares, and on what
MODELS := $(basename $(notdir $(wildcard configs/model/*.yaml)))
FAMILIES := $(patsubst cifar10_%_210k,%,$(filter cifar10_%_210k,$(MODELS)))
DATA ?= cifar10
DATA_32 := data=$(DATA) data.image_size=32 data.channels=3
comma := ,
space := $(subst ,, )
family = $(word 2,$(subst _, ,$(1)))# of a name <data>_<family>_<size>
# the first model of each family that is meant for MNIST, and those of families without one that train on its shape, too
QUICK := $(foreach name,$(sort $(foreach one,$(filter mnist_%,$(MODELS)),$(call family,$(one)))),$(firstword $(filter mnist_$(name)_%,$(MODELS))))
QUICK_DATA = mnist_5k
QUICK += simple_mlp cifar10_vgg_2474k scenes_unet_64k rows_lstm_64k rows_transformer_210k pixels_tcn_64k sunspots_lstm_6k

SHORTCUTS := trc trcns trcnm trcnl emhcm evit tq tqm tqc tqv tqcn tqe tqh tqa

.DEFAULT_GOAL := help
.PHONY: help h setup lock quickstart train test test-slow format check docs notebooks tb compare lc ca clean $(SHORTCUTS)

help: ## this list
	@awk -F ':.*## ' '/^[a-zA-Z%_ -]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
h: help

# ---- set-up and daily use
setup: $(DEV_STAMP) ## create .venv and install all that runs, tests and exports need; LOCKED=1: releases that are known to work
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed, this is " + sys.version if sys.version_info < (3, 10) else 0)'
	@echo "installing what runs need; torch is the large part"
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch torchvision)
	$(if $(LOCKED),$(PIP) --no-deps --require-hashes -r requirements/run.txt)
	$(PIP) -e '.[demo]'
	@touch $@
$(DEV_STAMP): $(STAMP)
	@echo "installing what tests, exports and sweeps need"
	$(if $(LOCKED),$(PIP) --no-deps --require-hashes -r requirements/dev.txt)
	$(PIP) -e '.[dev]'
	@touch $@
lock: $(DEV_STAMP) ## fix the newest releases that pyproject.toml allows in requirements/, for LOCKED=1
	$(PIP) uv
	$(RUN) requirements/lock.py
quickstart: $(STAMP) ## train a small net on real digits, offline, in seconds
	$(TRAIN) experiment=quickstart $(ARGS)
train: $(STAMP) ## train the default net on MNIST
	$(TRAIN) $(ARGS)
train-%: $(STAMP) ## train a model by its name: make train-mnist_cnn_68k
	$(TRAIN) model=$* $(ARGS)
tb: $(STAMP) ## open TensorBoard on all runs
	$(RUN) -m src.report.board --logdir logs $(ARGS)
compare: $(STAMP) ## compare all runs in a table and on a page: make compare ARGS="runs=[logs/train/multiruns/mine]"
	$(RUN) src/compare.py $(ARGS)
lc: ## list the configurations by group
	@cd configs && find . -mindepth 2 -name '*.yaml' | sed 's|^\./||; s|\.yaml$$||' | sort

# ---- work on the code
test: $(DEV_STAMP) ## run the tests, two files at a time; ARGS="-n 0 tests/test_train.py" runs one in this process
	$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile --max-worker-restart 0 $(ARGS)
test-slow: $(DEV_STAMP) ## run the tests that take minutes
	$(RUN) -m pytest -m slow $(ARGS)
format: $(DEV_STAMP) ## format the code and mend what can be mended
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
check: $(DEV_STAMP) ## check format, style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
docs: $(DEV_STAMP) ## build the pages of docs/ as a site in build/site/; a broken link fails; ARGS=serve shows it while you write
	$(VENV)/bin/zensical $(or $(ARGS),build --strict)
notebooks: $(DEV_STAMP) ## run the notebooks and write docs/notebooks/ from them; ARGS=1_first_steps: one
	$(RUN) notebooks/render.py $(ARGS)
clean: ## remove caches and build leftovers; data and logs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# ---- shortcuts: t… trains a model, tq… tests a family quickly, e… runs an experiment
trc: train-mnist_cnn_421k ## train SimpleCNN 421k
trcns: train-mnist_convnext_73k ## train ConvNeXt-V2, small
trcnm: train-mnist_convnext_288k ## train ConvNeXt-V2, medium
trcnl: train-mnist_convnext_725k ## train ConvNeXt-V2, large
emhcm: experiment-multihead_cnn_mnist ## digit, thickness and smoothness at once
evit: experiment-vit_mnist_995 ## the ViT meant to reach 99.5 % on MNIST
experiment-%: $(STAMP)
	$(TRAIN) experiment=$* $(ARGS)
ca: $(STAMP) ## compare the families at 210k parameters, 3 epochs each: make ca DATA=cifar10
	$(TRAIN) -m model=$(subst $(space),$(comma),$(FAMILIES:%=cifar10_%_210k)) $(DATA_32) trainer.max_epochs=3 $(ARGS)
tq: quick-mnist_sdn_68k ## quick test: one epoch of few batches, offline; tqm tqc tqv tqcn tqe tqh: other families
tqc: quick-mnist_cnn_68k
tqv: quick-mnist_vit_210k
tqcn: quick-mnist_convnext_68k
tqe: quick-mnist_efficientnet_66k
tqh: quick-mnist_hybrid_210k
tqm: quick-simple_mlp
tqa: $(QUICK:%=quick-%) ## quick test of a model of each family
quick-mnist_mh_cnn_422k: QUICK_DATA = mnist_5k_multihead
quick-rows_lstm_64k quick-rows_transformer_210k: QUICK_DATA = mnist_5k_rows
quick-pixels_tcn_64k: QUICK_DATA = mnist_5k_pixels
quick-scenes_unet_64k: QUICK_DATA = digit_scenes
quick-sunspots_lstm_6k: QUICK_DATA = sunspots
quick-sunspots_lstm_6k: $(DEV_STAMP)# for the extra [series]
quick-%: $(STAMP)
	$(TRAIN) debug=limit trainer.max_epochs=1 extras.print_config=false data=$(QUICK_DATA) model=$* $(ARGS)
