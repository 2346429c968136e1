package ledger

import (
	"bytes"
	"testing"
)

// FuzzDecodeEntry: no bytes make the decoder panic, and what it accepts it
// encodes and decodes again to the same.
func FuzzDecodeEntry(f *testing.F) {
	w := newWorld(f, 1)
	for range 5 {
		a, _ := w.batch()
		f.Add(AppendEntry(nil, &Entry{Type: EntryBatch, Stamp: 5, Number: 7, Batch: a}))
	}
	f.Add(AppendEntry(nil, &Entry{Type: EntryBegin, Node: "n"}))
	f.Add(AppendEntry(nil, &Entry{Type: EntrySettings, Settings: Settings{1, 2}}))
	w.ledger.Close()
	f.Fuzz(func(t *testing.T, data []byte) {
		var e, again Entry
		if DecodeEntry(data, &e) != nil {
			return
		}
		once := AppendEntry(nil, &e)
		if err := DecodeEntry(once, &again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if twice := AppendEntry(nil, &again); !bytes.Equal(once, twice) {
			t.Fatalf("encoded as %x, then as %x", once, twice)
		}
	})
}
