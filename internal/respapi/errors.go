package respapi

import "github.com/quipudb/quipu"

// Texts of errors as Redis 7.0 has them.
const (
	errWrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errNotInteger = "ERR value is not an integer or out of range"
	errSyntax     = "ERR syntax error"
	errOverflow   = "ERR increment or decrement would overflow"
)

// codeTexts maps what a store may say of an operation to an error. BUSY and
// TRYAGAIN were not applied; clients may retry them by themselves. UNKNOWN may
// have been applied: no client retries that prefix by itself.
var codeTexts = map[quipu.Code]string{
	quipu.CodeWrongKind:    errWrongType,
	quipu.CodeOverflow:     errOverflow,
	quipu.CodeOutOfBounds:  "ERR value would pass its bound",
	quipu.CodePrecondition: "ERR precondition failed",
	quipu.CodeIDReused:     "IDREUSED the request id was used before for another operation on this key",
	quipu.CodeIDExpired:    "IDEXPIRED the request id is older than the window in which retries are recognised",
	quipu.CodeIDAhead:      "IDAHEAD the request id's time lies further in the future than the skew allowance",
	quipu.CodeAborted:      "ERR another operation of the atomic command was refused",
	quipu.CodeInvalid:      "ERR the operation is malformed",
	quipu.CodeReserved:     "ERR tenants whose name begins with _ can't be written",
	quipu.CodeTooLarge:     "ERR the commands sent together are too large for one log entry",
	quipu.CodeUnsupported:  "ERR this store does not serve the operation",
	quipu.CodeBusy:         "BUSY the node's queue is full, the command was not applied",
	quipu.CodeNotReady:     "TRYAGAIN the node is not ready, the command was not applied",
	quipu.CodeDiskFull:     "TRYAGAIN free disk space is below the floor, the command was not applied",
	quipu.CodeDeadline:     "TRYAGAIN the deadline passed before the command was sent, it was not applied",
	quipu.CodeUnknown:      "UNKNOWN the outcome is unknown: the command may have been applied; retry with the same request id",
}

func codeText(c quipu.Code) string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	return "ERR " + c.String()
}
