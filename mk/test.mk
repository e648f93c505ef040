# Tests. Every tests/unit/test_*.c is one cmocka program; tests/run.sh runs all and counts.

## test            everything that can be proved without a GPU
TEST_PROGRAMS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))
TEST_SUPPORT  := $(sort $(wildcard tests/support/*.c))
TEST_SUPPORT_OBJECTS := $(TEST_SUPPORT:%.c=$(B)/%.o)
$(TEST_SUPPORT_OBJECTS): ALL_CFLAGS += -Itests

$(B)/tests/%: tests/unit/%.c $(TEST_SUPPORT_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  TEST    $<")
	$(Q)$(CC) $(ALL_CFLAGS) -Itests -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(TEST_SUPPORT_OBJECTS) \
	    -Wl,--whole-archive $(LIBRARY) -Wl,--no-whole-archive $(LIBS) -lcmocka -lvterm -lutil

.PHONY: tests
tests: $(TEST_PROGRAMS)

.PHONY: test
test:
	$(Q)$(MAKE) --no-print-directory deps DEPS_FOR_TEST=1
	$(Q)tests/run.sh

-include $(TEST_PROGRAMS:=.d) $(TEST_SUPPORT_OBJECTS:.o=.d)
