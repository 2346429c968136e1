package quipu

import (
	"fmt"
	"unicode/utf8"
)

const (
	// DefaultTenant owns the counters of callers that name no tenant.
	DefaultTenant = "default"
	// NodeTenant holds the nodes' own counters. Users read it, only nodes
	// write it.
	NodeTenant = "_node"
	// ItemSet is the name of the item set behind POST /items.
	ItemSet = "items"

	// MaxNameBytes bounds a tenant, a name and an item id, in bytes.
	MaxNameBytes = 512
)

// ValidateTenant returns an [Error] with code [CodeInvalid] unless s may name a
// tenant: 1 to 512 bytes of UTF-8 without control characters. Tenants whose
// name begins with an underscore are valid; use [Reserved] to refuse a user's
// write to them.
func ValidateTenant(s string) error { return validateText("tenant", s) }

// ValidateName returns an [Error] with code [CodeInvalid] unless s may name a
// counter or an item set: 1 to 512 bytes of UTF-8 without control characters.
func ValidateName(s string) error { return validateText("name", s) }

// ValidateItem returns an [Error] with code [CodeInvalid] unless s may be an
// item id: 1 to 512 bytes of UTF-8 without control characters.
func ValidateItem(s string) error { return validateText("item", s) }

// Reserved reports whether the tenant belongs to Quipu itself: its name begins
// with an underscore.
func Reserved(tenant string) bool { return len(tenant) > 0 && tenant[0] == '_' }

func validateText(field, s string) error {
	if PlainText(s) {
		return nil
	}
	switch {
	case s == "":
		return Invalid(field, "is empty: it needs 1 to %d bytes", MaxNameBytes)
	case len(s) > MaxNameBytes:
		return Invalid(field, "has %d bytes: the limit is %d", len(s), MaxNameBytes)
	case !utf8.ValidString(s):
		return Invalid(field, "is not valid UTF-8")
	default:
		return Invalid(field, "holds a control character")
	}
}

// PlainText reports whether s is 1 to 512 bytes of UTF-8 without control
// characters (U+0000 to U+001F, U+007F to U+009F). It is the test behind the
// Validate functions, without an error to allocate.
func PlainText(s string) bool {
	if len(s) == 0 || len(s) > MaxNameBytes {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return false
		}
		if c >= utf8.RuneSelf {
			return plainRunes(s[i:])
		}
	}
	return true
}

func plainRunes(s string) bool {
	for i, r := range s {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return false
		}
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return false
			}
		}
	}
	return true
}

// Invalid returns an [Error] with code [CodeInvalid] about a field of the
// caller's input. The message begins with the field's name.
func Invalid(field, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Field: field, Message: field + " " + fmt.Sprintf(format, args...)}
}
