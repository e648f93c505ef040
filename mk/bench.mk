# layertop beside other engines, on the CPU, in one run. The peers come from PyPI into
# build/bench/venv; the tables that are kept are tests/results/bench-cpu.json (a full run, an hour and
# a half) and bench-cpu-quick.json (the four applications in short turns, a third of that).

## bench           side by side with Keras/TensorFlow, ONNX Runtime, OpenVINO; QUICK=1 MODELS=resnet50 BATCHES=1,8 PRECISIONS=fp32 TABLE=FILE; PRECISIONS=int8: with TFLite
BENCH       := build/bench
BENCH_VENV  := $(BENCH)/venv
BENCH_TABLE := tests/results/bench-cpu$(if $(QUICK),-quick).json
BENCH_PART  := $(BENCH)/bench-cpu-part.json

$(BENCH)/fma_peak: tests/bench/fma_peak.c
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  CC      $<")
	$(Q)$(CC) -std=gnu17 -O2 $(WARN) -o $@ $< -lpthread

.PHONY: bench
bench: all $(BENCH)/fma_peak
	$(Q)tests/bench/setup.sh $(BENCH_VENV)
	$(Q)mkdir -p tests/results
	$(Q)$(BENCH_VENV)/bin/python tests/bench/run.py $(PROGRAM) $(BENCH) \
	    $(or $(TABLE),$(if $(MODELS)$(BATCHES)$(PRECISIONS),$(BENCH_PART),$(BENCH_TABLE))) \
	    $(if $(QUICK),--quick) $(if $(MODELS),--models $(MODELS)) \
	    $(if $(BATCHES),--batches $(BATCHES)) $(if $(PRECISIONS),--precisions $(PRECISIONS))

## bench-load      how fast files of 100 MB and 1 GB load; needs 2.2 GB of disk for a minute
$(BENCH)/load: tests/bench/load.c $(B)/tests/support/large_model.o $(LIBRARY)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  CC      $<")
	$(Q)$(CC) $(ALL_CFLAGS) -Itests $(ALL_LDFLAGS) -o $@ $< $(B)/tests/support/large_model.o \
	    -Wl,--whole-archive $(LIBRARY) -Wl,--no-whole-archive $(LIBS)

.PHONY: bench-load
bench-load: all $(BENCH)/load
	$(Q)$(BENCH)/load $(PROGRAM) $(BENCH) $(or $(TABLE),tests/results/load.json)

## bench-gpu       side by side with PyTorch, JAX and Keras on this machine's GPU; BUDGET_S=540 MODELS= BATCHES= PRECISIONS= ENGINES= REQUIRE_PEERS=1
# From a bundle, where nothing is built: libexec/bench-gpu.sh. Points are taken in a printed order and
# appended one by one; the next run goes on where this one ended.
BUDGET_S ?= 540
.PHONY: bench-gpu
bench-gpu:
	$(Q)[ -x build/bundle/bin/layertop ] || $(MAKE) --no-print-directory bundle
	$(Q)tests/bench/gpu.sh build/bundle $(or $(OUT),tests/results) --budget-s $(BUDGET_S) \
	    $(if $(MODELS),--models $(MODELS)) $(if $(BATCHES),--batches $(BATCHES)) \
	    $(if $(PRECISIONS),--precisions $(PRECISIONS)) $(if $(ENGINES),--engines $(ENGINES)) \
	    $(if $(REQUIRE_PEERS),--require-peers)
