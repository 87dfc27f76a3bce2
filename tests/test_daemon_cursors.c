/*
 * Cursors and the connections they belong to, and opens that wait: served
 * without sockets and without a clock.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/options.h"
#include "daemon/serve.h"
#include "store/int.h"

#define CLIENTS 12u
#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)
#define CYCLE_MAX 8u

/* What a client was told last. */
struct heard {
	enum kvmp_response_type type;
	enum kvmp_error_code code;
	unsigned name;
	uint64_t detail;
	uint64_t cursor; /* of an open that ended ok */
	bool has_step;
	bool held_back;
	uint64_t cycle[CYCLE_MAX];
	size_t cycle_count;
	char text[256];
};

static struct kvmd_server server;
static struct kvmd_client client[CLIENTS];
static struct heard heard[CLIENTS];
static unsigned told[64]; /* clients, in the order in which waiting ones were answered */
static unsigned told_count;
static struct kvmd_options options;
static unsigned locked; /* the outcome's number */
static char directory[] = "/tmp/kvmstore-cursors-XXXXXX";

/* ---- Clients ------------------------------------------------------------------------- */

static void
hear(unsigned i, const struct kvmp_response *r)
{
	struct heard *h = &heard[i];

	*h = (struct heard){ .type = r->type };
	if (r->type == KVMP_R_ERROR) {
		h->code = r->error.code;
		snprintf(h->text, sizeof h->text, "%s", r->error.text);
	}
	if (r->type != KVMP_R_OUTCOME)
		return;
	h->name = r->answer.outcome.name;
	h->detail = r->answer.outcome.detail;
	h->cursor = h->name == 0 ? r->answer.outcome.field[0] : 0;
	h->has_step = r->answer.has_step;
	h->held_back = r->answer.held_back;
	h->cycle_count = r->answer.cycle_count;
	for (size_t k = 0; k < h->cycle_count && k < CYCLE_MAX; k++)
		h->cycle[k] = r->answer.cycle[k];
}

static void
on_answer(struct kvmd_client *who, const struct kvmp_response *r)
{
	unsigned i = (unsigned)(who - client);

	cr_assert(r->id == 100 + i);
	cr_assert(!who->wait.queued);
	hear(i, r);
	cr_assert(told_count < 64);
	told[told_count++] = i;
}

/* True if it was answered at once. */
static bool
ask(unsigned i, struct kvmp_request *request)
{
	struct kvmp_response r;
	bool answered;

	request->id = 100 + i;
	memset(&r, 0xff, sizeof r);
	answered = kvmd_serve(&server, &client[i], request, &r);
	if (answered) {
		cr_assert(r.id == request->id);
		hear(i, &r);
	}
	cr_assert(answered != client[i].wait.queued);
	kvmd_settle(&server);
	return answered;
}

static void
hello(unsigned i, const char *store)
{
	struct kvmp_request r = { .type = KVMP_HELLO, .hello = { KVMP_VERSION, store, "test", NULL, 0 } };

	client[i].answer = on_answer;
	cr_assert(ask(i, &r) && heard[i].type == KVMP_R_HELLO);
}

static struct kvmp_request
op_request(const char *name, unsigned count, const uint64_t *args)
{
	struct kvmp_request r = { .type = KVMP_OP };

	kvms_op_init(&r.op, kvms_op_find(name));
	for (unsigned k = 0; k < count; k++)
		r.op.arg[k] = args[k];
	return r;
}

static struct kvmp_request
open_request(uint64_t start, uint64_t end, uint32_t wait_ms)
{
	struct kvmp_request r = op_request("cursor_open_mut", 3, (uint64_t[]){ 1, start, end });

	r.wait_ms = wait_ms;
	return r;
}

/* Open without waiting; the cursor. */
static uint64_t
opened(unsigned i, uint64_t start, uint64_t end)
{
	struct kvmp_request r = open_request(start, end, 0);

	cr_assert(ask(i, &r));
	cr_assert(heard[i].type == KVMP_R_OUTCOME && heard[i].name == 0, "%s", kvms_outcome_name(heard[i].name));
	return heard[i].cursor;
}

/* Open with patience; it must wait. */
static void
waits(unsigned i, uint64_t start, uint64_t end)
{
	struct kvmp_request r = open_request(start, end, 1000);

	cr_assert(!ask(i, &r), "%s", heard[i].text);
}

static void
drop(unsigned i, uint64_t cursor)
{
	struct kvmp_request r = op_request("cursor_drop", 1, &cursor);

	cr_assert(ask(i, &r) && heard[i].type == KVMP_R_OUTCOME && heard[i].name == 0);
}

static void
leave(unsigned i)
{
	kvmd_client_end(&server, &client[i]);
	cr_assert(client[i].cursors == 0);
	memset(&client[i], 0, sizeof client[i]);
}

static struct kvms *
model(void)
{
	return kvmd_stores_find(&server.stores, "default")->model;
}

static uint64_t
cursors_alive(void)
{
	const struct kvms_row *row = kvms_request_find("census");
	struct kvms_outcome out = { 0 };
	uint64_t count;
	struct kvms_op op;

	kvms_op_init(&op, row);
	cr_assert(kvms_inspect(model(), &op, &out) == KVMS_DONE);
	count = out.field[kvms_result_index(row, "cursors")];
	kvms_outcome_free(&out);
	return count;
}

static void
assert_told(unsigned count, const unsigned *who)
{
	cr_assert(told_count == count, "%u answers, not %u", told_count, count);
	for (unsigned k = 0; k < count; k++)
		cr_assert(told[k] == who[k], "answer %u went to %u", k, told[k]);
	told_count = 0;
}

#define ASSERT_TOLD(...)                                                                                               \
	assert_told(sizeof((unsigned[]){ __VA_ARGS__ }) / sizeof(unsigned), (unsigned[]){ __VA_ARGS__ })

static void
assert_blocked(unsigned i, uint64_t holder, bool held_back)
{
	cr_assert(heard[i].type == KVMP_R_OUTCOME && heard[i].name == locked);
	cr_assert(heard[i].detail == holder, "holder %llu", (unsigned long long)heard[i].detail);
	cr_assert(heard[i].held_back == held_back && heard[i].has_step != held_back);
}

static void
assert_error(unsigned i, enum kvmp_error_code code, const char *word)
{
	cr_assert(heard[i].type == KVMP_R_ERROR && heard[i].code == code, "%d %s", heard[i].type, heard[i].text);
	cr_assert(strstr(heard[i].text, word) != NULL, "\"%s\" does not say %s", heard[i].text, word);
}

static void
begin(const char *state_dir)
{
	struct kvmp_request r = op_request("vm_space_new", 0, NULL);

	options = (struct kvmd_options){ .check = KVMS_CHECK_TOUCHED,
					 .check_every = 1,
					 .max_stores = 3,
					 .keep_snapshots = 2,
					 .max_wait = 10,
					 .max_waiting = CLIENTS };
	if (state_dir != NULL)
		snprintf(options.state_dir, sizeof options.state_dir, "%s", state_dir);
	kvmd_log_level(0); /* nothing */
	cr_assert(kvmd_server_begin(&server, &options));
	while (strcmp(kvms_outcome_name(locked), "cursor_locked") != 0)
		locked++;
	for (unsigned i = 0; i < CLIENTS; i++)
		hello(i, "default");
	cr_assert(ask(0, &r) && heard[0].name == 0);
}

static void
setup(void)
{
	begin(NULL);
}

static void
end(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		leave(i);
	cr_assert(server.waits.count == 0 && STAILQ_EMPTY(&server.waits.woken));
	kvmd_server_end(&server);
}

TestSuite(cursors, .init = setup, .fini = end);

/* ---- Belonging ---------------------------------------------------------------------------- */

Test(cursors, end_with_their_connection_as_if_dropped_one_by_one)
{
	struct kvms_refusal why;
	struct kvms *other = kvms_new(NULL, &why);
	struct kvms_outcome out = { 0 };
	struct kvmp_request r;
	static const unsigned order[] = { 1, 3, 4 }; /* of the five, those of client 1 */

	for (unsigned k = 0; k < 5; k++)
		opened(k == 1 ? 2 : k == 4 ? 3 : 1, 2 * MIB * k, 2 * MIB * k + 4096);
	leave(1);
	r = op_request("vm_space_new", 0, NULL);
	cr_assert(kvms_apply(other, &r.op, &out) == KVMS_DONE);
	for (unsigned k = 0; k < 5; k++) {
		r = open_request(2 * MIB * k, 2 * MIB * k + 4096, 0);
		cr_assert(kvms_apply(other, &r.op, &out) == KVMS_DONE && out.name == 0);
	}
	for (unsigned k = 0; k < 3; k++) {
		r = op_request("cursor_drop", 1, (uint64_t[]){ order[k] });
		cr_assert(kvms_apply(other, &r.op, &out) == KVMS_DONE && out.name == 0);
	}
	cr_assert(kvms_digest(model()) == kvms_digest(other));
	cr_assert(kvms_steps(model()) == kvms_steps(other));
	kvms_outcome_free(&out);
	kvms_free(&other);
}

Test(cursors, detached_ones_stay)
{
	struct kvmp_request r = open_request(0, 4096, 0);

	r.detached = true;
	cr_assert(ask(1, &r) && heard[1].name == 0);
	opened(1, 2 * MIB, 4 * MIB);
	leave(1);
	cr_assert(cursors_alive() == 1);
	drop(2, 1); /* anybody may */
	cr_assert(cursors_alive() == 0);
}

Test(cursors, dropped_by_another_is_gone)
{
	uint64_t cursor = opened(1, 0, 4096), steps;

	drop(2, cursor);
	cr_assert(client[1].cursors == 0);
	steps = kvms_steps(model());
	leave(1);
	cr_assert(kvms_steps(model()) == steps);
}

Test(cursors, end_in_every_store_of_a_connection)
{
	struct kvmp_request create = { .type = KVMP_STORE_CREATE }, select = { .type = KVMP_STORE_SELECT };
	struct kvmp_request space = op_request("vm_space_new", 0, NULL);
	struct kvmd_store *other;

	create.store.name = select.store.name = "other";
	kvms_op_init(&create.store.config, kvms_store_row());
	opened(1, 0, 4096);
	cr_assert(ask(1, &create) && ask(1, &select) && ask(1, &space));
	opened(1, 0, 4096);
	opened(1, 2 * MIB, 4 * MIB);
	other = kvmd_stores_find(&server.stores, "other");
	cr_assert(kvms_steps(other->model) == 3 && client[1].cursors == 3);
	leave(1);
	cr_assert(kvms_steps(other->model) == 5 && cursors_alive() == 0);
}

Test(cursors, thousands_come_and_go)
{
	uint64_t mine[3][40] = { { 0 } }, alive = 0, seed = 1;

	kvmd_store_set_check(client[0].store, KVMS_CHECK_OFF, 1);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned i, k;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		i = (unsigned)(seed >> 33) % 3;
		k = (unsigned)(seed >> 40) % 40;
		if (mine[i][k] != 0) {
			drop((i + (seed >> 50) % 2) % 3, mine[i][k]);
			mine[i][k] = 0;
			alive--;
		} else {
			mine[i][k] = opened(i, (40 * i + k) * 2 * MIB, (40 * i + k) * 2 * MIB + 4096);
			alive++;
		}
	}
	cr_assert(client[0].cursors + client[1].cursors + client[2].cursors == alive && alive > 20);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < 40; k++)
			cr_assert(kvmd_owners_find(&client[0].store->owners, mine[i][k]) ==
				  (mine[i][k] == 0 ? NULL : &client[i]));
	cr_assert(client[0].store->owners.capacity <= 512);
	leave(0);
	cr_assert(cursors_alive() == client[1].cursors + client[2].cursors);
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

Test(cursors, open_waits_for_a_drop)
{
	uint64_t cursor = opened(1, 0, 4096), steps;

	steps = kvms_steps(model());
	waits(2, 0, 4096);
	cr_assert(kvms_steps(model()) == steps); /* waiting is no step */
	cr_assert(server.waits.count == 1);
	drop(1, cursor);
	ASSERT_TOLD(2);
	cr_assert(heard[2].name == 0 && heard[2].cursor == 2 && heard[2].has_step);
	cr_assert(kvms_steps(model()) == steps + 2);
	cr_assert(client[2].cursors == 1 && server.waits.count == 0);
}

Test(cursors, open_waits_for_the_end_of_a_connection)
{
	opened(1, 0, 4096);
	opened(1, 4 * MIB, 6 * MIB);
	waits(2, 0, 6 * MIB);
	leave(1);
	ASSERT_TOLD(2);
	cr_assert(heard[2].name == 0);
	cr_assert(cursors_alive() == 1);
}

Test(cursors, open_that_can_be_does_not_wait)
{
	struct kvmp_request r = open_request(0, 4096, 1000);

	cr_assert(ask(1, &r) && heard[1].name == 0);
	/* nor does one that is refused for another reason */
	r = open_request(4096, 4096, 1000);
	cr_assert(ask(2, &r) && heard[2].name != 0 && heard[2].name != locked && heard[2].has_step);
	r = open_request(0, 4096, 1000);
	r.op.arg[0] = 9;
	cr_assert(ask(2, &r) && kvms_outcome_class(heard[2].name) == KVMS_PRE);
}

Test(cursors, three_waiters_are_served_in_order)
{
	uint64_t cursor = opened(1, 0, 4096);

	waits(4, 0, 4096);
	waits(2, 0, 4096);
	waits(3, 0, 4096);
	drop(1, cursor);
	ASSERT_TOLD(4);
	drop(4, heard[4].cursor);
	ASSERT_TOLD(2);
	leave(2);
	ASSERT_TOLD(3);
	cr_assert(heard[3].name == 0 && heard[3].cursor == 4);
}

Test(cursors, several_waiters_are_served_by_one_drop)
{
	uint64_t cursor = opened(1, 0, 8 * MIB);

	waits(2, 0, 4096);
	waits(3, 2 * MIB, 4 * MIB);
	waits(4, 2 * MIB, 6 * MIB); /* needs what 3 gets */
	waits(5, 6 * MIB, 8 * MIB);
	drop(1, cursor);
	ASSERT_TOLD(2, 3, 5);
	cr_assert(heard[2].name == 0 && heard[3].name == 0 && heard[5].name == 0);
	leave(3);
	ASSERT_TOLD(4);
}

Test(cursors, later_open_does_not_overtake_a_waiter_it_would_keep_out)
{
	uint64_t low = opened(1, 0, 4096), high, digest, steps;
	struct kvmp_request r;

	high = opened(2, 4 * MIB, 6 * MIB);
	waits(3, 0, 8 * MIB);
	digest = kvms_digest(model());
	steps = kvms_steps(model());
	/* the third range is free, and part of what 3 waits for */
	r = open_request(2 * MIB, 4 * MIB, 0);
	cr_assert(ask(4, &r));
	assert_blocked(4, low, true);
	r.dry_run = true;
	cr_assert(ask(4, &r));
	assert_blocked(4, low, true);
	cr_assert(kvms_digest(model()) == digest && kvms_steps(model()) == steps);
	waits(5, 2 * MIB, 4 * MIB);
	/* what is locked is answered as ever, and what is in nobody's way is opened */
	r = open_request(4 * MIB, 6 * MIB, 0);
	cr_assert(ask(4, &r));
	assert_blocked(4, high, false);
	opened(4, 3 * GIB, 3 * GIB + 4096);
	drop(1, low);
	assert_told(0, NULL);
	drop(2, high);
	ASSERT_TOLD(3);
	leave(3);
	ASSERT_TOLD(5);
	cr_assert(heard[5].name == 0);
}

Test(cursors, time_over_is_a_block_of_that_moment)
{
	uint64_t first = opened(1, 0, 4096), second, steps;

	second = opened(2, 2 * MIB, 4 * MIB);
	waits(3, 0, 4 * MIB);
	waits(4, 4 * MIB, 6 * MIB + 4096); /* behind 3: the same guard node */
	steps = kvms_steps(model());
	drop(1, first);
	kvmd_wait_over(&server, &client[3]);
	ASSERT_TOLD(3, 4); /* and what stood behind it goes on */
	assert_blocked(3, second, false);
	cr_assert(heard[4].name == 0);
	cr_assert(kvms_steps(model()) == steps + 3); /* drop, block, open */
}

Test(cursors, time_over_behind_another_is_no_step)
{
	uint64_t first = opened(1, 0, 4096), steps;

	waits(2, 0, 4 * MIB);
	waits(3, 2 * MIB, 4 * MIB);
	steps = kvms_steps(model());
	kvmd_wait_over(&server, &client[3]);
	ASSERT_TOLD(3);
	assert_blocked(3, first, true);
	cr_assert(kvms_steps(model()) == steps && server.waits.count == 1);
}

Test(cursors, waiter_that_goes_makes_way)
{
	uint64_t first = opened(1, 0, 4096);

	waits(2, 0, 4 * MIB);
	waits(3, 2 * MIB, 4 * MIB);
	waits(4, 0, 4096);
	leave(2);
	ASSERT_TOLD(3);
	leave(4);
	drop(1, first);
	assert_told(0, NULL);
	cr_assert(server.waits.count == 0);
}

Test(cursors, waiters_are_answered_when_the_daemon_ends)
{
	uint64_t first = opened(1, 0, 4096);
	struct kvmp_request r = open_request(0, 4096, 1000);

	waits(2, 0, 4 * MIB);
	waits(3, 2 * MIB, 4 * MIB);
	waits(4, 0, 4096);
	kvmd_waits_close(&server);
	ASSERT_TOLD(2, 3, 4);
	assert_blocked(2, first, false);
	cr_assert(heard[3].name == 0); /* nobody is in front of it any more */
	assert_blocked(4, first, false);
	cr_assert(ask(5, &r));
	assert_blocked(5, first, false);
}

/* ---- Cycles ----------------------------------------------------------------------------------------- */

static void
assert_cycle(unsigned i, size_t count, const uint64_t *cursors)
{
	cr_assert(heard[i].cycle_count == count, "%zu cursors", heard[i].cycle_count);
	for (size_t k = 0; k < count; k++)
		cr_assert(heard[i].cycle[k] == cursors[k], "cursor %llu", (unsigned long long)heard[i].cycle[k]);
}

Test(cursors, waiting_for_oneself_is_a_cycle)
{
	uint64_t cursor = opened(1, 0, 4096);
	struct kvmp_request r = open_request(0, 4096, 1000);

	cr_assert(ask(1, &r));
	assert_blocked(1, cursor, false);
	assert_cycle(1, 1, &cursor);
	r.wait_ms = 0;
	cr_assert(ask(1, &r));
	assert_blocked(1, cursor, false);
	assert_cycle(1, 0, NULL); /* it did not want to wait */
}

Test(cursors, two_and_three_connections_make_a_cycle)
{
	uint64_t a = opened(1, 0, 4096), b = opened(2, 2 * MIB, 4 * MIB), c = opened(3, 4 * MIB, 6 * MIB);
	struct kvmp_request r = open_request(0, 4096, 1000);

	waits(1, 2 * MIB, 4 * MIB);
	cr_assert(ask(2, &r));
	assert_blocked(2, a, false);
	assert_cycle(2, 2, (uint64_t[]){ a, b });
	/* one more in between */
	waits(2, 4 * MIB, 6 * MIB);
	cr_assert(ask(3, &r));
	assert_blocked(3, a, false);
	assert_cycle(3, 3, (uint64_t[]){ a, b, c });
	/* who was told gives way, and all go on */
	drop(3, c);
	ASSERT_TOLD(2);
	drop(2, b);
	ASSERT_TOLD(1);
}

Test(cursors, detached_ones_make_no_cycle)
{
	struct kvmp_request r = open_request(0, 4096, 0);

	r.detached = true;
	cr_assert(ask(1, &r) && heard[1].name == 0);
	waits(1, 0, 4096);
	drop(2, 1);
	ASSERT_TOLD(1);
}

Test(cursors, cycle_over_a_place_in_the_queue)
{
	uint64_t a = opened(1, 0, 4096);
	struct kvmp_request r = open_request(2 * MIB, 4 * MIB, 1000);

	waits(2, 0, 4 * MIB);
	/* 1 would stand behind 2, which waits for 1 */
	cr_assert(ask(1, &r));
	assert_blocked(1, a, true);
	assert_cycle(1, 1, &a);
	cr_assert(client[1].cursors == 1 && server.waits.count == 1);
}

Test(cursors, cycle_that_shows_when_the_first_lock_ends)
{
	uint64_t a = opened(1, 0, 4096), b = opened(2, 2 * MIB, 4 * MIB), c = opened(3, 4 * MIB, 6 * MIB);

	waits(3, 0, 4 * MIB);       /* for a, and then for b */
	waits(2, 4 * MIB, 6 * MIB); /* for c, which is that of 3 */
	drop(1, a);
	ASSERT_TOLD(3);
	assert_blocked(3, b, false);
	assert_cycle(3, 2, (uint64_t[]){ b, c });
	drop(3, c);
	ASSERT_TOLD(2);
}

Test(cursors, cycle_that_closes_in_the_queue)
{
	uint64_t a = opened(1, 0, 4096), b = opened(2, 2 * MIB, 4 * MIB);

	waits(3, 0, 4 * MIB);              /* for a, and then for b */
	waits(2, 4 * MIB, 6 * MIB + 4096); /* behind 3: the same guard node */
	drop(1, a);
	ASSERT_TOLD(3, 2);
	assert_blocked(3, b, false);
	assert_cycle(3, 1, &b);
	cr_assert(heard[2].name == 0);
}

Test(cursors, cycle_over_two_stores)
{
	struct kvmp_request create = { .type = KVMP_STORE_CREATE }, other = { .type = KVMP_STORE_SELECT };
	struct kvmp_request space = op_request("vm_space_new", 0, NULL), r = open_request(0, 4096, 1000);
	uint64_t a;

	create.store.name = other.store.name = "other";
	kvms_op_init(&create.store.config, kvms_store_row());
	cr_assert(ask(1, &create));
	a = opened(1, 0, 4096); /* in "default" */
	cr_assert(ask(2, &other) && ask(2, &space));
	opened(2, 2 * MIB, 4 * MIB);
	drop(2, 1);
	cr_assert(opened(2, 0, 4096) == 2); /* in "other" */
	cr_assert(ask(1, &other));
	waits(1, 0, 4096);
	other.store.name = "default";
	cr_assert(ask(2, &other) && ask(2, &r));
	assert_blocked(2, a, false);
	assert_cycle(2, 2, (uint64_t[]){ a, 2 });
}

/* ---- Limits and refusals ------------------------------------------------------------------------------ */

Test(cursors, envelope_goes_with_opens_only)
{
	struct kvmp_request r = op_request("frame_alloc", 0, NULL);

	r.detached = true;
	cr_assert(ask(1, &r));
	assert_error(1, KVMP_ERROR_INVALID, "detached goes with cursor_open");
	r.detached = false;
	r.wait_ms = 1;
	cr_assert(ask(1, &r));
	assert_error(1, KVMP_ERROR_INVALID, "wait_ms goes with cursor_open");
	r = open_request(0, 4096, 1);
	r.dry_run = true;
	cr_assert(ask(1, &r));
	assert_error(1, KVMP_ERROR_INVALID, "dry_run");
	cr_assert(kvms_steps(model()) == 1);
}

Test(cursors, limits_are_told)
{
	struct kvmp_request r = open_request(0, 4096, 10001);

	cr_assert(ask(1, &r));
	assert_error(1, KVMP_ERROR_LIMIT, "at most 10000");
	r.wait_ms = UINT32_MAX;
	cr_assert(ask(1, &r));
	assert_error(1, KVMP_ERROR_LIMIT, "--max-wait");
	cr_assert(cursors_alive() == 0);
	opened(1, 0, 4096);
	server.waits.max = 2;
	waits(2, 0, 4096);
	waits(3, 0, 4096);
	r.wait_ms = 10000;
	cr_assert(ask(4, &r));
	assert_error(4, KVMP_ERROR_LIMIT, "--max-waiting");
	leave(2);
	waits(4, 0, 4096);
}

Test(cursors, batch_does_not_wait)
{
	uint64_t cursor = opened(1, 0, 4096), steps;
	struct kvms_op ops[3];
	struct kvmp_request r = { .type = KVMP_BATCH, .batch = { ops, 3, false, false } };
	struct kvmp_response answer;

	waits(2, 0, 4 * MIB);
	steps = kvms_steps(model());
	ops[0] = open_request(0, 4096, 0).op;
	ops[1] = open_request(2 * MIB, 4 * MIB, 0).op;
	ops[2] = open_request(GIB, GIB + 4096, 0).op;
	cr_assert(kvmd_serve(&server, &client[3], &r, &answer));
	cr_assert(answer.type == KVMP_R_BATCH && answer.batch.count == 3);
	cr_assert(answer.batch.answers[0].outcome.name == locked && answer.batch.answers[0].has_step);
	cr_assert(answer.batch.answers[1].outcome.name == locked && !answer.batch.answers[1].has_step);
	cr_assert(answer.batch.answers[1].held_back && answer.batch.answers[1].outcome.detail == cursor);
	cr_assert(answer.batch.answers[2].outcome.name == 0);
	cr_assert(kvms_steps(model()) == steps + 2);
	cr_assert(client[3].cursors == 1);
	kvmd_settle(&server);
	/* dropped and opened again in one go: the one that waits is next, whoever asks */
	ops[0] = op_request("cursor_drop", 1, &cursor).op;
	ops[1] = open_request(0, 4096, 0).op;
	r.batch.count = 2;
	cr_assert(kvmd_serve(&server, &client[1], &r, &answer));
	cr_assert(answer.batch.answers[0].outcome.name == 0);
	cr_assert(answer.batch.answers[1].held_back && answer.batch.answers[1].outcome.detail == 0);
	kvmd_settle(&server);
	ASSERT_TOLD(2);
	cr_assert(heard[2].name == 0);
}

/* ---- Stores that go --------------------------------------------------------------------------------------- */

Test(cursors, waiters_on_a_dropped_store_are_told)
{
	struct kvmp_request create = { .type = KVMP_STORE_CREATE }, select = { .type = KVMP_STORE_SELECT };
	struct kvmp_request space = op_request("vm_space_new", 0, NULL), end_store = { .type = KVMP_STORE_DROP };

	create.store.name = select.store.name = end_store.store.name = "other";
	kvms_op_init(&create.store.config, kvms_store_row());
	cr_assert(ask(1, &create) && ask(1, &select) && ask(2, &select) && ask(1, &space));
	opened(1, 0, 4096);
	waits(2, 0, 4096);
	cr_assert(ask(3, &end_store) && heard[3].type == KVMP_R_DONE);
	ASSERT_TOLD(2);
	assert_error(2, KVMP_ERROR_UNKNOWN_STORE, "dropped");
	cr_assert(client[1].cursors == 0);
}

Test(cursors, waiters_on_a_broken_store_are_told)
{
	struct kvmp_request r = op_request("frame_from_unused", 1, (uint64_t[]){ 0x1000 });

	cr_assert(ask(1, &r) && heard[1].name == 0);
	opened(1, 0, 4096);
	waits(2, 0, 4096);
	model()->slot[1].kind = KIND_NODE;
	r = op_request("frame_clone", 1, (uint64_t[]){ 1 });
	cr_assert(ask(3, &r));
	assert_error(3, KVMP_ERROR_STORE_BROKEN, "slot.kind_matches_usage");
	ASSERT_TOLD(2);
	assert_error(2, KVMP_ERROR_STORE_BROKEN, "slot.kind_matches_usage");
	leave(1); /* its cursor stays: the store takes no more steps */
	cr_assert(cursors_alive() == 1);
}

static void
setup_saved(void)
{
	cr_assert(mkdtemp(directory) != NULL);
	begin(directory);
}

static void
end_saved(void)
{
	char command[128];

	end();
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	cr_assert(system(command) == 0);
}

TestSuite(saved_cursors, .init = setup_saved, .fini = end_saved);

Test(saved_cursors, of_a_loaded_state_belong_to_nobody)
{
	struct kvmp_request save = { .type = KVMP_SNAPSHOT_SAVE }, load = { .type = KVMP_SNAPSHOT_LOAD };
	uint64_t saved = opened(1, 0, 4096), later;

	cr_assert(ask(1, &save) && heard[1].type == KVMP_R_STORE, "%s", heard[1].text);
	later = opened(1, 2 * MIB, 4 * MIB);
	waits(2, 2 * MIB, 4 * MIB);
	waits(3, 0, 4096);
	cr_assert(ask(4, &load) && heard[4].type == KVMP_R_STORE, "%s", heard[4].text);
	/* what 2 waited for has not happened; what 3 waits for has, and nobody's end drops it */
	ASSERT_TOLD(2);
	cr_assert(heard[2].name == 0 && heard[2].cursor == later);
	cr_assert(client[1].cursors == 0 && client[2].cursors == 1);
	leave(1);
	assert_told(0, NULL);
	drop(5, saved);
	ASSERT_TOLD(3);
}

/* ---- Who is in whose way -------------------------------------------------------------------------------------- */

static uint64_t seed = 7;

static uint64_t
random_below(uint64_t n)
{
	uint64_t x = seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return (x ^ x >> 27) % n;
}

/* Ranges of all sizes near each other, some across the ends of what nodes of each level cover. */
static struct kvmp_request
random_open(uint32_t wait_ms)
{
	static const uint64_t unit[] = { 4096, 2 * MIB, GIB, 512 * GIB };
	uint64_t start = random_below(3) * unit[random_below(4)] + random_below(3) * unit[random_below(4)];

	return open_request(start, start + (random_below(3) + 1) * unit[random_below(3)], wait_ms);
}

/* Apply to the model, past the server. */
static uint64_t
applied(const char *name, uint64_t arg)
{
	struct kvmp_request r = op_request(name, 1, &arg);
	struct kvms_outcome out = { 0 };
	uint64_t made;

	cr_assert(kvms_apply(model(), &r.op, &out) == KVMS_DONE && out.name == 0, "%s", name);
	made = out.field[0];
	kvms_outcome_free(&out);
	return made;
}

Test(cursors, what_keeps_out_collides)
{
	struct kvms_outcome out = { 0 };
	unsigned kept_out = 0, apart = 0;
	uint64_t space = 1;

	kvmd_store_set_check(client[0].store, KVMS_CHECK_OFF, 1);
	for (unsigned round = 0; round < 20000; round++) {
		struct kvmp_request first = random_open(0), second = random_open(0);
		bool collide = kvmd_opens_collide(&first.op, &second.op);

		if (round % 5 == 0) { /* a table in which the nodes are missing */
			applied("vm_space_drop", space);
			space = applied("vm_space_new", 0);
		}
		first.op.arg[0] = second.op.arg[0] = space;
		cr_assert(kvms_apply(model(), &first.op, &out) == KVMS_DONE && out.name == 0);
		applied("cursor_drop", out.field[0]);
		cr_assert(kvms_apply(model(), &first.op, &out) == KVMS_DONE && out.name == 0);
		cr_assert(kvms_dry_run(model(), &second.op, &out) == KVMS_DONE);
		cr_assert(out.name != locked || collide, "[0x%llx, 0x%llx) keeps [0x%llx, 0x%llx) out",
			  (unsigned long long)first.op.arg[1], (unsigned long long)first.op.arg[2],
			  (unsigned long long)second.op.arg[1], (unsigned long long)second.op.arg[2]);
		kept_out += out.name == locked;
		apart += !collide;
		applied("cursor_drop", 2 * (uint64_t)round + 2);
	}
	cr_assert(kept_out > 1000 && apart > 1000, "%u %u", kept_out, apart);
	kvms_outcome_free(&out);
}

/* Between requests each open in the queue has a reason to wait. */
static void
assert_queue_sound(void)
{
	struct kvmd_wait *w, *other;
	struct kvms_outcome out = { 0 };

	cr_assert(STAILQ_EMPTY(&server.waits.woken));
	TAILQ_FOREACH(w, &client[0].store->waits, link)
	{
		bool behind = false;

		cr_assert(kvms_dry_run(model(), &w->request.op, &out) == KVMS_DONE);
		TAILQ_FOREACH(other, &client[0].store->waits, link)
		{
			if (other == w)
				break;
			behind = behind || kvmd_opens_collide(&w->request.op, &other->request.op);
		}
		cr_assert(out.name == locked || (out.name == 0 && behind), "%s", kvms_outcome_name(out.name));
		cr_assert(w->holder == 0 || out.name == locked);
		cr_assert(kvmd_wait_cycle(&server.waits, w, NULL, 0) == 0);
	}
	kvms_outcome_free(&out);
}

/* What "who" has just opened keeps nobody out who has waited for longer. */
static void
assert_not_overtaken(unsigned who, const struct kvms_op *op)
{
	struct kvmd_wait *w;

	TAILQ_FOREACH(w, &client[0].store->waits, link)
	{
		if (w->client == &client[who] || w->request.wait_ms > client[who].wait.request.wait_ms)
			continue;
		cr_assert(!kvmd_opens_collide(op, &w->request.op));
	}
}

Test(cursors, random_connections_never_overtake_nor_wait_for_ever)
{
	unsigned waited = 0, cycles = 0, held_back = 0, at_once = 0;

	server.waits.max_ms = UINT32_MAX;
	kvmd_store_set_check(client[0].store, KVMS_CHECK_OFF, 1);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned i = (unsigned)random_below(CLIENTS);
		struct kvmp_request r;

		if (random_below(20) == 0) {
			leave(i);
			hello(i, "default");
		} else if (client[i].wait.queued) {
			if (random_below(10) == 0)
				kvmd_wait_over(&server, &client[i]);
		} else if (client[i].cursors > random_below(4)) {
			for (size_t k = 0; k < client[0].store->owners.count; k++)
				if (client[0].store->owners.at[k].client == &client[i]) {
					drop(i, client[0].store->owners.at[k].cursor);
					break;
				}
		} else {
			/* the wait is also the time of arrival, for assert_not_overtaken() */
			r = random_open(random_below(4) == 0 ? 0 : 1 + round);
			client[i].wait.request.wait_ms = UINT32_MAX;
			if (!ask(i, &r)) {
				waited++;
			} else {
				cr_assert(heard[i].type == KVMP_R_OUTCOME, "%s", heard[i].text);
				cycles += heard[i].cycle_count > 0;
				held_back += heard[i].held_back;
				if (heard[i].name == 0) {
					at_once++;
					client[i].wait.request.wait_ms = UINT32_MAX;
					assert_not_overtaken(i, &r.op);
				}
			}
		}
		for (unsigned k = 0; k < told_count; k++)
			if (heard[told[k]].name == 0)
				assert_not_overtaken(told[k], &client[told[k]].wait.request.op);
		told_count = 0;
		assert_queue_sound();
	}
	cr_assert(waited > 500 && cycles > 50 && held_back > 50 && at_once > 500, "%u %u %u %u", waited, cycles,
		  held_back, at_once);
}
