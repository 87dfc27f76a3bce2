#include "trace/compare_leaves.h"

#include "trace/buffer.h"
#include "trace/text.h"
#include "trace/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL_HALF (UINT64_C(1) << 63)
#define X86_LEAF_MAX UINT64_C(0x200000)
#define TABLE_MAX (UINT64_C(1) << 26) /* leaves in one table */

#define FLAG_W 1u
#define FLAG_X 2u
#define FLAG_GLOBAL 4u
#define FLAG_CACHE_SHIFT 3
#define FLAGS_COMPARED (FLAG_W | FLAG_X)

struct leaf {
	uint64_t va, size, paddr;
	unsigned flags;
};

/* A piece of the kernel half that is compared, [start, last]. */
struct region {
	uint64_t start, last;
	enum kvt_leaves_part part;
};

/* Both sides in ascending order, walked together. */
struct merge {
	struct kvt_target *target;
	bool x86;
	uint64_t memory, max_paddr; /* frames in [memory, max_paddr) are not known */
	struct region *regions;
	size_t regions_count;
	struct leaf *listed;
	size_t listed_count, capacity, next;
	const struct region *region; /* the one at work */
	unsigned most, told[KVT_LEAVES_PARTS];
	FILE *report;
	struct kvt_buffer differing[KVT_LEAVES_PARTS];
	struct kvt_compared_leaves *result;
};

const char *
kvt_leaves_part_name(enum kvt_leaves_part part)
{
	static const char *const names[] = { "leaves", "direct map", "kernel image" };

	return names[part];
}

bool
kvt_compared_leaves_equal(const struct kvt_compared_leaves *c)
{
	for (int i = 0; i < KVT_LEAVES_PARTS; i++)
		if (!kvt_compared_equal(&c->part[i]))
			return false;
	return true;
}

/* ---- The merge -------------------------------------------------------------------- */

static void
print_leaf(struct kvt_buffer *b, const struct leaf *leaf)
{
	kvt_putf(b, "0x%" PRIx64 "..0x%" PRIx64 " -> 0x%" PRIx64 " r%c%c", leaf->va, leaf->va + leaf->size, leaf->paddr,
		 (leaf->flags & FLAG_W) != 0 ? 'w' : '-', (leaf->flags & FLAG_X) != 0 ? 'x' : '-');
}

/* Tell one difference; either side may be missing. */
static void
tell(struct merge *m, const struct leaf *listed, const struct leaf *store)
{
	enum kvt_leaves_part part = m->region->part;
	struct kvt_buffer *b = &m->differing[part];

	if (m->told[part]++ >= m->most)
		return;
	kvt_puts(b, "  leaf ");
	if (listed != NULL) {
		kvt_puts(b, "listed ");
		print_leaf(b, listed);
	}
	if (listed != NULL && store != NULL)
		kvt_puts(b, ", ");
	if (store != NULL) {
		kvt_puts(b, "in the store ");
		print_leaf(b, store);
	}
	kvt_puts(b, listed == NULL ? ": not listed\n" : store == NULL ? ": not in the store\n" : "\n");
}

static void
compare_pair(struct merge *m, const struct leaf *listed, const struct leaf *store)
{
	struct kvt_compared *c = &m->result->part[m->region->part];
	bool known = store->paddr < m->memory || store->paddr >= m->max_paddr;

	c->known += known;
	if (listed->size == store->size && ((listed->flags ^ store->flags) & FLAGS_COMPARED) == 0 &&
	    (!known || listed->paddr == store->paddr)) {
		c->agree++;
		m->result->attributes[m->region->part] += listed->flags != store->flags;
		return;
	}
	c->differ++;
	tell(m, listed, store);
}

/* The next leaf of the store; NULL: the region has no more. */
static void
merge_next(struct merge *m, const struct leaf *store)
{
	struct kvt_compared *c = &m->result->part[m->region->part];

	while (m->next < m->listed_count && m->listed[m->next].va <= m->region->last &&
	       (store == NULL || m->listed[m->next].va < store->va)) {
		c->only_listed++;
		tell(m, &m->listed[m->next++], NULL);
	}
	if (store == NULL)
		return;
	c->in_store++;
	if (m->next < m->listed_count && m->listed[m->next].va == store->va) {
		compare_pair(m, &m->listed[m->next++], store);
		return;
	}
	c->only_store++;
	tell(m, NULL, store);
}

static unsigned
flags_of(uint64_t prop)
{
	unsigned flags = (unsigned)(prop >> KVMS_PROP_CACHE_SHIFT) << FLAG_CACHE_SHIFT;

	flags |= (prop & KVMS_PROP_W) != 0 ? FLAG_W : 0;
	flags |= (prop & KVMS_PROP_X) != 0 ? FLAG_X : 0;
	return flags | ((prop & KVMS_PROP_GLOBAL) != 0 ? FLAG_GLOBAL : 0);
}

static bool
merge_run(void *arg, const struct kvms_extent *run)
{
	struct merge *m = arg;
	uint64_t size = (uint64_t)KVMS_PAGE_SIZE << (9 * (run->level - 1));

	if (m->x86 && (run->prop & KVMS_PROP_R) == 0)
		return true;
	for (uint64_t i = 0; i < run->leaves; i++) {
		struct leaf leaf = { run->va + i * size, size, run->paddr + i * size, flags_of(run->prop) };

		merge_next(m, &leaf);
	}
	return true;
}

/* Say how one part went: the count first, then what differs. */
static void
print_part(struct merge *m, enum kvt_leaves_part part)
{
	const struct kvt_compared *c = &m->result->part[part];

	fprintf(m->report, "%s %" PRIu64 " of %" PRIu64 "\n", kvt_leaves_part_name(part), c->agree, c->listed);
	if (part == KVT_LEAVES_AREAS)
		fprintf(m->report, "  frames compared %" PRIu64 "\n", c->known);
	if (m->result->attributes[part] > 0)
		fprintf(m->report, "  global bit or cache differ %" PRIu64 "\n", m->result->attributes[part]);
	if (!kvt_compared_equal(c))
		fprintf(m->report, "  differ %" PRIu64 ", only listed %" PRIu64 ", only in the store %" PRIu64 "\n",
			c->differ, c->only_listed, c->only_store);
	fwrite(kvt_buffer_text(&m->differing[part]), 1, m->differing[part].size, m->report);
	if (m->told[part] > m->most)
		fprintf(m->report, "  and %u more\n", m->told[part] - m->most);
}

/* ---- What is compared ----------------------------------------------------------------- */

static bool
first_leaf(void *arg, const struct kvms_extent *run)
{
	*(uint64_t *)arg = run->va;
	return false;
}

/* The region from the first leaf of the store in [start, last] on, if there is one. */
static enum kvt_status
add_gap(struct merge *m, uint64_t start, uint64_t last, enum kvt_leaves_part part)
{
	uint64_t first = 0;
	enum kvt_status status = m->target->extents(m->target, 0, start, last, first_leaf, &first);

	if (status != KVT_DONE || first == 0)
		return status;
	m->regions[m->regions_count++] = (struct region){ first, last, part };
	m->result->compared[part] = true;
	return status;
}

/* The regions, ascending: the ranges of areas, and what the store has mapped around them. */
static enum kvt_status
find_regions(struct merge *m, const uint64_t *ranges, uint64_t count)
{
	enum kvt_leaves_part part = KVT_LEAVES_DIRECT;
	enum kvt_status status = KVT_DONE;
	uint64_t start = KERNEL_HALF;

	m->regions = calloc(2 * count + 1, sizeof *m->regions);
	if (m->regions == NULL)
		return KVT_NOMEM;
	for (uint64_t i = 0; status == KVT_DONE && i < count; i++) {
		status = add_gap(m, start, ranges[2 * i] - 1, part);
		m->regions[m->regions_count++] =
		    (struct region){ ranges[2 * i], ranges[2 * i + 1] - 1, KVT_LEAVES_AREAS };
		start = ranges[2 * i + 1];
		part = KVT_LEAVES_IMAGE;
	}
	m->result->compared[KVT_LEAVES_AREAS] = true;
	return status == KVT_DONE ? add_gap(m, start, UINT64_MAX, part) : status;
}

static const struct region *
region_of(const struct merge *m, uint64_t va)
{
	for (size_t i = 0; i < m->regions_count; i++)
		if (m->regions[i].start <= va && va <= m->regions[i].last)
			return &m->regions[i];
	return NULL;
}

/* ---- Reading the kernel's side ------------------------------------------------------- */

/* The cache code that the two bits of an entry stand for, as a property has it. */
static unsigned
cache_of(bool disable, bool through)
{
	static const char *const words[] = { "wb", "wt", "wc", "uc" };
	const char *word = words[2 * disable + through];
	unsigned code = 0;

	for (const char *w; (w = kvms_word(KVMS_CACHE, code)) != NULL && strcmp(w, word) != 0;)
		code++;
	return code;
}

/* "va,pa,size,entry,flags" */
static bool
parse_leaf(const char *line, struct leaf *leaf)
{
	uint64_t value[4];

	for (unsigned i = 0; i < 4; i++) {
		const char *comma = strchr(line, ',');

		if (comma == NULL || !kvt_parse_u64(line, (size_t)(comma - line), &value[i]))
			return false;
		line = comma + 1;
	}
	leaf->va = value[0];
	leaf->paddr = value[1];
	leaf->size = value[2];
	leaf->flags = (strchr(line, 'w') != NULL ? FLAG_W : 0) | (strchr(line, 'x') != NULL ? FLAG_X : 0) |
		      (strchr(line, 'g') != NULL ? FLAG_GLOBAL : 0);
	leaf->flags |= cache_of(strchr(line, 'c') != NULL, strchr(line, 't') != NULL) << FLAG_CACHE_SHIFT;
	return leaf->size > 0 && (leaf->size & (leaf->size - 1)) == 0 && leaf->va % leaf->size == 0;
}

/* "count" leaves of "size" that say the same as the one. */
static bool
add_leaves(struct merge *m, const struct leaf *leaf, uint64_t size, uint64_t count)
{
	if (count > TABLE_MAX - m->listed_count)
		return false;
	if (m->listed_count + count > m->capacity) {
		size_t capacity = 2 * (m->listed_count + (size_t)count) + 1024;
		struct leaf *at = realloc(m->listed, capacity * sizeof *at);

		if (at == NULL)
			return false;
		m->listed = at;
		m->capacity = capacity;
	}
	for (uint64_t i = 0; i < count; i++)
		m->listed[m->listed_count++] =
		    (struct leaf){ leaf->va + i * size, size, leaf->paddr + i * size, leaf->flags };
	return true;
}

static bool
take_leaf(struct merge *m, const struct leaf *leaf)
{
	const struct region *region = region_of(m, leaf->va);
	uint64_t size = m->x86 && leaf->size > X86_LEAF_MAX ? X86_LEAF_MAX : leaf->size;

	if (region == NULL)
		return true;
	if (!add_leaves(m, leaf, size, leaf->size / size))
		return false;
	m->result->part[region->part].listed += leaf->size / size;
	return true;
}

static bool
unreadable(struct kvt_input *in, FILE *report, const char *what)
{
	fprintf(report, "%s:%" PRIu64 ": %s\n", kvt_input_name(in), kvt_input_lines(in), what);
	return false;
}

static bool
read_table(struct merge *m, struct kvt_input *in)
{
	ssize_t size;
	char *line;

	while ((size = kvt_input_line(in, &line)) >= 0) {
		struct leaf leaf;

		if (size == 0 || (kvt_input_lines(in) == 1 && strncmp(line, "va,", 3) == 0))
			continue;
		if (!parse_leaf(line, &leaf))
			return unreadable(in, m->report, "not a leaf (va,pa,size,entry,flags)");
		if (!take_leaf(m, &leaf))
			return unreadable(in, m->report, "no memory for so many leaves");
	}
	if (size == -2)
		fprintf(m->report, "%s\n", kvt_input_error(in));
	return size == -1;
}

/* ---- The whole --------------------------------------------------------------------------- */

static int
by_va(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;

	return x->va < y->va ? -1 : x->va > y->va;
}

static enum kvt_status
merge_all(struct merge *m)
{
	enum kvt_status status = KVT_DONE;

	if (m->listed_count > 0)
		qsort(m->listed, m->listed_count, sizeof *m->listed, by_va);
	for (size_t i = 0; status == KVT_DONE && i < m->regions_count; i++) {
		m->region = &m->regions[i];
		status = m->target->extents(m->target, 0, m->region->start, m->region->last, merge_run, m);
		merge_next(m, NULL);
	}
	for (int part = 0; status == KVT_DONE && part < KVT_LEAVES_PARTS; part++)
		if (m->result->compared[part])
			print_part(m, (enum kvt_leaves_part)part);
	return status;
}

/* What the configuration says. */
static void
learn_config(struct merge *m, const struct kvms_op *config, uint64_t memory)
{
	const struct kvms_row *row = kvms_store_row();
	const char *arch = kvms_word(KVMS_ARCH, config->arg[kvms_arg_index(row, "arch")]);

	m->x86 = arch != NULL && strncmp(arch, "x86_64", 6) == 0;
	m->max_paddr = config->arg[kvms_arg_index(row, "max_paddr")];
	m->memory = memory != 0 ? memory : m->max_paddr / 2;
}

enum kvt_status
kvt_compare_leaves(struct kvt_target *t, struct kvt_input *table, uint64_t memory, unsigned most, FILE *report,
		   struct kvt_compared_leaves *result, bool *readable)
{
	struct merge m = { .target = t, .most = most, .report = report, .result = result };
	const struct kvms_op *config;
	const uint64_t *ranges;
	enum kvt_status status;
	uint64_t count;

	memset(result, 0, sizeof *result);
	*readable = true;
	status = t->config(t, &config);
	if (status != KVT_DONE)
		return status;
	learn_config(&m, config, memory);
	ranges = kvms_op_list(config, kvms_store_row(), (unsigned)kvms_arg_index(kvms_store_row(), "vmalloc"), &count);
	status = find_regions(&m, ranges, count);
	if (status == KVT_DONE) {
		*readable = read_table(&m, table);
		if (*readable)
			status = merge_all(&m);
	}
	free(m.regions);
	free(m.listed);
	for (int part = 0; part < KVT_LEAVES_PARTS; part++)
		kvt_buffer_free(&m.differing[part]);
	return status;
}
