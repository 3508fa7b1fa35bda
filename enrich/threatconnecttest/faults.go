package threatconnecttest

import (
	"strings"
	"time"
)

// faultCodes are v3's codes of the statuses that faults have.
var faultCodes = map[int]string{
	400: "0x1001", 401: "0x1002", 403: "0x1003", 404: "0x1004", 405: "0x1005", 409: "0x1006",
}

func (c *call) failStatus(f Fault) {
	if f.RetryAfter != "" {
		c.w.Header().Set("Retry-After", f.RetryAfter)
	}
	code := faultCodes[f.Status]
	if code == "" {
		code = "0x1007"
	}
	c.fail(&apiError{status: f.Status, code: code, message: f.Text})
}

const faultPage = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to go on</h1></body></html>\n"

func (c *call) failHTML(f Fault) {
	c.sendRaw(f.Status, "text/html; charset=utf-8", []byte(faultPage))
}

func (c *call) failText(f Fault) { c.sendRaw(f.Status, "text/plain", []byte(f.Text)) }

func (c *call) redirect(f Fault) {
	c.w.Header().Set("Location", strings.TrimSuffix(f.To, "/")+c.r.RequestURI)
	c.sendRaw(f.Status, "text/html; charset=utf-8", []byte("<html><body>You are being redirected.</body></html>"))
}

func (c *call) echo(f Fault) {
	c.fail(&apiError{status: f.Status, code: "0x1007", message: "Authorization was " + c.r.Header.Get("Authorization")})
}

// hang holds the request until the client goes away or the server closes.
func (c *call) hang(Fault) {
	select {
	case <-c.r.Context().Done():
	case <-c.s.ctx.Done():
	}
	c.abort()
}

func (c *call) drop(f Fault) {
	if f.Reset {
		c.reset()
	}
	c.abort()
}

func (c *call) performAndDrop(f Fault) {
	if c.route.serve == nil {
		c.fail(notFound())
		return
	}
	if _, _, err := c.perform(nil, nil); err != nil {
		c.fail(err)
		return
	}
	c.drop(f)
}

func (c *call) huge(f Fault) {
	c.w.Header().Set("Content-Type", "application/json")
	c.setStatus(f.Status)
	c.w.WriteHeader(f.Status)
	chunk := []byte(strings.Repeat("A", 64<<10))
	head, tail := `{"status":"Success","data":[{"id":1,"type":"Host","summary":"`, `"}]}`
	_, err := c.w.Write([]byte(head))
	for left := f.Bytes - int64(len(head)+len(tail)); err == nil && left > 0 && c.s.ctx.Err() == nil; {
		var n int
		n, err = c.w.Write(chunk[:min(left, int64(len(chunk)))])
		left -= int64(n)
	}
	if err == nil {
		_, _ = c.w.Write([]byte(tail))
	}
}

// lies are indicators that nobody asked for: one that does not exist, and one of
// the store's own that stands for whatever was asked.
func (c *call) lies(shape shaper, fields []string) []object {
	t := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	out := []object{shape.v3(&Indicator{
		ID: 1<<53 + 1<<40, Type: "Host", Value: "nobody-asked.example", Owner: c.s.store.org, Rating: 5, Confidence: 100,
		Added: t, Modified: t, Groups: []Group{{ID: 1 << 40, Type: "Malware", Name: "Lie", Owner: c.s.store.org}},
	}, fields)}
	for _, i := range c.s.store.indicators {
		if c.s.store.visible(i.Owner) {
			return append(out, shape.v3(i, fields))
		}
	}
	return out
}

// warp makes an indicator's values wild when the fault says so.
func (c *call) warp(o object) object {
	if !c.is("wild") {
		return o
	}
	o["rating"], o["confidence"] = 1e308, -1
	o["webLink"] = "javascript:alert(1)//" + strings.Repeat("\u202e", 3)
	o["description"] = "\x1b[31mred\x00" + strings.Repeat("long ", 20_000)
	o["ownerName"] = "\x1b]0;title\x07<script>alert(1)</script>"
	o["dateAdded"], o["lastModified"] = "yesterday", "9999-99-99T99:99:99Z"
	o["associatedGroups"] = object{"data": []object{{"id": -1, "type": "\x1b[1m", "name": "<img src=x>\n\r", "webLink": "file:///etc/passwd"}}}
	return o
}
