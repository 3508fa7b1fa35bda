package cado

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestPipelineStates(t *testing.T) {
	for _, test := range []struct{ in, want, text string }{
		// v2, as the vendor's sample and its poller have it.
		{`{"pipeline_id":9,"terminated":true,"summary":{"total":15,"success":15,"failure":0,"pending":0,"running":0,"cancelled":0}}`, "done", ""},
		{`{"pipeline_id":"9","is_terminated":true,"summary":{"total":"3","success":"3"}}`, "done", ""},
		{`{"pipeline_id":9,"terminated":false,"summary":{"total":15,"success":3,"running":1}}`, "running", ""},
		{`{"pipeline_id":9,"terminated":false,"summary":{"total":15,"pending":15}}`, "queued", ""},
		{`{"pipeline_id":9,"terminated":true,"summary":{"total":3,"success":1,"failure":1,"cancelled":1},"subtasks":[{"name":"A","state":"SUCCESS"},{"name":"Read","state":"FAILURE","progress_text":["x","No\nspace \u001b[31mleft"]}]}`, "failed", "Read: No space [31mleft"},
		{`{"pipeline_id":9,"terminated":"true","summary":{"total":3,"success":1,"cancelled":2}}`, "cancelled", ""},
		{`{"pipeline_id":9,"terminated":true,"subtasks":[{"state":"SUCCESS"},{"state":"success"}]}`, "done", ""},
		{`{"pipeline_id":9,"terminated":true}`, "failed", "it ended and does not say how"},
		{`{"pipeline_id":9,"terminated":true,"summary":{"total":3,"success":2}}`, "failed", ""},
		// v3
		{`{"pipeline":{"id":9,"type":"acquisition"},"status":"queued","terminated":false}`, "queued", ""},
		{`{"pipeline":{"id":"9"},"status":"in_progress","summary":{"total":3,"success":3}}`, "running", ""},
		{`{"pipeline":{"id":9},"status":"complete","terminated":true,"evidence":null}`, "done", ""},
		{`{"pipeline":{"id":9},"status":"failed","subtasks":[{"name":"Acquisition","state":"FAILURE"},{"name":"B","state":"FAILURE","progress_text":"full"}]}`, "failed", "Acquisition; B: full"},
		{`{"pipeline":{"id":9},"status":"cancelled","aborted":true}`, "cancelled", ""},
		{`{"pipeline":{"id":9},"status":"in_progress","aborted":true,"terminated":false}`, "running", ""},
		{`{"pipeline":{"id":9},"aborted":true,"terminated":true,"summary":{"total":2,"success":1}}`, "cancelled", ""},
		{`{"pipeline":{"id":9},"status":"new word","terminated":false,"summary":{}}`, "running", ""},
	} {
		p := decodePipeline([]byte(test.in))
		if p.ID != "9" || string(p.State) != test.want || p.Text != test.text {
			t.Errorf("%s: %+v", test.in, p)
		}
	}
}

func TestPipelineFields(t *testing.T) {
	v2 := decodePipeline([]byte(`{"pipeline_id":9,"pipeline_type":"processing","project_id":1,"evidence_id":10,"evidence_name":"import_test.dd","created":"2021-10-20T13:04:21.198423","name":""}`))
	v3 := decodePipeline([]byte(`{"pipeline":{"id":9,"type":"processing"},"project":{"id":"1","name":"x"},"evidence":{"id":10,"name":"import_test.dd"},"created":1634735061198.423,"name":""}`))
	if fmt.Sprint(v2) != fmt.Sprint(v3) || v2.Created.Truncate(time.Millisecond) != time.Date(2021, 10, 20, 13, 4, 21, 198e6, time.UTC) {
		v2.Created = v2.Created.Truncate(time.Millisecond)
		if fmt.Sprint(v2) != fmt.Sprint(v3) {
			t.Errorf("%+v\n%+v", v2, v3)
		}
	}
	unknown := decodePipeline([]byte(`{"pipeline_id":9,"evidence_id":0,"evidence_name":null,"triggering_pipeline_id":null}`))
	if unknown.EvidenceID != "" || unknown.Evidence != "" || unknown.Trigger != "" {
		t.Errorf("%+v", unknown)
	}
}

func TestImportAnswers(t *testing.T) {
	for in, want := range map[string]string{
		`{"pipelines":[{"pipeline_id":7,"evidence_id":3},{"pipeline_id":"8"}]}`: "[7 8]",
		`{"pipeline_id":7}`:                      "[7]",
		`{"pipeline_id":"7"}`:                    "[7]",
		`{"pipeline_ids":[{"id":7},{"id":"8"}]}`: "[7 8]",
		`{"pipeline_ids":[7]}`:                   "[7]",
		`{"pipelines":[]}`:                       "[]",
		`{"pipeline_id":0}`:                      "[]",
		`{"pipeline_id":"../x"}`:                 "[]",
		`[]`:                                     "[]",
		`"x"`:                                    "[x]",
	} {
		if got := fmt.Sprint(pipelineIDs([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestDates(t *testing.T) {
	want := time.Date(2021, 10, 20, 13, 4, 21, 0, time.UTC)
	for _, in := range []string{`1634735061`, `"1634735061"`, `1634735061000`, `1634735061.0`, `1634735061000000`, `"2021-10-20T13:04:21"`, `"2021-10-20T13:04:21Z"`, `"2021-10-20 13:04:21"`, `"2021-10-20T15:04:21+02:00"`} {
		var d date
		if err := json.Unmarshal([]byte(in), &d); err != nil || !d.Equal(want) {
			t.Errorf("%s: %s %v", in, d, err)
		}
	}
	for _, in := range []string{`0`, `-1`, `null`, `"soon"`, `1e300`, `{}`, `"` + strings.Repeat("1", 50) + `"`} {
		var d date
		if err := json.Unmarshal([]byte(in), &d); err != nil || !d.IsZero() {
			t.Errorf("%s: %s %v", in, d, err)
		}
	}
}

// FuzzDecode: no reply makes the decoders fail, and what they keep is bounded and
// printable.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"pipelines":[{"pipeline_id":9,"terminated":true,"summary":{"total":1},"subtasks":[{"name":"a","state":"FAILURE","progress_text":["x"]}]}]}`,
		`{"pipeline":{"id":"9","type":"x"},"status":"failed","evidence":{"id":1,"name":"\u0000\u202e"},"summary":{"total":-1}}`,
		`[{"id":1,"caseName":"a","deleted":"true"},{"id":"2","details":{"name":"b"}}]`,
		`{"results":[{"timestamp":1e400,"short":"a\nb"}],"pages":1e99}`,
		`{"instances":["i-1",{"instance_id":"i-2","importable":"no"}]}`,
		`[[[[[[`, `null`, `1`, `"x"`, `{"pipeline_ids":[{"id":{}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return // judge refuses it
		}
		check := func(s string, most int) {
			if len(s) > most || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Fatalf("%q", s)
			}
		}
		for _, id := range pipelineIDs(data) {
			check(id, 64)
		}
		decode := func(raw json.RawMessage) error {
			p := decodePipeline(raw)
			check(p.ID+p.Project+p.EvidenceID+p.Trigger, 4*64)
			check(p.Text, maxText)
			check(p.Evidence, maxObjectKey)
			pr, _ := decodeProject(raw)
			check(pr.Name, maxName)
			check(pr.Description, maxText)
			e := decodeEvent(raw)
			check(e.Text, 2*maxText)
			i := decodeInstance(raw)
			check(i.ID+i.Name, 64+maxName)
			return nil
		}
		_ = decode(data)
		for _, key := range []string{"pipelines", "results", "instances", "urls"} {
			_ = each(listOf(data, key), 1000, decode)
		}
	})
}
