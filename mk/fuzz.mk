# Fuzzing with clang's libFuzzer. Every tests/fuzz/fuzz_NAME.c is one target: bytes in, nothing out.

## fuzz            fuzz every target for SECONDS=60 (needs clang); ONLY='archive hdf5'
SECONDS ?= 60
FUZZ    := build/fuzz
FUZZ_CC := clang
FUZZ_CHECKS := address,undefined
# what the targets call: the library without the CPU's kernels and the threads of OpenMP, but with
# the roof's ceilings
FUZZ_SOURCES := $(filter-out engine/cpu/%,$(SOURCES)) engine/cpu/ceilings.c engine/cpu/machine.c
FUZZ_OBJECTS := $(FUZZ_SOURCES:%.c=$(FUZZ)/%.o)
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_SUPPORT := $(FUZZ)/tests/fuzz/fuzz.o
FUZZ_CFLAGS := -std=gnu17 -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined -I. -Itests \
               -DLAYERTOP_VERSION='"fuzz"' $(filter-out -fopenmp,$(DEPS_CFLAGS)) -Wall -Wextra \
               -Wno-unknown-pragmas -Wno-missing-field-initializers -Wno-format-zero-length
FUZZ_LIBS := $(filter-out -fopenmp,$(LIBS)) -lgomp

$(FUZZ)/%.o: %.c | fuzz-check
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  FUZZ CC $<")
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_CHECKS) -MMD -MP -c $< -o $@

$(FUZZ)/library.a: $(FUZZ_OBJECTS)
	$(Q)rm -f $@ && ar rcs $@ $^

$(FUZZ)/fuzz_%: $(FUZZ)/tests/fuzz/fuzz_%.o $(FUZZ_SUPPORT) $(FUZZ)/library.a
	@$(if $(filter 1,$(V)),,echo "  FUZZ LD $@")
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_CHECKS) -o $@ $^ $(FUZZ_LIBS)

# this one forks the program's own confined reader: no sanitizers, whose system calls it would refuse
$(FUZZ)/fuzz_damaged: tests/fuzz/fuzz_damaged.c tests/fuzz/fuzz.c $(LIBRARY)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)

# writes the first inputs, and what a run found out into tests/results/fuzz.json
$(FUZZ)/helper: tests/fuzz/helper.c $(LIBRARY)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(LIBRARY) $(LIBS)

.PHONY: fuzz-check
fuzz-check:
	@command -v $(FUZZ_CC) >/dev/null && echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	    $(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_CHECKS) -x c - -o /dev/null 2>/dev/null || { \
	    echo "layertop: fuzzing needs clang with libFuzzer" >&2; \
	    echo "  apt-get install clang libclang-rt-14-dev    (Debian 12; else libclang-rt-dev)" >&2; exit 2; }

.PHONY: fuzz
fuzz: fuzz-check deps-check $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%) $(FUZZ)/helper
	$(Q)tests/fuzz/run.sh $(SECONDS) $(or $(ONLY),$(FUZZ_TARGETS))

# kept between runs of make: an object made by a pattern rule is no rubbish
.PRECIOUS: $(FUZZ)/%.o
-include $(FUZZ_OBJECTS:.o=.d) $(wildcard $(FUZZ)/tests/fuzz/*.d)
