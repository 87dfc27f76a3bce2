# shellcheck shell=bash disable=SC2034 # names for the scripts
# What the scripts share that try the programs from outside.  Such a script begins with
#
#	. "$(dirname "$0")/e2e.sh"
#
# and ends with "finish".  It then works in a folder of its own, $scratch, which
# is gone afterwards together with every process it has left behind.
#
# $top and $build are the trees of the sources and of the build, $kvmctl and
# $kvmstored the programs, $socket is where a daemon of the script listens.
# out, err and log are what the last call and the daemons have said.
set -u

top=$(cd "${top_srcdir:-$(dirname "$0")/..}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
kvmctl=${KVMCTL:-$build/kvmctl} kvmstored=${KVMSTORED:-$build/kvmstored}
case $kvmctl in /*) ;; *) kvmctl=$PWD/$kvmctl ;; esac
case $kvmstored in /*) ;; *) kvmstored=$PWD/$kvmstored ;; esac
traces=$top/tests/traces
unset KVMSTORE_SOCKET XDG_RUNTIME_DIR

daemon=
scratch=$(mktemp -d) && cd "$scratch" || exit 1
socket=$scratch/socket
leave() {
	# shellcheck disable=SC2046 # numbers
	{ kill -KILL $(jobs -p) && wait; } 2> /dev/null
	cd / && rm -rf "$scratch"
}
trap leave EXIT

checks=0 failed=0
# failure TEXT...: the script goes on, and fails in the end
failure() {
	local each
	failed=$((failed + 1))
	echo "FAILED: $*"
	for each in out err log; do
		[ ! -s "$each" ] || { echo "--- $each"; head -n 40 "$each"; }
	done
} >&2

finish() {
	echo "$checks checks, $failed failed"
	exit $((failed > 0))
}

# --- calls ------------------------------------------------------------------------

# ends STATUS COMMAND...: the command ends with STATUS; leaves out and err behind
ends() {
	local want=$1 status
	shift
	checks=$((checks + 1))
	timeout -k 5 120 "$@" > out 2> err
	status=$?
	[ "$status" -eq "$want" ] || failure "${1##*/} ${*:2} ended with $status, not $want"
}

# run STATUS WORD...: kvmctl WORD... ends with STATUS
run() {
	local want=$1
	shift
	ends "$want" "$kvmctl" "$@" < /dev/null
}

# check WORD...: another command must succeed
check() {
	checks=$((checks + 1))
	"$@" > check.out 2>&1 || { failure "$*"; head -n 20 check.out; }
}

# digest WORD...: of the state that these words of kvmctl lead to
digest() {
	local text
	text=$("$kvmctl" "$@" digest 2>&1) || text="no digest of $*: $text"
	echo "${text#digest=}"
}

# --- what they have left ----------------------------------------------------------

# says FILE TEXT...: the file has a line with each TEXT, in that order
says() {
	local file=$1 text at=0 next
	shift
	for text in "$@"; do
		checks=$((checks + 1))
		next=$(tail -n +$((at + 1)) "$file" | grep -a -nF -m 1 -e "$text" | cut -d: -f1)
		if [ -z "$next" ]; then
			failure "$file does not say, behind line $at: $text"
			return
		fi
		at=$((at + next))
	done
}

# matches FILE PATTERN: the file has a line like it
matches() {
	checks=$((checks + 1))
	grep -q -e "$2" "$1" || failure "$1 has no line like: $2"
}

# lacks FILE TEXT: the file has no line with TEXT
lacks() {
	checks=$((checks + 1))
	! grep -qF -e "$2" "$1" || failure "$1 says: $2"
}

# is FILE [TEXT]: the file is the text, or what stands on standard input
is() {
	if [ $# -eq 2 ]; then
		equal "$(cat "$1")" "$2"
	else
		checks=$((checks + 1))
		diff "$1" - > different || { failure "$1 is not as expected"; cat different; }
	fi
}

# equal TEXT TEXT
equal() {
	checks=$((checks + 1))
	[ "$1" = "$2" ] || failure "'$1' is not '$2'"
}

# same FILE FILE
same() {
	checks=$((checks + 1))
	cmp -s "$1" "$2" || { failure "$1 and $2 differ"; diff "$1" "$2" | head -n 20; }
}

# empty FILE
empty() {
	checks=$((checks + 1))
	[ ! -s "$1" ] || failure "$1 is not empty"
}

# lines FILE N
lines() {
	checks=$((checks + 1))
	[ "$(wc -l < "$1")" -eq "$2" ] || failure "$1 has $(wc -l < "$1") lines, not $2"
}

# absent FILE: nothing of that name is there
absent() {
	checks=$((checks + 1))
	[ ! -e "$1" ] && [ ! -L "$1" ] || failure "$1 is there"
}

# narrow FILE: no line is longer than 80 columns
narrow() {
	checks=$((checks + 1))
	awk 'length($0) > 80 { print; wide = 1 } END { exit wide }' "$1" > wide || failure "a line of $1 is too long: $(head -n 1 wide)"
}

# --- daemons ----------------------------------------------------------------------

# wait_for COMMAND...: until it succeeds, 20 seconds at the most
wait_for() {
	local tries
	for ((tries = 0; tries < 400; tries++)); do
		"$@" > /dev/null 2>&1 && return
		sleep 0.05
	done
	failure "never: $*"
	return 1
}

answers() {
	"$kvmctl" --quiet --connect "$socket" status || ! kill -0 "$daemon"
}

# start WORD...: a daemon with these options answers on $socket
start() {
	"$kvmstored" --listen "$socket" "$@" < /dev/null 2>> log &
	daemon=$!
	wait_for answers && kill -0 "$daemon" 2> /dev/null && return
	failure "the daemon does not start"
	exit 1
}

# stop [SIGNAL]: it ends, and unless it is killed without an error
stop() {
	local status
	kill "-${1:-TERM}" "$daemon"
	wait "$daemon" 2> /dev/null
	status=$?
	daemon=
	checks=$((checks + 1))
	[ "${1:-TERM}" = KILL ] || [ $status -eq 0 ] || failure "the daemon ended with status $status"
}
