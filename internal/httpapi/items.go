package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/store"
)

// The plain items API answers exactly these bytes.
const (
	itemsStored  = `{"message":"Success"}`
	itemsRefused = `{"message":"both values are required"}`
)

func writeExact(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write([]byte(body))
}

// postItems adds items to the set quipu.ItemSet of their tenants, all or none.
func (s *Server) postItems(w http.ResponseWriter, r *http.Request) {
	id, err := requestID(r)
	if err != nil {
		fail(w, err)
		return
	}
	body, err := readBody(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	var rows []itemJSON
	if err := unmarshal(body, &rows); err != nil {
		fail(w, err)
		return
	}
	if len(rows) > limit.BatchOps {
		fail(w, &quipu.Error{Code: quipu.CodeTooLarge, Field: "body", Message: "body has more than 10000 items"})
		return
	}
	ops := make([]quipu.Op, 0, len(rows))
	for _, row := range rows {
		if row.ID == nil || row.Tenant == nil || *row.ID == "" || *row.Tenant == "" {
			writeExact(w, http.StatusBadRequest, itemsRefused)
			return
		}
		op := quipu.Op{Kind: quipu.KindAddItem, Tenant: *row.Tenant, Name: quipu.ItemSet, Item: *row.ID}
		if !id.IsZero() {
			op.Options = &quipu.Options{ID: id}
		}
		err := op.Validate()
		if err == nil && quipu.Reserved(op.Tenant) {
			err = &quipu.Error{Code: quipu.CodeReserved, Field: "tenant"}
		}
		if err != nil {
			fail(w, err)
			return
		}
		ops = append(ops, op)
	}
	if len(ops) > 0 {
		quipu.NumberIDs(ops)
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
		defer cancel()
		results := make([]quipu.Result, len(ops))
		s.cfg.Backend.Do(ctx, ops, []store.Group{{Count: len(ops), AllOrNothing: true}}, results)
		if at := firstFailure(results); at >= 0 {
			writeProblem(w, resultProblem(&results[at]))
			return
		}
		s.expires(w, id)
		if results[0].Replayed {
			w.Header().Set("Idempotency-Replayed", "true")
		}
	}
	writeExact(w, http.StatusOK, itemsStored)
}

func (s *Server) itemsCount(w http.ResponseWriter, r *http.Request) {
	op := quipu.Op{Kind: quipu.KindCount, Tenant: r.PathValue("tenant"), Name: quipu.ItemSet}
	if err := op.Validate(); err != nil {
		fail(w, err)
		return
	}
	if res, ok := s.read(w, r, op); ok {
		writeExact(w, http.StatusOK, `{"count":`+strconv.FormatInt(res.Value, 10)+`}`)
	}
}
