#!/bin/bash
# Count the instructions of the hot paths (bench/gate.c) and compare them with
# those in bench/instructions: none may take 10 % more.  One that takes 10 %
# less is told, so that the file gets written again.
#
#   tests/instructions.sh           compare
#   tests/instructions.sh --write   write the file: make bench-instructions
#
# Counts belong to a compiler, its options and a processor family; for others,
# and without valgrind, the test is skipped.
set -eu -o pipefail

top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
kvmctl=${KVMCTL:-$top_builddir/kvmctl}
counts=$top_srcdir/bench/instructions
operations=2000 # lines of the recording that are replayed

skip() {
	echo "skipped: $1"
	exit 77
}

setting() { sed -n "s/^$1 = *//p" "$top_builddir/Makefile" | head -n 1; }

command -v callgrind_annotate > /dev/null || skip "no valgrind (tools/install-deps ci)"
[ -z "$(setting SANITIZE_CFLAGS)$(setting COVERAGE_CFLAGS)" ] || skip "the programs are built to be watched, not to be fast"
compiler=$(setting CC)
case $($compiler --version | head -n 1) in
gcc*) made_by="gcc $($compiler -dumpversion), $(uname -m)$(grep -qw avx2 /proc/cpuinfo && echo ' with avx2'), $(setting CFLAGS)" ;;
*) skip "counts are kept for gcc" ;;
esac
if [ "${1:-}" != --write ]; then
	expected=$(sed -n 's/^# made by: //p' "$counts")
	[ "$made_by" = "$expected" ] || skip "counts are those of $expected, this is $made_by"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$kvmctl" trace import --from linux-ftrace "$top_srcdir/data/linux-6.12-x86_64-4level" -o "$scratch/whole" > "$scratch/log" 2>&1 ||
	{ cat "$scratch/log"; exit 1; }
head -n "$operations" "$scratch/whole" > "$scratch/trace.kvt"

# The C library's functions for the oldest processors: the counts are then the same on all.
GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM LD_BIND_NOW=1 \
	valgrind --tool=callgrind --callgrind-out-file="$scratch/profile" \
	"$top_builddir/bench/gate" "$scratch/trace.kvt" > "$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
callgrind_annotate --inclusive=yes --threshold=100 "$scratch/profile" 2> "$scratch/log" |
	sed -n 's/^ *\([0-9][0-9,]*\).*:path_\([a-z_]*\).*$/\2 \1/p' | tr -d , | sort -u > "$scratch/counts"
[ -s "$scratch/counts" ] || { echo "no counts"; cat "$scratch/log"; exit 1; }

if [ "${1:-}" = --write ]; then
	{
		echo "# Instructions of each path of bench/gate.c; written by make bench-instructions."
		echo "# made by: $made_by"
		cat "$scratch/counts"
	} > "$counts"
	cat "$counts"
	exit 0
fi

awk '
	/^#/ { next }
	NR == FNR { want[$1] = $2; next }
	{
		have[$1] = 1
		verdict = !($1 in want) ? "NEW" : $2 > want[$1] * 1.1 ? "MORE" : $2 < want[$1] * 0.9 ? "less" : ""
		printf "%-20s %9d, was %9d %s\n", $1, $2, want[$1], verdict
		if (verdict == "MORE" || verdict == "NEW")
			bad = 1
		if (verdict == "less")
			better = 1
	}
	END {
		for (path in want)
			if (!(path in have)) {
				print path " was not counted"
				bad = 1
			}
		if (better)
			print "faster than what is kept: make bench-instructions"
		if (bad)
			print "make bench-instructions keeps these counts, if there is a reason for them"
		exit bad
	}' "$counts" "$scratch/counts"
