#include "store/pagetable.h"

#include <stdlib.h>
#include <string.h>

#include "store/config.h"
#include "store/foreign.h"

#ifndef KVMS_VERSION
#define KVMS_VERSION "0.1.0"
#endif

const char *
kvms_version(void)
{
	return KVMS_VERSION;
}

static const size_t record_sizes[REC_KINDS] = {
	[KVMS_ID_FRAME] = sizeof(struct frame),	  [KVMS_ID_SEGMENT] = sizeof(struct segment),
	[KVMS_ID_UNIQUE] = sizeof(struct unique), [KVMS_ID_LIST] = sizeof(struct list),
	[KVMS_ID_VM_SPACE] = sizeof(struct vm_space), [KVMS_ID_CURSOR] = sizeof(struct cursor_record),
	[KVMS_ID_AREA] = sizeof(struct area),	  [KVMS_ID_READER] = sizeof(struct vm_io),
	[KVMS_ID_WRITER] = sizeof(struct vm_io),  [KVMS_ID_IOMEM] = sizeof(struct iomem),
	[REC_IO_ENTRY] = sizeof(struct io_entry), [REC_FLUSHER] = sizeof(struct flusher),
	[REC_CPU] = sizeof(struct cpu),		  [REC_KEPT] = sizeof(struct kept),
	[REC_TLB] = sizeof(struct tlb_entry),
};

static void
pools_init(struct kvms *s)
{
	static const size_t sizes[POOLS] = { sizeof(struct extent), sizeof(struct mapping), sizeof(uint32_t) };

	for (unsigned i = 0; i < POOLS; i++) {
		s->pools[i].size = sizes[i];
		pool_reserve(s, i, 64);
	}
	s->buckets = 64;
	for (unsigned kind = 0; kind < REC_KINDS; kind++)
		s->ids[kind].size = record_sizes[kind];
}

/* Take ranges of frames out of use from the start. */
static void
reserve_slots(struct kvms *s, enum config_list_key list, enum usage usage)
{
	uint64_t count;
	const uint64_t *at = config_ranges(s, list, &count);

	for (uint64_t i = 0; i < count; i++)
		for (uint64_t paddr = at[2 * i]; paddr < at[2 * i + 1]; paddr += PAGE)
			slot_claim(s, paddr / PAGE, usage, usage == USAGE_MMIO ? KIND_NONE : KIND_BOOT, 0,
				   usage == USAGE_MMIO ? KVMS_RC_UNUSED : 1);
}

/* The kernel table: its root, then the nodes of entries 256 .. 511, which live for ever. */
static bool
kernel_table(struct kvms *s)
{
	unsigned levels = s->paging.levels;
	uint64_t node;

	if (node_new(s, levels, KERNEL_TABLE, 0, 0, &s->live.kernel_root) != O_ok)
		return false;
	for (unsigned i = NODE_ENTRIES / 2; i < NODE_ENTRIES; i++) {
		uint64_t va = entry_va(s, s->live.kernel_root, i);

		if (node_new(s, levels - 1, KERNEL_TABLE, va, 0, &node) != O_ok)
			return false;
		entry_set(s, s->live.kernel_root, i, pte_encode_table(&s->paging, node));
	}
	return true;
}

/* I/O windows: between memory and 4 GiB, and above both. */
static void
mmio_windows(struct kvms *s)
{
	const uint64_t mib = UINT64_C(1) << 20;
	uint64_t memory_end = (s->max_paddr + mib - 1) / mib * mib;

	if (memory_end < 4 * GiB)
		extent_insert(s, SET_FREE_MMIO0, memory_end, 4 * GiB, 0);
	extent_insert(s, SET_FREE_MMIO1, memory_end > 4 * GiB ? memory_end : 4 * GiB, s->mmio_end, 0);
}

static void
claim_boot(struct kvms *s, uint64_t start, uint64_t end, enum usage usage)
{
	for (uint64_t paddr = start; paddr < end; paddr += PAGE)
		slot_claim(s, paddr / PAGE, usage, KIND_BOOT, 0, 1);
}

/* boot=full: the image's frames, then the metadata's at the lowest free run that starts on 2 MiB. */
static bool
boot_frames(struct kvms *s, uint64_t *metadata)
{
	const uint64_t huge = UINT64_C(0x200000) / PAGE;
	uint64_t count, pages = config_metadata_size(s) / PAGE, at = 0;
	const uint64_t *kernel = config_ranges(s, CONFIG_LIST_kernel, &count);

	claim_boot(s, kernel[0], kernel[1], USAGE_KERNEL);
	for (;;) {
		uint64_t used = bitmap_next(&s->used, at);

		if (at + pages > s->slots_count)
			return false;
		if (used >= at + pages)
			break;
		at = (used / huge + 1) * huge;
	}
	*metadata = at * PAGE;
	claim_boot(s, *metadata, *metadata + pages * PAGE, USAGE_META);
	return true;
}

/*
 * Map [va, va + size) to paddr in the largest pages: one cursor over exactly
 * the range.  An image high up in memory would lie behind the last address.
 */
static bool
boot_map_range(struct kvms *s, uint64_t va, uint64_t paddr, uint64_t size, uint64_t flags)
{
	uint64_t prop = flags | KVMS_PROP_GLOBAL | UINT64_C(4) << KVMS_PROP_CACHE_SHIFT, leaves = 0;
	struct cursor c;

	if (va < s->paging.kernel_base || size > UINT64_MAX - va)
		return false;
	return cursor_open(s, &c, KERNEL_TABLE, va, va + size) == O_ok &&
	       cursor_map_largest(s, &c, paddr, size, prop, 0, &leaves) == O_ok;
}

/* boot=full: linear map, metadata map, kernel image map. */
static bool
boot_maps(struct kvms *s, uint64_t metadata)
{
	const uint64_t rw = KVMS_PROP_R | KVMS_PROP_W;
	uint64_t count;
	const uint64_t *kernel = config_ranges(s, CONFIG_LIST_kernel, &count);

	if (s->paging.linear_in_table && !boot_map_range(s, s->linear_base, 0, s->max_paddr, rw))
		return false;
	if (!boot_map_range(s, s->paging.vmalloc_end, metadata, config_metadata_size(s), rw))
		return false;
	return !s->paging.linear_in_table || boot_map_range(s, s->paging.code_base + kernel[0], kernel[0],
							    kernel[1] - kernel[0], rw | KVMS_PROP_X);
}

bool
store_populate(struct kvms *s, struct kvms_refusal *why)
{
	bool full = s->config.arg[CONFIG_boot] != 0;
	uint64_t metadata = 0;

	reserve_slots(s, CONFIG_LIST_mmio, USAGE_MMIO);
	reserve_slots(s, CONFIG_LIST_reserve, USAGE_RESERVED);
	if ((full && !boot_frames(s, &metadata)) || !kernel_table(s) || (full && !boot_maps(s, metadata))) {
		config_refuse(why, CONFIG_boot, "no room, or a panic, while building the kernel page table");
		return false;
	}
	for (uint64_t i = 0; i < s->vmalloc_count; i++)
		extent_insert(s, SET_FREE_VA, s->vmalloc[i].start, s->vmalloc[i].end, 0);
	mmio_windows(s);
	for (uint64_t cpu = 0; cpu < s->ncpu; cpu++) {
		void *record;

		record_new(s, REC_CPU, &record);
	}
	return true;
}

/* One bit set of outcomes for each op, from the table. */
static bool
outcome_sets(struct kvms *s)
{
	_Static_assert(O_COUNT <= 128, "an outcome set is two words");
	s->outs = calloc(kvms_op_max() + 1, sizeof *s->outs);
	if (s->outs == NULL)
		return false;
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);
		unsigned name;

		for (unsigned k = 0; row != NULL && (name = kvms_row_outcome(row, k)) < O_COUNT; k++)
			s->outs[code][name / 64] |= UINT64_C(1) << name % 64;
	}
	return true;
}

static bool
store_build(struct kvms *s, store_populator *populate, void *arg, struct kvms_refusal *why)
{
	why->key = -1;
	if (!memory_reserve(s, why->text, sizeof why->text))
		return false;
	pools_init(s);
	if (!outcome_sets(s)) {
		config_refuse(why, -1, "the machine has no memory left");
		return false;
	}
	for (unsigned kind = 1; kind < REC_KINDS; kind++)
		s->live.next_id[kind] = 1;
	s->live.totals.unused = s->slots_count;
	return populate(s, arg, why);
}

static bool
populate_default(struct kvms *s, void *arg, struct kvms_refusal *why)
{
	(void)arg;
	return store_populate(s, why);
}

struct kvms *
kvms_new(const struct kvms_op *config, struct kvms_refusal *why)
{
	return store_of_paging(config, NULL, why);
}

struct kvms *
store_of_paging(const struct kvms_op *config, const struct paging *paging, struct kvms_refusal *why)
{
	return store_of_contents(config, paging, populate_default, NULL, why);
}

struct kvms *
store_of_contents(const struct kvms_op *config, const struct paging *paging, store_populator *populate, void *arg,
		  struct kvms_refusal *why)
{
	struct kvms *s = aligned_alloc(_Alignof(struct kvms), sizeof *s);
	struct sorting *sorting = calloc(1, sizeof *sorting);
	volatile bool built = false; /* survives the jump back */

	if (s == NULL || sorting == NULL) {
		free(s);
		free(sorting);
		config_refuse(why, -1, "the machine has no memory left");
		return NULL;
	}
	memset(s, 0, sizeof *s);
	s->sorting = sorting;
	s->check = KVMS_CHECK_TOUCHED;
	s->can_leave = true;
	if (setjmp(s->nomem) != 0)
		config_refuse(why, -1, "the machine has no memory left");
	else
		built = config_read(s, config, paging, why) && store_build(s, populate, arg, why);
	if (!built) {
		kvms_free(&s);
		return NULL;
	}
	s->can_leave = false;
	s->config_sum = digest_config(s);
	digest_sync(s);
	return s;
}

void
kvms_free(struct kvms **taken)
{
	struct kvms *s = *taken;

	*taken = NULL;
	if (s == NULL)
		return;
	memory_release(s);
	for (unsigned kind = 0; kind < REC_KINDS; kind++)
		idtab_free(&s->ids[kind]);
	for (unsigned i = 0; i < POOLS; i++)
		free(s->pools[i].at);
	free(s->undo.entry);
	free(s->undo.bytes);
	free(s->dirty);
	free(s->scratch);
	free(s->way);
	free(s->element);
	if (s->sorting != NULL)
		free(s->sorting->at);
	free(s->sorting);
	free(s->outs);
	free(s->config_list);
	free(s->config_element);
	foreign_free(s);
	free(s);
}

const struct kvms_op *
kvms_config(const struct kvms *s)
{
	return &s->config;
}

void
kvms_set_check(struct kvms *s, enum kvms_check check, uint64_t every)
{
	s->check = check;
	s->check_every = every != 0 ? every : 1;
}

uint64_t
kvms_steps(const struct kvms *s)
{
	return s->steps;
}

void
kvms_set_steps(struct kvms *s, uint64_t steps)
{
	s->steps = steps;
}

const struct kvms_findings *
kvms_broken(const struct kvms *s)
{
	return &s->findings;
}
