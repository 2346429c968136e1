package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quipudb/quipu"
)

const (
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second
	// maxAnswerBytes bounds what is read of an answer: a full batch's is below
	// 4 MiB.
	maxAnswerBytes = 64 << 20
)

// request is one call, which may take several attempts.
type request struct {
	method, path string
	body         []byte
	key          string // Idempotency-Key, empty for none
	// repeatable: a second delivery changes nothing. It is a read, or each of
	// its writes carries a request id.
	repeatable bool
	// accept judges an answer: nil if it is final, an *attemptError if the
	// attempt failed and another may succeed, else the final error.
	// maybeApplied says that an earlier attempt got no answer.
	accept func(status int, payload []byte, maybeApplied bool) error
}

// attemptError ends an attempt but not the call.
type attemptError struct {
	err error
	// unknown: the attempt may have been applied.
	unknown bool
	// refused: no connection was made.
	refused bool
	// after is how long the server asks to wait, 0 if it does not.
	after time.Duration
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// send makes attempts, server after server, until one is final, the call may
// not be repeated, or the time is up.
func (c *Client) send(ctx context.Context, r *request) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	maybeApplied, refused := false, 0
	pause := firstPause
	for attempt := 1; ; attempt++ {
		at := c.current.Load()
		err := c.attempt(ctx, c.servers[int(at)%len(c.servers)], r, maybeApplied)
		failed := (*attemptError)(nil)
		if !errors.As(err, &failed) {
			return err
		}
		maybeApplied = maybeApplied || failed.unknown && r.method != http.MethodGet
		if failed.refused {
			refused++
		} else {
			refused = 0
		}
		final := c.conclude(failed.err, maybeApplied)
		switch {
		case failed.unknown && !r.repeatable:
			return final
		case refused >= len(c.servers) && c.config.FailFast:
			return final
		}
		// Another caller may have moved on already.
		c.current.CompareAndSwap(at, at+1)
		wait := time.Duration(0) // the next server at once
		if attempt%len(c.servers) == 0 {
			wait = max(pause/2+rand.N(pause), min(failed.after, maxPause))
			pause = min(2*pause, maxPause)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return final
		}
		if c.config.OnRepeat != nil {
			c.config.OnRepeat(failed.err)
		}
		if ctx.Err() != nil {
			return final
		}
	}
}

// conclude is what the caller is told when no more attempts are made.
func (c *Client) conclude(err error, maybeApplied bool) error {
	e := (*quipu.Error)(nil)
	isOurs := errors.As(err, &e)
	switch {
	case maybeApplied && (!isOurs || e.Outcome() != quipu.Unknown):
		return &quipu.Error{Code: quipu.CodeUnknown, Cause: err}
	case isOurs:
		return err
	default:
		return &quipu.Error{Code: quipu.CodeNotReady, Message: "not applied", Cause: err}
	}
}

func (c *Client) attempt(ctx context.Context, server string, r *request, maybeApplied bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, server+r.path, bytes.NewReader(r.body))
	if err != nil {
		return quipu.Invalid("request", "can't be made: %v", err)
	}
	req.GetBody = nil // or the transport sends a keyed body again by itself, beside our own attempts
	if len(r.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		op := (*net.OpError)(nil)
		if errors.As(err, &op) && op.Op == "dial" {
			return &attemptError{err: fmt.Errorf("%w at %s: %w", ErrNoServer, server, rootOf(err)), refused: true}
		}
		return &attemptError{err: fmt.Errorf("no answer from %s: %w", server, rootOf(err)), unknown: true}
	}
	defer resp.Body.Close()
	payload, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return &attemptError{err: fmt.Errorf("no whole answer from %s: %w", server, err), unknown: true}
	}
	err = r.accept(resp.StatusCode, payload, maybeApplied)
	if failed := (*attemptError)(nil); errors.As(err, &failed) {
		if n, perr := strconv.Atoi(resp.Header.Get("Retry-After")); perr == nil && n > 0 {
			failed.after = time.Duration(n) * time.Second
		}
	}
	return err
}

// rootOf leaves out net/http's own wrapping, which repeats method and URL.
func rootOf(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// statusError turns an answer that is not what the call expects into an error:
// a problem of ours by its type, another's by its status. cause is what was
// wrong with an answer of status 200.
func statusError(status int, payload []byte, cause error) error {
	var p struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
		Field  string `json:"field"`
	}
	if json.Unmarshal(payload, &p) == nil && strings.HasPrefix(p.Type, "urn:quipu:problem:") {
		if p.Type == "urn:quipu:problem:not-found" {
			return quipu.Invalid("path", "is not served: %s", p.Detail)
		}
		e := &quipu.Error{Code: codeOf(p.Type), Message: p.Detail, Field: p.Field}
		if e.Retryable() {
			return &attemptError{err: e, unknown: e.Code == quipu.CodeUnknown}
		}
		return e
	}
	text := strings.TrimSpace(string(payload[:min(len(payload), 200)]))
	switch {
	case status == http.StatusTooManyRequests:
		return &attemptError{err: &quipu.Error{Code: quipu.CodeBusy, Message: text}}
	case status == http.StatusOK:
		return &attemptError{err: cause, unknown: true}
	case status >= 500:
		// A proxy between: whether it passed the request on is not known.
		return &attemptError{err: fmt.Errorf("status %d: %s", status, text), unknown: true}
	default:
		return &quipu.Error{Code: quipu.CodeInvalid, Message: fmt.Sprintf("status %d: %s", status, text)}
	}
}

// read gets a JSON document.
func (c *Client) read(ctx context.Context, path string, query url.Values, answer any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.send(ctx, &request{method: http.MethodGet, path: path, repeatable: true,
		accept: func(status int, payload []byte, _ bool) error {
			if status != http.StatusOK {
				return statusError(status, payload, nil)
			}
			if answer == nil {
				return nil
			}
			if err := json.Unmarshal(payload, answer); err != nil {
				return statusError(status, nil, fmt.Errorf("read the answer to %s: %w", path, err))
			}
			return nil
		}})
}
