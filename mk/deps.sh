#!/bin/sh
# Install the Debian packages named on the command line that are not there yet.
set -eu
missing=
for package in "$@"; do
    # a name may be virtual (libjpeg-dev): ask for anything that provides it
    if ! dpkg-query -W -f='${Status} ${Provides}\n' 2>/dev/null "$package" | grep -q '^install ok'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "layertop: please install the equivalents of:$missing" >&2
    exit 2
fi
run=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "layertop: as root: apt-get install$missing" >&2; exit 2; }
    run=sudo
fi
echo "installing:$missing"
# shellcheck disable=SC2086
$run apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 || {
    $run apt-get update >/dev/null
    $run env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null
}
