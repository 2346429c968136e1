package respapi

// match reports whether s matches a glob pattern as Redis' stringmatch does.
func match(p, s string) bool {
	for len(p) > 0 {
		switch p[0] {
		case '*':
			for len(p) > 1 && p[1] == '*' {
				p = p[1:]
			}
			if len(p) == 1 {
				return true
			}
			for i := 0; i <= len(s); i++ {
				if match(p[1:], s[i:]) {
					return true
				}
			}
			return false
		case '?':
			if s == "" {
				return false
			}
		case '[':
			if s == "" {
				return false
			}
			rest, ok := matchClass(p[1:], s[0])
			if !ok {
				return false
			}
			p, s = rest, s[1:]
			continue
		case '\\':
			if len(p) > 1 {
				p = p[1:]
			}
			fallthrough
		default:
			if s == "" || p[0] != s[0] {
				return false
			}
		}
		p, s = p[1:], s[1:]
	}
	return s == ""
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
