package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quipudb/quipu/internal/dashboard"
	"github.com/quipudb/quipu/internal/httpapi"
	"github.com/quipudb/quipu/internal/nodecounter"
	"github.com/quipudb/quipu/internal/respapi"
)

func (n *Node) respConfig() respapi.Config {
	return respapi.Config{Backend: n.pool, Portable: n.cfg.PortableRESP, Flush: n.cfg.Flush, Node: n.cfg.NodeName, Version: n.cfg.Version, Logger: n.logger}
}

func (n *Node) httpConfig() httpapi.Config {
	return httpapi.Config{
		Backend: n.pool, Ready: n.Ready, Status: n.status, Metrics: n.metrics.handler(), Dashboard: dashboard.Handler(),
		Deadline: n.cfg.Deadline, Window: n.cfg.Window, Logger: n.logger,
	}
}

// requests counts all requests of clients since the start.
func (n *Node) requests() uint64 {
	return n.http.Stats().Requests + n.resp.Stats().Commands
}

// sources are the figures that become the node's counters.
func (n *Node) sources() []nodecounter.Source {
	return []nodecounter.Source{
		{Name: "request_microseconds", Read: func() uint64 { return n.http.Stats().Microseconds }},
		{Name: "errors/http_client", Read: func() uint64 { return n.http.Stats().ClientErrors }},
		{Name: "errors/http_server", Read: func() uint64 { return n.http.Stats().ServerErrors }},
		{Name: "bytes_in", Read: func() uint64 { return n.http.Stats().BytesIn + n.resp.Stats().BytesIn }},
		{Name: "bytes_out", Read: func() uint64 { return n.http.Stats().BytesOut + n.resp.Stats().BytesOut }},
		{Name: "replays", Read: func() uint64 { return n.pool.Stats().Replayed }},
		{Name: "refused", Read: func() uint64 { return n.pool.Stats().Refused }},
		{Name: "cpu_microseconds", Read: cpuMicroseconds},
		{Name: "uptime_seconds", Read: func() uint64 { return uint64(time.Since(n.started) / time.Second) }},
	}
}

// status is what GET /v1/status tells.
type status struct {
	Node        string               `json:"node"`
	Version     string               `json:"version"`
	Cluster     string               `json:"cluster"`
	Incarnation string               `json:"incarnation"`
	Ready       bool                 `json:"ready"`
	Reason      string               `json:"reason,omitempty"`
	HTTP        string               `json:"http"`
	RESP        string               `json:"resp"`
	DataDir     string               `json:"dataDir"`
	WriteMethod string               `json:"writeMethod"`
	Operations  uint64               `json:"operations"`
	Queued      int                  `json:"queued"`
	LogTime     string               `json:"logTime"`
	Figures     []nodecounter.Figure `json:"figures"`
}

func (n *Node) status(ctx context.Context) (any, error) {
	figures, err := n.meter.Figures(ctx, n.pool)
	if err != nil {
		return nil, err
	}
	st, ps := n.store.Stats(), n.pool.Stats()
	s := status{
		Node: n.cfg.NodeName, Version: n.cfg.Version, Cluster: st.Cluster, Incarnation: st.Incarnation, Ready: true,
		HTTP: n.HTTPAddr(), RESP: n.RESPAddr(), DataDir: n.cfg.DataDir, WriteMethod: st.WriteMethod,
		Operations: ps.Ops, Queued: ps.QueuedOps, LogTime: time.UnixMilli(st.LogTime).UTC().Format(time.RFC3339Nano), Figures: figures,
	}
	if err := n.Ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	}
	return s, nil
}

// readEdges tells the edges' figures.
func (n *Node) readEdges() reader {
	return func(emit func(string, string, prometheus.ValueType, float64)) {
		h, r := n.http.Stats(), n.resp.Stats()
		emit("quipu_http_requests_total", "HTTP requests.", total, float64(h.Requests))
		emit("quipu_http_client_errors_total", "HTTP answers of status 4xx.", total, float64(h.ClientErrors))
		emit("quipu_http_server_errors_total", "HTTP answers of status 5xx.", total, float64(h.ServerErrors))
		emit("quipu_http_received_bytes_total", "Bytes of HTTP bodies received.", total, float64(h.BytesIn))
		emit("quipu_http_sent_bytes_total", "Bytes of HTTP bodies sent.", total, float64(h.BytesOut))
		emit("quipu_resp_commands_total", "Commands of the Redis protocol.", total, float64(r.Commands))
		emit("quipu_resp_connections", "Open connections of the Redis protocol.", gauge, float64(r.Connections))
		emit("quipu_resp_refused_connections_total", "Connections refused at the limit.", total, float64(r.Refused))
		emit("quipu_resp_received_bytes_total", "Bytes received over the Redis protocol.", total, float64(r.BytesIn))
		emit("quipu_resp_sent_bytes_total", "Bytes sent over the Redis protocol.", total, float64(r.BytesOut))
	}
}
