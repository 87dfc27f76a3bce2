#!/bin/bash
# Batches, undo, clones and the first steps of a history, as somebody types them.
. "$(dirname "$0")/e2e.sh"

export KVMSTORE_SOCKET=$socket
none=18446744073709551615

# --- nothing has happened yet ---------------------------------------------------------

start --state-dir state
run 0 log
empty out
run 0 --json log
empty out
run 0 story frame 0x1000
says err 'has made no steps yet'
run 0 log --trace
cp out fresh.kvt
run 0 -e replay fresh.kvt
says out "$(digest)"
run 0 trace record
run 6 log --from 1
says err 'has not come to step 1, its last is 0'
run 6 undo

# recording may begin before there is anything to record
"$kvmctl" trace record --live -o live.kvt 2> live.err &
recorder=$!
wait_for test -s live.kvt
run 0 exec 'frame_from_unused paddr=0x1000' frame_alloc
says out 'ok frame=2 paddr=0x0'
wait_for grep -q '@step=2 ' live.kvt
kill -INT $recorder
wait $recorder || failure "the recording ended with status $?: $(cat live.err)"
run 0 -e replay live.kvt
says out 'ops           2 '

# a step that touched the frame at 0 touched that one only
run 0 log --frame 0x0
says out '@step=2 '
run 0 log --frame 0x1000
says out '@step=1 '
lacks out '@step=2 '
run 0 log --frame 0x5000
empty out

# --- together or not at all -------------------------------------------------------------

before=$(digest)
run 1 exec --atomic 'frame_drop frame=2' frame_alloc 'frame_drop frame=99' frame_alloc
is out "ok last=true
ok frame=3 paddr=0x0
pre unknown_frame"
says err 'operation 3 of 4 is not ok: none of them has happened'
equal "$(digest)" "$before"
run 0 log --from 2
lines out 1
printf 'frame_drop frame=2\n\n# a list\nkvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb\n' > batch
timeout 60 "$kvmctl" exec --atomic - 'kvirt_query area=1 va=0xffffdfffffffe000' < batch > out 2> err ||
	failure "exec --atomic -"
[ "$(grep -c '^ok' out)" -eq 3 ] || failure "not three outcomes"
run 0 status
says out 'step=5'
run 1 -e exec --keep kept.db --atomic frame_alloc 'frame_drop frame=9'
equal "$(digest --embedded=kept.db)" "$(digest -e)"
run 0 -e exec --keep kept.db --atomic frame_alloc 'frame_drop frame=1'
run 0 --embedded=kept.db status
says out 'step=2'
run 0 --json exec --atomic ''
empty out
yes frame_alloc | head -n 4097 > many
for words in census 'cursor_open vm_space=1 start=0 end=0x1000' 'frame_dorp frame=1' "$(cat many)"; do
	run 2 exec --atomic frame_alloc "$words"
	empty out
done
run 2 exec --atomic --wait 5 frame_alloc
run 0 status
says out 'step=5'

# --- back, and copies ----------------------------------------------------------------------

five=$(digest)
run 0 undo 2
equal "$(digest)" "$(digest at 3)"
run 0 undo
equal "$(digest)" "$five"
for number in 8 $none; do
	run 6 undo $number
	says err 'has made 7 steps'
done
for number in 0 -- -1 two; do
	[ $number != -- ] || continue
	run 2 undo -- $number
done
run 0 store clone three 3
equal "$(digest --store three)" "$(digest at 3)"
run 6 --store three log
says err 'its history begins behind step 3'
run 0 store clone before last-1
equal "$(digest --store before)" "$(digest at 6)"
run 0 store clone now last
equal "$(digest --store now)" "$five"
for step in 8 $none last-8 last-$none; do
	run 6 store clone other $step
	run 6 at $step digest
	run 6 diff 0 $step
	run 6 export --step $step --json
	empty out
done
run 2 store clone other -- -1
run 2 store clone other first
run 3 --store other status
run 2 snapshot load 0
run 2 diff here there
says err 'or two files that are there'
run 2 trace record --live --to 7
says err 'that step has passed'
run 2 trace record --live --from 5 --to 4
run 0 trace record --live --from 5 --to 7
[ "$(grep -o '@step=[0-9]*' out)" = '@step=5' ] || failure "not the one step that led to the state"
stop

# --- no output takes the place of a database ------------------------------------------------------

sum=$(cksum < state/kvmstore.db)
echo 'kvmtrace 1' > nothing.kvt
for words in 'dump-memory' 'trace record -o' 'mappings -o' 'export --json --force' 'export --as leaves --force'; do
	run 6 --state-dir state $words state/kvmstore.db
	says err 'a database; it was left alone'
done
for words in 'trace gen -o' 'trace stat nothing.kvt -o' '-e replay nothing.kvt --junit' 'trace convert nothing.kvt'; do
	run 6 $words state/kvmstore.db
	says err 'a database; it was left alone'
	# nor of what belongs to one, whether it is there or not
	for part in wal shm journal; do
		run 6 $words state/kvmstore.db-$part
		says err 'a part of a database; it was left alone'
		absent state/kvmstore.db-$part
	done
done
[ "$(cksum < state/kvmstore.db)" = "$sum" ] || failure "the database has changed"
run 2 --state-dir state dump-memory -
run 2 --state-dir state at last nonsense
says err 'help requests'

# --- a log that the disk has changed is not read as if it were shorter ---------------------------

start --state-dir killed --durability full
for number in 1 2 3 4 5; do
	run 0 frame_alloc
done
stop KILL
run 0 --state-dir killed log
lines out 5
printf 'damage' | dd of=killed/kvmstore.db-wal bs=1 seek=5000 conv=notrunc 2> /dev/null
run 6 --state-dir killed log
says err 'whole groups follow it'
run 6 --state-dir killed export --json
empty out

# --- without a journal, and without a directory ------------------------------------------------

start --state-dir off --durability off
run 6 log
says err 'keeps no journal (--durability off)'
run 0 snapshot save
run 6 log
says err 'its history begins behind step 0'
run 6 trace record --live
# without a journal too, what is written is the store as it is now
run 0 exec frame_alloc 'kvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb'
run 0 mappings
lines out 2
run 0 exec 'kvirt_drop area=1' frame_alloc
run 0 dump-memory image
says image.json '"step":4,'
stop
start
for command in log 'export --json' 'dump-memory image' 'at 0 digest'; do
	run 6 $command
	says err 'without a state directory'
	says err '--state-dir'
done
run 0 export --as leaves
stop
finish
