# layertop: one non-recursive Makefile.
#
#   make            build/layertop (and build/layertop-cuda.so if nvcc is found)
#   make run        set up what is missing, build, show the demo model live
#   make test       everything that a machine without a GPU can prove
#   make help       the other targets
#
# Knobs: CUDA=0|1 (default: is there an nvcc?), ARCH=90 (GPU architectures, comma separated, or all),
# SAN=address,undefined|thread, WERROR=1, V=1, PREFIX, DESTDIR.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DEFAULT_GOAL := all

CC      ?= gcc
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
SAN     ?=
WERROR  ?= 0
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)

B := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
comma := ,
B := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))

include mk/deps.mk
include mk/cuda.mk

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wundef \
        -Wcast-qual -Wwrite-strings -Wvla -Wno-format-nonliteral
ifneq ($(WERROR),0)
WARN += -Werror
endif
OPT     := -O2 -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS  ?=
ALL_CFLAGS := -std=gnu17 $(OPT) $(WARN) $(SANFLAGS) -fPIC -fvisibility=hidden -I. \
              -DLAYERTOP_VERSION='"$(VERSION)"' $(DEPS_CFLAGS) $(CFLAGS)
# a C library that knows packed relocations gets them: a table of addresses a tenth as large
LD_RELR := $(if $(shell grep -l GLIBC_ABI_DT_RELR $$($(CC) -print-file-name=libc.so.6) 2>/dev/null),-Wl$(comma)-z$(comma)pack-relative-relocs)
ALL_LDFLAGS := $(SANFLAGS) -rdynamic $(LD_RELR) $(LDFLAGS)
LIBS    := $(DEPS_LIBS) -lm -ldl -lpthread

SOURCES := $(filter-out main.c,$(sort $(wildcard engine/*.c engine/keras/*.c engine/keras/layers/*.c engine/probe/*.c \
             engine/graph/*.c engine/cpu/*.c profiler/*.c profiler/doctor/*.c profiler/advise/*.c commands/*.c tui/*.c)))
OBJECTS := $(SOURCES:%.c=$(B)/%.o)
LIBRARY := $(B)/liblayertop.a
PROGRAM := $(B)/layertop

.PHONY: all
all: deps-check $(PROGRAM) $(CUDA_TARGETS)

# only these objects hold the version, so that a commit rebuilds four files
VERSIONED := $(addprefix $(B)/,main.o engine/worker.o profiler/recording_pack.o profiler/replay.o)
$(VERSIONED): $(B)/version
.PHONY: version-check
$(B)/version: version-check
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@

$(B)/%.o: %.c | deps-check
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  CC      $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(LIBRARY): $(OBJECTS)
	@$(if $(filter 1,$(V)),,echo "  AR      $@")
	$(Q)rm -f $@ && ar rcs $@ $^

$(PROGRAM): $(B)/main.o $(LIBRARY)
	@$(if $(filter 1,$(V)),,echo "  LD      $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(B)/main.o -Wl,--whole-archive $(LIBRARY) -Wl,--no-whole-archive $(LIBS)

include mk/test.mk
include mk/picture.mk
include mk/lint.mk
include mk/docs.mk
include mk/install.mk
include mk/gpu.mk
include mk/emulator.mk
-include mk/bundle.mk
include mk/trixie.mk
include mk/conformance.mk
include mk/bench.mk
include mk/fuzz.mk
include mk/planted.mk
-include mk/mutants.mk

-include $(OBJECTS:.o=.d) $(B)/main.d

.PHONY: run
run: deps
	$(Q)$(MAKE) --no-print-directory all
	$(PROGRAM) $(or $(MODEL),$(DEMO))

# the demo model that `make run` shows
DEMO := demo:mobilenetv2

.PHONY: clean
clean:
	rm -rf build

.PHONY: help
help:
	@sed -n '3,11p' Makefile; grep -hE '^## ' Makefile mk/*.mk | sed 's/^## /  make /'
