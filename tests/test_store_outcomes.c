/*
 * Operation by outcome: every outcome in the set of every operation is
 * reached, none beside them, and one that is not ok leaves no trace.  Of two
 * reasons to refuse, the one that is named first in the order of checks wins:
 * tried for every pair of reasons that can be there at once.
 */
#include "tests/store_kit.h"

#include <stdio.h>

#include "trace/text.h"

/* ---- The store ---------------------------------------------------------------------------- */

#define A1 "0xffffc00000000000"      /* area 1: 4 pages, a tracked leaf on the second (0x5000) */
#define A2 "0xffffc00000400000"      /* area 2: two pages of 2 MiB at 0x40000000 */
#define A2_END "0xffffc00000800000"
#define A3 "0xffffc00000ffc000"      /* area 3: 4 pages, nothing mapped, no table of level 1; area 4 is of size 0 */
#define FREE "0xffffc00000a00000"    /* free addresses without a table of level 1 */
#define BOOT_FREE "0xffff900000000000"
#define BOOT_LEAVES "0xffffa00000000000" /* two pages of 2 MiB */
#define BOOT_LEAVES_END "0xffffa00000400000"

/* Frames 1 to 4 are handles of 0x1000, 0x2000, 0x3000, 0x3000; 5 of 0x4000.  rc_max is 3. */
static struct kvms *
base_new(const char *arch)
{
	struct kvms *s = kit_new("arch=%s max_paddr=0x400000 rc_max=3 ncpu=3 reserve=[0x10000..0x11000] mmio=[0x20000..0x21000] "
				 "vmalloc=0xffffc00000000000..0xffffc00001000000",
				 arch);

	kit_ok(s, "frame_from_unused paddr=0x1000");
	kit_ok(s, "frame_from_unused paddr=0x2000");
	kit_ok(s, "frame_from_unused paddr=0x3000");
	kit_ok(s, "frame_clone frame=3");
	kit_ok(s, "frame_from_unused paddr=0x4000");
	kit_ok(s, "frame_from_unused paddr=0x5000");
	kit_ok(s, "segment_from_unused start=0x6000 end=0x8000");
	kit_ok(s, "kvirt_map_frames_at start=" A1 " area_size=0x4000 map_offset=0x1000 frames=[6] prop=rw:wb");
	kit_ok(s, "kvirt_map_untracked_frames_at start=" A2 " area_size=0x400000 paddr_start=0x40000000 "
		  "paddr_end=0x40400000 prop=rw:uc");
	kit_ok(s, "kvirt_reserve_at start=" A3 " area_size=0x4000");
	kit_ok(s, "kvirt_reserve area_size=0x0");
	kit_ok(s, "boot_map va=" BOOT_LEAVES " paddr_start=0x40000000 paddr_end=0x40400000 prop=rw:wb");
	return s;
}

/* What is different in the state; brought about before the op, in this order. */
enum state {
	TAKEN = 1,      /* 0x9000 and 0xb000 are frames */
	FULL = 2,       /* no frame is unused */
	SATURATED = 4,  /* 0x3000 and 0x5000 have as many handles as they may */
	REMAINS = 8,    /* an area of one page has lived at the free addresses where pages of 2 MiB would go */
	MAPPED = 16,    /* the first page of area 3 and of the free boot addresses are mapped */
	UNIQUE = 32,    /* the slot is unique, whatever it was: by hand */
	REFERRED = 64,  /* the area has references as if it were I/O memory's: by hand */
	THIRD = 128,    /* the third CPU is the current one; address space 1 has as many CPUs as it may */
	PENDING = 256,  /* cursor 1 has sent a flush that nobody has taken */
	TAGS = 512,     /* no tag is left for a list: by hand, it would take 2^63 lists */
};

#define CHANGES 3u

struct change {
	const char *arg;
	enum { ADD, OR, SET, APPEND } how;
	uint64_t value;
};

/* A reason to refuse: how arguments and state differ from those of the op that is ok. */
struct reason {
	const char *outcome;
	unsigned state;
	struct change changes[CHANGES];
	unsigned groups; /* as bits; reasons that have a group in common exclude each other */
};

#define REASONS 14u

struct op_case {
	const char *op; /* ok in the store above */
	struct reason reasons[REASONS]; /* in the order of the checks */
	const char *const *before;      /* further steps that make the store, or NULL */
	const char *arch;               /* NULL: x86_64 */
};

/*
 * What the newer kinds of objects need.  Both first CPUs run on address space
 * 1; the cursors' ranges lie in different nodes.
 */
#define LINEAR "0xffff800000"
static const char *const whole[] = {
	"vm_space_new",
	"vm_space_new",
	"vm_space_activate vm_space=1",
	"cpu_set cpu=1",
	"vm_space_activate vm_space=1",
	"cpu_set cpu=0",
	/* cursor 1 stands at a leaf (0x3000), free pages behind; 2 reads only; 3 is at its end; 4 has no table of level 1 */
	"cursor_open_mut vm_space=1 start=0x1000 end=0x5000",
	"cursor_map cursor=1 frame=4 prop=rw:wb+user",
	"cursor_jump cursor=1 va=0x1000",
	"cursor_open vm_space=1 start=0x200000 end=0x204000",
	"cursor_open_mut vm_space=1 start=0x400000 end=0x401000",
	"cursor_map cursor=3 frame=2 prop=r:wb+user",
	"cursor_open_mut vm_space=1 start=0x40000000 end=0x40400000",
	"frame_from_unused paddr=0xd000 kind=typed", /* frame 7 */
	/* iomem 1 is three pages, 2 a part of one */
	"iomem_acquire start=0xfec00000 end=0xfec03000",
	"iomem_acquire start=0xfed00080 end=0xfed00200",
	/* segment 2 is typed, 3 saturated */
	"segment_from_unused start=0x14000 end=0x16000 kind=typed",
	"segment_from_unused start=0x16000 end=0x18000",
	"frame_from_in_use paddr=0x16000",
	"frame_from_in_use paddr=0x16000",
	"frame_from_in_use paddr=0x17000",
	"frame_from_in_use paddr=0x17000",
	/* unique 1 is a link, 2 is not; lists 1 and 2 have a link, 3 and 4 are empty; 2 and 4 are checked out */
	"unique_from_unused paddr=0xe000 kind=link",
	"unique_from_unused paddr=0xf000",
	"unique_from_unused paddr=0x12000 kind=link",
	"unique_from_unused paddr=0x13000 kind=link",
	"list_new",
	"list_new",
	"list_new",
	"list_new",
	"list_push_back list=1 unique=3",
	"list_push_back list=2 unique=4",
	"list_cursor_front_mut list=2",
	"list_cursor_back_mut list=4",
	"reader_new vm_space=1 va=0x1000 len=0x1000",                /* 1: mapped */
	"reader_new_kernel va=" LINEAR "001000 len=0x1000",          /* 2: data memory */
	"reader_new vm_space=1 va=0x2000 len=0x1000",                /* 3: a fault */
	"reader_new_kernel va=" FREE " len=0x1000",                  /* 4: a fault that none may meet */
	"reader_new_kernel va=" LINEAR "001000 len=0x0",             /* 5: empty, infallible */
	"reader_new vm_space=1 va=0x1000 len=0x3",                   /* 6: short, fallible */
	"reader_new_kernel va=" LINEAR "001001 len=0xf",             /* 7: misaligned, infallible */
	"reader_new vm_space=1 va=0x1001 len=0x8",                   /* 8: misaligned, fallible */
	"reader_new_kernel va=" LINEAR "000000 len=0x10001",         /* 9: longer than a result */
	"reader_new_kernel va=" LINEAR "000000 len=0x1000001",       /* 10: longer than what may move, infallible */
	"reader_new vm_space=1 va=0x0 len=0x1000001",                /* 11: likewise, fallible */
	"reader_new_kernel va=" LINEAR "040000 len=0x1000",          /* 12: where writer 5 stands, fallible */
	"reader_to_fallible reader=12",
	"reader_new vm_space=1 va=0x400000 len=0x1000",              /* 13: where writer 3 stands */
	"writer_new vm_space=1 va=0x1000 len=0x1000",                /* 1: mapped */
	"writer_new_kernel va=" LINEAR "001000 len=0x1000",          /* 2: data memory */
	"writer_new vm_space=1 va=0x400000 len=0x1000",              /* 3: a fault, mapped without w */
	"writer_new_kernel va=" LINEAR "040000 len=0x1000",          /* 4: no data memory, infallible */
	"writer_new_kernel va=" LINEAR "040000 len=0x1000",          /* 5: no data memory, fallible */
	"writer_to_fallible writer=5",
	"writer_new_kernel va=" FREE " len=0x1000",                  /* 6: a fault that none may meet */
	"writer_new_kernel va=" LINEAR "001000 len=0x0",             /* 7: empty, infallible */
	"writer_new vm_space=1 va=0x1000 len=0x3",                   /* 8: short, fallible */
	"writer_new_kernel va=" LINEAR "001001 len=0xf",             /* 9: misaligned, infallible */
	"writer_new vm_space=1 va=0x1001 len=0x8",                   /* 10: misaligned, fallible */
	"writer_new_kernel va=" LINEAR "000000 len=0x1000001",       /* 11: longer than what may move, infallible */
	"writer_new vm_space=1 va=0x0 len=0x1000001",                /* 12: likewise, fallible */
	NULL,
};

#define UNENCODABLE (UINT64_C(1) << 52) - 0x40000000
#define CACHE_WP UINT64_C(0x20003)
#define WB UINT64_C(0x40000)

/* Room for a page of 2 MiB. */
static const char *const large[] = { "kvirt_reserve_at start=" FREE " area_size=0x200000", NULL };

/* clang-format off */
#define UNALIGNED(outcome, arg) { outcome, 0, { { arg, OR, 0x10 } }, 0 }
#define UNKNOWN(kind) { "unknown_" kind, 0, { { kind, ADD, 90 } }, 0 }
#define UNKNOWN_G(kind, groups) { "unknown_" kind, 0, { { kind, ADD, 90 } }, groups }
#define OTHER(outcome, arg, value) { outcome, 0, { { arg, SET, value } }, 1 } /* another object; bit 1: a second one */
#define OTHER2(outcome, arg, value) { outcome, 0, { { arg, SET, value } }, 2 }
#define BAD_WIDTH { "bad_width", 0, { { "width", SET, 3 } }, 0 }
#define ONE_LIST(op, outcome, other) { op, { UNKNOWN_G("list", 1), OTHER(outcome, "list", other) }, whole, NULL }
#define ONE(op, kind) { op, { UNKNOWN(kind) }, whole, NULL }
#define NO_PROP(arg, value) { "prop_unencodable", 0, { { arg, SET, value } }, 0 }
#define IN_USE { "area_in_use", REFERRED, { { 0 } }, 0 }
#define DUPLICATE { "duplicate_frame", 0, { { "frames", APPEND, 1 } }, 0 }
#define UNKNOWN_IN_LIST { "unknown_frame", 0, { { "frames", APPEND, 99999 } }, 0 }
#define NO_CACHE { "unsupported_cache", 0, { { "prop", SET, CACHE_WP } }, 0 }
#define NO_PADDR { "paddr_unencodable", 0, { { "paddr_start", ADD, UNENCODABLE }, { "paddr_end", ADD, UNENCODABLE } }, 0 }
#define NO_FRAMES { "out_of_frames", FULL, { { 0 } }, 1 }

static const struct op_case op_cases[] = {
	{ "frame_from_unused paddr=0x9000", {
		UNALIGNED("NotAligned", "paddr"),
		{ "OutOfBound", 0, { { "paddr", ADD, 0x400000 } }, 0 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "InUse", TAKEN, { { 0 } }, 1 } }, NULL, NULL },
	{ "frame_from_unused paddr=0x9000 kind=link meta=0xffffffffffffffff", {
		{ "InUse", 0, { { "paddr", ADD, 0x17000 } }, 0 } }, NULL, NULL }, /* MMIO */
	{ "frame_from_in_use paddr=0x3000", {
		UNALIGNED("NotAligned", "paddr"),
		{ "OutOfBound", 0, { { "paddr", ADD, 0x400000 } }, 0 },
		{ "Unused", 0, { { "paddr", ADD, 0x6000 } }, 1 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "NotDataFrame", 0, { { "paddr", ADD, 0xd000 } }, 0 },
		{ "refcount_saturated", SATURATED, { { 0 } }, 1 } }, NULL, NULL },
	{ "frame_clone frame=3", {
		UNKNOWN("frame"),
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } }, NULL, NULL },
	{ "frame_drop frame=1", { UNKNOWN("frame") }, NULL, NULL },
	{ "frame_alloc", { { "NoMemory", FULL, { { 0 } }, 0 } }, NULL, NULL },
	{ "segment_from_unused start=0x9000 end=0xc000", {
		UNALIGNED("NotAligned", "start"),
		UNALIGNED("NotAligned", "end"),
		{ "OutOfBound", 0, { { "end", ADD, 0x400000 } }, 0 },
		{ "segment_empty", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "InUse", TAKEN, { { 0 } }, 1 } }, NULL, NULL },
	{ "segment_drop segment=1", { UNKNOWN("segment") }, NULL, NULL },

	/* the lowest block of free addresses has no table of level 1 at its end: opening makes one */
	{ "kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1,2] prop=rw:wb", {
		UNKNOWN_IN_LIST,
		DUPLICATE,
		UNALIGNED("area_size_unaligned", "area_size"),
		UNALIGNED("map_offset_unaligned", "map_offset"),
		{ "va_exhausted", 0, { { "area_size", ADD, 0x2000000 } }, 0 },
		{ "map_offset_out_of_range", 0, { { "map_offset", ADD, 0x4000000 } }, 0 },
		NO_FRAMES,
		NO_CACHE, /* of the first frame, which fits */
		{ "frames_exceed_area", 0, { { "frames", APPEND, 3 }, { "frames", APPEND, 5 } }, 0 } }, NULL, NULL },
	{ "kvirt_map_frames_at start=" FREE " area_size=0x4000 map_offset=0x1000 frames=[1,2] prop=rw:wb", {
		UNKNOWN_IN_LIST,
		DUPLICATE,
		UNALIGNED("start_unaligned", "start"),
		UNALIGNED("area_size_unaligned", "area_size"),
		UNALIGNED("map_offset_unaligned", "map_offset"),
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 },
		{ "map_offset_out_of_range", 0, { { "map_offset", ADD, 0x4000000 } }, 0 },
		NO_FRAMES,
		NO_CACHE,
		{ "frames_exceed_area", 0, { { "frames", APPEND, 3 }, { "frames", APPEND, 5 } }, 0 } }, NULL, NULL },
	/* mapped from 0xc00000 in the range on: a page of 2 MiB, then one of 4 KiB, for which there is no table yet */
	{ "kvirt_map_untracked_frames area_size=0x404000 map_offset=0x8000 paddr_start=0x40000000 paddr_end=0x40201000 prop=rw:wb", {
		UNALIGNED("paddr_start_unaligned", "paddr_start"),
		UNALIGNED("paddr_end_unaligned", "paddr_end"),
		UNALIGNED("area_size_unaligned", "area_size"),
		UNALIGNED("map_offset_unaligned", "map_offset"),
		{ "paddr_range_exceeds_area", 0, { { "paddr_end", ADD, 0x10000000 } }, 0 },
		{ "va_exhausted", 0, { { "area_size", ADD, 0x2000000 } }, 0 },
		{ "level_above_guard", 0, { { "paddr_end", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "already_mapped", REMAINS, { { 0 } }, 0 },
		NO_CACHE,
		NO_PADDR,
		NO_FRAMES }, NULL, NULL },
	{ "kvirt_map_untracked_frames_at start=0xffffc00000bf8000 area_size=0x404000 map_offset=0x8000 paddr_start=0x40000000 "
	  "paddr_end=0x40201000 prop=rw:wb", {
		UNALIGNED("start_unaligned", "start"),
		UNALIGNED("paddr_start_unaligned", "paddr_start"),
		UNALIGNED("paddr_end_unaligned", "paddr_end"),
		UNALIGNED("area_size_unaligned", "area_size"),
		UNALIGNED("map_offset_unaligned", "map_offset"),
		{ "paddr_range_exceeds_area", 0, { { "paddr_end", ADD, 0x10000000 } }, 0 },
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 },
		{ "level_above_guard", 0, { { "paddr_end", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "already_mapped", REMAINS, { { 0 } }, 0 },
		NO_CACHE,
		NO_PADDR,
		NO_FRAMES }, NULL, NULL },
	{ "kvirt_reserve area_size=0x1000", {
		UNALIGNED("area_size_unaligned", "area_size"),
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 } }, NULL, NULL },
	{ "kvirt_reserve_at start=" FREE " area_size=0x1000", {
		UNALIGNED("start_unaligned", "start"),
		UNALIGNED("area_size_unaligned", "area_size"),
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 } }, NULL, NULL },
	{ "kvirt_reserve_at start=" FREE " area_size=0x1000", {
		{ "RangeAllocError", 0, { { "area_size", SET, 0 } }, 0 },
		{ "RangeAllocError", 0, { { "area_size", SET, UINT64_C(0xfffffffffffff000) } }, 0 },
		{ "RangeAllocError", 0, { { "start", SET, 0 } }, 0 },
		{ "RangeAllocError", 0, { { "start", SET, UINT64_C(0xfffffffffffff000) } }, 0 } }, NULL, NULL },
	{ "kvirt_unreserve area=3", {
		UNKNOWN("area"),
		IN_USE,
		{ "area_mapped", 0, { { "area", ADD, UINT64_C(0) - 2 } }, 0 } }, NULL, NULL },
	{ "kvirt_query area=1 va=0xffffc00000001008", {
		UNKNOWN("area"),
		{ "query_out_of_range", 0, { { "va", ADD, 0x10000000 } }, 0 },
		{ "out_of_frames", FULL, { { "area", ADD, 2 }, { "va", ADD, 0xffb000 } }, 0 },
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } }, NULL, NULL },
	{ "kvirt_peek area=3 va=" A3, {
		UNKNOWN("area"),
		{ "query_out_of_range", 0, { { "va", ADD, 0x10000000 } }, 0 },
		NO_FRAMES }, NULL, NULL },
	{ "kvirt_split area=3 offset=0x1000", {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("split_misaligned", "offset"),
		{ "split_out_of_bound", 0, { { "offset", ADD, 0x3000 } }, 1 },
		{ "split_out_of_bound", 0, { { "offset", ADD, UINT64_C(0) - 0x1000 } }, 1 } }, NULL, NULL },
	{ "kvirt_drop area=3", {
		UNKNOWN("area"),
		IN_USE,
		{ "area_empty", 0, { { "area", ADD, 1 } }, 0 },
		NO_FRAMES }, NULL, NULL },
	{ "kvirt_range area=1", { UNKNOWN("area") }, NULL, NULL },

	{ "kvirt_map_frames_into area=3 va=" A3 " frames=[1,2] prop=rw:wb", {
		UNKNOWN("area"),
		UNKNOWN_IN_LIST,
		IN_USE,
		DUPLICATE,
		UNALIGNED("range_unaligned", "va"),
		{ "range_outside_area", 0, { { "va", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "range_outside_area", 0, { { "frames", APPEND, 3 }, { "frames", APPEND, 4 }, { "frames", APPEND, 5 } }, 0 },
		NO_FRAMES,
		{ "already_mapped", MAPPED, { { 0 } }, 1 }, /* with its table */
		NO_CACHE }, NULL, NULL },
	{ "kvirt_map_untracked_into area=3 va=" A3 " paddr_start=0x40000000 paddr_end=0x40002000 prop=rw:wb max_level=1", {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("paddr_start_unaligned", "paddr_start"),
		UNALIGNED("paddr_end_unaligned", "paddr_end"),
		{ "level_too_high", 0, { { "max_level", ADD, 2 } }, 0 },
		UNALIGNED("range_unaligned", "va"),
		{ "range_outside_area", 0, { { "va", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "range_outside_area", 0, { { "paddr_end", ADD, 0x3000 } }, 0 },
		NO_FRAMES,
		{ "already_mapped", MAPPED, { { 0 } }, 1 },
		NO_CACHE,
		NO_PADDR }, NULL, NULL },
	{ "kvirt_unmap_range area=2 start=" A2 " end=" A2_END, {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "range_outside_area", 0, { { "start", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "range_outside_area", 0, { { "end", ADD, 0x1000 } }, 2 },
		{ "out_of_frames", FULL, { { "end", ADD, UINT64_C(0) - 0x1000 } }, 2 } }, NULL, NULL },
	{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END " set=x clear=w", {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "range_outside_area", 0, { { "start", ADD, UINT64_C(0) - 0x1000 } }, 2 },
		{ "range_outside_area", 0, { { "end", ADD, 0x1000 } }, 0 },
		{ "out_of_frames", FULL, { { "start", ADD, 0x1000 } }, 2 }, /* cut first, then written */
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 } }, NULL, NULL },
	{ "boot_map va=" BOOT_FREE " paddr_start=0x40000000 paddr_end=0x40002000 prop=rw:wb max_level=1", {
		UNALIGNED("paddr_start_unaligned", "paddr_start"),
		UNALIGNED("paddr_end_unaligned", "paddr_end"),
		{ "level_too_high", 0, { { "max_level", ADD, 2 } }, 0 },
		UNALIGNED("range_unaligned", "va"),
		{ "range_not_boot", 0, { { "va", ADD, UINT64_C(0x2ffffffff000) } }, 16 }, /* runs into the vmalloc range */
		{ "range_not_boot", 0, { { "va", ADD, UINT64_C(0) - 0x100000001000 } }, 16 }, /* before the kernel half */
		{ "range_not_boot", 0, { { "va", ADD, UINT64_C(0x6ffffffef000) } }, 16 }, /* ends behind the last page */
		NO_FRAMES,
		{ "already_mapped", MAPPED, { { 0 } }, 1 },
		NO_CACHE,
		NO_PADDR }, NULL, NULL },
	{ "boot_protect_range start=" BOOT_LEAVES " end=" BOOT_LEAVES_END " clear=w global=set", {
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, UINT64_C(0x400000000000) } }, 4 },
		{ "range_not_boot", 0, { { "end", ADD, UINT64_C(0x1fffffc01000) } }, 8 }, /* runs into the vmalloc range */
		{ "range_not_boot", 0, { { "start", ADD, UINT64_C(0) - 0x200000001000 } }, 2 }, /* before the kernel half */
		{ "range_not_boot", 0, { { "end", ADD, UINT64_C(0x5fffffbff000) } }, 4 | 8 }, /* ends behind the last page */
		{ "out_of_frames", FULL, { { "start", ADD, 0x1000 } }, 2 },
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 } }, NULL, NULL },
	{ "kvirt_flush start=" A1 " end=" A2, {
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x1000000 } }, 0 } }, NULL, NULL },

	/* ---- segments ---- */
	{ "segment_alloc pages=2", {
		OTHER("InvalidArgs", "pages", 0),
		OTHER("layout_overflow", "pages", UINT64_C(1) << 51),
		{ "NoMemory", FULL, { { 0 } }, 0 } }, NULL, NULL },
	{ "boot_reserve start=0x9000 end=0xc000", {
		UNALIGNED("NotAligned", "start"),
		UNALIGNED("NotAligned", "end"),
		{ "OutOfBound", 0, { { "end", ADD, 0x400000 } }, 0 },
		{ "segment_empty", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "InUse", TAKEN, { { 0 } }, 1 } }, NULL, NULL },
	ONE("segment_from_frame frame=1", "frame"),
	ONE("segment_next segment=1", "segment"),
	{ "segment_split segment=1 offset=0x1000", {
		UNKNOWN("segment"),
		UNALIGNED("split_misaligned", "offset"),
		{ "split_out_of_bound", 0, { { "offset", ADD, 0x1000 } }, 1 },
		{ "split_out_of_bound", 0, { { "offset", ADD, UINT64_C(0) - 0x1000 } }, 1 } }, whole, NULL },
	{ "segment_clone segment=1", {
		UNKNOWN_G("segment", 1),
		OTHER("refcount_saturated", "segment", 3) }, whole, NULL },
	{ "segment_slice segment=1 start=0x0 end=0x1000", {
		UNKNOWN_G("segment", 1),
		UNALIGNED("slice_misaligned", "start"),
		UNALIGNED("slice_misaligned", "end"),
		{ "slice_out_of_bound", 0, { { "end", ADD, 0x2000 } }, 0 },
		{ "slice_out_of_bound", 0, { { "start", ADD, 0x4000 } }, 0 },
		OTHER("refcount_saturated", "segment", 3) }, whole, NULL },
#define SEGMENT_BYTES(op, count)                                                                                       \
	{ op, {                                                                                                        \
		UNKNOWN_G("segment", 1),                                                                               \
		OTHER("not_untyped", "segment", 2),                                                                    \
		{ "too_long", 0, { { count, SET, 0x10001 } }, 0 },                                                     \
		{ "Overflow", 0, { { "offset", SET, UINT64_MAX } }, 2 },                                               \
		{ "InvalidArgs", 0, { { "offset", SET, 0x2000 } }, 2 } }, whole, NULL }
	SEGMENT_BYTES("segment_read segment=1 offset=0x10 len=0x20", "len"),
	SEGMENT_BYTES("segment_write segment=1 offset=0x10 bytes=0102", "bytes"),
	SEGMENT_BYTES("segment_fill_zeros segment=1 offset=0x10 len=0x20", "len"),

	/* ---- unique frames and lists ---- */
	{ "unique_from_unused paddr=0x9000", {
		UNALIGNED("NotAligned", "paddr"),
		{ "OutOfBound", 0, { { "paddr", ADD, 0x400000 } }, 0 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "InUse", TAKEN, { { 0 } }, 1 } }, NULL, NULL },
	{ "unique_from_shared frame=1", {
		UNKNOWN_G("frame", 1),
		OTHER("NotExclusive", "frame", 3) }, whole, NULL },
	ONE("frame_from_unique unique=1", "unique"),
	ONE("unique_drop unique=1", "unique"),
	ONE("unique_reset unique=1", "unique"),
	ONE("unique_repurpose unique=1 kind=typed meta=0x5", "unique"),
	ONE("unique_set_meta unique=1 meta=0x5", "unique"),
	{ "list_new", { { 0 } }, whole, NULL },
	ONE_LIST("list_drop list=1", "list_has_cursor", 2),
	ONE_LIST("list_size list=1", "list_has_cursor", 2),
	ONE_LIST("list_is_empty list=1", "list_has_cursor", 2),
	ONE_LIST("list_contains list=1 paddr=0x12000", "list_has_cursor", 2),
	ONE_LIST("list_pop_front list=1", "list_has_cursor", 2),
	ONE_LIST("list_pop_back list=1", "list_has_cursor", 2),
	ONE_LIST("list_take_at list=1 index=0", "list_has_cursor", 2),
	ONE_LIST("list_cursor_front_mut list=1", "list_has_cursor", 2),
	ONE_LIST("list_cursor_back_mut list=1", "list_has_cursor", 2),
	ONE_LIST("list_cursor_mut_at list=1 paddr=0x12000", "list_has_cursor", 2),
	ONE_LIST("list_cursor_move_next list=2", "list_has_no_cursor", 1),
	ONE_LIST("list_cursor_move_prev list=2", "list_has_no_cursor", 1),
	ONE_LIST("list_cursor_current_meta list=2", "list_has_no_cursor", 1),
	ONE_LIST("list_cursor_as_list list=2", "list_has_no_cursor", 1),
	ONE_LIST("list_cursor_take_current list=2", "list_has_no_cursor", 1),
	ONE_LIST("list_cursor_drop list=2", "list_has_no_cursor", 1),
#define LIST_PUT(op)                                                                                                   \
	{ op, {                                                                                                        \
		UNKNOWN_G("list", 1),                                                                                  \
		UNKNOWN_G("unique", 2),                                                                                \
		OTHER("list_has_cursor", "list", 2),                                                                   \
		OTHER2("not_link", "unique", 2),                                                                       \
		{ "list_ids_exhausted", TAGS, { { "list", SET, 3 } }, 1 } }, whole, NULL }
	LIST_PUT("list_push_front list=1 unique=1"),
	LIST_PUT("list_push_back list=1 unique=1"),
	{ "list_insert_before_at list=1 index=0 unique=1", {
		UNKNOWN_G("list", 1),
		UNKNOWN_G("unique", 2),
		OTHER("list_has_cursor", "list", 2),
		OTHER2("not_link", "unique", 2),
		{ "index_out_of_range", 0, { { "index", SET, 9 } }, 0 },
		{ "list_ids_exhausted", TAGS, { { "list", SET, 3 } }, 1 } }, whole, NULL },
	{ "list_cursor_insert_before list=2 unique=1", {
		UNKNOWN_G("list", 1),
		UNKNOWN_G("unique", 2),
		OTHER("list_has_no_cursor", "list", 1),
		OTHER2("not_link", "unique", 2),
		{ "list_ids_exhausted", TAGS, { { "list", SET, 4 } }, 1 } }, whole, NULL },

	/* ---- address spaces and their cursors ---- */
	{ "vm_space_new", { NO_FRAMES }, whole, NULL },
	{ "vm_space_drop vm_space=2", {
		UNKNOWN_G("vm_space", 1),
		OTHER("vm_space_in_use", "vm_space", 1) }, whole, NULL },
	{ "vm_space_activate vm_space=2", {
		UNKNOWN_G("vm_space", 1),
		{ "refcount_saturated", THIRD, { { "vm_space", SET, 1 } }, 1 } }, whole, NULL },
	{ "vm_space_deactivate", { { 0 } }, whole, NULL },
	{ "cpu_set cpu=1", { { "unknown_cpu", 0, { { "cpu", ADD, 2 } }, 0 } }, whole, NULL },
#define CURSOR_OPEN(op)                                                                                                \
	{ op, {                                                                                                        \
		UNKNOWN("vm_space"),                                                                                   \
		{ "InvalidVaddrRange", 0, { { "start", ADD, 0x1000 } }, 1 | 8 },                                       \
		{ "InvalidVaddrRange", 0, { { "end", SET, UINT64_C(0x800000001000) } }, 1 },                           \
		{ "UnalignedVaddr", 0, { { "end", OR, 0x10 } }, 1 },                                                   \
		{ "UnalignedVaddr", 0, { { "start", OR, 0x10 } }, 1 },                                                 \
		{ "out_of_frames", FULL, { { 0 } }, 2 },                                                               \
		{ "cursor_locked", 0, { { "start", SET, 0x2000 }, { "end", SET, 0x3000 } }, 1 | 2 } }, whole, NULL }
	CURSOR_OPEN("cursor_open vm_space=1 start=0x80000000 end=0x80001000"),
	CURSOR_OPEN("cursor_open_mut vm_space=1 start=0x80000000 end=0x80001000"),
	ONE("cursor_drop cursor=1", "cursor"),
	ONE("cursor_virt_addr cursor=1", "cursor"),
	ONE("cursor_find_iomem_by_paddr cursor=1 paddr=0xfec00000", "cursor"),
	{ "cursor_query cursor=1", {
		UNKNOWN_G("cursor", 1),
		OTHER("InvalidVaddr", "cursor", 3),
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } }, whole, NULL },
	{ "cursor_peek cursor=1", {
		UNKNOWN_G("cursor", 1),
		OTHER("InvalidVaddr", "cursor", 3) }, whole, NULL },
	{ "cursor_find_next cursor=1 len=0x1000", {
		UNKNOWN("cursor"),
		UNALIGNED("len_unaligned", "len"),
		{ "len_exceeds_range", 0, { { "len", ADD, 0x4000 } }, 0 } }, whole, NULL },
	{ "cursor_jump cursor=1 va=0x2000", {
		UNKNOWN("cursor"),
		UNALIGNED("va_unaligned", "va"),
		{ "InvalidVaddr", 0, { { "va", ADD, 0x3000 } }, 1 },
		{ "InvalidVaddr", 0, { { "va", ADD, UINT64_C(0) - 0x2000 } }, 1 } }, whole, NULL },
	{ "cursor_map cursor=4 frame=1 prop=rw:wb+user", {
		UNKNOWN_G("cursor", 1),
		UNKNOWN_G("frame", 2 | 4), /* filling memory makes handles */
		OTHER("read_only_cursor", "cursor", 2),
		OTHER2("not_untyped", "frame", 7),
		OTHER("cursor_at_end", "cursor", 3),
		{ "out_of_frames", FULL, { { 0 } }, 4 },
		{ "already_mapped", 0, { { "cursor", SET, 1 } }, 1 | 4 },
		NO_CACHE }, whole, NULL },
	{ "cursor_map_iomem cursor=4 iomem=1 prop=rw:uc+user len=0x2000 offset=0x1000", {
		UNKNOWN_G("cursor", 1),
		UNKNOWN_G("iomem", 2),
		OTHER("read_only_cursor", "cursor", 2),
		{ "len_unaligned", 0, { { "len", OR, 0x10 } }, 8 },
		{ "offset_unaligned", 0, { { "offset", OR, 0x10 } }, 16 },
		{ "arithmetic_overflow", 0, { { "len", SET, UINT64_C(0xfffffffffffff000) } }, 8 | 16 },
		OTHER("cursor_at_end", "cursor", 3),
		{ "out_of_frames", FULL, { { 0 } }, 4 },
		{ "already_mapped", 0, { { "cursor", SET, 1 } }, 1 | 4 },
		NO_CACHE,
		{ "paddr_unencodable", 0, { { "iomem", SET, 2 }, { "offset", SET, 0 } }, 2 | 16 } }, whole, NULL },
	{ "cursor_unmap cursor=1 len=0x1000", {
		UNKNOWN_G("cursor", 1),
		OTHER("read_only_cursor", "cursor", 2),
		UNALIGNED("len_unaligned", "len"),
		{ "len_exceeds_range", 0, { { "len", ADD, 0x4000 } }, 0 },
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } }, whole, NULL },
	{ "cursor_protect_next cursor=1 len=0x1000 set=x clear=w", {
		UNKNOWN_G("cursor", 1),
		OTHER("read_only_cursor", "cursor", 2),
		UNALIGNED("len_unaligned", "len"),
		{ "len_exceeds_range", 0, { { "len", ADD, 0x4000 } }, 0 },
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 } }, whole, NULL },

	/* ---- flushes and CPUs ---- */
	{ "flush_issue cursor=1 start=0x1000 end=0x2000", {
		UNKNOWN_G("cursor", 1),
		OTHER("read_only_cursor", "cursor", 2),
		UNALIGNED("flush_range_invalid", "start"),
		UNALIGNED("flush_range_invalid", "end"),
		{ "flush_range_invalid", 0, { { "start", ADD, 0x1000 } }, 0 } }, whole, NULL },
	{ "flush_dispatch cursor=1", {
		UNKNOWN_G("cursor", 1),
		OTHER("read_only_cursor", "cursor", 2) }, whole, NULL },
	{ "flush_sync cursor=1", {
		UNKNOWN_G("cursor", 1),
		OTHER("read_only_cursor", "cursor", 2),
		{ "ipi_pending", PENDING, { { 0 } }, 0 } }, whole, NULL },
	{ "ipi_deliver cpu=1", { { "unknown_cpu", 0, { { "cpu", ADD, 2 } }, 0 } }, whole, NULL },
	{ "tlb_fill cpu=0 va=0x1000", {
		{ "unknown_cpu", 0, { { "cpu", ADD, 3 } }, 0 },
		{ "PageFault", 0, { { "va", ADD, 0x1000 } }, 0 } }, whole, NULL },
	{ "access cpu=0 va=0x1000 access=w", {
		{ "unknown_cpu", 0, { { "cpu", ADD, 3 } }, 0 },
		{ "PageFault", 0, { { "va", ADD, 0x3ff000 } }, 0 } }, whole, NULL },
	{ "rcu", { { 0 } }, whole, NULL },

	/* ---- readers and writers ---- */
#define USER_HANDLE(op)                                                                                                \
	{ op, {                                                                                                        \
		UNKNOWN_G("vm_space", 1),                                                                              \
		OTHER("NotActive", "vm_space", 2),                                                                     \
		{ "UserRange", 0, { { "len", SET, UINT64_C(0x7fffffffe001) } }, 2 },                                   \
		{ "UserRange", 0, { { "len", SET, UINT64_MAX } }, 2 } }, whole, NULL }
	USER_HANDLE("reader_new vm_space=1 va=0x1000 len=0x10"),
	USER_HANDLE("writer_new vm_space=1 va=0x1000 len=0x10"),
	USER_HANDLE("reader_writer_new vm_space=1 va=0x1000 len=0x10"),
#define KERNEL_HANDLE(op)                                                                                              \
	{ op, {                                                                                                        \
		{ "kernel_range_invalid", 0, { { "va", SET, 0x1000 } }, 0 },                                           \
		{ "kernel_range_invalid", 0, { { "len", SET, UINT64_MAX } }, 0 } }, whole, NULL }
	KERNEL_HANDLE("reader_new_kernel va=" LINEAR "001000 len=0x10"),
	KERNEL_HANDLE("writer_new_kernel va=" LINEAR "001000 len=0x10"),
	ONE("reader_drop reader=1", "reader"),
	ONE("writer_drop writer=1", "writer"),
	ONE("reader_clone reader=1", "reader"),
	ONE("writer_clone writer=1", "writer"),
	ONE("reader_query reader=1", "reader"),
	ONE("writer_query writer=1", "writer"),
	ONE("reader_limit reader=1 max=0x10", "reader"),
	ONE("writer_limit writer=1 max=0x10", "writer"),
	{ "reader_to_fallible reader=2", {
		UNKNOWN_G("reader", 1),
		OTHER("fallible_handle", "reader", 1) }, whole, NULL },
	{ "writer_to_fallible writer=2", {
		UNKNOWN_G("writer", 1),
		OTHER("fallible_handle", "writer", 1) }, whole, NULL },
	{ "reader_skip reader=1 len=0x1000", {
		UNKNOWN("reader"),
		{ "skip_out_of_range", 0, { { "len", ADD, 1 } }, 0 } }, whole, NULL },
	{ "writer_skip writer=1 len=0x1000", {
		UNKNOWN("writer"),
		{ "skip_out_of_range", 0, { { "len", ADD, 1 } }, 0 } }, whole, NULL },
	{ "reader_read_val reader=1 width=4", {
		UNKNOWN_G("reader", 1),
		BAD_WIDTH,
		OTHER("InvalidArgs", "reader", 6),
		OTHER("PageFault", "reader", 3),
		OTHER("kernel_page_fault", "reader", 4) }, whole, NULL },
	{ "writer_write_val writer=1 width=4 value=0x1", {
		UNKNOWN_G("writer", 1),
		BAD_WIDTH,
		OTHER("InvalidArgs", "writer", 8),
		OTHER("not_data_memory", "writer", 5),
		OTHER("PageFault", "writer", 3),
		OTHER("kernel_page_fault", "writer", 6) }, whole, NULL },
	{ "reader_read_once reader=2 width=4", {
		UNKNOWN_G("reader", 1),
		OTHER("fallible_handle", "reader", 6),
		BAD_WIDTH,
		OTHER("InvalidArgs", "reader", 5),
		OTHER("misaligned", "reader", 7),
		OTHER("kernel_page_fault", "reader", 4) }, whole, NULL },
	{ "writer_write_once writer=2 width=4 value=0x1", {
		UNKNOWN_G("writer", 1),
		OTHER("fallible_handle", "writer", 8),
		BAD_WIDTH,
		OTHER("InvalidArgs", "writer", 7),
		OTHER("misaligned", "writer", 9),
		OTHER("not_data_memory", "writer", 4),
		OTHER("kernel_page_fault", "writer", 6) }, whole, NULL },
	{ "reader_atomic_load reader=1", {
		UNKNOWN_G("reader", 1),
		OTHER("infallible_handle", "reader", 2),
		OTHER("InvalidArgs", "reader", 6),
		OTHER("misaligned", "reader", 8),
		OTHER("PageFault", "reader", 3) }, whole, NULL },
	{ "writer_atomic_compare_exchange writer=1 reader=1 old=0x0 new=0x1", {
		UNKNOWN_G("writer", 1),
		UNKNOWN_G("reader", 2),
		OTHER("infallible_handle", "writer", 2),
		OTHER2("infallible_handle", "reader", 2),
		OTHER("InvalidArgs", "writer", 8),
		OTHER2("InvalidArgs", "reader", 6),
		OTHER2("cursor_mismatch", "reader", 3),
		OTHER("cursor_mismatch", "writer", 10),
		{ "misaligned", 0, { { "writer", SET, 10 }, { "reader", SET, 8 } }, 1 | 2 },
		{ "not_data_memory", 0, { { "writer", SET, 5 }, { "reader", SET, 12 } }, 1 | 2 },
		{ "PageFault", 0, { { "writer", SET, 3 }, { "reader", SET, 13 } }, 1 | 2 } }, whole, NULL },
	{ "reader_collect reader=1", {
		UNKNOWN_G("reader", 1),
		OTHER("too_long", "reader", 9),
		OTHER("PageFault", "reader", 3),
		OTHER("kernel_page_fault", "reader", 4) }, whole, NULL },
	{ "reader_read_bytes reader=1 len=0x10", {
		UNKNOWN_G("reader", 1),
		{ "too_long", 0, { { "reader", SET, 9 }, { "len", SET, 0x10001 } }, 1 },
		OTHER("kernel_page_fault", "reader", 4) }, whole, NULL },
	{ "writer_write_bytes writer=1 bytes=0102", {
		UNKNOWN_G("writer", 1),
		OTHER("not_data_memory", "writer", 5),
		OTHER("kernel_page_fault", "writer", 6) }, whole, NULL },
	{ "writer_fill_zeros writer=1 len=0x10", {
		UNKNOWN_G("writer", 1),
		{ "too_long", 0, { { "writer", SET, 12 }, { "len", SET, 0x1000001 } }, 1 },
		OTHER("not_data_memory", "writer", 5),
		OTHER("kernel_page_fault", "writer", 6) }, whole, NULL },
	{ "writer_fill writer=2 width=4 value=0x1", {
		UNKNOWN_G("writer", 1),
		OTHER("fallible_handle", "writer", 12),
		BAD_WIDTH,
		OTHER("too_long", "writer", 11),
		OTHER("misaligned", "writer", 9),
		OTHER("not_data_memory", "writer", 4),
		OTHER("kernel_page_fault", "writer", 6) }, whole, NULL },
	/* of two that stop at once the reader decides */
#define COPY_INFALLIBLE(op)                                                                                            \
	{ op, {                                                                                                        \
		UNKNOWN_G("reader", 1),                                                                                \
		UNKNOWN_G("writer", 2),                                                                                \
		OTHER("fallible_handle", "reader", 3),                                                                 \
		OTHER2("fallible_handle", "writer", 3),                                                                \
		{ "too_long", 0, { { "reader", SET, 10 }, { "writer", SET, 11 } }, 1 | 2 },                            \
		OTHER("kernel_page_fault", "reader", 4),                                                               \
		OTHER2("not_data_memory", "writer", 4),                                                                \
		OTHER2("kernel_page_fault", "writer", 6) }, whole, NULL }
	COPY_INFALLIBLE("io_read reader=2 writer=2"),
	COPY_INFALLIBLE("io_write reader=2 writer=2"),
	{ "io_copy_fallible reader=1 writer=2", {
		UNKNOWN_G("reader", 1),
		UNKNOWN_G("writer", 2),
		OTHER("infallible_handle", "reader", 4),
		{ "too_long", 0, { { "reader", SET, 11 }, { "writer", SET, 11 } }, 1 | 2 },
		OTHER2("not_data_memory", "writer", 4),
		OTHER2("kernel_page_fault", "writer", 6) }, whole, NULL },
	{ "io_copy_fallible reader=1 writer=1", {
		{ "kernel_page_fault", 0, { { "reader", SET, 4 } }, 0 } }, whole, NULL },

	/* ---- I/O memory ---- */
	/* mapped from 0xa00000 in the vmalloc range on: pages of 2 MiB, then of 4 KiB, for which there is no table yet */
	{ "iomem_acquire start=0x10000000 end=0x105fc000", {
		{ "IoRange", 0, { { "end", SET, 0x1000 } }, 1 },
		{ "IoRange", 0, { { "start", SET, 0 }, { "end", SET, 0x1000 } }, 1 },
		{ "IoRange", 0, { { "start", SET, 0x3fffff } }, 0 },
		{ "va_exhausted", 0, { { "end", ADD, 0x10000000 } }, 1 },
		{ "level_above_guard", 0, { { "end", SET, 0x10200000 } }, 1 | 2 },
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 },
		{ "already_mapped", REMAINS, { { 0 } }, 0 },
		{ "out_of_frames", FULL, { { 0 } }, 2 } }, NULL, NULL },
	{ "iomem_acquire start=0xfec03000 end=0xfec03001", {
		{ "IoRange", 0, { { "start", ADD, UINT64_C(0) - 1 } }, 0 } }, whole, NULL }, /* taken */
	{ "iomem_slice iomem=1 start=0x10 end=0x20", {
		UNKNOWN("iomem"),
		{ "slice_out_of_bound", 0, { { "start", ADD, 0x10 } }, 0 },
		{ "slice_out_of_bound", 0, { { "end", ADD, 0x2fe1 } }, 0 } }, whole, NULL },
	ONE("iomem_clone iomem=1", "iomem"),
	ONE("iomem_drop iomem=1", "iomem"),
#define IOMEM_BYTES(op, count)                                                                                         \
	{ op, {                                                                                                        \
		UNKNOWN("iomem"),                                                                                      \
		{ "too_long", 0, { { count, SET, 0x10001 } }, 0 },                                                     \
		{ "InvalidArgs", 0, { { "offset", SET, 0x2fff } }, 0 } }, whole, NULL }
	IOMEM_BYTES("iomem_read iomem=1 offset=0x0 len=0x8", "len"),
	IOMEM_BYTES("iomem_write iomem=1 offset=0x0 bytes=0102", "bytes"),
#define IOMEM_ONCE(op)                                                                                                 \
	{ op, {                                                                                                        \
		UNKNOWN("iomem"),                                                                                      \
		BAD_WIDTH,                                                                                             \
		{ "InvalidArgs", 0, { { "offset", SET, 0x3000 } }, 1 },                                                \
		{ "InvalidArgs", 0, { { "offset", SET, 0x2 } }, 1 } }, whole, NULL }
	IOMEM_ONCE("iomem_read_once iomem=1 offset=0x8 width=4"),
	IOMEM_ONCE("iomem_write_once iomem=1 offset=0x8 width=4 value=0x1"),

	/* ---- what only another architecture refuses: a large page without r, w and x ---- */
	{ "kvirt_map_untracked_frames area_size=0x404000 map_offset=0x8000 paddr_start=0x40000000 paddr_end=0x40201000 prop=rw:wb", {
		NO_PROP("prop", WB) }, NULL, "riscv64_sv48" },
	{ "kvirt_map_untracked_frames_at start=0xffffc00000bf8000 area_size=0x404000 map_offset=0x8000 paddr_start=0x40000000 "
	  "paddr_end=0x40201000 prop=rw:wb", {
		NO_PROP("prop", WB) }, NULL, "riscv64_sv48" },
	{ "kvirt_map_untracked_into area=5 va=" FREE " paddr_start=0x40000000 paddr_end=0x40200000 prop=rw:wb", {
		NO_PROP("prop", WB) }, large, "riscv64_sv48" },
	{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END " set=x clear=w", {
		{ "prop_unencodable", 0, { { "set", SET, 0 }, { "clear", SET, 7 } }, 0 } }, NULL, "riscv64_sv48" },
	{ "boot_map va=" BOOT_FREE " paddr_start=0x40000000 paddr_end=0x40200000 prop=rw:wb", {
		NO_PROP("prop", WB) }, NULL, "riscv64_sv48" },
	{ "boot_protect_range start=" BOOT_LEAVES " end=" BOOT_LEAVES_END " set=x clear=w", {
		{ "prop_unencodable", 0, { { "set", SET, 0 }, { "clear", SET, 7 } }, 0 } }, NULL, "riscv64_sv48" },
};
/* clang-format on */

/* Pairs in which the later reason of the list comes first. */
static const struct {
	const char *op;
	const char *outcome[2];
	const char *winner;
} exceptions[] = {
	/* a range of exactly 2 MiB makes opening go down to a table of level 1, which needs a frame at once */
	{ "kvirt_map_untracked_frames", { "level_above_guard", "out_of_frames" }, "out_of_frames" },
	{ "kvirt_map_untracked_frames_at", { "level_above_guard", "out_of_frames" }, "out_of_frames" },
};

/* ---- Making a case ---------------------------------------------------------------------------- */

struct attempt {
	const struct op_case *c;
	struct kvms_op op;
	uint64_t list[0x10008 / 8]; /* one byte more than an operation takes */
	unsigned state;
};

static void
attempt_start(struct attempt *a, const struct op_case *c)
{
	a->c = c;
	a->op = kit_op("%s", c->op);
	a->state = 0;
	memset(a->list, 0, sizeof a->list);
	const struct kvms_row *row = kvms_op_row(a->op.code);
	for (unsigned i = 0; i < row->args_count; i++)
		if (kvms_type_is_list(row->args[i].type))
			memcpy(a->list, a->op.list,
			       (size_t)(row->args[i].type == KVMS_BYTES ? a->op.arg[i] : 8 * a->op.arg[i]));
	a->op.list = a->list;
}

static void
attempt_change(struct attempt *a, const struct reason *reason)
{
	const struct kvms_row *row = kvms_op_row(a->op.code);

	a->state |= reason->state;
	for (size_t i = 0; i < CHANGES && reason->changes[i].arg != NULL; i++) {
		const struct change *c = &reason->changes[i];
		int index = kvms_arg_index(row, c->arg);

		cr_assert(index >= 0, "%s has no %s", row->name, c->arg);
		switch (c->how) {
		case ADD:
			a->op.arg[index] += c->value;
			break;
		case OR:
			a->op.arg[index] |= c->value;
			break;
		case SET:
			a->op.arg[index] = c->value;
			break;
		case APPEND:
			cr_assert_lt(a->op.arg[index], KIT_COUNT(a->list));
			a->list[a->op.arg[index]++] = c->value;
			break;
		}
	}
}

/* The frame number an op is about, or none. */
static uint64_t
frame_of(const struct kvms *s, const struct kvms_op *op)
{
	const struct kvms_row *row = kvms_op_row(op->code);
	int paddr = kvms_arg_index(row, "paddr");
	uint64_t at = paddr >= 0 ? op->arg[paddr] : 0xa000;

	return at < s->max_paddr ? at / PAGE : BITMAP_NONE;
}

static void
state_make(struct kvms *s, const struct attempt *a)
{
	int area = kvms_arg_index(kvms_op_row(a->op.code), "area");
	uint64_t frame = frame_of(s, &a->op);

	if ((a->state & TAKEN) != 0) {
		kit_ok(s, "frame_from_unused paddr=0x9000");
		kit_ok(s, "frame_from_unused paddr=0xb000");
	}
	if ((a->state & SATURATED) != 0) {
		kit_ok(s, "frame_from_in_use paddr=0x3000");
		kit_ok(s, "frame_from_in_use paddr=0x5000");
		kit_ok(s, "frame_from_in_use paddr=0x5000");
		kit_want(s, "abort refcount_saturated", "frame_from_in_use paddr=0x3000");
	}
	if ((a->state & REMAINS) != 0) {
		uint64_t id = kit_get(s, "area", "kvirt_map_untracked_frames_at start=0xffffc00000c00000 area_size=0x1000 "
						 "paddr_start=0x40000000 paddr_end=0x40001000 prop=rw:wb");
		kit_ok(s, "kvirt_drop area=%" PRIu64, id);
	}
	if ((a->state & MAPPED) != 0) {
		kit_ok(s, "kvirt_map_untracked_into area=3 va=" A3 " paddr_start=0x0 paddr_end=0x1000 prop=r:wb");
		kit_ok(s, "boot_map va=" BOOT_FREE " paddr_start=0x0 paddr_end=0x1000 prop=r:wb");
	}
	if ((a->state & FULL) != 0)
		while (strncmp(kit_step(s, "frame_alloc"), "ok", 2) == 0)
			;
	if ((a->state & THIRD) != 0)
		kit_ok(s, "cpu_set cpu=2");
	if ((a->state & PENDING) != 0) {
		kit_ok(s, "flush_issue cursor=1 kind=all");
		kit_ok(s, "flush_dispatch cursor=1");
	}
	if ((a->state & TAGS) != 0)
		s->live.next_id[KVMS_ID_LIST_TAG] = INT64_MAX;
	if ((a->state & UNIQUE) != 0 && frame != BITMAP_NONE) {
		if (slot_is_default(&s->slot[frame]))
			slot_claim(s, frame, USAGE_FRAME, KIND_UNTYPED, 0, 1);
		slot_mut(s, frame)->rc1 = KVMS_RC_UNIQUE + 1;
	}
	if ((a->state & REFERRED) != 0 && area >= 0 && AREA(s, a->op.arg[area]) != NULL)
		((struct area *)record_mut(s, KVMS_ID_AREA, a->op.arg[area]))->refs = 1;
}

static const char *
op_text(const struct kvms_op *op)
{
	static struct kvt_buffer b;

	kvt_buffer_reset(&b);
	kvt_print_op(&b, kvms_op_row(op->code), op);
	return kvt_buffer_text(&b);
}

/* ---- The table of what was reached --------------------------------------------------------------- */

static struct kit_table reached;

/* Run an attempt.  Gives the outcome's name; anything but ok must have left no trace. */
static unsigned
attempt_run(const struct attempt *a)
{
	static struct kvms_outcome out, dry;
	const char *base = a->c->op;
	struct kvms *s = base_new(a->c->arch != NULL ? a->c->arch : "x86_64");

	for (size_t i = 0; a->c->before != NULL && a->c->before[i] != NULL; i++)
		kit_ok(s, "%s", a->c->before[i]);
	state_make(s, a);
	uint64_t visible = kit_visible(s), digest = kvms_digest(s), steps = kvms_steps(s);

	cr_assert_eq(kvms_dry_run(s, &a->op, &dry), KVMS_DONE);
	cr_assert_eq(kit_visible(s), visible, "a dry run of %s left a trace", op_text(&a->op));
	enum kvms_status status = kvms_apply(s, &a->op, &out);
	cr_assert_eq(status, KVMS_DONE, "%s (from %s): status %d %s", op_text(&a->op), base, status,
		     status == KVMS_BROKEN ? kit_fired(kvms_broken(s)) : "");
	cr_assert_eq(kvms_steps(s), steps + 1);
	cr_assert(dry.name == out.name && dry.present == out.present && memcmp(dry.field, out.field, sizeof dry.field) == 0,
		  "%s: a dry run foretold %s, not %s", op_text(&a->op), kit_outcome_symbol(dry.name), kit_outcome_symbol(out.name));
	if (out.name != O_ok) {
		cr_assert_eq(kvms_digest(s), digest, "%s -> %s changed the digest", op_text(&a->op), kit_outcome_symbol(out.name));
		cr_assert_eq(kit_visible(s), visible, "%s -> %s left a trace", op_text(&a->op), kit_outcome_symbol(out.name));
		cr_assert_eq(out.present, 0);
	}
	reached.count[a->op.code][out.name]++;
	kvms_free(&s);
	return out.name;
}

static size_t
reasons_of(const struct op_case *c)
{
	size_t count = 0;

	while (count < REASONS && c->reasons[count].outcome != NULL)
		count++;
	return count;
}

Test(outcomes, of_every_operation_are_all_reached_and_no_others)
{
	for (size_t i = 0; i < KIT_COUNT(op_cases); i++) {
		const struct op_case *c = &op_cases[i];
		struct attempt a;

		attempt_start(&a, c);
		unsigned name = attempt_run(&a);
		cr_expect_eq(name, O_ok, "%s -> %s", c->op, kit_outcome_symbol(name));
		for (size_t k = 0; k < reasons_of(c); k++) {
			attempt_start(&a, c);
			attempt_change(&a, &c->reasons[k]);
			name = attempt_run(&a);
			cr_expect_str_eq(kit_outcome_symbol(name), c->reasons[k].outcome, "%s -> %s, not %s", op_text(&a.op),
					 kit_outcome_symbol(name), c->reasons[k].outcome);
		}
	}
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);

		for (unsigned name = 0; row != NULL && name < O_COUNT; name++) {
			uint64_t count = reached.count[code][name];

			cr_expect(count == 0 || kit_listed(row, name), "%s gave %s, which its row does not list",
				  row->name, kit_outcome_symbol(name));
			cr_expect(count > 0 || !kit_listed(row, name), "%s: %s is listed and never reached",
				  row->name, kit_outcome_symbol(name));
		}
	}
	cr_expect_eq(kit_table_print(&reached), 0);
}

static const char *
winner_of(const char *op, const char *first, const char *second)
{
	for (size_t i = 0; i < KIT_COUNT(exceptions); i++)
		if (strcmp(exceptions[i].op, op) == 0 && strcmp(exceptions[i].outcome[0], first) == 0 &&
		    strcmp(exceptions[i].outcome[1], second) == 0)
			return exceptions[i].winner;
	return first;
}

Test(outcomes, of_two_reasons_to_refuse_the_earlier_check_wins, .timeout = 300)
{
	unsigned pairs = 0;

	for (size_t i = 0; i < KIT_COUNT(op_cases); i++) {
		const struct op_case *c = &op_cases[i];

		for (size_t k = 0; k < reasons_of(c); k++) {
			for (size_t m = k + 1; m < reasons_of(c); m++) {
				const struct reason *first = &c->reasons[k], *second = &c->reasons[m];
				struct attempt a;

				if ((first->groups & second->groups) != 0)
					continue;
				attempt_start(&a, c);
				attempt_change(&a, first);
				attempt_change(&a, second);
				unsigned name = attempt_run(&a);
				const char *want = winner_of(kvms_op_row(a.op.code)->name, first->outcome, second->outcome);

				cr_expect_str_eq(kit_outcome_symbol(name), want, "%s (%s and %s): %s, not %s", op_text(&a.op),
						 first->outcome, second->outcome, kit_outcome_symbol(name), want);
				pairs++;
			}
		}
	}
	fprintf(stderr, "%u pairs\n", pairs);
	cr_assert_gt(pairs, 800);
}

/* ---- What pairs do not show ------------------------------------------------------------------------ */

Test(outcomes, of_a_segment_are_judged_frame_by_frame_upwards)
{
	struct kvms *s = base_new("x86_64");

	kit_ok(s, "frame_from_unused paddr=0xa000");
	slot_claim(s, 0xb, USAGE_FRAME, KIND_UNTYPED, 0, KVMS_RC_UNIQUE);
	kit_want(s, "err InUse", "segment_from_unused start=0x9000 end=0xd000");
	kit_want(s, "err Unique", "segment_from_unused start=0xb000 end=0xd000");
	slot_claim(s, 0x9, USAGE_FRAME, KIND_UNTYPED, 0, KVMS_RC_UNIQUE);
	kit_want(s, "err Unique", "segment_from_unused start=0x9000 end=0xd000");
	kit_want(s, "err InUse", "segment_from_unused start=0x1f000 end=0x22000"); /* MMIO in the middle */
	kvms_free(&s);
}

Test(outcomes, of_ids_are_judged_in_the_order_of_arguments_and_list_elements)
{
	struct kvms *s = base_new("x86_64");

	kit_want(s, "pre unknown_area", "kvirt_map_frames_into area=77 va=0x1 frames=[88,88] prop=rw:wp");
	kit_want(s, "pre unknown_frame", "kvirt_map_frames_into area=3 va=0x1 frames=[88,88] prop=rw:wp");
	kit_want(s, "pre unknown_frame", "kvirt_map_frames area_size=0x1 frames=[1,1,0] prop=rw:wp");
	kit_want(s, "pre unknown_frame", "kvirt_map_frames area_size=0x1 frames=[18446744073709551615] prop=rw:wp");
	kit_want(s, "pre duplicate_frame", "kvirt_map_frames area_size=0x1 frames=[1,1] prop=rw:wp");
	/* two handles of one frame are no duplicates */
	kit_want(s, "ok area=5 start=0xffffc000003fe000 end=0xffffc00000400000 nodes_allocated=1",
		 "kvirt_map_frames area_size=0x2000 frames=[3,4] prop=rw:wb");
	kit_want(s, "pre unknown_frame", "frame_clone frame=3");
	kit_want(s, "pre unknown_frame", "frame_drop frame=0");
	kit_want(s, "pre unknown_segment", "segment_drop segment=0");
	kit_want(s, "pre unknown_area", "kvirt_range area=0");
	kvms_free(&s);
}

/* Long lists are judged another way than short ones: see that both find the duplicate wherever it is. */
Test(outcomes, of_duplicates_do_not_depend_on_the_length_of_the_list)
{
	struct kvms *s = kit_new("max_paddr=0x400000");
	uint64_t ids[80];

	for (unsigned i = 1; i <= 80; i++)
		kit_ok(s, "frame_from_unused paddr=0x%x", i * 0x1000);
	for (unsigned count = 1; count <= 80; count++) {
		struct kvms_outcome out = { .name = O_ok };
		struct kvms_op op = kit_op("kvirt_map_frames area_size=0x100000 frames=[] prop=rw:wb");

		op.arg[2] = count;
		op.list = ids;
		for (unsigned i = 0; i < count; i++)
			ids[i] = count - i;
		cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_DONE);
		cr_assert_eq(out.name, O_ok, "%u ids: %s", count, kit_outcome_symbol(out.name));
		for (unsigned i = 0; i + 1 < count; i++) {
			uint64_t was = ids[count - 1];

			ids[count - 1] = ids[i];
			cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_DONE);
			cr_assert_eq(out.name, O_duplicate_frame, "%u ids, the last as the %uth", count, i);
			ids[count - 1] = was;
		}
		kvms_outcome_free(&out);
	}
	kvms_free(&s);
}

/* What is only found to be impossible on the way is found where the effect has got to. */
Test(outcomes, that_come_up_on_the_way_undo_the_way)
{
	struct kvms *s = base_new("x86_64");
	uint64_t visible;

	/* the third frame meets a leaf */
	kit_ok(s, "kvirt_map_untracked_into area=3 va=0xffffc00000ffe000 paddr_start=0x0 paddr_end=0x1000 prop=r:wb");
	visible = kit_visible(s);
	kit_want(s, "panic already_mapped", "kvirt_map_frames_into area=3 va=" A3 " frames=[1,2,3,5] prop=rw:wb");
	cr_assert_eq(kit_visible(s), visible);
	kit_want(s, "panic already_mapped",
		 "kvirt_map_untracked_into area=3 va=" A3 " paddr_start=0x40000000 paddr_end=0x40004000 prop=rw:wb");
	cr_assert_eq(kit_visible(s), visible);
	/* the last page of a long range cannot be encoded */
	kit_want(s, "panic paddr_unencodable",
		 "boot_map va=" BOOT_FREE " paddr_start=0xffffffffff000 paddr_end=0x10000000001000 prop=rw:wb");
	cr_assert_eq(kit_visible(s), visible);
	/* hundreds of leaves that lead nowhere */
	kit_want(s, "panic out_of_frames",
		 "boot_map va=" BOOT_FREE " paddr_start=0x1000 paddr_end=0x80001000 prop=rw:wb");
	cr_assert_eq(kit_visible(s), visible);
	kit_sound(s);
	kvms_free(&s);
}

/* Arguments outside their type are no outcome and no step. */
Test(outcomes, are_not_given_for_an_argument_outside_its_type)
{
	static const struct {
		const char *op;
		const char *arg;
		uint64_t value;
	} cases[] = {
		{ "frame_alloc", "zeroed", 2 },
		{ "frame_alloc", "kind", 0 },
		{ "frame_alloc", "kind", 4 },
		{ "frame_from_unused paddr=0x9000", "kind", UINT64_MAX },
		{ "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb", "prop", 0x50000 },
		{ "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb", "prop", 0x40020 },
		{ "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb", "prop", 0x40040 },
		{ "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb", "prop", 0x40400 },
		{ "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb", "prop", UINT64_C(0x100040003) },
		{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END, "set", 0x20 },
		{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END, "clear", 0x80 },
		{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END, "cache", 6 },
		{ "boot_protect_range start=" BOOT_LEAVES " end=" BOOT_LEAVES_END, "global", 3 },
	};
	struct kvms *s = base_new("x86_64");
	struct kvms_outcome out = { .name = O_ok };

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct kvms_op op = kit_op("%s", cases[i].op);
		uint64_t visible = kit_visible(s), steps = kvms_steps(s);

		op.arg[kvms_arg_index(kvms_op_row(op.code), cases[i].arg)] = cases[i].value;
		cr_assert_eq(kvms_apply(s, &op, &out), KVMS_INVALID, "%s with %s %" PRIx64, cases[i].op, cases[i].arg,
			     cases[i].value);
		cr_assert_eq(kvms_dry_run(s, &op, &out), KVMS_INVALID);
		cr_assert_eq(kit_visible(s), visible);
		cr_assert_eq(kvms_steps(s), steps);
	}
	kvms_outcome_free(&out);
	kvms_free(&s);
}

/* A type with words takes these and nothing else: one that is added at the wrong place of the list would take anything. */
Test(outcomes, arguments_of_a_type_with_words_are_words)
{
	for (unsigned type = 0; type < KVMS_TYPES; type++) {
		uint64_t value = 0;

		for (unsigned i = 0; kvms_word_at(type, i, &value) != NULL; i++)
			cr_expect(value_in_type(type, value), "type %u: %" PRIu64 " is no value", type, value);
		if (kvms_word_at(type, 0, &value) != NULL)
			for (value = 0; value < 1000; value++)
				cr_expect_eq(value_in_type(type, value), kvms_word(type, value) != NULL,
					     "type %u: %" PRIu64, type, value);
	}
}
