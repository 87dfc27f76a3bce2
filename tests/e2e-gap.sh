#!/bin/sh
# A store that was kept without a journal for a while: what was not recorded is
# named exactly, and both sides of it can be had again.
set -u

kvmctl=${KVMCTL:-./kvmctl} kvmstored=${KVMSTORED:-./kvmstored}
case $kvmctl in /*) ;; *) kvmctl=$PWD/$kvmctl ;; esac
case $kvmstored in /*) ;; *) kvmstored=$PWD/$kvmstored ;; esac
scratch=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -KILL "$daemon" 2> /dev/null; rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

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
	"$kvmctl" "$@" > out 2> err
	status=$?
	[ $status -eq "$want" ] || fail "kvmctl $*: exit status $status, not $want"
}

# digest [OPTION ...]: of a store
digest() {
	ctl 0 "$@" digest
	grep -o '0x[0-9a-f]\{16\}' out
}

start() {
	"$kvmstored" --listen "$scratch/socket" --state-dir "$scratch/state" "$@" 2>> log &
	daemon=$!
	tries=0
	until "$kvmctl" --connect "$scratch/socket" status > /dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] && kill -0 $daemon 2> /dev/null || fail "the daemon does not start"
		sleep 0.1
	done
}

stop() {
	kill "-$1" $daemon
	wait $daemon
	status=$?
	daemon=
	[ "$1" = KILL ] || [ $status -eq 0 ] || fail "the daemon ended with status $status"
}

# says WORDS: what the last call printed has them
says() {
	grep -q -e "$*" out err || fail "it does not say: $*"
}

on="--connect $scratch/socket"

# at STEP: the digest behind it
at() {
	ctl 0 --state-dir state at "$1" digest
	grep -o '0x[0-9a-f]\{16\}' out
}

# steps 1 .. 3 with a journal, 4 .. 9 without one, and so on
start
ctl 0 $on exec frame_alloc frame_alloc frame_alloc
three=$(digest $on)
stop TERM
start --durability off
ctl 0 $on exec frame_alloc frame_alloc
ctl 0 $on snapshot save
five=$(digest $on)
ctl 0 $on exec frame_alloc frame_alloc
# step 8, for no number means two states
ctl 0 $on snapshot load
says 'step=8'
[ "$(digest $on)" = "$five" ] || fail "the snapshot was not loaded"
ctl 0 $on exec 'kvirt_reserve area_size=0x4000'
nine=$(digest $on)
stop TERM
start --snapshot-every 3 --keep-snapshots 1
[ "$(digest $on)" = "$nine" ] || fail "what was kept without a journal is not what comes back"
for each in 1 2 3 4 5 6 7 8 9 10 11 12; do
	ctl 0 $on exec frame_alloc
done
last=$(digest $on)
ctl 0 $on undo 12
[ "$(digest $on)" = "$nine" ] || fail "undo up to the gap"
ctl 6 $on undo 16
says 'steps 4 to 9 of store "default" were not recorded'
ctl 6 $on store clone never 7
says 'steps 4 to 9 of store "default" were not recorded'
ctl 0 $on store clone before 3
[ "$(digest $on --store before)" = "$three" ] || fail "a clone of before the gap"
ctl 0 $on undo 1
[ "$(digest $on)" = "$last" ] || fail "undo of undo"
ctl 0 --json $on snapshot list
# where the journal goes on from cannot be dropped
id=$(sed -n 's/.*"store":"default","id":\([0-9]*\),"step":9,.*/\1/p' out | tail -n 1)
[ -n "$id" ] || fail "no snapshot behind the gap"
ctl 6 $on snapshot drop "$id" --yes
says 'its journal goes on from there'
# the one that was asked for can
ctl 0 --json $on snapshot list
id=$(sed -n 's/.*"id":\([0-9]*\),"step":5,.*"kept":true.*/\1/p' out)
[ -n "$id" ] || fail "the snapshot that was asked for is gone"
[ "$(at 5)" = "$five" ] || fail "a snapshot in the gap"
ctl 0 $on snapshot drop "$id"
ctl 6 $on snapshot drop "$id"
says "no snapshot $id"
ctl 2 $on snapshot drop nothing
stop KILL

[ "$(at 3)" = "$three" ] || fail "the state before the gap"
[ "$(at 9)" = "$nine" ] || fail "the state behind the gap"
[ "$(at 21)" = "$last" ] || fail "a state far behind the gap"
for step in 4 5 8; do
	ctl 6 --state-dir state at $step digest
	says 'steps 4 to 9 of store "default" were not recorded'
	says 'the states behind steps 3 and 9 are there'
done
ctl 0 --state-dir state log
says '# steps 4 to 9 were not recorded'
says '@step=3 '
says '@step=10 '
[ "$(grep -c '@step=' out)" = 17 ] || fail "the log has other steps"
ctl 0 --state-dir state --json log --from 8 --to 10
says '"step":9,"unrecorded_from":8'
ctl 0 --state-dir state log --frame 0x3000
says 'were not recorded'
ctl 2 --state-dir state log --trace
says 'a trace begins behind them, with --from 10'
ctl 0 --state-dir state log --trace --from 10 --to 21
ctl 0 --state-dir state bisect 'frame paddr=0x4000 rc>=1'
says 'step 9'
start
[ "$(digest $on)" = "$last" ] || fail "the last start"
stop TERM

echo "a gap: named, passed over, and states on both sides of it"
