#include "store/pagetable.h"

#include <stdlib.h>
#include <string.h>

#include "store/config.h"

#ifndef KVMS_VERSION
#define KVMS_VERSION "0.1.0"
#endif

const char *
kvms_version(void)
{
	return KVMS_VERSION;
}

static void
pools_init(struct kvms *s)
{
	static const size_t sizes[POOLS] = { sizeof(struct extent), sizeof(struct mapping), sizeof(uint32_t) };

	for (unsigned i = 0; i < POOLS; i++) {
		s->pools[i].size = sizes[i];
		pool_reserve(s, i, 64);
	}
	s->buckets = 64;
	s->ids[KVMS_ID_FRAME].size = sizeof(struct frame);
	s->ids[KVMS_ID_SEGMENT].size = sizeof(struct segment);
	s->ids[KVMS_ID_AREA].size = sizeof(struct area);
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
	const uint64_t mib = UINT64_C(1) << 20, top = UINT64_C(1) << 52;
	uint64_t memory_end = (s->max_paddr + mib - 1) / mib * mib;

	if (memory_end < 4 * GiB)
		extent_insert(s, SET_FREE_MMIO0, memory_end, 4 * GiB, 0);
	extent_insert(s, SET_FREE_MMIO1, memory_end > 4 * GiB ? memory_end : 4 * GiB, top, 0);
}

bool
store_populate(struct kvms *s, struct kvms_refusal *why)
{
	reserve_slots(s, CONFIG_LIST_mmio, USAGE_MMIO);
	reserve_slots(s, CONFIG_LIST_reserve, USAGE_RESERVED);
	if (!kernel_table(s)) {
		config_refuse(why, CONFIG_boot, "no room for the kernel page table");
		return false;
	}
	for (uint64_t i = 0; i < s->vmalloc_count; i++)
		extent_insert(s, SET_FREE_VA, s->vmalloc[i].start, s->vmalloc[i].end, 0);
	mmio_windows(s);
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
store_build(struct kvms *s, struct kvms_refusal *why)
{
	why->key = -1;
	if (!memory_reserve(s, why->text, sizeof why->text))
		return false;
	pools_init(s);
	if (!outcome_sets(s)) {
		config_refuse(why, -1, "the machine has no memory left");
		return false;
	}
	for (unsigned kind = 1; kind < KVMS_ID_KINDS; kind++)
		s->live.next_id[kind] = 1;
	s->live.totals.unused = s->slots_count;
	return store_populate(s, why);
}

struct kvms *
kvms_new(const struct kvms_op *config, struct kvms_refusal *why)
{
	struct kvms *s = calloc(1, sizeof *s);
	struct sorting *sorting = calloc(1, sizeof *sorting);
	volatile bool built = false; /* survives the jump back */

	if (s == NULL || sorting == NULL) {
		free(s);
		free(sorting);
		config_refuse(why, -1, "the machine has no memory left");
		return NULL;
	}
	s->sorting = sorting;
	s->check = KVMS_CHECK_TOUCHED;
	s->can_leave = true;
	if (setjmp(s->nomem) != 0)
		config_refuse(why, -1, "the machine has no memory left");
	else
		built = config_read(s, config, why) && store_build(s, why);
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
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		idtab_free(&s->ids[kind]);
	for (unsigned i = 0; i < POOLS; i++)
		free(s->pools[i].at);
	free(s->undo.entry);
	free(s->undo.bytes);
	free(s->dirty);
	free(s->scratch);
	if (s->sorting != NULL)
		free(s->sorting->at);
	free(s->sorting);
	free(s->outs);
	free(s->config_list);
	free(s->config_element);
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

const struct kvms_findings *
kvms_broken(const struct kvms *s)
{
	return &s->findings;
}
