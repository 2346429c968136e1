package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// source fills a burst, up to its capacity, with the numbers of the counters to
// increment; an empty burst ends the connection's work.
type source func(burst []int) []int

// burstLength is the capacity of fill's bursts.
const burstLength = 1000

// tally counts operations, and the time bursts of hot names took.
type tally struct {
	ops atomic.Int64
	mu  sync.Mutex
	hot *hdrhistogram.Histogram
}

func (t *tally) add(ops int, took time.Duration, hot bool) {
	t.ops.Add(int64(ops))
	if !hot {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hot == nil {
		t.hot = hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	}
	t.hot.RecordValue(took.Microseconds())
}

func (t *tally) total() int64 { return t.ops.Load() }

// quantile of the hot bursts, in milliseconds; 100 is the longest.
func (t *tally) quantile(q float64) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hot == nil {
		return 0
	}
	return float64(t.hot.ValueAtQuantile(q)) / 1000
}

// timed runs a load for the length of a step.
func (b *bench) timed(ctx context.Context, took *time.Duration, load func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.step)
	defer cancel()
	began := time.Now()
	err := load(ctx)
	*took = time.Since(began)
	return err
}

// random picks names until the context ends: a burst is of hot names only, or,
// percent of a hundred bursts, of names anywhere.
func (b *bench) random(ctx context.Context, length, percent int) func(int) source {
	return func(worker int) source {
		rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(worker)))
		return func(burst []int) []int {
			if ctx.Err() != nil {
				return burst
			}
			among := min(hotNames, b.counters)
			if rng.IntN(100) < percent {
				among = b.counters
			}
			for range length {
				burst = append(burst, rng.IntN(among))
			}
			return burst
		}
	}
}

// load sends what the connections' sources say, each burst as a pipeline. What
// was acknowledged is counted in sent, what was sent when the connection broke
// in maybe.
func (b *bench) load(ctx context.Context, connections int, sources func(worker int) source, count *tally) error {
	var group errgroup.Group
	for worker := range connections {
		group.Go(func() error {
			conn, err := net.Dial("tcp", b.server.resp)
			if err != nil {
				return err
			}
			defer conn.Close()
			return b.connection(conn, sources(worker), count)
		})
	}
	return group.Wait()
}

func (b *bench) connection(conn net.Conn, next source, count *tally) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	burst, out := make([]int, 0, burstLength), []byte(nil)
	for {
		if burst = next(burst[:0]); len(burst) == 0 {
			return nil
		}
		hot := true
		out = out[:0]
		for _, n := range burst {
			out = appendIncr(out, n)
			hot = hot && n < hotNames
		}
		began := time.Now()
		_, err := conn.Write(out)
		answered := 0
		for err == nil && answered < len(burst) {
			if err = readCount(in); err == nil {
				answered++
			}
		}
		for i, n := range burst {
			if i < answered {
				atomic.AddUint32(&b.sent[n], 1)
			} else {
				atomic.AddUint32(&b.maybe[n], 1)
			}
		}
		if err != nil {
			return err
		}
		if count != nil {
			count.add(len(burst), time.Since(began), hot)
		}
	}
}

// appendName writes a counter's name, 16 bytes.
func appendName(dst []byte, n int) []byte {
	const digits = 12
	at := len(dst) + len("cnt:") + digits
	dst = append(dst, "cnt:000000000000"...)
	for i := at - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

func appendIncr(dst []byte, n int) []byte {
	dst = append(dst, "*2\r\n$4\r\nINCR\r\n$16\r\n"...)
	return append(appendName(dst, n), '\r', '\n')
}

func readCount(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if line[0] != ':' {
		return fmt.Errorf("answer %q", line)
	}
	return nil
}

// check reads every counter and compares it with what was sent.
func (b *bench) check(context.Context) error {
	conn, err := net.Dial("tcp", b.server.resp)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	began := time.Now()
	total := uint64(0)
	var out []byte
	for first := 0; first < b.counters; first += burstLength {
		n := min(burstLength, b.counters-first)
		out = fmt.Appendf(out[:0], "*%d\r\n$4\r\nMGET\r\n", n+1)
		for i := range n {
			out = append(out, "$16\r\n"...)
			out = append(appendName(out, first+i), '\r', '\n')
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		if _, err := in.ReadSlice('\n'); err != nil { // the array's length
			return err
		}
		for i := range n {
			value, err := readBulk(in)
			if err != nil {
				return err
			}
			sent, maybe := uint64(b.sent[first+i]), uint64(b.maybe[first+i])
			if value < sent || value > sent+maybe {
				return fmt.Errorf("counter %d holds %d: %d were acknowledged, %d unknown", first+i, value, sent, maybe)
			}
			total += value
		}
	}
	b.print("check", row{"exact": true, "total": total, "seconds": time.Since(began).Seconds(), "memory": b.server.memory()})
	return nil
}

func readBulk(in *bufio.Reader) (uint64, error) {
	head, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if head[0] != '$' || head[1] == '-' {
		return 0, errors.New("a counter is missing: " + strconv.Quote(string(head)))
	}
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(line[:len(line)-2]), 10, 64)
}
