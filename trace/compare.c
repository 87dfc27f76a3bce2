#include "trace/compare.h"

#include "trace/buffer.h"
#include "trace/listing.h"
#include "trace/text.h"
#include "trace/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* An area. */
struct item {
	uint64_t start;
	uint64_t size;
};

/* Both sides of a comparison in ascending order, walked together. */
struct merge {
	struct item *listed;
	size_t listed_count, next;
	unsigned most, told;
	FILE *report;
	struct kvt_buffer differing;
	struct kvt_compared *result;
};

bool
kvt_compared_equal(const struct kvt_compared *c)
{
	return c->differ == 0 && c->only_listed == 0 && c->only_store == 0;
}

/* ---- The merge -------------------------------------------------------------------- */

static void
print_item(struct kvt_buffer *b, const struct item *item)
{
	kvt_putf(b, "0x%" PRIx64 "..0x%" PRIx64, item->start, item->start + item->size);
}

/* Tell one difference; either side may be missing. */
static void
tell(struct merge *m, const struct item *listed, const struct item *store)
{
	if (m->told++ >= m->most)
		return;
	kvt_puts(&m->differing, "  area ");
	if (listed != NULL) {
		kvt_puts(&m->differing, "listed ");
		print_item(&m->differing, listed);
	}
	if (listed != NULL && store != NULL)
		kvt_puts(&m->differing, ", ");
	if (store != NULL) {
		kvt_puts(&m->differing, "in the store ");
		print_item(&m->differing, store);
	}
	kvt_puts(&m->differing, listed == NULL ? ": not listed\n" : store == NULL ? ": not in the store\n" : "\n");
}

static void
compare_pair(struct merge *m, const struct item *listed, const struct item *store)
{
	if (listed->size == store->size) {
		m->result->agree++;
		return;
	}
	m->result->differ++;
	tell(m, listed, store);
}

/* The next item of the store; NULL: it has no more. */
static void
merge_next(struct merge *m, const struct item *store)
{
	while (m->next < m->listed_count && (store == NULL || m->listed[m->next].start < store->start)) {
		m->result->only_listed++;
		tell(m, &m->listed[m->next++], NULL);
	}
	if (store == NULL)
		return;
	m->result->in_store++;
	if (m->next < m->listed_count && m->listed[m->next].start == store->start) {
		compare_pair(m, &m->listed[m->next++], store);
		return;
	}
	m->result->only_store++;
	tell(m, NULL, store);
}

static int
by_start(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void
merge_begin(struct merge *m)
{
	if (m->listed_count > 0)
		qsort(m->listed, m->listed_count, sizeof *m->listed, by_start);
	m->result->listed = m->listed_count;
}

/* Say how it went: the count first, then what differs. */
static void
merge_end(struct merge *m)
{
	const struct kvt_compared *c = m->result;

	merge_next(m, NULL);
	fprintf(m->report, "areas %" PRIu64 " of %" PRIu64 "\n", c->agree, c->listed);
	if (c->unpurged > 0)
		fprintf(m->report, "  unpurged %" PRIu64 "\n", c->unpurged);
	if (!kvt_compared_equal(c))
		fprintf(m->report, "  differ %" PRIu64 ", only listed %" PRIu64 ", only in the store %" PRIu64 "\n",
			c->differ, c->only_listed, c->only_store);
	fwrite(kvt_buffer_text(&m->differing), 1, m->differing.size, m->report);
	if (m->told > m->most)
		fprintf(m->report, "  and %u more\n", m->told - m->most);
}

static void
merge_free(struct merge *m)
{
	free(m->listed);
	kvt_buffer_free(&m->differing);
}

/* ---- Reading the kernel's side ------------------------------------------------------- */

static bool
add_item(struct merge *m, size_t *capacity, const struct item *item)
{
	struct item *at;

	if (m->listed_count == *capacity) {
		*capacity = *capacity != 0 ? *capacity * 2 : 1024;
		at = realloc(m->listed, *capacity * sizeof *at);
		if (at == NULL)
			return false;
		m->listed = at;
	}
	m->listed[m->listed_count++] = *item;
	return true;
}

static bool
read_areas(struct merge *m, struct kvt_input *in)
{
	struct kvt_items l = { 0 };
	size_t capacity = 0;
	char error[256];
	bool done = kvt_listing_read(&l, KVT_VMALLOCINFO, in, error, sizeof error);

	if (!done)
		fprintf(m->report, "%s\n", error);
	for (size_t i = 0; i < l.count && done; i++) {
		const struct kvt_item *from = &l.at[i];

		done = add_item(m, &capacity, &(struct item){ from->start, from->last - from->start + 1 });
		if (!done)
			fprintf(m->report, "%s: no memory\n", kvt_input_name(in));
	}
	m->result->unpurged = l.unpurged;
	kvt_items_free(&l);
	return done;
}

/* ---- The store's side -------------------------------------------------------------------- */

static enum kvt_status
merge_areas(struct merge *m, struct kvt_target *t)
{
	const struct kvms_row *row = kvms_request_find("areas");
	struct kvms_outcome out = { 0 };
	enum kvt_status status;
	struct kvms_op op;
	const uint64_t *area;
	uint64_t count;
	struct item *items;

	kvms_op_init(&op, row);
	status = t->inspect(t, &op, &out);
	if (status != KVT_DONE || out.name != 0) {
		kvms_outcome_free(&out);
		return status;
	}
	area = kvms_outcome_list(&out, row, 0, &count);
	items = calloc(count > 0 ? (size_t)count : 1, sizeof *items);
	if (items == NULL)
		status = KVT_NOMEM;
	for (uint64_t i = 0; items != NULL && i < count; i++, area += 3) {
		items[i].start = area[1];
		items[i].size = area[2] - area[1];
	}
	kvms_outcome_free(&out);
	if (items == NULL)
		return status;
	qsort(items, (size_t)count, sizeof *items, by_start);
	for (uint64_t i = 0; i < count; i++)
		if (items[i].size > 0)
			merge_next(m, &items[i]);
	free(items);
	return status;
}

/* ---- The comparison ------------------------------------------------------------------------- */

enum kvt_status
kvt_compare_areas(struct kvt_target *t, struct kvt_input *listing, unsigned most, FILE *report,
		  struct kvt_compared *result, bool *readable)
{
	struct merge m = { .most = most, .report = report, .result = result };
	enum kvt_status status = KVT_DONE;

	memset(result, 0, sizeof *result);
	*readable = read_areas(&m, listing);
	if (*readable) {
		merge_begin(&m);
		status = merge_areas(&m, t);
		if (status == KVT_DONE)
			merge_end(&m);
	}
	merge_free(&m);
	return status;
}
