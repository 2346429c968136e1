package quipu

// Outcome says what became of an operation.
type Outcome uint8

const (
	// Unknown: the operation may have been applied or may yet be. Only a retry
	// with the same request id is safe.
	Unknown Outcome = iota
	// Applied: the operation took effect, durably, or it is a read that was
	// answered.
	Applied
	// NotApplied: the operation had no effect and will have none.
	NotApplied
)

// String returns "applied", "not_applied" or "unknown".
func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case NotApplied:
		return "not_applied"
	default:
		return "unknown"
	}
}

// Result is what came of one operation. Which fields mean something depends on
// the operation's kind; the others are zero.
type Result struct {
	// Code is CodeOK for an applied operation, else why it was not applied or
	// is unknown; Outcome is derived from it.
	Code Code
	// Replayed: the operation's request id was applied before; this is the
	// first answer.
	Replayed bool
	// Existed: the name existed before the operation.
	Existed bool
	// Changed: KindAddItem the item was new; KindRemoveItem and KindHasItem the
	// item is or was there; KindExpire the expiry was changed.
	Changed bool
	// Kind is what the name is after the operation.
	Kind NameKind
	// Value is the counter's value, or the set's count, after the operation.
	// For a refused operation it is the present one.
	Value int64
	// Old is the counter's value, or the set's count, before the operation.
	Old int64
	// Delta is what KindAdd really added: less than asked where it saturated.
	Delta int64
	// Revision is the number of the operation that last changed the name; for
	// an absent name the number of the last operation in the log, to be used
	// with IfAbsent.
	Revision uint64
	// ExpireAt is the name's expiry in log time, milliseconds since the Unix
	// epoch; 0 is none.
	ExpireAt int64
	// Now is the log time at which the operation was judged, in milliseconds.
	Now int64
}

// Outcome returns what became of the operation.
func (r *Result) Outcome() Outcome { return r.Code.Outcome() }

// Err returns nil for an applied operation, else an *Error for its code.
func (r *Result) Err() error {
	if r.Code == CodeOK {
		return nil
	}
	return &Error{Code: r.Code, Message: r.Code.text()}
}
