//go:build !linux

package ledger

// entryRegion makes memory for entries.
func (t *table) entryRegion(chunks int) []*[chunkLength]entry {
	out := make([]*[chunkLength]entry, chunks)
	for i := range out {
		out[i] = new([chunkLength]entry)
	}
	return out
}
