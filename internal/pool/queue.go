package pool

// queue is a first-in first-out queue of submissions on a slice.
type queue struct {
	items []*Submission
	head  int
}

func (q *queue) empty() bool { return q.head == len(q.items) }

// front returns the oldest submission, nil if there is none.
func (q *queue) front() *Submission {
	if q.empty() {
		return nil
	}
	return q.items[q.head]
}

func (q *queue) push(s *Submission) {
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, s)
}

func (q *queue) pop() {
	q.items[q.head] = nil
	q.head++
	if q.empty() {
		q.items, q.head = q.items[:0], 0
	}
}

// removeIf takes out the submissions for which gone holds and appends them to
// out.
func (q *queue) removeIf(gone func(*Submission) bool, out []*Submission) []*Submission {
	kept := q.items[:q.head]
	for _, s := range q.items[q.head:] {
		if gone(s) {
			out = append(out, s)
		} else {
			kept = append(kept, s)
		}
	}
	clear(q.items[len(kept):])
	q.items = kept
	return out
}
