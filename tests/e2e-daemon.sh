#!/bin/sh
# kvmstored from the shell: help, version, settings, exit statuses, messages.
# What clients may do to it is in test_daemon_e2e.c.
#
# $KVMSTORED names the program.  Nothing here waits without bound.
set -u

KVMSTORED=${KVMSTORED:-./kvmstored}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
}

# run STATUS ARGUMENT...: run to the end within 20 seconds; output in $work/out and $work/err
run() {
	wanted=$1
	shift
	timeout -k 5 20 "$KVMSTORED" "$@" > "$work/out" 2> "$work/err" < /dev/null
	status=$?
	[ "$status" -eq "$wanted" ] || {
		fail "kvmstored $*: exit status $status, not $wanted"
		cat "$work/err"
	}
}

# says WORDS: the last run said so on standard error
says() {
	grep -qF -e "$1" "$work/err" || {
		fail "it does not say \"$1\" but:"
		cat "$work/err"
	}
}

# refuses WORDS: the configuration in $work/conf is refused with that line
refuses() {
	run 2 --config "$work/conf" --listen "$work/s"
	[ "$(head -n 1 "$work/err")" = "$work/conf:$1" ] || {
		fail "wanted \"FILE:$1\", found:"
		cat "$work/err"
	}
}

# --- help and version -------------------------------------------------------------

run 0 --help
[ -s "$work/out" ] || fail "--help prints nothing"
[ -s "$work/err" ] && fail "--help prints to standard error"
awk 'length > 80 { print "wide: " $0; bad = 1 } END { exit bad }' "$work/out" || fail "--help is wider than 80 columns"
for option in --listen --state-dir --check --config --log-level --idle-timeout --version; do
	grep -qF -e "$option" "$work/out" || fail "--help does not list $option"
done
run 0 -h
run 0 --version
grep -Eq '^kvmstored [0-9]+\.[0-9]+\.[0-9]+, protocol [0-9]+$' "$work/out" || fail "--version: $(cat "$work/out")"

# --- the command line --------------------------------------------------------------

run 2 --bogus
says "unknown option --bogus"
says "--help"
run 2 word
says "\"word\""
run 2 --listen
says "--listen needs a value"
run 2 --check sometimes
says "off, touched, full or full=N"
run 2 --check full=0
run 2 --check full=x
run 2 --idle-timeout 0
says "1 to 86400"
run 2 --max-connections 12x
run 2 --max-stores -1
run 2 --log-level loud
run 2 --config "$work/nothing"
says "cannot read $work/nothing"

# --- the configuration file -----------------------------------------------------------

printf '# comment\n; too\n\ncheck = sometimes\n' > "$work/conf"
refuses "4: check: expected off, touched, full or full=N, found 'sometimes'"
printf 'check = off\nchec = off\n' > "$work/conf"
refuses "2: setting: expected a name that kvmstored --help lists, found 'chec'"
printf 'check = off\nidle-timeout = 3\ncheck = off\n' > "$work/conf"
refuses "3: check: expected it once, found 'off'"
printf '[daemon]\ncheck = off\n' > "$work/conf"
refuses "2: check: expected no [section] above it, found 'daemon'"
printf 'check\n' > "$work/conf"
refuses "1: expected name = value"
printf 'state-dir =\n' > "$work/conf"
refuses "1: state-dir: expected a path, found ''"
{
	printf '# first\nstate-dir = /'
	head -c 5000 /dev/zero | tr '\0' x
	printf '\n'
} > "$work/conf"
refuses "2: line: expected a shorter one, found 'state-dir = /$(head -c 67 /dev/zero | tr '\0' x)'"

# --- it runs, and ends with status 0 -----------------------------------------------------

# the file's settings hold, and the command line comes before them
printf 'listen = %s/from-file\nlog-level = debug\nstate-dir = %s/state\n' "$work" "$work" > "$work/conf"
"$KVMSTORED" --config "$work/conf" --listen "$work/s" 2> "$work/err" < /dev/null &
daemon=$!
tries=0
while ! [ -S "$work/s" ] && [ "$tries" -lt 200 ]; do
	sleep 0.1
	tries=$((tries + 1))
done
[ -S "$work/s" ] || fail "no socket"
[ -e "$work/from-file" ] && fail "the file's listen won over the command line"
sleep 0.1
kill -HUP "$daemon" || fail "it is gone"
sleep 0.1
kill -TERM "$daemon" || fail "SIGHUP ended it"
# bounded: a daemon that stays is killed by its id
( sleep 20; kill -KILL "$daemon" ) 2> /dev/null &
watchdog=$!
wait "$daemon"
status=$?
kill "$watchdog" 2> /dev/null
[ "$status" -eq 0 ] || fail "SIGTERM: exit status $status"
says "listens on $work/s"
says 'saved store "default": step 0, digest 0x89724308c7d7aa90'
[ -e "$work/s" ] && fail "the socket file is still there"
[ -f "$work/state/kvmstore.db" ] || fail "no database in the state directory"

# --- the log ----------------------------------------------------------------------------------

# priorities under a journal only
: > "$work/err"
JOURNAL_STREAM=$(stat -c %d:%i "$work/err") timeout -k 5 20 "$KVMSTORED" --listen "$work/no/such" 2>> "$work/err"
head -c 3 "$work/err" | grep -qF '<3>' || fail "no priority under a journal: $(cat "$work/err")"
JOURNAL_STREAM=1:2 run 1 --listen "$work/no/such"
grep -qF '<3>' "$work/err" && fail "a priority without a journal"
says "Z kvmstored: error: "
run 1 --log-level error --listen "$work/no/such"
[ "$(wc -l < "$work/err")" -eq 1 ] || fail "more than errors are logged"

# the sample file is one it takes: all but the paths
sed -e "s,^listen = .*,listen = $work/no/such/s," -e "s,^state-dir = .*,state-dir = $work/state," -e 's,^#\([a-z]\),\1,' \
	"${top_srcdir:-.}/etc/kvmstored.conf" > "$work/conf"
run 1 --config "$work/conf"
says "$work/no/such/s.lock"

[ "$failures" -eq 0 ] || exit 1
