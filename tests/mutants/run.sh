#!/bin/sh
# Break one line at a time and see that its test turns red: usage: run.sh FOLDER [PATTERN]
#
# A mutant is tests/mutants/NN-name.patch: a first line `# test NAME...: what must notice`, then a
# unified diff. It is `ok` if the tree builds with it and tests/run.sh NAME... fails, and was green
# without it. PATTERN is a shell pattern over the names. The last line is `N killed, N not ok`.
set -u
cd "$(dirname "$0")/../.." || exit 2
folder=$1
pattern=${2:-*}
tests/copy_tree.sh "$folder" || exit 2
patches=$PWD/tests/mutants
cd "$folder" || exit 2
export CUDA=0 LIMIT="${LIMIT:-180}"
killed=0 bad=0 number=0

say() {
    number=$((number + 1))
    echo "$1 $number - $2"
}

tests_of() {
    sed -n '1s/^# test \([a-z_ ]*\):.*/\1/p' "$1"
}

# the tests that are asked must be green, or red proves nothing
names=$(for patch in "$patches"/$pattern.patch; do tests_of "$patch"; done | tr ' ' '\n' | sort -u | tr '\n' ' ')
green=
for name in $names; do
    if tests/run.sh "$name" >"build/baseline-$name.txt" 2>&1; then
        green="$green $name"
    else
        echo "# without any mutant, $name is red: $(grep -m1 FAIL "build/baseline-$name.txt")"
    fi
done

for patch in "$patches"/$pattern.patch; do
    mutant=$(basename "$patch" .patch)
    wanted=$(tests_of "$patch")
    asked=
    for name in $wanted; do
        case " $green " in *" $name "*) asked="$asked $name" ;; esac
    done
    log=build/mutant-$mutant.txt
    if [ -z "$asked" ]; then
        say "not ok" "$mutant: no green test to ask (${wanted:-none named})"
        bad=$((bad + 1))
        continue
    fi
    if ! patch -p1 -s -f --no-backup-if-mismatch <"$patch" >"$log" 2>&1; then
        say "not ok" "$mutant: the patch does not apply any more"
        patch -p1 -s -f -R --no-backup-if-mismatch <"$patch" >/dev/null 2>&1
        bad=$((bad + 1))
        # a half-applied patch must not spoil the others
        (cd "$OLDPWD" && rm -f "$folder/build/tree" && tests/copy_tree.sh "$folder")
        continue
    fi
    # shellcheck disable=SC2086
    if tests/run.sh $asked >"$log" 2>&1; then
        say "not ok" "$mutant: lives, $asked is green"
        bad=$((bad + 1))
    elif grep -q '^FAIL build' "$log"; then
        say "not ok" "$mutant: does not build"
        bad=$((bad + 1))
    else
        say ok "$mutant: $(sed -nE 's/^FAIL ([a-z_]*: )not ok [0-9]+ - /\1/p; s/^FAIL ([a-z_]*: ended)/\1/p' "$log" | head -1)"
        killed=$((killed + 1))
    fi
    patch -p1 -s -f -R --no-backup-if-mismatch <"$patch"
done
echo "1..$number"
echo "$killed killed, $bad not ok"
[ "$bad" -eq 0 ]
