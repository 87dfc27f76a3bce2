#!/bin/bash
# Snapshots as their users meet them: kept in files and in a daemon's state
# directory, read with sqlite3, refused with exit status 6 when they are not ours.
. "$(dirname "$0")/e2e.sh"

# --- a snapshot file ------------------------------------------------------------------

run 0 --embedded --keep a.db exec 'segment_from_unused start=0x100000 end=0x180000' 'frame_from_unused paddr=0x1000' \
	'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb' 'kvirt_reserve area_size=0x10000'
a=$(digest --embedded=a.db)
run 0 --json snapshot list a.db
says out "$a"
says out '"step":4'

# a copy has the same state; working on a snapshot does not change it unless asked to
run 0 --embedded=a.db snapshot save b.db
equal "$(digest --embedded=b.db)" "$a"
run 0 --embedded=a.db exec 'frame_alloc'
equal "$(digest --embedded=a.db)" "$a"
run 0 --embedded=a.db --keep a.db exec 'frame_alloc'
c=$(digest --embedded=a.db)
[ "$c" != "$a" ] || failure "--keep kept nothing"
run 0 --embedded=b.db exec 'frame_alloc' digest
says out "$c"
run 0 --embedded=a.db who-holds paddr=0x1000
says out '0xffffdfffffffd000'
[ "$(ls)" = "$(printf 'a.db\nb.db\nerr\nout')" ] || failure "files left behind: $(ls)"

if command -v sqlite3 > /dev/null; then
	area=$(sqlite3 a.db "SELECT start || ' ' || va || ' ' || paddr FROM area_mappings WHERE area = 1")
	[ "$area" = "0xffffdfffffffc000 0xffffdfffffffd000 0x1000" ] || failure "sqlite3 reads: $area"
fi

# --- what is refused, and stays as it was ------------------------------------------------

refuse() {
	before=$(cksum < "$1")
	run 6 --embedded="$1" digest
	grep -q "$1" err && grep -q "$2" err || failure "no clear message about $1"
	run 6 --embedded snapshot save "$1"
	run 6 snapshot list "$1"
	[ "$(cksum < "$1")" = "$before" ] || failure "$1 was changed"
}

echo 'kvmtrace 1' > trace.kvt
refuse trace.kvt 'not a file of kvmstore'
: > empty
refuse empty 'empty file'
head -c 30000 a.db > cut.db
refuse cut.db damaged
{ head -c 60 a.db; printf '\000\000\000\011'; tail -c +65 a.db; } > newer.db
refuse newer.db 'newer version'
run 6 --embedded=nothing.db digest
says err 'no such file'
run 6 --embedded snapshot save nowhere/x.db
run 6 --embedded snapshot save /dev/null

# --- a daemon's state directory --------------------------------------------------------------

on="--connect $socket"
start --state-dir state
run 0 $on exec 'segment_from_unused start=0x100000 end=0x180000' 'kvirt_reserve area_size=0x4000'
run 0 $on store create lab ncpu=4
run 0 $on --store lab exec 'frame_alloc'
one=$(digest $on) lab=$(digest $on --store lab)
stop
start --state-dir state
equal "$(digest $on)" "$one"
equal "$(digest $on --store lab)" "$lab"

# what was saved outlives a kill
run 0 $on exec 'kvirt_reserve area_size=0x8000'
two=$(digest $on)
run 0 $on snapshot save
stop KILL
start --state-dir state
equal "$(digest $on)" "$two"
run 0 $on exec 'kvirt_drop area=1'
run 0 $on snapshot load
equal "$(digest $on)" "$two"
run 0 $on snapshot list
says out lab
# the database can be read beside the daemon, but never replaced by a file
equal "$(digest --embedded="$scratch/state/kvmstore.db" --store lab)" "$lab"
run 6 --embedded snapshot save "$scratch/state/kvmstore.db"
run 0 $on store drop lab
stop

# a database that is damaged stops the start and stays as it was
cp state/kvmstore.db good.db
{ head -c 4096 good.db; printf 'kvmstore'; tail -c +4105 good.db; } > state/kvmstore.db
before=$(cksum < state/kvmstore.db)
timeout 20 "$kvmstored" --listen "$socket" --state-dir "$scratch/state" 2> err
status=$?
if [ "$(cksum < state/kvmstore.db)" != "$before" ] || [ $status -eq 0 ] || [ $status -eq 124 ]; then
	failure "a damaged database: exit status $status"
fi
says err 'kvmstore.db: damaged'
cp good.db state/kvmstore.db
start --state-dir state
equal "$(digest $on)" "$two"
stop

finish
