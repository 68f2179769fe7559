# Native tests: the core alone, without Python, under sanitizers. Called by the Makefile at the top.
#
#   SAN=address,undefined | thread      run      builds and runs every tests/native/*_test.cc
#                                       lint     checks core, tests and fuzzers, warnings as errors
#   CLANG=clang++ FUZZ_SECONDS=60       fuzz     libFuzzer on tests/fuzz/*_fuzz.cc, starting from the kept corpus

SAN ?= address,undefined
SCALE ?= 1
CXX ?= g++
PYTHON ?= python3
COMMA := ,
BUILD := build/native-$(subst $(COMMA),-,$(SAN))
FLAGS := -std=c++17 -g1 -O1 -ffp-contract=off -fno-strict-aliasing -Wall -Wextra -Iext -Itests/native
SANITIZE := -fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)

# The native transport and the load generator are built where their libraries are; else what stands in for them (*_absent.cc).
NATIVE_LIBRARIES := 'libnghttp2 >= 1.43' 'libssl >= 3.0' 'libcrypto >= 3.0' zlib
NATIVE_LIBS := $(shell pkg-config --libs $(NATIVE_LIBRARIES) 2>/dev/null)
NEEDS_LIBRARIES := ext/core/transport/%.cc ext/core/load/%.cc tests/native/transport_%.cc tests/native/load_%.cc tests/fuzz/transport_%.cc

CORE := $(sort $(shell find ext/core -name '*.cc'))
ABSENT := $(filter %_absent.cc,$(CORE))
CORE := $(if $(NATIVE_LIBS),$(filter-out $(ABSENT),$(CORE)),$(filter-out $(NEEDS_LIBRARIES),$(CORE)) $(ABSENT))
TESTS := $(sort $(wildcard tests/native/*_test.cc))
TESTS := $(if $(NATIVE_LIBS),$(TESTS),$(filter-out $(NEEDS_LIBRARIES),$(TESTS)))
FAKE_ORT := $(BUILD)/fake_cuda_ort.so
FUZZERS := $(sort $(wildcard tests/fuzz/*_fuzz.cc))
FUZZERS := $(if $(NATIVE_LIBS),$(FUZZERS),$(filter-out $(NEEDS_LIBRARIES),$(FUZZERS)))
CORE_OBJECTS := $(CORE:ext/%.cc=$(BUILD)/%.o)
PROGRAMS := $(TESTS:tests/native/%.cc=$(BUILD)/%)
JOBS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: run lint fuzz programs
.SECONDARY:

run:
	@$(MAKE) -s -f tests/native/native.mk -j$(JOBS) programs SAN=$(SAN) CXX='$(CXX)'
	@export ASSAY_TEST_SCALE=$(SCALE) ASSAY_ORT_LIBRARY="$$($(PYTHON) -m assay.models.ort_library 2>/dev/null)"; \
	export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1; \
	export ASSAY_TEST_FAKE_ORT=$(CURDIR)/$(FAKE_ORT); \
	export LSAN_OPTIONS=suppressions=tests/native/lsan.supp:print_suppressions=0; \
	for program in $(PROGRAMS); do echo "== $$program ($(SAN))"; "$$program" || exit 1; done

programs: $(PROGRAMS) $(FAKE_ORT)

$(BUILD)/%.o: ext/%.cc tests/native/native.mk
	@mkdir -p $(@D)
	@$(CXX) $(FLAGS) $(SANITIZE) -MMD -MP -c $< -o $@

$(BUILD)/%_test.o: tests/native/%_test.cc tests/native/native.mk
	@mkdir -p $(@D)
	@$(CXX) $(FLAGS) $(SANITIZE) -MMD -MP -c $< -o $@

$(BUILD)/%_test: $(BUILD)/%_test.o $(CORE_OBJECTS)
	@$(CXX) $(SANITIZE) $^ -o $@ $(NATIVE_LIBS) -ldl -lpthread

# A library that cuda_test opens in place of ONNX Runtime's.
$(BUILD)/%.so: tests/native/%.cc tests/native/native.mk ext/core/runtime/ort_api.h
	@mkdir -p $(@D)
	@$(CXX) $(FLAGS) $(SANITIZE) -shared -fPIC $< -o $@ -ldl

# For the core only: macros of tests shadow on purpose.
STRICT := -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
LINTED := $(CORE) $(TESTS) tests/native/fake_cuda_ort.cc $(FUZZERS)
lint:
	@$(MAKE) -s -f tests/native/native.mk -j$(JOBS) CXX='$(CXX)' $(LINTED:%.cc=build/lint/%.ok)

build/lint/%.ok: %.cc tests/native/native.mk
	@mkdir -p $(@D)
	@$(CXX) -std=c++17 -fsyntax-only -Wall -Wextra -Werror $(if $(filter ext/%,$<),$(STRICT)) -Iext -Itests/native \
	  -MMD -MP -MF $(@:.ok=.d) -MT $@ $< && touch $@

fuzz:
	@[ -n "$(CLANG)" ] || { echo 'make fuzz needs clang: sudo apt-get install -y clang' >&2; exit 1; }
	@$(MAKE) -s -f tests/native/native.mk -j$(JOBS) CLANG='$(CLANG)' $(FUZZERS:tests/fuzz/%.cc=build/fuzz/%)
	@$(MAKE) -s -f tests/native/native.mk -j$(JOBS) FUZZ_SECONDS=$(FUZZ_SECONDS) $(FUZZERS:tests/fuzz/%_fuzz.cc=fuzz-%)

# One fuzzer, as many side by side as there are cores.
fuzz-%:
	@mkdir -p build/fuzz/corpus/$*
	@echo "== $* for $(FUZZ_SECONDS) s"
	@build/fuzz/$*_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/$*- build/fuzz/corpus/$* tests/fuzz/corpus/$* \
	  >build/fuzz/$*.log 2>&1 || { tail -n 40 build/fuzz/$*.log; exit 1; }
	@grep -E 'stat::(number_of_executed_units|average_exec_per_sec|new_units_added)' build/fuzz/$*.log | sed 's/^/$*: /'

build/fuzz/%: build/fuzz/tests/fuzz/%.o $(CORE:%.cc=build/fuzz/%.o)
	@$(CLANG) -fsanitize=fuzzer,address,undefined $^ -o $@ $(NATIVE_LIBS) -ldl -lpthread

build/fuzz/%.o: %.cc tests/native/native.mk
	@mkdir -p $(@D)
	@$(CLANG) $(FLAGS) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -MMD -MP -c $< -o $@

-include $(CORE_OBJECTS:.o=.d) $(PROGRAMS:=.d) $(LINTED:%.cc=build/lint/%.d) $(CORE:%.cc=build/fuzz/%.d) $(FUZZERS:%.cc=build/fuzz/%.d)
