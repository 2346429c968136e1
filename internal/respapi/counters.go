package respapi

import (
	"math"

	"github.com/quipudb/quipu"
)

// keyed is how most plans begin: a key that may be written.
func (s *session) keyed(b []byte) (name, problem string) {
	if problem = s.writable(); problem != "" {
		return "", problem
	}
	return key(b)
}

// one adds one operation and its reply.
func (s *session) one(op quipu.Op, render func(*session, *reply, []quipu.Result)) string {
	s.reply(reply{render: render, first: len(s.sub.Ops), count: 1})
	s.op(op)
	return ""
}

func (s *session) add(k []byte, delta int64) string {
	name, problem := s.keyed(k)
	if problem != "" {
		return problem
	}
	op := quipu.Op{Kind: quipu.KindAdd, Name: name, Value: delta}
	if n := len(s.replies); n > s.sealed && s.replies[n-1].flags == flagCounts {
		// A pipeline of adds has one reply for all.
		s.replies[n-1].count++
		s.op(op)
		return ""
	}
	s.reply(reply{render: renderCounts, first: len(s.sub.Ops), count: 1, flags: flagCounts})
	s.op(op)
	return ""
}

// seal keeps the replies so far as they are: what follows is not part of them.
func (s *session) seal() { s.sealed = len(s.replies) }

// renderCounts writes the value after each operation as an integer.
func renderCounts(s *session, r *reply, results []quipu.Result) {
	for i := r.first; i < r.first+r.count; i++ {
		if c := results[i].Code; c != quipu.CodeOK {
			s.out.fail(codeText(c))
			continue
		}
		s.out.int(results[i].Value)
	}
}

func planIncr(s *session, args [][]byte) string { return s.add(args[1], 1) }
func planDecr(s *session, args [][]byte) string { return s.add(args[1], -1) }

func planIncrBy(s *session, args [][]byte) string {
	delta, ok := parseInt(args[2])
	if !ok {
		return errNotInteger
	}
	return s.add(args[1], delta)
}

func planDecrBy(s *session, args [][]byte) string {
	delta, ok := parseInt(args[2])
	switch {
	case !ok:
		return errNotInteger
	case delta == math.MinInt64:
		return "ERR decrement would overflow"
	}
	return s.add(args[1], -delta)
}

// renderCount writes a value as an integer.
func renderCount(s *session, r *reply, results []quipu.Result) {
	res := &results[r.first]
	if res.Code != quipu.CodeOK {
		s.out.fail(codeText(res.Code))
		return
	}
	s.out.int(res.Value)
}

// renderGet writes a counter's value, or null.
func renderGet(s *session, r *reply, results []quipu.Result) {
	res := &results[r.first]
	switch {
	case res.Code != quipu.CodeOK:
		s.out.fail(codeText(res.Code))
	case !res.Existed:
		s.out.null()
	default:
		s.out.value(res.Value)
	}
}

// renderOld writes the value before, or null.
func renderOld(s *session, r *reply, results []quipu.Result) {
	res := &results[r.first]
	switch {
	case res.Code != quipu.CodeOK:
		s.out.fail(codeText(res.Code))
	case !res.Existed:
		s.out.null()
	default:
		s.out.value(res.Old)
	}
}

func planGet(s *session, args [][]byte) string {
	name, problem := key(args[1])
	if problem != "" {
		return problem
	}
	return s.one(quipu.Op{Kind: quipu.KindGet, Name: name}, renderGet)
}

func planMGet(s *session, args [][]byte) string {
	s.reply(reply{render: renderMGet, first: len(s.sub.Ops), count: len(args) - 1})
	for _, a := range args[1:] {
		name, problem := key(a)
		if problem != "" {
			return problem
		}
		s.op(quipu.Op{Kind: quipu.KindStat, Name: name})
	}
	return ""
}

func renderMGet(s *session, r *reply, results []quipu.Result) {
	if s.refused(r, results) {
		return
	}
	s.out.array(r.count)
	for _, res := range results[r.first : r.first+r.count] {
		if res.Kind == quipu.KindCounter {
			s.out.value(res.Value)
		} else {
			s.out.null()
		}
	}
}

// expiryArg reads EX, PX, EXAT or PXAT with its number at args[i].
func (s *session) expiryArg(word string, arg []byte, command string) (x quipu.Expiry, problem string) {
	n, ok := parseInt(arg)
	if !ok {
		return x, errNotInteger
	}
	invalid := "ERR invalid expire time in '" + command + "' command"
	if n <= 0 {
		return x, invalid
	}
	x = quipu.Expiry{Mode: quipu.ExpirySet, Absolute: word == "exat" || word == "pxat", Ms: n}
	if word == "ex" || word == "exat" {
		if n > math.MaxInt64/1000 {
			return x, invalid
		}
		x.Ms = n * 1000
	}
	if !x.Absolute && x.Ms > math.MaxInt64-s.server.cfg.Now().UnixMilli() {
		return x, invalid // its end is no time
	}
	return x, ""
}

// lower returns an option's word in lower case, "" if it is too long for one.
func lower(b []byte) string {
	if len(b) > maxNameBytes {
		return ""
	}
	var buf [maxNameBytes]byte
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return string(buf[:len(b)])
}

const (
	flagGet = 1 << iota
	flagItems
	// flagCounts marks a reply that further adds may join.
	flagCounts
)

func planSet(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	o := &quipu.Options{Replace: true, Expiry: quipu.Expiry{Mode: quipu.ExpiryRemove}}
	get, keep, expires := false, false, false
	for i := 3; i < len(args); i++ {
		word := lower(args[i])
		switch word {
		case "nx", "xx":
			want := quipu.IfAbsent
			if word == "xx" {
				want = quipu.IfExists
			}
			if o.If.Kind != quipu.IfAlways && o.If.Kind != want {
				return errSyntax
			}
			o.If.Kind = want
		case "get":
			get = true
		case "keepttl":
			if expires {
				return errSyntax
			}
			keep = true
			o.Expiry = quipu.Expiry{}
		case "ex", "px", "exat", "pxat":
			if i+1 >= len(args) || keep || expires {
				return errSyntax
			}
			expires = true
			i++
			if o.Expiry, problem = s.expiryArg(word, args[i], "set"); problem != "" {
				return problem
			}
		default:
			return errSyntax
		}
	}
	value, ok := parseInt(args[2])
	if !ok {
		return errNotInteger
	}
	r := reply{render: renderSet, first: len(s.sub.Ops), count: 1}
	if get {
		o.RequireKind = quipu.KindCounter
		r.flags = flagGet
	}
	s.reply(r)
	s.op(quipu.Op{Kind: quipu.KindSet, Name: name, Value: value, Options: o})
	return ""
}

func renderSet(s *session, r *reply, results []quipu.Result) {
	res := &results[r.first]
	get := r.flags&flagGet != 0
	switch {
	case get && res.Kind == quipu.KindItems && res.Code == quipu.CodePrecondition:
		s.out.fail(errWrongType)
	case res.Code != quipu.CodeOK && res.Code != quipu.CodePrecondition:
		s.out.fail(codeText(res.Code))
	case get && res.Existed:
		s.out.value(res.Old)
	case get || res.Code == quipu.CodePrecondition:
		s.out.null()
	default:
		s.out.simple("OK")
	}
}

func planSetNX(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	value, ok := parseInt(args[2])
	if !ok {
		return errNotInteger
	}
	return s.one(quipu.Op{Kind: quipu.KindSet, Name: name, Value: value,
		Options: &quipu.Options{If: quipu.Precondition{Kind: quipu.IfAbsent}}}, renderSetNX)
}

func renderSetNX(s *session, r *reply, results []quipu.Result) {
	switch c := results[r.first].Code; c {
	case quipu.CodeOK:
		s.out.int(1)
	case quipu.CodePrecondition:
		s.out.int(0)
	default:
		s.out.fail(codeText(c))
	}
}

func (s *session) setEx(args [][]byte, word, command string) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	x, problem := s.expiryArg(word, args[2], command)
	if problem != "" {
		return problem
	}
	value, ok := parseInt(args[3])
	if !ok {
		return errNotInteger
	}
	return s.one(quipu.Op{Kind: quipu.KindSet, Name: name, Value: value, Options: &quipu.Options{Replace: true, Expiry: x}}, renderSet)
}

func planSetEx(s *session, args [][]byte) string  { return s.setEx(args, "ex", "setex") }
func planPSetEx(s *session, args [][]byte) string { return s.setEx(args, "px", "psetex") }

func planGetSet(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	value, ok := parseInt(args[2])
	if !ok {
		return errNotInteger
	}
	return s.one(quipu.Op{Kind: quipu.KindSet, Name: name, Value: value,
		Options: &quipu.Options{Expiry: quipu.Expiry{Mode: quipu.ExpiryRemove}}}, renderOld)
}

func planGetDel(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	return s.one(quipu.Op{Kind: quipu.KindDelete, Name: name, Options: &quipu.Options{RequireKind: quipu.KindCounter}}, renderOld)
}

func planGetEx(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	var x quipu.Expiry
	for i := 2; i < len(args); i++ {
		word := lower(args[i])
		if x.Mode != quipu.ExpiryKeep {
			return errSyntax
		}
		switch word {
		case "persist":
			x.Mode = quipu.ExpiryRemove
		case "ex", "px", "exat", "pxat":
			if i++; i >= len(args) {
				return errSyntax
			}
			if x, problem = s.expiryArg(word, args[i], "getex"); problem != "" {
				return problem
			}
		default:
			return errSyntax
		}
	}
	if x.Mode == quipu.ExpiryKeep {
		return s.one(quipu.Op{Kind: quipu.KindGet, Name: name}, renderGet)
	}
	return s.one(quipu.Op{Kind: quipu.KindExpire, Name: name, Options: &quipu.Options{Expiry: x, RequireKind: quipu.KindCounter}}, renderGet)
}

func (s *session) mset(args [][]byte, command string, o *quipu.Options, render func(*session, *reply, []quipu.Result)) string {
	if len(args)%2 == 0 {
		return "ERR wrong number of arguments for '" + command + "' command"
	}
	s.reply(reply{render: render, first: len(s.sub.Ops), count: len(args) / 2})
	for i := 1; i < len(args); i += 2 {
		name, problem := s.keyed(args[i])
		if problem != "" {
			return problem
		}
		value, ok := parseInt(args[i+1])
		if !ok {
			return errNotInteger
		}
		s.op(quipu.Op{Kind: quipu.KindSet, Name: name, Value: value, Options: o})
	}
	return ""
}

func planMSet(s *session, args [][]byte) string {
	return s.mset(args, "mset", &quipu.Options{Replace: true, Expiry: quipu.Expiry{Mode: quipu.ExpiryRemove}}, renderOK)
}

func renderOK(s *session, r *reply, results []quipu.Result) {
	if !s.refused(r, results) {
		s.out.simple("OK")
	}
}

// planIncrEx: INCREX key [BYINT n] [LBOUND n] [UBOUND n] [SATURATE]
// [EX s | PX ms | EXAT s | PXAT ms | PERSIST] [ENX].
func planIncrEx(s *session, args [][]byte) string {
	name, problem := s.keyed(args[1])
	if problem != "" {
		return problem
	}
	delta := int64(1)
	o := &quipu.Options{}
	by, enx := false, false
	for i := 2; i < len(args); i++ {
		word := lower(args[i])
		var n int64
		switch word {
		case "byint", "lbound", "ubound":
			if i++; i >= len(args) {
				return errSyntax
			}
			var ok bool
			if n, ok = parseInt(args[i]); !ok {
				return errNotInteger
			}
		}
		switch word {
		case "byint":
			if by {
				return errSyntax
			}
			by, delta = true, n
		case "byfloat":
			return "ERR INCREX BYFLOAT is not served: counters are integers"
		case "lbound":
			o.Lower, o.HasLower = n, true
		case "ubound":
			o.Upper, o.HasUpper = n, true
		case "saturate":
			o.Saturate = true
		case "enx":
			enx = true
		case "persist":
			if o.Expiry.Mode != quipu.ExpiryKeep {
				return errSyntax
			}
			o.Expiry.Mode = quipu.ExpiryRemove
		case "ex", "px", "exat", "pxat":
			if i++; i >= len(args) || o.Expiry.Mode != quipu.ExpiryKeep {
				return errSyntax
			}
			if o.Expiry, problem = s.expiryArg(word, args[i], "increx"); problem != "" {
				return problem
			}
		default:
			return errSyntax
		}
	}
	if enx {
		if o.Expiry.Mode != quipu.ExpirySet {
			return errSyntax
		}
		o.Expiry.Cond = quipu.ExpiryIfNone
	}
	if o.HasLower && o.HasUpper && o.Lower > o.Upper {
		return "ERR LBOUND can't be greater than UBOUND"
	}
	return s.one(quipu.Op{Kind: quipu.KindAdd, Name: name, Value: delta, Options: o}, renderIncrEx)
}

// renderIncrEx writes the value and what was added: 0 where a bound or the
// range of integers refused it.
func renderIncrEx(s *session, r *reply, results []quipu.Result) {
	res := &results[r.first]
	switch res.Code {
	case quipu.CodeOK, quipu.CodeOutOfBounds, quipu.CodeOverflow:
		s.out.array(2)
		s.out.int(res.Value)
		s.out.int(res.Delta)
	default:
		s.out.fail(codeText(res.Code))
	}
}
