#!/bin/bash
# Replay every trace below tests/traces/: on a store inside kvmctl, with all
# laws checked at intervals, and through a daemon.  Both must end in the same
# state.  Then show that a trace which expects something else is refused.
. "$(dirname "$0")/e2e.sh"

export KVMSTORE_SOCKET=$socket
start --log-level warning

# state TRACE OPTION...: the digest of the last state
state() {
	run 0 "${@:2}" replay "$1"
	state=$(awk '$1 == "digest" { print $2 }' out)
}

while IFS= read -r trace; do
	state "$trace" --embedded --check full=1000
	here=$state
	state "$trace"
	equal "$here" "$state"
done < <(find "$traces" \( -name '*.kvt' -o -name '*.kvt.xz' \) | LC_ALL=C sort)
check test -n "$here"
run 0 store list
lines out 1

# --- a replay can fail ------------------------------------------------------------

cat > wrong.kvt <<'END'
kvmtrace 1
frame_alloc -> ok paddr=0x1000
END
for where in --embedded --quiet; do
	run 4 $where replay wrong.kvt
done

stop
finish
