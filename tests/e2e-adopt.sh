#!/bin/bash
# Memory images both ways: page tables of recorded kernels become stores that
# say exactly what the recorder's own walk and the emulator said; our own go
# out and come back; what is wrong with an image is told with its place.
. "$(dirname "$0")/e2e.sh"

# --- recordings -------------------------------------------------------------------------

# recording FOLDER NUMBER LEAVES ROOT
recording() {
	image=$top/data/$1/ptpages.$2.bin.xz
	xz -dc "$image" > image || failure "$image"
	run 0 adopt "$image" -o r.db
	matches out "^leaves=$3 "
	matches out "root=$4 "
	matches out '^flaws=0$'
	run 0 --embedded=r.db mappings
	lines out $(($3 + 1))
	if [ -f "$top/data/$1/mappings.$2.csv.xz" ]; then
		xz -dc "$top/data/$1/mappings.$2.csv.xz" | cmp - out || failure "$1 $2: other mappings"
	else
		sum=$(sha256sum < out | cut -d ' ' -f 1)
		grep -q "^$sum  mappings.$2.csv\$" "$top/data/$1/mappings.sha256" || failure "$1 $2: other mappings"
	fi
	mv out first
	run 0 adopt "$image" mappings
	same first out
	run 0 --embedded=r.db dump-memory back
	same image back
	run 0 adopt back digest
	mv out first
	run 0 --embedded=r.db digest
	same first out
	run 0 --embedded=r.db check
	matches out '^inv=ok$'
}

recording linux-6.12-x86_64-4level 0 78591 0x7d08000
recording linux-6.12-x86_64-5level 0 79113 0x4f68000
recording linux-6.12-x86_64-5level 1 86457 0x9286000
recording linux-6.12-riscv64-sv48 0 2639 0x88b58000
recording linux-6.12-riscv64-sv48 1 41792 0x88b58000
run 0 --embedded=r.db mappings
[ "$(awk -F, 'NR > 1 { n += $3 / 4096 } END { print n }' out)" = 225241 ] || failure "Sv48: not as many pages as the emulator has"
recording linux-6.12-x86_64-4level 1 98881 0x1510e000

# --- such a store -------------------------------------------------------------------------

# init_top_pgt is in the direct map and in the kernel's image
run 0 --embedded=r.db reverse_map paddr=0x2c22000
matches out '^mappings=\[kernel:0xffff888002c22000:[12]:untracked,kernel:0xffffffff82c22000:[12]:untracked\]$'
run 1 --embedded=r.db frame_alloc
matches out '^pre foreign_store$'
run 1 --embedded=r.db dry-run 'kvirt_reserve area_size=0x1000'
matches out '^pre foreign_store$'
run 0 --embedded=r.db exec 'walk va=0xffffffff82c22000' 'translate va=0xffffffff82c22000' nodes census
matches out '^levels=\[4:0x1510e000:511:'
matches out '^found=true paddr=0x2c22000 '
matches out '^nodes=183$'
matches out 'leaves_untracked=98881'
run 0 snapshot list r.db
run 0 --embedded=r.db status
matches out '^adopted=x86_64$'
run 0 --embedded=r.db snapshot save s.db
run 0 diff r.db s.db
matches out 'the same state$'
run 0 diff "$top/data/linux-6.12-x86_64-4level/ptpages.0.bin.xz" r.db
matches out '^  leaves_untracked 78591 -> 98881$'
matches out '^  + kernel 0xffffc9'
run 0 --json diff "$top/data/linux-6.12-x86_64-4level/ptpages.0.bin.xz" r.db
matches out '"mappings":\[{"change":'
run 2 diff r.db last

# the emulator's own lists of the same moment, and what the kernel says of a process: four of its
# pages it calls present that the hardware does not (PROT_NONE)
listings=$top/tests/listings
run 0 --embedded=r.db compare --from qemu-tlb "$listings/linux-x86_64-qemu-tlb.txt.xz"
matches out '^pages listed=219988 in_store=219988 agree=219988 missing=0 extra=0 different=0'
run 0 --embedded=r.db compare --from qemu-mem "$listings/linux-x86_64-qemu-mem.txt.xz"
run 4 --embedded=r.db compare --from pagemap "$listings/linux-x86_64-pagemap.txt.xz"
matches out ' missing=4 extra=0 different=0 '
run 0 adopt "$top/data/linux-6.12-riscv64-sv48/ptpages.1.bin.xz" -o rv.db
run 0 --embedded=rv.db compare --from qemu-mem "$listings/linux-riscv64-qemu-mem.txt.xz"
matches out '^pages listed=225241 in_store=225241 agree=225241 '

# --- our own, out and back ------------------------------------------------------------------

make_store() {
	run 0 --embedded --keep own.db exec 'frame_alloc' 'frame_alloc' 'frame_alloc' \
		'kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1] prop=rw:wb' \
		'kvirt_map_untracked_frames area_size=0x400000 paddr_start=0x200000000 paddr_end=0x200400000 prop=rw:uc' \
		vm_space_new 'cursor_open_mut vm_space=1 start=0x1000 end=0x5000' \
		'cursor_map cursor=1 frame=2 prop=rx:wb+user' 'cursor_map cursor=1 frame=3 prop=rwad:wb+user' 'cursor_drop cursor=1'
}
make_store
run 0 --embedded=own.db dump-memory own.pt
matches out '^pages=.* arch=x86_64 levels=4 root=0x7ffff000 '
run 0 adopt own.pt -o back.db
matches out 'tables=2 '
matches out '^flaws=0$'
for table in kernel 1; do
	run 0 --embedded=own.db mappings --table $table
	mv out first
	[ "$(wc -l < first)" -gt 2 ] || failure "table $table: no mappings"
	run 0 --embedded=back.db mappings --table $table
	same first out
done
run 0 --embedded=back.db dump-memory back.pt
same own.pt back.pt
run 0 --embedded=own.db dump-memory --table 1 one.pt
run 0 adopt one.pt 'translate va=0x2000'
matches out '^found=true .*prop=rwad:wb+user '
run 2 --embedded=own.db dump-memory --table 2 one.pt
run 2 --embedded=own.db dump-memory --table here one.pt

# memory as it is: holes stay holes; the root comes from the text beside it, or as an option
run 0 --embedded=own.db dump-memory --raw own.mem
[ "$(wc -c < own.mem)" -eq 2147483648 ] || failure "not as long as memory"
[ "$(du -k own.mem | cut -f 1)" -lt 8192 ] || failure "no holes"
run 0 adopt own.mem mappings
mv out first
run 0 --embedded=own.db mappings
same first out
rm own.mem.json
run 6 adopt own.mem
run 0 adopt own.mem --cr3 0x7ffff018 mappings
same first out
run 6 adopt own.mem --cr3 0x80000000
run 2 adopt own.mem --cr3 here
run 2 adopt own.mem --cr3 0 --root 0
run 2 adopt own.mem --root 0x7ffff000
run 0 adopt own.mem --root 0x7ffff000 --arch x86_64 mappings
same first out
run 2 adopt own.mem --root 0 --arch riscv64
run 2 adopt own.mem --satp 0x7ffff
run 2 adopt own.pt --embedded=own.db

# of a daemon's store, at any step
start --state-dir state
run 0 --connect "$socket" exec frame_alloc 'kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb' 'kvirt_drop area=1'
run 0 --connect "$socket" dump-memory --step 2 mapped.pt
run 0 --connect "$socket" dump-memory gone.pt
run 0 adopt mapped.pt mappings
matches out '^0xffffdffffffff000,0x0,4096,0x8010000000000083,rw-k-----$'
run 0 adopt gone.pt mappings
lines out 1
run 0 --connect "$socket" mappings --step last-1
lines out 2
stop
run 0 --state-dir state mappings --step 2
lines out 2

# --- what is wrong is told with its place ------------------------------------------------------

size=$(wc -c < image)
head -c $((size - 100)) image > cut.pt
cp "$top/data/linux-6.12-x86_64-4level/ptpages.1.json" cut.pt.json
run 0 adopt cut.pt
matches out ' truncated=1'
matches out "^cut.pt: byte 0x[0-9a-f]*: 0xfa4: the file ends inside a page"
matches out '^cut.pt: byte 0x8: 0xb8: the file says'
run 6 adopt cut.pt --strict
run 6 adopt cut.pt --strict -o strict.db
absent strict.db
run 0 --json adopt cut.pt
matches out '"truncated":1'
printf 'PTPAGES2' > wrong.pt
run 6 adopt wrong.pt
matches err 'not of version 1'
printf 'PTPAGES1' > short.pt
run 6 adopt short.pt
: > empty.pt
run 6 adopt empty.pt
run 6 adopt missing.pt
run 6 adopt .
head -c 3000 "$top/data/linux-6.12-x86_64-4level/ptpages.1.bin.xz" > cut.pt.xz
run 6 adopt cut.pt.xz
matches err 'cut off'
echo '{"cpus":[' > cut.pt.json
run 6 adopt cut.pt
matches err 'not JSON'

finish
