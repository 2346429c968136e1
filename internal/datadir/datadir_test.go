package datadir

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func mustOpen(t *testing.T, fs vfs.FS, name string) *Dir {
	t.Helper()
	d, err := Open("data", Options{FS: fs, NodeName: name})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	d := mustOpen(t, fs, "a")
	first := d.Node()
	if err := d.MarkReady(); err != nil {
		t.Fatal(err)
	}
	id, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	d.Close()

	d = mustOpen(t, fs, "a")
	n := d.Node()
	if n.Cluster != first.Cluster || len(n.Unconfirmed) != 1 || n.Unconfirmed[0] != id {
		t.Fatalf("reopened as %+v", n)
	}
	if err := d.Confirm(id, 7); err != nil {
		t.Fatal(err)
	}
	d.Close()
	n = mustOpen(t, fs, "a").Node()
	if n.Incarnation != id || n.ConfirmedAt != 7 || len(n.Unconfirmed) != 0 {
		t.Fatalf("after confirm: %+v", n)
	}
}

func TestRefusals(t *testing.T) {
	ready := func(t *testing.T) vfs.FS {
		fs := vfs.NewMem()
		d := mustOpen(t, fs, "a")
		if err := d.MarkReady(); err != nil {
			t.Fatal(err)
		}
		d.Close()
		return fs
	}
	change := func(t *testing.T, fs vfs.FS, edit func(string) string) {
		n, err := readNode(fs, "data/NODE")
		if err != nil {
			t.Fatal(err)
		}
		data, _ := encodeNode(n)
		f, err := fs.Create("data/NODE", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(edit(string(data))))
		f.Close()
	}
	cases := []struct {
		name string
		node string
		prep func(*testing.T, vfs.FS)
		want string
	}{
		{"another node", "b", func(*testing.T, vfs.FS) {}, `belongs to node "a"`},
		{"no NODE", "a", func(t *testing.T, fs vfs.FS) {
			fs.Remove("data/NODE")
			f, _ := fs.Create("data/wal/x", vfs.WriteCategoryUnspecified)
			f.Close()
		}, "NODE is not"},
		{"newer format", "a", func(t *testing.T, fs vfs.FS) {
			change(t, fs, func(s string) string { return strings.Replace(s, "quipu-node 1", "quipu-node 2", 1) })
		}, "format 2"},
		{"flipped bit", "a", func(t *testing.T, fs vfs.FS) {
			change(t, fs, func(s string) string { return strings.Replace(s, `"name":"a"`, `"name":"c"`, 1) })
		}, "checksum"},
		{"cut short", "a", func(t *testing.T, fs vfs.FS) {
			change(t, fs, func(s string) string { return s[:len(s)/2] })
		}, "damaged"},
		{"empty", "a", func(t *testing.T, fs vfs.FS) {
			change(t, fs, func(string) string { return "" })
		}, "damaged"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fs := ready(t)
			c.prep(t, fs)
			_, err := Open("data", Options{FS: fs, NodeName: c.node})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestHalfMade: a folder whose making was cut off at any file operation is
// made anew.
func TestHalfMade(t *testing.T) {
	fs := vfs.NewMem()
	d := mustOpen(t, fs, "a")
	f, err := fs.Create("data/wal/rest", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	d.Close()
	d = mustOpen(t, fs, "a")
	if names, _ := fs.List("data/wal"); len(names) != 0 {
		t.Fatalf("wal/ still holds %v", names)
	}
	d.Close()
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{NodeName: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Open(dir, Options{NodeName: "a"}); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Fatalf("second open: %v", err)
	}
	d.Close()
	d, err = Open(dir, Options{NodeName: "a"})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func FuzzDecodeNode(f *testing.F) {
	data, _ := encodeNode(Node{Name: "a", Unconfirmed: []ID{{1}}})
	f.Add(data)
	f.Add([]byte("quipu-node 1\n{}\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := decodeNode(data)
		if err != nil {
			return
		}
		again, err := encodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeNode(again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
	})
}
