package respapi

import (
	"context"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func planMulti(s *session, _ [][]byte) string {
	if s.multi != nil {
		return "ERR MULTI calls can not be nested"
	}
	s.multi = &transaction{}
	s.reply(reply{render: renderText, text: "OK"})
	return ""
}

func planDiscard(s *session, _ [][]byte) string {
	if s.multi == nil {
		return "ERR DISCARD without MULTI"
	}
	s.multi, s.watches = nil, nil
	s.reply(reply{render: renderText, text: "OK"})
	return ""
}

// planExec adds the queued commands. Operations of one submission are applied
// with nothing between them, so that a group is needed only for the watches.
// Its first operation is then a read, whose result tells whether they held.
func planExec(s *session, _ [][]byte) string {
	if s.multi == nil {
		return "ERR EXEC without MULTI"
	}
	queued, watches := s.multi, s.watches
	s.multi, s.watches = nil, nil
	if queued.aborted {
		return "EXECABORT Transaction discarded because of previous errors."
	}
	first, groups := len(s.sub.Ops), len(s.sub.Groups)
	at := len(s.replies)
	s.reply(reply{render: renderExec, first: first, count: len(queued.commands)})
	if len(watches) > 0 {
		s.replies[at].flags = flagWatched
		s.op(quipu.Op{Kind: quipu.KindStat, Name: watches[0].Name})
		s.sub.Ops[first].Tenant = watches[0].Tenant
	}
	for _, args := range queued.commands {
		s.execute(s.server.table.lookup(args[0]), args)
	}
	s.replies[at].inner = len(s.replies) - at - 1
	s.seal()
	if len(watches) > 0 {
		// MSETNX within is part of the transaction's group; without a group of
		// its own it would not be all or nothing.
		if len(s.sub.Groups) > groups {
			s.sub.Groups = s.sub.Groups[:groups]
			clear(s.sub.Ops[first:])
			s.sub.Ops = s.sub.Ops[:first]
			s.replies = s.replies[:at]
			return "ERR MSETNX is not served in a transaction with WATCH"
		}
		s.group(store.Group{First: first, Count: len(s.sub.Ops) - first, Watches: watches})
	}
	return ""
}

const flagWatched = 1 << 8

func renderExec(s *session, r *reply, results []quipu.Result) {
	if r.flags&flagWatched != 0 {
		switch c := results[r.first].Code; c {
		case quipu.CodeOK:
		case quipu.CodePrecondition:
			s.out.nullArray()
			return
		default:
			s.out.fail(codeText(c))
			return
		}
	}
	s.out.array(r.count)
	s.renderInner(r, results)
}

// runWatch remembers how the keys stand.
func runWatch(s *session, args [][]byte) string {
	if s.multi != nil {
		return "ERR WATCH inside MULTI is not allowed"
	}
	ops := make([]quipu.Op, 0, len(args)-1)
	for _, a := range args[1:] {
		name, problem := key(a)
		if problem != "" {
			return problem
		}
		ops = append(ops, quipu.Op{Kind: quipu.KindStat, Tenant: s.tenant, Name: string([]byte(name))})
	}
	results := make([]quipu.Result, len(ops))
	if err := s.server.read(context.Background(), ops, results); err != nil {
		return codeText(quipu.CodeNotReady)
	}
	for i := range ops {
		w := store.Watch{Tenant: ops[i].Tenant, Name: ops[i].Name, If: quipu.Precondition{Kind: quipu.IfAbsent, Revision: results[i].Revision}}
		if results[i].Existed {
			w.If.Kind = quipu.IfRevision
		}
		s.watches = append(s.watches, w)
	}
	if len(s.watches) > maxWatches {
		s.watches = nil
		return "ERR too many keys are watched: at most 1000"
	}
	s.out.simple("OK")
	return ""
}

const maxWatches = 1000

func planUnwatch(s *session, _ [][]byte) string {
	s.watches = nil
	s.reply(reply{render: renderText, text: "OK"})
	return ""
}

// planOnce: QUIPU.ONCE id [REPLAYED] command …
func planOnce(s *session, args [][]byte) string {
	id, err := quipu.ParseRequestID(string(args[1]))
	if err != nil {
		return "ERR invalid request id: " + err.Error()
	}
	inner := args[2:]
	replayed := lower(inner[0]) == "replayed"
	if replayed {
		inner = inner[1:]
	}
	if len(inner) == 0 {
		return "ERR wrong number of arguments for 'quipu.once' command"
	}
	c := s.server.table.lookup(inner[0])
	switch {
	case c == nil:
		return unknownCommand(inner)
	case c.flags&write == 0 || c.name == "quipu.once":
		return "ERR QUIPU.ONCE takes a command that writes, not '" + c.name + "'"
	case len(inner) < c.least() || c.arity > 0 && len(inner) != c.arity:
		return "ERR wrong number of arguments for '" + c.name + "' command"
	}
	at, first := len(s.replies), len(s.sub.Ops)
	if replayed {
		s.reply(reply{render: renderReplayed, first: first})
	}
	s.once = &onceArgs{id: id}
	defer func() { s.once = nil }()
	if problem := c.plan(s, inner); problem != "" {
		return problem
	}
	quipu.NumberIDs(s.sub.Ops[first:])
	if replayed {
		s.replies[at].count = len(s.sub.Ops) - first
		s.replies[at].inner = len(s.replies) - at - 1
		s.seal()
	}
	return ""
}

func renderReplayed(s *session, r *reply, results []quipu.Result) {
	n := int64(0)
	for _, res := range results[r.first : r.first+r.count] {
		if res.Replayed {
			n = 1
		}
	}
	for _, res := range results[r.first : r.first+r.count] {
		// The answer alone: an error is not part of an array.
		if c := res.Code; c != quipu.CodeOK && c != quipu.CodePrecondition && c != quipu.CodeOutOfBounds && c != quipu.CodeOverflow && c != quipu.CodeAborted {
			s.out.fail(codeText(c))
			return
		}
	}
	s.out.array(2)
	s.out.int(n)
	s.renderInner(r, results)
}
