# What must be installed, checked before anything is compiled.

## deps            install missing packages (apt, with sudo if need be)
APT_PACKAGES := gcc make pkg-config libncurses-dev libhdf5-dev libzip-dev libjansson-dev \
                libdnnl-dev libpng-dev libjpeg-dev zlib1g-dev libseccomp-dev
APT_TEST_PACKAGES := libcmocka-dev libvterm-dev clang-format
# tests skip what they lack of these
APT_TEST_SHELLS := zsh fish

# package : header that proves it
DEPS_TABLE := libncurses-dev:ncurses.h libhdf5-dev:hdf5.h libzip-dev:zip.h libjansson-dev:jansson.h \
              libdnnl-dev:oneapi/dnnl/dnnl.h libpng-dev:png.h libjpeg-dev:jpeglib.h zlib1g-dev:zlib.h \
              libseccomp-dev:seccomp.h

HDF5_CFLAGS := $(shell pkg-config --cflags hdf5 2>/dev/null || pkg-config --cflags hdf5-serial 2>/dev/null)
HDF5_LIBS   := $(shell pkg-config --libs hdf5 2>/dev/null || pkg-config --libs hdf5-serial 2>/dev/null)
PKGS        := ncursesw libzip jansson libpng libjpeg zlib libseccomp
# OpenMP: engine/cpu shares oneDNN's threads
DEPS_CFLAGS := -fopenmp $(HDF5_CFLAGS) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
DEPS_LIBS   := $(HDF5_LIBS) $(shell pkg-config --libs $(PKGS) 2>/dev/null) -ldnnl -fopenmp

# $(call deps_missing,table): packages whose header the compiler cannot find
deps_missing = $(strip $(foreach p,$(1),$(shell \
    printf '\043include <stdio.h>\n\043include <stddef.h>\n\043include <stdint.h>\n\043include <stdarg.h>\n\043include <setjmp.h>\n\043include <%s>\n' '$(word 2,$(subst :, ,$(p)))' \
    | $(CC) $(DEPS_CFLAGS) -E -x c - >/dev/null 2>&1 || echo $(word 1,$(subst :, ,$(p))))))

.PHONY: deps-check
# looked for once: this file remembers that all was there
DEPS_STAMP := build/.deps-ok
ifeq ($(wildcard $(DEPS_STAMP)),)
deps-check:
	@missing="$(if $(shell command -v $(CC)),,gcc) $(if $(shell command -v pkg-config),,pkg-config) $(call deps_missing,$(DEPS_TABLE))"; \
	set -- $$missing; if [ $$# -gt 0 ]; then \
	    echo "layertop: missing packages: $$*" >&2; \
	    echo "  apt-get install $$*" >&2; \
	    echo "or: make deps" >&2; exit 2; fi
	@mkdir -p $(dir $(DEPS_STAMP)) && touch $(DEPS_STAMP)
else
deps-check: ;
endif

.PHONY: deps
deps:
	@mk/deps.sh $(APT_PACKAGES) $(if $(DEPS_FOR_TEST),$(APT_TEST_PACKAGES))
	$(if $(DEPS_FOR_TEST),-@mk/deps.sh $(APT_TEST_SHELLS))
