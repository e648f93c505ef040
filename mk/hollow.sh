#!/bin/sh
# mk/hollow.sh SONAME OUT USER...: a library SONAME whose every function that the USERs (shared
# libraries) need answers 0, which is a failure to each of them; but for clGetPlatformIDs, which says
# that there is no platform, as OpenCL does where no driver is installed.
#
# For the bundle: HDF5 links libcurl and libcrypto for its S3 driver, libzip links libcrypto for
# encrypted archives. layertop uses neither, and both together with what they need are 20 MiB. oneDNN links
# OpenCL for Intel's GPUs, and layertop asks it for the CPU only.
set -eu
soname=$1 out=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# the versions under which SONAME's functions are asked for, then the functions of those versions
for user; do
    readelf -VW "$user" | awk -v so="$soname" '/File: /{on = $0 ~ so} on && /Name: /{print $3 }'
done | sort -u >"$work/versions"
: >"$work/code.c"
: >"$work/map"
while read -r version; do
    echo "$version { global:" >>"$work/map"
    for user; do nm -D --undefined-only "$user"; done | sed -n "s/^ *U \([A-Za-z_0-9]*\)@$version\$/\1/p" |
        sort -u | while read -r name; do
        case $name in clGetPlatformIDs) answer=-1001 ;; *) answer=0 ;; esac
        echo "long $name(void) { return $answer; }" >>"$work/code.c"
        echo "$name;" >>"$work/map"
    done
    echo "};" >>"$work/map"
done <"$work/versions"
${CC:-gcc} -w -fno-builtin -O1 -shared -fPIC -Wl,-soname,"$soname" -Wl,--version-script="$work/map" \
    -o "$out" "$work/code.c"
