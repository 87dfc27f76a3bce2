/*
 * What a daemon does with the past of a store: going back, which is one more
 * step; stores that begin as another was; batches of which all happens or
 * nothing.  All of it is the same after a kill.
 */
#include "tests/daemon_kit.h"

#include <stdio.h>
#include <unistd.h>

TestSuite(history, .init = dk_enter, .fini = dk_leave, .timeout = 100);

#define STEPS_MAX 2000u

static pid_t daemon_pid;
static struct kvmctl_connection *c;
static uint64_t digest[STEPS_MAX]; /* behind each step */
static uint64_t step;

static void
begin(void)
{
	daemon_pid = dk_start("--durability", "full", "--snapshot-every", "90", NULL);
	c = dk_connect(NULL);
	dk_where(c, &step, &digest[0]);
	cr_assert_eq(step, 0);
}

/* One step more has happened: remember what it led to. */
static void
stepped(void)
{
	uint64_t now, d;

	dk_where(c, &now, &d);
	cr_assert_eq(now, step + 1);
	cr_assert_lt(now, STEPS_MAX);
	digest[++step] = d;
}

static void
again(void)
{
	uint64_t now, d;

	kvmctl_disconnect(&c);
	dk_kill(daemon_pid);
	daemon_pid = dk_start("--durability", "full", "--snapshot-every", "90", NULL);
	c = dk_connect(NULL);
	dk_where(c, &now, &d);
	cr_assert_eq(now, step);
	cr_assert_eq(d, digest[step]);
}

static void
end(void)
{
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_stop(daemon_pid), 0);
}

static struct kvmp_request
undo(uint64_t steps)
{
	return (struct kvmp_request){ .type = KVMP_UNDO, .undo = steps };
}

static struct kvmp_request
clone(const char *name, bool has_step, uint64_t at)
{
	return (struct kvmp_request){ .type = KVMP_STORE_CLONE, .clone = { name, has_step, at } };
}

/* ---- Going back ------------------------------------------------------------------------ */

Test(history, undo_is_one_more_step_that_puts_a_state_back)
{
	begin();
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=1 paddr=0x0");
	stepped();
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=2 paddr=0x1000");
	stepped();
	cr_assert_str_eq(dk_step(c, "frame_drop frame=7"), "pre unknown_frame"); /* a step as well */
	stepped();

	const struct kvmp_response *r = dk_request(c, undo(2));
	cr_expect_eq(r->type, KVMP_R_STORE);
	cr_expect_eq(r->store.step, 4);
	cr_expect_eq(r->store.digest, digest[1]);
	stepped();
	cr_assert_eq(digest[4], digest[1]);
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=2 paddr=0x1000");
	stepped();
	again();
	/* undo the step behind it and the undo itself */
	dk_request(c, undo(2));
	stepped();
	cr_assert_eq(digest[6], digest[3]);
	again();
	dk_request(c, undo(6));
	stepped();
	cr_assert_eq(digest[7], digest[0]);
	again();

	cr_expect_not_null(strstr(dk_refused(c, undo(8)), "has made 7 steps; undo takes 1 to that many"));
	cr_expect_not_null(strstr(dk_refused(c, undo(0)), "undo takes 1 to that many"));
	again();
	end();
}

Test(history, loading_a_snapshot_is_one_more_step)
{
	begin();
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=1 paddr=0x0");
	stepped();
	dk_request(c, (struct kvmp_request){ .type = KVMP_SNAPSHOT_SAVE });
	cr_assert_str_eq(dk_step(c, "kvirt_reserve area_size=0x4000"),
			 "ok area=1 start=0xffffdfffffffc000 end=0xffffe00000000000");
	stepped();
	dk_request(c, (struct kvmp_request){ .type = KVMP_SNAPSHOT_LOAD });
	stepped();
	cr_assert_eq(digest[3], digest[1]);
	again();
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=2 paddr=0x1000");
	stepped();
	dk_request(c, undo(2));
	stepped();
	cr_assert_eq(digest[5], digest[2]);
	again();
	cr_expect_not_null(strstr(dk_refused(c, (struct kvmp_request){ .type = KVMP_SNAPSHOT_LOAD, .snapshot = 999 }),
				  "no snapshot 999"));
	again();
	end();
}

/* ---- Clones ------------------------------------------------------------------------------- */

Test(history, clone_begins_as_the_store_is_or_was_and_goes_its_own_way)
{
	struct kvmctl_connection *other;
	uint64_t at, d, was;

	begin();
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(strncmp(dk_step(c, i % 3 == 0 ? "kvirt_reserve area_size=0x4000" : "frame_alloc"), "ok", 2), 0);
		stepped();
	}
	const struct kvmp_response *r = dk_request(c, clone("now", false, 0));
	cr_expect_str_eq(r->store.name, "now");
	cr_expect_eq(r->store.digest, digest[20]);
	r = dk_request(c, clone("then", true, 7));
	cr_expect_eq(r->store.digest, digest[7]);
	cr_expect_eq(r->store.step, 7);
	dk_request(c, clone("first", true, 0));
	again();

	other = dk_connect("then");
	dk_where(other, &at, &was);
	cr_expect_eq(was, digest[7]);
	cr_assert_str_eq(dk_step(other, "frame_drop frame=1"), "ok last=true");
	dk_where(other, &at, &d);
	cr_expect_neq(d, was);
	cr_expect_eq(at, 8);
	again(); /* the store it came from is where it was */
	kvmctl_disconnect(&other);
	other = dk_connect("then");
	cr_expect_eq(dk_digest(other), d);
	/* its own history begins with it */
	dk_request(other, undo(1));
	cr_expect_eq(dk_digest(other), was);
	cr_expect_not_null(strstr(dk_refused(other, undo(3)), "no snapshot of a store \"then\" at step 6 or before"));
	cr_expect_eq(dk_digest(other), was);
	kvmctl_disconnect(&other);

	cr_expect_not_null(strstr(dk_refused(c, clone("now", false, 0)), "there is a store \"now\" already"));
	cr_expect_not_null(strstr(dk_refused(c, clone("later", true, 21)), "has not come to step 21, its last is 20"));
	dk_request(c, (struct kvmp_request){ .type = KVMP_STORE_DROP, .store = { .name = "then" } });
	again();
	dk_request(c, clone("then", false, 0)); /* the name is free again, and nothing of its past is left */
	again();
	other = dk_connect("then");
	cr_expect_eq(dk_digest(other), digest[20]);
	kvmctl_disconnect(&other);
	end();
}

/* Steps, undos of any depth, loads of snapshots and kills; then every step there ever was, as a clone. */
Test(history, every_state_can_be_had_again)
{
	struct kit_random r = { 17 };
	unsigned undone = 0, killed = 0;

	begin();
	for (uint64_t i = 0, count = kit_scaled(500) + 50; i < count; i++) {
		switch (kit_below(&r, 12)) {
		case 0:
			if (step == 0)
				continue;
			dk_request(c, undo(1 + kit_below(&r, step)));
			undone++;
			break;
		case 1:
			if (i % 9 == 0) {
				again();
				killed++;
			}
			continue;
		case 2:
			dk_request(c, (struct kvmp_request){ .type = KVMP_SNAPSHOT_LOAD });
			break;
		case 3:
		case 4:
			dk_step(c, "frame_drop frame=%" PRIu64, 1 + kit_below(&r, 30));
			break;
		case 5:
			dk_step(c, "kvirt_reserve area_size=0x%" PRIx64, (1 + kit_below(&r, 9)) * 0x1000);
			break;
		case 6:
			dk_step(c, "kvirt_drop area=%" PRIu64, 1 + kit_below(&r, 9));
			break;
		default:
			dk_step(c, "frame_alloc");
		}
		stepped();
	}
	again();
	cr_log_info("%" PRIu64 " steps, %u undone, %u kills", step, undone, killed);
	for (uint64_t at = 0; at <= step; at += 1 + step / 60) {
		const struct kvmp_response *answer = dk_request(c, clone("past", true, at));

		cr_assert_eq(answer->store.digest, digest[at], "step %" PRIu64, at);
		cr_assert_eq(answer->store.step, at);
		dk_request(c, (struct kvmp_request){ .type = KVMP_STORE_DROP, .store = { .name = "past" } });
	}
	end();
}

/* ---- Batches -------------------------------------------------------------------------------- */

#define BATCH 40u

static struct kvmp_request
batch(struct kvms_op *ops, size_t count)
{
	return (struct kvmp_request){ .type = KVMP_BATCH, .batch = { ops, count, false, true } };
}

/* Frames that are allocated, and a last operation. */
static void
batch_fill(struct kvms_op *ops, const char *last)
{
	for (unsigned i = 0; i < BATCH - 1; i++)
		ops[i] = kit_op("frame_alloc");
	ops[BATCH - 1] = kit_op("%s", last);
}

Test(history, atomic_batch_happens_as_a_whole_or_not_at_all)
{
	struct kvms_op ops[BATCH];

	begin();
	batch_fill(ops, "frame_alloc");
	const struct kvmp_response *r = dk_request(c, batch(ops, BATCH));
	cr_assert_eq(r->type, KVMP_R_BATCH);
	cr_assert_eq(r->batch.count, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		cr_expect_eq(r->batch.answers[i].outcome.name, 0);
		cr_expect(r->batch.answers[i].has_step);
		cr_expect_eq(r->batch.answers[i].step, i + 1);
	}
	dk_where(c, &step, &digest[BATCH]);
	cr_assert_eq(step, BATCH);
	again();

	batch_fill(ops, "frame_drop frame=9999");
	r = dk_request(c, batch(ops, BATCH));
	cr_assert_eq(r->batch.count, BATCH);
	for (unsigned i = 0; i < BATCH; i++)
		cr_expect(!r->batch.answers[i].has_step);
	cr_expect_str_eq(kit_outcome(r->batch.answers[BATCH - 1].outcome.name), "unknown_frame");
	uint64_t now, d;
	dk_where(c, &now, &d);
	cr_expect_eq(now, step);
	cr_expect_eq(d, digest[step]);
	again();

	ops[0] = kit_op("vm_space_new");
	ops[1] = kit_op("cursor_open_mut vm_space=1 start=0x0 end=0x1000");
	cr_expect_not_null(strstr(dk_refused(c, batch(ops, 2)), "atomic does not go with cursor_open_mut"));
	again();
	/* the next step is the one that follows the first batch */
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=41 paddr=0x28000");
	stepped();
	again();
	/* and each of its steps is there to go back to */
	dk_request(c, undo(21));
	step++;
	dk_where(c, &now, &digest[step]);
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=21 paddr=0x14000");
	stepped();
	again();
	end();
}

/* Whatever the moment of the kill, no batch is there in part. */
Test(history, kill_never_cuts_an_atomic_batch)
{
	struct kit_random r = { 23 };
	struct kvms_op ops[BATCH];
	uint64_t acknowledged = 0, now, d;

	daemon_pid = dk_start("--durability", "full", "--snapshot-every", "500", NULL);
	batch_fill(ops, "kvirt_reserve area_size=0x1000");
	for (uint64_t i = 0, kills = kit_scaled(30) + 1; i < kills; i++) {
		struct kvmctl_failure failure;
		struct kvmp_response response;

		c = dk_connect(NULL);
		dk_kill_soon(daemon_pid, (unsigned)kit_below(&r, 20000));
		for (;;) {
			struct kvmp_request request = batch(ops, BATCH);

			if (!kvmctl_request(c, &request, &response, &failure))
				break;
			cr_assert_eq(response.batch.count, BATCH);
			acknowledged = response.batch.answers[BATCH - 1].step;
		}
		cr_assert_eq(failure.kind, KVMCTL_LOST, "%s", failure.text);
		kvmctl_disconnect(&c);
		dk_wait_end(daemon_pid);
		daemon_pid = dk_start("--durability", "full", "--snapshot-every", "500", NULL);
		c = dk_connect(NULL);
		dk_where(c, &now, &d);
		cr_assert_geq(now, acknowledged);
		cr_assert_leq(now, acknowledged + BATCH);
		cr_assert_eq(now % BATCH, 0, "step %" PRIu64, now);
		acknowledged = now;
		kvmctl_disconnect(&c);
	}
	cr_log_info("%" PRIu64 " steps", now);
	cr_assert_gt(now, BATCH);
	cr_assert_eq(dk_stop(daemon_pid), 0);
}
