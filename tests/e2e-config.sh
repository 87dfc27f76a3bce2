#!/bin/bash
# The sample configuration names every setting, with the default where it is
# commented out, and the daemon takes it.
. "$(dirname "$0")/e2e.sh"

sample=$top/etc/kvmstored.conf
settings=$(sed -n 's/^KVMD_SETTING([^"]*"\([^"]*\)".*/\1/p' "$top/daemon/options.def")
check test -n "$settings"
for name in $settings; do
	matches "$sample" "^#\\?$name = ."
done

sed -E -e 's/^#([a-z-]+ = )/\1/' -e "s,^state-dir = .*,state-dir = $scratch/state," "$sample" > conf
start --config conf
stop
finish
