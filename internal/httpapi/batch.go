package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/store"
)

var batchKinds = map[string]quipu.Kind{
	"add": quipu.KindAdd, "set": quipu.KindSet, "reset": quipu.KindReset, "delete": quipu.KindDelete, "get": quipu.KindGet,
	"expire": quipu.KindExpire, "addItem": quipu.KindAddItem, "removeItem": quipu.KindRemoveItem,
}

// op turns a row of the body into an operation; header is the request's key.
func (j *opJSON) op(header quipu.RequestID) (quipu.Op, error) {
	kind, ok := batchKinds[j.Op]
	if !ok {
		return quipu.Op{}, quipu.Invalid("op", "is %q: it is add, set, reset, delete, get, expire, addItem or removeItem", j.Op)
	}
	op := quipu.Op{Kind: kind, Tenant: j.Tenant, Name: j.Name, Item: j.Item}
	if op.Tenant == "" {
		op.Tenant = quipu.DefaultTenant
	}
	switch {
	case kind == quipu.KindAdd && j.Delta == nil:
		op.Value = 1
	case kind == quipu.KindAdd:
		op.Value = *j.Delta
	case j.Delta != nil:
		return op, quipu.Invalid("delta", "is not taken by %s", j.Op)
	}
	switch {
	case kind == quipu.KindSet && j.Value == nil:
		return op, quipu.Invalid("value", "is missing")
	case kind == quipu.KindSet:
		op.Value = *j.Value
	case j.Value != nil:
		return op, quipu.Invalid("value", "is not taken by %s", j.Op)
	}
	var o quipu.Options
	if err := j.into(&o); err != nil {
		return op, err
	}
	var err error
	if o.Expiry, err = j.expiry(); err != nil {
		return op, err
	}
	if j.IfRevision != nil {
		o.If = quipu.Precondition{Kind: quipu.IfRevision, Revision: *j.IfRevision}
		if *j.IfRevision == 0 {
			o.If = quipu.Precondition{Kind: quipu.IfAbsent}
		}
	}
	if !kind.Reads() {
		o.ID = header
	}
	if j.Key != "" {
		if o.ID, err = quipu.ParseRequestID(j.Key); err != nil {
			return op, err
		}
	}
	if o != (quipu.Options{}) {
		op.Options = &o
	}
	if !kind.Reads() && quipu.Reserved(op.Tenant) {
		return op, &quipu.Error{Code: quipu.CodeReserved, Field: "tenant"}
	}
	return op, op.Validate()
}

// batchOps reads a batch's body.
func batchOps(body []byte, header quipu.RequestID) ([]quipu.Op, error) {
	var rows []opJSON
	if err := unmarshal(body, &rows); err != nil {
		return nil, err
	}
	switch {
	case len(rows) == 0:
		return nil, quipu.Invalid("body", "is not an array of operations, or is empty")
	case len(rows) > limit.BatchOps:
		return nil, &quipu.Error{Code: quipu.CodeTooLarge, Field: "body", Message: fmt.Sprintf("body has %d operations: the limit is %d", len(rows), limit.BatchOps)}
	}
	ops := make([]quipu.Op, len(rows))
	for i := range rows {
		op, err := rows[i].op(header)
		if err != nil {
			if e, ok := err.(*quipu.Error); ok {
				return nil, &quipu.Error{Code: e.Code, Field: fmt.Sprintf("%d/%s", i, e.Field), Message: fmt.Sprintf("operation %d: %s", i, e.Error())}
			}
			return nil, err
		}
		ops[i] = op
	}
	quipu.NumberIDs(ops)
	return ops, nil
}

func (s *Server) batch(w http.ResponseWriter, r *http.Request) {
	header, err := requestID(r)
	if err != nil {
		fail(w, err)
		return
	}
	body, err := readBody(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	ops, err := batchOps(body, header)
	if err != nil {
		fail(w, err)
		return
	}
	var groups []store.Group
	atomic := r.URL.Query().Get("atomic") == "true"
	if atomic {
		groups = []store.Group{{Count: len(ops), AllOrNothing: true}}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
	defer cancel()
	results := make([]quipu.Result, len(ops))
	s.cfg.Backend.Do(ctx, ops, groups, results)
	status := http.StatusOK
	switch at := firstFailure(results); {
	case at >= 0 && (atomic || wholeRefused(results)):
		status = statusOf(results[at].Code)
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
	}
	replayed := false
	for i := range results {
		replayed = replayed || results[i].Replayed
	}
	s.expires(w, header)
	if replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	writeResults(w, r, status, ops, results)
}

// wholeRefused reports whether the batch as a whole was refused or is unknown.
func wholeRefused(results []quipu.Result) bool {
	c := results[0].Code
	return c.Retryable() || c == quipu.CodeTooLarge
}
