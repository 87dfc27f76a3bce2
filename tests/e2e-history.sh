#!/bin/sh
# Batches, undo, clones and the first steps of a history, as somebody types them.
set -u

kvmctl=${KVMCTL:-./kvmctl} kvmstored=${KVMSTORED:-./kvmstored}
case $kvmctl in /*) ;; *) kvmctl=$PWD/$kvmctl ;; esac
case $kvmstored in /*) ;; *) kvmstored=$PWD/$kvmstored ;; esac
scratch=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -KILL "$daemon" 2> /dev/null; rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
unset XDG_RUNTIME_DIR
export KVMSTORE_SOCKET="$scratch/socket"
none=18446744073709551615

fail() {
	echo "FAILED: $*"
	for each in out err log; do
		[ ! -s $each ] || { echo "--- $each"; cat $each; }
	done
	exit 1
}

# ctl STATUS ARGUMENT ...: run kvmctl, which must exit so; its output is in out and err
ctl() {
	want=$1
	shift
	timeout 60 "$kvmctl" "$@" > out 2> err
	status=$?
	[ $status -eq "$want" ] || fail "kvmctl $*: exit status $status, not $want"
}

# says FILE WORDS: what the last call printed there has them
says() {
	grep -qF -e "$2" "$1" || fail "$1 does not say: $2"
}

# digest [ARGUMENT ...]: of a state
digest() {
	ctl 0 "$@" digest
	grep -o '0x[0-9a-f]\{16\}' out
}

start() {
	"$kvmstored" "$@" 2>> log &
	daemon=$!
	tries=0
	until "$kvmctl" status > /dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] && kill -0 $daemon 2> /dev/null || fail "the daemon does not start"
		sleep 0.1
	done
}

stop() {
	kill $daemon
	wait $daemon || fail "the daemon ended with status $?"
	daemon=
}

# --- nothing has happened yet ---------------------------------------------------------

start --state-dir state
ctl 0 log
[ ! -s out ] || fail "a log of no steps"
ctl 0 --json log
[ ! -s out ] || fail "a log of no steps"
ctl 0 story frame 0x1000
says err 'has made no steps yet'
ctl 0 log --trace
cp out fresh.kvt
ctl 0 -e replay fresh.kvt
says out "$(digest)"
ctl 0 trace record
ctl 6 log --from 1
says err 'has not come to step 1, its last is 0'
ctl 6 undo

# recording may begin before there is anything to record
"$kvmctl" trace record --live -o live.kvt 2> live.err &
recorder=$!
tries=0
until [ -s live.kvt ]; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] && kill -0 $recorder 2> /dev/null || fail "no live recording: $(cat live.err)"
	sleep 0.1
done
ctl 0 exec 'frame_from_unused paddr=0x1000' frame_alloc
says out 'ok frame=2 paddr=0x0'
tries=0
until grep -q '@step=2 ' live.kvt; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || fail "step 2 is not recorded"
	sleep 0.1
done
kill -INT $recorder
wait $recorder || fail "the recording ended with status $?: $(cat live.err)"
ctl 0 -e replay live.kvt
says out 'ops           2 '

# a step that touched the frame at 0 touched that one only
ctl 0 log --frame 0x0
says out '@step=2 '
ctl 0 log --frame 0x1000
says out '@step=1 '
! grep -q '@step=2 ' out || fail "frame_alloc of 0x0 touched 0x1000"
ctl 0 log --frame 0x5000
[ ! -s out ] || fail "nothing touched 0x5000"

# --- together or not at all -------------------------------------------------------------

before=$(digest)
ctl 1 exec --atomic 'frame_drop frame=2' frame_alloc 'frame_drop frame=99' frame_alloc
[ "$(cat out)" = "ok last=true
ok frame=3 paddr=0x0
pre unknown_frame" ] || fail "not the outcomes up to the first that is not ok"
says err 'operation 3 of 4 is not ok: none of them has happened'
[ "$(digest)" = "$before" ] || fail "something of the batch happened"
ctl 0 log --from 2
[ "$(wc -l < out)" -eq 1 ] || fail "the journal has something of the batch"
printf 'frame_drop frame=2\n\n# a list\nkvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb\n' > batch
timeout 60 "$kvmctl" exec --atomic - 'kvirt_query area=1 va=0xffffdfffffffe000' < batch > out 2> err ||
	fail "exec --atomic -"
[ "$(grep -c '^ok' out)" -eq 3 ] || fail "not three outcomes"
ctl 0 status
says out 'step=5'
ctl 1 -e exec --keep kept.db --atomic frame_alloc 'frame_drop frame=9'
[ "$(digest --embedded=kept.db)" = "$(digest -e)" ] || fail "something of the batch happened in this process"
ctl 0 -e exec --keep kept.db --atomic frame_alloc 'frame_drop frame=1'
ctl 0 --embedded=kept.db status
says out 'step=2'
ctl 0 --json exec --atomic ''
[ ! -s out ] || fail "an empty batch has an outcome"
yes frame_alloc | head -n 4097 > many
for words in census 'cursor_open vm_space=1 start=0 end=0x1000' 'frame_dorp frame=1' "$(cat many)"; do
	ctl 2 exec --atomic frame_alloc "$words"
	[ ! -s out ] || fail "something ran"
done
ctl 2 exec --atomic --wait 5 frame_alloc
ctl 0 status
says out 'step=5'

# --- back, and copies ----------------------------------------------------------------------

five=$(digest)
ctl 0 undo 2
[ "$(digest)" = "$(digest at 3)" ] || fail "undo 2 is not the state behind step 3"
ctl 0 undo
[ "$(digest)" = "$five" ] || fail "the undo is not undone"
for number in 8 $none; do
	ctl 6 undo $number
	says err 'has made 7 steps'
done
for number in 0 -- -1 two; do
	[ $number != -- ] || continue
	ctl 2 undo -- $number
done
ctl 0 store clone three 3
[ "$(digest --store three)" = "$(digest at 3)" ] || fail "the clone is another state"
ctl 6 --store three log
says err 'its history begins behind step 3'
ctl 0 store clone before last-1
[ "$(digest --store before)" = "$(digest at 6)" ] || fail "the clone is another state"
ctl 0 store clone now last
[ "$(digest --store now)" = "$five" ] || fail "the clone is another state"
for step in 8 $none last-8 last-$none; do
	ctl 6 store clone other $step
	ctl 6 at $step digest
	ctl 6 diff 0 $step
	ctl 6 export --step $step --json
	[ ! -s out ] || fail "an export of step $step"
done
ctl 2 store clone other -- -1
ctl 2 store clone other first
ctl 3 --store other status
ctl 2 snapshot load 0
ctl 2 diff here there
says err 'or two files that are there'
ctl 2 trace record --live --to 7
says err 'that step has passed'
ctl 2 trace record --live --from 5 --to 4
ctl 0 trace record --live --from 5 --to 7
[ "$(grep -o '@step=[0-9]*' out)" = '@step=5' ] || fail "not the one step that led to the state"
stop

# --- no output takes the place of a database ------------------------------------------------------

sum=$(cksum < state/kvmstore.db)
echo 'kvmtrace 1' > nothing.kvt
for words in 'dump-memory' 'trace record -o' 'mappings -o' 'export --json --force' 'export --as leaves --force'; do
	ctl 6 --state-dir state $words state/kvmstore.db
	says err 'a database; it was left alone'
done
for words in 'trace gen -o' 'trace stat nothing.kvt -o' '-e replay nothing.kvt --junit' 'trace convert nothing.kvt'; do
	ctl 6 $words state/kvmstore.db
	says err 'a database; it was left alone'
done
[ "$(cksum < state/kvmstore.db)" = "$sum" ] || fail "the database has changed"
ctl 2 --state-dir state dump-memory -
ctl 2 --state-dir state at last nonsense
says err 'help requests'

# --- a log that the disk has changed is not read as if it were shorter ---------------------------

start --state-dir killed --durability full
for number in 1 2 3 4 5; do
	ctl 0 frame_alloc
done
kill -KILL $daemon
wait $daemon 2> /dev/null
daemon=
ctl 0 --state-dir killed log
[ "$(wc -l < out)" -eq 5 ] || fail "not five steps"
printf 'damage' | dd of=killed/kvmstore.db-wal bs=1 seek=5000 conv=notrunc 2> /dev/null
ctl 6 --state-dir killed log
says err 'whole groups follow it'
ctl 6 --state-dir killed export --json
[ ! -s out ] || fail "an export of a damaged log"

# --- without a journal, and without a directory ------------------------------------------------

start --state-dir off --durability off
ctl 6 log
says err 'keeps no journal (--durability off)'
ctl 0 snapshot save
ctl 6 log
says err 'its history begins behind step 0'
ctl 6 trace record --live
# without a journal too, what is written is the store as it is now
ctl 0 exec frame_alloc 'kvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb'
ctl 0 mappings
[ "$(wc -l < out)" -eq 2 ] || fail "the mapping of a store without a journal is missing"
ctl 0 exec 'kvirt_drop area=1' frame_alloc
ctl 0 dump-memory image
says image.json '"step":4,'
stop
start
for command in log 'export --json' 'dump-memory image' 'at 0 digest'; do
	ctl 6 $command
	says err 'without a state directory'
	says err '--state-dir'
done
ctl 0 export --as leaves
stop
echo "all right"
