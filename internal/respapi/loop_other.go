//go:build !linux

package respapi

import (
	"errors"
	"net"
)

// loop is served on Linux only; elsewhere a connection has a goroutine.
type loop struct{}

func newLoop(*Server) (*loop, error) { return nil, errors.ErrUnsupported }

func (*loop) add(net.Conn, int64) bool { return false }
func (*loop) shutdown(bool)            {}
func (*loop) run()                     {}
