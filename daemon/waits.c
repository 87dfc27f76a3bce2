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

/* Opens to look at, and the one looked for. */
struct search {
	STAILQ_HEAD(, kvmd_wait) todo;
	uint64_t number;
};

static void
todo_add(struct search *search, struct kvmd_wait *w, struct kvmd_wait *from, uint64_t via)
{
	if (w->search == search->number)
		return;
	w->search = search->number;
	w->from = from;
	w->via = via;
	STAILQ_INSERT_TAIL(&search->todo, w, next);
}

/* Opens that "at" waits for.  True if it waits for a cursor of "client". */
static bool
waits_for(struct search *search, struct kvmd_wait *at, const struct kvmd_client *client)
{
	struct kvmd_client *owner = at->holder == 0 ? NULL : kvmd_owners_find(&at->client->store->owners, at->holder);
	struct kvmd_wait *other;

	if (owner == client)
		return true;
	if (owner != NULL && owner->wait.queued)
		todo_add(search, &owner->wait, at, at->holder);
	TAILQ_FOREACH(other, &at->client->store->waits, link)
	{
		if (other == at)
			break;
		if (kvmd_opens_collide(&at->request.op, &other->request.op))
			todo_add(search, other, at, 0);
	}
	return false;
}

/* The way from "w" to "at", whose holder closes the circle. */
static size_t
cycle_list(const struct kvmd_wait *w, const struct kvmd_wait *at, uint64_t *cursors, size_t at_most)
{
	size_t count = 1, i;

	for (const struct kvmd_wait *step = at; step != w; step = step->from)
		count += step->via != 0;
	i = count - 1;
	if (i < at_most)
		cursors[i] = at->holder;
	for (const struct kvmd_wait *step = at; step != w; step = step->from)
		if (step->via != 0 && --i < at_most)
			cursors[i] = step->via;
	return count;
}

size_t
kvmd_wait_cycle(struct kvmd_waits *waits, struct kvmd_wait *w, uint64_t *cursors, size_t at_most)
{
	struct search search = { .number = ++waits->searches };
	struct kvmd_wait *at;

	STAILQ_INIT(&search.todo);
	todo_add(&search, w, NULL, 0);
	while ((at = STAILQ_FIRST(&search.todo)) != NULL) {
		STAILQ_REMOVE_HEAD(&search.todo, next);
		if (waits_for(&search, at, w->client))
			return cycle_list(w, at, cursors, at_most);
	}
	return 0;
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
