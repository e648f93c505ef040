#!/bin/sh
# Build everything, run every test, count. The last line is `N passed, N failed, N skipped`.
#
#   tests/run.sh               all
#   tests/run.sh NAME...       only the unit programs test_NAME, without sanitizers
#   tests/run.sh --threads     only what runs under ThreadSanitizer
#
# Every test program speaks TAP. A program that ends before its plan, or with a code that its lines
# do not explain, is a failure. Under CI=true a skip that is not in tests/ALLOWED_SKIPS fails.
# All of them run side by side, as many as there are processors, but for those that hold the program
# against a clock or a meter: JOBS=1 runs everything in turn.
set -u
cd "$(dirname "$0")/.." || exit 2
export CMOCKA_MESSAGE_OUTPUT=TAP LC_ALL=C.UTF-8 TZ=UTC
unset CUDA_VISIBLE_DEVICES LAYERTOP_DATA LINES COLUMNS NO_COLOR
# as workers are started: on a busy machine a thread that spins keeps the one it waits for waiting
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-3000}
passed=0 failed=0 skipped=0
log=build/test-log.txt outs=build/test-out
MAKE=${MAKE:-make}
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
alone="budget budget_load budget_memory collector collector_burst gpu_burst soak truth"

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
        echo "$skips" >"$3.skips"
        while read -r name; do
            grep -qxF "$name" tests/ALLOWED_SKIPS || {
                echo "FAIL $1: skip of $name is not in tests/ALLOWED_SKIPS"
                notok=$((notok + 1))
                nskip=$((nskip - 1))
            }
        done <"$3.skips"
    fi
    grep -E '^not ok' "$3" | grep -viE '# SKIP' | sed "s|^|FAIL $1: |"
    [ "$notok" -eq 0 ] || grep -E '^#|ERROR: |SUMMARY: |runtime error' "$3" | head -40
    printf '%-34s %4d passed %3d failed %3d skipped %6s s\n' "$1" "$ok" "$notok" "$nskip" "$4"
    echo "$ok $notok $nskip" >"$3.sum"
}

# one NAME COMMAND...: run a program by itself, in a home of its own, and count
one() {
    name=$1 out=$outs/$1.txt
    shift
    mkdir -p "$(dirname "$out")" "build/test-home/$name"
    export XDG_CONFIG_HOME="$PWD/build/test-home/$name/config"
    export XDG_STATE_HOME="$PWD/build/test-home/$name/state"
    begin=$(date +%s.%N)
    timeout -k 5 "${LIMIT:-600}" "$@" >"$out" 2>&1 </dev/null
    code=$?
    took=$(echo "$begin $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }')
    echo "== code $code" >"$out.code"
    text=$(count "$name" "$code" "$out" "$took")
    printf '%s\n' "$text"
}

# sum NAME: add what one() counted
sum() {
    read -r ok notok nskip <"$outs/$1.txt.sum" || {
        echo "FAIL $1: it could not be counted"
        ok=0 notok=1 nskip=0
    }
    passed=$((passed + ok)) failed=$((failed + notok)) skipped=$((skipped + nskip))
    { echo "== $1"; cat "$outs/$1.txt" "$outs/$1.txt.code"; } >>"$log" 2>/dev/null
}

# run NAME COMMAND...
run() {
    one "$@"
    sum "$1"
}

# program NAME: the unit program NAME, NAME/san or NAME/tsan
program() {
    case $1 in
    */tsan)
        # workers are processes of their own, and what they print becomes lines of a log: reports go
        # into files
        rm -rf "build/tsan/$1" && mkdir -p "build/tsan/$1"
        export TSAN_OPTIONS="log_path=$PWD/build/tsan/$1/report second_deadlock_stack=1"
        # gcc 12's runtime does not know the widest address randomisation
        still=
        setarch "$(uname -m)" -R true 2>/dev/null && still="setarch $(uname -m) -R"
        # shellcheck disable=SC2086
        one "$1" $still "build/san-thread/tests/${1%/tsan}"
        ;;
    */san) one "$1" "build/san-address-undefined/tests/${1%/san}" ;;
    *) one "$1" "build/tests/$1" ;;
    esac
}

# crowd NAME...: unit programs side by side, then one by one those that must be alone
crowd() {
    together="" apart=""
    for name in "$@"; do
        bare=${name%%/*}
        case " $alone " in
        *" ${bare#test_} "*) apart="$apart $name" ;;
        *) together="$together $name" ;;
        esac
    done
    # shellcheck disable=SC2086
    printf '%s\n' $together | xargs -P "$jobs" -I '{}' tests/run.sh --one '{}'
    for name in $apart; do
        program "$name"
    done
    for name in "$@"; do
        sum "$name"
    done
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
# thread there is nothing that it would see wrongly. Any report is a failure.
threads() {
    programs="stream client worker session collector collector_gpu nvml cupti cupti_decode devices restart pipeline"
    # shellcheck disable=SC2046,SC2086
    must "$MAKE" -j"$jobs" SAN=thread build/san-thread/layertop $(printf 'build/san-thread/tests/test_%s ' $programs)
    export LAYERTOP_BIN="$PWD/build/san-thread/layertop" OMP_NUM_THREADS=1
    rm -rf build/tsan
    # shellcheck disable=SC2046,SC2086
    crowd $(printf 'test_%s/tsan ' $programs)
    for program in $programs; do
        reports="build/tsan/test_$program/tsan"
        if [ -n "$(ls "$reports")" ]; then
            grep -h '^SUMMARY' "$reports"/* | sort | uniq -c | sed "s|^|FAIL test_$program/tsan: |"
            cat "$reports"/* >>"$log"
            failed=$((failed + 1))
        fi
    done
    unset LAYERTOP_BIN OMP_NUM_THREADS
}

if [ "${1:-}" = --one ]; then
    program "$2"
    exit 0
fi
mkdir -p build
rm -rf "$outs" build/test-home
: >"$log"
if [ "${1:-}" = --threads ]; then
    threads
elif [ $# -gt 0 ]; then
    must "$MAKE" -j"$jobs" all
    # shellcheck disable=SC2046
    must "$MAKE" -j"$jobs" $(printf 'build/tests/test_%s ' "$@")
    # shellcheck disable=SC2046
    crowd $(printf 'test_%s ' "$@")
else
    start=$(date +%s)
    must "$MAKE" -j"$jobs" all tests
    must "$MAKE" -j"$jobs" SAN=address,undefined CUDA=0 all tests
    run lint "$MAKE" -s lint
    for script in tests/cli/*.sh; do
        [ -e "$script" ] && run "$(basename "$script" .sh)" sh "$script"
    done
    names=$(for source in tests/unit/test_*.c; do basename "$source" .c; done)
    # shellcheck disable=SC2086
    crowd $names
    # once more with sanitizers; ncurses and OpenMP keep memory to the end by design
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
    export LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
    export LAYERTOP_BIN="$PWD/build/san-address-undefined/layertop"
    # shellcheck disable=SC2046,SC2086
    crowd $(printf '%s/san ' $names)
    unset LSAN_OPTIONS
    threads
    echo "took $(($(date +%s) - start)) s; full log in $log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
