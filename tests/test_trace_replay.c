/* Traces against a store: replay, run, bindings of ids, reports; the generator; comparison with a kernel's own words.
 */
#include "trace/bind.h"
#include "trace/compare_leaves.h"
#include "trace/gen.h"
#include "trace/replay.h"
#include "trace/stale.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- A run, and what came of it -------------------------------------------------- */

struct played {
	enum kvt_result result;
	struct kvt_statistics statistics;
	struct kvms_refusal refusal;
	char *report;
	char *printed;
	uint64_t digest; /* of the store at the end */
};

struct play {
	bool keep_going;
	bool run;
	bool has_base;
	uint64_t base_digest;
	char snapshot[64];
	const char *stop_at; /* comment that ends the run */
	unsigned comments;
	struct kvms *store;
};

static struct kvt_target *
open_embedded(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct play *play = arg;

	play->store = kvms_new(config, why);
	if (base != NULL) {
		play->has_base = true;
		play->base_digest = base->digest;
		snprintf(play->snapshot, sizeof play->snapshot, "%s", base->snapshot != NULL ? base->snapshot : "-");
	}
	return play->store != NULL ? kvt_target_embedded(play->store, true) : NULL;
}

static bool
see_comment(void *arg, const char *text, uint64_t line, struct kvt_target *target)
{
	struct play *play = arg;

	(void)line;
	(void)target;
	play->comments++;
	return play->stop_at == NULL || strcmp(text, play->stop_at) != 0;
}

static struct played
play_text(struct play *play, const char *text)
{
	struct kvt_replay r = { .arg = play, .open = open_embedded, .comment = see_comment };
	struct played played = { 0 };
	size_t size;
	char error[512];
	struct kvt_input *in = kvt_input_memory("t.kvt", text, strlen(text), error, sizeof error);

	r.keep_going = play->keep_going;
	r.report = open_memstream(&played.report, &size);
	r.print = play->run ? open_memstream(&played.printed, &size) : NULL;
	played.result = kvt_replay(&r, in, "t.kvt");
	played.statistics = r.statistics;
	played.refusal = r.refusal;
	if (r.target != NULL)
		r.target->digest(r.target, &played.digest);
	fclose(r.report);
	if (r.print != NULL)
		fclose(r.print);
	kvt_target_close(&r.target);
	kvt_input_close(&in);
	return played;
}

static void
played_free(struct played *played)
{
	free(played->report);
	free(played->printed);
}

/* Lines behind a header: how the run ends, and what the report must contain. */
static void
expect_run(const char *lines, bool keep_going, enum kvt_result result, const char *says)
{
	struct play play = { .keep_going = keep_going };
	struct played played;
	char text[8192];

	snprintf(text, sizeof text, "kvmtrace 1\n%s", lines);
	played = play_text(&play, text);
	cr_expect_eq(played.result, result, "%s\nresult %d, not %d:\n%s", lines, played.result, result, played.report);
	cr_expect(says == NULL ? *played.report == '\0' : strstr(played.report, says) != NULL, "%s\nsaid:\n%s", lines,
		  played.report);
	played_free(&played);
}

/* The worked example of the kernel side. */
static const char example[] =
    "kvmtrace 1\n"
    "store vmalloc=[0xffffc90000000000..0xffffe90000000000,0xffffffffc0000000..0xffffffffff000000]\n"
    "expect digest=0x433cf8eece5e04d0\n"
    "frame_from_unused paddr=0x1000 -> ok frame=1\n"
    "frame_from_unused paddr=0x2000 -> ok frame=2\n"
    "frame_clone frame=1 -> ok frame=3\n"
    "kvirt_map_frames_at start=0xffffc90000000000 area_size=0x3000 map_offset=0x1000 frames=[1] prop=rw:wb -> ok "
    "area=1\n"
    "kvirt_reserve_at start=0xffffc90000003000 area_size=0x400000 -> ok area=2\n"
    "kvirt_reserve_at start=0xffffc90000002000 area_size=0x2000 -> err RangeAllocError\n"
    "kvirt_map_frames_into area=2 va=0xffffc90000003000 frames=[2] prop=rwad:wb+global -> ok\n"
    "kvirt_map_untracked_into area=2 va=0xffffc90000200000 paddr_start=0x40000000 paddr_end=0x40200000 prop=rw:wb -> "
    "ok "
    "leaves=1\n"
    "kvirt_protect_range area=2 start=0xffffc90000200000 end=0xffffc90000201000 clear=w -> ok leaves=1\n"
    "kvirt_query area=1 va=0xffffc90000001234 -> ok frame=4 paddr=0x1000\n"
    "kvirt_peek area=1 va=0xffffc90000000000 -> ok found=false level=1\n"
    "kvirt_reserve_at start=0xffffffffc0000000 area_size=0x5000 -> ok area=3\n"
    "kvirt_map_frames_into area=3 va=0xffffffffc0000000 frames=[4,3] prop=rw:wb -> ok\n"
    "kvirt_protect_range area=3 start=0xffffffffc0000000 end=0xffffffffc0001000 set=x clear=w -> ok leaves=1\n"
    "kvirt_map_frames area_size=0x2000 frames=[] prop=rw:wb -> ok area=4\n"
    "kvirt_unmap_range area=2 start=0xffffc90000003000 end=0xffffc90000200000 -> ok leaves=1 subtrees=0\n"
    "kvirt_unreserve area=2 -> pre area_mapped\n"
    "boot_map va=0xffff888000000000 paddr_start=0x0 paddr_end=0x400000 prop=rw:wb+global -> ok leaves=2\n"
    "boot_protect_range start=0xffff888000001000 end=0xffff888000002000 clear=w global=clear -> ok leaves=1\n"
    "kvirt_drop area=1 -> ok leaves=1 subtrees=0\n"
    "kvirt_drop area=2 -> ok subtrees=1\n"
    "expect frame paddr=0x1000 -> rc=2 h=0 p=2\n"
    "expect translate table=kernel va=0xffff888000001010 -> paddr=0x1010 level=1 prop=r:wb\n"
    "expect inv=ok\n"
    "expect digest=0x98fb2168a194272d\n";

Test(replay, the_worked_example_passes)
{
	struct play play = { 0 };
	struct played played = play_text(&play, example);

	cr_expect_eq(played.result, KVT_PASSED);
	cr_expect_str_eq(played.report, "");
	cr_expect_eq(played.statistics.ops, 21);
	cr_expect_eq(played.statistics.outcomes[KVMS_OK], 19);
	cr_expect_eq(played.statistics.outcomes[KVMS_PRE], 1);
	cr_expect_eq(played.statistics.outcomes[KVMS_ERR], 1);
	cr_expect_eq(played.statistics.expects, 5);
	cr_expect_eq(played.statistics.lines, 28);
	cr_expect_eq(played.digest, 0x98fb2168a194272d);
	played_free(&played);
}

Test(replay, only_what_is_recorded_is_compared)
{
	static const char *const good[] = {
		"frame_alloc\n",
		"frame_alloc -> ok\n",
		"frame_alloc -> ok paddr=0\n",
		"frame_alloc -> ok paddr=0x0 frame=0x1\n",
		"frame_drop frame=1 -> pre\n",
		"frame_drop frame=1 -> pre unknown_frame\n",
		"frame_alloc @t=1 @cpu=x -> ok @note=\"a b\"\n",
	};
	static const char *const bad[] = {
		"frame_alloc -> err\n",
		"frame_alloc -> ok frames\n",
		"frame_alloc -> ok paddr=0x1000\n",
		"frame_alloc -> ok paddr=zero\n",
		"frame_alloc -> ok pages=1\n",
		"frame_drop frame=1 -> pre unknown_area\n",
		"frame_drop frame=1 -> pre unknown_frame last=true\n",
		"frame_drop frame=1 -> pre unknown_frame holder=1\n",
		"frame_drop frame=1 -> ok\n",
		"kvirt_reserve area_size=1 -> panic area_size_unaligned area=1\n",
		"expect digest=1\n",
		"expect inv=[slot.rc_legal]\n",
		"expect inv=fine\n",
		"expect nodes=256\n",
		"expect areas=[1:0..1]\n",
		"expect frame paddr=0xffffffffffff0000 rc=0\n",
		"expect frame paddr=0xffffffffffff0000\n",
		"expect frame paddr=0 foo=1\n",
	};

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		expect_run(good[i], false, KVT_PASSED, NULL);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_run(bad[i], false, KVT_DIVERGED, "t.kvt:2: the ");
}

Test(replay, a_created_id_that_does_not_come_is_a_mismatch)
{
	expect_run("frame_alloc -> ok frame=1\n"
		   "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb -> ok area=1\n"
		   "kvirt_query area=1 va=0xffffdffffffff000 -> ok frame=9\n"
		   "kvirt_reserve area_size=0x1000 -> ok area=2\n"
		   "kvirt_query area=2 va=0xffffdfffffffe000 -> ok frame=10\n",
		   false, KVT_DIVERGED, "t.kvt:6: the outcome differs");
}

Test(replay, recorded_ids_are_bound_to_actual_ones)
{
	/* by kind, the newest binding counts, an id without one stands for itself */
	expect_run("frame_alloc -> ok frame=70 paddr=0\n"
		   "frame_alloc -> ok frame=71 paddr=0x1000\n"
		   "frame_clone frame=71 -> ok frame=72\n"
		   "kvirt_map_frames area_size=0x3000 frames=[71,0x46] prop=rw:wb -> ok area=70\n"
		   "kvirt_peek area=70 va=0xffffdfffffffd000 -> ok paddr=0x1000\n"
		   "frame_alloc -> ok frame=72 paddr=0x2000\n"
		   "frame_drop frame=72 -> ok last=true\n"
		   "frame_drop frame=3 -> ok last=false\n"
		   "frame_drop frame=70 -> pre unknown_frame\n",
		   false, KVT_PASSED, NULL);
	/* two recorded ids may swap */
	expect_run("frame_alloc -> ok frame=2 paddr=0\n"
		   "frame_alloc -> ok frame=1 paddr=0x1000\n"
		   "frame_drop frame=2 -> ok last=true\n"
		   "frame_alloc -> ok frame=3 paddr=0\n"
		   "frame_drop frame=1 -> ok last=true\n"
		   "frame_alloc -> ok frame=1 paddr=0x1000\n"
		   "frame_drop frame=1 -> ok\n",
		   false, KVT_PASSED, NULL);
}

Test(replay, a_line_binds_if_both_sides_succeed_even_where_they_differ)
{
	expect_run("frame_alloc -> ok frame=9 paddr=0x5000\nframe_drop frame=9 -> ok\n", true, KVT_DIVERGED,
		   "t.kvt:2:");
	expect_run("frame_alloc -> err NoMemory frame=9\nframe_drop frame=9 -> pre\n", true, KVT_DIVERGED, "t.kvt:2:");
}

Test(replay, arguments_of_expect_lines_are_translated_and_their_results_are_not)
{
	expect_run("kvirt_reserve area_size=0x1000 -> ok area=5\n"
		   "expect areas=[1:0xffffdffffffff000..0xffffe00000000000]\n",
		   false, KVT_PASSED, NULL);
	expect_run("frame_alloc -> ok frame=8\nexpect who_holds paddr=0 -> frames=[1]\n", false, KVT_PASSED, NULL);
}

Test(replay, numbers_compare_by_value_and_words_by_text)
{
	expect_run("frame_alloc -> ok frame=1\n"
		   "kvirt_map_frames area_size=8192 frames=[1] prop=wr:wb -> ok nodes_allocated=0x2\n"
		   "kvirt_peek area=1 va=0xffffdfffffffe000 -> ok prop=wr:wb tracked=true level=0x1\n"
		   "expect frame paddr=0 rc=0x1 usage=Frame kind=untyped p=1\n"
		   "expect free_va=[0xFFFFC00000000000..0xffffdfffffffe000]\n",
		   false, KVT_PASSED, NULL);
}

Test(replay, the_report_shows_both_sides_and_the_state_around)
{
	struct play play = { 0 };
	struct played played = play_text(&play, "kvmtrace 1\n"
						"frame_alloc -> ok frame=7\n"
						"kvirt_map_frames area_size=0x1000 frames=[7] prop=rw:wb -> ok area=4\n"
						"gap ops=3\n"
						"kvirt_peek area=4 va=0xffffdffffffff000 -> ok paddr=0x3000 level=1\n");
	static const char *const parts[] = {
		"t.kvt:5: the outcome differs, after the gap at line 4\n",
		"  kvirt_peek area=4 va=0xffffdffffffff000\n",
		"  that is, with the store's ids: kvirt_peek area=1 va=0xffffdffffffff000\n",
		"  expected: ok level=1 paddr=0x3000\n",
		"  actual:   ok found=true start=0xffffdffffffff000 end=0xffffe00000000000 level=1 paddr=0x0",
		"  * paddr            0x3000                   0x0\n",
		"    level            1                        1\n",
		"  area 1: 0xffffdffffffff000..0xffffe00000000000 (0x1000 bytes)\n",
		"  walk of table kernel to 0xffffdffffffff000:\n",
		"    level 1  node 0x7fefd000  index 511  word 0x8010000000000083\n",
		"  frame 0x0: rc=1 usage=Frame",
		"  held by: frames=[] segments=[] uniques=[] lists=[] mappings=[kernel:0xffffdffffffff000]",
	};

	cr_expect_eq(played.result, KVT_DIVERGED);
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		cr_expect_not_null(strstr(played.report, parts[i]), "missing: %s\nin:\n%s", parts[i], played.report);
	played_free(&played);
}

Test(replay, it_stops_at_the_first_divergence_or_lists_all)
{
	static const char trace[] =
	    "kvmtrace 1\nframe_alloc -> err\nframe_alloc -> err\nexpect nodes=1\nframe_alloc -> ok\n";
	struct play play = { 0 };
	struct played played = play_text(&play, trace);

	cr_expect_eq(played.result, KVT_DIVERGED);
	cr_expect_eq(played.statistics.ops, 1);
	cr_expect_eq(played.statistics.divergences, 1);
	played_free(&played);
	play.keep_going = true;
	played = play_text(&play, trace);
	cr_expect_eq(played.result, KVT_DIVERGED);
	cr_expect_eq(played.statistics.ops, 3);
	cr_expect_eq(played.statistics.divergences, 3);
	cr_expect_not_null(strstr(played.report, "t.kvt:4: the answer differs"));
	played_free(&played);
}

Test(replay, a_syntax_error_stops_before_its_line_runs)
{
	struct play play = { 0 };
	struct played played = play_text(&play, "kvmtrace 1\nframe_alloc\nframe_alloc -> ok frame=x\nframe_alloc\n");

	cr_expect_eq(played.result, KVT_SYNTAX);
	cr_expect_eq(played.statistics.ops, 1);
	cr_expect_str_eq(played.report, "t.kvt:3:25: expected u64 (decimal or 0x hex), found 'x'\n");
	played_free(&played);
	expect_run("", false, KVT_PASSED, NULL);
	played = play_text(&play, "# nothing\n");
	cr_expect_eq(played.result, KVT_SYNTAX);
	cr_expect_str_eq(played.report, "t.kvt:1:1: expected 'kvmtrace 1', found end of file\n");
	played_free(&played);
}

Test(replay, a_broken_limit_names_the_key)
{
	static const char *const cases[][2] = {
		{ "store ncpu=0\nframe_alloc\n", "t.kvt:2:1: ncpu out of limits\n" },
		{ "# c\nstore max_paddr=0x1001 ncpu=65 # c\n", "t.kvt:3:1: max_paddr out of limits\n" },
		{ "store ncpu=0\nfoo\n", "t.kvt:2:1: ncpu out of limits\n" },
		{ "store vmalloc=[]\n", "t.kvt:2:1: vmalloc out of limits\n" },
		{ "store reserve=[0x0..0x2000] mmio=[0x1000..0x3000]\n", "t.kvt:2:1: mmio out of limits\n" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		expect_run(cases[i][0], false, KVT_SYNTAX, cases[i][1]);
}

Test(replay, a_base_line_names_the_state_to_start_from)
{
	struct play play = { 0 };
	struct played played = play_text(
	    &play, "kvmtrace 1\nstore\nbase digest=0x89724308c7d7aa90 snapshot=\"a \\\"b\\\"\"\nframe_alloc\n");

	cr_expect_eq(played.result, KVT_PASSED, "%s", played.report);
	cr_expect(play.has_base);
	cr_expect_eq(play.base_digest, 0x89724308c7d7aa90);
	cr_expect_str_eq(play.snapshot, "a \"b\"");
	played_free(&played);
	expect_run("store\nbase digest=0x1\nframe_alloc\n", false, KVT_DIVERGED,
		   "t.kvt:3: the state to start from differs\n  expected: digest=0x0000000000000001\n"
		   "  actual:   digest=0x89724308c7d7aa90\n");
}

Test(replay, comments_are_told_and_may_end_the_run)
{
	struct play play = { .stop_at = "# MARK" };
	struct played played =
	    play_text(&play, "kvmtrace 1\n# one\nframe_alloc # not alone\n# two\n# MARK\nframe_alloc\n# three\n");

	cr_expect_eq(played.result, KVT_PASSED);
	cr_expect_eq(play.comments, 3);
	cr_expect_eq(played.statistics.ops, 1);
	cr_expect(played.statistics.stopped);
	played_free(&played);
}

/* ---- Run ----------------------------------------------------------------------------------- */

Test(run, it_prints_canonical_lines_with_actual_outcomes_and_keeps_the_rest)
{
	struct play play = { .run = true };
	struct played played =
	    play_text(&play, "# first\nkvmtrace 1 # header\n\nstore ncpu=2 # two\n# held\n"
			     "frame_alloc meta=1 -> err NoMemory # c\nframe_alloc @t=1 -> ok frame=9\n"
			     "frame_drop frame=9\ngap ops=0x10\nexpect nodes=257\n");

	cr_expect_eq(played.result, KVT_PASSED, "%s", played.report);
	cr_expect_str_eq(played.printed,
			 "# first\nkvmtrace 1 # header\n\n"
			 "store arch=x86_64 max_paddr=0x80000000 rc_max=0x7fffffffffffffff ncpu=2 "
			 "vmalloc=0xffffc00000000000..0xffffe00000000000 boot=minimal kernel=0x8000000..0x9000000 "
			 "reserve=[] mmio=[] "
			 "# two\n# held\n"
			 "frame_alloc zeroed=true kind=untyped meta=0x1 -> ok frame=1 paddr=0x0 # c\n"
			 "frame_alloc zeroed=true kind=untyped meta=0x0 @t=1 -> ok frame=2 paddr=0x1000\n"
			 "frame_drop frame=2 -> ok last=true\ngap ops=16\nexpect nodes=257\n");
	played_free(&played);
}

Test(run, what_it_prints_replays_and_prints_the_same)
{
	struct play play = { .run = true };
	struct played one = play_text(&play, example), two, three;

	cr_expect_eq(one.result, KVT_PASSED);
	two = play_text(&play, one.printed);
	cr_expect_str_eq(one.printed, two.printed);
	play.run = false;
	three = play_text(&play, one.printed);
	cr_expect_eq(three.result, KVT_PASSED, "%s", three.report);
	played_free(&one);
	played_free(&two);
	played_free(&three);
}

Test(run, an_expectation_that_fails_is_told_and_the_run_goes_on)
{
	struct play play = { .run = true };
	struct played played = play_text(&play, "kvmtrace 1\nexpect nodes=1\nframe_alloc\n");

	cr_expect_eq(played.result, KVT_DIVERGED);
	cr_expect_eq(played.statistics.ops, 1);
	cr_expect_not_null(strstr(played.report, "t.kvt:2: the answer differs"));
	played_free(&played);
}

/* ---- Targets that fail ------------------------------------------------------------------------ */

struct failing {
	struct kvt_target target;
	enum kvt_status status;
};

static enum kvt_status
failing_apply(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	(void)op;
	(void)out;
	return ((struct failing *)t)->status;
}

static enum kvt_status
failing_inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	return failing_apply(t, request, out);
}

static const char *
failing_error(struct kvt_target *t)
{
	(void)t;
	return "first finding\nsecond finding";
}

static struct kvt_target *
open_failing(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	(void)config;
	(void)base;
	if (arg == NULL)
		snprintf(why->text, sizeof why->text, "nobody listens");
	return arg;
}

Test(replay, a_target_that_fails_ends_it_with_the_status_that_says_why)
{
	static const struct {
		enum kvt_status status;
		enum kvt_result result;
	} cases[] = { { KVT_BROKEN, KVT_LAW_BROKEN },
		      { KVT_LOST, KVT_DISCONNECTED },
		      { KVT_READ_ONLY, KVT_DISCONNECTED },
		      { KVT_NOMEM, KVT_DISCONNECTED } };
	static const char text[] = "kvmtrace 1\nframe_alloc\n";

	for (size_t i = 0; i <= sizeof cases / sizeof cases[0]; i++) {
		bool refused = i == sizeof cases / sizeof cases[0];
		struct failing failing = {
			{ .apply = failing_apply, .inspect = failing_inspect, .error = failing_error },
			refused ? KVT_LOST : cases[i].status
		};
		struct kvt_replay r = { .arg = refused ? NULL : &failing, .open = open_failing };
		char error[256], *report;
		size_t size;
		struct kvt_input *in = kvt_input_memory("t.kvt", text, strlen(text), error, sizeof error);

		r.report = open_memstream(&report, &size);
		cr_expect_eq(kvt_replay(&r, in, "t.kvt"), refused ? KVT_UNREADABLE : cases[i].result);
		fclose(r.report);
		cr_expect_not_null(strstr(report, refused ? "t.kvt:2: no store: nobody listens\n"
							  : "  frame_alloc zeroed=true kind=untyped meta=0x0\n"
							    "  first finding\n  second finding\n"),
				   "%s", report);
		free(report);
		kvt_input_close(&in);
	}
}

/* ---- Stale TLB entries ----------------------------------------------------------- */

/* The two warnings, as text: of a CPU's entry, stale since a line and step, used again at a line and step. */
#define TOLD(what, how, cpu, va, paddr, line, step, again_line, again_step)                                            \
	"t.kvt:" #again_line ": warning: " what " while a TLB still has the entry from before\n  CPU " #cpu            \
	", va " #va ", paddr " #paddr ": stale since line " #line " (step " #step "), " how " at line " #again_line    \
	" (step " #again_step "), not flushed between\n"
#define RANGE(...) TOLD("a range is mapped again", "mapped again", __VA_ARGS__)
#define FRAME(...) TOLD("a frame is used again", "its frame in use again", __VA_ARGS__)

/* An area of one page with frame 1, cached by CPU 1 and dropped at line 6, step 4. */
#define STALE_PAGE                                                                                                     \
	"store ncpu=2\n"                                                                                               \
	"frame_from_unused paddr=0x1000\n"                                                                             \
	"kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb -> ok start=0xffffdffffffff000\n"                     \
	"access cpu=1 va=0xffffdffffffff008 mode=kernel\n"                                                             \
	"kvirt_drop area=1\n"

static unsigned
stale_told(const char *lines, const char *says)
{
	struct play play = { 0 };
	struct played played;
	unsigned warnings;
	char text[4096];

	snprintf(text, sizeof text, "kvmtrace 1\n%s", lines);
	played = play_text(&play, text);
	warnings = (unsigned)played.statistics.stale;
	cr_expect_eq(played.result, KVT_PASSED, "%s\n%s", lines, played.report);
	cr_expect(says == NULL ? *played.report == '\0' : strcmp(played.report, says) == 0, "%s\nsaid:\n%s", lines,
		  played.report);
	played_free(&played);
	return warnings;
}

Test(stale, a_range_mapped_again_before_a_flush_is_told_with_both_places)
{
	cr_expect_eq(stale_told(STALE_PAGE "frame_from_unused paddr=0x2000\n"
					   "kvirt_map_frames area_size=0x1000 frames=[2] prop=rw:wb\n",
				RANGE(1, 0xffffdffffffff000, 0x1000, 6, 4, 8, 6)),
		     1);
	/* the whole area counts, not its first page; uncounted pages and addresses given by name too */
	cr_expect_eq(stale_told("frame_alloc\n"
				"kvirt_map_frames area_size=0x3000 map_offset=0x2000 frames=[1] prop=rw:wb\n"
				"tlb_fill cpu=0 va=0xffffdffffffff000\n"
				"kvirt_drop area=1\n"
				"kvirt_reserve_at start=0xffffdfffffffd000 area_size=0x3000\n"
				"kvirt_map_untracked_into area=2 va=0xffffdfffffffe000 paddr_start=0x90000000 "
				"paddr_end=0x90002000 prop=rw:uc\n",
				RANGE(0, 0xffffdffffffff000, 0x0, 5, 4, 7, 6)),
		     1);
}

Test(stale, a_frame_in_use_again_before_a_flush_is_told_with_both_places)
{
	static const char *const uses[] = {
		"frame_from_unused paddr=0x1000\n",
		"segment_from_unused start=0x0 end=0x3000\n",
		"unique_from_unused paddr=0x1000\n",
		"boot_reserve start=0x1000 end=0x2000\n",
	};
	const char *says = FRAME(1, 0xffffdffffffff000, 0x1000, 6, 4, 7, 5);
	char lines[2048];

	for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
		snprintf(lines, sizeof lines, STALE_PAGE "%s", uses[i]);
		cr_expect_eq(stale_told(lines, says), 1);
	}
	/* a frame that somebody held all the time is not used again before it has been free */
	cr_expect_eq(stale_told("frame_alloc\n"
				"frame_clone frame=1\n"
				"kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb\n"
				"tlb_fill cpu=0 va=0xffffdffffffff000\n"
				"kvirt_drop area=1\n"
				"frame_from_in_use paddr=0x0\n",
				NULL),
		     0);
	cr_expect_eq(stale_told("frame_alloc\n"
				"frame_clone frame=1\n"
				"kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb\n"
				"tlb_fill cpu=0 va=0xffffdffffffff000\n"
				"kvirt_drop area=1\n"
				"frame_drop frame=2\n"
				"frame_alloc\n",
				FRAME(0, 0xffffdffffffff000, 0x0, 6, 5, 8, 7)),
		     1);
}

Test(stale, a_flush_between_or_the_old_mapping_again_is_no_reason)
{
	static const char *const fine[] = {
		STALE_PAGE "kvirt_flush start=0xffffdffffffff000 end=0xffffe00000000000\n"
			   "frame_from_unused paddr=0x1000\n"
			   "kvirt_map_frames area_size=0x1000 frames=[2] prop=rw:wb\n",
		/* nothing is used again */
		STALE_PAGE "frame_from_unused paddr=0x2000\n"
			   "kvirt_map_frames area_size=0x2000 frames=[2] prop=rw:wb\n"
			   "kvirt_reserve area_size=0x1000\n",
		/* I/O memory flushes its area itself */
		"frame_alloc\n"
		"frame_clone frame=1\n"
		"kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb\n"
		"tlb_fill cpu=0 va=0xffffdffffffff000\n"
		"kvirt_drop area=1\n"
		"iomem_acquire start=0x90000000 end=0x90001000 -> ok va=0xffffdffffffff000\n",
		/* the same frame at the same place */
		"frame_alloc\n"
		"frame_clone frame=1\n"
		"kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb\n"
		"tlb_fill cpu=0 va=0xffffdffffffff000\n"
		"kvirt_drop area=1\n"
		"kvirt_map_frames area_size=0x1000 frames=[2] prop=r:wb\n",
		/* a page of 2 MiB that was only cut still reaches what it did, whoever uses it */
		"boot_map va=0xffff888000000000 paddr_start=0x0 paddr_end=0x200000 prop=rw:wb+global\n"
		"tlb_fill cpu=0 va=0xffff888000001000\n"
		"boot_protect_range start=0xffff888000001000 end=0xffff888000002000 clear=w\n"
		"expect stale entries=[0:kernel:0xffff888000000000:0x0]\n"
		"frame_alloc\n",
	};

	for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
		cr_expect_eq(stale_told(fine[i], NULL), 0);
}

Test(stale, any_part_of_a_large_page_counts)
{
	cr_expect_eq(stale_told("kvirt_map_untracked_frames area_size=0x400000 paddr_start=0x90000000 "
				"paddr_end=0x90400000 prop=rw:uc\n"
				"access cpu=0 va=0xffffdfffffc12345 mode=kernel\n"
				"kvirt_split area=1 offset=0x1ff000\n"
				"kvirt_drop area=3\n"
				/* behind the page, then in it */
				"kvirt_map_untracked_frames_at start=0xffffdfffffdff000 area_size=0x201000 "
				"map_offset=0x1000 paddr_start=0x0 paddr_end=0x1000 prop=r:wb\n"
				"kvirt_drop area=4\n"
				"kvirt_map_untracked_frames_at start=0xffffdfffffdff000 area_size=0x201000 "
				"paddr_start=0x1000 paddr_end=0x2000 prop=r:wb\n",
				RANGE(0, 0xffffdfffffc00000, 0x90000000, 5, 4, 8, 7)),
		     1);
}

Test(stale, each_cpu_and_address_is_told_once)
{
	cr_expect_eq(
	    stale_told("store ncpu=2\n"
		       "frame_alloc -> ok paddr=0x0\n"
		       "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb -> ok start=0xffffdffffffff000\n"
		       "tlb_fill cpu=0 va=0xffffdffffffff000\n"
		       "access cpu=1 va=0xffffdffffffff000 mode=kernel\n"
		       "kvirt_drop area=1\n"
		       "frame_alloc -> ok paddr=0x0\n"
		       "kvirt_map_frames area_size=0x1000 frames=[2] prop=rw:wb -> ok start=0xffffdffffffff000\n"
		       /* the frame is back where it was: nothing is stale, until all of it happens again */
		       "expect stale entries=[]\n"
		       "access cpu=1 va=0xffffdffffffff000 mode=kernel -> ok hit=tlb\n"
		       "kvirt_drop area=2\n"
		       "frame_alloc -> ok paddr=0x0\n",
		       FRAME(0, 0xffffdffffffff000, 0x0, 7, 5, 8, 6) FRAME(1, 0xffffdffffffff000, 0x0, 7, 5, 8, 6)),
	    2);
}

Test(stale, what_is_watched_and_told_is_limited)
{
	struct play play = { 0 };
	struct played played;
	char *text, *last;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	unsigned pages = KVT_STALE_WATCHED + 100;

	fprintf(file,
		"kvmtrace 1\nkvirt_map_untracked_frames area_size=0x%x paddr_start=0x90001000 paddr_end=0x%x prop=r:wb "
		"-> ok "
		"start=0x%lx\n",
		pages * 4096, 0x90001000 + pages * 4096, 0xffffe00000000000 - pages * 4096);
	for (unsigned i = 0; i < pages; i++)
		fprintf(file, "tlb_fill cpu=0 va=0x%lx\n", 0xffffe00000000000 - 4096 * (i + 1));
	fprintf(file,
		"kvirt_drop area=1\nkvirt_map_untracked_frames area_size=0x%x paddr_start=0xa0000000 paddr_end=0x%x "
		"prop=r:wb\n",
		pages * 4096, 0xa0000000 + pages * 4096);
	fclose(file);
	played = play_text(&play, text);
	cr_expect_eq(played.result, KVT_PASSED);
	cr_expect_eq(played.statistics.stale, KVT_STALE_TOLD, "%llu", (unsigned long long)played.statistics.stale);
	last = strstr(played.report, "t.kvt: warning: ");
	cr_assert_not_null(last, "%.300s", played.report);
	cr_expect_str_eq(last, "t.kvt: warning: too many stale TLB entries; not all of them were watched\n");
	played_free(&played);
	free(text);
}

/* Counts the requests that reach an embedded target; from the failing one on it is lost. */
static unsigned requests_seen, requests_answered;
static enum kvt_status (*answer)(struct kvt_target *, const struct kvms_op *, struct kvms_outcome *);

static enum kvt_status
counted_inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	return requests_seen++ < requests_answered ? answer(t, request, out) : KVT_LOST;
}

static struct kvt_target *
open_counted(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvt_target *t = open_embedded(arg, config, base, why);

	answer = t->inspect;
	t->inspect = counted_inspect;
	requests_seen = 0;
	return t;
}

static uint64_t
stale_counted(const char *text, unsigned answered)
{
	struct play play = { 0 };
	struct kvt_replay r = { .arg = &play, .open = open_counted };
	char error[512], *report;
	size_t size;
	struct kvt_input *in = kvt_input_memory("t.kvt", text, strlen(text), error, sizeof error);

	requests_answered = answered;
	r.report = open_memstream(&report, &size);
	cr_expect_eq(kvt_replay(&r, in, "t.kvt"), KVT_PASSED);
	fclose(r.report);
	free(report);
	kvt_target_close(&r.target);
	kvt_input_close(&in);
	return r.statistics.stale;
}

Test(stale, a_trace_that_fills_no_tlb_asks_once)
{
	cr_expect_eq(stale_counted("kvmtrace 1\n"
				   "frame_alloc\n"
				   "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb\n"
				   "tlb_fill cpu=0 va=0x1000 -> err\n"
				   "kvirt_drop area=1\n"
				   "frame_alloc\n",
				   UINT_MAX),
		     0);
	cr_expect_eq(requests_seen, 1);
}

Test(stale, a_target_that_does_not_answer_ends_the_watch_and_not_the_run)
{
	static const char text[] = "kvmtrace 1\n" STALE_PAGE "frame_from_unused paddr=0x1000\n";
	unsigned needed;

	cr_expect_eq(stale_counted(text, UINT_MAX), 1);
	needed = requests_seen;
	cr_expect_gt(needed, 1);
	for (unsigned answered = 0; answered < needed; answered++) {
		cr_expect_eq(stale_counted(text, answered), 0, "%u", answered);
		cr_expect_eq(requests_seen, answered + 1, "%u", answered);
	}
}

/* The store of a run before. */
static struct kvt_target *
open_again(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	(void)config;
	(void)base;
	(void)why;
	return arg;
}

Test(stale, a_run_may_begin_with_stale_entries)
{
	static const char *const text[] = { "kvmtrace 1\n" STALE_PAGE, "kvmtrace 1\nframe_from_unused paddr=0x1000\n" };
	struct kvt_target *store = NULL;

	for (int i = 0; i < 2; i++) {
		struct play play = { 0 };
		struct kvt_replay r = { .arg = i == 0 ? (void *)&play : store,
					.open = i == 0 ? open_embedded : open_again };
		char error[512], *report;
		size_t size;
		struct kvt_input *in = kvt_input_memory("t.kvt", text[i], strlen(text[i]), error, sizeof error);

		r.report = open_memstream(&report, &size);
		cr_expect_eq(kvt_replay(&r, in, "t.kvt"), KVT_PASSED);
		fclose(r.report);
		cr_expect_str_eq(report,
				 i == 0 ? ""
					: "t.kvt:2: warning: a frame is used again while a TLB still has the entry "
					  "from before\n"
					  "  CPU 1, va 0xffffdffffffff000, paddr 0x1000: stale since before the "
					  "trace, its frame in use again at line 2 (step 1), not flushed between\n");
		free(report);
		kvt_input_close(&in);
		store = r.target;
	}
	kvt_target_close(&store);
}

/* ---- Bindings ------------------------------------------------------------------------------------ */

Test(bind, the_newest_binding_of_each_id_is_found)
{
	enum { IDS = 2000 };
	static uint64_t expected[3][IDS];
	struct kvt_bindings b = { 0 };
	uint64_t random = 7;

	for (unsigned kind = 1; kind < 3; kind++)
		for (unsigned id = 0; id < IDS; id++)
			expected[kind][id] = id;
	for (unsigned i = 0; i < 100000; i++) {
		unsigned kind, id;
		uint64_t actual;

		random = random * 6364136223846793005u + 1442695040888963407u;
		kind = 1 + (random >> 60) % 2;
		id = (unsigned)(random >> 33) % IDS;
		actual = (random >> 20 & 3) == 0 ? id : random >> 40;
		cr_assert(kvt_bind(&b, (enum kvms_kind)kind, id, actual));
		expected[kind][id] = actual;
	}
	for (unsigned kind = 1; kind < 3; kind++)
		for (unsigned id = 0; id < IDS; id++)
			cr_assert_eq(kvt_bound(&b, (enum kvms_kind)kind, id), expected[kind][id]);
	for (unsigned kind = 1; kind < 3; kind++)
		for (unsigned id = 0; id < IDS; id++)
			cr_assert(kvt_bind(&b, (enum kvms_kind)kind, id, id));
	cr_expect_eq(b.count, 0);
	kvt_bindings_free(&b);
}

/* ---- Generator -------------------------------------------------------------------------------------- */

static char *
generate(uint64_t seed, uint64_t steps, const struct kvt_profile *profile, const char *store)
{
	struct kvt_gen gen = { .seed = seed, .steps = steps, .profile = profile };
	struct kvt_parser *p = kvt_parser_new("store");
	struct kvt_line line;
	char error[512] = "", *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int status;

	cr_assert(kvt_parse_store(p, store, strlen(store), &line), "%s", kvt_parser_error(p));
	gen.config = &line.op;
	status = kvt_gen(&gen, out, error, sizeof error);
	fclose(out);
	kvt_parser_free(&p);
	cr_expect_eq(status, 0, "seed %llu: %s", (unsigned long long)seed, error);
	return text;
}

Test(gen, the_same_seed_gives_the_same_trace_and_it_replays)
{
	static const char *const stores[] = {
		"", "max_paddr=0x200000 rc_max=3 ncpu=3",
		"vmalloc=[0xffffc90000000000..0xffffc90000040000,0xffffffffc0000000..0xffffffffc0100000]"
	};

	for (uint64_t seed = 1; seed <= 6; seed++) {
		const char *store = stores[seed % 3];
		char *one = generate(seed, 400, NULL, store), *two = generate(seed, 400, NULL, store);
		char *other = generate(seed + 100, 400, NULL, store);
		struct play play = { 0 };
		struct played played = play_text(&play, one);

		cr_expect_str_eq(one, two);
		cr_expect_str_neq(one, other);
		cr_expect_eq(played.result, KVT_PASSED, "%s", played.report);
		cr_expect_eq(played.statistics.ops, 400);
		cr_expect_gt(played.statistics.outcomes[KVMS_OK], 150);
		played_free(&played);
		free(one);
		free(two);
		free(other);
	}
}

/* Count in "ok" the ops of a trace that were ok; in "all" all of them. */
static void
count_ops(const char *text, unsigned *all, unsigned *ok)
{
	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		size_t name = strcspn(line, " \n"), size = strcspn(line, "\n");

		for (unsigned code = 1; name > 0 && code <= kvms_op_max(); code++) {
			const struct kvms_row *row = kvms_op_row(code);

			if (row == NULL || strlen(row->name) != name || strncmp(row->name, line, name) != 0)
				continue;
			all[code]++;
			ok[code] += memmem(line, size, " -> ok", 6) != NULL;
		}
	}
}

Test(gen, every_profile_draws_every_architecture_and_replays)
{
	for (unsigned i = 0; kvt_profile_at(i) != NULL; i++)
		for (uint64_t arch = 0; kvms_word(KVMS_ARCH, arch) != NULL; arch++) {
			char store[64];
			struct play play = { 0 };
			unsigned all[256] = { 0 }, ok[256] = { 0 }, steps = 0, oks = 0;

			snprintf(store, sizeof store, "arch=%s ncpu=2", kvms_word(KVMS_ARCH, arch));
			char *text = generate(i, 500, kvt_profile_at(i), store);
			struct played played = play_text(&play, text);

			cr_expect_eq(played.result, KVT_PASSED, "%s on %s: %s", kvt_profile_at(i)->name, store,
				     played.report);
			count_ops(text, all, ok);
			for (unsigned code = 1; code <= kvms_op_max(); code++) {
				steps += all[code];
				oks += ok[code];
			}
			cr_expect_eq(steps, 500);
			cr_expect_gt(oks, 200, "%s on %s: %u", kvt_profile_at(i)->name, store, oks);
			played_free(&played);
			free(text);
		}
	cr_expect_null(kvt_profile_find("everything"));
	cr_expect_eq(kvt_profile_find("lists")->ops[0], 'l');
}

/* Each of them by some profile also with success. */
Test(gen, every_operation_is_drawn_and_is_ok)
{
	unsigned all[256] = { 0 }, ok[256] = { 0 };

	for (unsigned i = 0; kvt_profile_at(i) != NULL; i++) {
		char *text = generate(3, 12000, kvt_profile_at(i), "max_paddr=0x2000000 ncpu=2");

		count_ops(text, all, ok);
		free(text);
	}
	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		if (kvms_op_row(code) == NULL)
			continue;
		cr_expect_gt(all[code], 20, "%s: %u", kvms_op_row(code)->name, all[code]);
		cr_expect_gt(ok[code], 0, "%s", kvms_op_row(code)->name);
	}
}

/* ---- Comparison ------------------------------------------------------------------------------------- */

/* Replay a trace, then compare with a text; the report must be as expected. */
static void
expect_compared(const char *trace, bool leaves, const char *listing, const char *expected)
{
	struct play play = { 0 };
	struct kvt_replay r = { .arg = &play, .open = open_embedded };
	char error[256], *report;
	size_t size;
	struct kvt_input *in = kvt_input_memory("t.kvt", trace, strlen(trace), error, sizeof error);
	struct kvt_input *list = kvt_input_memory("list", listing, strlen(listing), error, sizeof error);
	struct kvt_compared_leaves l;
	struct kvt_compared c;
	bool readable;

	r.report = stderr;
	cr_assert_eq(kvt_replay(&r, in, "t.kvt"), KVT_PASSED);
	r.report = open_memstream(&report, &size);
	if (leaves)
		cr_expect_eq(kvt_compare_leaves(r.target, list, 0, 10, r.report, &l, &readable), KVT_DONE);
	else
		cr_expect_eq(kvt_compare_areas(r.target, list, 10, r.report, &c, &readable), KVT_DONE);
	fclose(r.report);
	cr_expect_str_eq(report, expected);
	free(report);
	kvt_target_close(&r.target);
	kvt_input_close(&in);
	kvt_input_close(&list);
}

static const char three_areas[] =
    "kvmtrace 1\n"
    "kvirt_reserve_at start=0xffffc00000000000 area_size=0x3000\n"
    "kvirt_reserve_at start=0xffffc00000003000 area_size=0x2000\n"
    "kvirt_reserve_at start=0xffffc00000600000 area_size=0x400000\n"
    "frame_from_unused paddr=0x1000 -> ok frame=1\n"
    "frame_from_unused paddr=0x70000000 -> ok frame=2\n"
    "kvirt_map_frames_into area=1 va=0xffffc00000000000 frames=[1,2] prop=rw:wb\n"
    "kvirt_map_untracked_into area=3 va=0xffffc00000600000 paddr_start=0x100000000 paddr_end=0x100200000 prop=rx:wb\n";

Test(compare, areas_agree_in_address_and_size)
{
	expect_compared(three_areas, false,
			"0xffffc00000000000-0xffffc00000003000   12288 a+0x1/0x2 vmap\n"
			"0xffffc00000003000-0xffffc00000005000    8192 b+0x1/0x2 vmalloc\n"
			"0xffffc00000600000-0xffffc00000a00000 4194304 c+0x1/0x2 ioremap\n"
			"0xffffc00000b00000-0xffffc00000c00000 1048576 unpurged vm_area\n",
			"areas 3 of 3\n  unpurged 1\n");
	expect_compared(three_areas, false,
			"0xffffc00000000000-0xffffc00000002000    8192 a\n"
			"0xffffc00000008000-0xffffc0000000a000    8192 b\n"
			"0xffffc00000600000-0xffffc00000a00000 4194304 c\n",
			"areas 1 of 3\n  differ 1, only listed 1, only in the store 1\n"
			"  area listed 0xffffc00000000000..0xffffc00000002000, in the store "
			"0xffffc00000000000..0xffffc00000003000\n"
			"  area in the store 0xffffc00000003000..0xffffc00000005000: not listed\n"
			"  area listed 0xffffc00000008000..0xffffc0000000a000: not in the store\n");
	expect_compared(three_areas, false, "\nhello\n",
			"list:2:1: expected \"0x\", found 'hello'\n");
}

Test(compare, leaves_agree_in_size_rights_and_known_frames)
{
	expect_compared(three_areas, true,
			"va,pa,size,entry,flags\n"
			"0x1000,0x5000,4096,0x0,rwxu---ad\n"
			"0xffffc00000600000,0x100000000,2097152,0x0,r-x----\n"
			"0xffffc00000000000,0x1000,4096,0x0,rw--g--ad\n"
			"0xffffc00000001000,0x999000,4096,0x0,rw--g--ad\n",
			"leaves 3 of 3\n  frames compared 2\n  global bit or cache differ 2\n");
	expect_compared(three_areas, true,
			"0xffffc00000000000,0x2000,4096,0x0,rw--\n"
			"0xffffc00000001000,0x999000,4096,0x0,r---\n"
			"0xffffc00000600000,0x100000000,4096,0x0,r-x-g---\n",
			"leaves 0 of 3\n  frames compared 2\n  differ 3, only listed 0, only in the store 0\n"
			"  leaf listed 0xffffc00000000000..0xffffc00000001000 -> 0x2000 rw-, in the store "
			"0xffffc00000000000..0xffffc00000001000 -> 0x1000 rw-\n"
			"  leaf listed 0xffffc00000001000..0xffffc00000002000 -> 0x999000 r--, in the store "
			"0xffffc00000001000..0xffffc00000002000 -> 0x70000000 rw-\n"
			"  leaf listed 0xffffc00000600000..0xffffc00000601000 -> 0x100000000 r-x, in the store "
			"0xffffc00000600000..0xffffc00000800000 -> 0x100000000 r-x\n");
	expect_compared(three_areas, true, "1,2,3\n", "list:1: not a leaf (va,pa,size,entry,flags)\n");
}
