#!/bin/bash
# kvmctl shell: lines from a pipe and from a terminal, on a daemon's store, on
# one of its own, and along a trace.
. "$(dirname "$0")/e2e.sh"

# shell STATUS WORD... < lines
shell() {
	ends "$1" "$kvmctl" "${@:2}"
}

# --- lines ------------------------------------------------------------------------------

shell 0 -e shell << 'END'
# a comment

frame_alloc   # and another
  exec frame-alloc "frame_drop frame=1" 'census'
snapshot save "of the shell".db
frame_alloc
digest --json
quit
this is never read
END
grep -v census out | grep -v unused= > kept
mv kept out
says out 'ok frame=3 paddr=0x0'
says out 'ok last=true'
says out '{"op":"digest",'
empty err
shell 0 -e shell << 'END'
--embedded="of the shell.db" census --json
census --json
END
checks=$((checks + 1))
[ "$(grep -c '"frames":1,' out)" -eq 1 ] && [ "$(grep -c '"frames":0,' out)" -eq 1 ] || failure "not two stores"

# what goes wrong is said, and the next line runs; the status is the first's
printf '%s\n' 'frob' 'frame_drop frame=7' 'frame_alloc' | shell 2 -e shell
says err "unknown command 'frob'"
says out 'pre unknown_frame'
says out 'ok frame=1'
printf '%s\n' 'frame_drop frame=7' 'frame_alloc' | shell 1 -e shell --strict
is out << 'END'
pre unknown_frame
END
printf "frame_alloc 'kind\n" | shell 2 -e shell
says err 'a quote that is not closed'
{ head -c 3000000 /dev/zero | tr '\0' x; echo; echo frame_alloc; } | shell 2 -e shell
says err 'a line of more than 1 MiB'
says out 'ok frame=1'
head -c 300000 /dev/urandom | tr -d 'q' | timeout 60 "$kvmctl" -e shell > out 2> err
[ $? -le 6 ] || failure "noise ended it with a signal"
printf 'shell\nstep\n' | shell 2 -e shell
says err 'this is the shell'
says err '"step" moves in a trace'
printf 'digest' | shell 0 -e shell
says out 'digest=0x'
shell 2 shell --trace "$traces/b0001-kernel-areas.kvt" < /dev/null
shell 2 -e shell --to 3 < /dev/null
shell 2 -e shell --trace < /dev/null
shell 6 -e shell --trace gone.kvt < /dev/null

# --- a trace -----------------------------------------------------------------------------------

cat > t.kvt << 'END'
kvmtrace 1
frame_alloc -> ok frame=1
frame_alloc -> ok frame=2
kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1,2] prop=rw:wb -> ok area=1
kvirt_peek area=1 va=0xffffdfffffffe000 -> ok found=true paddr=0x0
kvirt_drop area=1 -> ok leaves=2
END
"$kvmctl" trace convert t.kvt t.kvtb
for form in t.kvt t.kvtb; do
	shell 0 -e shell --trace $form --to 3 << 'END'
where
areas
step
back 2
areas
step 10
step
back 9
where
END
	checks=$((checks + 1))
	sed -e 's/^\([0-9]: [a-z_]*\).*/\1/' -e '/^digest/d' out > cut
	mv cut out
	is out << END
$form, behind operation 3
areas=[1:0xffffdfffffffd000..0xffffe00000000000]
4: kvirt_peek
behind operation 2
areas=[]
3: kvirt_map_frames
4: kvirt_peek
5: kvirt_drop
behind operation 0
$form, behind operation 0
END
	says err 'the trace ends with operation 5'
done
printf 'where\nstep\nback 2\nareas\n' | shell 0 --json -e shell --trace t.kvt --to 3
checks=$((checks + 1))
python3 -c '
import json
where, step, back, areas = [json.loads(line) for line in open("out")]
assert where["trace"] == "t.kvt" and where["step"] == 3 and where["digest"][:2] == "0x", where
assert step["step"] == 4 and step["call"]["op"] == "kvirt_peek" and step["outcome"]["class"] == "ok", step
assert back == {"step": 2} and areas["result"] == {"areas": []}, (back, areas)
' 2> err || failure "what a shell prints as JSON"
printf 'where\n' | shell 0 -e shell --trace t.kvt --to 99
says err 'the trace ends with operation 5'

# --- a daemon --------------------------------------------------------------------------------------

export KVMSTORE_SOCKET=$socket
start --state-dir state --log-level warning
shell 0 shell << 'END'
frame_alloc
undo
vm_space_new
cursor_open_mut vm_space=1 start=0 end=0x1000
cursor_peek cursor=1
log --op frame_alloc
store list
where
END
says out 'ok cursor=1'
says out 'store default of the daemon at '
says out 'frame_alloc '
# the cursor was dropped with the shell
"$kvmctl" cursor-peek cursor=1 > out 2> err
says out 'pre unknown_cursor'

# --- a terminal ----------------------------------------------------------------------------------------

stop
checks=$((checks + 1))
timeout 120 python3 "$top/tests/e2e-shell.py" "$kvmctl" t.kvt > out 2> err
status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 77 ] || failure "on a terminal"

finish
