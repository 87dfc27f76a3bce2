/*
 * Recordings of real kernels: what becomes of them as traces, whether a store
 * that replays them ends as the kernel did, and what a damaged recording does.
 */
#include "tests/store_kit.h"
#include "trace/compare_leaves.h"
#include "trace/import_ftrace.h"
#include "trace/replay.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- A recording on disk ------------------------------------------------------------ */

struct folder {
	char path[64];
};

static void
folder_make(struct folder *f)
{
	snprintf(f->path, sizeof f->path, "/tmp/kvmstore-import.XXXXXX");
	cr_assert_not_null(mkdtemp(f->path));
}

static void
folder_put(const struct folder *f, const char *name, const char *bytes, size_t size)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/snap-0", f->path);
	if (strncmp(name, "snap-0/", 7) == 0)
		mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/%s", f->path, name);
	file = fopen(path, "w");
	cr_assert_not_null(file, "%s", path);
	cr_assert_eq(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void
folder_remove(const struct folder *f)
{
	static const char *const names[] = { "trace.txt", "snap-0/vmallocinfo", "snap-0/iomem",
					     "snap-0",    "mappings.0.csv",     "ptpages.0.json",
					     "" };
	char path[128];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
		remove(path);
	}
}

/* ---- An import ------------------------------------------------------------------------ */

struct imported {
	int result;
	char *trace;
	size_t size;
	struct kvt_import_report report;
	char error[1024];
};

static struct imported
import(const struct kvt_import *in)
{
	struct imported i = { .result = -1 };
	FILE *out = open_memstream(&i.trace, &i.size);

	i.result = kvt_import_ftrace(in, out, &i.report, i.error, sizeof i.error);
	fclose(out);
	return i;
}

static void
imported_free(struct imported *i)
{
	free(i->trace);
	kvt_import_report_free(&i->report);
}

/* ---- A replay ----------------------------------------------------------------------------- */

struct replayed {
	enum kvt_result result;
	struct kvt_statistics statistics;
	uint64_t laws; /* broken at the end, all of them checked */
	struct kvt_compared areas;
	struct kvt_compared_leaves leaves;
	char *report;
	/* what to compare with, and where */
	const char *folder, *listing_mark; /* NULL: nothing, at the end */
	bool want_leaves, areas_done;
};

static struct kvt_input *
beside(const struct replayed *r, const char *name)
{
	char path[512], error[256];
	struct kvt_input *in;

	snprintf(path, sizeof path, "%s/%s", r->folder, name);
	in = kvt_input_open(path, error, sizeof error);
	cr_assert_not_null(in, "%s", error);
	return in;
}

static void
compare(struct replayed *r, struct kvt_target *target, bool leaves)
{
	struct kvt_input *in = beside(r, leaves ? "mappings.1.csv.xz" : "snap-1/vmallocinfo");
	enum kvt_status status;
	bool readable;

	if (leaves)
		status = kvt_compare_leaves(target, in, 0, 5, stderr, &r->leaves, &readable);
	else
		status = kvt_compare_areas(target, in, 5, stderr, &r->areas, &readable);
	cr_assert_eq(status, KVT_DONE);
	cr_assert(readable);
	kvt_input_close(&in);
	r->areas_done = r->areas_done || !leaves;
}

static bool
at_mark(void *arg, const char *text, uint64_t line, struct kvt_target *target)
{
	struct replayed *r = arg;

	(void)line;
	text += strspn(text, "# ");
	if (r->folder == NULL || target == NULL)
		return true;
	if (strcmp(text, "DUMP1-before") == 0 && r->want_leaves)
		compare(r, target, true);
	if (r->listing_mark != NULL && strcmp(text, r->listing_mark) == 0)
		compare(r, target, false);
	return true;
}

static struct kvt_target *
open_embedded(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct kvms *s = kvms_new(config, why);

	(void)arg;
	(void)base;
	return s != NULL ? kvt_target_embedded(s, true) : NULL;
}

/* Replay a trace; "r" says what to compare on the way. */
static void
replay(struct replayed *r, const char *trace, size_t size, bool keep_going)
{
	struct kvt_replay run = { .arg = r, .open = open_embedded, .comment = at_mark, .keep_going = keep_going };
	struct kvms_outcome out = { 0 };
	char error[256];
	size_t report_size;
	struct kvt_input *in = kvt_input_memory("trace", trace, size, error, sizeof error);
	struct kvms_op op;

	cr_assert_not_null(in, "%s", error);
	run.report = open_memstream(&r->report, &report_size);
	r->result = kvt_replay(&run, in, "trace");
	r->statistics = run.statistics;
	if (run.target != NULL) {
		kvms_op_init(&op, kvms_request_find("check"));
		cr_expect_eq(run.target->inspect(run.target, &op, &out), KVT_DONE);
		r->laws = out.field[0];
		kvms_outcome_free(&out);
	}
	if (run.target != NULL && r->folder != NULL && !r->areas_done)
		compare(r, run.target, false);
	fclose(run.report);
	kvt_target_close(&run.target);
	kvt_input_close(&in);
}

/* ---- The recordings that come with the project ----------------------------------------------- */

struct bundled {
	const char *name, *listing_mark; /* NULL: the listing is compared at the end */
	bool mappings;
	uint64_t events, ops;
	uint64_t areas, listed; /* agree of listed */
	uint64_t leaves, direct, image;
};

static void
expect_part(const struct bundled *b, const struct replayed *r, enum kvt_leaves_part part, uint64_t leaves)
{
	const struct kvt_compared *c = &r->leaves.part[part];

	cr_expect_eq(c->agree, leaves, "%s, %s: %" PRIu64, b->name, kvt_leaves_part_name(part), c->agree);
	cr_expect_eq(c->listed, leaves, "%s, %s: %" PRIu64, b->name, kvt_leaves_part_name(part), c->listed);
	cr_expect(kvt_compared_equal(c), "%s, %s", b->name, kvt_leaves_part_name(part));
	cr_expect_eq(r->leaves.attributes[part], 0, "%s, %s: %" PRIu64 " differ in global bit or cache", b->name,
		     kvt_leaves_part_name(part), r->leaves.attributes[part]);
}

/* Import, replay, and compare with that kernel's own words: all must be as it was seen before. */
static void
expect_bundled(const struct bundled *b)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	struct kvt_import in = { .path = path, .strict = true };
	struct replayed r = { .folder = path, .listing_mark = b->listing_mark, .want_leaves = b->mappings };

	snprintf(path, sizeof path, "%s/data/%s", top != NULL ? top : ".", b->name);
	struct imported i = import(&in);
	cr_assert_eq(i.result, 0, "%s", i.error);
	cr_expect_eq(i.report.events, b->events, "%s: %" PRIu64 " events", b->name, i.report.events);
	cr_expect_eq(i.report.events, i.report.expressed + i.report.information + i.report.not_expressed);
	cr_expect_eq(i.report.ops, b->ops, "%s: %" PRIu64 " ops", b->name, i.report.ops);
	cr_expect_eq(i.report.unparsed, 0);
	replay(&r, i.trace, i.size, false);
	cr_expect_eq(r.result, KVT_PASSED, "%s: %s", b->name, r.report);
	cr_expect_eq(r.statistics.ops, b->ops);
	cr_expect_eq(r.statistics.outcomes[KVMS_OK], b->ops);
	cr_expect_eq(r.laws, 0);
	cr_expect_eq(r.areas.agree, b->areas, "%s: %" PRIu64 " areas", b->name, r.areas.agree);
	cr_expect_eq(r.areas.listed, b->listed, "%s: %" PRIu64 " listed", b->name, r.areas.listed);
	cr_expect_eq(r.areas.differ + r.areas.only_store, 0);
	if (b->mappings) {
		expect_part(b, &r, KVT_LEAVES_AREAS, b->leaves);
		expect_part(b, &r, KVT_LEAVES_DIRECT, b->direct);
		expect_part(b, &r, KVT_LEAVES_IMAGE, b->image);
	}
	free(r.report);
	imported_free(&i);
}

Test(recordings, linux_6_12_of_four_levels)
{
	expect_bundled(&(struct bundled){ .name = "linux-6.12-x86_64-4level",
					  .mappings = true,
					  .events = 111664,
					  .ops = 137770,
					  .areas = 346,
					  .listed = 346,
					  .leaves = 4599,
					  .direct = 23724,
					  .image = 2067 });
}

/* One kernel stack of the listing was freed before the mark, so before the state that is compared. */
Test(recordings, linux_6_12_of_five_levels)
{
	expect_bundled(&(struct bundled){ .name = "linux-6.12-x86_64-5level",
					  .listing_mark = "SYNC1-begin",
					  .mappings = true,
					  .events = 56153,
					  .ops = 14493,
					  .areas = 181,
					  .listed = 182,
					  .leaves = 4413,
					  .direct = 10386,
					  .image = 3089 });
}

/* No events for areas, and page tables of its own for user space. */
Test(recordings, linux_6_1_with_probes_for_area_events)
{
	expect_bundled(&(struct bundled){ .name = "linux-6.1-x86_64-4level",
					  .listing_mark = "SYNC1-begin",
					  .mappings = true,
					  .events = 3668,
					  .ops = 6933,
					  .areas = 97,
					  .listed = 97,
					  .leaves = 2384,
					  .direct = 6289,
					  .image = 1600 });
}

/* Areas only. */
Test(recordings, linux_6_12_on_riscv)
{
	expect_bundled(&(struct bundled){ .name = "linux-6.12-riscv64-sv48",
					  .listing_mark = "DUMP1-before",
					  .events = 2011,
					  .ops = 1659,
					  .areas = 190,
					  .listed = 190 });
}

/* ---- Small recordings, line by line -------------------------------------------------------- */

#define BASES                                                                                                          \
	"  sync-1 [000] ..... 1.000000: bases: (f+0x0) page_offset=0xffff888000000000 vmalloc=0xffffc90000000000 "     \
	"vmemmap=0xffffea0000000000 phys=0x0\n"
#define ALLOC(time, va, size)                                                                                          \
	"  t-1 [000] ..... " time ": alloc_vmap_area: va_start: " va " size=" size                                     \
	" align=1 vstart=0xffffc90000000000 vend=0xffffe8ffffffffff failed=0\n"
#define FREE(time, va) "  t-1 [000] ..... " time ": free_vmap_area_noflush: va_start=" va " nr_lazy=0 nr_lazy_max=1\n"
#define MAP(time, start, end, pages)                                                                                   \
	"  t-1 [000] ..... " time ": vmap_pages: (f+0x0) addr=" start " end=" end                                      \
	" prot=0x8000000000000163 shift=12 pg={" pages "}\n"
#define CPA(time, start, n, set, clear)                                                                                \
	"  t-1 [000] ..... " time ": cpa: (f+0x0) vaddr=" start " set=" set " clr=" clear " n=" n                      \
	" cur=0 pfn=0x0 flags=0x0 primary=1\n"
#define MARK(time, text) "  t-1 [000] ..... " time ": tracing_mark_write: " text "\n"

struct small {
	const char *trace, *listing, *mappings;
};

static struct imported
import_small(const struct small *small, bool strict)
{
	struct kvt_import in = { .strict = strict };
	struct folder f;

	folder_make(&f);
	in.path = f.path;
	folder_put(&f, "trace.txt", small->trace, strlen(small->trace));
	if (small->listing != NULL)
		folder_put(&f, "snap-0/vmallocinfo", small->listing, strlen(small->listing));
	if (small->mappings != NULL)
		folder_put(&f, "mappings.0.csv", small->mappings, strlen(small->mappings));
	struct imported i = import(&in);
	folder_remove(&f);
	return i;
}

/* The trace must hold each of the lines, in this order; a replay of it passes. */
static void
expect_ops(const struct small *small, const char *const *lines)
{
	struct imported i = import_small(small, true);
	struct replayed r = { .folder = NULL };
	const char *at = i.trace;

	cr_assert_eq(i.result, 0, "%s", i.error);
	for (; *lines != NULL; lines++) {
		const char *found = strstr(at, *lines);
		cr_expect_not_null(found, "no \"%s\" in\n%s", *lines, at);
		at = found != NULL ? found + strlen(*lines) : at;
	}
	replay(&r, i.trace, i.size, false);
	cr_expect_eq(r.result, KVT_PASSED, "%s", r.report);
	cr_expect_eq(r.laws, 0);
	free(r.report);
	imported_free(&i);
}

Test(import, direct_map_and_image_are_adopted_in_runs_and_changed)
{
	static const struct small small = {
		.trace = BASES CPA("1.1", "0xffff888000001000", "1", "0x0", "0x2")   /* the dump shows that */
		MARK("2.0", "DUMP0-before")                                          /* here it is taken */
		CPA("2.1", "0xffff888000201000", "1", "0x0", "0x2")                  /* splits */
		CPA("2.2", "0xffff888000400000", "512", "0x8000000000000000", "0x0") /* all of a large page */
		CPA("2.3", "0xffff888000601000", "1", "0x2", "0x0")                  /* changes nothing: no split */
		CPA("2.4", "0xffff888000000000", "1", "0x0", "0x1")                  /* not present: not global */
		CPA("2.5", "0xffffffff81000000", "2", "0x2", "0x8000000000000000")
		    CPA("2.6", "0xffffffff81800000", "1", "0x2", "0x0"), /* nothing there */
		.mappings = "va,pa,size,entry,flags\n"
			    "0x1000,0x9000,4096,0x67,rwxu---ad\n"
			    "0xffff888000000000,0x0,4096,0x163,rwxkg--ad\n"
			    "0xffff888000001000,0x1000,4096,0x161,r-xkg--ad\n"
			    "0xffff888000200000,0x200000,2097152,0x1e3,rwxkg--ad\n"
			    "0xffff888000400000,0x400000,2097152,0x1e3,rwxkg--ad\n"
			    "0xffff888000600000,0x600000,2097152,0x1e3,rwxkg--ad\n"
			    "0xffff888040000000,0x40000000,1073741824,0x1e3,rwxkg--ad\n"
			    "0xffffea0000000000,0x800000,2097152,0x80000000000001e3,rw-kg--ad\n"
			    "0xffffffff81000000,0x1000000,4096,0x8000000000000161,r--kg--ad\n"
			    "0xffffffff81001000,0x1001000,4096,0x8000000000000161,r--kg--ad\n",
	};
	static const char *const lines[] = {
		"\nboot_map va=0xffff888000000000 paddr_start=0x0 paddr_end=0x1000 prop=rwxad:wb+global max_level=1 ",
		"\nboot_map va=0xffff888000001000 paddr_start=0x1000 paddr_end=0x2000 prop=rxad:wb+global max_level=1 ",
		"\nboot_map va=0xffff888000200000 paddr_start=0x200000 paddr_end=0x800000 prop=rwxad:wb+global "
		"max_level=2 ",
		"\nboot_map va=0xffff888040000000 paddr_start=0x40000000 paddr_end=0x80000000 prop=rwxad:wb+global "
		"max_level=2 ",
		"\nboot_map va=0xffffffff81000000 paddr_start=0x1000000 paddr_end=0x1002000 prop=rad:wb+global "
		"max_level=1 ",
		"\nboot_protect_range start=0xffff888000201000 end=0xffff888000202000 set=- clear=w cache=keep "
		"global=keep ",
		"\nboot_protect_range start=0xffff888000400000 end=0xffff888000600000 set=- clear=x cache=keep "
		"global=keep ",
		"\nboot_protect_range start=0xffff888000000000 end=0xffff888000001000 set=- clear=r cache=keep "
		"global=clear ",
		"\nboot_protect_range start=0xffffffff81000000 end=0xffffffff81002000 set=wx clear=- cache=keep "
		"global=keep ",
		NULL
	};
	struct imported i = import_small(&small, true);

	cr_assert_eq(i.result, 0, "%s", i.error);
	cr_expect_null(strstr(i.trace, "0xffff888000601000"));
	cr_expect_null(strstr(i.trace, "0xffffea"));
	cr_expect_eq(i.report.leaves_direct, 2 + 3 + 512);
	cr_expect_eq(i.report.leaves_image, 2);
	cr_expect_eq(i.report.expressed, 4);
	cr_expect_eq(i.report.not_expressed, 1);
	imported_free(&i);
	expect_ops(&small, lines);
}

/* What a kernel before 6.2 tells: probes on its functions, and no ranges. */
Test(import, probes_stand_for_area_events)
{
	static const struct small small = {
		.trace = BASES
		"  a-1 [000] ..... 1.1: alloc_vmap_area: (g+0xb1/0x150 <- alloc_vmap_area) va_start=0xffffc90000001000 "
		"va_end=0xffffc90000004000\n"
		"  a-1 [000] ..... 1.2: alloc_vmap_area: (g+0xb1/0x150 <- alloc_vmap_area) va_start=0xffffffffc0100000 "
		"va_end=0xffffffffc0105000\n"
		"  a-1 [000] ..... 1.3: alloc_vmap_area: (g+0xb1/0x150 <- alloc_vmap_area) va_start=(fault) "
		"va_end=(fault)\n"
		"  a-1 [000] ..... 1.4: pcpu_vm_areas: (g+0x1/0x2 <- pcpu_get_vm_areas) vm=0xffff888000123000 "
		"addr=0xffffe8ffffa00000 size=2097152\n"
		"  a-1 [000] ..... 1.5: free_vmap_area_noflush: (free_vmap_area_noflush+0x0/0x340) "
		"va_start=0xffffc90000001000\n"
		"  a-1 [000] ..... 1.6: purge_vmap_area_lazy: (h+0xf4/0x130 <- __purge_vmap_area_lazy)\n"
		"  a-1 [000] ..... 1.7: alloc_vmap_area: (g+0xb1/0x150 <- alloc_vmap_area) va_start=0xffffc90000001000 "
		"va_end=0xffffc90000002000\n",
	};
	static const char *const lines[] = {
		" vmalloc=[0xffffc90000000000..0xffffe90000000000,0xffffffffc0000000..0xffffffffff000000] ",
		"\nkvirt_reserve_at start=0xffffc90000001000 area_size=0x3000 ",
		"\nkvirt_reserve_at start=0xffffffffc0100000 area_size=0x5000 ",
		"\nkvirt_reserve_at start=0xffffe8ffffa00000 area_size=0x200000 ",
		"\nkvirt_unreserve area=1 ",
		"\nkvirt_reserve_at start=0xffffc90000001000 area_size=0x1000 ",
		NULL
	};

	expect_ops(&small, lines);
}

/* ---- What cannot have been ----------------------------------------------------------------- */

struct impossible {
	struct small small;
	enum kvt_import_anomaly_kind kind;
	const char *strict; /* what --strict says, behind the folder's path */
	bool stops;         /* a replay stops there */
};

#define FIRST ALLOC("1.1", "0xffffc90000000000", "12288")

static const struct impossible impossibles[] = {
	{ { .trace = BASES FIRST FREE("1.2", "0xffffc90000100000") },
	  KVT_IMPORT_FREED_UNKNOWN,
	  "trace.txt:3: area freed that is not allocated: 0xffffc90000100000..0xffffc90000101000",
	  false },
	{ { .trace = BASES FIRST FREE("1.2", "0xffffc90000000000") FREE("1.3", "0xffffc90000000000") },
	  KVT_IMPORT_FREED_UNKNOWN,
	  "trace.txt:4: area freed that is not allocated: 0xffffc90000000000..0xffffc90000001000 (line 3)",
	  false },
	{ { .trace = BASES FIRST ALLOC("1.2", "0xffffc90000002000", "8192") },
	  KVT_IMPORT_ALLOCATED_LIVE,
	  "trace.txt:3: area allocated over a live one: 0xffffc90000002000..0xffffc90000004000",
	  true },
	{ { .trace = BASES FIRST FREE("1.2", "0xffffc90000000000") ALLOC("1.3", "0xffffc90000000000", "8192") },
	  KVT_IMPORT_REUSED_UNPURGED,
	  "trace.txt:4: area allocated in a freed range before its purge: 0xffffc90000000000..0xffffc90000003000 (line "
	  "3)",
	  false },
	{ { .trace = BASES FIRST ALLOC("0.9", "0xffffc90000010000", "8192") },
	  KVT_IMPORT_TIME_BACKWARDS,
	  "trace.txt:3: time runs backwards: 900000000 ns after 1100000000 ns",
	  false },
	{ { .trace = BASES FIRST MAP("1.2", "0xffffc90000000000", "0xffffc90000001000", "0xffffea0000000040")
		MAP("1.3", "0xffffc90000000000", "0xffffc90000001000", "0xffffea0000000080") },
	  KVT_IMPORT_MAPPED_TWICE,
	  "trace.txt:4: page mapped where one was mapped: 0xffffc90000000000..0xffffc90000001000",
	  true },
	{ { .trace = BASES FIRST MAP("1.2", "0xffffc90000000000", "0xffffc90000001000", "0xffffea0000000040")
		FREE("1.3", "0xffffc90000000000") },
	  KVT_IMPORT_FREED_MAPPED,
	  "trace.txt:4: area freed with mappings left: 0xffffc90000000000..0xffffc90000003000",
	  true },
	{ { .trace = BASES FIRST MAP("1.2", "0xffffc90000100000", "0xffffc90000101000", "0xffffea0000000040") },
	  KVT_IMPORT_MAPPED_NOWHERE,
	  "trace.txt:3: pages mapped where no area is: 0xffffc90000100000..0xffffc90000101000",
	  false },
	{ { .trace = BASES FIRST MAP("1.2", "0xffffc90000000000", "0xffffc90000001000", "0x12345") },
	  KVT_IMPORT_FRAME_STRANGE,
	  "trace.txt:3: page pointer that names no frame: 0xffffc90000000000..0xffffc90000001000",
	  false },
	{ { .trace = BASES ALLOC("1.1", "0xffffc90000002000", "8192") MARK("1.2", "SYNC0-begin"),
	    .listing = "0xffffc90000000000-0xffffc90000003000   12288 a+0x1/0x2 vmalloc\n" },
	  KVT_IMPORT_LISTING_CONFLICT,
	  "snap-0/vmallocinfo:1: listed area that does not fit the events: 0xffffc90000000000..0xffffc90000003000 "
	  "(line 2)",
	  false },
	{ { .trace = BASES FIRST MARK("1.2", "DUMP0-before"),
	    .mappings = "va,pa,size,entry,flags\n0xffffc90000100000,0x5000,4096,0x163,rwxkg--ad\n" },
	  KVT_IMPORT_MAPPING_CONFLICT,
	  "mappings.0.csv:2: recorded leaf that does not fit the events: 0xffffc90000100000..0xffffc90000101000",
	  false },
	{ { .trace = BASES FIRST MARK("1.2", "DUMP0-before"),
	    .mappings = "va,pa,size,entry,flags\n0xffff888000200000,0x200000,2097152,0x1e3,rwxkg--ad\n"
			"0xffff888000201000,0x201000,4096,0x163,rwxkg--ad\n" },
	  KVT_IMPORT_MAPPING_CONFLICT,
	  "mappings.0.csv:3: recorded leaf that does not fit the events: 0xffff888000201000..0xffff888000202000 (line "
	  "2)",
	  false },
};

Test(import, what_cannot_have_been_is_told_with_its_place_and_counted)
{
	for (size_t n = 0; n < sizeof impossibles / sizeof impossibles[0]; n++) {
		const struct impossible *p = &impossibles[n];
		struct replayed r = { .folder = NULL }, on = { .folder = NULL };
		struct imported i = import_small(&p->small, false);

		cr_assert_eq(i.result, 0, "%zu: %s", n, i.error);
		cr_expect_eq(i.report.anomalies_count[p->kind], 1, "%zu: %" PRIu64, n,
			     i.report.anomalies_count[p->kind]);
		cr_expect_eq(i.report.anomalies_kept, 1, "%zu", n);
		replay(&r, i.trace, i.size, false);
		cr_expect_eq(r.result, p->stops ? KVT_DIVERGED : KVT_PASSED, "%zu: %s", n, r.report);
		replay(&on, i.trace, i.size, true);
		cr_expect_eq(on.statistics.divergences, p->stops, "%zu: %s", n, on.report);
		cr_expect_eq(on.laws, 0);
		free(r.report);
		free(on.report);
		imported_free(&i);
	}
}

Test(import, strict_stops_there)
{
	for (size_t n = 0; n < sizeof impossibles / sizeof impossibles[0]; n++) {
		struct imported i = import_small(&impossibles[n].small, true);
		size_t size = strlen(i.error), want = strlen(impossibles[n].strict);

		cr_expect_eq(i.result, -1, "%zu", n);
		cr_expect(size > want && strcmp(i.error + size - want, impossibles[n].strict) == 0, "%s, not %s",
			  i.error, impossibles[n].strict);
		imported_free(&i);
	}
}

/* Lost, cut off, not understood: counted, or the end. */
Test(import, missing_events_are_told)
{
	static const struct {
		const char *trace, *strict;
		uint64_t lost, unparsed, promised, overwritten;
	} cases[] = {
		{ BASES FIRST "CPU:0 [LOST 7 EVENTS]\n", "trace.txt:3: 7 events were lost here", 7, 0, 0, 0 },
		{ BASES FIRST "  t-1 [000] ..... 1.3: alloc_vmap_area: va_st",
		  "trace.txt:3: neither an event nor a header: '  t-1 [000] ..... 1.3: alloc_vmap_area: va_st'", 0, 1,
		  0, 0 },
		{ "# entries-in-buffer/entries-written: 5/5   #P:1\n" BASES FIRST,
		  "trace.txt:3: the file ends here, but its header promises 5 events, and 3 are not here", 0, 0, 5, 0 },
		{ "# entries-in-buffer/entries-written: 2/9   #P:1\n" BASES FIRST,
		  "trace.txt: 7 events were overwritten before the first", 0, 0, 2, 7 },
	};

	for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
		struct small small = { .trace = cases[n].trace };
		struct imported i = import_small(&small, false), strict = import_small(&small, true);

		cr_expect_eq(i.result, 0, "%s", i.error);
		cr_expect_eq(i.report.events_lost, cases[n].lost);
		cr_expect_eq(i.report.unparsed, cases[n].unparsed);
		cr_expect_eq(i.report.events_promised, cases[n].promised);
		cr_expect_eq(i.report.events_overwritten, cases[n].overwritten);
		cr_expect_eq(strict.result, -1, "%zu", n);
		cr_expect_not_null(strstr(strict.error, cases[n].strict), "%s, not %s", strict.error, cases[n].strict);
		imported_free(&i);
		imported_free(&strict);
	}
}

/* ---- Damage ------------------------------------------------------------------------------------ */

struct text {
	char *at;
	size_t size;
};

static struct text
read_recorded(const char *name)
{
	const char *top = getenv("top_srcdir");
	struct text t = { 0 };
	char path[512], error[256], *line;
	FILE *out = open_memstream(&t.at, &t.size);
	struct kvt_input *in;
	ssize_t size;

	snprintf(path, sizeof path, "%s/data/%s", top != NULL ? top : ".", name);
	in = kvt_input_open(path, error, sizeof error);
	cr_assert_not_null(in, "%s", error);
	while ((size = kvt_input_line(in, &line)) >= 0) {
		fwrite(line, 1, (size_t)size, out);
		fputc('\n', out);
	}
	fclose(out);
	kvt_input_close(&in);
	return t;
}

static uint64_t
draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* Where the line starts that holds the byte. */
static size_t
line_at(const struct text *t, size_t byte)
{
	while (byte > 0 && t->at[byte - 1] != '\n')
		byte--;
	return byte;
}

static size_t
line_size(const struct text *t, size_t start)
{
	const char *end = memchr(t->at + start, '\n', t->size - start);

	return end == NULL ? t->size - start : (size_t)(end + 1 - (t->at + start));
}

/* One accident: bytes changed, a line cut, gone, doubled, moved, or the rest missing. */
static void
damage(struct text *t, uint64_t *state)
{
	static const char digits[] = "0123456789abcdefx=,{}-: \n\0\xff";
	char *line;

	if (t->size < 2)
		return;
	size_t byte = draw(state) % t->size, start = line_at(t, byte), size = line_size(t, start);
	size_t other = line_at(t, draw(state) % t->size);

	switch (draw(state) % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
		t->at[byte] = (char)draw(state);
		return;
	case 5:
	case 6:
	case 7:
	case 8:
		t->at[byte] = digits[draw(state) % (sizeof digits - 1)];
		return;
	case 9:
	case 10:
		memmove(t->at + start, t->at + start + size, t->size - start - size);
		t->size -= size;
		return;
	case 11:
	case 12:
		memmove(t->at + byte, t->at + start + size, t->size - start - size);
		t->size -= start + size - byte;
		return;
	case 13:
	case 14:
		line = malloc(size);
		cr_assert_not_null(line);
		memcpy(line, t->at + start, size);
		memmove(t->at + other + size, t->at + other, t->size - other);
		memcpy(t->at + other, line, size);
		t->size += size;
		free(line);
		return;
	default:
		if (draw(state) % 8 == 0)
			t->size = byte;
		return;
	}
}

/* A copy with room for lines that are doubled, damaged some times. */
static struct text
damaged(const struct text *whole, unsigned accidents, uint64_t *state)
{
	struct text t = { malloc(whole->size + 65536), whole->size };

	cr_assert_not_null(t.at);
	memcpy(t.at, whole->at, whole->size);
	for (unsigned i = 0; i < accidents && t.size + 4096 < whole->size + 65536; i++)
		damage(&t, state);
	return t;
}

/* An import gives a sentence, or a trace that can be replayed to its end with every law holding. */
static void
expect_survived(const struct folder *f, uint64_t round)
{
	struct kvt_import in = { .path = f->path };
	struct imported i = import(&in);

	if (i.result != 0) {
		cr_expect_neq(i.error[0], '\0');
	} else {
		struct replayed r = { .folder = NULL };

		cr_expect_eq(i.report.events, i.report.expressed + i.report.information + i.report.not_expressed);
		replay(&r, i.trace, i.size, true);
		cr_expect(r.result == KVT_PASSED || r.result == KVT_DIVERGED, "round %" PRIu64 ": %d, %s", round,
			  (int)r.result, r.report);
		cr_expect_eq(r.laws, 0, "round %" PRIu64, round);
		free(r.report);
	}
	imported_free(&i);
}

static void
survive(const char *name, uint64_t rounds, bool mappings)
{
	static const char *const names[] = { "trace.txt", "snap-0/vmallocinfo", "mappings.0.csv" };
	static const char *const files[] = { "trace.txt.xz", "snap-0/vmallocinfo", "mappings.0.csv.xz" };
	uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
	struct text whole[3] = { 0 };
	size_t count = mappings ? 3 : 2;
	char path[128];
	struct folder f;

	folder_make(&f);
	for (size_t n = 0; n < count; n++) {
		snprintf(path, sizeof path, "%s/%s", name, files[n]);
		whole[n] = read_recorded(path);
		folder_put(&f, names[n], whole[n].at, whole[n].size);
	}
	rounds = kit_scaled(rounds);
	for (uint64_t round = 0; round < rounds; round++) {
		/* mostly the trace; the other two one time in eight each */
		size_t n = draw(&state) % 8;
		n = n < count ? n : 0;
		struct text t = damaged(&whole[n], 1u << (round % 10), &state);
		folder_put(&f, names[n], t.at, t.size);
		expect_survived(&f, round);
		folder_put(&f, names[n], whole[n].at, whole[n].size);
		free(t.at);
	}
	for (size_t n = 0; n < count; n++)
		free(whole[n].at);
	folder_remove(&f);
}

Test(damage, of_a_recording_of_areas)
{
	survive("linux-6.12-riscv64-sv48", 60, false);
}

Test(damage, of_a_recording_of_page_tables)
{
	survive("linux-6.1-x86_64-4level", 40, true);
}

/* What a replay is compared with may be damaged too: then it differs, or the line is told. */
Test(damage, of_what_is_compared)
{
	static const char trace[] =
	    "kvmtrace 1\n"
	    "store vmalloc=0xffffc90000000000..0xffffe90000000000\n"
	    "kvirt_reserve_at start=0xffffc90000000000 area_size=0x5000\n"
	    "kvirt_map_untracked_into area=1 va=0xffffc90000000000 paddr_start=0x1000 "
	    "paddr_end=0x5000 prop=rw:wb\n"
	    "boot_map va=0xffff888000000000 paddr_start=0x0 paddr_end=0x600000 prop=rw:wb+global\n"
	    "boot_map va=0xffffffff81000000 paddr_start=0x1000000 paddr_end=0x1003000 prop=rx:wb\n";
	static const char table[] = "va,pa,size,entry,flags\n"
				    "0xffff888000000000,0x0,1073741824,0x1e3,rw-kg--ad\n"
				    "0xffffc90000000000,0x1000,4096,0x3,rw-k---ad\n"
				    "0xffffc90000001000,0x2000,4096,0x3,rw-k---ad\n"
				    "0xffffc90000002000,0x3000,4096,0x3,rw-k---ad\n"
				    "0xffffc90000003000,0x4000,4096,0x3,rw-k---ad\n"
				    "0xffffffff81000000,0x1000000,4096,0x1,r-xk---ad\n"
				    "0xffffffff81001000,0x1001000,4096,0x1,r-xk---ad\n"
				    "0xffffffff81002000,0x1002000,4096,0x1,r-xk---ad\n";
	static const char listing[] = "0xffffc90000000000-0xffffc90000005000   20480 a+0x1/0x2 vmalloc\n"
				      "0xffffc90000006000-0xffffc90000008000    8192 unpurged vm_area\n";
	const struct text whole[] = { { (char *)(uintptr_t)table, sizeof table - 1 },
				      { (char *)(uintptr_t)listing, sizeof listing - 1 } };
	struct kvt_replay run = { .open = open_embedded, .report = stderr };
	char error[256], *report;
	struct kvt_input *in = kvt_input_memory("trace", trace, strlen(trace), error, sizeof error);
	uint64_t state = 12345, told = 0, differed = 0;

	cr_assert_eq(kvt_replay(&run, in, "trace"), KVT_PASSED);
	for (uint64_t round = 0; round < 2000; round++) {
		struct text t = damaged(&whole[round % 2], 1u << (round % 4), &state);
		struct kvt_input *list = kvt_input_memory("list", t.at, t.size, error, sizeof error);
		struct kvt_compared_leaves leaves;
		struct kvt_compared areas;
		bool readable = false;
		size_t size;
		FILE *out = open_memstream(&report, &size);

		if (list != NULL && round % 2 == 0) {
			cr_expect_eq(kvt_compare_leaves(run.target, list, 0, 3, out, &leaves, &readable), KVT_DONE);
			differed += readable && !kvt_compared_leaves_equal(&leaves);
		} else if (list != NULL) {
			cr_expect_eq(kvt_compare_areas(run.target, list, 3, out, &areas, &readable), KVT_DONE);
			differed += readable && !kvt_compared_equal(&areas);
		}
		fclose(out);
		if (!readable && list != NULL)
			cr_expect_eq(strncmp(report, "list", 4), 0, "%s", report);
		told += !readable;
		free(report);
		kvt_input_close(&list);
		free(t.at);
	}
	cr_expect_gt(told, 100);
	cr_expect_gt(differed, 100);
	kvt_target_close(&run.target);
	kvt_input_close(&in);
}
