package storetest

import (
	"errors"

	"github.com/quipudb/quipu"
)

// option changes an operation's options.
type option func(*quipu.Options)

func op(kind quipu.Kind, name string, with ...option) quipu.Op {
	o := quipu.Op{Kind: kind, Tenant: quipu.DefaultTenant, Name: name}
	if len(with) > 0 {
		o.Options = new(quipu.Options)
		for _, f := range with {
			f(o.Options)
		}
	}
	return o
}

func add(name string, delta int64, with ...option) quipu.Op {
	o := op(quipu.KindAdd, name, with...)
	o.Value = delta
	return o
}

func set(name string, value int64, with ...option) quipu.Op {
	o := op(quipu.KindSet, name, with...)
	o.Value = value
	return o
}

func item(kind quipu.Kind, name, id string, with ...option) quipu.Op {
	o := op(kind, name, with...)
	o.Item = id
	return o
}

func addItem(name, id string, with ...option) quipu.Op {
	return item(quipu.KindAddItem, name, id, with...)
}

func removeItem(name, id string, with ...option) quipu.Op {
	return item(quipu.KindRemoveItem, name, id, with...)
}

func get(name string) quipu.Op                      { return op(quipu.KindGet, name) }
func reset(name string, with ...option) quipu.Op    { return op(quipu.KindReset, name, with...) }
func remove(name string, with ...option) quipu.Op   { return op(quipu.KindDelete, name, with...) }
func expireOp(name string, with ...option) quipu.Op { return op(quipu.KindExpire, name, with...) }

func of(tenant string, o quipu.Op) quipu.Op {
	o.Tenant = tenant
	return o
}

func withID(id quipu.RequestID) option { return func(o *quipu.Options) { o.ID = id } }
func withKey(key string) option        { return withID(quipu.RequestID{Key: key}) }
func upper(n int64) option             { return func(o *quipu.Options) { o.Upper, o.HasUpper = n, true } }
func lower(n int64) option             { return func(o *quipu.Options) { o.Lower, o.HasLower = n, true } }
func saturate() option                 { return func(o *quipu.Options) { o.Saturate = true } }
func replace() option                  { return func(o *quipu.Options) { o.Replace = true } }
func ifExists() option                 { return func(o *quipu.Options) { o.If.Kind = quipu.IfExists } }

func ifRevision(r uint64) option {
	return func(o *quipu.Options) { o.If = quipu.Precondition{Kind: quipu.IfRevision, Revision: r} }
}

func ifAbsent(r uint64) option {
	return func(o *quipu.Options) { o.If = quipu.Precondition{Kind: quipu.IfAbsent, Revision: r} }
}

func require(k quipu.NameKind) option { return func(o *quipu.Options) { o.RequireKind = k } }

func withExpiry(x quipu.Expiry) option { return func(o *quipu.Options) { o.Expiry = x } }

// expires lets the name expire so many milliseconds from now.
func expires(ms int64) option { return withExpiry(quipu.Expiry{Mode: quipu.ExpirySet, Ms: ms}) }

func keepForever() option { return withExpiry(quipu.Expiry{Mode: quipu.ExpiryRemove}) }

// sample returns a well-formed operation of the kind, on a tenant of its own
// where it removes more than a name.
func sample(k quipu.Kind, name string, with ...option) quipu.Op {
	o := op(k, name, with...)
	switch k {
	case quipu.KindHasItem, quipu.KindAddItem, quipu.KindRemoveItem:
		o.Item = "i"
	case quipu.KindAdd, quipu.KindSet:
		o.Value = 3
	case quipu.KindExpire:
		if o.Options == nil {
			o.Options = new(quipu.Options)
		}
		if o.Options.Expiry.Mode == quipu.ExpiryKeep {
			o.Options.Expiry = quipu.Expiry{Mode: quipu.ExpirySet, Ms: 60_000}
		}
	case quipu.KindDropTenant:
		o.Name = ""
	case quipu.KindDropAll:
		o.Tenant, o.Name = "", ""
	}
	return o
}

// codeOf returns the code of an error of a read or list; any error without one
// is unknown.
func codeOf(err error) quipu.Code {
	if err == nil {
		return quipu.CodeOK
	}
	if e := (*quipu.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return quipu.CodeUnknown
}
