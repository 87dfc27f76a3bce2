#!/bin/bash
# Recordings of strace as traces: kvmctl trace import --from strace.  Real ones
# must replay without a difference, and lead to the maps that the program saw;
# hand-made ones show what each call becomes, and what is refused.
. "$(dirname "$0")/e2e.sh"

recordings=$top/tests/strace

# --- the recordings replay: every outcome as the importer said, every law holding -------------------

while read -r name calls processes spaces; do
	run 0 trace import --from strace "$recordings/$name.strace.xz" -o "$name.kvt"
	says err ": $calls calls, "
	says err ', 0 not understood'
	says err "$processes processes and threads, $spaces address spaces, 0 of them at the end"
	says err ' information, 0 not expressed'
	lacks err anomalies
	run 0 -e -q --check off replay "$name.kvt" --keep "$name.db"
	run 0 --embedded="$name.db" census
	says out ' frame=0 '
	says out ' vm_spaces=0 '
	run 0 --embedded="$name.db" check
	says out 'inv=ok'
done << 'END'
bash-loop 615 17 33
gcc-compile 290 5 5
git-gc 1551 10 15
git-log 658 1 1
perl 666 1 1
python-json 282 1 1
python-maps 344 5 1
sqlite 203 1 1
xz-mt 48 2 1
END
# with all touched laws checked at each step
run 0 -e -q --check touched replay xz-mt.kvt
run 0 --json trace import --from strace "$recordings/sqlite.strace.xz" -o sqlite2.kvt
says err '{"lines":204,"calls":203,"expressed":199,"information":4,"not_expressed":0,'
same sqlite.kvt sqlite2.kvt

# what the program saw of itself: all but what execve mapped and nobody protected, and two stacks of threads that were given back
xz -dc "$recordings/python-maps.strace.xz" | sed '/exit_group/,$d' > python.strace
run 0 trace import --strict --from strace python.strace -o python.kvt
run 0 -e -q --check off replay python.kvt --keep python.db
xz -dc "$recordings/python-maps.final-maps.txt.xz" > final
run 4 --embedded=python.db compare --from maps --table 1 final
is out << 'END'
- 0x561e4a003000..0x561e4a004000 1 page line 1 r--
- 0x561e4a004000..0x561e4a005000 1 page line 2 r-x
- 0x561e4a005000..0x561e4a006000 1 page line 3 r--
- 0x561e4a007000..0x561e4a008000 1 page line 5 rw-
- 0x7f3d17800000..0x7f3d17ffa000 2042 pages line 8 rw-
- 0x7f3d1c47d000..0x7f3d1cc77000 2042 pages line 12 rw-
- 0x7f3d1ec37000..0x7f3d1ec3d000 6 pages line 149 r--
- 0x7f3d1ec3d000..0x7f3d1ec3f000 2 pages line 151 r-x
- 0x7f3d1ec3f000..0x7f3d1ec40000 1 page line 152 r--
- 0x7f3d1ec40000..0x7f3d1ec66000 38 pages line 153 r-x
- 0x7f3d1ec66000..0x7f3d1ec70000 10 pages line 154 r--
- 0x7f3d1ec72000..0x7f3d1ec74000 2 pages line 156 rw-
- 0x7ffcf19a1000..0x7ffcf19c2000 33 pages line 157 rw-
pages listed=16128 in_store=11948 agree=11948 missing=4180 extra=0 different=0 outside=1 differences=13
END
run 0 --embedded=python.db compare --partial --from maps --table 1 final
# the same with what execve mapped, but the recording must not begin with that execve then
grep -E '/bin/python3.11$|ld-linux|\[(stack|v[a-z_]*)\]' final | sed 's/^\(561e4a006000\|7f3d1ec70000\)\(.*\) r--p/\1\2 rw-p/' > before
sed 1d python.strace > python2.strace
run 0 trace import --strict --from strace --mappings-before before python2.strace -o python2.kvt
run 0 -e -q --check off replay python2.kvt --keep python2.db
run 4 --embedded=python2.db compare --from maps --table 1 final
says out 'agree=12044 missing=4084 extra=0 different=0'

# --- what a call becomes ---------------------------------------------------------------------------------

# import: the recording on standard input, its operations into "ops"; it must replay
import() {
	cat > this.strace
	run 0 trace import --from strace "$@" this.strace
	cp out this.kvt
	cp err report
	grep -v '^#\|^kvmtrace\|^store' this.kvt > ops
	rm -f this.db
	run 0 -e -q replay this.kvt --keep this.db
}

import << 'END'
10 1.000001 mmap(NULL, 8191, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
10 1.000002 mprotect(0x7f0000001000, 4096, PROT_READ) = 0
10 1.000003 mremap(0x7f0000000000, 8192, 4096, MREMAP_MAYMOVE) = -1 ENOMEM (Cannot allocate memory)
10 1.000004 munmap(0x7f0000000000, 1) = 0
10 1.000005 getpid() = 10
END
is ops << 'END'
vm_space_new -> ok vm_space=1
cursor_open_mut vm_space=1 start=0x7f0000000000 end=0x7f0000002000 -> ok cursor=1
frame_from_unused paddr=0x0 -> ok frame=1
cursor_map cursor=1 frame=1 prop=rw:wb+user -> ok
frame_from_unused paddr=0x1000 -> ok frame=2
cursor_map cursor=1 frame=2 prop=rw:wb+user -> ok
cursor_drop cursor=1 -> ok
cursor_open_mut vm_space=1 start=0x7f0000001000 end=0x7f0000002000 -> ok cursor=2
cursor_protect_next cursor=2 len=0x1000 set=r clear=rwx -> ok
cursor_drop cursor=2 -> ok
cursor_open_mut vm_space=1 start=0x7f0000000000 end=0x7f0000001000 -> ok cursor=3
cursor_unmap cursor=3 len=0x1000 -> ok
cursor_drop cursor=3 -> ok
END
says report 'not expressed        1  getpid'
says report 'information          1  mremap, failed'

# a move keeps the frames; sizes and flags as numbers; a process without number
import << 'END'
mmap(0, 0x2000, 0x3, 0x22, -1, 0) = 0x7f0000000000
mremap(0x7f0000000000, 0x2000, 0x3000, 0x1) = 0x7f0000100000
END
run 0 --embedded=this.db export --as pagemap --table 1
is out << 'END'
# va pfn present swap file/shared exclusive softdirty kpageflags
7f0000100000 0 1 0 0 1 0 0
7f0000101000 1 1 0 0 1 0 0
7f0000102000 2 1 0 0 1 0 0
END

# fork: what can be written is copied, what is shared or cannot be written is the same; the child may come first
import << 'END'
[pid  10] 12:00:01.5 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000
[pid  10] 12:00:01.6 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x20000
[pid  10] 12:00:01.7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 4, 0) = 0x30000
[pid  10] 12:00:01.8 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>
[pid  11] 12:00:01.9 munmap(0x10000, 4096) = 0
[pid  10] 12:00:02 <... clone resumed>, child_tidptr=0x7f39281f3a10) = 11
[pid  10] 12:00:03 vfork() = 12
[pid  12] 12:00:03 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x40000
[pid  12] 12:00:04 execve("/bin/true", ["true"], 0x7ffc /* 3 vars */) = 0
[pid  12] 12:00:05 brk(NULL) = 0x50000
[pid  12] 12:00:05 brk(0x52000) = 0x52000
[pid  12] 12:00:05 brk(0x51000) = 0x51000
END
says report '3 processes and threads, 3 address spaces, 3 of them at the end'
run 0 --embedded=this.db export --as maps --table 1
is out << 'END'
00010000-00011000 rw-p 00000000 00:00 0 
00020000-00021000 r--p 00000000 00:00 0 
00030000-00031000 rw-p 00000000 00:00 0 
00040000-00041000 r--p 00000000 00:00 0 
END
run 0 --embedded=this.db export --as pagemap --table 2
is out << 'END'
# va pfn present swap file/shared exclusive softdirty kpageflags
20000 1 1 0 0 0 0 0
30000 2 1 0 0 0 0 0
END
run 0 --embedded=this.db export --as maps --table 3
is out <<< '00050000-00051000 rw-p 00000000 00:00 0 '

# memory goes where a call begins, and comes where it is resumed; over a mapping with MAP_FIXED
import << 'END'
10 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
10 clone3({flags=CLONE_VM|CLONE_THREAD, child_tid=0x7f, stack_size=0x7fff80} => {parent_tid=[11]}, 88) = 11
10 munmap(0x10000, 8192 <unfinished ...>
11 mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3, 0) = 0x11000
10 <... munmap resumed>)             = 0
11 mmap(0x11000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, 3, 0 <unfinished ...>
10 +++ exited with 0 +++
11 <... mmap resumed>) = 0x11000 <0.000012>
END
lacks report anomalies
run 0 --embedded=this.db export --as maps --table 1
is out <<< '00011000-00012000 rw-p 00000000 00:00 0 '

# a thread that calls execve takes the place of its leader
import << 'END'
10 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
10 clone3({flags=CLONE_VM|CLONE_THREAD, stack_size=0x7fff80} => {parent_tid=[11]}, 88) = 11
11 execve("/bin/true", ["true"], 0x7ffc /* 3 vars */ <unfinished ...>
10 +++ superseded by execve in pid 11 +++
10 <... execve resumed>) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x30000
END
lacks report anomalies
says report '2 processes and threads, 2 address spaces, 1 of them at the end'
run 0 --embedded=this.db export --as maps --table 2
is out <<< '00030000-00031000 r--p 00000000 00:00 0 '

# nobody's memory has no pages until somebody may; DONTNEED gives pages back; a limit
import --populate 3 << 'END'
10 mmap(NULL, 16384, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000
10 mprotect(0x11000, 4096, PROT_READ|PROT_WRITE) = 0
10 mmap(NULL, 1099511627776, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_NORESERVE, -1, 0) = 0x100000000
10 madvise(0x100001000, 4096, MADV_DONTNEED) = 0
10 munmap(0x10000, 65536) = 0
END
says report '268435453 pages left out'
run 0 --embedded=this.db export --as maps --table 1
is out << 'END'
100000000-100001000 rw-p 00000000 00:00 0 
100002000-100003000 rw-p 00000000 00:00 0 
END

# five levels, where addresses need them
import << 'END'
10 mmap(0x100000000000000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED_NOREPLACE, 3, 0) = -1 EEXIST (File exists)
10 mmap(0x80000000000000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED_NOREPLACE, 3, 0) = 0x80000000000000
END
says this.kvt 'arch=x86_64_la57 '

# --- contradictions: reported with their line; with --strict the end ---------------------------------------

contradicts() { # MESSAGE
	cat > this.strace
	run 0 trace import --from strace this.strace
	says err "this.strace:$1"
	run 6 trace import --strict --from strace this.strace -o strict.kvt
	says err "this.strace:$1"
	[ ! -e strict.kvt ] || failure "--strict left a trace behind"
}
contradicts '2: unmapped what no line mapped: 0x7f0000000000..0x7f0000001000' << 'END'
10 1.1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
10 1.2 munmap(0x7f0000000000, 4096) = 0
END
contradicts "2: mapped, at an address of the kernel's choice, what is mapped: 0x10000..0x12000" << 'END'
10 1.1 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x11000
10 1.2 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
END
contradicts '2: time runs backwards' << 'END'
10 1795353915.2 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x11000
10 1795353915.1 munmap(0x11000, 8192) = 0
END
contradicts '1: resumed a call that was not interrupted' << 'END'
10 <... munmap resumed>) = 0
10 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x11000
END
contradicts '1: a call that is not resumed' << 'END'
10 munmap(0x10000, 8192 <unfinished ...>
10 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x11000
END
contradicts '2: a process that has ended goes on' << 'END'
10 +++ exited with 0 +++
10 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x11000
END
contradicts '1: moved what no line mapped' << 'END'
10 mremap(0x7f0000000000, 8192, 12288, MREMAP_MAYMOVE) = 0x7f0000100000
END
printf '10 getpid() = 10\n' > this.strace
run 6 trace import --strict --from strace this.strace
says err 'this.strace:1: not expressed: getpid'
printf '10 getpid() = 10\nrubbish\n' > this.strace
run 0 trace import --from strace this.strace
says err 'first not understood: this.strace:2'
run 6 trace import --strict --from strace this.strace
says err 'this.strace:2: no line of strace'

# --- what is no recording ------------------------------------------------------------------------------------

refuse() { # TEXT MESSAGE
	printf '%b' "$1" > bad
	run 6 trace import --from strace bad -o bad.kvt
	says err "$2"
	[ ! -e bad.kvt ] || failure "a trace of $1"
}
refuse '' 'no call in it'
refuse 'kvmtrace 1\n' 'no call in it'
refuse '10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10001\n' 'bad:1: no range of a process'
refuse '10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0xfffffffffffff000\n' 'bad:1: no range of a process'
refuse '10 munmap(0x1000, 18446744073709551615) = 0\n' 'bad:1: no range of a process'
refuse '10 x() = 1\n10 brk(NULL) = 0xfffffffffffff001\n' 'bad:2: no address of a process'
for text in '10 mmap(' '10 mmap(NULL' '10 mmap() = 0' '10 brk(NULL)' '10 brk(x) = 0x1' 'a(b(c(d(' '10 clone("\\' '1:2:3:4 x() = 9' \
	'10 <... ' '10 <... x' '10 +++ superseded by execve in pid 10 +++\n10 x() = 1' '10 mmap(1,2,3,4) = 99999999999999999999999' \
	'10 x() = 1\n10 +++ superseded by execve in pid 11 +++\n10 +++ exited +++\n10 +++ exited +++' '\0001\0002(' '[pid ' '[pid 12' \
	'10 clone(flags=0) = 10' '10 vfork() = 11\n11 vfork() = 10\n10 execve() = 0\n11 execve() = 0'; do
	printf '%b\n' "$text" > odd
	"$kvmctl" trace import --from strace odd -o odd.kvt > out 2> err
	status=$?
	checks=$((checks + 1))
	[ $status -eq 0 ] || [ $status -eq 6 ] || failure "$text ended with $status"
	[ $status -ne 0 ] || run 0 -e -q replay odd.kvt
	rm -f odd.kvt
done
# every cut of a recording is a recording
xz -dc "$recordings/xz-mt.strace.xz" > whole
for size in 100 333 777 1500 2222 3210 4444; do
	head -c $size whole > part
	run 0 -q trace import --from strace part -o part.kvt
	run 0 -e -q --check off replay part.kvt
done
run 6 trace import --from strace no-such-file
run 6 trace import --from strace --mappings-before whole python.strace
run 2 trace import --from strace --populate 0 python.strace
run 2 trace import --from strace --memory 1 python.strace
run 2 trace import python.strace

finish
