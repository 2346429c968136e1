package respapi

import (
	"sort"
	"strings"
)

// command is one row of the table of commands.
type command struct {
	name string
	// arity is as Redis has it: the number of arguments with the name, or its
	// negative if there may be more.
	arity int
	flags flag
	// plan adds the command's operations and reply to the burst; it returns an
	// error's text, or "".
	plan func(s *session, args [][]byte) string
	// run executes a command that can't be part of a burst: it lists, or it
	// reads before it answers. It may wait for the disk.
	run func(s *session, args [][]byte) string

	firstKey, lastKey, step int
}

type flag int

const (
	// write and read are as COMMAND tells them; inMulti commands run at once
	// also after MULTI.
	write flag = 1 << iota
	read
	inMulti
)

func (c *command) least() int {
	if c.arity < 0 {
		return -c.arity
	}
	return c.arity
}

// commandTable holds all commands by name, in lower case.
type commandTable map[string]*command

func makeTable() commandTable {
	commands := []*command{
		{name: "incr", arity: 2, flags: write, plan: planIncr, firstKey: 1, lastKey: 1, step: 1},
		{name: "decr", arity: 2, flags: write, plan: planDecr, firstKey: 1, lastKey: 1, step: 1},
		{name: "incrby", arity: 3, flags: write, plan: planIncrBy, firstKey: 1, lastKey: 1, step: 1},
		{name: "decrby", arity: 3, flags: write, plan: planDecrBy, firstKey: 1, lastKey: 1, step: 1},
		{name: "increx", arity: -2, flags: write, plan: planIncrEx, firstKey: 1, lastKey: 1, step: 1},
		{name: "get", arity: 2, flags: read, plan: planGet, firstKey: 1, lastKey: 1, step: 1},
		{name: "set", arity: -3, flags: write, plan: planSet, firstKey: 1, lastKey: 1, step: 1},
		{name: "setnx", arity: 3, flags: write, plan: planSetNX, firstKey: 1, lastKey: 1, step: 1},
		{name: "setex", arity: 4, flags: write, plan: planSetEx, firstKey: 1, lastKey: 1, step: 1},
		{name: "psetex", arity: 4, flags: write, plan: planPSetEx, firstKey: 1, lastKey: 1, step: 1},
		{name: "getset", arity: 3, flags: write, plan: planGetSet, firstKey: 1, lastKey: 1, step: 1},
		{name: "getdel", arity: 2, flags: write, plan: planGetDel, firstKey: 1, lastKey: 1, step: 1},
		{name: "getex", arity: -2, flags: write, plan: planGetEx, firstKey: 1, lastKey: 1, step: 1},
		{name: "mget", arity: -2, flags: read, plan: planMGet, firstKey: 1, lastKey: -1, step: 1},
		{name: "mset", arity: -3, flags: write, plan: planMSet, firstKey: 1, lastKey: -1, step: 2},
		{name: "msetnx", arity: -3, flags: write, plan: planMSetNX, firstKey: 1, lastKey: -1, step: 2},
		{name: "del", arity: -2, flags: write, plan: planDel, firstKey: 1, lastKey: -1, step: 1},
		{name: "unlink", arity: -2, flags: write, plan: planDel, firstKey: 1, lastKey: -1, step: 1},
		{name: "exists", arity: -2, flags: read, plan: planExists, firstKey: 1, lastKey: -1, step: 1},
		{name: "touch", arity: -2, flags: read, plan: planExists, firstKey: 1, lastKey: -1, step: 1},
		{name: "type", arity: 2, flags: read, plan: planType, firstKey: 1, lastKey: 1, step: 1},
		{name: "expire", arity: -3, flags: write, plan: planExpire(1000, false), firstKey: 1, lastKey: 1, step: 1},
		{name: "pexpire", arity: -3, flags: write, plan: planExpire(1, false), firstKey: 1, lastKey: 1, step: 1},
		{name: "expireat", arity: -3, flags: write, plan: planExpire(1000, true), firstKey: 1, lastKey: 1, step: 1},
		{name: "pexpireat", arity: -3, flags: write, plan: planExpire(1, true), firstKey: 1, lastKey: 1, step: 1},
		{name: "ttl", arity: 2, flags: read, plan: planTTL(1000, false), firstKey: 1, lastKey: 1, step: 1},
		{name: "pttl", arity: 2, flags: read, plan: planTTL(1, false), firstKey: 1, lastKey: 1, step: 1},
		{name: "expiretime", arity: 2, flags: read, plan: planTTL(1000, true), firstKey: 1, lastKey: 1, step: 1},
		{name: "pexpiretime", arity: 2, flags: read, plan: planTTL(1, true), firstKey: 1, lastKey: 1, step: 1},
		{name: "persist", arity: 2, flags: write, plan: planPersist, firstKey: 1, lastKey: 1, step: 1},
		{name: "sadd", arity: -3, flags: write, plan: planSAdd, firstKey: 1, lastKey: 1, step: 1},
		{name: "srem", arity: -3, flags: write, plan: planSRem, firstKey: 1, lastKey: 1, step: 1},
		{name: "scard", arity: 2, flags: read, plan: planSCard, firstKey: 1, lastKey: 1, step: 1},
		{name: "sismember", arity: 3, flags: read, plan: planSIsMember, firstKey: 1, lastKey: 1, step: 1},
		{name: "smismember", arity: -3, flags: read, plan: planSMIsMember, firstKey: 1, lastKey: 1, step: 1},
		{name: "smembers", arity: 2, flags: read, run: runSMembers, firstKey: 1, lastKey: 1, step: 1},
		{name: "sscan", arity: -3, flags: read, run: runSScan, firstKey: 1, lastKey: 1, step: 1},
		{name: "scan", arity: -2, flags: read, run: runScan},
		{name: "keys", arity: 2, flags: read, run: runKeys},
		{name: "randomkey", arity: 1, flags: read, run: runRandomKey},
		{name: "dbsize", arity: 1, flags: read, run: runDBSize},
		{name: "flushdb", arity: -1, flags: write, plan: planFlushDB},
		{name: "flushall", arity: -1, flags: write, plan: planFlushAll},
		{name: "multi", arity: 1, flags: inMulti, plan: planMulti},
		{name: "exec", arity: 1, flags: inMulti, plan: planExec},
		{name: "discard", arity: 1, flags: inMulti, plan: planDiscard},
		{name: "watch", arity: -2, flags: inMulti, run: runWatch, firstKey: 1, lastKey: -1, step: 1},
		{name: "unwatch", arity: 1, plan: planUnwatch},
		{name: "quipu.once", arity: -3, flags: write, plan: planOnce, firstKey: 3, lastKey: 3, step: 1},
		{name: "ping", arity: -1, plan: planPing},
		{name: "echo", arity: 2, plan: planEcho},
		{name: "select", arity: 2, plan: planSelect},
		{name: "hello", arity: -1, plan: planHello},
		{name: "quit", arity: -1, flags: inMulti, plan: planQuit},
		{name: "reset", arity: 1, flags: inMulti, plan: planReset},
		{name: "auth", arity: -2, plan: planAuth},
		{name: "time", arity: 1, plan: planTime},
		{name: "client", arity: -2, plan: planClient},
		{name: "config", arity: -2, plan: planConfig},
		{name: "function", arity: -2, plan: planFunction},
		{name: "info", arity: -1, run: runInfo},
		{name: "command", arity: -1, plan: planCommand},
	}
	m := make(commandTable, len(commands))
	for _, c := range commands {
		m[c.name] = c
	}
	return m
}

// maxNameBytes bounds a command's name.
const maxNameBytes = 16

// lookup finds a command by name in any case, without allocating.
func (t commandTable) lookup(name []byte) *command {
	if len(name) > maxNameBytes {
		return nil
	}
	var lower [maxNameBytes]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return t[string(lower[:len(name)])]
}

// unknownCommand is the error that Redis answers.
func unknownCommand(args [][]byte) string {
	var b strings.Builder
	b.WriteString("ERR unknown command '")
	b.WriteString(clip(args[0]))
	b.WriteString("', with args beginning with: ")
	for _, a := range args[1:] {
		if b.Len() >= 128+32 {
			break
		}
		b.WriteString("'" + clip(a) + "' ")
	}
	return b.String()
}

// clip shortens and cleans what is echoed in an error.
func clip(b []byte) string {
	if len(b) > 128 {
		b = b[:128]
	}
	return strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' {
			return ' '
		}
		return r
	}, string(b))
}

func (t commandTable) names() []string {
	out := make([]string, 0, len(t))
	for n := range t {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
