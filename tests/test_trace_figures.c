/* Traces in figures: what is alive, statistics, coverage, policies, two traces side by side, exports. */
#include "trace/align.h"
#include "trace/bind.h"
#include "trace/coverage.h"
#include "trace/export.h"
#include "trace/gen.h"
#include "trace/lives.h"
#include "trace/policy.h"
#include "trace/replay.h"
#include "trace/stat.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Runs --------------------------------------------------------------------------- */

#define PAGE UINT64_C(0x1000)

typedef bool stepper(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out);

struct running {
	void *arg;
	bool (*begin)(void *arg, struct kvt_target *t);
	stepper *step;
	struct kvt_target *target;
};

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct running *run = arg;
	struct kvms *s = kvms_new(config, why);

	(void)base;
	if (s == NULL)
		return NULL;
	run->target = kvt_target_embedded(s, true);
	cr_assert(run->begin == NULL || run->begin(run->arg, run->target));
	return run->target;
}

static bool
on_step(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
	const struct kvms_outcome *out, uint64_t number)
{
	struct running *run = arg;

	(void)target, (void)number;
	return run->step(run->arg, line, op, out);
}

/* Run a trace; the target stays open until the caller closes run->target. */
static struct kvt_statistics
run_trace(struct running *run, const char *text, size_t size)
{
	struct kvt_replay r = { .arg = run, .open = open_store, .step = on_step, .untold = true, .report = stderr };
	char error[512];
	struct kvt_input *in = kvt_input_memory("t.kvt", text, size, error, sizeof error);
	enum kvt_result result = kvt_replay(&r, in, "t.kvt");

	cr_assert(result == KVT_PASSED, "the run ended with %d", (int)result);
	kvt_input_close(&in);
	return r.statistics;
}

/* A generated trace, which the caller frees. */
static char *
generated(const char *profile, uint64_t seed, uint64_t steps, const char *config, size_t *size)
{
	struct kvt_parser *p = kvt_parser_new("config");
	struct kvt_gen gen = { .profile = kvt_profile_find(profile), .seed = seed, .steps = steps };
	struct kvt_line line;
	char error[512], *text = NULL;
	FILE *out = open_memstream(&text, size);

	cr_assert(gen.profile != NULL && out != NULL && kvt_parse_store(p, config, strlen(config), &line));
	gen.config = &line.op;
	cr_assert_eq(kvt_gen(&gen, out, error, sizeof error), 0, "%s", error);
	fclose(out);
	kvt_parser_free(&p);
	return text;
}

/* ---- What is alive -------------------------------------------------------------------- */

struct living {
	struct kvt_lives *lives;
	struct kvt_target *target;
	struct kvt_step step;
	uint64_t count[KVMS_ID_KINDS]; /* born less ended */
	uint64_t seen[KVMS_ID_KINDS];
	uint64_t most;
};

static void
life_born(void *arg, const struct kvt_life *life)
{
	struct living *l = arg;

	cr_assert_not_null(kvt_lives_find(l->lives, life->kind, life->id));
	l->count[life->kind]++;
}

static void
life_ended(void *arg, const struct kvt_life *life)
{
	((struct living *)arg)->count[life->kind]--;
}

static void
life_seen(void *arg, const struct kvt_life *life)
{
	((struct living *)arg)->seen[life->kind]++;
}

static bool
lives_begin(void *arg, struct kvt_target *t)
{
	struct living *l = arg;

	l->target = t;
	l->lives = kvt_lives_new();
	return kvt_lives_begin(l->lives, t);
}

static bool
lives_step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct living *l = arg;
	const struct kvms_row *row = kvms_request_find("census");
	struct kvms_outcome census = { 0 };
	struct kvms_op ask;

	if (line->kind != KVT_OP)
		return true;
	kvt_step_read(&l->step, line, op, out);
	cr_assert(kvt_lives_step(l->lives, l->target, &l->step, life_born, life_ended, l));
	kvms_op_init(&ask, row);
	cr_assert_eq(l->target->inspect(l->target, &ask, &census), KVT_DONE);
	for (enum kvms_kind kind = KVMS_ID_FRAME; kind <= KVMS_ID_IOMEM; kind++) {
		char plural[32];

		snprintf(plural, sizeof plural, "%ss", kvt_kind_word(kind));
		cr_assert_eq(l->count[kind], census.field[kvms_result_index(row, plural)],
			     "line %" PRIu64 ", %s: %" PRIu64 " alive, the census has %" PRIu64, line->number, plural,
			     l->count[kind], census.field[kvms_result_index(row, plural)]);
		l->most = l->count[kind] > l->most ? l->count[kind] : l->most;
	}
	kvms_outcome_free(&census);
	return true;
}

static void
lives_agree(const char *profile, uint64_t seed)
{
	struct living l = { .most = 0 };
	struct running run = { .arg = &l, .begin = lives_begin, .step = lives_step };
	struct kvms_outcome areas = { 0 };
	struct kvms_op op;
	size_t size;
	char *text = generated(profile, seed, 3000, "ncpu=2", &size);

	run_trace(&run, text, size);
	cr_assert_gt(l.most, 3, "%s: hardly anything was alive", profile);
	cr_assert(kvt_lives_visit(l.lives, life_seen, &l));
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		cr_assert_eq(l.seen[kind], l.count[kind], "%s", profile);
	kvms_op_init(&op, kvms_request_find("areas"));
	cr_assert_eq(run.target->inspect(run.target, &op, &areas), KVT_DONE);
	for (uint64_t i = 0; i < areas.field[0]; i++) {
		const struct kvt_life *life = kvt_lives_find(l.lives, KVMS_ID_AREA, areas.list[3 * i]);

		cr_assert_not_null(life);
		cr_assert_eq(life->start, areas.list[3 * i + 1], "%s, area %" PRIu64, profile, life->id);
		cr_assert_eq(life->end, areas.list[3 * i + 2], "%s, area %" PRIu64, profile, life->id);
	}
	kvms_outcome_free(&areas);
	kvt_lives_free(&l.lives);
	kvt_target_close(&run.target);
	free(text);
}

Test(lives, agree_with_the_census_after_every_step)
{
	static const char *const profiles[] = {
		"all", "frames", "lists", "kernel", "spaces", "tlbs", "bytes", "devices"
	};

	for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
		lives_agree(profiles[i], 11 + i);
}

Test(lives, a_space_that_ends_on_its_last_cpu_takes_its_devices_with_it)
{
	static const char text[] = "kvmtrace 1\n"
				   "iomem_acquire start=0xfed00000 end=0xfed01000 -> ok iomem=1 area=1\n"
				   "vm_space_new -> ok vm_space=1\n"
				   "vm_space_activate vm_space=1\n"
				   "cursor_open_mut vm_space=1 start=0x1000 end=0x2000 -> ok cursor=1\n"
				   "cursor_map_iomem cursor=1 iomem=1 prop=rw:uc+user len=0x1000 -> ok pages=1\n"
				   "cursor_drop cursor=1\n"
				   "iomem_drop iomem=1\n"
				   "vm_space_drop vm_space=1 -> ok destroyed=false\n"
				   "vm_space_deactivate -> ok changed=true\n";
	struct living l = { .most = 0 };
	struct running run = { .arg = &l, .begin = lives_begin, .step = lives_step };

	cr_assert_eq(run_trace(&run, text, sizeof text - 1).divergences, 0);
	for (unsigned kind = 0; kind < KVMS_ID_KINDS; kind++)
		cr_assert_eq(l.count[kind], 0);
	kvt_lives_free(&l.lives);
	kvt_target_close(&run.target);
}

/* ---- Figures ----------------------------------------------------------------------------- */

static bool
stat_begin(void *arg, struct kvt_target *t)
{
	struct kvt_stat *s = arg;

	s->target = t;
	return kvt_stat_begin(s);
}

static bool
stat_step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	kvt_stat_step(arg, line, op, out);
	return true;
}

static const char areas_text[] =
    "kvmtrace 1\n"
    "frame_alloc @t=1000 @src=\"boot\" -> ok frame=1\n"
    "frame_alloc @t=1100 -> ok frame=2\n"
    "frame_alloc @t=1200 -> ok frame=3\n"
    "kvirt_map_frames area_size=0x3000 map_offset=0x1000 frames=[1,2] prop=rw:wb @t=2000 @src=\"a;b\" -> ok area=1\n"
    "kvirt_reserve area_size=0x10000 @t=3000 -> ok area=2\n"
    "kvirt_unreserve area=2 @t=5048 -> ok\n"
    "kvirt_unreserve area=2 @t=5050 -> pre unknown_area\n"
    "segment_alloc pages=5 @src=\"x\" -> ok segment=1\n"
    "kvirt_reserve area_size=0x1000 -> ok area=3\n"
    "kvirt_split area=1 offset=0x2000 -> ok left=4 right=5\n"
    "expect inv=ok\n";

static uint64_t
census(const uint64_t *fields, const char *name)
{
	return fields[kvms_result_index(kvms_request_find("census"), name)];
}

Test(stat, counts_operations_objects_sizes_and_lifetimes)
{
	struct kvt_stat s = { .every = 4 };
	struct running run = { .arg = &s, .begin = stat_begin, .step = stat_step };
	const struct kvms_row *row = kvms_op_find("kvirt_unreserve");

	cr_assert_eq(run_trace(&run, areas_text, sizeof areas_text - 1).divergences, 0);
	kvt_stat_end(&s, true);
	cr_assert(!s.failed);
	cr_assert_eq(kvt_coverage_sum(&s.ops).steps, 10);
	cr_assert_eq(kvt_coverage_cell(&s.ops, row->code, 0)->count, 1);
	cr_assert_eq(s.ops.requests[kvms_request_find("check")->code], 1);
	cr_assert_eq(s.samples_count, 2);
	cr_assert_eq(s.samples[0].step, 4);
	cr_assert_eq(s.samples[1].step, 8);
	cr_assert_eq(s.samples[1].t, 5050);
	cr_assert_eq(census(s.samples[0].census, "areas"), 1);
	cr_assert_eq(census(s.last.census, "areas"), 3);
	cr_assert_eq(census(s.last.census, "frame"), 8);
	cr_assert_eq(s.peak[kvms_result_index(kvms_request_find("census"), "areas")].value, 3);
	cr_assert_eq(s.peak[kvms_result_index(kvms_request_find("census"), "areas")].step, 10);
	/* the root, 256 below it, one more on each of the two levels below */
	cr_assert_eq(s.nodes[3], 1);
	cr_assert_eq(s.nodes[2], 256);
	cr_assert_eq(s.nodes[1], 1);
	cr_assert_eq(s.nodes[0], 1);
	/* 3, 16, 1, 2 and 1 pages */
	cr_assert_eq(s.sizes[0], 2);
	cr_assert_eq(s.sizes[1], 2);
	cr_assert_eq(s.sizes[4], 1);
	cr_assert_eq(s.areas_made, 5);
	cr_assert_eq(s.areas_ended, 2);
	cr_assert_eq(s.ages[0], 1, "one lived one step");
	cr_assert_eq(s.ages[2], 1, "one lived six");
	cr_assert_eq(s.times[11], 1, "one lived 2048 ns");
	/* the small area takes the lowest block that fits, which the large one had left behind it no more */
	cr_assert_eq(s.last.free_va.bytes, UINT64_C(0x200000000000) - 4 * PAGE);
	kvt_stat_free(&s);
	kvt_target_close(&run.target);
}

static const struct kvt_leak *
leak(const struct kvt_stat *s, enum kvms_kind kind, const char *src)
{
	for (size_t i = 0; i < s->leaks_count; i++)
		if (s->leaks[i].kind == kind &&
		    (src == NULL ? s->leaks[i].src == NULL
				 : s->leaks[i].src != NULL && strcmp(s->leaks[i].src, src) == 0))
			return &s->leaks[i];
	cr_assert_fail("no such leak");
	return NULL;
}

Test(stat, tells_who_holds_what_at_the_end)
{
	struct kvt_stat s = { .every = 0 };
	struct running run = { .arg = &s, .begin = stat_begin, .step = stat_step };

	run_trace(&run, areas_text, sizeof areas_text - 1);
	kvt_stat_end(&s, true);
	cr_assert_eq(s.leaks_count, 4);
	cr_assert_eq(s.leaks[0].kind, KVMS_ID_SEGMENT, "most frames first");
	cr_assert_eq(s.leaks[0].pages, 5);
	cr_assert_eq(leak(&s, KVMS_ID_AREA, "a;b")->count, 2, "both halves are whose the whole was");
	cr_assert_eq(leak(&s, KVMS_ID_AREA, "a;b")->pages, 2);
	cr_assert_eq(leak(&s, KVMS_ID_AREA, "a;b")->bytes, 3 * PAGE);
	cr_assert_eq(leak(&s, KVMS_ID_AREA, NULL)->pages, 0);
	cr_assert_eq(leak(&s, KVMS_ID_FRAME, NULL)->pages, 1, "frame 3; the two others are the area's by now");
	kvt_stat_free(&s);
	kvt_target_close(&run.target);
}

Test(stat, keeps_few_samples_of_a_long_trace)
{
	struct kvt_stat s = { .every = 0 };
	struct running run = { .arg = &s, .begin = stat_begin, .step = stat_step };
	size_t size;
	char *text = generated("kernel", 3, 5000, "", &size);

	run_trace(&run, text, size);
	kvt_stat_end(&s, false);
	cr_assert_lt(s.samples_count, KVT_SAMPLES);
	cr_assert_geq(s.samples_count, KVT_SAMPLES / 2 - 1);
	for (size_t i = 0; i < s.samples_count; i++)
		cr_assert_eq(s.samples[i].step, (i + 1) * s.samples[0].step);
	kvt_stat_free(&s);
	kvt_target_close(&run.target);
	free(text);
}

Test(stat, fragmentation_is_what_lies_outside_the_largest_block)
{
	struct kvt_free_va one = { 1, 4 * PAGE, 4 * PAGE }, three = { 3, 4 * PAGE, 2 * PAGE }, none = { 0, 0, 0 };

	cr_assert_eq(kvt_fragmentation(&one), 0);
	cr_assert_eq(kvt_fragmentation(&three), 500);
	cr_assert_eq(kvt_fragmentation(&none), 0);
}

/* ---- Coverage -------------------------------------------------------------------------------- */

struct covering {
	struct kvt_coverage coverage;
	struct kvms *store;
};

static bool
coverage_begin(void *arg, struct kvt_target *t)
{
	struct covering *c = arg;
	uint64_t laws[KVT_LAW_WORDS];

	c->store = kvt_target_store(t);
	kvms_laws_judged(c->store, laws);
	return kvt_coverage_init(&c->coverage);
}

static bool
coverage_step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	struct covering *c = arg;
	uint64_t laws[KVT_LAW_WORDS];

	kvms_laws_judged(c->store, laws);
	if (line->kind == KVT_EXPECT)
		kvt_coverage_expect(&c->coverage, op, laws);
	else
		kvt_coverage_step(&c->coverage, op, out, laws);
	return true;
}

static unsigned
law(const char *name)
{
	for (unsigned i = 0; i < kvms_law_max(); i++)
		if (strcmp(kvms_law_name(i), name) == 0)
			return i;
	cr_assert_fail("no law %s", name);
	return 0;
}

Test(coverage, knows_cells_and_the_laws_that_steps_put_to_the_test)
{
	static const char text[] = "kvmtrace 1\n"
				   "frame_alloc\n"
				   "frame_drop frame=1\n"
				   "frame_drop frame=1\n"
				   "list_new\n";
	struct covering c = { .store = NULL };
	struct running run = { .arg = &c, .begin = coverage_begin, .step = coverage_step };
	const struct kvms_row *drop = kvms_op_find("frame_drop");
	struct kvt_covered sum;
	uint64_t laws[KVT_LAW_WORDS];

	run_trace(&run, text, sizeof text - 1);
	sum = kvt_coverage_sum(&c.coverage);
	cr_assert_eq(sum.ops_reached, 3);
	cr_assert_eq(sum.ok_reached, 3);
	cr_assert_eq(sum.cells_reached, 4, "frame_drop ended in two ways");
	cr_assert_gt(sum.cells, 500);
	cr_assert_eq(sum.laws, kvms_law_max());
	cr_assert_eq(sum.requests_reached, 0);
	kvt_coverage_laws(&c.coverage, drop->code, laws);
	cr_assert(kvt_law_in(laws, law("acct.rc_exact")));
	cr_assert(!kvt_law_in(laws, law("area.range")), "no area was touched");
	cr_assert(!kvt_law_in(laws, law("list.size")), "no list was touched by this one");
	kvt_coverage_laws(&c.coverage, kvms_op_find("list_new")->code, laws);
	cr_assert(kvt_law_in(laws, law("list.size")));
	cr_assert_eq(sum.laws_checked, sum.laws_tested, "no full check ran");
	kvt_coverage_free(&c.coverage);
	kvt_target_close(&run.target);
}

Test(coverage, a_full_check_evaluates_every_law_that_has_something_to_look_at)
{
	static const char text[] = "kvmtrace 1\nframe_alloc\nexpect inv=ok\n";
	struct covering c = { .store = NULL };
	struct running run = { .arg = &c, .begin = coverage_begin, .step = coverage_step };
	struct kvt_covered sum;

	run_trace(&run, text, sizeof text - 1);
	sum = kvt_coverage_sum(&c.coverage);
	cr_assert_gt(sum.laws_checked, sum.laws_tested);
	cr_assert(kvt_law_in(c.coverage.checked, law("self.digest")));
	cr_assert(!kvt_law_in(c.coverage.checked, law("cursor.va")), "there is no cursor");
	kvt_coverage_free(&c.coverage);
	kvt_target_close(&run.target);
}

/* ---- Policies ---------------------------------------------------------------------------------- */

/*
 * Free blocks of 4, 2 and 8 pages, the last allocation behind the first: where
 * does each policy put one of 2 pages?
 *
 *   page    0   4   6   8  10       18 19
 *           [free ] used free used [free ] used
 */
static const struct {
	enum kvt_policy_kind kind;
	uint64_t page;
} choices[] = {
	{ KVT_FIRST_FIT_TOP, 2 }, { KVT_FIRST_FIT_BOTTOM, 0 }, { KVT_BEST_FIT, 6 }, { KVT_BEST_FIT_TOP, 6 },
	{ KVT_WORST_FIT, 10 },    { KVT_NEXT_FIT, 6 },         { KVT_HIGHEST, 16 },
};

Test(policy, each_chooses_as_it_says)
{
	for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
		struct kvt_policy *p = kvt_policy_new(choices[i].kind, PAGE << 20, (PAGE << 20) + 19 * PAGE);
		uint64_t base = PAGE << 20;

		cr_assert_not_null(p);
		cr_assert(kvt_policy_alloc(p, 2, base + 8 * PAGE, 2 * PAGE, true));
		cr_assert(kvt_policy_alloc(p, 3, base + 18 * PAGE, PAGE, true));
		cr_assert(kvt_policy_alloc(p, 1, base + 4 * PAGE, 2 * PAGE, true));
		cr_assert_eq(kvt_policy_now(p).free_va.blocks, 3);
		cr_assert(kvt_policy_alloc(p, 4, base + choices[i].page * PAGE, 2 * PAGE, false));
		cr_assert_eq(kvt_policy_figures(p)->moved, 0, "%s", kvt_policy_name(choices[i].kind));
		cr_assert_eq(kvt_policy_figures(p)->allocated, 4);
		cr_assert_eq(kvt_policy_now(p).free_va.bytes, 12 * PAGE);
		/* too large for any block, and a fixed place that is taken */
		cr_assert(kvt_policy_alloc(p, 5, base, 9 * PAGE, false));
		cr_assert(kvt_policy_alloc(p, 6, base + 5 * PAGE, PAGE, true));
		cr_assert_eq(kvt_policy_figures(p)->failed, 2);
		kvt_policy_refused(p, PAGE);
		kvt_policy_refused(p, 9 * PAGE);
		cr_assert_eq(kvt_policy_figures(p)->rescued, 1);
		/* what ends comes together again, whatever the order */
		cr_assert(kvt_policy_split(p, 1, 7, 8, PAGE));
		for (uint64_t area = 1; area <= 8; area++)
			cr_assert(kvt_policy_end(p, area));
		cr_assert_eq(kvt_policy_now(p).free_va.blocks, 1);
		cr_assert_eq(kvt_policy_now(p).free_va.largest, 19 * PAGE);
		cr_assert_eq(kvt_policy_now(p).span, 0);
		kvt_policy_free(&p);
	}
}

Test(policy, a_scan_looks_at_every_block_in_front_of_the_one_it_takes)
{
	struct kvt_policy *p = kvt_policy_new(KVT_FIRST_FIT_TOP, PAGE << 20, (PAGE << 20) + 100 * PAGE);
	const struct kvt_policy_figures *f = kvt_policy_figures(p);

	/* 20 holes of a page, then the rest */
	for (uint64_t i = 0; i < 20; i++)
		cr_assert(kvt_policy_alloc(p, i + 1, (PAGE << 20) + (2 * i + 1) * PAGE, PAGE, true));
	cr_assert(kvt_policy_alloc(p, 99, 0, 2 * PAGE, false));
	cr_assert_eq(f->scanned, 21);
	cr_assert_lt(f->looked, 16, "a tree of 21 nodes needs not so many");
	cr_assert(kvt_policy_alloc(p, 100, 0, PAGE, false));
	cr_assert_eq(f->scanned, 22);
	kvt_policy_free(&p);
}

static bool
policies_begin(void *arg, struct kvt_target *t)
{
	struct kvt_policies *p = arg;

	p->target = t;
	return kvt_policies_begin(p);
}

static bool
policies_step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	kvt_policies_step(arg, line, op, out);
	return true;
}

/* In a range so small that allocations fail, upstream's policy gives the very addresses the model gave. */
Test(policy, first_fit_top_agrees_with_the_model_in_every_address)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct kvt_policies p = { .fixed = true };
		struct running run = { .arg = &p, .begin = policies_begin, .step = policies_step };
		const struct kvt_policy_figures *f;
		struct kvt_policy_now now;
		struct kvt_free_va model;
		struct kvms_outcome answer = { 0 };
		size_t size;
		char *text = generated("kernel", seed, 4000, "vmalloc=0xffffc00000000000..0xffffc00000400000", &size);

		for (unsigned i = 0; i < KVT_POLICIES; i++)
			p.kind[p.count++] = (enum kvt_policy_kind)i;
		run_trace(&run, text, size);
		cr_assert(!p.failed);
		f = kvt_policy_figures(p.policy[KVT_FIRST_FIT_TOP]);
		cr_assert_eq(f->moved, 0);
		cr_assert_eq(f->failed, 0);
		cr_assert_eq(f->rescued, 0);
		cr_assert_eq(f->allocated, p.asked);
		cr_assert_gt(p.asked, 100);
		cr_assert_gt(p.refused, 0);
		cr_assert(kvt_free_va_ask(run.target, &answer, &model));
		now = kvt_policy_now(p.policy[KVT_FIRST_FIT_TOP]);
		cr_assert_eq(now.free_va.blocks, model.blocks);
		cr_assert_eq(now.free_va.bytes, model.bytes);
		cr_assert_eq(now.free_va.largest, model.largest);
		for (unsigned i = 1; i < KVT_POLICIES; i++)
			cr_assert_gt(kvt_policy_figures(p.policy[i])->moved, 0, "%s is another policy",
				     kvt_policy_name((enum kvt_policy_kind)i));
		kvms_outcome_free(&answer);
		kvt_policies_free(&p);
		kvt_target_close(&run.target);
		free(text);
	}
}

/* ---- Two traces side by side ------------------------------------------------------------------------ */

struct comparison {
	struct kvt_align align;
	enum kvt_result result;
	char log[4096]; /* one word for each difference */
	char *report;
	bool same_state;
};

static struct kvt_target *
open_side(void *arg, unsigned side, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *s = kvms_new(config, why);

	(void)arg;
	(void)side;
	(void)base;
	return s != NULL ? kvt_target_embedded(s, true) : NULL;
}

static bool
on_difference(void *arg, const struct kvt_difference *d)
{
	struct comparison *c = arg;
	size_t at = strlen(c->log);

	if (d->kind == KVT_CONFIG)
		snprintf(c->log + at, sizeof c->log - at, "store:%s ", d->row->args[d->field].name);
	else if (d->kind == KVT_ONLY)
		snprintf(c->log + at, sizeof c->log - at, "%c%s:%" PRIu64 " ", d->has[0] ? '-' : '+', d->row->name,
			 d->side[d->has[1]].line);
	else
		snprintf(c->log + at, sizeof c->log - at, "%s%s:%" PRIu64 ":%" PRIu64 ":%" PRIx64 ":%d:%" PRIx64 " ",
			 d->kind == KVT_CHANGED ? "~" : "", d->row->name, d->side[0].line, d->side[1].line, d->args,
			 d->outcomes, d->results);
	return true;
}

static struct comparison
compare(const char *first, const char *second)
{
	struct comparison c = { .result = KVT_PASSED };
	char error[512];
	size_t size;
	struct kvt_input *in[2] = { kvt_input_memory("a", first, strlen(first), error, sizeof error),
				    kvt_input_memory("b", second, strlen(second), error, sizeof error) };
	uint64_t digest[2] = { 0, 1 };

	c.align = (struct kvt_align){ .arg = &c, .open = open_side, .differs = on_difference };
	c.align.report = open_memstream(&c.report, &size);
	c.result = kvt_align(&c.align, in[0], in[1]);
	fclose(c.align.report);
	for (unsigned i = 0; i < 2; i++) {
		if (c.align.target[i] != NULL)
			c.align.target[i]->digest(c.align.target[i], &digest[i]);
		kvt_target_close(&c.align.target[i]);
		kvt_input_close(&in[i]);
	}
	c.same_state = digest[0] == digest[1];
	return c;
}

#define HEAD "kvmtrace 1\n"

Test(align, a_trace_is_the_same_as_itself)
{
	size_t size;
	char *text = generated("all", 5, 2000, "ncpu=2", &size);
	struct comparison c = compare(text, text);

	cr_assert_eq(c.result, KVT_PASSED, "%s%s", c.log, c.report);
	cr_assert(c.same_state);
	cr_assert_eq(c.align.counts.same, 2000);
	free(c.report);
	free(text);
}

Test(align, ids_are_the_same_if_they_stand_for_the_same)
{
	/* the second has one handle more, so that its ids are others, and its own numbers for them in the file */
	struct comparison c =
	    compare(HEAD "frame_alloc -> ok frame=1\nframe_clone frame=1 -> ok frame=2\n"
			 "frame_drop frame=1\nframe_drop frame=2\n",
		    HEAD "frame_alloc -> ok frame=70\nframe_clone frame=70 -> ok frame=71\n"
			 "frame_clone frame=71 -> ok frame=72\nframe_drop frame=70\nframe_drop frame=72\n"
			 "frame_drop frame=71\n");

	cr_assert_eq(c.result, KVT_DIVERGED);
	/* the drop of the clone is another drop: the last reference, or not */
	cr_assert_eq(c.align.counts.only[0], 0);
	cr_assert_eq(c.align.counts.only[1], 2, "%s", c.log);
	cr_assert_eq(c.align.counts.changed, 0, "%s", c.log);
	cr_assert_not_null(strstr(c.log, "+frame_clone:4"));
	cr_assert_not_null(strstr(c.log, "+frame_drop:6"));
	free(c.report);
}

Test(align, one_operation_more_is_one_difference)
{
	struct kvt_buffer a = { 0 }, b = { 0 };
	struct comparison c;

	kvt_puts(&a, HEAD);
	kvt_puts(&b, HEAD);
	for (uint64_t i = 0; i < 3000; i++) {
		/* the 100th is missing in the second, all its ids are one less from there on */
		uint64_t id = i + 1 - (i > 100);

		kvt_putf(&a,
			 "frame_from_unused paddr=0x%" PRIx64 " -> ok frame=%" PRIu64 "\nframe_clone frame=%" PRIu64
			 "\n",
			 i * PAGE, 2 * i + 1, 2 * i + 1);
		if (i != 100)
			kvt_putf(&b,
				 "frame_from_unused paddr=0x%" PRIx64 " -> ok frame=%" PRIu64
				 "\nframe_clone frame=%" PRIu64 "\n",
				 i * PAGE, 2 * id - 1, 2 * id - 1);
	}
	c = compare(kvt_buffer_text(&a), kvt_buffer_text(&b));
	cr_assert_eq(c.result, KVT_DIVERGED);
	cr_assert_eq(c.align.counts.same, 2 * 2999, "%s", c.log);
	cr_assert_str_eq(c.log, "-frame_from_unused:202 -frame_clone:203 ");
	kvt_buffer_free(&a);
	kvt_buffer_free(&b);
	free(c.report);
}

Test(align, partners_that_are_gone_are_forgotten_and_the_others_are_not)
{
	struct kvt_buffer a = { 0 }, b = { 0 };
	struct comparison c;

	/* all ids of the second are one more */
	kvt_puts(&a, HEAD "frame_from_unused paddr=0x1000\n");
	kvt_puts(&b, HEAD "frame_from_unused paddr=0x2000\nframe_from_unused paddr=0x1000\n");
	for (uint64_t i = 0; i < 5000; i++) {
		kvt_putf(&a, "frame_from_unused paddr=0x3000\nframe_drop frame=%" PRIu64 "\n", i + 2);
		kvt_putf(&b, "frame_from_unused paddr=0x3000\nframe_drop frame=%" PRIu64 "\n", i + 3);
	}
	kvt_puts(&a, "frame_drop frame=1\n");
	kvt_puts(&b, "frame_drop frame=2\n");
	c = compare(kvt_buffer_text(&a), kvt_buffer_text(&b));
	cr_assert_eq(c.result, KVT_DIVERGED);
	cr_assert_str_eq(c.log, "+frame_from_unused:2 ");
	cr_assert_eq(c.align.counts.same, 10002);
	kvt_buffer_free(&a);
	kvt_buffer_free(&b);
	free(c.report);
}

Test(align, other_arguments_and_other_outcomes_are_told_field_by_field)
{
	struct comparison c = compare(HEAD "frame_alloc\nkvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb\n"
					   "kvirt_peek area=1 va=0xffffdfffffffe000\nframe_alloc\n",
				      HEAD "frame_alloc\nkvirt_map_frames area_size=0x2000 frames=[1] prop=r:wb\n"
					   "kvirt_peek area=1 va=0xffffdfffffffe000\nframe_alloc\n");
	int prop = kvms_result_index(kvms_op_find("kvirt_peek"), "prop");
	char want[128];

	cr_assert_eq(c.result, KVT_DIVERGED);
	snprintf(want, sizeof want, "~kvirt_map_frames:3:3:8:0:0 kvirt_peek:4:4:0:1:%x ", 1u << prop);
	cr_assert_str_eq(c.log, want);
	free(c.report);
}

Test(align, stores_that_are_configured_otherwise_are_a_difference)
{
	struct comparison c = compare(HEAD "store max_paddr=0x400000\nframe_alloc\n", HEAD "frame_alloc\n");

	cr_assert_eq(c.result, KVT_DIVERGED);
	cr_assert_str_eq(c.log, "store:max_paddr ");
	free(c.report);
}

Test(align, a_mistake_in_either_trace_is_told_with_its_place)
{
	struct comparison c = compare(HEAD "frame_alloc\n", HEAD "frame_alloc\nframe_drop\n");

	cr_assert_eq(c.result, KVT_SYNTAX);
	cr_assert_str_eq(c.report, "b:3:11: expected argument frame, found end of line\n");
	free(c.report);
	c = compare("", HEAD);
	cr_assert_eq(c.result, KVT_SYNTAX);
	cr_assert_str_eq(c.report, "a:1:1: expected 'kvmtrace 1', found end of file\n");
	free(c.report);
}

Test(align, traces_with_nothing_in_common_come_to_their_ends)
{
	struct kvt_buffer a = { 0 }, b = { 0 };
	struct comparison c;

	kvt_puts(&a, HEAD);
	kvt_puts(&b, HEAD);
	for (unsigned i = 0; i < 1200; i++) {
		kvt_puts(&a, "frame_alloc\n");
		kvt_puts(&b, "list_new\n");
	}
	c = compare(kvt_buffer_text(&a), kvt_buffer_text(&b));
	cr_assert_eq(c.result, KVT_DIVERGED);
	cr_assert_eq(c.align.counts.only[0], 1200);
	cr_assert_eq(c.align.counts.only[1], 1200);
	kvt_buffer_free(&a);
	kvt_buffer_free(&b);
	free(c.report);
}

/* ---- Exports --------------------------------------------------------------------------------------- */

static bool
export_begin(void *arg, struct kvt_target *t)
{
	struct kvt_export *e = arg;

	e->target = t;
	return kvt_export_begin(e);
}

static bool
export_step(void *arg, const struct kvt_line *line, const struct kvms_op *op, const struct kvms_outcome *out)
{
	return kvt_export_step(arg, line, op, out);
}

static char *
exported(enum kvt_export_form form, const char *text, uint64_t from, uint64_t to)
{
	struct kvt_export e = { .form = form, .source = "t.kvt", .from = from, .to = to };
	struct running run = { .arg = &e, .begin = export_begin, .step = export_step };
	char *out = NULL;
	size_t size;

	e.out = open_memstream(&out, &size);
	run_trace(&run, text, strlen(text));
	kvt_export_end(&e);
	cr_assert(!e.failed);
	fclose(e.out);
	kvt_export_free(&e);
	kvt_target_close(&run.target);
	return out;
}

static unsigned
count(const char *text, const char *word)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, word)) != NULL; p += strlen(word))
		n++;
	return n;
}

Test(export, every_slice_that_begins_ends)
{
	char *all = exported(KVT_CHROME, areas_text, 1, UINT64_MAX), *part = exported(KVT_CHROME, areas_text, 6, 8);

	cr_assert_eq(count(all, "{\"ph\":\"b\""), 6, "five areas, a segment");
	cr_assert_eq(count(all, "{\"ph\":\"e\""), 6);
	cr_assert_eq(count(all, "{\"ph\":\"i\""), 10);
	/* areas 1 and 2 are there already, one ends, a segment is born */
	cr_assert_eq(count(part, "{\"ph\":\"b\""), 3);
	cr_assert_eq(count(part, "{\"ph\":\"e\""), 3);
	cr_assert_eq(count(part, "\"alive\":true"), 2);
	cr_assert_eq(count(part, "{\"ph\":\"i\""), 3);
	cr_assert_not_null(strstr(all, "\"ts\":2.000,\"cat\":\"area\",\"id\":\"area 1\""), "@t is in nanoseconds");
	free(all);
	free(part);
}

Test(export, a_history_is_shown_by_connection_and_time_of_day)
{
	static const char text[] =
	    HEAD "frame_alloc @step=1 @connection=7 @time=\"2024-05-17T09:30:00.000000Z\" -> ok frame=1\n"
		 "frame_drop frame=1 @step=2 @connection=9 @time=\"2024-05-17T09:30:01.500000Z\" -> ok last=true\n"
		 "frame_alloc @time=\"2024-05-17\" @t=x -> ok frame=2\n";
	char *all = exported(KVT_CHROME, text, 1, UINT64_MAX);

	cr_assert_not_null(strstr(all, "{\"ph\":\"i\",\"pid\":2,\"tid\":1007,\"s\":\"t\",\"ts\":0.000,"));
	cr_assert_not_null(strstr(all, "{\"ph\":\"i\",\"pid\":2,\"tid\":1009,\"s\":\"t\",\"ts\":1500000.000,"));
	cr_assert_not_null(strstr(all, "{\"ph\":\"i\",\"pid\":1,\"tid\":1,\"s\":\"t\",\"ts\":1500000.001,"));
	cr_assert_not_null(strstr(all, "\"name\":\"connection 9\""));
	free(all);
}

Test(export, what_says_when_it_was_over_has_a_duration)
{
	static const char text[] = HEAD "frame_alloc @t=1500 @cpu=1 -> ok frame=1 @t=2750\n";
	char *all = exported(KVT_CHROME, text, 1, UINT64_MAX);

	cr_assert_not_null(strstr(all, "{\"ph\":\"X\",\"pid\":1,\"tid\":2,\"dur\":1.250,\"ts\":1.500,"));
	free(all);
}

Test(export, states_for_a_model_checker_are_one_more_than_steps)
{
	char *all = exported(KVT_ITF, areas_text, 1, UINT64_MAX), *part = exported(KVT_ITF, areas_text, 6, 7);

	cr_assert_eq(count(all, "{\"#meta\":{\"index\":"), 11);
	cr_assert_eq(count(part, "{\"#meta\":{\"index\":"), 3);
	cr_assert_not_null(strstr(part, "{\"#meta\":{\"index\":0},\"step\":{\"#bigint\":\"5\"},\"op\":\"\""));
	cr_assert_not_null(
	    strstr(part, "\"op\":\"kvirt_unreserve\",\"args\":{\"#map\":[[\"area\",\"2\"]]},\"outcome\":\"ok\""));
	cr_assert_not_null(strstr(part, "\"outcome\":\"pre unknown_area\""));
	free(all);
	free(part);
}

Test(export, a_table_quotes_what_needs_it)
{
	static const char text[] = HEAD "frame_alloc @src=\"a, \\\"b\\\"\" @cpu=3 @t=7 -> ok frame=1\n"
					"frame_drop frame=2\n";
	char *csv = exported(KVT_CSV, text, 1, UINT64_MAX);

	cr_assert_eq(count(csv, "\r\n"), 3, "a head and two records");
	cr_assert_not_null(strstr(csv, "\r\n1,2,7,3,\"a, \"\"b\"\"\",frame_alloc,ok,,1,"));
	cr_assert_not_null(strstr(csv, "\r\n2,3,,0,,frame_drop,pre,unknown_frame,2,"));
	free(csv);
}
