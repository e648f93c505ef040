#!/bin/sh
# Fuzz each target for some seconds, one after the other, and write what came of it into
# tests/results/fuzz.json. Fails if there is a finding; its input then lies in
# build/fuzz/findings/TARGET, and `build/fuzz/fuzz_TARGET FILE` shows it again. SECONDS are of the
# clock; those in the results are of the processor, so that a busy machine counts for nothing. An
# input that takes 10 s of the clock (FUZZ_TIMEOUT: more on a machine that starves us) is a finding.
#
#   tests/fuzz/run.sh SECONDS TARGET...
#
# What a target learns stays in build/fuzz/corpus/TARGET, so runs go on where the last one ended.
# Inputs that were findings once lie in tests/fuzz/found/TARGET and are run first.
set -u
cd "$(dirname "$0")/../.." || exit 2
seconds=$1
shift
here=build/fuzz
results=tests/results/fuzz.json
commit=$(git describe --always --dirty --tags 2>/dev/null || echo unknown)
# big allocations fail, as they do in the confined reader; what the HDF5 library and OpenMP keep to
# the end is no leak, and what we lose shows in the growth of memory
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=512:detect_leaks=0:abort_on_error=0:quarantine_size_mb=16
export UBSAN_OPTIONS=print_stacktrace=1
failed=0
rm -rf "$here/seeds"
"$here/helper" seeds "$here/seeds" || exit 2
for target in "$@"; do
    mkdir -p "$here/corpus/$target" "$here/findings/$target" "$here/seeds/$target"
    rm -f "$here/findings/$target"/*
    log=$here/$target.log
    found=
    [ -d "tests/fuzz/found/$target" ] && found=tests/fuzz/found/$target
    length=65536
    [ "$target" = hdf5 ] && length=600
    # shellcheck disable=SC2086
    (nice "$here/fuzz_$target" -max_total_time="$seconds" -timeout="${FUZZ_TIMEOUT:-10}" \
        -rss_limit_mb=2048 -malloc_limit_mb=100000 -max_len=$length -print_final_stats=1 \
        -artifact_prefix="$here/findings/$target/" "$here/corpus/$target" "$here/seeds/$target" \
        $found >"$log" 2>&1
    code=$?; times >"$here/$target.times"; exit $code)
    code=$?
    runs=$(sed -nE 's/^stat::number_of_executed_units: *([0-9]+)/\1/p' "$log")
    # the second line of `times`: what the target and its children took, as 1m2.34s 0m0.56s
    took=$(awk 'NR == 2 { gsub("s", ""); split($1, user, "m"); split($2, kernel, "m")
        printf "%d", 60 * (user[1] + kernel[1]) + user[2] + kernel[2] }' "$here/$target.times")
    findings=$(find "$here/findings/$target" -type f ! -name 'slow-unit-*' | wc -l)
    [ "$code" -ne 0 ] && [ "$findings" -eq 0 ] && findings=1
    "$here/helper" add "$results" "$target" "${took:-0}" "${runs:-0}" "$findings" "$commit"
    printf '%-14s %6s s %10s runs %3d findings\n' "$target" "${took:-0}" "${runs:-0}" "$findings"
    if [ "$findings" -ne 0 ]; then
        failed=1
        grep -E 'ERROR: |SUMMARY: |runtime error|^ +#[0-9] ' "$log" | head -20
        ls "$here/findings/$target"
    fi
done
exit $failed
