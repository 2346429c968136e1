package wal

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the file system under log and state: Pebble's, with one call more.
type FS interface {
	vfs.FS
	// OpenDurable opens an existing file for durable writes.
	OpenDurable(name string) (File, error)
}

// File is a file whose writes are durable when they return. WriteDurable is
// called by one goroutine at a time; ReadAt may run beside it.
type File interface {
	// WriteDurable writes p, whose length and address are multiples of
	// BlockBytes as is off, and returns when it is durable. After an error it
	// is unknown what of p is on disk.
	WriteDurable(p []byte, off int64) error
	ReadAt(p []byte, off int64) (int, error)
	Close() error
	// Method says how writes are made durable.
	Method() string
}

// VFS makes an FS of any Pebble file system: a durable write is a write and a
// sync. Tests use it on memory disks that crash.
func VFS(fs vfs.FS) FS { return syncFS{fs} }

type syncFS struct{ vfs.FS }

func (fs syncFS) OpenDurable(name string) (File, error) {
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return syncFile{f}, nil
}

type syncFile struct{ vfs.File }

func (f syncFile) WriteDurable(p []byte, off int64) error {
	if _, err := f.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(p), off, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %d bytes at %d: %w", len(p), off, err)
	}
	return nil
}

func (f syncFile) Method() string { return "write+sync" }
