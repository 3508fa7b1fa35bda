# shellcheck shell=bash disable=SC2154
# What is checked in the container, for nspawn.sh, in this order: each part leaves the
# agent running for the next.

all_checks() {
  fresh_install
  configure_and_start
  confinement
  captures_and_uploads
  journal
  reloading
  folders_elsewhere
  failures
  watchdog
  stopping
  upgrade_and_downgrade
  removal
}

fresh_install() {
  check "the package installs" box dpkg -i "/root/capagent-$old.deb"
  is "enabled" "$(box systemctl is-enabled capagent)" enabled
  is "not started without a configuration" "$(property ActiveState)" inactive
  is "the configuration's owner and mode" "$(box stat -c '%U:%G %a' /etc/capagent/agent.toml)" "root:capagent 640"
  is "its folder's" "$(box stat -c '%U:%G %a' /etc/capagent)" "root:capagent 750"
  check "the user is there, and can't log in" box sh -c 'getent passwd capagent | grep -q nologin'
  check "systemd-analyze verify" box systemd-analyze verify --man=no capagent.service
  check "manual page, completion, parts" box sh -c 'ls /usr/share/man/man1/capagent-run.1.gz /usr/share/bash-completion/completions/capagent /usr/share/doc/capagent/capagent.cdx.json'
}

configure_and_start() {
  box install -m 600 /dev/stdin /etc/capagent/cloudshark-token <<<"$token"
  put /etc/capagent/ca.pem <"$work/tls/ca.pem"
  put /etc/capagent/agent.toml <<'T'
[agent]
name = "box"
[cloudshark]
url = "https://cloudshark.test:8443"
token = "@{systemd:cloudshark-token}"
ca_file = "/etc/capagent/ca.pem"
[[capture]]
name = "lan"
interface = "lan0"
[rotate]
interval = "2s"
T
  box mkdir -p /etc/systemd/system/capagent.service.d
  box cp /usr/share/doc/capagent/drop-ins/credentials.conf /etc/systemd/system/capagent.service.d/
  box systemctl daemon-reload
  check "starts, and says that it is ready" box systemctl start capagent
  is "state" "$(property ActiveState)/$(property SubState)" active/running
  check "the token comes by LoadCredential only" box sh -c '! setpriv --reuid capagent --regid capagent --clear-groups cat /etc/capagent/cloudshark-token'
}
told() { [ -n "$(property StatusText)" ]; }

# rights shows what a process has: permitted, effective, what it could get, ambient.
rights() { awk '/^Cap(Prm|Eff|Bnd|Amb)/ {printf "%s ", $2}' <<<"$1"; }
held() { awk '/^(NoNewPrivs|Seccomp):/ {printf "%s ", $2}' <<<"$1"; }

confinement() {
  local pid child status none=0000000000000000 raw=0000000000002000
  pid=$(property MainPID)
  status=$(box cat "/proc/$pid/status")
  is "the agent has no right" "$(rights "$status")" "$none $none $raw $none "
  is "no new privileges, system calls filtered" "$(held "$status")" "1 2 "
  child=$(box cat "/proc/$pid/task/$pid/children")
  is "its one child opens packet sockets" "$(box cat "/proc/${child% }/cmdline" | tr '\0' ' ')" "/proc/self/exe packet-sockets "
  status=$(box cat "/proc/${child% }/status")
  is "and may capture, and nothing else" "$(rights "$status")" "$raw $raw $raw $raw "
  is "no new privileges, system calls filtered" "$(held "$status")" "1 2 "
  status=$(box capagent status --json | jq -c .agent.confined)
  check "confined itself: $status" jq -e '.landlock > 0 and .seccomp and .reason == null and (.writable | index("/var/lib/capagent") and index("/run/capagent"))' <<<"$status"
  check "doctor says so" box sh -c 'capagent doctor | grep -qx "ok    sandboxing: in force"'
  is "user" "$(box stat -c %U "/proc/$pid")" capagent
  is "state's owner and mode" "$(box stat -c '%U:%G %a' /var/lib/capagent)" "capagent:capagent 700"
  is "the socket's" "$(box stat -c '%U:%G %a' /run/capagent/control.sock)" "capagent:capagent 660"
  check "root steers it" box capagent status
  box install -m 644 /dev/null /tmp/empty.toml
  box setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/nonexistent CAPAGENT_CONFIG=/tmp/empty.toml \
    CAPAGENT_AGENT_STATE_DIR=/var/lib/capagent capagent status >/dev/null 2>"$work/err"
  is "others may not" $? 77
  box useradd --groups capagent analyst
  check "members of its group may" box setpriv --reuid analyst --regid analyst --init-groups env HOME=/nonexistent capagent status
  exposure
}
exposure() {
  local level
  level=$(box systemd-analyze security capagent.service | sed -n 's/.*exposure level[^:]*: \([0-9.]*\).*/\1/p')
  check "exposure $level, 1.6 at most" awk -v l="$level" 'BEGIN {exit !(l != "" && l <= 1.6)}'
}

sessions() { box capagent ls --json --state "done" | jq -r 'select(.session_url != null) | .session_url' | grep -c '^https://cloudshark.test:8443/captures/'; }
more_sessions() { [ "$(sessions)" -gt "$1" ]; }

captures_and_uploads() {
  traffic
  check "captures on the cable, uploads over TLS" until_true 30 more_sessions 0
  check "systemctl status tells how it fares" until_true 30 told
  is "of the right interface" "$(box capagent ls --json --state "done" | jq -r .source | sort -u)" capture:lan
  check "the server has as many" until_true 10 server_has
  sed /ca_file/d "$root/etc/capagent/agent.toml" | sed 's|@{systemd:cloudshark-token}|@{file:/etc/capagent/cloudshark-token}|' | put /root/no-ca.toml
  box capagent --config /root/no-ca.toml check --online >"$work/err" 2>&1
  is "without the authority's certificate the server is not trusted" $? 69
}
server_has() { [ "$(find "$work/sandbox" -type f \( -name '*.pcap*' -o -name '*.cap' \) | wc -l)" -ge "$(sessions)" ]; }

journal() {
  local lines
  lines=$(box journalctl -u capagent -o json --no-pager)
  check "journald has fields of its own" jq -es 'any(.[]; .MESSAGE == "ready" and .PRIORITY == "6" and .VERSION != null and .STATE_DIR == "/var/lib/capagent")' <<<"$lines"
  # shellcheck disable=SC2016 # it expands there
  check "the token is not in the journal" box sh -c '! journalctl -o export --no-pager | grep -aqF "$(cat /etc/capagent/cloudshark-token)"'
}

reloading() {
  local pid
  pid=$(property MainPID)
  box install -d -o capagent -g capagent /var/lib/capagent/inbox
  printf '[[watch]]\npath = "/var/lib/capagent/inbox"\n' | box sh -c 'cat >>/etc/capagent/agent.toml'
  check "reload" box systemctl reload capagent
  is "goes on as the same process" "$(property MainPID)" "$pid"
  check "with the new folder" box sh -c 'capagent status | grep -q inbox'
  box cp /etc/capagent/agent.toml /root/good.toml
  echo 'nonsense = 1' | box sh -c 'cat >>/etc/capagent/agent.toml'
  check "a wrong configuration fails the reload" box sh -c '! systemctl reload capagent'
  is "and leaves it running" "$(property ActiveState) $(property MainPID)" "active $pid"
  box cp /root/good.toml /etc/capagent/agent.toml
  check "until the next good one" box systemctl reload capagent
}

# Captures of another user, in a folder that the unit alone may not write to.
folders_elsewhere() {
  local before pid child
  before=$(sessions)
  box groupadd pcap
  box useradd --gid pcap probe
  box install -d -o probe -g pcap -m 2770 /srv/captures
  box sh -c 'cd /usr/share/doc/capagent/drop-ins && cp folders.conf lease.conf priority.conf /etc/systemd/system/capagent.service.d/'
  printf '[[watch]]\npath = "/srv/captures"\nafter = "delete"\n' | box sh -c 'cat >>/etc/capagent/agent.toml'
  box systemctl daemon-reload
  check "restart" box systemctl restart capagent
  pid=$(property MainPID)
  is "it has the drop-ins' rights, and not the one to capture" "$(box awk '/^CapEff/ {print $2}' "/proc/$pid/status")" 0000000010800000
  child=$(box cat "/proc/$pid/task/$pid/children")
  is "which its child has" "$(box cat "/proc/${child% }/cmdline" | tr '\0' ' ')" "/proc/self/exe packet-sockets "
  put /srv/captures/dns.pcap <examples/captures/dns.pcap
  box chown probe:pcap /srv/captures/dns.pcap
  box chmod 640 /srv/captures/dns.pcap
  check "another user's folder is sent" until_true 30 more_sessions "$before"
  check "and emptied, by the drop-in" until_true 15 box sh -c '! test -e /srv/captures/dns.pcap'
  put /root/web.pcap <examples/captures/web.pcap
  check "root checks with the same secrets" box env CREDENTIALS_DIRECTORY=/etc/capagent capagent check --online
  check "and uploads beside it" box env CREDENTIALS_DIRECTORY=/etc/capagent capagent upload /root/web.pcap
  check "and it still restarts" box systemctl restart capagent
  is "nothing in its folder is root's" "$(box find /var/lib/capagent -user root)" ""
}

failures() {
  echo 'nonsense = 1' | box sh -c 'cat >>/etc/capagent/agent.toml'
  box systemctl restart capagent >/dev/null 2>&1
  sleep 1
  is "a wrong configuration ends it for good" "$(property ActiveState)/$(property ExecMainStatus)/$(property NRestarts)" failed/78/0
  box sed -i '/nonsense/d' /etc/capagent/agent.toml
  box systemctl reset-failed capagent
  check "a mended one starts" box systemctl start capagent
}

watchdog() {
  local pid
  printf '[Service]\nWatchdogSec=4s\nRestartSec=1s\n' | put /etc/systemd/system/capagent.service.d/test.conf
  box systemctl daemon-reload
  box systemctl restart capagent
  pid=$(property MainPID)
  traffic 500 # ten seconds
  sleep 3
  is "the watchdog leaves a healthy agent alone" "$(property MainPID)" "$pid"
  until_true 10 active
  pid=$(property MainPID)
  send STOP "$pid"
  check "a stopped one is killed and started again" until_true 25 restarted "$pid"
  check "by the watchdog" box sh -c 'journalctl -u capagent --no-pager | grep -q "Watchdog timeout"'
  pid=$(property MainPID)
  send ABRT "$pid" # the runtime dumps its goroutines and exits with 2, as in a panic
  check "one that crashed is started again" until_true 25 restarted "$pid"
  box rm /etc/systemd/system/capagent.service.d/test.conf
  box systemctl daemon-reload
  check "and it goes on" box systemctl restart capagent
}
# send signals a process by the shell's own kill: minimal trees have no other. 0 would be
# this script itself.
send() { [ "$2" -gt 1 ] && box sh -c "kill -$1 $2"; }
active() { [ "$(property ActiveState)" = active ]; }
restarted() { [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != "$1" ]; }

stopping() {
  local before
  before=$(box capagent ls --json | wc -l)
  traffic 20
  check "stop" box systemctl stop capagent
  is "in good order" "$(property Result)/$(property ExecMainStatus)" success/0
  check "the file that was open is sealed and recorded" test "$(box capagent ls --json | wc -l)" -gt "$before"
  is "nothing is left unfinished" "$(box find /var/lib/capagent -name '*.part')" ""
  check "start" box systemctl start capagent
}

upgrade_and_downgrade() {
  local pid count
  until_true 20 settled
  count=$(box capagent ls --json | wc -l)
  pid=$(property MainPID)
  check "upgrade" box dpkg -i "/root/capagent-$new.deb"
  check "restarts it" restarted "$pid"
  is "as the new version" "$(box capagent version --json | jq -r .version)" "$new"
  check "with every record" test "$(box capagent ls --json | wc -l)" -ge "$count"
  check "and the administrator's configuration" box grep -q cloudshark.test /etc/capagent/agent.toml
  pid=$(property MainPID)
  check "downgrade" box dpkg -i "/root/capagent-$old.deb"
  check "restarts it, too" restarted "$pid"
  check "with every record, too" test "$(box capagent ls --json | wc -l)" -ge "$count"
  box systemctl disable --now capagent >/dev/null 2>&1
  box dpkg -i "/root/capagent-$new.deb" >/dev/null 2>&1
  is "what the administrator disabled stays off" "$(box systemctl is-enabled capagent)/$(property ActiveState)" disabled/inactive
  box systemctl enable --now capagent >/dev/null 2>&1
}
settled() { [ "$(box capagent ls --json --state queued | wc -l)" = 0 ]; }

removal() {
  check "remove" box dpkg -r capagent
  check "keeps configuration and captures" box test -s /etc/capagent/agent.toml -a -s /etc/capagent/cloudshark-token -a -d /var/lib/capagent/spool
  check "ends the agent" box sh -c '! pgrep -x capagent 2>/dev/null && ! ls /run/capagent 2>/dev/null'
  check "installed again it runs by itself" box dpkg -i "/root/capagent-$new.deb"
  is "state" "$(property ActiveState)" active
  check "purge" box dpkg -P capagent
  is "deletes configuration, secrets and captures" "$(box sh -c 'ls -d /etc/capagent /var/lib/capagent /var/cache/capagent 2>/dev/null')" ""
  is "and leaves no trace in systemd" "$(box sh -c 'find /etc/systemd /var/lib/systemd -name "*capagent*" ! -path "*.service.d*"')" ""
  is "no unit has failed" "$(box systemctl --failed --plain --no-legend | grep capagent)" ""
  is "the user stays" "$(box getent passwd capagent | cut -d: -f1)" capagent
}
