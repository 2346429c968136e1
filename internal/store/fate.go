package store

// Fate says what became of a batch entry in the log.
type Fate uint8

const (
	// Applied: the batch took effect now.
	Applied Fate = iota + 1
	// Duplicate: its number was applied before; the results are those kept.
	Duplicate
	// Gap: the number before it has not been applied; nothing was. Send again.
	Gap
	// Ended: the incarnation ended before this number; nothing was applied, and
	// nothing will be.
	Ended
)

// String returns the fate's name.
func (f Fate) String() string {
	switch f {
	case Applied:
		return "applied"
	case Duplicate:
		return "duplicate"
	case Gap:
		return "gap"
	case Ended:
		return "ended"
	default:
		return "no fate"
	}
}

// KeptResults is for how many of an incarnation's last batches the results are
// kept: as many as may be under way at once.
const KeptResults = 4
