package node

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/raftstore"
)

// metrics are the node's figures for Prometheus. What the parts count
// themselves is read when it is scraped; only distributions are told as they
// happen.
type metrics struct {
	registry     *prometheus.Registry
	write        prometheus.Histogram
	commit       prometheus.Histogram
	batchOps     prometheus.Histogram
	batchRecords prometheus.Histogram
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		write: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quipu_log_write_duration_seconds", Help: "Time of one durable write of the log.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2, 16),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quipu_commit_duration_seconds", Help: "Time from forming a batch to its results.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2, 16),
		}),
		batchOps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quipu_batch_operations", Help: "Operations in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		batchRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quipu_batch_records", Help: "Records in a batch, after folding.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quipu_build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.write, m.commit, m.batchOps, m.batchRecords, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observeWrite(_ int, took time.Duration) { m.write.Observe(took.Seconds()) }

func (m *metrics) observeBatch(ops, records, _ int, took time.Duration) {
	m.commit.Observe(took.Seconds())
	m.batchOps.Observe(float64(ops))
	m.batchRecords.Observe(float64(records))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// reader collects metrics from a function that reads them all at once.
type reader func(emit func(name, help string, kind prometheus.ValueType, value float64))

// Describe implements prometheus.Collector; a reader's metrics are unchecked.
func (r reader) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r reader) Collect(ch chan<- prometheus.Metric) {
	r(func(name, help string, kind prometheus.ValueType, value float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), kind, value)
	})
}

const (
	total = prometheus.CounterValue
	gauge = prometheus.GaugeValue
)

// readPool tells the pool's figures.
func readPool(p *pool.Pool) reader {
	return func(emit func(string, string, prometheus.ValueType, float64)) {
		s := p.Stats()
		emit("quipu_batches_total", "Batches that ended.", total, float64(s.Batches))
		emit("quipu_operations_total", "Operations answered by the store.", total, float64(s.Ops))
		emit("quipu_records_total", "Records that the operations were folded to.", total, float64(s.Records))
		emit("quipu_replays_total", "Operations answered as replays of a request id.", total, float64(s.Replayed))
		emit("quipu_operations_refused_total", "Operations refused before they had a place in the log.", total, float64(s.Refused))
		emit("quipu_operations_busy_total", "Of these, because the queue was full.", total, float64(s.Busy))
		emit("quipu_operations_unknown_total", "Operations whose outcome was unknown to the caller.", total, float64(s.Unknown))
		emit("quipu_cold_submissions_total", "Submissions that waited for a disk read.", total, float64(s.Loads))
		emit("quipu_queue_operations", "Operations that wait to be committed.", gauge, float64(s.QueuedOps))
		emit("quipu_queue_bytes", "Bytes that wait to be committed.", gauge, float64(s.QueuedBytes))
	}
}

// readStore tells the store's figures.
func readStore(st *raftstore.Store) reader {
	return func(emit func(string, string, prometheus.ValueType, float64)) {
		s := st.Stats()
		emit("quipu_log_writes_total", "Durable writes of the log.", total, float64(s.Writes))
		emit("quipu_log_written_bytes_total", "Bytes of entries written to the log.", total, float64(s.WrittenBytes))
		emit("quipu_log_behind_bytes", "Bytes of entries since the last checkpoint.", gauge, float64(s.LogBytes))
		emit("quipu_applied_index", "Index of the last entry applied.", gauge, float64(s.Ledger.AppliedIndex))
		emit("quipu_checkpoint_index", "Index of the last checkpoint.", gauge, float64(s.Ledger.CheckpointIndex))
		emit("quipu_checkpoints_total", "Checkpoints written.", total, float64(s.Ledger.Checkpoints))
		emit("quipu_hot_entries", "Entries kept in memory.", gauge, float64(s.Ledger.HotEntries))
		emit("quipu_hot_bytes", "Bytes kept in memory for them.", gauge, float64(s.Ledger.HotBytes))
		emit("quipu_dirty_bytes", "Bytes changed since the last checkpoint.", gauge, float64(s.Ledger.DirtyBytes))
		emit("quipu_state_disk_bytes", "Bytes of the state on disk.", gauge, float64(s.Ledger.DiskBytes))
		emit("quipu_cold_applies_total", "Names and ids that had to be read from disk while applying.", total, float64(s.Ledger.ColdApplies))
		full := 0.0
		if s.DiskFull {
			full = 1
		}
		emit("quipu_disk_full", "1 while writes are refused for want of free space.", gauge, full)
	}
}
