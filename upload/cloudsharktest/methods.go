package cloudsharktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// zone is not UTC on purpose: info's times are in the appliance's zone
// (contracts/cloudshark.md 1.4), and a client must not assume which that is.
var zone = time.FixedZone("", -5*60*60)

func errNoCapture() error { return refuse(http.StatusNotFound, "Capture not found") }

// findID makes sure that the path names a session that exists. Deleting may
// name it in a JSON body instead (contracts/cloudshark.md 1.3).
func (c *call) findID() error {
	if c.id == "" && c.method == "delete" {
		var in struct{ ID string }
		if err := json.NewDecoder(io.LimitReader(c.body, 4096)).Decode(&in); err != nil {
			return violation(http.StatusBadRequest, "no capture is named")
		}
		c.id = in.ID
	}
	if !idPattern().MatchString(c.id) {
		return violation(http.StatusBadRequest, "%q is not a capture's id", c.scrub(c.id))
	}
	if _, ok := c.s.store.get(c.id); !ok {
		return errNoCapture()
	}
	return nil
}

// search answers with the sessions that match every criterion. Whether
// CloudShark compares file names in whole or in part is not documented: a part
// is enough here, so that clients must look closer.
func (c *call) search() (func(), error) {
	match := func(*Session) bool { return true }
	and := func(more func(*Session) bool) {
		before := match
		match = func(s *Session) bool { return before(s) && more(s) }
	}
	for key, values := range c.query {
		value := values[0]
		switch key {
		case "search[filename]":
			and(func(s *Session) bool { return strings.Contains(s.Filename, value) })
		case "search[tags][]":
			and(func(s *Session) bool { return hasAll(s.Tags, values) })
		case "search[date]":
			from, to, err := parseDates(value)
			if err != nil {
				return nil, err
			}
			and(func(s *Session) bool { return !s.Created.Before(from) && s.Created.Before(to) })
		default:
			return nil, violation(http.StatusBadRequest, "unknown parameter %q", c.scrub(key))
		}
	}
	found, _ := c.s.store.find(match, 0, 0)
	captures := make([]map[string]any, len(found))
	for i, s := range found {
		captures[i] = map[string]any{
			"id": s.ID, "filename": s.Filename, "size": s.Size, "tag_list": strings.Join(s.Tags, ","),
			"created_at": stamp(s.Created), "num_packets": s.Packets, "public?": false,
		}
	}
	return func() { c.send(http.StatusOK, map[string]any{"captures": captures}) }, nil
}

func hasAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// parseDates reads month/day/year-month/day/year, both days included.
func parseDates(text string) (from, to time.Time, err error) {
	const layout = "1/2/2006"
	a, b, _ := strings.Cut(text, "-")
	from, errFrom := time.ParseInLocation(layout, a, zone)
	to, errTo := time.ParseInLocation(layout, b, zone)
	if errFrom != nil || errTo != nil {
		return from, to, violation(http.StatusBadRequest, "search[date] is not MM/DD/YYYY-MM/DD/YYYY")
	}
	return from, to.AddDate(0, 0, 1), nil
}

// stamp writes a time as the documented reply does: whole seconds and a numeric
// zone; "" for a time that is not there.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format("2006-01-02T15:04:05-07:00")
}

// info answers with the keys and the types of the real reply of
// contracts/cloudshark.md 1.4: sizes and counts are numbers, rates and the
// duration are strings, some keys end in a question mark.
func (c *call) info() (func(), error) {
	s, _ := c.s.store.get(c.id)
	seconds := s.Last.Sub(s.First).Seconds()
	per := func(n int64, by float64) string {
		if by == 0 {
			return "0.00"
		}
		return strconv.FormatFloat(float64(n)/by, 'f', 2, 64)
	}
	kind := "Wireshark/tcpdump/... - pcap"
	if s.Format == "pcapng" {
		kind = "Wireshark/... - pcapng"
	}
	cut := "No"
	if s.Cut {
		cut = "Yes"
	}
	reply := map[string]any{
		"id": s.ID, "filename": s.Filename, "size": s.Size, "sha1_hash": s.SHA1,
		"num_packets": s.Packets, "data_size": s.PacketBytes,
		"duration":           strconv.FormatFloat(seconds, 'f', 6, 64),
		"avg_packet_size":    per(s.PacketBytes, float64(s.Packets)),
		"avg_packet_rate":    per(s.Packets, seconds),
		"data_byte_rate":     per(s.PacketBytes, seconds),
		"data_bit_rate":      per(s.PacketBytes*8, seconds),
		"start_time":         stamp(s.First),
		"end_time":           stamp(s.Last),
		"created_at":         stamp(s.Created),
		"last_accessed":      stamp(c.s.opts.Now()),
		"comments":           s.Comments,
		"tag_list":           strings.Join(s.Tags, ","),
		"encapsulation":      s.Encapsulation,
		"file_type":          kind,
		"file_source":        "upload",
		"file":               fmt.Sprintf("/var/www/cloudshark/current/uploads/%s.cap", s.ID),
		"cap_file_id":        165000 + s.Seq,
		"viewcount":          0,
		"truncated":          cut,
		"user":               "sandbox",
		"group":              "",
		"group_write?":       false,
		"public?":            false,
		"disable_autodelete": false,
	}
	if c.fault != nil && c.fault.Name == "no-sha1" {
		delete(reply, "sha1_hash")
		delete(reply, "disable_autodelete")
	}
	return func() { c.send(http.StatusOK, reply) }, nil
}

func (c *call) download() (func(), error) {
	s, _ := c.s.store.get(c.id)
	f, err := c.s.store.open(c.id)
	if err != nil {
		return nil, err
	}
	return func() {
		defer f.Close()
		c.setStatus(http.StatusOK)
		sendCapture(c.w, c.r, s, f)
	}, nil
}

// sendCapture sends a capture as a download, never as something to show.
func sendCapture(w http.ResponseWriter, r *http.Request, s Session, f io.ReadSeeker) {
	name := mime.FormatMediaType("attachment", map[string]string{"filename": s.Filename})
	if name == "" {
		name = "attachment"
	}
	w.Header().Set("Content-Disposition", name)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", s.Created, f)
}

func (c *call) remove() (func(), error) {
	gone, err := c.s.store.remove(c.id)
	if err != nil {
		return nil, err
	}
	if !gone {
		return nil, errNoCapture()
	}
	return func() {
		c.send(http.StatusOK, map[string]any{"id": c.id, "message": "Capture deleted successfully.", "status": 200})
	}, nil
}

// annotations lists a session's annotations after changing one: frame and text
// set it, frame alone takes it away, quiet answers 204 without the list.
func (c *call) annotations() (func(), error) {
	s, ok := c.s.store.get(c.id)
	if !ok {
		return nil, errNoCapture()
	}
	notes, quiet := s.Annotations, false
	if c.r.Method == http.MethodPost {
		in, err := c.smallForm()
		if err != nil {
			return nil, err
		}
		frame, err := strconv.ParseInt(in.Get("frame"), 10, 64)
		if err != nil || frame < 1 || frame > s.Packets {
			return nil, violation(http.StatusBadRequest, "frame must be a packet's number, from 1 to %d", s.Packets)
		}
		text := in.Get("text")
		if c.scrub(text) != text {
			return nil, violation(http.StatusBadRequest, "the token stands in text")
		}
		if notes, err = c.s.store.annotate(c.id, frame, text); err != nil {
			return nil, err
		}
		quiet = in.Has("quiet") && in.Get("quiet") != "false" && in.Get("quiet") != "0"
	}
	if quiet {
		return func() { c.start(http.StatusNoContent) }, nil
	}
	list := make([]map[string]any, len(notes))
	for i, n := range notes {
		list[i] = map[string]any{"line": n.Frame, "capture_id": c.id, "text": n.Text, "user": "sandbox"}
	}
	return func() { c.send(http.StatusOK, list) }, nil
}

// smallForm reads the parameters of a call from its query and its form.
func (c *call) smallForm() (url.Values, error) {
	out := url.Values{}
	for k, v := range c.query {
		out[k] = v
	}
	data, err := io.ReadAll(io.LimitReader(c.body, maxField+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxField {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the form is too large")
	}
	kind, attrs, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	var in url.Values
	switch {
	case len(data) == 0:
	case kind == "application/x-www-form-urlencoded":
		in, err = url.ParseQuery(string(data))
	case kind == "multipart/form-data":
		in, err = parseMultipart(data, attrs["boundary"])
	default:
		err = fmt.Errorf("content type %q", kind)
	}
	if err != nil {
		return nil, violation(http.StatusBadRequest, "the form cannot be read")
	}
	for k, v := range in {
		out[k] = append(out[k], v...)
	}
	return out, nil
}

func parseMultipart(data []byte, boundary string) (url.Values, error) {
	form, err := multipart.NewReader(bytes.NewReader(data), boundary).ReadForm(maxField)
	if err != nil {
		return nil, err
	}
	defer func() { _ = form.RemoveAll() }()
	return form.Value, nil
}
