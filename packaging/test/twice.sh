#!/usr/bin/env bash
# Builds from two checkouts that have nothing in common, and compares what comes out:
# other folders, build caches (all is compiled twice), time zones, languages, umasks.
# The commit is what is built; what is not committed is not. $1: platforms, "" for all.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Not in RAM: two caches take some gigabytes.
work=$(mktemp -d /var/tmp/capagent-twice.XXXXXX)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
# Both before either is built: a commit may come meanwhile.
git clone --quiet "$PWD" "$work/a"
git clone --quiet "$work/a" "$work/another/place/with/a/longer/name"
build() { # folder, umask, time zone, language, platforms
  (cd "$work/$1" && umask "$2" && TZ=$3 LC_ALL=$4 GOCACHE=$work/cache-${1//\//-} make -s dist PLATFORMS="$5")
}
build a 022 UTC C "${1-}"
build another/place/with/a/longer/name 077 Asia/Tokyo C.UTF-8 "${1-}"
cat "$work/a/dist/SHA256SUMS"
if ! diff "$work/a/dist/SHA256SUMS" "$work/another/place/with/a/longer/name/dist/SHA256SUMS"; then
  echo "not ok: the two builds differ"
  exit 1
fi
(cd "$work/a/dist" && sha256sum --quiet -c SHA256SUMS)
echo "ok: $(wc -l <"$work/a/dist/SHA256SUMS") files are the same from both checkouts"
