# Faults that are planted, and whether `advise` and `doctor` name the true cause first; predicted against
# measured gains. Kept in tests/results/planted.json.

## planted         plant faults, hold what is advised and predicted against the truth; ONLY=WORD
.PHONY: planted
planted: $(PROGRAM)
	$(Q)mkdir -p tests/results $(B)
	$(Q)python3 tests/planted/planted.py $(PROGRAM) \
	    $(if $(ONLY),$(B)/planted.json --only $(ONLY),tests/results/planted.json)
