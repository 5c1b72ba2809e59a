package acmems

import (
	"slices"
	"unicode"
)

// glob is a pattern of names, as Python's fnmatch: * matches any text, also with full
// stops, ? one character, [seq] one of several and [!seq] one of the others. There is no
// escape; [*] matches an asterisk. Case does not count.
type glob struct {
	text   string
	tokens []token
}

type tokenKind byte

const (
	literal tokenKind = iota
	anyOne
	anyText
	oneOf
	noneOf
)

type token struct {
	kind   tokenKind
	ranges []runes // of a literal, the only one
}

// runes is a range of characters, empty if first is beyond last.
type runes struct{ first, last rune }

func parseGlob(text string) glob {
	g := glob{text: text}
	for all := []rune(text); len(all) > 0; {
		switch all[0] {
		case '*':
			if n := len(g.tokens); n == 0 || g.tokens[n-1].kind != anyText {
				g.tokens = append(g.tokens, token{kind: anyText})
			}
		case '?':
			g.tokens = append(g.tokens, token{kind: anyOne})
		case '[':
			if set, length := parseSet(all); length > 0 {
				g.tokens = append(g.tokens, set)
				all = all[length:]
				continue
			}
			fallthrough // it is never closed
		default:
			g.tokens = append(g.tokens, token{literal, []runes{{all[0], all[0]}}})
		}
		all = all[1:]
	}
	return g
}

// parseSet reads a set at the begin of all, and returns how long it is, or 0 if it is not
// closed. A bracket that closes nothing else may be the first character of a set.
func parseSet(all []rune) (t token, length int) {
	t.kind = oneOf
	begin := 1
	if len(all) > 1 && all[1] == '!' {
		t.kind, begin = noneOf, 2
	}
	if begin >= len(all) {
		return token{}, 0
	}
	end := slices.Index(all[begin+1:], ']')
	if end < 0 {
		return token{}, 0
	}
	end += begin + 1
	for set := all[begin:end]; len(set) > 0; {
		if len(set) > 2 && set[1] == '-' {
			t.ranges = append(t.ranges, runes{set[0], set[2]})
			set = set[3:]
			continue
		}
		t.ranges = append(t.ranges, runes{set[0], set[0]})
		set = set[1:]
	}
	return t, end + 1
}

func (t token) matches(r rune) bool {
	switch t.kind {
	case anyOne:
		return true
	case anyText:
		return false
	}
	found := slices.ContainsFunc(t.ranges, func(in runes) bool {
		lower, upper := unicode.ToLower(r), unicode.ToUpper(r)
		return in.first <= lower && lower <= in.last || in.first <= upper && upper <= in.last
	})
	return found != (t.kind == noneOf)
}

// matches reports whether the whole name fits. Its time is at most the product of both
// lengths, whatever the pattern: only the last * is tried again.
func (g glob) matches(name string) bool {
	all := []rune(name)
	at, retry, retryAt := 0, -1, 0 // token; token behind the last *, and where it began
	for i := 0; i < len(all); {
		switch {
		case at < len(g.tokens) && g.tokens[at].kind == anyText:
			at++
			retry, retryAt = at, i
		case at < len(g.tokens) && g.tokens[at].matches(all[i]):
			at++
			i++
		case retry >= 0:
			retryAt++
			at, i = retry, retryAt
		default:
			return false
		}
	}
	return !slices.ContainsFunc(g.tokens[at:], func(t token) bool { return t.kind != anyText })
}

// matchesAny reports whether one of the patterns fits a name.
func matchesAny(globs []glob, name string) bool {
	return slices.ContainsFunc(globs, func(g glob) bool { return g.matches(name) })
}
