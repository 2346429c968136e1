package httpapi

// The bodies and answers. What is decoded and encoded, and what
// /openapi.json says, are these very types. A pointer tells a member that is
// missing from one that is zero.

// expiryJSON are a writing call's options about expiry.
type expiryJSON struct {
	TTLMs  *int64 `json:"ttlMs,omitempty" minimum:"1" doc:"Time to live in milliseconds."`
	Expiry string `json:"expiry,omitempty" enum:"set,keep,ifNone,remove" doc:"What becomes of the expiry: set if ttlMs is given, else keep."`
}

// boundsJSON are an add's options about bounds.
type boundsJSON struct {
	Lower    *int64 `json:"lower,omitempty" doc:"The value does not go below."`
	Upper    *int64 `json:"upper,omitempty" doc:"The value does not go above."`
	Overflow string `json:"overflow,omitempty" enum:"reject,saturate" doc:"At a bound: refuse the add (the default), or end at the bound."`
}

type addJSON struct {
	Delta *int64 `json:"delta,omitempty" doc:"What to add, 1 if missing."`
	boundsJSON
	expiryJSON
}

type putJSON struct {
	Value *int64 `json:"value" nullable:"false" doc:"The new value."`
	expiryJSON
}

type resetJSON struct{ expiryJSON }

type addItemsJSON struct {
	Items []string `json:"items" nullable:"false" minItems:"1" maxItems:"10000" doc:"Item ids; all or none are added."`
}

// opJSON is one operation of a batch.
type opJSON struct {
	Op         string  `json:"op" enum:"add,set,reset,delete,get,expire,addItem,removeItem"`
	Tenant     string  `json:"tenant,omitempty" doc:"The tenant, default if missing."`
	Name       string  `json:"name" minLength:"1" doc:"The counter or set: 1 to 512 bytes."`
	Delta      *int64  `json:"delta,omitempty" doc:"For add: what to add, 1 if missing."`
	Value      *int64  `json:"value,omitempty" doc:"For set: the new value."`
	Item       string  `json:"item,omitempty" doc:"For addItem and removeItem."`
	Key        string  `json:"key,omitempty" doc:"Request id of this operation, in place of the Idempotency-Key of the call."`
	IfRevision *uint64 `json:"ifRevision,omitempty" doc:"Refuse unless the name is at this revision; 0 means absent."`
	boundsJSON
	expiryJSON
}

// resultJSON is what came of one operation of a batch.
type resultJSON struct {
	Outcome  string   `json:"outcome" enum:"applied,not_applied,unknown"`
	Value    int64    `json:"value" doc:"The value, or the number of items, after the operation."`
	Applied  int64    `json:"applied" doc:"What an add really added."`
	Revision uint64   `json:"revision"`
	Replayed bool     `json:"replayed"`
	Old      *int64   `json:"old,omitempty" doc:"The value before."`
	Changed  *bool    `json:"changed,omitempty"`
	Exists   *bool    `json:"exists,omitempty" doc:"For get: whether there is such a counter."`
	TTLMs    *int64   `json:"ttlMs,omitempty"`
	Error    *problem `json:"error,omitempty"`
}

// answerJSON is the answer of one writing call.
type answerJSON struct {
	Value    int64  `json:"value" doc:"The value after the call."`
	Old      *int64 `json:"old,omitempty" doc:"The value before."`
	Applied  int64  `json:"applied" doc:"What an add really added."`
	Revision uint64 `json:"revision" doc:"The number of the operation that last changed the name."`
	Replayed bool   `json:"replayed" doc:"The request id was applied before; this is its first answer."`
	Changed  *bool  `json:"changed,omitempty"`
	TTLMs    *int64 `json:"ttlMs,omitempty" doc:"What remains until the expiry, in milliseconds."`
}

type counterJSON struct {
	Name     string `json:"name"`
	Value    int64  `json:"value"`
	Revision uint64 `json:"revision"`
	TTLMs    *int64 `json:"ttlMs,omitempty"`
}

type setJSON struct {
	Name     string `json:"name"`
	Count    int64  `json:"count"`
	Revision uint64 `json:"revision"`
}

// The lists. Cursor is empty on the last page.
type (
	countersJSON struct {
		Counters []counterJSON `json:"counters" nullable:"false"`
		Cursor   string        `json:"cursor"`
	}
	setsJSON struct {
		Sets   []setJSON `json:"sets" nullable:"false"`
		Cursor string    `json:"cursor"`
	}
	itemsJSON struct {
		Items  []string `json:"items" nullable:"false"`
		Cursor string   `json:"cursor"`
	}
	tenantsJSON struct {
		Tenants []string `json:"tenants" nullable:"false"`
		Cursor  string   `json:"cursor"`
	}
)

type addedJSON struct {
	Added    int   `json:"added" doc:"How many of the items were new."`
	Count    int64 `json:"count" doc:"How many the set holds now."`
	Replayed bool  `json:"replayed"`
}

type countJSON struct {
	Count int64 `json:"count"`
}

type memberJSON struct {
	Member bool `json:"member"`
}

// itemJSON is a row of POST /items.
type itemJSON struct {
	ID     *string `json:"id" nullable:"false" minLength:"1"`
	Tenant *string `json:"tenant" nullable:"false" minLength:"1"`
}

type messageJSON struct {
	Message string `json:"message"`
}

type healthJSON struct {
	Status string `json:"status" enum:"ok"`
}

// problem is an error as RFC 9457 has it, with our members.
type problem struct {
	Type      string `json:"type" doc:"urn:quipu:problem: and the code; stable."`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Field     string `json:"field,omitempty" doc:"The part of the request that is wrong."`
	Outcome   string `json:"outcome" enum:"not_applied,unknown" doc:"What became of the call: unknown means that it may have been applied."`
	Retryable bool   `json:"retryable" doc:"Whether the same call may succeed later; if the outcome is unknown, with the same request id only."`
	// Value and Revision tell how the name stands, where an operation was
	// refused for it.
	Value    *int64  `json:"value,omitempty"`
	Revision *uint64 `json:"revision,omitempty"`
}
