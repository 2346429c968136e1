package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quipudb/quipu/client"
	"github.com/quipudb/quipu/internal/httpapi"
	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
)

func TestParse(t *testing.T) {
	auto := Parser{Format: FormatAuto, Fields: DefaultFields}
	nested := Parser{Format: FormatJSON, Fields: Fields{Status: "code", Path: "request.uri", Bytes: "size", Client: "request.ip"}}
	for _, row := range []struct {
		parser Parser
		line   string
		want   Request
		ok     bool
	}{
		{auto, `1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a/b?x=1 HTTP/1.1" 200 203 "-" "agent"`, Request{"1.2.3.4", "/a/b", 200, 203}, true},
		{auto, `1.2.3.4 - - [t] "GET / HTTP/1.1" 304 -`, Request{"1.2.3.4", "/", 304, 0}, true},
		{auto, "::1 - a user [t] \"GET / HTTP/1.1\" 304 -\r", Request{"::1", "/", 304, 0}, true},
		{auto, `h - - [t] "GET /with space HTTP/1.0" 400 1`, Request{"h", "/with space", 400, 1}, true},
		{auto, `h - - [t] "GET /\"quoted\\" 400 1`, Request{"h", `/\"quoted\\`, 400, 1}, true},
		{auto, `h - - [t] "\x16\x03\x01" 400 226`, Request{"h", `\x16\x03\x01`, 400, 226}, true},
		{auto, `h - - [t] "-" 408 0`, Request{"h", "-", 408, 0}, true},
		{auto, `h - - [t] "GET / HTTP/1.1" 600 0`, Request{}, false},
		{auto, `h - - [t] "GET / HTTP/1.1" 0200 0`, Request{}, false},
		{auto, `h - - [t] "GET / HTTP/1.1" 200 x`, Request{}, false},
		{auto, `h - - [t] "GET / HTTP/1.1" 200`, Request{}, false},
		{auto, `h - - [t] "GET / HTTP/1.1`, Request{}, false},
		{auto, ``, Request{}, false},
		{auto, `{"status":200,"path":"/p?q","bytes":"12","client":"c","other":[1]}`, Request{"c", "/p", 200, 12}, true},
		{auto, `{"status":"404","path":"/"}`, Request{"", "/", 404, 0}, true},
		{auto, `{"status":200}`, Request{}, false},
		{auto, `{"status":200.5,"path":"/"}`, Request{}, false},
		{auto, `{"status":200,"path":"/","bytes":-1}`, Request{}, false},
		{auto, `{"status":200,"path":null}`, Request{}, false},
		{auto, `{"status":200,"path":"/"`, Request{}, false},
		{nested, `{"code":500,"request":{"uri":"/x#f","ip":"9"},"size":7}`, Request{"9", "/x", 500, 7}, true},
		{nested, `h - - [t] "GET / HTTP/1.1" 200 1`, Request{}, false},
	} {
		got, ok := row.parser.Parse([]byte(row.line))
		if ok != row.ok || ok && got != row.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", row.line, got, ok, row.want, row.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`1.2.3.4 - - [t] "GET /a/b?x=1 HTTP/1.1" 200 203 "-" "agent"`))
	f.Add([]byte(`{"status":200,"path":"/p?q","bytes":"12","client":"c"}`))
	p := Parser{Format: FormatAuto, Fields: DefaultFields}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, ok := p.Parse(line)
		if ok && (r.Status < 100 || r.Status > 599 || r.Bytes < 0 || strings.ContainsAny(r.Path, "?#")) {
			t.Fatalf("%+v", r)
		}
	})
}

// lossy serves the HTTP edge over the plain store, and fails requests in both
// forms, as often as rate says.
func lossy(t *testing.T, rate float64) string {
	t.Helper()
	p, err := pool.New(pool.Config{Store: memstore.New(memstore.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	api, err := httpapi.New(httpapi.Config{Backend: p})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch x := rand.Float64(); {
		case x < rate/2:
			panic(http.ErrAbortHandler)
		case x < rate:
			api.Handler().ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		api.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func config(t *testing.T, url string) Config {
	t.Helper()
	c, err := client.New(client.Config{Servers: []string{url}, NoIDs: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return Config{Client: c, Parser: Parser{Format: FormatAuto, Fields: DefaultFields}}
}

// generate writes n lines of which every 50th does not parse, and returns what
// is to be counted.
func generate(n int, seed uint64) (log []byte, want map[string]int64, clients int64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	want = make(map[string]int64)
	seen := make(map[string]bool)
	for i := range n {
		want["lines"]++
		if i%50 == 49 {
			want["lines/unparsed"]++
			fmt.Fprintf(&b, "no request %d\n", i)
			continue
		}
		client, status, size := fmt.Sprintf("10.0.0.%d", rng.IntN(200)), []int{200, 304, 404, 500}[rng.IntN(4)], rng.Int64N(1000)
		path := fmt.Sprintf("/p/%d", int(rng.ExpFloat64()*300))
		seen[client] = true
		want["requests"]++
		want["bytes"] += size
		want[fmt.Sprintf("status/%d", status)]++
		if status >= 400 {
			want["errors"]++
		}
		fmt.Fprintf(&b, "%s - - [%d] \"GET %s?%d HTTP/1.1\" %d %d \"-\" \"agent\"\n", client, i, path, i, status, size)
	}
	return b.Bytes(), want, int64(len(seen))
}

// check compares what is counted with what the log holds.
func check(t *testing.T, cfg Config, want map[string]int64, clients int64) {
	t.Helper()
	ctx := context.Background()
	for name, n := range want {
		if name == "lines" {
			continue
		}
		if got, err := cfg.Client.Get(ctx, name); err != nil || got != n {
			t.Errorf("%s: counted %d, want %d, %v", name, got, n, err)
		}
	}
	var paths int64
	for c, err := range cfg.Client.Counters(ctx, pathPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		paths += c.Value
	}
	if paths != want["requests"] {
		t.Errorf("the paths sum to %d, requests are %d", paths, want["requests"])
	}
	if n, err := cfg.Client.Count(ctx, setClients); err != nil || n != clients {
		t.Errorf("clients: %d, want %d, %v", n, clients, err)
	}
}

// TestImportersAtOnce: three importers of one log, each stopped and begun anew
// many times, over a network that loses requests and answers.
func TestImportersAtOnce(t *testing.T) {
	log, want, clients := generate(30_000, 1)
	cfg := config(t, lossy(t, 0.3))
	cfg.MaxPaths = 100
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				ctx, cancel := context.WithTimeout(context.Background(), rand.N(50*time.Millisecond))
				im := NewFile(cfg, bytes.NewReader(log))
				err := im.Run(ctx)
				cancel()
				if err == nil {
					return
				}
				if ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	check(t, cfg, want, clients)
	im := NewFile(cfg, bytes.NewReader(log))
	if err := im.Run(context.Background()); err != nil || im.Total() != (Totals{}) || im.Offset() != int64(len(log)) {
		t.Fatalf("again: %+v, %d, %v", im.Total(), im.Offset(), err)
	}
}

func TestStream(t *testing.T) {
	log, want, clients := generate(60_000, 2)
	cfg := config(t, lossy(t, 0.2))
	cfg.Source = "web"
	for _, part := range []int{len(log) / 3, len(log), len(log)} {
		im, err := NewStream(cfg, bytes.NewReader(log[:part]))
		if err != nil {
			t.Fatal(err)
		}
		if err := im.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	check(t, cfg, want, clients)
}

func TestOtherLog(t *testing.T) {
	log, _, _ := generate(1000, 3)
	cfg := config(t, lossy(t, 0))
	if err := NewFile(cfg, bytes.NewReader(log)).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(log)
	changed[len(changed)-10]++
	for name, other := range map[string][]byte{"shorter": log[:len(log)/2], "changed": changed, "no line's end": append(log[:len(log)-1:len(log)-1], "xx\n"...)} {
		if err := NewFile(cfg, bytes.NewReader(other)).Run(context.Background()); !errors.Is(err, ErrOtherLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := NewFile(cfg, bytes.NewReader(append(log[:len(log):len(log)], "more\n"...))).Run(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestLastAndLongLines(t *testing.T) {
	cfg := config(t, lossy(t, 0))
	run := func(cfg Config, log string) Totals {
		t.Helper()
		im := NewFile(cfg, strings.NewReader(log))
		if err := im.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		return im.Total()
	}
	log := "first\n" + strings.Repeat("x", 2*batchBytes+17) + "\nthird\nlast"
	if got := run(cfg, log); got.Lines != 3 {
		t.Fatalf("%+v", got)
	}
	cfg.LastLine = true
	if got := run(cfg, log); got.Lines != 1 {
		t.Fatalf("%+v", got)
	}
	if got := run(cfg, log); got.Lines != 0 {
		t.Fatalf("%+v", got)
	}
	cfg.LastLine = false
	if err := NewFile(cfg, strings.NewReader(log+"er\n")).Run(context.Background()); !errors.Is(err, ErrOtherLog) {
		t.Fatal(err)
	}
	if got := run(cfg, "the first line is not complete"); got.Lines != 0 {
		t.Fatalf("%+v", got)
	}
}

// TestFollow: a log that grows, is rotated by rename and begun anew in place.
func TestFollow(t *testing.T) {
	cfg := config(t, lossy(t, 0.1))
	path := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Follow(ctx, cfg, path, slog.New(slog.DiscardHandler)) }()
	want := int64(0)
	write := func(flags, n int) {
		t.Helper()
		f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			want++
			fmt.Fprintf(f, "h - - [%d] \"GET / HTTP/1.1\" 200 1\n", want)
		}
		f.Close()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			got, err := cfg.Client.Get(ctx, nameRequests)
			if err != nil || got > want || time.Now().After(deadline) {
				t.Fatalf("counted %d of %d, %v", got, want, err)
			}
			if got == want {
				return
			}
		}
	}
	write(os.O_APPEND, 5)
	write(os.O_APPEND, 7)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(os.O_APPEND, 3)
	write(os.O_TRUNC, 100)
	write(os.O_APPEND, 1)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestRealLog: the log whose counts are known, if it is there.
func TestRealLog(t *testing.T) {
	path := os.Getenv("QUIPU_ACCESS_LOG")
	if path == "" {
		path = filepath.Join("..", "..", "..", "shared", "data", "apache_access.log")
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Logf("no real log (%v): the generated ones have to do", err)
		return
	}
	cfg := config(t, lossy(t, 0.2))
	if err := NewFile(cfg, bytes.NewReader(log)).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	check(t, cfg, map[string]int64{
		"requests": 10000, "bytes": 2747282740, "errors": 220, "lines/unparsed": 0,
		"status/200": 9126, "status/304": 445, "status/404": 213, "status/301": 164, "status/206": 45, "status/500": 3, "status/416": 2, "status/403": 2,
	}, 1753)
}
