#!/bin/sh
# What a compiler does not check. Prints one line a finding, fails if there is any.
# In TAP so that tests/run.sh counts it: one test a rule.
set -u
cd "$(dirname "$0")/.." || exit 2
findings=0
number=0
CC=${CC:-gcc}

# report NAME TEXT: a rule holds if TEXT is empty
report() {
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - lint_$1"
    else
        echo "not ok $number - lint_$1"
        printf '%s\n' "$2" | sed 's/^/# /'
        findings=$((findings + 1))
    fi
}

# allowed ROOM ROOMS...: files of ROOM include only ROOMS (and system headers)
imports() {
    room=$1
    shift
    pattern=$(printf '%s|' "$@")
    grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' -r "$room" --include='*.c' --include='*.h' \
        --include='*.cu' | grep -vE "\"(${pattern%|})/"
}

if [ ! -d engine ]; then exit 2; fi
report import_engine "$(imports engine engine)"
report import_profiler "$(imports profiler profiler engine)"
report import_commands "$(imports commands commands profiler engine)"
report import_tui "$(imports tui tui commands | grep -vE '"(profiler/(store|series)|engine/(error|clock))\.h"')"

report no_exit_or_print_below_main "$(grep -nE '(^|[^a-z_.>])(exit|printf|puts|perror|abort)\(' -r engine profiler commands tui \
    --include='*.c' --include='*.cu' | grep -vE '_exit\(|/error\.c:|// lint: allowed|/\* lint: allowed' |
    grep -vE ':[[:space:]]*(\*|/\*|//)')"

report no_way_back_to_a_workplace "$(git ls-files 2>/dev/null | grep -v '^tests/lint.sh$' | xargs grep -nIE '/work/(shared|main|\.library)|/tmp/kvenv' 2>/dev/null)"

# without CUDA's headers, those that stand on them cannot be read
# shellcheck disable=SC2086
echo '#include <cuda.h>' | $CC ${CFLAGS:-} -E -x c - >/dev/null 2>&1 && cuda='^$' ||
    cuda='^engine/cuda/|^profiler/cupti_'
alone=$(for header in $(find engine profiler commands tui -name '*.h' | grep -vE "$cuda"); do
    # shellcheck disable=SC2086
    printf '#include "%s"\n' "$header" | $CC ${CFLAGS:--std=gnu17 -I.} -Wno-unused -fsyntax-only -x c - 2>/dev/null || echo "$header"
done)
report headers_compile_alone "$alone"

report files_below_1000_lines "$(find main.c engine profiler commands tui \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) -exec awk 'END { if (NR > 1000) print FILENAME ": " NR " lines" }' {} \;)"

# what is made from the tables and committed; the build of the generator says its own errors
drift=$(env -u CFLAGS "${MAKE:-make}" docs DOCS_INTO=build/docs-made 2>&1 >/dev/null)
for page in docs/commands.md share/man/man1/layertop.1; do
    cmp -s "$page" "build/docs-made/$page" || drift="$drift
$page is not what the tables say: make docs"
done
report reference_is_what_the_tables_say "$drift"

if command -v clang-format >/dev/null; then
    report clang_format "$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run 2>&1 | grep -E 'warning|error' | head -20)"
else
    echo "ok $((number += 1)) # SKIP lint_clang_format"
fi
echo "1..$number"
exit "$((findings > 0))"
