## lint            the import rule, headers that compile alone, format, habits
.PHONY: lint
lint: deps-check
	+$(Q)MAKE="$(MAKE)" CC="$(CC)" CFLAGS="-std=gnu17 -I. $(filter-out -Werror,$(WARN)) -Werror $(DEPS_CFLAGS)" tests/lint.sh

## format          rewrite the sources with clang-format
.PHONY: format
format:
	$(Q)git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i
