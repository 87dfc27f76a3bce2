/*
 * int - the store from inside: the only definition of struct kvms.
 *
 * Everything a step may change is a record in one of four places: slots and
 * words of the two reservations, records of the id tables, and nodes of the
 * pools.  A record is changed only after its _mut() function has saved it in
 * the undo log; scalars live in struct live, which is saved whole.  So undoing
 * a step, knowing what it touched, and keeping the digest are one mechanism.
 */
#ifndef KVMS_INT_H
#define KVMS_INT_H

#include <assert.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "store/bitmap.h"
#include "store/kvmstore.h"
#include "store/paging.h"
#include "store/rows.h"

#define PAGE KVMS_PAGE_SIZE

/*
 * A place where the model may be made wrong; store/faults.def says how.  In a
 * library of the tests' own that is chosen as it runs, with configure's
 * --with-fault for good; everywhere else it is 0.
 */
#if defined KVMS_FAULTS || defined KVMS_PLANTED
enum fault {
	FAULT_NONE,
#define KVMS_FAULT(name, config, profile, check, text) FAULT_##name,
#include "store/faults.def"
#undef KVMS_FAULT
	FAULTS
};
#endif
#ifdef KVMS_FAULTS
extern unsigned kvms_fault; /* the one planted now */
#define FAULT(name) (kvms_fault == FAULT_##name)
#elif defined KVMS_PLANTED
#define FAULT(name) (KVMS_PLANTED == FAULT_##name)
#else
#define FAULT(name) 0
#endif

#define GiB (UINT64_C(1) << 30)
#define KERNEL_END_VADDR UINT64_C(0xffffffffffff0000)

enum usage { USAGE_UNUSED, USAGE_RESERVED, USAGE_FRAME, USAGE_PAGETABLE, USAGE_META, USAGE_KERNEL, USAGE_MMIO, USAGES };
enum slot_kind { KIND_NONE, KIND_UNTYPED, KIND_TYPED, KIND_LINK, KIND_NODE, KIND_BOOT, SLOT_KINDS };

enum slot_bit {
	SLOT_DIRTY = 1, /* its elements are not in the digest sum; see digest.c */
	SLOT_STRAY = 2, /* node in a detached sub-tree */
};

/*
 * Metadata of one frame.  64 bytes; all zero is the default state, so that a
 * fresh reservation is a machine full of unused frames.
 *
 *   usage       owner     place_va / place_table            more
 *   Frame       list tag  first mapping, if place_table     further mappings
 *   ... listed  list tag  link_next                         -
 *   PageTable   lock      first address of the node's span  -
 *   others      0         -                                 -
 */
struct slot {
	uint64_t rc1; /* reference count + 1, so that UNUSED (2^64-1) is 0 */
	uint64_t meta;
	uint64_t owner;
	uint8_t usage;
	uint8_t kind;
	uint8_t level; /* nodes */
	uint8_t bits;
	uint16_t nr_children; /* nodes */
	uint8_t unique;       /* U: unique handles */
	uint8_t listed;       /* L: list links */
	union {
		struct {
			uint32_t handles;  /* H */
			uint32_t mappings; /* P */
			uint32_t covers;   /* C */
			uint32_t kept;     /* K */
		};
		struct { /* while listed: such a frame is unique, so the counts above are zero */
			uint64_t link_list; /* id of the list */
			uint64_t link_prev; /* frame number + 1; 0 = none */
		};
	};
	union {
		uint64_t place_va;
		uint64_t link_next; /* while listed */
	};
	uint32_t place_table; /* table + 1; 0 = no mapping here */
	uint32_t more;        /* pool index of a mapping node; 0 = none */
};
_Static_assert(sizeof(struct slot) == 64, "a slot record is 64 bytes");

/* Every record of an id table begins with this; all zero = no object. */
struct record {
	uint8_t live;
	uint8_t dirty;
	uint8_t spare[6];
};

struct frame {
	struct record head;
	uint64_t paddr;
};

struct segment {
	struct record head;
	uint64_t start, end;
};

struct unique {
	struct record head;
	uint64_t paddr;
};

struct list {
	struct record head;
	uint64_t tag; /* 0 until the first insert */
	uint64_t length;
	uint64_t checked_out; /* a cursor has it */
	uint64_t index;       /* of that cursor */
	uint64_t first, last; /* frame number + 1; 0 = empty */
};

struct area {
	struct record head;
	uint64_t start, end, refs;
};

struct vm_space {
	struct record head;
	uint64_t root;
	uint64_t handle; /* 1, or 0 after drop while a CPU still runs on it */
	uint64_t cpus;   /* CPUs on which it is active, as bits */
	uint64_t users;  /* cursors, readers and writers that refer to it */
	uint64_t io_first, io_last, io_count; /* its I/O entries */
};

/* One entry of a space's I/O list. */
struct io_entry {
	struct record head;
	uint64_t space, position;
	uint64_t paddr, size, cache, area, offset;
	uint64_t next;
};

/* A user cursor between operations; see struct cursor in pagetable.h. */
struct cursor_record {
	struct record head;
	uint64_t space, mutable, start, end, va;
	uint64_t level, guard_level;
	uint64_t path[LEVELS_MAX + 1];
};

#define FLUSH_PAGES 32u /* a stack of that many pages is "all" */

struct flush_stack {
	uint64_t all;
	uint64_t count;
	struct {
		uint64_t va, pages;
	} op[FLUSH_PAGES - 1];
};

/* What a mutable cursor has to flush; exists unless it is empty.  Its id is the cursor's. */
struct flusher {
	struct record head;
	struct flush_stack stack;
	uint64_t sent; /* CPUs, as bits */
};

/* A simulated CPU; its id is its number + 1. */
struct cpu {
	struct record head;
	uint64_t active; /* vm_space, 0 = kernel table only */
	uint64_t ipi;
	struct flush_stack queue;
	uint64_t kept_first, kept_last, kept_count;
};

/* A reference that a CPU's queue keeps until it has flushed. */
struct kept {
	struct record head;
	uint64_t is_node;
	uint64_t paddr;
	uint64_t next;
};

struct tlb_entry {
	struct record head;
	uint64_t cpu, table, va, size, paddr, prop, tracked;
};

/* A reader or a writer. */
struct vm_io {
	struct record head;
	uint64_t space; /* 0 = kernel */
	uint64_t va, end;
	uint64_t fallible;
};

struct iomem {
	struct record head;
	uint64_t area, paddr, size, cache, offset;
};

/* Kinds of records without ids of their own in the interface. */
enum { REC_IO_ENTRY = KVMS_ID_KINDS, REC_FLUSHER, REC_CPU, REC_KEPT, REC_TLB, REC_KINDS };

/* ---- Id tables: id -> record, ids never reused (idtab.c) ---------------- */

#define ID_FANOUT 512u

struct id_leaf {
	uint32_t live;
	uint32_t spare;
	_Alignas(8) unsigned char records[];
};

struct id_mid {
	uint32_t leaves; /* that exist */
	struct id_leaf *leaf[ID_FANOUT];
};

struct idtab {
	size_t size;              /* bytes of a record */
	uint64_t top_count;       /* entries of "top" */
	struct id_mid **top;      /* top[id / 512^2]->leaf[id / 512 % 512] */
	struct id_leaf *spare[8]; /* emptied leaves, kept for reuse */
	unsigned spare_count;
};

/* ---- Pools: records by index, 0 = none (pool.c) --------------------------- */

enum pool_id { POOL_EXTENT, POOL_MAPPING, POOL_BUCKET, POOLS };

struct pool {
	size_t size; /* bytes of a record */
	unsigned char *at;
	uint32_t capacity;
};

/* Ordered sets of disjoint address ranges (extent.c). */
enum extent_set {
	SET_FREE_VA,
	SET_AREAS,
	SET_FREE_MMIO0,
	SET_FREE_MMIO1,
	SET_TLB, /* and one for each further CPU */
	EXTENT_SETS = SET_TLB + 64
};

struct extent {
	uint64_t start, end;
	uint64_t longest; /* of free ranges: largest end - start in the sub-tree */
	uint64_t id;      /* SET_AREAS: the area; SET_TLB: the entry */
	uint32_t left, right;
	uint32_t priority;
	uint8_t set;
	uint8_t live;
	uint8_t dirty;
	uint8_t spare;
};

/* A mapping of a frame beyond its first (rmap.c). */
struct mapping {
	uint64_t va;
	uint64_t slot;       /* frame number */
	uint32_t table1;     /* table + 1; 0 = free node */
	uint32_t next, prev; /* mappings of the same frame */
	uint32_t chain;      /* hash chain, or free list */
};

/* ---- Scalars ------------------------------------------------------------------ */

/* Running totals; an op's post function says how they moved. */
union totals {
	struct {
		uint64_t unused, reserved, frame, pagetable, meta, kernel, mmio;
		uint64_t frames, segments, uniques, lists, vm_spaces, cursors, areas, readers, writers, iomems;
		uint64_t leaves_tracked, leaves_untracked, tlb_entries;
		uint64_t covers; /* sum of C */
		uint64_t links;  /* sum of L */
	};
	uint64_t at[22];
};
#define TOTAL_INDEX(name) (offsetof(union totals, name) / sizeof(uint64_t))
_Static_assert(sizeof(union totals) == 22 * sizeof(uint64_t), "totals have no padding");

/* Every scalar that a step may change.  It is copied for every step: whole cache lines take half the time. */
struct live {
	_Alignas(64) uint64_t next_id[REC_KINDS];
	union totals totals;
	uint64_t kernel_root;
	uint64_t current_cpu;
	uint64_t sum; /* digest of what is not dirty */
	uint32_t dirty_count;
	uint32_t pool_free[POOLS];
	uint32_t pool_used[POOLS];
	uint32_t extra_mappings; /* live mapping nodes */
	uint32_t extent_root[EXTENT_SETS]; /* last: every step saves only those that the store has */
};

/* ---- Undo log --------------------------------------------------------------------- */

enum undo_type { UNDO_WORD, UNDO_SLOT, UNDO_RECORD, UNDO_POOL };

struct undo_entry {
	uint8_t type;
	uint8_t which; /* UNDO_RECORD: enum kvms_kind; UNDO_POOL: enum pool_id */
	uint64_t key;  /* paddr, slot index, id, pool index */
	uint64_t old;  /* UNDO_WORD: the word; else offset of the saved bytes */
};

#define UNDO_SAVED 16u

struct undo {
	bool active;
	/* some of what the step has saved, by undo_name(): a record is saved before its first change, not before each */
	uint64_t saved[UNDO_SAVED];
	struct undo_entry *entry;
	size_t count, capacity;
	unsigned char *bytes;
	size_t bytes_count, bytes_capacity;
	struct live live;
	size_t mark, bytes_mark; /* where the step began: 0 but in a group */
	bool group;              /* steps follow that are undone or committed together */
	struct live group_live;
	uint64_t group_steps;
};

/* A changed element whose old form has left the digest sum. */
struct dirty {
	uint64_t key;
	uint8_t type;  /* enum undo_type */
	uint8_t which;
};

#define DIRTY_BOUND 4096u

/* ---- The store ------------------------------------------------------------------------ */

struct kvms_range {
	uint64_t start, end;
};

struct sorting {
	uint64_t *at;
	size_t capacity;
};

struct foreign;

struct kvms {
	/* fixed at creation */
	struct paging paging;
	struct foreign *foreign; /* NULL unless it was adopted (foreign.h) */
	uint64_t max_paddr;
	uint64_t slots_count;
	uint64_t rc_max;
	uint64_t ncpu;
	const struct kvms_range *vmalloc;
	uint64_t vmalloc_count;
	uint64_t linear_base;
	uint64_t mmio_end; /* end of the upper I/O window */
	struct kvms_op config;
	uint64_t *config_list;
	uint64_t *config_element; /* the configuration as the digest's element */
	unsigned config_element_count;
	uint64_t config_sum; /* digest of the configuration */
	uint64_t (*outs)[2]; /* outcome set of each op, as bits */

	/* simulated memory: page tables and data; one page more than max_paddr */
	unsigned char *memory;
	size_t memory_size;
	/* slots (one record more than slots_count) and bitmaps */
	unsigned char *metadata;
	size_t metadata_size;
	struct slot *slot;
	struct bitmap used;    /* slots not in the default state */
	struct bitmap written; /* pages that may hold a non-zero word */

	struct idtab ids[REC_KINDS];
	struct pool pools[POOLS];
	uint32_t buckets; /* of the mapping hash; a power of two */

	struct live live;
	struct undo undo;
	struct dirty *dirty;
	uint32_t dirty_capacity;
	uint64_t *scratch;
	size_t scratch_capacity;
	uint32_t *way; /* through a tree of extents, while it is changed */
	size_t way_capacity;
	uint64_t *element; /* an element of varying length, while it is put together */
	size_t element_capacity;
	struct sorting *sorting; /* for what only reads the store, but has to sort */
	jmp_buf nomem; /* where a step goes when the host has no memory ... */
	bool can_leave; /* ... if it may */

	uint64_t steps;
	enum kvms_check check;
	uint64_t check_every;
	bool broken;
	uint32_t judged; /* what laws were evaluated on since somebody asked; see kvms_laws_judged() */
	struct kvms_findings findings;
};

/* ---- undo.c --------------------------------------------------------------- */

void undo_begin(struct kvms *s);
void undo_rollback(struct kvms *s);
void undo_commit(struct kvms *s);
/* One number for (type, which, key); not 0.  Keys are below 2^56. */
_Static_assert(REC_KINDS <= 64 && POOLS <= 64, "which is a number of six bits");
static inline uint64_t
undo_name(enum undo_type type, unsigned which, uint64_t key)
{
	return (key << 8 | (uint64_t)type << 6 | which) + 1;
}
/* Room in the log for the "size" old bytes of (type, which, key). */
void *undo_room(struct kvms *s, enum undo_type type, unsigned which, uint64_t key, size_t size);
/* Save "size" bytes at "at" as the old content of (type, which, key), unless this step has. */
static inline void
undo_save(struct kvms *s, enum undo_type type, unsigned which, uint64_t key, const void *at, size_t size)
{
	uint64_t name = undo_name(type, which, key), *saved = &s->undo.saved[(key ^ which) % UNDO_SAVED];

	if (!s->undo.active || *saved == name)
		return; /* creation and loading: nothing to go back to */
	memcpy(undo_room(s, type, which, key, size), at, size);
	*saved = name;
}
void undo_save_word(struct kvms *s, uint64_t paddr, uint64_t old);
/* Leave the step: the host has no memory.  Outside a step: aborts. */
_Noreturn void out_of_memory(struct kvms *s);
/* Grow an array to at least "need" elements; out_of_memory() if refused. */
void *grow(struct kvms *s, void *array, size_t *capacity, size_t need, size_t size);

/* ---- memory.c ------------------------------------------------------------- */

bool memory_reserve(struct kvms *s, char *why, size_t size);
void memory_release(struct kvms *s);

static inline uint64_t
word_at(const struct kvms *s, uint64_t paddr)
{
	return *(const uint64_t *)(const void *)(s->memory + paddr);
}

/*
 * Loops over the entries of a table come to one frame after the other, at random
 * places.  They name the slot they need so many entries later, and do not wait for it then.
 */
#define AHEAD 12u

static inline void
slot_ahead(const struct kvms *s, uint64_t paddr)
{
	if (paddr < s->max_paddr)
		__builtin_prefetch(&s->slot[paddr / PAGE]);
}

/* Write a word of simulated memory: undo, digest, written page. */
void word_set(struct kvms *s, uint64_t paddr, uint64_t word);
/* Make every byte of a page zero. */
void page_zero(struct kvms *s, uint64_t paddr);
/* Move bytes in and out of [paddr, paddr + size), which lies below max_paddr. */
void memory_write(struct kvms *s, uint64_t paddr, const void *bytes, uint64_t size);
void memory_read(const struct kvms *s, uint64_t paddr, void *bytes, uint64_t size);
void memory_zero(struct kvms *s, uint64_t paddr, uint64_t size);

/* ---- idtab.c: id -> record -------------------------------------------------- */

/* Content of a record, live or not; NULL if its leaf does not exist. */
static inline void *
record_raw(const struct kvms *s, unsigned kind, uint64_t id)
{
	const struct idtab *t = &s->ids[kind];
	const uint64_t top = id / ((uint64_t)ID_FANOUT * ID_FANOUT);
	struct id_leaf *leaf;

	if (top >= t->top_count || t->top[top] == NULL)
		return NULL;
	leaf = t->top[top]->leaf[id / ID_FANOUT % ID_FANOUT];
	return leaf != NULL ? leaf->records + id % ID_FANOUT * t->size : NULL;
}
/* NULL if not live. */
static inline const void *
record_at(const struct kvms *s, unsigned kind, uint64_t id)
{
	const struct record *r = (const struct record *)record_raw(s, kind, id);

	return r != NULL && r->live ? r : NULL;
}
void *record_mut(struct kvms *s, unsigned kind, uint64_t id);            /* live, saved for undo */
uint64_t record_new(struct kvms *s, unsigned kind, void **record);       /* next id; zeroed but live */
void record_end(struct kvms *s, unsigned kind, uint64_t id);
/* The least live id >= from, or 0. */
uint64_t record_next(const struct kvms *s, unsigned kind, uint64_t from);
void record_restored(struct kvms *s, unsigned kind, uint64_t id, bool was_live);
/* A live record with this very id, for loading a saved state. */
void *record_put(struct kvms *s, unsigned kind, uint64_t id);
void idtab_reclaim(struct kvms *s, unsigned kind, uint64_t id);
void idtab_free(struct idtab *t);

#define FRAME(s, id) ((const struct frame *)record_at(s, KVMS_ID_FRAME, id))
#define SEGMENT(s, id) ((const struct segment *)record_at(s, KVMS_ID_SEGMENT, id))
#define UNIQUE(s, id) ((const struct unique *)record_at(s, KVMS_ID_UNIQUE, id))
#define LIST(s, id) ((const struct list *)record_at(s, KVMS_ID_LIST, id))
#define VM_SPACE(s, id) ((const struct vm_space *)record_at(s, KVMS_ID_VM_SPACE, id))
#define CURSOR(s, id) ((const struct cursor_record *)record_at(s, KVMS_ID_CURSOR, id))
#define FLUSHER(s, id) ((const struct flusher *)record_at(s, REC_FLUSHER, id))
#define CPU(s, number) ((const struct cpu *)record_at(s, REC_CPU, (number) + 1))
#define KEPT(s, id) ((const struct kept *)record_at(s, REC_KEPT, id))
#define TLB(s, id) ((const struct tlb_entry *)record_at(s, REC_TLB, id))
#define IO_ENTRY(s, id) ((const struct io_entry *)record_at(s, REC_IO_ENTRY, id))
#define READER(s, id) ((const struct vm_io *)record_at(s, KVMS_ID_READER, id))
#define WRITER(s, id) ((const struct vm_io *)record_at(s, KVMS_ID_WRITER, id))
#define IOMEM(s, id) ((const struct iomem *)record_at(s, KVMS_ID_IOMEM, id))
#define AREA(s, id) ((const struct area *)record_at(s, KVMS_ID_AREA, id))

/* ---- pool.c ------------------------------------------------------------------ */

static inline void *
pool_raw(const struct kvms *s, enum pool_id pool, uint32_t index)
{
	return s->pools[pool].at + (size_t)index * s->pools[pool].size;
}
void *pool_mut(struct kvms *s, enum pool_id pool, uint32_t index);
/* The same for what no element of the digest shows: how an extent hangs in its tree. */
struct extent *extent_links_mut(struct kvms *s, uint32_t index);
/* A free index; the record keeps its old bytes except the free link. */
uint32_t pool_take(struct kvms *s, enum pool_id pool);
void pool_give(struct kvms *s, enum pool_id pool, uint32_t index);
void pool_reserve(struct kvms *s, enum pool_id pool, uint32_t count);

/* ---- extent.c ---------------------------------------------------------------- */

static inline const struct extent *
extent_at(const struct kvms *s, uint32_t index)
{
	return index != 0 ? pool_raw(s, POOL_EXTENT, index) : NULL;
}
/* The extent with the greatest start <= addr; the least start >= addr; NULL if none. */
const struct extent *extent_below(const struct kvms *s, enum extent_set set, uint64_t addr);
const struct extent *extent_from(const struct kvms *s, enum extent_set set, uint64_t addr);
/* Both: the extent with the greatest start <= addr, and the one with the least start > addr. */
void extent_around(const struct kvms *s, enum extent_set set, uint64_t addr, const struct extent **below,
		   const struct extent **above);
/* The lowest extent of at least "size" bytes. */
const struct extent *extent_fit(const struct kvms *s, enum extent_set set, uint64_t size);
void extent_insert(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end, uint64_t id);
void extent_remove(struct kvms *s, enum extent_set set, uint64_t start);
void extent_set_end(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end);

/* ---- valloc.c: upstream's range allocator --------------------------------------- */

bool va_alloc(struct kvms *s, uint64_t size, uint64_t *start);
bool va_alloc_at(struct kvms *s, uint64_t start, uint64_t size);
void va_free(struct kvms *s, uint64_t start, uint64_t end);
/* The same three on any set of free ranges. */
bool range_alloc_specific(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end);
void range_free(struct kvms *s, enum extent_set set, uint64_t start, uint64_t end);

/* ---- rmap.c ------------------------------------------------------------------------ */

void rmap_add(struct kvms *s, uint64_t slot, uint64_t table, uint64_t va);
void rmap_remove(struct kvms *s, uint64_t slot, uint64_t table, uint64_t va);
void rmap_commit(struct kvms *s);
/* Append (table, va) pairs of a frame to scratch, unsorted; returns how many. */
size_t rmap_list(struct kvms *s, uint64_t slot);
/* For laws, which bear damage: how many there are; is this one among them? */
uint64_t rmap_count(const struct kvms *s, uint64_t slot);
bool rmap_has(const struct kvms *s, uint64_t slot, uint64_t table, uint64_t va);

/* ---- slot.c ---------------------------------------------------------------------------- */

static inline uint64_t
slot_rc(const struct slot *sl)
{
	return sl->rc1 - 1;
}
static inline uint64_t
slot_in_list(const struct slot *sl)
{
	return sl->usage == USAGE_PAGETABLE ? 0 : sl->owner;
}
static inline uint64_t
slot_lock(const struct slot *sl)
{
	return sl->usage == USAGE_PAGETABLE ? sl->owner : 0;
}
static inline bool
slot_is_default(const struct slot *sl)
{
	return sl->rc1 == 0 && sl->usage == USAGE_UNUSED && sl->kind == KIND_NONE && sl->meta == 0 && sl->owner == 0;
}
static inline bool
slot_is_shared(const struct kvms *s, const struct slot *sl)
{
	return slot_rc(sl) >= 1 && slot_rc(sl) <= s->rc_max;
}
/* Users of a slot by kind, as kept. */
struct users {
	uint32_t handles, mappings, covers, kept, unique, listed;
};
static inline struct users
slot_users(const struct slot *sl)
{
	if (sl->listed != 0)
		return (struct users){ .unique = sl->unique, .listed = sl->listed };
	return (struct users){ sl->handles, sl->mappings, sl->covers, sl->kept, sl->unique, sl->listed };
}
void digest_touch(struct kvms *s, enum undo_type type, unsigned which, uint64_t key);
static inline struct slot *
slot_mut(struct kvms *s, uint64_t index)
{
	struct slot *sl = &s->slot[index];

	undo_save(s, UNDO_SLOT, 0, index, sl, sizeof *sl);
	if ((sl->bits & SLOT_DIRTY) == 0) {
		digest_touch(s, UNDO_SLOT, 0, index);
		sl->bits |= SLOT_DIRTY;
	}
	return sl;
}
/* The same for what no element of the digest shows: users of a data frame and where it is mapped. */
static inline struct slot *
slot_users_mut(struct kvms *s, uint64_t index)
{
	struct slot *sl = &s->slot[index];

	undo_save(s, UNDO_SLOT, 0, index, sl, sizeof *sl);
	return sl;
}
/* Bring the used bitmap in line with a slot. */
void slot_sync(struct kvms *s, uint64_t index);
/* CLAIM errors at paddr, or O_ok. */
unsigned claim_check(const struct kvms *s, uint64_t paddr);
struct slot *slot_claim(struct kvms *s, uint64_t index, enum usage usage, enum slot_kind kind, uint64_t meta,
			uint64_t rc);
/* Back to the default state; page bytes stay. */
void slot_clear(struct kvms *s, uint64_t index);
/* INC; false if saturated. */
bool slot_inc(struct kvms *s, uint64_t index);
/* DEC; true if the slot became unused. */
bool slot_dec(struct kvms *s, uint64_t index);
uint64_t handle_new(struct kvms *s, uint64_t paddr); /* H + 1, new frame id */
void handle_end(struct kvms *s, uint64_t id);        /* H - 1, id ends */

/* ---- digest.c -------------------------------------------------------------------------- */

uint64_t digest_mix(const uint64_t *words, unsigned count);
uint64_t digest_config(struct kvms *s);
uint64_t digest_of(struct kvms *s, enum undo_type type, unsigned which, uint64_t key);
/* Add what the dirty records have become; between steps only, for undoing could not take it back. */
void digest_sync(struct kvms *s);
/* The digest as it is kept, dirty records included, without syncing. */
uint64_t digest_kept(struct kvms *s);
uint64_t digest_recompute(struct kvms *s);
/* Its two parts: the elements of one slot, and all others. */
uint64_t digest_slot(struct kvms *s, uint64_t i);
uint64_t digest_but_slots(struct kvms *s);
uint64_t digest_word(uint64_t paddr, uint64_t word);

/* ---- store.c ----------------------------------------------------------------------------- */

/* Build the default contents of an empty store: page tables, free ranges. */
bool store_populate(struct kvms *s, struct kvms_refusal *why);
/* kvms_new() with other paging constants than those of the key arch (NULL: those). */
struct kvms *store_of_paging(const struct kvms_op *config, const struct paging *paging, struct kvms_refusal *why);
/* The same with other contents, which "populate" puts into the empty store. */
typedef bool store_populator(struct kvms *s, void *arg, struct kvms_refusal *why);
struct kvms *store_of_contents(const struct kvms_op *config, const struct paging *paging, store_populator *populate,
			       void *arg, struct kvms_refusal *why);

/* ---- laws.c ------------------------------------------------------------------------------ */

/* Every law on what the current step touched / on everything. */
void laws_touched(struct kvms *s, struct kvms_findings *f);
void laws_full(struct kvms *s, struct kvms_findings *f);
void finding_add(struct kvms_findings *f, unsigned law, uint64_t object, uint64_t want, uint64_t have);

/* ---- inspect.c ----------------------------------------------------------------------------- */

/* Room for a payload of "size" bytes (KVMS_BYTES), zeroed. */
unsigned char *payload_bytes(struct kvms *s, struct kvms_outcome *out, uint64_t size);
/* Append words to an outcome's payload. */
void payload_add(struct kvms *s, struct kvms_outcome *out, const uint64_t *words, unsigned count);
uint64_t *scratch_need(struct kvms *s, size_t words);

#endif /* KVMS_INT_H */
