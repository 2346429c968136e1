package raftstore

import (
	"errors"
	"fmt"

	"github.com/quipudb/quipu/internal/datadir"
	"github.com/quipudb/quipu/internal/ledger"
	"github.com/quipudb/quipu/internal/wal"
)

// Report is what Verify found.
type Report struct {
	Node  datadir.Node  `json:"node"`
	Log   wal.Report    `json:"log"`
	State ledger.Report `json:"state"`
}

// Verify checks a data folder that no process uses: checksums of log and
// state, the state's invariants, and that the two belong together. It returns
// all damage it found, joined; it changes nothing but takes the folder's lock.
func Verify(dir string) (Report, error) {
	fs := wal.DiskFS()
	var r Report
	node, err := datadir.Read(fs, dir)
	if err != nil {
		return r, err
	}
	r.Node = node
	d, err := datadir.Open(dir, datadir.Options{NodeName: node.Name})
	if err != nil {
		return r, err
	}
	defer d.Close()
	var logErr, stateErr error
	if r.Log, logErr = wal.Verify(d.WAL(), fs); logErr != nil {
		logErr = fmt.Errorf("log: %w", logErr)
	}
	if r.State, stateErr = ledger.Verify(d.State(), fs); stateErr != nil {
		stateErr = fmt.Errorf("state: %w", stateErr)
	}
	return r, errors.Join(logErr, stateErr)
}
