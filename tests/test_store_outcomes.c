/*
 * Operation by outcome: every outcome in the set of every operation is
 * reached, none beside them, and one that is not ok leaves no trace.  Of two
 * reasons to refuse, the one that is named first in the order of checks wins:
 * tried for every pair of reasons that can be there at once.
 */
#include "tests/store_kit.h"

#include <limits.h>
#include <stdio.h>

#include "trace/text.h"

/* ---- The store ---------------------------------------------------------------------------- */

#define A1 "0xffffc00000000000" /* area 1: 4 pages, a tracked leaf on the second (0x5000) */
#define A2 "0xffffc00000400000" /* area 2: two pages of 2 MiB at 0x40000000 */
#define A2_END "0xffffc00000800000"
#define A3 "0xffffc00000ffc000"   /* area 3: 4 pages, nothing mapped, no table of level 1; area 4 is of size 0 */
#define FREE "0xffffc00000a00000" /* free addresses without a table of level 1 */
#define BOOT_FREE "0xffff900000000000"
#define BOOT_LEAVES "0xffffa00000000000" /* two pages of 2 MiB */
#define BOOT_LEAVES_END "0xffffa00000400000"

/* Frames 1 to 4 are handles of 0x1000, 0x2000, 0x3000, 0x3000; 5 of 0x4000.  rc_max is 3. */
static struct kvms *
base_new(void)
{
	struct kvms *s = kit_new("max_paddr=0x400000 rc_max=3 reserve=[0x10000..0x11000] mmio=[0x20000..0x21000] "
				 "vmalloc=0xffffc00000000000..0xffffc00001000000");

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
	TAKEN = 1,     /* 0x9000 and 0xb000 are frames */
	FULL = 2,      /* no frame is unused */
	SATURATED = 4, /* 0x3000 and 0x5000 have as many handles as they may */
	REMAINS = 8,   /* an area of one page has lived at the free addresses where pages of 2 MiB would go */
	MAPPED = 16,   /* the first page of area 3 and of the free boot addresses are mapped */
	UNIQUE = 32,   /* the slot is unique: by hand, this build has no op for it */
	REFERRED = 64, /* the area has references: by hand likewise */
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
	const char *op;                 /* ok in the store above */
	struct reason reasons[REASONS]; /* in the order of the checks */
};

#define UNENCODABLE (UINT64_C(1) << 52) - 0x40000000
#define CACHE_WP UINT64_C(0x20003)

/* clang-format off */
#define UNALIGNED(outcome, arg) { outcome, 0, { { arg, OR, 0x10 } }, 0 }
#define UNKNOWN(kind) { "unknown_" kind, 0, { { kind, ADD, 90 } }, 0 }
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
		{ "InUse", TAKEN, { { 0 } }, 1 } } },
	{ "frame_from_unused paddr=0x9000 kind=link meta=0xffffffffffffffff", {
		{ "InUse", 0, { { "paddr", ADD, 0x17000 } }, 0 } } }, /* MMIO */
	{ "frame_from_in_use paddr=0x3000", {
		UNALIGNED("NotAligned", "paddr"),
		{ "OutOfBound", 0, { { "paddr", ADD, 0x400000 } }, 0 },
		{ "Unused", 0, { { "paddr", ADD, 0x6000 } }, 1 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "NotDataFrame", 0, { { "paddr", ADD, 0xd000 } }, 0 },
		{ "refcount_saturated", SATURATED, { { 0 } }, 1 } } },
	{ "frame_clone frame=3", {
		UNKNOWN("frame"),
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } } },
	{ "frame_drop frame=1", { UNKNOWN("frame") } },
	{ "frame_alloc", { { "NoMemory", FULL, { { 0 } }, 0 } } },
	{ "segment_from_unused start=0x9000 end=0xc000", {
		UNALIGNED("NotAligned", "start"),
		UNALIGNED("NotAligned", "end"),
		{ "OutOfBound", 0, { { "end", ADD, 0x400000 } }, 0 },
		{ "segment_empty", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "Unique", UNIQUE, { { 0 } }, 1 },
		{ "InUse", TAKEN, { { 0 } }, 1 } } },
	{ "segment_drop segment=1", { UNKNOWN("segment") } },

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
		{ "frames_exceed_area", 0, { { "frames", APPEND, 3 }, { "frames", APPEND, 5 } }, 0 } } },
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
		{ "frames_exceed_area", 0, { { "frames", APPEND, 3 }, { "frames", APPEND, 5 } }, 0 } } },
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
		NO_FRAMES } },
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
		NO_FRAMES } },
	{ "kvirt_reserve area_size=0x1000", {
		UNALIGNED("area_size_unaligned", "area_size"),
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 } } },
	{ "kvirt_reserve_at start=" FREE " area_size=0x1000", {
		UNALIGNED("start_unaligned", "start"),
		UNALIGNED("area_size_unaligned", "area_size"),
		{ "RangeAllocError", 0, { { "area_size", ADD, 0x2000000 } }, 0 } } },
	{ "kvirt_reserve_at start=" FREE " area_size=0x1000", {
		{ "RangeAllocError", 0, { { "area_size", SET, 0 } }, 0 },
		{ "RangeAllocError", 0, { { "area_size", SET, UINT64_C(0xfffffffffffff000) } }, 0 },
		{ "RangeAllocError", 0, { { "start", SET, 0 } }, 0 },
		{ "RangeAllocError", 0, { { "start", SET, UINT64_C(0xfffffffffffff000) } }, 0 } } },
	{ "kvirt_unreserve area=3", {
		UNKNOWN("area"),
		IN_USE,
		{ "area_mapped", 0, { { "area", ADD, UINT64_C(0) - 2 } }, 0 } } },
	{ "kvirt_query area=1 va=0xffffc00000001008", {
		UNKNOWN("area"),
		{ "query_out_of_range", 0, { { "va", ADD, 0x10000000 } }, 0 },
		{ "out_of_frames", FULL, { { "area", ADD, 2 }, { "va", ADD, 0xffb000 } }, 0 },
		{ "refcount_saturated", SATURATED, { { 0 } }, 0 } } },
	{ "kvirt_peek area=3 va=" A3, {
		UNKNOWN("area"),
		{ "query_out_of_range", 0, { { "va", ADD, 0x10000000 } }, 0 },
		NO_FRAMES } },
	{ "kvirt_split area=3 offset=0x1000", {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("split_misaligned", "offset"),
		{ "split_out_of_bound", 0, { { "offset", ADD, 0x3000 } }, 1 },
		{ "split_out_of_bound", 0, { { "offset", ADD, UINT64_C(0) - 0x1000 } }, 1 } } },
	{ "kvirt_drop area=3", {
		UNKNOWN("area"),
		IN_USE,
		{ "area_empty", 0, { { "area", ADD, 1 } }, 0 },
		NO_FRAMES } },
	{ "kvirt_range area=1", { UNKNOWN("area") } },

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
		NO_CACHE } },
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
		NO_PADDR } },
	{ "kvirt_unmap_range area=2 start=" A2 " end=" A2_END, {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "range_outside_area", 0, { { "start", ADD, UINT64_C(0) - 0x1000 } }, 0 },
		{ "range_outside_area", 0, { { "end", ADD, 0x1000 } }, 2 },
		{ "out_of_frames", FULL, { { "end", ADD, UINT64_C(0) - 0x1000 } }, 2 } } },
	{ "kvirt_protect_range area=2 start=" A2 " end=" A2_END " set=x clear=w", {
		UNKNOWN("area"),
		IN_USE,
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x800000 } }, 0 },
		{ "range_outside_area", 0, { { "start", ADD, UINT64_C(0) - 0x1000 } }, 2 },
		{ "range_outside_area", 0, { { "end", ADD, 0x1000 } }, 0 },
		{ "out_of_frames", FULL, { { "start", ADD, 0x1000 } }, 2 }, /* cut first, then written */
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 } } },
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
		NO_PADDR } },
	{ "boot_protect_range start=" BOOT_LEAVES " end=" BOOT_LEAVES_END " clear=w global=set", {
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, UINT64_C(0x400000000000) } }, 4 },
		{ "range_not_boot", 0, { { "end", ADD, UINT64_C(0x1fffffc01000) } }, 8 }, /* runs into the vmalloc range */
		{ "range_not_boot", 0, { { "start", ADD, UINT64_C(0) - 0x200000001000 } }, 2 }, /* before the kernel half */
		{ "range_not_boot", 0, { { "end", ADD, UINT64_C(0x5fffffbff000) } }, 4 | 8 }, /* ends behind the last page */
		{ "out_of_frames", FULL, { { "start", ADD, 0x1000 } }, 2 },
		{ "unsupported_cache", 0, { { "cache", SET, 2 } }, 0 } } },
	{ "kvirt_flush start=" A1 " end=" A2, {
		UNALIGNED("range_unaligned", "start"),
		UNALIGNED("range_unaligned", "end"),
		{ "range_unaligned", 0, { { "start", ADD, 0x1000000 } }, 0 } } },
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
	struct kvms_op op;
	uint64_t list[16];
	unsigned state;
};

static void
attempt_start(struct attempt *a, const char *op)
{
	a->op = kit_op("%s", op);
	a->state = 0;
	int frames = kvms_arg_index(kvms_op_row(a->op.code), "frames");
	if (frames >= 0)
		memcpy(a->list, a->op.list, (size_t)a->op.arg[frames] * sizeof *a->list);
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
		uint64_t id = kit_get(s, "area",
				      "kvirt_map_untracked_frames_at start=0xffffc00000c00000 area_size=0x1000 "
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

static unsigned reached[128][O_COUNT];

/* Run an attempt.  Gives the outcome's name; anything but ok must have left no trace. */
static unsigned
attempt_run(const struct attempt *a, const char *base)
{
	static struct kvms_outcome out, dry;
	struct kvms *s = base_new();

	state_make(s, a);
	uint64_t visible = kit_visible(s), digest = kvms_digest(s), steps = kvms_steps(s);

	cr_assert_eq(kvms_dry_run(s, &a->op, &dry), KVMS_DONE);
	cr_assert_eq(kit_visible(s), visible, "a dry run of %s left a trace", op_text(&a->op));
	enum kvms_status status = kvms_apply(s, &a->op, &out);
	cr_assert_eq(status, KVMS_DONE, "%s (from %s): status %d %s", op_text(&a->op), base, status,
		     status == KVMS_BROKEN ? kit_fired(kvms_broken(s)) : "");
	cr_assert_eq(kvms_steps(s), steps + 1);
	cr_assert(dry.name == out.name && dry.present == out.present &&
		      memcmp(dry.field, out.field, sizeof dry.field) == 0,
		  "%s: a dry run foretold %s, not %s", op_text(&a->op), kit_outcome(dry.name), kit_outcome(out.name));
	if (out.name != O_ok) {
		cr_assert_eq(kvms_digest(s), digest, "%s -> %s changed the digest", op_text(&a->op),
			     kit_outcome(out.name));
		cr_assert_eq(kit_visible(s), visible, "%s -> %s left a trace", op_text(&a->op), kit_outcome(out.name));
		cr_assert_eq(out.present, 0);
	}
	reached[a->op.code][out.name]++;
	kvms_free(&s);
	return out.name;
}

static bool
in_set(const struct kvms_row *row, unsigned name)
{
	unsigned each;

	for (unsigned k = 0; (each = kvms_row_outcome(row, k)) != UINT_MAX; k++)
		if (each == name)
			return true;
	return false;
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

		attempt_start(&a, c->op);
		unsigned name = attempt_run(&a, c->op);
		cr_expect_eq(name, O_ok, "%s -> %s", c->op, kit_outcome(name));
		for (size_t k = 0; k < reasons_of(c); k++) {
			attempt_start(&a, c->op);
			attempt_change(&a, &c->reasons[k]);
			name = attempt_run(&a, c->op);
			cr_expect_str_eq(kit_outcome(name), c->reasons[k].outcome, "%s -> %s, not %s", op_text(&a.op),
					 kit_outcome(name), c->reasons[k].outcome);
		}
	}
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);

		if (row == NULL)
			continue;
		fprintf(stderr, "%s:", row->name);
		for (unsigned name = 0; name < O_COUNT; name++) {
			if (reached[code][name] > 0)
				fprintf(stderr, " %s", kit_outcome(name));
			cr_expect(reached[code][name] == 0 || in_set(row, name),
				  "%s gave %s, which its row does not list", row->name, kit_outcome(name));
			cr_expect(reached[code][name] > 0 || !in_set(row, name), "%s: %s is listed and never reached",
				  row->name, kit_outcome(name));
		}
		fprintf(stderr, "\n");
	}
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
				attempt_start(&a, c->op);
				attempt_change(&a, first);
				attempt_change(&a, second);
				unsigned name = attempt_run(&a, c->op);
				const char *want =
				    winner_of(kvms_op_row(a.op.code)->name, first->outcome, second->outcome);

				cr_expect_str_eq(kit_outcome(name), want, "%s (%s and %s): %s, not %s", op_text(&a.op),
						 first->outcome, second->outcome, kit_outcome(name), want);
				pairs++;
			}
		}
	}
	fprintf(stderr, "%u pairs\n", pairs);
	cr_assert_gt(pairs, 300);
}

/* ---- What pairs do not show ------------------------------------------------------------------------ */

Test(outcomes, of_a_segment_are_judged_frame_by_frame_upwards)
{
	struct kvms *s = base_new();

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
	struct kvms *s = base_new();

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
		cr_assert_eq(out.name, O_ok, "%u ids: %s", count, kit_outcome(out.name));
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
	struct kvms *s = base_new();
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
	struct kvms *s = base_new();
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

/* One step on either side of every border. */
Test(outcomes, change_exactly_at_their_limits)
{
	struct kvms *s = base_new();

	/* max_paddr is 0x400000, where a node is the last frame */
	kit_want(s, "err InUse", "frame_from_unused paddr=0x3ff000");
	kit_want(s, "err OutOfBound", "frame_from_unused paddr=0x400000");
	kit_want(s, "err NotDataFrame", "frame_from_in_use paddr=0x3ff000");
	kit_want(s, "err OutOfBound", "frame_from_in_use paddr=0x400000");
	kit_want(s, "err InUse", "segment_from_unused start=0x3ff000 end=0x400000");
	kit_want(s, "err OutOfBound", "segment_from_unused start=0x3ff000 end=0x401000");
	kit_want(s, "panic segment_empty", "segment_from_unused start=0x9000 end=0x9000");
	kit_want(s, "panic segment_empty", "segment_from_unused start=0x400000 end=0x400000");
	kit_want(s, "err OutOfBound", "segment_from_unused start=0x401000 end=0x401000");
	/* area 3 is [ffc000, 1000000) in a range that ends with it */
	kit_want(s, "panic query_out_of_range", "kvirt_peek area=3 va=0xffffc00000ffbfff");
	kit_want(s, "panic query_out_of_range", "kvirt_peek area=3 va=0xffffc00001000000");
	kit_want(s, "ok found=false start=0xffffc00000fff000 end=0xffffc00001000000 level=1 nodes_allocated=1",
		 "kvirt_peek area=3 va=0xffffc00000ffffff");
	kit_want(s, "ok found=false start=0xffffc00000ffc000 end=0xffffc00000ffd000 level=1 nodes_allocated=0",
		 "kvirt_peek area=3 va=0xffffc00000ffc000");
	/* empty ranges: both ends of an area are inside, one page on is not */
	kit_want(s, "ok leaves=0 subtrees=0 nodes_allocated=0 nodes_freed=0",
		 "kvirt_unmap_range area=3 start=" A3 " end=" A3);
	kit_want(s, "ok leaves=0 subtrees=0 nodes_allocated=0 nodes_freed=0",
		 "kvirt_unmap_range area=3 start=0xffffc00001000000 end=0xffffc00001000000");
	kit_want(s, "pre range_outside_area",
		 "kvirt_unmap_range area=3 start=0xffffc00001001000 end=0xffffc00001001000");
	kit_want(s, "ok leaves=0 nodes_allocated=0", "kvirt_protect_range area=3 start=" A3 " end=" A3 " set=x");
	kit_want(s, "ok end=0xffffc00001000000 nodes_allocated=0",
		 "kvirt_map_frames_into area=3 va=0xffffc00001000000 frames=[] prop=rw:wb");
	kit_want(
	    s, "ok end=0xffffc00001000000 leaves=0 nodes_allocated=0",
	    "kvirt_map_untracked_into area=3 va=0xffffc00001000000 paddr_start=0x5000 paddr_end=0x1000 prop=rw:wp");
	kit_want(s, "pre range_outside_area",
		 "kvirt_map_untracked_into area=3 va=0xffffc00001000000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb");
	/* a sum that leaves 64 bits is outside, not unaligned and not small */
	kit_want(s, "pre range_outside_area",
		 "kvirt_map_untracked_into area=3 va=" A3
		 " paddr_start=0x1000 paddr_end=0xfffffffffffff000 prop=rw:wb");
	kit_want(s, "pre range_not_boot",
		 "boot_map va=0xffffe00000000000 paddr_start=0x0 paddr_end=0xfffffffffffff000 prop=rw:wb");
	kit_want(s, "pre range_not_boot", "boot_map va=0xfffffffffffff000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb");
	/* the last page of the kernel half, and an empty range behind it */
	kit_want(s, "ok end=0xffffffffffff0000 leaves=1 nodes_allocated=2",
		 "boot_map va=0xfffffffffffef000 paddr_start=0x0 paddr_end=0x1000 prop=rw:wb");
	kit_want(s, "ok leaves=0 nodes_allocated=0",
		 "boot_protect_range start=0xffffffffffff0000 end=0xffffffffffff0000 set=x");
	kit_want(s, "pre range_not_boot", "boot_protect_range start=0xffffffffffff1000 end=0xffffffffffff1000 set=x");
	/* empty ranges meet a vmalloc range only inside it */
	kit_want(s, "ok leaves=0 nodes_allocated=0", "boot_protect_range start=" A1 " end=" A1 " set=x");
	kit_want(s, "pre range_not_boot", "boot_protect_range start=0xffffc00000001000 end=0xffffc00000001000 set=x");
	kit_want(s, "ok leaves=0 nodes_allocated=0",
		 "boot_protect_range start=0xffffc00001000000 end=0xffffc00001000000 set=x");
	kit_want(s, "ok flushed=0", "kvirt_flush start=0x0 end=0xfffffffffffff000");
	kit_want(s, "ok flushed=0", "kvirt_flush start=0x0 end=0x0");
	/* a split may leave one page on either side */
	kit_want(s, "panic split_out_of_bound", "kvirt_split area=3 offset=0x4000");
	kit_want(s, "ok left=5 right=6", "kvirt_split area=3 offset=0x3000");
	kit_want(s, "panic split_out_of_bound", "kvirt_split area=6 offset=0x1000");
	kit_sound(s);
	kvms_free(&s);
}
