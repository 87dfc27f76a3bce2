#!/bin/bash
# A store against listings of real systems: kvmctl compare, and kvmctl export
# --as, whose listings must compare equal to the store they came from.
. "$(dirname "$0")/e2e.sh"

listings=$top/tests/listings
recording=$top/data/linux-6.12-x86_64-4level

# --- a recorded kernel, replayed, against what the machine itself listed ----------------------

"$kvmctl" -q trace import --from linux-ftrace "$recording" -o recorded.kvt || failure "no import"
run 0 -q -e --check off replay recorded.kvt --keep recorded.db
recorded="--embedded=recorded.db compare --range vmalloc --memory 0x20000000"
# the process that wrote the listing has a stack of its own, which is gone at the end of the recording
for form in qemu-tlb qemu-mem; do
	run 4 $recorded --from $form "$listings/linux-x86_64-$form.txt.xz"
	says out '- 0xffffc900005db000..0xffffc900005de000 3 pages line '
	says out 'pages listed=6643 in_store=6640 agree=6640 missing=3 extra=0 different=0 outside=213345'
	run 0 $recorded --from $form --partial "$listings/linux-x86_64-$form.txt.xz"
	run 4 $recorded --json --from $form "$listings/linux-x86_64-$form.txt.xz"
	says out '{"difference":"missing","start":"0xffffc900005db000","end":"0xffffc900005de000","listed":{"line":'
	says out '{"equal":false,"unit":"pages","listed":6643,"in_store":6640,"agree":6640,"missing":3,"extra":0,'
done
run 4 $recorded --from leaves "$recording/mappings.1.csv.xz"
says out 'pages listed=6643 in_store=6640 agree=6640 missing=3 extra=0 different=0'
run 0 --embedded=recorded.db compare --from vmallocinfo "$recording/snap-1/vmallocinfo"
is out <<< 'areas listed=346 in_store=346 agree=346 missing=0 extra=0 different=0'
run 0 --embedded=recorded.db --json compare --from vmallocinfo "$recording/snap-1/vmallocinfo"
says out '{"equal":true,"unit":"areas","listed":346,'
run 4 --embedded=recorded.db compare --from vmallocinfo "$recording/snap-0/vmallocinfo"
# frames that stand for unknown ones are told apart from others only if their place is known
run 4 --embedded=recorded.db compare --range vmalloc --from qemu-tlb --without frame,global "$listings/linux-x86_64-qemu-tlb.txt.xz"
says out 'agree=6640'

# --- every line of the real listings is read: pages of the kernel and of the process ----------------

counts() { # FORM FILE WORD...: of an empty store
	local form=$1 file=$2
	shift 2
	run 4 "$@" compare --most 1 --from "$form" "$listings/$file.txt.xz"
}
counts qemu-tlb linux-x86_64-qemu-tlb -e
says out 'listed=217055 in_store=0 agree=0 missing=217055 extra=0 different=0 outside=2933'
counts qemu-mem linux-x86_64-qemu-mem -e
says out 'listed=217055 in_store=0 agree=0 missing=217055 extra=0 different=0 outside=2933'
"$kvmctl" trace gen --steps 0 arch=riscv64_sv48 vmalloc=0xffffc00000000000..0xffffe00000000000 -o riscv.kvt 2> err ||
	"$kvmctl" trace gen --steps 1 arch=riscv64_sv48 -o riscv.kvt
run 0 -e run riscv.kvt --keep riscv.db
counts qemu-mem linux-riscv64-qemu-mem --embedded=riscv.db
says out 'listed=224898 in_store='
says out 'outside=343'
run 0 -e exec vm_space_new --keep space.db
counts pagemap linux-x86_64-pagemap --embedded=space.db --table 1
says out 'listed=2937 '
counts maps linux-x86_64-maps --embedded=space.db --table 1
says out 'listed=5165 '

# --- what is printed of a store compares equal to it -----------------------------------------------

round() { # STORE TABLE FORM...
	local store=$1 table=$2 form
	shift 2
	for form; do
		run 0 --embedded="$store" export --as "$form" --table "$table"
		mv out listing.txt
		[ -s listing.txt ] || [ "$table" != kernel ] || failure "$store: nothing listed as $form"
		run 0 --embedded="$store" compare --from "$form" --table "$table" --with accessed,dirty,cache listing.txt
	done
}
run 4 -e compare --most 1 --range all --from qemu-tlb "$listings/linux-x86_64-qemu-tlb.txt.xz"
says out 'listed=219988 in_store=0 agree=0 missing=219988 extra=0 different=0 differences='
run 4 -e compare --most 1 --range user --from qemu-tlb "$listings/linux-x86_64-qemu-tlb.txt.xz"
says out 'listed=2933 in_store=0 agree=0 missing=2933 extra=0 different=0 outside=217055'
round recorded.db kernel qemu-tlb qemu-mem vmallocinfo maps pagemap leaves
cat > small.kvt << 'END'
kvmtrace 1
frame_from_unused paddr=0x1000
frame_from_unused paddr=0x2000
frame_from_unused paddr=0x7000
kvirt_map_frames area_size=0x5000 map_offset=0x1000 frames=[1,2,3] prop=rw:wb
kvirt_map_untracked_frames_at start=0xffffdffff0000000 area_size=0x400000 paddr_start=0x200000 paddr_end=0x600000 prop=rwxad:uc+global
kvirt_map_untracked_frames area_size=0x2000 paddr_start=0xfee00000 paddr_end=0xfee01000 prop=r:wt
vm_space_new
cursor_open_mut vm_space=1 start=0x400000 end=0x800000
frame_from_unused paddr=0x9000
cursor_map cursor=1 frame=4 prop=rx:wb+user
frame_from_unused paddr=0xa000
cursor_map cursor=1 frame=5 prop=rw:wb+user
cursor_drop cursor=1
END
for arch in x86_64 x86_64_la57 riscv64_sv39 riscv64_sv48 loongarch64; do
	# the ranges of areas differ, and only x86 has wt
	case $arch in
	x86_64) edit='' ;;
	*_la57) edit='s/0xffffdffff0000000/0xffbffffff0000000/' ;;
	*_sv39) edit='s/:wt/:uc/; s/0xffffdffff0000000/0xffffffeff0000000/' ;;
	*) edit='s/:wt/:uc/' ;;
	esac
	sed -e "2i store arch=$arch" -e "$edit" small.kvt > this.kvt
	run 0 -e --strict run this.kvt --keep $arch.db
	case $arch in
	x86_64*) forms='qemu-tlb qemu-mem vmallocinfo maps pagemap leaves' ;;
	riscv*) forms='qemu-mem vmallocinfo maps pagemap leaves' ;;
	*) forms='vmallocinfo maps pagemap leaves' ;;
	esac
	for table in kernel 1; do
		round $arch.db $table $forms
	done
done
run 0 --embedded=x86_64.db export --as maps --table 1
is out << 'END'
00400000-00401000 r-xp 00000000 00:00 0 
00401000-00402000 rw-p 00000000 00:00 0 
END
run 0 --embedded=x86_64.db export --as pagemap --table 1
is out << 'END'
# va pfn present swap file/shared exclusive softdirty kpageflags
400000 9 1 0 0 1 0 0
401000 a 1 0 0 1 0 0
END
run 0 --embedded=x86_64.db export --as qemu-mem --table 1
is out << 'END'
0000000000400000-0000000000401000 0000000000001000 ur-
0000000000401000-0000000000402000 0000000000001000 urw
END
run 0 --embedded=x86_64.db export --as qemu-tlb
matches out '^ffffdfff........: 0000000000200000 -GPDACT-W$'
run 0 --embedded=x86_64.db export --as ptdump
grep -q '^0xffffdfff........-0xffffdfff........ *4M     RW PWT PCD PSE     GLB x  pmd$' out ||
	failure "the large leaf is not dumped"
run 0 --embedded=x86_64.db export --as vmallocinfo
grep -q '^0xffffdfff........-0xffffdfff........    8192 area:3 phys=0x00000000fee00000 ioremap$' out ||
	failure "the device's area is not listed"
run 2 --embedded=loongarch64.db export --as qemu-mem
run 2 --embedded=riscv64_sv39.db export --as qemu-tlb
run 2 --embedded=x86_64.db export --as maps --table 7
run 2 --embedded=x86_64.db export --as nothing

# --- differences ----------------------------------------------------------------------------------

"$kvmctl" --embedded=x86_64.db export --as pagemap --table 1 > pages
sed -e 's/^400000 9/400000 b/' -e '$d' pages > changed
echo '402000 c 1 0 0 1 0 0' >> changed
run 4 --embedded=x86_64.db compare --from pagemap --table 1 changed
is out << 'END'
~ 0x400000..0x401000 1 page line 2 0xb000; store 0x9000
+ 0x401000..0x402000 1 page 0xa000
- 0x402000..0x403000 1 page line 3 0xc000
pages listed=2 in_store=2 agree=0 missing=1 extra=1 different=1 differences=3
END
run 4 --embedded=x86_64.db --json compare --from pagemap --table 1 changed
is out << 'END'
{"difference":"different","start":"0x400000","end":"0x401000","in":["frame"],"listed":{"line":2,"paddr":"0xb000","frames_follow":true,"flags":""},"store":{"tracked":true,"paddr":"0x9000","frames_follow":true,"size":"0x1000","flags":"r-xu---","cache":"wb"}}
{"difference":"extra","start":"0x401000","end":"0x402000","store":{"tracked":true,"paddr":"0xa000","frames_follow":true,"size":"0x1000","flags":"rw-u---","cache":"wb"}}
{"difference":"missing","start":"0x402000","end":"0x403000","listed":{"line":3,"paddr":"0xc000","frames_follow":true,"flags":""}}
{"equal":false,"unit":"pages","listed":2,"in_store":2,"agree":0,"missing":1,"extra":1,"different":1,"outside":0,"unknown_frames":0,"unpurged":0,"differences":3}
END
run 4 --embedded=x86_64.db compare --most 1 --from pagemap --table 1 changed
says out 'and 2 more (--most 0 tells all)'
run 0 --embedded=x86_64.db compare --from pagemap --table 1 --range 0x400000..0x401000 --without frame changed
echo '00400000-00500000 rwxp 00000000 00:00 0' > maps
run 4 --embedded=x86_64.db compare --from maps --table 1 maps
says out 'missing=254 extra=0 different=2'
run 0 --embedded=x86_64.db compare --from maps --table 1 --partial maps
echo '00401000-00500000 r--p 00000000 00:00 0' > maps
run 4 --embedded=x86_64.db compare --from maps --table 1 --partial maps
is out << 'END'
+ 0x400000..0x401000 1 page r-x
~ 0x401000..0x402000 1 page line 1 r--; store rw-
pages listed=255 in_store=2 agree=0 missing=254 extra=1 different=1 differences=2
END
printf '0xffffdffffffff000-0xffffe00000000000 4096 x\n0xffffd00000000000-0xffffd00000002000 8192 unpurged vm_area\n' > areas
run 4 --embedded=x86_64.db compare --from vmallocinfo areas
says out 'unpurged=1'

# --- what is no listing -----------------------------------------------------------------------------

refuse() { # FORM TEXT MESSAGE
	printf '%b' "$2" > bad
	run 6 -e compare --from "$1" bad
	says err "$3"
}
refuse qemu-tlb 'ffff: 0 XGPDACTUW\n' 'bad:1:1: expected addresses of whole pages'
refuse qemu-tlb '1000: 1000 ---------\n1000: 2000 ---------\n' 'bad:2:1: 0x1000 is told of in line 1 too'
refuse qemu-tlb '1000: 1000 --------Z\n' "bad:1:20: expected 'W' or '-', found 'Z'"
refuse qemu-tlb '1000: 1000 ---------x\n' "bad:1:21: expected the end of the line"
refuse qemu-tlb '11111111111111111: 1000 ---------\n' 'expected a number of at most 64 bits'
refuse qemu-tlb '1000' 'bad:1:5: expected ":", found the end of the line'
refuse qemu-mem '0000000000001000-0000000000003000 0000000000001000 urw\n' 'an end and a size that agree'
refuse qemu-mem '0000000000003000-0000000000001000 0000000000001000 urw\n' 'an end'
refuse qemu-mem '1000-2000 1000 urw\n3000 1000 1000 rwxugad\n' 'bad:2:5: expected "-"'
refuse qemu-mem 'vaddr paddr\n----- -----\n1000 1000 0 rwxugad\n' 'bad:3:1'
refuse qemu-mem 'vaddr paddr\nfffffffffffff000 1000 2000 rwxugad\n' 'bad:2:1'
refuse vmallocinfo '0xffffc90000000000-0xffffc90000005000 4096 x\n' 'an end and a size that agree'
refuse vmallocinfo 'ffffc90000000000-0xffffc90000005000 20480 x\n' 'bad:1:1: expected "0x"'
refuse maps '00400000-00300000 r-xp 0\n' 'bad:1:1'
refuse maps '00400000-00500000 r-xq 0\n' "expected 'p' or 's'"
refuse pagemap '1000 1 2\n' 'expected 0 or 1 for present'
refuse pagemap '1000 1\n' 'bad:1:7'
refuse pagemap '1000 10000000000000 1\n' 'at most 52 bits'
refuse leaves '0x1000,0x1000,4096,0x1\n' 'expected a number and a comma'
refuse leaves '0x1000,0x1000,4096,0x1,rwz\n' "found 'z'"
refuse leaves '0x1000,0x1000,8192,0x1,rw\n' 'a leaf at a multiple of its size'
refuse leaves '0x1000,0x1000,0,0x1,rw\n' 'bad:1:1'
refuse maps '\0001\0377\n' 'bad:1:1'
head -c 3000 "$listings/linux-x86_64-qemu-tlb.txt.xz" > cut.xz
run 6 -e compare --from qemu-tlb cut.xz
run 6 -e compare --from maps no-such-file
run 6 --embedded=nothing.db compare --from maps maps
run 2 -e compare --from ptdump maps
run 2 -e compare maps
run 2 -e compare --from maps --table 3 maps
run 2 -e compare --from maps --range 1..2 maps
run 2 -e compare --from maps --range 0x2000..0x1000 maps
run 2 -e compare --from maps --with colour maps
: > empty
run 0 -e compare --from qemu-tlb empty
is out <<< 'pages listed=0 in_store=0 agree=0 missing=0 extra=0 different=0'

finish
