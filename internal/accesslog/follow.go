package accesslog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/quipudb/quipu"
)

const (
	followPoll = 200 * time.Millisecond
	// followGrace is how long a log that was rotated away may be idle before it
	// is left: its writer may keep it open for a while.
	followGrace = 10 * time.Second
)

// Follow counts the log at path and goes on as it grows, until ctx ends, when
// it returns nil. When another file appears at path, or the file begins anew,
// it goes on with that one, and with the old one until that has not grown for
// ten seconds. While the server can't be reached it waits, and says so in the
// log. cfg.Source must be empty: each file is named by its own first line.
func Follow(ctx context.Context, cfg Config, path string, logger *slog.Logger) error {
	if cfg.Source != "" || cfg.LastLine {
		return errors.New("a log that is followed has neither a source's name nor a last line")
	}
	f := follower{cfg: cfg, path: path, logger: logger}
	defer f.close()
	for {
		if err := f.poll(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(followPoll):
		case <-ctx.Done():
			return nil
		}
	}
}

// follower holds the files being counted; the last is the one at path.
type follower struct {
	cfg     Config
	path    string
	logger  *slog.Logger
	files   []*followed
	waiting bool // for the file or the server, already said
}

type followed struct {
	*Importer
	file  *os.File
	grown time.Time // when it was last seen to grow
	past  bool      // no longer at path
}

func (f *follower) poll(ctx context.Context) error {
	if err := f.look(); err != nil {
		return err
	}
	kept := f.files[:0]
	for _, l := range f.files {
		was := l.Offset()
		if err := f.count(ctx, l); err != nil {
			return err
		}
		if l.Offset() != was {
			l.grown = time.Now()
		}
		if l.past && time.Since(l.grown) > followGrace {
			f.logger.Info("the rotated log is counted", "source", l.Source(), "bytes", l.Offset())
			l.file.Close()
			continue
		}
		kept = append(kept, l)
	}
	f.files = kept
	return nil
}

// count runs an importer; what may pass is logged and tried again.
func (f *follower) count(ctx context.Context, l *followed) error {
	err := l.Run(ctx)
	e := (*quipu.Error)(nil)
	switch {
	case err == nil:
		f.waiting = false
		return nil
	case ctx.Err() != nil:
		return nil
	case errors.As(err, &e) && e.Retryable():
		f.wait("waiting for the server", err)
		return nil
	default:
		return err
	}
}

func (f *follower) wait(what string, err error) {
	if !f.waiting {
		f.logger.Warn(what, "reason", err)
	}
	f.waiting = true
}

// look opens what lies at path if it is not the file that is being counted.
func (f *follower) look() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.wait("waiting for the log", err)
		return nil // between two steps of a rotation
	}
	if err != nil {
		return err
	}
	if n := len(f.files); n > 0 && !f.files[n-1].past {
		current := f.files[n-1]
		old, err := current.file.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(info, old) && current.verify() == nil {
			return nil
		}
		f.logger.Info("the log was rotated", "path", f.path)
		current.past, current.grown = true, time.Now()
		if os.SameFile(info, old) {
			// Begun anew in place: nothing is left of the old one.
			current.file.Close()
			f.files = f.files[:n-1]
		}
	}
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.files = append(f.files, &followed{Importer: NewFile(f.cfg, file), file: file, grown: time.Now()})
	return nil
}

func (f *follower) close() {
	for _, l := range f.files {
		l.file.Close()
	}
}
