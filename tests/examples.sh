#!/bin/bash
# The commands of examples/README.md, one by one as they stand there: they do
# what it says, and nothing is found in the program once its bug is mended.
set -u

top=$(cd "${top_srcdir:-.}" && pwd)
build=${top_builddir:-$PWD}
case $build in /*) ;; *) build=$PWD/$build ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
PATH=$build:$PATH
cp "$top/examples/toy_kernel.c" .

failed=0
failure() {
	failed=$((failed + 1))
	echo "FAILED: $*"
	head -n 30 out err 2> /dev/null
}

# the lines of the blocks marked as shell
awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$top/examples/README.md" > commands
[ "$(wc -l < commands)" -eq 5 ] || failure "examples/README.md has other commands than this test knows"

# command N STATUS: the N-th of them ends so
command() {
	local line status
	line=$(sed -n "$1p" commands)
	if [ "${line%% *}" = cc ] && ! type cc > /dev/null 2>&1; then
		cp "$build/examples/toy_kernel" toy
		return
	fi
	bash -c "$line" > out 2> err
	status=$?
	[ $status -eq "$2" ] || failure "status $status, not $2: $line"
}

command 1 0
command 2 0
command 3 4
grep -q 'toy.kvt:268: the outcome differs' err || failure "the first difference is elsewhere"
grep -q '^  \* prop *r:wb *rw:wb' err || failure "another field differs"
command 4 0
grep -v -e '^kvmtrace' -e '^store' -e '^#' small.kvt > steps
[ "$(wc -l < steps)" -eq 5 ] || { failure "not five steps"; cat small.kvt; }
# the shape that the document shows: the range ends where the page begins
sed -n 's/^ *\(kvirt_[a-z_]*\|frame_from_unused\) .*-> .*/\1/p' "$top/examples/README.md" > shown
cut -d ' ' -f 1 steps | diff shown - || failure "not the steps that the document shows"
end=$(sed -n 's/^kvirt_protect_range .* end=\(0x[0-9a-f]*\) .*/\1/p' steps)
grep -q "^kvirt_peek area=1 va=$end " steps || failure "not the page behind the range"
command 5 4
grep -q '^  \* prop *r:wb *rw:wb' err || failure "the short trace differs in another way"

# the bug mended: the same operations, and the short ones
"$build/examples/toy_kernel_fixed" > fixed.kvt
kvmctl -e replay fixed.kvt > out 2> err || failure "the mended program differs"
[ "$(grep -c -v -e '->' fixed.kvt)" -lt 100 ] || failure "few answers of the mended program are compared"
"$build/examples/toy_kernel_fixed" small.kvt > small-fixed.kvt
kvmctl -e replay small-fixed.kvt > out 2> err || failure "the mended program differs in the short trace"

[ $failed -eq 0 ] && echo "5 commands, and the mended program"
[ $failed -eq 0 ]
