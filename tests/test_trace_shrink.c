/*
 * Shrinking: what is left fails in the same way, is short, replays as it
 * says, and is the same each time.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trace/gen.h"
#include "trace/replay.h"
#include "trace/shrink.h"
#include "tests/store_kit.h"

/* ---- Traces -------------------------------------------------------------------------- */

/* Random operations with their outcomes, without expect lines. */
static char *
generate(uint64_t seed, uint64_t steps)
{
	struct kvt_gen gen = { .seed = seed, .steps = steps, .digest_every = UINT64_MAX };
	char *text, *from, *to, error[200];
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_eq(kvt_gen(&gen, out, error, sizeof error), 0, "%s", error);
	fclose(out);
	for (from = to = text; *from != '\0';) {
		size_t line = strcspn(from, "\n") + 1;

		if (strncmp(from, "expect ", 7) != 0) {
			memmove(to, from, line);
			to += line;
		}
		from += line;
	}
	*to = '\0';
	return text;
}

/* The last line that has "what" gets "instead" in its place: a kernel that answers something else. */
static void
tamper(char *text, const char *what, const char *instead)
{
	char *last = NULL;

	cr_assert_eq(strlen(what), strlen(instead));
	for (char *at = text; (at = strstr(at, what)) != NULL; at++)
		last = at;
	cr_assert_not_null(last, "no \"%s\"", what);
	memcpy(last, instead, strlen(instead));
}

static uint64_t
operations(const char *text)
{
	uint64_t count = 0;

	for (; *text != '\0'; text += strcspn(text, "\n") + 1)
		count += strncmp(text, "kvmtrace", 8) != 0 && strncmp(text, "store", 5) != 0 && *text != '#' &&
			 *text != '\n';
	return count;
}

/* Shrink; NULL if it does not come to KVT_SHRUNK. */
static char *
shrink(struct kvt_shrink *k, const char *text, enum kvt_shrunk want)
{
	char *small = NULL, error[200];
	struct kvt_input *in = kvt_input_memory("trace", text, strlen(text), error, sizeof error);
	size_t size;
	FILE *out = open_memstream(&small, &size);

	if (k->report == NULL)
		k->report = stderr;
	k->check = KVMS_CHECK_OFF;
	cr_assert_eq(kvt_shrink(k, in, out), want);
	fclose(out);
	kvt_input_close(&in);
	return small;
}

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *s = kvms_new(config, why);

	(void)arg;
	(void)base;
	return s != NULL ? kvt_target_embedded(s, true) : NULL;
}

/* How a replay ends, having been told to go on after a difference; its report. */
static enum kvt_result
replay(const char *text, uint64_t *divergences, char **report)
{
	size_t size;
	struct kvt_replay r = { .open = open_store, .keep_going = true, .report = open_memstream(report, &size) };
	char error[200];
	struct kvt_input *in = kvt_input_memory("small", text, strlen(text), error, sizeof error);
	enum kvt_result result = kvt_replay(&r, in, "small");

	*divergences = r.statistics.divergences;
	kvt_target_close(&r.target);
	kvt_input_close(&in);
	fclose(r.report);
	return result;
}

/* The trace differs in its last line, and nowhere else, in this way. */
static void
differs_at_the_end(const char *text, const char *how)
{
	uint64_t divergences;
	char *report;

	cr_expect_eq(replay(text, &divergences, &report), KVT_DIVERGED, "%s", text);
	cr_expect_eq(divergences, 1, "%s", report);
	cr_expect(strstr(report, how) != NULL, "no \"%s\" in\n%s", how, report);
	free(report);
}

/* ---- Differences ------------------------------------------------------------------------ */

Test(shrink, what_does_not_fail_is_left_alone)
{
	struct kvt_shrink k = { .while_diverges = true };
	char *text = generate(3, 200), *small = shrink(&k, text, KVT_SHRINK_PASSES);

	cr_expect_str_eq(small, "");
	free(small);
	free(text);
}

Test(shrink, a_field_that_differs_stays_different_and_the_model_says_the_same)
{
	struct kvt_shrink k = { .while_diverges = true };
	char *text = generate(5, (uint64_t)kit_scaled(20000)), *small;

	tamper(text, "found=true start=", "found=true stArt="); /* no outcome has this field */
	small = shrink(&k, text, KVT_SHRUNK);
	cr_expect_leq(operations(small), 8, "%s", small);
	differs_at_the_end(small, "stArt");
	free(small);
	free(text);
}

Test(shrink, an_outcome_that_differs_keeps_both_its_names)
{
	static const char text[] = "kvmtrace 1\n"
				   "store ncpu=3 max_paddr=0x400000\n"
				   "frame_from_unused paddr=0x1000 -> ok frame=1\n"
				   "frame_from_unused paddr=0x7000 -> ok frame=2\n"
				   "frame_alloc -> ok frame=3 paddr=0x0\n"
				   "frame_drop frame=2 -> ok last=true\n"
				   "vm_space_new -> ok vm_space=1\n"
				   "frame_clone frame=1 -> ok frame=4\n"
				   "frame_drop frame=3\n"
				   "unique_from_shared frame=1 @src=\"driver\" -> ok unique=1\n"
				   "frame_drop frame=4 -> ok last=true\n";
	struct kvt_shrink k = { .while_diverges = true };
	char *small = shrink(&k, text, KVT_SHRUNK);

	cr_expect_eq(operations(small), 3, "%s", small);
	cr_expect_str_eq(k.failure, "unique_from_shared: recorded ok, the model says err NotExclusive");
	cr_expect(strstr(small, "frame_from_unused paddr=0x0 ") != NULL, "the address stays large: %s", small);
	cr_expect(strstr(small, "frame_clone frame=1 -> ok frame=2\n") != NULL, "%s", small);
	cr_expect(strstr(small, "@src=\"driver\" -> ok unique=1\n") != NULL, "%s", small);
	cr_expect(strstr(small, " ncpu=1 ") != NULL && strstr(small, "max_paddr=0x80000000") != NULL, "%s", small);
	differs_at_the_end(small, "NotExclusive");
	free(small);
}

/* The step that fails may be an expect line: then it is all of those that stays. */
Test(shrink, an_answer_that_differs_is_the_only_expect_line_left)
{
	static const char text[] = "kvmtrace 1\n"
				   "frame_alloc -> ok frame=1 paddr=0x0\n"
				   "expect frame paddr=0x0 rc=1\n"
				   "frame_alloc -> ok frame=2 paddr=0x1000\n"
				   "frame_clone frame=1 -> ok frame=3\n"
				   "expect frame paddr=0x0 -> rc=5 h=2\n"
				   "frame_drop frame=1\n";
	struct kvt_shrink k = { .while_diverges = true };
	char *small = shrink(&k, text, KVT_SHRUNK);

	cr_expect_eq(operations(small), 3, "%s", small);
	cr_expect(strstr(small, "expect frame paddr=0x0 -> rc=5 ") != NULL, "%s", small);
	differs_at_the_end(small, "rc");
	free(small);
}

Test(shrink, a_repaired_trace_numbers_its_ids_anew)
{
	static const char text[] =
	    "kvmtrace 1\n"
	    "frame_from_unused paddr=0x1000 -> ok frame=0xffffffffffffffff\n"
	    "frame_from_unused paddr=0x2000 -> ok frame=72\n"
	    "frame_from_unused paddr=0x3000 -> ok frame=0xffff888000073000\n"
	    "kvirt_map_frames area_size=0x4000 frames=[0xffffffffffffffff,72] prop=rw:wb -> ok area=9 start=0xffffdfffffffc000\n"
	    "kvirt_map_frames area_size=0x4000 frames=[0xffff888000073000] prop=rw:wb -> ok area=10 start=0xffffdfffffff8000\n"
	    "kvirt_query area=10 va=0xffffdfffffff8000 -> ok found=true tracked=true prop=rwx:wb frame=80\n";
	struct kvt_shrink k = { .while_diverges = true };
	char *small = shrink(&k, text, KVT_SHRUNK);

	cr_expect_eq(operations(small), 3, "%s", small);
	cr_expect(strstr(small, "frames=[1]") != NULL && strstr(small, "kvirt_query area=1 ") != NULL, "%s", small);
	differs_at_the_end(small, "prop");
	free(small);
}

/* ---- Somebody else says whether it fails ------------------------------------------------------- */

/* A failure that needs three operations which have nothing to do with each other. */
static enum kvt_asked
needs_three(void *arg, const char *text, size_t size)
{
	uint64_t *asked = arg;

	(void)size;
	(*asked)++;
	return strstr(text, "vm_space_new ") != NULL && strstr(text, "list_new ") != NULL &&
		       strstr(text, "frame_alloc ") != NULL
		   ? KVT_ASKED_YES
		   : KVT_ASKED_NO;
}

Test(shrink, a_condition_that_is_asked_for_leaves_what_it_needs)
{
	uint64_t asked = 0;
	struct kvt_shrink k = { .arg = &asked, .ask = needs_three };
	char *text = generate(11, 3000), *small = shrink(&k, text, KVT_SHRUNK);

	cr_expect_eq(operations(small), 3, "%s", small);
	cr_expect_lt(asked, 500, "asked %" PRIu64 " times", asked);
	free(small);
	free(text);
}

Test(shrink, the_same_trace_gives_the_same_result)
{
	struct kvt_shrink k = { .while_diverges = true }, again = { .while_diverges = true };
	char *text = generate(17, 2000), *one, *two;

	tamper(text, "last=false", "last=maybe");
	one = shrink(&k, text, KVT_SHRUNK);
	two = shrink(&again, text, KVT_SHRUNK);
	cr_expect_str_eq(one, two);
	cr_expect_eq(k.done.tries, again.done.tries);
	free(one);
	free(two);
	free(text);
}

/* ---- A recorder --------------------------------------------------------------------------------- */

/*
 * A kernel that forgets the write bit of every frame mapped behind another one
 * in the same call.  Only asking it again tells which operation that was.
 */
static bool
record(void *arg, const char *text, size_t size, struct kvt_buffer *recorded)
{
	bool forgets = false;

	(void)arg;
	for (const char *at = text; at < text + size;) {
		size_t line = strcspn(at, "\n");
		const char *rw;

		forgets = forgets || (strncmp(at, "kvirt_map_frames ", 17) == 0 &&
				      memchr(strstr(at, "frames=["), ',', 20) != NULL);
		rw = strncmp(at, "kvirt_peek ", 11) == 0 && forgets ? strstr(at, " prop=rw:wb") : NULL;
		if (rw != NULL && rw < at + line) {
			kvt_put(recorded, at, (size_t)(rw - at));
			kvt_puts(recorded, " prop=r:wb");
			kvt_put(recorded, rw + 11, line - (size_t)(rw - at) - 11);
		} else {
			kvt_put(recorded, at, line);
		}
		kvt_putc(recorded, '\n');
		at += line + 1;
	}
	return true;
}

Test(shrink, a_recorder_shows_which_operation_made_the_kernel_go_wrong)
{
	static const char text[] =
	    "kvmtrace 1\n"
	    "frame_alloc -> ok frame=1\n"
	    "frame_alloc -> ok frame=2\n"
	    "frame_alloc -> ok frame=3\n"
	    "kvirt_map_frames area_size=0x4000 frames=[1] prop=rw:wb -> ok area=1 start=0xffffdfffffffc000\n"
	    "kvirt_peek area=1 va=0xffffdfffffffc000 -> ok prop=rw:wb\n"
	    "kvirt_map_frames area_size=0x4000 frames=[2,3] prop=rw:wb -> ok area=2 start=0xffffdfffffff8000\n"
	    "list_new -> ok list=1\n"
	    "kvirt_peek area=1 va=0xffffdfffffffc000 -> ok prop=r:wb\n";
	struct kvt_shrink alone = { .while_diverges = true }, asking = { .while_diverges = true, .record = record };
	char *small = shrink(&alone, text, KVT_SHRUNK);

	cr_expect(strstr(small, ",") == NULL, "the model does not need the second area: %s", small);
	free(small);
	small = shrink(&asking, text, KVT_SHRUNK);
	cr_expect(strstr(small, "frames=[2,3]") != NULL, "%s", small);
	cr_expect_leq(operations(small), 6, "%s", small);
	differs_at_the_end(small, "prop");
	free(small);
}

/* ---- Ends ------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t enough;

static void
stop_soon(void *arg, const struct kvt_shrink_progress *p)
{
	(void)arg;
	if (p->steps < p->steps_before && p->tries > 3)
		enough = 1;
}

Test(shrink, an_interruption_leaves_what_there_is_so_far)
{
	struct kvt_shrink k = { .while_diverges = true, .progress = stop_soon, .stop = &enough };
	char *text = generate(17, 2000), *small;

	tamper(text, "last=false", "last=maybe");
	small = shrink(&k, text, KVT_SHRUNK);
	cr_expect_lt(k.done.steps, k.done.steps_before);
	cr_expect_leq(k.done.tries, 6);
	differs_at_the_end(small, "maybe");
	free(small);
	free(text);
}

static enum kvt_asked
fail_to_answer(void *arg, const char *text, size_t size)
{
	(void)arg;
	(void)text;
	(void)size;
	return KVT_ASKED_FAILED;
}

Test(shrink, bad_input_and_bad_callbacks_are_told)
{
	struct kvt_shrink k = { .while_diverges = true, .report = fopen("/dev/null", "w") };
	struct kvt_shrink asking = { .ask = fail_to_answer, .report = k.report };

	free(shrink(&k, "kvmtrace 1\nframe_fly paddr=0\n", KVT_SHRINK_WRONG));
	free(shrink(&k, "", KVT_SHRINK_WRONG));
	free(shrink(&k, "kvmtrace 1\nstore\nbase digest=0x1\nframe_alloc\n", KVT_SHRINK_WRONG));
	free(shrink(&k, "kvmtrace 1\nstore ncpu=99\nframe_alloc -> ok frame=1 paddr=0x7\n", KVT_SHRINK_FAILED));
	free(shrink(&asking, "kvmtrace 1\nframe_alloc\n", KVT_SHRINK_FAILED));
	fclose(k.report);
}

/* 100,000 operations, of which a handful matters, in well under a minute. */
Test(shrink, a_long_trace_is_short_soon)
{
	struct kvt_shrink k = { .while_diverges = true };
	char *text = generate(23, (uint64_t)kit_scaled(100000)), *small;
	struct timespec from, to;

	tamper(text, "tracked=true frame=", "tracked=tRue frame=");
	clock_gettime(CLOCK_MONOTONIC, &from);
	small = shrink(&k, text, KVT_SHRUNK);
	clock_gettime(CLOCK_MONOTONIC, &to);
	fprintf(stderr, "%" PRIu64 " of %" PRIu64 " steps after %" PRIu64 " tries, %.1f s\n%s", k.done.steps,
		k.done.steps_before, k.done.tries,
		(double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9, small);
	cr_expect_leq(operations(small), 10);
	cr_expect_lt(to.tv_sec - from.tv_sec, 60);
	differs_at_the_end(small, "tRue");
	free(small);
	free(text);
}
