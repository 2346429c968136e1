package quipu

// Code says why an operation was not applied, or why its outcome is unknown.
// Codes are stored in the ledger with request ids and batch results: never
// renumber them.
type Code uint8

const (
	// CodeOK: applied.
	CodeOK Code = 0

	// Refused by the ledger: not applied, and the same operation would be
	// refused again while the state is the same.

	// CodeWrongKind: the name is a set where a counter is needed, or the other
	// way round.
	CodeWrongKind Code = 1
	// CodeOverflow: the value would leave the range of int64.
	CodeOverflow Code = 2
	// CodeOutOfBounds: a bounded add would pass its bound.
	CodeOutOfBounds Code = 3
	// CodePrecondition: the precondition does not hold.
	CodePrecondition Code = 4
	// CodeIDReused: the request id was used for another operation on the name,
	// or only some of an atomic batch's ids were used before.
	CodeIDReused Code = 5
	// CodeIDExpired: the request id is older than the window.
	CodeIDExpired Code = 6
	// CodeIDAhead: the request id's time is further ahead than the skew
	// allowance.
	CodeIDAhead Code = 7
	// CodeAborted: another operation of the atomic group was refused.
	CodeAborted Code = 8
	// CodeInvalid: the operation is malformed.
	CodeInvalid Code = 9
	// CodeReserved: the tenant is Quipu's own.
	CodeReserved Code = 10
	// CodeTooLarge: a limit of size was passed.
	CodeTooLarge Code = 11
	// CodeUnsupported: this store or tenant does not serve the operation.
	CodeUnsupported Code = 12

	// Refused before the ledger: not applied, and a retry may succeed.

	// CodeBusy: a queue is full.
	CodeBusy Code = 32
	// CodeNotReady: the node is starting, stopping or has no leader.
	CodeNotReady Code = 33
	// CodeDiskFull: free space is below the floor.
	CodeDiskFull Code = 34
	// CodeDeadline: the deadline passed before the operation was sent.
	CodeDeadline Code = 35

	// CodeUnknown: the operation was sent and no definite answer came.
	CodeUnknown Code = 64
)

// Outcome returns Applied for CodeOK, Unknown for CodeUnknown, else NotApplied.
func (c Code) Outcome() Outcome {
	switch c {
	case CodeOK:
		return Applied
	case CodeUnknown:
		return Unknown
	default:
		return NotApplied
	}
}

// Retryable reports whether the same call may succeed later without any other
// change. A call whose outcome is unknown is retryable with the same request
// id only.
func (c Code) Retryable() bool { return c >= CodeBusy }

var codeTexts = map[Code]struct{ name, text string }{
	CodeOK:           {"ok", "applied"},
	CodeWrongKind:    {"wrong-kind", "the name holds the wrong kind of value"},
	CodeOverflow:     {"overflow", "the value would leave the range of a signed 64-bit integer"},
	CodeOutOfBounds:  {"out-of-bounds", "the value would pass its bound"},
	CodePrecondition: {"precondition-failed", "the precondition does not hold"},
	CodeIDReused:     {"id-reused", "the request id was used before for another operation on this name"},
	CodeIDExpired:    {"id-expired", "the request id is older than the window in which retries are recognised"},
	CodeIDAhead:      {"id-ahead", "the request id's time lies further in the future than the skew allowance"},
	CodeAborted:      {"aborted", "another operation of the atomic batch was refused"},
	CodeInvalid:      {"invalid", "the request is malformed"},
	CodeReserved:     {"reserved", "tenants whose name begins with _ can't be written"},
	CodeTooLarge:     {"too-large", "a size limit was passed"},
	CodeUnsupported:  {"unsupported", "this store does not serve the operation"},
	CodeBusy:         {"busy", "the node's queue is full, nothing was applied"},
	CodeNotReady:     {"not-ready", "the node is not ready, nothing was applied"},
	CodeDiskFull:     {"disk-full", "free disk space is below the floor, nothing was applied"},
	CodeDeadline:     {"deadline", "the deadline passed before the operation was sent, nothing was applied"},
	CodeUnknown:      {"unknown", "the outcome is unknown: retry with the same request id"},
}

// String returns the code's stable short name, as in problem types:
// "out-of-bounds".
func (c Code) String() string {
	if t, ok := codeTexts[c]; ok {
		return t.name
	}
	return "invalid-code"
}

func (c Code) text() string {
	if t, ok := codeTexts[c]; ok {
		return t.text
	}
	return "invalid code"
}

// Error is a failure with its code. Errors of one code match each other in
// [errors.Is], so callers compare with the sentinels below.
type Error struct {
	Code Code
	// Field names the part of the input that is wrong, where there is one.
	Field   string
	Message string
	// Cause is what lies behind it, may be nil.
	Cause error
}

// Error returns the message, or the code's own text, and the cause.
func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = e.Code.text()
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Outcome returns NotApplied or Unknown.
func (e *Error) Outcome() Outcome { return e.Code.Outcome() }

// Retryable is Code.Retryable.
func (e *Error) Retryable() bool { return e.Code.Retryable() }

// Sentinels to compare with, one for each code.
var (
	ErrWrongKind    = &Error{Code: CodeWrongKind}
	ErrOverflow     = &Error{Code: CodeOverflow}
	ErrOutOfBounds  = &Error{Code: CodeOutOfBounds}
	ErrPrecondition = &Error{Code: CodePrecondition}
	ErrIDReused     = &Error{Code: CodeIDReused}
	ErrIDExpired    = &Error{Code: CodeIDExpired}
	ErrIDAhead      = &Error{Code: CodeIDAhead}
	ErrAborted      = &Error{Code: CodeAborted}
	ErrInvalid      = &Error{Code: CodeInvalid}
	ErrReserved     = &Error{Code: CodeReserved}
	ErrTooLarge     = &Error{Code: CodeTooLarge}
	ErrUnsupported  = &Error{Code: CodeUnsupported}
	ErrBusy         = &Error{Code: CodeBusy}
	ErrNotReady     = &Error{Code: CodeNotReady}
	ErrDiskFull     = &Error{Code: CodeDiskFull}
	ErrDeadline     = &Error{Code: CodeDeadline}
	ErrUnknown      = &Error{Code: CodeUnknown}
)
