#!/bin/bash
# Binary traces through kvmctl: traces of the tests there and back, all
# commands that read a trace, what is cut off, damaged or none of it.
. "$(dirname "$0")/e2e.sh"

# --- nothing is lost --------------------------------------------------------------

while read -r trace; do
	run 0 trace convert "$trace" a.kvtb
	run 0 trace convert "$trace" canonical.kvt
	run 0 trace convert a.kvtb b.kvt
	run 0 trace convert b.kvt b.kvtb
	same canonical.kvt b.kvt
	same a.kvtb b.kvtb
done < <(find "$traces" -name '*.kvt' | sort | awk 'NR % 6 == 1')

# --- what reads a trace reads both, by what it holds --------------------------------

trace=$traces/c0001-a-kernel-and-its-users.kvt
run 0 trace convert "$trace" a.kvtb
cp a.kvtb looks-like-text.kvt
xz -k a.kvtb
"$kvmctl" -e run "$trace" > want
for form in a.kvtb looks-like-text.kvt a.kvtb.xz; do
	run 0 -e replay "$form"
	run 0 -e run "$form"
	same want out
done
"$kvmctl" -e run - < a.kvtb > out 2> err
same want out
run 0 trace convert --binary "$trace" -
same a.kvtb out
run 2 trace convert a.kvtb ./a.kvtb
says err "are one file"

# --- a piece -------------------------------------------------------------------------

awk 'BEGIN { print "kvmtrace 1"; for (i = 1; i <= 200000; i++) print "frame_drop frame=" i " -> pre unknown_frame" }' > long.kvt
run 0 --json trace convert long.kvt long.kvtb
says out '{"lines":200001,"ops":200000}'
run 0 trace convert --from 199999 long.kvtb -
printf '%s\n' 'kvmtrace 1' 'gap ops=199998' 'frame_drop frame=199999 -> pre unknown_frame' \
	'frame_drop frame=200000 -> pre unknown_frame' > want
same want out
run 0 trace convert --from 199999 --to 199999 long.kvt -
sed -i '$d' want
same want out
# the frames in front are not read: damage there is not noticed
size=$(stat -c %s long.kvtb)
cp long.kvtb damaged.kvtb
printf 'XXXX' | dd of=damaged.kvtb bs=1 seek=$((size / 2)) conv=notrunc 2> /dev/null
run 0 trace convert --from 199999 --to 199999 damaged.kvtb -
same want out
run 6 -e replay damaged.kvtb
matches err '^damaged\.kvtb: byte [0-9]*: the frame is damaged: '
says err "damaged.kvtb: byte "

# --- cut off ---------------------------------------------------------------------------

head -c $((size * 2 / 3)) long.kvtb > cut.kvtb
run 0 -e replay cut.kvtb
says err "kvmctl: warning: cut.kvtb: cut off at byte $((size * 2 / 3)): the trace has no index and was read up to its last whole frame, line "
run 0 trace convert cut.kvtb mended.kvtb
run 0 -e replay mended.kvtb
empty err
head -c 10 long.kvtb > cut.kvtb
run 6 -e replay cut.kvtb
says err "cut.kvtb: byte 0: a binary trace that is cut off in its first 16 bytes"

# --- none of it ----------------------------------------------------------------------------

{ head -c 16 long.kvtb; cat "$trace"; } > mixed.kvtb
run 6 -e replay mixed.kvtb
says err "mixed.kvtb: byte 16: no frame begins here"
{ cat "$trace"; cat long.kvtb; } > mixed.kvt
run 2 -e replay mixed.kvt
says err "mixed.kvt:$(($(wc -l < "$trace") + 1)):"
{ printf 'kvmtrace 1\n#'; head -c 3000000 /dev/zero | tr '\0' x; } > wide.kvt
run 2 trace convert wide.kvt wide.kvtb
says err "wide.kvt:2:1048577: expected line of at most 1 MiB, found end of limit"
absent wide.kvtb
printf 'kvmtrace 1\n# caf\351\n' > latin1.kvt
run 2 trace convert latin1.kvt latin1.kvtb
says err "latin1.kvt:2:6: expected valid UTF-8, found '\\xe9'"

finish
