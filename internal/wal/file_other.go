//go:build !linux

package wal

import "github.com/cockroachdb/pebble/v2/vfs"

var disk FS = &diskFS{syncFS{vfs.Default}}

type diskFS struct{ syncFS }

// DiskFS returns the machine's file system; a durable write is a write and a
// sync.
func DiskFS() FS { return disk }
