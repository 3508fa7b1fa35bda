# shellcheck shell=bash disable=SC2154,SC2034,SC2001
# The container and what is around it, for nspawn.sh.

cleanup() {
  halt
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
  ip netns del "$ns" 2>/dev/null
  rm -rf "$work"
}

# start_server puts a sandbox and a TLS front with a private authority into a
# network namespace.
start_server() {
  local tls=$work/tls
  mkdir -p "$tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=private-ca \
    -addext basicConstraints=critical,CA:TRUE -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=cloudshark.test \
    -keyout "$tls/server.key" -out "$tls/server.csr" 2>/dev/null
  openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 2 \
    -extfile <(echo subjectAltName=DNS:cloudshark.test) -out "$tls/server.pem" 2>/dev/null
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip netns exec "$ns" "$program" sandbox --dir "$work/sandbox" --listen 127.0.0.1:8765 >"$work/sandbox.log" 2>&1 &
  children+=($!)
  ip netns exec "$ns" socat "OPENSSL-LISTEN:8443,cert=$tls/server.pem,key=$tls/server.key,verify=0,fork,reuseaddr" \
    TCP:127.0.0.1:8765 2>"$work/socat.log" &
  children+=($!)
  until_true 20 test -s "$work/sandbox/agent.toml" || { echo "the sandbox does not start"; cat "$work/sandbox.log"; exit 1; }
  token=$(cat "$work"/sandbox/token 2>/dev/null || cat "$work"/sandbox/*token*)
}

# boot starts a fresh copy of a Debian tree.
boot() { # release
  local base=$CACHE/$1
  if [ ! -e "$base/.whole" ]; then
    mkdir -p "$CACHE"
    rm -rf "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus "$1" "$base" >"$work/debootstrap.log" 2>&1 || {
      tail "$work/debootstrap.log"
      return 1
    }
    touch "$base/.whole"
  fi
  root=$work/$1
  cp -a --reflink=auto "$base" "$root"
  rm -f "$root/.whole"
  cp "$work"/capagent-*.deb "$root/root/"
  sweep
  # Landlock is what nspawn allows itself no more than older systemds do.
  systemd-nspawn --quiet --register=no --keep-unit -D "$root" -b --private-network \
    --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" >"$work/$1.console" 2>&1 </dev/null &
  nspawn=$!
  until_true 20 find_leader
  # "degraded" is booted, too: minimal trees lack a few units' programs.
  until_true 60 booted && return
  tail -5 "$work/$1.console"
  return 1
}

find_leader() { leader=$(pgrep -P "$nspawn" | head -1) && [ -n "$leader" ]; }
booted() { [[ $(box systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

halt() {
  [ -n "$nspawn" ] || return 0
  box poweroff >/dev/null 2>&1
  until_true 30 gone "$nspawn" || kill -9 "$nspawn" "$leader" 2>/dev/null
  wait "$nspawn" 2>/dev/null
  nspawn='' leader=''
  ip -n "$ns" link del peer0 2>/dev/null
  sweep
  rm -rf "$root"
}

# sweep removes what nspawn leaves of its control groups where systemd is not the host's
# first process; half of them would keep the next container from booting. Groups that
# are in use stay by themselves.
sweep() {
  find /sys/fs/cgroup/{systemd,unified}/{payload,supervisor} -depth -type d -exec rmdir {} \; 2>/dev/null
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# plug lays the cable.
plug() {
  ip link add peer0 netns "$ns" type veth peer name lan0 netns "$leader"
  ip -n "$ns" addr add 10.99.0.1/24 dev peer0
  ip -n "$ns" link set peer0 up
  nsenter -t "$leader" -n ip addr add 10.99.0.2/24 dev lan0
  nsenter -t "$leader" -n ip link set lan0 up
  nsenter -t "$leader" -n ip link set lo up
  box sh -c 'echo 10.99.0.1 cloudshark.test >>/etc/hosts'
}

# traffic sends pings over the cable, to be captured.
traffic() { ip netns exec "$ns" ping -q -c "${1:-40}" -i 0.02 10.99.0.2 >/dev/null 2>&1; }

# box runs a command in the container.
box() { nsenter -t "$leader" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C "$@"; }
put() { box sh -c "cat >'$1'"; } # file: from standard input
property() { box systemctl show -p "$1" --value capagent.service; }

# until_true waits up to so many seconds for a command to succeed.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

ok() { passed=$((passed + 1)) && echo "ok     $*"; }
not_ok() { failed=$((failed + 1)) && echo "not ok $*"; }
# check runs a command and says whether it succeeded; what it said is shown if not.
check() { # what, command…
  local what=$1 out
  shift
  if out=$("$@" 2>&1); then ok "$what"; else
    not_ok "$what"
    sed 's/^/       | /' <<<"$out" | tail -20
  fi
}
# is compares.
is() { # what, got, want
  if [ "$2" = "$3" ]; then ok "$1: $2"; else not_ok "$1: $2, not $3"; fi
}
