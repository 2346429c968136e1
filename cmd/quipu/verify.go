package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/quipudb/quipu/internal/raftstore"
)

type verifyCmd struct {
	Dir  string `arg:"" help:"Data folder."`
	JSON bool   `help:"Print the report as JSON."`
}

// Run checks the folder; damage exits with 3.
func (c *verifyCmd) Run() error {
	r, err := raftstore.Verify(c.Dir)
	if c.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if jerr := enc.Encode(r); jerr != nil {
			return jerr
		}
	} else if err == nil {
		fmt.Printf("node %s, cluster %s\n", r.Node.Name, r.Node.Cluster)
		fmt.Printf("log: %d segments, entries %d to %d, %d bytes\n", r.Log.Segments, r.Log.FirstIndex, r.Log.LastIndex, r.Log.Bytes)
		fmt.Printf("state: entry %d, %d names, %d items, %d request ids\n", r.State.Index, r.State.Names, r.State.Items, r.State.RequestIDs)
		for _, t := range r.State.Tenants {
			fmt.Printf("  %s: %d counters (sum %d), %d sets (%d items)\n", t.Name, t.Counters, t.Sum, t.Sets, t.Items)
		}
		fmt.Println("no damage found")
	}
	if err != nil {
		return &exitError{exitDamage, err}
	}
	return nil
}
