package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/quipudb/quipu"
)

// respBencher pipelines INCRs on one connection, and dials again after a
// failure. It speaks as much of the protocol as the load needs.
type respBencher struct {
	addr, tenant string
	ids          *quipu.IDSource
	conn         net.Conn
	in           *bufio.Reader
	out          []byte
}

func dialRESP(ctx context.Context, addr, tenant string, ids bool) (*respBencher, error) {
	r := &respBencher{addr: addr, tenant: tenant}
	if ids {
		r.ids = quipu.NewIDSource(nil)
	}
	return r, r.dial(ctx)
}

func (r *respBencher) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return &exitError{exitNoServer, fmt.Errorf("no server at %s, start one: quipu serve: %w", r.addr, err)}
	}
	r.conn, r.in = conn, bufio.NewReaderSize(conn, 64<<10)
	r.out = appendCommand(r.out[:0], "SELECT", r.tenant)
	if _, err := conn.Write(r.out); err != nil {
		return err
	}
	answer, err := r.answer()
	if err == nil && answer != "+OK" {
		err = errors.New("SELECT: " + answer)
	}
	if err != nil {
		r.close()
	}
	return err
}

func (r *respBencher) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

func (r *respBencher) answer() (string, error) {
	r.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	line, err := r.in.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}

func (r *respBencher) add(ctx context.Context, names []string) (acknowledged, refused int, err error) {
	if r.conn == nil {
		if err := r.dial(ctx); err != nil {
			return 0, len(names), err
		}
	}
	r.out = r.out[:0]
	for _, name := range names {
		if r.ids != nil {
			r.out = appendCommand(r.out, "QUIPU.ONCE", r.ids.Next().String(), "INCR", name)
		} else {
			r.out = appendCommand(r.out, "INCR", name)
		}
	}
	if _, err := r.conn.Write(r.out); err != nil {
		r.close()
		return 0, 0, err
	}
	for range names {
		answer, rerr := r.answer()
		switch {
		case rerr != nil:
			r.close()
			return acknowledged, refused, rerr
		case strings.HasPrefix(answer, ":"):
			acknowledged++
		default:
			err = errors.New(answer)
			if !strings.HasPrefix(answer, "-UNKNOWN") {
				refused++
			}
		}
	}
	return acknowledged, refused, err
}

func appendCommand(dst []byte, args ...string) []byte {
	dst = strconv.AppendInt(append(dst, '*'), int64(len(args)), 10)
	for _, a := range args {
		dst = strconv.AppendInt(append(dst, "\r\n$"...), int64(len(a)), 10)
		dst = append(append(dst, "\r\n"...), a...)
	}
	return append(dst, "\r\n"...)
}
