// Package client is the Go client of Quipu. It is synchronous and safe for
// concurrent use, and it needs nothing but package quipu and the standard
// library.
//
// It promises that each call ends in one of three ways, and says in which: nil
// (applied), an error whose outcome is not applied (repeat it freely), or an
// error that matches quipu.ErrUnknown (only a repeat with the same request id
// is safe). Every write carries a request id unless Config.NoIDs says
// otherwise. So the client itself repeats what got no answer, under the same
// id and over all servers in turn, and reports an unknown outcome only when
// Config.Timeout has passed.
//
// The common operations are methods of [Client]; [Client.Do], [Client.Batch]
// and [Client.Atomic] take any [quipu.Op] with all its options.
package client

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
)

const (
	// DefaultServer is where a client looks when no server is given.
	DefaultServer = "http://127.0.0.1:8080"
	// MaxBatchOps is how many operations a server takes in one batch.
	MaxBatchOps = 10_000

	defaultTimeout        = 30 * time.Second
	defaultAttemptTimeout = 7 * time.Second // a server's own deadline is 5 s
)

// ErrNoServer is the cause of an error when no server accepted a connection.
var ErrNoServer = errors.New("no server")

// Config says where the servers are and how long to try. The zero Config is
// usable.
type Config struct {
	// Servers are base URLs of the nodes of one cluster, DefaultServer if
	// empty. One is used until it fails, then the next.
	Servers []string
	// Tenant owns the names of operations that name no tenant;
	// quipu.DefaultTenant if empty.
	Tenant string
	// HTTPClient sends the requests; the client's own if nil.
	HTTPClient *http.Client
	// Timeout bounds a call with all its repeats, 30 s if 0. When it passes,
	// the error says whether the outcome is unknown or not applied.
	Timeout time.Duration
	// AttemptTimeout bounds one request, 7 s if 0: longer than a server's own
	// deadline, after which it says "unknown" by itself.
	AttemptTimeout time.Duration
	// FailFast returns at once when no server accepts a connection. Without it
	// the client goes on trying until Timeout.
	FailFast bool
	// NoIDs sends writes without request ids, except where an operation has
	// its own. A write whose answer is lost is then never repeated: it is
	// reported as unknown.
	NoIDs bool
	// OnRepeat, if not nil, is told why an attempt failed before the next is
	// made. It is called concurrently.
	OnRepeat func(error)
	// Now is the clock of the request ids, time.Now if nil.
	Now func() time.Time
}

// Client talks to the servers of one cluster.
type Client struct {
	config  Config
	servers []string
	http    *http.Client
	ids     *quipu.IDSource
	current *atomic.Uint32 // index of the server that answered last
}

// New returns a client. It opens no connection.
func New(config Config) (*Client, error) {
	c := &Client{config: config, http: config.HTTPClient, ids: quipu.NewIDSource(config.Now), current: new(atomic.Uint32)}
	if c.config.Tenant == "" {
		c.config.Tenant = quipu.DefaultTenant
	}
	if c.config.Timeout <= 0 {
		c.config.Timeout = defaultTimeout
	}
	if c.config.AttemptTimeout <= 0 {
		c.config.AttemptTimeout = defaultAttemptTimeout
	}
	if err := quipu.ValidateTenant(c.config.Tenant); err != nil {
		return nil, err
	}
	servers := config.Servers
	if len(servers) == 0 {
		servers = []string{DefaultServer}
	}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, quipu.Invalid("server", "%q is not a URL such as %s", s, DefaultServer)
		}
		c.servers = append(c.servers, strings.TrimRight(s, "/"))
	}
	if c.http == nil {
		c.http = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     60 * time.Second,
			DisableCompression:  true,
		}}
	}
	return c, nil
}

// Servers returns the base URLs, in the order given.
func (c *Client) Servers() []string { return c.servers }

// Tenant returns the tenant of operations that name none.
func (c *Client) Tenant() string { return c.config.Tenant }

// WithTenant returns a client on the same servers and connections for another
// tenant.
func (c *Client) WithTenant(tenant string) (*Client, error) {
	if err := quipu.ValidateTenant(tenant); err != nil {
		return nil, err
	}
	d := *c
	d.config.Tenant = tenant
	return &d, nil
}

// NewID returns a fresh request id, for callers that repeat operations
// themselves, for instance after a restart.
func (c *Client) NewID() quipu.RequestID { return c.ids.Next() }

// CloseIdle closes the connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Add adds delta to the counter, creating it at 0, and returns the new value.
func (c *Client) Add(ctx context.Context, name string, delta int64) (int64, error) {
	r, err := c.Do(ctx, quipu.Op{Kind: quipu.KindAdd, Name: name, Value: delta})
	return r.Value, err
}

// Set makes the counter's value value.
func (c *Client) Set(ctx context.Context, name string, value int64) error {
	_, err := c.Do(ctx, quipu.Op{Kind: quipu.KindSet, Name: name, Value: value})
	return err
}

// Reset makes the counter's value 0 and returns the former one.
func (c *Client) Reset(ctx context.Context, name string) (int64, error) {
	r, err := c.Do(ctx, quipu.Op{Kind: quipu.KindReset, Name: name})
	return r.Old, err
}

// Delete removes the counter or set, if there is one, and returns what it
// held: the value or the number of items.
func (c *Client) Delete(ctx context.Context, name string) (int64, error) {
	r, err := c.Do(ctx, quipu.Op{Kind: quipu.KindDelete, Name: name})
	return r.Old, err
}

// Get returns the counter's value, 0 for an absent one.
func (c *Client) Get(ctx context.Context, name string) (int64, error) {
	r, err := c.Do(ctx, quipu.Op{Kind: quipu.KindGet, Name: name})
	return r.Value, err
}

// AddItems adds items to the set and returns how many of them were new. It
// sends at most MaxBatchOps items at a time: on an error the batches before it
// have been applied.
func (c *Client) AddItems(ctx context.Context, set string, items ...string) (int, error) {
	added := 0
	ops := make([]quipu.Op, 0, min(len(items), MaxBatchOps))
	for len(items) > 0 {
		n := min(len(items), MaxBatchOps)
		ops = ops[:0]
		for _, item := range items[:n] {
			ops = append(ops, quipu.Op{Kind: quipu.KindAddItem, Name: set, Item: item})
		}
		results, err := c.Batch(ctx, ops)
		if err != nil {
			return added, err
		}
		for i := range results {
			if results[i].Changed {
				added++
			}
		}
		for i := range results {
			if err := results[i].Err(); err != nil {
				return added, err
			}
		}
		items = items[n:]
	}
	return added, nil
}

// Count returns how many items the set has, 0 for an absent one.
func (c *Client) Count(ctx context.Context, set string) (int64, error) {
	var answer struct {
		Count int64 `json:"count"`
	}
	err := c.read(ctx, c.tenantPath("sets", set, "count"), nil, &answer)
	return answer.Count, err
}

// Counter is an entry of a list.
type Counter struct {
	Name     string `json:"name"`
	Value    int64  `json:"value"`
	Revision uint64 `json:"revision"`
}

// List asks for a page of the tenant's counters.
type List struct {
	// Prefix restricts to names that begin with it.
	Prefix string
	// Limit bounds the page; the server's own limit if 0.
	Limit int
	// Cursor is the cursor of the page before; empty starts at the front.
	Cursor string
}

// ListPage is a page of counters, in byte order of their names. Cursor is empty
// on the last page.
type ListPage struct {
	Counters []Counter `json:"counters"`
	Cursor   string    `json:"cursor"`
}

// List returns one page. Most callers want [Client.Counters].
func (c *Client) List(ctx context.Context, l List) (ListPage, error) {
	q := url.Values{}
	if l.Prefix != "" {
		q.Set("prefix", l.Prefix)
	}
	if l.Limit > 0 {
		q.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.Cursor != "" {
		q.Set("cursor", l.Cursor)
	}
	var page ListPage
	err := c.read(ctx, c.tenantPath("counters"), q, &page)
	return page, err
}

// Counters yields all counters whose name begins with prefix, page by page. It
// ends after the first error.
func (c *Client) Counters(ctx context.Context, prefix string) iter.Seq2[Counter, error] {
	return func(yield func(Counter, error) bool) {
		l := List{Prefix: prefix}
		for {
			page, err := c.List(ctx, l)
			if err != nil {
				yield(Counter{}, err)
				return
			}
			for _, counter := range page.Counters {
				if !yield(counter, nil) {
					return
				}
			}
			if page.Cursor == "" {
				return
			}
			l.Cursor = page.Cursor
		}
	}
}

// Ready returns nil if a server says that it is ready to count.
func (c *Client) Ready(ctx context.Context) error {
	return c.read(ctx, "/readyz", nil, nil)
}

// tenantPath returns /v1/tenants/<tenant>/<parts…>, escaped.
func (c *Client) tenantPath(parts ...string) string {
	var b strings.Builder
	b.WriteString("/v1/tenants/")
	b.WriteString(escape(c.config.Tenant))
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(escape(p))
	}
	return b.String()
}

// escape is url.PathEscape, but for names of dots only, which servers and
// proxies would take for steps in the path.
func escape(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}
