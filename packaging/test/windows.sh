#!/usr/bin/env bash
# The installer on Windows, as a user would meet it, under Wine 10: silently installed,
# running as a service, uploading what is dropped into its folder, capturing, stopped,
# upgraded and removed. The sandbox runs beside it on loopback.
#
#   packaging/test/windows.sh
#
# As root. Wine's tree is kept in $CACHE (internal/tools/wine/lib.sh). Nothing else stays.
# Each check is a line "ok" or "not ok"; the exit status is 0 when all are ok.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
need=(wixl:wixl msibuild:msitools osslsigncode:osslsigncode openssl:openssl jq:jq ip:iproute2)
missing=()
for n in "${need[@]}"; do command -v "${n%%:*}" >/dev/null || missing+=("${n##*:}"); done
if ((${#missing[@]})); then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || exit 1
fi
# shellcheck source=internal/tools/wine/lib.sh
. internal/tools/wine/lib.sh
# shellcheck source=packaging/test/windows-checks.sh
. packaging/test/windows-checks.sh

passed=0 failed=0 sandbox=''
trap '[ -z "$sandbox" ] || kill "$sandbox"; clean' EXIT
ok() { passed=$((passed + 1)) && echo "ok     $*"; }
not_ok() { failed=$((failed + 1)) && echo "not ok $*"; }
check() { # what, command…
  local what=$1 out
  shift
  if out=$("$@" 2>&1); then ok "$what"; else
    not_ok "$what"
    sed 's/^/       | /' <<<"$out" | tail -20
  fi
}
is() { # what, got, want
  if [ "$2" = "$3" ]; then ok "$1: $2"; else not_ok "$1: $2, not $3"; fi
}
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

old=0.9.0 new=0.9.1
echo "# building $old and $new, signed by a throw-away certificate"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=throw-away -addext extendedKeyUsage=codeSigning \
  -keyout "$work/sign.key" -out "$work/sign.pem" 2>/dev/null
for version in $old $new; do
  CAPAGENT_SIGN_CERT=$work/sign.pem CAPAGENT_SIGN_KEY=$work/sign.key \
    go run ./internal/tools/dist -o "$work/dist" -version $version -platforms windows/amd64 >/dev/null || exit 1
  mv "$work/dist/capagent_${version}_windows_amd64.msi" "$work/$version.msi"
done
CGO_ENABLED=0 go build -o "$work/capagent" ./cmd/capagent || exit 1

boot
start_sandbox
all_checks
echo "$passed passed, $failed failed"
((failed == 0))
