#include "trace/listing.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PAGE ((uint64_t)KVMS_PAGE_SIZE)
#define SIZE_2M (PAGE << 9)
#define SIZE_1G (PAGE << 18)
#define CACHE(code) ((uint64_t)(code) << KVMS_PROP_CACHE_SHIFT)

#define ASPECT(name) (1u << KVT_ASPECT_##name)

static const char *const form_names[KVT_FORMS] = {
	[KVT_QEMU_TLB] = "qemu-tlb", [KVT_QEMU_MEM] = "qemu-mem", [KVT_VMALLOCINFO] = "vmallocinfo",
	[KVT_MAPS] = "maps",         [KVT_PAGEMAP] = "pagemap",   [KVT_LEAVES] = "leaves",
	[KVT_PTDUMP] = "ptdump",
};

static const char *const aspect_names[KVT_ASPECTS] = { "frame", "size",   "read",     "write", "execute",
						       "user",  "global", "accessed", "dirty", "cache" };

const char *
kvt_form_name(enum kvt_form form)
{
	return form < KVT_FORMS ? form_names[form] : NULL;
}

enum kvt_form
kvt_form_find(const char *name)
{
	unsigned form = 0;

	while (form < KVT_FORMS && strcmp(form_names[form], name) != 0)
		form++;
	return (enum kvt_form)form;
}

const char *
kvt_aspect_name(enum kvt_aspect aspect)
{
	return aspect < KVT_ASPECTS ? aspect_names[aspect] : NULL;
}

bool
kvt_aspects_parse(const char *text, unsigned *set, const char **bad)
{
	*set = 0;
	for (;;) {
		size_t length = strcspn(text, ",");
		unsigned i = 0;

		while (i < KVT_ASPECTS &&
		       (strlen(aspect_names[i]) != length || strncmp(aspect_names[i], text, length) != 0))
			i++;
		*bad = text;
		if (i == KVT_ASPECTS)
			return false;
		*set |= 1u << i;
		if (text[length] == '\0')
			return true;
		text += length + 1;
	}
}

/* ---- Items --------------------------------------------------------------------------- */

void
kvt_items_free(struct kvt_items *l)
{
	free(l->at);
	memset(l, 0, sizeof *l);
}

void
kvt_items_add(struct kvt_items *l, const struct kvt_item *item)
{
	if (l->count == l->capacity) {
		size_t capacity = l->capacity == 0 ? 256 : 2 * l->capacity;
		struct kvt_item *at = realloc(l->at, capacity * sizeof *at);

		if (at == NULL) {
			l->failed = true;
			return;
		}
		l->at = at;
		l->capacity = capacity;
	}
	l->at[l->count++] = *item;
}

static int
by_start(const void *a, const void *b)
{
	const struct kvt_item *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* ---- Reading: pieces of a line -------------------------------------------------------------- */

/* A line, and how far it has been read. */
struct reader {
	struct kvt_input *in;
	const char *line, *at, *end;
	char *error;
	size_t error_size;
};

static bool
fail(struct reader *r, const char *expected)
{
	size_t left = (size_t)(r->end - r->at), length = 0;
	char found[41];

	while (length < left && length < sizeof found - 1 && (unsigned char)r->at[length] > ' ') {
		unsigned char c = (unsigned char)r->at[length];

		found[length++] = c < 0x7f ? (char)c : '?';
	}
	found[length] = '\0';
	snprintf(r->error, r->error_size, "%s:%" PRIu64 ":%zu: expected %s, found %s%s%s", kvt_input_name(r->in),
		 kvt_input_lines(r->in), (size_t)(r->at - r->line) + 1, expected, length > 0 ? "'" : "",
		 length > 0 ? found
		 : left > 0 ? "a blank or control character"
			    : "the end of the line",
		 length > 0 ? "'" : "");
	return false;
}

static void
blanks(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
		r->at++;
}

static bool
literal(struct reader *r, const char *text)
{
	size_t length = strlen(text);
	char expected[40];

	if ((size_t)(r->end - r->at) >= length && memcmp(r->at, text, length) == 0) {
		r->at += length;
		return true;
	}
	snprintf(expected, sizeof expected, "\"%s\"", text);
	return fail(r, expected);
}

static int
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Digits of a base of 10 or 16, without a prefix. */
static bool
digits(struct reader *r, unsigned base, const char *expected, uint64_t *value)
{
	const char *first = r->at;
	const char *p = first;

	*value = 0;
	for (; p < r->end && digit_value(*p) >= 0 && (unsigned)digit_value(*p) < base; p++) {
		uint64_t digit = (uint64_t)digit_value(*p);

		if (*value > (UINT64_MAX - digit) / base)
			return fail(r, "a number of at most 64 bits");
		*value = *value * base + digit;
	}
	if (p == first)
		return fail(r, expected);
	r->at = p;
	return true;
}

static bool
hex(struct reader *r, const char *expected, uint64_t *value)
{
	return digits(r, 16, expected, value);
}

/* A letter at its place: 1 if it is there, 0 if the place has a '-'; else -1, and it is said. */
static int
letter(struct reader *r, char want)
{
	char expected[24];

	if (r->at < r->end && (*r->at == want || *r->at == '-'))
		return *r->at++ == want;
	snprintf(expected, sizeof expected, "'%c' or '-'", want);
	(void)fail(r, expected);
	return -1;
}

static bool
line_end(struct reader *r)
{
	blanks(r);
	if (r->at < r->end && *r->at == '\r')
		r->at++;
	return r->at == r->end || fail(r, "the end of the line");
}

/* A range must hold something, in whole pages. */
static bool
range_ok(struct reader *r, const struct kvt_item *item, uint64_t end)
{
	r->at = r->line;
	if (item->start % PAGE != 0 || end % PAGE != 0)
		return fail(r, "addresses of whole pages");
	return end - 1 >= item->start || fail(r, "a range that ends behind its start");
}

/* ---- Reading: the forms ---------------------------------------------------------------------------- */

enum taken { TAKEN, NO_ITEM, WRONG }; /* NO_ITEM: a line that tells of none */

/* Letters of a leaf, in order: bits that each stands for. */
struct flag {
	char letter;
	uint64_t prop;
};

#define BIT_PSE (UINT64_C(1) << 40) /* beside those of a property */
#define BIT_PCD (UINT64_C(1) << 41)
#define BIT_PWT (UINT64_C(1) << 42)
#define BIT_NX (UINT64_C(1) << 43)

static bool
flags(struct reader *r, const struct flag *want, uint64_t *bits)
{
	*bits = 0;
	for (; want->letter != '\0'; want++) {
		int there = letter(r, want->letter);

		if (there < 0)
			return false;
		if (there > 0)
			*bits |= want->prop;
	}
	return true;
}

/* PCD and PWT as an x86 machine without further PAT bits means them. */
static uint64_t
x86_cache(uint64_t bits)
{
	if ((bits & BIT_PCD) != 0)
		return (bits & BIT_PWT) != 0 ? CACHE(0) : CACHE(1);
	return (bits & BIT_PWT) != 0 ? CACHE(3) : CACHE(4);
}

static const struct flag tlb_flags[] = { { 'X', BIT_NX },      { 'G', KVMS_PROP_GLOBAL }, { 'P', BIT_PSE },
					 { 'D', KVMS_PROP_D }, { 'A', KVMS_PROP_A },      { 'C', BIT_PCD },
					 { 'T', BIT_PWT },     { 'U', KVMS_PROP_USER },   { 'W', KVMS_PROP_W },
					 { '\0', 0 } };

#define PROPS (KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X | KVMS_PROP_A | KVMS_PROP_D | KVMS_PROP_USER | KVMS_PROP_GLOBAL)

/* "0000010000000000: 00000000085e8000 XGPDACTUW".  Whether a leaf is large follows when all lines are known. */
static enum taken
take_tlb(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t bits;

	(void)l;
	if (!hex(r, "an address in hex", &item->start) || !literal(r, ":"))
		return WRONG;
	blanks(r);
	if (!hex(r, "a physical address in hex", &item->paddr))
		return WRONG;
	blanks(r);
	if (!flags(r, tlb_flags, &bits) || !line_end(r) || !range_ok(r, item, item->start + PAGE))
		return WRONG;
	item->paddr &= ~(PAGE - 1); /* a large leaf's PAT bit stands in its address */
	item->last = item->start + (PAGE - 1);
	item->size = PAGE;
	item->unsure = (bits & BIT_PSE) != 0;
	item->prop = KVMS_PROP_R | (bits & PROPS) | ((bits & BIT_NX) != 0 ? 0 : KVMS_PROP_X) | x86_cache(bits);
	return TAKEN;
}

static const struct flag riscv_flags[] = { { 'r', KVMS_PROP_R },      { 'w', KVMS_PROP_W },
					   { 'x', KVMS_PROP_X },      { 'u', KVMS_PROP_USER },
					   { 'g', KVMS_PROP_GLOBAL }, { 'a', KVMS_PROP_A },
					   { 'd', KVMS_PROP_D },      { '\0', 0 } };

/* "0000000000010000 000000008a1fb000 0000000000010000 rwxugad" */
static enum taken
take_mem_riscv(struct reader *r, struct kvt_item *item)
{
	uint64_t size;

	blanks(r);
	if (!hex(r, "a physical address in hex", &item->paddr))
		return WRONG;
	blanks(r);
	if (!hex(r, "a size in hex", &size))
		return WRONG;
	blanks(r);
	if (!flags(r, riscv_flags, &item->prop) || !line_end(r) || !range_ok(r, item, item->start + size))
		return WRONG;
	item->last = item->start + (size - 1);
	if (item->last < item->start || size == 0) {
		r->at = r->line;
		(void)fail(r, "a range that ends behind its start");
		return WRONG;
	}
	return TAKEN;
}

static const struct flag mem_flags[] = {
	{ 'u', KVMS_PROP_USER }, { 'r', KVMS_PROP_R }, { 'w', KVMS_PROP_W }, { '\0', 0 }
};

#define MEM_X86 (ASPECT(WRITE) | ASPECT(USER))
#define MEM_RISCV                                                                                                      \
	(ASPECT(FRAME) | ASPECT(READ) | ASPECT(WRITE) | ASPECT(EXECUTE) | ASPECT(USER) | ASPECT(GLOBAL) |              \
	 ASPECT(ACCESSED) | ASPECT(DIRTY))

/* "0000010000000000-0000010000010000 0000000000010000 urw", or as above with two lines of heading. */
static enum taken
take_mem(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t end, size;

	if (l->count == 0 && (strncmp(r->line, "vaddr ", 6) == 0 || strncmp(r->line, "-----", 5) == 0))
		return NO_ITEM;
	if (!hex(r, "an address in hex", &item->start))
		return WRONG;
	bool riscv = r->at < r->end && *r->at != '-';
	if (l->count > 0 && riscv != (l->told == MEM_RISCV)) {
		(void)fail(r, riscv ? "\"-\"" : "a blank");
		return WRONG;
	}
	l->told = riscv ? MEM_RISCV : MEM_X86;
	if (riscv)
		return take_mem_riscv(r, item) == TAKEN ? TAKEN : WRONG;
	if (!literal(r, "-") || !hex(r, "an address in hex", &end))
		return WRONG;
	blanks(r);
	if (!hex(r, "a size in hex", &size))
		return WRONG;
	/* the end of all addresses is printed as the end of their bits */
	if (end < item->start && (end & (end - 1)) == 0 && item->start >> 63 != 0)
		end = item->start + size;
	if (end - item->start != size) {
		(void)fail(r, "an end and a size that agree");
		return WRONG;
	}
	blanks(r);
	if (!flags(r, mem_flags, &item->prop) || !line_end(r) || !range_ok(r, item, end))
		return WRONG;
	item->last = end - 1;
	return TAKEN;
}

/* "0xSTART-0xEND SIZE ...": an area. */
static enum taken
take_vmallocinfo(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t end, size;

	if (!literal(r, "0x") || !hex(r, "an address in hex", &item->start) || !literal(r, "-0x") ||
	    !hex(r, "an address in hex", &end))
		return WRONG;
	blanks(r);
	if (!digits(r, 10, "a size in decimal", &size))
		return WRONG;
	if (end - item->start != size) {
		(void)fail(r, "an end and a size that agree");
		return WRONG;
	}
	const char *rest = r->at;
	if (!range_ok(r, item, end))
		return WRONG;
	if (strstr(rest, "unpurged") != NULL) {
		l->unpurged++;
		return NO_ITEM;
	}
	item->last = end - 1;
	return TAKEN;
}

static const struct flag maps_flags[] = {
	{ 'r', KVMS_PROP_R }, { 'w', KVMS_PROP_W }, { 'x', KVMS_PROP_X }, { '\0', 0 }
};

/* "557285ec6000-557285ec7000 r-xp 00001000 fe:00 20176 /guest/sync"; what nobody may touch is no item. */
static enum taken
take_maps(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t end;

	(void)l;
	if (!hex(r, "an address in hex", &item->start) || !literal(r, "-") || !hex(r, "an address in hex", &end) ||
	    !literal(r, " ") || !flags(r, maps_flags, &item->prop))
		return WRONG;
	if (r->at == r->end || (*r->at != 'p' && *r->at != 's')) {
		(void)fail(r, "'p' or 's'");
		return WRONG;
	}
	if (!range_ok(r, item, end))
		return WRONG;
	item->last = end - 1;
	return item->prop != 0 ? TAKEN : NO_ITEM;
}

/* "10000000000 c924 1 0 0 1 1 400205828": hex, a page that is not present is no item. */
static enum taken
take_pagemap(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t pfn, present, rest;

	(void)l;
	if (r->line[0] == '#')
		return NO_ITEM;
	if (!hex(r, "an address in hex", &item->start) || !literal(r, " ") || !hex(r, "a frame number in hex", &pfn) ||
	    !literal(r, " ") || !hex(r, "0 or 1", &present))
		return WRONG;
	if (present > 1 || pfn >= UINT64_C(1) << 52) {
		(void)fail(r, present > 1 ? "0 or 1 for present" : "a frame number of at most 52 bits");
		return WRONG;
	}
	for (unsigned i = 0; i < 5 && r->at < r->end; i++) {
		if (!literal(r, " ") || !hex(r, "a number in hex", &rest))
			return WRONG;
	}
	if (!line_end(r) || !range_ok(r, item, item->start + PAGE))
		return WRONG;
	item->last = item->start + (PAGE - 1);
	item->paddr = pfn * PAGE;
	return present == 1 ? TAKEN : NO_ITEM;
}

#define LEAVES_X86                                                                                                     \
	(ASPECT(FRAME) | ASPECT(SIZE) | ASPECT(READ) | ASPECT(WRITE) | ASPECT(EXECUTE) | ASPECT(USER) |                \
	 ASPECT(GLOBAL) | ASPECT(ACCESSED) | ASPECT(DIRTY) | ASPECT(CACHE))

static uint64_t
leaf_flag(char c)
{
	switch (c) {
	case 'r':
		return KVMS_PROP_R;
	case 'w':
		return KVMS_PROP_W;
	case 'x':
		return KVMS_PROP_X;
	case 'u':
		return KVMS_PROP_USER;
	case 'g':
		return KVMS_PROP_GLOBAL;
	case 'a':
		return KVMS_PROP_A;
	case 'd':
		return KVMS_PROP_D;
	case 'c':
		return BIT_PCD;
	case 't':
		return BIT_PWT;
	default:
		return c == '-' || c == 'k' ? 0 : UINT64_MAX;
	}
}

/* A number of the two accepted forms up to a comma. */
static bool
csv_number(struct reader *r, uint64_t *value)
{
	const char *comma = memchr(r->at, ',', (size_t)(r->end - r->at));

	if (comma == NULL || !kvt_parse_u64(r->at, (size_t)(comma - r->at), value))
		return fail(r, "a number and a comma");
	r->at = comma + 1;
	return true;
}

/* "0x10000000000,0xc924000,4096,0xc924867,rwxu---ad" */
static enum taken
take_leaves(struct reader *r, struct kvt_items *l, struct kvt_item *item)
{
	uint64_t entry, bits = 0;
	const char *first;

	if (l->count == 0 && strncmp(r->line, "va,", 3) == 0)
		return NO_ITEM;
	if (!csv_number(r, &item->start) || !csv_number(r, &item->paddr) || !csv_number(r, &item->size) ||
	    !csv_number(r, &entry))
		return WRONG;
	for (first = r->at; r->at < r->end && *r->at != '\r' && *r->at != ' '; r->at++) {
		if (leaf_flag(*r->at) == UINT64_MAX) {
			(void)fail(r, "one of r w x u k g c t a d -");
			return WRONG;
		}
		bits |= leaf_flag(*r->at);
	}
	if (r->at - first < 9) /* not x86's letters */
		l->told &= ~ASPECT(CACHE);
	if (!line_end(r) || !range_ok(r, item, item->start + item->size))
		return WRONG;
	if ((item->size & (item->size - 1)) != 0 || item->start % item->size != 0) {
		(void)fail(r, "a leaf at a multiple of its size");
		return WRONG;
	}
	item->prop = (bits & PROPS) | x86_cache(bits);
	item->last = item->start + (item->size - 1);
	return TAKEN;
}

static const struct {
	enum taken (*take)(struct reader *r, struct kvt_items *l, struct kvt_item *item);
	unsigned told;
} readers[KVT_FORMS] = {
	[KVT_QEMU_TLB] = { take_tlb, LEAVES_X86 & ~ASPECT(READ) },
	[KVT_QEMU_MEM] = { take_mem, MEM_X86 },
	[KVT_VMALLOCINFO] = { take_vmallocinfo, 0 },
	[KVT_MAPS] = { take_maps, ASPECT(READ) | ASPECT(WRITE) | ASPECT(EXECUTE) },
	[KVT_PAGEMAP] = { take_pagemap, ASPECT(FRAME) },
	[KVT_LEAVES] = { take_leaves, LEAVES_X86 },
};

/*
 * A leaf with P is a large one, or has its PAT bit set: its size is the
 * largest that fits its addresses and ends before the next leaf.
 */
static void
sizes_guess(struct kvt_items *l)
{
	static const uint64_t sizes[] = { SIZE_1G, SIZE_2M };

	for (size_t i = 0; i < l->count; i++) {
		struct kvt_item *item = &l->at[i];

		for (unsigned k = 0; item->unsure && item->size == PAGE && k < 2; k++) {
			uint64_t last = item->start + (sizes[k] - 1);

			if ((item->start | item->paddr) % sizes[k] == 0 &&
			    (i + 1 == l->count || l->at[i + 1].start > last)) {
				item->size = sizes[k];
				item->last = last;
			}
		}
	}
}

static bool
overlap_check(struct kvt_items *l, struct reader *r)
{
	for (size_t i = 1; i < l->count; i++) {
		if (l->at[i].start > l->at[i - 1].last)
			continue;
		/* the later line is the one that is wrong */
		const struct kvt_item *a = &l->at[i - 1], *b = &l->at[i];
		uint64_t later = a->id > b->id ? a->id : b->id, earlier = a->id > b->id ? b->id : a->id;

		snprintf(r->error, r->error_size, "%s:%" PRIu64 ":1: 0x%" PRIx64 " is told of in line %" PRIu64 " too",
			 kvt_input_name(r->in), later, b->start, earlier);
		return false;
	}
	return true;
}

bool
kvt_listing_read(struct kvt_items *l, enum kvt_form form, struct kvt_input *in, char *error, size_t error_size)
{
	struct reader r = { .in = in, .error = error, .error_size = error_size };
	ssize_t size;
	char *line;

	l->told = readers[form].told;
	if (readers[form].take == NULL) {
		snprintf(error, error_size, "listings of the form %s are printed, not read", form_names[form]);
		return false;
	}
	while (!l->failed && (size = kvt_input_line(in, &line)) >= 0) {
		struct kvt_item item = { .id = kvt_input_lines(in) };

		if (size == 0 || line[strspn(line, " \t\r")] == '\0')
			continue;
		r.line = r.at = line;
		r.end = line + size;
		enum taken taken = readers[form].take(&r, l, &item);
		if (taken == WRONG)
			return false;
		if (taken == TAKEN)
			kvt_items_add(l, &item);
	}
	if (l->failed) {
		snprintf(error, error_size, "%s: no memory", kvt_input_name(in));
		return false;
	}
	if (kvt_input_error(in)[0] != '\0') {
		snprintf(error, error_size, "%s", kvt_input_error(in));
		return false;
	}
	if (l->count > 0)
		qsort(l->at, l->count, sizeof *l->at, by_start);
	sizes_guess(l);
	return overlap_check(l, &r);
}

/* ---- The store's side ----------------------------------------------------------------------------------- */

bool
kvt_is_present(const struct kvms_op *config, uint64_t prop)
{
	int index = kvms_arg_index(kvms_store_row(), "arch");
	const char *arch = index >= 0 ? kvms_word(KVMS_ARCH, config->arg[index]) : NULL;

	return arch == NULL || strncmp(arch, "x86_64", 6) != 0 || (prop & KVMS_PROP_R) != 0;
}

struct gather {
	struct kvt_items *l;
	const struct kvms_op *config;
	uint64_t first, last;
};

static bool
gather_run(void *arg, const struct kvms_extent *run)
{
	struct gather *g = arg;
	uint64_t size = PAGE << (9 * (run->level - 1));
	struct kvt_item item = { .start = run->va,
				 .last = run->va + (run->leaves * size - 1),
				 .paddr = run->paddr,
				 .prop = run->prop,
				 .size = size,
				 .tracked = run->tracked };

	if (item.last < g->first || item.start > g->last || !kvt_is_present(g->config, run->prop))
		return true;
	if (item.start < g->first) {
		item.paddr += g->first - item.start;
		item.start = g->first;
	}
	if (item.last > g->last)
		item.last = g->last;
	kvt_items_add(g->l, &item);
	return !g->l->failed;
}

enum kvt_status
kvt_items_of_table(struct kvt_items *l, struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last)
{
	struct gather g = { .l = l, .first = first, .last = last };

	l->told = (1u << KVT_ASPECTS) - 1;
	enum kvt_status status = t->config(t, &g.config);
	if (status == KVT_DONE) /* from where the largest leaf that reaches "first" may start */
		status = t->extents(t, table, first & ~((PAGE << 27) - 1), last, gather_run, &g);
	return status == KVT_DONE && l->failed ? KVT_NOMEM : status;
}

enum kvt_status
kvt_items_of_areas(struct kvt_items *l, struct kvt_target *t)
{
	const struct kvms_row *row = kvms_request_find("areas");
	struct kvms_outcome out = { 0 };
	struct kvms_op op;
	uint64_t count;

	kvms_op_init(&op, row);
	enum kvt_status status = t->inspect(t, &op, &out);
	if (status == KVT_DONE && out.name == 0) {
		const uint64_t *area = kvms_outcome_list(&out, row, 0, &count);

		for (uint64_t i = 0; i < count; i++, area += 3)
			if (area[2] > area[1]) /* an area may be empty */
				kvt_items_add(
				    l, &(struct kvt_item){ .id = area[0], .start = area[1], .last = area[2] - 1 });
	}
	kvms_outcome_free(&out);
	if (l->count > 0)
		qsort(l->at, l->count, sizeof *l->at, by_start);
	return status == KVT_DONE && l->failed ? KVT_NOMEM : status;
}
