/*
 * Listings of a store, in the forms that real systems print.
 */
#include "trace/listing.h"

#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

#define PAGE ((uint64_t)KVMS_PAGE_SIZE)

enum machine { X86, RISCV, LOONGARCH };

struct printer {
	struct kvt_target *t;
	FILE *out;
	uint64_t table;
	enum machine machine;
	unsigned width; /* bits of a virtual address */
	char *error;
	size_t error_size;
	struct kvt_items items;
};

static unsigned
cache_of(uint64_t prop)
{
	return (unsigned)(prop >> KVMS_PROP_CACHE_SHIFT);
}

/* What x86 words have for a cache policy: uc both bits, wc the first, wt the second. */
static bool
has_pcd(uint64_t prop)
{
	return cache_of(prop) <= 1;
}

static bool
has_pwt(uint64_t prop)
{
	return cache_of(prop) == 0 || cache_of(prop) == 3;
}

static char
flag(uint64_t prop, uint64_t bit, char c)
{
	return (prop & bit) != 0 ? c : '-';
}

/* ---- Items, one leaf or one page at a time ----------------------------------------------- */

/* The word of the leaf at "va"; 0 if it cannot be asked. */
static uint64_t
word_of(struct printer *p, uint64_t va, enum kvt_status *status)
{
	const struct kvms_row *row = kvms_request_find("walk");
	struct kvms_outcome out = { 0 };
	uint64_t count, word = 0;
	struct kvms_op op;

	kvms_op_init(&op, row);
	op.arg[0] = p->table;
	op.arg[1] = va;
	*status = p->t->inspect(p->t, &op, &out);
	if (*status == KVT_DONE && out.name == 0) {
		const uint64_t *levels = kvms_outcome_list(&out, row, 0, &count);

		word = count > 0 ? levels[4 * count - 1] : 0;
	}
	kvms_outcome_free(&out);
	return word;
}

/* The bits of a leaf that its property does not tell of a machine that is not ours: PCD and PWT. */
#define WORD_PWT 0x8u
#define WORD_PCD 0x10u

static enum kvt_status
print_tlb(struct printer *p, const struct kvt_item *item)
{
	bool cached = cache_of(item->prop) == 4; /* then the bits are clear, and need no asking */
	enum kvt_status status = KVT_DONE;
	uint64_t prop = item->prop;

	for (uint64_t va = item->start;; va += item->size) {
		uint64_t word = cached ? 0 : word_of(p, va, &status);

		if (status != KVT_DONE)
			return status;
		fprintf(p->out, "%016" PRIx64 ": %016" PRIx64 " %c%c%c%c%c%c%c%c%c\n", va,
			item->paddr + (va - item->start), (prop & KVMS_PROP_X) != 0 ? '-' : 'X',
			flag(prop, KVMS_PROP_GLOBAL, 'G'), item->size > PAGE ? 'P' : '-', flag(prop, KVMS_PROP_D, 'D'),
			flag(prop, KVMS_PROP_A, 'A'), flag(word, WORD_PCD, 'C'), flag(word, WORD_PWT, 'T'),
			flag(prop, KVMS_PROP_USER, 'U'), flag(prop, KVMS_PROP_W, 'W'));
		if (item->last - va < item->size)
			return KVT_DONE;
	}
}

static enum kvt_status
print_leaf(struct printer *p, const struct kvt_item *item)
{
	uint64_t prop = item->prop;
	enum kvt_status status = KVT_DONE;

	for (uint64_t va = item->start;; va += item->size) {
		uint64_t word = word_of(p, va, &status);

		if (status != KVT_DONE)
			return status;
		fprintf(p->out, "0x%" PRIx64 ",0x%" PRIx64 ",%" PRIu64 ",0x%" PRIx64 ",%c%c%c", va,
			item->paddr + (va - item->start), item->size, word, flag(prop, KVMS_PROP_R, 'r'),
			flag(prop, KVMS_PROP_W, 'w'), flag(prop, KVMS_PROP_X, 'x'));
		if (p->machine == X86)
			fprintf(p->out, "%c%c%c%c", (prop & KVMS_PROP_USER) != 0 ? 'u' : 'k',
				flag(prop, KVMS_PROP_GLOBAL, 'g'), flag(word, WORD_PCD, 'c'),
				flag(word, WORD_PWT, 't'));
		else
			fprintf(p->out, "%c%c", flag(prop, KVMS_PROP_USER, 'u'), flag(prop, KVMS_PROP_GLOBAL, 'g'));
		fprintf(p->out, "%c%c\n", flag(prop, KVMS_PROP_A, 'a'), flag(prop, KVMS_PROP_D, 'd'));
		if (item->last - va < item->size)
			return KVT_DONE;
	}
}

/* Is the frame there mapped once, by a mapping that counts? */
static bool
mapped_once(struct printer *p, uint64_t paddr, enum kvt_status *status)
{
	const struct kvms_row *row = kvms_request_find("frame");
	struct kvms_outcome out = { 0 };
	struct kvms_op op;

	kvms_op_init(&op, row);
	op.arg[0] = paddr;
	*status = p->t->inspect(p->t, &op, &out);
	bool once = *status == KVT_DONE && out.name == 0 && out.field[kvms_result_index(row, "p")] == 1;
	kvms_outcome_free(&out);
	return once;
}

static enum kvt_status
print_pages(struct printer *p, const struct kvt_item *item)
{
	enum kvt_status status = KVT_DONE;

	for (uint64_t va = item->start;; va += PAGE) {
		uint64_t paddr = item->paddr + (va - item->start);
		bool once = item->tracked && mapped_once(p, paddr, &status);

		if (status != KVT_DONE)
			return status;
		fprintf(p->out, "%" PRIx64 " %" PRIx64 " 1 0 0 %u 0 0\n", va, paddr / PAGE, (unsigned)once);
		if (item->last - va < PAGE)
			return KVT_DONE;
	}
}

/* ---- Items that go on alike as one ------------------------------------------------------------- */

/* What must be the same in neighbours. */
static bool
goes_on(const struct kvt_item *a, const struct kvt_item *b, uint64_t prop, bool size, bool frames)
{
	return a->last + 1 == b->start && b->start != 0 && (a->prop & prop) == (b->prop & prop) &&
	       (!size || a->size == b->size) && (!frames || a->paddr + (b->start - a->start) == b->paddr);
}

/* Join items in place. */
static void
join(struct kvt_items *l, uint64_t prop, bool size, bool frames)
{
	size_t kept = 0;

	for (size_t i = 1; i < l->count; i++) {
		if (goes_on(&l->at[kept], &l->at[i], prop, size, frames))
			l->at[kept].last = l->at[i].last;
		else
			l->at[++kept] = l->at[i];
	}
	if (l->count > 0)
		l->count = kept + 1;
}

/* The end of a range; of one that ends where all addresses do, the end of their bits. */
static uint64_t
shown_end(const struct printer *p, const struct kvt_item *item)
{
	return item->last != UINT64_MAX ? item->last + 1 : UINT64_C(1) << p->width;
}

static void
print_mem_x86(struct printer *p, const struct kvt_item *item)
{
	fprintf(p->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", item->start, shown_end(p, item),
		item->last - item->start + 1, flag(item->prop, KVMS_PROP_USER, 'u'),
		flag(item->prop, KVMS_PROP_W, 'w'));
}

static void
print_mem_riscv(struct printer *p, const struct kvt_item *item)
{
	uint64_t prop = item->prop;

	fprintf(p->out, "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %c%c%c%c%c%c%c\n", item->start, item->paddr,
		item->last - item->start + 1, flag(prop, KVMS_PROP_R, 'r'), flag(prop, KVMS_PROP_W, 'w'),
		flag(prop, KVMS_PROP_X, 'x'), flag(prop, KVMS_PROP_USER, 'u'), flag(prop, KVMS_PROP_GLOBAL, 'g'),
		flag(prop, KVMS_PROP_A, 'a'), flag(prop, KVMS_PROP_D, 'd'));
}

static void
print_map(struct printer *p, const struct kvt_item *item)
{
	fprintf(p->out, "%08" PRIx64 "-%08" PRIx64 " %c%c%cp 00000000 00:00 0 \n", item->start, shown_end(p, item),
		flag(item->prop, KVMS_PROP_R, 'r'), flag(item->prop, KVMS_PROP_W, 'w'),
		flag(item->prop, KVMS_PROP_X, 'x'));
}

static void
print_ptdump(struct printer *p, const struct kvt_item *item)
{
	static const char *const levels[] = { "pte", "pmd", "pud", "p4d", "pgd" };
	static const char units[] = "KMGTPE";
	uint64_t size = (item->last - item->start + 1) >> 10, prop = item->prop;
	unsigned unit = 0, level = 0;

	while (size % 1024 == 0 && unit + 2 < sizeof units) {
		size >>= 10;
		unit++;
	}
	while (level < 4 && item->size >> (12 + 9 * level) > 1)
		level++;
	fprintf(p->out, "0x%016" PRIx64 "-0x%016" PRIx64 "   %9" PRIu64 "%c %s%s%s%s%s    %s%s%s\n", item->start,
		item->last + 1, size, units[unit], (prop & KVMS_PROP_USER) != 0 ? "USR " : "    ",
		(prop & KVMS_PROP_W) != 0 ? "RW " : "ro ", has_pwt(prop) ? "PWT " : "    ",
		has_pcd(prop) ? "PCD " : "    ", level > 0 ? "PSE " : "    ",
		(prop & KVMS_PROP_GLOBAL) != 0 ? "GLB " : "    ", (prop & KVMS_PROP_X) != 0 ? "x  " : "NX ",
		levels[level]);
}

/* ---- Areas ------------------------------------------------------------------------------------------ */

/* Pages that areas map, and whether they are one block that no frame is counted for. */
static void
print_area(struct printer *p, const struct kvt_item *area, const struct kvt_item **leaf, const struct kvt_item *end)
{
	uint64_t pages = 0, paddr = 0;
	bool tracked = false;

	while (*leaf < end && (*leaf)->last < area->start)
		++*leaf;
	for (const struct kvt_item *i = *leaf; i < end && i->start <= area->last; i++) {
		uint64_t from = i->start > area->start ? i->start : area->start;
		uint64_t to = i->last < area->last ? i->last : area->last;

		if (pages == 0)
			paddr = i->paddr + (from - i->start);
		pages += (to - from + 1) / PAGE;
		tracked |= i->tracked;
	}
	fprintf(p->out, "0x%016" PRIx64 "-0x%016" PRIx64 " %7" PRIu64 " area:%" PRIu64, area->start, area->last + 1,
		area->last - area->start + 1, area->id);
	if (pages > 0 && !tracked)
		fprintf(p->out, " phys=0x%016" PRIx64 " ioremap", paddr);
	else if (pages > 0)
		fprintf(p->out, " pages=%" PRIu64 " vmap", pages);
	fputc('\n', p->out);
}

static enum kvt_status
print_areas(struct printer *p)
{
	struct kvt_items areas = { 0 };
	enum kvt_status status = kvt_items_of_areas(&areas, p->t);

	if (status == KVT_DONE)
		status = kvt_items_of_table(&p->items, p->t, 0, UINT64_C(1) << 63, UINT64_MAX);
	const struct kvt_item *leaf = p->items.at;
	for (size_t i = 0; status == KVT_DONE && i < areas.count; i++)
		print_area(p, &areas.at[i], &leaf, p->items.at + p->items.count);
	kvt_items_free(&areas);
	return status;
}

/* ---- All ----------------------------------------------------------------------------------------------- */

static enum kvt_status
refuse(struct printer *p, const char *why)
{
	snprintf(p->error, p->error_size, "%s", why);
	return KVT_INVALID;
}

static void
print_each(struct printer *p, void (*print)(struct printer *p, const struct kvt_item *item))
{
	for (size_t i = 0; i < p->items.count; i++)
		print(p, &p->items.at[i]);
}

static enum kvt_status
print_each_asking(struct printer *p, enum kvt_status (*print)(struct printer *p, const struct kvt_item *item))
{
	enum kvt_status status = KVT_DONE;

	for (size_t i = 0; i < p->items.count && status == KVT_DONE; i++)
		status = print(p, &p->items.at[i]);
	return status;
}

static enum kvt_status
print_form(struct printer *p, enum kvt_form form)
{
	switch (form) {
	case KVT_QEMU_TLB:
		return print_each_asking(p, print_tlb);
	case KVT_QEMU_MEM:
		if (p->machine == X86) {
			join(&p->items, KVMS_PROP_USER | KVMS_PROP_W, false, false);
			print_each(p, print_mem_x86);
		} else {
			fputs("vaddr            paddr            size             attr\n"
			      "---------------- ---------------- ---------------- -------\n",
			      p->out);
			join(&p->items, ~UINT64_C(0), false, true);
			print_each(p, print_mem_riscv);
		}
		break;
	case KVT_MAPS:
		join(&p->items, KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X, false, false);
		print_each(p, print_map);
		break;
	case KVT_PAGEMAP:
		fputs("# va pfn present swap file/shared exclusive softdirty kpageflags\n", p->out);
		return print_each_asking(p, print_pages);
	case KVT_LEAVES:
		fputs("va,pa,size,entry,flags\n", p->out);
		return print_each_asking(p, print_leaf);
	case KVT_PTDUMP:
		join(&p->items, ~(uint64_t)(KVMS_PROP_A | KVMS_PROP_D), true, false);
		print_each(p, print_ptdump);
		break;
	case KVT_VMALLOCINFO:
	case KVT_FORMS:
		break;
	}
	return KVT_DONE;
}

static uint64_t
config_value(const struct kvms_op *config, const char *key)
{
	int index = kvms_arg_index(kvms_store_row(), key);

	return index >= 0 ? config->arg[index] : 0;
}

/* Does the form exist on the machine, and the table in the store? */
static enum kvt_status
check(struct printer *p, enum kvt_form form)
{
	const struct kvms_row *row = kvms_request_find("nodes");
	struct kvms_outcome out = { 0 };
	struct kvms_op op;

	if ((form == KVT_QEMU_TLB || form == KVT_PTDUMP) && p->machine != X86)
		return refuse(p, "this form is of x86 machines: for this store take qemu-mem or leaves");
	if (form == KVT_QEMU_MEM && p->machine == LOONGARCH)
		return refuse(p, "the emulator prints no such listing of loongarch64: take leaves");
	kvms_op_init(&op, row);
	op.arg[0] = p->table;
	enum kvt_status status = p->t->inspect(p->t, &op, &out);
	if (status == KVT_DONE && out.name != 0) {
		snprintf(p->error, p->error_size, "the store has no address space %" PRIu64, p->table);
		status = KVT_INVALID;
	}
	kvms_outcome_free(&out);
	return status;
}

enum kvt_status
kvt_listing_print(enum kvt_form form, struct kvt_target *t, uint64_t table, FILE *out, char *error, size_t error_size)
{
	struct printer p = { .t = t, .out = out, .table = table, .error = error, .error_size = error_size };
	const struct kvms_op *config;
	const char *arch;

	error[0] = '\0';
	enum kvt_status status = t->config(t, &config);
	if (status != KVT_DONE)
		return status;
	arch = kvms_word(KVMS_ARCH, config_value(config, "arch"));
	p.machine = strncmp(arch, "x86", 3) == 0 ? X86 : strncmp(arch, "riscv", 5) == 0 ? RISCV : LOONGARCH;
	p.width = strstr(arch, "la57") != NULL ? 57 : 48;
	status = check(&p, form);
	if (status == KVT_DONE && form == KVT_VMALLOCINFO) {
		status = print_areas(&p);
	} else if (status == KVT_DONE) {
		status = kvt_items_of_table(&p.items, t, table, table == 0 ? UINT64_C(1) << 63 : 0,
					    table == 0 ? UINT64_MAX : INT64_MAX);
		if (status == KVT_DONE)
			status = print_form(&p, form);
	}
	kvt_items_free(&p.items);
	return status;
}
