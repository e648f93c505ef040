#!/bin/sh
# Copy the working tree into a folder: usage: tests/copy_tree.sh FOLDER
#
# What git tracks or would add, with its times, so that make there builds only what changed. Files
# that went away since the last copy go away there too; the folder's own build/ stays.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1/build"
list=$1/build/tree
git ls-files --cached --others --exclude-standard | LC_ALL=C sort -u | while read -r file; do
    [ ! -f "$file" ] || printf '%s\n' "$file"
done >"$list.new"
if [ -e "$list" ]; then
    LC_ALL=C comm -23 "$list" "$list.new" | while read -r file; do rm -f "$1/$file"; done
fi
mv "$list.new" "$list"
tar -cf - -T "$list" | tar -xf - -C "$1"
