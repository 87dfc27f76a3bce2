#!/bin/sh
# The layers, checked three ways: what each file includes, that each file is
# built, and what the model's objects call.  The check first proves on a made-up tree that it can fail.
#
#   store <- proto <- trace <- persist <- { daemon, client }
#
# A layer includes itself and what is left of it; of store/ only kvmstore.h and
# the tables.  libevent stays in daemon/, SQLite in persist/, protobuf-c and
# the generated code in proto/.  tests/ and fuzz/ may include anything.
set -eu

top_srcdir=${top_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
top_builddir=${top_builddir:-$(pwd)}

# violations TREE: one line for each include that breaks a rule, "file:line: header: reason"
violations() {
	(cd "$1" && find store proto trace persist daemon client bench examples \
		\( -name '*.c' -o -name '*.h' -o -name '*.def' \) ! -name '*.pb-c.*' -print 2>/dev/null | LC_ALL=C sort |
		while read -r file; do
			awk '
			function bad(reason) { printf "%s:%d: %s: %s\n", FILENAME, FNR, header, reason }
			BEGIN {
				sees["store"] = " store "
				sees["proto"] = sees["store"] "proto "
				sees["trace"] = sees["proto"] "trace "
				sees["persist"] = sees["trace"] "persist "
				sees["daemon"] = sees["persist"] "daemon "
				sees["client"] = sees["persist"] "client "
				sees["bench"] = sees["client"] "daemon bench "
				sees["examples"] = " "
				pure = " <assert.h> <errno.h> <limits.h> <setjmp.h> <stdbool.h> <stddef.h> <stdint.h> <stdlib.h> <string.h> "
			}
			FNR == 1 { layer = FILENAME; sub(/\/.*/, "", layer) }
			!/^[ \t]*#[ \t]*include/ { next }
			{ header = $0; sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header) }
			header !~ /^(<[^>]+>|"[^"]+")/ { bad("not a plain include"); next }
			{ match(header, /^(<[^>]+>|"[^"]+")/); header = substr(header, 1, RLENGTH) }
			header ~ /^</ {
				if (layer == "store" && header == "<sys/mman.h>" && FILENAME == "store/memory.c")
					next
				if (layer == "store" && index(pure, " " header " ") == 0)
					bad("store/ sees only a part of the C library")
				if (header ~ /^<(event2\/.*|event|evhttp|evutil)/ && layer != "daemon")
					bad("libevent belongs to daemon/")
				if (header ~ /^<sqlite3/ && layer != "persist")
					bad("SQLite belongs to persist/")
				if (header ~ /^<(google\/)?protobuf-c/ && layer != "proto")
					bad("protobuf-c belongs to proto/")
				next
			}
			header == "\"config.h\"" {
				if (layer == "store")
					bad("store/ does not depend on how it was configured")
				next
			}
			{ folder = substr(header, 2, length(header) - 2) }
			folder !~ /\// { bad("name it from the top: \"folder/file.h\""); next }
			{ sub(/\/.*/, "", folder) }
			index(sees[layer], " " folder " ") == 0 { bad(layer "/ may not include " folder "/"); next }
			header ~ /\.pb-c\.h"$/ && layer != "proto" { bad("generated types do not leave proto/"); next }
			folder == "store" && layer != "store" && header != "\"store/kvmstore.h\"" && header !~ /\.def"$/ {
				bad("only store/kvmstore.h and the tables are public")
			}
			' "$file"
		done)
}

# --- the check can fail ---------------------------------------------------------

made_up=$(mktemp -d)
trap 'rm -rf "$made_up"' EXIT

(
	cd "$made_up"
	mkdir store proto trace persist daemon client bench examples
	put() { printf '#include %s\n' "$2" >> "$1"; }
	# breaks a rule
	put store/a.c '<stdio.h>'
	put store/a.c '<sys/mman.h>'
	put store/a.c '"config.h"'
	put store/a.c '"proto/codec.h"'
	put store/a.h '<time.h>'
	put proto/a.c '"trace/text.h"'
	put proto/a.c '"store/slot.h"'
	put proto/a.c '"codec.h"'
	put trace/a.c '"persist/snapshot.h"'
	put trace/a.c '"proto/kvmstore.pb-c.h"'
	put trace/a.c '<protobuf-c/protobuf-c.h>'
	put persist/a.c '<event2/event.h>'
	put daemon/a.c '"client/client.h"'
	put daemon/a.c '<sqlite3.h>'
	put daemon/a.c 'HEADER'
	put client/a.c '"daemon/daemon.h"'
	put client/a.c '"store/memory.h" /* why not */'
	put bench/a.c '"store/memory.h"'
	put examples/a.c '"store/kvmstore.h"'
	# keeps them
	put store/memory.c '<sys/mman.h>'
	put store/b.c '"store/slot.h"'
	put store/b.c '"store/ops.def"'
	put store/b.c '<string.h>'
	put proto/b.c '"config.h"'
	put proto/b.c '"proto/kvmstore.pb-c.h"'
	put proto/b.c '"store/kvmstore.h"'
	put trace/b.c '"store/ops.def"'
	put persist/b.c '<sqlite3.h>'
	put daemon/b.c '<event2/event.h>'
	put client/b.c '"persist/snapshot.h"'
	put examples/b.c '<kvmstore.h>'
)
expected=19
found=$(violations "$made_up" | wc -l)
wrong=$(violations "$made_up" | grep -v '/a\.[ch]:' || true)
if [ "$found" -ne "$expected" ] || [ -n "$wrong" ]; then
	echo "layering.sh itself is broken: $found of $expected made-up violations found"
	violations "$made_up"
	exit 1
fi

# --- what the files include --------------------------------------------------------

status=0
if ! [ -f "$top_srcdir/store/kvmstore.h" ]; then
	echo "no sources in $top_srcdir"
	exit 1
fi
list=$(violations "$top_srcdir")
if [ -n "$list" ]; then
	echo "$list"
	status=1
fi

# --- what is built: a file that no list names is in no tarball, a suite that none names never runs

for file in $(cd "$top_srcdir" && find store proto trace persist daemon client \
	\( -name '*.c' -o -name '*.h' -o -name '*.def' \) ! -name '*.pb-c.*' -print) \
	$(cd "$top_srcdir" && find tests -maxdepth 1 -type f -name "*.*"); do
	case $file in
	tests/test_*.c) entry=${file%.c}.tap ;;
	*) entry=$file ;;
	esac
	if ! grep -Fqw -e "$entry" "$top_srcdir/Makefile.am"; then
		echo "$file: Makefile.am does not name $entry"
		status=1
	fi
	# make has a rule of its own that writes NAME from NAME.sh, in a tarball in place of the folder
	if [ "${file%.sh}" != "$file" ] && [ -d "$top_srcdir/${file%.sh}" ]; then
		echo "$file: named as the folder ${file%.sh}"
		status=1
	fi
done

# --- what the model calls -------------------------------------------------------------

archive=$top_builddir/.libs/libstore.a
if ! [ -f "$archive" ]; then
	echo "$archive is not built"
	exit 1
fi
undefined=$made_up/undefined
defined=$made_up/defined
nm -P -g "$archive" | awk 'NF > 1 && $2 ~ /^[Uw]$/ { print $1 }' | LC_ALL=C sort -u > "$undefined"
nm -P -g "$archive" | awk 'NF > 1 && $2 !~ /^[Uw]$/ { print $1 }' | LC_ALL=C sort -u > "$defined"
if grep -Eq '^__(asan|ubsan|tsan|gcov|sanitizer|llvm_prof)' "$undefined"; then
	echo "instrumented build: what the model calls is not looked at"
else
	calls=$(LC_ALL=C comm -23 "$undefined" "$defined" | grep -Exv "$(tr -s ' \n\t' '|||' <<-END | sed 's/^|//; s/|$//'
		aligned_alloc calloc malloc realloc free
		memcpy memmove memset memcmp memchr bcmp
		strcmp strncmp strncpy strlen strnlen strchr
		qsort bsearch
		_setjmp __sigsetjmp longjmp __longjmp_chk
		mmap munmap madvise mprotect
		abort __assert_fail __errno_location
		_GLOBAL_OFFSET_TABLE_ __stack_chk_fail __mem[a-z]*_chk
		__cpu_indicator_init __cpu_model
		__(u?div|u?mod)ti3 __(popcount|clz|ctz)[dt]i2
	END
	)" || true)
	if [ -n "$calls" ]; then
		echo "store/ calls what it may not:"
		echo "$calls" | sed 's/^/	/'
		status=1
	fi
fi

exit $status
