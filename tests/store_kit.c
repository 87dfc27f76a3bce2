#include "tests/store_kit.h"

#include <limits.h>
#include <stdio.h>

#include "store/pagetable.h"
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

	cr_assert(kvt_parse_store(parser(), keys, strlen(keys), &parsed), "line %d: %s", line,
		  kvt_parser_error(parser()));
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

	cr_assert(kvt_parse_op(parser(), text, strlen(text), &parsed) && parsed.kind == KVT_OP, "line %d: %s: %s", line,
		  text, kvt_parser_error(parser()));
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
	cr_assert(index >= 0 && (latest.present >> index & 1) != 0, "line %d: %s -> %s: no %s", line, text, have,
		  field);
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

	cr_assert(kvt_parse_request(parser(), text, strlen(text), &parsed), "line %d: %s", line,
		  kvt_parser_error(parser()));
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

/* Outcomes as the tables write them: AccessDenied has several. */
const char *
kit_outcome_symbol(unsigned name)
{
	static const char *const symbols[O_COUNT] = {
		[O_ok] = "ok",
#define KVMS_OUTCOME(class_, symbol_, name_, cause_, detail_, meaning_) [O_##symbol_] = #symbol_,
#include "store/outcomes.def"
#undef KVMS_OUTCOME
	};

	return symbols[name];
}

const char *
kit_outcome(unsigned name)
{
	return name == O_ok ? "ok" : kvms_outcome_name(name);
}

/* ---- The whole of a store --------------------------------------------------------- */

enum { TAG_IO_ENTRY = 11, TAG_TLB_ENTRY = 21 };

struct visited {
	uint64_t sum, unordered;
};

/* Order counts: what was seen first may not change places with what came later. */
static void
stir(uint64_t *sum, const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		*sum = digest_mix((const uint64_t[]){ *sum, words[i] }, 2);
}

/* I/O entries and TLB entries are visited as they came: not a fact about the state. */
static bool
stir_element(void *arg, const uint64_t *words, unsigned count)
{
	struct visited *e = arg;

	if (words[0] == TAG_IO_ENTRY || words[0] == TAG_TLB_ENTRY)
		e->unordered += digest_mix(words, count);
	else
		stir(&e->sum, words, count);
	return true;
}

static bool
stir_run(void *arg, const struct kvms_extent *run)
{
	stir(arg,
	     (const uint64_t[]){ run->table, run->va, run->paddr, run->leaves, run->level, run->prop, run->tracked },
	     7);
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

		stir(sum,
		     (const uint64_t[]){ i, sl->handles, sl->mappings, sl->covers, sl->kept, sl->unique, sl->listed },
		     7);
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
	struct visited e = { kvms_digest(s), 0 };

	kvms_visit(s, stir_element, &e);
	uint64_t sum = e.sum + e.unordered;
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
	cr_assert(false, "line %d: %s: object 0x%" PRIx64 " want 0x%" PRIx64 " have 0x%" PRIx64, line,
		  kit_fired(&findings), findings.at[0].object, findings.at[0].want, findings.at[0].have);
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

/* ---- What came of operations ---------------------------------------------------------- */

bool
kit_listed(const struct kvms_row *row, unsigned name)
{
	unsigned each;

	for (unsigned k = 0; (each = kvms_row_outcome(row, k)) != UINT_MAX; k++)
		if (each == name)
			return true;
	return false;
}

const char *
kit_unreachable(const struct kvms_row *row, unsigned name)
{
	/* docs/gaps.md, section 16 */
	if (name == O_list_ids_exhausted && strncmp(row->name, "list_", 5) == 0)
		return "2^63 lists would have to be made";
	return NULL;
}

/* One cell as a word or two; long lines go on in the next one. */
static void
print_cell(unsigned *column, const char *name, uint64_t count, const char *mark)
{
	char text[128];
	int size = snprintf(text, sizeof text, "  %s%s", mark, name);

	if (count > 0)
		size += snprintf(text + size, sizeof text - (size_t)size, " %" PRIu64, count);
	if (*column + (unsigned)size > 118) {
		fprintf(stderr, "\n%-32s", "");
		*column = 32;
	}
	fputs(text, stderr);
	*column += (unsigned)size;
}

unsigned
kit_table_print(const struct kit_table *table)
{
	unsigned never = 0;

	for (unsigned code = 1; code <= kvms_op_max(); code++) {
		const struct kvms_row *row = kvms_op_row(code);
		unsigned column = 32;

		if (row == NULL)
			continue;
		fprintf(stderr, "%-32s", row->name);
		for (unsigned name = 0; name < O_COUNT; name++) {
			uint64_t count = table->count[code][name];
			bool missing = count == 0 && kit_listed(row, name) && kit_unreachable(row, name) == NULL;

			if (count > 0 || kit_listed(row, name))
				print_cell(&column, kit_outcome_symbol(name), count,
					   missing ? "NEVER " : count == 0 ? "(gaps) " : "");
			never += missing;
		}
		fputc('\n', stderr);
	}
	return never;
}

/* ---- Random operations ---------------------------------------------------------------- */

const struct kit_world kit_worlds[] = {
	/* next to no memory, next to no addresses */
	{ "max_paddr=0x200000 ncpu=2 vmalloc=0xffffc00000000000..0xffffc00000040000", UINT64_C(0xffffa00000000000) },
	/* counts saturate at once */
	{ "max_paddr=0x280000 rc_max=3 ncpu=3 "
	  "vmalloc=[0xffffc00000000000..0xffffc00000040000,0xffffc00000041000..0xffffc00000061000] "
	  "reserve=[0x4000..0x6000] mmio=[0x8000..0x9000]",
	  UINT64_C(0xffffc00000080000) },
	/* room for pages of 2 MiB */
	{ "max_paddr=0x400000 ncpu=2 "
	  "vmalloc=[0xffffc00000000000..0xffffc00002000000,0xffffe00000100000..0xffffe00000400000]",
	  UINT64_C(0xffffe00000400000) },
	/* tables are cut where nodes of every level meet */
	{ "max_paddr=0x800000 rc_max=5 ncpu=3 "
	  "vmalloc=[0xffffbfffffe00000..0xffffc00000200000,0xffffff7fffc00000..0xffffff8000100000]",
	  UINT64_C(0xfffffeffffe00000) },
	/* many addresses, so that tables eat the little memory there is */
	{ "max_paddr=0x240000 ncpu=2 vmalloc=0xffffc00000000000..0xffffc00100000000", UINT64_C(0xffffc00100000000) },
	/* the end of the kernel's half */
	{ "max_paddr=0x200000 vmalloc=0xffffffffffc00000..0xffffffffffff0000", UINT64_C(0xffffffffffa00000) },
	/* the other architectures */
	{ "arch=riscv64_sv39 max_paddr=0x400000 ncpu=2 vmalloc=0xffffffe000000000..0xffffffe002000000",
	  UINT64_C(0xffffffe002000000) },
	{ "arch=riscv64_sv48 max_paddr=0x400000 rc_max=4 ncpu=3 vmalloc=0xffffc00000000000..0xffffc00002000000",
	  UINT64_C(0xffffc00002000000) },
	{ "arch=loongarch64 max_paddr=0x400000 ncpu=2 vmalloc=0xffffc00000000000..0xffffc00000100000",
	  UINT64_C(0xffffc00000100000) },
	{ "arch=x86_64_la57 max_paddr=0x400000 ncpu=2 vmalloc=0xff80000000000000..0xff80000000800000",
	  UINT64_C(0xff80000000800000) },
};

const unsigned kit_worlds_count = KIT_COUNT(kit_worlds);

/* What the addresses of an op are about. */
enum space { PHYSICAL, IN_AREA, IN_VMALLOC, AT_BOOT, IN_USER, ANYWHERE };

static bool
chance(struct kit_walk *w, unsigned percent)
{
	return kit_below(&w->r, 100) < percent;
}

static bool
begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Can the op do something with this object? */
static bool
fits(const struct kit_walk *w, enum kvms_kind kind, uint64_t id)
{
	const char *op = w->row->name;

	if (kind == KVMS_ID_FRAME && begins(op, "cursor_"))
		return w->s->slot[FRAME(w->s, id)->paddr / PAGE].kind == KIND_UNTYPED;
	if (kind == KVMS_ID_UNIQUE && begins(op, "list_"))
		return w->s->slot[UNIQUE(w->s, id)->paddr / PAGE].kind == KIND_LINK;
	if (kind == KVMS_ID_LIST)
		return LIST(w->s, id)->checked_out == (begins(op, "list_cursor_") && strstr(op, "_mut") == NULL);
	if (kind == KVMS_ID_AREA)
		return AREA(w->s, id)->refs == 0 && AREA(w->s, id)->start < AREA(w->s, id)->end;
	if (kind == KVMS_ID_CURSOR)
		return CURSOR(w->s, id)->mutable && CURSOR(w->s, id)->va < CURSOR(w->s, id)->end;
	return true;
}

/* A live id, mostly one that fits, now and then any number. */
static uint64_t
draw_id(struct kit_walk *w, enum kvms_kind kind)
{
	uint64_t next = w->s->live.next_id[kind], id;

	if (chance(w, 3))
		return chance(w, 50) ? kit_below(&w->r, next + 3) : kit_draw(&w->r);
	for (unsigned tries = 0; tries < 4; tries++) {
		id = record_next(w->s, kind, 1 + kit_below(&w->r, next));
		id = id != 0 ? id : record_next(w->s, kind, 1);
		if (id == 0 || fits(w, kind, id))
			break;
	}
	return id;
}

/* Bytes of some pages: mostly few, sometimes a multiple of 2 MiB, rarely absurd. */
static uint64_t
draw_size(struct kit_walk *w)
{
	switch (kit_below(&w->r, 20)) {
	case 0:
		return kit_draw(&w->r);
	case 1:
		return kit_draw(&w->r) & ~UINT64_C(0xfff);
	case 2:
	case 3:
	case 4:
		return w->size = kit_below(&w->r, 4) * 0x200000;
	case 5:
		return kit_below(&w->r, 0x8000);
	case 6:
	case 7:
	case 8:
	case 9:
		return w->size;
	default:
		return w->size = kit_below(&w->r, 9) * PAGE;
	}
}

static uint64_t
draw_paddr(struct kit_walk *w)
{
	uint64_t page = kit_below(&w->r, w->s->slots_count) * PAGE;

	switch (kit_below(&w->r, 20)) {
	case 0:
		return page + kit_below(&w->r, PAGE);
	case 1:
		return w->s->max_paddr + kit_below(&w->r, 4) * PAGE;
	case 2:
		return kit_draw(&w->r);
	default:
		return chance(w, 50) ? kit_below(&w->r, 24) * PAGE : page;
	}
}

/* Physical ranges for untracked leaves: some fit pages of 2 MiB. */
static uint64_t
draw_untracked(struct kit_walk *w)
{
	switch (kit_below(&w->r, 16)) {
	case 0:
		return kit_draw(&w->r);
	case 1:
		return UINT64_C(0xffffffffff000) - kit_below(&w->r, 3) * PAGE;
	case 2:
		return kit_below(&w->r, 0x10000);
	default:
		return UINT64_C(0x40000000) +
		       (chance(w, 60) ? kit_below(&w->r, 8) * 0x200000 : kit_below(&w->r, 600) * PAGE);
	}
}

static uint64_t
draw_va(struct kit_walk *w)
{
	const struct area *area = w->area != 0 ? AREA(w->s, w->area) : NULL;
	const struct kvms_range *range = &w->s->vmalloc[kit_below(&w->r, w->s->vmalloc_count)];
	uint64_t low = range->start, high = range->end;

	if (chance(w, 2))
		return kit_draw(&w->r);
	if (w->space == IN_AREA && area != NULL && !chance(w, 3)) {
		low = area->start;
		high = area->end;
	} else if (w->space == AT_BOOT && !chance(w, 3)) {
		low = w->world->boot;
		high = low + (w->huge ? UINT64_C(0x2000000) : UINT64_C(0x600000));
	}
	uint64_t pages = (high - low) / PAGE + 1;
	uint64_t va = low + kit_below(&w->r, pages < 1200 ? pages : 1200) * PAGE;

	if (chance(w, w->space == IN_AREA ? 10 : 30)) /* anywhere, where large pages begin */
		va = (low + kit_below(&w->r, pages) * PAGE) & ~UINT64_C(0x1fffff);
	return chance(w, 2) ? va + kit_below(&w->r, PAGE) : va;
}

/* The address of a frame that somebody has, or any. */
static uint64_t
draw_data(struct kit_walk *w)
{
	uint64_t id = record_next(w->s, KVMS_ID_FRAME, 1 + kit_below(&w->r, w->s->live.next_id[KVMS_ID_FRAME]));

	return id != 0 && chance(w, 70) ? FRAME(w->s, id)->paddr : draw_paddr(w);
}

/* Pages that cursors, readers and CPUs share: in two tables of level 1, and where they meet. */
static uint64_t
draw_user(struct kit_walk *w)
{
	static const uint64_t bases[] = { 0, 0x1f8000, 0x40000000 };
	uint64_t va = bases[kit_below(&w->r, KIT_COUNT(bases))];

	va += kit_below(&w->r, 16) * PAGE;
	if (chance(w, 2))
		return chance(w, 50) ? kit_draw(&w->r) : w->s->paging.user_last + 1 - kit_below(&w->r, 3) * PAGE;
	return va;
}

/* An address at which a table has a leaf, if that has any from "va" on. */
static uint64_t
mapped(struct kit_walk *w, uint64_t table, uint64_t va)
{
	uint64_t end = table == KERNEL_TABLE ? KERNEL_END_VADDR : w->s->paging.user_last + 1, found;

	return va < end && leaf_in_range(w->s, table, va, end, &found) ? found : va;
}

/* What the space of the current CPU maps, or any address of the user half. */
static uint64_t
draw_user_leaf(struct kit_walk *w)
{
	uint64_t active = CPU(w->s, w->s->live.current_cpu)->active, va = draw_user(w);

	return active != 0 && chance(w, 70) ? mapped(w, active, chance(w, 50) ? va : 0) : va;
}

static uint64_t
draw_address(struct kit_walk *w, bool is_end)
{
	uint64_t at;

	if (is_end && w->space == IN_AREA && chance(w, 50))
		return w->anchor + PAGE;
	if (is_end && !chance(w, 5))
		return w->anchor + draw_size(w);
	at = w->space == PHYSICAL ? draw_paddr(w) : draw_va(w);
	w->anchor = at;
	return at;
}

static uint64_t
draw_prop(struct kit_walk *w)
{
	uint64_t cache = chance(w, 4) ? 2 : chance(w, 70) ? 4 : kit_below(&w->r, 5);
	uint64_t most = chance(w, 60) ? KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_USER : 0;

	if (chance(w, w->huge ? 30 : 4)) /* what some architectures cannot say of a large page */
		return cache << KVMS_PROP_CACHE_SHIFT;
	return (kit_draw(&w->r) & 0x39f) | most | cache << KVMS_PROP_CACHE_SHIFT;
}

static uint64_t
draw_word(struct kit_walk *w, enum kvms_type type)
{
	uint64_t value = 0;
	unsigned count = 0;

	while (kvms_word_at(type, count, &value) != NULL)
		count++;
	(void)kvms_word_at(type, (unsigned)kit_below(&w->r, count), &value);
	return value;
}

/* A reader that stands where a writer does, 0 if there is none. */
static uint64_t
twin(const struct kit_walk *w, const struct vm_io *writer)
{
	for (uint64_t id = record_next(w->s, KVMS_ID_READER, 1); id != 0;
	     id = record_next(w->s, KVMS_ID_READER, id + 1)) {
		const struct vm_io *reader = READER(w->s, id);

		if (reader->space == writer->space && reader->va == writer->va && reader->fallible && writer->fallible)
			return id;
	}
	return 0;
}

static bool
writable(const struct kit_walk *w, const struct vm_io *io)
{
	struct translation t = translate(w->s, io->space, io->va);

	return t.found && (t.leaf.prop & KVMS_PROP_W) != 0 && io->va % 4 == 0;
}

/* A writer over kernel memory that could have a twin, NULL if there is none. */
static const struct vm_io *
kernel_writer(const struct kit_walk *w)
{
	for (uint64_t id = record_next(w->s, KVMS_ID_WRITER, 1); id != 0;
	     id = record_next(w->s, KVMS_ID_WRITER, id + 1))
		if (WRITER(w->s, id)->space == 0 && WRITER(w->s, id)->fallible)
			return WRITER(w->s, id);
	return NULL;
}

/* A writer with which a reader stands at the same place, if there is one. */
static uint64_t
draw_twin_writer(struct kit_walk *w)
{
	for (uint64_t id = record_next(w->s, KVMS_ID_WRITER, 1); id != 0;
	     id = record_next(w->s, KVMS_ID_WRITER, id + 1))
		if (twin(w, WRITER(w->s, id)) != 0 && (writable(w, WRITER(w->s, id)) || chance(w, 40)) &&
		    chance(w, 80)) {
			w->first = WRITER(w->s, id);
			return id;
		}
	return draw_id(w, KVMS_ID_WRITER);
}

/* Bytes from a handle's place on: mostly few and even. */
static uint64_t
draw_bytes(struct kit_walk *w)
{
	switch (kit_below(&w->r, 16)) {
	case 0:
		return kit_draw(&w->r);
	case 1:
		return kit_below(&w->r, 0x11000);
	case 2:
	case 3:
		return kit_below(&w->r, 4) * PAGE;
	case 4:
		return kit_below(&w->r, 64);
	default:
		return kit_below(&w->r, 40) * 8;
	}
}

/* Numbers that are about a cursor. */
static uint64_t
draw_of_cursor(struct kit_walk *w, const char *arg)
{
	const struct cursor_record *c = w->first;
	uint64_t pages = (c->end - c->start) / PAGE, left = (c->end - c->va) / PAGE;

	if (chance(w, 4))
		return kit_draw(&w->r);
	if (strcmp(arg, "len") == 0)
		return kit_below(&w->r, (left < 16 ? left : 16) + 2) * PAGE;
	return c->start + kit_below(&w->r, (pages < 64 ? pages : 64) + 1) * PAGE;
}

/* Arguments of the ops on lists, spaces, cursors, readers, writers and I/O memory.  False: none of them. */
static bool
draw_special(struct kit_walk *w, const struct kvms_field *arg, uint64_t *value)
{
	const char *op = w->row->name, *name = arg->name;
	bool is_start = strcmp(name, "start") == 0, is_end = strcmp(name, "end") == 0, is_va = strcmp(name, "va") == 0;

	if (begins(op, "writer_atomic") && arg->kind == KVMS_ID_WRITER) {
		*value = draw_twin_writer(w);
	} else if (begins(op, "writer_atomic") && arg->kind == KVMS_ID_READER && w->first != NULL &&
		   twin(w, w->first) != 0) {
		*value = twin(w, w->first);
	} else if (strcmp(op, "boot_reserve") == 0 && is_start) {
		uint64_t unused = bitmap_next_zero(&w->s->used, kit_below(&w->r, w->s->slots_count));

		*value = w->anchor = chance(w, 90) && unused != BITMAP_NONE ? unused * PAGE : draw_paddr(w);
	} else if (strcmp(op, "boot_reserve") == 0 && is_end) {
		*value = w->anchor + (chance(w, 90) ? PAGE : kit_below(&w->r, 3) * PAGE);
		*value += chance(w, 5) ? 8 : 0;
	} else if (begins(op, "unique_") && strcmp(name, "kind") == 0 && chance(w, 60)) {
		*value = KIND_LINK;
	} else if (arg->type == KVMS_CPU) {
		*value = chance(w, 96) ? kit_below(&w->r, w->s->ncpu) : kit_below(&w->r, 70);
	} else if (strcmp(name, "width") == 0) {
		*value = chance(w, 90) ? UINT64_C(1) << kit_below(&w->r, 4) : kit_below(&w->r, 20);
	} else if (strcmp(name, "index") == 0) {
		*value = chance(w, 50) ? 0 : kit_below(&w->r, 5);
	} else if (strcmp(name, "pages") == 0) {
		*value = chance(w, 3) ? kit_draw(&w->r) : kit_below(&w->r, 6);
		if (strcmp(op, "segment_alloc") == 0 && chance(w, 10)) /* much of what there is */
			*value = w->s->live.totals.unused / (1 + kit_below(&w->r, 8));
	} else if (strcmp(op, "segment_slice") == 0 && (is_start || is_end)) {
		*value = kit_below(&w->r, 6) * PAGE;
		*value += chance(w, 4) ? 8 : 0;
	} else if (strcmp(op, "iomem_slice") == 0 && (is_start || is_end)) {
		*value = w->anchor += kit_below(&w->r, 0x1000);
	} else if (strcmp(op, "iomem_acquire") == 0 && is_start) {
		/* now and then where a large page begins */
		*value = UINT64_C(0x80000000) +
			 (chance(w, 15) ? kit_below(&w->r, 512) * 0x200000 : kit_below(&w->r, 0x40000) * PAGE);
		*value += chance(w, 20) ? kit_below(&w->r, PAGE) : 0;
		*value = w->anchor = chance(w, 3) ? kit_draw(&w->r) : *value;
	} else if (strcmp(op, "iomem_acquire") == 0 && is_end) {
		*value = w->anchor + (w->anchor % 0x200000 == 0 ? 0x400000 + kit_below(&w->r, 3) * PAGE
				      : chance(w, 10)   ? draw_size(w)
				      : chance(w, 80) ? (1 + kit_below(&w->r, 4)) * PAGE
						      : kit_below(&w->r, 0x3000));
	} else if ((begins(op, "list_") || strcmp(op, "cursor_find_iomem_by_paddr") == 0) &&
		   strcmp(name, "paddr") == 0) {
		uint64_t id = record_next(w->s, KVMS_ID_IOMEM, 1);
		const struct list *l = w->first;

		if (begins(op, "cursor_"))
			*value = id != 0 ? IOMEM(w->s, id)->paddr : 0;
		else
			*value = l == NULL || l->first == 0 || chance(w, 20) ? draw_paddr(w) : (l->first - 1) * PAGE;
	} else if (begins(op, "cursor_open") || begins(op, "flush_issue")) {
		if (is_start)
			*value = draw_user(w);
		else if (is_end)
			*value = w->anchor + kit_below(&w->r, chance(w, 90) ? 9 : 0x400) * PAGE;
		else
			return false;
		*value += chance(w, 2) ? 8 : 0;
		w->anchor = *value;
	} else if (begins(op, "cursor_") && w->first != NULL && (is_va || (strcmp(name, "len") == 0))) {
		*value = draw_of_cursor(w, name);
	} else if (strcmp(op, "cursor_map_iomem") == 0 && strcmp(name, "offset") == 0) {
		*value = chance(w, 70) ? 0 : kit_below(&w->r, 4) * PAGE;
		*value += chance(w, 2) ? 8 : 0;
	} else if (w->space == IN_USER && is_va) {
		*value = draw_user_leaf(w);
		*value += chance(w, 30) ? kit_below(&w->r, PAGE) : kit_below(&w->r, 8) * 8;
	} else if (w->space == ANYWHERE && is_va) {
		bool user = strstr(op, "kernel") == NULL && chance(w, 60);
		uint64_t into = kit_below(&w->r, 8) * 8;

		if (user)
			*value = draw_user_leaf(w) + into;
		else if (strstr(op, "kernel") != NULL && chance(w, 80))
			*value = w->s->linear_base + draw_data(w) + into;
		else
			*value = chance(w, 70) ? mapped(w, KERNEL_TABLE, w->s->vmalloc[0].start) : draw_va(w);
	} else if (strcmp(op, "reader_new_kernel") == 0 && is_va && kernel_writer(w) != NULL && chance(w, 30)) {
		*value = kernel_writer(w)->va;
	} else if (strstr(op, "_new_kernel") != NULL && strcmp(name, "len") == 0 && chance(w, 10)) {
		*value = chance(w, 50) ? 0x10001 : 0x1000001; /* more than goes into an answer, more than may move */
	} else if ((begins(op, "reader_") || begins(op, "writer_") || begins(op, "iomem_") || begins(op, "segment_")) &&
		   (strcmp(name, "len") == 0 || strcmp(name, "max") == 0 ||
		    (strcmp(name, "offset") == 0 && strcmp(op, "segment_split") != 0))) {
		*value = draw_bytes(w);
	} else {
		return false;
	}
	return true;
}

/* Kernel ranges of whole pages of 2 MiB, sometimes with one of 4 KiB more.  False: not such an argument. */
static bool
draw_huge(struct kit_walk *w, const char *name, uint64_t *value)
{
	uint64_t pages = 1 + kit_below(&w->r, 2);
	uint64_t more = chance(w, 25) ? PAGE : 0;

	if (w->space != IN_VMALLOC && w->space != IN_AREA && w->space != AT_BOOT)
		return false;
	if (strcmp(name, "start") == 0 || strcmp(name, "va") == 0)
		*value = w->anchor = (draw_va(w) & ~UINT64_C(0x1fffff)) + (pages == 1 ? more : 0);
	else if (strcmp(name, "paddr_start") == 0)
		*value = w->anchor = UINT64_C(0x40000000) + kit_below(&w->r, 8) * 0x200000;
	else if (strcmp(name, "end") == 0 || strcmp(name, "paddr_end") == 0)
		*value = w->anchor + pages * 0x200000 + more;
	else if (strcmp(name, "area_size") == 0)
		*value = (pages + 1) * 0x200000 + more;
	else if (strcmp(name, "map_offset") == 0)
		*value = more;
	else
		return false;
	return true;
}

/* A value for one argument, by its name where a name has a meaning of its own, else by its type. */
static uint64_t
draw_argument(struct kit_walk *w, const struct kvms_field *arg)
{
	uint64_t ignored, value;

	if (draw_special(w, arg, &value) || (w->huge && draw_huge(w, arg->name, &value)))
		return value;
	if (arg->type == KVMS_ID) {
		uint64_t id = draw_id(w, arg->kind);
		const struct cpu *here = CPU(w->s, w->s->live.current_cpu);

		if (arg->kind == KVMS_ID_VM_SPACE && w->space == IN_USER && chance(w, 80))
			id = here->active;
		if (w->first == NULL)
			w->first = record_at(w->s, arg->kind, id);
		if (arg->kind == KVMS_ID_AREA && AREA(w->s, id) != NULL)
			w->area = id;
		return id;
	}
	if (arg->type == KVMS_IDS) {
		uint64_t count = kit_below(&w->r, 6);

		for (uint64_t i = 0; i < count; i++, w->words++)
			w->list[w->words] = i > 0 && chance(w, 3) ? w->list[w->words - 1] : draw_id(w, arg->kind);
		return count;
	}
	if (arg->type == KVMS_BYTES) {
		uint64_t count = chance(w, 1) ? 0x10000 + kit_below(&w->r, 2) : kit_below(&w->r, 65);

		for (uint64_t i = 0; i < (count + 7) / 8; i++)
			w->list[w->words++] = i < count / 8 ? kit_draw(&w->r) : kit_draw(&w->r) >> (64 - count % 8 * 8);
		return count;
	}
	if (strcmp(arg->name, "paddr") == 0 && strstr(w->row->name, "_from_unused") != NULL && chance(w, 40)) {
		uint64_t unused = bitmap_next_zero(&w->s->used, kit_below(&w->r, w->s->slots_count));

		return unused != BITMAP_NONE ? unused * PAGE : 0;
	}
	if (strcmp(arg->name, "paddr") == 0)
		return draw_paddr(w);
	if (strcmp(arg->name, "paddr_start") == 0)
		return w->anchor = draw_untracked(w);
	if (strcmp(arg->name, "paddr_end") == 0)
		return chance(w, 50) ? w->anchor + PAGE : chance(w, 95) ? w->anchor + draw_size(w) : draw_untracked(w);
	if (strcmp(arg->name, "start") == 0 || strcmp(arg->name, "va") == 0)
		return draw_address(w, false);
	if (strcmp(arg->name, "end") == 0)
		return draw_address(w, true);
	if (w->row->code == OP_kvirt_split && w->area != 0 && chance(w, 60))
		return kit_below(&w->r, (AREA(w->s, w->area)->end - AREA(w->s, w->area)->start) / PAGE + 1) * PAGE;
	if (strcmp(arg->name, "map_offset") == 0)
		return chance(w, 60) ? 0 : draw_size(w);
	if (strcmp(arg->name, "max_level") == 0)
		return chance(w, 50) ? 0 : kit_below(&w->r, 4);
	if (strcmp(arg->name, "area_size") == 0 || strcmp(arg->name, "offset") == 0)
		return draw_size(w);
	if (arg->type == KVMS_PROP)
		return draw_prop(w);
	if (arg->type == KVMS_FLAGS && chance(w, 15))
		return strcmp(arg->name, "clear") == 0 ? 31 : 0;
	if (arg->type == KVMS_FLAGS)
		return kit_below(&w->r, 32);
	if (kvms_word_at(arg->type, 0, &ignored) != NULL)
		return draw_word(w, arg->type);
	cr_assert(arg->type == KVMS_DEC || arg->type == KVMS_HEX || arg->type == KVMS_CPU,
		  "argument %s: no values known", arg->name);
	return kit_below(&w->r, 10);
}

/* Addresses of an op, from its name. */
static enum space
space_of(const char *name)
{
	if (strcmp(name, "reader_new") == 0 || strcmp(name, "writer_new") == 0 ||
	    strcmp(name, "reader_writer_new") == 0)
		return IN_USER;
	if (strstr(name, "_new_kernel") != NULL || strcmp(name, "access") == 0 || strcmp(name, "tlb_fill") == 0)
		return ANYWHERE;
	if (strcmp(name, "boot_reserve") == 0)
		return PHYSICAL;
	if (strncmp(name, "frame_", 6) == 0 || strncmp(name, "segment_", 8) == 0 || strncmp(name, "unique_", 7) == 0)
		return PHYSICAL;
	if (strncmp(name, "boot_", 5) == 0)
		return AT_BOOT;
	return strstr(name, "_at") != NULL ? IN_VMALLOC : IN_AREA;
}

/* Fill in the arguments of an op; now and then one that is outside its type, which gives false. */
static bool
draw_op(struct kit_walk *w, const struct kvms_row *row)
{
	bool valid = true;

	kvms_op_init(&w->op, row);
	w->op.list = w->list;
	w->words = 0;
	w->area = 0;
	w->anchor = 0;
	w->space = space_of(row->name);
	w->row = row;
	w->first = NULL;
	w->huge = chance(w, 12);
	for (unsigned i = 0; i < row->args_count; i++)
		w->op.arg[i] = draw_argument(w, &row->args[i]);
	if (!chance(w, 1) || row->args_count == 0)
		return valid;
	unsigned i = (unsigned)kit_below(&w->r, row->args_count);
	uint64_t ignored;

	if (row->args[i].type == KVMS_PROP || row->args[i].type == KVMS_FLAGS ||
	    kvms_word_at(row->args[i].type, 0, &ignored) != NULL) {
		w->op.arg[i] = UINT64_C(1) << (20 + kit_below(&w->r, 44));
		valid = false;
	}
	return valid;
}

/* True for the ops that mostly give back. */
static bool
gives_back(unsigned code)
{
	return code == OP_frame_drop || code == OP_segment_drop || code == OP_kvirt_drop ||
	       code == OP_kvirt_unmap_range || code == OP_kvirt_unreserve;
}

/* Of some kinds of objects a handful is enough: the op that ends one, or NULL. */
static const struct kvms_row *
draw_drop(struct kit_walk *w)
{
	const union totals *t = &w->s->live.totals;
	const struct {
		uint64_t live, enough;
		unsigned code;
	} drops[] = {
		{ t->uniques, 16, OP_unique_drop },    { t->lists, 4, OP_list_drop },
		{ t->vm_spaces, 3, OP_vm_space_drop }, { t->cursors, 5, OP_cursor_drop },
		{ t->readers, 12, OP_reader_drop },    { t->writers, 12, OP_writer_drop },
		{ t->iomems, 6, OP_iomem_drop },
	};

	for (unsigned i = 0; i < KIT_COUNT(drops); i++)
		if (drops[i].live > drops[i].enough && chance(w, 20))
			return kvms_op_row(drops[i].code);
	return NULL;
}

/*
 * The row to try next.  Tides: for 512 steps memory and addresses fill, for
 * 512 they empty.  At every fourth flood somebody takes what memory is left,
 * again and again, so that all others do without.
 */
static const struct kvms_row *
draw_row(struct kit_walk *w)
{
	static const unsigned basics[] = { OP_cursor_map,         OP_cursor_jump,        OP_cursor_open_mut,
					   OP_vm_space_activate,  OP_unique_from_unused, OP_reader_writer_new,
					   OP_reader_new_kernel,  OP_writer_new_kernel,  OP_list_cursor_drop,
					   OP_unique_from_unused, OP_kvirt_reserve,      OP_list_new };
	bool flood = w->number / 512 % 2 == 0, dearth = w->number / 512 % 8 == 4;
	uint64_t unused = w->s->live.totals.unused;
	const struct kvms_row *row;

	if (dearth && unused > 0 && chance(w, 60))
		return kvms_op_row(unused > 8 && chance(w, 50) ? OP_segment_alloc : OP_frame_alloc);
	row = draw_drop(w);
	if (row != NULL)
		return row;
	if (chance(w, 15)) /* on which most others rest */
		return kvms_op_row(basics[kit_below(&w->r, KIT_COUNT(basics))]);
	do {
		row = kvms_op_row((unsigned)(1 + kit_below(&w->r, kvms_op_max())));
		/* what it takes never comes back */
	} while (row == NULL || (row->code == OP_boot_reserve && chance(w, 75)) ||
		 (flood && gives_back(row->code) && chance(w, 80)));
	if (chance(w, 25))
		return row;
	if (flood && chance(w, 30))
		return kvms_op_row(chance(w, 50) ? OP_segment_from_unused : OP_frame_alloc);
	if (!flood && w->s->live.totals.areas > 4 && chance(w, 40))
		return kvms_op_row(OP_kvirt_drop);
	if (!flood && w->s->live.totals.unused < 64 && chance(w, 50))
		return kvms_op_row(chance(w, 50) ? OP_segment_drop : OP_frame_drop);
	return row;
}

void
kit_walk_init(struct kit_walk *w, struct kvms *s, unsigned world, uint64_t seed)
{
	cr_assert_lt(world, kit_worlds_count);
	*w = (struct kit_walk){ .s = s != NULL ? s : kit_new("%s", kit_worlds[world].config),
				.world = &kit_worlds[world],
				.r = { seed } };
}

bool
kit_walk_draw(struct kit_walk *w)
{
	const struct kvms_row *row = draw_row(w);
	bool valid = draw_op(w, row);

	w->number++;
	return valid;
}
