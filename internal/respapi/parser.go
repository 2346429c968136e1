package respapi

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/quipudb/quipu/internal/limit"
)

// errIncomplete: more bytes are needed.
var errIncomplete = errors.New("incomplete")

// protocolError ends the connection; its text is what Redis answers.
type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// parser reads commands from the front of a connection's buffer. Of a command
// that has come in part it remembers what it has read, or one of a million
// arguments that comes byte by byte would be read anew at each. So the bytes
// that follow an errIncomplete begin with those that it was given.
type parser struct {
	at   int // how far the unfinished command was read; 0 at a command's beginning
	left int // its arguments to come
	args []span
}

// span is where an argument stands, counted from the command's beginning.
type span struct{ from, to int32 }

// parse reads one command, a RESP array of bulk strings or an inline line, from
// the front of buf. It returns the arguments, which alias buf, appended to args,
// and how many bytes they took; no arguments is an empty line, to be skipped.
// Nothing is allocated from a length that buf does not hold.
func (p *parser) parse(buf []byte, args [][]byte) ([][]byte, int, error) {
	if len(buf) == 0 {
		return args, 0, errIncomplete
	}
	if buf[0] != '*' {
		return parseInline(buf, args)
	}
	if p.at == 0 {
		count, at, err := parseLength(buf, 1, "invalid multibulk length")
		if err != nil {
			return args, 0, err
		}
		if count > limit.CommandArgs {
			return args, 0, protocolError("invalid multibulk length")
		}
		p.at, p.left, p.args = at, max(count, 0), p.args[:0]
	}
	for p.left > 0 {
		from, to, err := parseBulk(buf, p.at)
		if err != nil {
			return args, 0, err
		}
		p.args = append(p.args, span{int32(from), int32(to)})
		p.at, p.left = to+2, p.left-1
	}
	for _, a := range p.args {
		args = append(args, buf[a.from:a.to:a.to])
	}
	n := p.at
	p.at = 0
	return args, n, nil
}

// parseBulk reads a bulk string at a position, and returns where its body
// stands.
func parseBulk(buf []byte, at int) (from, to int, err error) {
	if at >= len(buf) {
		return 0, 0, tooLong(len(buf))
	}
	if buf[at] != '$' {
		return 0, 0, protocolError("expected '$', got '" + string(buf[at:at+1]) + "'")
	}
	n, from, err := parseLength(buf, at+1, "invalid bulk length")
	if err != nil {
		return 0, 0, err
	}
	if n < 0 || n > limit.CommandBytes {
		return 0, 0, protocolError("invalid bulk length")
	}
	if to = from + n; to+2 > len(buf) {
		if to > limit.CommandBytes {
			return 0, 0, protocolError("too big command")
		}
		return 0, 0, errIncomplete
	}
	return from, to, nil
}

func tooLong(n int) error {
	if n > limit.CommandBytes {
		return protocolError("too big command")
	}
	return errIncomplete
}

// maxLengthDigits bounds a length line; Redis reads up to 64 KiB for it.
const maxLengthDigits = 32

// parseLength reads a number that ends in CRLF.
func parseLength(buf []byte, at int, what protocolError) (n, next int, err error) {
	i, negative := at, false
	if i < len(buf) && buf[i] == '-' {
		negative = true
		i++
	}
	start := i
	for ; i < len(buf) && buf[i] >= '0' && buf[i] <= '9'; i++ {
		if i-start > 10 {
			return 0, 0, what
		}
		n = n*10 + int(buf[i]-'0')
	}
	switch {
	case i+1 >= len(buf):
		if i < len(buf) && buf[i] != '\r' || i-at > maxLengthDigits {
			return 0, 0, what
		}
		return 0, 0, errIncomplete
	case i == start || buf[i] != '\r' || buf[i+1] != '\n':
		return 0, 0, what
	}
	if negative {
		n = -n
	}
	return n, i + 2, nil
}

// parseInline reads a command written as a line of words, with Redis' quoting.
func parseInline(buf []byte, args [][]byte) ([][]byte, int, error) {
	end := bytes.IndexByte(buf, '\n')
	if end < 0 {
		if len(buf) > limit.InlineBytes {
			return args, 0, protocolError("too big inline request")
		}
		return args, 0, errIncomplete
	}
	line := bytes.TrimSuffix(buf[:end], []byte("\r"))
	args, ok := splitLine(line, args)
	if !ok {
		return args, 0, protocolError("unbalanced quotes in request")
	}
	return args, end + 1, nil
}

// splitLine splits as Redis' sdssplitargs does.
func splitLine(line []byte, args [][]byte) ([][]byte, bool) {
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return args, true
		}
		var word []byte
		for i < len(line) && !isSpace(line[i]) {
			switch line[i] {
			case '"', '\'':
				quote := line[i]
				i++
				closed := false
				for i < len(line) && !closed {
					switch {
					case line[i] == quote:
						if i+1 < len(line) && !isSpace(line[i+1]) {
							return args, false
						}
						closed = true
					case line[i] == '\\' && quote == '"' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
						v, _ := strconv.ParseUint(string(line[i+2:i+4]), 16, 8)
						word = append(word, byte(v))
						i += 3
					case line[i] == '\\' && quote == '"' && i+1 < len(line):
						i++
						word = append(word, unescape(line[i]))
					case line[i] == '\\' && i+1 < len(line) && line[i+1] == '\'':
						i++
						word = append(word, '\'')
					default:
						word = append(word, line[i])
					}
					i++
				}
				if !closed {
					return args, false
				}
			default:
				word = append(word, line[i])
				i++
			}
		}
		if word == nil {
			word = []byte{}
		}
		args = append(args, word)
	}
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	default:
		return c
	}
}

// parseInt reads an integer as Redis' string2ll does: canonical, no sign but a
// minus, no leading zeros, no spaces.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	i, negative := 0, b[0] == '-'
	if negative {
		i = 1
	}
	if i == len(b) || b[i] == '0' && len(b) > 1 || b[i] < '0' || b[i] > '9' {
		return 0, false
	}
	var v uint64
	for ; i < len(b); i++ {
		d := b[i] - '0'
		if d > 9 || v > (1<<64-1-uint64(d))/10 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	switch {
	case negative && v <= 1<<63:
		return -int64(v), true
	case !negative && v < 1<<63:
		return int64(v), true
	default:
		return 0, false
	}
}
