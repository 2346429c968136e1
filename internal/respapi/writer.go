package respapi

import "strconv"

// writer appends replies in the connection's protocol version.
type writer struct {
	buf   []byte
	resp3 bool
}

func (w *writer) simple(s string) { w.line('+', s) }

// fail writes an error; s begins with its prefix, as "ERR …".
func (w *writer) fail(s string) { w.line('-', s) }

func (w *writer) line(kind byte, s string) {
	w.buf = append(w.buf, kind)
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

func (w *writer) number(kind byte, n int64) {
	w.buf = append(w.buf, kind)
	w.buf = strconv.AppendInt(w.buf, n, 10)
	w.buf = append(w.buf, '\r', '\n')
}

func (w *writer) int(n int64) { w.number(':', n) }

func (w *writer) bulk(s string) {
	w.number('$', int64(len(s)))
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// value writes a counter's value as Redis stores it: a string.
func (w *writer) value(n int64) {
	var digits [20]byte
	b := strconv.AppendInt(digits[:0], n, 10)
	w.number('$', int64(len(b)))
	w.buf = append(w.buf, b...)
	w.buf = append(w.buf, '\r', '\n')
}

func (w *writer) null() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
		return
	}
	w.buf = append(w.buf, "$-1\r\n"...)
}

func (w *writer) nullArray() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
		return
	}
	w.buf = append(w.buf, "*-1\r\n"...)
}

func (w *writer) array(n int) { w.number('*', int64(n)) }

// set and dict begin a set and a map of n pairs; arrays before RESP3.
func (w *writer) set(n int) {
	if w.resp3 {
		w.number('~', int64(n))
		return
	}
	w.array(n)
}

func (w *writer) dict(n int) {
	if w.resp3 {
		w.number('%', int64(n))
		return
	}
	w.array(2 * n)
}

func (w *writer) verbatim(s string) {
	if w.resp3 {
		w.number('=', int64(len(s)+4))
		w.buf = append(w.buf, "txt:"...)
		w.buf = append(w.buf, s...)
		w.buf = append(w.buf, '\r', '\n')
		return
	}
	w.bulk(s)
}

// reset empties the writer; memory beyond what is worth keeping is given back.
func (w *writer) reset() {
	if cap(w.buf) > keptBytes {
		w.buf = nil
	}
	w.buf = w.buf[:0]
}
