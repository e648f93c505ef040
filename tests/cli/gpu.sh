#!/bin/sh
# What can be said of the GPU tests on a machine without a GPU: they build, and the list of what
# was never seen on one is true.
set -u
MAKE=${MAKE:-make}
check() {
    number=$((${number:-0} + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
    fi
}
out=$($MAKE -s gpu-programs 2>&1) && [ -x build/tests/gpu/test_gpu ] && out=
check gpu_programs_build "$out"
if $MAKE -s print-archs >/dev/null 2>&1; then
    # newer architectures have three digits: PTX is of the newest, not of the last in a dictionary
    check architectures_are_sorted_as_numbers "$($MAKE -s print-archs ARCH=100,90,75,90 2>&1 | grep -vx '75 90 100')"
    check all_is_what_the_compiler_knows "$($MAKE -s print-archs ARCH=all 2>&1 | grep -qE '^[0-9]+ .*90' || echo 'not all')"
fi
content=$(find engine/cuda profiler -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16)
check unverified_is_current "$(build/tests/gpu/test_gpu --unverified tests/results "$content" |
    diff - tests/results/UNVERIFIED.md || echo 'run: make unverified')"
check every_gpu_test_has_a_name "$(build/tests/gpu/test_gpu --list | sort | uniq -d)"
echo "1..$number"
