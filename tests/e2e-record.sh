#!/bin/bash
# kvmctl trace record: the past of a daemon's store, a state directory without
# a daemon, steps as they happen; and what replaying a recording comes to.
. "$(dirname "$0")/e2e.sh"

# same_digest STATE...: a replay of recorded.kvt ends in the state of this kvmctl call
same_digest() {
	equal "$(tail -n 1 "$recorded")" "expect digest=$(digest "$@")"
}

export KVMSTORE_SOCKET=$socket
start --state-dir state --log-level warning

# --- the past -----------------------------------------------------------------------

run 0 exec frame_alloc frame_alloc 'kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1,2] prop=rw:wb'
run 1 exec 'kvirt_drop area=9' 'kvirt_query area=1 va=0xffffdfffffffe000'
recorded=recorded.kvt
run 0 trace record -o recorded.kvt
same_digest
run 0 -e replay recorded.kvt
says out '5'
says recorded.kvt '@step=4 @connection='
run 0 trace record -o recorded.kvtb
run 0 trace convert recorded.kvtb again.kvt
same recorded.kvt again.kvt
run 0 trace record
same recorded.kvt out

# --- what was undone is left out -------------------------------------------------------

run 0 undo 2
run 0 exec 'frame_alloc kind=typed'
run 0 trace record -o recorded.kvt
same_digest
run 0 -e replay recorded.kvt
checks=$((checks + 1))
[ "$(grep -c '^[a-z_]* .*@step=' recorded.kvt)" -eq 4 ] || failure "undone steps were recorded"

# a piece has the state in front of it beside it
run 0 trace record --from 3 --to 4 -o piece.kvt
says piece.kvt 'snapshot="piece.kvt.base.db"'
run 0 -e replay piece.kvt
run 0 trace record --from 7 -o piece.kvtb
run 0 -e replay piece.kvtb
# the state that was put back lies in front of the piece
run 2 trace record --from 5 -o no.kvt
says err 'step 6 put back the state behind step 3: a trace of it begins there, with --from 4 or before'
absent no.kvt

# --- live --------------------------------------------------------------------------------------

"$kvmctl" trace record --live -o live.kvtb 2> live.err &
recorder=$!
wait_for test -s live.kvtb.base.db
wait_for test -s live.kvtb
run 0 exec frame_alloc
# the steps are there while the recorder goes on
wait_for sh -c "'$kvmctl' trace convert live.kvtb - 2> /dev/null | grep -q '^frame_alloc .*@step=8'"
run 0 exec frame_alloc frame_alloc
wait_for sh -c "'$kvmctl' trace convert live.kvtb - 2> /dev/null | grep -q '@step=10'"
kill -INT "$recorder"
wait "$recorder"
status=$?
checks=$((checks + 1))
[ "$status" -eq 0 ] || failure "the recorder ended with an error: $(cat live.err)"
run 0 trace convert live.kvtb live.kvt
empty err
recorded=live.kvt
same_digest
run 0 -e replay live.kvtb

# a step that puts a state back ends it
rm -f live.kvt
"$kvmctl" trace record --live -o live.kvt 2> live.err &
recorder=$!
wait_for grep -q base live.kvt
run 0 exec frame_alloc
run 0 undo
wait "$recorder"
status=$?
checks=$((checks + 1))
[ "$status" -eq 0 ] || failure "the recorder ended with an error"
says live.err 'the trace ends here: step 12 put back the state behind step 10, which is no operation; go on with --from 13'
run 0 -e replay live.kvt

# --to ends it too
rm -f live.kvt
"$kvmctl" --json trace record --live --to 14 -o live.kvt > live.out 2> live.err &
recorder=$!
wait_for grep -q base live.kvt
run 0 exec frame_alloc frame_alloc frame_alloc
wait "$recorder"
says live.out '"ops":2}'
run 0 -e replay live.kvt

# so does a store that begins anew under the same name
run 0 store create lab
run 0 --store lab exec frame_alloc frame_alloc
"$kvmctl" --store lab trace record --live -o lab.kvtb 2> live.err &
recorder=$!
wait_for test -s lab.kvtb
run 0 --store lab exec frame_alloc
wait_for sh -c "'$kvmctl' trace convert lab.kvtb - 2> /dev/null | grep -q '@step=3'"
run 0 --yes store drop lab
run 0 store create lab
run 0 --store lab exec frame_alloc
wait "$recorder"
status=$?
checks=$((checks + 1))
# between the drop and the new store there is none
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || failure "the recorder of a dropped store ended with $status"
run 0 -e replay lab.kvtb

# a daemon that goes away leaves a trace; the file is an old one, and longer
head -c 100000 /dev/zero > live.kvtb
"$kvmctl" trace record --live -o live.kvtb 2> live.err &
recorder=$!
wait_for "$kvmctl" trace convert live.kvtb -
run 0 exec frame_alloc
wait_for sh -c "'$kvmctl' trace convert live.kvtb - 2> /dev/null | grep -q '@step=16'"
stop
wait "$recorder"
status=$?
checks=$((checks + 1))
[ "$status" -eq 3 ] || failure "the recorder ended with $status: $(cat live.err)"
run 0 -e replay live.kvtb

# --- without a daemon ---------------------------------------------------------------------------

recorded=recorded.kvt
run 0 --state-dir state trace record -o recorded.kvt
same_digest --state-dir state at last
run 0 -e replay recorded.kvt
run 2 --state-dir state trace record --live --to last -o x.kvt
run 6 --state-dir nowhere trace record

finish
