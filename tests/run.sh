#!/bin/sh
# Build everything, run every test, count. The last line is `N passed, N failed, N skipped`.
#
#   tests/run.sh               all
#   tests/run.sh NAME...       only the unit programs test_NAME, without sanitizers
#   tests/run.sh --threads     only what runs under ThreadSanitizer
#
# Every test program speaks TAP. A program that ends before its plan, or with a code that its lines
# do not explain, is a failure. Under CI=true a skip that is not in tests/ALLOWED_SKIPS fails.
set -u
cd "$(dirname "$0")/.." || exit 2
export CMOCKA_MESSAGE_OUTPUT=TAP LC_ALL=C.UTF-8 TZ=UTC
unset CUDA_VISIBLE_DEVICES LAYERTOP_DATA LINES COLUMNS NO_COLOR
export XDG_CONFIG_HOME="$PWD/build/test-home/config" XDG_STATE_HOME="$PWD/build/test-home/state"
passed=0 failed=0 skipped=0
log=build/test-log.txt
mkdir -p build build/test-home
: >"$log"
MAKE=${MAKE:-make}
jobs=$(nproc 2>/dev/null || echo 2)

# count NAME CODE FILE: read one program's TAP
count() {
    ok=$(grep -cE '^ok [0-9]+' "$3")
    notok=$(grep -cE '^not ok [0-9]+' "$3")
    skips=$(sed -nE 's/^(not )?ok [0-9]+ (- )?.*# SKIP *//Ip' "$3")
    nskip=$(grep -ciE '^(not )?ok [0-9]+.*# SKIP' "$3")
    nskipbad=$(grep -ciE '^not ok [0-9]+.*# SKIP' "$3")
    plan=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$3" | awk '{ s += $1 } END { print s + 0 }')
    ok=$((ok - (nskip - nskipbad)))
    notok=$((notok - nskipbad))
    if [ "$plan" -eq 0 ] || [ $((ok + notok + nskip)) -ne "$plan" ]; then
        echo "FAIL $1: ended with code $2 after $((ok + notok + nskip)) of $plan tests"
        notok=$((notok + 1))
    elif [ "$2" -ne 0 ] && [ "$notok" -eq 0 ]; then
        echo "FAIL $1: all tests passed but it ended with code $2"
        notok=$((notok + 1))
    fi
    if [ "${CI:-}" = true ] && [ -n "$skips" ]; then
        echo "$skips" >build/skips.txt
        while read -r name; do
            grep -qxF "$name" tests/ALLOWED_SKIPS || {
                echo "FAIL $1: skip of $name is not in tests/ALLOWED_SKIPS"
                notok=$((notok + 1))
                nskip=$((nskip - 1))
            }
        done <build/skips.txt
    fi
    grep -E '^not ok' "$3" | grep -viE '# SKIP' | sed "s|^|FAIL $1: |"
    [ "$notok" -eq 0 ] || grep -E '^#|ERROR: |SUMMARY: |runtime error' "$3" | head -40
    passed=$((passed + ok)) failed=$((failed + notok)) skipped=$((skipped + nskip))
    printf '%-34s %4d passed %3d failed %3d skipped\n' "$1" "$ok" "$notok" "$nskip"
}

# run NAME COMMAND...
run() {
    name=$1
    shift
    out=build/test-out.txt
    timeout -k 5 "${LIMIT:-600}" "$@" >"$out" 2>&1 </dev/null
    code=$?
    { echo "== $name"; cat "$out"; echo "== code $code"; } >>"$log"
    count "$name" "$code" "$out"
}

# must COMMAND...: a build step; everything ends if it fails
must() {
    if ! "$@" >build/build-log.txt 2>&1; then
        cat build/build-log.txt
        echo "FAIL build: $*"
        echo "$passed passed, $((failed + 1)) failed, $skipped skipped"
        exit 1
    fi
}

# threads: once more under ThreadSanitizer what has threads. libgomp is not built for it: with one
# thread there is nothing that it would see wrongly. Workers are processes of their own, and what
# they print becomes lines of a log: reports go into files, and any file is a failure.
threads() {
    programs="stream client worker session collector collector_gpu nvml cupti cupti_decode devices restart pipeline"
    # gcc 12's runtime does not know the widest address randomisation
    still=
    setarch "$(uname -m)" -R true 2>/dev/null && still="setarch $(uname -m) -R"
    # shellcheck disable=SC2046,SC2086
    must "$MAKE" -j"$jobs" SAN=thread build/san-thread/layertop $(printf 'build/san-thread/tests/test_%s ' $programs)
    export LAYERTOP_BIN="$PWD/build/san-thread/layertop" OMP_NUM_THREADS=1
    for program in $programs; do
        rm -rf build/tsan && mkdir build/tsan
        export TSAN_OPTIONS="log_path=$PWD/build/tsan/report second_deadlock_stack=1"
        # shellcheck disable=SC2086
        run "test_$program/tsan" $still "build/san-thread/tests/test_$program"
        if [ -n "$(ls build/tsan)" ]; then
            grep -h '^SUMMARY' build/tsan/* | sort | uniq -c | sed "s|^|FAIL test_$program/tsan: |"
            cat build/tsan/* >>"$log"
            failed=$((failed + 1))
        fi
    done
    unset LAYERTOP_BIN OMP_NUM_THREADS TSAN_OPTIONS
}

if [ "${1:-}" = --threads ]; then
    threads
elif [ $# -gt 0 ]; then
    must "$MAKE" -j"$jobs" all
    for name in "$@"; do
        must "$MAKE" "build/tests/test_$name"
        run "$name" "build/tests/test_$name"
    done
else
    start=$(date +%s)
    must "$MAKE" -j"$jobs" all tests
    must "$MAKE" -j"$jobs" SAN=address,undefined CUDA=0 all tests
    run lint "$MAKE" -s lint
    for script in tests/cli/*.sh; do
        [ -e "$script" ] && run "$(basename "$script" .sh)" sh "$script"
    done
    for source in tests/unit/test_*.c; do
        name=$(basename "$source" .c)
        run "$name" "build/tests/$name"
    done
    # once more with sanitizers; ncurses and OpenMP keep memory to the end by design
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
    export LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
    export LAYERTOP_BIN="$PWD/build/san-address-undefined/layertop"
    for source in tests/unit/test_*.c; do
        name=$(basename "$source" .c)
        run "$name/san" "build/san-address-undefined/tests/$name"
    done
    unset LSAN_OPTIONS
    threads
    echo "took $(($(date +%s) - start)) s; full log in $log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
