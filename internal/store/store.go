// Package store is the contract between the pool, which forms batches, and the
// stores, which make them durable and apply them exactly once. Package
// storetest proves every store against it.
//
// A store is handed a [Batch] once, gives it a number within its incarnation,
// and answers with a definite end: every result is applied or not applied, or
// the whole batch is refused before it had a number (Batch.Code), or the
// process ends and the outcome is unknown to whoever waited. Reads never show
// a value that is not durable.
package store

import (
	"context"

	"github.com/quipudb/quipu"
)

// Store keeps counters and item sets. All methods are safe for concurrent use.
type Store interface {
	// Submit makes the batch durable and applied, exactly once, fills
	// b.Results, or sets b.Code where the whole batch was refused or its
	// outcome is unknown, and calls done once. done may run on the caller's
	// goroutine before Submit returns, or on another one later; it must not
	// block. Until done the store owns the batch; it keeps no reference to it
	// afterwards.
	//
	// At most MaxInFlight batches may be under way; batches take effect in the
	// order of the calls, which the caller serializes.
	Submit(b *Batch, done func(*Batch))

	// MaxInFlight is how many batches may be under way at once, at least 1.
	MaxInFlight() int

	// Resident reports whether Submit of these operations, and TryRead of
	// them, need no disk read now; a store may be wrong in it, rarely, since
	// correctness does not depend on it. It is cheap, never waits for a disk, and
	// has no effect but on the order of eviction. hashes holds Hash(tenant,
	// name) for each operation, or is nil. hints, if not nil, has a zero for each
	// and may be filled with where the store found the name: Submit looks there
	// first if it is in Record.Hint. A hint may be out of date.
	Resident(ops []quipu.Op, hashes []uint64, hints []uint32) bool

	// Load reads into memory what these operations need. It may wait for the
	// disk. Correctness never depends on it.
	Load(ctx context.Context, ops []quipu.Op) error

	// TryRead answers reads (Kind.Reads) if they need no disk read, all at one
	// point in time, linearizable, and reports whether it did. results has the
	// length of ops.
	TryRead(ops []quipu.Op, results []quipu.Result) bool

	// Read answers reads as TryRead does, and may wait for the disk.
	Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error

	// List answers a page of names or items, in byte order, as of one point in
	// time not before the call. It may wait for the disk.
	List(ctx context.Context, req ListRequest) (ListPage, error)

	// Size returns how many names the tenant has. Names whose expiry has just
	// passed may be counted until they are swept.
	Size(ctx context.Context, tenant string) (int64, error)

	// Random returns a name of the tenant, each with about the same chance, or
	// ok false if it has none.
	Random(ctx context.Context, tenant string) (name string, ok bool, err error)
}

// What says what a List call lists.
type What uint8

const (
	// Names lists the counters and sets of a tenant.
	Names What = iota
	// Items lists the items of the set Name.
	Items
	// Tenants lists the tenants that have names.
	Tenants
)

// ListRequest asks for one page.
type ListRequest struct {
	What   What
	Tenant string
	// Name is the set whose items are listed.
	Name string
	// Prefix restricts to names, items or tenants that begin with it.
	Prefix string
	// After is the last entry of the page before; empty starts at the front.
	After string
	// Kind restricts Names to counters or sets; KindNone lists both.
	Kind quipu.NameKind
	// Limit bounds the page, 1 to limit.ListPage.
	Limit int
}

// ListPage is one page of a list.
type ListPage struct {
	Entries []ListEntry
	// More says that entries may follow after the last one; where it holds and
	// Entries is empty, go on from After.
	More  bool
	After string
}

// ListEntry is a name, an item or a tenant. The fields beside Name are filled
// for names only.
type ListEntry struct {
	Name     string
	Kind     quipu.NameKind
	Value    int64 // a counter's value, a set's count
	Revision uint64
	ExpireAt int64 // milliseconds of log time, 0 is none
}
