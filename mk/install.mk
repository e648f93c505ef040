## install         into $(DESTDIR)$(PREFIX)
.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/layertop $(DESTDIR)$(PREFIX)/share/layertop
	install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/layertop
	$(if $(CUDA_TARGETS),install -m 755 $(CUDA_SO) $(DESTDIR)$(PREFIX)/lib/layertop/)
	cp -R share/layertop/. $(DESTDIR)$(PREFIX)/share/layertop/
	install -d $(DESTDIR)$(PREFIX)/share/doc/layertop
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/layertop/

## uninstall       remove what install put there
.PHONY: uninstall
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/layertop
	rm -rf $(DESTDIR)$(PREFIX)/lib/layertop $(DESTDIR)$(PREFIX)/share/layertop $(DESTDIR)$(PREFIX)/share/doc/layertop
