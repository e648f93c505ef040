#!/bin/sh
# mk/collect.sh FOLDER SYSTEM HOLLOW FILE...: copy every library that the FILEs need, and those that
# the copies need, into FOLDER. SYSTEM is a pattern of names that are left to the other machine;
# HOLLOW a list of names that are replaced (mk/hollow.sh) and whose own needs are not followed.
set -eu
folder=$1 system=$2 hollow=$3
shift 3
needed() {
    readelf -d "$@" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u
}
path_of() { # of a soname, as the linker of this machine finds it
    ldconfig -p 2>/dev/null | awk -v so="$1" '$1 == so && /x86-64|aarch64/ { print $NF; exit }'
}
todo=$(needed "$@")
while [ -n "$todo" ]; do
    next=
    for name in $todo; do
        [ -e "$folder/$name" ] && continue
        echo "$name" | grep -qxE "$system" && continue
        case " $hollow " in *" $name "*) continue ;; esac
        path=$(path_of "$name")
        [ -n "$path" ] || { echo "bundle: $name is not in the linker's cache" >&2; exit 1; }
        cp -L "$path" "$folder/$name"
        next="$next $(needed "$folder/$name")"
    done
    todo=$next
done
for name in $hollow; do
    users=$(for f in "$folder"/*.so*; do needed "$f" | grep -qx "$name" && echo "$f"; done; true)
    # shellcheck disable=SC2086
    [ -z "$users" ] || "$(dirname "$0")/hollow.sh" "$name" "$folder/$name" $users
done
