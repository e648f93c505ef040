# layertop against real Keras. The table that is kept, tests/results/conformance.json, is that of a
# full run with the newest Keras; other versions write beside it, part runs into build/.

## conformance     predictions against real Keras in float64 (PyPI); ONLY='app/*' KERAS=3.3.3 TF=1 DEVICE=cpu
CONFORMANCE := build/conformance
KERAS       ?=
# one folder of Python packages for each Keras that was asked for
CONFORMANCE_VENV  := $(CONFORMANCE)/$(if $(TF),tf-keras,keras$(if $(KERAS),-$(KERAS)))
CONFORMANCE_NAME  := conformance$(if $(TF),-tf-keras,$(if $(KERAS),-keras-$(KERAS)))
CONFORMANCE_TABLE := $(if $(ONLY),$(CONFORMANCE)/$(CONFORMANCE_NAME)-part.json,tests/results/$(CONFORMANCE_NAME).json)

.PHONY: conformance
conformance: all
	$(Q)tests/conformance/setup.sh $(CONFORMANCE_VENV) "$(if $(TF),tf-keras,keras$(addprefix ==,$(KERAS)))"
	$(Q)mkdir -p tests/results
	$(Q)CONFORMANCE_TF=$(TF) CONFORMANCE_DEVICE=$(or $(DEVICE),cpu) nice $(CONFORMANCE_VENV)/bin/python \
	    tests/conformance/run.py $(PROGRAM) $(CONFORMANCE_VENV)-models $(CONFORMANCE_TABLE) $(if $(ONLY),'$(ONLY)')

## conformance-all  the same with each Keras of RELEASES="3.0.5 3.3.3 3.8.0", the newest, and tf-keras
RELEASES ?= 3.0.5 3.3.3 3.8.0
.PHONY: conformance-all
conformance-all: all
	$(Q)bad=0; for release in $(RELEASES) ''; do $(MAKE) --no-print-directory conformance TF= KERAS=$$release || bad=1; done; \
	    $(MAKE) --no-print-directory conformance TF=1 KERAS= || bad=1; exit $$bad

## conformance-samples  every NAME.keras and NAME.h5 of FOLDER against its NAME.io.h5 (needs numpy, h5py)
FOLDER ?= tests/data/models
# kept is the run over a whole collection, not that over the few that are here
SAMPLES_TABLE := $(if $(filter tests/data/models%,$(FOLDER)),$(CONFORMANCE),tests/results)/conformance-samples.json
.PHONY: conformance-samples
conformance-samples: all
	$(Q)mkdir -p $(CONFORMANCE)
	$(Q)nice $(or $(PYTHON),python3) tests/conformance/samples.py $(PROGRAM) $(FOLDER) $(SAMPLES_TABLE)

## conformance-random  random graphs from COUNT=500 fresh seeds (or SEED=N) against real Keras
COUNT ?= 500
.PHONY: conformance-random
conformance-random: all
	$(Q)tests/conformance/setup.sh $(CONFORMANCE_VENV) "keras$(addprefix ==,$(KERAS))"
	$(Q)mkdir -p tests/results
	$(Q)CONFORMANCE_DEVICE=$(or $(DEVICE),cpu) nice $(CONFORMANCE_VENV)/bin/python \
	    tests/conformance/run_random.py $(PROGRAM) $(CONFORMANCE)/random \
	    $(if $(SEED),$(CONFORMANCE)/conformance-random-part.json,tests/results/conformance-random.json) $(COUNT) $(SEED)
