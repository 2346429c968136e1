// Command scale measures a node that holds many counters: how fast it fills,
// the memory it takes, the rate with cold names, the longest pause of
// acknowledgements while checkpoints run, and the time until it is ready after
// kill -9 at a bad instant. It drives a quipu binary over the Redis protocol,
// prints one JSON line a step, and checks every counter at the end.
//
//	go run ./bench/scale -quipu bin/quipu [-counters 10000000] [-seconds 20]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.quipu, "quipu", "bin/quipu", "the quipu binary")
	flag.StringVar(&b.dir, "dir", "", "folder for the data (default: a temporary one)")
	flag.IntVar(&b.counters, "counters", 10_000_000, "counters")
	seconds := flag.Int("seconds", 20, "seconds of each step under load")
	flag.Parse()
	b.step = time.Duration(*seconds) * time.Second
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// bench is one run of all steps.
type bench struct {
	quipu, dir string
	counters   int
	step       time.Duration
	server     *server
	// sent is how often each counter was incremented and acknowledged, by
	// number; maybe are those whose answer was lost by a kill.
	sent, maybe []uint32
}

// row is a step's result, printed as one JSON line.
type row map[string]any

func (b *bench) print(step string, r row) {
	r["bench"], r["step"], r["counters"] = "scale", step, b.counters
	line, _ := json.Marshal(r)
	fmt.Println(string(line))
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "quipu-scale-"); err != nil {
			return err
		}
		defer os.RemoveAll(b.dir)
	}
	b.sent, b.maybe = make([]uint32, b.counters), make([]uint32, b.counters)
	if b.server, err = start(ctx, b.quipu, b.dir); err != nil {
		return err
	}
	defer func() { b.server.kill() }()
	for _, step := range []func(context.Context) error{
		b.fill, b.hot, b.cold(1), b.cold(100), b.pause, b.crash, b.check,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fill creates all counters.
func (b *bench) fill(ctx context.Context) error {
	began := time.Now()
	err := b.load(ctx, 4, func(worker int) source {
		next := worker
		return func(burst []int) []int {
			for len(burst) < cap(burst) && next < b.counters {
				burst = append(burst, next)
				next += 4
			}
			return burst
		}
	}, nil)
	took := time.Since(began)
	b.print("fill", row{"seconds": took.Seconds(), "perSecond": float64(b.counters) / took.Seconds(), "memory": b.server.memory()})
	return err
}

// hotNames is how many names the steps call hot.
const hotNames = 100_000

// hot increments a few names only.
func (b *bench) hot(ctx context.Context) error { return b.mixed(ctx, "hot", 0) }

// cold increments hot names and, of a hundred, percent of all names.
func (b *bench) cold(percent int) func(context.Context) error {
	return func(ctx context.Context) error { return b.mixed(ctx, fmt.Sprintf("cold %d %%", percent), percent) }
}

func (b *bench) mixed(ctx context.Context, name string, percent int) error {
	before := b.server.metrics("quipu_cold_submissions_total", "quipu_checkpoints_total")
	count, took := &tally{}, time.Duration(0)
	err := b.timed(ctx, &took, func(ctx context.Context) error {
		return b.load(ctx, 50, b.random(ctx, 16, percent), count)
	})
	after := b.server.metrics("quipu_cold_submissions_total", "quipu_checkpoints_total")
	b.print(name, row{
		"perSecond": float64(count.total()) / took.Seconds(), "hotP50Ms": count.quantile(50), "hotP99Ms": count.quantile(99),
		"coldSubmissions": after[0] - before[0], "checkpoints": after[1] - before[1], "memory": b.server.memory(),
	})
	return err
}

// pause looks for the longest time without an acknowledgement: one connection
// increments without end while others load the node and checkpoints run. The
// disk's own longest write of the same run stands beside it.
func (b *bench) pause(ctx context.Context) error {
	for _, percent := range []int{0, 100} {
		before := b.server.metrics("quipu_checkpoints_total")
		alone, count, took := &tally{}, &tally{}, time.Duration(0)
		err := b.timed(ctx, &took, func(ctx context.Context) error {
			ended := make(chan error, 1)
			go func() { ended <- b.load(ctx, 1, b.random(ctx, 1, 0), alone) }()
			err := b.load(ctx, 16, b.random(ctx, 128, percent), count)
			if e := <-ended; err == nil {
				err = e
			}
			return err
		})
		if err != nil {
			return err
		}
		after := b.server.metrics("quipu_checkpoints_total")
		b.print(fmt.Sprintf("pause, %d %% cold", percent), row{
			"perSecond": float64(count.total()) / took.Seconds(), "checkpoints": after[0] - before[0],
			"oneP50Ms": alone.quantile(50), "oneP999Ms": alone.quantile(99.9), "longestPauseMs": alone.quantile(100), "memory": b.server.memory(),
		})
	}
	p50, longest, err := diskWrites(b.dir, b.step/4)
	b.print("bare durable 4 KiB write", row{"p50Ms": p50, "longestMs": longest})
	return err
}

// crash kills the node while it writes cold names and a checkpoint runs, drops
// the page cache, and measures the time until it is ready.
func (b *bench) crash(ctx context.Context) error {
	for _, percent := range []int{100, 0} {
		loading, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- b.load(loading, 50, b.random(loading, 64, percent), &tally{}) }()
		behind, err := b.untilWorst(ctx)
		b.server.kill()
		cancel()
		<-ended // the connections broke
		if err != nil {
			return err
		}
		dropped := dropPageCache()
		began := time.Now()
		if b.server, err = start(ctx, b.quipu, b.dir); err != nil {
			return err
		}
		b.print(fmt.Sprintf("ready after kill -9, %d %% cold", percent), row{
			"seconds": time.Since(began).Seconds(), "logBytes": behind, "pageCacheDropped": dropped, "memory": b.server.memory(), "log": b.server.replayed(),
		})
	}
	return nil
}

// untilWorst waits until most log lies behind the last checkpoint: it watches a
// few checkpoints, and then returns when nearly as much as was ever seen lies
// there.
func (b *bench) untilWorst(ctx context.Context) (behind float64, err error) {
	most, first := 0.0, b.server.metrics("quipu_checkpoints_total")[0]
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		m := b.server.metrics("quipu_log_behind_bytes", "quipu_checkpoints_total")
		if m[1] >= first+3 && m[0] >= 0.95*most {
			return m[0], nil
		}
		most = max(most, m[0])
	}
	return most, ctx.Err()
}
