# shellcheck shell=sh
# Sourced by scripts that run Windows programs, at the top of the source tree, as root:
# boots a Wine 10 of its own, and says how programs are built for it and run in it.
#
# Debian 13's Wine lives in a tree of its own in $CACHE (1.4 GB, downloaded once), so
# that it runs on any Linux. Its processes have namespaces of their own: what is left of
# them ends with the script, and their network is loopback and a cable to nowhere (Wine
# can't list the interfaces of every host). $work and the source tree are where they are
# outside.

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
	unshare --mount --net --pid --fork --mount-proc="$tree/proc" sh -c '
		tree=$1 work=$2 source=$3
		ip link set lo up
		ip link add lan0 type veth peer name lan1
		ip addr add 10.99.0.2/24 dev lan0
		ip link set lan0 up
		ip link set lan1 up
		mount --bind "$work/tmp" "$tree/tmp"
		mkdir -p "$tree$work" "$tree$source"
		mount --bind "$work" "$tree$work"
		mount --bind "$source" "$tree$source"
		mount --rbind /dev "$tree/dev"
		mount --rbind /sys "$tree/sys"
		mount --bind /etc/hosts "$tree/etc/hosts"
		exec chroot "$tree" sh -c "echo \$\$ >$work/leader; sleep infinity & wait"' sh "$tree" "$work" "$PWD" 2>"$work/boot.log" &
	until [ -s "$work/leader" ]; do
		sleep 0.1
		kill -0 $! 2>/dev/null || { cat "$work/boot.log" >&2; exit 1; }
	done
	leader=$(pgrep -P $! | head -1)
	rm "$work/leader"
	inside wine wineboot -i >"$work/boot.log" 2>&1 || { cat "$work/boot.log" >&2; exit 1; }
	# Its first life leaves a service manager behind that would be in the next one's way.
	inside wineserver -k || true
	inside wineserver -w || true
	echo "$(inside wine --version 2>/dev/null), $(go version)"
}

# inside runs a command there, in the current folder.
inside() {
	nsenter -t "$leader" --mount --net --pid --root env --chdir="$PWD" -i PATH=/usr/bin:/bin HOME=/root LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/tmp \
		WINEPREFIX="$work/prefix" WINEDEBUG="${WINEDEBUG:--all}" WINEDLLOVERRIDES='mscoree,mshtml=' "$@"
}

# beside runs a command of this machine in its network.
beside() { nsenter -t "$leader" --net "$@"; }

# windows runs the go command for Windows: windows build …
#
# Go asks for the prefixes of IPv6 addresses when it lists interfaces, and makes no use of
# them; Wine 10 fails then. An overlay of one line asks for the rest only.
windows() {
	command=$1
	shift
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go "$command" -overlay "$work/overlay.json" "$@"
}
listing="$(go env GOROOT)/src/net/interface_windows.go"
sed 's/windows.GAA_FLAG_INCLUDE_PREFIX | //' "$listing" >"$work/interface_windows.go"
! cmp -s "$listing" "$work/interface_windows.go" || { echo "the overlay of $listing no longer fits" >&2; exit 1; }
printf '{"Replace":{"%s":"%s"}}\n' "$listing" "$work/interface_windows.go" >"$work/overlay.json"

# dos is a path as Windows programs see it.
dos() { echo "Z:$1" | tr / '\\'; }
