#!/bin/bash
# The commands of examples/README.md, one by one as they stand there: they do
# what it says, and nothing is found in the program once its bug is mended.
. "$(dirname "$0")/e2e.sh"

PATH=$build:$PATH
cp "$top/examples/toy_kernel.c" .

# the lines of the blocks marked as shell
awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$top/examples/README.md" > commands
lines commands 5

# command N STATUS: the N-th of them ends so
command() {
	local line
	line=$(sed -n "$1p" commands)
	if [ "${line%% *}" = cc ] && ! type cc > /dev/null 2>&1; then
		cp "$build/examples/toy_kernel" toy
		return
	fi
	ends "$2" bash -c "$line"
}

command 1 0
command 2 0
command 3 4
matches err 'toy.kvt:268: the outcome differs'
matches err '^  \* prop *r:wb *rw:wb'
command 4 0
grep -v -e '^kvmtrace' -e '^store' -e '^#' small.kvt > steps
lines steps 5
# the shape that the document shows: the range ends where the page begins
sed -n 's/^ *\(kvirt_[a-z_]*\|frame_from_unused\) .*-> .*/\1/p' "$top/examples/README.md" > shown
cut -d ' ' -f 1 steps | is shown
end=$(sed -n 's/^kvirt_protect_range .* end=\(0x[0-9a-f]*\) .*/\1/p' steps)
matches steps "^kvirt_peek area=1 va=$end "
command 5 4
matches err '^  \* prop *r:wb *rw:wb'

# the bug mended: the same operations, and the short ones
"$build/examples/toy_kernel_fixed" > fixed.kvt
run 0 -e replay fixed.kvt
[ "$(grep -c -v -e '->' fixed.kvt)" -lt 100 ] || failure "few answers of the mended program are compared"
"$build/examples/toy_kernel_fixed" small.kvt > small-fixed.kvt
run 0 -e replay small-fixed.kvt

finish
