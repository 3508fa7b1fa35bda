#!/bin/sh
# Runs the tests, built for Windows, under Wine 10, as root:
# internal/tools/wine/run.sh [PACKAGE DIRECTORY…]
# Every package with tests for Windows is run where none is named. Nothing is left
# behind but Debian's tree in $CACHE (lib.sh).
set -eu
cd "$(dirname "$0")/../../.."
. internal/tools/wine/lib.sh
boot

packages=${*:-$(GOOS=windows CGO_ENABLED=0 go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | sed "s|^$PWD/||")}

# What is left out, and why. Wine makes no symbolic links and says that it did, so what
# the tests find in their place is nothing at all. It removes a name only when the last
# one closes the file. Two tests of internal/httpx expect bytes to move within 100 ms,
# which it does not manage on a busy machine. And one asks for Unix's word for a reset.
skip='^(TestLinksLeadNowhere|TestASpoolNamedByALink|TestOnlyWhatWasRecordedIsDeleted|TestSilenceEndsARequestAndMovementDoesNot|TestMaxConnsBoundsParallelRequests|TestLinksAreFollowedOnlyWhereTheUserNamesThem|TestInside|TestTheEndComesWhateverHangs|TestALogLineIsATrigger)$|^TestAcceptingFaultsStoreOneSession$/rst=true$|^TestAFileThatComesInTheLastMoment$/linked$'

# The commands' other tests need a Unix shell, or hours.
only() { if [ "$1" = cmd/capagent ]; then echo '^(TestOnWindows|TestNoSignals)'; else echo .; fi; }

failed=
for package in $packages; do
	name=$(echo "$package" | tr / -)
	windows test -c -o "$work/$name.test.exe" "./$package" || { failed="$failed $package"; continue; }
	if [ ! -e "$work/$name.test.exe" ]; then
		echo "$package: no tests on Windows"
		continue
	fi
	began=$(date +%s)
	status=0
	(cd "$package" && inside timeout "${WINE_TIMEOUT:-300}" wine "$work/$name.test.exe" \
		-test.v -test.timeout "$((${WINE_TIMEOUT:-300} - 10))s" -test.run "$(only "$package")" -test.skip "$skip" </dev/null) >"$work/$name.txt" 2>&1 || status=$?
	echo "$package: $(grep -c '^--- PASS' "$work/$name.txt") passed," \
		"$(grep -c '^--- FAIL' "$work/$name.txt") failed, $(grep -c '^ *--- SKIP' "$work/$name.txt") skipped, $(($(date +%s) - began)) s"
	grep -B2 '^ *--- SKIP' "$work/$name.txt" | grep -E '_test.go|SKIP' | sed 's/^ */    /' || true
	if [ "$status" != 0 ]; then
		failed="$failed $package"
		grep -vE '^ *(=== |--- PASS|--- SKIP)' "$work/$name.txt" | head -60
	fi
	rm -f "$work/$name.test.exe"
done

# Ctrl-C: Wine makes one of SIGINT. There is no console here that the tests could
# send it by.
interrupted() {
	windows build -o "$work/capagent.exe" ./cmd/capagent || return 1
	mkdir "$work/in"
	here=$(dos "$work")
	printf '[agent]\nstate_dir = '"'%s'"'\n[cloudshark]\nurl = "http://127.0.0.1:9"\ntoken = "0123456789abcdef0123456789abcdef"\n[[watch]]\npath = '"'%s'"'\n' \
		"$here\\state" "$here\\in" >"$work/agent.toml"
	inside wine "$work/capagent.exe" --config "$here\\agent.toml" run --log-level info </dev/null >"$work/agent.txt" 2>&1 &
	agent=$!
	tries=0
	until grep -q '"ready"' "$work/agent.txt"; do
		tries=$((tries + 1))
		[ $tries -le 300 ] && kill -0 $agent 2>/dev/null || return 1
		sleep 0.1
	done
	program=$agent # the shell, whose child is nsenter, whose child is the program
	while child=$(pgrep -P "$program"); do program=$child; done
	kill -INT "$program"
	wait $agent && grep -q '"stopped"' "$work/agent.txt" && ! grep -q reload "$work/agent.txt"
}
if interrupted; then
	echo "Ctrl-C ends the agent"
else
	cat "$work/agent.txt"
	failed="$failed ctrl-c"
fi
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
