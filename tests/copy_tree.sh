#!/bin/sh
# Copy the working tree into a folder: usage: tests/copy_tree.sh FOLDER
#
# What git tracks or would add. A file that changed gets the present time, not its own: it may have
# been written here while make was at work there. Files that went away since the last copy go away
# there too; the folder's own build/ stays.
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
while read -r file; do
    cmp -s "$file" "$1/$file" && continue
    mkdir -p "$1/$(dirname "$file")"
    cp --preserve=mode "$file" "$1/$file"
done <"$list"
