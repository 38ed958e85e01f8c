#!/bin/sh
# Makes this host a node of a Sampan cluster. The attach line runs it: attach.sh <server> <folder>, where the folder has
# the authority of the server (ca.pem), which the line has compared with its hash, and the list of installed packages.
set -eu

server=$1
folder=$2
agent=/opt/sampan/bin/sampan

fail() {
    echo "sampan: $*" >&2
    exit 1
}

# Fetches https://$server/$1 to $2, from nobody but the server of the line.
get() {
    if command -v curl >/dev/null; then
        curl -fsS --cacert "$folder/ca.pem" -o "$2" "https://$server/$1"
    else
        wget -q --ca-certificate="$folder/ca.pem" -O "$2" "https://$server/$1"
    fi
}

[ "$(id -u)" = 0 ] || fail "run the line as root (sudo -i)"
[ "$(uname -s)-$(uname -m)" = "Linux-@ARCH@" ] || fail "this is $(uname -sm); the installation has agents for Linux @ARCH@"
[ -r /etc/os-release ] || fail "this is neither Debian nor Ubuntu"
case " $(. /etc/os-release && echo "$ID ${ID_LIKE-}") " in
*" debian "* | *" ubuntu "*) ;;
*) fail "this is $(. /etc/os-release && echo "$PRETTY_NAME"); hosts must run Debian or Ubuntu" ;;
esac
[ ! -e /var/lib/sampan/host.json ] || fail "this host is a node already, or was not left in good order: $agent host leave"
[ ! -e /opt/sampan ] || fail "there is a folder /opt/sampan; move it away"

# What the agent and Kubernetes call, as command:package. Only what is missing is installed, from the host's own sources,
# and removed again when the host leaves.
missing=${SAMPAN_PACKAGES-}
[ "$missing" != iptables ] || ! command -v iptables >/dev/null || missing=
for need in ip:iproute2 nft:nftables conntrack:conntrack mount:mount wipefs:util-linux mkfs.ext4:e2fsprogs modprobe:kmod; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
if [ -n "$missing" ]; then
    echo "sampan: installs from this host's package sources:" $missing
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update >/dev/null || fail "apt-get update failed; install these by hand: $missing"
    # shellcheck disable=SC2086
    apt-get -qy --no-install-recommends install $missing >/dev/null || fail "apt-get could not install: $missing"
fi
for module in overlay br_netfilter nf_conntrack; do
    modprobe "$module" 2>/dev/null || true
done

mkdir -p "${agent%/*}"
trap '[ -e /var/lib/sampan/host.json ] || rm -rf /opt/sampan' EXIT
get agent "$agent" || fail "the agent could not be fetched from $server"
echo "@SHA256@  $agent" | sha256sum -c --status || fail "the agent from $server is not the one that was announced"
chmod 755 "$agent"
"$agent" host join --server "$server" --ca "$folder/ca.pem" --packages-before "$folder/packages"
