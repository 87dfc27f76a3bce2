#include "client/watch.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Changes -------------------------------------------------------------------------- */

/* Add a change: a JSON object without its braces, then the line, as printf() has it. */
static void change(struct kvmctl_watch *w, const struct kvt_buffer *json, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
change(struct kvmctl_watch *w, const struct kvt_buffer *json, const char *format, ...)
{
	char line[400];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	kvt_putf(&w->text, "%s\n", line);
	kvt_putf(&w->json, "%s{%s}", w->changes > 0 ? "," : "", kvt_buffer_text(json));
	w->changes++;
}

static void
changes_reset(struct kvmctl_watch *w)
{
	w->changes = 0;
	kvt_buffer_reset(&w->text);
	kvt_buffer_reset(&w->json);
}

/* A value that became another. */
static void
change_value(struct kvmctl_watch *w, const struct kvms_field *f, uint64_t before, uint64_t after)
{
	struct kvt_buffer json = { 0 }, a = { 0 }, b = { 0 };

	kvt_print_value(&a, f->type, before, NULL);
	kvt_print_value(&b, f->type, after, NULL);
	kvt_putf(&json, "\"what\":\"%s\",\"before\":", f->name);
	kvt_json_value(&json, f->type, before, NULL);
	kvt_puts(&json, ",\"after\":");
	kvt_json_value(&json, f->type, after, NULL);
	change(w, &json, "%s %s -> %s", f->name, kvt_buffer_text(&a), kvt_buffer_text(&b));
	kvt_buffer_free(&json);
	kvt_buffer_free(&a);
	kvt_buffer_free(&b);
}

/* "kernel:0xffff..." or "kernel:0x...-0x..." */
static void
put_place(struct kvt_buffer *b, const struct kvmctl_piece *p, bool range)
{
	kvt_print_value(b, KVMS_TABLE, p->table, NULL);
	kvt_putc(b, ':');
	kvt_put_hex(b, p->start);
	if (!range)
		return;
	kvt_puts(b, "..");
	kvt_put_hex(b, p->last + 1);
}

/* A piece of a table that reaches something else. */
static void
change_reach(struct kvmctl_watch *w, const struct kvmctl_piece *p, bool range)
{
	static const char *const whats[2][2] = { { "", "mapped" }, { "unmapped", "changed" } };
	const char *what = whats[p->is_before][p->is_after];
	struct kvt_buffer json = { 0 }, place = { 0 }, before = { 0 }, after = { 0 };

	put_place(&place, p, range);
	kvt_putf(&json, "\"what\":\"%s\",\"table\":", what);
	kvt_json_value(&json, KVMS_TABLE, p->table, NULL);
	kvt_puts(&json, ",\"start\":");
	kvt_json_value(&json, KVMS_HEX, p->start, NULL);
	kvt_puts(&json, ",\"end\":");
	kvt_json_value(&json, KVMS_HEX, p->last + 1, NULL);
	if (p->is_before) {
		kvt_puts(&json, ",\"before\":");
		kvmctl_json_reach(&json, &p->before);
		kvmctl_put_reach(&before, &p->before);
	}
	if (p->is_after) {
		kvt_puts(&json, ",\"after\":");
		kvmctl_json_reach(&json, &p->after);
		kvmctl_put_reach(&after, &p->after);
	}
	change(w, &json, "%s %s %s%s%s", what, kvt_buffer_text(&place), kvt_buffer_text(&before),
	       p->is_before && p->is_after ? " -> " : "", kvt_buffer_text(&after));
	kvt_buffer_free(&json);
	kvt_buffer_free(&place);
	kvt_buffer_free(&before);
	kvt_buffer_free(&after);
}

/* ---- What a step names ------------------------------------------------------------------ */

/* A scalar of the arguments, or with "of_results" of the results, by name. */
static bool
field_get(const struct persist_step *step, bool of_results, const char *name, uint64_t *value)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);
	int index = of_results ? kvms_result_index(row, name) : kvms_arg_index(row, name);

	if (index < 0 || (of_results && (step->out->name != 0 || (step->out->present >> index & 1) == 0)))
		return false;
	*value = of_results ? step->out->field[index] : step->op->arg[index];
	return true;
}

static bool
list_has(const uint64_t *list, uint64_t count, uint64_t word)
{
	for (uint64_t i = 0; i < count; i++)
		if (list[i] == word)
			return true;
	return false;
}

typedef bool id_test(void *arg, enum kvms_kind kind, uint64_t id);

/* Does the step take or give an id for which "test" holds? */
static bool
names_id(const struct persist_step *step, id_test *test, void *arg)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);
	uint64_t count;

	for (unsigned i = 0; i < row->args_count; i++) {
		const struct kvms_field *f = &row->args[i];
		const uint64_t *list = f->type == KVMS_IDS ? kvms_op_list(step->op, row, i, &count) : NULL;

		if (f->type == KVMS_ID && test(arg, f->kind, step->op->arg[i]))
			return true;
		for (uint64_t k = 0; list != NULL && k < count; k++)
			if (test(arg, f->kind, list[k]))
				return true;
	}
	for (unsigned i = 0; step->out->name == 0 && i < row->results_count; i++)
		if (row->results[i].type == KVMS_ID && (step->out->present >> i & 1) != 0 &&
		    test(arg, row->results[i].kind, step->out->field[i]))
			return true;
	return false;
}

/* Do [start, end) and [first, last] meet?  An empty range is its start; an end of 0 is that of all addresses. */
static bool
meets(uint64_t start, uint64_t end, uint64_t first, uint64_t last)
{
	uint64_t until = end > start || (end == 0 && start != 0) ? end - 1 : start;

	return start <= last && until >= first;
}

/*
 * What "start" and "end" of an operation are: of segments, reservations and
 * I/O memory physical addresses, or offsets where a part of one is taken;
 * virtual addresses elsewhere.
 */
enum addresses { VIRTUAL, PHYSICAL, OFFSETS };

static enum addresses
addresses_of(const struct kvms_row *row)
{
	if (strcmp(row->name, "segment_slice") == 0 || strcmp(row->name, "iomem_slice") == 0)
		return OFFSETS;
	if (strncmp(row->name, "segment_", 8) == 0 || strcmp(row->name, "boot_reserve") == 0 ||
	    strcmp(row->name, "iomem_acquire") == 0)
		return PHYSICAL;
	return VIRTUAL;
}

/* Does the step name a physical address in [first, last]? */
static bool
names_paddr(const struct persist_step *step, uint64_t first, uint64_t last)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);
	uint64_t start, end, paddr, count;
	int paddrs = kvms_result_index(row, "paddrs");

	for (int of_results = 0; of_results < 2; of_results++) {
		bool range = field_get(step, of_results, "start", &start) && field_get(step, of_results, "end", &end);

		if (range && addresses_of(row) == PHYSICAL && meets(start, end, first, last))
			return true;
		/* where a leaf is told, it reaches as far as its addresses do */
		if (field_get(step, of_results, "paddr", &paddr) &&
		    meets(paddr, of_results && range && addresses_of(row) == VIRTUAL ? paddr + (end - start) : paddr,
			  first, last))
			return true;
		if (field_get(step, of_results, "paddr_start", &start) &&
		    field_get(step, of_results, "paddr_end", &end) && meets(start, end, first, last))
			return true;
	}
	if (paddrs < 0 || step->out->name != 0 || (step->out->present >> paddrs & 1) == 0)
		return false;
	const uint64_t *list = kvms_outcome_list(step->out, row, (unsigned)paddrs, &count);
	return list_has(list, count, first);
}

/* Bytes from "va" on that a step is about: what it maps there, or reads and writes. */
static uint64_t
bytes_at_va(const struct persist_step *step)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);
	int frames = kvms_arg_index(row, "frames");
	uint64_t start, end;

	if (field_get(step, false, "len", &end) || field_get(step, false, "size", &end))
		return end;
	if (frames >= 0)
		return step->op->arg[frames] * KVMS_PAGE_SIZE;
	if (field_get(step, false, "paddr_start", &start) && field_get(step, false, "paddr_end", &end) && end > start)
		return end - start;
	return 1;
}

/* Does the step name a virtual address in [first, last]? */
static bool
names_va(const struct persist_step *step, uint64_t first, uint64_t last)
{
	const struct kvms_row *row = kvms_op_row(step->op->code);
	uint64_t start, end, size;

	if (field_get(step, false, "va", &start) && meets(start, start + bytes_at_va(step), first, last))
		return true;
	if (addresses_of(row) != VIRTUAL)
		return false;
	for (int of_results = 0; of_results < 2; of_results++) {
		if (!field_get(step, of_results, "start", &start))
			continue;
		if (field_get(step, of_results, "end", &end) && meets(start, end, first, last))
			return true;
		if (field_get(step, of_results, "area_size", &size) && meets(start, start + size, first, last))
			return true;
	}
	return false;
}

/* ---- Frames ------------------------------------------------------------------------------ */

/* Ask a request, whose arguments are given. */
static bool
ask(struct kvmctl_watch *w, struct kvms *s, const char *name, uint64_t a, uint64_t b, struct kvms_outcome *out)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find(name));
	op.arg[0] = a;
	op.arg[1] = b;
	if (kvms_inspect(s, &op, out) == KVMS_DONE)
		return true;
	w->nomem = true;
	return false;
}

/* Result fields of "translate". */
enum { FOUND, PADDR, START, END, LEVEL, PROP, TRACKED };

/* Add the page that contains "va" to the runs, as one of its own, if it reaches something. */
static void
reached_add(struct kvmctl_watch *w, struct kvms *s, struct kvmctl_leaves *l, uint64_t table, uint64_t va,
	    struct kvms_outcome *scratch)
{
	va &= ~(uint64_t)(KVMS_PAGE_SIZE - 1);
	if (!ask(w, s, "translate", table, va, scratch) || scratch->name != 0 || scratch->field[FOUND] == 0)
		return;
	kvmctl_leaves_add(l, &(struct kvms_extent){ .table = table,
						    .va = va,
						    .paddr = scratch->field[PADDR],
						    .leaves = 1,
						    .level = (unsigned)scratch->field[LEVEL],
						    .prop = scratch->field[PROP],
						    .tracked = scratch->field[TRACKED] != 0 });
	w->nomem |= l->failed;
}

/* Where the frame is mapped, from scratch: O(leaves of all tables). */
static void
frame_reached(struct kvmctl_watch *w, struct kvms *s, struct kvmctl_leaves *l)
{
	struct kvms_outcome reverse = { .name = 0 }, scratch = { .name = 0 };

	if (ask(w, s, "reverse_map", w->key, 0, &reverse))
		for (uint64_t i = 0; i < reverse.field[0] && !w->nomem; i++)
			reached_add(w, s, l, reverse.list[4 * i], reverse.list[4 * i + 1], &scratch);
	kvms_outcome_free(&reverse);
	kvms_outcome_free(&scratch);
}

/* Does every address that mapped the frame still do so, with the same property and size? */
static bool
frame_still_reached(struct kvmctl_watch *w, struct kvms *s)
{
	struct kvms_outcome out = { .name = 0 };
	bool same = true;

	for (size_t i = 0; same && i < w->frame.reached.count; i++) {
		const struct kvms_extent *run = &w->frame.reached.at[i];

		same = ask(w, s, "translate", run->table, run->va, &out) && out.name == 0 && out.field[FOUND] != 0 &&
		       out.field[PADDR] == run->paddr && out.field[LEVEL] == run->level &&
		       out.field[PROP] == run->prop && (out.field[TRACKED] != 0) == run->tracked;
	}
	kvms_outcome_free(&out);
	return same;
}

static const struct kvms_extent *
reached_find(const struct kvmctl_leaves *l, const struct kvms_extent *page)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].table == page->table && l->at[i].va == page->va)
			return &l->at[i];
	return NULL;
}

static struct kvmctl_reach
reach_of(const struct kvms_extent *page)
{
	return (struct kvmctl_reach){
		.paddr = page->paddr, .prop = page->prop, .level = page->level, .tracked = page->tracked
	};
}

/* A page of a table: what it reached, and what it reaches. */
static void
change_page(struct kvmctl_watch *w, const struct kvms_extent *before, const struct kvms_extent *after)
{
	const struct kvms_extent *page = before != NULL ? before : after;
	struct kvmctl_piece p = { .table = page->table, .start = page->va, .last = page->va + KVMS_PAGE_SIZE - 1 };

	if (before != NULL && after != NULL && before->paddr == after->paddr && before->prop == after->prop &&
	    before->level == after->level && before->tracked == after->tracked)
		return;
	p.is_before = before != NULL;
	p.is_after = after != NULL;
	if (p.is_before)
		p.before = reach_of(before);
	if (p.is_after)
		p.after = reach_of(after);
	change_reach(w, &p, false);
}

static void
reached_changes(struct kvmctl_watch *w, const struct kvmctl_leaves *before, const struct kvmctl_leaves *after)
{
	for (size_t i = 0; i < before->count; i++)
		change_page(w, &before->at[i], reached_find(after, &before->at[i]));
	for (size_t i = 0; i < after->count; i++)
		if (reached_find(before, &after->at[i]) == NULL)
			change_page(w, NULL, &after->at[i]);
}

static const struct kvms_row *
holders_row(void)
{
	return kvms_request_find("who_holds");
}

/* Words of one list of an answer of "who_holds". */
static const uint64_t *
holders_list(const struct kvms_outcome *holders, unsigned list, uint64_t *count)
{
	static const uint64_t none[1];
	const uint64_t *at = NULL;

	*count = 0;
	if (holders->name == 0 && (holders->present >> list & 1) != 0)
		at = kvms_outcome_list(holders, holders_row(), list, count);
	return at != NULL ? at : none;
}

/* Handles, lists and queues that one answer names and the other does not. */
static void
holders_lost(struct kvmctl_watch *w, const struct kvms_outcome *from, const struct kvms_outcome *in, const char *what,
	     const char *text)
{
	static const struct {
		const char *field, *noun;
	} lists[] = { { "frames", "frame" },
		      { "segments", "segment" },
		      { "uniques", "unique" },
		      { "lists", "list" },
		      { "queues", "the queue of cpu" } };
	uint64_t count, other_count;

	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		unsigned list = (unsigned)kvms_result_index(holders_row(), lists[i].field);
		const uint64_t *at = holders_list(from, list, &count);
		const uint64_t *other = holders_list(in, list, &other_count);

		for (uint64_t k = 0; k < count; k++) {
			struct kvt_buffer json = { 0 };

			if (list_has(other, other_count, at[k]) || list_has(at, k, at[k]))
				continue;
			kvt_putf(&json, "\"what\":\"%s\",\"%s\":%" PRIu64, what,
				 strcmp(lists[i].field, "queues") == 0 ? "cpu" : lists[i].noun, at[k]);
			change(w, &json, "%s %s %" PRIu64, text, lists[i].noun, at[k]);
			kvt_buffer_free(&json);
		}
	}
}

/* Fields of "frame" that tell about the slot; those behind them count holders. */
#define SLOT_FIELDS 5u

static void
frame_changes(struct kvmctl_watch *w, const struct kvmctl_frame_look *before, const struct kvmctl_frame_look *after)
{
	const struct kvms_row *row = kvms_request_find("frame");
	struct kvms_outcome none = { .name = 0 };
	const struct kvms_outcome *was = &before->slot;

	/* a slot in the default state, for the first look */
	none.field[0] = KVMS_RC_UNUSED;
	if (before->slot.present == 0)
		was = &none;
	for (unsigned i = 0; i < SLOT_FIELDS; i++)
		if (was->field[i] != after->slot.field[i])
			change_value(w, &row->results[i], was->field[i], after->slot.field[i]);
	holders_lost(w, &before->holders, &after->holders, "released", "no longer held by");
	holders_lost(w, &after->holders, &before->holders, "held", "held by");
	reached_changes(w, &before->reached, &after->reached);
}

static void
frame_look_free(struct kvmctl_frame_look *look)
{
	kvms_outcome_free(&look->slot);
	kvms_outcome_free(&look->holders);
	kvmctl_leaves_free(&look->reached);
}

/* Look again, all of it. */
static void
frame_look(struct kvmctl_watch *w, struct kvms *s)
{
	struct kvmctl_frame_look now = { .slot = { .name = 0 } };

	if (ask(w, s, "frame", w->key, 0, &now.slot) && ask(w, s, "who_holds", w->key, 0, &now.holders))
		frame_reached(w, s, &now.reached);
	if (!w->nomem)
		frame_changes(w, &w->frame, &now);
	frame_look_free(&w->frame);
	w->frame = now;
}

static bool
is_holder(void *arg, enum kvms_kind kind, uint64_t id)
{
	const struct kvmctl_watch *w = arg;
	const char *list = kind == KVMS_ID_FRAME     ? "frames"
			   : kind == KVMS_ID_SEGMENT ? "segments"
			   : kind == KVMS_ID_UNIQUE  ? "uniques"
						     : NULL;
	uint64_t count;

	if (list == NULL)
		return false;
	const uint64_t *at = holders_list(&w->frame.holders, (unsigned)kvms_result_index(holders_row(), list), &count);
	return list_has(at, count, id);
}

/* Can the step have mapped the frame untracked?  Then it says which frames it maps. */
static bool
may_map_untracked(const struct kvmctl_watch *w, const struct persist_step *step)
{
	uint64_t start, end;

	return field_get(step, false, "paddr_start", &start) && field_get(step, false, "paddr_end", &end) &&
	       end > w->key && start <= w->key;
}

static bool
frame_step(struct kvmctl_watch *w, struct kvms *s, const struct persist_step *step)
{
	struct kvms_outcome slot = { .name = 0 };
	bool named = step->op != NULL && names_id(step, is_holder, w);
	bool touched = named || (step->op != NULL && names_paddr(step, w->key, w->key + KVMS_PAGE_SIZE - 1));
	bool changed = step->op == NULL;

	/* what is not ok changed nothing */
	if (step->op != NULL && step->out->name == 0 && ask(w, s, "frame", w->key, 0, &slot)) {
		/* a holder that is named may give way to others without a change of the counts: a split segment */
		changed = named || memcmp(slot.field, w->frame.slot.field, sizeof slot.field) != 0 ||
			  may_map_untracked(w, step) || !frame_still_reached(w, s);
		kvms_outcome_free(&slot);
	}
	if (changed)
		frame_look(w, s);
	return touched || w->changes > 0 || (step->op != NULL && step->out->name == 0 && names_id(step, is_holder, w));
}

/* ---- Areas --------------------------------------------------------------------------------- */

/* Whether the area is there, and where: O(1). */
static void
area_find(struct kvmctl_watch *w, struct kvms *s, struct kvmctl_area_look *look)
{
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;

	kvms_op_init(&op, kvms_op_find("kvirt_range"));
	op.arg[0] = w->key;
	w->nomem |= kvms_dry_run(s, &op, &out) != KVMS_DONE;
	look->lives = !w->nomem && out.name == 0;
	if (look->lives) {
		look->start = out.field[0];
		look->end = out.field[1];
	}
	kvms_outcome_free(&out);
}

/* A piece within the area: large leaves may reach beyond. */
static void
area_piece(void *arg, const struct kvmctl_piece *piece)
{
	struct kvmctl_watch *w = arg;
	struct kvmctl_piece p = *piece;
	uint64_t cut;

	if (p.start < w->area.start) {
		cut = w->area.start - p.start;
		p.start += cut;
		p.before.paddr += cut;
		p.after.paddr += cut;
	}
	if (p.last > w->area.end - 1)
		p.last = w->area.end - 1;
	change_reach(w, &p, true);
}

static void
area_change(struct kvmctl_watch *w, const char *what, const struct kvmctl_area_look *look)
{
	struct kvt_buffer json = { 0 };

	kvt_putf(&json, "\"what\":\"%s\",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"", what, look->start,
		 look->end);
	change(w, &json, "%s 0x%" PRIx64 "..0x%" PRIx64, what, look->start, look->end);
	kvt_buffer_free(&json);
}

/* Look again, all of it: O(leaves in the area). */
static void
area_look(struct kvmctl_watch *w, struct kvms *s, const struct kvmctl_area_look *found)
{
	struct kvmctl_area_look now = *found;
	struct kvmctl_leaves before = w->area.leaves;
	bool lived = w->area.lives;

	memset(&now.leaves, 0, sizeof now.leaves);
	if (now.lives && now.start != now.end)
		kvmctl_leaves_range(&now.leaves, s, 0, now.start, now.end - 1);
	w->nomem |= now.leaves.failed;
	if (!now.lives) { /* where it was */
		now.start = w->area.start;
		now.end = w->area.end;
	}
	w->area = now;
	if (now.lives && !lived)
		area_change(w, "created", &now);
	if (now.lives && !w->nomem) /* an area that ends takes its leaves, or leaves them to its parts */
		kvmctl_leaves_compare(&before, &now.leaves, area_piece, w);
	if (!now.lives && lived)
		area_change(w, "ended", &now);
	kvmctl_leaves_free(&before);
}

static bool
is_area(void *arg, enum kvms_kind kind, uint64_t id)
{
	return kind == KVMS_ID_AREA && id == ((const struct kvmctl_watch *)arg)->key;
}

static bool
area_step(struct kvmctl_watch *w, struct kvms *s, const struct persist_step *step)
{
	bool touched = step->op != NULL && names_id(step, is_area, w);
	struct kvmctl_area_look now = { .lives = false };

	if (!touched && step->op != NULL && w->area.lives && w->area.start != w->area.end)
		touched = names_va(step, w->area.start, w->area.end - 1);
	if (step->op != NULL && step->out->name != 0)
		return touched;
	area_find(w, s, &now);
	if (touched || step->op == NULL || now.lives != w->area.lives)
		area_look(w, s, &now);
	return touched || w->changes > 0;
}

/* ---- Addresses -------------------------------------------------------------------------------- */

static bool
space_gather(void *arg, const uint64_t *words, unsigned count)
{
	struct kvmctl_watch *w = arg;
	uint64_t *id;

	(void)count;
	if (words[0] != 10) /* the element of an address space */
		return words[0] < 10;
	id = kvt_words_add(&w->spaces, 1);
	if (id != NULL)
		*id = words[1];
	return id != NULL;
}

/* The address spaces there are; those of the kernel's half are not asked. */
static void
spaces_gather(struct kvmctl_watch *w, struct kvms *s)
{
	w->spaces.size = 0;
	(void)kvms_visit(s, space_gather, w);
	w->nomem |= w->spaces.failed;
}

/* What the address reaches now, in the kernel's table or in those of the address spaces. */
static void
va_look(struct kvmctl_watch *w, struct kvms *s)
{
	struct kvmctl_leaves now = { 0 };
	struct kvms_outcome scratch = { .name = 0 };
	bool kernel = w->key >> 63 != 0;
	size_t kept = 0;

	if (kernel)
		reached_add(w, s, &now, 0, w->key, &scratch);
	for (size_t i = 0; !kernel && i < w->spaces.size; i++) {
		reached_add(w, s, &now, w->spaces.at[i], w->key, &scratch);
		if (ask(w, s, "translate", w->spaces.at[i], w->key, &scratch) && scratch.name == 0)
			w->spaces.at[kept++] = w->spaces.at[i]; /* it is still there */
	}
	if (!kernel)
		w->spaces.size = kept;
	if (!w->nomem)
		reached_changes(w, &w->reached, &now);
	kvmctl_leaves_free(&w->reached);
	w->reached = now;
	kvms_outcome_free(&scratch);
}

static bool
va_step(struct kvmctl_watch *w, struct kvms *s, const struct persist_step *step)
{
	uint64_t id;

	if (step->op == NULL) {
		spaces_gather(w, s);
	} else if (field_get(step, true, "vm_space", &id)) {
		uint64_t *at = kvt_words_add(&w->spaces, 1);

		if (at != NULL)
			*at = id;
		w->nomem |= at == NULL;
	}
	if (step->op == NULL || step->out->name == 0)
		va_look(w, s);
	return w->changes > 0 || (step->op != NULL && names_va(step, w->key, w->key));
}

/* ---- Any ------------------------------------------------------------------------------------------ */

bool
kvmctl_watch_begin(struct kvmctl_watch *w, enum kvmctl_watched kind, uint64_t key, struct kvms *s)
{
	struct kvmctl_area_look area = { .lives = false };
	struct kvms_outcome slot = { .name = 0 };

	memset(w, 0, sizeof *w);
	w->kind = kind;
	w->key = kind == KVMCTL_FRAME ? key & ~(uint64_t)(KVMS_PAGE_SIZE - 1) : key;
	switch (kind) {
	case KVMCTL_FRAME:
		if (!ask(w, s, "frame", w->key, 0, &slot) || slot.name != 0)
			return false;
		frame_look(w, s);
		break;
	case KVMCTL_AREA:
		area_find(w, s, &area);
		if (area.lives)
			area_look(w, s, &area);
		break;
	case KVMCTL_VA:
		spaces_gather(w, s);
		va_look(w, s);
		break;
	case KVMCTL_WATCHED:
		break;
	}
	return !w->nomem;
}

void
kvmctl_watch_end(struct kvmctl_watch *w)
{
	frame_look_free(&w->frame);
	kvmctl_leaves_free(&w->area.leaves);
	kvmctl_leaves_free(&w->reached);
	kvt_words_free(&w->spaces);
	kvt_buffer_free(&w->text);
	kvt_buffer_free(&w->json);
}

bool
kvmctl_watch_step(struct kvmctl_watch *w, struct kvms *s, const struct persist_step *step)
{
	bool touched = false;

	changes_reset(w);
	switch (w->kind) {
	case KVMCTL_FRAME:
		touched = frame_step(w, s, step);
		break;
	case KVMCTL_AREA:
		touched = area_step(w, s, step);
		break;
	case KVMCTL_VA:
		touched = va_step(w, s, step);
		break;
	case KVMCTL_WATCHED:
		break;
	}
	w->nomem |= w->text.failed || w->json.failed;
	return touched;
}
