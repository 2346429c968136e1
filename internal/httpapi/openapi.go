package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quipudb/quipu/internal/limit"
)

// commonRefusals may come from any route that reaches the store.
var commonRefusals = []int{
	http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage,
}

// document writes the OpenAPI 3.1 document of the table. huma makes the schemas
// from the Go types; see docs/decisions/0002.
func document(table []route) []byte {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Quipu", Version: "1", License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			Description: "Counters and sets of distinct items that survive: every acknowledged increment is counted exactly once. " +
				"With the query int64=string on any route, answers hold integers as strings.",
		},
		Components: &huma.Components{Schemas: registry},
	}
	for i := range table {
		doc.AddOperation(table[i].operation(registry))
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic("httpapi: the document of the routes: " + err.Error()) // of constants: a test sees it
	}
	return body
}

// schemaName is the name of a type in the document: addJSON is Add.
func schemaName(t reflect.Type, _ string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	name := strings.TrimSuffix(t.Name(), "JSON")
	return strings.ToUpper(name[:1]) + name[1:]
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

func (r *route) operation(registry huma.Registry) *huma.Operation {
	op := &huma.Operation{
		Method: r.method, Path: strings.TrimSuffix(r.path, "{$}"), OperationID: r.id, Summary: r.summary, Tags: []string{r.tag},
		Responses: make(map[string]*huma.Response),
	}
	for _, m := range pathParameter.FindAllStringSubmatch(r.path, -1) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: m[1], In: "path", Required: true, Description: "1 to 512 bytes of UTF-8 without control characters, escaped.", Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	for _, q := range r.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: q.name, In: "query", Description: q.description, Schema: &huma.Schema{Type: q.kind}})
	}
	if r.writes {
		op.Parameters = append(op.Parameters, header("Idempotency-Key", "Request id: a UUIDv7, or 1 to 128 visible ASCII characters. A call that carries it takes effect once, however often it is sent."))
		if !r.noCondition {
			op.Parameters = append(op.Parameters,
				header("If-Match", "Refuse unless the name is at this revision, or, for *, exists."),
				header("If-None-Match", "Only *: refuse unless the name is absent."))
		}
	}
	if r.body != nil {
		op.RequestBody = &huma.RequestBody{
			Description: "At most " + strconv.Itoa(limit.BodyBytes>>20) + " MiB; no unknown or repeated members.",
			Required:    reflect.TypeOf(r.body).Kind() == reflect.Slice,
			Content:     content("application/json", schemaOf(registry, r.body)),
		}
	}
	op.Responses["200"] = r.success(registry)
	if r.id == "readyz" {
		op.Responses["503"] = &huma.Response{Description: "Not ready, and why.", Content: content("text/plain", &huma.Schema{Type: huma.TypeString})}
	}
	if r.text || r.tag == "node" && r.id != "status" {
		return op
	}
	for _, status := range append(r.refusals, commonRefusals...) {
		op.Responses[strconv.Itoa(status)] = r.refusal(registry, status)
	}
	return op
}

func (r *route) success(registry huma.Registry) *huma.Response {
	out := &huma.Response{Description: "Applied.", Headers: make(map[string]*huma.Param)}
	if !r.writes {
		out.Description = "The answer."
	}
	if r.text {
		out.Content = content("text/plain", &huma.Schema{Type: huma.TypeString})
		if r.id == "dashboard" {
			out.Content = content("text/html", &huma.Schema{Type: huma.TypeString})
		}
		return out
	}
	out.Content = content("application/json", schemaOf(registry, r.answer))
	text := &huma.Schema{Type: huma.TypeString}
	if r.etag {
		out.Headers["ETag"] = &huma.Param{Description: "The name's revision, in quotes.", Schema: text}
	}
	if r.writes {
		out.Headers["Idempotency-Replayed"] = &huma.Param{Description: "true if the request id was applied before.", Schema: text}
		out.Headers["Idempotency-Expires"] = &huma.Param{Description: "Until when the request id is remembered at least.", Schema: text}
	}
	return out
}

func (r *route) refusal(registry huma.Registry, status int) *huma.Response {
	out := &huma.Response{Description: http.StatusText(status), Content: content("application/problem+json", schemaOf(registry, problem{}))}
	switch {
	case r.id == "postItems" && status == http.StatusBadRequest:
		// The plain items API has its own words for a missing value.
		out.Content["application/json"] = &huma.MediaType{Schema: schemaOf(registry, messageJSON{})}
	case r.id == "batch":
		// A batch that was refused as a whole, or an atomic one, tells of each
		// operation.
		out.Content["application/json"] = &huma.MediaType{Schema: schemaOf(registry, []resultJSON{})}
	}
	return out
}

func header(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
}

func content(mediaType string, s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaType: {Schema: s}}
}

func schemaOf(registry huma.Registry, v any) *huma.Schema {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Map {
		return &huma.Schema{Type: huma.TypeObject}
	}
	s := huma.SchemaFromType(registry, t)
	if t.Kind() == reflect.Struct {
		return registry.Schema(t, true, "")
	}
	s.Nullable = false
	return s
}
