package store

import (
	"unsafe"

	"github.com/quipudb/quipu"
)

// Batch is what is committed at once: records in order, in groups where
// operations belong together. A batch owns all bytes its records point at.
//
// The pool forms it with Add and seals it by handing it to a store; the store
// fills Results; the pool reads single results back with Result. A batch is
// reused after Reset. It is not safe for concurrent use.
type Batch struct {
	Records []Record
	// Groups are sorted by First and do not overlap. They count records.
	Groups []Group
	// Results has one entry a record once the store is done.
	Results []RecordResult
	// Code is CodeOK, or says why the whole batch was refused or is unknown;
	// then Results mean nothing.
	Code quipu.Code
	// Ops is the number of operations, folded ones counted singly.
	Ops int
	// Bytes is an upper estimate of the encoded size.
	Bytes int

	arena   []byte
	fold    foldTable
	options []quipu.Options // chunk from which Options are copied
	tenants []string        // interned
}

// Record is one operation, or several plain adds on one counter folded into
// one. The operations of a folded record are its first Run (Op.Value, Times)
// and then More, in order. Every operation in the log takes a number; those of
// a folded record take as many as they are.
type Record struct {
	Op   quipu.Op
	Hash uint64 // Hash(Op.Tenant, Op.Name)
	// Times is how often Op.Value is added, at least 1; always 1 for a record
	// that is not a plain add.
	Times uint32
	// Ops is Times and the Times of More together.
	Ops uint32
	// Hint is where the store's Resident found the name, 0 if it did not.
	Hint   uint32
	closed bool // nothing more is folded into it
	More   []Run
	// sum is the sum of all deltas, wrapping.
	sum int64
}

// Run is a delta that is added Times times, at least once.
type Run struct {
	Delta int64
	Times uint32
}

// Group is a stretch of records that are applied with nothing between them.
type Group struct {
	First, Count int
	// AllOrNothing: if one operation of the group is refused, none is applied;
	// the others answer CodeAborted. Their request ids are replays all or
	// none. Without it a refused operation leaves the others alone.
	AllOrNothing bool
	// Watches are checked before the group; if one fails, all its operations
	// answer CodePrecondition and nothing is applied.
	Watches []Watch
}

// Watch is a precondition on a name that the group itself may not touch.
type Watch struct {
	Tenant, Name string
	If           quipu.Precondition
}

// RecordResult is what came of a record. For a folded record Old is the value
// before it, Value the one after it, Revision the number of its first
// operation, and Code is CodeOK, or why all its operations were refused.
type RecordResult struct {
	quipu.Result
	// Refusals tells of the operations of a folded record that were refused for
	// overflow, nil if none was. It is rare: a result is one line of the
	// processor's cache.
	Refusals *Refusals
}

// Refusals are the operations of a folded record that were refused, each as if
// the operations had been applied one by one.
type Refusals struct {
	// Positions lists them, ascending, from 0.
	Positions []uint32
	// Before is the number of the operation that last changed the name before
	// the record.
	Before uint64
}

// Count is how many were refused.
func (r *Refusals) Count() int {
	if r == nil {
		return 0
	}
	return len(r.Positions)
}

// Place tells where in a batch an operation went, so that its own result can
// be rebuilt from its record's.
type Place struct {
	record   uint32
	position uint32
	// through is the sum of the record's deltas up to and with this one.
	through int64
}

// Record returns the index of the operation's record.
func (p Place) Record() int { return int(p.record) }

// Reset empties the batch for reuse.
func (b *Batch) Reset() {
	b.fold.reset(len(b.Records))
	clear(b.Records) // lets go of options and runs
	b.Records = b.Records[:0]
	b.Groups = b.Groups[:0]
	b.Results = b.Results[:0]
	b.Code = quipu.CodeOK
	b.Ops, b.Bytes = 0, 0
	// The arena may be referred to by whoever kept a string of a result:
	// nobody may. It is reused unless it has grown beyond what is usual.
	if cap(b.arena) > maxKeptArena {
		b.arena = nil
	}
	b.arena = b.arena[:0]
	b.options = nil
	b.tenants = b.tenants[:0]
}

const maxKeptArena = 4 << 20

// recordOverhead bounds what the encoding of a record takes beside its texts
// and options; optionsOverhead what options take beside the request key.
const (
	recordOverhead  = 48
	optionsOverhead = 64
)

// Add appends one operation, folding a plain add into the record before it on
// the same counter where no answer changes by it, and returns its place. The
// operation is copied, with all bytes it points at. hash is Hash(op.Tenant,
// op.Name). Operations of a group are added with fold false.
func (b *Batch) Add(op *quipu.Op, hash uint64, fold bool) Place {
	b.Ops++
	plain := op.Plain()
	if plain && fold {
		if at, ok := b.fold.find(b, hash, op); ok {
			return b.foldInto(at, op.Value)
		}
	}
	at := uint32(len(b.Records))
	b.Records = append(b.Records, Record{Hash: hash, Times: 1, Ops: 1})
	r := &b.Records[at]
	r.Op.Kind, r.Op.Value, r.sum = op.Kind, op.Value, op.Value
	r.Op.Tenant = b.internTenant(op.Tenant)
	r.Op.Name = b.copy(op.Name)
	if op.Item != "" {
		r.Op.Item = b.copy(op.Item)
	}
	b.Bytes += EncodedBound(op)
	if op.Options != nil {
		r.Op.Options = b.copyOptions(op.Options)
	}
	switch {
	case plain && fold:
		b.fold.put(b, hash, at)
	case op.Kind >= quipu.KindDropTenant:
		b.fold.close(len(b.Records)) // changes names it does not name
	default:
		b.fold.remove(b, hash, op)
	}
	return Place{record: at, through: op.Value}
}

// Hint notes where the store's Resident found the name of the operation at p.
func (b *Batch) Hint(p Place, hint uint32) { b.Records[p.record].Hint = hint }

// AddRecord appends a record as it stands in the log; runs are the further
// runs of a folded one. The operation is copied.
func (b *Batch) AddRecord(op *quipu.Op, hash uint64, times uint32, runs []Run) {
	b.Add(op, hash, false)
	r := &b.Records[len(b.Records)-1]
	r.Times, r.Ops, r.More = times, times, runs
	r.sum = op.Value * int64(times)
	for _, run := range runs {
		r.Ops += run.Times
		r.sum += run.Delta * int64(run.Times)
	}
	b.Ops += int(r.Ops) - 1
}

func (b *Batch) foldInto(at uint32, delta int64) Place {
	r := &b.Records[at]
	p := Place{record: at, position: r.Ops}
	r.Ops++
	r.sum += delta
	p.through = r.sum
	switch n := len(r.More); {
	case n == 0 && r.Op.Value == delta:
		r.Times++
	case n > 0 && r.More[n-1].Delta == delta:
		r.More[n-1].Times++
	default:
		r.More = append(r.More, Run{Delta: delta, Times: 1})
		b.Bytes += 16
	}
	return p
}

// Result returns the result of the operation at p, whose delta or value is
// given; it may be called once the store is done. It costs a walk over the
// refused positions where the record has any.
func (b *Batch) Result(p Place, value int64) quipu.Result {
	if b.Code != quipu.CodeOK {
		return quipu.Result{Code: b.Code}
	}
	r := &b.Records[p.record]
	rr := &b.Results[p.record]
	if r.Ops == 1 || rr.Code != quipu.CodeOK {
		return rr.Result
	}
	res := rr.Result
	res.Revision += uint64(p.position)
	if rr.Refusals == nil {
		res.Value = rr.Old + p.through
		res.Old = res.Value - value
		res.Delta = value
		res.Existed = rr.Existed || p.position > 0
		return res
	}
	return b.walk(p, value)
}

// walk rebuilds the result of one operation of a folded record some of whose
// operations were refused. An add to an absent counter can't overflow, so that
// after position 0 the counter exists.
func (b *Batch) walk(p Place, value int64) quipu.Result {
	r, rr := &b.Records[p.record], &b.Results[p.record]
	res := rr.Result
	var (
		refused  = rr.Refusals.Positions
		running  = rr.Old
		position uint32
		// number is that of the last operation applied up to p, or the one
		// that last changed the counter before the record.
		number = rr.Refusals.Before
	)
	each := func(delta int64, times uint32) {
		for range times {
			if position > p.position {
				return
			}
			mine := position == p.position
			if mine {
				res.Old, res.Existed = running, rr.Existed || position > 0
			}
			if len(refused) > 0 && refused[0] == position {
				refused = refused[1:]
				if mine {
					res.Code, res.Delta = quipu.CodeOverflow, 0
				}
			} else {
				if mine {
					res.Delta = value
				}
				running += delta
				number = rr.Revision + uint64(position)
			}
			position++
		}
	}
	each(r.Op.Value, r.Times)
	for _, run := range r.More {
		each(run.Delta, run.Times)
	}
	res.Value, res.Revision = running, number
	return res
}

func (b *Batch) copy(s string) string {
	if len(s) == 0 {
		return ""
	}
	if cap(b.arena)-len(b.arena) < len(s) {
		// A new chunk: strings handed out keep the old one alive.
		n := max(2*cap(b.arena), 64<<10, len(s))
		b.arena = make([]byte, 0, n)
	}
	at := len(b.arena)
	b.arena = append(b.arena, s...)
	return unsafe.String(&b.arena[at], len(s))
}

// internTenant copies a tenant's name once for operations that follow each
// other: most batches hold few tenants.
func (b *Batch) internTenant(s string) string {
	for i := len(b.tenants) - 1; i >= max(0, len(b.tenants)-internedTenants); i-- {
		if b.tenants[i] == s {
			return b.tenants[i]
		}
	}
	t := b.copy(s)
	b.tenants = append(b.tenants, t)
	return t
}

// internedTenants is how many of the last tenants are looked at.
const internedTenants = 4

func (b *Batch) copyOptions(o *quipu.Options) *quipu.Options {
	if len(b.options) == cap(b.options) {
		b.options = make([]quipu.Options, 0, min(max(8, 2*cap(b.options)), 1024))
	}
	b.options = append(b.options, *o)
	c := &b.options[len(b.options)-1]
	c.ID.Key = b.copy(o.ID.Key)
	return c
}

// AddGroup makes the last g.Count records, which begin at g.First, a group. It
// copies the watches.
func (b *Batch) AddGroup(g Group) {
	b.Bytes += GroupBound(&g)
	if len(g.Watches) > 0 {
		watches := make([]Watch, len(g.Watches))
		for i, w := range g.Watches {
			w.Tenant, w.Name = b.internTenant(w.Tenant), b.copy(w.Name)
			watches[i] = w
		}
		g.Watches = watches
	}
	b.Groups = append(b.Groups, g)
}

// EncodedBound bounds from above what an operation adds to an encoded entry,
// in bytes, alone in its record.
func EncodedBound(op *quipu.Op) int {
	n := recordOverhead + len(op.Tenant) + len(op.Name) + len(op.Item)
	if op.Options != nil {
		n += optionsOverhead + len(op.Options.ID.Key)
	}
	return n
}

// GroupBound bounds from above what a group adds to an encoded entry beside
// its records, in bytes.
func GroupBound(g *Group) int {
	n := recordOverhead
	for i := range g.Watches {
		n += recordOverhead + len(g.Watches[i].Tenant) + len(g.Watches[i].Name)
	}
	return n
}
