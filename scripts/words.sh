#!/bin/sh
# Reports words that our English avoids, with file, line and the word to use
# instead (CONTRIBUTING.md, "Rules for English"). Run it as `make lint-words`.
#
# It reads all tracked text files. It ignores case, splits camelCase identifiers
# into words and finds phrases that a line break divides.
# shellcheck disable=SC2016,SC2089,SC2090 # awk reads the program and the lists

set -eu
cd "$(dirname "$0")/.."

# What to avoid, an extended regular expression of whole words in lower case, and
# what to use instead.
WORDS='
mend(s|ed|ing)?                  = fix
anew                             = again
in place of                      = instead of
besides                          = in addition to
rid of                           = remove
shall                            = must, should
tells? whether                   = reports whether
(some|no)body                    = the administrator, a process, no client
whoever                          = the caller, the holder
by (itself|themselves)           = automatically, alone
troubles?                        = failure, fault
patience                         = timeout, limit
(breathe|unhurried)              = a plain term, such as pause or wait
in vain                          = without success
(is|are) none                    = say what is missing: has no x, unknown x
'

# Lines that may have such a word: a file, or * for all, and an extended regular
# expression. They are this list, the bad examples of CONTRIBUTING.md, a field of
# the API, and the Unix user nobody.
EXEMPT='
scripts/words.sh    .
CONTRIBUTING.md     ^[|]
*                   json:"trouble
*                   asNobody|"nobody"|nobody:12345|(belongs to|link of|as) nobody
'

export WORDS EXEMPT
git grep -lI '' -- '*.go' '*.md' '*.txtar' '*.sh' '*.yaml' '*.service' '*Makefile' .ci/run | xargs awk '
	BEGIN {
		n = split(ENVIRON["WORDS"], rows, "\n")
		for (i = 1; i <= n; i++) {
			if (split(rows[i], row, / += /) != 2) continue
			word[++words] = row[1]; use[words] = row[2]
			any = any (any ? "|" : "") row[1]
		}
		n = split(ENVIRON["EXEMPT"], rows, "\n")
		for (i = 1; i <= n; i++) {
			if (split(rows[i], row, /  +/) == 2) exempt[row[1]] = exempt[row[1]] (exempt[row[1]] ? "|" : "") row[2]
		}
	}

	# plain returns text in lower case, with a space around each word of camelCase and
	# around punctuation that ends a phrase, and no other punctuation.
	function plain(text,  out) {
		while (match(text, /[a-z0-9][A-Z]/)) {
			out = out substr(text, 1, RSTART) " "
			text = substr(text, RSTART + 1)
		}
		out = tolower(out text)
		gsub(/[^a-z.,:;]+/, " ", out)
		gsub(/[.,:;]+/, " . ", out)
		return " " out " "
	}

	FNR == 1 { last = "" }
	{
		before = last
		n = split($0, parts, /[ \t]+/)
		last = (n > 1 ? parts[n - 1] " " : "") parts[n] " "
		if (plain(before $0) !~ " (" any ") ") next
		if ($0 ~ exempt["*"] || FILENAME in exempt && $0 ~ exempt[FILENAME]) next
		for (i = 1; i <= words; i++) {
			pattern = " (" word[i] ") "
			text = plain($0)
			if (text !~ pattern && plain(before) !~ pattern) text = plain(before $0)
			if (!match(text, pattern)) continue
			printf "%s:%d: avoid \"%s\", use: %s\n", FILENAME, FNR, substr(text, RSTART + 1, RLENGTH - 2), use[i]
			failed = 1
		}
	}
	END { exit failed }
'
