# What a GPU must show. `make test-gpu` runs where the GPU is; nothing there but the driver, CUDA's
# libraries and cuDNN is needed, because it runs the bundle.

## test-gpu        run the bundle's tests on this machine's GPU, results into tests/results; TESTS="proof_against_cpu"
GPU_CUDNN    := $(B)/tests/gpu/probe_cudnn
GPU_PROGRAMS := $(filter-out $(GPU_CUDNN),$(patsubst tests/gpu/%.c,$(B)/tests/gpu/%,$(sort $(wildcard tests/gpu/*.c))))
# the content that a result speaks of
GPU_CONTENT  = $(shell find engine/cuda profiler -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16)

# they travel in the bundle: only what each needs is linked
$(B)/tests/libsupport.a: $(TEST_SUPPORT_OBJECTS)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/tests/gpu/%: tests/gpu/%.c $(B)/tests/libsupport.a $(LIBRARY)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  GPUTEST $<")
	$(Q)$(CC) $(ALL_CFLAGS) -Itests -MMD -MP $(SANFLAGS) $(LD_RELR) $(LDFLAGS) -Wl,--as-needed -o $@ $< \
	    $(B)/tests/libsupport.a $(LIBRARY) $(LIBS) -lcmocka -lvterm -lutil

# kernels of their own beside our CUPTI stack; they need the driver's libcuda to start
GPU_CU_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard profiler/cupti*.c) profiler/demangle.c engine/error.c engine/cpu/machine.c)
$(B)/tests/gpu/%: tests/gpu/%.cu $(wildcard tests/gpu/*.cuh) $(GPU_CU_OBJECTS)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  GPUTEST $<")
	$(Q)$(NVCC) -O2 -std=c++17 $(GENCODE) $(NVCC_WERROR) -I. -Xcompiler -Wall $(if $(LD_RELR),-Xlinker -z$(comma)pack-relative-relocs) -o $@ $< $(GPU_CU_OBJECTS) \
	    -L$(CUDA_DIR)/lib64/stubs -lcuda -ljansson -lgomp -ldl -lpthread

# nothing but cuDNN, opened at run time
$(GPU_CUDNN): tests/gpu/probe_cudnn.c $(B)/engine/cuda/libraries.o $(B)/engine/error.o
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  GPUTEST $<")
	$(Q)$(CC) $(ALL_CFLAGS) $(CUDA_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -ldl

.PHONY: gpu-programs
gpu-programs: $(GPU_PROGRAMS) $(if $(filter 1,$(CUDA)),$(GPU_CUDNN) $(patsubst tests/gpu/%.cu,$(B)/tests/gpu/%,$(wildcard tests/gpu/*.cu)))

.PHONY: test-gpu
test-gpu:
	$(Q)[ -x build/bundle/bin/layertop ] || $(MAKE) --no-print-directory bundle
	$(Q)tests/gpu/run.sh build/bundle $(or $(OUT),tests/results) $(TESTS)

## unverified      write tests/results/UNVERIFIED.md
.PHONY: unverified
unverified: $(B)/tests/gpu/test_gpu
	$(Q)$< --unverified tests/results $(GPU_CONTENT) >tests/results/UNVERIFIED.md
	@grep -c '^- ' tests/results/UNVERIFIED.md | sed 's/$$/ tests not yet seen on a GPU/'

-include $(GPU_PROGRAMS:=.d)
