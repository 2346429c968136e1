package accesslog

import (
	"strconv"

	"github.com/quipudb/quipu"
)

// The names that are counted.
const (
	nameRequests = "requests"
	nameErrors   = "errors" // status 400 and above
	nameBytes    = "bytes"
	nameUnparsed = "lines/unparsed"
	setClients   = "clients"
	statusPrefix = "status/" // status/200 and its class, status/2xx
	pathPrefix   = "path/"
	pathOther    = "path/_other"
)

// tally is what the lines of one batch add.
type tally struct {
	adds    map[string]int64
	clients map[string]struct{}
	// paths are the names that have a counter of their own; the tally adds to
	// them.
	paths    map[string]struct{}
	maxPaths int
	// textBytes is the size of the names and clients, which bounds the batch.
	textBytes int
	totals    Totals
}

// Totals are what an importer counted.
type Totals struct {
	Lines    int64 `json:"lines"`
	Requests int64 `json:"requests"`
	Unparsed int64 `json:"unparsed"`
	Errors   int64 `json:"errors"`
	Bytes    int64 `json:"bytes"`
}

func (t *Totals) add(o Totals) {
	t.Lines += o.Lines
	t.Requests += o.Requests
	t.Unparsed += o.Unparsed
	t.Errors += o.Errors
	t.Bytes += o.Bytes
}

func newTally(paths map[string]struct{}, maxPaths int) *tally {
	return &tally{adds: make(map[string]int64), clients: make(map[string]struct{}), paths: paths, maxPaths: maxPaths}
}

func (t *tally) count(name string, n int64) {
	was := len(t.adds)
	t.adds[name] += n
	if len(t.adds) != was {
		t.textBytes += len(name)
	}
}

func (t *tally) unparsed() {
	t.totals.Lines++
	t.totals.Unparsed++
	t.count(nameUnparsed, 1)
}

func (t *tally) request(r Request) {
	t.totals.Lines++
	t.totals.Requests++
	t.count(nameRequests, 1)
	status := strconv.Itoa(r.Status)
	t.count(statusPrefix+status, 1)
	t.count(statusPrefix+status[:1]+"xx", 1)
	if r.Status >= 400 {
		t.totals.Errors++
		t.count(nameErrors, 1)
	}
	if r.Bytes > 0 {
		t.totals.Bytes += r.Bytes
		t.count(nameBytes, r.Bytes)
	}
	t.count(t.pathCounter(r.Path), 1)
	if _, ok := t.clients[r.Client]; !ok && quipu.PlainText(r.Client) {
		t.clients[r.Client] = struct{}{}
		t.textBytes += len(r.Client)
	}
}

// pathCounter keeps the number of paths within the cap; the sum over all
// stays that of the requests.
func (t *tally) pathCounter(path string) string {
	name := pathName(path)
	if name == pathOther {
		return name
	}
	if _, ok := t.paths[name]; ok {
		return name
	}
	if len(t.paths) >= t.maxPaths {
		return pathOther
	}
	t.paths[name] = struct{}{}
	return name
}

// ops returns how many operations the tally takes.
func (t *tally) ops() int { return len(t.adds) + len(t.clients) }

func (t *tally) appendTo(ops []quipu.Op) []quipu.Op {
	for name, n := range t.adds {
		ops = append(ops, quipu.Op{Kind: quipu.KindAdd, Name: name, Value: n})
	}
	for client := range t.clients {
		ops = append(ops, quipu.Op{Kind: quipu.KindAddItem, Name: setClients, Item: client})
	}
	return ops
}
