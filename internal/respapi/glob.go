package respapi

// match reports whether s matches a glob pattern as Redis' stringmatch does.
// Where it fails behind a '*', that '*' takes one byte more; those before it
// never need to, so that the work is bounded by the product of the lengths
// whatever the pattern is.
func match(p, s string) bool {
	star, behind, rest := false, "", "" // the last '*': the pattern behind it, what it has not taken
	for {
		if p != "" && p[0] == '*' {
			if p = p[1:]; p == "" {
				return true
			}
			star, behind, rest = true, p, s
			continue
		}
		if p == "" && s == "" {
			return true
		}
		if p != "" && s != "" {
			if next, ok := matchByte(p, s[0]); ok {
				p, s = next, s[1:]
				continue
			}
		}
		if !star || rest == "" {
			return false
		}
		rest = rest[1:]
		p, s = behind, rest
	}
}

// matchByte matches one byte against the front of a pattern that is not a '*',
// and returns what follows.
func matchByte(p string, c byte) (rest string, ok bool) {
	switch p[0] {
	case '?':
		return p[1:], true
	case '[':
		return matchClass(p[1:], c)
	case '\\':
		if len(p) > 1 {
			p = p[1:]
		}
	}
	return p[1:], p[0] == c
}

// matchClass matches one byte against what follows a '[', and returns what
// follows the ']'.
func matchClass(p string, c byte) (rest string, ok bool) {
	not := len(p) > 0 && p[0] == '^'
	if not {
		p = p[1:]
	}
	hit := false
	for {
		switch {
		case p == "":
			return "", hit != not
		case p[0] == '\\' && len(p) > 1:
			hit = hit || p[1] == c
			p = p[2:]
		case p[0] == ']':
			return p[1:], hit != not
		case len(p) > 2 && p[1] == '-':
			lo, hi := min(p[0], p[2]), max(p[0], p[2])
			hit = hit || c >= lo && c <= hi
			p = p[3:]
		default:
			hit = hit || p[0] == c
			p = p[1:]
		}
	}
}

// literalPrefix is what all strings that match begin with.
func literalPrefix(p string) string {
	for i := range len(p) {
		switch p[i] {
		case '*', '?', '[', '\\':
			return p[:i]
		}
	}
	return p
}
