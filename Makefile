# assay: one verb for each thing people do. `make` lists them. Everything goes into .venv and build/, but for the
# demo's history (~/.cache/assay).
#
# PYTHON=python3.12   the interpreter to make .venv with
# ORT=cpu | gpu | gpu-cu12   which ONNX Runtime wheel to install: for the CPU, CUDA 13 or CUDA 12 (default: the newest that the
#                     NVIDIA driver runs, cpu where none answers)
# SCALE=10            multiplies the counts of property, native and fuzz tests

PYTHON ?= python3
SCALE ?= 1
ifndef ORT
ORT := $(shell tools/ort_flavour.sh)
endif

$(if $(filter cpu gpu gpu-cu12,$(ORT)),,$(error ORT is cpu, gpu or gpu-cu12, not $(ORT)))

# An environment that was moved or copied still points to where it was made: the stamps carry the place.
PLACE := $(firstword $(shell pwd -P | cksum))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
STAMPS := $(VENV)/stamps-$(PLACE)
CORE_SOURCES := setup.py $(shell find ext -type f)
CXX_FILES := $(sort $(wildcard ext/bindings/*.h tests/native/*.h tests/native/*.cc tests/fuzz/*.cc) \
  $(filter %.h %.cc,$(filter ext/core/%,$(CORE_SOURCES))))
CXX ?= g++
CLANG ?= $(shell for name in clang++ clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do \
  command -v $$name && break; done)
NATIVE := $(MAKE) -s -f tests/native/native.mk CXX='$(CXX)'

.PHONY: help serve test pytest native fuzz torture bench load lint format hooks audit dev debug proto lock wheel image clean
.DELETE_ON_ERROR:

help:
	@echo 'make serve    build everything and serve the demo on 127.0.0.1:50051'
	@echo 'make test     every test (reduced counts; make torture has the full ones): native, then pytest'
	@echo 'make native   C++ tests under ASAN+UBSAN and under TSAN'
	@echo 'make pytest   all other tests'
	@echo 'make torture  full counts and an hour of fuzzing'
	@echo 'make fuzz     FUZZ_SECONDS=60 of libFuzzer on each decoder (needs clang)'
	@echo 'make bench    the budgets, as ratios against baselines in the same run'
	@echo 'make load     requests for a running server (SERVER=127.0.0.1:50051), as many as it takes'
	@echo 'make lint     ruff, mypy, buf, hadolint, zizmor, clang-format, compiler warnings'
	@echo 'make format   what ruff and clang-format can mend'
	@echo 'make hooks    the same before each commit, on what it changes'
	@echo 'make audit    known weaknesses of what is locked (asks PyPI)'
	@echo 'make dev      all that the others need, and nothing more'
	@echo 'make debug    the core without optimisation, with bounds checks in the bindings'
	@echo 'make proto    generated code from proto/'
	@echo 'make lock     pin dependencies anew (needs uv)'
	@echo 'make wheel    sdist and wheel in dist/'
	@echo 'make image    TARGET=cpu or cuda: assay:cpu, assay:cuda (needs Docker)'
	@echo 'make clean    removes what the others made'

# --- set-up

# What a fresh Debian or Ubuntu machine may lack, asked for in one line.
$(STAMPS)/machine:
	@tools/check_machine.sh '$(PYTHON)' '$(CXX)'
	@$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# Both wheels of ONNX Runtime write the same folder, and removing one breaks the other: where the other one is, both go first. So do
# the two of cuDNN.
OTHERS_cpu := onnxruntime-gpu
OTHERS_gpu := onnxruntime nvidia-cudnn-cu12
OTHERS_gpu-cu12 := onnxruntime nvidia-cudnn-cu13
$(STAMPS)/runtime-$(ORT): server/assay/lock/$(ORT).txt $(STAMPS)/machine
	@echo 'installing the locked dependencies ($(ORT)) into $(VENV)'
	@rm -f $(STAMPS)/runtime-*
	@if $(PIP) show $(OTHERS_$(ORT)) >/dev/null 2>&1; then \
	  $(PIP) uninstall -y onnxruntime onnxruntime-gpu nvidia-cudnn-cu12 nvidia-cudnn-cu13 2>/dev/null; fi
	@$(PIP) install --no-deps --require-hashes -r $<
	@touch $@

# What the build finds of the native transport's libraries: written anew when that changes, as when they were installed since.
$(STAMPS)/native: FORCE | $(STAMPS)/machine
	@tools/native_libraries.sh $@
FORCE:

# Compiles what changed. A debug core is not the served one: `make debug` takes this stamp away.
$(STAMPS)/core: $(CORE_SOURCES) $(STAMPS)/runtime-$(ORT) $(STAMPS)/native
	@echo 'compiling assay._core (a minute or two the first time)'
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

# The `assay` command, running from this checkout; a newly compiled core needs no new installation.
$(STAMPS)/package: pyproject.toml $(STAMPS)/runtime-$(ORT) | $(STAMPS)/core
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/dev-$(ORT): server/assay/lock/dev.txt $(STAMPS)/package
	@echo 'installing test tools'
	@$(PIP) install --no-deps --require-hashes -r $<
	@rm -f $(STAMPS)/dev-* && touch $@

# --- verbs

serve: $(STAMPS)/package
	@exec $(BIN)/assay serve $(ARGS)

dev: $(STAMPS)/dev-$(ORT)

test: native pytest

pytest: $(STAMPS)/dev-$(ORT)
	ASSAY_TEST_SCALE=$(SCALE) $(BIN)/python -m pytest $(ARGS)

bench: $(STAMPS)/dev-$(ORT)
	$(BIN)/python -m benchmarks $(ARGS)

# Load on a server that runs already: tests/load/README.md.
SERVER ?= 127.0.0.1:50051
load: build/load/messages.bin
	$(BIN)/assay bench run $(SERVER) --messages $< $(ARGS)

build/load/messages.bin: | $(STAMPS)/package
	@mkdir -p $(@D)
	$(BIN)/assay bench prepare --out $@

lint: $(STAMPS)/dev-$(ORT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python tools/buf_lint.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --offline --quiet .github
	@echo clang-format --dry-run -Werror
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	@echo compiler warnings
	@$(NATIVE) lint

format: $(STAMPS)/dev-$(ORT)
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CXX_FILES)

hooks: $(STAMPS)/dev-$(ORT)
	$(BIN)/pre-commit install

# A package that PyPI has no answer for fails too (--strict): no answer is not a good answer.
audit: $(STAMPS)/dev-$(ORT)
	@status=0; for lock in server/assay/lock/*.txt; do \
	  echo "== $$lock"; \
	  $(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r $$lock || status=1; \
	done; exit $$status

debug: $(STAMPS)/runtime-$(ORT)
	@rm -f $(STAMPS)/core
	ASSAY_DEBUG=1 $(BIN)/python setup.py -q build_ext --inplace
	@echo 'assay._core is a debug build now; the next make serve or make test builds the fast one again'

native: $(STAMPS)/package
	@$(NATIVE) SAN=address,undefined SCALE=$(SCALE) PYTHON=$(BIN)/python run
	@$(NATIVE) SAN=thread SCALE=$(SCALE) PYTHON=$(BIN)/python run

FUZZ_SECONDS ?= 60
fuzz:
	@$(NATIVE) fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) CLANG=$(CLANG)

torture: $(STAMPS)/dev-$(ORT)
	$(MAKE) native SCALE=20
	$(MAKE) fuzz FUZZ_SECONDS=3600
	ASSAY_TEST_SCALE=20 $(BIN)/python -m pytest --torture --timeout 3600 $(ARGS)

proto: $(STAMPS)/dev-$(ORT)
	$(BIN)/python tools/generate_protos.py

lock:
	tools/lock.sh

# The wheel is byte for byte the same from the same sources: it carries 1980, the earliest time that a ZIP file knows. build/lib goes first,
# for setuptools would pack what an earlier build left there.
wheel: $(STAMPS)/dev-$(ORT)
	rm -rf build/lib build/lib.* build/bdist.*
	SOURCE_DATE_EPOCH=315532800 $(BIN)/python -m build --sdist --wheel --no-isolation --outdir dist

TARGET ?= cpu
image:
	docker build --target $(TARGET) --label org.opencontainers.image.revision=$$(git rev-parse HEAD) --tag assay:$(TARGET) .
	docker run --rm --read-only --tmpfs /tmp assay:$(TARGET) doctor

clean:
	rm -rf $(VENV) build dist server/*.egg-info server/assay/_core*.so
