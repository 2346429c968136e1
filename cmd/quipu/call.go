package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/client"
)

// target is what every client command takes.
type target struct {
	Server []string      `help:"Base URLs of the servers, comma-separated." env:"QUIPU_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL"`
	Tenant string        `help:"Tenant." env:"QUIPU_TENANT" default:"default"`
	JSON   bool          `help:"Print the answer as JSON."`
	Within time.Duration `help:"Give up after this time; until then a write is repeated under one request id." default:"10s"`
}

func (t *target) client() (*client.Client, error) {
	return client.New(client.Config{Servers: t.Server, Tenant: t.Tenant, Timeout: t.Within, FailFast: true})
}

// explain says what to do where no server answers.
func (t *target) explain(err error) error {
	if errors.Is(err, client.ErrNoServer) && !errors.Is(err, quipu.ErrUnknown) {
		return &exitError{exitNoServer, fmt.Errorf("no server at %s, start one: quipu serve", strings.Join(t.Server, ", "))}
	}
	return err
}

// do runs one operation and prints its answer, as JSON or what plain returns.
func (t *target) do(ctx context.Context, op quipu.Op, plain func(*quipu.Result) any) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	r, err := c.Do(ctx, op)
	if err == nil && op.Kind == quipu.KindGet && !r.Existed {
		err = fmt.Errorf("there is no counter %q in tenant %q", op.Name, t.Tenant)
	}
	if err != nil {
		return t.explain(err)
	}
	if !t.JSON {
		fmt.Println(plain(&r))
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Name     string `json:"name"`
		Value    int64  `json:"value"`
		Old      *int64 `json:"old,omitempty"`
		Revision uint64 `json:"revision"`
		TTLMs    int64  `json:"ttlMs,omitempty"`
	}{op.Name, r.Value, oldOf(op.Kind, &r), r.Revision, r.ExpireAt})
}

func oldOf(kind quipu.Kind, r *quipu.Result) *int64 {
	if kind == quipu.KindSet || kind == quipu.KindReset {
		return &r.Old
	}
	return nil
}

func valueOf(r *quipu.Result) any { return r.Value }

type addCmd struct {
	target
	Name  string        `arg:"" help:"Counter."`
	Delta int64         `arg:"" optional:"" default:"1" help:"What to add; after -- it may be negative."`
	Lower *int64        `help:"Refuse to go below."`
	Upper *int64        `help:"Refuse to go above."`
	TTL   time.Duration `name:"ttl" help:"Let the counter expire after this time."`
}

func (c *addCmd) Run(ctx context.Context) error {
	op := quipu.Op{Kind: quipu.KindAdd, Name: c.Name, Value: c.Delta}
	var o quipu.Options
	if c.Lower != nil {
		o.Lower, o.HasLower = *c.Lower, true
	}
	if c.Upper != nil {
		o.Upper, o.HasUpper = *c.Upper, true
	}
	if c.TTL != 0 {
		o.Expiry = quipu.Expiry{Mode: quipu.ExpirySet, Ms: c.TTL.Milliseconds()}
	}
	if o != (quipu.Options{}) {
		op.Options = &o
	}
	return c.do(ctx, op, valueOf)
}

type getCmd struct {
	target
	Name string `arg:"" help:"Counter."`
}

func (c *getCmd) Run(ctx context.Context) error {
	return c.do(ctx, quipu.Op{Kind: quipu.KindGet, Name: c.Name}, valueOf)
}

type setCmd struct {
	target
	Name  string `arg:"" help:"Counter."`
	Value int64  `arg:"" help:"Its new value; after -- it may be negative."`
}

func (c *setCmd) Run(ctx context.Context) error {
	return c.do(ctx, quipu.Op{Kind: quipu.KindSet, Name: c.Name, Value: c.Value}, valueOf)
}

type resetCmd struct {
	target
	Name string `arg:"" help:"Counter."`
}

func (c *resetCmd) Run(ctx context.Context) error {
	return c.do(ctx, quipu.Op{Kind: quipu.KindReset, Name: c.Name}, func(r *quipu.Result) any { return r.Old })
}

type listCmd struct {
	target
	Prefix string `arg:"" optional:"" help:"Only counters that begin with it."`
}

func (c *listCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for counter, err := range cl.Counters(ctx, c.Prefix) {
		switch {
		case err != nil:
			return c.explain(err)
		case c.JSON:
			err = out.Encode(counter)
		default:
			_, err = fmt.Printf("%d\t%s\n", counter.Value, counter.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type itemsCmd struct {
	Add   itemsAddCmd   `cmd:"" help:"Add items to a set; each counts once. Prints how many were new."`
	Count itemsCountCmd `cmd:"" help:"Print how many distinct items a set holds."`
}

type itemsAddCmd struct {
	target
	Set   string   `help:"Set." default:"items"`
	Items []string `arg:"" help:"Items."`
}

func (c *itemsAddCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	added, err := cl.AddItems(ctx, c.Set, c.Items...)
	if err != nil {
		return c.explain(err)
	}
	return c.printNumber("added", int64(added))
}

type itemsCountCmd struct {
	target
	Set string `help:"Set." default:"items"`
}

func (c *itemsCountCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	count, err := cl.Count(ctx, c.Set)
	if err != nil {
		return c.explain(err)
	}
	return c.printNumber("count", count)
}

func (t *target) printNumber(what string, n int64) error {
	if t.JSON {
		return json.NewEncoder(os.Stdout).Encode(map[string]int64{what: n})
	}
	fmt.Println(n)
	return nil
}

type healthCmd struct{ target }

// Run asks once: a health check has its own repeats.
func (c *healthCmd) Run(ctx context.Context) error {
	cl, err := client.New(client.Config{Servers: c.Server, Tenant: c.Tenant, Timeout: min(c.Within, 2*time.Second), FailFast: true})
	if err != nil {
		return err
	}
	return c.explain(cl.Ready(ctx))
}
