/*
 * A host without memory: the n-th request for memory fails, for every n.  The
 * call then says so, the store is as it was, the same call made again does
 * what it does elsewhere, and nothing is left behind at the end.
 *
 * The program is linked with --wrap for the functions below: the store's own
 * calls come here, those of the C library itself do not.
 */
#include "tests/store_kit.h"

#include <errno.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_realloc(void *at, size_t size);
void __real_free(void *at);
void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_realloc(void *at, size_t size);
void __wrap_free(void *at);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void *at, size_t size);

static struct {
	bool armed;
	bool fired;
	uint64_t calls;       /* since armed */
	uint64_t nth;         /* that shall fail; 0 = none */
	int64_t blocks, maps; /* held now */
} fault;

static bool
refused(void)
{
	if (!fault.armed || ++fault.calls != fault.nth)
		return false;
	fault.fired = true;
	errno = ENOMEM;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	if (refused())
		return NULL;
	fault.blocks++;
	return __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	if (refused())
		return NULL;
	fault.blocks++;
	return __real_calloc(count, size);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
	if (refused())
		return NULL;
	fault.blocks++;
	return __real_aligned_alloc(alignment, size);
}

void *
__wrap_realloc(void *at, size_t size)
{
	if (refused())
		return NULL;
	fault.blocks += at == NULL;
	return __real_realloc(at, size);
}

void
__wrap_free(void *at)
{
	fault.blocks -= at != NULL;
	__real_free(at);
}

void *
__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
	if (refused())
		return MAP_FAILED;
	fault.maps++;
	return __real_mmap(at, size, protection, flags, file, offset);
}

int
__wrap_munmap(void *at, size_t size)
{
	fault.maps--;
	return __real_munmap(at, size);
}

static void
arm(uint64_t nth)
{
	fault.calls = 0;
	fault.nth = nth;
	fault.fired = false;
	fault.armed = true;
}

static bool
disarm(void)
{
	fault.armed = false;
	return fault.fired;
}

/* ---- Creation ------------------------------------------------------------------------- */

Test(no_memory, at_creation_is_a_refusal_that_is_nobodys_fault)
{
	/* two vmalloc ranges, and lists that are sorted in a copy */
	static const uint64_t lists[] = { KIT_VMALLOC,
					  KIT_VMALLOC + 0x100000,
					  KIT_VMALLOC + 0x200000,
					  KIT_VMALLOC + 0x300000,
					  0x1000,
					  0x2000,
					  0x3000,
					  0x4000,
					  0x5000,
					  0x6000 };
	struct kvms_refusal why;
	struct kvms_op config;
	uint64_t n = 0;

	kvms_op_init(&config, kvms_store_row());
	config.arg[CONFIG_max_paddr] = 0x400000;
	config.arg[CONFIG_vmalloc] = 2;
	config.arg[CONFIG_reserve] = 2;
	config.arg[CONFIG_mmio] = 1;
	config.list = lists;
	for (;;) {
		int64_t blocks = fault.blocks, maps = fault.maps;
		struct kvms *s;

		memset(&why, 0x5a, sizeof why);
		arm(++n);
		s = kvms_new(&config, &why);
		if (!disarm()) {
			cr_assert_not_null(s);
			kit_sound(s);
			kvms_free(&s);
			break;
		}
		cr_assert_null(s, "call %" PRIu64 " for memory was refused and there is a store", n);
		cr_assert_eq(why.key, -1, "call %" PRIu64 ": blamed on key %d", n, why.key);
		cr_assert_not_null(memchr(why.text, 0, sizeof why.text), "call %" PRIu64 ": the text has no end", n);
		cr_assert(strlen(why.text) > 10, "call %" PRIu64 ": '%s'", n, why.text);
		cr_assert_eq(fault.blocks, blocks, "call %" PRIu64 ": leaked memory", n);
		cr_assert_eq(fault.maps, maps, "call %" PRIu64 ": leaked address space", n);
	}
	cr_assert_gt(n, 5, "only %" PRIu64 " calls for memory: what is tested?", n - 1);
}

/* An image of 3 levels and 300 tables, at pages 1, 2, ...; its last page leads nowhere. */
static const void *
image_page(void *arg, uint64_t paddr)
{
	static uint64_t words[512];
	uint64_t page = paddr / PAGE;

	(void)arg;
	memset(words, 0, sizeof words);
	for (unsigned i = 0; page == 1 && i < 300; i++)
		words[i] = (i + 2) * PAGE >> 2 | 1;
	words[511] = page > 1 ? UINT64_C(0x40000000) >> 2 | 7 : 0;
	return page >= 1 && page < 302 ? words : NULL;
}

static bool
page_count(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	(void)paddr;
	(void)bytes;
	++*(uint64_t *)arg;
	return true;
}

Test(no_memory, for_an_adopted_image_is_a_refusal_and_for_its_answers_too)
{
	static const uint64_t root = PAGE;
	static const char *const requests[] = { "nodes", "reverse_map", "check", "census" };
	const struct kvms_image image = { .machine = KVMS_MACHINE_RISCV64,
					  .levels = 3,
					  .max_paddr = 0x200000,
					  .roots = &root,
					  .roots_count = 1,
					  .page = image_page };
	struct kvms_outcome out = { .name = 0 };
	struct kvms_refusal why;
	struct kvms *s = NULL;
	uint64_t n = 0, pages;

	while (s == NULL) {
		int64_t blocks = fault.blocks, maps = fault.maps;

		arm(++n);
		s = kvms_adopt(&image, &why);
		if (!disarm())
			break;
		cr_assert_null(s, "call %" PRIu64 " for memory was refused and there is a store", n);
		cr_assert_gt(strlen(why.text), 10, "call %" PRIu64, n);
		cr_assert(fault.blocks == blocks && fault.maps == maps, "call %" PRIu64 ": leaked", n);
	}
	cr_assert_gt(n, 10);
	cr_assert_eq(kvms_adopted(s)->nodes, 301);
	for (size_t i = 0; i < KIT_COUNT(requests); i++) {
		struct kvms_op op;

		kvms_op_init(&op, kvms_request_find(requests[i]));
		op.arg[0] = i == 0 ? 0 : 0x40000000;
		for (n = 1;; n++) {
			enum kvms_status status;

			arm(n);
			status = kvms_inspect(s, &op, &out);
			if (!disarm()) {
				cr_assert_eq(status, KVMS_DONE);
				break;
			}
			cr_assert_eq(status, KVMS_NOMEM, "%s", requests[i]);
		}
		cr_assert(out.name == O_ok && (i != 0 || out.field[0] == 301) && (i != 1 || out.field[0] == 300));
	}
	for (n = 1;; n++) {
		bool done;

		pages = 0;
		arm(n);
		done = kvms_pages(s, 0, false, page_count, &pages);
		if (!disarm()) {
			cr_assert(done && pages == 301);
			break;
		}
		cr_assert(!done);
	}
	kvms_outcome_free(&out);
	kvms_free(&s);
	cr_assert(fault.maps == 0);
}

/* ---- Steps ------------------------------------------------------------------------------ */

#define CONFIG "max_paddr=0x1000000 vmalloc=0xffffc00000000000..0xffffc00020000000"
#define SCRIPT_MAX 1200u

/* A script whose steps make every array, table and pool of the store grow at least once. */
static struct kvms_op script[SCRIPT_MAX];
static uint64_t *script_lists[SCRIPT_MAX];
static size_t script_count;

static void
say_op(struct kvms_op op, size_t words)
{
	cr_assert_lt(script_count, SCRIPT_MAX);
	script_lists[script_count] = malloc((words + 1) * sizeof(uint64_t));
	if (words > 0)
		memcpy(script_lists[script_count], op.list, words * sizeof(uint64_t));
	op.list = script_lists[script_count];
	script[script_count++] = op;
}

#define say(...) say_op(kit_op(__VA_ARGS__), 0)

/* Handles numbered first, first + 1, ... mapped one behind the other. */
static void
say_map_frames(const char *name, uint64_t area, uint64_t va, uint64_t first, uint64_t count)
{
	const struct kvms_row *row = kvms_op_find(name);
	uint64_t *ids = malloc(count * sizeof *ids);
	struct kvms_op op;

	for (uint64_t i = 0; i < count; i++)
		ids[i] = first + i;
	kvms_op_init(&op, row);
	op.arg[kvms_arg_index(row, "area")] = area;
	op.arg[kvms_arg_index(row, "va")] = va;
	op.arg[kvms_arg_index(row, "frames")] = count;
	op.arg[kvms_arg_index(row, "prop")] = 3 | 4u << KVMS_PROP_CACHE_SHIFT;
	op.list = ids;
	say_op(op, (size_t)count);
	free(ids);
}

static void
script_write(void)
{
	unsigned id;

	if (script_count > 0)
		return;
	say("frame_from_unused paddr=0x1000");
	for (id = 2; id <= 200; id++)
		say("frame_clone frame=1");
	say("kvirt_reserve_at start=0xffffc00000000000 area_size=0x1000000");
	/*
	 * The first mapping lies in the slot, the others in nodes; buckets double at the 66th and the 130th.  A list
	 * of more than 32 ids is sorted in a copy, and the step goes on without: that is let through at once.
	 */
	for (unsigned i = 0; i < 5; i++)
		say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC + 30 * i * PAGE, 1 + 30 * i, 30);
	say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC + 150 * PAGE, 151, 40);
	say("kvirt_query area=1 va=0xffffc00000001000");
	say("kvirt_unmap_range area=1 start=0xffffc00000003000 end=0xffffc00000040000");
	for (; id <= 530; id++) /* past one leaf of the id table */
		say("frame_from_in_use paddr=0x1000");
	say("segment_from_unused start=0x100000 end=0x300000");
	say("segment_from_unused start=0x400000 end=0x900000");
	say("segment_drop segment=1");
	/* many free blocks, so that their pool grows */
	for (unsigned i = 0; i < 150; i++)
		say("kvirt_reserve_at start=0x%" PRIx64 " area_size=0x1000",
		    KIT_VMALLOC + 0x1000000 + i * 2 * UINT64_C(0x1000));
	for (unsigned i = 0; i < 20; i++)
		say("kvirt_unreserve area=%u", 2 + i * 3);
	/* tens of thousands of leaves in one step, then all of them again */
	say("kvirt_map_untracked_frames area_size=0x4001000 map_offset=0x1000 paddr_start=0x40000000 "
	    "paddr_end=0x44000000 "
	    "prop=rw:uc");
	say("kvirt_protect_range area=152 start=0xffffc0001c000000 end=0xffffc0001d000000 clear=w");
	say("kvirt_split area=152 offset=0x2000000");
	say("kvirt_drop area=153");
	say("kvirt_drop area=154");
	say("kvirt_drop area=1");
	say("boot_map va=0xffff800000000000 paddr_start=0x0 paddr_end=0x1000000 prop=rw:wb+global");
	say("boot_protect_range start=0xffff800000001000 end=0xffff800000600000 clear=w");
}

static void
script_free(void)
{
	while (script_count > 0)
		free(script_lists[--script_count]);
}

static bool
same_outcome(const struct kvms_outcome *a, const struct kvms_outcome *b)
{
	return a->name == b->name && a->present == b->present && memcmp(a->field, b->field, sizeof a->field) == 0 &&
	       a->list_count == b->list_count;
}

struct twins {
	struct kvms *subject, *witness;
	struct kvms_outcome subject_out, witness_out;
	uint64_t failures;
};

/* One op on both; on the subject, each request for memory fails once before the op is let through. */
static void
step_twins(struct twins *t, const struct kvms_op *op, bool dry, bool look)
{
	const char *name = kvms_op_row(op->code)->name;
	uint64_t steps = kvms_steps(t->subject), digest = look ? kvms_digest(t->subject) : 0;
	enum kvms_status status;
	bool fired;

	cr_assert_eq(kvms_apply(t->witness, op, &t->witness_out), KVMS_DONE, "%s: %s", name,
		     kit_fired(kvms_broken(t->witness)));
	cr_assert_eq(t->witness_out.name, O_ok, "%s -> %s", name, kit_outcome(t->witness_out.name));
	for (uint64_t n = 1;; n++) {
		arm(n);
		status =
		    dry ? kvms_dry_run(t->subject, op, &t->subject_out) : kvms_apply(t->subject, op, &t->subject_out);
		fired = disarm();
		if (status == KVMS_DONE)
			break;
		cr_assert_eq(status, KVMS_NOMEM, "%s, call %" PRIu64 ": status %d", name, n, status);
		cr_assert(fired, "%s says no memory but none was refused", name);
		cr_assert_eq(kvms_steps(t->subject), steps);
		if (look)
			cr_assert_eq(kvms_digest(t->subject), digest, "%s, call %" PRIu64 ": the digest changed", name,
				     n);
		t->failures++;
	}
	cr_assert(same_outcome(&t->subject_out, &t->witness_out), "%s: another outcome", name);
	if (!dry)
		return;
	if (look)
		cr_assert_eq(kvms_digest(t->subject), digest, "%s: a dry run changed the digest", name);
	cr_assert_eq(kvms_apply(t->subject, op, &t->subject_out), KVMS_DONE);
	cr_assert(same_outcome(&t->subject_out, &t->witness_out), "%s: another outcome", name);
}

/* The whole script.  "look": ask for the digest around every failure, which also brings it up to date. */
static void
walk_twins(enum kvms_check check, uint64_t every, bool dry, bool look)
{
	int64_t blocks, maps;

	script_write();
	blocks = fault.blocks;
	maps = fault.maps;
	for (unsigned round = 0; round < 2; round++) { /* the kit's own buffers settle in the first */
		struct twins t = { .subject = kit_new(CONFIG), .witness = kit_new(CONFIG) };

		kvms_set_check(t.subject, check, every);
		kvms_set_check(t.witness, KVMS_CHECK_OFF, 1);
		for (size_t i = 0; i < script_count; i++)
			step_twins(&t, &script[i], dry, look);
		cr_assert_gt(t.failures, 10, "%" PRIu64 " failures: what is tested?", t.failures);
		cr_assert_eq(kvms_digest(t.subject), kvms_digest(t.witness), "twins have become different");
		cr_assert_eq(kit_visible(t.subject), kit_visible(t.witness));
		kit_sound(t.subject);
		kvms_outcome_free(&t.subject_out);
		kvms_outcome_free(&t.witness_out);
		kvms_free(&t.subject);
		kvms_free(&t.witness);
		if (round == 1)
			cr_assert_eq(fault.blocks, blocks, "%" PRId64 " blocks leaked", fault.blocks - blocks);
		cr_assert_eq(fault.maps, maps, "address space leaked");
		blocks = fault.blocks;
	}
	script_free();
}

Test(no_memory, in_a_step_leaves_the_store_as_it_was)
{
	walk_twins(KVMS_CHECK_TOUCHED, 1, false, true);
}

Test(no_memory, in_a_step_is_forgotten_when_nobody_asks_for_the_digest)
{
	walk_twins(KVMS_CHECK_TOUCHED, 1, false, false);
}

Test(no_memory, in_a_step_with_full_checks_leaves_the_store_as_it_was)
{
	walk_twins(KVMS_CHECK_FULL, 5, false, true);
}

Test(no_memory, in_a_step_with_full_checks_now_and_then_is_forgotten)
{
	walk_twins(KVMS_CHECK_FULL, 3, false, false);
}

Test(no_memory, in_a_dry_run_leaves_the_store_as_it_was)
{
	walk_twins(KVMS_CHECK_OFF, 1, true, true);
}

/*
 * The last request of a step comes when its effect is complete and judged: the
 * buckets of the reverse map double.  What was changed by steps before, and
 * not by this one, must still be in order after it has been taken back, though
 * a full check asks for the digest.
 */
static void
double_buckets(enum kvms_check check)
{
	struct kvms *s = kit_new(CONFIG);
	struct kvms_outcome out = { .name = O_ok };
	uint64_t sum, n;

	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (unsigned k = 2; k <= 70; k++)
		kit_ok(s, "frame_clone frame=1");
	kit_ok(s, "frame_from_unused paddr=0x2000"); /* frame 71 */
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x100000", KIT_VMALLOC);
	for (unsigned i = 0; i < 2; i++) {
		say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC + 30 * i * PAGE, 1 + 30 * i, 30);
		cr_assert_eq(kvms_apply(s, &script[i], &out), KVMS_DONE);
		cr_assert_eq(out.name, O_ok);
	}
	say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC + 60 * PAGE, 61, 10);
	for (n = 1;; n++) {
		/* something changes that the next step does not touch, and no digest is asked */
		kvms_set_check(s, KVMS_CHECK_OFF, 1);
		kit_ok(s, "frame_clone frame=71");
		kvms_set_check(s, check, 1);
		arm(n);
		enum kvms_status status = kvms_apply(s, &script[2], &out);
		bool fired = disarm();

		if (status == KVMS_DONE)
			break;
		cr_assert_neq(status, KVMS_BROKEN, "call %" PRIu64 ": %s", n, kit_fired(kvms_broken(s)));
		cr_assert(fired && status == KVMS_NOMEM);
	}
	cr_assert_eq(out.name, O_ok, "%s", kit_outcome(out.name));
	cr_assert_gt(n, 1, "the buckets did not double");
	kit_elements(s, &sum);
	cr_assert_eq(kvms_digest(s), sum, "the digest kept step by step is wrong");
	kit_sound(s);
	kvms_outcome_free(&out);
	kvms_free(&s);
	script_free();
}

/* The buckets double at the end of a group: without memory for it all of its steps are undone. */
Test(no_memory, at_the_end_of_a_group_undoes_all_of_it)
{
	struct kvms *s = kit_new(CONFIG);
	struct kvms_outcome out = { .name = O_ok };

	kit_ok(s, "frame_from_unused paddr=0x1000");
	for (unsigned k = 2; k <= 70; k++)
		kit_ok(s, "frame_clone frame=1");
	kit_ok(s, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x100000", KIT_VMALLOC);
	say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC, 1, 35);
	say_map_frames("kvirt_map_frames_into", 1, KIT_VMALLOC + 35 * PAGE, 36, 35);
	uint64_t visible = kit_visible(s), steps = kvms_steps(s);

	for (unsigned last = 0; last < 2; last++) {
		kvms_group_begin(s);
		for (unsigned i = 0; i < 2; i++) {
			cr_assert_eq(kvms_apply(s, &script[i], &out), KVMS_DONE);
			cr_assert_eq(out.name, O_ok, "%s", kit_outcome(out.name));
		}
		arm(last == 0 ? 1 : 0);
		bool kept = kvms_group_end(s, true);
		cr_assert_eq(disarm(), last == 0);
		cr_assert_eq(kept, last == 1);
		cr_assert_eq(kit_visible(s) == visible, last == 0);
		cr_assert_eq(kvms_steps(s), steps + 2 * last);
		kit_sound(s);
	}
	kvms_outcome_free(&out);
	kvms_free(&s);
	script_free();
}

Test(no_memory, for_more_buckets_keeps_the_digest)
{
	double_buckets(KVMS_CHECK_TOUCHED);
}

Test(no_memory, for_more_buckets_behind_a_full_check_keeps_the_digest)
{
	double_buckets(KVMS_CHECK_FULL);
}

/* ---- Questions ------------------------------------------------------------------------------ */

static struct kvms *
busy_store(void)
{
	struct kvms *s = kit_new(CONFIG);
	struct kvms_outcome out = { .name = O_ok };

	script_write();
	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	for (size_t i = 0; i < 300; i++)
		cr_assert_eq(kvms_apply(s, &script[i], &out), KVMS_DONE);
	kvms_outcome_free(&out);
	script_free();
	return s;
}

Test(no_memory, for_an_answer_says_so_and_the_next_one_is_right)
{
	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		const struct kvms_row *row = kvms_request_row(code);
		struct kvms *s = busy_store(); /* a new one each time: it keeps memory for answers */
		struct kvms_outcome out = { .name = O_ok }, again = { .name = O_ok };
		uint64_t digest = kvms_digest(s);
		struct kvms_op request;

		kvms_op_init(&request, row);
		if (kvms_arg_index(row, "paddr") >= 0)
			request.arg[kvms_arg_index(row, "paddr")] = code == REQ_node ? s->live.kernel_root : 0x1000;
		if (kvms_arg_index(row, "va") >= 0)
			request.arg[kvms_arg_index(row, "va")] = KIT_VMALLOC;
		for (uint64_t n = 1;; n++) {
			arm(n);
			enum kvms_status status = kvms_inspect(s, &request, &out);
			bool fired = disarm();

			if (status == KVMS_DONE) {
				cr_assert(!fired, "%s: memory was refused and there is an answer", row->name);
				break;
			}
			cr_assert(fired && status == KVMS_NOMEM, "%s: status %d", row->name, status);
		}
		cr_assert_eq(kvms_inspect(s, &request, &again), KVMS_DONE);
		cr_assert(same_outcome(&out, &again), "%s", row->name);
		cr_assert_eq(kvms_digest(s), digest, "%s changed the digest", row->name);
		kit_ok(s, "frame_alloc");
		kit_sound(s);
		kvms_outcome_free(&out);
		kvms_outcome_free(&again);
		kvms_free(&s);
	}
}

Test(no_memory, for_a_check_is_no_finding)
{
	struct kvms *s = busy_store();
	struct kvms_findings findings;
	uint64_t n;

	for (n = 1;; n++) {
		arm(n);
		bool holds = kvms_check_all(s, &findings);
		bool fired = disarm();

		if (holds) {
			cr_assert(!fired);
			break;
		}
		cr_assert(fired);
		cr_assert_eq(findings.count, 0);
	}
	cr_assert_gt(n, 3);
	kit_ok(s, "frame_alloc");
	kvms_free(&s);
}

/* ---- Restoring ---------------------------------------------------------------------------------- */

struct copy {
	struct kvms *to;
	const struct kvms *from;
	char why[200];
	bool failed;
	unsigned nodes_level;
};

static bool
copy_element(void *arg, const uint64_t *words, unsigned count)
{
	struct copy *c = arg;

	if (words[0] == 3)
		return true; /* all words of this store are page tables */
	c->failed = !kvms_restore_element(c->to, words, count, c->why, sizeof c->why);
	return !c->failed;
}

static bool
copy_node(void *arg, const uint64_t *words, unsigned count)
{
	struct copy *c = arg;
	struct kvms_node_place place;

	(void)count;
	if (words[0] != 4 || words[2] != c->nodes_level)
		return true;
	cr_assert(kvms_node_find(c->from, words[1] * PAGE, &place));
	c->failed = !kvms_restore_node(c->to, &place, c->why, sizeof c->why);
	return !c->failed;
}

static bool
copy_run(void *arg, const struct kvms_extent *run)
{
	struct copy *c = arg;

	c->failed = !kvms_restore_extent(c->to, run, c->why, sizeof c->why);
	return !c->failed;
}

static bool
copy_store(struct kvms *from, struct copy *c)
{
	c->from = from;
	if (!kvms_restore_begin(c->to))
		return false;
	if (!kvms_visit(from, copy_element, c))
		return false;
	for (c->nodes_level = 4; c->nodes_level > 0; c->nodes_level--)
		if (!kvms_visit(from, copy_node, c))
			return false;
	return kvms_extents(from, 0, copy_run, c) &&
	       kvms_restore_end(c->to, kvms_steps(from), kvms_digest(from), c->why, sizeof c->why);
}

Test(no_memory, while_restoring_is_a_refusal)
{
	struct kvms *s = busy_store();
	uint64_t digest = kvms_digest(s), n = 0;

	for (;;) {
		struct copy c = { .to = kit_new(CONFIG) };

		arm(++n);
		bool done = copy_store(s, &c);
		bool fired = disarm();

		if (done) {
			cr_assert(!fired);
			cr_assert_eq(kvms_digest(c.to), digest);
			kit_sound(c.to);
			kvms_free(&c.to);
			break;
		}
		cr_assert(fired, "%s", c.why);
		/* reading the store that is copied may fail too, and says so by its answer alone */
		cr_assert(c.why[0] == '\0' || strstr(c.why, "memory") != NULL, "call %" PRIu64 ": '%s'", n, c.why);
		kvms_free(&c.to);
	}
	cr_assert_gt(n, 5);
	kvms_free(&s);
}

/* ---- What a store costs, freed --------------------------------------------------------------------- */

Test(no_memory, is_left_behind_by_a_store_that_ended)
{
	int64_t blocks = fault.blocks, maps = fault.maps;

	for (unsigned i = 0; i < 3; i++) {
		struct kvms_refusal why;
		struct kvms *s = kvms_new(NULL, &why);

		cr_assert_not_null(s);
		cr_assert_gt(fault.maps, maps);
		kvms_free(&s);
		cr_assert_null(s);
		cr_assert_eq(fault.blocks, blocks);
		cr_assert_eq(fault.maps, maps);
	}
}
