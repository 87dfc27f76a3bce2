#!/bin/sh
# The sample configuration names every setting, with the default where it is
# commented out, and the daemon takes it.
set -eu

: "${top_srcdir:=.}" "${KVMCTL:=./kvmctl}" "${KVMSTORED:=./kvmstored}"
sample=$top_srcdir/etc/kvmstored.conf
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

settings=$(sed -n 's/^KVMD_SETTING([^"]*"\([^"]*\)".*/\1/p' "$top_srcdir/daemon/options.def")
[ -n "$settings" ]
for name in $settings; do
	if ! grep -Eq "^#?$name = ." "$sample"; then
		echo "kvmstored.conf does not name $name"
		exit 1
	fi
done

sed -E -e 's/^#([a-z-]+ = )/\1/' -e "s,^(listen|state-dir) = .*,\1 = $scratch/\1," "$sample" > "$scratch/conf"
"$KVMSTORED" --config "$scratch/conf" 2> "$scratch/log" &
daemon=$!
tries=0
while ! "$KVMCTL" --connect "$scratch/listen" status > "$scratch/status" 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 200 ] || ! kill -0 $daemon 2> /dev/null; then
		echo "the daemon does not start with the sample configuration"
		cat "$scratch/log"
		kill $daemon 2> /dev/null || true
		exit 1
	fi
	sleep 0.1
done
kill -TERM $daemon
wait $daemon
