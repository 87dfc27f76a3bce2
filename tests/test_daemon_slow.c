/*
 * Requests that wait for the disk or for a state to be made: everybody else is
 * served meanwhile, what the same connection sent behind them waits in order,
 * and whatever happens at the same time leaves every store whole.
 */
#include "tests/daemon_kit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/frame.h"

TestSuite(slow, .init = dk_enter, .fini = dk_leave, .timeout = 100);

/* ---- A client that sends ahead ----------------------------------------------------- */

struct raw {
	int fd;
	struct kvmp_codec *codec;
	struct kvmp_buffer in, out;
	size_t taken; /* bytes of the frame given last */
};

static void
raw_send(struct raw *r, struct kvmp_request request)
{
	cr_assert_eq(kvmp_request_encode(r->codec, &request, &r->out), KVMP_ENCODED);
}

static void
raw_flush(struct raw *r)
{
	while (kvmp_buffer_size(&r->out) > 0) {
		ssize_t n = send(r->fd, r->out.data + r->out.start, kvmp_buffer_size(&r->out), MSG_NOSIGNAL);

		cr_assert_gt(n, 0);
		kvmp_buffer_take(&r->out, (size_t)n);
	}
}

/* The next answer within "ms"; false: none. */
static bool
raw_answer(struct raw *r, int ms, struct kvmp_response *response)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	struct kvmp_refusal why;
	size_t size;

	kvmp_buffer_take(&r->in, r->taken);
	r->taken = 0;
	while (kvmp_frame_next(r->in.data + r->in.start, kvmp_buffer_size(&r->in), KVMP_RESPONSE_MAX, &size) !=
	       KVMP_FRAME_WHOLE) {
		uint8_t *place = kvmp_buffer_reserve(&r->in, 65536);

		if (poll(&p, 1, ms) <= 0)
			return false;
		ssize_t n = read(r->fd, place, 65536);
		cr_assert_gt(n, 0, "the daemon is gone");
		kvmp_buffer_added(&r->in, (size_t)n);
	}
	cr_assert(kvmp_response_decode(r->codec, r->in.data + r->in.start + KVMP_FRAME_HEADER, size, response, &why));
	r->taken = KVMP_FRAME_HEADER + size;
	return true;
}

/* The next answer, which must have that id. */
static struct kvmp_response
raw_expect(struct raw *r, uint64_t id)
{
	static struct kvmp_response response;

	cr_assert(raw_answer(r, 60000, &response), "no answer");
	cr_assert_eq(response.id, id, "%" PRIu64 " instead of %" PRIu64, response.id, id);
	return response;
}

static struct raw *
raw_connect(const char *store)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct raw *r = calloc(1, sizeof *r);

	r->codec = kvmp_codec_new(0);
	r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, dk_socket);
	cr_assert_eq(connect(r->fd, (struct sockaddr *)&address, sizeof address), 0);
	raw_send(r, (struct kvmp_request){ .id = 1, .type = KVMP_HELLO, .hello = { KVMP_VERSION, store, "raw", NULL, 0 } });
	raw_flush(r);
	cr_assert_eq(raw_expect(r, 1).type, KVMP_R_HELLO);
	return r;
}

static void
raw_end(struct raw *r)
{
	close(r->fd);
	kvmp_buffer_free(&r->in);
	kvmp_buffer_free(&r->out);
	kvmp_codec_free(&r->codec);
	free(r);
}

static struct kvmp_request
ask(uint64_t id, enum kvmp_request_type type)
{
	return (struct kvmp_request){ .id = id, .type = type };
}

static struct kvmp_request
op(uint64_t id, const char *text)
{
	return (struct kvmp_request){ .id = id, .type = KVMP_OP, .op = kit_op("%s", text) };
}

static struct kvms_op
config(void)
{
	struct kvms_op op;

	kvms_op_init(&op, kvms_store_row());
	return op;
}

/* ---- A store that takes its time ------------------------------------------------------- */

static uint64_t steps;

/* Operations that leave much behind, sent ahead. */
static void
fill(const char *store, uint64_t count)
{
	struct raw *r = raw_connect(store);
	struct kvmp_response response;

	for (uint64_t sent = 0, came = 0; came < count;) {
		for (; sent < count && sent < came + 500; sent++)
			raw_send(r, op(sent + 2, sent % 2 == 0 ? "frame_alloc" : "kvirt_reserve area_size=0x4000"));
		raw_flush(r);
		for (; came < sent; came++) {
			cr_assert(raw_answer(r, 60000, &response));
			cr_assert_eq(response.id, came + 2);
			cr_assert_eq(response.answer.outcome.name, 0);
		}
	}
	steps += count;
	raw_end(r);
}

/* How many requests "other" has answered before "slow" is; the longest took *worst ms. */
static unsigned
others_before(struct raw *slow, uint64_t id, struct raw *other, uint64_t *worst, struct kvmp_response *answer)
{
	unsigned count = 0;

	*worst = 0;
	for (;;) {
		uint64_t before = dk_now();

		if (raw_answer(slow, 0, answer)) {
			cr_assert_eq(answer->id, id);
			return count;
		}
		raw_send(other, op(7, count % 2 == 0 ? "frame_alloc" : "kvirt_reserve area_size=0x1000"));
		raw_flush(other);
		raw_expect(other, 7);
		count++;
		*worst = dk_now() - before > *worst ? dk_now() - before : *worst;
	}
}

/*
 * The request, a step and a question behind it: the answers come in order, and
 * "other", on another store, is served before the first.  Gives what the
 * request answered.
 */
static struct kvmp_response
in_order(struct raw *slow, struct raw *other, struct kvmp_request request, const char *what)
{
	static struct kvmp_response answer, copy;
	uint64_t worst, began = dk_now();

	request.id = 50;
	raw_send(slow, request);
	raw_send(slow, op(51, "frame_alloc"));
	raw_send(slow, ask(52, KVMP_STATUS));
	raw_flush(slow);
	unsigned count = others_before(slow, 50, other, &worst, &answer);
	uint64_t took = dk_now() - began;
	cr_log_info("%s: %" PRIu64 " ms, others answered meanwhile: %u, the longest after %" PRIu64 " ms", what, took,
		    count, worst);
	copy = answer;
	raw_expect(slow, 51);
	raw_expect(slow, 52);
	/* only what took long can have been overtaken; and under load two answers may come close together */
	if (took > 100) {
		cr_expect_gt(count, 1, "%s", what);
		cr_expect_lt(worst, took, "%s", what);
	}
	return copy;
}

#define MANY (10 * (kit_scaled(1000) + 500))

Test(slow, others_are_served_meanwhile_and_ones_own_wait_in_order)
{
	pid_t pid = dk_start("--check", "off", "--snapshot-every", "0", NULL);
	struct kvmctl_connection *c = dk_connect(NULL);
	struct kvmp_response r;
	uint64_t step, digest, again;

	dk_request(c, (struct kvmp_request){ .type = KVMP_STORE_CREATE,
					     .store = { "quick", config() } });
	fill(NULL, MANY);
	struct raw *slow = raw_connect(NULL), *other = raw_connect("quick");

	dk_where(c, &step, &digest);
	r = in_order(slow, other, ask(0, KVMP_SNAPSHOT_SAVE), "snapshot_save");
	cr_assert_eq(r.type, KVMP_R_STORE);
	cr_assert_eq(r.store.saved_step, step);
	r = in_order(slow, other, (struct kvmp_request){ .type = KVMP_STORE_CLONE, .clone = { "now", false, 0 } }, "clone");
	cr_assert_eq(r.type, KVMP_R_STORE);
	r = in_order(slow, other,
		     (struct kvmp_request){ .type = KVMP_STORE_CLONE, .clone = { "then", true, step - 7 } }, "clone of step");
	cr_assert_eq(r.type, KVMP_R_STORE);
	r = in_order(slow, other, (struct kvmp_request){ .type = KVMP_UNDO, .undo = step }, "undo of all");
	cr_assert_eq(r.type, KVMP_R_STORE);
	r = in_order(slow, other, ask(0, KVMP_SNAPSHOT_LOAD), "snapshot_load");
	cr_assert_eq(r.type, KVMP_R_STORE);
	cr_assert_eq(r.store.digest, digest);
	r = in_order(slow, other, (struct kvmp_request){ .type = KVMP_STORE_DROP, .store = { .name = "then" } }, "drop");
	cr_assert_eq(r.type, KVMP_R_DONE);
	r = in_order(slow, other, ask(0, KVMP_SETTLE), "settle");
	cr_assert_eq(r.type, KVMP_R_DONE);
	dk_where(c, &step, &digest);
	raw_end(slow);
	raw_end(other);
	kvmctl_disconnect(&c);
	dk_kill(pid); /* all is on the disk since settle, but for one step */
	pid = dk_start(NULL);
	c = dk_connect(NULL);
	dk_where(c, &again, &digest);
	cr_assert_geq(again + 1, step);
	kvmctl_disconnect(&c);
	c = dk_connect("now");
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_stop(pid), 0);
}

/* ---- At the same time -------------------------------------------------------------------- */

Test(slow, saves_undos_drops_and_ends_at_the_same_time)
{
	pid_t pid = dk_start("--check", "off", "--snapshot-every", "2000", NULL);
	struct kvmctl_connection *c = dk_connect(NULL), *o;
	uint64_t step, digest, then;

	dk_request(c, (struct kvmp_request){ .type = KVMP_STORE_CREATE, .store = { "two", config() } });
	fill(NULL, MANY / 2);
	fill("two", MANY / 2);
	struct raw *a = raw_connect(NULL), *b = raw_connect(NULL), *gone = raw_connect(NULL), *two = raw_connect("two"),
		   *eight = raw_connect("two");

	dk_where(c, &step, &digest);
	/* two saves of one store and one whose client goes, an undo behind them; a save and a drop of another */
	raw_send(gone, ask(3, KVMP_SNAPSHOT_SAVE));
	raw_flush(gone);
	raw_send(a, ask(3, KVMP_SNAPSHOT_SAVE));
	raw_flush(a);
	raw_send(b, ask(3, KVMP_SNAPSHOT_SAVE));
	raw_flush(b);
	raw_end(gone);
	raw_send(two, ask(3, KVMP_SNAPSHOT_SAVE));
	raw_send(two, (struct kvmp_request){ .id = 4, .type = KVMP_STORE_DROP, .store = { .name = "two" } });
	raw_send(two, op(5, "frame_alloc"));
	raw_flush(two);
	raw_send(eight, op(3, "frame_alloc"));
	raw_send(eight, (struct kvmp_request){ .id = 4, .type = KVMP_UNDO, .undo = 3 });
	raw_flush(eight);
	dk_request(c, (struct kvmp_request){ .type = KVMP_UNDO, .undo = step / 2 });
	dk_where(c, &then, &digest);
	cr_assert_eq(then, step + 1);
	cr_assert_eq(raw_expect(a, 3).type, KVMP_R_STORE);
	cr_assert_eq(raw_expect(b, 3).type, KVMP_R_STORE);
	struct kvmp_response r = raw_expect(two, 3);
	cr_assert_eq(r.type, KVMP_R_STORE);
	cr_assert_eq(raw_expect(two, 4).type, KVMP_R_DONE);
	r = raw_expect(two, 5);
	cr_assert(r.type == KVMP_R_ERROR && r.error.code == KVMP_ERROR_UNKNOWN_STORE);
	cr_assert_eq(raw_expect(eight, 3).type, KVMP_R_OUTCOME);
	r = raw_expect(eight, 4); /* before the drop or after it */
	cr_assert(r.type == KVMP_R_STORE || (r.type == KVMP_R_ERROR && r.error.code == KVMP_ERROR_UNKNOWN_STORE));
	raw_end(a);
	raw_end(b);
	raw_end(two);
	raw_end(eight);

	/* the name is free at once, and never twice */
	a = raw_connect(NULL);
	b = raw_connect(NULL);
	raw_send(a, (struct kvmp_request){ .id = 3, .type = KVMP_STORE_CLONE, .clone = { "two", false, 0 } });
	raw_send(b, (struct kvmp_request){ .id = 3, .type = KVMP_STORE_CLONE, .clone = { "two", true, step } });
	raw_flush(a);
	raw_flush(b);
	struct kvmp_response x = raw_expect(a, 3), y = raw_expect(b, 3);
	cr_assert(x.type != y.type && (x.type == KVMP_R_STORE || y.type == KVMP_R_STORE));
	cr_assert((x.type == KVMP_R_ERROR ? x : y).error.code == KVMP_ERROR_STORE_EXISTS);
	raw_end(a);
	raw_end(b);

	dk_request(c, (struct kvmp_request){ .type = KVMP_SETTLE });
	dk_where(c, &then, &digest);
	o = dk_connect("two");
	uint64_t other = dk_digest(o);
	kvmctl_disconnect(&o);
	kvmctl_disconnect(&c);
	dk_kill(pid);
	pid = dk_start(NULL);
	c = dk_connect(NULL);
	cr_assert_eq(dk_digest(c), digest);
	o = dk_connect("two");
	cr_assert_eq(dk_digest(o), other);
	kvmctl_disconnect(&o);

	/* told to end while a save and an undo are under way: both are answered */
	a = raw_connect(NULL);
	b = raw_connect("two");
	raw_send(a, ask(3, KVMP_SNAPSHOT_SAVE));
	raw_send(a, op(4, "frame_alloc"));
	raw_send(b, (struct kvmp_request){ .id = 3, .type = KVMP_UNDO, .undo = 1 });
	raw_send(b, op(4, "frame_alloc"));
	raw_flush(a);
	raw_flush(b);
	kill(pid, SIGTERM);
	for (uint64_t id = 3; id <= 4; id++) {
		raw_expect(a, id);
		raw_expect(b, id);
	}
	raw_end(a);
	raw_end(b);
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_wait_end(pid), 0);
}

/* Whatever is under way when it is killed, the next start finds every store whole, and each once. */
Test(slow, killed_in_the_middle)
{
	struct kit_random random = { 11 };
	uint64_t step = 0, digest, now;
	pid_t pid = dk_start("--check", "off", "--durability", "full", NULL);

	fill(NULL, 1500);
	for (unsigned round = 0; round < 3 + kit_scaled(12); round++) {
		struct kvmctl_connection *c = dk_connect(NULL);
		struct raw *a = raw_connect(NULL), *b = raw_connect(NULL);

		dk_where(c, &step, &digest);
		kvmctl_disconnect(&c);
		raw_send(a, ask(3, KVMP_SNAPSHOT_SAVE));
		raw_flush(a);
		raw_send(b, (struct kvmp_request){ .id = 3, .type = KVMP_STORE_CLONE, .clone = { "copy", round % 2 == 0, step / 2 } });
		raw_send(b, (struct kvmp_request){ .id = 4, .type = KVMP_STORE_DROP, .store = { .name = "copy" } });
		raw_send(b, (struct kvmp_request){ .id = 5, .type = KVMP_UNDO, .undo = 1 + kit_below(&random, 700) });
		raw_flush(b);
		usleep((useconds_t)kit_below(&random, 60000));
		dk_kill(pid);
		raw_end(a);
		raw_end(b);
		pid = dk_start("--check", "off", "--durability", "full", NULL);
		c = dk_connect(NULL);
		dk_where(c, &now, &digest);
		cr_assert(now == step || now == step + 1, "%" PRIu64 " behind %" PRIu64, now, step);
		const struct kvmp_response *r = dk_request(c, ask(0, KVMP_STORE_LIST));
		if (r->stores.count == 2)
			dk_request(c, (struct kvmp_request){ .type = KVMP_STORE_DROP, .store = { .name = "copy" } });
		kvmctl_disconnect(&c);
	}
	cr_assert_eq(dk_stop(pid), 0);
}

/* ---- Snapshots that were asked for ------------------------------------------------------------ */

Test(slow, snapshots_that_were_asked_for_stay_until_they_are_dropped)
{
	pid_t pid = dk_start("--snapshot-every", "10", "--keep-snapshots", "1", NULL);
	struct kvmctl_connection *c = dk_connect(NULL);
	uint64_t id = 0, count = 0;

	for (unsigned i = 0; i < 4; i++)
		dk_step(c, "frame_alloc");
	dk_request(c, ask(0, KVMP_SNAPSHOT_SAVE));
	for (unsigned i = 0; i < 300; i++) {
		dk_step(c, "frame_alloc");
		if (i % 10 == 9)
			usleep(2000); /* a snapshot is made of each ten, mostly */
	}
	dk_request(c, ask(0, KVMP_SNAPSHOT_SAVE)); /* behind all that is under way */
	const struct kvmp_response *r = dk_request(c, ask(0, KVMP_SNAPSHOT_LIST));
	for (size_t i = 0; i < r->snapshots.count; i++)
		if (r->snapshots.snapshots[i].kept) {
			id = r->snapshots.snapshots[i].id;
			count++;
		}
	cr_assert_eq(count, 2);
	cr_assert_leq(r->snapshots.count, 2 + 1 + 1 + 2 * 6);
	struct kvmp_request drop = { .type = KVMP_SNAPSHOT_DROP, .snapshot = id };
	dk_request(c, drop); /* the earlier one */
	cr_expect_not_null(strstr(dk_refused(c, drop), "no snapshot"));
	drop.snapshot = 1;
	cr_expect_not_null(strstr(dk_refused(c, drop), "its journal goes on from there"));
	drop.snapshot = 0;
	cr_expect_not_null(strstr(dk_refused(c, drop), "no snapshot 0"));
	kvmctl_disconnect(&c);
	dk_kill(pid);
	pid = dk_start("--snapshot-every", "0", "--snapshot-bytes", "1K", NULL);
	c = dk_connect(NULL);
	dk_log_clear();
	for (unsigned i = 0; i < 400; i++)
		dk_step(c, "frame_alloc");
	for (unsigned ms = 0; ms < 20000 && !dk_logged("saved store"); ms += 10)
		usleep(10000);
	cr_assert(dk_logged("saved store \"default\""), "no snapshot for the bytes of the journal");
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_stop(pid), 0);
}

/* Save the store and drop that snapshot again. */
static void
newest_drop(struct kvmctl_connection *c)
{
	struct kvmp_request drop = { .type = KVMP_SNAPSHOT_DROP };

	dk_request(c, ask(0, KVMP_SNAPSHOT_SAVE));
	const struct kvmp_response *r = dk_request(c, ask(0, KVMP_SNAPSHOT_LIST));
	for (size_t i = 0; i < r->snapshots.count; i++)
		if (r->snapshots.snapshots[i].kept)
			drop.snapshot = r->snapshots.snapshots[i].id;
	dk_request(c, drop);
}

/* Where the state that is put back is far from any snapshot, one is made of it. */
Test(slow, start_repeats_no_more_than_it_may)
{
	static const char begins[] = "snapshot of step ";
	pid_t pid = dk_start("--snapshot-every", "50", "--keep-snapshots", "1", "--check", "off", NULL);

	fill(NULL, 1500);
	for (unsigned round = 0; round < 6; round++) {
		struct kvmctl_connection *c = dk_connect(NULL);
		uint64_t before, step, digest, now, repeated = UINT64_MAX, from;
		char line[512];

		dk_where(c, &before, &digest);
		dk_request(c, (struct kvmp_request){ .type = KVMP_UNDO, .undo = before / 2 + 37 * round });
		for (unsigned i = 0; i < 5; i++)
			dk_step(c, "frame_alloc");
		if (round % 2 == 0)
			newest_drop(c);
		dk_request(c, ask(0, KVMP_SETTLE));
		dk_where(c, &step, &digest);
		/* the undo may have made one more due, and a drop of the newest has */
		for (unsigned ms = 0; ms < 1000; ms += 5) {
			const struct kvmp_response *r = dk_request(c, ask(0, KVMP_SNAPSHOT_LIST));

			if (r->snapshots.snapshots[0].step > before)
				break;
			usleep(5000);
		}
		kvmctl_disconnect(&c);
		dk_kill(pid);
		dk_log_clear();
		pid = dk_start("--snapshot-every", "50", "--keep-snapshots", "1", "--check", "off", NULL);
		c = dk_connect(NULL);
		dk_where(c, &now, &step);
		cr_assert_eq(step, digest);
		kvmctl_disconnect(&c);
		FILE *log = fopen(dk_log, "r");
		while (fgets(line, sizeof line, log) != NULL) {
			char *at = strstr(line, begins);

			if (at != NULL)
				cr_assert_eq(sscanf(at, "snapshot of step %" SCNu64 ", saved %*s and %" SCNu64, &from, &repeated), 2);
		}
		fclose(log);
		cr_assert_leq(repeated, 60, "%" PRIu64 " steps were repeated", repeated);
	}
	cr_assert_eq(dk_stop(pid), 0);
}
