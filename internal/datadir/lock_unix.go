//go:build unix

package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lockFolder takes the folder's lock. On the machine's own file system it is
// flock(2), which the kernel gives back when the process ends in whatever way,
// and the file's text names the holder.
func lockFolder(fsys vfs.FS, path string, real bool) (io.Closer, error) {
	if !real {
		return fsys.Lock(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 256))
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("in use by %s: stop that process, or use another folder", orUnknown(string(holder)))
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	text := fmt.Sprintf("process %d, started %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write LOCK: %w", err)
	}
	return f, nil
}

func orUnknown(holder string) string {
	if s := strings.TrimSpace(holder); s != "" {
		return s
	}
	return "another process"
}
