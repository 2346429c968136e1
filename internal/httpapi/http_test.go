package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
)

func handler(t testing.TB) http.Handler {
	t.Helper()
	p, err := pool.New(pool.Config{Store: memstore.New(memstore.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := New(Config{Backend: p})
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func call(h http.Handler, method, path, body string, header ...string) (int, string, http.Header) {
	r := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	got, _ := io.ReadAll(w.Body)
	return w.Code, string(got), w.Header()
}

// TestItemsExactly compares the plain items API byte for byte.
func TestItemsExactly(t *testing.T) {
	h := handler(t)
	for _, row := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/items/test/count", "", 200, `{"count":0}`},
		{"POST", "/items", `[{"id":"item1","tenant":"test"}]`, 200, `{"message":"Success"}`},
		{"POST", "/items", `[{"id":"item1","tenant":"test"}]`, 200, `{"message":"Success"}`},
		{"GET", "/items/test/count", "", 200, `{"count":1}`},
		{"POST", "/items", `[{"id":"item2","tenant":"test"},{"id":"item3"}]`, 400, `{"message":"both values are required"}`},
		{"POST", "/items", `[{"id":"item2","tenant":"test"},{"id":"","tenant":"test"}]`, 400, `{"message":"both values are required"}`},
		{"GET", "/items/test/count", "", 200, `{"count":1}`},
		{"POST", "/items", `[{"id":"item2","tenant":"test"},{"id":"item2","tenant":"other"}]`, 200, `{"message":"Success"}`},
		{"GET", "/items/test/count", "", 200, `{"count":2}`},
	} {
		status, got, _ := call(h, row.method, row.path, row.body)
		if status != row.status || got != row.want {
			t.Errorf("%s %s %s: got %d %q, want %d %q", row.method, row.path, row.body, status, got, row.status, row.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	h := handler(t)
	const c = "/v1/tenants/default/counters/c"
	for _, row := range []struct {
		method, path, body string
		header             []string
		status             int
		want               string // contained
	}{
		{"GET", c, "", nil, 404, `"type":"urn:quipu:problem:not-found"`},
		{"POST", c + "/add", "", nil, 200, `"value":1,"applied":1,"revision":`},
		{"POST", c + "/add", `{"delta":5}`, nil, 200, `"value":6`},
		{"POST", c + "/add", `{"delta":5,"upper":10}`, nil, 409, `"value":6`},
		{"POST", c + "/add", `{"delta":5,"upper":10,"overflow":"saturate"}`, nil, 200, `"value":10,"applied":4`},
		{"POST", c + "/add", `{"delta":9223372036854775807}`, nil, 409, `overflow`},
		{"POST", c + "/add", `{"delta":9223372036854775808}`, nil, 400, `"field":"delta"`},
		{"POST", c + "/add", `{"delta":1.5}`, nil, 400, `"field":"delta"`},
		{"POST", c + "/add", `{"dleta":1}`, nil, 400, `dleta`},
		{"POST", c + "/add", `{"delta":1,"delta":2}`, nil, 400, `malformed`},
		{"POST", c + "/add", "{\"delta\":\"\xff\"}", nil, 400, `malformed`},
		{"POST", c + "/add", `{`, nil, 400, `malformed`},
		{"PUT", c, `{"value":3}`, nil, 200, `"value":3,"old":10`},
		{"PUT", c, `{}`, nil, 400, `"field":"value"`},
		{"PUT", c, `{"value":3}`, []string{"If-Match", `"1"`}, 412, `precondition-failed`},
		{"PUT", c, `{"value":3}`, []string{"If-None-Match", "*"}, 412, `precondition-failed`},
		{"GET", c + "?int64=string", "", nil, 200, `"value":"3"`},
		{"POST", c + "/reset", "", nil, 200, `"value":0,"old":3`},
		{"DELETE", c, "", nil, 200, `"old":0`},
		{"POST", "/v1/tenants/default/counters/a%2Fb/add", "", nil, 200, `"value":1`},
		{"GET", "/v1/tenants/default/counters/a%2Fb", "", nil, 200, `"name":"a/b"`},
		{"GET", "/v1/tenants/default/counters?prefix=a&limit=1", "", nil, 200, `{"counters":[{"name":"a/b","value":1`},
		{"GET", "/v1/tenants/default/counters?limit=1001", "", nil, 400, `"field":"limit"`},
		{"POST", "/v1/tenants/_node/counters/x/add", "", nil, 403, `reserved`},
		{"POST", "/v1/tenants/default/counters/" + strings.Repeat("x", 513) + "/add", "", nil, 400, `the limit is 512`},
		{"POST", "/v1/tenants/t/sets/s/items", `{"items":["a","b","a"]}`, nil, 200, `"added":2`},
		{"GET", "/v1/tenants/t/sets/s/count", "", nil, 200, `{"count":2}`},
		{"GET", "/v1/tenants/t/sets/s/items/a", "", nil, 200, `{"member":true}`},
		{"DELETE", "/v1/tenants/t/sets/s/items/a", "", nil, 200, `"changed":true`},
		{"GET", "/v1/tenants/t/sets/s/items/a", "", nil, 404, `not-found`},
		{"GET", "/v1/tenants/t/sets/s/items", "", nil, 200, `{"items":["b"],"cursor":""}`},
		{"GET", "/v1/tenants/t/sets", "", nil, 200, `{"sets":[{"name":"s","count":1`},
		{"GET", "/v1/tenants/t/counters/s", "", nil, 409, `wrong-kind`},
		{"GET", "/v1/tenants", "", nil, 200, `{"tenants":["default","t"],"cursor":""}`},
		{"DELETE", "/v1/tenants/t", "", nil, 200, `"value":0`},
		{"POST", "/v1/batch", `[{"op":"add","name":"x","delta":2},{"op":"get","name":"x"},{"op":"addItem","name":"x","item":"i"}]`, nil, 200, `"outcome":"not_applied"`},
		{"POST", "/v1/batch?atomic=true", `[{"op":"add","name":"y"},{"op":"add","name":"x","upper":1}]`, nil, 409, `"outcome":"not_applied"`},
		{"GET", "/v1/tenants/default/counters/y", "", nil, 404, ``},
		{"POST", "/v1/batch", `[]`, nil, 400, `body`},
		{"POST", "/v1/batch", `[{"op":"add"}]`, nil, 400, `operation 0: name is empty`},
		{"GET", "/health", "", nil, 200, `{"status":"ok"}`},
		{"GET", "/readyz", "", nil, 200, `ready`},
		{"GET", "/nowhere", "", nil, 404, `not-found`},
	} {
		status, got, _ := call(h, row.method, row.path, row.body, row.header...)
		if status != row.status || !strings.Contains(got, row.want) {
			t.Errorf("%s %.60s %s: got %d %s, want %d %s", row.method, row.path, row.body, status, got, row.status, row.want)
		}
	}
}

func TestIdempotency(t *testing.T) {
	h := handler(t)
	id := quipu.NewIDSource(nil).Next().String()
	add := func(path, body string) (int, string, http.Header) {
		return call(h, "POST", path, body, "Idempotency-Key", id)
	}
	const c, d = "/v1/tenants/default/counters/c/add", "/v1/tenants/default/counters/d/add"
	if status, got, _ := add(c, `{"delta":5}`); status != 200 || !strings.Contains(got, `"value":5`) {
		t.Fatalf("first: %d %s", status, got)
	}
	status, got, header := add(c, `{ "delta": 5 }`)
	if status != 200 || !strings.Contains(got, `"value":5`) || header.Get("Idempotency-Replayed") != "true" || header.Get("Idempotency-Expires") == "" {
		t.Fatalf("replay: %d %s %v", status, got, header)
	}
	if status, got, _ := add(c, `{"delta":6}`); status != 422 || !strings.Contains(got, "id-reused") {
		t.Fatalf("another operation: %d %s", status, got)
	}
	if status, got, _ := add(d, `{"delta":5}`); status != 200 || !strings.Contains(got, `"replayed":false`) {
		t.Fatalf("another name: %d %s", status, got)
	}
	old := "00000000-0000-7000-8000-000000000000"
	if status, got, _ := call(h, "POST", c, "", "Idempotency-Key", old); status != 409 || !strings.Contains(got, "id-expired") {
		t.Fatalf("too old: %d %s", status, got)
	}
	if status, got, _ := call(h, "POST", c, "", "Idempotency-Key", "a b"); status != 400 || !strings.Contains(got, "Idempotency-Key") {
		t.Fatalf("malformed: %d %s", status, got)
	}
}

func TestLimits(t *testing.T) {
	h := handler(t)
	ops := func(n int) string {
		return "[" + strings.Repeat(`{"op":"add","name":"x"},`, n-1) + `{"op":"add","name":"x"}]`
	}
	if status, got, _ := call(h, "POST", "/v1/batch", ops(limit.BatchOps)); status != 200 {
		t.Fatalf("at the limit of operations: %d %.200s", status, got)
	}
	if status, _, _ := call(h, "POST", "/v1/batch", ops(limit.BatchOps+1)); status != 413 {
		t.Fatalf("one above: %d", status)
	}
	pad := func(n int) string { return `{"delta":1` + strings.Repeat(" ", n-11) + "}" }
	if status, got, _ := call(h, "POST", "/v1/tenants/default/counters/c/add", pad(limit.BodyBytes)); status != 200 {
		t.Fatalf("at the limit of the body: %d %.200s", status, got)
	}
	if status, _, _ := call(h, "POST", "/v1/tenants/default/counters/c/add", pad(limit.BodyBytes+1)); status != 413 {
		t.Fatalf("one byte above: %d", status)
	}
}

// TestStatuses holds the table of statuses.
func TestStatuses(t *testing.T) {
	for code, want := range map[quipu.Code]int{
		quipu.CodeWrongKind: 409, quipu.CodeOverflow: 409, quipu.CodeOutOfBounds: 409, quipu.CodePrecondition: 412, quipu.CodeIDReused: 422,
		quipu.CodeIDExpired: 409, quipu.CodeInvalid: 400, quipu.CodeReserved: 403, quipu.CodeTooLarge: 413, quipu.CodeBusy: 429,
		quipu.CodeNotReady: 503, quipu.CodeDiskFull: 507, quipu.CodeUnknown: 504,
	} {
		p := newProblem(&quipu.Error{Code: code})
		if p.Status != want || p.Type != problemPrefix+code.String() || p.Outcome != code.Outcome().String() || p.Retryable != code.Retryable() {
			t.Errorf("%v: %+v, want status %d", code, p, want)
		}
	}
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`[{"op":"add","name":"x","delta":2,"key":"k"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ops, err := batchOps(body, quipu.RequestID{})
		if err != nil {
			return
		}
		for i := range ops {
			if err := ops[i].Validate(); err != nil {
				t.Fatalf("operation %d was let through: %v", i, err)
			}
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	var rows []string
	for i := range 1000 {
		rows = append(rows, fmt.Sprintf(`{"op":"add","name":"counter-%d","delta":%d}`, i, i))
	}
	body := []byte("[" + strings.Join(rows, ",") + "]")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := batchOps(body, quipu.RequestID{}); err != nil {
			b.Fatal(err)
		}
	}
}
