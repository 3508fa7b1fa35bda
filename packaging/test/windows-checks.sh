# shellcheck shell=bash disable=SC2154,SC2034
# What is checked of the installer, for windows.sh, in this order.

all_checks() {
  signature
  silent_install
  drop_and_session
  secrets
  captures
  stopping
  event_log
  upgrade
  wrong_configuration
  removal
  wrong_properties
}

data='' # %ProgramData%\capagent from outside
program='C:\Program Files\capagent\capagent.exe'
config='C:\ProgramData\capagent\agent.toml'

start_sandbox() {
  data=$work/prefix/drive_c/ProgramData/capagent
  nsenter -t "$leader" --net "$work/capagent" sandbox --dir "$work/sandbox" --listen 127.0.0.1:8765 >"$work/sandbox.log" 2>&1 &
  sandbox=$!
  until_true 20 test -s "$work/sandbox/agent.toml" || { echo "the sandbox does not start"; cat "$work/sandbox.log"; exit 1; }
  # Wine ends services with its last program: one that waits for a word that never comes.
  mkfifo "$work/stay"
  exec 9<>"$work/stay"
  WINEDEBUG=-all,+eventlog inside wine cmd.exe <"$work/stay" >>"$work/events" 2>&1 &
}

agent() { inside wine "$program" --config "$config" "$@" 2>"$work/err"; }
# What is reported to the Event Log, Wine prints on standard error, and keeps nothing.
# Services have that of the program that started Wine.
msi() { WINEDEBUG=-all,+eventlog inside timeout 180 wine msiexec "$@" /qn /l*v "$(dos "$work/msi.log")" >>"$work/events" 2>&1; }
state() { inside wine sc query capagent 2>/dev/null | tr -d '\r' | awk '$1 == "STATE" {print $4}'; }
in_state() { [ "$(state)" = "$1" ]; }
exit_code() { inside wine sc query capagent 2>/dev/null | tr -d '\r' | awk '$1 == "SERVICE_EXIT_CODE" {print $3}'; }
sessions() { agent ls --json --state "done" | jq -r 'select(.session_url != null) | .session_url' | wc -l; }
have_sessions() { [ "$(sessions)" -eq "$1" ]; }
start() { inside wine sc start capagent >/dev/null 2>&1; until_true 60 in_state RUNNING; }
stop() { inside wine sc stop capagent >/dev/null 2>&1; until_true 60 in_state STOPPED; }

signature() {
  check "the installer is signed" osslsigncode verify -CAfile "$work/sign.pem" -in "$work/$old.msi"
}

silent_install() {
  cp "$work/sandbox/token" "$work/token.txt"
  check "installs silently" msi /i "$(dos "$work/$old.msi")" URL=http://127.0.0.1:8765 TOKENFILE="$(dos "$work/token.txt")" 'WATCH=C:\in\'
  check "the service runs" until_true 60 in_state RUNNING
  is "as" "$(agent version --json | jq -r .version)" "$old"
  check "its path is in quotes" grep -q 'ImagePath *REG_[A-Z_]* *"C:\\Program Files' <(registry 'Services\capagent')
  check "it has a source in the Event Log" grep -q EventMessageFile <(registry 'Services\EventLog\Application\capagent')
  check "the token is in no file" bash -c '! grep -rqF "$(cat "$1")" "$2"' sh "$work/token.txt" "$data"
}
# registry shows a key below CurrentControlSet.
registry() { inside wine reg query "HKLM\\SYSTEM\\CurrentControlSet\\$1" /s 2>/dev/null | tr -d '\r'; }

drop_and_session() {
  cp examples/captures/dns.pcap "$work/prefix/drive_c/in/"
  check "a file dropped into the folder becomes a session" until_true 60 have_sessions 1
  check "the server has it" test -n "$(find "$work/sandbox/captures" -type f -size +1k)"
}

secrets() {
  is "a secret is kept" "$(echo other-secret | agent secret set other | tr -d '\r')" '@{dpapi:other}'
  check "sealed" bash -c '! grep -qF other-secret "$1"' sh "$data/secrets/other.dpapi"
  check "and forgotten" agent secret forget other
  check "really" test ! -e "$data/secrets/other.dpapi"
}

# A live capture by Wine's wpcap.dll, which is libpcap. A stop seals the file it writes.
captures() {
  overrides='HKCU\Software\Wine\DllOverrides'

  printf '[[capture]]\nname = "cable"\ninterface = "lan0"\n' >>"$data/agent.toml"
  check "a stop" stop
  inside wine reg add "$overrides" /v wpcap /d '' /f >/dev/null 2>&1
  check "a start without Npcap" start
  check "is one, and the Event Log says what is missing" grep -aq 'eventlog.*live captures can.*no Npcap' "$work/events"
  check "as the log does" grep -q 'no Npcap' "$data/state/agent.log"
  stop
  inside wine reg delete "$overrides" /v wpcap /f >/dev/null 2>&1
  check "a start with a live capture" start
  until_true 30 capturing || not_ok "it captures"
  beside ping -q -c 20 -i 0.05 -W 1 10.99.0.3 >/dev/null 2>&1 # ARP at least
}
capturing() { agent status --json | jq -e '.agent.captures[]? | select(.name == "cable" and .state == "capturing")' >/dev/null; }

stopping() {
  local began=$SECONDS
  inside wine sc stop capagent >"$work/sc" 2>&1
  check "a stop is told to be pending" grep -q STOP_PENDING "$work/sc"
  check "and done" until_true 35 in_state STOPPED
  check "within its time ($((SECONDS - began)) s)" test $((SECONDS - began)) -le 35
  is "as no failure" "$(exit_code)" 0
  is "the last file is sealed" "$(find "$data/state" -name '*.part' | wc -l) left open, $(agent ls --json | jq -r 'select(.source == "capture:cable") | .packets > 0' | sort -u)" "0 left open, true"
  check "and recorded to the last packet" agent verify
  sed -i '/^\[\[capture\]\]/,$d' "$data/agent.toml"
  check "it starts again" start
}

# Wine's Event Log forgets; what is told to it, is printed.
event_log() {
  check "the Event Log was told of the start" grep -aq 'eventlog.*capagent 0.9.0 runs' "$work/events"
  check "and of the end" grep -aq 'eventlog.*capagent ended' "$work/events"
}

upgrade() {
  local before rows
  before=$(md5sum <"$data/agent.toml") rows=$(agent ls --json | wc -l)
  check "upgrades" msi /i "$(dos "$work/$new.msi")" URL=http://192.0.2.1
  check "the service runs" until_true 60 in_state RUNNING
  is "as" "$(agent version --json | jq -r .version)" "$new"
  is "the configuration is the same" "$(md5sum <"$data/agent.toml")" "$before"
  is "and the ledger" "$(agent ls --json | wc -l)" "$rows"
  cp examples/captures/web.pcap "$work/prefix/drive_c/in/"
  check "and it goes on" until_true 60 sent web.pcap
  check "an older installer is refused" not msi /i "$(dos "$work/$old.msi")"
  is "and changes nothing" "$(agent version --json | jq -r .version) $(state)" "$new RUNNING"
}
sent() { agent ls --json --state "done" | jq -e --arg f "$1" 'select(.path | endswith($f))' >/dev/null; }
not() { ! "$@"; }

wrong_configuration() {
  stop
  cp "$data/agent.toml" "$work/good.toml"
  echo 'nonsense = 1' >>"$data/agent.toml"
  inside wine sc start capagent >/dev/null 2>&1
  check "a wrong configuration ends it" until_true 30 in_state STOPPED
  is "with the code for that" "$(exit_code)" 78
  cp "$work/good.toml" "$data/agent.toml"
  check "a mended one starts" start
}

# A running one is stopped by the installer, as in the upgrade; but under Wine a program
# that has not quite ended yet is left behind, where Windows removes it later.
removal() {
  stop
  check "uninstalls" msi /x "$(dos "$work/$new.msi")"
  is "no service is left" "$(state)" ""
  check "no program" test ! -e "$work/prefix/drive_c/Program Files/capagent"
  check "no source in the Event Log" not grep -q EventMessageFile <(registry 'Services\EventLog\Application\capagent')
  check "configuration, secrets and ledger are" test -s "$data/agent.toml" -a -s "$data/secrets/cloudshark-token.dpapi" -a -s "$data/state/ledger.db"
  check "a new installation goes on with them" msi /i "$(dos "$work/$new.msi")"
  check "running" until_true 60 in_state RUNNING
  check "with what it had" sent web.pcap
  stop
  check "uninstalls again" msi /x "$(dos "$work/$new.msi")"
}

wrong_properties() {
  rm -rf "$data"
  check "a wrong URL fails the installation" not msi /i "$(dos "$work/$new.msi")" URL=ftp://127.0.0.1
  check "the Event Log says why" grep -aq 'eventlog.*the installation failed.*cloudshark.url' "$work/events"
  is "nothing is left of it" "$(state)$(find "$work/prefix/drive_c/Program Files/capagent" 2>/dev/null)" ""
  check "without properties it installs" msi /i "$(dos "$work/$new.msi")"
  check "and waits for its configuration" until_true 30 in_state STOPPED
  check "which the Event Log says" grep -aq 'eventlog.*capagent failed.*cloudshark' "$work/events"
}
