#!/bin/bash
# The recorder, without an emulator: its command line, its walk of page tables,
# the archive it packs, and that the guest's parts can be read and compiled.
. "$(dirname "$0")/e2e.sh"

PYTHON=${PYTHON:-python3}
recorder=$top/tools/record-linux
parts=$top/tools/recorder

"$PYTHON" -c 'import lzma' 2> /dev/null || { echo "no $PYTHON with lzma"; exit 77; }

# refused STATUS TEXT WORD...: the recorder says TEXT and leaves no folder
refused() {
	ends "$1" "$PYTHON" "$recorder" -o recording "${@:3}"
	says err "$2"
	absent recording
}

ends 0 "$PYTHON" "$recorder" --help
says out --la57
refused 2 "--memory is between" --memory 64
mkdir -p kernel/boot
# what is not installed here is not needed for what follows
mkdir stand-ins
for program in qemu-system-x86_64 busybox depmod gcc dpkg-deb; do
	command -v $program > /dev/null && continue
	printf '#!/bin/sh\nexit 1\n' > "stand-ins/$program"
	chmod +x "stand-ins/$program"
done
command -v gcc > /dev/null && has_gcc=yes || has_gcc=no
PATH=$PATH:$scratch/stand-ins
refused 1 "0 files match vmlinuz-*" --kernel kernel
: > kernel/boot/vmlinuz-1.2.3
refused 1 "no workload nothing-of-this-name" --kernel kernel --workload nothing-of-this-name
for script in guest-init guest-probes workload-files workload-modules; do
	check sh -n "$parts/$script"
done
if [ $has_gcc = yes ]; then
	check gcc -Wall -Wextra -Werror -fsyntax-only "$parts/guest-pause.c"
fi

cat > walk.py << 'END'
import importlib.machinery
import importlib.util
import struct
import sys

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader('record_linux', sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader('record_linux', loader))
loader.exec_module(module)

NX = 1 << 63
ram = bytearray(0x8000)


def put(table, index, entry):
    struct.pack_into('<Q', ram, table + 8 * index, entry)


# root 0x1000: a user half and a kernel half; read-only above, writable below counts as read-only
put(0x1000, 0, 0x2000 | 7)
put(0x1000, 511, 0x3000 | 3)
put(0x2000, 1, 0x4000 | 5)
put(0x4000, 2, 0x5000 | 7)
put(0x5000, 3, 0x123000 | 0x167)          # 4 KiB, global, dirty
put(0x3000, 510, 0x40000000 | 0x1e3)      # 1 GiB
put(0x3000, 511, 0x6000 | 0x63)
put(0x6000, 511, NX | 0x600000 | 0xa3)    # 2 MiB
put(0x6000, 510, 0x600000)                # not present
pages = set()
found = module.leaves(bytes(ram), 0x1000, 4, pages)
text = [f'{x[0]:#x} {x[1]:#x} {x[2]:#x} {module.flags(x)}' for x in found]
assert text == ['0x40403000 0x123000 0x1000 r-xug--ad',
                '0xffffffff80000000 0x40000000 0x40000000 rwxkg--ad',
                '0xffffffffffe00000 0x600000 0x200000 rw-k---a-'], text
assert pages == {0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000}, pages
assert module.as_emulator(found[0]) == (0x40403000, 0x123000, '-G-DA--UW'), module.as_emulator(found[0])
put(0x7000, 511, 0x1000 | 3)
top = module.leaves(bytes(ram), 0x7000, 5, set())
assert [hex(x[0]) for x in top] == ['0xffff000040403000', '0xffffffff80000000', '0xffffffffffe00000'], top
put(0x1000, 1, 0x100000 | 7)
try:
    module.leaves(bytes(ram), 0x1000, 4, set())
    raise SystemExit('a table outside memory is walked')
except module.Failed:
    pass
archive = []
module.newc(archive, 'ab', 0o100644, b'hello')
record = b''.join(archive)
assert record[:6] == b'070701' and len(record) % 4 == 0
assert int(record[54:62], 16) == 5 and record[110:113] == b'ab\0', record
assert record[116:121] == b'hello', record
print('ok')
END
check "$PYTHON" walk.py "$recorder"

finish
