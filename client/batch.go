package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/quipudb/quipu"
)

// Do runs one operation. An operation without tenant is the client's tenant's.
// The error, if any, is a *quipu.Error; the result of a refused operation still
// tells the present value.
//
// Of a result the API tells: Code, Value, Old, Delta, Revision, Replayed,
// Changed, for KindGet Existed, and in ExpireAt what remains until the expiry,
// in milliseconds, since Now is 0. The other fields are zero.
func (c *Client) Do(ctx context.Context, op quipu.Op) (quipu.Result, error) {
	results, err := c.Batch(ctx, []quipu.Op{op})
	if err != nil {
		return quipu.Result{}, err
	}
	return results[0], results[0].Err()
}

// Batch runs operations in order, each for itself: one may be refused while
// others are applied, as its result says. The error is nil unless the call as a
// whole failed; then nothing is known of any operation but what the error says.
// The batch has at most [MaxBatchOps] operations, of the kinds that
// POST /v1/batch serves.
//
// The operations of one call that carry the same request id on the same name
// are told apart by their order, so a caller that repeats them repeats the
// whole batch.
func (c *Client) Batch(ctx context.Context, ops []quipu.Op) ([]quipu.Result, error) {
	results, err := c.batch(ctx, ops, false)
	if refused := (*refusedError)(nil); errors.As(err, &refused) {
		return results, nil
	}
	return results, err
}

// Atomic runs operations in order, all or none. The error is that of the
// operation that was refused; the results, where there are any, tell which.
// If one of the operations carries a request id, all writes among them must.
func (c *Client) Atomic(ctx context.Context, ops []quipu.Op) ([]quipu.Result, error) {
	results, err := c.batch(ctx, ops, true)
	if refused := (*refusedError)(nil); errors.As(err, &refused) {
		return results, refused.err
	}
	return results, err
}

// refusedError is a failure of an operation of a batch that was answered as a
// whole.
type refusedError struct{ err *quipu.Error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

func (c *Client) batch(ctx context.Context, ops []quipu.Op, atomic bool) ([]quipu.Result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	if len(ops) > MaxBatchOps {
		return nil, &quipu.Error{Code: quipu.CodeTooLarge, Field: "ops", Message: fmt.Sprintf("ops are %d: the limit is %d", len(ops), MaxBatchOps)}
	}
	rows := make([]row, len(ops))
	writes, keyed := 0, 0
	for i := range ops {
		var err error
		if rows[i], err = newRow(&ops[i], c.config.Tenant); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		if !ops[i].Kind.Reads() {
			writes++
		}
		if rows[i].Key != "" {
			keyed++
		}
	}
	if atomic && keyed > 0 && keyed < writes {
		return nil, quipu.Invalid("key", "is on some writes of an atomic batch only: a repeat could not tell what was applied")
	}
	body, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	r := request{method: http.MethodPost, path: "/v1/batch", body: body, repeatable: keyed == writes}
	if atomic {
		r.path += "?atomic=true"
	}
	if keyed < writes && !c.config.NoIDs {
		// The server gives it to the writes that have no id of their own.
		r.key, r.repeatable = c.ids.Next().String(), true
	}
	var results []quipu.Result
	r.accept = func(status int, payload []byte, maybeApplied bool) error {
		if results, err = decodeResults(payload, ops); err != nil {
			return statusError(status, payload, err)
		}
		return judge(results, r.repeatable, maybeApplied)
	}
	err = c.send(ctx, &r)
	if refused := (*refusedError)(nil); err != nil && !errors.As(err, &refused) {
		return nil, err // what an earlier attempt answered is not the last word
	}
	return results, err
}

// judge decides whether the results of a batch are the last word: nil or a
// refusedError if so, else an attemptError, which [Client.send] may repeat.
//
// maybeApplied says that an earlier attempt got no answer. It may still be on
// its way, so that a refusal now does not mean "not applied" for ever.
func judge(results []quipu.Result, repeatable, maybeApplied bool) error {
	var first, again *quipu.Error
	applied := false
	for i := range results {
		code := results[i].Code
		if code == quipu.CodeOK {
			applied = true
			continue
		}
		e := &quipu.Error{Code: code}
		if code.Retryable() && again == nil {
			again = e
		}
		if maybeApplied && code.Outcome() == quipu.NotApplied {
			e = &quipu.Error{Code: quipu.CodeUnknown, Cause: e}
			results[i].Code = quipu.CodeUnknown
		}
		if first == nil || errors.Is(first, quipu.ErrAborted) || errors.Is(first.Cause, quipu.ErrAborted) {
			first = e // "aborted" only says that another one was refused
		}
	}
	switch {
	case first == nil:
		return nil
	case again != nil && (repeatable || !applied && again.Code != quipu.CodeUnknown):
		return &attemptError{err: &refusedError{first}, unknown: again.Code == quipu.CodeUnknown}
	default:
		return &refusedError{first}
	}
}

// row is an operation as POST /v1/batch takes it.
type row struct {
	Op         string  `json:"op"`
	Tenant     string  `json:"tenant"`
	Name       string  `json:"name"`
	Delta      *int64  `json:"delta,omitempty"`
	Value      *int64  `json:"value,omitempty"`
	Item       string  `json:"item,omitempty"`
	Lower      *int64  `json:"lower,omitempty"`
	Upper      *int64  `json:"upper,omitempty"`
	Overflow   string  `json:"overflow,omitempty"`
	TTLMs      *int64  `json:"ttlMs,omitempty"`
	Expiry     string  `json:"expiry,omitempty"`
	Key        string  `json:"key,omitempty"`
	IfRevision *uint64 `json:"ifRevision,omitempty"`
}

func newRow(op *quipu.Op, tenant string) (row, error) {
	checked := *op
	if checked.Tenant == "" {
		checked.Tenant = tenant
	}
	if err := checked.Validate(); err != nil {
		return row{}, err
	}
	r := row{Op: op.Kind.String(), Tenant: checked.Tenant, Name: op.Name, Item: op.Item}
	switch op.Kind {
	case quipu.KindAdd:
		r.Delta = &op.Value
	case quipu.KindSet:
		r.Value = &op.Value
	case quipu.KindGet, quipu.KindReset, quipu.KindDelete, quipu.KindExpire, quipu.KindAddItem, quipu.KindRemoveItem:
	default:
		return r, quipu.Invalid("op", "%s is not served in a batch", op.Kind)
	}
	if op.Options == nil {
		return r, nil
	}
	return r, r.options(op.Options)
}

// options refuses what the API has no member for: what was asked and can't be
// said must not be left out.
func (r *row) options(o *quipu.Options) error {
	if o.HasLower {
		r.Lower = &o.Lower
	}
	if o.HasUpper {
		r.Upper = &o.Upper
	}
	if o.Saturate {
		r.Overflow = "saturate"
	}
	if !o.ID.IsZero() {
		r.Key = o.ID.String()
	}
	if o.RequireKind != quipu.KindNone || o.Replace {
		return quipu.Invalid("options", "RequireKind and Replace are not served in a batch")
	}
	switch o.If.Kind {
	case quipu.IfAlways:
	case quipu.IfRevision:
		r.IfRevision = &o.If.Revision
	case quipu.IfAbsent:
		r.IfRevision = new(uint64)
		if o.If.Revision != 0 {
			return quipu.Invalid("precondition", "IfAbsent with a revision is not served in a batch")
		}
	default:
		return quipu.Invalid("precondition", "IfExists is not served in a batch")
	}
	e := o.Expiry
	switch {
	case e.Mode == quipu.ExpiryKeep:
		return nil
	case e.Mode == quipu.ExpiryRemove:
		r.Expiry = "remove"
		return nil
	case e.Absolute || e.AlsoIfSome || e.Cond > quipu.ExpiryIfNone:
		return quipu.Invalid("expiry", "takes a TTL, always or if there is none, in a batch")
	case e.Cond == quipu.ExpiryIfNone:
		r.Expiry = "ifNone"
	default:
		r.Expiry = "set"
	}
	r.TTLMs = &e.Ms
	return nil
}

// decodeResults reads the answer to a batch. It fails where the answer is not
// an array of as many results: then it is a problem, or not of Quipu.
func decodeResults(payload []byte, ops []quipu.Op) ([]quipu.Result, error) {
	var rows []struct {
		Outcome  string `json:"outcome"`
		Value    int64  `json:"value"`
		Applied  int64  `json:"applied"`
		Revision uint64 `json:"revision"`
		Replayed bool   `json:"replayed"`
		Old      int64  `json:"old"`
		Changed  bool   `json:"changed"`
		Exists   bool   `json:"exists"`
		TTLMs    int64  `json:"ttlMs"`
		Error    *struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	if err := json.Unmarshal(payload, &rows); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(rows) != len(ops) {
		return nil, fmt.Errorf("read the answer: %d results for %d operations", len(rows), len(ops))
	}
	results := make([]quipu.Result, len(rows))
	for i, r := range rows {
		out := &results[i]
		*out = quipu.Result{Replayed: r.Replayed, Existed: r.Exists, Changed: r.Changed, Value: r.Value, Old: r.Old, Delta: r.Applied, Revision: r.Revision}
		if r.TTLMs != 0 {
			out.ExpireAt = r.TTLMs
		}
		switch {
		case r.Error != nil:
			out.Code = codeOf(r.Error.Type)
		case r.Outcome != quipu.Applied.String():
			out.Code = quipu.CodeUnknown
		}
	}
	return results, nil
}

var codes = func() map[string]quipu.Code {
	m := make(map[string]quipu.Code)
	for c := quipu.CodeOK; c <= quipu.CodeUnknown; c++ {
		m[c.String()] = c
	}
	delete(m, "invalid-code")
	return m
}()

// codeOf reads a problem's type. One that this client does not know is taken
// for unknown, the careful reading.
func codeOf(problemType string) quipu.Code {
	if c, ok := codes[strings.TrimPrefix(problemType, "urn:quipu:problem:")]; ok && c != quipu.CodeOK {
		return c
	}
	return quipu.CodeUnknown
}
