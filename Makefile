# Targets for developers and CI; `make` alone lists them.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Before all else: a wheel with another hash ends the setup. What is installed already is fetched again and compared.
HASHED := -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall --requirement hashed-requirements.txt
BUF := build/npm/node_modules/.bin/buf
PYTHON ?= python3
DATA ?= digits
SEEDS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup clients reproduce clock reproduce-defects demo demo-photo demo-defects serve test test-slow zoo check wire proto unasync docs rules openvino-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/dev  ## install everything a developer needs into .venv

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The client's command. To install ./client too would put a copy of the stubs before those of proto/.
$(BIN)/hourglass: | $(VENV)/bin/python
	@printf '#!/bin/sh\nexec "%s/python" -m hourglass_client.cli "$$@"\n' '$(abspath $(BIN))' > $@
	@chmod +x $@

# For the demo: every role, the CPU runtime.
$(VENV)/run: pyproject.toml constraints.txt hashed-requirements.txt | $(VENV)/bin/python $(BIN)/hourglass
	$(BIN)/python $(HASHED)
	$(PIP) --editable '.[export,server,rest,cpu]'
	@touch $@

$(VENV)/dev: $(VENV)/run
	$(PIP) --editable '.[dev,cpu]'
	@touch $@

$(BUF):
	npm install --silent --no-save --prefix build/npm @bufbuild/buf@1.75.0

# Third-party clients, each in its own environment: their stubs register the same names as ours.
build/clients/node/ready: examples/node/package.json
	npm install --silent --no-save --prefix build/clients/node $$(node -p 'Object.entries(require("./$<").dependencies).map((p) => p.join("@")).join(" ")')
	@touch $@

# Our client as users install it: alone, with only its dependencies.
build/clients/alone/ready: client/pyproject.toml $(wildcard client/hourglass_client/*.py client/hourglass_client/*/*.py proto/autoencoder/*/*.py bundle/images/*.py)
	$(PYTHON) -m venv --clear build/clients/alone
	build/clients/alone/bin/python -m pip install --quiet --disable-pip-version-check ./client
	@touch $@

build/clients/%/ready: tests/clients/requirements/%.txt
	$(PYTHON) -m venv build/clients/$*
	build/clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Checks of accessibility, run within the explorer's page.
build/axe/node_modules/axe-core/axe.min.js:
	npm install --silent --no-save --prefix build/axe axe-core@4.14.1

clients: $(foreach name,triton kserve node alone,build/clients/$(name)/ready) build/axe/node_modules/axe-core/axe.min.js  ## install the clients of the tests, each in its own environment

demo: $(VENV)/run  ## train, export, serve and call three models; DATA=mnist DATA_DIR=… for MNIST
	$(BIN)/python -m examples.demo --data $(DATA) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

demo-photo: $(VENV)/run  ## train, export and serve a denoiser of photographs, draw what it does
	$(BIN)/python -m examples.demo_photo

demo-defects: $(VENV)/run  ## train, export and serve a detector of defects on a texture; draws runs/demo/demo-defects.png
	$(BIN)/python -m examples.demo_defects

serve: $(VENV)/run  ## serve the demo's models until Ctrl-C, with the explorer at http://127.0.0.1:8003/
	$(BIN)/python -m server --repository models --rest-port 8003

# A process runs whole files; a third one uses the cores while others wait. Bytecode is kept even where the environment
# says otherwise: each process would compile all tests again, which takes it five seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(VENV)/dev  ## run the tests; TESTS=tests/server for some of them
	$(PYTEST) -m 'not slow' $(TESTS)

test-slow: $(VENV)/dev  ## run the long forms that `make test` leaves out
	$(PYTEST) -m slow $(TESTS)

# onnxruntime-openvino fills the package onnxruntime, so what needs it has an environment of its own.
build/openvino/ready: pyproject.toml constraints.txt hashed-requirements.txt
	$(PYTHON) -m venv build/openvino
	build/openvino/bin/python $(HASHED)
	build/openvino/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[export,server,openvino]' pytest pytest-timeout filelock
	@touch $@

openvino-check: build/openvino/ready  ## test variants in bfloat16 with onnxruntime's OpenVINO provider
	build/openvino/bin/python -m pytest tests/openvino/checks.py

zoo: $(VENV)/dev  ## export and serve twenty architectures after published recipes, write docs/zoo.md
	$(BIN)/python -m tests.export.zoo.page

check: $(VENV)/dev wire  ## lint, types, import contracts, generated files, wire compatibility
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	$(BIN)/python client/unasync.py --check

# buf comes from npm; without npm the check is skipped with a message, and fails in CI.
ifneq ($(shell command -v npm),)
wire: $(BUF)
	$(BUF) lint proto
	$(BUF) breaking proto --against proto/baseline.binpb
else
wire:
	@echo 'buf lint and breaking: SKIPPED, npm is absent'; test -z "$$TEST_REQUIRE_ALL"
endif

proto: $(VENV)/dev  ## regenerate the stubs from the .proto files
	$(BIN)/python proto/generate.py

unasync: $(VENV)/dev  ## regenerate the blocking client from the asyncio client
	$(BIN)/python client/unasync.py

reproduce: $(VENV)/run  ## train every CPU recipe on MNIST, write docs/results.md; DATA_DIR=… is the folder of its files, SEEDS=5
	$(BIN)/python -m training.reproduction --data-dir $(DATA_DIR) --seeds $(SEEDS)

clock: $(VENV)/run  ## time how long training takes to published likelihoods, write docs/clock.md; DATA_DIR=… is the folder of MNIST
	$(BIN)/python -m training.reproduction.clock --data-dir $(DATA_DIR)

reproduce-defects: $(VENV)/run  ## train every detector, write docs/results-defects.md; DATA_DIR=… is the folder of MNIST
	$(BIN)/python -m training.reproduction.defects --data-dir $(DATA_DIR)

docs: $(VENV)/dev  ## write the tables of settings in docs/
	$(BIN)/python docs/settings.py

rules:  ## write deploy/kubernetes/rules.yaml; RUNBOOKS=… is the address of your copy of docs/operations.md
	$(PYTHON) deploy/rules.py $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

include bench/bench.mk
include tests/reliability/reliability.mk

clean:  ## remove everything that make created
	rm -rf $(VENV) runs models build
