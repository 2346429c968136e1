package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/client"
	"github.com/quipudb/quipu/internal/httpapi"
	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
)

// api is the HTTP edge over a pool and the plain store.
func api(t *testing.T) http.Handler {
	t.Helper()
	p, err := pool.New(pool.Config{Store: memstore.New(memstore.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s, err := httpapi.New(httpapi.Config{Backend: p})
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newClient(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestOperations(t *testing.T) {
	ctx := context.Background()
	c := newClient(t, client.Config{Servers: []string{serve(t, api(t))}, Tenant: "a/b"})
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Add(ctx, "hits/ü", 5); v != 5 || err != nil {
		t.Fatalf("add: %d, %v", v, err)
	}
	if v, err := c.Add(ctx, "hits/ü", -7); v != -2 || err != nil {
		t.Fatalf("add: %d, %v", v, err)
	}
	if err := c.Set(ctx, "..", 9); err != nil {
		t.Fatal(err)
	}
	if old, err := c.Reset(ctx, ".."); old != 9 || err != nil {
		t.Fatalf("reset: %d, %v", old, err)
	}
	if v, err := c.Get(ctx, "absent"); v != 0 || err != nil {
		t.Fatalf("get: %d, %v", v, err)
	}
	if n, err := c.AddItems(ctx, "..", "x"); n != 0 || !errors.Is(err, quipu.ErrWrongKind) {
		t.Fatalf("items of a counter: %d, %v", n, err)
	}
	if n, err := c.AddItems(ctx, "set", "x", "y", "x"); n != 2 || err != nil {
		t.Fatalf("items: %d, %v", n, err)
	}
	if n, err := c.Count(ctx, "set"); n != 2 || err != nil {
		t.Fatalf("count: %d, %v", n, err)
	}
	if old, err := c.Delete(ctx, "set"); old != 2 || err != nil {
		t.Fatalf("delete: %d, %v", old, err)
	}

	// A refused operation tells the present value; the error its code.
	bounded := quipu.Op{Kind: quipu.KindAdd, Name: "quota", Value: 3, Options: &quipu.Options{Upper: 4, HasUpper: true}}
	if r, err := c.Do(ctx, bounded); err != nil || r.Value != 3 {
		t.Fatalf("bounded: %+v, %v", r, err)
	}
	if r, err := c.Do(ctx, bounded); !errors.Is(err, quipu.ErrOutOfBounds) || r.Value != 3 {
		t.Fatalf("bounded: %+v, %v", r, err)
	}
	saturated := bounded
	saturated.Options = &quipu.Options{Upper: 4, HasUpper: true, Saturate: true}
	if r, err := c.Do(ctx, saturated); err != nil || r.Value != 4 || r.Delta != 1 {
		t.Fatalf("saturated: %+v, %v", r, err)
	}

	// Expiry, and a replay under a caller's own id.
	id := c.NewID()
	with := quipu.Op{Kind: quipu.KindAdd, Name: "e", Value: 1, Options: &quipu.Options{ID: id, Expiry: quipu.Expiry{Mode: quipu.ExpirySet, Ms: 60_000}}}
	first, err := c.Do(ctx, with)
	if err != nil || first.ExpireAt < 1 || first.ExpireAt > 60_000 {
		t.Fatalf("expiry: %+v, %v", first, err)
	}
	if again, err := c.Do(ctx, with); err != nil || !again.Replayed || again.Value != 1 {
		t.Fatalf("replay: %+v, %v", again, err)
	}

	// All or none.
	_, err = c.Atomic(ctx, []quipu.Op{
		{Kind: quipu.KindAdd, Name: "e", Value: 1},
		{Kind: quipu.KindSet, Name: "e", Value: 7, Options: &quipu.Options{If: quipu.Precondition{Kind: quipu.IfAbsent}}},
	})
	if !errors.Is(err, quipu.ErrPrecondition) {
		t.Fatalf("atomic: %v", err)
	}
	results, err := c.Batch(ctx, []quipu.Op{
		{Kind: quipu.KindAdd, Name: "e", Value: 1},
		{Kind: quipu.KindSet, Name: "e", Value: 7, Options: &quipu.Options{If: quipu.Precondition{Kind: quipu.IfAbsent}}},
		{Kind: quipu.KindGet, Name: "e"},
	})
	if err != nil || results[0].Value != 2 || results[1].Code != quipu.CodePrecondition || results[2].Value != 2 || !results[2].Existed {
		t.Fatalf("batch: %+v, %v", results, err)
	}

	other, err := c.WithTenant("other")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := other.Get(ctx, "e"); v != 0 || err != nil {
		t.Fatalf("another tenant: %d, %v", v, err)
	}
	var names []string
	for counter, err := range c.Counters(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, counter.Name)
	}
	if want := []string{"..", "e", "hits/ü", "quota"}; !slices.Equal(names, want) {
		t.Fatalf("counters: %q, want %q", names, want)
	}
}

// TestRefusedHere: what the API can't say is refused before anything is sent,
// not left out.
func TestRefusedHere(t *testing.T) {
	c := newClient(t, client.Config{})
	ctx := context.Background()
	own := func() *quipu.Options { return &quipu.Options{ID: c.NewID()} }
	for name, ops := range map[string][]quipu.Op{
		"kind":     {{Kind: quipu.KindDropTenant}},
		"name":     {{Kind: quipu.KindAdd, Name: strings.Repeat("x", 513)}},
		"replace":  {{Kind: quipu.KindSet, Name: "n", Options: &quipu.Options{Replace: true}}},
		"absolute": {{Kind: quipu.KindSet, Name: "n", Options: &quipu.Options{Expiry: quipu.Expiry{Mode: quipu.ExpirySet, Absolute: true, Ms: 1}}}},
		"exists":   {{Kind: quipu.KindSet, Name: "n", Options: &quipu.Options{If: quipu.Precondition{Kind: quipu.IfExists}}}},
		"mixed":    {{Kind: quipu.KindAdd, Name: "n", Options: own()}, {Kind: quipu.KindAdd, Name: "m"}},
	} {
		if _, err := c.Atomic(ctx, ops); !errors.Is(err, quipu.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Batch(ctx, make([]quipu.Op, client.MaxBatchOps+1)); !errors.Is(err, quipu.ErrTooLarge) {
		t.Errorf("too many: %v", err)
	}
	for _, bad := range []client.Config{{Servers: []string{"localhost:8080"}}, {Tenant: "\x00"}} {
		if _, err := client.New(bad); !errors.Is(err, quipu.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	dead := "http://" + l.Addr().String()
	c := newClient(t, client.Config{Servers: []string{dead, dead}, FailFast: true})
	_, err = c.Add(context.Background(), "n", 1)
	e := (*quipu.Error)(nil)
	if !errors.Is(err, client.ErrNoServer) || !errors.As(err, &e) || e.Outcome() != quipu.NotApplied {
		t.Fatalf("no server: %v", err)
	}
	// One that lives is found.
	c = newClient(t, client.Config{Servers: []string{dead, serve(t, api(t))}, FailFast: true})
	if v, err := c.Add(context.Background(), "n", 1); v != 1 || err != nil {
		t.Fatalf("failover: %d, %v", v, err)
	}
}

// faulty fails requests in both forms: the connection is cut before the request
// reaches the server, or after it was served.
type faulty struct {
	next         http.Handler
	before, late float64
	failed       atomic.Int64
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := rand.Float64()
	if x < f.before {
		f.failed.Add(1)
		panic(http.ErrAbortHandler)
	}
	if x < f.before+f.late {
		f.next.ServeHTTP(httptest.NewRecorder(), r)
		f.failed.Add(1)
		panic(http.ErrAbortHandler)
	}
	f.next.ServeHTTP(w, r)
}

func TestExactlyOnceThroughFaults(t *testing.T) {
	f := &faulty{next: api(t), before: 0.1, late: 0.2}
	var repeats atomic.Int64
	c := newClient(t, client.Config{Servers: []string{serve(t, f), serve(t, f)}, OnRepeat: func(error) { repeats.Add(1) }})
	const callers, each = 8, 50
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range each {
				var err error
				if i%5 == 0 {
					_, err = c.Atomic(context.Background(), []quipu.Op{{Kind: quipu.KindAdd, Name: "n", Value: 1}, {Kind: quipu.KindAdd, Name: "n", Value: 2}})
				} else {
					_, err = c.Add(context.Background(), "n", 3)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, err := c.Get(context.Background(), "n"); v != callers*each*3 || err != nil {
		t.Fatalf("counted %d, sent %d, %v", v, callers*each*3, err)
	}
	if f.failed.Load() == 0 || repeats.Load() == 0 {
		t.Fatal("nothing failed")
	}
}

// TestUnknownWithoutIDs: without ids a lost answer is reported, never repeated.
func TestUnknownWithoutIDs(t *testing.T) {
	f := &faulty{next: api(t), before: 0.1, late: 0.2}
	url := serve(t, f)
	c := newClient(t, client.Config{Servers: []string{url}, NoIDs: true})
	acknowledged, unknown := int64(0), int64(0)
	for range 200 {
		_, err := c.Add(context.Background(), "n", 1)
		switch {
		case err == nil:
			acknowledged++
		case errors.Is(err, quipu.ErrUnknown):
			unknown++
		default:
			t.Fatal(err)
		}
	}
	v, err := c.Get(context.Background(), "n")
	if err != nil || v < acknowledged || v > acknowledged+unknown || unknown == 0 {
		t.Fatalf("counted %d, acknowledged %d, unknown %d, %v", v, acknowledged, unknown, err)
	}
}

// TestRefusalAfterLostAnswer: an attempt that got no answer may still be on its
// way, so a later refusal does not prove that nothing was applied.
func TestRefusalAfterLostAnswer(t *testing.T) {
	h := api(t)
	var n atomic.Int64
	c := newClient(t, client.Config{Servers: []string{serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}))}})
	op := quipu.Op{Kind: quipu.KindAdd, Name: "n", Value: 2, Options: &quipu.Options{Upper: 1, HasUpper: true}}
	r, err := c.Do(context.Background(), op)
	if !errors.Is(err, quipu.ErrUnknown) || r.Code != quipu.CodeUnknown {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err = c.Do(context.Background(), op); !errors.Is(err, quipu.ErrOutOfBounds) {
		t.Fatal(err)
	}
}

// TestAnswersOfOthers: a proxy's errors, and answers that are no answer.
func TestAnswersOfOthers(t *testing.T) {
	for _, row := range []struct {
		status int
		body   string
		want   error
	}{
		{200, "<html>", quipu.ErrUnknown},
		{200, "[]", quipu.ErrUnknown},
		{200, `[{"outcome":"from the future"}]`, quipu.ErrUnknown},
		{502, "bad gateway", quipu.ErrUnknown},
		{429, "slow down", quipu.ErrBusy},
		{403, "forbidden", quipu.ErrInvalid},
		{400, `{"type":"urn:quipu:problem:overflow","detail":"x"}`, quipu.ErrOverflow},
		{500, `{"type":"urn:quipu:problem:new","detail":"x"}`, quipu.ErrUnknown},
		{503, `{"type":"urn:quipu:problem:not-ready","detail":"x"}`, quipu.ErrNotReady},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		c := newClient(t, client.Config{OnRepeat: func(error) { cancel() }, Servers: []string{serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(row.status)
			w.Write([]byte(row.body))
		}))}})
		if _, err := c.Add(ctx, "n", 1); !errors.Is(err, row.want) {
			t.Errorf("%d %s: %v, want %v", row.status, row.body, err, row.want)
		}
		cancel()
	}
}
