package respapi

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

// commandMaker makes random commands that both servers serve alike. What they
// are known to answer differently (docs/resp.md) is not made: floats and texts
// as values, KEEPTTL where a set may be.
type commandMaker struct {
	rng *rand.Rand
	// seconds is the last relative time: each is further than those before, so
	// that no comparison of two depends on the servers' clocks.
	seconds int
}

// allKeys are the keys that commands use; the last two are only ever counted,
// deleted and watched.
var allKeys = []string{"a", "b", "c", "d", "s1", "s2", "s3", "none", "w1", "w2"}

func (m *commandMaker) relative() string {
	m.seconds += 10
	return strconv.Itoa(m.seconds)
}

func (m *commandMaker) relativeMs() string { return m.relative() + "000" }

func (m *commandMaker) next() []string {
	rng := m.rng
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	counter := func() string { return pick("a", "b", "c", "d", "s1") }
	set := func() string { return pick("s1", "s2", "s3", "s2", "s3", "a") }
	any := func() string { return pick(allKeys[:8]...) }
	member := func() string { return pick("x", "y", "z", "1", "2", "\xc3\xa9", "a long member of a set") }
	delta := func() string {
		return pick("1", "-1", "5", "100", "-7", "0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x", "1.5", "", " 1", "01", "+1", "-0")
	}
	value := func() string { return pick("0", "1", "-3", "10", "9223372036854775807", "-9223372036854775808") }
	at := func() string {
		return pick("4102444800", "4102444801", "4102444799", "1", "0", "-5", "x", "9223372036854775807")
	}
	atMs := func() string {
		return pick("4102444800000", "4102444801234", "1", "-5", "x", "9223372036854775807")
	}
	many := func(f func() string, n int) (out []string) {
		for range 1 + rng.IntN(n) {
			out = append(out, f())
		}
		return out
	}
	with := func(head []string, tail ...string) []string { return append(head, tail...) }
	switch rng.IntN(46) {
	case 0, 1:
		return []string{pick("INCR", "decr"), counter()}
	case 2, 3:
		return []string{pick("INCRBY", "DecrBy"), counter(), delta()}
	case 4:
		return []string{"GET", any()}
	case 5:
		return with([]string{"SET", any(), value()}, many(func() string { return pick("NX", "XX", "GET", "bad") }, 2)...)
	case 6:
		return []string{"SET", any(), value()}
	case 7:
		return []string{"SET", counter(), value(), pick("EXAT", "exat"), at()}
	case 8:
		return []string{"SET", counter(), value(), "PXAT", atMs()}
	case 9:
		return []string{pick("SETNX", "GETSET"), any(), value()}
	case 10:
		return []string{"GETDEL", any()}
	case 11:
		return with([]string{"MGET"}, many(any, 4)...)
	case 12:
		return []string{pick("MSET", "MSETNX"), counter(), value(), any(), value()}
	case 13:
		return with([]string{pick("DEL", "UNLINK")}, many(any, 3)...)
	case 14:
		return with([]string{pick("EXISTS", "TOUCH")}, many(any, 4)...)
	case 15:
		return []string{"TYPE", any()}
	case 16:
		return with([]string{"EXPIREAT", any(), at()}, many(func() string { return pick("NX", "XX", "GT", "LT") }, 1)[rng.IntN(2):]...)
	case 17:
		return with([]string{"PEXPIREAT", any(), atMs()}, many(func() string { return pick("NX", "XX", "GT", "LT", "bad") }, 2)...)
	case 18:
		return []string{pick("EXPIRETIME", "PEXPIRETIME"), any()}
	case 19:
		return []string{"PERSIST", any()}
	case 20, 21:
		return with([]string{"SADD", set()}, many(member, 4)...)
	case 22:
		return with([]string{"SREM", set()}, many(member, 3)...)
	case 23:
		return []string{"SCARD", set()}
	case 24:
		return []string{"SISMEMBER", set(), member()}
	case 25:
		return with([]string{"SMISMEMBER", set()}, many(member, 3)...)
	case 26:
		return []string{"SMEMBERS", set()}
	case 27:
		return []string{"DBSIZE", "x"}[:1+rng.IntN(2)]
	case 28:
		return []string{"KEYS", pick("*", "s*", "[ab]", "?", "n*e", "\\a")}
	case 29:
		return []string{pick("MULTI", "MULTI", "EXEC", "EXEC", "DISCARD")}
	case 30:
		return [][]string{{"UNWATCH"}, {"WATCH"}, with([]string{"WATCH"}, many(any, 2)...)}[rng.IntN(3)]
	case 31:
		return []string{"GETEX", any(), pick("PERSIST", "EXAT"), pick("4102444800", "1")}[:2+rng.IntN(3)]
	case 32:
		return []string{pick("PING", "ECHO", "INCR", "INCRBY", "SET", "GET", "SADD", "EXPIREAT", "MSET", "SETNX", "EXISTS"), "a", "1", "2"}[:1+rng.IntN(4)]
	case 33:
		return []string{pick("INCR", "DEL", "GET", "GETDEL", "TYPE"), pick("w1", "w2")}
	case 34, 35:
		return with([]string{pick("EXPIRE", "PEXPIRE"), any(), m.relative() + "000"}, many(func() string { return pick("NX", "XX", "GT", "LT") }, 1)[rng.IntN(2):]...)
	case 36:
		return []string{"SET", counter(), value(), "EX", m.relative()}
	case 37:
		return []string{pick("PSETEX", "SETEX"), counter(), m.relativeMs(), value()}
	case 38:
		return []string{"GETEX", any(), "PX", m.relativeMs()}
	case 39, 40:
		return []string{pick("TTL", "PTTL"), any()}
	case 41:
		return with([]string{"SCAN", "0"}, many(func() string {
			return pick("MATCH", "COUNT", "TYPE", "s*", "[ab]", "1", "3", "0", "x", "set", "string", "hash")
		}, 6)...)
	case 42:
		return []string{"SCAN", "0", "COUNT", fmt.Sprint(1 + rng.IntN(5)), "MATCH", pick("*", "s*", "?"), "TYPE", pick("string", "set")}[:2+2*rng.IntN(4)]
	case 43:
		return []string{"SSCAN", any(), "0", "COUNT", fmt.Sprint(1 + rng.IntN(5)), "MATCH", pick("*", "a*", "[0-9]")}[:3+2*rng.IntN(3)]
	case 44:
		return with([]string{"SET", pick("b", "c", "d"), value()}, many(func() string { return pick("NX", "XX", "GET", "KEEPTTL") }, 3)...)
	default:
		return []string{pick("SETEX", "PSETEX"), counter(), pick("0", "-1", "x", "9223372036854775807"), value()}
	}
}
