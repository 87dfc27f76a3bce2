#!/bin/bash
# Documents and what they are made from say the same: docs/ops.md is what the
# tables give, "kvmctl gaps" has every row of docs/gaps.md, and a table in
# docs/gaps.md that is not in shape is refused.
. "$(dirname "$0")/e2e.sh"

# --- docs/ops.md ------------------------------------------------------------------

"$kvmctl" help --markdown > ops.md || failure "kvmctl help --markdown"
# what the tables give: "make docs" writes it
same "$top/docs/ops.md" ops.md
"$kvmctl" help ops | awk '/^  [a-z]/ { print $1 }' > rows
"$kvmctl" help requests | awk '/^  [a-z]/ { print $1 }' >> rows
sed -n 's/^### //p' ops.md > chapters
# every operation and request once
same rows chapters

# --- docs/gaps.md and kvmctl gaps ---------------------------------------------------

# the rows of all tables, as cells with the marks of names left out; \| is a bar
sed -n -e '/^|---/d' -e '/^| subject /d' -e 's/^| //p' "$top/docs/gaps.md" | sed -e 's/ |$//' -e 's/\\|/\x01/g' > cells
tr '\001' '|' < cells | sed 's/ | /\n/g' | tr -d '`' | sed 's/^-$/(nothing)/' > document
awk '
	function put() { if (text != "") print text; text = "" }
	NF == 0 { put(); next }
	/^[0-9]+[.] / { put(); next }
	/^  (specification|kernel|model) / { put(); sub(/^  [a-z]+ +/, "") }
	{ sub(/^ +/, ""); text = text (text != "" ? " " : "") $0 }
	END { put() }
' <("$kvmctl" gaps) > command
same document command

rows=$(wc -l < cells)
objects=$("$kvmctl" --json gaps | grep -c '^{"section":".*","subject":".*","specification":".*","kernel":".*","model":".*"}$')
checks=$((checks + 1))
[ "$rows" -gt 100 ] && [ "$rows" -eq "$objects" ] || failure "$rows rows in docs/gaps.md, $objects objects of kvmctl gaps"
run 0 gaps
narrow out

# words choose, in whatever case, and all of them must be there
checks=$((checks + 1))
few=$("$kvmctl" --json gaps CURSOR_unmap | wc -l)
fewer=$("$kvmctl" --json gaps cursor_unmap count | wc -l)
[ "$few" -gt 0 ] && [ "$few" -lt "$rows" ] && [ "$fewer" -gt 0 ] && [ "$fewer" -le "$few" ] ||
	failure "kvmctl gaps WORD gave $few, with a second word $fewer"
run 2 gaps no-such-word
empty out
check test -s err

# --- docs/kvmctl.1 has every command, and what help says of it fits 80 columns and is all of it --

"$kvmctl" help | sed -nE '/^Commands/,/^$/{s/^  ((store|snapshot|trace) [a-z]+|[a-z]+[a-z-]*).*/\1/p}' > commands
checks=$((checks + 1))
[ "$(wc -l < commands)" -gt 30 ] || failure "kvmctl help lists $(wc -l < commands) commands"
while read -r command; do
	matches "$top/docs/kvmctl.1" "^\.\(It \)\?Ic $command\( \|\$\)"
	# shellcheck disable=SC2086 # two words
	run 0 help $command
	narrow out
done < commands

# --- a document out of shape ---------------------------------------------------------

head='| subject | specification | kernel | model, and why |
|---|---|---|---|'

# gaps STATUS TEXT: what tools/gaps.awk makes of such a document
gaps() {
	printf '%s\n' "$2" > gaps.md
	LC_ALL=C ends "$1" awk -f "$top/tools/gaps.awk" gaps.md
	[ "$1" -eq 0 ] || matches err 'gaps.md:[0-9]'
}

gaps 0 "## 1. One
$head
| a | - | - | b |"
gaps 0 "## 1. One
text
$head
| a | b \\| c | \"d\" | e\\f |"
gaps 1 "$head
| a | b | c | d |"
gaps 1 "## 1. One"
gaps 1 "## 2. Two
$head
| a | b | c | d |"
gaps 1 "## 1. One
$head"
gaps 1 "## 1. One
$head
| a | b | c |"
gaps 1 "## 1. One
$head
| a | b | c | d | e |"
gaps 1 "## 1. One
$head
| a |  | c | d |"
gaps 1 "## 1. One
$head
| a | b | c | - |"
gaps 1 "## 1. One
$head
| a | b | c | d |
| a | e | f | g |"
gaps 1 "## 1. One
| operation | why |
|---|---|
| a | b |"
gaps 1 "## 1. One
$head
| a | b | c | d"
gaps 1 ""

finish
