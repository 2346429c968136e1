package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/quipudb/quipu"
)

// target is what every client command takes.
type target struct {
	Server string        `help:"Base URL of the server." env:"QUIPU_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL"`
	Tenant string        `help:"Tenant." env:"QUIPU_TENANT" default:"default"`
	JSON   bool          `help:"Print the server's answer as JSON."`
	Within time.Duration `help:"Give up after this time." default:"10s"`
}

// call sends one request. A write carries a request id, and is sent again with
// the same one while its outcome is unknown or a retry may succeed.
func (t *target) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, t.Within)
	defer cancel()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	id := quipu.NewIDSource(nil).Next()
	var raw []byte
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var retry bool
		var err error
		raw, retry, err = t.send(ctx, method, path, data, id)
		if err == nil {
			break
		}
		if !retry || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	if t.JSON {
		_, err := os.Stdout.Write(raw)
		return err
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

func (t *target) send(ctx context.Context, method, path string, data []byte, id quipu.RequestID) (raw []byte, retry bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(t.Server, "/")+path, bytes.NewReader(data))
	if err != nil {
		return nil, false, err
	}
	if method != http.MethodGet {
		req.Header.Set("Idempotency-Key", id.String())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil, false, &exitError{exitNoServer, fmt.Errorf("no server at %s, start one: quipu serve", t.Server)}
		}
		return nil, true, fmt.Errorf("%w: %w", quipu.ErrUnknown, err)
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", quipu.ErrUnknown, err)
	}
	if resp.StatusCode < 300 {
		return raw, false, nil
	}
	var p struct {
		Detail    string `json:"detail"`
		Retryable bool   `json:"retryable"`
	}
	if json.Unmarshal(raw, &p) != nil || p.Detail == "" {
		p.Detail = strings.TrimSpace(string(raw))
	}
	return nil, p.Retryable, fmt.Errorf("%s: %s", resp.Status, p.Detail)
}

func (t *target) counter(name string) string {
	return "/v1/tenants/" + url.PathEscape(t.Tenant) + "/counters/" + url.PathEscape(name)
}

// answer of a writing call.
type answer struct {
	Value    int64  `json:"value"`
	Old      *int64 `json:"old"`
	Replayed bool   `json:"replayed"`
}

func (t *target) printValue(ctx context.Context, method, path string, body any) error {
	var a answer
	if err := t.call(ctx, method, path, body, &a); err != nil || t.JSON {
		return err
	}
	if a.Old != nil && strings.HasSuffix(path, "/reset") {
		fmt.Println(*a.Old)
		return nil
	}
	fmt.Println(a.Value)
	return nil
}

type addCmd struct {
	target
	Name  string `arg:"" help:"Counter."`
	Delta int64  `arg:"" optional:"" default:"1" help:"What to add; after -- it may be negative."`
	Lower *int64 `help:"Refuse to go below."`
	Upper *int64 `help:"Refuse to go above."`
}

func (c *addCmd) Run(ctx context.Context) error {
	body := map[string]any{"delta": c.Delta}
	if c.Lower != nil {
		body["lower"] = *c.Lower
	}
	if c.Upper != nil {
		body["upper"] = *c.Upper
	}
	return c.printValue(ctx, http.MethodPost, c.counter(c.Name)+"/add", body)
}

type getCmd struct {
	target
	Name string `arg:"" help:"Counter."`
}

func (c *getCmd) Run(ctx context.Context) error {
	return c.printValue(ctx, http.MethodGet, c.counter(c.Name), nil)
}

type setCmd struct {
	target
	Name  string `arg:"" help:"Counter."`
	Value int64  `arg:"" help:"Its new value; after -- it may be negative."`
}

func (c *setCmd) Run(ctx context.Context) error {
	return c.printValue(ctx, http.MethodPut, c.counter(c.Name), map[string]any{"value": c.Value})
}

type resetCmd struct {
	target
	Name string `arg:"" help:"Counter."`
}

func (c *resetCmd) Run(ctx context.Context) error {
	return c.printValue(ctx, http.MethodPost, c.counter(c.Name)+"/reset", nil)
}

type listCmd struct {
	target
	Prefix string `arg:"" optional:"" help:"Only counters that begin with it."`
}

func (c *listCmd) Run(ctx context.Context) error {
	cursor := ""
	for {
		var page struct {
			Counters []struct {
				Name  string `json:"name"`
				Value int64  `json:"value"`
			} `json:"counters"`
			Cursor string `json:"cursor"`
		}
		q := url.Values{"prefix": {c.Prefix}, "limit": {"1000"}, "cursor": {cursor}}
		plain := c.target
		plain.JSON = false
		path := "/v1/tenants/" + url.PathEscape(c.Tenant) + "/counters?" + q.Encode()
		if err := plain.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		for _, x := range page.Counters {
			if c.JSON {
				line, _ := json.Marshal(x) // of plain fields: never fails
				fmt.Println(string(line))
			} else {
				fmt.Printf("%d\t%s\n", x.Value, x.Name)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}

type itemsCmd struct {
	Add   itemsAddCmd   `cmd:"" help:"Add items to the tenant's set; each counts once."`
	Count itemsCountCmd `cmd:"" help:"Print how many distinct items the tenant's set holds."`
}

type itemsAddCmd struct {
	target
	Items []string `arg:"" help:"Items."`
}

func (c *itemsAddCmd) Run(ctx context.Context) error {
	rows := make([]map[string]string, len(c.Items))
	for i, id := range c.Items {
		rows[i] = map[string]string{"id": id, "tenant": c.Tenant}
	}
	return c.call(ctx, http.MethodPost, "/items", rows, nil)
}

type itemsCountCmd struct{ target }

func (c *itemsCountCmd) Run(ctx context.Context) error {
	var a struct {
		Count int64 `json:"count"`
	}
	if err := c.call(ctx, http.MethodGet, "/items/"+url.PathEscape(c.Tenant)+"/count", nil, &a); err != nil || c.JSON {
		return err
	}
	fmt.Println(a.Count)
	return nil
}

type healthCmd struct{ target }

func (c *healthCmd) Run(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/readyz", nil, nil)
}
