package quipu

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// MaxKeyBytes bounds a request key that is not a UUIDv7, in bytes.
const MaxKeyBytes = 128

// RequestID tells a retry from a new operation. It belongs to a tenant and a
// name: the same id under another name is another id.
//
// Key is either the 16 bytes of a UUIDv7 (RFC 9562), whose own time tells the
// id's age, or 1 to 128 bytes of visible ASCII, remembered for at least the
// window from its first use. Ordinal is the operation's place, from 0, among
// the operations on its name that were sent in one batch under one key.
//
// The zero RequestID is none.
type RequestID struct {
	Key     string
	Ordinal uint32
	// Timed says that Key is the 16 bytes of a UUIDv7.
	Timed bool
}

// IsZero reports whether there is no request id.
func (id RequestID) IsZero() bool { return id.Key == "" }

// Time returns a timed id's own time, in milliseconds since the Unix epoch.
func (id RequestID) Time() int64 {
	if !id.Timed {
		return 0
	}
	var b [8]byte
	copy(b[2:], id.Key[:6])
	return int64(binary.BigEndian.Uint64(b[:]))
}

// String returns the key as a client writes it.
func (id RequestID) String() string {
	if !id.Timed {
		return id.Key
	}
	var b [36]byte
	k := []byte(id.Key)
	hex.Encode(b[0:8], k[0:4])
	hex.Encode(b[9:13], k[4:6])
	hex.Encode(b[14:18], k[6:8])
	hex.Encode(b[19:23], k[8:10])
	hex.Encode(b[24:36], k[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// ParseRequestID returns the id with ordinal 0 that a client wrote as key: a
// UUIDv7 in its text form of 36 characters, either case, or 1 to 128 bytes of
// visible ASCII. It returns an [Error] with code [CodeInvalid] for anything
// else.
func ParseRequestID(key string) (RequestID, error) {
	if raw, ok := parseUUIDv7(key); ok {
		return RequestID{Key: raw, Timed: true}, nil
	}
	if key == "" || len(key) > MaxKeyBytes {
		return RequestID{}, Invalid("key", "has %d bytes: it needs 1 to %d", len(key), MaxKeyBytes)
	}
	for i := 0; i < len(key); i++ {
		if key[i] < 0x21 || key[i] > 0x7e {
			return RequestID{}, Invalid("key", "holds a byte that is not visible ASCII")
		}
	}
	return RequestID{Key: key}, nil
}

func parseUUIDv7(s string) (string, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return "", false
	}
	var b [16]byte
	n := 0
	for i := 0; i < 36; i++ {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		v := hexDigit(s[i])
		if v > 15 {
			return "", false
		}
		b[n/2] = b[n/2]<<4 | v
		n++
	}
	if b[6]>>4 != 7 || b[8]>>6 != 2 {
		return "", false
	}
	return string(b[:]), true
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 255
	}
}

// IDSource makes request ids: UUIDv7 of the given clock whose order is the
// order of the calls. It is safe for concurrent use.
type IDSource struct {
	mu   sync.Mutex
	now  func() time.Time
	last uint64 // milliseconds<<12 | sequence
}

// NewIDSource returns a source on the given clock, time.Now if nil.
func NewIDSource(now func() time.Time) *IDSource {
	if now == nil {
		now = time.Now
	}
	return &IDSource{now: now}
}

// Next returns a fresh id. Within a millisecond the twelve bits of rand_a
// count on (RFC 9562, section 6.2, method 1); when they run over, the time
// field moves ahead of the clock.
func (s *IDSource) Next() RequestID {
	s.mu.Lock()
	t := uint64(s.now().UnixMilli()) << 12
	if t <= s.last {
		t = s.last + 1
	}
	s.last = t
	s.mu.Unlock()

	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], t>>12<<16|7<<12|t&0xfff)
	rand.Read(b[8:]) // never fails (crypto/rand)
	b[8] = b[8]&0x3f | 0x80
	return RequestID{Key: string(b[:]), Timed: true}
}

// NumberIDs gives the operations that carry a request id their ordinals: the
// j-th operation on a tenant and name under one key gets ordinal j. Edges call
// it once on the operations of one request.
func NumberIDs(ops []Op) {
	if len(ops) < 2 {
		return
	}
	type place struct{ tenant, name, key string }
	seen := make(map[place]uint32, len(ops))
	for i := range ops {
		o := ops[i].Options
		if o == nil || o.ID.IsZero() {
			continue
		}
		p := place{ops[i].Tenant, ops[i].Name, o.ID.Key}
		o.ID.Ordinal = seen[p]
		seen[p]++
	}
}
