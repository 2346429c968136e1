package respapi

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, row := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "abc", true},
		{"a*c", "abbc", true}, {"a*c", "ac", true}, {"a*c", "acb", false}, {"*a*b", "xaxbxb", true}, {"*a*b", "xbxa", false},
		{"a?", "ab", true}, {"a?", "a", false}, {"?*", "", false},
		{"[a-c]x", "bx", true}, {"[c-a]x", "bx", true}, {"[^a-c]", "d", true}, {"[^a]", "a", false}, {"[\\]]", "]", true}, {"[a", "a", true},
		{"*[ab]", "xxb", true}, {"\\*", "*", true}, {"\\*", "a", false}, {"a\\", "a\\", true},
	} {
		if got := match(row.pattern, row.text); got != row.want {
			t.Errorf("match(%q, %q) = %v", row.pattern, row.text, got)
		}
	}
}

// TestMatchManyStars: the work does not double with each '*'. It would not end
// before the test's time if it did.
func TestMatchManyStars(t *testing.T) {
	text := strings.Repeat("a", 512)
	if match(strings.Repeat("a*", 200)+"b", text) || !match(strings.Repeat("a*", 200), text) {
		t.Fatal("wrong answer")
	}
}
