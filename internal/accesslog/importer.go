package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/client"
)

const (
	// batchBytes bounds the part of a log that one batch reads, batchOps and
	// batchTextBytes what it adds to the server: a log entry holds it.
	batchBytes     = 4 << 20
	batchOps       = 8_000
	batchTextBytes = 1 << 20
	// opsPerLine is how many operations a line adds at most.
	opsPerLine = 8
)

// ErrOtherLog: the log is not the one in which the source's position was
// reached.
var ErrOtherLog = errors.New("this is another log than the one imported under this source")

// Config is what an Importer is made of. Client and Parser are required.
type Config struct {
	// Client writes into its tenant. It need not send request ids: the
	// precondition does their work, for ever, and costs no memory.
	Client *client.Client
	Parser Parser
	// Source names the log; if empty its first line does. A stream needs one.
	Source string
	// MaxPaths bounds the paths that have a counter of their own, 1,000 if 0.
	MaxPaths int
	// LastLine counts the last line of the log also when it has no end. The log
	// must not grow any more.
	LastLine bool
	// OnBatch, if not nil, is told after each batch what was counted so far,
	// and the position.
	OnBatch func(total Totals, offset int64)
	// OnUnparsed, if not nil, is told of each line that did not parse once it
	// is counted. The line is valid during the call.
	OnUnparsed func(line []byte)
}

// Importer counts the lines of one log. It is not safe for concurrent use;
// several importers, in any processes, may work on the same log at once.
//
// The log's source has two counters, source/<id>/offset and source/<id>/check:
// up to where its lines are counted, and a hash of the last of these lines. A
// batch moves the position from where the importer read it, under that
// precondition, and in the same atomic step adds what lies between. So each
// line is counted by one batch, whoever sends it and whenever. An importer
// whose precondition fails reads the position and goes on from there.
type Importer struct {
	cfg    Config
	log    io.ReaderAt
	some   func(p []byte, offset int64) (int, error) // reads at least a line, if there is one
	id     string
	offset int64
	// revision of the offset's counter, 0 if it is absent.
	revision uint64
	paths    map[string]struct{}
	total    Totals
	buffer   []byte
	ops      []quipu.Op
	check    int64 // of the line before offset
	// pending is the batch whose outcome is not known, nil if there is none.
	pending *batch
	started bool
}

// batch is one step of the position, and what it counts.
type batch struct {
	*tally
	end   int64
	check int64
	bad   [][]byte // the lines that did not parse, in the importer's buffer
}

// NewFile returns an importer of a log that can be read at any offset.
func NewFile(cfg Config, log io.ReaderAt) *Importer {
	return newImporter(cfg, log, log.ReadAt)
}

// NewStream returns an importer of a stream, which begins each time at the
// same first byte: what is counted already is skipped. cfg.Source is required.
func NewStream(cfg Config, r io.Reader) (*Importer, error) {
	if cfg.Source == "" {
		return nil, errors.New("a stream needs a name for its source")
	}
	s := newStream(r, batchBytes)
	return newImporter(cfg, s, s.readSome), nil
}

func newImporter(cfg Config, log io.ReaderAt, some func([]byte, int64) (int, error)) *Importer {
	if cfg.MaxPaths <= 0 {
		cfg.MaxPaths = 1000
	}
	return &Importer{cfg: cfg, log: log, some: some, id: cfg.Source, buffer: make([]byte, batchBytes)}
}

// Total returns what this importer counted; lines that others counted are not
// in it.
func (im *Importer) Total() Totals { return im.total }

// Source returns the source's id, empty while the first line is not complete.
func (im *Importer) Source() string { return im.id }

// Offset returns the position up to which the log is counted.
func (im *Importer) Offset() int64 { return im.offset }

// Run counts until the end of the log, or until ctx ends. It may be called
// again when the log has grown, and after an error that may be retried: it then
// reads the position first.
func (im *Importer) Run(ctx context.Context) error {
	for {
		if !im.started {
			if ok, err := im.begin(ctx); err != nil || !ok {
				return err
			}
		}
		more, err := im.step(ctx)
		switch {
		case err == nil && !more:
			return nil
		case err == nil:
		case ctx.Err() == nil && (errors.Is(err, quipu.ErrPrecondition) || errors.Is(err, quipu.ErrUnknown)):
			im.started = false // the position has moved, or may have
		default:
			im.started = false
			return err
		}
	}
}

// begin reads the position and the paths that have counters. ok is false while
// the log's first line is not complete.
func (im *Importer) begin(ctx context.Context) (ok bool, err error) {
	if im.id == "" {
		if im.id, ok, err = sourceID(im.log); err != nil || !ok {
			return false, err
		}
	}
	if err := quipu.ValidateName(im.offsetName()); err != nil {
		return false, fmt.Errorf("the source's counter: %w", err)
	}
	at, err := im.cfg.Client.Atomic(ctx, []quipu.Op{
		{Kind: quipu.KindGet, Name: im.offsetName()},
		{Kind: quipu.KindGet, Name: im.checkName()},
	})
	if err != nil {
		return false, fmt.Errorf("read the position: %w", err)
	}
	im.offset, im.revision, im.check = at[0].Value, 0, at[1].Value
	if at[0].Existed {
		im.revision = at[0].Revision
	}
	if err := im.verify(); err != nil {
		return false, err
	}
	if b := im.pending; b != nil && b.end == im.offset && b.check == im.check {
		im.counted(b)
	}
	im.pending = nil
	im.paths = make(map[string]struct{})
	for counter, err := range im.cfg.Client.Counters(ctx, pathPrefix) {
		if err != nil {
			return false, fmt.Errorf("read the paths: %w", err)
		}
		if counter.Name != pathOther {
			im.paths[counter.Name] = struct{}{}
		}
	}
	im.started = true
	return true, nil
}

// verify returns ErrOtherLog unless the log is the one in which the position
// was reached.
func (im *Importer) verify() error {
	if im.offset == 0 {
		return nil
	}
	if im.offset < 0 {
		return fmt.Errorf("%w: its position %s is %d", ErrOtherLog, im.offsetName(), im.offset)
	}
	check, err := checkBefore(im.log, im.offset)
	switch {
	case errors.Is(err, errNotALine):
		return fmt.Errorf("%w (%s): it was counted up to byte %d, and %w", ErrOtherLog, im.id, im.offset, err)
	case err != nil:
		return err
	case check != im.check:
		return fmt.Errorf("%w (%s): the line before byte %d differs", ErrOtherLog, im.id, im.offset)
	}
	return nil
}

func (im *Importer) offsetName() string { return "source/" + im.id + "/offset" }
func (im *Importer) checkName() string  { return "source/" + im.id + "/check" }

// step counts one batch; more is false at the end of the log.
func (im *Importer) step(ctx context.Context) (more bool, err error) {
	n, err := im.some(im.buffer, im.offset)
	atEnd := errors.Is(err, io.EOF)
	if err != nil && !atEnd {
		return false, err
	}
	b, err := im.fold(im.buffer[:n], atEnd)
	if err != nil || b == nil {
		return false, err
	}
	results, err := im.cfg.Client.Atomic(ctx, im.opsOf(b))
	if err != nil {
		if errors.Is(err, quipu.ErrUnknown) {
			im.pending = b
		}
		return false, err
	}
	im.offset, im.check, im.revision = b.end, b.check, results[0].Revision
	im.counted(b)
	return true, ctx.Err()
}

// opsOf returns the batch's operations; the first moves the position.
func (im *Importer) opsOf(b *batch) []quipu.Op {
	here := &quipu.Options{If: quipu.Precondition{Kind: quipu.IfRevision, Revision: im.revision}}
	if im.revision == 0 {
		here.If = quipu.Precondition{Kind: quipu.IfAbsent}
	}
	im.ops = append(im.ops[:0],
		quipu.Op{Kind: quipu.KindSet, Name: im.offsetName(), Value: b.end, Options: here},
		quipu.Op{Kind: quipu.KindSet, Name: im.checkName(), Value: b.check})
	im.ops = b.appendTo(im.ops)
	return im.ops
}

func (im *Importer) counted(b *batch) {
	im.total.add(b.totals)
	if im.cfg.OnUnparsed != nil {
		for _, line := range b.bad {
			im.cfg.OnUnparsed(line)
		}
	}
	if im.cfg.OnBatch != nil {
		im.cfg.OnBatch(im.total, b.end)
	}
}

// fold tallies the whole lines that part, the log from the position on, begins
// with, as many as a batch may hold. It returns nil if there is none.
func (im *Importer) fold(part []byte, atEnd bool) (*batch, error) {
	b := &batch{tally: newTally(im.paths, im.cfg.MaxPaths)}
	rest, last := part, []byte(nil)
	for len(rest) > 0 && b.ops() <= batchOps-opsPerLine && b.textBytes <= batchTextBytes {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		if !ended && !(atEnd && im.cfg.LastLine) {
			break
		}
		if r, ok := im.cfg.Parser.Parse(line); ok {
			b.request(r)
		} else {
			b.unparsed()
			b.bad = append(b.bad, line)
		}
		last, rest = line, after
	}
	switch {
	case len(rest) < len(part):
		b.end, b.check = im.offset+int64(len(part)-len(rest)), checkOf(last)
		return b, nil
	case len(part) < batchBytes:
		return nil, nil
	default:
		return im.foldLong(b)
	}
}

// foldLong counts a line longer than a batch as one that does not parse.
func (im *Importer) foldLong(b *batch) (*batch, error) {
	end := im.offset
	for {
		n, err := im.some(im.buffer, end)
		if i := bytes.IndexByte(im.buffer[:n], '\n'); i >= 0 {
			end += int64(i) + 1
			break
		}
		end += int64(n)
		switch {
		case errors.Is(err, io.EOF) && im.cfg.LastLine && n == 0:
		case errors.Is(err, io.EOF) && im.cfg.LastLine:
			continue
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, err
		default:
			continue
		}
		break
	}
	check, err := checkBefore(im.log, end)
	if err != nil {
		return nil, err
	}
	b.unparsed()
	b.bad = append(b.bad, []byte("(a line of more than 4 MiB)"))
	b.end, b.check = end, check
	return b, nil
}
