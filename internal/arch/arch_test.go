package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/quipudb/quipu"

// layers, from the bottom. A package imports only packages of lower layers.
var layers = [][]string{
	{"."},
	{"client", "internal/limit", "internal/store", "internal/wal", "internal/datadir", "internal/arch", "internal/dashboard", "internal/history"},
	{"internal/model", "internal/ledger", "internal/pool"},
	{"internal/accesslog", "internal/storetest", "internal/memstore", "internal/raftstore", "internal/httpapi", "internal/respapi", "internal/nodecounter"},
	{"internal/node"},
	{"cmd/quipu"},
	{"bench/resp", "bench/scale", "bench/http", "e2e"},
}

// testOnly are never linked into the binary.
var testOnly = []string{"pgregory.net/rapid", "go.uber.org/goleak", "github.com/redis/go-redis", "github.com/anishathalye/porcupine"}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	Deps       []string
	GoFiles    []string
	Dir        string
}

func list(t *testing.T, pattern ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, pattern...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func TestImportsGoDown(t *testing.T) {
	layer := make(map[string]int)
	for i, names := range layers {
		for _, n := range names {
			layer[n] = i
		}
	}
	for _, p := range list(t, "./...") {
		mine, ok := layer[short(p.ImportPath)]
		if !ok {
			t.Errorf("%s stands in no layer", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if i != module && !strings.HasPrefix(i, module+"/") {
				continue
			}
			if theirs := layer[short(i)]; theirs >= mine {
				t.Errorf("%s (layer %d) imports %s (layer %d)", short(p.ImportPath), mine, short(i), theirs)
			}
		}
	}
}

func TestPackages(t *testing.T) {
	const mostLines = 1000
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		for _, f := range p.GoFiles {
			data, err := os.ReadFile(p.Dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(data), "\n"); n > mostLines {
				t.Errorf("%s/%s has %d lines: split it by meaning", short(p.ImportPath), f, n)
			}
			if strings.Contains(string(data), "\nfunc init()") {
				t.Errorf("%s/%s has an init function", short(p.ImportPath), f)
			}
		}
	}
}

func TestBinaryHasNoTestLibraries(t *testing.T) {
	for _, p := range list(t, "./cmd/quipu") {
		for _, dep := range p.Deps {
			for _, lib := range testOnly {
				if strings.HasPrefix(dep, lib) {
					t.Errorf("the binary links %s", dep)
				}
			}
		}
	}
}
