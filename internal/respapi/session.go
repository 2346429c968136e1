package respapi

import (
	"bytes"
	"context"
	"strings"
	"unsafe"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/store"
)

// session is what a connection is to the commands: its tenant, its transaction,
// and the burst under way. A burst is planned command by command: operations
// are gathered in sub, replies in replies, in order; when the operations are
// answered, the replies are rendered.
type session struct {
	server *Server
	id     int64
	addr   string
	name   string
	tenant string
	out    writer

	sub      pool.Submission
	replies  []reply
	writes   bool // the burst holds a write
	commands int  // in the burst

	multi   *transaction
	watches []store.Watch
	closing bool // after the replies

	once   *onceArgs // the request id of the command that is planned
	sealed int       // replies before it take no further operations
	recent recentCommand
	parser parser
	args   [][]byte
}

// reply renders one command's answer from the results of its operations.
type reply struct {
	render func(s *session, r *reply, results []quipu.Result)
	first  int // of its operations
	count  int
	text   string
	flags  int
	inner  int // further replies that belong to it
}

// transaction is what MULTI has queued.
type transaction struct {
	commands [][][]byte
	aborted  bool
}

type onceArgs struct{ id quipu.RequestID }

// recentCommand is the command looked up last: pipelines mostly repeat it.
type recentCommand struct {
	word    string // as it was written
	command *command
}

// verdict says what becomes of a parsed command.
type verdict int

const (
	planned verdict = iota
	// barrier: the burst must be answered first, then run is called.
	needsBarrier
)

// alias views bytes as a string: they stay as they are until the burst is
// answered.
func alias(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// begin starts a burst, or ends one that is answered: it empties the lists, and
// gives back those that a huge command has made large.
func (s *session) begin() {
	s.sub.Ops, s.sub.Groups = emptied(s.sub.Ops), emptied(s.sub.Groups)
	s.replies, s.args, s.sub.Results = emptied(s.replies), emptied(s.args), emptied(s.sub.Results)
	if s.parser.at == 0 {
		s.parser.args = emptied(s.parser.args)
	}
	s.writes, s.commands, s.sealed = false, 0, 0
}

// keptEntries is how many entries the lists of an idle connection may have room
// for: those of one huge command are given back.
const keptEntries = 4096

// emptied empties a list for use again.
func emptied[T any](list []T) []T {
	if cap(list) > keptEntries {
		return nil
	}
	clear(list)
	return list[:0]
}

// gather begins a burst and plans the complete commands at the front of buf,
// which take n bytes. It ends before a command that must run alone, which it
// returns with its arguments, and with the error of what it could not parse,
// errIncomplete where more bytes are needed.
func (s *session) gather(buf []byte) (n int, alone *command, args [][]byte, err error) {
	s.begin()
	defer func() { s.server.stats.commands.Add(uint64(s.commands)) }()
	for !s.closing && len(s.sub.Ops) < limit.BatchOps {
		var used int
		args, used, err = s.parser.parse(buf[n:], s.args[:0])
		if err != nil {
			return n, nil, nil, err
		}
		s.args = args
		n += used
		if len(args) > 0 && s.plan(args) == needsBarrier {
			return n, s.server.table.lookup(args[0]), args, nil
		}
	}
	return n, nil, nil, nil
}

// runBarrier runs a command that is not part of a burst.
func (s *session) runBarrier(alone *command, args [][]byte) {
	s.server.stats.commands.Add(1)
	at := len(s.out.buf)
	if problem := alone.run(s, args); problem != "" {
		s.out.buf = s.out.buf[:at]
		s.out.fail(problem)
	}
}

// makeRoom moves what is not served to the front of a read buffer that begins
// with first bytes, shrinks one that has become large and is empty, and grows
// one that is full, or where more is asked for.
func makeRoom(in []byte, start, first int, more bool) []byte {
	in = in[:copy(in, in[start:])]
	switch {
	case cap(in) == 0, len(in) == 0 && cap(in) > keptBytes:
		return make([]byte, 0, first)
	case len(in) == cap(in), more:
		return append(make([]byte, 0, 2*cap(in)), in...)
	}
	return in
}

// plan takes one command into the burst.
func (s *session) plan(args [][]byte) verdict {
	c := s.lookup(args[0])
	if c == nil {
		s.server.stats.unknown.Add(1)
		s.reject(unknownCommand(args))
		return planned
	}
	if len(args) < c.least() || c.arity > 0 && len(args) != c.arity {
		s.reject("ERR wrong number of arguments for '" + c.name + "' command")
		return planned
	}
	if s.multi != nil && c.flags&inMulti == 0 {
		return s.queue(c, args)
	}
	if c.run != nil {
		return needsBarrier
	}
	s.commands++
	s.execute(c, args)
	return planned
}

func (s *session) lookup(word []byte) *command {
	if c := s.recent.command; c != nil && string(word) == s.recent.word {
		return c
	}
	c := s.server.table.lookup(word)
	if c != nil {
		s.recent = recentCommand{string(word), c}
	}
	return c
}

// execute plans a command's operations and reply.
func (s *session) execute(c *command, args [][]byte) {
	ops, replies := len(s.sub.Ops), len(s.replies)
	s.once = nil
	if text := c.plan(s, args); text != "" {
		clear(s.sub.Ops[ops:])
		s.sub.Ops, s.replies = s.sub.Ops[:ops], s.replies[:replies]
		s.fail(text)
	}
}

// reject answers a command that is not even queued.
func (s *session) reject(text string) {
	if s.multi != nil {
		s.multi.aborted = true
	}
	s.fail(text)
}

func (s *session) fail(text string) { s.reply(reply{render: renderError, text: text}) }

func (s *session) reply(r reply) { s.replies = append(s.replies, r) }

// queue keeps a command for EXEC.
func (s *session) queue(c *command, args [][]byte) verdict {
	s.commands++
	switch {
	case c.run != nil:
		s.reject("ERR " + c.name + " is not served in MULTI: it lists, and lists are not part of a transaction")
	case len(s.multi.commands) >= limit.BatchOps:
		s.reject("ERR MULTI holds at most 10000 commands")
	default:
		kept := make([][]byte, len(args))
		for i, a := range args {
			kept[i] = bytes.Clone(a)
		}
		s.multi.commands = append(s.multi.commands, kept)
		s.reply(reply{render: renderText, text: "QUEUED"})
	}
	return planned
}

// op adds an operation to the burst, on a key of the present database.
func (s *session) op(op quipu.Op) {
	op.Tenant = s.tenant
	if !op.Kind.Reads() {
		s.writes = true
		if s.once != nil {
			o := quipu.Options{}
			if op.Options != nil {
				o = *op.Options
			}
			o.ID = s.once.id
			op.Options = &o
		}
	}
	s.sub.Ops = append(s.sub.Ops, op)
}

// write returns why the present database can't be written, "" if it can.
func (s *session) writable() string {
	if quipu.Reserved(s.tenant) {
		return codeText(quipu.CodeReserved)
	}
	return ""
}

// key checks a key.
func key(b []byte) (name, problem string) {
	name = alias(b)
	if !quipu.PlainText(name) {
		return "", "ERR invalid key: " + strings.TrimPrefix(quipu.ValidateName(string(b)).Error(), "name ")
	}
	return name, ""
}

func item(b []byte) (name, problem string) {
	name = alias(b)
	if !quipu.PlainText(name) {
		return "", "ERR invalid member: " + strings.TrimPrefix(quipu.ValidateItem(string(b)).Error(), "item ")
	}
	return name, ""
}

// render writes the burst's replies.
func (s *session) render(results []quipu.Result) {
	for i := 0; i < len(s.replies); i++ {
		r := &s.replies[i]
		r.render(s, r, results)
		i += r.inner
	}
}

// renderGroup renders the inner replies of replies[at].
func (s *session) renderInner(r *reply, results []quipu.Result) {
	at := 0
	for i := range s.replies {
		if &s.replies[i] == r {
			at = i
			break
		}
	}
	for i := at + 1; i <= at+r.inner; i++ {
		in := &s.replies[i]
		in.render(s, in, results)
		i += in.inner
	}
}

func renderError(s *session, r *reply, _ []quipu.Result) { s.out.fail(r.text) }
func renderText(s *session, r *reply, _ []quipu.Result)  { s.out.simple(r.text) }
func renderBulk(s *session, r *reply, _ []quipu.Result)  { s.out.bulk(r.text) }
func renderRaw(s *session, r *reply, _ []quipu.Result)   { s.out.buf = append(s.out.buf, r.text...) }

// refused writes the error of the first operation that was not applied, if one
// was, and reports it.
func (s *session) refused(r *reply, results []quipu.Result) bool {
	for i := r.first; i < r.first+r.count; i++ {
		if c := results[i].Code; c != quipu.CodeOK {
			s.out.fail(codeText(c))
			return true
		}
	}
	return false
}

// needsStore reports whether the burst has operations, and whether they may be
// answered by a read.
func (s *session) needsStore() (ops, reads bool) {
	return len(s.sub.Ops) > 0, !s.writes && len(s.sub.Groups) == 0
}

// readAll answers a burst of reads, from memory or from the disk.
func (s *session) readAll(ctx context.Context) []quipu.Result {
	results := make([]quipu.Result, len(s.sub.Ops))
	if !s.server.cfg.Backend.TryRead(s.sub.Ops, results) {
		s.readCold(ctx, results)
	}
	return results
}

// readCold answers a burst of reads that is not answered from memory.
func (s *session) readCold(ctx context.Context, results []quipu.Result) {
	if err := s.server.cfg.Backend.Read(ctx, s.sub.Ops, results); err != nil {
		for i := range results {
			results[i].Code = quipu.CodeNotReady
		}
	}
}
