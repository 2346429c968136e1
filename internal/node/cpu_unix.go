//go:build unix

package node

import "syscall"

// cpuMicroseconds is the processor time of this process.
func cpuMicroseconds() uint64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return uint64(u.Utime.Sec+u.Stime.Sec)*1_000_000 + uint64(u.Utime.Usec+u.Stime.Usec)
}
