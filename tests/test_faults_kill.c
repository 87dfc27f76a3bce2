/*
 * kill -9 at any instant: under load, while snapshots are written, while the
 * daemon starts.  What was answered is there again, and the store is where it
 * was behind some step that was sent.
 */
#include "tests/daemon_kit.h"

#include <stdio.h>
#include <unistd.h>

TestSuite(kill, .init = dk_enter, .fini = dk_leave, .timeout = 500);

#define LOADS 2u

static struct dk_load loads[LOADS];
static struct kit_random rnd;

/* Two stores that are kept busy until the daemon is gone. */
static void
run_until_gone(void)
{
	unsigned window = 1u << kit_below(&rnd, 9);

	for (unsigned i = 0; dk_load_turn(&loads[i], window); i = (i + 1) % LOADS)
		;
	for (unsigned i = 0; i < LOADS; i++) {
		cr_assert(!loads[i].refused, "%s", loads[i].why);
		(void)dk_load_finish(&loads[i]);
		cr_assert(!loads[i].refused, "%s", loads[i].why);
	}
}

static void
begin(unsigned world, uint64_t seed)
{
	static const char *const names[LOADS] = { "one", "other" };

	for (unsigned i = 0; i < LOADS; i++)
		dk_load_begin(&loads[i], names[i], (world + 3 * i) % kit_worlds_count, seed + i);
}

static void
end(pid_t pid)
{
	for (unsigned i = 0; i < LOADS; i++)
		kvmctl_disconnect(&loads[i].c);
	cr_assert_eq(dk_stop(pid), 0);
	for (unsigned i = 0; i < LOADS; i++) {
		dk_load_check_history(&loads[i], 20);
		dk_load_end(&loads[i]);
	}
	dk_run("rm -rf '%s'", dk_state);
}

/* Start and kill until a start is left alone: the state at rest survives it. */
static pid_t
start_again(const char *durability, const char *every)
{
	while (kit_below(&rnd, 8) == 0) {
		pid_t pid = dk_spawn("--durability", durability, "--snapshot-every", every, NULL);

		usleep((useconds_t)kit_below(&rnd, 30000));
		dk_kill(pid);
	}
	return dk_start("--durability", durability, "--snapshot-every", every, NULL);
}

static const char *const often[] = { "37", "500", "5000" };

Test(kill, full_has_every_step_that_was_answered)
{
	rnd.state = 1;
	for (unsigned series = 0; series < 4; series++) {
		uint64_t kills = kit_scaled(140) / 4 + 1, seed = kit_draw(&rnd), steps = 0;
		const char *every = often[series % KIT_COUNT(often)];
		pid_t pid = dk_start("--durability", "full", "--snapshot-every", every, NULL);

		begin(series, seed);
		for (uint64_t k = 0; k < kills; k++) {
			dk_kill_soon(pid, (unsigned)kit_below(&rnd, kit_below(&rnd, 4) == 0 ? 300000 : 60000));
			run_until_gone();
			dk_wait_end(pid);
			pid = start_again("full", every);
			for (unsigned i = 0; i < LOADS; i++)
				dk_load_resume(&loads[i], loads[i].answered);
		}
		for (unsigned i = 0; i < LOADS; i++)
			steps += loads[i].answered;
		cr_log_info("%" PRIu64 " kills, %" PRIu64 " steps", kills, steps);
		cr_assert_gt(steps, 10 * kills, "there was no load");
		end(pid);
	}
}

#define INTERVAL_MS 20u
#define COMMIT_MS 1500u /* for one commit on a machine that has other things to do */

/* The last step whose answer came long enough ago. */
static uint64_t
kept_at_least(const struct dk_load *load, uint64_t at)
{
	uint64_t step = load->answered;

	while (step > 0 && load->when[step] + INTERVAL_MS + COMMIT_MS > at)
		step--;
	return step;
}

Test(kill, relaxed_loses_no_more_than_it_says)
{
	rnd.state = 2;
	for (unsigned series = 0; series < 3; series++) {
		uint64_t kills = kit_scaled(60) / 3 + 1, lost = 0, least[LOADS] = { 0 };
		const char *every = often[series % KIT_COUNT(often)];
		pid_t pid = dk_start("--durability", "relaxed", "--sync-interval", "20", "--snapshot-every", every, NULL);

		begin(4 + series, kit_draw(&rnd));
		for (uint64_t k = 0; k < kills; k++) {
			/* mostly soon; once in a series so late that the bound says something */
			unsigned us = (unsigned)kit_below(&rnd, 100000) + (k == 1 ? 2000000 : 0);

			dk_kill_soon(pid, us);
			run_until_gone();
			dk_wait_end(pid);
			uint64_t at = dk_now();
			for (unsigned i = 0; i < LOADS; i++)
				if (kept_at_least(&loads[i], at) > least[i])
					least[i] = kept_at_least(&loads[i], at);
			pid = start_again("relaxed", every);
			for (unsigned i = 0; i < LOADS; i++) {
				uint64_t before = loads[i].answered;

				dk_load_resume(&loads[i], least[i]);
				least[i] = loads[i].answered;
				lost += before > loads[i].answered ? before - loads[i].answered : 0;
			}
			cr_assert(k != 1 || least[0] + least[1] > 0);
		}
		cr_log_info("%" PRIu64 " kills lost %" PRIu64 " steps", kills, lost);
		end(pid);
	}
}

Test(kill, behind_settle_nothing_is_lost)
{
	pid_t pid = dk_start("--durability", "relaxed", "--sync-interval", "60000", NULL);

	rnd.state = 3;
	begin(0, 77);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 300; i++)
			cr_assert(dk_load_turn(&loads[i % LOADS], 32), "%s", loads[i % LOADS].why);
		for (unsigned i = 0; i < LOADS; i++) {
			cr_assert(dk_load_finish(&loads[i]));
			dk_request(loads[i].c, (struct kvmp_request){ .type = KVMP_SETTLE });
		}
		dk_kill(pid);
		pid = dk_start("--durability", "relaxed", "--sync-interval", "60000", NULL);
		for (unsigned i = 0; i < LOADS; i++)
			dk_load_resume(&loads[i], loads[i].answered);
	}
	end(pid);
}

/* A state directory is made and used for the first time: killed in the midst of that, it is as good as new. */
Test(kill, in_the_first_start_leaves_a_directory_that_starts)
{
	rnd.state = 4;
	for (uint64_t i = 0, count = kit_scaled(30); i < count; i++) {
		for (unsigned again = 0; again < 3; again++) {
			pid_t pid = dk_spawn("--durability", "full", NULL);

			usleep((useconds_t)kit_below(&rnd, 60000));
			dk_kill(pid);
		}
		pid_t pid = dk_start("--durability", "full", NULL);
		struct kvmctl_connection *c = dk_connect(NULL);

		cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=1 paddr=0x0");
		kvmctl_disconnect(&c);
		cr_assert_eq(dk_stop(pid), 0);
		dk_run("rm -rf '%s'", dk_state);
	}
}
