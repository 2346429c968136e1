//go:build !unix

package node

// cpuMicroseconds is not told on this system.
func cpuMicroseconds() uint64 { return 0 }
