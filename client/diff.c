/*
 * diff - what is different in the states behind two steps, or in two files.
 */
#include "client/diff.h"

#include "client/commands.h"
#include "client/elements.h"
#include "client/history.h"
#include "client/image.h"
#include "client/leaves.h"
#include "client/progress.h"
#include "client/show.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIDTH 79u

/* One of the two states, and what is gathered of it. */
struct state {
	const char *file; /* NULL: behind a step of the history */
	uint64_t step;
	bool foreign;
	struct kvms *s;
	uint64_t digest;
	struct kvms_outcome census, areas, free_va, free_mmio;
	struct kvmctl_leaves leaves;
	struct kvmctl_elements elements;
};

struct diff {
	struct kvmctl *k;
	struct kvmctl_history h;
	struct state before, after;
	bool foreign;        /* both are adopted images: no leaf is tracked, which need not be said of each */
	const char *section; /* its name */
	uint64_t told;       /* in the section */
	struct kvt_buffer line, was, is;
};

/* ---- Printing ---------------------------------------------------------------------------- */

/* Print words, two blanks in, broken between them where the line is full. */
static void
print_wrapped(const char *text)
{
	size_t at = 0;

	while (*text != '\0') {
		size_t length = strcspn(text, " ");

		if (at > 0 && at + 1 + length > WIDTH) {
			printf("\n      ");
			at = 6;
		} else if (at > 0) {
			putchar(' ');
			at++;
		} else {
			printf("  ");
			at = 2;
		}
		fwrite(text, 1, length, stdout);
		at += length;
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

/* Begin a section; its title comes with its first item. */
static void
section_begin(struct diff *d, const char *name)
{
	d->section = name;
	d->told = 0;
	if (d->k->json)
		printf(",\"%s\":[", name);
}

static void
section_end(struct diff *d)
{
	if (d->k->json)
		putchar(']');
}

/* Print the line that has been put together as an item of the section. */
static void
item_end(struct diff *d)
{
	if (d->k->json) {
		printf("%s%s", d->told > 0 ? "," : "", kvt_buffer_text(&d->line));
	} else {
		if (d->told == 0) {
			for (const char *p = d->section; *p != '\0'; p++)
				putchar(*p == '_' ? ' ' : *p);
			putchar('\n');
		}
		print_wrapped(kvt_buffer_text(&d->line));
	}
	d->told++;
	kvt_buffer_reset(&d->line);
}

static const char *const signs[2][2] = { { "", "+" }, { "-", "~" } };
static const char *const words[2][2] = { { "", "added" }, { "removed", "changed" } };

/* Begin an item: its sign, or in JSON the word for it. */
static void
item_begin(struct diff *d, bool is_before, bool is_after)
{
	kvt_buffer_reset(&d->line);
	if (d->k->json)
		kvt_putf(&d->line, "{\"change\":\"%s\"", words[is_before][is_after]);
	else
		kvt_puts(&d->line, signs[is_before][is_after]);
}

/* A range [start, last]. */
static void
put_range(struct diff *d, uint64_t start, uint64_t last)
{
	if (d->k->json)
		kvt_putf(&d->line, ",\"start\":\"0x%" PRIx64 "\",\"end\":\"0x%" PRIx64 "\"", start, last + 1);
	else
		kvt_putf(&d->line, " 0x%" PRIx64 "..0x%" PRIx64, start, last + 1);
}

/* ---- Counts ---------------------------------------------------------------------------------- */

static void
diff_counts(struct diff *d)
{
	const struct kvms_row *row = kvms_request_find("census");

	section_begin(d, "counts");
	for (unsigned i = 0; i < row->results_count; i++) {
		uint64_t was = d->before.census.field[i], is = d->after.census.field[i];

		if (was == is)
			continue;
		kvt_buffer_reset(&d->line);
		if (d->k->json)
			kvt_putf(&d->line, "{\"count\":\"%s\",\"before\":%" PRIu64 ",\"after\":%" PRIu64 "}",
				 row->results[i].name, was, is);
		else
			kvt_putf(&d->line, "%s %" PRIu64 " -> %" PRIu64, row->results[i].name, was, is);
		item_end(d);
	}
	section_end(d);
}

/* ---- Areas -------------------------------------------------------------------------------------- */

static void
diff_areas(struct diff *d)
{
	const uint64_t *a = d->before.areas.list, *b = d->after.areas.list;
	uint64_t i = 0, k = 0, a_count = d->before.areas.field[0], b_count = d->after.areas.field[0];

	section_begin(d, "areas");
	while (i < a_count || k < b_count) {
		bool in_a = i < a_count && (k == b_count || a[3 * i] <= b[3 * k]);
		bool in_b = k < b_count && (i == a_count || b[3 * k] <= a[3 * i]);
		const uint64_t *area = in_a ? &a[3 * i] : &b[3 * k];

		i += in_a;
		k += in_b;
		if (in_a && in_b)
			continue; /* an id has one range for ever */
		item_begin(d, in_a, in_b);
		kvt_putf(&d->line, d->k->json ? ",\"area\":%" PRIu64 : " %" PRIu64, area[0]);
		put_range(d, area[1], area[2] - 1);
		if (d->k->json)
			kvt_putc(&d->line, '}');
		else
			kvt_putf(&d->line, " size 0x%" PRIx64, area[2] - area[1]);
		item_end(d);
	}
	section_end(d);
}

/* ---- Mappings ----------------------------------------------------------------------------------- */

static void
mapping_differs(void *arg, const struct kvmctl_piece *p)
{
	struct diff *d = arg;
	struct kvmctl_reach before = p->before, after = p->after;

	before.tracked |= d->foreign;
	after.tracked |= d->foreign;
	item_begin(d, p->is_before, p->is_after);
	if (d->k->json) {
		kvt_puts(&d->line, ",\"table\":");
		kvt_json_value(&d->line, KVMS_TABLE, p->table, NULL);
	} else {
		kvt_putc(&d->line, ' ');
		kvt_print_value(&d->line, KVMS_TABLE, p->table, NULL);
	}
	put_range(d, p->start, p->last);
	if (d->k->json) {
		if (p->is_before) {
			kvt_puts(&d->line, ",\"before\":");
			kvmctl_json_reach(&d->line, &p->before);
		}
		if (p->is_after) {
			kvt_puts(&d->line, ",\"after\":");
			kvmctl_json_reach(&d->line, &p->after);
		}
		kvt_putc(&d->line, '}');
	} else {
		kvt_putc(&d->line, ' ');
		kvmctl_put_reach(&d->line, p->is_before ? &before : &after);
		if (p->is_before && p->is_after) {
			kvt_puts(&d->line, " -> ");
			kvmctl_put_reach(&d->line, &after);
		}
	}
	item_end(d);
}

/* ---- Ranges ---------------------------------------------------------------------------------------- */

/* Ranges [start, end) ascending, in pairs. */
struct ranges {
	const uint64_t *at;
	uint64_t count;
};

/* Tell the parts of "a" that are not in "b". */
static void
ranges_without(struct diff *d, struct ranges a, struct ranges b, bool is_before)
{
	uint64_t k = 0;

	for (uint64_t i = 0; i < a.count; i++) {
		uint64_t start = a.at[2 * i], last = a.at[2 * i + 1] - 1;

		for (;;) {
			while (k < b.count && b.at[2 * k + 1] - 1 < start)
				k++;
			bool cut = k < b.count && b.at[2 * k] <= last;

			if (!cut || b.at[2 * k] > start) {
				item_begin(d, is_before, !is_before);
				put_range(d, start, cut ? b.at[2 * k] - 1 : last);
				if (d->k->json)
					kvt_putc(&d->line, '}');
				else
					kvt_putf(&d->line, " size 0x%" PRIx64,
						 (cut ? b.at[2 * k] - 1 : last) - start + 1);
				item_end(d);
			}
			if (!cut || b.at[2 * k + 1] - 1 >= last)
				break;
			start = b.at[2 * k + 1];
		}
	}
}

static void
diff_ranges(struct diff *d, const char *name, const struct kvms_outcome *before, const struct kvms_outcome *after)
{
	struct ranges a = { before->list, before->field[0] }, b = { after->list, after->field[0] };

	section_begin(d, name);
	ranges_without(d, a, b, true);
	ranges_without(d, b, a, false);
	section_end(d);
}

/* ---- Everything else -------------------------------------------------------------------------------- */

/* The value of a field; the key of pages is the address of the first. */
static uint64_t
field_value(const struct kvmctl_element_kind *kind, const uint64_t *element, unsigned field)
{
	return kind->pages && field == 0 ? element[0] * KVMS_PAGE_SIZE : element[field];
}

/* The value of a field, in JSON as JSON has it. */
static void
put_value(struct diff *d, struct kvt_buffer *b, const struct kvmctl_element_kind *kind, const uint64_t *element,
	  unsigned field)
{
	static const char *const id_kinds[] = { "",       "frame", "segment", "unique", "list",  "vm_space",
						"cursor", "area",  "reader",  "writer", "iomem", "list_tag" };
	uint64_t value = field_value(kind, element, field);
	bool is_kind = strcmp(kind->field[field].name, "kind") == 0 && kind->field[field].type == KVMS_DEC;

	if (is_kind && value < sizeof id_kinds / sizeof id_kinds[0])
		kvt_putf(b, d->k->json ? "\"%s\"" : "%s", id_kinds[value]);
	else if (d->k->json)
		kvt_json_value(b, kind->field[field].type, value, NULL);
	else
		kvt_print_value(b, kind->field[field].type, value, NULL);
}

/* name=value of a field, or in JSON "name":value, behind those that "b" has. */
static void
put_field(struct diff *d, struct kvt_buffer *b, const struct kvmctl_element_kind *kind, const uint64_t *element,
	  unsigned field)
{
	const char *between = b->size == 0 ? "" : d->k->json ? "," : " ";

	kvt_putf(b, d->k->json ? "%s\"%s\":" : "%s%s=", between, kind->field[field].name);
	put_value(d, b, kind, element, field);
}

/* The words behind the fields: a queue. */
static void
put_rest(struct diff *d, struct kvt_buffer *b, const struct kvmctl_element_kind *kind, const uint64_t *element,
	 size_t count)
{
	kvt_putc(b, '[');
	for (size_t i = kind->fields; i < count; i++)
		kvt_putf(b, d->k->json ? "%s\"0x%" PRIx64 "\"" : "%s0x%" PRIx64, i > kind->fields ? "," : "",
			 element[i]);
	kvt_putc(b, ']');
}

/*
 * Is a field worth telling?  Sums of contents mean nothing; where a node hangs
 * is told if it does, the address if it is one node; and what is nothing out of
 * the ordinary is left out of text.
 */
static bool
is_told(const struct diff *d, const struct kvmctl_element_change *c, const uint64_t *element, unsigned field)
{
	const char *kind = c->kind->name, *name = c->kind->field[field].name;

	if (strcmp(kind, "contents") == 0 || strcmp(name, "hangs") == 0)
		return false;
	if (strcmp(kind, "nodes") == 0 && strcmp(name, "va") == 0)
		return c->pages == 1 && element[5] != 0;
	if (strcmp(kind, "nodes") == 0 && strcmp(name, "table") == 0)
		return element[5] != 0;
	if (d->k->json || element[field] != 0)
		return true;
	return strcmp(name, "stray") != 0 && strcmp(name, "holder") != 0 && strcmp(name, "in_list") != 0;
}

static bool
rest_differs(const struct kvmctl_element_change *c)
{
	size_t from = c->kind->fields;

	return c->before_words != c->after_words ||
	       memcmp(c->before + from, c->after + from, (c->before_words - from) * sizeof *c->before) != 0;
}

/* Fields behind the key, into "b": all of an element that is new or gone, else those that changed. */
static void
put_fields(struct diff *d, struct kvt_buffer *b, const struct kvmctl_element_change *c, const uint64_t *element,
	   size_t count)
{
	const struct kvmctl_element_kind *kind = c->kind;
	bool both = c->before != NULL && c->after != NULL;

	kvt_buffer_reset(b);
	for (unsigned i = kind->keys; i < kind->fields; i++)
		if (both ? c->before[i] != c->after[i] && strcmp(kind->name, "contents") != 0
			 : is_told(d, c, element, i))
			put_field(d, b, kind, element, i);
	if (!kind->has_rest || (both && !rest_differs(c)))
		return;
	kvt_puts(b, b->size == 0 ? "" : d->k->json ? "," : " ");
	kvt_puts(b, d->k->json ? "\"queue\":" : "queue=");
	put_rest(d, b, kind, element, count);
}

/* For people: name=before->after of the fields that changed. */
static void
put_changes(struct diff *d, const struct kvmctl_element_change *c)
{
	const struct kvmctl_element_kind *kind = c->kind;

	for (unsigned i = kind->keys; i < kind->fields; i++) {
		if (c->before[i] == c->after[i] || strcmp(kind->name, "contents") == 0)
			continue;
		kvt_putc(&d->line, ' ');
		put_field(d, &d->was, kind, c->before, i);
		kvt_puts(&d->line, kvt_buffer_text(&d->was));
		kvt_buffer_reset(&d->was);
		kvt_puts(&d->line, "->");
		put_value(d, &d->line, kind, c->after, i);
	}
	if (!kind->has_rest || !rest_differs(c))
		return;
	kvt_puts(&d->line, " queue=");
	put_rest(d, &d->line, kind, c->before, c->before_words);
	kvt_puts(&d->line, "->");
	put_rest(d, &d->line, kind, c->after, c->after_words);
}

static void
put_key(struct diff *d, const struct kvmctl_element_change *c)
{
	const uint64_t *element = c->before != NULL ? c->before : c->after;
	struct kvt_buffer key = { 0 };

	if (c->kind->pages) {
		put_range(d, element[0] * KVMS_PAGE_SIZE, (element[0] + c->pages) * KVMS_PAGE_SIZE - 1);
		return;
	}
	for (unsigned i = 0; i < c->kind->keys; i++)
		if (c->kind->field[i].name[0] != '\0')
			put_field(d, &key, c->kind, element, i);
	if (key.size > 0)
		kvt_putf(&d->line, "%s%s", d->k->json ? "," : " ", kvt_buffer_text(&key));
	kvt_buffer_free(&key);
}

static void
element_differs(void *arg, const struct kvmctl_element_change *c)
{
	struct diff *d = arg;
	bool is_before = c->before != NULL, is_after = c->after != NULL;

	item_begin(d, is_before, is_after);
	put_key(d, c);
	kvt_buffer_reset(&d->was);
	kvt_buffer_reset(&d->is);
	if (!d->k->json && is_before && is_after) {
		put_changes(d, c);
		item_end(d);
		return;
	}
	if (is_before)
		put_fields(d, &d->was, c, c->before, c->before_words);
	if (is_after)
		put_fields(d, &d->is, c, c->after, c->after_words);
	if (!d->k->json) {
		kvt_puts(&d->line, d->was.size + d->is.size > 0 ? " " : "");
		kvt_puts(&d->line, kvt_buffer_text(is_before ? &d->was : &d->is));
	} else {
		if (is_before)
			kvt_putf(&d->line, ",\"before\":{%s}", kvt_buffer_text(&d->was));
		if (is_after)
			kvt_putf(&d->line, ",\"after\":{%s}", kvt_buffer_text(&d->is));
		kvt_putc(&d->line, '}');
	}
	item_end(d);
}

/* ---- Both states ---------------------------------------------------------------------------------------- */

static bool
ask(struct kvms *s, const char *name, struct kvms_outcome *out)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find(name));
	return kvms_inspect(s, &op, out) == KVMS_DONE;
}

struct gather {
	struct state *state;
	bool failed;
};

/* Leaves of each address space, and free blocks of I/O memory, on the way through all elements. */
static bool
gather_spaces(void *arg, const uint64_t *element, unsigned count)
{
	struct gather *g = arg;
	struct kvms_outcome *mmio = &g->state->free_mmio;

	(void)count;
	if (element[0] == 10)
		kvmctl_leaves_table(&g->state->leaves, g->state->s, element[1]);
	if (element[0] != 19)
		return true;
	uint64_t *list = realloc(mmio->list, (mmio->list_count + 2) * sizeof *list);
	g->failed = list == NULL;
	if (list == NULL)
		return false;
	mmio->list = list;
	list[mmio->list_count++] = element[2];
	list[mmio->list_count++] = element[3];
	mmio->field[0]++;
	return true;
}

/* The store in a file: a snapshot, or a memory image. */
static enum kvmctl_status
load(struct diff *d, struct state *state)
{
	struct kvmctl_image image = { .path = state->file };
	char why[PERSIST_WHY];

	if (persist_file_is_ours(state->file)) {
		if (persist_file_load(state->file, d->k->option[OPTION_store], 0, &state->s, NULL, why, sizeof why) !=
		    PERSIST_OK) {
			kvmctl_complain("%s", why);
			return KVMCTL_UNREADABLE;
		}
	} else {
		enum kvmctl_status status = kvmctl_image_open(d->k, state->file, &image);

		if (status != KVMCTL_OK)
			return status;
		state->s = kvmctl_image_adopt(&image);
		kvmctl_image_close(&image);
		if (state->s == NULL)
			return KVMCTL_UNREADABLE;
	}
	state->step = kvms_steps(state->s);
	return KVMCTL_OK;
}

/* All that there is to tell of a state. */
static enum kvmctl_status
gather_state(struct state *state)
{
	struct gather g = { .state = state };

	bool done = ask(state->s, "census", &state->census) && ask(state->s, "areas", &state->areas) &&
		    ask(state->s, "free_va", &state->free_va);
	state->foreign = kvms_adopted(state->s) != NULL;
	kvmctl_leaves_table(&state->leaves, state->s, 0);
	done = done && kvms_visit(state->s, gather_spaces, &g) && !g.failed;
	kvmctl_elements_gather(&state->elements, state->s);
	state->digest = kvms_digest(state->s);
	if (done && !state->leaves.failed && !state->elements.failed)
		return KVMCTL_OK;
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

static enum kvmctl_status
gather(struct diff *d, struct state *state)
{
	enum kvmctl_status status = state->file != NULL ? load(d, state)
							 : kvmctl_history_rebuild(&d->h, state->step, &state->s);

	if (status == KVMCTL_OK)
		status = gather_state(state);
	kvms_free(&state->s); /* what it says is told: room for the other */
	return status;
}

static void
state_free(struct state *state)
{
	kvms_free(&state->s);
	kvms_outcome_free(&state->census);
	kvms_outcome_free(&state->areas);
	kvms_outcome_free(&state->free_va);
	kvms_outcome_free(&state->free_mmio);
	kvmctl_leaves_free(&state->leaves);
	kvmctl_elements_free(&state->elements);
}

static void
tell_state(const struct diff *d, const char *name, const struct state *state)
{
	struct kvt_buffer b = { 0 };

	if (d->k->json) {
		kvt_putf(&b, "\"%s\":{", name);
		if (state->file != NULL) {
			kvt_puts(&b, "\"file\":");
			kvt_json_string(&b, state->file, strlen(state->file));
			kvt_putc(&b, ',');
		}
		kvt_putf(&b, "\"step\":%" PRIu64 ",\"digest\":\"0x%016" PRIx64 "\"}", state->step, state->digest);
	} else {
		kvt_putf(&b, "%-7s ", name);
		if (state->file != NULL)
			kvt_putf(&b, "%s ", state->file);
		kvt_putf(&b, "step %" PRIu64 " digest=0x%016" PRIx64, state->step, state->digest);
	}
	fputs(kvt_buffer_text(&b), stdout);
	kvt_buffer_free(&b);
}

static void
tell_head(struct diff *d)
{
	bool same = d->before.digest == d->after.digest;

	if (d->k->json)
		putchar('{');
	tell_state(d, d->k->json ? "before" : "before:", &d->before);
	putchar(d->k->json ? ',' : '\n');
	tell_state(d, d->k->json ? "after" : "after:", &d->after);
	if (d->k->json)
		printf(",\"same\":%s", same ? "true" : "false");
	else
		puts(same ? ", the same state" : "");
}

static void
tell_sections(struct diff *d)
{
	const struct kvmctl_element_kind *kind;

	d->foreign = d->before.foreign && d->after.foreign;
	diff_counts(d);
	diff_areas(d);
	section_begin(d, "mappings");
	kvmctl_leaves_compare(&d->before.leaves, &d->after.leaves, mapping_differs, d);
	section_end(d);
	diff_ranges(d, "free_va", &d->before.free_va, &d->after.free_va);
	diff_ranges(d, "free_mmio", &d->before.free_mmio, &d->after.free_mmio);
	for (unsigned i = 0; (kind = kvmctl_element_kind(i)) != NULL; i++) {
		section_begin(d, kind->name);
		kvmctl_elements_compare(&d->before.elements, &d->after.elements, kind, element_differs, d);
		section_end(d);
	}
}

static void
diff_free(struct diff *d)
{
	state_free(&d->before);
	state_free(&d->after);
	kvt_buffer_free(&d->line);
	kvt_buffer_free(&d->was);
	kvt_buffer_free(&d->is);
}

enum kvmctl_status
kvmctl_diff_stores(struct kvmctl *k, struct kvms *before, struct kvms *after)
{
	struct diff d = { .k = k, .before.s = before, .after.s = after };
	enum kvmctl_status status = gather_state(&d.before);

	if (status == KVMCTL_OK)
		status = gather_state(&d.after);
	if (status == KVMCTL_OK)
		tell_sections(&d);
	d.before.s = d.after.s = NULL;
	diff_free(&d);
	return status;
}

/* Is it the name of a file, and no step? */
static bool
is_file(const char *word)
{
	return !kvmctl_step_is(word) && access(word, F_OK) == 0;
}

static enum kvmctl_status
find_steps(struct kvmctl *k, struct diff *d)
{
	enum kvmctl_status status;
	char shown[KVMCTL_SHOWN];

	for (int i = 0; i < 2; i++) {
		if (kvmctl_step_is(k->argv[i]))
			continue;
		kvmctl_complain("diff '%s': expected a step (a number, last or last-N), or two files that are there",
				kvmctl_shown(shown, k->argv[i]));
		return KVMCTL_USAGE;
	}
	status = kvmctl_history_open(k, &d->h);
	if (status == KVMCTL_OK)
		status = kvmctl_history_step(&d->h, k->argv[0], &d->before.step);
	if (status == KVMCTL_OK)
		status = kvmctl_history_step(&d->h, k->argv[1], &d->after.step);
	return status;
}

enum kvmctl_status
kvmctl_diff(struct kvmctl *k)
{
	struct diff d = { .k = k };
	enum kvmctl_status status = KVMCTL_OK;
	bool files = is_file(k->argv[0]) && is_file(k->argv[1]);

	if (files) {
		d.before.file = k->argv[0];
		d.after.file = k->argv[1];
	} else {
		status = find_steps(k, &d);
	}
	if (status == KVMCTL_OK)
		status = gather(&d, &d.before);
	if (status == KVMCTL_OK)
		status = gather(&d, &d.after);
	if (!files)
		kvmctl_history_close(&d.h);
	if (status == KVMCTL_OK) {
		tell_head(&d);
		tell_sections(&d);
		if (k->json)
			puts("}");
	}
	diff_free(&d);
	return status;
}
