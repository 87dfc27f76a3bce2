#!/bin/sh
# Snapshots as their users meet them: kept in files and in a daemon's state
# directory, read with sqlite3, refused with exit status 6 when they are not ours.
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

# --- a snapshot file ------------------------------------------------------------------

ctl 0 --embedded --keep a.db exec 'segment_from_unused start=0x100000 end=0x180000' 'frame_from_unused paddr=0x1000' \
	'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb' 'kvirt_reserve area_size=0x10000'
a=$(digest --embedded=a.db)
[ -n "$a" ] || fail "no digest"
ctl 0 --json snapshot list a.db
grep -q "$a" out || fail "the listing does not show the digest $a"
grep -q '"step":4' out || fail "the listing does not show the step"

# a copy has the same state; working on a snapshot does not change it unless asked to
ctl 0 --embedded=a.db snapshot save b.db
[ "$(digest --embedded=b.db)" = "$a" ] || fail "a saved copy has another digest"
ctl 0 --embedded=a.db exec 'frame_alloc'
[ "$(digest --embedded=a.db)" = "$a" ] || fail "working on a snapshot changed it"
ctl 0 --embedded=a.db --keep a.db exec 'frame_alloc'
c=$(digest --embedded=a.db)
[ "$c" != "$a" ] || fail "--keep kept nothing"
ctl 0 --embedded=b.db exec 'frame_alloc' digest
grep -q "$c" out || fail "the loaded store went another way"
ctl 0 --embedded=a.db who-holds paddr=0x1000
grep -q '0xffffdfffffffd000' out || fail "the mapping was not restored"
[ "$(ls)" = "$(printf 'a.db\nb.db\nerr\nout')" ] || fail "files left behind: $(ls)"

if command -v sqlite3 > /dev/null; then
	area=$(sqlite3 a.db "SELECT start || ' ' || va || ' ' || paddr FROM area_mappings WHERE area = 1")
	[ "$area" = "0xffffdfffffffc000 0xffffdfffffffd000 0x1000" ] || fail "sqlite3 reads: $area"
fi

# --- what is refused, and stays as it was ------------------------------------------------

refuse() {
	before=$(cksum < "$1")
	ctl 6 --embedded="$1" digest
	grep -q "$1" err && grep -q "$2" err || fail "no clear message about $1"
	ctl 6 --embedded snapshot save "$1"
	ctl 6 snapshot list "$1"
	[ "$(cksum < "$1")" = "$before" ] || fail "$1 was changed"
}

echo 'kvmtrace 1' > trace.kvt
refuse trace.kvt 'not a file of kvmstore'
: > empty
refuse empty 'empty file'
head -c 30000 a.db > cut.db
refuse cut.db damaged
{ head -c 60 a.db; printf '\000\000\000\011'; tail -c +65 a.db; } > newer.db
refuse newer.db 'newer version'
ctl 6 --embedded=nothing.db digest
grep -q 'no such file' err || fail "no clear message about a file that is not there"
ctl 6 --embedded snapshot save nowhere/x.db
ctl 6 --embedded snapshot save /dev/null

# --- a daemon's state directory --------------------------------------------------------------

start() {
	"$kvmstored" --listen "$scratch/socket" --state-dir "$scratch/state" 2>> log &
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

on="--connect $scratch/socket"
start
ctl 0 $on exec 'segment_from_unused start=0x100000 end=0x180000' 'kvirt_reserve area_size=0x4000'
ctl 0 $on store create lab ncpu=4
ctl 0 $on --store lab exec 'frame_alloc'
one=$(digest $on) lab=$(digest $on --store lab)
stop TERM
start
[ "$(digest $on)" = "$one" ] || fail "the store did not outlive the daemon"
[ "$(digest $on --store lab)" = "$lab" ] || fail "the second store did not outlive the daemon"

# what was saved outlives a kill
ctl 0 $on exec 'kvirt_reserve area_size=0x8000'
two=$(digest $on)
ctl 0 $on snapshot save
stop KILL
start
[ "$(digest $on)" = "$two" ] || fail "the saved state did not outlive a kill"
ctl 0 $on exec 'kvirt_drop area=1'
ctl 0 $on snapshot load
[ "$(digest $on)" = "$two" ] || fail "the snapshot was not loaded"
ctl 0 $on snapshot list
grep -q lab out || fail "the list does not show the other store"
# the database can be read beside the daemon, but never replaced by a file
[ "$(digest --embedded="$scratch/state/kvmstore.db" --store lab)" = "$lab" ] || fail "the daemon's database was not read"
ctl 6 --embedded snapshot save "$scratch/state/kvmstore.db"
ctl 0 $on store drop lab
stop TERM

# a database that is damaged stops the start and stays as it was
cp state/kvmstore.db good.db
{ head -c 4096 good.db; printf 'kvmstore'; tail -c +4105 good.db; } > state/kvmstore.db
before=$(cksum < state/kvmstore.db)
timeout 20 "$kvmstored" --listen "$scratch/socket" --state-dir "$scratch/state" 2> err
status=$?
if [ "$(cksum < state/kvmstore.db)" != "$before" ] || [ $status -eq 0 ] || [ $status -eq 124 ]; then
	fail "a damaged database: exit status $status"
fi
grep -q 'kvmstore.db: damaged' err || fail "no clear message about a damaged database"
cp good.db state/kvmstore.db
start
[ "$(digest $on)" = "$two" ] || fail "the restored database does not load"
stop TERM

echo "snapshots: files, state directory, refusals"
