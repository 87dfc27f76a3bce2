#!/bin/bash
# The benchmarks that need no other program run, in their quick mode, with laws
# and answers checked as always; and docs/benchmarks/ is in a shape that
# bench/run can write to: places for figures, plots that are there.
export TMPDIR=/var/tmp # a short path for sockets, on a disk as a rule
. "$(dirname "$0")/e2e.sh"

# --- documents and plots -------------------------------------------------------------

for document in "$top"/docs/benchmarks/*.md; do
	name=$(sed -n 's/^<!-- figures: make bench BENCH=\([a-z]*\) -->$/\1/p' "$document")
	checks=$((checks + 3))
	[ "$(grep -c '^<!-- end of figures -->$' "$document")" -eq 1 ] && [ -n "$name" ] ||
		failure "$document has no place for figures"
	case " $(sed -n "s/^names='\(.*\)'$/\1/p" "$top/bench/run") " in
	*" $name "*) ;;
	*) failure "$document: bench/run knows no benchmark \"$name\"" ;;
	esac
	grep -q "^Taken .* with .make bench BENCH=$name" "$document" || failure "$document has no figures"
done
for plot in $(sed -n 's/^!\[.*\](\(.*\))$/\1/p' "$top"/docs/benchmarks/*.md); do
	checks=$((checks + 2))
	[ -s "$top/docs/benchmarks/$plot" ] || failure "docs/benchmarks/$plot is missing"
	grep -q "'${plot%%-*}-\|'$plot'" "$top/bench/plot.gp" || failure "bench/plot.gp does not draw $plot"
done
for plot in "$top"/docs/benchmarks/*.svg; do
	checks=$((checks + 3))
	grep -Fq "(${plot##*/})" "$top"/docs/benchmarks/*.md || failure "no document shows $plot"
	[ "$(wc -c < "$plot")" -lt 60000 ] || failure "$plot is large"
	[ "$(tail -n 2 "$plot" | grep -c '</svg>')" -eq 1 ] || failure "$plot is cut off"
done

# --- the programs -----------------------------------------------------------------------

# quick TEXT PROGRAM ARGUMENT...: it ends well, says TEXT, and writes points for plots
quick() {
	local text=$1
	shift
	checks=$((checks + 1))
	mkdir -p "$scratch/points"
	BENCH_QUICK=1 BENCH_DATA=$scratch/points timeout 120 "$@" > out 2>&1 || {
		if grep -q 'is memory, not a disk' out; then
			echo "/var/tmp is on no disk: $1 was not run"
			return
		fi
		failure "$* ended with an error"
		return
	}
	says out "$text"
	[ -n "$(find "$scratch/points" -size +0 | head -n 1)" ] || failure "$1 wrote no points"
	rm -rf "$scratch/points"
}

quick '| protect a page |' "$build/bench/memory"
quick '### An empty store of 16 TiB' "$build/bench/scale" "$kvmstored" "$scratch"
quick '| adopting an image' "$build/bench/replay" "$top/data/linux-6.12-x86_64-4level" "$kvmctl" "$kvmstored" "$scratch"

finish
