package api

import (
	"net/http"
	"strings"
	"testing"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		class  string // "" for a success
	}{
		{200, `{"networks":[]}`, ""},
		{200, `[]`, ""},
		{200, ``, ""},
		{200, `{}`, ""},
		{200, `{"status":200}`, ""},
		{200, `{"code":1009,"message":"Success.","context":"x","values":{},"details":""}`, ""},
		{200, `{"code":"14001"}`, ""},
		{200, `{"errors":[]}`, ""},
		{200, `{"errors":null}`, ""},
		{200, `{"errors":[{"code":13006}]}`, ClassNoPermission},
		{200, `{"errors":[{"code":"13006"}]}`, ClassNoPermission},
		{200, `{"errors":{"code":13006}}`, ClassNoPermission},
		{200, `{"code":13005,"message":"x"}`, ClassBadCredentials},
		{200, `{"errors":[7,null,{"code":[]},{"code":13005}]}`, ClassBadCredentials},
		{400, `{"errors":[{"code":1000},{"code":13009}]}`, ClassNoPermission},
		{400, `{"errors":[{"code":16003,"message":"x"}]}`, ClassServerError},
		{400, `{}`, ClassBadReply},
		{401, `<html>`, ClassBadReply},
		{403, ``, ClassBadReply},
		{429, ``, ClassBusy},
		{429, `{"errors":[{"code":1000}]}`, ClassBusy},
		{503, `{"errors":[{"code":13005}]}`, ClassBadCredentials},
		{502, `<html>`, ClassBusy},
		{500, `x`, ClassServerError},
		{200, `<html>`, ClassBadReply},
		{200, `{"networks":[`, ClassBadReply},
		{200, `"x"`, ClassBadReply},
		{200, `12`, ClassBadReply},
	} {
		c := New(Options{})
		_, err := c.judge(&httpx.Reply{Status: tc.status, Header: http.Header{}, Body: []byte(tc.body)})
		if got := failure.As(err); (got != nil) != (tc.class != "") || got != nil && got.Class != tc.class {
			t.Errorf("%d %s: %v", tc.status, tc.body, err)
		}
	}
	for code, class := range byCode {
		if _, ok := classes[class]; !ok {
			t.Errorf("%d has no class", code)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, s := range []string{``, `{}`, `[]`, `{"errors":[{"code":13001,"message":"x"}]}`, `{"code":1009}`, `{"errors":{"code":"7"}}`, "\xff", `{"errors":[[[`} {
		f.Add(200, []byte(s))
		f.Add(500, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := New(Options{Key: vectorKey})
		data, err := c.judge(&httpx.Reply{Status: status, Header: http.Header{}, Body: body})
		switch {
		case err == nil && (status/100 != 2 || len(data) != len(body)):
			t.Errorf("%d is a success", status)
		case err != nil && (strings.ContainsAny(err.Error(), "\n\r\x1b\x00") || len(err.Error()) > 2000 || failure.As(err).Class == "unknown"):
			t.Errorf("%q", err.Error())
		}
	})
}
