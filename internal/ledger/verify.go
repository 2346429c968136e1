package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
)

// Report is what Verify found.
type Report struct {
	Index      uint64         `json:"index"`
	LogTime    int64          `json:"logTime"`
	LastNumber uint64         `json:"lastNumber"`
	Names      int64          `json:"names"`
	Items      int64          `json:"items"`
	RequestIDs int64          `json:"requestIds"`
	Tenants    []TenantReport `json:"tenants"`
}

// TenantReport is what Verify found of a tenant.
type TenantReport struct {
	Name     string `json:"name"`
	Counters int64  `json:"counters"`
	Sets     int64  `json:"sets"`
	// Sum of the counters' values, wrapping.
	Sum   int64 `json:"sum"`
	Items int64 `json:"items"`
}

// Verify reads a state that nobody has open: every block's checksum, and the
// invariants: each tenant has as many names as it says, each set as many items,
// and each name that expires stands in the index. It returns all that is wrong,
// joined.
func Verify(dir string, fs vfs.FS) (Report, error) {
	opts := Options{FS: fs, Dir: dir}
	opts.defaults()
	po := pebbleOptions(&opts)
	po.ReadOnly = true
	db, err := pebble.Open(dir, po)
	if err != nil {
		return Report{}, err
	}
	defer db.Close()
	if err := db.CheckLevels(nil); err != nil {
		return Report{}, fmt.Errorf("check levels: %w", err)
	}
	l := &Ledger{opts: opts, db: db}
	if err := l.loadMeta(); err != nil {
		return Report{}, err
	}
	v := verifier{db: db, meta: &l.meta, report: Report{Index: l.meta.index, LogTime: l.meta.time, LastNumber: l.meta.number}}
	if err := v.run(); err != nil {
		v.errs = append(v.errs, err)
	}
	return v.report, errors.Join(v.errs...)
}

type verifier struct {
	db     *pebble.DB
	meta   *meta
	report Report
	errs   []error
}

func (v *verifier) wrong(format string, args ...any) {
	const most = 100
	if len(v.errs) < most {
		v.errs = append(v.errs, fmt.Errorf(format, args...))
	}
}

func (v *verifier) each(lower, upper []byte, fn func(key, value []byte) error) error {
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			it.Close()
			return err
		}
	}
	return errors.Join(it.Error(), it.Close())
}

func (v *verifier) run() error {
	err := v.each([]byte{prefixTenant}, []byte{prefixTenant + 1}, func(key, value []byte) error {
		t, err := decodeTenantValue(value)
		if err != nil {
			return fmt.Errorf("tenant %q: %w", key[1:], err)
		}
		return v.tenant(string(key[1:]), t)
	})
	for _, prefix := range []byte{prefixTimed, prefixUntimed} {
		if err == nil {
			err = v.each([]byte{prefix}, []byte{prefix + 1}, func(key, value []byte) error {
				v.report.RequestIDs++
				_, err := decodeIDValue(value)
				return err
			})
		}
	}
	return err
}

func (v *verifier) tenant(name string, t tenantState) error {
	if !quipu.Reserved(name) && t.space < v.meta.flushSpace {
		return nil // dropped with all others
	}
	r := TenantReport{Name: name}
	names := int64(0)
	err := v.each(numberKey(prefixName, t.space), afterNumber(prefixName, t.space), func(key, value []byte) error {
		s, err := decodeNameValue(value)
		if err != nil {
			return fmt.Errorf("name %q of tenant %q: %w", key[9:], name, err)
		}
		names++
		if s.kind == quipu.KindItems {
			r.Sets++
			n, err := v.items(t.space, s.set)
			if err != nil {
				return err
			}
			if n != s.value {
				v.wrong("set %q of tenant %q says it holds %d items, it holds %d", key[9:], name, s.value, n)
			}
			r.Items += n
		} else {
			r.Counters++
			r.Sum += s.value
		}
		if s.expireAt != 0 {
			_, closer, err := v.db.Get(appendExpiryKey(nil, s.expireAt, t.space, string(key[9:])))
			if err != nil {
				v.wrong("name %q of tenant %q expires at %d, but the index does not know: %w", key[9:], name, s.expireAt, err)
			} else {
				closer.Close()
			}
		}
		return nil
	})
	if names != t.names {
		v.wrong("tenant %q says it has %d names, it has %d", name, t.names, names)
	}
	v.report.Names += names
	v.report.Items += r.Items
	if names > 0 {
		v.report.Tenants = append(v.report.Tenants, r)
	}
	return err
}

func (v *verifier) items(space, set uint64) (n int64, err error) {
	upper := binary.BigEndian.AppendUint64(numberKey(prefixItem, space), set+1)
	err = v.each(appendItemKey(nil, space, set, ""), upper, func([]byte, []byte) error {
		n++
		return nil
	})
	return n, err
}
