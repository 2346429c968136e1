package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/quipudb/quipu/client"
	"github.com/quipudb/quipu/internal/accesslog"
)

type importCmd struct {
	target
	File     string            `arg:"" help:"Access log; - is standard input, which needs --source."`
	Format   string            `help:"How its lines are written: auto, common (also combined) or json." enum:"auto,common,json" default:"auto"`
	Field    map[string]string `help:"Members of JSON lines that hold status, path, bytes and client, as status=code; a dot steps into an object." placeholder:"KEY=MEMBER"`
	Source   string            `help:"Name of the log in place of the hash of its first line." placeholder:"NAME"`
	MaxPaths int               `help:"How many paths have a counter of their own; the rest is path/_other." default:"1000"`
	Follow   bool              `help:"Go on as the log grows and is rotated, like tail -F, until interrupted."`
	LastLine bool              `help:"Count the last line also if it has no end; the log must not grow any more."`
}

// Help is printed by quipu import --help.
func (*importCmd) Help() string {
	return `Counts into the tenant: requests, status/200 and status/2xx and so on, errors (status 400 and above), bytes, lines/unparsed,
path/<path without query>, and the set clients. Each line counts exactly once for ever: import the same log again, a week
later, with several importers at once, or after a kill -9 of importer or server, and nothing is counted twice.`
}

// unparsedShown bounds the lines shown that did not parse.
const unparsedShown = 3

// Run imports; exit 0 means that every whole line of the log is counted.
func (c *importCmd) Run(ctx context.Context) error {
	fields := accesslog.DefaultFields
	for key, member := range c.Field {
		switch key {
		case "status":
			fields.Status = member
		case "path":
			fields.Path = member
		case "bytes":
			fields.Bytes = member
		case "client":
			fields.Client = member
		default:
			return &exitError{exitUsage, fmt.Errorf("--field %s: the fields are status, path, bytes and client", key)}
		}
	}
	if c.MaxPaths < 1 {
		return &exitError{exitUsage, fmt.Errorf("--max-paths %d: it is at least 1", c.MaxPaths)}
	}
	if err := c.reachable(ctx); err != nil {
		return err
	}
	quipud, err := client.New(client.Config{Servers: c.Server, Tenant: c.Tenant, Timeout: max(c.Within, time.Minute), NoIDs: true})
	if err != nil {
		return err
	}
	p := newProgress()
	shown := 0
	cfg := accesslog.Config{
		Client: quipud, Parser: accesslog.Parser{Format: accesslog.Format(c.Format), Fields: fields},
		Source: c.Source, MaxPaths: c.MaxPaths, LastLine: c.LastLine,
		OnUnparsed: func(line []byte) {
			if shown++; shown <= unparsedShown {
				p.line("not parsed: %.200q", line)
			}
		},
		OnBatch: func(t accesslog.Totals, _ int64) {
			p.update("%d lines, %d requests, %d not parsed", t.Lines, t.Requests, t.Unparsed)
		},
	}
	if c.Follow {
		if c.File == "-" || c.Source != "" || c.LastLine {
			return &exitError{exitUsage, errors.New("--follow takes a file, without --source and --last-line: each log is named by its own first line")}
		}
		err := accesslog.Follow(ctx, cfg, c.File, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		p.done()
		return err
	}
	return c.once(ctx, cfg, p)
}

// reachable fails at once where there is no server; later the importer waits.
func (t *target) reachable(ctx context.Context) error {
	cl, err := t.client()
	if err != nil {
		return err
	}
	return t.explain(cl.Ready(ctx))
}

func (c *importCmd) once(ctx context.Context, cfg accesslog.Config, p *progress) error {
	var im *accesslog.Importer
	if c.File == "-" {
		if c.Source == "" {
			return &exitError{exitUsage, errors.New("standard input needs --source NAME: the name under which its position is kept")}
		}
		var err error
		if im, err = accesslog.NewStream(cfg, os.Stdin); err != nil {
			return err
		}
	} else {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		im = accesslog.NewFile(cfg, f)
	}
	began := time.Now()
	err := im.Run(ctx)
	p.done()
	switch {
	case errors.Is(err, accesslog.ErrOtherLog):
		return fmt.Errorf("%w; if it is to be counted, name it: --source NAME", err)
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted at byte %d: the same command goes on from there", im.Offset())
	case err != nil:
		return fmt.Errorf("%w; the same command goes on where this one ended", c.explain(err))
	}
	return c.report(im, time.Since(began))
}

func (c *importCmd) report(im *accesslog.Importer, took time.Duration) error {
	var rest int64
	if info, err := os.Stat(c.File); err == nil && c.File != "-" {
		rest = max(0, info.Size()-im.Offset())
	}
	t := im.Total()
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(struct {
			accesslog.Totals
			Source    string  `json:"source"`
			Offset    int64   `json:"offset"`
			LeftBytes int64   `json:"leftBytes"`
			Seconds   float64 `json:"seconds"`
		}{t, im.Source(), im.Offset(), rest, took.Seconds()})
	}
	fmt.Printf("counted %d lines in %.1f s: %d requests, %d errors, %d bytes, %d lines not parsed\n",
		t.Lines, took.Seconds(), t.Requests, t.Errors, t.Bytes, t.Unparsed)
	fmt.Printf("the log is counted up to byte %d (source %.16s)\n", im.Offset(), im.Source())
	if rest > 0 {
		fmt.Printf("%d bytes are a last line without an end: left (--last-line counts it)\n", rest)
	}
	return nil
}

// progress writes to standard error: one line that changes, on a terminal only.
type progress struct {
	w       io.Writer
	live    bool
	pending bool
	last    time.Time
}

func newProgress() *progress {
	p := &progress{w: os.Stderr}
	if info, err := os.Stderr.Stat(); err == nil {
		p.live = info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// update shows the line, at most ten times a second.
func (p *progress) update(format string, args ...any) {
	if !p.live || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	p.pending, p.last = true, time.Now()
}

// line writes a line that stays.
func (p *progress) line(format string, args ...any) {
	p.done()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// done ends the changing line.
func (p *progress) done() {
	if p.pending {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.pending = false
	}
}
