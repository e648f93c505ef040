# layertop beside other engines, on the CPU, in one run. The peers come from PyPI into
# build/bench/venv; the tables that are kept are tests/results/bench-cpu.json (a full run) and
# bench-cpu-quick.json.

## bench           side by side with Keras/TensorFlow, ONNX Runtime, OpenVINO; QUICK=1 MODELS=resnet50 BATCHES=1,8 PRECISIONS=fp32
BENCH       := build/bench
BENCH_VENV  := $(BENCH)/venv
BENCH_TABLE := tests/results/bench-cpu$(if $(QUICK),-quick).json

$(BENCH)/fma_peak: tests/bench/fma_peak.c
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  CC      $<")
	$(Q)$(CC) -std=gnu17 -O2 $(WARN) -o $@ $< -lpthread

.PHONY: bench
bench: all $(BENCH)/fma_peak
	$(Q)tests/bench/setup.sh $(BENCH_VENV)
	$(Q)mkdir -p tests/results
	$(Q)$(BENCH_VENV)/bin/python tests/bench/run.py $(PROGRAM) $(BENCH) \
	    $(if $(MODELS)$(BATCHES)$(PRECISIONS),$(BENCH)/bench-cpu-part.json,$(BENCH_TABLE)) \
	    $(if $(QUICK),--quick) $(if $(MODELS),--models $(MODELS)) \
	    $(if $(BATCHES),--batches $(BATCHES)) $(if $(PRECISIONS),--precisions $(PRECISIONS))
