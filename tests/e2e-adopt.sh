#!/bin/sh
# Memory images both ways: page tables of recorded kernels become stores that
# say exactly what the recorder's own walk and the emulator said; our own go
# out and come back; what is wrong with an image is told with its place.
set -u

kvmctl=${KVMCTL:-./kvmctl} kvmstored=${KVMSTORED:-./kvmstored} top=${top_srcdir:-.}
case $kvmctl in /*) ;; *) kvmctl=$PWD/$kvmctl ;; esac
case $kvmstored in /*) ;; *) kvmstored=$PWD/$kvmstored ;; esac
case $top in /*) ;; *) top=$PWD/$top ;; esac
scratch=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -KILL "$daemon" 2> /dev/null; rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

fail() {
	echo "FAILED: $*"
	for each in out err log; do
		[ ! -s $each ] || { echo "--- $each"; head -n 40 $each; }
	done
	exit 1
}

# ctl STATUS ARGUMENT ...: run kvmctl, which must exit so; its output is in out and err
ctl() {
	want=$1
	shift
	"$kvmctl" "$@" > out 2> err
	status=$?
	[ $status -eq "$want" ] || fail "kvmctl $*: exit status $status, not $want"
}

# says PATTERN: in out
says() {
	grep -q -e "$1" out || fail "nothing like: $1"
}

# --- recordings -------------------------------------------------------------------------

# recording FOLDER NUMBER LEAVES ROOT
recording() {
	image=$top/data/$1/ptpages.$2.bin.xz
	xz -dc "$image" > image || fail "$image"
	ctl 0 adopt "$image" -o r.db
	says "^leaves=$3 "
	says "root=$4 "
	says '^flaws=0$'
	ctl 0 --embedded=r.db mappings
	[ "$(wc -l < out)" -eq $(($3 + 1)) ] || fail "$1 $2: another number of mappings"
	if [ -f "$top/data/$1/mappings.$2.csv.xz" ]; then
		xz -dc "$top/data/$1/mappings.$2.csv.xz" | cmp - out || fail "$1 $2: other mappings"
	else
		sum=$(sha256sum < out | cut -d ' ' -f 1)
		grep -q "^$sum  mappings.$2.csv\$" "$top/data/$1/mappings.sha256" || fail "$1 $2: other mappings"
	fi
	mv out first
	ctl 0 adopt "$image" mappings
	cmp first out || fail "$1 $2: the store has other mappings than the image"
	ctl 0 --embedded=r.db dump-memory back
	cmp image back || fail "$1 $2: the pages did not come back"
	ctl 0 adopt back digest
	mv out first
	ctl 0 --embedded=r.db digest
	cmp first out || fail "$1 $2: another digest"
	ctl 0 --embedded=r.db check
	says '^inv=ok$'
}

recording linux-6.12-x86_64-4level 0 78591 0x7d08000
recording linux-6.12-x86_64-5level 0 79113 0x4f68000
recording linux-6.12-x86_64-5level 1 86457 0x9286000
recording linux-6.12-riscv64-sv48 0 2639 0x88b58000
recording linux-6.12-riscv64-sv48 1 41792 0x88b58000
ctl 0 --embedded=r.db mappings
[ "$(awk -F, 'NR > 1 { n += $3 / 4096 } END { print n }' out)" = 225241 ] || fail "Sv48: not as many pages as the emulator has"
recording linux-6.12-x86_64-4level 1 98881 0x1510e000

# --- such a store -------------------------------------------------------------------------

# init_top_pgt is in the direct map and in the kernel's image
ctl 0 --embedded=r.db reverse_map paddr=0x2c22000
says '^mappings=\[kernel:0xffff888002c22000:[12]:untracked,kernel:0xffffffff82c22000:[12]:untracked\]$'
ctl 1 --embedded=r.db frame_alloc
says '^pre foreign_store$'
ctl 1 --embedded=r.db dry-run 'kvirt_reserve area_size=0x1000'
says '^pre foreign_store$'
ctl 0 --embedded=r.db exec 'walk va=0xffffffff82c22000' 'translate va=0xffffffff82c22000' nodes census
says '^levels=\[4:0x1510e000:511:'
says '^found=true paddr=0x2c22000 '
says '^nodes=183$'
says 'leaves_untracked=98881'
ctl 0 snapshot list r.db
ctl 0 --embedded=r.db status
says '^adopted=x86_64$'
ctl 0 --embedded=r.db snapshot save s.db
ctl 0 diff r.db s.db
says 'the same state$'
ctl 0 diff "$top/data/linux-6.12-x86_64-4level/ptpages.0.bin.xz" r.db
says '^  leaves_untracked 78591 -> 98881$'
says '^  + kernel 0xffffc9'
ctl 0 --json diff "$top/data/linux-6.12-x86_64-4level/ptpages.0.bin.xz" r.db
says '"mappings":\[{"change":'
ctl 2 diff r.db last

# the emulator's own lists of the same moment, and what the kernel says of a process: four of its
# pages it calls present that the hardware does not (PROT_NONE)
listings=$top/tests/listings
ctl 0 --embedded=r.db compare --from qemu-tlb "$listings/linux-x86_64-qemu-tlb.txt.xz"
says '^pages listed=219988 in_store=219988 agree=219988 missing=0 extra=0 different=0'
ctl 0 --embedded=r.db compare --from qemu-mem "$listings/linux-x86_64-qemu-mem.txt.xz"
ctl 4 --embedded=r.db compare --from pagemap "$listings/linux-x86_64-pagemap.txt.xz"
says ' missing=4 extra=0 different=0 '
ctl 0 adopt "$top/data/linux-6.12-riscv64-sv48/ptpages.1.bin.xz" -o rv.db
ctl 0 --embedded=rv.db compare --from qemu-mem "$listings/linux-riscv64-qemu-mem.txt.xz"
says '^pages listed=225241 in_store=225241 agree=225241 '

# --- our own, out and back ------------------------------------------------------------------

make_store() {
	ctl 0 --embedded --keep own.db exec 'frame_alloc' 'frame_alloc' 'frame_alloc' \
		'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb' \
		'kvirt_map_untracked_frames area_size=0x400000 paddr_start=0x200000000 paddr_end=0x200400000 prop=rw:uc' \
		vm_space_new 'cursor_open_mut vm_space=1 start=0x1000 end=0x5000' \
		'cursor_map cursor=1 frame=2 prop=rx:wb+user' 'cursor_map cursor=1 frame=3 prop=rwad:wb+user' 'cursor_drop cursor=1'
}
make_store
ctl 0 --embedded=own.db dump-memory own.pt
says '^pages=.* arch=x86_64 levels=4 root=0x7ffff000 '
ctl 0 adopt own.pt -o back.db
says 'tables=2 '
says '^flaws=0$'
for table in kernel 1; do
	ctl 0 --embedded=own.db mappings --table $table
	mv out first
	[ "$(wc -l < first)" -gt 2 ] || fail "table $table: no mappings"
	ctl 0 --embedded=back.db mappings --table $table
	cmp first out || fail "table $table: other mappings"
done
ctl 0 --embedded=back.db dump-memory back.pt
cmp own.pt back.pt || fail "our own pages did not come back"
ctl 0 --embedded=own.db dump-memory --table 1 one.pt
ctl 0 adopt one.pt 'translate va=0x2000'
says '^found=true .*prop=rwad:wb+user '
ctl 2 --embedded=own.db dump-memory --table 2 one.pt
ctl 2 --embedded=own.db dump-memory --table here one.pt

# memory as it is: holes stay holes; the root comes from the text beside it, or as an option
ctl 0 --embedded=own.db dump-memory --raw own.mem
[ "$(wc -c < own.mem)" -eq 2147483648 ] || fail "not as long as memory"
[ "$(du -k own.mem | cut -f 1)" -lt 8192 ] || fail "no holes"
ctl 0 adopt own.mem mappings
mv out first
ctl 0 --embedded=own.db mappings
cmp first out || fail "memory as it is: other mappings"
rm own.mem.json
ctl 6 adopt own.mem
ctl 0 adopt own.mem --cr3 0x7ffff018 mappings
cmp first out || fail "with --cr3: other mappings"
ctl 6 adopt own.mem --cr3 0x80000000
ctl 2 adopt own.mem --cr3 here
ctl 2 adopt own.mem --cr3 0 --root 0
ctl 2 adopt own.mem --root 0x7ffff000
ctl 0 adopt own.mem --root 0x7ffff000 --arch x86_64 mappings
cmp first out || fail "with --root: other mappings"
ctl 2 adopt own.mem --root 0 --arch riscv64
ctl 2 adopt own.mem --satp 0x7ffff
ctl 2 adopt own.pt --embedded=own.db

# of a daemon's store, at any step
mkdir state
"$kvmstored" --state-dir "$scratch/state" --listen "$scratch/socket" > log 2>&1 &
daemon=$!
tries=0
until "$kvmctl" --connect "$scratch/socket" status > /dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] || fail "the daemon does not start"
	sleep 0.05
done
ctl 0 --connect "$scratch/socket" exec frame_alloc 'kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb' 'kvirt_drop area=1'
ctl 0 --connect "$scratch/socket" dump-memory --step 2 mapped.pt
ctl 0 --connect "$scratch/socket" dump-memory gone.pt
ctl 0 adopt mapped.pt mappings
says '^0xffffdffffffff000,0x0,4096,0x8010000000000083,rw-k-----$'
ctl 0 adopt gone.pt mappings
[ "$(wc -l < out)" -eq 1 ] || fail "a mapping that is gone"
ctl 0 --connect "$scratch/socket" mappings --step last-1
[ "$(wc -l < out)" -eq 2 ] || fail "mappings of a step"
kill -TERM "$daemon"
wait "$daemon"
daemon=
ctl 0 --state-dir state mappings --step 2
[ "$(wc -l < out)" -eq 2 ] || fail "mappings of a step, without a daemon"

# --- what is wrong is told with its place ------------------------------------------------------

size=$(wc -c < image)
head -c $((size - 100)) image > cut.pt
cp "$top/data/linux-6.12-x86_64-4level/ptpages.1.json" cut.pt.json
ctl 0 adopt cut.pt
says ' truncated=1'
says "^cut.pt: byte 0x[0-9a-f]*: 0xfa4: the file ends inside a page"
says '^cut.pt: byte 0x8: 0xb8: the file says'
ctl 6 adopt cut.pt --strict
ctl 6 adopt cut.pt --strict -o strict.db
[ ! -e strict.db ] || fail "--strict kept a store"
ctl 0 --json adopt cut.pt
says '"truncated":1'
printf 'PTPAGES2' > wrong.pt
ctl 6 adopt wrong.pt
grep -q 'not of version 1' err || fail "a wrong version"
printf 'PTPAGES1' > short.pt
ctl 6 adopt short.pt
: > empty.pt
ctl 6 adopt empty.pt
ctl 6 adopt missing.pt
ctl 6 adopt .
head -c 3000 "$top/data/linux-6.12-x86_64-4level/ptpages.1.bin.xz" > cut.pt.xz
ctl 6 adopt cut.pt.xz
grep -q 'cut off' err || fail "cut .xz data"
echo '{"cpus":[' > cut.pt.json
ctl 6 adopt cut.pt
grep -q 'not JSON' err || fail "a broken text beside the image"

echo "ok"
