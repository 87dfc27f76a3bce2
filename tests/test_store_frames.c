/*
 * Frames, segments and lists beside plain models of them: arrays of holders
 * that are searched, arrays of pages that are shifted.  Random operations,
 * many of them refused, have the same outcomes here and there.
 */
#include "tests/store_kit.h"

#include <stdio.h>

#define PAGES 16u /* frames 0 .. PAGES - 1 take part */
#define LIVE 48u  /* objects of a kind that live at once */
#define NONE UINT64_MAX

/* ---- Holders ----------------------------------------------------------------------- */

enum sort {
	HANDLE,
	SEGMENT,
	UNIQUE,
	SORTS,
};

static const char *const sort_name[SORTS] = { "frame", "segment", "unique" };

/* One object: pages from .. to - 1. */
struct holder {
	enum sort sort;
	uint64_t id, from, to;
};

struct plain {
	struct kvms *s;
	struct kit_random r;
	uint64_t rc_max;
	struct holder held[LIVE];
	unsigned count;
	uint64_t next[SORTS];
	uint64_t meta[PAGES];
	char want[160];
};

static unsigned
holders_of(const struct plain *p, enum sort sort, uint64_t page)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->count; i++)
		n += p->held[i].sort == sort && p->held[i].from <= page && page < p->held[i].to;
	return n;
}

static unsigned
references(const struct plain *p, uint64_t page)
{
	return holders_of(p, HANDLE, page) + holders_of(p, SEGMENT, page);
}

static bool
is_unused(const struct plain *p, uint64_t page)
{
	return references(p, page) == 0 && holders_of(p, UNIQUE, page) == 0;
}

static uint64_t
hold(struct plain *p, enum sort sort, uint64_t from, uint64_t to)
{
	p->held[p->count++] = (struct holder){ sort, p->next[sort], from, to };
	return p->next[sort]++;
}

static void
let_go(struct plain *p, struct holder *h)
{
	*h = p->held[--p->count];
}

static struct holder *
holder_by_id(struct plain *p, enum sort sort, uint64_t id)
{
	for (unsigned i = 0; i < p->count; i++)
		if (p->held[i].sort == sort && p->held[i].id == id)
			return &p->held[i];
	return NULL;
}

/* Mostly the id of a live object; else an ended one, one of another sort, or none. */
static uint64_t
some_id(struct plain *p, enum sort sort)
{
	for (unsigned tries = 0; p->count > 0 && tries < 8; tries++) {
		const struct holder *h = &p->held[kit_below(&p->r, p->count)];

		if (h->sort == sort)
			return h->id;
	}
	return kit_below(&p->r, 8) == 0 ? NONE : kit_below(&p->r, p->next[sort] + 2);
}

#define WANT(p, ...) snprintf((p)->want, sizeof(p)->want, __VA_ARGS__)
#define HEX "0x%" PRIx64
#define DEC "%" PRIu64

/* The outcome if an id is not there; else its holder. */
static struct holder *
wanted_holder(struct plain *p, enum sort sort, uint64_t id)
{
	struct holder *h = holder_by_id(p, sort, id);

	if (h == NULL)
		WANT(p, "pre unknown_%s", sort_name[sort]);
	return h;
}

/* The error of claiming pages, or NULL. */
static const char *
claim_error(const struct plain *p, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to; page++) {
		if (holders_of(p, UNIQUE, page) > 0)
			return "err Unique";
		if (references(p, page) > 0)
			return "err InUse";
	}
	return NULL;
}

/* One more reference on each page, if all of them may have one. */
static bool
again(struct plain *p, enum sort sort, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to; page++)
		if (references(p, page) >= p->rc_max) {
			WANT(p, "abort refcount_saturated");
			return false;
		}
	(void)hold(p, sort, from, to);
	return true;
}

/* ---- Operations on both -------------------------------------------------------------- */

static void
claim_one(struct plain *p, enum sort sort)
{
	uint64_t page = kit_below(&p->r, PAGES), meta = kit_below(&p->r, 1000);
	const char *error = claim_error(p, page, page + 1);

	if (error != NULL) {
		WANT(p, "%s", error);
	} else {
		WANT(p, "ok %s=" DEC, sort_name[sort], hold(p, sort, page, page + 1));
		p->meta[page] = meta;
	}
	kit_want(p->s, p->want, "%s_from_unused paddr=" HEX " meta=" HEX, sort_name[sort], page * PAGE, meta);
}

static void
claim_range(struct plain *p)
{
	uint64_t from = kit_below(&p->r, PAGES), to = kit_below(&p->r, PAGES + 1);
	const char *error = from >= to ? "panic segment_empty" : claim_error(p, from, to);

	if (error != NULL) {
		WANT(p, "%s", error);
	} else {
		WANT(p, "ok segment=" DEC, hold(p, SEGMENT, from, to));
		for (uint64_t page = from; page < to; page++)
			p->meta[page] = 7;
	}
	kit_want(p->s, p->want, "segment_from_unused start=" HEX " end=" HEX " meta=0x7", from * PAGE, to * PAGE);
}

static void
get_in_use(struct plain *p)
{
	uint64_t page = kit_below(&p->r, PAGES);

	if (is_unused(p, page))
		WANT(p, "err Unused");
	else if (holders_of(p, UNIQUE, page) > 0)
		WANT(p, "err Unique");
	else if (again(p, HANDLE, page, page + 1))
		WANT(p, "ok frame=" DEC, p->next[HANDLE] - 1);
	kit_want(p->s, p->want, "frame_from_in_use paddr=" HEX, page * PAGE);
}

static void
clone(struct plain *p, enum sort sort)
{
	uint64_t id = some_id(p, sort);
	const struct holder *h = wanted_holder(p, sort, id);

	if (h != NULL && again(p, sort, h->from, h->to))
		WANT(p, "ok %s=" DEC, sort_name[sort], p->next[sort] - 1);
	kit_want(p->s, p->want, "%s_clone %s=" DEC, sort_name[sort], sort_name[sort], id);
}

static void
drop(struct plain *p, enum sort sort)
{
	uint64_t id = some_id(p, sort);
	struct holder *h = wanted_holder(p, sort, id);

	if (h != NULL) {
		struct holder was = *h;
		unsigned freed = 0;

		let_go(p, h);
		for (uint64_t page = was.from; page < was.to; page++)
			freed += is_unused(p, page);
		if (sort == HANDLE)
			WANT(p, "ok last=%s", freed > 0 ? "true" : "false");
		else if (sort == SEGMENT)
			WANT(p, "ok pages=%u", freed);
		else
			WANT(p, "ok");
	}
	kit_want(p->s, p->want, "%s_%s %s=" DEC, sort_name[sort],
		 sort == UNIQUE && kit_below(&p->r, 2) == 0 ? "reset" : "drop", sort_name[sort], id);
}

static void
make_unique(struct plain *p)
{
	uint64_t id = some_id(p, HANDLE);
	struct holder *h = wanted_holder(p, HANDLE, id);

	if (h != NULL && references(p, h->from) > 1) {
		WANT(p, "err NotExclusive");
	} else if (h != NULL) {
		uint64_t page = h->from;

		let_go(p, h);
		WANT(p, "ok unique=" DEC, hold(p, UNIQUE, page, page + 1));
	}
	kit_want(p->s, p->want, "unique_from_shared frame=" DEC, id);
}

static void
make_shared(struct plain *p)
{
	uint64_t id = some_id(p, UNIQUE);
	struct holder *h = wanted_holder(p, UNIQUE, id);

	if (h != NULL) {
		uint64_t page = h->from;

		let_go(p, h);
		WANT(p, "ok frame=" DEC, hold(p, HANDLE, page, page + 1));
	}
	kit_want(p->s, p->want, "frame_from_unique unique=" DEC, id);
}

static void
make_segment(struct plain *p)
{
	uint64_t id = some_id(p, HANDLE);
	struct holder *h = wanted_holder(p, HANDLE, id);

	if (h != NULL) {
		uint64_t page = h->from;

		let_go(p, h);
		WANT(p, "ok segment=" DEC " start=" HEX " end=" HEX, hold(p, SEGMENT, page, page + 1), page * PAGE,
		     (page + 1) * PAGE);
	}
	kit_want(p->s, p->want, "segment_from_frame frame=" DEC, id);
}

static void
take_next(struct plain *p)
{
	uint64_t id = some_id(p, SEGMENT);
	struct holder *h = wanted_holder(p, SEGMENT, id);

	if (h != NULL) {
		uint64_t page = h->from++;
		bool last = h->from == h->to;

		if (last)
			let_go(p, h);
		WANT(p, "ok frame=" DEC " paddr=" HEX " last=%s", hold(p, HANDLE, page, page + 1), page * PAGE,
		     last ? "true" : "false");
	}
	kit_want(p->s, p->want, "segment_next segment=" DEC, id);
}

/* An offset in pages, mostly inside a segment; sometimes so far out that a sum would wrap. */
static uint64_t
some_offset(struct plain *p)
{
	return kit_below(&p->r, 16) == 0 ? (UINT64_C(1) << 52) - 1 - kit_below(&p->r, PAGES) : kit_below(&p->r, 6);
}

static void
split(struct plain *p)
{
	uint64_t id = some_id(p, SEGMENT), at = some_offset(p), odd = kit_below(&p->r, 8) == 0;
	struct holder *h = wanted_holder(p, SEGMENT, id);

	if (h != NULL && odd) {
		WANT(p, "panic split_misaligned");
	} else if (h != NULL && (at == 0 || at >= h->to - h->from)) {
		WANT(p, "panic split_out_of_bound");
	} else if (h != NULL) {
		struct holder was = *h;
		uint64_t left;

		let_go(p, h);
		left = hold(p, SEGMENT, was.from, was.from + at);
		WANT(p, "ok left=" DEC " right=" DEC, left, hold(p, SEGMENT, was.from + at, was.to));
	}
	kit_want(p->s, p->want, "segment_split segment=" DEC " offset=" HEX, id, at * PAGE + odd);
}

static void
slice(struct plain *p)
{
	uint64_t id = some_id(p, SEGMENT), from = some_offset(p), to = some_offset(p), odd = kit_below(&p->r, 8) == 0;
	const struct holder *h = wanted_holder(p, SEGMENT, id);

	if (h != NULL && odd)
		WANT(p, "panic slice_misaligned");
	else if (h != NULL && (from > to || to > h->to - h->from))
		WANT(p, "panic slice_out_of_bound");
	else if (h != NULL && from == to)
		WANT(p, "ok empty=true");
	else if (h != NULL && again(p, SEGMENT, h->from + from, h->from + to))
		WANT(p, "ok empty=false segment=" DEC, p->next[SEGMENT] - 1);
	kit_want(p->s, p->want, "segment_slice segment=" DEC " start=" HEX " end=" HEX, id, from * PAGE,
		 to * PAGE + odd);
}

static void
same_pages(struct plain *p)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		unsigned h = holders_of(p, HANDLE, page), c = holders_of(p, SEGMENT, page);
		unsigned u = holders_of(p, UNIQUE, page);
		char rc[16];

		snprintf(rc, sizeof rc, "%u", h + c);
		if (is_unused(p, page))
			p->meta[page] = 0;
		WANT(p, "ok rc=%s usage=%s kind=%s meta=" HEX " in_list=0 h=%u p=0 c=%u k=0 u=%u l=0",
		     is_unused(p, page) ? "unused"
		     : u > 0            ? "unique"
					: rc,
		     is_unused(p, page) ? "Unused" : "Frame", is_unused(p, page) ? "none" : "untyped", p->meta[page], h,
		     c, u);
		kit_see(p->s, p->want, "frame paddr=" HEX, page * PAGE);
	}
}

static void
holders_run(uint64_t rc_max, uint64_t seed, uint64_t steps)
{
	struct plain p = { .rc_max = rc_max, .r = { seed }, .next = { 1, 1, 1 } };

	p.s = kit_new("max_paddr=0x200000 rc_max=" HEX, rc_max);
	for (uint64_t i = 0; i < steps; i++) {
		/* fill for a while, then empty for a while */
		uint64_t choice = kit_below(&p.r, p.count > LIVE - 3 || i / 300 % 2 == 1 ? 28 : 60);

		if (choice < 14)
			drop(&p, (enum sort)(choice % SORTS));
		else if (choice < 18)
			take_next(&p);
		else if (choice < 21)
			make_unique(&p);
		else if (choice < 24)
			make_shared(&p);
		else if (choice < 28)
			make_segment(&p);
		else if (choice < 36)
			claim_one(&p, choice % 2 == 0 ? HANDLE : UNIQUE);
		else if (choice < 42)
			claim_range(&p);
		else if (choice < 45)
			get_in_use(&p);
		else if (choice < 50)
			clone(&p, (enum sort)(choice % 2));
		else if (choice < 55)
			split(&p);
		else
			slice(&p);
		if (i % 8 == 0)
			same_pages(&p);
	}
	kit_sound(p.s);
	kvms_free(&p.s);
}

Test(holders, count_as_many_references_as_there_are)
{
	for (uint64_t seed = 1; seed <= 4; seed++)
		holders_run(UINT64_C(1) << 62, seed, kit_scaled(8000));
}

Test(holders, count_no_further_than_they_may)
{
	for (uint64_t seed = 1; seed <= 4; seed++)
		holders_run(seed, 100 + seed, kit_scaled(8000));
}

/* ---- Lists --------------------------------------------------------------------------- */

#define LISTS 3u

/* A list as an array of pages. */
struct row {
	uint64_t page[PAGES];
	uint64_t length, index;
	bool out;
	uint64_t tag;
};

struct lists {
	struct kvms *s;
	struct kit_random r;
	struct row row[LISTS + 1]; /* by id */
	uint64_t loose[PAGES];     /* id of the unique frame, 0 while the page is on a list */
	uint64_t next, next_tag;
	char want[160];
};

static uint64_t
place(const struct row *l, uint64_t page)
{
	for (uint64_t i = 0; i < l->length; i++)
		if (l->page[i] == page)
			return i;
	return NONE;
}

static void
put(struct lists *m, struct row *l, uint64_t at, uint64_t page)
{
	if (l->tag == 0)
		l->tag = m->next_tag++;
	for (uint64_t i = l->length++; i > at; i--)
		l->page[i] = l->page[i - 1];
	l->page[at] = page;
	m->loose[page] = 0;
}

/* Take a link off, or find none; the fields that tell, without "ok". */
static void
pull(struct lists *m, struct row *l, uint64_t at)
{
	uint64_t page;

	if (at >= l->length) {
		WANT(m, "ok found=false");
		return;
	}
	page = l->page[at];
	l->length--;
	for (uint64_t i = at; i < l->length; i++)
		l->page[i] = l->page[i + 1];
	m->loose[page] = m->next++;
	WANT(m, "ok found=true unique=" DEC " paddr=" HEX, m->loose[page], page * PAGE);
}

/* A loose page, or one that is on a list. */
static uint64_t
some_page(struct lists *m, bool loose)
{
	uint64_t page = kit_below(&m->r, PAGES);

	for (unsigned i = 0; i < PAGES; i++, page = (page + 1) % PAGES)
		if ((m->loose[page] != 0) == loose)
			break;
	return page;
}

/* Operations on a list; "id" is its, "page" loose if there is any, "listed" likewise. */
static void
list_step(struct lists *m, uint64_t id, struct row *l)
{
	uint64_t page = some_page(m, true), listed = some_page(m, false), unique = m->loose[page], at;
	const char *no = l->out ? "pre list_has_cursor" : NULL;

	switch (kit_below(&m->r, 11)) {
	case 0:
		WANT(m, "ok count=" DEC, l->length);
		kit_want(m->s, no != NULL ? no : m->want, "list_size list=" DEC, id);
		return;
	case 1:
		WANT(m, "ok contains=%s", place(l, listed) != NONE ? "true" : "false");
		kit_want(m->s, no != NULL ? no : m->want, "list_contains list=" DEC " paddr=" HEX, id, listed * PAGE);
		return;
	case 2:
		if (unique == 0)
			no = "pre unknown_unique";
		kit_want(m->s, no != NULL ? no : "ok", "list_push_front list=" DEC " unique=" DEC, id, unique);
		if (no == NULL)
			put(m, l, 0, page);
		return;
	case 3:
		if (unique == 0)
			no = "pre unknown_unique";
		kit_want(m->s, no != NULL ? no : "ok", "list_push_back list=" DEC " unique=" DEC, id, unique);
		if (no == NULL)
			put(m, l, l->length, page);
		return;
	case 4:
		at = kit_below(&m->r, l->length + 2);
		if (unique == 0)
			no = "pre unknown_unique";
		else if (no == NULL && at > l->length)
			no = "pre index_out_of_range";
		kit_want(m->s, no != NULL ? no : "ok", "list_insert_before_at list=" DEC " index=" DEC " unique=" DEC,
			 id, at, unique);
		if (no == NULL)
			put(m, l, at, page);
		return;
	case 5:
		if (no == NULL)
			pull(m, l, 0);
		kit_want(m->s, no != NULL ? no : m->want, "list_pop_front list=" DEC, id);
		return;
	case 6:
		if (no == NULL)
			pull(m, l, l->length - 1);
		kit_want(m->s, no != NULL ? no : m->want, "list_pop_back list=" DEC, id);
		return;
	case 7:
		at = kit_below(&m->r, l->length + 2);
		if (no == NULL)
			pull(m, l, at);
		kit_want(m->s, no != NULL ? no : m->want, "list_take_at list=" DEC " index=" DEC, id, at);
		return;
	case 8:
		WANT(m, "ok index=0");
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_front_mut list=" DEC, id);
		l->index = no != NULL ? l->index : 0;
		break;
	case 9:
		at = l->length > 0 ? l->length - 1 : 0;
		WANT(m, "ok index=" DEC, at);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_back_mut list=" DEC, id);
		l->index = no != NULL ? l->index : at;
		break;
	default:
		at = place(l, listed);
		if (at == NONE)
			WANT(m, "ok found=false");
		else
			WANT(m, "ok found=true index=" DEC, at);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_mut_at list=" DEC " paddr=" HEX, id,
			 listed * PAGE);
		if (at == NONE)
			return;
		l->index = no != NULL ? l->index : at;
	}
	l->out = true;
}

static void
cursor_step(struct lists *m, uint64_t id, struct row *l)
{
	uint64_t page = some_page(m, true), unique = m->loose[page];
	const char *no = l->out ? NULL : "pre list_has_no_cursor";
	char was[sizeof m->want];

	switch (kit_below(&m->r, 7)) {
	case 0:
		if (no == NULL)
			l->index = l->index == l->length ? 0 : l->index + 1;
		WANT(m, "ok index=" DEC, l->index);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_move_next list=" DEC, id);
		return;
	case 1:
		if (no == NULL)
			l->index = l->index == 0 ? l->length : l->index - 1;
		WANT(m, "ok index=" DEC, l->index);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_move_prev list=" DEC, id);
		return;
	case 2:
		if (no == NULL && l->index < l->length)
			WANT(m, "ok found=true index=" DEC " paddr=" HEX " meta=" HEX, l->index,
			     l->page[l->index] * PAGE, 1000 + l->page[l->index]);
		else
			WANT(m, "ok found=false index=" DEC, l->index);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_current_meta list=" DEC, id);
		return;
	case 3:
	case 4:
		if (unique == 0)
			no = "pre unknown_unique";
		WANT(m, "ok index=" DEC, l->index + 1);
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_insert_before list=" DEC " unique=" DEC, id,
			 unique);
		if (no == NULL)
			put(m, l, l->index++, page);
		return;
	case 5:
		if (no == NULL) {
			pull(m, l, l->index);
			memcpy(was, m->want, sizeof was);
			WANT(m, "%.120s index=" DEC, was, l->index);
		}
		kit_want(m->s, no != NULL ? no : m->want, "list_cursor_take_current list=" DEC, id);
		return;
	default:
		kit_want(m->s, no != NULL ? no : "ok", "list_cursor_drop list=" DEC, id);
		l->out = false;
		l->index = 0;
	}
}

/* The links of a list in order, and the tags in their slots. */
static void
same_links(struct lists *m, uint64_t id, struct row *l)
{
	char want[32 * PAGES];
	int n = snprintf(want, sizeof want, "ok count=" DEC " paddrs=[", l->length);

	for (uint64_t i = 0; i < l->length; i++)
		n += snprintf(want + n, sizeof want - (size_t)n, "%s" HEX, i > 0 ? "," : "", l->page[i] * PAGE);
	snprintf(want + n, sizeof want - (size_t)n, "]");
	if (!l->out)
		kit_want(m->s, "ok index=0", "list_cursor_front_mut list=" DEC, id);
	kit_want(m->s, want, "list_cursor_as_list list=" DEC, id);
	if (!l->out)
		kit_want(m->s, "ok", "list_cursor_drop list=" DEC, id);
	for (uint64_t i = 0; i < l->length; i++) {
		WANT(m, "ok rc=unique usage=Frame kind=link meta=" HEX " in_list=" DEC " h=0 p=0 c=0 k=0 u=0 l=1",
		     1000 + l->page[i], l->tag);
		kit_see(m->s, m->want, "frame paddr=" HEX, l->page[i] * PAGE);
	}
}

Test(lists, do_what_arrays_do)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct lists m = { .r = { seed }, .next = 1, .next_tag = 1 };

		m.s = kit_new("max_paddr=0x200000");
		for (uint64_t page = 0; page < PAGES; page++) {
			m.loose[page] = m.next++;
			kit_ok(m.s, "unique_from_unused paddr=" HEX " kind=link meta=" HEX, page * PAGE, 1000 + page);
		}
		for (unsigned id = 1; id <= LISTS; id++)
			kit_ok(m.s, "list_new");
		for (uint64_t i = 0; i < kit_scaled(10000); i++) {
			uint64_t id = 1 + kit_below(&m.r, LISTS);
			struct row *l = &m.row[id];

			if (kit_below(&m.r, 8) < (l->out ? 6u : 2u))
				cursor_step(&m, id, l);
			else
				list_step(&m, id, l);
			if (i % 16 == 0)
				same_links(&m, id, l);
		}
		kit_sound(m.s);
		kvms_free(&m.s);
	}
}
