#!/bin/bash
# A store that was kept without a journal for a while: what was not recorded is
# named exactly, and both sides of it can be had again.
. "$(dirname "$0")/e2e.sh"

on="--connect $socket"

# at STEP: the digest behind it
at() {
	digest --state-dir state at "$1"
}

# steps 1 .. 3 with a journal, 4 .. 9 without one, and so on
start --state-dir state
run 0 $on exec frame_alloc frame_alloc frame_alloc
three=$(digest $on)
stop
start --state-dir state --durability off
run 0 $on exec frame_alloc frame_alloc
run 0 $on snapshot save
five=$(digest $on)
run 0 $on exec frame_alloc frame_alloc
# step 8, for no number means two states
run 0 $on snapshot load
says out 'step=8'
equal "$(digest $on)" "$five"
run 0 $on exec 'kvirt_reserve area_size=0x4000'
nine=$(digest $on)
stop
start --state-dir state --snapshot-every 3 --keep-snapshots 1
equal "$(digest $on)" "$nine"
for each in 1 2 3 4 5 6 7 8 9 10 11 12; do
	run 0 $on exec frame_alloc
done
last=$(digest $on)
run 0 $on undo 12
equal "$(digest $on)" "$nine"
run 6 $on undo 16
says err 'steps 4 to 9 of store "default" were not recorded'
run 6 $on store clone never 7
says err 'steps 4 to 9 of store "default" were not recorded'
run 0 $on store clone before 3
equal "$(digest $on --store before)" "$three"
run 0 $on undo 1
equal "$(digest $on)" "$last"
run 0 --json $on snapshot list
# where the journal goes on from cannot be dropped
id=$(sed -n 's/.*"store":"default","id":\([0-9]*\),"step":9,.*/\1/p' out | tail -n 1)
[ -n "$id" ] || failure "no snapshot behind the gap"
run 6 $on snapshot drop "$id" --yes
says err 'its journal goes on from there'
# the one that was asked for can
run 0 --json $on snapshot list
id=$(sed -n 's/.*"id":\([0-9]*\),"step":5,.*"kept":true.*/\1/p' out)
[ -n "$id" ] || failure "the snapshot that was asked for is gone"
equal "$(at 5)" "$five"
run 0 $on snapshot drop "$id"
run 6 $on snapshot drop "$id"
says err "no snapshot $id"
run 2 $on snapshot drop nothing
stop KILL

equal "$(at 3)" "$three"
equal "$(at 9)" "$nine"
equal "$(at 21)" "$last"
for step in 4 5 8; do
	run 6 --state-dir state at $step digest
	says err 'steps 4 to 9 of store "default" were not recorded'
	says err 'the states behind steps 3 and 9 are there'
done
run 0 --state-dir state log
says out '# steps 4 to 9 were not recorded'
says out '@step=3 '
says out '@step=10 '
[ "$(grep -c '@step=' out)" = 17 ] || failure "the log has other steps"
run 0 --state-dir state --json log --from 8 --to 10
says out '"step":9,"unrecorded_from":8'
run 0 --state-dir state log --frame 0x3000
says out 'were not recorded'
run 2 --state-dir state log --trace
says err 'a trace begins behind them, with --from 10'
run 0 --state-dir state log --trace --from 10 --to 21
run 0 --state-dir state bisect 'frame paddr=0x4000 rc>=1'
says out 'step 9'
start --state-dir state
equal "$(digest $on)" "$last"
stop

finish
