package raftstore

import "time"

// clock gives the stamps of a single voter's entries, in milliseconds since
// the Unix epoch. It follows the machine's monotonic clock and is drawn
// towards the wall clock by at most one part in a hundred, so that a jump of
// the wall clock never makes time stand still, jump or go back: neither a
// request id nor an expiry is judged by such a jump. It is not safe for
// concurrent use.
type clock struct {
	now  func() time.Time
	seen time.Time     // the last reading; carries the monotonic one
	at   time.Duration // since the epoch, what the clock showed then
}

// newClock starts at the wall clock, or at the last stamp of the log if that
// is later.
func newClock(now func() time.Time, lastStamp int64) *clock {
	c := &clock{now: now, seen: now()}
	c.at = max(wall(c.seen), time.Duration(lastStamp)*time.Millisecond)
	return c
}

func wall(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }

// maxDrawPart is the part of elapsed time by which the clock may be drawn.
const maxDrawPart = 100

func (c *clock) stamp() int64 {
	t := c.now()
	elapsed := max(t.Sub(c.seen), 0)
	c.seen = t
	c.at += elapsed
	draw := elapsed / maxDrawPart
	c.at += min(max(wall(t)-c.at, -draw), draw)
	return c.at.Milliseconds()
}
