# The GPU module with its kernels on the host: tests/emulator in place of CUDA's runtime and libraries.
# LAYERTOP_CUDA_MODULE=build/emulator/layertop-cuda.so build/tests/gpu/test_cuda_ops runs the tests of
# the ops with it, slowly.

ifeq ($(CUDA),1)
EMULATOR         := $(B)/emulator
EMULATOR_SO      := $(EMULATOR)/layertop-cuda.so
EMULATOR_SOURCES := $(sort $(wildcard tests/emulator/*.cpp))
EMULATOR_OBJECTS := $(CUDA_KSOURCES:%.cu=$(EMULATOR)/%.o) $(EMULATOR_SOURCES:%.cpp=$(EMULATOR)/%.o) \
                    $(filter-out $(B)/engine/cuda/libraries.o,$(CUDA_CSOURCES:%.c=$(B)/%.o))
# the compiler that nvcc takes for its host code
EMULATOR_CXX     := g++
EMULATOR_CFLAGS  := -std=gnu++17 -O2 -g -fPIC -fvisibility=hidden -I. $(CUDA_CFLAGS) \
                    -DLAYERTOP_CUDA_ARCHS='"$(subst $(space),$(comma),$(ARCHS))"' -w

# kernel<<<grid, block, shared, stream>>>(x): see tests/emulator/simt.h
$(EMULATOR)/%.o: %.cu tests/emulator/simt.h
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  EMULATE $<")
	$(Q)sed -E 's/([A-Za-z_]+)<<</simt_kernel(\1)<<</; s/<<</ ->*simt_config(/; s/>>>\(/)(/' $< >$(@:.o=.cpp)
	$(Q)$(EMULATOR_CXX) $(EMULATOR_CFLAGS) -include tests/emulator/simt.h -MMD -MP -c $(@:.o=.cpp) -o $@

$(EMULATOR)/%.o: %.cpp $(B)/cuda-archs
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  EMULATE $<")
	$(Q)$(EMULATOR_CXX) $(EMULATOR_CFLAGS) -MMD -MP -c $< -o $@

$(EMULATOR_SO): $(EMULATOR_OBJECTS) $(CUDA_SHARED)
	@$(if $(filter 1,$(V)),,echo "  LD      $@")
	$(Q)$(EMULATOR_CXX) -shared -Wl,--wrap=cuda_probe,--wrap=cuda_probe_runtime -Wl,-z,defs \
	    -Wl,--exclude-libs,ALL -o $@ $^ -ljansson -lrt -lpthread -ldl -lm

$(B)/tests/test_emulated: $(EMULATOR_SO) $(B)/tests/gpu/test_cuda_ops

-include $(EMULATOR_OBJECTS:.o=.d)
endif
