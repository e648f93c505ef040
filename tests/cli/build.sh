#!/bin/sh
# What `make` says to somebody who has not installed everything, and what `make install` installs.
set -u
MAKE=${MAKE:-make}
number=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check NAME TEXT: passed if TEXT is empty
check() {
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
    fi
}

out=$($MAKE -s deps-check DEPS_STAMP="$work/ok" DEPS_TABLE='libfoo-dev:no_such_header.h libbar-dev:stdio.h libbaz-dev:nor/this.h' 2>&1)
code=$?
check missing_packages_end_with_2 "$([ $code -eq 2 ] || echo "code $code: $out")"
check missing_packages_are_one_apt_line "$(printf '%s\n' "$out" | grep -qx '  apt-get install libfoo-dev libbaz-dev' || echo "$out")"
check nothing_is_remembered_then "$([ ! -e "$work/ok" ] || echo 'the stamp was written')"
out=$($MAKE -s deps-check DEPS_STAMP="$work/ok" 2>&1) && [ -e "$work/ok" ] && out=
check all_packages_are_here "$out"

out=$($MAKE -s install DESTDIR="$work/root" PREFIX=/usr 2>&1) && out=
check install "$out"
out=$(cd / && "$work/root/usr/bin/layertop" demo:digits -c 'devices cpu; run 5' 2>&1) && out=
check installed_program_finds_its_data "$out"
share="$work/root/usr/share"
check installed_program_names_its_documents "$("$work/root/usr/bin/layertop" -c help |
    grep -qF "in $share/doc/layertop/docs tutorial.md" || echo "help does not")"
# links of the README lead somewhere
check documents_are_installed "$(for file in $(sed -nE 's/.*\]\(([a-z/.]+)\).*/\1/p' README.md) LICENSE; do
    [ -s "$share/doc/layertop/$file" ] || echo "$file"
done)"
check manual_and_completions_are_installed "$(for file in man/man1/layertop.1 bash-completion/completions/layertop zsh/site-functions/_layertop \
    fish/vendor_completions.d/layertop.fish; do
    cmp "share/$file" "$share/$file" 2>&1
done)"
mkdir -p "$share/man/man1" && touch "$share/zsh/site-functions/_other" "$share/man/man1/other.1"
$MAKE -s uninstall DESTDIR="$work/root" PREFIX=/usr >/dev/null 2>&1
check uninstall_takes_what_install_put_there "$(find "$work/root" -type f | grep -v other)"
check uninstall_takes_nothing_else "$([ "$(find "$work/root" -type f | wc -l)" -eq 2 ] || find "$work/root" -type f)"

# the manual page: whichever tools are here, none complains; and it has every part
page=share/man/man1/layertop.1
check manual_is_well_formed "$({
    command -v groff >/dev/null && groff -ww -man -Tutf8 -wall "$page" 2>&1 >/dev/null
    command -v mandoc >/dev/null && mandoc -T lint -W warning "$page"
    grep -nP '[^\x00-\x7f]|[ \t]$' "$page"
})"
check manual_has_every_part "$(for part in NAME SYNOPSIS DESCRIPTION OPTIONS COMMANDS SETTINGS KEYS '"EXIT STATUS"' \
    ENVIRONMENT FILES EXAMPLES '"SEE ALSO"'; do
    grep -qx ".SH $part" "$page" || echo "no $part"
done)"
check every_environment_variable_of_ours_is_in_the_manual "$(grep -rhoE 'getenv\("(LAYERTOP|XDG)_[A-Z_]+"' \
    --include='*.c' main.c engine profiler commands tui | grep -v LAYERTOP_TEST | sed 's/.*("//;s/"//' |
    sort -u | while read -r name; do grep -q "^.B $name" "$page" || echo "$name"; done)"
echo "1..$number"
