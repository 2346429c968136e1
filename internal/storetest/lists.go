package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// lists: pages come in byte order, each entry once, and sizes count them.
func lists(w *world) {
	var ops []quipu.Op
	for i := range 57 {
		ops = append(ops, set(fmt.Sprintf("c%02d", i), int64(i)))
	}
	names := []string{"é", "a/b", "日本", "~", " ", strings.Repeat("x", quipu.MaxNameBytes), strings.Repeat("x", quipu.MaxNameBytes-1), "c", "c0", "\U0010ffff"}
	for _, name := range names {
		ops = append(ops, addItem(name, "i"), addItem(name, name), addItem(name, "j"), of("other", set(name, 1)))
	}
	w.do(ops...)
	if got, want := len(w.list(store.ListRequest{Tenant: quipu.DefaultTenant, Limit: 1000})), 57+len(names); got != want {
		w.Errorf("%d names, want %d", got, want)
	}
	for _, limit := range []int{1, 2, 7, 66, 67, 68} {
		for _, prefix := range []string{"", "c", "c0", "c1", "x", "é", "\U0010ffff", "none"} {
			for _, kind := range []quipu.NameKind{quipu.KindNone, quipu.KindCounter, quipu.KindItems} {
				w.list(store.ListRequest{Tenant: quipu.DefaultTenant, Prefix: prefix, Kind: kind, Limit: limit})
			}
			w.list(store.ListRequest{What: store.Tenants, Prefix: prefix, Limit: limit})
		}
		for _, after := range []string{"c", "c2", "c20", "c56", "zzz", "\U0010ffff"} {
			w.list(store.ListRequest{Tenant: quipu.DefaultTenant, After: after, Limit: limit})
		}
		for _, name := range append(names, "c00", "none") {
			w.list(store.ListRequest{What: store.Items, Tenant: quipu.DefaultTenant, Name: name, Limit: limit})
		}
		w.list(store.ListRequest{Tenant: "none", Limit: limit})
	}
	if got := w.list(store.ListRequest{What: store.Tenants, Limit: 10}); len(got) != 2 || got[0].Name != quipu.DefaultTenant || got[1].Name != "other" {
		w.Errorf("tenants: %+v", got)
	}
	w.compare(quipu.DefaultTenant, "other", "none")
	for i := range 57 {
		w.do(remove(fmt.Sprintf("c%02d", i)))
	}
	w.compare(quipu.DefaultTenant)
	if d := w.one(op(quipu.KindDropTenant, "")); d.Old != int64(len(names)) {
		w.Errorf("the drop took %d names, want %d", d.Old, len(names))
	}
	w.compare(quipu.DefaultTenant, "other")
	w.do(of("_node", set("kept", 1)))
	if d := w.one(sample(quipu.KindDropAll, "")); d.Old != int64(len(names)) {
		w.Errorf("the drop took %d names, want %d", d.Old, len(names))
	}
	w.compare(quipu.DefaultTenant, "other", "_node")
	if got := w.list(store.ListRequest{What: store.Tenants, Limit: 10}); len(got) != 1 || got[0].Name != "_node" {
		w.Errorf("tenants after all was dropped: %+v", got)
	}
}

// expiry: a name is gone when its time has come, though nobody writes to it.
func expiry(w *world) {
	w.do(add("soon", 1, expires(20)), add("later", 1, expires(40)), addItem("set", "i"), expireOp("set", expires(20)), add("never", 1))
	if got := w.read(get("soon"))[0]; got.Value != 1 || got.ExpireAt != epoch+20 {
		w.Errorf("a name that expires: %+v", got)
	}
	w.compare(quipu.DefaultTenant)
	w.pass(19 * time.Millisecond)
	if got := w.one(get("soon")); !got.Existed {
		w.Errorf("a millisecond before its time: %+v", got)
	}
	w.pass(time.Millisecond)
	if got := w.do(get("soon"), op(quipu.KindCount, "set"), get("later")); got[0].Existed || got[1].Existed || !got[2].Existed {
		w.Errorf("at its time: %+v", got)
	}
	w.compare(quipu.DefaultTenant)
	w.pass(20 * time.Millisecond)
	w.compare(quipu.DefaultTenant)
	if n := w.model.Size(quipu.DefaultTenant); n != 1 {
		w.Errorf("%d names are left, want 1", n)
	}
	// A name whose expiry was taken away or put off stays.
	w.do(add("stays", 5, expires(20)), add("put off", 5, expires(20)))
	w.do(expireOp("stays", keepForever()), expireOp("put off", expires(60)))
	w.pass(40 * time.Millisecond)
	if got := w.do(get("stays"), get("put off")); got[0].Value != 5 || got[1].Value != 5 {
		w.Errorf("they were to stay: %+v", got)
	}
	w.compare(quipu.DefaultTenant)

	// What is made anew keeps nothing of what expired, whether or not the store
	// has removed that by itself before. The model does not judge this: the
	// running number depends on it.
	for i := range 20 {
		name := fmt.Sprint("again", i)
		commit(w.store, batch(add(name, 5, expires(20))))
		w.clock.advance(20 * time.Millisecond)
		b := batch(get(name), add(name, 1))
		commit(w.store, b)
		for _, got := range b.Results[1:] {
			if got.Code != quipu.CodeOK || got.Existed || got.Old != 0 || got.ExpireAt != 0 {
				w.Errorf("after the end of the name: %+v", got)
			}
		}
	}
}
