// Package storetest is the conformance suite of package store: what every store
// is held to. A store's own test calls Run with a way to open it.
//
// Two judges decide. Where it is about what an operation means, package model
// runs the same batches and every field of every result must be the same, the
// numbers of operations and the log's time included. Where the model and a store
// could be wrong together, the cases spell the answers out.
//
// Each case runs twice: as batches handed to Submit, and over a lossy way on
// which each batch is sent as a number too early, then loses its answer, and is
// sent again under its own number. No answer may change by it.
//
// docs/guarantees.md has a table of what each store serves. A store may refuse
// what the table denies it, and nothing more.
package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/quipudb/quipu/internal/model"
	"github.com/quipudb/quipu/internal/store"
)

// Config is what a store under test is opened with.
type Config struct {
	// Now is the clock of stamps: it stands still but for what a case adds.
	Now func() time.Time
	// Window and SkewAllowance are the settings of request ids.
	Window, SkewAllowance time.Duration
}

// Settings are the model's settings of this Config.
func (c Config) Settings() model.Settings {
	return model.Settings{WindowMs: c.Window.Milliseconds(), SkewMs: c.SkewAllowance.Milliseconds()}
}

// Fault is what a case has happen to the next batch that is submitted.
type Fault int

const (
	// FailBefore: the batch fails before it is applied, and never is.
	FailBefore Fault = iota + 1
	// LoseAnswer: the batch is applied, durably, and its answer is lost.
	LoseAnswer
)

// Subject is a store under test, empty and serving. All but Restart may be
// called by several goroutines.
type Subject struct {
	store.Store
	// Begin puts the begin of an incarnation into the log.
	Begin func(node string, incarnation [16]byte) error
	// Apply puts a batch under a number of an incarnation into the log, as a
	// node does that hands its batches to another one, and tells what became of
	// it. The results are filled if it was applied or had been.
	Apply func(incarnation [16]byte, number uint64, b *store.Batch) (store.Fate, error)
	// Inject prepares a fault for the next batch.
	Inject func(Fault)
	// Restart ends the store as a crash would and opens it again. A store that
	// keeps nothing over a restart only recovers from an injected fault.
	Restart func()
	// Wake has the store look for expired names now. It is nil where a store
	// does so at every call.
	Wake func()
	// Slow asks for a part of each case only.
	Slow bool
	// Durable says that Restart really ends the store.
	Durable bool
}

// Open opens an empty store, which ends with the test.
type Open func(t *testing.T, cfg Config) *Subject

// Run holds the stores that open makes to the contract. column is the store's
// column in the table of docs/guarantees.md.
func Run(t *testing.T, column string, open Open) {
	served := readTable(t).column(t, column)
	for _, way := range []struct {
		name  string
		lossy bool
	}{{"submit", false}, {"lossy", true}} {
		t.Run(way.name, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					for _, row := range c.needs {
						if !served[row] {
							t.Skipf("the table denies %q to this store", row)
						}
					}
					c.run(newWorld(t, open, way.lossy))
				})
			}
		})
	}
	t.Run("table", func(t *testing.T) { checkServed(newWorld(t, open, false), served) })
	t.Run("numbers", func(t *testing.T) { numbers(newWorld(t, open, false)) })
	t.Run("faults", func(t *testing.T) { faults(t, open) })
	t.Run("restart", func(t *testing.T) { restart(newWorld(t, open, false)) })
	t.Run("concurrent", func(t *testing.T) { concurrent(newWorld(t, open, false)) })
}

// cases are the parts of the suite that run on both ways. needs are the rows of
// the table without which a case means nothing.
var cases = []struct {
	name  string
	needs []string
	run   func(*world)
}{
	{"answers", nil, answers},
	{"every operation", nil, everyOperation},
	{"folded adds", []string{"add"}, foldedAdds},
	{"request ids", []string{"add", "request id"}, requestIDs},
	{"atomic groups", []string{"atomic group"}, atomicGroups},
	{"plain groups", []string{"group"}, plainGroups},
	{"lists", []string{"list"}, lists},
	{"expiry", []string{"expire"}, expiry},
	{"random", nil, random},
}

// clock stands still but for what a case adds.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

const (
	window = time.Minute
	skew   = 5 * time.Second
	// epoch is where the clock of a case begins: a round time long ago.
	epoch = 1_700_000_000_000
)
