// Command http measures batches over HTTP: connections post bodies of adds that
// were built beforehand, on random names, one after another; keyed bodies carry
// a fresh request id in each operation. Keyed and unkeyed rounds take turns. It
// prints one JSON line a round and checks the sum of all counters at the end.
//
//	go run ./bench/http -quipu bin/quipu [-rounds 3] [-adds 1000] [-connections 8]
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
)

func main() {
	var b bench
	flag.StringVar(&b.quipu, "quipu", "bin/quipu", "the quipu binary")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds, each unkeyed and keyed")
	flag.IntVar(&b.adds, "adds", 1000, "adds in a call")
	flag.IntVar(&b.connections, "connections", 8, "connections")
	flag.IntVar(&b.names, "names", 100_000, "random names")
	flag.DurationVar(&b.length, "length", 5*time.Second, "length of a round")
	flag.Parse()
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

type bench struct {
	quipu                            string
	rounds, adds, connections, names int
	length                           time.Duration
	addr                             string
	acknowledged                     atomic.Int64
}

func (b *bench) run() error {
	dir, err := os.MkdirTemp("", "quipu-http-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stop, err := b.start(dir)
	if err != nil {
		return err
	}
	defer stop()
	for round := range b.rounds {
		for _, keyed := range []bool{false, true} {
			if err := b.round(round, keyed); err != nil {
				return err
			}
		}
	}
	return b.check()
}

// start starts a node and waits until it is ready.
func (b *bench) start(dir string) (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.addr = l.Addr().String()
	l.Close()
	cmd := exec.Command(b.quipu, "serve", "--data", filepath.Join(dir, "data"), "--node", "bench", "--http", b.addr, "--resp", "127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if r, err := http.Get("http://" + b.addr + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return stop, nil
			}
		}
	}
	stop()
	return nil, fmt.Errorf("the node at %s did not become ready", b.addr)
}

// keyMark stands in a body where each call puts a fresh request id.
const keyMark = "00000000-0000-7000-8000-000000000000"

// body builds a batch of adds on random names.
func (b *bench) body(rng *rand.Rand, keyed bool) []byte {
	out := []byte{'['}
	for i := range b.adds {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `{"op":"add","name":"counter:%012d"`, rng.IntN(b.names))
		if keyed {
			out = append(out, `,"key":"`+keyMark+`"`...)
		}
		out = append(out, '}')
	}
	return append(out, ']')
}

// round posts from all connections for the length of a round.
func (b *bench) round(round int, keyed bool) error {
	const bodies = 32 // a connection's, which take turns
	var group sync.WaitGroup
	errs := make([]error, b.connections)
	calls := atomic.Int64{}
	prepared := make([][][]byte, b.connections)
	for w := range prepared {
		rng := rand.New(rand.NewPCG(uint64(round), uint64(w)))
		for range bodies {
			prepared[w] = append(prepared[w], b.body(rng, keyed))
		}
	}
	began := time.Now()
	for w := range b.connections {
		group.Go(func() {
			errs[w] = b.connection(prepared[w], keyed, began.Add(b.length), &calls)
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	took := time.Since(began).Seconds()
	line, _ := json.Marshal(map[string]any{
		"bench": "http-batch", "round": round, "keyed": keyed, "adds": b.adds, "connections": b.connections, "calls": calls.Load(),
		"addsPerSecond": float64(calls.Load()) * float64(b.adds) / took,
	})
	fmt.Println(string(line))
	return nil
}

// connection posts bodies one after another over a connection of its own.
func (b *bench) connection(bodies [][]byte, keyed bool, end time.Time, calls *atomic.Int64) error {
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 256<<10)
	ids := quipu.NewIDSource(nil)
	var out []byte
	for n := 0; time.Now().Before(end); n++ {
		body := bodies[n%len(bodies)]
		out = fmt.Appendf(out[:0], "POST /v1/batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
		at := len(out)
		out = append(out, body...)
		if keyed {
			fill(out[at:], ids)
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if r.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(r.Body)
			return fmt.Errorf("status %d: %.200s", r.StatusCode, text)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return err
		}
		r.Body.Close()
		calls.Add(1)
		b.acknowledged.Add(int64(b.adds))
	}
	return nil
}

// fill puts a fresh id in place of each mark.
func fill(body []byte, ids *quipu.IDSource) {
	for {
		at := bytes.Index(body, []byte(`"key":"`))
		if at < 0 {
			return
		}
		at += len(`"key":"`)
		copy(body[at:], ids.Next().String())
		body = body[at+len(keyMark):]
	}
}

// check adds up all counters.
func (b *bench) check() error {
	total, cursor := int64(0), ""
	for {
		r, err := http.Get("http://" + b.addr + "/v1/tenants/default/counters?limit=1000&cursor=" + cursor)
		if err != nil {
			return err
		}
		var page struct {
			Counters []struct{ Value int64 }
			Cursor   string
		}
		err = json.NewDecoder(r.Body).Decode(&page)
		r.Body.Close()
		if err != nil {
			return err
		}
		for _, c := range page.Counters {
			total += c.Value
		}
		if cursor = strings.ReplaceAll(page.Cursor, "+", "%2B"); cursor == "" {
			break
		}
	}
	if sent := b.acknowledged.Load(); total != sent {
		return fmt.Errorf("%d adds were acknowledged, the counters hold %d", sent, total)
	}
	fmt.Printf("{\"bench\":\"http-batch\",\"exact\":true,\"total\":%d}\n", total)
	return nil
}
