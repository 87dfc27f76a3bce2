#include "daemon/waits.h"

#include <string.h>

#include "daemon/serve.h"

enum {
#define KVMS_OP(code, name, args, results, outs, moves, mirrors, summary) OP_##name = (code),
#include "store/ops.def"
#undef KVMS_OP
};

/* ---- Opens and their ranges ----------------------------------------------------------- */

bool
kvmd_op_opens(const struct kvms_op *op)
{
	return op->code == OP_cursor_open || op->code == OP_cursor_open_mut;
}

bool
kvmd_op_drops(const struct kvms_op *op)
{
	return op->code == OP_cursor_drop;
}

/* Arguments of both opens, in row order. */
enum { ARG_SPACE, ARG_START, ARG_END };

#define PAGE_BITS 12u
#define INDEX_BITS 9u

/* The addresses under the lowest node that covers a range. */
struct span {
	uint64_t start;
	uint64_t last;
};

/*
 * In every architecture a node at level n covers 2^(12 + 9n) addresses, and
 * the user half lies under one root.
 */
static struct span
span_of(const struct kvms_op *op)
{
	unsigned bits = PAGE_BITS + INDEX_BITS;
	uint64_t low;

	while (bits < 64 && (op->arg[ARG_START] ^ (op->arg[ARG_END] - 1)) >> bits != 0)
		bits += INDEX_BITS;
	low = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
	return (struct span){ op->arg[ARG_START] & ~low, op->arg[ARG_START] | low };
}

/* The first, below the node of the second, keeps it out if its nodes lie in the way of the second's range. */
static bool
below_collides(struct span below, const struct kvms_op *op)
{
	return below.start < op->arg[ARG_END] && op->arg[ARG_START] <= below.last;
}

/*
 * "first" keeps "second" out.  If the node of "second" is the lower one, some
 * node on the way to it may have to be locked to make the next, and it is the
 * other's; whether that is so depends on the tables, and is taken for granted.
 */
static bool
keeps_out(const struct kvms_op *first, const struct kvms_op *second)
{
	struct span a = span_of(first), b = span_of(second);

	if (a.start <= b.start && b.last <= a.last)
		return true;
	return b.start <= a.start && a.last <= b.last && below_collides(a, second);
}

bool
kvmd_opens_collide(const struct kvms_op *first, const struct kvms_op *second)
{
	return first->arg[ARG_SPACE] == second->arg[ARG_SPACE] && keeps_out(first, second);
}

/* ---- What is in the way --------------------------------------------------------------- */

void
kvmd_wait_init(struct kvmd_wait *w, struct kvmd_client *client, const struct kvmp_request *request)
{
	*w = (struct kvmd_wait){ .client = client, .request = *request };
}

/* The first open that waits for longer than "w" and that "w" must not overtake. */
static struct kvmd_wait *
in_front(const struct kvmd_wait *w)
{
	struct kvmd_wait *other;

	TAILQ_FOREACH(other, &w->client->store->waits, link)
	{
		if (other == w)
			return NULL;
		if (kvmd_opens_collide(&w->request.op, &other->request.op))
			return other;
	}
	return NULL;
}

static bool
locked_out(const struct kvms_outcome *out)
{
	return kvms_outcome_class(out->name) == KVMS_BLOCK;
}

enum kvmd_way
kvmd_wait_look(struct kvmd_wait *w, struct kvms_outcome *out)
{
	const struct kvmd_store *store = w->client->store;

	if (store->model == NULL || store->broken[0] != '\0')
		return KVMD_CLEAR;
	if (w->holder != 0)
		return KVMD_LOCKED;
	if (kvms_dry_run(store->model, &w->request.op, out) != KVMS_DONE)
		return KVMD_CLEAR;
	if (locked_out(out)) {
		w->holder = out->detail;
		return KVMD_LOCKED;
	}
	return out->name == 0 && in_front(w) != NULL ? KVMD_BEHIND : KVMD_CLEAR;
}

uint64_t
kvmd_wait_holder(const struct kvmd_wait *w)
{
	const struct kvmd_wait *at = w;

	/* each turn goes towards the front */
	while (at != NULL && at->holder == 0)
		at = in_front(at);
	return at == NULL ? 0 : at->holder;
}

/* ---- Cycles ---------------------------------------------------------------------------- */

/* From "start", over those it waits for, in search of "start" again. */
struct search {
	const struct kvmd_wait *start;
	STAILQ_HEAD(, kvmd_wait) todo;
	uint64_t number;
	struct kvmd_wait *last; /* found: it waits for the start ... */
	uint64_t last_via;      /* ... because of this cursor; 0: because of its place in the queue */
};

/* "from" waits for "client". */
static void
step_to(struct search *search, struct kvmd_client *client, struct kvmd_wait *from, uint64_t via)
{
	struct kvmd_wait *w = &client->wait;

	if (client == search->start->client) {
		search->last = from;
		search->last_via = via;
	} else if (w->queued && w->search != search->number) {
		w->search = search->number;
		w->from = from;
		w->via = via;
		STAILQ_INSERT_TAIL(&search->todo, w, next);
	}
}

static void
steps_from(struct search *search, struct kvmd_wait *at)
{
	const struct kvmd_store *store = at->client->store;
	struct kvmd_client *owner = at->holder == 0 ? NULL : kvmd_owners_find(&store->owners, at->holder);
	struct kvmd_wait *other;

	if (owner != NULL)
		step_to(search, owner, at, at->holder);
	TAILQ_FOREACH(other, &store->waits, link)
	{
		if (other == at || search->last != NULL)
			return;
		if (kvmd_opens_collide(&at->request.op, &other->request.op))
			step_to(search, other->client, at, 0);
	}
}

/* The cursors on the way that was found. */
static size_t
cycle_list(const struct search *search, uint64_t *cursors, size_t at_most)
{
	size_t count = search->last_via != 0, i;

	for (const struct kvmd_wait *step = search->last; step != search->start; step = step->from)
		count += step->via != 0;
	i = count;
	if (search->last_via != 0 && --i < at_most)
		cursors[i] = search->last_via;
	for (const struct kvmd_wait *step = search->last; step != search->start; step = step->from)
		if (step->via != 0 && --i < at_most)
			cursors[i] = step->via;
	return count;
}

size_t
kvmd_wait_cycle(struct kvmd_waits *waits, struct kvmd_wait *w, uint64_t *cursors, size_t at_most)
{
	struct search search = { .start = w, .number = ++waits->searches };

	STAILQ_INIT(&search.todo);
	steps_from(&search, w);
	while (search.last == NULL && !STAILQ_EMPTY(&search.todo)) {
		struct kvmd_wait *at = STAILQ_FIRST(&search.todo);

		STAILQ_REMOVE_HEAD(&search.todo, next);
		steps_from(&search, at);
	}
	return search.last == NULL ? 0 : cycle_list(&search, cursors, at_most);
}

/* ---- The queue --------------------------------------------------------------------------- */

void
kvmd_wait_add(struct kvmd_waits *waits, struct kvmd_wait *w)
{
	struct kvmd_store *store = w->client->store;

	w->queued = true;
	TAILQ_INSERT_TAIL(&store->waits, w, link);
	store->waits_count++;
	waits->count++;
}

void
kvmd_wait_remove(struct kvmd_waits *waits, struct kvmd_wait *w)
{
	struct kvmd_store *store = w->client->store;

	w->queued = false;
	TAILQ_REMOVE(&store->waits, w, link);
	store->waits_count--;
	waits->count--;
	kvmd_store_wake(waits, store);
}

void
kvmd_store_wake(struct kvmd_waits *waits, struct kvmd_store *store)
{
	if (store->woken || TAILQ_EMPTY(&store->waits))
		return;
	store->woken = true;
	kvmd_store_get(store);
	STAILQ_INSERT_TAIL(&waits->woken, store, woken_link);
}

struct kvmd_store *
kvmd_store_woken(struct kvmd_waits *waits)
{
	struct kvmd_store *store = STAILQ_FIRST(&waits->woken);

	if (store == NULL)
		return NULL;
	STAILQ_REMOVE_HEAD(&waits->woken, woken_link);
	store->woken = false;
	return store;
}

void
kvmd_cursor_gone(struct kvmd_waits *waits, struct kvmd_store *store, uint64_t cursor)
{
	struct kvmd_wait *w;

	kvmd_owners_forget(&store->owners, cursor);
	TAILQ_FOREACH(w, &store->waits, link)
	{
		if (w->holder != cursor)
			continue;
		w->holder = 0;
		kvmd_store_wake(waits, store);
	}
}

void
kvmd_store_changed(struct kvmd_waits *waits, struct kvmd_store *store)
{
	struct kvmd_wait *w;

	kvmd_owners_clear(&store->owners);
	TAILQ_FOREACH(w, &store->waits, link)
	w->holder = 0;
	kvmd_store_wake(waits, store);
}
