package storetest

import (
	"slices"
	"testing"
)

// TestTable: the table of docs/guarantees.md has a row for each kind of
// operation and each feature, and no other.
func TestTable(t *testing.T) {
	rows := readTable(t)
	want := slices.Clone(features)
	for _, k := range kinds() {
		want = append(want, k.String())
	}
	for _, row := range want {
		if rows[row] == nil {
			t.Errorf("docs/guarantees.md has no row %q", row)
		}
	}
	for row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("docs/guarantees.md has a row %q that is neither a kind of operation nor a feature", row)
		}
	}
}
