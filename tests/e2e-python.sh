#!/bin/bash
# The published schema with stock protobuf: tests/e2e-python.py against a real
# kvmstored.  Skipped where protoc or Python's protobuf is not installed
# (Debian: protobuf-compiler, python3-protobuf).
. "$(dirname "$0")/e2e.sh"

PROTOC=${PROTOC:-protoc}
PYTHON=${PYTHON:-/usr/bin/python3}
command -v "$PROTOC" > /dev/null || { echo "no protoc"; exit 77; }
"$PYTHON" -c 'import google.protobuf' 2> /dev/null || { echo "no protobuf for $PYTHON"; exit 77; }

check "$PROTOC" --proto_path="$top/proto" --python_out=. kvmstore.proto
start --state-dir state
export PYTHONPATH="$scratch${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
ends 0 "$PYTHON" "$top/tests/e2e-python.py" "$socket"
stop
finish
