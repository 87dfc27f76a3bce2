#!/bin/bash
# The past of a store: kvmctl at, log, diff, bisect, story, on state
# directories that are recorded from traces; and the views of sqlite3.
. "$(dirname "$0")/e2e.sh"

record=$build/tests/record_history

# past STATUS WORD...: on the recorded directory "a"; out has the times masked, raw has them
past() {
	run "$1" --state-dir a "${@:2}"
	mv out raw
	sed 's/"[0-9-]*T[0-9:.]*Z"/"TIME"/g' raw > out
}

# history DIR TRACE key=value...: record a state directory; its digests are in DIR.digests
history() {
	local dir=$1
	shift
	rm -rf "$dir"
	mkdir "$dir"
	"$record" "$dir" "$@" > "$dir.digests" || failure "cannot record $dir from $1"
}

# --- every state is the one that was ----------------------------------------------------

number=0
for trace in "$traces"/b000[1-7]*.kvt "$traces"/b002[0-4]*.kvt "$traces"/c0001*.kvt "$traces"/r*.kvt; do
	number=$((number + 1))
	history h "$trace" flush=$((1 + number % 7)) snapshot=$((number % 3 * 9))
	last=$(tail -n 1 h.digests | cut -d ' ' -f 1)
	while read -r step digest; do
		[ "$step" -ne "$last" ] && [ $((step * 7 % (1 + last / 5))) -ne 0 ] && continue
		run 0 --state-dir h at "$step" digest
		is out <<< "digest=$digest"
	done < h.digests
	# what the log gives back leads to the same state
	"$kvmctl" --state-dir h log --trace --to last > whole.kvt
	run 0 -e replay whole.kvt
	says out "$(tail -n 1 h.digests | cut -d ' ' -f 2)"
done

# long, with many snapshots; --store names it
"$kvmctl" trace gen --seed 11 --steps 4000 ncpu=2 -o long.kvt
history h long.kvt store=long flush=64 snapshot=900
while read -r step digest; do
	[ $((step % 479)) -eq 0 ] || continue
	run 0 --state-dir h --store long at "$step" digest
	is out <<< "digest=$digest"
	run 0 --state-dir h --store long at "last-$((4000 - step))" check
	is out <<< "inv=ok"
done < h.digests
run 6 --state-dir h log
says err 'no store "default"'

# --- one history, with a state that was put back -----------------------------------------------

cat > a.kvt <<- 'END'
	kvmtrace 1
	frame_from_unused paddr=0x1000
	frame_clone frame=1
	kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb
	kvirt_query area=1 va=0xffffdfffffffd000
	kvirt_reserve area_size=0x2000
	frame_from_in_use paddr=0x2000
	frame_drop frame=2
	kvirt_protect_range area=1 start=0xffffdfffffffd000 end=0xffffdfffffffe000 clear=w
	kvirt_drop area=1
	frame_drop frame=3
END
history a a.kvt restore=6:3 flush=2
while read -r step digest; do
	past 0 at "$step" digest
	is out <<< "digest=$digest"
done < a.digests

past 0 log
is out << 'END'
frame_from_unused paddr=0x1000 kind=untyped meta=0x0 @step=1 @connection=7 @time="TIME" -> ok frame=1
frame_clone frame=1 @step=2 @connection=7 @time="TIME" -> ok frame=2
kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb @step=3 @connection=7 @time="TIME" -> ok area=1 start=0xffffdfffffffc000 end=0xffffe00000000000 nodes_allocated=2
kvirt_query area=1 va=0xffffdfffffffd000 @step=4 @connection=7 @time="TIME" -> ok found=true start=0xffffdfffffffd000 end=0xffffdfffffffe000 level=1 paddr=0x1000 prop=rw:wb tracked=true frame=3 nodes_allocated=0
kvirt_reserve area_size=0x2000 @step=5 @connection=7 @time="TIME" -> ok area=2 start=0xffffdfffffffa000 end=0xffffdfffffffc000
frame_from_in_use paddr=0x2000 @step=6 @connection=7 @time="TIME" -> err Unused
# the state behind step 3 was put back @step=7 @time="TIME"
frame_drop frame=2 @step=8 @connection=7 @time="TIME" -> ok last=false
kvirt_protect_range area=1 start=0xffffdfffffffd000 end=0xffffdfffffffe000 set=- clear=w cache=keep global=keep @step=9 @connection=7 @time="TIME" -> ok leaves=1 nodes_allocated=0
kvirt_drop area=1 @step=10 @connection=7 @time="TIME" -> ok leaves=1 subtrees=0 nodes_allocated=0 nodes_freed=0
frame_drop frame=3 @step=11 @connection=7 @time="TIME" -> pre unknown_frame
END
past 0 --json log --from 6 --to 7
is out << 'END'
{"step":6,"time":"TIME","connection":7,"op":"frame_from_in_use","args":{"paddr":"0x2000"},"class":"err","name":"Unused","meaning":"the frame is not in use"}
{"step":7,"time":"TIME","restored":3}
END

# steps of the lines in out
steps() {
	grep -o '@step=[0-9]*' out | cut -d = -f 2 | tr '\n' ' '
}
# filtered STEPS WORD...: the log with the filters has these steps
filtered() {
	local want=$1
	shift
	past 0 log "$@"
	checks=$((checks + 1))
	[ "$(steps)" = "$want" ] || failure "log $*: steps $(steps), not $want"
}
filtered '1 2 3 4 7 8 9 10 ' --frame 0x1000
filtered '1 2 3 4 7 8 9 10 ' --frame 0x1fff
filtered '6 ' --frame 0x2000
filtered '' --frame 0x3000
filtered '3 4 9 10 ' --area 1
filtered '5 7 ' --area 2
filtered '3 4 9 10 ' --va 0xffffdfffffffd123
filtered "3 " --va 0xffffdffffffff000 --from 0
filtered '8 11 ' --op frame-drop
filtered '8 ' --op frame_drop --frame 0x1000
filtered '10 11 ' --from last-1
filtered '4 ' --from 4 --to 4

# --- as a trace ---------------------------------------------------------------------------------

past 0 log --trace
cp raw whole.kvt
checks=$((checks + 1))
[ "$(steps)" = '1 2 3 8 9 10 11 ' ] || failure "the trace has steps $(steps)"
head -n 2 out | tail -n 1 > second
says second 'store arch=x86_64 '
run 0 -e replay whole.kvt
says out "$(tail -n 1 a.digests | cut -d ' ' -f 2)"

# from a step in the middle: a base line, and the state it names
past 0 log --trace --from 9
cp raw rest.kvt
says out "base digest=$(sed -n 's/^8 //p' a.digests)"
past 0 at 8 --keep eight.db digest
run 0 --embedded=eight.db replay rest.kvt
says out 'replay passed'
past 2 log --trace --from 5
says err 'step 7 put back the state behind step 3'
past 0 log --trace --op frame_drop
says out 'gap ops=3'
cp raw gaps.kvt
run 4 -e replay gaps.kvt
says err 'gap at line'

# --- any inspection ---------------------------------------------------------------------------------

past 0 at 4 frame paddr=0x1000
is out << 'END'
rc=3 usage=Frame kind=untyped meta=0x0 in_list=0 h=2 p=1 c=0 k=0 u=0 l=0
END
past 0 at 9 translate va=0xffffdfffffffd000
is out << 'END'
found=true paddr=0x1000 start=0xffffdfffffffd000 end=0xffffdfffffffe000 level=1 prop=r:wb tracked=true
END
past 0 at 0 areas 'who-holds paddr=0x1000' unhandled
is out << 'END'
areas=[]
frames=[] segments=[] uniques=[] lists=[] mappings=[] queues=[]
count=0 paddrs=[]
END
past 0 --json at 5 areas
is out << 'END'
{"op":"areas","args":{},"class":"ok","result":{"areas":[{"area":1,"start":"0xffffdfffffffc000","end":"0xffffe00000000000"},{"area":2,"start":"0xffffdfffffffa000","end":"0xffffdfffffffc000"}]}}
END
past 1 at 5 frame paddr=0x1
says out 'pre bad_paddr'
# every request has an answer
for request in $("$kvmctl" help requests | awk '/^  [a-z]/ { print $1 }'); do
	case $request in
	translate | walk) past 0 at last "$request" va=0x1000 ;;
	frame | who_holds | reverse_map) past 0 at last "$request" paddr=0x1000 ;;
	node) past 0 at last "$request" paddr=0x7ffff000 ;;
	*) past 0 at last "$request" ;;
	esac
	says out '='
done

# --- differences ----------------------------------------------------------------------------------------

past 0 diff 1 5
is out << END
before: step 1 digest=$(sed -n 's/^1 //p' a.digests)
after:  step 5 digest=$(sed -n 's/^5 //p' a.digests)
counts
  unused 524030 -> 524028
  pagetable 257 -> 259
  frames 1 -> 2
  areas 0 -> 2
  leaves_tracked 0 -> 1
areas
  + 1 0xffffdfffffffc000..0xffffe00000000000 size 0x4000
  + 2 0xffffdfffffffa000..0xffffdfffffffc000 size 0x2000
mappings
  + kernel 0xffffdfffffffd000..0xffffdfffffffe000 0x1000 rw:wb
free va
  - 0xffffdfffffffa000..0xffffe00000000000 size 0x6000
nodes
  + 0x7fefd000..0x7fefe000 level=1 nr_children=1 table=kernel
      va=0xffffdfffffe00000
  + 0x7fefe000..0x7feff000 level=2 nr_children=1 table=kernel
      va=0xffffdfffc0000000
  ~ 0x7ff3f000..0x7ff40000 nr_children=0->1
frames
  ~ 0x1000..0x2000 rc=1->3
frame handles
  - frame=1 paddr=0x1000
  + frame=2 paddr=0x1000
  + frame=3 paddr=0x1000
next ids
  ~ kind=frame next=2->4
  ~ kind=area next=1->3
END
past 0 diff 8 9
says out '  ~ kernel 0xffffdfffffffd000..0xffffdfffffffe000 0x1000 rw:wb -> 0x1000 r:wb'
past 0 diff 3 7
says out 'the same state'
lines out 2
past 0 --json diff 8 last
says out '"same":false'
says out '"areas":[{"change":"removed","area":1,"start":"0xffffdfffffffc000","end":"0xffffe00000000000"}]'
says out '"mappings":[{"change":"removed","table":"kernel","start":"0xffffdfffffffd000","end":"0xffffdfffffffe000","before":{"paddr":"0x1000","prop":"rw:wb","level":1,"tracked":true}}]'

# a TLB, a queue, an address space, lists and bytes; everything in 80 columns
history c "$traces"/c0001*.kvt
last=$(tail -n 1 c.digests | cut -d ' ' -f 1)
for ((step = 0; step < last; step++)); do
	run 0 --state-dir c diff "$step" $((step + 1))
	checks=$((checks + 1))
	[ "$(awk 'length > 79' out)" = "" ] || failure "lines of more than 79 columns"
	cat out
done > all
for section in tlb cpus flushers cursors vm\ spaces io\ entries readers writers iomems uniques lists links contents free\ mmio; do
	checks=$((checks + 1))
	grep -qx "$section" all || failure "no section \"$section\" in any difference"
done
if command -v python3 > /dev/null; then
	run 0 --state-dir c --json diff 0 last
	checks=$((checks + 1))
	python3 -c 'import json, sys; json.load(open("out"))' || failure "the difference is no JSON"
fi

# --- the first step at which ------------------------------------------------------------------------------

past 0 bisect 'frame paddr=0x1000 rc>2'
is out << 'END'
step 4
kvirt_query area=1 va=0xffffdfffffffd000 @step=4 @connection=7 @time="TIME" -> ok found=true start=0xffffdfffffffd000 end=0xffffdfffffffe000 level=1 paddr=0x1000 prop=rw:wb tracked=true frame=3 nodes_allocated=0
frame paddr=0x1000 -> rc=3 usage=Frame kind=untyped meta=0x0 in_list=0 h=2 p=1 c=0 k=0 u=0 l=0
END
# first STEP WORD...: bisect finds that step
first() {
	local want=$1
	shift
	past 0 bisect "$@"
	says out "step $want"
}
first 0 'frame paddr=0x1000 rc=unused'
first 1 'frame paddr=0x1000 rc=1'
first 8 --from 2 'frame paddr=0x1000 rc=1'
first 10 --from 2 'frame paddr=0x1000 rc=unused'
first 9 'translate va=0xffffdfffffffd000 found=true prop!=rw:wb'
first 5 'areas areas>1'
first 3 'areas areas=[1:0xffffdfffffffc000..0xffffe00000000000]'
first 4 frame paddr=0x1000 'rc>=2' 'h!=1' 'p=1'
first 4 'frame paddr=0x1000 -> rc>=2  h!=1 p=1'
first 4 'who-holds paddr=0x1000 frames=[2,3]'
first 3 --monotonic --to 6 'census leaves_tracked>=1'
first 7 --from 7 'census frame<=2'
past 1 bisect 'frame paddr=0x1000 rc>3'
says err 'behind no step from 0 to 11'
past 1 bisect --from 10 'translate va=0xffffdfffffffd000 prop!=rw:wb'
past 1 bisect --monotonic 'census leaves_tracked>=1'
says err 'so with --monotonic behind none before'
past 0 --json bisect 'census areas=2'
says out '{"step":5,'
says out '"answer":{"op":"census"'

# --- stories ---------------------------------------------------------------------------------------------------

past 0 story frame 0x1000 --from 3 --to 9
is out << 'END'
# behind step 2
    rc unused -> 2
    usage Unused -> Frame
    kind none -> untyped
    held by frame 1
    held by frame 2
kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb @step=3 @connection=7 @time="TIME" -> ok area=1 start=0xffffdfffffffc000 end=0xffffe00000000000 nodes_allocated=2
    no longer held by frame 1
    mapped kernel:0xffffdfffffffd000 0x1000 rw:wb
kvirt_query area=1 va=0xffffdfffffffd000 @step=4 @connection=7 @time="TIME" -> ok found=true start=0xffffdfffffffd000 end=0xffffdfffffffe000 level=1 paddr=0x1000 prop=rw:wb tracked=true frame=3 nodes_allocated=0
    rc 2 -> 3
    held by frame 3
# the state behind step 3 was put back @step=7 @time="TIME"
    rc 3 -> 2
    no longer held by frame 3
frame_drop frame=2 @step=8 @connection=7 @time="TIME" -> ok last=false
    rc 2 -> 1
    no longer held by frame 2
kvirt_protect_range area=1 start=0xffffdfffffffd000 end=0xffffdfffffffe000 set=- clear=w cache=keep global=keep @step=9 @connection=7 @time="TIME" -> ok leaves=1 nodes_allocated=0
    changed kernel:0xffffdfffffffd000 0x1000 rw:wb -> 0x1000 r:wb
END
past 0 story area 1 --from 8
is out << 'END'
# behind step 7
    created 0xffffdfffffffc000..0xffffe00000000000
    mapped kernel:0xffffdfffffffd000..0xffffdfffffffe000 0x1000 rw:wb
kvirt_protect_range area=1 start=0xffffdfffffffd000 end=0xffffdfffffffe000 set=- clear=w cache=keep global=keep @step=9 @connection=7 @time="TIME" -> ok leaves=1 nodes_allocated=0
    changed kernel:0xffffdfffffffd000..0xffffdfffffffe000 0x1000 rw:wb -> 0x1000 r:wb
kvirt_drop area=1 @step=10 @connection=7 @time="TIME" -> ok leaves=1 subtrees=0 nodes_allocated=0 nodes_freed=0
    ended 0xffffdfffffffc000..0xffffe00000000000
END
past 0 --json story area 2
is out << 'END'
{"step":5,"time":"TIME","connection":7,"op":"kvirt_reserve","args":{"area_size":"0x2000"},"class":"ok","result":{"area":2,"start":"0xffffdfffffffa000","end":"0xffffdfffffffc000"},"changes":[{"what":"created","start":"0xffffdfffffffa000","end":"0xffffdfffffffc000"}]}
{"step":7,"time":"TIME","restored":3,"changes":[{"what":"ended","start":"0xffffdfffffffa000","end":"0xffffdfffffffc000"}]}
END
past 0 story va 0xffffdfffffffd000
says out '    mapped kernel:0xffffdfffffffd000 0x1000 rw:wb'
past 0 story area 99
says err 'no step from 1 to 11 touched area 99'

# --- what is refused ------------------------------------------------------------------------------------------------

mistake() {
	local text=$1
	shift
	past 2 "$@"
	says err "$text"
	is out < /dev/null
}
mistake 'expected a step' at five digest
mistake 'expected a step' diff 1 -- -1
mistake 'needs more' at 5
mistake "'frame_alloc' is an operation" at 5 frame-alloc
mistake "did you mean 'translate'" at 5 translat va=0x0
mistake 'expected argument paddr' at 5 frame
mistake 'no step lies between' log --from 7 --to 3
mistake 'name of an operation' log --op census
mistake 'expected a number' log --frame x
mistake 'has no frame at' log --frame 0x80000000
mistake 'leave --trace or --json out' --json log --trace
mistake 'a story is about' story page 0x0
mistake 'the name of a request' bisect 'frames rc>1'
mistake 'a field of frame: rc, usage' bisect 'frame paddr=0x0 refs>1'
mistake 'no order' bisect 'frame paddr=0x0 usage>1'
mistake 'column 20: expected u64' bisect 'frame paddr=0x0 rc>many'
mistake 'Unused|Reserved|Frame' bisect 'frame paddr=0x0 usage=frame'
mistake 'a comparison, such as' bisect 'frame paddr=0x0'
mistake 'expected argument paddr' bisect 'frame rc>1'
mistake 'the length of the list' bisect 'areas areas>[]'
mistake 'without blanks' bisect 'frame paddr=0x0 rc > 1'
mistake 'give one of them' --connect x log
run 2 --embedded log
says err 'give --state-dir DIR'
past 6 at 12 digest
says err 'has not come to step 12, its last is 11'
past 6 log --to 12
says err 'has not come to step 12'
past 6 diff last-12 last
says err 'the last step of store "default" is 11'
past 6 --store other at 1 digest
says err 'no store "other"'
mkdir empty
for dir in empty nowhere; do
	run 6 --state-dir $dir log
	says err $dir
done
history n a.kvt journal=no
run 0 --state-dir n at 0 nodes
run 6 --state-dir n at 1 nodes
run 6 --state-dir n log
says err 'no step of store "default" is recorded'
history d a.kvt
head -c 20000 d/kvmstore.db > cut && cp cut d/kvmstore.db
run 6 --state-dir d at 1 digest
says err damaged

# nothing was written
before=$(cat a/kvmstore.db* | cksum)
past 0 log --frame 0x1000
checks=$((checks + 1))
[ "$(cat a/kvmstore.db* | cksum)" = "$before" ] && [ "$(ls a)" = kvmstore.db ] || failure "reading changed the directory"

for command in at log diff bisect story; do
	run 0 help $command
	narrow out
done

# --- with sqlite3 --------------------------------------------------------------------------------------------------------

if command -v sqlite3 > /dev/null; then
	history q a.kvt snapshot=9
	sqlite3 q/kvmstore.db "SELECT area, va FROM area_frames WHERE first <= 0x1000 AND 0x1000 <= last" > out
	is out < /dev/null
	history q a.kvt restore=6:3 snapshot=9
	sqlite3 q/kvmstore.db "SELECT area, va, flags FROM area_frames WHERE first <= 0x1000 AND 0x1000 <= last" > out
	is out <<< '1|0xffffdfffffffd000|r'
	sqlite3 q/kvmstore.db "SELECT usage, kind, rc, pages FROM frame_states" > out
	is out << 'END'
Frame|untyped|shared|1
PageTable|node|shared|259
END
	sqlite3 q/kvmstore.db "SELECT first, last, restored FROM journal_groups WHERE restored IS NOT NULL" > out
	is out <<< '7|7|3'
fi

# --- beside a daemon --------------------------------------------------------------------------------------------------------

history live a.kvt snapshot=11
start --state-dir live
run 0 --connect "$socket" at 4 digest
is out <<< "digest=$(sed -n 's/^4 //p' live.digests)"
run 0 --connect "$socket" story area 1
says out '@step=3 '
run 3 --connect "$socket" --store other log
stop
start
run 6 --connect "$socket" log
says err 'without a state directory'
stop

finish
