package respapi

import (
	"math"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func planMSetNX(s *session, args [][]byte) string {
	if len(args)%2 == 0 {
		return "ERR wrong number of arguments for 'msetnx' command"
	}
	first := len(s.sub.Ops)
	s.reply(reply{render: renderMSetNX, first: first, count: len(args) / 2})
	absent := &quipu.Options{If: quipu.Precondition{Kind: quipu.IfAbsent}}
	seen := make(map[string]bool)
	for i := 1; i < len(args); i += 2 {
		name, problem := s.keyed(args[i])
		if problem != "" {
			return problem
		}
		value, ok := parseInt(args[i+1])
		if !ok {
			return errNotInteger
		}
		op := quipu.Op{Kind: quipu.KindSet, Name: name, Value: value, Options: absent}
		if seen[name] {
			op.Options = nil // the last of a key that is given twice counts
		}
		seen[name] = true
		s.op(op)
	}
	s.group(store.Group{First: first, Count: len(args) / 2, AllOrNothing: true})
	return ""
}

// group makes operations one group, unless they are part of one already.
func (s *session) group(g store.Group) {
	s.sub.Groups = append(s.sub.Groups, g)
}

func renderMSetNX(s *session, r *reply, results []quipu.Result) {
	for _, res := range results[r.first : r.first+r.count] {
		switch res.Code {
		case quipu.CodeOK, quipu.CodeAborted:
		case quipu.CodePrecondition:
			s.out.int(0)
			return
		default:
			s.out.fail(codeText(res.Code))
			return
		}
	}
	s.out.int(1)
}

// each adds one operation a key; render counts.
func (s *session) each(keys [][]byte, kind quipu.Kind, render func(*session, *reply, []quipu.Result)) string {
	s.reply(reply{render: render, first: len(s.sub.Ops), count: len(keys)})
	for _, k := range keys {
		name, problem := key(k)
		if problem != "" {
			return problem
		}
		s.op(quipu.Op{Kind: kind, Name: name})
	}
	return ""
}

func planDel(s *session, args [][]byte) string {
	if problem := s.writable(); problem != "" {
		return problem
	}
	return s.each(args[1:], quipu.KindDelete, renderExisted)
}

func planExists(s *session, args [][]byte) string {
	return s.each(args[1:], quipu.KindStat, renderExisted)
}

func renderExisted(s *session, r *reply, results []quipu.Result) {
	if s.refused(r, results) {
		return
	}
	n := int64(0)
	for _, res := range results[r.first : r.first+r.count] {
		if res.Existed {
			n++
		}
	}
	s.out.int(n)
}

func planType(s *session, args [][]byte) string {
	return s.each(args[1:], quipu.KindStat, renderType)
}

func renderType(s *session, r *reply, results []quipu.Result) {
	if s.refused(r, results) {
		return
	}
	s.out.simple(typeName(results[r.first].Kind))
}

func typeName(k quipu.NameKind) string {
	switch k {
	case quipu.KindCounter:
		return "string"
	case quipu.KindItems:
		return "set"
	default:
		return "none"
	}
}

func planExpire(unit int64, absolute bool) func(*session, [][]byte) string {
	return func(s *session, args [][]byte) string {
		command := lower(args[0])
		x := quipu.Expiry{Mode: quipu.ExpirySet, Absolute: absolute}
		nx, xx, gt, lt := false, false, false, false
		for _, a := range args[3:] {
			switch lower(a) {
			case "nx":
				nx = true
			case "xx":
				xx = true
			case "gt":
				gt = true
			case "lt":
				lt = true
			default:
				return "ERR Unsupported option " + clip(a)
			}
		}
		switch {
		case nx && (xx || gt || lt):
			return "ERR NX and XX, GT or LT options at the same time are not compatible"
		case gt && lt:
			return "ERR GT and LT options at the same time are not compatible"
		}
		n, ok := parseInt(args[2])
		if !ok {
			return errNotInteger
		}
		invalid := "ERR invalid expire time in '" + command + "' command"
		if unit == 1000 && (n > math.MaxInt64/1000 || n < math.MinInt64/1000) {
			return invalid
		}
		x.Ms = n * unit
		if !absolute && x.Ms > math.MaxInt64-s.server.cfg.Now().UnixMilli() {
			return invalid
		}
		switch {
		case nx:
			x.Cond = quipu.ExpiryIfNone
		case gt:
			x.Cond = quipu.ExpiryIfLater
		case lt:
			x.Cond = quipu.ExpiryIfSooner
		case xx:
			x.Cond = quipu.ExpiryIfSome
		}
		x.AlsoIfSome = xx && (gt || lt)
		name, problem := s.keyed(args[1])
		if problem != "" {
			return problem
		}
		return s.one(quipu.Op{Kind: quipu.KindExpire, Name: name, Options: &quipu.Options{Expiry: x}}, renderChanged)
	}
}

// renderChanged writes 1 where the operation changed something.
func renderChanged(s *session, r *reply, results []quipu.Result) {
	if s.refused(r, results) {
		return
	}
	n := int64(0)
	for _, res := range results[r.first : r.first+r.count] {
		if res.Changed {
			n++
		}
	}
	s.out.int(n)
}

func planPersist(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	return s.one(quipu.Op{Kind: quipu.KindExpire, Name: name,
		Options: &quipu.Options{Expiry: quipu.Expiry{Mode: quipu.ExpiryRemove}}}, renderChanged)
}

func planTTL(unit int64, absolute bool) func(*session, [][]byte) string {
	return func(s *session, args [][]byte) string {
		name, problem := key(args[1])
		if problem != "" {
			return problem
		}
		return s.one(quipu.Op{Kind: quipu.KindStat, Name: name}, func(s *session, r *reply, results []quipu.Result) {
			res := &results[r.first]
			switch {
			case res.Code != quipu.CodeOK:
				s.out.fail(codeText(res.Code))
			case !res.Existed:
				s.out.int(-2)
			case res.ExpireAt == 0:
				s.out.int(-1)
			default:
				ms := res.ExpireAt
				if !absolute {
					ms = max(ms-res.Now, 1)
				}
				if unit > 1 {
					ms = ms/unit + (ms%unit+unit/2)/unit // rounded, without overflow
				}
				s.out.int(ms)
			}
		})
	}
}

// items adds one operation a member.
func (s *session) items(args [][]byte, kind quipu.Kind, render func(*session, *reply, []quipu.Result)) string {
	name, problem := key(args[1])
	if problem != "" {
		return problem
	}
	s.reply(reply{render: render, first: len(s.sub.Ops), count: len(args) - 2})
	for _, a := range args[2:] {
		member, problem := item(a)
		if problem != "" {
			return problem
		}
		s.op(quipu.Op{Kind: kind, Name: name, Item: member})
	}
	return ""
}

func planSAdd(s *session, args [][]byte) string {
	if problem := s.writable(); problem != "" {
		return problem
	}
	return s.items(args, quipu.KindAddItem, renderChanged)
}

func planSRem(s *session, args [][]byte) string {
	if problem := s.writable(); problem != "" {
		return problem
	}
	return s.items(args, quipu.KindRemoveItem, renderChanged)
}

func planSIsMember(s *session, args [][]byte) string {
	return s.items(args, quipu.KindHasItem, renderChanged)
}

func planSMIsMember(s *session, args [][]byte) string {
	return s.items(args, quipu.KindHasItem, func(s *session, r *reply, results []quipu.Result) {
		if s.refused(r, results) {
			return
		}
		s.out.array(r.count)
		for _, res := range results[r.first : r.first+r.count] {
			if res.Changed {
				s.out.int(1)
			} else {
				s.out.int(0)
			}
		}
	})
}

func planSCard(s *session, args [][]byte) string {
	name, problem := key(args[1])
	if problem != "" {
		return problem
	}
	return s.one(quipu.Op{Kind: quipu.KindCount, Name: name}, renderCount)
}

func flushOption(args [][]byte) string {
	if len(args) > 2 {
		return errSyntax
	}
	if len(args) == 2 {
		if w := lower(args[1]); w != "async" && w != "sync" {
			return errSyntax
		}
	}
	return ""
}

const errFlushOff = "ERR FLUSHDB and FLUSHALL are switched off on this node (--flush=off)"

func planFlushDB(s *session, args [][]byte) string {
	if problem := flushOption(args); problem != "" {
		return problem
	}
	if !s.server.cfg.Flush {
		return errFlushOff
	}
	if problem := s.writable(); problem != "" {
		return problem
	}
	return s.one(quipu.Op{Kind: quipu.KindDropTenant}, renderOK)
}

func planFlushAll(s *session, args [][]byte) string {
	if problem := flushOption(args); problem != "" {
		return problem
	}
	if !s.server.cfg.Flush {
		return errFlushOff
	}
	s.one(quipu.Op{Kind: quipu.KindDropAll}, renderOK)
	s.sub.Ops[len(s.sub.Ops)-1].Tenant = "" // of all tenants
	return ""
}
