#!/bin/bash
# kvmstored from the shell: help, version, settings, exit statuses, messages.
# What clients may do to it is in test_daemon_e2e.c.
. "$(dirname "$0")/e2e.sh"

# run STATUS WORD...: kvmstored WORD... ends with STATUS
run() {
	ends "$1" "$kvmstored" "${@:2}" < /dev/null
}

# refuses WORDS: the configuration in conf is refused with that line
refuses() {
	run 2 --config conf --listen "$socket"
	equal "$(head -n 1 err)" "conf:$1"
}

# --- help and version -------------------------------------------------------------

run 0 --help
empty err
narrow out
for option in --listen --state-dir --check --config --log-level --idle-timeout --version; do
	matches out "^ *\(-., \)\?$option"
done
run 0 -h
run 0 --version
matches out '^kvmstored [0-9]*\.[0-9]*\.[0-9]*, protocol [0-9]*$'

# --- the command line --------------------------------------------------------------

run 2 --bogus
says err "unknown option --bogus"
says err "--help"
run 2 word
says err "\"word\""
run 2 --listen
says err "--listen needs a value"
run 2 --check sometimes
says err "off, touched, full or full=N"
run 2 --check full=0
run 2 --check full=x
run 2 --idle-timeout 0
says err "1 to 86400"
run 2 --max-connections 12x
run 2 --max-stores -1
run 2 --log-level loud
run 2 --config nothing
says err "cannot read nothing"

# --- the configuration file -----------------------------------------------------------

printf '# comment\n; too\n\ncheck = sometimes\n' > conf
refuses "4: check: expected off, touched, full or full=N, found 'sometimes'"
printf 'check = off\nchec = off\n' > conf
refuses "2: setting: expected a name that kvmstored --help lists, found 'chec'"
printf 'check = off\nidle-timeout = 3\ncheck = off\n' > conf
refuses "3: check: expected it once, found 'off'"
printf '[daemon]\ncheck = off\n' > conf
refuses "2: check: expected no [section] above it, found 'daemon'"
printf 'check\n' > conf
refuses "1: expected name = value"
printf 'state-dir =\n' > conf
refuses "1: state-dir: expected a path, found ''"
{
	printf '# first\nstate-dir = /'
	head -c 5000 /dev/zero | tr '\0' x
	printf '\n'
} > conf
refuses "2: line: expected a shorter one, found 'state-dir = /$(head -c 67 /dev/zero | tr '\0' x)'"

printf '\001\033[2J = \377\n' > conf
refuses "1: setting: expected a name that kvmstored --help lists, found '??[2J'"

# --- it runs, and ends with status 0 -----------------------------------------------------

# the file's settings hold, and the command line comes before them
printf 'listen = %s/from-file\nlog-level = debug\nstate-dir = %s/state\n' "$scratch" "$scratch" > conf
"$kvmstored" --config conf --listen "$socket" 2> log < /dev/null &
daemon=$!
wait_for test -S socket
absent from-file
wait_for answers
kill -HUP "$daemon"
check answers
stop
says log "listens on $socket"
says log 'saved store "default": step 0, digest 0x89724308c7d7aa90'
absent socket
[ -f state/kvmstore.db ] || failure "no database in the state directory"

# --- the log ----------------------------------------------------------------------------------

# priorities under a journal only
: > err
JOURNAL_STREAM=$(stat -c %d:%i err) ends 1 "$kvmstored" --listen "$scratch/no/such" < /dev/null
equal "$(head -c 3 err)" '<3>'
JOURNAL_STREAM=1:2 run 1 --listen "$scratch/no/such"
lacks err '<3>'
says err "Z kvmstored: error: "
run 1 --log-level error --listen "$scratch/no/such"
lines err 1

# the sample file is one it takes: all but the paths
sed -e "s,^listen = .*,listen = $scratch/no/such/s," -e "s,^state-dir = .*,state-dir = $scratch/state," -e 's,^#\([a-z]\),\1,' \
	"$top/etc/kvmstored.conf" > conf
run 1 --config conf
says err "$scratch/no/such/s.lock"

finish
