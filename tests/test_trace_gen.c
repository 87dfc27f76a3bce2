/*
 * Generated traces: the same on every machine, about what the profile says,
 * of every client, and in the end of everything.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/gen.h"
#include "trace/replay.h"
#include "trace/text.h"
#include "trace/workload.h"
#include "tests/store_kit.h"

/* A configuration, kept as long as its parser. */
struct config {
	struct kvt_parser *parser;
	struct kvt_line line;
};

static void
config_make(struct config *c, const char *keys)
{
	c->parser = kvt_parser_new("config");
	cr_assert(kvt_parse_store(c->parser, keys, strlen(keys), &c->line));
}

static char *
generate(struct kvt_gen *gen, const char *keys)
{
	struct config c;
	char *text, error[200] = "";
	size_t size;
	FILE *out = open_memstream(&text, &size);

	config_make(&c, keys);
	gen->config = &c.line.op;
	cr_assert_eq(kvt_gen(gen, out, error, sizeof error), 0, "%s", error);
	fclose(out);
	kvt_parser_free(&c.parser);
	return text;
}

static unsigned
count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		n++;
	return n;
}

Test(workload, every_line_of_every_plan_makes_an_operation)
{
	struct kvms *s = kit_new("ncpu=2");

	cr_expect_null(kvt_workload_wrong(s), "%s", kvt_workload_wrong(s));
	kvms_free(&s);
}

Test(workload, each_does_mostly_what_goes_well_and_what_it_is_about)
{
	static const struct {
		const char *name, *about;
	} profiles[] = { { "stacks", "map_offset=0x2000 frames=[" },
			 { "drivers", "iomem_acquire" },
			 { "dma", "kvirt_split" },
			 { "huge", "kvirt_protect_range" },
			 { "fork", "cursor_protect_next" },
			 { "faults", "cursor_unmap" },
			 { "munmap", "len=0x200000" } };

	for (size_t i = 0; i < KIT_COUNT(profiles); i++) {
		struct kvt_gen gen = { .seed = 5, .steps = 1000, .profile = kvt_profile_find(profiles[i].name) };
		char *text;

		cr_assert_not_null(gen.profile);
		cr_assert(kvt_workload_exists(profiles[i].name));
		text = generate(&gen, "ncpu=2");
		cr_expect_gt(count(text, " -> ok"), 700, "%s: %u of 1000 are ok", profiles[i].name,
			     count(text, " -> ok"));
		cr_expect_gt(count(text, profiles[i].about), 5, "%s: %u of \"%s\"", profiles[i].name,
			     count(text, profiles[i].about), profiles[i].about);
		free(text);
	}
}

Test(clients, wait_for_each_other_and_say_who_they_are)
{
	struct kvt_gen gen = { .seed = 3, .steps = 1500, .profile = kvt_profile_find("munmap"), .options.clients = 3 };
	char *text = generate(&gen, "ncpu=3"), *again = generate(&gen, "ncpu=3");

	cr_expect_str_eq(text, again);
	cr_expect_gt(count(text, "block cursor_locked"), 5);
	for (unsigned client = 1; client <= 3; client++) {
		char annotation[32];

		snprintf(annotation, sizeof annotation, " @client=%u ", client);
		cr_expect_gt(count(text, annotation), 200);
		snprintf(annotation, sizeof annotation, " @cpu=%u ", client - 1);
		cr_expect_gt(count(text, annotation), 100);
	}
	free(text);
	free(again);
}

Test(options, no_operation_is_refused_more_often_than_wanted)
{
	struct kvt_gen few = { .seed = 3, .steps = 800, .options = { .has_illegal = true, .illegal = 0 } };
	struct kvt_gen many = { .seed = 3, .steps = 800, .options = { .has_illegal = true, .illegal = 90 } };
	char *ok = generate(&few, ""), *refused = generate(&many, "");

	cr_expect_gt(count(ok, " -> ok"), 680, "%u", count(ok, " -> ok"));
	cr_expect_lt(count(refused, " -> ok"), 240, "%u", count(refused, " -> ok"));
	free(ok);
	free(refused);
}

struct missed {
	unsigned count, of_ok;
};

static void
miss(void *arg, const struct kvms_row *row, unsigned name)
{
	struct missed *m = arg;

	(void)row;
	m->count++;
	m->of_ok += name == 0;
}

/* Areas that I/O memory holds cannot be dropped, however many there are: something else has to go first. */
Test(options, a_long_trace_stays_as_mixed_as_a_short_one)
{
	struct kvt_gen gen = { .profile = kvt_profile_find("all"), .seed = 5, .steps = kit_sanitized() ? 3000 : 68000 };
	char *text = generate(&gen, ""), *tail = text + strlen(text);

	for (unsigned lines = 0; lines < 1000 && tail > text; tail--)
		lines += tail[-1] == '\n';
	cr_assert_gt(count(tail, "-> ok"), 500);
	free(text);
}

Test(coverage, nearly_every_outcome_comes_and_the_others_are_named)
{
	struct missed m = { 0 };
	struct kvt_gen gen = { .seed = 2,
			       .steps = kit_scaled(25000),
			       .options.cover = true,
			       .until_covered = true,
			       .digest_every = UINT64_MAX,
			       .missing = miss,
			       .arg = &m };
	char *text = generate(&gen, "rc_max=3 ncpu=3 max_paddr=0x400000");

	fprintf(stderr, "%u of %u outcomes in %" PRIu64 " operations\n", gen.cells - gen.cells_missing, gen.cells,
		gen.made);
	cr_expect_eq(m.count, gen.cells_missing);
	cr_expect_gt(gen.cells, 500);
	if (gen.steps >= 25000) {
		cr_expect_lt(gen.cells_missing, gen.cells / 12);
		cr_expect_leq(m.of_ok, 1, "%u operations never were ok", m.of_ok);
	}
	free(text);
}
