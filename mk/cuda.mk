# layertop-cuda.so: engine/cuda, with CUDA's own compiler. The libraries are opened at run time.

NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard $(CUDA_HOME)/bin/nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
# one architecture by default; `make ARCH=75,80,90` builds several
ARCH ?= 90

ifeq ($(CUDA),1)
CUDA_DIR     := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_CSOURCES := $(sort $(wildcard engine/cuda/*.c))
CUDA_KSOURCES := $(sort $(wildcard engine/cuda/*.cu))
CUDA_OBJECTS := $(CUDA_CSOURCES:%.c=$(B)/%.o) $(CUDA_KSOURCES:%.cu=$(B)/%.cu.o)
CUDA_SO      := $(B)/layertop-cuda.so
CUDA_TARGETS := $(if $(CUDA_CSOURCES),$(CUDA_SO))
CUDA_CFLAGS  := -isystem $(CUDA_DIR)/include
GENCODE      := $(foreach a,$(subst $(comma), ,$(ARCH)),-gencode=arch=compute_$(a),code=sm_$(a))
NVCC_WERROR  := $(if $(filter-out 0,$(WERROR)),-Werror all-warnings)
ALL_CFLAGS_CUDA := -DLAYERTOP_CUDA_HEADERS=1
DEPS_CFLAGS  += $(ALL_CFLAGS_CUDA) $(CUDA_CFLAGS)

$(B)/%.cu.o: %.cu
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  NVCC    $<")
	$(Q)$(NVCC) -O3 -std=c++17 -lineinfo $(GENCODE) $(NVCC_WERROR) -I. -Xcompiler -fPIC,-fvisibility=hidden,-Wall \
	    -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# cudart is static; the driver, cuDNN, cuBLASLt, NVML and CUPTI are opened by the module itself
$(CUDA_SO): $(CUDA_OBJECTS)
	@$(if $(filter 1,$(V)),,echo "  LD      $@")
	$(Q)$(CC) -shared $(SANFLAGS) -o $@ $^ -L$(CUDA_DIR)/lib64 -lcudart_static -ljansson -lstdc++ -lrt -lpthread -ldl -lm

-include $(CUDA_OBJECTS:.o=.d)
endif
