#!/usr/bin/env bash
# The deb on Debian, as a user would meet it: installed, started, steered, upgraded and
# purged under the systemd of that Debian, booted in a container of its own. Its network
# is a cable (veth) to a network namespace with a sandbox behind TLS.
#
#   packaging/test/nspawn.sh [bookworm] [trixie]
#
# As root. Debian's trees are kept in $CACHE (250 MB each). Nothing else stays.
# Each check is a line "ok" or "not ok"; the exit status is 0 when all are ok.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
CACHE=${CACHE:-/var/tmp/capagent-nspawn}
here=packaging/test
releases=("$@")
((${#releases[@]})) || releases=(bookworm trixie)

need=(debootstrap:debootstrap systemd-nspawn:systemd-container socat:socat openssl:openssl jq:jq ip:iproute2 ping:iputils-ping)
missing=()
for n in "${need[@]}"; do command -v "${n%%:*}" >/dev/null || missing+=("${n##*:}"); done
if ((${#missing[@]})); then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || exit 1
fi

work=$(mktemp -d /var/tmp/capagent-box.XXXXXX)
ns=capagent-$$
passed=0 failed=0 children=() leader='' nspawn=''
# shellcheck source=packaging/test/box.sh
. $here/box.sh
# shellcheck source=packaging/test/checks.sh
. $here/checks.sh
trap cleanup EXIT

build() { # version
  go run ./internal/tools/dist -o "$work/dist-$1" -version "$1" -platforms "linux/$(dpkg --print-architecture)" >/dev/null || exit 1
  mv "$work/dist-$1"/capagent_*.deb "$work/capagent-$1.deb"
}
old=0.9.0 new=0.9.1
echo "# building $old and $new"
build $old
build $new
dpkg-deb --fsys-tarfile "$work/capagent-$old.deb" | tar x -C "$work" ./usr/bin/capagent
program=$work/usr/bin/capagent

start_server
for release in "${releases[@]}"; do
  echo "# $release"
  boot "$release" || { not_ok "$release boots"; continue; }
  plug
  all_checks
  halt
done
echo "$passed passed, $failed failed"
((failed == 0))
