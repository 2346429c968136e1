package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
)

// readBody reads a body within the limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit.BodyBytes))
	if err == nil {
		return body, nil
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &quipu.Error{Code: quipu.CodeTooLarge, Field: "body", Message: fmt.Sprintf("body is larger than %d bytes", limit.BodyBytes)}
	}
	return nil, quipu.Invalid("body", "can't be read: %v", err)
}

// decode reads a JSON body into v: no unknown or repeated members, valid UTF-8,
// integers that fit. An empty body leaves v as it is.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r)
	if err != nil || len(body) == 0 {
		return err
	}
	return unmarshal(body, v)
}

func unmarshal(body []byte, v any) error {
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	field := "body"
	if se := (*json.SemanticError)(nil); errors.As(err, &se) && se.JSONPointer != "" {
		field = strings.TrimPrefix(string(se.JSONPointer), "/")
	} else if te := (*jsontext.SyntacticError)(nil); errors.As(err, &te) && te.JSONPointer != "" {
		field = strings.TrimPrefix(string(te.JSONPointer), "/")
	}
	e := quipu.Invalid(field, "is malformed: %v", err)
	return e
}

// expiry: set is meant where a time is given and nothing else said.
func (x expiryJSON) expiry() (quipu.Expiry, error) {
	var out quipu.Expiry
	mode := x.Expiry
	if mode == "" && x.TTLMs != nil {
		mode = "set"
	}
	switch mode {
	case "", "keep":
		return out, nil
	case "remove":
		return quipu.Expiry{Mode: quipu.ExpiryRemove}, nil
	case "set", "ifNone":
		if x.TTLMs == nil {
			return out, quipu.Invalid("ttlMs", "is missing: expiry %q needs it", mode)
		}
		if *x.TTLMs <= 0 {
			return out, quipu.Invalid("ttlMs", "is %d: it must be above 0", *x.TTLMs)
		}
		out = quipu.Expiry{Mode: quipu.ExpirySet, Ms: *x.TTLMs}
		if mode == "ifNone" {
			out.Cond = quipu.ExpiryIfNone
		}
		return out, nil
	default:
		return out, quipu.Invalid("expiry", "is %q: it is set, keep, ifNone or remove", mode)
	}
}

func (b boundsJSON) into(o *quipu.Options) error {
	if b.Lower != nil {
		o.Lower, o.HasLower = *b.Lower, true
	}
	if b.Upper != nil {
		o.Upper, o.HasUpper = *b.Upper, true
	}
	switch b.Overflow {
	case "", "reject":
	case "saturate":
		o.Saturate = true
	default:
		return quipu.Invalid("overflow", "is %q: it is reject or saturate", b.Overflow)
	}
	return nil
}

// requestID reads Idempotency-Key.
func requestID(r *http.Request) (quipu.RequestID, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return quipu.RequestID{}, nil
	}
	id, err := quipu.ParseRequestID(strings.Trim(key, `"`))
	if e := (*quipu.Error)(nil); errors.As(err, &e) {
		return id, &quipu.Error{Code: e.Code, Field: "Idempotency-Key", Message: "Idempotency-" + strings.ToUpper(e.Message[:1]) + e.Message[1:]}
	}
	return id, err
}

// precondition reads If-Match and If-None-Match.
func precondition(r *http.Request) (quipu.Precondition, error) {
	var p quipu.Precondition
	if m := r.Header.Get("If-Match"); m != "" {
		if m == "*" {
			return quipu.Precondition{Kind: quipu.IfExists}, nil
		}
		n, err := strconv.ParseUint(strings.Trim(m, `"`), 10, 64)
		if err != nil {
			return p, quipu.Invalid("If-Match", "is %q: it is a revision in quotes, or *", m)
		}
		return quipu.Precondition{Kind: quipu.IfRevision, Revision: n}, nil
	}
	switch m := r.Header.Get("If-None-Match"); m {
	case "":
		return p, nil
	case "*":
		return quipu.Precondition{Kind: quipu.IfAbsent}, nil
	default:
		return p, quipu.Invalid("If-None-Match", "is %q: only * is served", m)
	}
}

// options gathers what a writing call carries in its headers; nil if nothing.
func headerOptions(r *http.Request) (*quipu.Options, error) {
	id, err := requestID(r)
	if err != nil {
		return nil, err
	}
	p, err := precondition(r)
	if err != nil {
		return nil, err
	}
	return &quipu.Options{ID: id, If: p}, nil
}

// plainOr returns nil for options that say nothing, so that a plain add can be
// folded.
func plainOr(o *quipu.Options) *quipu.Options {
	if *o == (quipu.Options{}) {
		return nil
	}
	return o
}

// expires tells until when a request id is remembered.
func (s *Server) expires(w http.ResponseWriter, id quipu.RequestID) {
	if id.IsZero() {
		return
	}
	at := s.cfg.Now()
	if id.Timed {
		at = time.UnixMilli(id.Time())
	}
	w.Header().Set("Idempotency-Expires", at.Add(s.cfg.Window).UTC().Format(time.RFC3339))
}

func intString(r *http.Request) bool { return r.URL.Query().Get("int64") == "string" }

// writeJSON writes v; numbers as strings if the caller asked for it.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v, json.StringifyNumbers(intString(r)))
	if err != nil {
		fail(w, &quipu.Error{Code: quipu.CodeUnknown, Message: "the answer can't be written", Cause: err})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
