package cmd

import (
	"strings"

	"github.com/rivo/uniseg"
)

// width returns the number of columns of a text on a terminal. A wide character has
// two, a combining one none.
func width(text string) int { return uniseg.StringWidth(text) }

// fit returns the first of the texts that has at most so many columns. If none has, it
// shortens the last one. A live line that wraps cannot be removed.
func fit(columns int, texts ...string) string {
	for _, text := range texts {
		if width(text) <= columns {
			return text
		}
	}
	return shortenAtWord(texts[len(texts)-1], columns)
}

// shortenAtWord cuts text to so many columns, before a word, and marks that with an
// ellipsis. If the first word is too long, only the ellipsis is left.
func shortenAtWord(text string, columns int) string {
	if width(text) <= columns {
		return text
	}
	short := ""
	for i, r := range text {
		if r != ' ' {
			continue
		}
		if width(text[:i])+1 > columns {
			break
		}
		short = text[:i]
	}
	return strings.TrimRight(short, " ,:;") + "…"
}

// shorten cuts text to so many columns, before a word if that keeps at least half of
// them, and else anywhere, because a path or a list of names can have no blank.
func shorten(text string, columns int) string {
	if width(text) <= columns {
		return text
	}
	if short := shortenAtWord(text, columns); width(short) > columns/2 {
		return short
	}
	left, end := columns-1, 0
	for g := uniseg.NewGraphemes(text); g.Next() && g.Width() <= left; {
		left -= g.Width()
		_, end = g.Positions()
	}
	return text[:end] + "…"
}

// wrap breaks text into lines of so many columns, between words. A longer word stays
// whole. If columns is 0, there is one line.
func wrap(text string, columns int) string {
	if columns == 0 {
		return text
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) <= columns:
			line += " " + word
		default:
			lines = append(lines, line)
			line = "  " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}
