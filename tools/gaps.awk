# Turn docs/gaps.md into the rows of client/gaps.h, and refuse a document whose
# tables do not have the one shape that gaps are written in:
#
#   ## N. Section
#   | subject | specification | kernel | model, and why |
#   |---|---|---|---|
#   | four cells, none of them empty; "-": says nothing (not in the first and last) |
#
#   awk -f tools/gaps.awk docs/gaps.md > gaps_rows.c
#
# A bar inside a cell is written \|.  Every mistake is named with its line; the
# exit status is 1 if there is one.

function mistake(text) {
	printf "%s:%d: %s\n", FILENAME, FNR, text | "cat >&2"
	mistakes++
}

function trim(text) {
	sub(/^[ \t]+/, "", text)
	sub(/[ \t]+$/, "", text)
	return text
}

# Text as a literal of C, the bars put back.
function literal(text) {
	gsub(/\\/, "\\\\", text)
	gsub(/"/, "\\\"", text)
	gsub(/\001/, "|", text)
	return "\"" text "\""
}

BEGIN {
	print "/* Made from docs/gaps.md by tools/gaps.awk. */"
	print "#include \"client/gaps.h\"\n\nconst struct kvmctl_gap kvmctl_gap_rows[] = {"
}

/^## / {
	if (section != "" && rows == 0)
		mistake("the section above has no entry")
	section = trim(substr($0, 4))
	sections++
	rows = 0
	if (section !~ "^" sections "[.] [^ ]")
		mistake("expected section " sections ", found '" section "'")
	state = ""
	next
}

/^\|/ {
	if (section == "")
		mistake("a table before the first section")
	if ($0 !~ /\|$/)
		mistake("a row ends in a bar")
	line = $0
	gsub(/\\\|/, "\001", line)
	cells = split(line, cell, "|") - 2
	if (cells != 4)
		mistake("expected 4 cells, found " cells)
	for (i = 1; i <= 4; i++)
		cell[i] = trim(cell[i + 1])
	if (state == "") {
		if (cell[1] "|" cell[2] "|" cell[3] "|" cell[4] != "subject|specification|kernel|model, and why")
			mistake("a table begins with: | subject | specification | kernel | model, and why |")
		state = "head"
		next
	}
	if (state == "head") {
		if ($0 != "|---|---|---|---|")
			mistake("expected |---|---|---|---|")
		state = "rows"
		next
	}
	for (i = 1; i <= 4; i++)
		if (cell[i] == "" || (cell[i] == "-" && (i == 1 || i == 4)))
			mistake("cell " i " says nothing")
	if ((section, cell[1]) in seen)
		mistake("'" cell[1] "' is in this section already")
	seen[section, cell[1]] = 1
	rows++
	entries++
	printf "\t{ %s,\n", literal(section)
	for (i = 1; i <= 4; i++)
		printf "\t  %s%s\n", literal(cell[i]), i < 4 ? "," : " },"
	next
}

{
	if (state == "head")
		mistake("a table without rows")
	state = ""
}

END {
	if (section != "" && rows == 0)
		mistake("the last section has no entry")
	if (entries == 0)
		mistake("no entries")
	print "\t{ 0 },\n};"
	if (mistakes > 0)
		exit 1
}
