#!/bin/sh
# The published schema with stock protobuf: tests/e2e-python.py against a real
# kvmstored.  Skipped where protoc or Python's protobuf is not installed
# (Debian: protobuf-compiler, python3-protobuf).
set -eu

KVMSTORED=${KVMSTORED:-./kvmstored}
PROTOC=${PROTOC:-protoc}
PYTHON=${PYTHON:-/usr/bin/python3}
top_srcdir=${top_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}

command -v "$PROTOC" > /dev/null || { echo "no protoc"; exit 77; }
"$PYTHON" -c 'import google.protobuf' 2> /dev/null || { echo "no protobuf for $PYTHON"; exit 77; }

work=$(mktemp -d)
daemon=
finish() {
	[ -z "$daemon" ] || kill "$daemon" 2> /dev/null || true
	rm -rf "$work"
}
trap finish EXIT

"$PROTOC" --proto_path="$top_srcdir/proto" --python_out="$work" kvmstore.proto
"$KVMSTORED" --listen "$work/s" --state-dir "$work/state" 2> "$work/log" < /dev/null &
daemon=$!
status=0
PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 \
	timeout -k 5 120 "$PYTHON" "$top_srcdir/tests/e2e-python.py" "$work/s" || status=$?
kill -TERM "$daemon"
( sleep 20; kill -KILL "$daemon" ) 2> /dev/null &
watchdog=$!
wait "$daemon" || status=1
kill "$watchdog" 2> /dev/null || true
daemon=
[ "$status" -eq 0 ] || cat "$work/log"
exit "$status"
