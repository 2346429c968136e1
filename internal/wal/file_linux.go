package wal

import (
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// diskFS is the machine's file system.
type diskFS struct{ vfs.FS }

var disk FS = &diskFS{vfs.Default}

// DiskFS returns the machine's file system. Durable writes go through
// O_DIRECT|O_DSYNC, one system call each, or where that is refused (tmpfs,
// some network file systems) through pwrite and fdatasync.
func DiskFS() FS { return disk }

func (fs *diskFS) OpenDurable(name string) (File, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_DIRECT|unix.O_DSYNC|unix.O_CLOEXEC, 0)
	direct := err == nil
	if !direct {
		if fd, err = unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
	// Reads go beside: a direct file would want them aligned.
	reads, err := os.Open(name)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &diskFile{fd: fd, direct: direct, reads: reads}, nil
}

// diskFile uses ordinary blocking system calls: the runtime's poller can't
// wait for a disk, and its bookkeeping costs.
type diskFile struct {
	fd     int
	direct bool
	reads  *os.File
}

func (f *diskFile) WriteDurable(p []byte, off int64) error {
	for done := 0; done < len(p); {
		n, err := unix.Pwrite(f.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write %d bytes at %d: %w", len(p), off, err)
		}
		if n == 0 || f.direct && n%BlockBytes != 0 {
			return fmt.Errorf("write %d bytes at %d: %w after %d", len(p), off, io.ErrShortWrite, done+n)
		}
		done += n
	}
	if f.direct {
		return nil
	}
	for {
		err := unix.Fdatasync(f.fd)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("sync %d bytes at %d: %w", len(p), off, err)
		}
		return nil
	}
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) { return f.reads.ReadAt(p, off) }

func (f *diskFile) Method() string {
	if f.direct {
		return "O_DIRECT|O_DSYNC"
	}
	return "pwrite+fdatasync"
}

func (f *diskFile) Close() error {
	err := unix.Close(f.fd)
	if rerr := f.reads.Close(); err == nil {
		err = rerr
	}
	return err
}
