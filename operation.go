package quipu

// Kind says what an operation does. The zero Kind is no operation.
type Kind uint8

const (
	// KindGet reads a counter: value, revision, expiry. A set is refused
	// (CodeWrongKind); an absent name answers Existed false and value 0.
	KindGet Kind = iota + 1
	// KindStat reads what a name is, whatever it is: type, revision, expiry,
	// and a counter's value or a set's count.
	KindStat
	// KindCount reads a set's count. A counter is refused; an absent name
	// answers 0.
	KindCount
	// KindHasItem reads whether Item is in the set: Result.Changed.
	KindHasItem
	// KindAdd adds Value to the counter, creating it at 0. Bounds and expiry
	// are options.
	KindAdd
	// KindSet makes the counter's value Value, creating it.
	KindSet
	// KindReset makes the counter's value 0 and answers the former one in
	// Result.Old. An absent counter stays absent and answers Existed false.
	KindReset
	// KindDelete removes the name, counter or set; Result.Existed says whether
	// there was one.
	KindDelete
	// KindAddItem adds Item to the set, creating it; Result.Changed says
	// whether it was new.
	KindAddItem
	// KindRemoveItem takes Item from the set; Result.Changed says whether it
	// was there. A set without items is absent.
	KindRemoveItem
	// KindExpire changes only the expiry of a name, by Options.Expiry;
	// Result.Changed says whether it did. A time that has passed deletes the
	// name.
	KindExpire
	// KindDropTenant removes all names of the tenant. Name is empty.
	KindDropTenant
	// KindDropAll removes all names of all tenants that are not reserved.
	// Tenant and Name are empty.
	KindDropAll
	// KindSweep removes the name if its expiry has passed. It is the store's
	// own; edges never send it.
	KindSweep

	kindEnd
)

var kindNames = [...]string{
	KindGet: "get", KindStat: "stat", KindCount: "count", KindHasItem: "hasItem",
	KindAdd: "add", KindSet: "set", KindReset: "reset", KindDelete: "delete",
	KindAddItem: "addItem", KindRemoveItem: "removeItem", KindExpire: "expire",
	KindDropTenant: "dropTenant", KindDropAll: "dropAll", KindSweep: "sweep",
}

// String returns the kind's name as the HTTP API writes it.
func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return "invalid"
	}
	return kindNames[k]
}

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k > 0 && k < kindEnd }

// Reads reports whether an operation of this kind changes nothing.
func (k Kind) Reads() bool { return k >= KindGet && k <= KindHasItem }

// Op is one operation on one name. An Op with nil Options is a plain one.
type Op struct {
	Kind   Kind
	Tenant string
	Name   string
	// Item is the item id of KindHasItem, KindAddItem and KindRemoveItem.
	Item string
	// Value is the delta of KindAdd and the new value of KindSet.
	Value int64
	// Options holds what most operations do not need.
	Options *Options
}

// Options are what an operation may carry beside its kind, name and value.
// The zero Options change nothing.
type Options struct {
	// ID makes the operation exactly-once; the zero RequestID is none. Reads
	// carry none.
	ID RequestID

	// Lower and Upper bound the value after KindAdd, where the flags are set.
	Lower, Upper       int64
	HasLower, HasUpper bool
	// An add is judged by where it ends. One that would end outside the bounds
	// is refused (CodeOutOfBounds) and leaves value and expiry untouched; with
	// Saturate it ends at the bound it would pass. One that would leave the
	// range of int64 passes the bound on that side; where there is none it is
	// refused (CodeOverflow), or, with Saturate, ends at the end of the range.
	Saturate bool

	// Expiry says what becomes of the name's expiry; see Expiry. When the
	// operation is refused the expiry stays.
	Expiry Expiry

	// If is checked before the operation, after the request id.
	If Precondition

	// RequireKind refuses (CodeWrongKind) KindStat, KindSet, KindDelete and
	// KindExpire on a name that exists and is not of this kind. KindNone
	// requires nothing.
	RequireKind NameKind
	// Replace lets KindSet take the place of a set (Redis SET); without it a
	// set is refused.
	Replace bool
}

// NameKind is what a name is.
type NameKind uint8

const (
	// KindNone is an absent name.
	KindNone NameKind = iota
	// KindCounter is a counter.
	KindCounter
	// KindItems is an item set.
	KindItems
)

// String returns "none", "counter" or "set".
func (k NameKind) String() string {
	switch k {
	case KindCounter:
		return "counter"
	case KindItems:
		return "set"
	default:
		return "none"
	}
}

// ExpiryMode says what an operation does with a name's expiry.
type ExpiryMode uint8

const (
	// ExpiryKeep leaves it as it is; a new name has none.
	ExpiryKeep ExpiryMode = iota
	// ExpirySet gives it, if Cond holds.
	ExpirySet
	// ExpiryRemove takes it away.
	ExpiryRemove
)

// ExpiryCond restricts ExpirySet, as Redis EXPIRE does.
type ExpiryCond uint8

const (
	// ExpiryAlways sets it whatever there was.
	ExpiryAlways ExpiryCond = iota
	// ExpiryIfNone sets it only if the name has none (NX, ENX, ifNone).
	ExpiryIfNone
	// ExpiryIfSome sets it only if the name has one (XX).
	ExpiryIfSome
	// ExpiryIfLater sets it only if later than the present one; none counts as
	// infinitely late (GT).
	ExpiryIfLater
	// ExpiryIfSooner sets it only if sooner than the present one; none counts
	// as infinitely late (LT).
	ExpiryIfSooner
)

// Expiry is a change to a name's expiry. Time is log time, in milliseconds
// since the Unix epoch: a relative TTL is added to the stamp of the entry in
// which the operation is applied.
type Expiry struct {
	Mode ExpiryMode
	Cond ExpiryCond
	// Absolute says that Ms is a time; otherwise Ms is a TTL. Ms of at most
	// the stamp (absolute) or at most 0 (TTL) lets the name expire at once.
	Absolute bool
	Ms       int64
	// AlsoIfSome adds ExpiryIfSome to Cond (Redis EXPIRE key s XX GT).
	AlsoIfSome bool
}

// PreconditionKind says what a Precondition checks.
type PreconditionKind uint8

const (
	// IfAlways checks nothing.
	IfAlways PreconditionKind = iota
	// IfRevision requires the name to exist at Revision.
	IfRevision
	// IfAbsent requires the name to be absent. With a Revision other than 0,
	// the number at which it was seen absent, it also fails when a name of the
	// tenant was removed later, since that may have been this one.
	IfAbsent
	// IfExists requires the name to exist.
	IfExists
)

// Precondition is checked when the operation is applied; where it fails the
// operation is refused with CodePrecondition and the result tells the present
// value and revision.
type Precondition struct {
	Kind     PreconditionKind
	Revision uint64
}

// ID returns the operation's request id, the zero RequestID if it has none.
func (op *Op) ID() RequestID {
	if op.Options == nil {
		return RequestID{}
	}
	return op.Options.ID
}

// Plain reports whether the operation is an add without options: one that may
// be folded with its neighbours on the same counter.
func (op *Op) Plain() bool { return op.Kind == KindAdd && op.Options == nil }

// Validate returns an [Error] with code [CodeInvalid], naming the field, unless
// the operation is well formed. It says nothing of reserved tenants.
func (op *Op) Validate() error {
	if !op.Kind.Valid() {
		return Invalid("op", "is unknown")
	}
	if op.Kind != KindDropAll {
		if err := ValidateTenant(op.Tenant); err != nil {
			return err
		}
	}
	if op.Kind < KindDropTenant || op.Kind == KindSweep {
		if err := ValidateName(op.Name); err != nil {
			return err
		}
	} else if op.Name != "" {
		return Invalid("name", "is not taken by %s", op.Kind)
	}
	switch op.Kind {
	case KindHasItem, KindAddItem, KindRemoveItem:
		if err := ValidateItem(op.Item); err != nil {
			return err
		}
	default:
		if op.Item != "" {
			return Invalid("item", "is not taken by %s", op.Kind)
		}
	}
	if op.Value != 0 && op.Kind != KindAdd && op.Kind != KindSet {
		return Invalid("value", "is not taken by %s", op.Kind)
	}
	if op.Options != nil {
		return op.Options.validate(op.Kind)
	}
	return nil
}

func (o *Options) validate(k Kind) error {
	if k.Reads() && !o.ID.IsZero() {
		return Invalid("key", "is not taken by %s: a read is repeated freely", k)
	}
	if (o.HasLower || o.HasUpper || o.Saturate) && k != KindAdd {
		return Invalid("bounds", "are not taken by %s", k)
	}
	if o.HasLower && o.HasUpper && o.Lower > o.Upper {
		return Invalid("lower", "%d is above upper %d", o.Lower, o.Upper)
	}
	if o.Expiry.Mode > ExpiryRemove || o.Expiry.Cond > ExpiryIfSooner {
		return Invalid("expiry", "is unknown")
	}
	if o.Expiry.Mode != ExpiryKeep {
		switch k {
		case KindAdd, KindSet, KindReset, KindExpire:
		default:
			return Invalid("expiry", "is not taken by %s", k)
		}
	} else if k == KindExpire {
		return Invalid("expiry", "is missing")
	}
	if o.If.Kind > IfExists {
		return Invalid("precondition", "is unknown")
	}
	if o.If.Kind != IfAlways && (k == KindDropTenant || k == KindDropAll || k == KindSweep) {
		return Invalid("precondition", "is not taken by %s", k)
	}
	return nil
}
