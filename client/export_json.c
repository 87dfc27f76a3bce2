#include "client/export_json.h"

#include "client/elements.h"
#include "client/leaves.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Tags of the digest's elements that have a form of their own here. */
enum {
	TAG_SLOT = 2,
	TAG_WORD = 3,
	TAG_NODE = 4,
	TAG_LINK = 9,
	TAG_VM_SPACE = 10,
	TAG_FLUSHER = 13,
	TAG_AREA = 14,
	TAG_FREE_VA = 15,
	TAG_FREE_MMIO = 19,
	TAG_CPU = 20,
	TAG_NEXT_ID = 22,
	TAG_CURRENT_CPU = 23,
	TAGS
};

struct area {
	uint64_t id, start, end, refs;
};

struct document {
	struct kvms *s;
	FILE *out;
	struct kvt_buffer b; /* not yet written */
	bool failed;         /* no memory */
	uint64_t told;       /* elements in the open list */

	/* gathered first: spaces, areas and runs of used frames (first, end) */
	struct kvt_words spaces, areas, used;
	size_t areas_count, at; /* areas by address; the one whose mappings are being told */
	bool area_is_open;

	/* elements: the list that is open, and the page of memory that is being told */
	uint64_t tag;
	uint64_t next_paddr; /* where the next word would go on */
	bool bytes_open;
	uint64_t node_page; /* the last page asked about, + 1 */
	bool is_node;
};

/* ---- Pieces of text ---------------------------------------------------------------------- */

/* Write what has gathered, if that is much. */
static void
drain(struct document *e, size_t limit)
{
	if (e->b.size < limit)
		return;
	fwrite(kvt_buffer_text(&e->b), 1, e->b.size, e->out);
	e->failed |= e->b.failed;
	kvt_buffer_reset(&e->b);
}

static void
list_begin(struct document *e, const char *name)
{
	kvt_putf(&e->b, ",\n\"%s\":[", name);
	e->told = 0;
}

static void
list_end(struct document *e)
{
	kvt_puts(&e->b, "\n]");
}

/* Begin an element of the open list: its first field follows. */
static void
element_begin(struct document *e)
{
	kvt_puts(&e->b, e->told++ > 0 ? ",\n{" : "\n{");
}

static void
element_end(struct document *e)
{
	kvt_putc(&e->b, '}');
	drain(e, 65536);
}

/* "name":value, with a comma before it unless it is the first. */
static void
put(struct document *e, const char *name, enum kvms_type type, uint64_t value)
{
	char last = e->b.size > 0 ? e->b.at[e->b.size - 1] : '{';

	kvt_putf(&e->b, "%s\"%s\":", last == '{' ? "" : ",", name);
	kvt_json_value(&e->b, type, value, NULL);
}

static void
put_word(struct document *e, const char *name, const char *word)
{
	char last = e->b.size > 0 ? e->b.at[e->b.size - 1] : '{';

	kvt_putf(&e->b, "%s\"%s\":\"%s\"", last == '{' ? "" : ",", name, word);
}

/* ---- What must be known first --------------------------------------------------------------- */

static bool
add_words(struct kvt_words *w, const uint64_t *words, size_t count)
{
	uint64_t *at = kvt_words_add(w, count);

	if (at != NULL)
		memcpy(at, words, count * sizeof *words);
	return at != NULL;
}

static bool
gather_one(void *arg, const uint64_t *words, unsigned count)
{
	struct document *e = arg;

	(void)count;
	if (words[0] == TAG_SLOT) {
		if (e->used.size > 0 && e->used.at[e->used.size - 1] == words[1]) {
			e->used.at[e->used.size - 1]++;
			return true;
		}
		return add_words(&e->used, (const uint64_t[]){ words[1], words[1] + 1 }, 2);
	}
	if (words[0] == TAG_VM_SPACE)
		return add_words(&e->spaces, words + 1, 1);
	return words[0] != TAG_AREA || add_words(&e->areas, words + 1, 4);
}

static int
by_start(const void *a, const void *b)
{
	const struct area *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool
gather(struct document *e)
{
	if (!kvms_visit(e->s, gather_one, e))
		return false;
	e->areas_count = e->areas.size / 4;
	if (e->areas_count > 0)
		qsort(e->areas.at, e->areas_count, sizeof(struct area), by_start);
	return true;
}

/* ---- The head --------------------------------------------------------------------------------- */

static bool
head(struct document *e, const char *name)
{
	struct kvms_outcome census = { .name = 0 };
	struct kvms_op op;

	kvt_putf(&e->b, "{\"kvmstore_export\":%u,\n\"library\":\"%s\",\n\"store\":", KVMCTL_EXPORT_VERSION,
		 kvms_version());
	kvt_json_string(&e->b, name, strlen(name));
	kvt_puts(&e->b, ",\n\"step\":");
	kvt_json_value(&e->b, KVMS_DEC, kvms_steps(e->s), NULL);
	kvt_puts(&e->b, ",\n\"digest\":");
	kvt_json_value(&e->b, KVMS_DIGEST, kvms_digest(e->s), NULL);
	kvt_puts(&e->b, ",\n\"config\":");
	kvt_json_store(&e->b, kvms_config(e->s));
	kvms_op_init(&op, kvms_request_find("census"));
	if (kvms_inspect(e->s, &op, &census) != KVMS_DONE)
		return false;
	kvt_puts(&e->b, ",\n\"counts\":{");
	for (unsigned i = 0; i < kvms_request_find("census")->results_count; i++)
		put(e, kvms_request_find("census")->results[i].name, KVMS_DEC, census.field[i]);
	kvt_putc(&e->b, '}');
	kvms_outcome_free(&census);
	return true;
}

/* ---- Mappings ------------------------------------------------------------------------------------ */

/* Leaves [from, to) of a run. */
static void
put_run(struct document *e, const struct kvms_extent *run, uint64_t from, uint64_t to)
{
	uint64_t size = kvmctl_leaf_size(run->level);

	element_begin(e);
	put(e, "va", KVMS_HEX, run->va + from * size);
	put(e, "end", KVMS_HEX, run->va + to * size);
	put(e, "paddr", KVMS_HEX, run->paddr + from * size);
	put(e, "leaves", KVMS_DEC, to - from);
	put(e, "level", KVMS_DEC, run->level);
	put(e, "prop", KVMS_PROP, run->prop);
	put(e, "tracked", KVMS_BOOL, run->tracked);
	element_end(e);
}

static const struct area *
area_at(const struct document *e)
{
	return e->at < e->areas_count ? (const struct area *)(const void *)e->areas.at + e->at : NULL;
}

/* Begin the area whose turn it is, unless that is done. */
static void
area_open(struct document *e)
{
	const struct area *a = area_at(e);

	if (e->area_is_open)
		return;
	e->told = e->at;
	element_begin(e);
	put(e, "area", KVMS_DEC, a->id);
	put(e, "start", KVMS_HEX, a->start);
	put(e, "end", KVMS_HEX, a->end);
	put(e, "refs", KVMS_DEC, a->refs);
	kvt_puts(&e->b, ",\"mappings\":[");
	e->told = 0;
	e->area_is_open = true;
}

static void
area_close(struct document *e)
{
	area_open(e);
	kvt_puts(&e->b, "]}");
	e->area_is_open = false;
	e->at++;
}

/* Tell the leaves of a run that meet areas; areas and runs both ascend. */
static bool
area_run(void *arg, const struct kvms_extent *run)
{
	struct document *e = arg;
	uint64_t size = kvmctl_leaf_size(run->level), last = run->va + (run->leaves * size - 1);

	while (area_at(e) != NULL && area_at(e)->start <= last) {
		const struct area *a = area_at(e);

		if (a->end > run->va) {
			uint64_t low = a->start > run->va ? a->start : run->va;
			uint64_t high = a->end - 1 < last ? a->end - 1 : last;

			area_open(e);
			put_run(e, run, (low - run->va) / size, (high - run->va) / size + 1);
			if (a->end - 1 > last)
				return true;
		}
		area_close(e);
	}
	return true;
}

static bool
areas(struct document *e)
{
	list_begin(e, "areas");
	if (!kvms_extents(e->s, 0, area_run, e))
		return false;
	while (area_at(e) != NULL)
		area_close(e);
	list_end(e);
	return true;
}

static bool
table_run(void *arg, const struct kvms_extent *run)
{
	put_run(arg, run, 0, run->leaves);
	return true;
}

/* All tables: the kernel's, then those of spaces. */
static bool
tables(struct document *e)
{
	kvt_puts(&e->b, ",\n\"tables\":[");
	for (size_t i = 0; i <= e->spaces.size; i++) {
		uint64_t table = i == 0 ? 0 : e->spaces.at[i - 1];

		kvt_puts(&e->b, i == 0 ? "\n{" : ",\n{");
		put(e, "table", KVMS_TABLE, table);
		kvt_puts(&e->b, ",\"mappings\":[");
		e->told = 0;
		if (!kvms_extents(e->s, table, table_run, e))
			return false;
		kvt_puts(&e->b, "]}");
	}
	list_end(e);
	return true;
}

/* ---- Frames ---------------------------------------------------------------------------------------- */

/* One run of frames whose slots, and the counts of who holds them, are equal. */
static void
put_frames(struct document *e, const struct kvms_row *row, uint64_t first, uint64_t end,
	   const struct kvms_outcome *slot)
{
	element_begin(e);
	put(e, "paddr", KVMS_HEX, first * KVMS_PAGE_SIZE);
	put(e, "pages", KVMS_DEC, end - first);
	for (unsigned i = 0; i < row->results_count; i++)
		put(e, row->results[i].name, row->results[i].type, slot->field[i]);
	element_end(e);
}

/* The used frames [first, end). */
static bool
frames_range(struct document *e, uint64_t first, uint64_t end, struct kvms_outcome *here, struct kvms_outcome *next)
{
	const struct kvms_row *row = kvms_request_find("frame");
	struct kvms_op op;

	kvms_op_init(&op, row);
	for (uint64_t i = first; i < end; i++) {
		op.arg[0] = i * KVMS_PAGE_SIZE;
		if (kvms_inspect(e->s, &op, next) != KVMS_DONE)
			return false;
		if (i > first && memcmp(here->field, next->field, row->results_count * sizeof next->field[0]) == 0)
			continue;
		if (i > first)
			put_frames(e, row, first, i, here);
		memcpy(here->field, next->field, sizeof here->field);
		first = i;
	}
	put_frames(e, row, first, end, here);
	return true;
}

static bool
frames(struct document *e)
{
	struct kvms_outcome here = { .name = 0 }, next = { .name = 0 };
	bool done = true;

	list_begin(e, "frames");
	for (size_t i = 0; i < e->used.size && done; i += 2)
		done = frames_range(e, e->used.at[i], e->used.at[i + 1], &here, &next);
	list_end(e);
	kvms_outcome_free(&here);
	kvms_outcome_free(&next);
	return done;
}

/* ---- Elements ---------------------------------------------------------------------------------------- */

static const char *const own_names[TAGS] = {
	[TAG_AREA] = "", [TAG_FREE_VA] = "free_va", [TAG_FREE_MMIO] = "free_mmio"
};

static const struct kvmctl_element_kind *
kind_of(uint64_t tag)
{
	const struct kvmctl_element_kind *kind = NULL;

	for (unsigned i = 0; (kind = kvmctl_element_kind(i)) != NULL && kind->tag != tag; i++)
		;
	return kind;
}

/* The name of the list of a tag's elements; NULL: it has none. */
static const char *
list_name(uint64_t tag)
{
	if (tag < TAG_WORD || tag >= TAGS || tag == TAG_AREA || tag == TAG_CURRENT_CPU)
		return NULL;
	if (own_names[tag] != NULL)
		return own_names[tag];
	return kind_of(tag) != NULL ? kind_of(tag)->name : NULL;
}

static void
bytes_end(struct document *e)
{
	if (e->bytes_open) {
		kvt_putc(&e->b, '"');
		element_end(e);
	}
	e->bytes_open = false;
}

/* Close lists and open those that come, empty ones too, up to that of "tag". */
static void
lists_up_to(struct document *e, uint64_t tag)
{
	while (e->tag < tag) {
		bytes_end(e);
		if (list_name(e->tag) != NULL)
			list_end(e);
		e->tag++;
		if (list_name(e->tag) != NULL)
			list_begin(e, list_name(e->tag));
	}
}

/* A word of memory that is not zero, unless tables tell it. */
static void
put_memory(struct document *e, uint64_t paddr, uint64_t word)
{
	struct kvms_node_place place;
	uint64_t page = paddr / KVMS_PAGE_SIZE + 1;

	if (page != e->node_page)
		e->is_node = kvms_node_find(e->s, paddr & ~(uint64_t)(KVMS_PAGE_SIZE - 1), &place);
	e->node_page = page;
	if (e->is_node)
		return;
	if (paddr != e->next_paddr || paddr % KVMS_PAGE_SIZE == 0)
		bytes_end(e);
	if (!e->bytes_open) {
		element_begin(e);
		put(e, "paddr", KVMS_HEX, paddr);
		kvt_puts(&e->b, ",\"bytes\":\"");
		e->bytes_open = true;
	}
	for (unsigned i = 0; i < 8; i++)
		kvt_putf(&e->b, "%02x", (unsigned)(word >> 8 * i) & 0xffu);
	e->next_paddr = paddr + 8;
}

/* A flush stack: its count, then pairs; gives the word behind it. */
static const uint64_t *
put_stack(struct document *e, const uint64_t *at, const uint64_t *end)
{
	uint64_t count = at < end ? *at++ : 0;

	kvt_puts(&e->b, ",\"flush\":[");
	for (uint64_t i = 0; i < count && end - at >= 2; i++, at += 2) {
		kvt_puts(&e->b, i > 0 ? ",{" : "{");
		put(e, "va", KVMS_HEX, at[0]);
		put(e, "pages", KVMS_DEC, at[1]);
		kvt_putc(&e->b, '}');
	}
	kvt_putc(&e->b, ']');
	return at;
}

/* What follows the fields of a flusher: its stack, and the CPUs that it asked. */
static void
put_flusher(struct document *e, const uint64_t *at, const uint64_t *end)
{
	at = put_stack(e, at, end);
	kvt_puts(&e->b, ",\"sent\":[");
	if (at < end)
		at++; /* their count */
	for (const uint64_t *first = at; at < end; at++)
		kvt_putf(&e->b, "%s%" PRIu64, at > first ? "," : "", *at);
	kvt_putc(&e->b, ']');
}

/* What follows the fields of a CPU: its queue, and what that keeps. */
static void
put_cpu(struct document *e, const uint64_t *at, const uint64_t *end)
{
	at = put_stack(e, at, end);
	kvt_puts(&e->b, ",\"kept\":[");
	if (at < end)
		at++; /* their count */
	for (const uint64_t *first = at; end - at >= 2; at += 2) {
		kvt_puts(&e->b, at > first ? ",{" : "{");
		put_word(e, "kind", at[0] == 2 ? "node" : "frame");
		put(e, "paddr", KVMS_HEX, at[1]);
		kvt_putc(&e->b, '}');
	}
	kvt_putc(&e->b, ']');
}

static void
put_paddr_or_none(struct document *e, const char *name, uint64_t slot_1)
{
	if (slot_1 == 0)
		kvt_putf(&e->b, ",\"%s\":null", name);
	else
		put(e, name, KVMS_HEX, (slot_1 - 1) * KVMS_PAGE_SIZE);
}

static void
put_node(struct document *e, const uint64_t *words)
{
	struct kvms_node_place place;
	uint64_t paddr = words[1] * KVMS_PAGE_SIZE;

	put(e, "paddr", KVMS_HEX, paddr);
	put(e, "level", KVMS_DEC, words[2]);
	put(e, "nr_children", KVMS_DEC, words[3]);
	put(e, "stray", KVMS_BOOL, words[4]);
	put(e, "holder", KVMS_DEC, words[5]);
	if (kvms_node_find(e->s, paddr, &place)) {
		put(e, "table", KVMS_TABLE, place.table);
		put(e, "va", KVMS_HEX, place.va);
	} else {
		kvt_puts(&e->b, ",\"table\":null,\"va\":null");
	}
}

static void
put_next_id(struct document *e, const uint64_t *words)
{
	static const char *const kinds[KVMS_ID_KINDS] = {
		[KVMS_ID_FRAME] = "frame", [KVMS_ID_SEGMENT] = "segment",   [KVMS_ID_UNIQUE] = "unique",
		[KVMS_ID_LIST] = "list",   [KVMS_ID_VM_SPACE] = "vm_space", [KVMS_ID_CURSOR] = "cursor",
		[KVMS_ID_AREA] = "area",   [KVMS_ID_READER] = "reader",     [KVMS_ID_WRITER] = "writer",
		[KVMS_ID_IOMEM] = "iomem", [KVMS_ID_LIST_TAG] = "list_tag",
	};

	put_word(e, "kind", words[1] < KVMS_ID_KINDS && kinds[words[1]] != NULL ? kinds[words[1]] : "");
	put(e, "next", KVMS_DEC, words[2]);
}

/* An element as the table of kinds names its fields. */
static void
put_fields(struct document *e, const uint64_t *words, unsigned count)
{
	const struct kvmctl_element_kind *kind = kind_of(words[0]);

	for (unsigned i = 0; i < kind->fields && i + 1 < count; i++)
		put(e, kind->field[i].name, kind->field[i].type, words[i + 1]);
	if (kind->tag == TAG_FLUSHER)
		put_flusher(e, words + 1 + kind->fields, words + count);
	else if (kind->tag == TAG_CPU)
		put_cpu(e, words + 1 + kind->fields, words + count);
}

static bool
element(void *arg, const uint64_t *words, unsigned count)
{
	struct document *e = arg;

	if (words[0] < TAG_WORD)
		return true; /* told as configuration and frames */
	lists_up_to(e, words[0]);
	if (words[0] == TAG_WORD) {
		put_memory(e, words[1], words[2]);
		return true;
	}
	if (words[0] == TAG_CURRENT_CPU) {
		kvt_puts(&e->b, ",\n");
		kvt_putf(&e->b, "\"current_cpu\":%" PRIu64, words[2]);
		return true;
	}
	if (list_name(words[0]) == NULL)
		return true;
	element_begin(e);
	if (words[0] == TAG_NODE) {
		put_node(e, words);
	} else if (words[0] == TAG_LINK) {
		put(e, "list", KVMS_DEC, words[2]);
		put(e, "paddr", KVMS_HEX, words[1] * KVMS_PAGE_SIZE);
		put_paddr_or_none(e, "previous", words[3]);
		put_paddr_or_none(e, "next", words[4]);
	} else if (words[0] == TAG_FREE_VA || words[0] == TAG_FREE_MMIO) {
		unsigned window = words[0] == TAG_FREE_MMIO;

		if (window)
			put(e, "window", KVMS_DEC, words[1]);
		put(e, "start", KVMS_HEX, words[1 + window]);
		put(e, "end", KVMS_HEX, words[2 + window]);
	} else if (words[0] == TAG_NEXT_ID) {
		put_next_id(e, words);
	} else {
		put_fields(e, words, count);
	}
	element_end(e);
	return true;
}

static bool
elements(struct document *e)
{
	e->tag = TAG_WORD - 1;
	e->next_paddr = UINT64_MAX;
	if (!kvms_visit(e->s, element, e))
		return false;
	lists_up_to(e, TAGS);
	return true;
}

/* ---- The document ----------------------------------------------------------------------------------------- */

bool
kvmctl_export_json(struct kvms *s, const char *name, FILE *out)
{
	struct document e = { .s = s, .out = out };
	bool done = gather(&e) && head(&e, name) && areas(&e) && tables(&e) && frames(&e) && elements(&e);

	kvt_puts(&e.b, "}\n");
	drain(&e, 0);
	kvt_words_free(&e.spaces);
	kvt_words_free(&e.areas);
	kvt_words_free(&e.used);
	kvt_buffer_free(&e.b);
	return done && !e.failed;
}
