package httpapi

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/quipudb/quipu"
)

// appendResults appends the answer of a batch: the bytes that json.Marshal
// writes for a slice of resultJSON. A batch holds thousands of results, and
// reflection over them cost as much as the rest of the request. Problems are
// rare and left to json.
func appendResults(out []byte, ops []quipu.Op, results []quipu.Result, quoted bool) ([]byte, error) {
	out = append(out, '[')
	for i := range results {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = appendResult(out, &ops[i], &results[i], quoted); err != nil {
			return out, err
		}
	}
	return append(out, ']', '\n'), nil
}

func appendResult(out []byte, op *quipu.Op, r *quipu.Result, quoted bool) ([]byte, error) {
	a := newAnswer(op, r)
	out = append(out, `{"outcome":"`...)
	out = append(out, r.Outcome().String()...)
	out = appendInt(append(out, `","value":`...), a.Value, quoted)
	out = appendInt(append(out, `,"applied":`...), a.Applied, quoted)
	out = appendUint(append(out, `,"revision":`...), a.Revision, quoted)
	out = strconv.AppendBool(append(out, `,"replayed":`...), a.Replayed)
	if a.Old != nil {
		out = appendInt(append(out, `,"old":`...), *a.Old, quoted)
	}
	if a.Changed != nil {
		out = strconv.AppendBool(append(out, `,"changed":`...), *a.Changed)
	}
	if op.Kind == quipu.KindGet {
		out = strconv.AppendBool(append(out, `,"exists":`...), r.Existed)
	}
	if a.TTLMs != nil {
		out = appendInt(append(out, `,"ttlMs":`...), *a.TTLMs, quoted)
	}
	if r.Code != quipu.CodeOK {
		body, err := json.Marshal(resultProblem(r), json.StringifyNumbers(quoted))
		if err != nil {
			return out, err
		}
		out = append(append(out, `,"error":`...), body...)
	}
	return append(out, '}'), nil
}

func appendInt(out []byte, n int64, quoted bool) []byte {
	if !quoted {
		return strconv.AppendInt(out, n, 10)
	}
	return append(strconv.AppendInt(append(out, '"'), n, 10), '"')
}

func appendUint(out []byte, n uint64, quoted bool) []byte {
	if !quoted {
		return strconv.AppendUint(out, n, 10)
	}
	return append(strconv.AppendUint(append(out, '"'), n, 10), '"')
}

// writeResults answers a batch. The length is told, so that a long answer is
// not sent in chunks.
func writeResults(w http.ResponseWriter, r *http.Request, status int, ops []quipu.Op, results []quipu.Result) {
	out, err := appendResults(make([]byte, 0, 112*len(results)+2), ops, results, intString(r))
	if err != nil {
		fail(w, &quipu.Error{Code: quipu.CodeUnknown, Message: "the answer can't be written", Cause: err})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	w.WriteHeader(status)
	w.Write(out)
}
