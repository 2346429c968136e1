package respapi

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func (s *session) text(t string) string {
	s.reply(reply{render: renderText, text: t})
	return ""
}

func (s *session) bulk(t string) string {
	s.reply(reply{render: renderBulk, text: t})
	return ""
}

// raw adds a reply that f writes now.
func (s *session) raw(f func(w *writer)) string {
	w := writer{resp3: s.out.resp3}
	f(&w)
	s.reply(reply{render: renderRaw, text: string(w.buf)})
	return ""
}

func planPing(s *session, args [][]byte) string {
	switch len(args) {
	case 1:
		return s.text("PONG")
	case 2:
		return s.bulk(string(args[1]))
	default:
		return "ERR wrong number of arguments for 'ping' command"
	}
}

func planEcho(s *session, args [][]byte) string { return s.bulk(string(args[1])) }

// planSelect takes a database's number, or a tenant's name.
func planSelect(s *session, args [][]byte) string {
	name := string(args[1])
	if n, ok := parseInt(args[1]); ok {
		if n < 0 || n > maxDatabase {
			return "ERR DB index is out of range"
		}
		name = quipu.DefaultTenant
		if n > 0 {
			name = "db" + strconv.FormatInt(n, 10)
		}
	}
	if err := quipu.ValidateTenant(name); err != nil {
		return "ERR invalid DB index"
	}
	s.tenant = name
	return s.text("OK")
}

// maxDatabase is the last database's number.
const maxDatabase = 999_999

func planHello(s *session, args [][]byte) string {
	resp3 := s.out.resp3
	if len(args) > 1 {
		switch string(args[1]) {
		case "2":
			resp3 = false
		case "3":
			resp3 = true
		default:
			if _, ok := parseInt(args[1]); !ok {
				return "ERR Protocol version is not an integer or out of range"
			}
			return "NOPROTO unsupported protocol version"
		}
	}
	name := s.name
	for i := 2; i < len(args); i++ {
		switch lower(args[i]) {
		case "setname":
			if i++; i >= len(args) {
				return "ERR Syntax error in HELLO option 'setname'"
			}
			name = string(args[i])
		case "auth":
			return errNoAuth
		default:
			return "ERR Syntax error in HELLO option '" + clip(args[i]) + "'"
		}
	}
	s.name = name
	s.reply(reply{render: func(s *session, _ *reply, _ []quipu.Result) {
		s.out.resp3 = resp3
		w := &s.out
		proto := int64(2)
		if resp3 {
			proto = 3
		}
		w.dict(7)
		w.bulk("server")
		w.bulk("redis")
		w.bulk("version")
		w.bulk(redisVersion)
		w.bulk("proto")
		w.int(proto)
		w.bulk("id")
		w.int(s.id)
		w.bulk("mode")
		w.bulk("standalone")
		w.bulk("role")
		w.bulk("master")
		w.bulk("modules")
		w.array(0)
	}})
	return ""
}

// redisVersion is the version whose behaviour is served; clients look at it.
const redisVersion = "7.0.15"

const errNoAuth = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"

func planAuth(*session, [][]byte) string { return errNoAuth }

func planQuit(s *session, _ [][]byte) string {
	s.closing = true
	return s.text("OK")
}

func planReset(s *session, _ [][]byte) string {
	s.multi, s.watches, s.tenant, s.name = nil, nil, quipu.DefaultTenant, ""
	s.reply(reply{render: func(s *session, _ *reply, _ []quipu.Result) {
		s.out.resp3 = false
		s.out.simple("RESET")
	}})
	return ""
}

func planTime(s *session, _ [][]byte) string {
	now := s.server.cfg.Now()
	return s.raw(func(w *writer) {
		w.array(2)
		w.bulk(strconv.FormatInt(now.Unix(), 10))
		w.bulk(strconv.Itoa(now.Nanosecond() / 1000))
	})
}

func planClient(s *session, args [][]byte) string {
	switch sub := lower(args[1]); {
	case sub == "id" && len(args) == 2:
		id := s.id
		return s.raw(func(w *writer) { w.int(id) })
	case sub == "getname" && len(args) == 2:
		if s.name == "" {
			return s.raw(func(w *writer) { w.null() })
		}
		return s.bulk(s.name)
	case sub == "setname" && len(args) == 3:
		if strings.ContainsAny(string(args[2]), " \n\r") {
			return "ERR Client names cannot contain spaces, newlines or special characters."
		}
		s.name = string(args[2])
		return s.text("OK")
	case sub == "setinfo" && len(args) == 4, sub == "no-evict" && len(args) == 3, sub == "no-touch" && len(args) == 3:
		return s.text("OK")
	case sub == "info" && len(args) == 2:
		return s.bulk(s.describe())
	case sub == "list" && len(args) == 2:
		return s.bulk(s.describe())
	}
	return unknownSubcommand("CLIENT", args[1])
}

// unknownSubcommand is the error that Redis answers, but for the help that it
// offers.
func unknownSubcommand(command string, sub []byte) string {
	return "ERR unknown subcommand '" + clip(sub) + "' of " + command + ", or the wrong number of arguments"
}

func (s *session) describe() string {
	proto := 2
	if s.out.resp3 {
		proto = 3
	}
	return fmt.Sprintf("id=%d addr=%s name=%s db=%s resp=%d\n", s.id, s.addr, s.name, s.tenant, proto)
}

// settings are what CONFIG GET tells; CONFIG SET of them is accepted and
// changes nothing.
var settings = map[string]string{
	"save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction", "databases": "1000000",
	"timeout": "0", "set-max-intset-entries": "512", "proto-max-bulk-len": "16777216", "slave-read-only": "yes", "lazyfree-lazy-expire": "no",
	"lazyfree-lazy-server-del": "no", "lazyfree-lazy-user-flush": "no", "active-expire": "yes",
}

func planConfig(s *session, args [][]byte) string {
	switch lower(args[1]) {
	case "get":
		if len(args) < 3 {
			return "ERR wrong number of arguments for 'config|get' command"
		}
		var found []string
		for name := range settings {
			for _, p := range args[2:] {
				if match(strings.ToLower(string(p)), name) {
					found = append(found, name)
					break
				}
			}
		}
		return s.raw(func(w *writer) {
			w.dict(len(found))
			for _, name := range found {
				w.bulk(name)
				w.bulk(settings[name])
			}
		})
	case "set":
		if len(args) < 4 || len(args)%2 != 0 {
			return "ERR wrong number of arguments for 'config|set' command"
		}
		for i := 2; i < len(args); i += 2 {
			if _, ok := settings[strings.ToLower(string(args[i]))]; !ok {
				return "ERR Unknown option or number of arguments for CONFIG SET - '" + clip(args[i]) + "'"
			}
		}
		return s.text("OK")
	case "resetstat":
		return s.text("OK")
	}
	return unknownSubcommand("CONFIG", args[1])
}

func planFunction(s *session, args [][]byte) string {
	if lower(args[1]) == "flush" {
		return s.text("OK")
	}
	return unknownSubcommand("FUNCTION", args[1])
}

func planCommand(s *session, args [][]byte) string {
	table := s.server.table
	if len(args) == 1 {
		return s.raw(func(w *writer) {
			w.array(len(table))
			for _, n := range table.names() {
				table[n].describe(w)
			}
		})
	}
	switch lower(args[1]) {
	case "count":
		return s.raw(func(w *writer) { w.int(int64(len(table))) })
	case "list":
		return s.raw(func(w *writer) {
			w.array(len(table))
			for _, n := range table.names() {
				w.bulk(n)
			}
		})
	case "info":
		return s.raw(func(w *writer) {
			w.array(len(args) - 2)
			for _, a := range args[2:] {
				if c := table.lookup(a); c != nil {
					c.describe(w)
				} else {
					w.nullArray()
				}
			}
		})
	case "docs":
		return s.raw(func(w *writer) { w.dict(0) })
	}
	return unknownSubcommand("COMMAND", args[1])
}

func (c *command) describe(w *writer) {
	w.array(6)
	w.bulk(c.name)
	w.int(int64(c.arity))
	w.set(1)
	if c.flags&write != 0 {
		w.simple("write")
	} else {
		w.simple("readonly")
	}
	w.int(int64(c.firstKey))
	w.int(int64(c.lastKey))
	w.int(int64(c.step))
}

func runInfo(s *session, _ [][]byte) string {
	st := s.server.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "# Server\r\nredis_version:%s\r\nquipu_version:%s\r\nquipu_node:%s\r\nredis_mode:standalone\r\nos:%s\r\narch_bits:64\r\ntcp_port:%s\r\n\r\n",
		redisVersion, s.server.cfg.Version, s.server.cfg.Node, runtime.GOOS, s.server.port())
	fmt.Fprintf(&b, "# Clients\r\nconnected_clients:%d\r\n\r\n", st.Connections)
	fmt.Fprintf(&b, "# Persistence\r\nloading:0\r\naof_enabled:1\r\n\r\n")
	fmt.Fprintf(&b, "# Stats\r\ntotal_connections_received:%d\r\ntotal_commands_processed:%d\r\ntotal_net_input_bytes:%d\r\ntotal_net_output_bytes:%d\r\n\r\n",
		st.Accepted, st.Commands, st.BytesIn, st.BytesOut)
	fmt.Fprintf(&b, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# Keyspace\r\n")
	if n, err := s.server.cfg.Backend.Size(context.Background(), s.tenant); err == nil && n > 0 {
		fmt.Fprintf(&b, "db0:keys=%d,expires=0,avg_ttl=0\r\n", n)
	}
	s.out.verbatim(b.String())
	return ""
}

func runDBSize(s *session, _ [][]byte) string {
	n, err := s.server.cfg.Backend.Size(context.Background(), s.tenant)
	if err != nil {
		return codeText(quipu.CodeNotReady)
	}
	s.out.int(n)
	return ""
}

func runRandomKey(s *session, _ [][]byte) string {
	name, ok, err := s.server.cfg.Backend.Random(context.Background(), s.tenant)
	switch {
	case err != nil:
		return codeText(quipu.CodeNotReady)
	case ok:
		s.out.bulk(name)
	default:
		s.out.null()
	}
	return ""
}

// walk calls visit for the entries of a list until it says stop.
func (s *session) walk(req store.ListRequest, visit func(store.ListEntry) bool) error {
	req.Tenant, req.Limit = s.tenant, 1000
	for {
		page, err := s.server.cfg.Backend.List(context.Background(), req)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if !visit(e) {
				return nil
			}
		}
		if !page.More {
			return nil
		}
		req.After = page.After
	}
}

// maxListed bounds the entries of one answer to KEYS and SMEMBERS.
const maxListed = 1_000_000

func runKeys(s *session, args [][]byte) string {
	pattern := string(args[1])
	return s.listed(store.ListRequest{Prefix: literalPrefix(pattern)}, pattern, s.out.array)
}

func runSMembers(s *session, args [][]byte) string {
	name, problem := s.setKey(args[1])
	if problem != "" {
		return problem
	}
	return s.listed(store.ListRequest{What: store.Items, Name: name}, "*", s.out.set)
}

func (s *session) listed(req store.ListRequest, pattern string, begin func(int)) string {
	var found []string
	err := s.walk(req, func(e store.ListEntry) bool {
		if match(pattern, e.Name) {
			found = append(found, e.Name)
		}
		return len(found) <= maxListed
	})
	switch {
	case err != nil:
		return codeText(quipu.CodeNotReady)
	case len(found) > maxListed:
		return "ERR the answer has more than 1000000 entries: use SCAN or SSCAN"
	}
	begin(len(found))
	for _, n := range found {
		s.out.bulk(n)
	}
	return ""
}

// setKey checks that a key is a set or absent.
func (s *session) setKey(b []byte) (name, problem string) {
	if name, problem = key(b); problem != "" {
		return name, problem
	}
	ops := []quipu.Op{{Kind: quipu.KindCount, Tenant: s.tenant, Name: name}}
	results := make([]quipu.Result, 1)
	if err := s.server.read(context.Background(), ops, results); err != nil {
		return "", codeText(quipu.CodeNotReady)
	}
	if c := results[0].Code; c != quipu.CodeOK {
		return "", codeText(c)
	}
	return name, ""
}

func runScan(s *session, args [][]byte) string {
	return s.scan(args[1], args[2:], store.ListRequest{})
}

func runSScan(s *session, args [][]byte) string {
	name, problem := s.setKey(args[1])
	if problem != "" {
		return problem
	}
	return s.scan(args[2], args[3:], store.ListRequest{What: store.Items, Name: name})
}

func (s *session) scan(cursor []byte, options [][]byte, req store.ListRequest) string {
	at, err := strconv.ParseUint(string(cursor), 10, 64)
	if err != nil {
		return "ERR invalid cursor"
	}
	pattern, count, nothing := "*", int64(10), false // nothing has the type that is asked for
	for i := 0; i < len(options); i += 2 {
		word := lower(options[i])
		if i+1 >= len(options) {
			return errSyntax
		}
		switch {
		case word == "match":
			pattern = string(options[i+1])
		case word == "count":
			var ok bool
			if count, ok = parseInt(options[i+1]); !ok {
				return errNotInteger
			}
			if count < 1 {
				return errSyntax
			}
		case word == "type" && req.What == store.Names:
			switch nothing = false; lower(options[i+1]) {
			case "string":
				req.Kind = quipu.KindCounter
			case "set":
				req.Kind = quipu.KindItems
			default:
				nothing = true
			}
		default:
			return errSyntax
		}
	}
	if nothing {
		s.out.array(2)
		s.out.bulk("0")
		s.out.array(0)
		return ""
	}
	if at != 0 {
		after, ok := s.server.cursors.find(at)
		if !ok {
			return "ERR invalid cursor: it is unknown or was forgotten; begin again at 0"
		}
		req.After = after
	}
	req.Tenant, req.Limit = s.tenant, int(min(count, 1000))
	page, err := s.server.cfg.Backend.List(context.Background(), req)
	if err != nil {
		return codeText(quipu.CodeNotReady)
	}
	next := uint64(0)
	if page.More {
		next = s.server.cursors.keep(page.After)
	}
	var found []string
	for _, e := range page.Entries {
		if match(pattern, e.Name) {
			found = append(found, e.Name)
		}
	}
	s.out.array(2)
	s.out.bulk(strconv.FormatUint(next, 10))
	s.out.array(len(found))
	for _, n := range found {
		s.out.bulk(n)
	}
	return ""
}
