// Package datadir owns the data folder of a node: who holds it, and whose it
// is.
//
//	DIR/LOCK    held while a process uses the folder; names its pid and start
//	DIR/NODE    who the node is; versioned and checksummed
//	DIR/wal/    the log (package wal)
//	DIR/state/  the state (package ledger)
//
// NODE is written first, marked as not ready, and again once log and state
// have been made: a folder left half-made by a crash has promised nothing and
// is made anew. A folder with log or state but without NODE is refused.
//
// Each start adds a fresh incarnation id to NODE before it is proposed to the
// log, and confirms it when the entry that begins the incarnation is applied.
// So the folder knows every incarnation that the log may know of it, which is
// how a copied or rolled-back folder can be told from the real one.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
)

// Format is the version of NODE that this program writes; older ones it reads.
const Format = 1

const (
	nodeFile = "NODE"
	lockFile = "LOCK"
	walDir   = "wal"
	stateDir = "state"
)

// ID is a random 16-byte identity: of a cluster, or of an incarnation.
type ID [16]byte

// NewID draws an ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("id has %d characters, want %d", len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Node is what NODE holds.
type Node struct {
	Cluster ID     `json:"cluster"`
	RaftID  uint64 `json:"raftId"`
	Name    string `json:"name"`
	// Ready says that log and state have been made.
	Ready bool `json:"ready"`
	// Incarnation is the last one whose beginning was seen applied, at log
	// index ConfirmedAt; zero if there was none.
	Incarnation ID     `json:"incarnation"`
	ConfirmedAt uint64 `json:"confirmedAt"`
	// Unconfirmed are the incarnations begun since: the entry that begins them
	// may or may not be in the log.
	Unconfirmed []ID `json:"unconfirmed"`
}

// maxUnconfirmed bounds the starts that may fail in a row; after it the oldest
// is forgotten, which a single voter never needs.
const maxUnconfirmed = 1024

// Dir is an open, locked data folder. It is not safe for concurrent use.
type Dir struct {
	fs   vfs.FS
	path string
	lock io.Closer
	node Node
}

// Options of Open.
type Options struct {
	// FS is the file system; nil is the machine's own, on which the lock also
	// names its holder.
	FS vfs.FS
	// NodeName is the name the node was started with.
	NodeName string
}

// Open locks and reads the folder, or makes a new one. Errors say what to do.
func Open(path string, opts Options) (*Dir, error) {
	if err := quipu.ValidateName(opts.NodeName); err != nil {
		return nil, fmt.Errorf("node name: %w", err)
	}
	real := opts.FS == nil
	if real {
		opts.FS = vfs.Default
	}
	d := &Dir{fs: opts.FS, path: path}
	if err := makeDurably(d.fs, path); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := lockFolder(d.fs, d.fs.PathJoin(path, lockFile), real)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	d.lock = lock
	if err := d.load(opts.NodeName); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	return d, nil
}

// makeDurably makes a folder and those above it, each entered durably in the
// one above.
func makeDurably(fsys vfs.FS, path string) error {
	if _, err := fsys.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := fsys.PathDir(path)
	if above != path {
		if err := makeDurably(fsys, above); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return syncFolder(fsys, above)
}

func (d *Dir) load(name string) error {
	node, err := readNode(d.fs, d.fs.PathJoin(d.path, nodeFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for _, sub := range []string{walDir, stateDir} {
			if names, err := d.fs.List(d.fs.PathJoin(d.path, sub)); err == nil && len(names) > 0 {
				return fmt.Errorf("%s/ is there but NODE is not: the folder is incomplete; restore NODE from a copy, or start with an empty folder", sub)
			}
		}
		return d.make(name)
	case err != nil:
		return err
	case node.Name != name:
		return fmt.Errorf("it belongs to node %q, not %q: start with --node %s, or use another folder", node.Name, name, node.Name)
	case !node.Ready:
		return d.make(name)
	}
	d.node = node
	return nil
}

// make begins a new folder; nothing in it has been promised yet.
func (d *Dir) make(name string) error {
	for _, sub := range []string{walDir, stateDir} {
		if err := d.fs.RemoveAll(d.fs.PathJoin(d.path, sub)); err != nil {
			return fmt.Errorf("clear a half-made %s/: %w", sub, err)
		}
	}
	d.node = Node{Cluster: NewID(), RaftID: 1, Name: name}
	if err := d.write(); err != nil {
		return err
	}
	for _, sub := range []string{walDir, stateDir} {
		if err := d.fs.MkdirAll(d.fs.PathJoin(d.path, sub), 0o755); err != nil {
			return err
		}
	}
	return d.syncFolder()
}

// MarkReady records that log and state have been made.
func (d *Dir) MarkReady() error {
	if d.node.Ready {
		return nil
	}
	d.node.Ready = true
	return d.write()
}

// Begin adds a fresh incarnation id, durable on return.
func (d *Dir) Begin() (ID, error) {
	id := NewID()
	d.node.Unconfirmed = append(d.node.Unconfirmed, id)
	if n := len(d.node.Unconfirmed); n > maxUnconfirmed {
		d.node.Unconfirmed = d.node.Unconfirmed[n-maxUnconfirmed:]
	}
	return id, d.write()
}

// Confirm records that the incarnation's beginning was applied at the index.
func (d *Dir) Confirm(id ID, index uint64) error {
	d.node.Incarnation, d.node.ConfirmedAt, d.node.Unconfirmed = id, index, nil
	return d.write()
}

// Node returns what NODE holds.
func (d *Dir) Node() Node { return d.node }

// WAL and State return the folders of the log and of the state.
func (d *Dir) WAL() string   { return d.fs.PathJoin(d.path, walDir) }
func (d *Dir) State() string { return d.fs.PathJoin(d.path, stateDir) }

// Close gives the lock back.
func (d *Dir) Close() error { return d.lock.Close() }

// write replaces NODE in one step: a crash leaves the old one or the new one.
func (d *Dir) write() error {
	path := d.fs.PathJoin(d.path, nodeFile)
	data, err := encodeNode(d.node)
	if err != nil {
		return err
	}
	f, err := d.fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write NODE: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.fs.Rename(path+".tmp", path)
	}
	if err == nil {
		err = d.syncFolder()
	}
	if err != nil {
		return fmt.Errorf("write NODE: %w", err)
	}
	return nil
}

func (d *Dir) syncFolder() error { return syncFolder(d.fs, d.path) }

func syncFolder(fsys vfs.FS, path string) error {
	f, err := fsys.OpenDir(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// NODE is three lines, so that a person can read it:
//
//	quipu-node <format>
//	<JSON of Node, one line>
//	crc32c <8 hexadecimal digits, of the two lines above with their newlines>
const nodeMagic = "quipu-node "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeNode(n Node) ([]byte, error) {
	body, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s%d\n%s\n", nodeMagic, Format, body)
	return fmt.Appendf(nil, "%scrc32c %08x\n", text, crc32.Checksum([]byte(text), castagnoli)), nil
}

// maxNodeBytes bounds NODE: names and ids of maxUnconfirmed starts fit.
const maxNodeBytes = 1 << 17

func readNode(fsys vfs.FS, path string) (Node, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return Node{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxNodeBytes+1))
	if err != nil {
		return Node{}, fmt.Errorf("read NODE: %w", err)
	}
	return decodeNode(data)
}

func decodeNode(data []byte) (Node, error) {
	const remedy = "restore NODE from a copy, or start with an empty folder"
	text := string(data)
	var format int
	if _, err := fmt.Sscanf(text, nodeMagic+"%d\n", &format); err != nil {
		return Node{}, fmt.Errorf("NODE is damaged: it does not begin with %q: %s", nodeMagic, remedy)
	}
	if format > Format {
		return Node{}, fmt.Errorf("NODE has format %d, this program knows up to %d: use the newer program that wrote it", format, Format)
	}
	at := strings.LastIndex(strings.TrimSuffix(text, "\n"), "\n") + 1
	var sum uint32
	if _, err := fmt.Sscanf(text[at:], "crc32c %08x\n", &sum); err != nil || sum != crc32.Checksum(data[:at], castagnoli) {
		return Node{}, fmt.Errorf("NODE is damaged: its checksum does not match: %s", remedy)
	}
	lines := strings.SplitN(text[:at], "\n", 3)
	var n Node
	if err := json.Unmarshal([]byte(lines[1]), &n); err != nil {
		return Node{}, fmt.Errorf("NODE is damaged: %w: %s", err, remedy)
	}
	return n, nil
}

// Read returns what NODE of a folder holds, without locking it.
func Read(fsys vfs.FS, path string) (Node, error) {
	n, err := readNode(fsys, fsys.PathJoin(path, nodeFile))
	if err != nil {
		return Node{}, fmt.Errorf("data folder %s: %w", path, err)
	}
	return n, nil
}

// Paths returns the log and state folders below a data folder.
func Paths(fsys vfs.FS, path string) (wal, state string) {
	return fsys.PathJoin(path, walDir), fsys.PathJoin(path, stateDir)
}
