package storetest

import (
	"os"
	"strings"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// table is what docs/guarantees.md says of what each store serves, by row and
// column.
type table map[string]map[string]bool

// features are the rows beside the kinds of operations.
var features = []string{"request id", "precondition", "bounds", "expiry", "group", "atomic group", "list", "size"}

// readTable reads the table under the heading "What each store serves". The
// packages of stores lie two folders below the module's root.
func readTable(t *testing.T) table {
	t.Helper()
	doc, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "## What each store serves\n")
	if !ok {
		t.Fatal("docs/guarantees.md has no table of what each store serves")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var head []string
	rows := make(table)
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case head == nil:
			head = cells
			continue
		case strings.HasPrefix(cells[0], "--"):
			continue
		case len(cells) != len(head):
			t.Fatalf("the row %q has %d cells, the head %d", line, len(cells), len(head))
		}
		served := make(map[string]bool)
		for i, cell := range cells[1:] {
			if cell != "yes" && cell != "no" {
				t.Fatalf("the row %q says %q: it is yes or no", line, cell)
			}
			served[head[i+1]] = cell == "yes"
		}
		rows[cells[0]] = served
	}
	return rows
}

// column returns what one store serves, by row.
func (r table) column(t *testing.T, name string) map[string]bool {
	t.Helper()
	served := make(map[string]bool)
	for row, cells := range r {
		yes, ok := cells[name]
		if !ok {
			t.Fatalf("docs/guarantees.md has no column %q", name)
		}
		served[row] = yes
	}
	return served
}

// kinds are all kinds of operations.
func kinds() []quipu.Kind {
	var all []quipu.Kind
	for k := quipu.Kind(1); k.Valid(); k++ {
		all = append(all, k)
	}
	return all
}

// checkServed sends one operation for each row of the table: what the table
// says is served must not be refused as unsupported, all else must be.
func checkServed(w *world, served map[string]bool) {
	code := func(b *store.Batch) quipu.Code {
		commit(w.store, b)
		if b.Code != quipu.CodeOK {
			return b.Code
		}
		return b.Results[len(b.Results)-1].Code
	}
	check := func(row string, got quipu.Code) {
		want := quipu.CodeOK
		if !served[row] {
			want = quipu.CodeUnsupported
		}
		if got != want {
			w.Errorf("%s: %v; the table says served: %v", row, got, served[row])
		}
	}
	for _, k := range kinds() {
		check(k.String(), code(batch(sample(k, k.String()))))
	}
	check("request id", code(batch(add("f", 1, withID(w.ids.Next())))))
	check("precondition", code(batch(add("f", 1, ifExists()))))
	check("bounds", code(batch(add("f", 1, upper(10)))))
	check("expiry", code(batch(add("f", 1, expires(60_000)))))
	check("group", code(group(batch(), store.Group{}, add("f", 1), add("f", 1))))
	check("atomic group", code(group(batch(), store.Group{AllOrNothing: true}, add("f", 1), add("f", 1))))
	_, err := w.store.List(w.Context(), store.ListRequest{Tenant: quipu.DefaultTenant, Limit: 1})
	check("list", codeOf(err))
	_, err = w.store.Size(w.Context(), quipu.DefaultTenant)
	check("size", codeOf(err))
}
