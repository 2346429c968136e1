package httpapi

import (
	"net/http"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// route is a row of the one table from which requests are dispatched and
// /openapi.json is written: what is served is documented, and the reverse.
type route struct {
	method, path string // as net/http.ServeMux has them
	id, summary  string // operationId and what it does
	tag          string
	handler      http.HandlerFunc
	query        []queryParameter
	body, answer any // nil for none, or a value of the type
	text         bool
	writes       bool // takes Idempotency-Key, If-Match, If-None-Match
	noCondition  bool // takes no If-Match and If-None-Match
	etag         bool
	refusals     []int // statuses of problems beside 400, 413, 429, 500, 503, 504, 507
}

type queryParameter struct {
	name, description, kind string
}

var pageQuery = []queryParameter{
	{"prefix", "Only names that begin with it.", "string"},
	{"limit", "Entries a page, 1 to 1000, 100 if missing.", "integer"},
	{"cursor", "The cursor of the page before.", "string"},
}

func (s *Server) table() []route {
	const (
		tenant   = "/v1/tenants/{tenant}"
		counters = tenant + "/counters"
		counter  = counters + "/{name}"
		sets     = tenant + "/sets"
		set      = sets + "/{name}"
	)
	refused := []int{http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}
	table := []route{
		{method: "POST", path: counter + "/add", id: "addToCounter", tag: "counters", summary: "Add to a counter, creating it at 0.", handler: s.add, body: addJSON{}, answer: answerJSON{}, writes: true, etag: true, refusals: refused},
		{method: "POST", path: counter + "/reset", id: "resetCounter", tag: "counters", summary: "Set a counter to 0 and tell what it was.", handler: s.reset, body: resetJSON{}, answer: answerJSON{}, writes: true, etag: true, refusals: refused},
		{method: "GET", path: counter, id: "getCounter", tag: "counters", summary: "Read a counter.", handler: s.get, answer: counterJSON{}, etag: true, refusals: []int{http.StatusNotFound, http.StatusConflict}},
		{method: "PUT", path: counter, id: "setCounter", tag: "counters", summary: "Set a counter.", handler: s.put, body: putJSON{}, answer: answerJSON{}, writes: true, etag: true, refusals: refused},
		{method: "DELETE", path: counter, id: "deleteCounter", tag: "counters", summary: "Delete a counter.", handler: s.remove(quipu.KindCounter), answer: answerJSON{}, writes: true, refusals: refused},
		{method: "GET", path: counters, id: "listCounters", tag: "counters", summary: "List counters in the order of their names.", handler: s.list(store.Names, quipu.KindCounter), query: pageQuery, answer: countersJSON{}},
		{method: "GET", path: sets, id: "listSets", tag: "sets", summary: "List sets in the order of their names.", handler: s.list(store.Names, quipu.KindItems), query: pageQuery, answer: setsJSON{}},
		{method: "GET", path: set + "/items", id: "listItems", tag: "sets", summary: "List a set's items in their order.", handler: s.list(store.Items, quipu.KindNone), query: pageQuery, answer: itemsJSON{}},
		{method: "POST", path: set + "/items", id: "addItems", tag: "sets", summary: "Add items to a set, all or none; each counts once.", handler: s.addItems, body: addItemsJSON{}, answer: addedJSON{}, writes: true, refusals: refused},
		{method: "PUT", path: set + "/items/{item}", id: "addItem", tag: "sets", summary: "Add one item.", handler: s.item(quipu.KindAddItem), answer: answerJSON{}, writes: true, etag: true, refusals: refused},
		{method: "DELETE", path: set + "/items/{item}", id: "removeItem", tag: "sets", summary: "Remove one item.", handler: s.item(quipu.KindRemoveItem), answer: answerJSON{}, writes: true, etag: true, refusals: refused},
		{method: "GET", path: set + "/items/{item}", id: "hasItem", tag: "sets", summary: "Ask whether an item is in the set.", handler: s.hasItem, answer: memberJSON{}, refusals: []int{http.StatusNotFound, http.StatusConflict}},
		{method: "GET", path: set + "/count", id: "countItems", tag: "sets", summary: "Count a set's distinct items.", handler: s.setCount, answer: countJSON{}, refusals: []int{http.StatusConflict}},
		{method: "DELETE", path: set, id: "deleteSet", tag: "sets", summary: "Delete a set.", handler: s.remove(quipu.KindItems), answer: answerJSON{}, writes: true, refusals: refused},
		{method: "GET", path: "/v1/tenants", id: "listTenants", tag: "tenants", summary: "List tenants.", handler: s.list(store.Tenants, quipu.KindNone), query: pageQuery, answer: tenantsJSON{}},
		{method: "DELETE", path: tenant, id: "dropTenant", tag: "tenants", summary: "Delete all counters and sets of a tenant.", handler: s.dropTenant, answer: answerJSON{}, writes: true, noCondition: true, refusals: []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity}},
		{method: "POST", path: "/v1/batch", id: "batch", tag: "batch", summary: "Run up to 10,000 operations in order, each for itself or all or none.", handler: s.batch, query: []queryParameter{{"atomic", "All or none.", "boolean"}}, body: []opJSON{}, answer: []resultJSON{}, writes: true, noCondition: true, refusals: refused},
		{method: "GET", path: "/v1/status", id: "status", tag: "node", summary: "Tell the node's state and figures.", handler: s.status, answer: map[string]any{}, refusals: []int{http.StatusNotFound}},
		{method: "POST", path: "/items", id: "postItems", tag: "items", summary: "Add items to the sets named items of their tenants, all or none.", handler: s.postItems, body: []itemJSON{}, answer: messageJSON{}, writes: true, noCondition: true, refusals: []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity}},
		{method: "GET", path: "/items/{tenant}/count", id: "countTenantItems", tag: "items", summary: "Count the distinct items of a tenant.", handler: s.itemsCount, answer: countJSON{}, refusals: []int{http.StatusConflict}},
		{method: "GET", path: "/health", id: "health", tag: "node", summary: "Answer while the process serves.", handler: s.health, answer: healthJSON{}},
		{method: "GET", path: "/livez", id: "livez", tag: "node", summary: "Answer while the process serves, as text.", handler: s.livez, text: true},
		{method: "GET", path: "/readyz", id: "readyz", tag: "node", summary: "Answer 200 while the node is ready to count, else 503.", handler: s.readyz, text: true},
		{method: "GET", path: "/openapi.json", id: "openapi", tag: "node", summary: "This document.", handler: s.openAPI, answer: map[string]any{}},
	}
	if s.cfg.Metrics != nil {
		table = append(table, route{method: "GET", path: "/metrics", id: "metrics", tag: "node", summary: "Metrics for Prometheus.", handler: s.cfg.Metrics.ServeHTTP, text: true})
	}
	if s.cfg.Dashboard != nil {
		table = append(table, route{method: "GET", path: "/{$}", id: "dashboard", tag: "node", summary: "A page with the node's state.", handler: s.cfg.Dashboard.ServeHTTP, text: true})
	}
	return table
}

func (s *Server) routes() http.Handler {
	table := s.table()
	s.document = document(table)
	mux := http.NewServeMux()
	for _, r := range table {
		mux.HandleFunc(r.method+" "+r.path, r.handler)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		notFound(w, "there is no "+r.Method+" "+r.URL.EscapedPath())
	})
	return s.counted(mux)
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusOK, healthJSON{"ok"})
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) }

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(s.document)
}
