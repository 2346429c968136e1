// Command resp measures Quipu and redis-server side by side with
// redis-benchmark INCR: each round runs every server once on every setting, in
// turn, so that a drift of the machine meets all alike. It prints a table of
// medians and of the medians of the ratios round by round, one JSON line a run,
// and checks after each run that the counters hold what was sent.
//
//	go run ./bench/resp -quipu bin/quipu [-rounds 5] [-requests 400000] [-settings 1x1,50x1,50x16,50x128]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	var cfg config
	flag.StringVar(&cfg.quipu, "quipu", "bin/quipu", "the quipu binary")
	flag.StringVar(&cfg.redis, "redis", "redis-server", "the redis-server binary")
	flag.StringVar(&cfg.dir, "dir", "", "folder for the servers' data (default: a temporary one)")
	flag.IntVar(&cfg.rounds, "rounds", 5, "rounds")
	flag.IntVar(&cfg.keys, "keys", 100_000, "random keys; 1 is one hot counter")
	flag.IntVar(&cfg.requests, "requests", 400_000, "requests a run, not pipelined; pipelined runs send more")
	settings := flag.String("settings", "1x1,50x1,50x16,50x128", "connections x pipeline, comma-separated")
	servers := flag.String("servers", "quipu,always,none", "servers, comma-separated; ratios are to always")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := cfg.run(ctx, strings.Split(*settings, ","), strings.Split(*servers, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type config struct {
	quipu, redis, dir      string
	rounds, keys, requests int
}

// setting is one way to load a server.
type setting struct{ connections, pipeline int }

func parseSetting(s string) (setting, error) {
	var out setting
	if _, err := fmt.Sscanf(s, "%dx%d", &out.connections, &out.pipeline); err != nil || out.connections < 1 || out.pipeline < 1 {
		return out, fmt.Errorf("setting %q: want connections x pipeline, like 50x16", s)
	}
	return out, nil
}

func (s setting) String() string { return fmt.Sprintf("%dx%d", s.connections, s.pipeline) }

// result is one run, printed as one JSON line.
type result struct {
	Bench       string  `json:"bench"`
	Server      string  `json:"server"`
	Connections int     `json:"connections"`
	Pipeline    int     `json:"pipeline"`
	Keys        int     `json:"keys"`
	Round       int     `json:"round"`
	Requests    int     `json:"requests"`
	PerSecond   float64 `json:"perSecond"`
	P50Ms       float64 `json:"p50Ms"`
	P99Ms       float64 `json:"p99Ms"`
	MaxMs       float64 `json:"maxMs"`
	Exact       bool    `json:"exact"`
}

func (c *config) run(ctx context.Context, settings, names []string) error {
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "quipu-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		c.dir = dir
	}
	var loads []setting
	for _, s := range settings {
		l, err := parseSetting(s)
		if err != nil {
			return err
		}
		loads = append(loads, l)
	}
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, name := range names {
		s, err := c.start(ctx, name)
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		servers = append(servers, s)
	}
	rates := make(map[string]map[string][]float64) // setting, server
	for round := range c.rounds {
		for _, l := range loads {
			for _, s := range servers {
				r, err := c.measure(ctx, s, l, round)
				if err != nil {
					return fmt.Errorf("%s at %s: %w", s.name, l, err)
				}
				line, _ := json.Marshal(r)
				fmt.Println(string(line))
				if rates[l.String()] == nil {
					rates[l.String()] = make(map[string][]float64)
				}
				rates[l.String()][s.name] = append(rates[l.String()][s.name], r.PerSecond)
			}
		}
	}
	c.table(loads, names, rates)
	return nil
}

// table prints medians, and the medians of the ratios to always.
func (c *config) table(loads []setting, names []string, rates map[string]map[string][]float64) {
	fmt.Printf("\n%-10s", "")
	for _, n := range names {
		fmt.Printf(" %14s", n+"/s")
	}
	for _, n := range names {
		if n != "always" {
			fmt.Printf(" %16s", n+"/always")
		}
	}
	fmt.Println()
	for _, l := range loads {
		by := rates[l.String()]
		fmt.Printf("%-10s", l)
		for _, n := range names {
			fmt.Printf(" %14.0f", median(by[n]))
		}
		for _, n := range names {
			if n == "always" || len(by["always"]) == 0 {
				continue
			}
			ratios := make([]float64, len(by[n]))
			for i := range ratios {
				ratios[i] = by[n][i] / by["always"][i]
			}
			fmt.Printf(" %16.2f", median(ratios))
		}
		fmt.Println()
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// server is one peer under load.
type server struct {
	name string
	addr string
	cmd  *exec.Cmd
	log  *os.File
}

func (c *config) start(ctx context.Context, name string) (*server, error) {
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	var args []string
	switch name {
	case "quipu":
		http, err := freeAddr()
		if err != nil {
			return nil, err
		}
		args = []string{c.quipu, "serve", "--data", dir, "--node", "bench", "--http", http, "--resp", addr}
	case "always":
		args = []string{c.redis, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always"}
	case "none":
		args = []string{c.redis, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}
	default:
		return nil, errors.New("unknown server: want quipu, always or none")
	}
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	s := &server{name: name, addr: addr, log: log, cmd: exec.Command(args[0], args[1:]...)}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := client.Ping(ctx).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("not ready: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
	s.log.Close()
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

var summary = regexp.MustCompile(`(?s)throughput summary: ([0-9.]+) requests per second.*?latency summary \(msec\):\s+avg\s+min\s+p50\s+p95\s+p99\s+max\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)\s+([0-9.]+)`)

func (c *config) measure(ctx context.Context, s *server, l setting, round int) (result, error) {
	requests := c.requests
	if l.connections == 1 {
		requests = max(requests/10, 1)
	}
	requests *= min(l.pipeline, 16)
	before, err := c.sum(ctx, s)
	if err != nil {
		return result{}, err
	}
	_, port, _ := net.SplitHostPort(s.addr)
	args := []string{"-h", "127.0.0.1", "-p", port, "-c", strconv.Itoa(l.connections), "-P", strconv.Itoa(l.pipeline), "-n", strconv.Itoa(requests)}
	if c.keys > 1 {
		args = append(args, "-r", strconv.Itoa(c.keys))
	}
	args = append(args, "-t", "incr")
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "redis-benchmark", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("redis-benchmark: %w: %s", err, tail(&out))
	}
	m := summary.FindStringSubmatch(strings.ReplaceAll(out.String(), "\r", "\n"))
	if m == nil {
		return result{}, fmt.Errorf("redis-benchmark printed no summary: %s", tail(&out))
	}
	after, err := c.sum(ctx, s)
	if err != nil {
		return result{}, err
	}
	r := result{
		Bench: "resp-incr", Server: s.name, Connections: l.connections, Pipeline: l.pipeline, Keys: c.keys, Round: round, Requests: requests,
		PerSecond: number(m[1]), P50Ms: number(m[4]), P99Ms: number(m[6]), MaxMs: number(m[7]),
	}
	// redis-benchmark may send one pipeline a connection beyond what it counts.
	counted := after - before
	r.Exact = counted >= int64(requests) && counted <= int64(requests+l.connections*l.pipeline)
	if !r.Exact {
		return r, fmt.Errorf("sent %d, counted %d", requests, counted)
	}
	return r, nil
}

// sum adds up all counters of the server.
func (c *config) sum(ctx context.Context, s *server) (int64, error) {
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, ReadTimeout: time.Minute})
	defer client.Close()
	total, cursor := int64(0), uint64(0)
	for {
		keys, next, err := client.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return 0, fmt.Errorf("scan: %w", err)
		}
		for len(keys) > 0 {
			n := min(len(keys), 1000)
			values, err := client.MGet(ctx, keys[:n]...).Result()
			if err != nil {
				return 0, fmt.Errorf("mget: %w", err)
			}
			for _, v := range values {
				text, _ := v.(string)
				n, _ := strconv.ParseInt(text, 10, 64)
				total += n
			}
			keys = keys[n:]
		}
		if cursor = next; cursor == 0 {
			return total, nil
		}
	}
}

func number(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

func tail(r io.Reader) string {
	b, _ := io.ReadAll(r)
	return string(b[max(0, len(b)-500):])
}
