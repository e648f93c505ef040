# A test that cannot fail proves nothing: each mutant breaks one line, and its test must turn red.

## mutants         break one line at a time and see that the tests notice; ONLY='0[1-9]*'
.PHONY: mutants
mutants: deps-check
	$(Q)tests/mutants/run.sh build/mutants $(if $(ONLY),'$(ONLY)')
