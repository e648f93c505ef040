#!/bin/sh
# tests/gpu/run.sh BUNDLE OUT [TEST...]: run the bundle's GPU tests on this machine.
# Needs nothing but the bundle, the driver, CUDA's libraries and cuDNN.
set -u
bundle=$(cd "${1:?usage: run.sh BUNDLE OUT [TEST...]}" && pwd) || exit 2
mkdir -p "${2:?usage: run.sh BUNDLE OUT [TEST...]}" || exit 2
out=$(cd "$2" && pwd)
shift 2
export LAYERTOP_DIGITS="$bundle/share/layertop/demo/digits" LC_ALL=C.UTF-8 TERM=xterm-256color
export XDG_CONFIG_HOME="$out/.config" XDG_STATE_HOME="$out/.state" XDG_CACHE_HOME="$out/.cache"
[ -d "$bundle/share/terminfo" ] && export TERMINFO="$bundle/share/terminfo"
# test_gpu keeps to its own time; this is for the case that it cannot
timeout -k 5 560 "$bundle/libexec/test_gpu" --layertop "$bundle/bin/layertop" --data "$bundle/libexec/data" --out "$out" \
    --content "$(cat "$bundle/CONTENT")" --commit "$(cat "$bundle/COMMIT")" "$@"
code=$?
rm -rf "$out/.config" "$out/.state" "$out/.cache"
exit $code
