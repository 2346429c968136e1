package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quipudb/quipu/client"
)

type demoCmd struct {
	Seconds int `help:"How long." default:"20"`
	Callers int `help:"How many clients add at once." default:"8"`
}

// Help is printed by quipu demo --help.
func (*demoCmd) Help() string {
	return `Starts a server of its own on free ports over a temporary folder, adds to its counters with request ids through a proxy that
drops one answer in ten, kills the server three times with kill -9, and compares what was acknowledged with what is counted.`
}

const (
	demoKills   = 3
	demoDropped = 0.1
)

// errDropped makes the proxy cut the connection in place of an answer.
var errDropped = errors.New("dropped")

// demo is a server under load, and what came of it.
type demo struct {
	dir, http, resp               string
	server                        *exec.Cmd
	log                           *os.File
	began                         time.Time
	sent, acknowledged            atomic.Int64
	repeated, dropped, unanswered atomic.Int64
}

// Run exits 0 if the counts are exact.
func (c *demoCmd) Run(ctx context.Context) error {
	if c.Seconds < 1 || c.Callers < 1 {
		return &exitError{exitUsage, errors.New("--seconds and --callers are at least 1")}
	}
	dir, err := os.MkdirTemp("", "quipu-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{dir: dir, began: time.Now()}
	defer d.stop()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	proxy, err := d.proxy()
	if err != nil {
		return err
	}
	defer proxy.Close()
	d.say("%d clients add with request ids through a proxy that drops one answer in ten", c.Callers)
	if err := d.load(ctx, "http://"+proxy.Addr, c.Callers, time.Duration(c.Seconds)*time.Second); err != nil {
		return err
	}
	return d.verdict(ctx)
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("%5.1fs  "+format+"\n", append([]any{time.Since(d.began).Seconds()}, args...)...)
}

func (d *demo) prepare(ctx context.Context) error {
	var err error
	if d.http, err = freeAddr(); err != nil {
		return err
	}
	if d.resp, err = freeAddr(); err != nil {
		return err
	}
	if d.log, err = os.Create(filepath.Join(d.dir, "log")); err != nil {
		return err
	}
	took, err := d.start(ctx)
	if err != nil {
		return err
	}
	d.say("server %d is ready after %v; data in %s", d.server.Process.Pid, took, d.dir)
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start starts the server and returns after what time it was ready.
func (d *demo) start(ctx context.Context) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	d.server = exec.Command(self, "serve", "--data", filepath.Join(d.dir, "data"), "--node", "demo", "--http", d.http, "--resp", d.resp)
	d.server.Dir = d.dir // no .env of the caller's
	d.server.Stdout, d.server.Stderr = d.log, d.log
	if err := d.server.Start(); err != nil {
		return 0, err
	}
	c, err := client.New(client.Config{Servers: []string{"http://" + d.http}, Timeout: 30 * time.Second})
	if err != nil {
		return 0, err
	}
	defer c.CloseIdle()
	if err := c.Ready(ctx); err != nil {
		said, _ := os.ReadFile(d.log.Name())
		return 0, fmt.Errorf("the server did not become ready: %w\n%s", err, said)
	}
	return time.Since(began).Round(time.Millisecond), nil
}

func (d *demo) kill() {
	d.server.Process.Kill()
	d.server.Wait()
}

func (d *demo) stop() {
	if d.server != nil && d.server.Process != nil {
		d.server.Process.Signal(syscall.SIGTERM)
		d.server.Wait()
	}
	if d.log != nil {
		d.log.Close()
	}
}

// proxy passes requests on to the server; it drops an answer by cutting the
// client's connection once the server has given it.
func (d *demo) proxy() (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: d.http})
	pass.Transport = &http.Transport{MaxIdleConnsPerHost: 256}
	pass.ModifyResponse = func(*http.Response) error {
		if rand.Float64() < demoDropped {
			d.dropped.Add(1)
			return errDropped
		}
		return nil
	}
	pass.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, errDropped) {
			d.unanswered.Add(1)
		}
		panic(http.ErrAbortHandler)
	}
	s := &http.Server{Addr: l.Addr().String(), Handler: pass}
	go s.Serve(l)
	return s, nil
}

// load lets the callers add for the time, and kills the server meanwhile.
func (d *demo) load(ctx context.Context, url string, callers int, length time.Duration) error {
	c, err := client.New(client.Config{Servers: []string{url}, Timeout: time.Minute, OnRepeat: func(error) { d.repeated.Add(1) }})
	if err != nil {
		return err
	}
	defer c.CloseIdle()
	ends, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for i := range callers {
		wg.Go(func() {
			// What is under way when the time is up still gets its answer.
			for ends.Err() == nil {
				d.sent.Add(1)
				if _, err := c.Add(ctx, fmt.Sprintf("demo/%d", i%4), 1); err != nil {
					failed <- err
					return
				}
				d.acknowledged.Add(1)
			}
		})
	}
	err = d.kills(ends, ctx, length)
	wg.Wait()
	if err == nil {
		select {
		case err = <-failed:
		default:
			err = ctx.Err()
		}
	}
	return err
}

func (d *demo) kills(ends, ctx context.Context, length time.Duration) error {
	for range demoKills {
		select {
		case <-time.After(length / (demoKills + 1)):
		case <-ends.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := d.acknowledged.Load()
		pid := d.server.Process.Pid
		d.kill()
		took, err := d.start(ctx)
		if err != nil {
			return err
		}
		d.say("%d acknowledged; kill -9 %d; ready again after %v", before, pid, took)
	}
	return nil
}

func (d *demo) verdict(ctx context.Context) error {
	c, err := client.New(client.Config{Servers: []string{"http://" + d.http}})
	if err != nil {
		return err
	}
	defer c.CloseIdle()
	var counted int64
	for counter, err := range c.Counters(ctx, "demo/") {
		if err != nil {
			return err
		}
		counted += counter.Value
	}
	sent, acknowledged := d.sent.Load(), d.acknowledged.Load()
	d.say("done\n")
	fmt.Printf("sent          %8d\nacknowledged  %8d\nrepeated      %8d  (%d answers dropped, %d cut off by a kill)\ncounted       %8d\n",
		sent, acknowledged, d.repeated.Load(), d.dropped.Load(), d.unanswered.Load(), counted)
	if counted != sent || counted != acknowledged {
		return &exitError{exitWrong, errors.New("the counts are WRONG")}
	}
	fmt.Println("exact")
	return nil
}
