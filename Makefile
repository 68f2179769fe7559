# assay: one verb for each thing people do. `make` lists them. Everything goes into .venv and build/; nothing else is touched.
#
# PYTHON=python3.12   the interpreter to make .venv with
# ORT=cpu | gpu       which ONNX Runtime wheel to install (default: gpu where an NVIDIA driver answers, else cpu)
# SCALE=10            multiplies the counts of property, native and fuzz tests

PYTHON ?= python3
SCALE ?= 1
NVIDIA := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
ORT ?= $(if $(NVIDIA),gpu,cpu)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install --no-deps --require-hashes
STAMPS := $(VENV)/stamps
CORE_SOURCES := setup.py pyproject.toml $(shell find ext -type f)
CXX ?= g++
CLANG ?= $(firstword $(shell command -v clang++ clang++-14 clang++-15 clang++-16 clang++-17 clang++-18 clang++-19 2>/dev/null))

.PHONY: help serve test bench lint format debug native fuzz torture proto lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make serve    build everything and serve the demo on 127.0.0.1:50051'
	@echo 'make test     every test (reduced counts; make torture has the full ones)'
	@echo 'make bench    the budgets, as ratios against baselines in the same run'
	@echo 'make lint     ruff, mypy, buf, compiler warnings'
	@echo 'make debug    the core without optimisation, with assertions of Cython'
	@echo 'make native   C++ tests under ASAN+UBSAN and under TSAN'
	@echo 'make fuzz     FUZZ_SECONDS=60 of libFuzzer on each decoder (needs clang)'
	@echo 'make torture  full counts and an hour of fuzzing'
	@echo 'make proto    generated code from proto/'
	@echo 'make lock     pin dependencies anew (needs uv)'

# --- set-up

# What a fresh Debian or Ubuntu machine may lack, asked for in one line.
$(STAMPS)/machine:
	@tools/check_machine.sh $(PYTHON) $(CXX)
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime-$(ORT): server/assay/lock/$(ORT).txt $(STAMPS)/machine
	@echo 'installing the locked dependencies ($(ORT)) into $(VENV)'
	@$(PIP) -r server/assay/lock/$(ORT).txt
	@rm -f $(STAMPS)/runtime-* && touch $@

# Where the sources stand and how they were built belong to the stamp: a debug or sanitized core is not the served one.
$(STAMPS)/core: $(CORE_SOURCES) $(STAMPS)/runtime-$(ORT)
	@echo 'compiling assay._core (a minute or two)'
	@$(BIN)/python -m pip --disable-pip-version-check -q install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/dev-$(ORT): server/assay/lock/dev.txt $(STAMPS)/core
	@echo 'installing test tools'
	@$(PIP) -r server/assay/lock/dev.txt
	@rm -f $(STAMPS)/dev-* && touch $@

# --- verbs

serve: $(STAMPS)/core
	@exec $(BIN)/assay serve $(ARGS)

test: $(STAMPS)/dev-$(ORT) native
	ASSAY_TEST_SCALE=$(SCALE) $(BIN)/python -m pytest $(ARGS)

bench: $(STAMPS)/dev-$(ORT)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMPS)/dev-$(ORT)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/python tools/buf_lint.py
	@$(MAKE) -s -f tests/native/native.mk lint CXX=$(CXX)

format: $(STAMPS)/dev-$(ORT)
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

debug: $(STAMPS)/runtime-$(ORT)
	ASSAY_DEBUG=1 $(BIN)/python setup.py -q build_ext --inplace --force
	@rm -f $(STAMPS)/core
	@echo 'assay._core is a debug build now; the next make serve or make test builds the fast one again'

native: $(STAMPS)/core
	@$(MAKE) -s -f tests/native/native.mk SAN=address,undefined SCALE=$(SCALE) CXX=$(CXX) PYTHON=$(BIN)/python run
	@$(MAKE) -s -f tests/native/native.mk SAN=thread SCALE=$(SCALE) CXX=$(CXX) PYTHON=$(BIN)/python run

FUZZ_SECONDS ?= 60
fuzz:
	@$(MAKE) -s -f tests/native/native.mk fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) CLANG=$(CLANG)

torture: $(STAMPS)/dev-$(ORT)
	$(MAKE) native SCALE=20
	$(MAKE) fuzz FUZZ_SECONDS=3600
	ASSAY_TEST_SCALE=20 $(BIN)/python -m pytest --torture --timeout 3600 $(ARGS)

proto: $(STAMPS)/dev-$(ORT)
	$(BIN)/python tools/generate_protos.py

lock:
	tools/lock.sh

clean:
	rm -rf $(VENV) build dist server/assay/_core*.so
