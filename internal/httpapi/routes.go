package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/store"
)

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Ready(); err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ready\n"))
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Status == nil {
		notFound(w, "no status is served")
		return
	}
	v, err := s.cfg.Status(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, r, http.StatusOK, v)
}

// target reads the path, and refuses a write to a reserved tenant.
func target(r *http.Request, kind quipu.Kind) (quipu.Op, error) {
	op := quipu.Op{Kind: kind, Tenant: r.PathValue("tenant"), Name: r.PathValue("name"), Item: r.PathValue("item")}
	if err := quipu.ValidateTenant(op.Tenant); err != nil {
		return op, err
	}
	if !kind.Reads() && quipu.Reserved(op.Tenant) {
		return op, &quipu.Error{Code: quipu.CodeReserved, Field: "tenant"}
	}
	return op, nil
}

func newAnswer(op *quipu.Op, r *quipu.Result) answerJSON {
	a := answerJSON{Value: r.Value, Applied: r.Delta, Revision: r.Revision, Replayed: r.Replayed}
	switch op.Kind {
	case quipu.KindReset, quipu.KindSet, quipu.KindDelete:
		a.Old = &r.Old
	case quipu.KindAddItem, quipu.KindRemoveItem, quipu.KindHasItem, quipu.KindExpire:
		a.Changed = &r.Changed
	}
	if r.ExpireAt != 0 {
		ttl := max(r.ExpireAt-r.Now, 1)
		a.TTLMs = &ttl
	}
	return a
}

// run executes one operation and answers.
func (s *Server) run(w http.ResponseWriter, r *http.Request, op quipu.Op) {
	if err := op.Validate(); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
	defer cancel()
	ops, results := []quipu.Op{op}, make([]quipu.Result, 1)
	if !op.Kind.Reads() {
		s.cfg.Backend.Do(ctx, ops, nil, results)
	} else if err := s.cfg.Backend.Read(ctx, ops, results); err != nil {
		fail(w, err)
		return
	}
	res := &results[0]
	if res.Code != quipu.CodeOK {
		writeProblem(w, resultProblem(res))
		return
	}
	s.expires(w, op.ID())
	if res.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	if res.Kind != quipu.KindNone {
		w.Header().Set("ETag", `"`+strconv.FormatUint(res.Revision, 10)+`"`)
	}
	writeJSON(w, r, http.StatusOK, newAnswer(&op, res))
}

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	var body addJSON
	s.write(w, r, quipu.KindAdd, &body, func(op *quipu.Op) (err error) {
		op.Value = 1
		if body.Delta != nil {
			op.Value = *body.Delta
		}
		if err := body.into(op.Options); err != nil {
			return err
		}
		op.Options.Expiry, err = body.expiry()
		return err
	})
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	var body putJSON
	s.write(w, r, quipu.KindSet, &body, func(op *quipu.Op) (err error) {
		if body.Value == nil {
			return quipu.Invalid("value", "is missing")
		}
		op.Value = *body.Value
		op.Options.Expiry, err = body.expiry()
		return err
	})
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request) {
	var body resetJSON
	s.write(w, r, quipu.KindReset, &body, func(op *quipu.Op) (err error) {
		op.Options.Expiry, err = body.expiry()
		return err
	})
}

func (s *Server) remove(kind quipu.NameKind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.write(w, r, quipu.KindDelete, &struct{}{}, func(op *quipu.Op) error {
			op.Options.RequireKind = kind
			return nil
		})
	}
}

func (s *Server) item(kind quipu.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.write(w, r, kind, &struct{}{}, func(*quipu.Op) error { return nil })
	}
}

func (s *Server) dropTenant(w http.ResponseWriter, r *http.Request) {
	s.write(w, r, quipu.KindDropTenant, &struct{}{}, func(*quipu.Op) error { return nil })
}

// write reads a writing call's path, headers and body, and runs it.
func (s *Server) write(w http.ResponseWriter, r *http.Request, kind quipu.Kind, body any, fill func(*quipu.Op) error) {
	op, err := target(r, kind)
	if err == nil {
		op.Options, err = headerOptions(r)
	}
	if err == nil {
		err = decode(w, r, body)
	}
	if err == nil {
		err = fill(&op)
	}
	if err != nil {
		fail(w, err)
		return
	}
	op.Options = plainOr(op.Options)
	s.run(w, r, op)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	op, err := target(r, quipu.KindGet)
	if err == nil {
		err = op.Validate()
	}
	if err != nil {
		fail(w, err)
		return
	}
	res, ok := s.read(w, r, op)
	if !ok {
		return
	}
	if !res.Existed {
		notFound(w, fmt.Sprintf("there is no counter %q in tenant %q", op.Name, op.Tenant))
		return
	}
	w.Header().Set("ETag", `"`+strconv.FormatUint(res.Revision, 10)+`"`)
	writeJSON(w, r, http.StatusOK, newCounter(op.Name, &res))
}

// read runs one read; ok is false if the answer was written.
func (s *Server) read(w http.ResponseWriter, r *http.Request, op quipu.Op) (quipu.Result, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
	defer cancel()
	results := make([]quipu.Result, 1)
	if err := s.cfg.Backend.Read(ctx, []quipu.Op{op}, results); err != nil {
		fail(w, err)
		return quipu.Result{}, false
	}
	if results[0].Code != quipu.CodeOK {
		writeProblem(w, resultProblem(&results[0]))
		return quipu.Result{}, false
	}
	return results[0], true
}

func newCounter(name string, r *quipu.Result) counterJSON {
	c := counterJSON{Name: name, Value: r.Value, Revision: r.Revision}
	if r.ExpireAt != 0 {
		ttl := max(r.ExpireAt-r.Now, 1)
		c.TTLMs = &ttl
	}
	return c
}

func (s *Server) setCount(w http.ResponseWriter, r *http.Request) {
	op, err := target(r, quipu.KindCount)
	if err == nil {
		err = op.Validate()
	}
	if err != nil {
		fail(w, err)
		return
	}
	if res, ok := s.read(w, r, op); ok {
		writeJSON(w, r, http.StatusOK, countJSON{res.Value})
	}
}

func (s *Server) hasItem(w http.ResponseWriter, r *http.Request) {
	op, err := target(r, quipu.KindHasItem)
	if err == nil {
		err = op.Validate()
	}
	if err != nil {
		fail(w, err)
		return
	}
	res, ok := s.read(w, r, op)
	switch {
	case !ok:
	case !res.Changed:
		notFound(w, fmt.Sprintf("the set %q of tenant %q does not hold %q", op.Name, op.Tenant, op.Item))
	default:
		writeJSON(w, r, http.StatusOK, memberJSON{true})
	}
}

// addItems adds several items, all or none.
func (s *Server) addItems(w http.ResponseWriter, r *http.Request) {
	var body addItemsJSON
	base, err := target(r, quipu.KindAddItem)
	var o *quipu.Options
	if err == nil {
		o, err = headerOptions(r)
	}
	if err == nil {
		err = decode(w, r, &body)
	}
	if err == nil && len(body.Items) == 0 {
		err = quipu.Invalid("items", "is empty")
	}
	if err == nil && len(body.Items) > limit.BatchOps {
		err = &quipu.Error{Code: quipu.CodeTooLarge, Field: "items", Message: fmt.Sprintf("items are more than %d", limit.BatchOps)}
	}
	ops := make([]quipu.Op, 0, len(body.Items))
	for i, item := range body.Items {
		if err != nil {
			break
		}
		op := base
		op.Item = item
		c := *o
		if i > 0 {
			c.If = quipu.Precondition{} // of the set before the first
		}
		op.Options = plainOr(&c)
		ops = append(ops, op)
		err = op.Validate()
	}
	if err != nil {
		fail(w, err)
		return
	}
	quipu.NumberIDs(ops)
	results, ok := s.atomic(w, r, ops)
	if !ok {
		return
	}
	added, replayed := 0, false
	for i := range results {
		if results[i].Changed {
			added++
		}
		replayed = replayed || results[i].Replayed
	}
	s.expires(w, o.ID)
	if replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	writeJSON(w, r, http.StatusOK, addedJSON{added, results[len(results)-1].Value, replayed})
}

// atomic commits operations all or none; ok is false if the answer was written.
func (s *Server) atomic(w http.ResponseWriter, r *http.Request, ops []quipu.Op) ([]quipu.Result, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
	defer cancel()
	results := make([]quipu.Result, len(ops))
	s.cfg.Backend.Do(ctx, ops, []store.Group{{Count: len(ops), AllOrNothing: true}}, results)
	if i := firstFailure(results); i >= 0 {
		writeProblem(w, resultProblem(&results[i]))
		return nil, false
	}
	return results, true
}

// firstFailure returns the operation for which an atomic batch failed, -1 if
// it did not.
func firstFailure(results []quipu.Result) int {
	at := -1
	for i := range results {
		switch results[i].Code {
		case quipu.CodeOK:
		case quipu.CodeAborted:
			if at < 0 {
				at = i
			}
		default:
			return i
		}
	}
	return at
}

func (s *Server) list(what store.What, kind quipu.NameKind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		req := store.ListRequest{What: what, Tenant: r.PathValue("tenant"), Name: r.PathValue("name"), Prefix: q.Get("prefix"), Kind: kind, Limit: 100}
		if t := q.Get("limit"); t != "" {
			n, err := strconv.Atoi(t)
			if err != nil || n < 1 || n > limit.ListPage {
				fail(w, quipu.Invalid("limit", "is %q: it is 1 to %d", t, limit.ListPage))
				return
			}
			req.Limit = n
		}
		if c := q.Get("cursor"); c != "" {
			after, err := base64.RawURLEncoding.DecodeString(c)
			if err != nil {
				fail(w, quipu.Invalid("cursor", "is malformed"))
				return
			}
			req.After = string(after)
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
		defer cancel()
		page, err := s.cfg.Backend.List(ctx, req)
		if err != nil {
			fail(w, err)
			return
		}
		cursor := ""
		if page.More {
			cursor = base64.RawURLEncoding.EncodeToString([]byte(page.After))
		}
		writeJSON(w, r, http.StatusOK, listAnswer(what, kind, page, cursor))
	}
}

func listAnswer(what store.What, kind quipu.NameKind, page store.ListPage, cursor string) any {
	names := make([]string, 0, len(page.Entries))
	for _, e := range page.Entries {
		names = append(names, e.Name)
	}
	switch {
	case what == store.Tenants:
		return tenantsJSON{names, cursor}
	case what == store.Items:
		return itemsJSON{names, cursor}
	case kind == quipu.KindItems:
		sets := make([]setJSON, 0, len(page.Entries))
		for _, e := range page.Entries {
			sets = append(sets, setJSON{e.Name, e.Value, e.Revision})
		}
		return setsJSON{sets, cursor}
	default:
		counters := make([]counterJSON, 0, len(page.Entries))
		for _, e := range page.Entries {
			counters = append(counters, counterJSON{Name: e.Name, Value: e.Value, Revision: e.Revision})
		}
		return countersJSON{counters, cursor}
	}
}
