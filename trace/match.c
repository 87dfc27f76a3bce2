#include "trace/match.h"

#include <string.h>

#define PAGE ((uint64_t)KVMS_PAGE_SIZE)
#define ASPECT(name) (1u << KVT_ASPECT_##name)
#define HALF (UINT64_C(1) << 63)

/* A list, and how far it has been read: addresses of the item at hand below "from" are done with. */
struct side {
	const struct kvt_items *l;
	size_t at;
	uint64_t from;
};

struct match {
	const struct kvt_match *how;
	unsigned aspects;
	uint64_t max_paddr;
	struct side listed, store;
	struct kvt_difference held; /* may become longer */
	bool holding;
	kvt_difference_visitor *visit;
	void *arg;
	struct kvt_matched *result;
};

/* ---- Differences --------------------------------------------------------------------------- */

static void
flush(struct match *m)
{
	if (m->holding) {
		m->result->differences++;
		m->visit(m->arg, &m->held);
	}
	m->holding = false;
}

/* Is what a range tells, addresses and frames apart, the same at "b"? */
static bool
alike(const struct kvt_item *a, const struct kvt_item *b)
{
	return a->prop == b->prop && a->size == b->size && a->tracked == b->tracked;
}

static void
differ(struct match *m, const struct kvt_difference *d)
{
	struct kvt_difference *h = &m->held;

	if (m->holding && h->last + 1 == d->start && h->is_listed == d->is_listed && h->is_in_store == d->is_in_store &&
	    h->aspects == d->aspects && (!h->is_listed || alike(&h->listed, &d->listed)) &&
	    (!h->is_in_store || alike(&h->store, &d->store))) {
		uint64_t distance = d->start - h->start;

		h->listed_goes_on &= h->listed.paddr + distance == d->listed.paddr;
		h->store_goes_on &= h->store.paddr + distance == d->store.paddr;
		h->last = d->last;
		return;
	}
	flush(m);
	*h = *d;
	h->listed_goes_on = h->store_goes_on = true;
	m->holding = true;
}

/* ---- What two items have in common ------------------------------------------------------------- */

static const struct {
	enum kvt_aspect aspect;
	uint64_t prop;
	bool right; /* that a store may withhold */
} bits[] = {
	{ KVT_ASPECT_READ, KVMS_PROP_R, true },         { KVT_ASPECT_WRITE, KVMS_PROP_W, true },
	{ KVT_ASPECT_EXECUTE, KVMS_PROP_X, true },      { KVT_ASPECT_USER, KVMS_PROP_USER, false },
	{ KVT_ASPECT_GLOBAL, KVMS_PROP_GLOBAL, false }, { KVT_ASPECT_ACCESSED, KVMS_PROP_A, false },
	{ KVT_ASPECT_DIRTY, KVMS_PROP_D, false },
};

static bool
frame_is_known(const struct match *m, uint64_t paddr)
{
	return m->how->memory == 0 || paddr < m->how->memory || paddr >= m->max_paddr;
}

/*
 * May a listed policy be the store's?  PCD alone, which is listed as wc, is uc
 * where the machine's table of attributes is as it was at reset; PWT alone, wt,
 * is wc to Linux.
 */
static bool
cache_fits(uint64_t listed, uint64_t store)
{
	enum { UC, WC, WT = 3 };

	return listed == store || (listed == WC && store == UC) || (listed == WT && store == WC);
}

/* The aspects in which the sides of "d" differ. */
static unsigned
compare(const struct match *m, const struct kvt_difference *d)
{
	const struct kvt_item *a = &d->listed, *b = &d->store;
	unsigned differ = 0;

	for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
		uint64_t x = a->prop & bits[i].prop, y = b->prop & bits[i].prop;

		if (x != y && !(m->how->partial && bits[i].right && x != 0))
			differ |= 1u << bits[i].aspect;
	}
	if (!cache_fits(a->prop >> KVMS_PROP_CACHE_SHIFT, b->prop >> KVMS_PROP_CACHE_SHIFT))
		differ |= ASPECT(CACHE);
	if (a->size != b->size)
		differ |= ASPECT(SIZE);
	if (a->paddr != b->paddr && frame_is_known(m, b->paddr))
		differ |= ASPECT(FRAME);
	return differ & m->aspects;
}

/* ---- The walk ------------------------------------------------------------------------------------- */

static const struct kvt_item *
side_item(const struct side *s)
{
	return s->at < s->l->count ? &s->l->at[s->at] : NULL;
}

static uint64_t
side_start(const struct side *s)
{
	const struct kvt_item *item = side_item(s);

	return s->from > item->start ? s->from : item->start;
}

/* All up to "last" is done with. */
static void
side_done(struct side *s, uint64_t last)
{
	if (last >= side_item(s)->last) {
		s->at++;
		s->from = 0;
	} else {
		s->from = last + 1;
	}
}

/* The item, as it is from "start" on. */
static struct kvt_item
item_from(const struct kvt_item *item, uint64_t start)
{
	struct kvt_item from = *item;

	from.paddr += start - item->start;
	return from;
}

static void
count(struct match *m, const struct kvt_difference *d)
{
	struct kvt_matched *r = m->result;
	uint64_t pages = (d->last - d->start) / PAGE + 1;

	r->listed += d->is_listed ? pages : 0;
	r->in_store += d->is_in_store ? pages : 0;
	if (!d->is_in_store)
		r->missing += pages;
	else if (!d->is_listed)
		r->extra += pages;
	else if (d->aspects != 0)
		r->different += pages;
	else
		r->agree += pages;
	if (d->is_listed && d->is_in_store && d->aspects == 0 && (m->aspects & ASPECT(FRAME)) != 0 &&
	    !frame_is_known(m, d->store.paddr))
		r->unknown += pages;
	if (d->is_listed && d->is_in_store ? d->aspects == 0 : m->how->partial && d->is_listed)
		return;
	r->equal = false;
	differ(m, d);
}

/* The next piece of [.., last] in which no item of either side ends or begins; false: there is none. */
static bool
match_next(struct match *m, uint64_t last)
{
	const struct kvt_item *a = side_item(&m->listed), *b = side_item(&m->store);
	uint64_t from_a = 0, from_b = 0;
	struct kvt_difference d = { .last = last };

	if (a != NULL && (from_a = side_start(&m->listed)) > last)
		a = NULL;
	if (b != NULL && (from_b = side_start(&m->store)) > last)
		b = NULL;
	if (a == NULL && b == NULL)
		return false;
	d.start = a == NULL || (b != NULL && from_b < from_a) ? from_b : from_a;
	d.is_listed = a != NULL && from_a == d.start;
	d.is_in_store = b != NULL && from_b == d.start;
	if (a != NULL && (d.is_listed ? a->last : from_a - 1) < d.last)
		d.last = d.is_listed ? a->last : from_a - 1;
	if (b != NULL && (d.is_in_store ? b->last : from_b - 1) < d.last)
		d.last = d.is_in_store ? b->last : from_b - 1;
	if (d.is_listed)
		d.listed = item_from(a, d.start);
	if (d.is_in_store)
		d.store = item_from(b, d.start);
	if (d.is_listed && d.is_in_store)
		d.aspects = compare(m, &d);
	count(m, &d);
	if (d.is_listed)
		side_done(&m->listed, d.last);
	if (d.is_in_store)
		side_done(&m->store, d.last);
	return true;
}

/* Pass listed items up to "first", which is outside. */
static void
skip_to(struct match *m, uint64_t first)
{
	const struct kvt_item *item;

	while ((item = side_item(&m->listed)) != NULL && side_start(&m->listed) < first) {
		uint64_t to = item->last < first ? item->last : first - 1;

		m->result->outside += (to - side_start(&m->listed)) / PAGE + 1;
		side_done(&m->listed, to);
	}
}

/* A leaf that may be larger or smaller has the size of the store's leaf there, if that can be. */
static void
settle_sizes(struct kvt_items *listing, const struct kvt_items *store)
{
	size_t k = 0;

	for (size_t i = 0; i < listing->count; i++) {
		struct kvt_item *item = &listing->at[i];

		while (k < store->count && store->at[k].last < item->start)
			k++;
		if (!item->unsure || k == store->count || store->at[k].start > item->start)
			continue;
		uint64_t size = store->at[k].size, last = item->start + (size - 1);

		if (size == 0 || (item->start | item->paddr) % size != 0 ||
		    (i + 1 < listing->count && listing->at[i + 1].start <= last))
			continue;
		item->size = size;
		item->last = last;
	}
}

static enum kvt_status
match_tables(struct match *m, struct kvt_target *t, struct kvt_items *listing)
{
	const uint64_t half[2] = { m->how->table == 0 ? HALF : 0, m->how->table == 0 ? UINT64_MAX : HALF - 1 };
	const uint64_t *ranges = m->how->ranges != NULL ? m->how->ranges : half;
	size_t ranges_count = m->how->ranges != NULL ? m->how->ranges_count : 1;
	struct kvt_items store = { 0 };
	enum kvt_status status = KVT_DONE;

	for (size_t i = 0; i < ranges_count && status == KVT_DONE; i++)
		status = kvt_items_of_table(&store, t, m->how->table, ranges[2 * i], ranges[2 * i + 1]);
	settle_sizes(listing, &store);
	m->listed.l = listing;
	m->store.l = &store;
	for (size_t i = 0; i < ranges_count && status == KVT_DONE; i++) {
		skip_to(m, ranges[2 * i]);
		while (match_next(m, ranges[2 * i + 1]))
			;
	}
	if (status == KVT_DONE) {
		skip_to(m, UINT64_MAX);
		flush(m);
	}
	kvt_items_free(&store);
	return status;
}

/* ---- Areas ------------------------------------------------------------------------------------------- */

static bool
in_ranges(const struct kvt_match *how, uint64_t va)
{
	for (size_t i = 0; i < how->ranges_count; i++)
		if (how->ranges[2 * i] <= va && va <= how->ranges[2 * i + 1])
			return true;
	return how->ranges == NULL;
}

static void
match_area(struct match *m, const struct kvt_item *a, const struct kvt_item *b)
{
	struct kvt_matched *r = m->result;
	struct kvt_difference d = { .is_listed = a != NULL, .is_in_store = b != NULL };

	r->listed += a != NULL;
	r->in_store += b != NULL;
	if (a != NULL && b != NULL && a->last == b->last) {
		r->agree++;
		return;
	}
	r->missing += b == NULL;
	r->extra += a == NULL;
	r->different += a != NULL && b != NULL;
	if (b == NULL && m->how->partial)
		return;
	if (a != NULL)
		d.listed = *a;
	if (b != NULL)
		d.store = *b;
	d.start = a != NULL ? a->start : b->start;
	d.last = a != NULL ? a->last : b->last;
	r->equal = false;
	r->differences++;
	m->visit(m->arg, &d);
}

static enum kvt_status
match_areas(struct match *m, struct kvt_target *t, const struct kvt_items *listing)
{
	struct kvt_items areas = { 0 };
	enum kvt_status status = kvt_items_of_areas(&areas, t);
	size_t i = 0, k = 0;

	while (status == KVT_DONE && (i < listing->count || k < areas.count)) {
		const struct kvt_item *a = i < listing->count ? &listing->at[i] : NULL;
		const struct kvt_item *b = k < areas.count ? &areas.at[k] : NULL;

		if (a != NULL && b != NULL && a->start != b->start) {
			if (a->start < b->start)
				b = NULL;
			else
				a = NULL;
		}
		i += a != NULL;
		k += b != NULL;
		if (in_ranges(m->how, a != NULL ? a->start : b->start))
			match_area(m, a, b);
		else
			m->result->outside += a != NULL;
	}
	kvt_items_free(&areas);
	return status;
}

/* ---- All ------------------------------------------------------------------------------------------------ */

enum kvt_status
kvt_match(struct kvt_target *t, enum kvt_form form, struct kvt_items *listing, const struct kvt_match *how,
	  kvt_difference_visitor *visit, void *arg, struct kvt_matched *result)
{
	struct match m = {
		.how = how, .aspects = how->aspects & listing->told, .visit = visit, .arg = arg, .result = result
	};
	int max_paddr = kvms_arg_index(kvms_store_row(), "max_paddr");
	const struct kvms_op *config;

	memset(result, 0, sizeof *result);
	result->equal = true;
	result->unpurged = listing->unpurged;
	enum kvt_status status = t->config(t, &config);
	if (status != KVT_DONE)
		return status;
	m.max_paddr = max_paddr >= 0 ? config->arg[max_paddr] : 0;
	return form == KVT_VMALLOCINFO ? match_areas(&m, t, listing) : match_tables(&m, t, listing);
}
