#!/bin/bash
# Documents and what they are made from say the same: docs/ops.md is what the
# tables give, "kvmctl gaps" has every row of docs/gaps.md, and a table in
# docs/gaps.md that is not in shape is refused.
set -u

kvmctl=${KVMCTL:-./kvmctl}
top=${top_srcdir:-.}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

checks=0 failed=0
failure() {
	failed=$((failed + 1))
	echo "FAILED: $*"
}

# same WHAT FILE FILE
same() {
	checks=$((checks + 1))
	cmp -s "$2" "$3" && return
	failure "$1"
	diff "$2" "$3" | head -n 20
}

# --- docs/ops.md ------------------------------------------------------------------

"$kvmctl" help --markdown > "$scratch/ops.md" || failure "kvmctl help --markdown"
same "docs/ops.md is not what the tables give (make docs writes it)" "$top/docs/ops.md" "$scratch/ops.md"
"$kvmctl" help ops | awk '/^  [a-z]/ { print $1 }' > "$scratch/rows"
"$kvmctl" help requests | awk '/^  [a-z]/ { print $1 }' >> "$scratch/rows"
sed -n 's/^### //p' "$scratch/ops.md" > "$scratch/chapters"
same "docs/ops.md has every operation and request once" "$scratch/rows" "$scratch/chapters"

# --- docs/gaps.md and kvmctl gaps ---------------------------------------------------

# the rows of all tables, as cells with the marks of names left out; \| is a bar
sed -n -e '/^|---/d' -e '/^| subject /d' -e 's/^| //p' "$top/docs/gaps.md" | sed -e 's/ |$//' -e 's/\\|/\x01/g' > "$scratch/cells"
tr '\001' '|' < "$scratch/cells" | sed 's/ | /\n/g' | tr -d '`' | sed 's/^-$/(nothing)/' > "$scratch/document"
awk '
	function put() { if (text != "") print text; text = "" }
	NF == 0 { put(); next }
	/^[0-9]+[.] / { put(); next }
	/^  (specification|kernel|model) / { put(); sub(/^  [a-z]+ +/, "") }
	{ sub(/^ +/, ""); text = text (text != "" ? " " : "") $0 }
	END { put() }
' <("$kvmctl" gaps) > "$scratch/command"
same "kvmctl gaps has every cell of docs/gaps.md" "$scratch/document" "$scratch/command"

rows=$(wc -l < "$scratch/cells")
objects=$("$kvmctl" --json gaps | grep -c '^{"section":".*","subject":".*","specification":".*","kernel":".*","model":".*"}$')
checks=$((checks + 1))
[ "$rows" -gt 100 ] && [ "$rows" -eq "$objects" ] || failure "$rows rows in docs/gaps.md, $objects objects of kvmctl gaps"
checks=$((checks + 1))
"$kvmctl" gaps | awk 'length($0) > 80 { print; wide = 1 } END { exit wide }' || failure "kvmctl gaps is wider than 80 columns"

# words choose, in whatever case, and all of them must be there
checks=$((checks + 1))
few=$("$kvmctl" --json gaps CURSOR_unmap | wc -l)
fewer=$("$kvmctl" --json gaps cursor_unmap count | wc -l)
[ "$few" -gt 0 ] && [ "$few" -lt "$rows" ] && [ "$fewer" -gt 0 ] && [ "$fewer" -le "$few" ] ||
	failure "kvmctl gaps WORD gave $few, with a second word $fewer"
checks=$((checks + 1))
"$kvmctl" gaps no-such-word > "$scratch/out" 2> "$scratch/err"
[ $? -eq 2 ] && [ ! -s "$scratch/out" ] && [ -s "$scratch/err" ] || failure "kvmctl gaps with a word that is nowhere"

# --- docs/kvmctl.1 has every command, and what help says of it fits 80 columns and is all of it --

"$kvmctl" help | sed -nE '/^Commands/,/^$/{s/^  ((store|snapshot|trace) [a-z]+|[a-z]+[a-z-]*).*/\1/p}' > "$scratch/commands"
checks=$((checks + 1))
[ "$(wc -l < "$scratch/commands")" -gt 30 ] || failure "kvmctl help lists $(wc -l < "$scratch/commands") commands"
while read -r command; do
	checks=$((checks + 2))
	grep -Eq "^\.(It )?Ic $command( |\$)" "$top/docs/kvmctl.1" || failure "docs/kvmctl.1 has no entry of $command"
	# shellcheck disable=SC2086 # two words
	"$kvmctl" help $command > "$scratch/out" || failure "kvmctl help $command"
	awk -v command="$command" 'length($0) > 80 { print command ": " $0; wide = 1 } END { exit wide }' "$scratch/out" ||
		failure "kvmctl help $command is wider than 80 columns"
done < "$scratch/commands"

# --- a document out of shape ---------------------------------------------------------

head='| subject | specification | kernel | model, and why |
|---|---|---|---|'

# gaps STATUS TEXT: what tools/gaps.awk makes of such a document
gaps() {
	local status
	checks=$((checks + 1))
	printf '%s\n' "$2" > "$scratch/gaps.md"
	LC_ALL=C awk -f "$top/tools/gaps.awk" "$scratch/gaps.md" > "$scratch/out" 2> "$scratch/err"
	status=$?
	if [ $status -ne "$1" ] || { [ "$1" -ne 0 ] && ! grep -q 'gaps.md:[0-9]' "$scratch/err"; }; then
		failure "status $status, not $1, for:"
		cat "$scratch/gaps.md" "$scratch/err"
	fi
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

echo "$checks checks, $failed failed"
[ $failed -eq 0 ]
