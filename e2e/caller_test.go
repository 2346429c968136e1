package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quipudb/quipu"
)

// caller is one connection to one edge. It sends one operation at a time and
// never sends one again by itself.
type caller struct {
	edge string // "http" or "resp"
	addr string
	conn net.Conn
	in   *bufio.Reader
	read int // bytes of the answer under way
}

// errNotSent is a call that never left: no connection could be made.
var errNotSent = errors.New("not sent")

func (s *server) caller(edge string) *caller {
	addr := s.http
	if edge == "resp" {
		addr = s.resp
	}
	return &caller{edge: edge, addr: addr}
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// Read counts what has come of an answer.
func (c *caller) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	c.read += n
	return n, err
}

// call sends an operation, with a request id unless it is empty, and reads its
// answer. After an error that is not errNotSent the outcome is unknown; the
// connection is closed.
func (c *caller) call(op quipu.Op, id string) (quipu.Result, error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, 10*time.Second)
		if err != nil {
			return quipu.Result{}, fmt.Errorf("%w: %w", errNotSent, err)
		}
		c.conn, c.in = conn, bufio.NewReader(c)
	}
	c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	c.read = 0
	request, answer := httpRequest, c.httpAnswer
	if c.edge == "resp" {
		request, answer = respRequest, c.respAnswer
	}
	_, err := io.WriteString(c.conn, request(op, id))
	var res quipu.Result
	if err == nil {
		res, err = answer()
	}
	if err != nil {
		c.close()
		return quipu.Result{Code: quipu.CodeUnknown}, err
	}
	return res, nil
}

func httpRequest(op quipu.Op, id string) string {
	path := "/v1/tenants/default/counters/" + op.Name
	if op.Kind == quipu.KindGet {
		return "GET " + path + " HTTP/1.1\r\nHost: quipu\r\n\r\n"
	}
	body := fmt.Sprintf(`{"delta":%d}`, op.Value)
	head := ""
	if id != "" {
		head = "Idempotency-Key: " + id + "\r\n"
	}
	return fmt.Sprintf("POST %s/add HTTP/1.1\r\nHost: quipu\r\n%sContent-Length: %d\r\n\r\n%s", path, head, len(body), body)
}

func (c *caller) httpAnswer() (quipu.Result, error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return quipu.Result{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return quipu.Result{}, err
	}
	var a struct {
		Value    int64
		Replayed bool
		Outcome  string
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return quipu.Result{}, fmt.Errorf("%s: %s: %w", resp.Status, body, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return quipu.Result{Value: a.Value, Replayed: a.Replayed}, nil
	case resp.StatusCode == http.StatusNotFound:
		return quipu.Result{}, nil
	case a.Outcome == quipu.NotApplied.String():
		return quipu.Result{Code: quipu.CodeNotReady}, nil
	default:
		return quipu.Result{Code: quipu.CodeUnknown}, nil
	}
}

func respRequest(op quipu.Op, id string) string {
	switch {
	case op.Kind == quipu.KindGet:
		return "GET " + op.Name + "\r\n"
	case id != "":
		return fmt.Sprintf("QUIPU.ONCE %s INCRBY %s %d\r\n", id, op.Name, op.Value)
	default:
		return fmt.Sprintf("INCRBY %s %d\r\n", op.Name, op.Value)
	}
}

func (c *caller) respAnswer() (quipu.Result, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return quipu.Result{}, err
	}
	line = strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(line, "-UNKNOWN"):
		return quipu.Result{Code: quipu.CodeUnknown}, nil
	case strings.HasPrefix(line, "-TRYAGAIN"), strings.HasPrefix(line, "-BUSY"):
		return quipu.Result{Code: quipu.CodeNotReady}, nil
	case line == "$-1":
		return quipu.Result{}, nil
	case strings.HasPrefix(line, "$"):
		if line, err = c.in.ReadString('\n'); err != nil {
			return quipu.Result{}, err
		}
		line = ":" + strings.TrimSpace(line)
	}
	if !strings.HasPrefix(line, ":") {
		return quipu.Result{}, fmt.Errorf("the answer is %q", line)
	}
	v, err := strconv.ParseInt(line[1:], 10, 64)
	return quipu.Result{Value: v}, err
}

func add(name string, delta int64) quipu.Op {
	return quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant, Name: name, Value: delta}
}

func get(name string) quipu.Op {
	return quipu.Op{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: name}
}
