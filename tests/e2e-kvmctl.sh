#!/bin/bash
# kvmctl as its users call it: exit statuses, mistakes, the forms of output,
# every operation and request as a command, files and pipes, a daemon.
. "$(dirname "$0")/e2e.sh"

# --- mistakes in the call: status 2, a message, nothing on standard output ----------

mistake() {
	local text=$1
	shift
	run 2 "$@"
	says err "$text"
	is out ""
}

mistake "usage:"
mistake "did you mean 'frame_alloc'" frame-aloc
mistake "did you mean 'replay'" replya x
mistake "kvmctl help" xyzzyxyzzy
mistake "unknown command" ''
mistake "store create NAME" store
mistake "it has" store remove x
mistake "needs more" replay
mistake "does not take 'b'" run a b
mistake "did you mean --json" --jsno areas
mistake "ambiguous" --s=x areas
mistake "unknown option '-x'" -x areas
mistake "takes no argument" --json=1 areas
mistake "needs an argument" areas --store
mistake "not an option of" areas --keep-going
mistake "expected off, touched" --check sometimes areas
mistake "expected off, touched" --check full=0 areas
mistake "expected off, touched" --check full=99999999999999999999 areas
mistake "one of them" --embedded --connect x areas
mistake "leave --store out" --embedded --store x areas
mistake "expected argument paddr" --embedded frame-from-unused
mistake "did you mean 'paddr'" --embedded frame-from-unused padr=1
mistake "did you mean 'paddr=...'" --embedded frame-from-unused paddr 1
mistake "found '99x'" --embedded frame-from-unused paddr=99x
mistake "each argument once" --embedded frame-from-unused paddr=1 paddr=1
mistake "kvmctl replay" --embedded exec 'frame_alloc -> ok'
mistake "expected operation name" --embedded exec 'kvmtrace 1'
mistake "expected operation name" --embedded dry-run digest
mistake "exec '" 'frame_alloc meta=1'
mistake "no help on" help nothing
mistake "kind of recording" trace import x
mistake "expected a number" trace gen --seed x
mistake "expected a number" trace gen --steps -1
mistake "expected a number" trace gen --steps 0x
mistake "out of limits" trace gen max_paddr=1
mistake "expected store key" trace gen colour=1
mistake "a mark needs" --embedded replay x --at y
mistake "leave --embedded out" --embedded store list
mistake "name comes first" store create arch=x86_64
mistake "no id of a snapshot" snapshot load x
mistake "which file" --embedded snapshot save

# nothing runs if one argument has a mistake
mistake "expected operation name" --embedded exec frame_alloc nonsense

# words no person would type
long=$(head -c 100000 /dev/zero | tr '\0' a)
run 2 "$long"
run 2 --embedded frame-from-unused "paddr=$long"
run 2 --embedded exec "$long" "$long"
run 2 "--$long"
run 2 --embedded frame-from-unused $'paddr=\x01\xff\x1b[31m'
run 2 $'\xff\xfe'
run 2 --embedded exec $'frame_alloc\nnonsense'
run 0 --embedded exec $'frame_alloc\nframe_alloc' '' '# nothing'
run 2 help ''
run 2 help a b c
checks=$((checks + 1))
(exec -a '' "$kvmctl" > out 2> err)
[ $? -eq 2 ] || failure "no name of the program"

# --- exit statuses --------------------------------------------------------------------

run 0 --embedded frame-alloc
is out "ok frame=1 paddr=0x0"
run 1 --embedded frame-drop frame=1
is out "pre unknown_frame"
run 1 --embedded exec frame_alloc 'frame_drop frame=2' frame_alloc
is out "ok frame=1 paddr=0x0
pre unknown_frame
ok frame=2 paddr=0x1000"
run 1 --embedded --strict exec frame_alloc 'frame_drop frame=2' frame_alloc
is out "ok frame=1 paddr=0x0
pre unknown_frame"
run 1 --embedded frame paddr=0x1
is out "pre bad_paddr"
run 3 --connect "$scratch/none" areas
says err "--embedded"
run 6 replay "$scratch/none"
run 6 replay "$scratch"
run 6 --embedded=none areas
run 6 trace import --from linux-ftrace none
run 6 trace gen -o none/none
run 6 --embedded replay /dev/null --listing none
echo text > text
run 6 --embedded=text areas
run 2 replay text
says err "text:1:1: expected 'kvmtrace 1'"
printf 'kvmtrace 1\nframe_alloc -> ok paddr=0x1000\n' > wrong.kvt
# a CPU that may still reach what is somebody else's: a warning, here and through a daemon
cat > stale.kvt << 'END'
kvmtrace 1
store ncpu=2
frame_alloc -> ok frame=1
kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb -> ok area=1
access cpu=1 va=0xffffdffffffff000 access=w mode=kernel -> ok
kvirt_drop area=1 -> ok
kvirt_map_untracked_frames area_size=0x1000 paddr_start=0x90000000 paddr_end=0x90001000 prop=r:wb -> ok area=2
END
told='{"cpu":1,"va":"0xffffdffffffff000","paddr":"0x0","reused":"range","stale_line":6,"stale_step":4,'
told+='"reused_line":7,"reused_step":5}'
warned() {
	run 0 "$@" --json replay stale.kvt
	says err "stale.kvt:7: warning: a range is mapped again while a TLB still has the entry from before"
	says err "CPU 1, va 0xffffdffffffff000, paddr 0x0: stale since line 6 (step 4), mapped again at line 7 (step 5)"
	says out "\"stale\":[$told]"
	run 0 "$@" replay stale.kvt
	says out "replay passed"
	says out "stale tlb     1 entry"
}
warned --embedded
run 0 --embedded run stale.kvt
says err "stale.kvt:7: warning: "

run 4 --embedded replay wrong.kvt
says err "wrong.kvt:2:"
says out "replay diverged"
printf 'kvmtrace 1\nstore max_paddr=0x1000\n' > limits.kvt
run 2 --embedded replay limits.kvt
says err "limits.kvt:2:1: max_paddr out of limits"
run 2 replay limits.kvt --connect "$scratch/none"

# options before and after, abbreviated, with and without =
run 0 --embedded --json areas
cp out first
run 0 areas --js --emb
check cmp out first
run 0 -ej areas
check cmp out first
POSIXLY_CORRECT=1 run 0 areas -ej
check cmp out first
run 0 -e -- areas
is out "areas=[]"

# --- what it prints ----------------------------------------------------------------------

run 0 --embedded exec 'frame_from_unused paddr=0x1000' 'kvirt-map-frames area_size=0x2000 frames=[1] prop=rw:wb' \
	digest check areas 'translate va=0xffffdfffffffe010' 'translate va=0x0'
is out "ok frame=1
ok area=1 start=0xffffdfffffffe000 end=0xffffe00000000000 nodes_allocated=2
digest=0xf2c8117a32c65f1f
inv=ok
areas=[1:0xffffdfffffffe000..0xffffe00000000000]
found=true paddr=0x1010 start=0xffffdfffffffe000 end=0xffffdffffffff000 level=1 prop=rw:wb tracked=true
found=false"
run 0 --embedded dry-run frame_alloc frame_alloc
is out "ok frame=1 paddr=0x0
ok frame=1 paddr=0x0"
run 0 --version
says out "kvmctl (kvmstore) "
run 0 version
for topic in '' ops requests outcomes laws types options exec dry-run run replay status store 'store create' snapshot \
	'snapshot load' trace 'trace import' help version kvirt va_exhausted slot.rc_legal; do
	# shellcheck disable=SC2086 # two words are two words
	run 0 help $topic
	checks=$((checks + 1))
	awk -v topic="$topic" 'length($0) > 80 { print "help " topic ": " $0; wide = 1 } END { exit wide }' out > err ||
		failure "help wider than 80 columns"
done
run 0 --help
says out "Exit status:"
run 0 replay --help
says out "--keep-going"

# --- every operation and request ------------------------------------------------------------

"$kvmctl" help ops | awk '/^  [a-z]/ { print $1 }' > ops
"$kvmctl" help requests | awk '/^  [a-z]/ { print $1 }' > requests
check test -s ops
check test -s requests
"$kvmctl" trace gen --seed 11 --steps 4000 > random.kvt || failure "trace gen"
while read -r op; do
	run 0 help "$op"
	checks=$((checks + 1))
	awk 'length($0) > 80 { exit 1 }' out || failure "help $op wider than 80 columns"
	run 0 help "${op//_/-}"
	# as a command, with the arguments of the first such line of a generated trace
	words=$(awk -v op="$op" '$1 == op { sub(/ ->.*/, ""); print; exit }' random.kvt)
	[ -n "$words" ] || failure "the generator never made $op"
	checks=$((checks + 1))
	# shellcheck disable=SC2086 # the words of a line
	"$kvmctl" --embedded --json "${op//_/-}" ${words#"$op"} > out 2> err
	[ $? -le 1 ] || failure "kvmctl $words"
	cat out >> objects
done < ops
while read -r request; do
	run 0 help "$request"
	arguments=$("$kvmctl" help "$request" | awk '/^Arguments:/ { on = 1; next } /^$/ { on = 0 }
		on && /^  [a-z]/ && !/default/ { printf "%s=0xffffffff80000000 ", $1 }')
	checks=$((checks + 1))
	# shellcheck disable=SC2086 # the words of a line
	"$kvmctl" --embedded --json "${request//_/-}" $arguments > out 2> err
	[ $? -le 1 ] || failure "kvmctl $request $arguments"
	cat out >> objects
done < requests

# --- files and pipes ---------------------------------------------------------------------------

check "$kvmctl" --embedded replay random.kvt
check sh -c '"$0" --embedded replay - < random.kvt' "$kvmctl"
if command -v xz > /dev/null; then
	xz -k random.kvt
	mv random.kvt.xz packed
	check "$kvmctl" --embedded replay packed
	check sh -c '"$0" --embedded replay - < packed' "$kvmctl"
	head -c 2000 packed > cut
	run 6 --embedded replay cut
fi
# what run prints is the trace again, and comments stay
check sh -c '"$0" --embedded run random.kvt | cmp - random.kvt' "$kvmctl"
printf 'kvmtrace 1\n# a remark\nframe_alloc -> ok paddr=0x5000 # another\nframe_drop frame=9\n' > remarks.kvt
run 0 --embedded run remarks.kvt
says out "# a remark"
says out "frame_alloc zeroed=true kind=untyped meta=0x0 -> ok frame=1 paddr=0x0 # another"
run 1 --embedded --strict run remarks.kvt
run 0 --embedded --json run remarks.kvt
cat out >> objects
printf 'frame_alloc\n\n# a remark\nframe-drop frame=1\nareas' > lines
"$kvmctl" --embedded exec - < lines > out 2> err
is out "ok frame=1 paddr=0x0
ok last=true
areas=[]"
printf 'frame_alloc\nnonsense\nframe_alloc\n' > lines
"$kvmctl" --embedded exec - < lines > out 2> err
check test $? -eq 2
# a reader that goes away is no failure worth a word
"$kvmctl" --embedded run random.kvt 2> err | head -n 1 > out
is err ""
yes frame_alloc | "$kvmctl" --embedded exec - 2> err | head -n 2 > out
is err ""
is out "ok frame=1 paddr=0x0
ok frame=2 paddr=0x1000"
if [ -w /dev/full ]; then
	"$kvmctl" --embedded areas > /dev/full 2> err
	check test $? -eq 6
fi

# --- snapshots in files --------------------------------------------------------------------------

run 0 --embedded --keep a.db exec frame_alloc frame_alloc
run 0 --embedded=a.db census
says out " frames=2 "
run 0 --embedded=a.db snapshot save b.db
run 0 snapshot list b.db
says out "step=2"
run 0 --json snapshot list b.db
cat out >> objects
run 0 --embedded=b.db --json status
cat out >> objects
run 0 --embedded --quiet --keep c.db replay random.kvt
is out ""
run 0 --embedded=c.db check
is out "inv=ok"
run 2 --embedded=a.db replay limits.kvt
run 6 --embedded --keep text frame-alloc
check grep -Fxq text text

# --- a daemon ----------------------------------------------------------------------------------------

export KVMSTORE_SOCKET=$socket
start --state-dir state --log-level warning

# stores N: so many stores are in the daemon
stores() {
	"$kvmctl" store list > out 2> err
	lines out "$1"
}

run 0 status
says out "pid=$daemon"
run 0 --json status
cat out >> objects
run 0 frame-alloc
is out "ok frame=1 paddr=0x0"
run 0 dry-run frame_alloc
is out "ok frame=2 paddr=0x1000"
run 1 frame-drop frame=2
run 0 store create lab ncpu=2
run 3 store create lab
says err "store drop"
run 2 store create 'a b'
run 3 --store nope areas
says err "store list"
run 0 --store lab frame-alloc meta=7
run 0 --json store list
cat out >> objects
stores 2
run 0 --store lab snapshot save
run 0 --store lab frame-alloc
run 0 --store lab snapshot load
run 0 --store lab census
says out " frames=1 "
run 0 snapshot list
says out "store=lab"
run 0 --json snapshot list
cat out >> objects
run 6 snapshot load 12345

run 0 replay random.kvt
says out "replay passed"
warned
run 0 --json replay random.kvt
cat out >> objects
run 4 replay wrong.kvt
run 2 replay limits.kvt
run 2 replay text
stores 2
run 2 --store lab replay random.kvt
says err "ncpu=1"
run 0 run remarks.kvt --store default
run 0 replay random.kvt --keep kept
stores 3
run 3 replay random.kvt --keep kept
run 0 --store kept check
is out "inv=ok"
run 0 store drop kept
run 2 store drop default

# a replay that is ended takes its store with it, at once or a moment later
for signal in TERM KILL; do
	{ cat random.kvt && sleep 5; } 2> /dev/null | "$kvmctl" replay - > out 2> err &
	replay=$!
	for ((tries = 0; tries < 100; tries++)); do
		[ "$("$kvmctl" store list | wc -l)" -eq 3 ] && break
		sleep 0.1
	done
	stores 3
	kill -$signal $replay
	wait $replay 2> /dev/null
	for ((tries = 0; tries < 100; tries++)); do
		[ "$("$kvmctl" store list | wc -l)" -eq 2 ] && break
		sleep 0.1
	done
	stores 2
done
run 0 store drop lab
stores 1

# cursors: they end with the call that opens them, unless they are detached
cursors() {
	run 0 census
	says out " cursors=$1 "
}
run 0 help cursor-open
says out "the cursor ends with the call"
says out "--detached"
run 0 vm-space-new
range='start=0x1000 end=0x2000'
run 0 cursor-open-mut vm_space=1 $range
is out "ok cursor=1 guard_level=1 nodes_allocated=3"
says err "cursor 1 is dropped now, with the connection of this call; --detached keeps it"
run 0 cursor-open-mut vm_space=1 $range --quiet
is err ""
cursors 0
run 0 exec "cursor_open_mut vm_space=1 $range" "cursor_virt_addr cursor=3"
says out "va=0x1000"
is err ""
run 0 --detached cursor-open vm_space=1 $range
is err ""
cursors 1
run 1 cursor-open vm_space=1 $range
is out "block cursor_locked holder=4"
run 1 cursor-open vm_space=1 $range --wait 20
is out "block cursor_locked holder=4"
is err ""
"$kvmctl" exec "cursor_open vm_space=1 $range" --wait 30000 --detached > waited &
waiting=$!
for ((tries = 0; tries < 200; tries++)); do
	"$kvmctl" status | grep -qx waiting=1 && break
	sleep 0.05
done
run 0 cursor-drop cursor=4
wait $waiting || failure "the call that waits ended with $?"
is waited "ok cursor=5 guard_level=1 nodes_allocated=0"
cursors 1
run 1 exec "cursor_drop cursor=5" "cursor_open vm_space=1 $range" "cursor_open vm_space=1 $range" --wait 30000
says err "it does not wait: cursor 6 belongs to this connection itself"
cursors 0
run 3 cursor-open vm_space=1 $range --wait 300001
says err "--max-wait"
mistake "--wait goes with cursor_open" frame-alloc --wait 5
mistake "--detached goes with cursor_open" exec frame_alloc --detached
mistake "--wait goes with a daemon" --embedded cursor-open vm_space=1 $range --wait 5
mistake "--wait 'x': expected a number" cursor-open vm_space=1 $range --wait x
mistake "--wait 'x': expected a number" cursor-open vm_space=1 $range --wait=x
mistake "at most 4294967295" cursor-open vm_space=1 $range --wait 4294967296
mistake "not an option of \"dry-run\"" dry-run "cursor_open vm_space=1 $range" --wait 5
# a kept store is as the trace leaves it
printf 'kvmtrace 1\nvm_space_new\ncursor_open vm_space=1 %s\n' "$range" > cursor.kvt
run 0 replay cursor.kvt --keep kept
run 0 --store kept digest
kept=$(cat out)
"$kvmctl" --embedded exec vm_space_new "cursor_open vm_space=1 $range" digest 2> err | tail -n 1 > out
is out "$kept"
run 0 store drop kept

stop
run 3 areas
run 0 snapshot list state/kvmstore.db
says out "store=default"

# --- JSON -------------------------------------------------------------------------------------------

check test -s objects
if command -v python3 > /dev/null; then
	check python3 -c '
import json, sys
for line in open("objects", encoding="utf-8"):
    if not isinstance(json.loads(line), dict):
        sys.exit("no object: " + line)
'
else
	echo "no python3: the syntax of --json was not looked at"
fi

finish
