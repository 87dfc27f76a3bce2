#!/bin/bash
# Replay every trace below tests/traces/: on a store inside kvmctl, with all
# laws checked at intervals, and through a daemon.  Both must end in the same
# state.  Then show that a trace which expects something else is refused.
set -u

kvmctl=${KVMCTL:-./kvmctl}
kvmstored=${KVMSTORED:-./kvmstored}
traces=${top_srcdir:-.}/tests/traces
scratch=$(mktemp -d)
daemon=
trap '[ -n "$daemon" ] && kill "$daemon" 2> /dev/null; rm -rf "$scratch"' EXIT

export KVMSTORE_SOCKET=$scratch/socket
"$kvmstored" --listen "$KVMSTORE_SOCKET" --log-level warning 2> "$scratch/log" &
daemon=$!
for ((tries = 0; tries < 100; tries++)); do
	"$kvmctl" --quiet status > "$scratch/out" 2>&1 && break
	sleep 0.1
done
if [ "$tries" -eq 100 ]; then
	echo "the daemon does not start"
	cat "$scratch/log" "$scratch/out"
	exit 1
fi

failed=0
# failure TRACE WHERE: show the end of what was said
failure() {
	failed=$((failed + 1))
	echo "FAILED: $1 ($2)"
	tail -n 20 "$scratch/out"
}

# replay TRACE WHERE OPTION...: leaves the digest of the last state in $digest
replay() {
	local trace=$1 where=$2
	shift 2
	digest=
	if ! "$kvmctl" "$@" replay "$trace" > "$scratch/out" 2>&1; then
		failure "$trace" "$where"
		return
	fi
	digest=$(awk '$1 == "digest" { print $2 }' "$scratch/out")
}

replayed=0
while IFS= read -r trace; do
	replayed=$((replayed + 1))
	replay "$trace" "in this process" --embedded --check full=1000
	here=$digest
	replay "$trace" "through the daemon"
	if [ -n "$here" ] && [ -n "$digest" ] && [ "$here" != "$digest" ]; then
		echo "state in this process $here, in the daemon $digest" > "$scratch/out"
		failure "$trace" "two states"
	fi
done < <(find "$traces" \( -name '*.kvt' -o -name '*.kvt.xz' \) | LC_ALL=C sort)

stores=$("$kvmctl" store list | wc -l)
if [ "$stores" -ne 1 ]; then
	"$kvmctl" store list > "$scratch/out" 2>&1
	failure "stores left behind" "through the daemon"
fi

# --- a replay can fail ------------------------------------------------------------

cat > "$scratch/wrong.kvt" <<'END'
kvmtrace 1
frame_alloc -> ok paddr=0x1000
END
for where in --embedded --quiet; do
	"$kvmctl" $where replay "$scratch/wrong.kvt" > "$scratch/out" 2>&1
	status=$?
	[ "$status" -eq 4 ] || failure "a trace that expects the wrong address" "exit status $status, not 4"
done

kill -TERM "$daemon"
wait "$daemon"
status=$?
daemon=
if [ "$status" -ne 0 ]; then
	cp "$scratch/log" "$scratch/out"
	failure "the daemon" "exit status $status"
fi

echo "$replayed traces replayed, $failed failures"
[ "$replayed" -gt 0 ] && [ "$failed" -eq 0 ]
