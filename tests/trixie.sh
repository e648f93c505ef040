#!/bin/sh
# Build and test in a Debian 13 folder: usage: tests/trixie.sh FOLDER "PACKAGES" [NAME...]
#
# The first run makes the folder with debootstrap and installs the packages; later runs only bring
# the sources up to date and build what changed. NAME... are unit programs, as for tests/run.sh.
# The mirror and the proxy are this machine's (apt's own settings), TRIXIE_MIRROR overrides.
# Needs root, for chroot. The last line is that of tests/run.sh.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/$1
packages=$2
shift 2

die() {
    echo "test-trixie: $*" >&2
    exit 2
}

# the first Debian mirror that this machine uses, in either spelling of sources.list
host_mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *([a-z]+:[^ ]*\/debian)\/?( .*)?$/\3/p' | head -1
}

# run a shell line inside, with /proc, /sys and terminals that vanish together with it
inside() {
    unshare --mount sh -c '
        mount -t proc proc "$0/proc" && mount -t sysfs sys "$0/sys" && mount --rbind /dev "$0/dev" &&
        exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
            LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive CI="$1" sh -c "$2"' \
        "$root" "${CI:-}" "$1" </dev/null
}

[ "$(id -u)" = 0 ] || die "chroot needs root: sudo make test-trixie"

if [ ! -e "$root/.made" ]; then
    command -v debootstrap >/dev/null || mk/deps.sh debootstrap
    mirror=${TRIXIE_MIRROR:-$(host_mirror)}
    mirror=${mirror:-http://deb.debian.org/debian}
    echo "test-trixie: making $root from $mirror"
    rm -rf "$root"
    mkdir -p "$root"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    export http_proxy="${http_proxy:-${proxy:-}}"
    [ -n "$http_proxy" ] || unset http_proxy
    debootstrap --variant=minbase trixie "$root" "$mirror" >"$root.log" 2>&1 ||
        { tail -20 "$root.log" >&2; die "debootstrap failed, see $root.log"; }
    # what this machine's apt was told about proxies and clocks holds inside too
    apt-config dump Acquire | grep -E '^Acquire::([a-z]+::)*(Proxy|Check-)' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    [ -z "${http_proxy:-}" ] || grep -q Proxy "$root/etc/apt/apt.conf.d/90host" ||
        echo "Acquire::http::Proxy \"$http_proxy\";" >>"$root/etc/apt/apt.conf.d/90host"
    touch "$root/.made"
fi

# a stamp of the packages: a new one in mk/deps.mk is installed at the next run
if [ "$(cat "$root/.packages" 2>/dev/null)" != "$packages" ]; then
    echo "test-trixie: installing $packages"
    inside "apt-get update && apt-get install -y --no-install-recommends $packages" >"$root.log" 2>&1 ||
        { tail -20 "$root.log" >&2; die "apt-get failed, see $root.log"; }
    echo "$packages" >"$root/.packages"
fi

tests/copy_tree.sh "$root/layertop"
inside "dpkg-query -W -f '\${Package} \${Version}\n' gcc libdnnl-dev libhdf5-dev | paste -sd ' '
    cd /layertop && nice make -s deps DEPS_FOR_TEST=1 && CUDA=0 nice tests/run.sh $*"
