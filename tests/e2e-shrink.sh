#!/bin/bash
# kvmctl trace shrink and trace gen as they are called: conditions, commands
# that are asked, options, statuses, and an end before the end.
. "$(dirname "$0")/e2e.sh"

export TMPDIR=$scratch/tmp\ dir
mkdir "$TMPDIR"

# steps FILE N: operations and expect lines
steps() {
	checks=$((checks + 1))
	[ "$(grep -c -v -e '^kvmtrace' -e '^store' -e '^#' "$1")" -eq "$2" ] || failure "$1 has not $2 steps"
}

run 0 trace gen --seed 4 --steps 400 -o good.kvt
grep -v '^expect' good.kvt > bad.kvt
printf 'frame_from_unused paddr=0x7ffff00 -> ok frame=99999\n' >> bad.kvt

# --- conditions -------------------------------------------------------------------

run 0 trace shrink bad.kvt --while-diverges -o small.kvt
steps small.kvt 1
says small.kvt 'frame_from_unused: recorded ok, the model says err NotAligned'
says err '1 of 401 steps are left'
run 4 -e replay small.kvt
run 0 --json trace shrink bad.kvt --while-diverges -o small.kvt
says err '"steps_before":401,"steps":1,'
checks=$((checks + 1))
"$kvmctl" --quiet trace shrink - --while-diverges < bad.kvt > out 2> err || failure "standard input is not read"
steps out 1
empty err
run 1 trace shrink good.kvt --while-diverges -o none.kvt
says err 'does not fail'
absent none.kvt
run 1 trace shrink bad.kvt --while-law-breaks

# --- commands ------------------------------------------------------------------------

run 0 trace shrink bad.kvt --while "grep -q '^vm_space_new ' {} && grep -q '^list_new' {}" -o small.kvt
steps small.kvt 2
says small.kvt 'list_new -> ok list=1'
run 0 trace shrink bad.kvt --while 'grep -q "^vm_space_new"' -o small.kvt # the trace is the last word
steps small.kvt 1
says small.kvt 'vm_space_new -> ok vm_space=1'
# both conditions must hold
run 0 trace shrink bad.kvt --while-diverges --while 'grep -q "^vm_space_new" {}' -o small.kvt
steps small.kvt 2
run 4 -e replay small.kvt
# a kernel that forgets the write bit of what is mapped behind a list
cat > kernel << 'END'
#!/bin/sh
awk '/^list_new/ { forgets = 1 } /^kvirt_peek/ && forgets { sub(/prop=rw:wb/, "prop=r:wb") } { print }' "$1"
END
chmod +x kernel
cat > peek.kvt << 'END'
kvmtrace 1
vm_space_new
kvirt_map_untracked_frames area_size=0x4000 paddr_start=0x40000000 paddr_end=0x40002000 prop=rw:wb -> ok area=1
list_new -> ok list=1
frame_alloc -> ok frame=1
kvirt_peek area=1 va=0xffffdfffffffe000
kvirt_peek area=1 va=0xffffdfffffffc000
END
run 0 trace shrink peek.kvt --while-diverges --recorder './kernel {}' -o small.kvt
steps small.kvt 3
says small.kvt 'list_new'
says small.kvt 'prop differs'
run 4 -e replay small.kvt
run 1 trace shrink peek.kvt --while 'false {}'
checks=$((checks + 1))
[ -z "$(ls "$TMPDIR")" ] || failure "files are left: $(ls "$TMPDIR")"

run 6 trace shrink nowhere.kvt --while-diverges -o none.kvt
says err 'nowhere.kvt: No such file or directory'
cp bad.kvt mine.kvt
run 2 trace shrink mine.kvt --while-diverges -o mine.kvt
same bad.kvt mine.kvt

# --- what is wrong ----------------------------------------------------------------------

run 2 trace shrink bad.kvt
says err '--while-diverges, --while-law-breaks or --while CMD'
run 2 trace shrink bad.kvt --while-diverges --while-law-breaks
run 2 trace shrink bad.kvt --while true --recorder cat
run 2 trace shrink bad.kvt --while-diverges --while
printf 'kvmtrace 1\nframe_alloc zeroed=perhaps\n' > wrong.kvt
run 2 trace shrink wrong.kvt --while true
says err 'wrong.kvt:2:20: expected'
run 6 trace shrink bad.kvt --while-diverges -o nowhere/small.kvt
run 6 trace shrink bad.kvt --while ./no-such-command
says err 'cannot run'
run 6 trace shrink bad.kvt --while-diverges --recorder ./no-such-command
run 6 trace shrink bad.kvt --while-diverges --recorder 'echo hello'
says err "expected 'kvmtrace 1'"
TMPDIR=$scratch/nowhere run 6 trace shrink bad.kvt --while true

# --- an end before the end -----------------------------------------------------------------

checks=$((checks + 1))
"$kvmctl" trace shrink bad.kvt --while "echo x >> asked; sleep 0.2; grep -q '^frame_from_unused .* err' {}" -o part.kvt > out 2> err &
child=$!
for _ in $(seq 200); do
	[ -e asked ] && [ "$(wc -l < asked)" -ge 4 ] && break
	sleep 0.1
done
kill -INT "$child"
wait "$child" || failure "an interrupted search ended with $?"
says err 'interrupted'
says part.kvt '-> err'
run 0 -e replay part.kvt
checks=$((checks + 1))
[ -z "$(ls "$TMPDIR")" ] || failure "files are left: $(ls "$TMPDIR")"

# --- trace gen ---------------------------------------------------------------------------------

run 0 trace gen --profile munmap --clients 3 --steps 600 --arch riscv64_sv48 ncpu=4 -o clients.kvt
says clients.kvt 'store arch=riscv64_sv48'
says clients.kvt ' @client=3 '
run 0 -e replay clients.kvt
run 0 trace gen --illegal 0 --steps 300 arch=loongarch64 -o legal.kvt
run 0 -e replay legal.kvt
run 1 --json trace gen --until-covered --steps 200 -o few.kvt
checks=$((checks + 1))
[ "$(grep -c '^{"op":"[a-z_0-9]*","class":"[a-z]*","name":"[A-Za-z_]*","cause":"[A-Za-z_]*"}$' err)" -gt 20 ] &&
	[ "$(grep -vc '^{"op":' err)" -eq 1 ] && grep -q '^{"reached":[0-9]*,"outcomes":[0-9]*,"ops":200}$' err ||
	failure "what has not come, as JSON"
run 1 trace gen --until-covered --steps 200 -o few.kvt
says err 'not reached: io_read ok'
says err ' outcomes reached in 200 operations'
run 2 trace gen --clients 17
run 2 trace gen --illegal 101
run 2 trace gen --arch pdp11
run 2 trace gen --profile nothing

if [ -w /dev/full ]; then
	ends 6 bash -c '"$0" trace gen > /dev/full' "$kvmctl"
	says err 'cannot write the trace: No space left on device'
	ends 6 bash -c '"$0" -e run good.kvt > /dev/full' "$kvmctl"
	says err 'good.kvt: cannot write the output: No space left on device'
fi

finish
