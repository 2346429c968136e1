package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
)

// examples calls each documented route, by its operationId.
var examples = map[string]struct {
	path, body string
	refused    string // a further call that is refused: path, or with a body after a space
}{
	"addToCounter":     {"/v1/tenants/t/counters/c/add", `{"delta":2,"ttlMs":60000,"upper":9}`, `/v1/tenants/t/counters/c/add {"delta":"x"}`},
	"resetCounter":     {"/v1/tenants/t/counters/r/reset", ``, `/v1/tenants/_t/counters/c/reset {}`},
	"getCounter":       {"/v1/tenants/t/counters/c", ``, `/v1/tenants/t/counters/absent`},
	"setCounter":       {"/v1/tenants/t/counters/c", `{"value":-3}`, `/v1/tenants/t/counters/c {}`},
	"deleteCounter":    {"/v1/tenants/t/counters/r", ``, `/v1/tenants/t/counters/s`},
	"listCounters":     {"/v1/tenants/t/counters?limit=1", ``, `/v1/tenants/t/counters?limit=0`},
	"listSets":         {"/v1/tenants/t/sets", ``, `/v1/tenants/t/sets?limit=1001`},
	"listItems":        {"/v1/tenants/t/sets/s/items", ``, `/v1/tenants/t/sets/s/items?cursor=%2F`},
	"addItems":         {"/v1/tenants/t/sets/s/items", `{"items":["a","b"]}`, `/v1/tenants/t/sets/s/items {"items":[]}`},
	"addItem":          {"/v1/tenants/t/sets/s/items/c", ``, `/v1/tenants/t/sets/c/items/c`},
	"removeItem":       {"/v1/tenants/t/sets/s/items/c", ``, `/v1/tenants/t/sets/c/items/c`},
	"hasItem":          {"/v1/tenants/t/sets/s/items/a", ``, `/v1/tenants/t/sets/s/items/x`},
	"countItems":       {"/v1/tenants/t/sets/s/count", ``, `/v1/tenants/t/sets/c/count`},
	"deleteSet":        {"/v1/tenants/t/sets/gone", ``, `/v1/tenants/t/sets/c`},
	"listTenants":      {"/v1/tenants", ``, `/v1/tenants?limit=x`},
	"dropTenant":       {"/v1/tenants/other", ``, `/v1/tenants/_node`},
	"batch":            {"/v1/batch", `[{"op":"add","tenant":"t","name":"b"},{"op":"get","tenant":"t","name":"b"},{"op":"addItem","tenant":"t","name":"b","item":"x"}]`, `/v1/batch?atomic=true [{"op":"addItem","tenant":"t","name":"b","item":"x"}]`},
	"status":           {"/v1/status", ``, ``},
	"postItems":        {"/items", `[{"id":"item1","tenant":"test"}]`, `/items [{"id":"item1"}]`},
	"countTenantItems": {"/items/test/count", ``, ``},
	"health":           {"/health", ``, ``},
	"livez":            {"/livez", ``, ``},
	"readyz":           {"/readyz", ``, ``},
	"openapi":          {"/openapi.json", ``, ``},
	"metrics":          {"/metrics", ``, ``},
	"dashboard":        {"/", ``, ``},
}

func documented(t *testing.T) (http.Handler, *huma.OpenAPI, huma.Registry) {
	t.Helper()
	p, err := pool.New(pool.Config{Store: memstore.New(memstore.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	text := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("text")) })
	s, err := New(Config{Backend: p, Metrics: text, Dashboard: text})
	if err != nil {
		t.Fatal(err)
	}
	// The same document once more as huma's types, to validate against.
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	doc := &huma.OpenAPI{Components: &huma.Components{Schemas: registry}}
	for _, r := range s.table() {
		doc.AddOperation(r.operation(registry))
	}
	return s.Handler(), doc, registry
}

// TestDocumentedRoutes calls each documented route and holds its answers, a
// refused one too, to what the document says of their status.
func TestDocumentedRoutes(t *testing.T) {
	h, doc, registry := documented(t)
	// In an order in which each finds what it needs.
	order := []string{"addToCounter", "resetCounter", "setCounter", "getCounter", "addItems", "addItem", "removeItem", "hasItem", "postItems"}
	operations := make(map[string]*huma.Operation)
	methods := func(p *huma.PathItem) []*huma.Operation { return []*huma.Operation{p.Get, p.Post, p.Put, p.Delete} }
	for _, item := range doc.Paths {
		for _, op := range methods(item) {
			if op == nil {
				continue
			}
			if operations[op.OperationID] != nil {
				t.Errorf("two operations are named %s", op.OperationID)
			}
			operations[op.OperationID] = op
		}
	}
	for id := range examples {
		if operations[id] == nil {
			t.Errorf("%s is not documented", id)
		}
	}
	for id := range operations {
		order = append(order, id)
	}
	seen := make(map[string]bool)
	for _, id := range order {
		op, example, known := operations[id], examples[id], true
		if _, known = examples[id]; !known {
			t.Errorf("%s %s has no example", op.Method, op.Path)
		}
		if seen[id] || !known {
			continue
		}
		seen[id] = true
		status, body, head := call(h, op.Method, example.path, example.body, "Idempotency-Key", "")
		if status != http.StatusOK && id != "status" {
			t.Errorf("%s: status %d, %s", id, status, body)
		}
		conforms(t, registry, op, status, body, head)
		if example.refused != "" {
			path, sent, _ := strings.Cut(example.refused, " ")
			status, body, head := call(h, op.Method, path, sent)
			if status < 400 {
				t.Errorf("%s %s: status %d, want a refusal", id, example.refused, status)
			}
			conforms(t, registry, op, status, body, head)
		}
	}
}

// conforms validates an answer against the document.
func conforms(t *testing.T, registry huma.Registry, op *huma.Operation, status int, body string, head http.Header) {
	t.Helper()
	response := op.Responses[strconv.Itoa(status)]
	if response == nil {
		t.Errorf("%s: status %d is not documented: %s", op.OperationID, status, body)
		return
	}
	mediaType, _, _ := strings.Cut(head.Get("Content-Type"), ";")
	if mediaType == "" {
		mediaType = "text/plain"
	}
	content := response.Content[mediaType]
	if content == nil {
		content = response.Content["text/html"] // the stand-in for the page
	}
	if content == nil {
		t.Errorf("%s: status %d: %q is not documented", op.OperationID, status, mediaType)
		return
	}
	if !strings.HasSuffix(mediaType, "json") {
		return
	}
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Errorf("%s: %v", op.OperationID, err)
		return
	}
	path, result := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	huma.Validate(registry, content.Schema, path, huma.ModeReadFromServer, value, result)
	for _, err := range result.Errors {
		t.Errorf("%s: status %d: %v: %s", op.OperationID, status, err, body)
	}
}

// TestDocument: the document stands for itself: each reference has its target,
// each part of a path its parameter, and nothing loads from elsewhere.
func TestDocument(t *testing.T) {
	h, _, _ := documented(t)
	status, body, _ := call(h, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			Responses   map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(body), &doc); status != 200 || err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("status %d, %v, version %q", status, err, doc.OpenAPI)
	}
	if strings.Contains(body, "$schema") || strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Error("the document points elsewhere")
	}
	for _, part := range strings.Split(body, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			declared := make(map[string]bool)
			for _, p := range op.Parameters {
				declared[p.In+" "+p.Name] = true
			}
			for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
				if !declared["path "+m[1]] {
					t.Errorf("%s %s does not declare %s", method, path, m[1])
				}
			}
			if op.OperationID == "" || op.Responses["200"] == nil {
				t.Errorf("%s %s has no id or answer", method, path)
			}
		}
	}
}
