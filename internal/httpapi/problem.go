package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/quipudb/quipu"
)

const problemPrefix = "urn:quipu:problem:"

// statuses maps codes to statuses.
var statuses = map[quipu.Code]int{
	quipu.CodeOK:           http.StatusOK,
	quipu.CodeWrongKind:    http.StatusConflict,
	quipu.CodeOverflow:     http.StatusConflict,
	quipu.CodeOutOfBounds:  http.StatusConflict,
	quipu.CodePrecondition: http.StatusPreconditionFailed,
	quipu.CodeIDReused:     http.StatusUnprocessableEntity,
	quipu.CodeIDExpired:    http.StatusConflict,
	quipu.CodeIDAhead:      http.StatusConflict,
	quipu.CodeAborted:      http.StatusConflict,
	quipu.CodeInvalid:      http.StatusBadRequest,
	quipu.CodeReserved:     http.StatusForbidden,
	quipu.CodeTooLarge:     http.StatusRequestEntityTooLarge,
	quipu.CodeUnsupported:  http.StatusNotImplemented,
	quipu.CodeBusy:         http.StatusTooManyRequests,
	quipu.CodeNotReady:     http.StatusServiceUnavailable,
	quipu.CodeDiskFull:     http.StatusInsufficientStorage,
	quipu.CodeDeadline:     http.StatusServiceUnavailable,
	quipu.CodeUnknown:      http.StatusGatewayTimeout,
}

func statusOf(c quipu.Code) int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

func newProblem(err error) problem {
	e := (*quipu.Error)(nil)
	if !errors.As(err, &e) {
		e = &quipu.Error{Code: quipu.CodeNotReady, Message: err.Error()}
	}
	status := statusOf(e.Code)
	return problem{
		Type: problemPrefix + e.Code.String(), Title: http.StatusText(status), Status: status, Detail: e.Error(), Field: e.Field,
		Outcome: e.Outcome().String(), Retryable: e.Retryable(),
	}
}

func resultProblem(r *quipu.Result) problem {
	p := newProblem(r.Err())
	switch r.Code {
	case quipu.CodeWrongKind, quipu.CodeOverflow, quipu.CodeOutOfBounds, quipu.CodePrecondition:
		if r.Kind == quipu.KindCounter || !r.Existed {
			p.Value = &r.Value
		}
		if r.Existed {
			p.Revision = &r.Revision
		}
	}
	return p
}

func writeProblem(w http.ResponseWriter, p problem) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		h.Set("Retry-After", "1")
	}
	body, _ := json.Marshal(p) // of plain fields: never fails
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n'))
}

func fail(w http.ResponseWriter, err error) { writeProblem(w, newProblem(err)) }

func notFound(w http.ResponseWriter, what string) {
	writeProblem(w, problem{
		Type: problemPrefix + "not-found", Title: http.StatusText(http.StatusNotFound), Status: http.StatusNotFound,
		Detail: what, Outcome: quipu.NotApplied.String(),
	})
}
