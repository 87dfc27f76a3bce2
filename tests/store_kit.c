#include "tests/store_kit.h"

#include <stdio.h>

#include "trace/text.h"

#define RING 8u

/* ---- Texts ------------------------------------------------------------------ */

static struct kvt_buffer *
ring(void)
{
	static struct kvt_buffer buffers[RING];
	static unsigned next;
	struct kvt_buffer *b = &buffers[next++ % RING];

	kvt_buffer_reset(b);
	return b;
}

static const char *
format_text(const char *format, va_list args)
{
	static char *texts[RING];
	static unsigned next;
	char **at = &texts[next++ % RING];
	va_list again;

	va_copy(again, args);
	int size = vsnprintf(NULL, 0, format, again);
	va_end(again);
	free(*at);
	*at = malloc((size_t)size + 1);
	cr_assert_not_null(*at);
	vsnprintf(*at, (size_t)size + 1, format, args);
	return *at;
}

#define FORMAT(text, format)                                                                                           \
	do {                                                                                                           \
		va_list args_;                                                                                         \
		va_start(args_, format);                                                                               \
		text = format_text(format, args_);                                                                     \
		va_end(args_);                                                                                         \
	} while (0)

static struct kvt_parser *
parser(void)
{
	static struct kvt_parser *p;

	if (p == NULL)
		p = kvt_parser_new("text");
	cr_assert_not_null(p);
	return p;
}

/* ---- Stores ------------------------------------------------------------------- */

static struct kvms *
store_make(int line, const char *keys, struct kvms_refusal *why)
{
	struct kvt_line parsed;

	cr_assert(kvt_parse_store(parser(), keys, strlen(keys), &parsed), "line %d: %s", line, kvt_parser_error(parser()));
	memset(why, 0, sizeof *why);
	return kvms_new(&parsed.op, why);
}

struct kvms *
kit_new_at(int line, const char *format, ...)
{
	struct kvms_refusal why;
	const char *keys;

	FORMAT(keys, format);
	struct kvms *s = store_make(line, keys, &why);
	cr_assert_not_null(s, "line %d: store %s: %s", line, keys, why.text);
	return s;
}

const char *
kit_refusal_at(int line, const char *format, ...)
{
	struct kvt_buffer *b = ring();
	struct kvms_refusal why;
	const char *keys;

	FORMAT(keys, format);
	struct kvms *s = store_make(line, keys, &why);
	if (s == NULL)
		kvt_putf(b, "%s: %s", why.key >= 0 ? kvms_store_row()->args[why.key].name : "-", why.text);
	kvms_free(&s);
	return kvt_buffer_text(b);
}

/* ---- Steps and questions -------------------------------------------------------- */

/* Words of all lists of an operation. */
static size_t
list_words(const struct kvms_op *op, const struct kvms_row *row)
{
	uint64_t words = 0, count;

	for (unsigned i = 0; i < row->args_count; i++) {
		if (!kvms_type_is_list(row->args[i].type))
			continue;
		(void)kvms_op_list(op, row, i, &count);
		words += row->args[i].type == KVMS_BYTES ? (count + 7) / 8 : count * kvms_type_arity(row->args[i].type);
	}
	return (size_t)words;
}

static struct kvms_op
op_parse(int line, const char *text)
{
	static uint64_t *lists[RING];
	static unsigned next;
	uint64_t **at = &lists[next++ % RING];
	struct kvt_line parsed;

	cr_assert(kvt_parse_op(parser(), text, strlen(text), &parsed) && parsed.kind == KVT_OP, "line %d: %s: %s", line, text,
		  kvt_parser_error(parser()));
	size_t words = list_words(&parsed.op, parsed.row);

	free(*at);
	*at = malloc((words + 1) * sizeof **at);
	cr_assert_not_null(*at);
	if (words > 0)
		memcpy(*at, parsed.op.list, words * sizeof **at);
	parsed.op.list = *at;
	return parsed.op;
}

struct kvms_op
kit_op_at(int line, const char *format, ...)
{
	const char *text;

	FORMAT(text, format);
	return op_parse(line, text);
}

static enum kvms_status
apply(int line, struct kvms *s, const char *text, struct kvms_outcome *out, const struct kvms_row **row)
{
	struct kvms_op op = op_parse(line, text);

	*row = kvms_op_row(op.code);
	return kvms_apply(s, &op, out);
}

/* The outcome of the latest step; its payload is kept from call to call. */
static struct kvms_outcome latest;

static const char *
step(int line, struct kvms *s, const char *text, const struct kvms_row **row)
{
	struct kvt_buffer *b = ring();
	enum kvms_status status = apply(line, s, text, &latest, row);

	cr_assert_eq(status, KVMS_DONE, "line %d: %s: status %d, %s", line, text, status,
		     status == KVMS_BROKEN ? kit_fired(kvms_broken(s)) : "");
	kvt_print_outcome(b, *row, &latest);
	return kvt_buffer_text(b);
}

const char *
kit_step_at(int line, struct kvms *s, const char *format, ...)
{
	const struct kvms_row *row;
	const char *text;

	FORMAT(text, format);
	return step(line, s, text, &row);
}

void
kit_want_at(int line, struct kvms *s, const char *want, const char *format, ...)
{
	const struct kvms_row *row;
	const char *text, *have;

	FORMAT(text, format);
	have = step(line, s, text, &row);
	cr_assert_str_eq(have, want, "line %d: %s\n  have %s\n  want %s", line, text, have, want);
}

uint64_t
kit_ok_at(int line, struct kvms *s, const char *field, const char *format, ...)
{
	const struct kvms_row *row;
	const char *text, *have;
	int index;

	FORMAT(text, format);
	have = step(line, s, text, &row);
	cr_assert_eq(latest.name, O_ok, "line %d: %s -> %s", line, text, have);
	if (field == NULL)
		return 0;
	index = kvms_result_index(row, field);
	cr_assert(index >= 0 && (latest.present >> index & 1) != 0, "line %d: %s -> %s: no %s", line, text, have, field);
	return latest.field[index];
}

enum kvms_status
kit_status_at(int line, struct kvms *s, const char *format, ...)
{
	const struct kvms_row *row;
	const char *text;

	FORMAT(text, format);
	return apply(line, s, text, &latest, &row);
}

static const char *
ask(int line, struct kvms *s, const char *text)
{
	static struct kvms_outcome out;
	struct kvt_buffer *b = ring();
	struct kvt_line parsed;

	cr_assert(kvt_parse_request(parser(), text, strlen(text), &parsed), "line %d: %s", line, kvt_parser_error(parser()));
	cr_assert_eq(kvms_inspect(s, &parsed.op, &out), KVMS_DONE, "line %d: %s", line, text);
	kvt_print_outcome(b, parsed.row, &out);
	return kvt_buffer_text(b);
}

const char *
kit_ask_at(int line, struct kvms *s, const char *format, ...)
{
	const char *text;

	FORMAT(text, format);
	return ask(line, s, text);
}

void
kit_see_at(int line, struct kvms *s, const char *want, const char *format, ...)
{
	const char *text, *have;

	FORMAT(text, format);
	have = ask(line, s, text);
	cr_assert_str_eq(have, want, "line %d: %s\n  have %s\n  want %s", line, text, have, want);
}

const char *
kit_outcome(unsigned name)
{
	return name == O_ok ? "ok" : kvms_outcome_name(name);
}

/* ---- The whole of a store --------------------------------------------------------- */

/* Order counts: what was seen first may not change places with what came later. */
static void
stir(uint64_t *sum, const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		*sum = digest_mix((const uint64_t[]){ *sum, words[i] }, 2);
}

static bool
stir_element(void *arg, const uint64_t *words, unsigned count)
{
	stir(arg, words, count);
	return true;
}

static bool
stir_run(void *arg, const struct kvms_extent *run)
{
	stir(arg, (const uint64_t[]){ run->table, run->va, run->paddr, run->leaves, run->level, run->prop, run->tracked }, 7);
	return true;
}

/* Requests about the whole store, that is without an argument that has no default. */
static void
stir_requests(struct kvms *s, uint64_t *sum)
{
	static struct kvms_outcome out;
	struct kvms_op request;

	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		const struct kvms_row *row = kvms_request_row(code);
		bool whole = row != NULL && code != REQ_check; /* too slow to be asked often */

		for (unsigned i = 0; whole && i < row->args_count; i++)
			whole = row->args[i].has_default;
		if (!whole)
			continue;
		kvms_op_init(&request, row);
		cr_assert_eq(kvms_inspect(s, &request, &out), KVMS_DONE);
		stir(sum, out.field, row->results_count);
		stir(sum, out.list, out.list_count);
	}
}

/* What is known of a slot beyond its element: users, mappings, place. */
static void
stir_slots(struct kvms *s, uint64_t *sum)
{
	for (uint64_t i = bitmap_next(&s->used, 0); i != BITMAP_NONE; i = bitmap_next(&s->used, i + 1)) {
		const struct slot *sl = &s->slot[i];

		stir(sum, (const uint64_t[]){ i, sl->handles, sl->mappings, sl->covers, sl->kept, sl->unique, sl->listed }, 7);
		size_t count = rmap_list(s, i);
		uint64_t set = 0; /* the order of a frame's mappings has no meaning */
		for (size_t k = 0; k < count; k++)
			set += digest_mix(s->scratch + 2 * k, 2);
		stir(sum, &set, 1);
	}
}

uint64_t
kit_visible(struct kvms *s)
{
	uint64_t sum = kvms_digest(s);

	kvms_visit(s, stir_element, &sum);
	kvms_extents(s, 0, stir_run, &sum);
	stir_requests(s, &sum);
	stir_slots(s, &sum);
	return sum;
}

void
kit_sound_at(int line, struct kvms *s)
{
	struct kvms_findings findings;

	if (kvms_check_all(s, &findings))
		return;
	cr_assert(findings.count > 0, "line %d: no memory for the check", line);
	cr_assert(false, "line %d: %s: object 0x%" PRIx64 " want 0x%" PRIx64 " have 0x%" PRIx64, line, kit_fired(&findings),
		  findings.at[0].object, findings.at[0].want, findings.at[0].have);
}

const char *
kit_fired(const struct kvms_findings *findings)
{
	struct kvt_buffer *b = ring();

	if (findings->total == 0)
		return kvt_buffer_text(b);
	for (unsigned law = 0; kvms_law_name(law) != NULL; law++)
		if ((findings->fired[law / 64] >> law % 64 & 1) != 0)
			kvt_putf(b, "%s%s", b->size > 0 ? " " : "", kvms_law_name(law));
	return kvt_buffer_text(b);
}

struct elements {
	uint64_t count, sum;
};

static bool
count_element(void *arg, const uint64_t *words, unsigned count)
{
	struct elements *e = arg;

	e->count++;
	e->sum += digest_mix(words, count);
	return true;
}

uint64_t
kit_elements(struct kvms *s, uint64_t *sum)
{
	struct elements e = { 0, 0 };

	cr_assert(kvms_visit(s, count_element, &e));
	if (sum != NULL)
		*sum = e.sum;
	return e.count;
}

/* ---- Numbers ------------------------------------------------------------------------ */

uint64_t
kit_draw(struct kit_random *r)
{
	uint64_t x = r->state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

uint64_t
kit_below(struct kit_random *r, uint64_t below)
{
	return kit_draw(r) % below;
}

bool
kit_sanitized(void)
{
#ifdef __SANITIZE_ADDRESS__
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#else
	return false;
#endif
#else
	return false;
#endif
}

uint64_t
kit_scaled(uint64_t count)
{
	const char *text = getenv("KVMS_TEST_SCALE");
	uint64_t percent = text != NULL ? strtoull(text, NULL, 10) : kit_sanitized() ? 10 : 100;
	uint64_t scaled = count / 100 * percent + count % 100 * percent / 100;

	return scaled > 0 ? scaled : 1;
}
