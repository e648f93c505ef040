# The picture in README.md: the real screen, in a terminal of our own, with a few lines typed.

$(B)/tests/picture: tests/tools/picture.c $(TEST_SUPPORT_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  TOOL    $<")
	$(Q)$(CC) $(ALL_CFLAGS) -Itests -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(TEST_SUPPORT_OBJECTS) \
	    -Wl,--whole-archive $(LIBRARY) -Wl,--no-whole-archive $(LIBS) -lcmocka -lvterm -lutil

## picture         docs/screen.svg anew: what the demo model's screen shows on this machine
.PHONY: picture
picture: $(PROGRAM) $(B)/tests/picture
	$(Q)XDG_CONFIG_HOME=$(abspath $(B)) XDG_STATE_HOME=$(abspath $(B)) $(B)/tests/picture \
	    docs/screen.svg 120x36 for:throughput wait:20 'line:batch 8' wait:12 'line:batch 1' wait:10 \
	    'line:batch 16' wait:16 -- $(abspath $(PROGRAM)) demo:mobilenetv2

-include $(B)/tests/picture.d
