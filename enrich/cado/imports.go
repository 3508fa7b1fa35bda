package cado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

// maxImport bounds the pipelines that one import may begin.
const maxImport = 100

// projectID is an id as v3 takes it: a number where it is one.
func projectID(id string) any {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return n
	}
	return id
}

// ImportS3 begins the import of one object and returns its pipeline. It is not
// repeated by itself: whoever does not see its answer looks for the pipeline first.
func (c *Client) ImportS3(ctx context.Context, project, bucket, key string) (string, error) {
	const what = "import from S3"
	if !c.v3 {
		return c.begin(ctx, what, request{path: "/projects/" + url.PathEscape(project) + "/imports/s3", body: map[string]any{"bucket": bucket, "file_name": key}})
	}
	body := map[string]any{"project_id": projectID(project), "bucket": bucket, "file_name": []string{key}}
	if c.conf.CloudID != "" {
		body["cloud_id"] = c.conf.CloudID
	}
	id, err := c.begin(ctx, what, request{path: "/import/aws/s3", body: body})
	// Platforms before 2.230.0 took a string and refuse the list. What was refused
	// was not begun.
	if isClass(err, ClassBadRequest) && strings.Contains(err.Error(), "file_name") {
		body["file_name"] = key
		id, err = c.begin(ctx, what, request{path: "/import/aws/s3", body: body})
	}
	return id, err
}

// ImportURL begins an import of what the platform fetches from a URL (v3 only).
func (c *Client) ImportURL(ctx context.Context, project string, from secret.Secret) (string, error) {
	c.scrub.Add(from) // signed URLs are as good as keys
	return c.begin(ctx, "import from a URL", request{path: "/import/url", body: map[string]any{"project_id": projectID(project), "url": from.Reveal()}})
}

func (c *Client) begin(ctx context.Context, what string, r request) (string, error) {
	r.method = http.MethodPost
	e, err := c.call(ctx, r)
	if err != nil {
		return "", about(what, err)
	}
	ids := pipelineIDs(e.Data)
	if len(ids) == 0 {
		return "", about(what, failf(ClassBadReply, "the platform took it and names no pipeline"))
	}
	return ids[0], nil
}

// pipelineIDs reads what imports answer: a pipeline, a list of them, or ids alone.
func pipelineIDs(raw json.RawMessage) []string {
	var ids []string
	take := func(one json.RawMessage) error {
		id := decodePipeline(one).ID
		if id == "" {
			var t text
			_ = t.UnmarshalJSON(one)
			id = t.id()
		}
		if id != "" {
			ids = append(ids, id)
		}
		return nil
	}
	for _, key := range []string{"pipelines", "pipeline_ids"} {
		if list := listOf(raw, key); each(list, maxImport, take) == nil && len(ids) > 0 {
			return ids
		}
		ids = nil
	}
	_ = take(raw)
	return ids
}

// PresignedURL asks where a file of that name may be put by one PUT (v3 only,
// less than 5 GB). The URL is as good as a key.
func (c *Client) PresignedURL(ctx context.Context, project, name string) (secret.Secret, error) {
	const what = "ask for an upload URL"
	e, err := c.call(ctx, request{method: http.MethodPost, path: "/import/local/pre-signed", body: map[string]any{"project_id": projectID(project), "file_names": []string{name}}})
	if err != nil {
		return secret.Secret{}, about(what, err)
	}
	var target text
	_ = each(listOf(e.Data, "urls"), maxImport, func(one json.RawMessage) error {
		var u struct {
			URL text `json:"url"`
		}
		if json.Unmarshal(one, &u) != nil {
			_ = u.URL.UnmarshalJSON(one)
		}
		target = u.URL
		return nil
	})
	u, err := url.Parse(string(target))
	if err != nil || len(target) > 8<<10 || !c.mayFetch(u) {
		return secret.Secret{}, about(what, failf(ClassBadReply, "the platform gives no usable URL"))
	}
	s := secret.New(string(target))
	c.scrub.Add(s)
	return s, nil
}

// mayFetch says whether a URL of the platform's may be used.
func (c *Client) mayFetch(u *url.URL) bool {
	plain := u.Scheme == "http" && (c.conf.AllowHTTP || local(u.Hostname()))
	return u.Host != "" && u.User == nil && (u.Scheme == "https" || plain)
}

// maxPresigned is the size that a presigned upload stays below.
const maxPresigned = 5_000_000_000

// PutPresigned sends a file to a URL of PresignedURL. The key of the API does not
// go there.
func (c *Client) PutPresigned(ctx context.Context, to secret.Secret, body Body) error {
	const what = "upload to the platform's store"
	if body.Size >= maxPresigned {
		f := failf(ClassBadRequest, "%s: a presigned upload takes less than 5 GB", what)
		f.Hint = "set [cado] bucket: through S3 files may be larger"
		return f
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to.Reveal(), http.NoBody)
	if err != nil {
		return about(what, failf(ClassBadReply, "the platform gives no usable URL"))
	}
	if body.Size > 0 {
		req.Body = body.reader()
	}
	req.ContentLength = body.Size
	reply, err := c.outside.Do(req)
	if err == nil && (reply.Status/100 == 2 || isClass(reply.Err, httpx.ClassCanceled)) {
		err = reply.Err // a refusal counts, even one that came early
	}
	if err != nil {
		return about(what, err)
	}
	if reply.Status/100 == 2 {
		return nil
	}
	class := classify(reply.Status, true)
	if class == ClassNoPermission || class == ClassBadCredentials || class == ClassBadRequest || class == ClassNotFound {
		class = ClassBusy // the URL ran out, or was made wrongly: the next one may be good
	}
	f := failf(class, "%s: the store answered %d", what, reply.Status)
	if reply.Status == http.StatusInsufficientStorage {
		f = &failure.Error{Kind: failure.Pause, Class: "store_full", Hint: "make room in the platform's store", Err: errors.New(what + ": the store is full")}
	}
	return f
}

// HasEvidence says whether a project has evidence of exactly that name (v3 only).
func (c *Client) HasEvidence(ctx context.Context, project, name string) (bool, error) {
	found := false
	err := c.pages(ctx, request{path: "/evidences", query: url.Values{"project_id": {project}, "display_name": {name}}}, func(raw json.RawMessage) error {
		var v struct {
			ProjectID text `json:"project_id"`
			Name      text `json:"display_name"`
		}
		_ = json.Unmarshal(raw, &v)
		found = found || string(v.Name) == name && (v.ProjectID == "" || string(v.ProjectID) == project)
		return nil
	})
	return found, about("list evidence", err)
}
