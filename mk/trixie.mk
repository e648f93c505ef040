# The newer Debian: oneDNN 3.x, HDF5 1.14 and gcc 14, where Debian 12 has 2.6, 1.10 and 12.

## test-trixie     make test inside a Debian 13 folder, build/trixie (root, debootstrap); ONLY="cpu keras"
.PHONY: test-trixie
test-trixie:
	$(Q)tests/trixie.sh build/trixie "$(APT_PACKAGES) $(APT_TEST_PACKAGES)" $(ONLY)
