package cloudshare

import (
	"net/http"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"capagent/enrich/device"
	"capagent/internal/httpx"
)

// documented is the example of contracts/cloudshare-cloudtrax.md 1.3.
const documented = `{"vms":[{"id":"MC21","name":"CentOS 5","statusText":"Running","suspensionState":"Power Off","progress":100,"imageId":"IM1","os":"Linux",
 "webAccessUrl":null,"fqdn":"uvo1t33prksjyu269bq.vm.cld.dev","externalAddress":"127.0.0.1","internalAddresses":["10.160.189.98"],
 "cpuCount":1,"diskSizeGb":20,"memorySizeMb":1024,"username":"root","password":"vmpass-1","consoleToken":null}],
 "blueprintId":"BP1","blueprintName":"Web Test","policyName":"On Demand","expirationTime":"Mon, 09 Mar 2015 08:51:13 GMT",
 "ownerEmail":"me@example.com","projectId":"PR1","projectName":"Phobos","snapshotId":null,"snapshotName":null,
 "statusCode":2,"statusText":"Ready","regionId":"RE1","name":"Web Test","id":"EN1"}`

func TestTheDocumentedEnvironment(t *testing.T) {
	want := environment{
		ID: "EN1", Name: "Web Test", Project: "Phobos", Status: 2, StatusText: "Ready", Expires: time.Date(2015, 3, 9, 8, 51, 13, 0, time.UTC),
		VMs: []machine{{ID: "MC21", Name: "CentOS 5", FQDN: "uvo1t33prksjyu269bq.vm.cld.dev", Internal: []netip.Addr{netip.MustParseAddr("10.160.189.98")}}},
	}
	got, ok := decodeEnvironment([]byte(documented), false)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); !ok || diff != "" {
		t.Error(diff)
	}
	if got, _ := decodeEnvironment([]byte(documented), true); got.Owner != "me@example.com" {
		t.Errorf("%+v", got)
	}
}

func TestReplies(t *testing.T) {
	for text, want := range map[string]int{
		``: -1, `null`: -1, `[]`: -1, `7`: -1, `"EN1"`: -1, `{}`: -1, `{"id":null}`: -1, `{"id":"../x"}`: -1, `{"id":{}}`: -1,
		`{"id":7}`: 0, `{"id":"EN1","vms":null}`: 0, `{"id":"EN1","vms":"x"}`: 0, `{"id":"EN1","vms":[null,7,{},{"id":"a b"}]}`: 0,
		`{"id":"EN1","statusCode":"2","vms":[{"id":"MC1","internalAddresses":"x","fqdn":false,"externalAddress":[]},{"id":"MC2","fqdn":"a.b"}]}`: 2,
	} {
		e, ok := decodeEnvironment([]byte(text), true)
		if got := map[bool]int{true: len(e.VMs), false: -1}[ok]; got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
	if list := decodeEnvironments([]byte(`[null,{"id":"EN1","name":null,"status":"Ready"},7,{"id":""}]`), false); len(list) != 1 || list[0].Name != "EN1" || !list[0].runs() {
		t.Errorf("%+v", list)
	}
	for text, want := range map[string]int{``: -1, ` `: -1, `{}`: -1, `null`: -1, `[]`: 0, `[1,null,{},{"name":"ev-1","isDefault":"true"}]`: 4} {
		list, ok := decodeSnapshots([]byte(text))
		if got := map[bool]int{true: len(list), false: -1}[ok]; got != want || want == 4 && (list[3].Name != "ev-1" || !list[3].IsDefault) {
			t.Errorf("%s: %+v", text, list)
		}
	}
}

// TestALyingReplyTakesNoMemory: 16 MiB of empty objects would be gigabytes.
func TestALyingReplyTakesNoMemory(t *testing.T) {
	objects := "[" + strings.Repeat("{},", maxReply/3-1) + "{}]"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decodeEnvironments([]byte(objects), false)
	decodeSnapshots([]byte(objects))
	if e, ok := decodeEnvironment([]byte(`{"id":"EN1","vms":`+objects+`}`), false); !ok || len(e.VMs) != 0 {
		t.Errorf("%+v", e)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 200<<20 {
		t.Errorf("%d MiB were allocated", n>>20)
	}
}

func clean(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if s != device.Clean(s) {
			t.Errorf("%q is not clean", s)
		}
	}
}

var oneLine = regexp.MustCompile(`^[^\x00-\x1f\x7f]*$`)

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{documented, "[" + documented + "]", `[{"id":"SS1","name":"x\u202e","isDefault":true}]`, `{"message":"User not found","code":"0x40401"}`, `{"message":{},"code":7}`, "null", "[[[[", `[{"id":"EN1","name":"\ud800"}]`} {
		f.Add([]byte(seed), 404, "application/json")
	}
	f.Add([]byte("\xff\x00\x1b[2J"), 500, "text/plain")
	f.Fuzz(func(t *testing.T, data []byte, status int, kind string) {
		list := decodeEnvironments(data, true)
		if e, ok := decodeEnvironment(data, true); ok {
			list = append(list, e)
		}
		if len(list) > maxEnvironments+1 {
			t.Errorf("%d environments", len(list))
		}
		for _, e := range list {
			clean(t, e.Name, e.Project, e.Owner, e.StatusText)
			if !identifier().MatchString(e.ID) || e.Name == "" || e.Status < 0 || len(e.VMs) > maxMachines {
				t.Errorf("%+v", e)
			}
			for _, vm := range e.VMs {
				clean(t, vm.Name)
				if !identifier().MatchString(vm.ID) || vm.FQDN != hostName(vm.FQDN) || len(vm.Internal) > maxAddresses {
					t.Errorf("%+v", vm)
				}
			}
		}
		snapshots, _ := decodeSnapshots(data)
		for _, one := range snapshots {
			clean(t, one.Name)
		}
		reply := &httpx.Reply{Status: status, Body: data, Header: http.Header{"Content-Type": {kind}}}
		if _, err := open(reply, func(s string) string { return s }, time.Now()); err != nil && (!oneLine.MatchString(err.Error()) || len(err.Error()) > 2000) {
			t.Errorf("%q", err.Error())
		}
	})
}
