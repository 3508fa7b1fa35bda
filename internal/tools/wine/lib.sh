# shellcheck shell=sh
# Sourced by scripts that run Windows programs, at the top of the source tree, as root:
# boots a Wine 10 of its own, and says how programs are built for it and run in it.
#
# Debian 13's Wine lives in a tree of its own in $CACHE (1.4 GB, downloaded once), so
# that it runs on any Linux. Its processes have a namespace of their own: what is left
# of them ends with the script. $work and the source tree are where they are outside.

CACHE=${CACHE:-/var/tmp/capagent-wine}
tree=$CACHE/trixie
[ "$(id -u)" = 0 ] || { echo "as root, please: it needs a namespace and a tree" >&2; exit 2; }
if ! command -v debootstrap >/dev/null; then
	apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap >/dev/null
fi
work=$(mktemp -d /var/tmp/capagent-wine.XXXXXX)
leader=

clean() {
	[ -z "$leader" ] || kill -9 "$leader" 2>/dev/null # the first process of the namespace
	rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }
	rmdir "$tree$work" 2>/dev/null || true # where it was mounted
}
trap clean EXIT
trap 'exit 130' INT TERM

if [ ! -e "$tree/.whole" ]; then
	rm -rf "$tree"
	mkdir -p "$CACHE"
	debootstrap --variant=minbase --include=wine,wine64 trixie "$tree" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" >&2; exit 1; }
	touch "$tree/.whole"
fi

# boot starts the namespace and a prefix. What it is made of is hidden from the host.
boot() {
	mkdir -p "$work/tmp"
	unshare --mount --pid --fork --mount-proc="$tree/proc" sh -c '
		tree=$1 work=$2 source=$3
		mount --bind "$work/tmp" "$tree/tmp"
		mkdir -p "$tree$work" "$tree$source"
		mount --bind "$work" "$tree$work"
		mount --bind "$source" "$tree$source"
		mount --rbind /dev "$tree/dev"
		exec chroot "$tree" sh -c "echo \$\$ >$work/leader; exec sleep infinity"' sh "$tree" "$work" "$PWD" 2>"$work/boot.log" &
	until [ -s "$work/leader" ]; do
		sleep 0.1
		kill -0 $! 2>/dev/null || { cat "$work/boot.log" >&2; exit 1; }
	done
	leader=$(pgrep -P $! | head -1)
	rm "$work/leader"
	inside wine wineboot -i >"$work/boot.log" 2>&1 || { cat "$work/boot.log" >&2; exit 1; }
	echo "$(inside wine --version 2>/dev/null), $(go version)"
}

# inside runs a command there, in the current folder.
inside() {
	nsenter -t "$leader" --mount --pid --root env --chdir="$PWD" -i PATH=/usr/bin:/bin HOME=/root LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/tmp \
		WINEPREFIX="$work/prefix" WINEDEBUG="${WINEDEBUG:--all}" WINEDLLOVERRIDES='mscoree,mshtml=' "$@"
}

# windows runs the go command for Windows: windows build …
windows() {
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go "$@"
}

# dos is a path as Windows programs see it.
dos() { echo "Z:$1" | tr / '\\'; }
