package ledger

import (
	"encoding/binary"
	"math"

	"github.com/quipudb/quipu"
)

// Keys of the state in Pebble. Integers in keys are big endian, so that they
// sort; values are varints.
//
//	'c' space u64, name                         a counter or set
//	'i' space u64, set u64, item                an item
//	'm'                                         the scalar state (meta.go)
//	'r' 16 bytes UUIDv7, ordinal u32, tenant u64, name   a timed request id
//	't' name                                    a tenant
//	'u' generation u64, tenant u64, ordinal u32, u8 length, key, name   another request id
//	'x' time u64, space u64, name               when a name expires
//
// A space holds the names of one tenant between two drops: dropping a tenant
// gives it a fresh space and range-deletes the old one. Spaces of reserved
// tenants have the highest bit set, so that dropping all users' tenants is one
// range. Spaces, sets and tenants' numbers are never used again.
const (
	prefixName    = 'c'
	prefixItem    = 'i'
	prefixMeta    = 'm'
	prefixTimed   = 'r'
	prefixTenant  = 't'
	prefixUntimed = 'u'
	prefixExpiry  = 'x'
)

// reservedSpace is set in the spaces of reserved tenants.
const reservedSpace = uint64(1) << 63

func appendNameKey(dst []byte, space uint64, name string) []byte {
	dst = append(dst, prefixName)
	dst = binary.BigEndian.AppendUint64(dst, space)
	return append(dst, name...)
}

func appendItemKey(dst []byte, space, set uint64, item string) []byte {
	dst = append(dst, prefixItem)
	dst = binary.BigEndian.AppendUint64(dst, space)
	dst = binary.BigEndian.AppendUint64(dst, set)
	return append(dst, item...)
}

func appendTenantKey(dst []byte, name string) []byte {
	return append(append(dst, prefixTenant), name...)
}

func appendExpiryKey(dst []byte, at int64, space uint64, name string) []byte {
	dst = append(dst, prefixExpiry)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	dst = binary.BigEndian.AppendUint64(dst, space)
	return append(dst, name...)
}

func appendTimedKey(dst []byte, uuid string, ordinal uint32, tenant uint64, name string) []byte {
	dst = append(append(dst, prefixTimed), uuid...)
	dst = binary.BigEndian.AppendUint32(dst, ordinal)
	dst = binary.BigEndian.AppendUint64(dst, tenant)
	return append(dst, name...)
}

// timedEnd is the end of the range of timed ids whose time is at or before
// horizon.
func timedEnd(horizon int64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(horizon+1)<<16)
	return append([]byte{prefixTimed}, b[:6]...)
}

func appendUntimedKey(dst []byte, generation, tenant uint64, ordinal uint32, key, name string) []byte {
	dst = append(dst, prefixUntimed)
	dst = binary.BigEndian.AppendUint64(dst, generation)
	dst = binary.BigEndian.AppendUint64(dst, tenant)
	dst = binary.BigEndian.AppendUint32(dst, ordinal)
	dst = append(dst, byte(len(key)))
	dst = append(dst, key...)
	return append(dst, name...)
}

// numberKey is a prefix and a number, for bounds of ranges.
func numberKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

// afterNumber is the key behind all that begin with prefix and n.
func afterNumber(prefix byte, n uint64) []byte {
	if n == math.MaxUint64 {
		return []byte{prefix + 1}
	}
	return numberKey(prefix, n+1)
}

// A name's value: u8 kind, varint value (of a set: its count), uvarint
// revision, uvarint expiry, uvarint set.
func appendNameValue(dst []byte, s *nameState) []byte {
	dst = append(dst, byte(s.kind))
	dst = binary.AppendVarint(dst, s.value)
	dst = binary.AppendUvarint(dst, s.revision)
	dst = binary.AppendUvarint(dst, uint64(s.expireAt))
	return binary.AppendUvarint(dst, s.set)
}

func decodeNameValue(data []byte) (nameState, error) {
	d := decoder{data: data}
	s := nameState{kind: quipu.NameKind(d.byte()), value: d.varint(), revision: d.uvarint()}
	s.expireAt = int64(d.uvarint())
	s.set = d.uvarint()
	if len(d.data) > 0 || s.kind == quipu.KindNone || s.kind > quipu.KindItems {
		d.fail()
	}
	return s, d.err
}

// A tenant's value: uvarint number, space, names, last removal.
func appendTenantValue(dst []byte, s *tenantState) []byte {
	dst = binary.AppendUvarint(dst, s.number)
	dst = binary.AppendUvarint(dst, s.space)
	dst = binary.AppendUvarint(dst, uint64(s.names))
	return binary.AppendUvarint(dst, s.lastRemoval)
}

func decodeTenantValue(data []byte) (tenantState, error) {
	d := decoder{data: data}
	s := tenantState{number: d.uvarint(), space: d.uvarint(), names: int64(d.uvarint()), lastRemoval: d.uvarint()}
	if len(d.data) > 0 {
		d.fail()
	}
	return s, d.err
}

// A request id's value: u64 fingerprint, then the first answer.
func appendIDValue(dst []byte, r *idRecord) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.fingerprint)
	return appendResult(dst, &r.result)
}

func decodeIDValue(data []byte) (idRecord, error) {
	d := decoder{data: data}
	b := d.take(8)
	if b == nil {
		return idRecord{}, d.err
	}
	r := idRecord{fingerprint: binary.LittleEndian.Uint64(b), result: d.result()}
	if len(d.data) > 0 {
		d.fail()
	}
	return r, d.err
}

// A result: u8 code, u8 flags and kind, varint value, old, delta, expiry, now,
// uvarint revision.
const (
	resultExisted = 1 << iota
	resultChanged
	resultReplayed
	resultKindShift = 4
)

func appendResult(dst []byte, r *quipu.Result) []byte {
	flags := byte(r.Kind) << resultKindShift
	if r.Existed {
		flags |= resultExisted
	}
	if r.Changed {
		flags |= resultChanged
	}
	if r.Replayed {
		flags |= resultReplayed
	}
	dst = append(dst, byte(r.Code), flags)
	for _, v := range [...]int64{r.Value, r.Old, r.Delta, r.ExpireAt, r.Now} {
		dst = binary.AppendVarint(dst, v)
	}
	return binary.AppendUvarint(dst, r.Revision)
}

func (d *decoder) result() quipu.Result {
	r := quipu.Result{Code: quipu.Code(d.byte())}
	flags := d.byte()
	r.Kind = quipu.NameKind(flags >> resultKindShift)
	r.Existed, r.Changed, r.Replayed = flags&resultExisted != 0, flags&resultChanged != 0, flags&resultReplayed != 0
	r.Value, r.Old, r.Delta, r.ExpireAt, r.Now = d.varint(), d.varint(), d.varint(), d.varint(), d.varint()
	r.Revision = d.uvarint()
	return r
}
