package main

import (
	"fmt"
	"net"
	"strconv"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// holder names the process that listens on the port of an address, as far as
// the system tells: another user's processes it keeps to itself.
func holder(addr string) string {
	const unknown = "another process"
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return unknown
	}
	port, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return unknown
	}
	sockets, err := psnet.Connections("tcp")
	if err != nil {
		return unknown
	}
	for _, s := range sockets {
		if s.Status != "LISTEN" || uint64(s.Laddr.Port) != port || s.Pid == 0 {
			continue
		}
		name := ""
		if p, err := process.NewProcess(s.Pid); err == nil {
			if n, err := p.Name(); err == nil {
				name = " (" + n + ")"
			}
		}
		return fmt.Sprintf("process %d%s", s.Pid, name)
	}
	return unknown
}
