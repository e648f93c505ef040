# layertop-cuda.so: engine/cuda, with CUDA's own compiler. The libraries are opened at run time.

NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard $(CUDA_HOME)/bin/nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
# one architecture by default; `make ARCH=75,80,90` builds several, `make ARCH=all` what nvcc knows
ARCH ?= 90

empty :=
space := $(empty) $(empty)

ifeq ($(CUDA),1)
CUDA_DIR     := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_CSOURCES := $(sort $(wildcard engine/cuda/*.c))
CUDA_KSOURCES := $(sort $(wildcard engine/cuda/*.cu))
CUDA_OBJECTS := $(CUDA_CSOURCES:%.c=$(B)/%.o) $(CUDA_KSOURCES:%.cu=$(B)/%.cu.o)
CUDA_SO      := $(B)/layertop-cuda.so
CUDA_TARGETS := $(if $(CUDA_CSOURCES),$(CUDA_SO))
CUDA_CFLAGS  := -isystem $(CUDA_DIR)/include
# machine code for every architecture, and PTX of the last for what comes after it
ARCHS        := $(shell printf '%s\n' $(if $(filter all,$(ARCH)),$$($(NVCC) --list-gpu-code | sed 's/sm_//'),\
                $(subst $(comma), ,$(ARCH))) | sort -nu)
GENCODE      := $(foreach a,$(ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) \
                -gencode=arch=compute_$(lastword $(ARCHS)),code=compute_$(lastword $(ARCHS))
# newer compilers pack machine code tighter (a third less of ours); so old a driver that it cannot
# unpack that cannot run code of such a compiler either
NVCC_PACK    := $(if $(shell $(NVCC) --help 2>/dev/null | grep -e '--compress-mode'),--compress-mode=size,-Xfatbin=-compress-all)
# LINEINFO=1: source lines for Nsight Compute; they are a third of our machine code's size
NVCC_LINES   := $(if $(filter 1,$(LINEINFO)),-lineinfo)
NVCC_WERROR  := $(if $(filter-out 0,$(WERROR)),-Werror all-warnings)
ALL_CFLAGS_CUDA := -DLAYERTOP_CUDA_HEADERS=1 \
                -DLAYERTOP_CUDA_ARCHS='"$(subst $(space),$(comma),$(ARCHS))"'
DEPS_CFLAGS  += $(ALL_CFLAGS_CUDA) $(CUDA_CFLAGS)

.PHONY: print-archs
print-archs:
	@echo '$(ARCHS)'

# kernels are launched by one thread: no guards, and so no C++ runtime library
# the architectures last built for: another ARCH rebuilds what depends on it
$(B)/cuda-archs: FORCE
	@mkdir -p $(@D); echo '$(ARCHS)' | cmp -s - $@ || echo '$(ARCHS)' > $@
FORCE:

$(B)/%.cu.o: %.cu $(B)/cuda-archs
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  NVCC    $<")
	$(Q)$(NVCC) -O3 -std=c++17 $(NVCC_LINES) $(NVCC_PACK) $(GENCODE) $(NVCC_WERROR) -I. -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-fno-threadsafe-statics \
	    -MMD -MP -MF $(@:.o=.d) -c $< -o $@
$(CUDA_CSOURCES:%.c=$(B)/%.o): $(B)/cuda-archs

# What the module shares with the program is linked into it once more: the program's own symbols are
# hidden. cudart is static; the driver, cuDNN, cuBLASLt and NVML are opened by the module itself, so
# -z defs proves that it needs nothing else.
CUDA_SHARED  := $(patsubst %,$(B)/engine/%.o,error tensor convert visible graph/memory graph/op graph/op_shape graph/graph)
CUDA_LIBS    := -L$(CUDA_DIR)/lib64 -lcudart_static -ljansson -lrt -lpthread -ldl -lm
$(CUDA_SO): $(CUDA_OBJECTS) $(CUDA_SHARED)
	@$(if $(filter 1,$(V)),,echo "  LD      $@")
	$(Q)$(CC) -shared $(SANFLAGS) $(if $(SAN),,-Wl$(comma)-z$(comma)defs) $(LD_RELR) -Wl,--exclude-libs,ALL -o $@ $^ $(CUDA_LIBS)

# the tests of the module link its parts beside the library
CUDA_TESTS   := $(B)/tests/test_cuda $(B)/tests/test_cuda_engines $(B)/tests/test_cuda_parts
$(CUDA_TESTS): $(CUDA_OBJECTS) $(CUDA_SO)
$(CUDA_TESTS): LIBS += $(CUDA_OBJECTS) $(CUDA_LIBS)

-include $(CUDA_OBJECTS:.o=.d)
endif
