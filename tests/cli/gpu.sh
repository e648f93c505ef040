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
content=$(find engine/cuda profiler -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16)
check unverified_is_current "$(build/tests/gpu/test_gpu --unverified tests/results "$content" |
    diff - tests/results/UNVERIFIED.md || echo 'run: make unverified')"
check every_gpu_test_has_a_name "$(build/tests/gpu/test_gpu --list | sort | uniq -d)"
echo "1..$number"
