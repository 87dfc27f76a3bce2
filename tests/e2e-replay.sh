#!/bin/bash
# kvmctl replay: what it says of a difference, pieces of a trace, many traces
# at a time, and the files it writes.
. "$(dirname "$0")/e2e.sh"

cat > wrong.kvt << 'END'
kvmtrace 1
frame_alloc -> ok frame=1 paddr=0x0
frame_alloc -> ok frame=2
kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1,2] prop=rw:wb -> ok area=1
kvirt_query area=1 va=0xffffdfffffffe000 -> ok found=true
kvirt_query area=1 va=0xffffdfffffff0000 -> ok found=true
gap ops=3
frame_drop frame=9 -> ok last=false
kvirt_drop area=1 -> err NotAligned
expect census areas=1
END

# --- what is said of a difference ------------------------------------------------------------

run 4 -e replay wrong.kvt
says err 'wrong.kvt:6: the outcome differs' '  expected: ok found=true' '  actual:   panic query_out_of_range' \
	'  * outcome          ok                       panic query_out_of_range' \
	'  decided by panic query_out_of_range: the address is outside [start, end) of the area' \
	'  it would have been as recorded with' '    va=0xffffdfffffffe000 in place of 0xffffdfffffff0000: ok found=true' \
	'  area 1: touched by 2 steps before, last by' '    line 4, step 3: kvirt_map_frames' '    line 5, step 4: kvirt_query' \
	'  va 0xffffdfffffff0000: no step touched it before' \
	'  the state in front of it: kvmctl -e shell --trace wrong.kvt --to 4'
lacks err 'gap'
run 4 -e replay --keep-going wrong.kvt
says err 'wrong.kvt:8: the outcome differs, after the gap at line 7' '  decided by pre unknown_frame:' \
	'    frame=3 in place of 9: ok last=false' 'wrong.kvt:9: ' '  no clause of the operation stood in its way' \
	'  recorded was err NotAligned: ' 'wrong.kvt:10: the answer differs, after the gap' '--to 7'
# an outcome that is ok has no other that is ok to offer; a value is tried once
cat > field.kvt << 'END'
kvmtrace 1
frame_alloc -> ok frame=1 paddr=0x0
kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1] prop=rw:wb -> ok area=1
kvirt_peek area=1 va=0xffffdfffffffe000 -> ok found=true prop=r:wb
kvirt_peek area=1 va=0xffffdfffffffe000 -> pre unknown_frame
END
run 4 -e replay --keep-going field.kvt
says err 'field.kvt:4: the outcome differs' '  nothing near these arguments would have been as recorded' 'field.kvt:5: '
lacks err 'would have been ok'
sed -i 's/^kvirt_peek.*prop=r:wb/kvirt_peek area=1 va=0xfffff00000000000 -> ok/; 5d' field.kvt
run 4 -e replay field.kvt
says err '  it would have been as recorded with'
checks=$((checks + 1))
[ -z "$(grep ' in place of ' err | sort | uniq -d)" ] || failure "a value is told twice"
run 4 -e --json replay --keep-going wrong.kvt
checks=$((checks + 1))
python3 - << 'END' || failure "the JSON report"
import json
report = json.loads(open("out").read())
assert report["file"] == "wrong.kvt" and report["replay"] == "diverged", report
found = [(d["line"], d["step"], d["is_expectation"]) for d in report["divergences"]]
assert found == [(6, 5, False), (8, 6, False), (9, 7, False), (10, 7, True)], found
first = report["divergences"][0]
assert first["call"]["args"]["va"] == "0xffffdfffffff0000" and first["expected"] == "ok found=true", first
assert first["actual"]["name"] == "query_out_of_range", first
assert any("decided by panic" in line for line in first["report"]), first
END
# binary: the same lines
run 0 trace convert wrong.kvt wrong.kvtb
run 4 -e replay --keep-going wrong.kvt
sed 's/wrong\.kvt/wrong.kvtb/g' err > want
run 4 -e replay --keep-going wrong.kvtb
same want err
# from standard input there is no second look
"$kvmctl" -e replay - < wrong.kvt > out 2> err
says err '-:6: the outcome differs' '  decided by panic'
lacks err 'in front of it'

# --- through a daemon -------------------------------------------------------------------------------

export KVMSTORE_SOCKET=$socket
start --log-level warning
run 4 replay wrong.kvt
says err '  decided by panic query_out_of_range' '    va=0xffffdfffffffe000 in place of 0xffffdfffffff0000: ok found=true' \
	'  area 1: touched by 2 steps before' 'kvmctl -e shell --trace wrong.kvt --to 4'
run 0 replay --jobs 2 "$traces"/b000[1-4]*.kvt
says out 'b0001' 'b0002' 'b0003' 'b0004' '4 of 4 traces passed, '
run 0 replay --coverage coverage "$traces"/b0001*.kvt
says coverage '1 trace, ' 'outcomes of operations '
lacks coverage laws\ that
run 0 replay --json --coverage coverage "$traces"/b0001*.kvt
lacks coverage '"laws'

# --- a piece ------------------------------------------------------------------------------------------------

run 0 -e replay --to 4 wrong.kvt
says out 'ops           4 in'
run 4 -e replay --to 5 wrong.kvt
run 4 -e replay --from 5 --to 5 wrong.kvt
run 4 -e replay --from 6 wrong.kvt
says err 'wrong.kvt:8:'
run 0 -e replay --from 9 wrong.kvt
# the state behind operation 4, and what comes behind it
run 0 -e replay --to 4 --keep four.db wrong.kvt
for form in wrong.kvt wrong.kvtb; do
	run 4 --embedded=four.db replay --from 5 $form
	says err "$form:6: the outcome differs" '  * outcome          ok                       panic query_out_of_range' \
		"kvmctl --embedded=four.db shell --trace $form --from 5 --to 4"
	says out 'ops           1 in'
done
run 2 -e replay --from x wrong.kvt

# --- many ------------------------------------------------------------------------------------------------------

printf 'kvmtrace 1\nframe_aloc\n' > 'not<good>&.kvt'
for jobs in 1 3; do
	run 4 -e replay --jobs $jobs --junit junit.xml --coverage coverage "$traces"/b000[1-3]*.kvt wrong.kvt \
		'not<good>&.kvt' gone.kvt "$traces"/b0004*.kvt
	sed 's/, [0-9]* ops in .*//' out > told
	says told 'b0001-kernel-areas.kvt: passed' 'b0002' 'b0003' 'wrong.kvt: diverged' 'not<good>&.kvt: syntax error' \
		'gone.kvt: unreadable' 'b0004-large-pages-cut-by-a-split-area.kvt: passed' '4 of 7 traces passed'
	says err 'wrong.kvt:6: the outcome differs' 'not<good>&.kvt:2:1: expected operation name' 'gone.kvt: '
	checks=$((checks + 1))
	python3 - << 'END' || failure "junit.xml"
import xml.etree.ElementTree as tree
suite = tree.parse("junit.xml").getroot()[0]
assert [suite.get(k) for k in ("tests", "failures", "errors")] == ["7", "1", "2"], suite.attrib
cases = [(c.get("name").split("/")[-1], c[0].tag if len(c) else "") for c in suite]
assert cases[3] == ("wrong.kvt", "failure") and cases[4] == ("not<good>&.kvt", "error") and cases[5][1] == "error", cases
assert [c[1] for c in cases if c[0].startswith("b000")] == [""] * 4, cases
assert "decided by panic" in suite[3][0].text and suite[3][0].get("message") == "diverged"
END
	says coverage '7 traces, ' 'kvirt_peek '
	sed -n '/^kvirt_query /,/^kvirt_peek /p' coverage > query
	lacks query 'panic query_out_of_range'
	# a trace that can be read to its end counts as it does in "trace coverage"
	run 0 -e replay --jobs $jobs --coverage coverage "$traces"/b000[1-3]*.kvt
	run 0 trace coverage "$traces"/b000[1-3]*.kvt
	same coverage out
	run 0 -e replay --json --jobs $jobs --coverage coverage "$traces"/b000[1-3]*.kvt
	run 0 --json trace coverage "$traces"/b000[1-3]*.kvt
	equal "$(sed 's/"nanoseconds":[0-9]*/TIME/' coverage)" "$(sed 's/"nanoseconds":[0-9]*/TIME/' out)"
done
run 0 -e --json replay --jobs 2 "$traces"/b000[1-3]*.kvt
checks=$((checks + 1))
[ "$(grep -c '^{"replay":"passed",.*"file":"' out)" -eq 3 ] || failure "not one object for each trace"
run 2 -e replay --keep x "$traces"/b000[1-2]*.kvt
says err '--keep goes with one trace'
cp "$traces"/b0001*.kvt mine.kvt
run 2 -e replay --junit both --coverage both wrong.kvt
says err '--junit and --coverage write to one file, both'
absent both
for option in coverage junit; do
	run 2 -e replay --$option ./mine.kvt mine.kvt
	same mine.kvt "$traces"/b0001*.kvt
done
# where nothing can be written no replay begins; what was not written is told
for option in coverage junit; do
	run 6 -e replay --$option /nowhere/x "$traces"/b0001*.kvt
	says err '/nowhere/x: No such file or directory'
	empty out
	if [ -w /dev/full ]; then
		run 6 -e replay --$option /dev/full "$traces"/b0001*.kvt
		says err '/dev/full: No space left on device'
	fi
done

stop
finish
