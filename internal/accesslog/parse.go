// Package accesslog counts the requests of access logs into a tenant, each line
// exactly once for ever: the position reached in a log moves in the same atomic
// batch as the counts of the lines it passes, under a precondition on the
// position before. See [Importer].
package accesslog

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/quipudb/quipu"
)

// Format is how the lines of a log are written.
type Format string

const (
	// FormatAuto takes a line that begins with { for JSON, any other for
	// FormatCommon.
	FormatAuto Format = "auto"
	// FormatCommon is the common log format of Apache's mod_log_config,
	//	host ident user [time] "request" status bytes
	// and whatever follows it, so also the combined format.
	FormatCommon Format = "common"
	// FormatJSON is a JSON object a line, with the members that Fields names.
	FormatJSON Format = "json"
)

// Fields names the members of JSON lines that hold what is counted. A dot
// steps into an object: "request.uri". Status and Path are required on each
// line; Bytes and Client may be missing.
type Fields struct {
	Status, Path, Bytes, Client string
}

// DefaultFields are the names taken where none is given.
var DefaultFields = Fields{Status: "status", Path: "path", Bytes: "bytes", Client: "client"}

// Request is what is counted of a line.
type Request struct {
	Client string // empty: not known
	Path   string // without the query
	Status int    // 100 to 599
	Bytes  int64  // 0 if not known
}

// Parser reads lines. It is safe for concurrent use.
type Parser struct {
	Format Format
	Fields Fields
}

// Parse reads one line without its end. ok is false if it is not a request in
// the parser's format.
func (p *Parser) Parse(line []byte) (r Request, ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	switch {
	case p.Format == FormatJSON, p.Format == FormatAuto && len(line) > 0 && line[0] == '{':
		return p.parseJSON(line)
	default:
		return parseCommon(line)
	}
}

// parseCommon finds the parts by their delimiters, not by counting spaces: a
// user's name may hold some. The request is quoted, with \" inside.
func parseCommon(line []byte) (r Request, ok bool) {
	host, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(host) == 0 {
		return r, false
	}
	_, rest, ok = bytes.Cut(rest, []byte("] \""))
	if !ok {
		return r, false
	}
	end := quoteEnd(rest)
	if end < 0 {
		return r, false
	}
	request := rest[:end]
	rest, ok = bytes.CutPrefix(rest[end+1:], []byte{' '})
	if !ok {
		return r, false
	}
	status, rest, _ := bytes.Cut(rest, []byte{' '})
	size, _, _ := bytes.Cut(rest, []byte{' '})
	if r.Status, ok = parseStatus(string(status)); !ok {
		return r, false
	}
	// The size is "-" where no body was sent.
	if string(size) != "-" {
		n, err := strconv.ParseInt(string(size), 10, 64)
		if err != nil || n < 0 {
			return r, false
		}
		r.Bytes = n
	}
	r.Client = string(host)
	r.Path = requestPath(request)
	return r, true
}

// quoteEnd returns where the quoted text that s begins with ends, -1 if it does
// not.
func quoteEnd(s []byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// requestPath returns the path of METHOD TARGET VERSION. What is not a request
// line, such as the bytes of a TLS handshake, is its own path, up to a query.
func requestPath(request []byte) string {
	target := request
	if _, after, ok := bytes.Cut(request, []byte{' '}); ok {
		target = after
		if i := bytes.LastIndex(after, []byte(" HTTP/")); i >= 0 {
			target = after[:i]
		}
	}
	return cutQuery(string(target))
}

func cutQuery(target string) string {
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		return target[:i]
	}
	return target
}

func parseStatus(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && len(s) == 3 && n >= 100 && n <= 599
}

func (p *Parser) parseJSON(line []byte) (r Request, ok bool) {
	var object map[string]jsontext.Value
	if err := json.Unmarshal(line, &object); err != nil {
		return r, false
	}
	status, ok := member(object, p.Fields.Status)
	if !ok {
		return r, false
	}
	if r.Status, ok = parseStatus(status); !ok {
		return r, false
	}
	path, ok := member(object, p.Fields.Path)
	if !ok {
		return r, false
	}
	r.Path = cutQuery(path)
	if size, ok := member(object, p.Fields.Bytes); ok && size != "-" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 {
			return r, false
		}
		r.Bytes = n
	}
	r.Client, _ = member(object, p.Fields.Client)
	return r, true
}

// member returns the text of a string or number; null is none.
func member(object map[string]jsontext.Value, name string) (string, bool) {
	v, ok := object[name]
	if !ok {
		head, tail, dotted := strings.Cut(name, ".")
		var inner map[string]jsontext.Value
		if !dotted || json.Unmarshal(object[head], &inner) != nil {
			return "", false
		}
		return member(inner, tail)
	}
	switch v.Kind() {
	case '"':
		var s string
		return s, json.Unmarshal(v, &s) == nil
	case '0':
		return string(v), true
	default:
		return "", false
	}
}

// pathName is the counter of a path; one that can't be part of a name counts as
// other.
func pathName(path string) string {
	if name := pathPrefix + path; path != "" && quipu.PlainText(name) {
		return name
	}
	return pathOther
}
