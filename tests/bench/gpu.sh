#!/bin/sh
# gpu.sh BUNDLE OUT [ARGUMENT...]: run the GPU bench of a bundle on this machine, appending to
# OUT/bench-gpu.jsonl. Needs the bundle and a python3; the peers are what that Python has.
set -u
bundle=$(cd "${1:?usage: gpu.sh BUNDLE OUT [ARGUMENT...]}" && pwd) || exit 2
mkdir -p "${2:?usage: gpu.sh BUNDLE OUT [ARGUMENT...]}" || exit 2
out=$(cd "$2" && pwd)
shift 2
exec "${PYTHON:-python3}" "$bundle/libexec/bench/gpu.py" --layertop "$bundle/bin/layertop" \
    --out "$out/bench-gpu.jsonl" --work "${TMPDIR:-/tmp}/layertop-bench-gpu" \
    --commit "$(cat "$bundle/COMMIT")" "$@"
