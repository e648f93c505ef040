# Pages that are made from the program's tables and committed, so that a clone has them unbuilt.

## docs            docs/commands.md and share/man/man1/layertop.1, anew from the tables
DOCS_GENERATOR := $(B)/docs/generate
DOCS_OBJECTS   := $(patsubst %.c,$(B)/%.o,$(sort $(wildcard docs/generator/*.c)))

$(DOCS_GENERATOR): $(DOCS_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),,echo "  LD      $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(DOCS_OBJECTS) $(LIBRARY) $(LIBS)

DOCS_INTO := .
.PHONY: docs
docs: $(DOCS_GENERATOR)
	$(Q)mkdir -p $(DOCS_INTO)/docs $(DOCS_INTO)/share/man/man1
	$(Q)LAYERTOP_DATA=share/layertop $< reference >$(DOCS_INTO)/docs/commands.md
	$(Q)LAYERTOP_DATA=share/layertop $< manual >$(DOCS_INTO)/share/man/man1/layertop.1

-include $(DOCS_OBJECTS:.o=.d)
