//go:build !unix

package datadir

import (
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func lockFolder(fsys vfs.FS, path string, _ bool) (io.Closer, error) { return fsys.Lock(path) }
