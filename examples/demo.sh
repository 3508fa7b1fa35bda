#!/bin/sh
# The main job in one go, without an account: a CloudShark stand-in on loopback,
# an import of the example captures, links to look at. The stand-in ends by
# itself after an hour, or with `make demo-stop`.
set -eu
cd "$(dirname "$0")/.."
dir=demo

stop() {
	[ -f $dir/pid ] || return 0
	kill "$(cat $dir/pid)" 2>/dev/null || true
	rm -f $dir/pid
}

if [ "${1-}" = stop ]; then
	stop
	echo "the sandbox is stopped"
	exit 0
fi

stop
rm -rf $dir
mkdir -p $dir
./capagent sandbox --listen 127.0.0.1:0 --dir $dir/sandbox --stop-after 1h >$dir/sandbox.log 2>&1 </dev/null &
echo $! >$dir/pid
tries=0
until grep -q '^configuration' $dir/sandbox.log; do
	tries=$((tries + 1))
	if [ $tries -gt 100 ] || ! kill -0 "$(cat $dir/pid)" 2>/dev/null; then
		cat $dir/sandbox.log >&2
		exit 1
	fi
	sleep 0.1
done

config=$dir/sandbox/agent.toml
# The examples are of March 2026; who knows the names of devices knows them for hours.
# So here is one of a few minutes ago.
mkdir -p $dir/today
go run ./internal/tools/gencaptures -recent $dir/today/branch-office.pcap
echo "\$ capagent --config $config import --case DEMO-1 --manifest $dir/manifest.csv examples/captures $dir/today"
code=0
./capagent --config $config import --case DEMO-1 --manifest $dir/manifest.csv examples/captures $dir/today || code=$?
[ $code -eq 0 ] || exit $code

cat <<TEXT

Next:
  open a link above in a browser: $(sed -n 's/^capagent sandbox: *//p' $dir/sandbox.log) lists them all
  ./capagent --config $config ls              what became of each capture
  ./capagent --config $config ls --flagged    those with something that ThreatConnect knows to be bad
  ./capagent --config $config show 1          one of them in full
  ./capagent --config $config cado projects   the flagged ones were imported into a project of Cado
  ./capagent --config $config upload FILE     a capture of your own, to the sandbox
  make demo-stop                                        ends the sandbox (it ends by itself in an hour)

With a CloudShark account: copy agent.toml.example, set url and token, and run
  ./capagent --config agent.toml check --online
TEXT
