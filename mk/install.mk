INSTALL_DOCS := $(sort $(wildcard docs/*.md docs/*.svg))
# as they lie below share/
INSTALL_SHARED := man/man1/layertop.1 bash-completion/completions/layertop zsh/site-functions/_layertop \
                  fish/vendor_completions.d/layertop.fish

## install         into $(DESTDIR)$(PREFIX): the program, its data, documents, manual page, completion
.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/layertop $(DESTDIR)$(PREFIX)/share/layertop
	install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/layertop
	$(if $(CUDA_TARGETS),install -m 755 $(CUDA_SO) $(DESTDIR)$(PREFIX)/lib/layertop/)
	cp -R share/layertop/. $(DESTDIR)$(PREFIX)/share/layertop/
	install -d $(DESTDIR)$(PREFIX)/share/doc/layertop/docs
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/layertop/
	install -m 644 $(INSTALL_DOCS) $(DESTDIR)$(PREFIX)/share/doc/layertop/docs/
	$(foreach f,$(INSTALL_SHARED),install -D -m 644 share/$(f) $(DESTDIR)$(PREFIX)/share/$(f) &&) :

## uninstall       remove what install put there
.PHONY: uninstall
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/layertop $(addprefix $(DESTDIR)$(PREFIX)/share/,$(INSTALL_SHARED))
	rm -rf $(DESTDIR)$(PREFIX)/lib/layertop $(DESTDIR)$(PREFIX)/share/layertop $(DESTDIR)$(PREFIX)/share/doc/layertop
