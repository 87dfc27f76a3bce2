#!/bin/bash
# The state of a store as one file: kvmctl export, from a daemon, from a state
# directory at a past step, from a snapshot; read back, read with sqlite3, and
# read as JSON, which must tell the same.
. "$(dirname "$0")/e2e.sh"

record=$build/tests/record_history
python=
command -v python3 > /dev/null && python=python3

# agree FILE.db FILE.json: the document tells what the tables hold
agree() {
	checks=$((checks + 1))
	[ -n "$python" ] || return
	"$python" "$top/tests/e2e-export.py" "$1" "$2" > agreed 2>&1 || { failure "$1 and $2 disagree"; tail -n 5 agreed; }
}

# --- snapshots, of all sorts of stores ------------------------------------------------------

for trace in "$traces"/c0001*.kvt "$traces"/b0003*.kvt "$traces"/b0005*.kvt "$traces"/r0002*.kvt \
	"$traces"/vmspace/cursor-mut-flusher.kvt "$traces"/vmspace/map-and-query-io-memory.kvt \
	"$traces"/vmspace/page-faults.kvt "$traces"/io/page-faults.kvt "$traces"/frames/list-cursor*.kvt \
	"$traces"/frames/what-keeps*.kvt; do
	[ -e "$trace" ] || continue
	rm -f a.db b.db b.json
	run 0 --embedded run "$trace" --keep a.db
	run 0 --embedded=a.db export --sqlite b.db
	equal "$(digest --embedded=a.db)" "$(digest --embedded=b.db)"
	run 0 --embedded=a.db export --json b.json
	agree b.db b.json
done
"$kvmctl" trace gen --seed 5 --steps 3000 ncpu=2 -o random.kvt
rm -f a.db b.db b.json
run 0 --embedded run random.kvt --keep a.db
run 0 --embedded=a.db export --sqlite b.db
run 0 --embedded=a.db export --json b.json
agree b.db b.json

# the store keeps its name, and is found by it
rm -f named.db copy.db
run 0 --embedded --store lab --keep named.db exec frame_alloc
run 0 --embedded=named.db export --sqlite copy.db
run 0 --embedded=copy.db --store lab digest
run 0 --embedded=copy.db export --json
says out '"store":"lab",'
run 6 --embedded=copy.db --store other export --json

# - and no word at all are standard output
run 0 --embedded=a.db export --json -
cmp -s out b.json || failure "standard output differs from the file"
run 0 --embedded=a.db export --json
cmp -s out b.json || failure "without a name the document does not go to standard output"

# --- nothing is overwritten unasked, and what is there stays until the new is complete --------

echo mine > mine
for form in --sqlite --json; do
	run 6 --embedded=a.db export $form mine
	says err 'mine is there already'
	equal "$(cat mine)" mine
	run 6 --embedded=a.db export $form .
	run 6 --embedded=a.db export $form --force .
	run 6 --embedded=a.db export $form no-such-directory/file
	ln -s nowhere dangling
	run 6 --embedded=a.db export $form dangling
	[ -L dangling ] && [ ! -e nowhere ] || failure "a link was written through"
	rm -f dangling
done
run 0 --embedded=a.db export --json --force mine
cmp -s mine b.json || failure "--force did not replace"
run 6 --embedded=a.db export --sqlite --force mine
cmp -s mine b.json || failure "a file that is no snapshot was replaced by a database"
run 0 --embedded export --sqlite --force b.db
[ "$(digest --embedded=b.db)" != "$(digest --embedded=a.db)" ] || failure "--force did not replace the database"
[ -z "$(ls | grep new-)" ] || failure "files left behind: $(ls)"
if [ -w /dev/full ]; then
	"$kvmctl" --embedded=a.db export --json > /dev/full 2> err
	equal $? 6
fi

run 2 --embedded=a.db export
run 2 --embedded=a.db export --sqlite --json both
run 2 --embedded=a.db export --sqlite
run 2 --embedded=a.db export --sqlite -
run 2 --embedded=a.db export --json --step 3
run 6 --embedded=random.kvt export --json
[ ! -s out ] || failure "a document of no store"

# --- sqlite3 alone reads it -------------------------------------------------------------------

if command -v sqlite3 > /dev/null; then
	rm -f k.db
	run 0 --embedded --keep k.db exec 'frame_from_unused paddr=0x1000' \
		'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb'
	rm -f x.db
	run 0 --embedded=k.db export --sqlite x.db
	equal "$(sqlite3 -readonly x.db 'SELECT area, va, paddr FROM area_mappings')" '1|0xffffdfffffffd000|0x1000'
	equal "$(sqlite3 -readonly x.db 'PRAGMA integrity_check')" ok
fi

# --- a past step, from a directory and through a daemon ---------------------------------------------

mkdir live
"$record" live "$traces"/c0001*.kvt flush=3 snapshot=9 > digests || failure "cannot record"
last=$(tail -n 1 digests | cut -d ' ' -f 1)
for step in 0 7 $((last / 2)) "$last"; do
	rm -f s.db s.json
	run 0 --state-dir live export --sqlite s.db --step "$step"
	equal "$(digest --embedded=s.db)" "$(sed -n "s/^$step //p" digests)"
	run 0 --state-dir live export --json s.json --step "$step"
	says s.json "\"step\":$step,"
	agree s.db s.json
done
run 0 --state-dir live export --json
says out "\"step\":$last,"
run 0 --state-dir live export --as vmallocinfo --step $((last / 2))
cp out listing
run 0 --state-dir live compare --from vmallocinfo --step $((last / 2)) listing
run 2 -e compare --from vmallocinfo --step 3 listing
run 0 --state-dir live export --json --step last-2
says out "\"step\":$((last - 2)),"
run 2 --state-dir live export --json --step next
run 6 --state-dir live export --json --step $((last + 1))
run 6 --state-dir live --store other export --json
run 6 --state-dir nowhere export --json

for durability in relaxed off; do
	rm -rf state d.db
	mkdir state
	start --state-dir state --durability $durability
	run 0 --connect "$socket" frame_alloc
	run 0 --connect "$socket" kvirt_reserve area_size=0x3000
	run 0 --connect "$socket" export --sqlite d.db
	run 0 --connect "$socket" digest
	is out "digest=$(digest --embedded=d.db)"
	run 0 --connect "$socket" export --json
	says out '"areas":1,'
	run 3 --connect "$socket" --store other export --json
	stop
done
# without a directory there is no whole state to be had, but every mapping
start
run 6 --connect "$socket" export --json
says err 'without a state directory'
run 0 --connect "$socket" exec 'frame_from_unused paddr=0x1000' \
	'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb'
for form in qemu-tlb qemu-mem vmallocinfo maps pagemap leaves; do
	rm -f listing
	run 0 --connect "$socket" export --as $form listing
	run 0 --connect "$socket" compare --from $form listing
	says out ' agree=1 '
done
run 0 --connect "$socket" export --as pagemap
says out 'ffffdfffffffd000 1 1 0 0 1 0 0'
run 2 --connect "$socket" export --as maps --table 9
run 2 --connect "$socket" compare --from leaves --table 9 listing
stop
run 3 --connect "$socket" export --json

finish
