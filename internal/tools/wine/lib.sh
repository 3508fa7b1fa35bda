# Sourced by the scripts beside it, at the top of the source tree: makes a Wine
# prefix of its own in $work, and says how Windows programs are built and run.
#
# Wine before 9 lacks two things that Go programs for Windows need:
# - bcryptprimitives.dll: a shim of one function is built and put in;
# - FileDispositionInformationEx: os.RemoveAll and os.Root.Remove then fail with
#   "Invalid function", since Go falls back to the older call on three other
#   answers only. An overlay of one line adds Wine's answer to those.

missing=
for pair in wine:wine x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64; do
	command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] || { echo "missing; as root: apt-get install --no-install-recommends$missing" >&2; exit 2; }
	apt-get update -q >/dev/null
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
fi

# Its wpcap.dll lacks a function without which gopacket panics when it is loaded,
# so there is none: live capture needs Wine 10 (docs/capture.md).
work=$(mktemp -d)
export WINEPREFIX="$work/prefix" WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml,wpcap='
unset DISPLAY WAYLAND_DISPLAY

clean() {
	WINEPREFIX="$work/prefix" wineserver -k 2>/dev/null || /usr/lib/wine/wineserver -k 2>/dev/null || true
	rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }
}
trap clean EXIT
trap 'exit 130' INT TERM

echo "$(wine --version 2>/dev/null), $(go version)"
wine wineboot -i >/dev/null 2>&1
system32="$WINEPREFIX/drive_c/windows/system32"
if [ ! -e "$system32/bcryptprimitives.dll" ]; then
	x86_64-w64-mingw32-gcc -shared -O2 -o "$system32/bcryptprimitives.dll" internal/tools/wine/bcryptprimitives.c -ladvapi32
fi

deleteat="$(go env GOROOT)/src/internal/syscall/windows/at_windows.go"
sed 's/case STATUS_INVALID_INFO_CLASS,/case NTStatus(0xC0000002), STATUS_INVALID_INFO_CLASS,/' "$deleteat" >"$work/at_windows.go"
if cmp -s "$deleteat" "$work/at_windows.go"; then
	echo "the overlay of $deleteat no longer fits" >&2
	exit 1
fi
printf '{"Replace":{"%s":"%s"}}\n' "$deleteat" "$work/at_windows.go" >"$work/overlay.json"

# windows runs the go command for Windows: windows build …
windows() {
	command=$1
	shift
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go "$command" -overlay "$work/overlay.json" "$@"
}
