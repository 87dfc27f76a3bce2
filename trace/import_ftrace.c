/*
 * import_ftrace - a recording of a Linux kernel, event by event, as a trace.
 *
 *	read      the trace is read once, into an array of the events that matter;
 *	          all others are only counted
 *	settle    what the store must be: architecture, memory, ranges of addresses;
 *	          which listed areas are older than the trace
 *	write     the events in order, each as operations, and the store followed
 *
 * Law of the third part: "image" is what a fresh store holds after the ops
 * written so far, as far as their outcomes depend on it.
 */
#include "trace/import_ftrace.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "trace/input.h"

#define PAGE UINT64_C(0x1000)
#define HUGE UINT64_C(0x200000)
#define HUGE_PAGES (HUGE / PAGE)
#define GIANT UINT64_C(0x40000000)
#define MODULES_START UINT64_C(0xffffffffc0000000)       /* of x86 kernels */
#define MODULES_START_FIXED UINT64_C(0xffffffffa0000000) /* of those built to stay where they are linked */
#define MODULES_END UINT64_C(0xffffffffff000000)
#define IMAGE_START UINT64_C(0xffffffff80000000) /* where x86 kernels are linked, and may move up from */
#define ADDRESS_END UINT64_C(0xffffffffffff0000) /* no range of a store reaches further */
#define PADDR_END (UINT64_C(1) << 52)            /* no PTE holds more */

#define FIELDS_MAX 5
#define NAMED_MAX 16                  /* page pointers in one event */
#define KINDS_MAX 256                 /* names of events; the rest is counted together */
#define LIST_MAX 32768                /* frames in one op: its line stays below 1 MiB */
#define RANGE_MAX (UINT64_C(1) << 20) /* pages of one mapping of contiguous memory */
#define LEAVES_MAX (UINT64_C(1) << 24)
#define SPANS_MAX 64  /* different ranges that allocations were made from */
#define MARK_MAX 1000 /* bytes of a mark that become a comment */
#define NO_FRAME UINT64_MAX
#define KVT_IMPORT_SENTENCE 4600 /* bytes of a sentence with a path in it */

/* Bits of an x86 leaf, which is also what "prot", "set" and "clr" of an event hold. */
#define BIT_P (UINT64_C(1) << 0)
#define BIT_RW (UINT64_C(1) << 1)
#define BIT_US (UINT64_C(1) << 2)
#define BIT_PWT (UINT64_C(1) << 3)
#define BIT_PCD (UINT64_C(1) << 4)
#define BIT_A (UINT64_C(1) << 5)
#define BIT_D (UINT64_C(1) << 6)
#define BIT_G (UINT64_C(1) << 8)
#define BIT_NX (UINT64_C(1) << 63)
#define BITS_CACHE (BIT_PWT | BIT_PCD)
#define BITS_ALL (BIT_P | BIT_RW | BIT_US | BITS_CACHE | BIT_A | BIT_D | BIT_G | BIT_NX)

/* ---- What is kept ------------------------------------------------------ */

enum event_kind {
	EVENT_ALLOC,
	EVENT_FREE,
	EVENT_PURGE,
	EVENT_MAP_PAGES,
	EVENT_MAP_SMALL,
	EVENT_MAP_RANGE,
	EVENT_UNMAP,
	EVENT_ATTRIBUTES,
	EVENT_BASES,
	EVENT_MARK,
	EVENT_LOST /* no event: a line that says some are missing */
};

struct event {
	uint64_t line, t;
	uint64_t v[FIELDS_MAX]; /* the format's fields, in its order */
	size_t extra;           /* first of its page pointers, or of its text */
	enum event_kind kind;
	unsigned char format; /* number of its format */
	unsigned int named;   /* page pointers that mean something */
	char task[16];
};

/* Index of a field in event.v: the order of the formats below. */
enum { ALLOC_VA, ALLOC_SIZE, ALLOC_VSTART, ALLOC_VEND, ALLOC_FAILED };
enum { PROBED_VA, PROBED_END };
enum { PURGE_START, PURGE_END, PURGE_COUNT };
enum { MAP_START, MAP_END, MAP_PROT, MAP_SHIFT };
enum { RANGE_START, RANGE_END, RANGE_PHYS, RANGE_PROT, RANGE_SHIFT };
enum { CPA_START, CPA_SET, CPA_CLEAR, CPA_PAGES, CPA_FLAGS };
enum { BASES_OFFSET, BASES_VMALLOC, BASES_VMEMMAP };

#define CPA_ARRAYS 6u /* flags: the addresses are an array, of which the event shows one */

struct format {
	const char *name;
	enum event_kind kind;
	bool pages; /* ends in pg={...} */
	const char *field[FIELDS_MAX];
};

/* Of two formats of one name, the first whose fields are all there: kernels before 6.2 have probes for area events. */
static const struct format formats[] = {
	{ "alloc_vmap_area", EVENT_ALLOC, false, { "va_start", "size", "vstart", "vend", "failed" } },
	{ "alloc_vmap_area", EVENT_ALLOC, false, { "va_start", "va_end" } },
	{ "pcpu_vm_areas", EVENT_ALLOC, false, { "addr", "size" } },
	{ "free_vmap_area_noflush", EVENT_FREE, false, { "va_start" } },
	{ "purge_vmap_area_lazy", EVENT_PURGE, false, { "start", "end", "num_purged" } },
	{ "purge_vmap_area_lazy", EVENT_PURGE, false, { NULL } },
	{ "vmap_pages", EVENT_MAP_PAGES, true, { "addr", "end", "prot", "shift" } },
	{ "vmap_small", EVENT_MAP_SMALL, true, { "addr", "end", "prot" } },
	{ "vmap_range", EVENT_MAP_RANGE, false, { "addr", "end", "phys", "prot", "maxshift" } },
	{ "vunmap_range", EVENT_UNMAP, false, { "start", "end" } },
	{ "cpa", EVENT_ATTRIBUTES, false, { "vaddr", "set", "clr", "n", "flags" } },
	{ "bases", EVENT_BASES, false, { "page_offset", "vmalloc", "vmemmap" } },
};

#define FORMATS_COUNT (sizeof formats / sizeof formats[0])

struct range {
	uint64_t start, end;
};

/* A range that allocations were made from, how many, and where they came to lie. */
struct span {
	uint64_t start, end, count;
	uint64_t low, high;
};

/* A line of the first listing. */
struct listed {
	uint64_t start, end, line;
	bool ioremap;        /* maps contiguous memory, not frames */
	bool unpurged;       /* freed: listed because its addresses cannot be used yet */
	bool decided;        /* an event says whether it is older */
	bool older;          /* it was there before the trace */
	uint64_t overlapped; /* line of an event that handed out part of it, or 0 */
	char owner[48];
};

/* A leaf of the recorded mappings. */
struct recorded {
	uint64_t va, pa, size, bits, line;
};

/* A leaf of the store.  Its frame is named by "pa" alone: ids end when mapped. */
struct leaf {
	uint64_t va, pa, bits;
	size_t hold; /* index + 1 of the segment that holds its RAM, or 0 */
	bool tracked, huge;
};

struct area {
	uint64_t start, end, id;
	uint64_t twin_start, twin_end; /* mapped by the last vmap_pages: its vmap_small follows */
	struct {
		struct leaf *at;
		size_t count, cap;
	} leaves; /* by address */
};

/* A freed range that the kernel has not purged. */
struct lazy {
	uint64_t start, end, line;
};

/* The segment that holds the RAM of a 2 MiB page; "left" of its small pages are mapped. */
struct hold {
	uint64_t pa, segment;
	uint64_t left;
};

struct count {
	uint64_t key, n; /* key: frame number + 1, 0 = free entry */
};

#define VECTOR(type)                                                                                                   \
	struct {                                                                                                       \
		type *at;                                                                                              \
		size_t count, cap;                                                                                     \
	}

struct importer {
	const struct kvt_import *in;
	FILE *out;
	struct kvt_import_report *report;

	/* how it ends */
	jmp_buf failed;
	char *error;
	size_t error_size;

	/* the file being read */
	struct kvt_input *input;
	uint64_t line;
	char path_text[4096];

	/* what was read */
	bool folder;
	VECTOR(struct event) events;
	VECTOR(uint64_t) pages;
	VECTOR(char) texts;
	VECTOR(struct span) spans;
	VECTOR(struct range) ranges; /* of areas; ascending, disjoint, not touching */
	VECTOR(struct range) ram;    /* empty: not known */
	VECTOR(struct listed) listing;
	VECTOR(struct recorded) mappings;
	bool bases_known, probes;
	bool from_boot;     /* the first area lies where areas begin: none is older than the trace */
	uint64_t last_time; /* of the line before */
	uint64_t page_offset, vmalloc_base, vmemmap;
	char machine[16];                      /* as the folder says, or empty */
	uint64_t levels;                       /* as the folder says, or 0 */
	size_t listing_at;                     /* the listing was taken before this event */
	size_t mappings_at;                    /* so were the mappings; SIZE_MAX: before all */
	VECTOR(struct recorded) boot_mappings; /* of the direct map and the image */
	uint64_t unnamed;                      /* pages mapped that no event names */
	uint64_t frames_end;                   /* end of the highest frame named */

	/* what the store must be */
	const struct machine *store;
	uint64_t memory_end, max_paddr;
	bool memory_known;

	/* the image: what the store holds */
	VECTOR(struct area *) areas; /* by address */
	struct area boot;            /* all that lies outside the ranges: direct map and image */
	VECTOR(struct hold) holds;
	VECTOR(size_t) released;                 /* holds to be dropped after this op */
	VECTOR(struct count) refs;               /* hash of frames that are or were referenced; count = entries taken */
	VECTOR(uint64_t) free_frames;            /* heap of frames given back, lowest first */
	uint64_t next_frame_paddr, frames_limit; /* above them: frames never taken */
	uint64_t next_area, next_frame, next_segment;
	uint64_t leaves;            /* of all areas */
	VECTOR(struct lazy) lazies; /* by address */

	/* the event at work */
	size_t at; /* its number */
	bool lost; /* some before it are missing */
	VECTOR(uint64_t) paddrs;
	VECTOR(uint64_t) lines;
	const char *reason;
	uint64_t t;
	bool timed;
	char src[128];
};

/* An architecture of the store, and how a recording shows that it is the one. */
struct machine {
	const char *arch;
	const char *name; /* as recordings say it */
	uint64_t levels;
	uint64_t kernel_half, max_paddr, vmalloc_size;
	uint64_t area_end; /* end of a range of areas that only this kernel has, or 0 */
};

static const struct machine machines[] = {
	{ "x86_64", "x86_64", 4, 0xffff800000000000, UINT64_C(1) << 46, UINT64_C(32) << 40, 0 },
	{ "x86_64_la57", "x86_64", 5, 0xff00000000000000, UINT64_C(1) << 46, UINT64_C(12800) << 40, 0 },
	{ "riscv64_sv48", "riscv64", 4, 0xffff800000000000, UINT64_C(1) << 46, UINT64_C(32) << 40, 0xffffaf8000000000 },
	{ "riscv64_sv39", "riscv64", 3, 0xffffffc000000000, UINT64_C(1) << 37, UINT64_C(64) << 30, 0xffffffd600000000 },
};

#define MACHINES_COUNT (sizeof machines / sizeof machines[0])

/* ---- Failure and memory ------------------------------------------------ */

/* Give up: nothing below kvt_import_ftrace holds anything that "im" does not. */
__attribute__((noreturn, format(printf, 2, 3))) static void
fail(struct importer *im, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(im->error, im->error_size, format, args);
	va_end(args);
	longjmp(im->failed, 1);
}

/* "array" with room for "need" elements of "size" bytes; never gives up without "im" owning it. */
static void *
grown(struct importer *im, void *array, size_t *cap, size_t need, size_t size)
{
	if (need <= *cap)
		return array;
	size_t room = *cap < 8 ? 16 : *cap * 2;
	if (room < need)
		room = need;
	void *bigger = room <= SIZE_MAX / size / 2 ? realloc(array, room * size) : NULL;
	if (bigger == NULL)
		fail(im, "out of memory");
	*cap = room;
	return bigger;
}

/* Room for "more" further elements in vector "v". */
#define GROW(im, v, more) ((v).at = grown((im), (v).at, &(v).cap, (v).count + (more), sizeof *(v).at))

static uint64_t
round_down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

/* Also right for the last unit of the address space, whose end counts as ADDRESS_END. */
static uint64_t
round_up(uint64_t value, uint64_t unit)
{
	return value > UINT64_MAX - (unit - 1) ? ADDRESS_END : round_down(value + unit - 1, unit);
}

/* ---- Counting ---------------------------------------------------------- */

static void
count_event(struct kvt_import_report *report, enum kvt_import_use use, const char *name, const char *reason)
{
	uint64_t *totals[KVT_IMPORT_USES] = { &report->expressed, &report->information, &report->not_expressed };
	char text[sizeof report->kinds[0].name];
	size_t i;

	report->events++;
	(*totals[use])++;
	snprintf(text, sizeof text, "%s%s%s", name, reason == NULL ? "" : ", ", reason == NULL ? "" : reason);
	for (i = 0; i < report->kinds_count; i++)
		if (report->kinds[i].use == use && strcmp(report->kinds[i].name, text) == 0)
			break;
	if (i == report->kinds_count && i >= KINDS_MAX - KVT_IMPORT_USES) {
		/* One entry for each use is always left for names that come too late. */
		for (i = KINDS_MAX - KVT_IMPORT_USES; i < report->kinds_count; i++)
			if (report->kinds[i].use == use)
				break;
		snprintf(text, sizeof text, "(other names)");
	}
	if (i == report->kinds_count) {
		memcpy(report->kinds[i].name, text, sizeof text);
		report->kinds[i].use = use;
		report->kinds_count++;
	}
	report->kinds[i].count++;
}

static const char *const anomaly_texts[KVT_IMPORT_ANOMALY_KINDS] = {
	[KVT_IMPORT_REUSED_UNPURGED] = "area allocated in a freed range before its purge",
	[KVT_IMPORT_ALLOCATED_LIVE] = "area allocated over a live one",
	[KVT_IMPORT_MAPPED_TWICE] = "page mapped where one was mapped",
	[KVT_IMPORT_FREED_MAPPED] = "area freed with mappings left",
	[KVT_IMPORT_FREED_UNKNOWN] = "area freed that is not allocated",
	[KVT_IMPORT_MAPPED_NOWHERE] = "pages mapped where no area is",
	[KVT_IMPORT_FRAME_STRANGE] = "page pointer that names no frame",
	[KVT_IMPORT_HUGE_NOT_HELD] = "2 MiB page over frames in use",
	[KVT_IMPORT_HUGE_PARTLY] = "part of a 2 MiB page unmapped",
	[KVT_IMPORT_PURGE_COUNT] = "more ranges purged than known to be freed",
	[KVT_IMPORT_LISTING_CONFLICT] = "listed area that does not fit the events",
	[KVT_IMPORT_MAPPING_CONFLICT] = "recorded leaf that does not fit the events",
	[KVT_IMPORT_TIME_BACKWARDS] = "time runs backwards",
};

const char *
kvt_import_anomaly_text(enum kvt_import_anomaly_kind kind)
{
	return anomaly_texts[kind];
}

enum kvt_import_file
kvt_import_anomaly_file(enum kvt_import_anomaly_kind kind)
{
	return kind == KVT_IMPORT_LISTING_CONFLICT   ? KVT_IMPORT_FILE_LISTING
	       : kind == KVT_IMPORT_MAPPING_CONFLICT ? KVT_IMPORT_FILE_MAPPINGS
						     : KVT_IMPORT_FILE_TRACE;
}

/* "FILE:LINE: what is wrong: where". */
static void
anomaly_sentence(const struct kvt_import_report *report, const struct kvt_import_anomaly *a, char *text, size_t size)
{
	const char *file = report->file[kvt_import_anomaly_file(a->kind)];
	char where[96], other[48] = "";

	if (a->kind == KVT_IMPORT_TIME_BACKWARDS)
		snprintf(where, sizeof where, "%" PRIu64 " ns after %" PRIu64 " ns", a->end, a->start);
	else
		snprintf(where, sizeof where, "0x%" PRIx64 "..0x%" PRIx64, a->start, a->end);
	if (a->other_line != 0)
		snprintf(other, sizeof other, " (line %" PRIu64 ")", a->other_line);
	snprintf(text, size, "%s:%" PRIu64 ": %s: %s%s", file == NULL ? "-" : file, a->line, anomaly_texts[a->kind],
		 where, other);
}

/* One more; those that stand in the trace's own lines are said there too. */
static void
anomaly(struct importer *im, enum kvt_import_anomaly_kind kind, uint64_t line, uint64_t start, uint64_t end,
	uint64_t other_line)
{
	struct kvt_import_report *report = im->report;
	struct kvt_import_anomaly a = {
		.kind = kind, .line = line, .start = start, .end = end, .other_line = other_line
	};
	char text[KVT_IMPORT_SENTENCE];

	if (im->in->strict) {
		anomaly_sentence(report, &a, text, sizeof text);
		fail(im, "%s", text);
	}
	if (kind <= KVT_IMPORT_MAPPED_NOWHERE)
		fprintf(im->out, "# line %" PRIu64 " of the recording: %s\n", line, anomaly_texts[kind]);
	report->anomalies_count[kind]++;
	if (report->anomalies_kept < KVT_IMPORT_ANOMALIES_KEPT)
		report->anomalies[report->anomalies_kept++] = a;
}

/* ---- Reading lines ----------------------------------------------------- */

static void
open_file(struct importer *im, const char *path)
{
	im->line = 0;
	im->input = kvt_input_open(path, im->error, im->error_size);
	if (im->input == NULL)
		longjmp(im->failed, 1);
}

/* The next line without its end, or NULL at the end of the file, which is then closed. */
static char *
next_line(struct importer *im, size_t *length)
{
	char *line;
	ssize_t got = kvt_input_line(im->input, &line);

	im->line++;
	if (got < -1)
		fail(im, "%s", kvt_input_error(im->input));
	if (got == -1) {
		kvt_input_close(&im->input);
		return NULL;
	}
	*length = (size_t)got;
	if (got > 0 && line[got - 1] == '\r')
		line[--*length] = '\0';
	return line;
}

/* Bytes of "text" that a trace and a terminal can show; all others as '?'. */
static void
clean(char *to, size_t size, const char *text, bool quoted)
{
	size_t n = 0;

	for (; *text != '\0' && n + 3 <= size; text++) {
		if (quoted && (*text == '"' || *text == '\\'))
			to[n++] = '\\';
		to[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
	}
	to[n] = '\0';
}

/* The beginning of a line that is refused, for the sentence that says so. */
static const char *
shown(const char *line, char text[64])
{
	clean(text, 64, line, false);
	return text;
}

/* A decimal or 0x number at *text, which moves behind it. */
static bool
read_number(const char **text, uint64_t *value)
{
	const char *p = *text;
	uint64_t base = p[0] == '0' && (p[1] == 'x' || p[1] == 'X') ? 16 : 10;
	uint64_t result = 0;
	const char *digits = p += base == 16 ? 2 : 0;

	for (; isxdigit((unsigned char)*p); p++) {
		uint64_t digit =
		    (uint64_t)(isdigit((unsigned char)*p) ? *p - '0' : tolower((unsigned char)*p) - 'a' + 10);
		if (digit >= base || result > (UINT64_MAX - digit) / base)
			return false;
		result = result * base + digit;
	}
	if (p == digits)
		return false;
	*text = p;
	*value = result;
	return true;
}

/* Hexadecimal digits without 0x at *text, which moves behind them. */
static bool
read_hex(const char **text, uint64_t *value)
{
	char *end;

	if (!isxdigit((unsigned char)**text))
		return false;
	errno = 0;
	*value = strtoull(*text, &end, 16);
	*text = end;
	return errno == 0;
}

/* ---- Reading the trace ------------------------------------------------- */

/* The number after "NAME=" or "NAME:" in the arguments of an event. */
static bool
read_field(const char *args, const char *name, uint64_t *value)
{
	size_t length = strlen(name);

	for (const char *p = args; (p = strstr(p, name)) != NULL; p += length) {
		if ((p != args && p[-1] != ' ') || (p[length] != '=' && p[length] != ':'))
			continue;
		p += length + 1;
		p += strspn(p, " ");
		return read_number(&p, value) && (*p == '\0' || *p == ' ');
	}
	return false;
}

/* The page pointers "pg={A,B,...}": keep the first "want".  One that is no number names no page. */
static bool
read_pages(struct importer *im, const char *args, struct event *e, uint64_t want)
{
	const char *p = strstr(args, " pg={");
	const char *close = p == NULL ? NULL : strchr(p, '}');

	if (close == NULL)
		return false;
	if (want > NAMED_MAX)
		want = NAMED_MAX;
	GROW(im, im->pages, NAMED_MAX);
	e->extra = im->pages.count;
	e->named = 0;
	for (p += strlen(" pg={"); e->named < want && p < close; e->named++) {
		uint64_t pointer;
		if (!read_number(&p, &pointer))
			pointer = 0;
		im->pages.at[im->pages.count++] = pointer;
		p += strcspn(p, ",}");
		p += *p == ',';
	}
	return true;
}

/* "[start, end) is a range of whole pages" */
static bool
whole_pages(uint64_t start, uint64_t end)
{
	return start < end && start % PAGE == 0 && end % PAGE == 0;
}

/* Whether the fields can be what the kernel meant: half a line or a damaged one often cannot. */
static bool
event_is_sound(const struct event *e)
{
	const uint64_t *v = e->v;

	switch (e->kind) {
	case EVENT_ALLOC:
		return v[ALLOC_FAILED] != 0 ||
		       (v[ALLOC_SIZE] <= UINT64_MAX - v[ALLOC_VA] &&
			whole_pages(v[ALLOC_VA], v[ALLOC_VA] + v[ALLOC_SIZE]) && v[ALLOC_VSTART] <= v[ALLOC_VA] &&
			v[ALLOC_VA] + v[ALLOC_SIZE] <= round_up(v[ALLOC_VEND], PAGE));
	case EVENT_FREE:
		return v[0] % PAGE == 0;
	case EVENT_MAP_PAGES:
	case EVENT_MAP_SMALL:
	case EVENT_UNMAP:
		return whole_pages(v[MAP_START], v[MAP_END]);
	case EVENT_MAP_RANGE:
		return whole_pages(v[RANGE_START], v[RANGE_END]) && v[RANGE_PHYS] % PAGE == 0 &&
		       v[RANGE_PHYS] < PADDR_END && v[RANGE_END] - v[RANGE_START] <= PADDR_END - v[RANGE_PHYS];
	case EVENT_ATTRIBUTES:
		return v[CPA_START] % PAGE == 0 && v[CPA_PAGES] <= (UINT64_MAX - v[CPA_START]) / PAGE;
	case EVENT_PURGE:
	case EVENT_BASES:
	case EVENT_MARK:
	case EVENT_LOST:
		return true;
	}
	return false;
}

/* "SECONDS.FRACTION:" from p to end, in nanoseconds; a clock without a point counts as it is. */
static bool
read_time(const char *p, const char *end, uint64_t *t)
{
	uint64_t seconds = 0, fraction = 0, unit = 1;

	if (end == p || end[-1] != ':' || !isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p) && seconds < UINT64_C(10000000000); p++)
		seconds = seconds * 10 + (uint64_t)(*p - '0');
	if (*p == '.') {
		for (unit = 1000000000, p++; isdigit((unsigned char)*p) && unit > 1; p++) {
			unit /= 10;
			fraction += (uint64_t)(*p - '0') * unit;
		}
		unit = 1000000000;
	}
	*t = seconds * unit + fraction;
	return p == end - 1;
}

/* Behind "[CPU] FLAGS TIME:", where FLAGS may be missing; NULL if "bracket" does not begin that. */
static char *
read_head(char *bracket, uint64_t *t)
{
	char *p = bracket + 1 + strspn(bracket + 1, "0123456789");

	if (p == bracket + 1 || *p++ != ']')
		return NULL;
	for (int token = 0; token < 2; token++) {
		char *word = p + strspn(p, " ");
		p = word + strcspn(word, " ");
		if (read_time(word, p, t))
			return p + strspn(p, " ");
	}
	return NULL;
}

/* The name before "-PID" of "TASK-PID" or "TASK-PID (TGID)". */
static bool
read_task(const char *start, const char *end, char *task, size_t size)
{
	while (start < end && *start == ' ')
		start++;
	while (end > start && end[-1] == ' ')
		end--;
	if (end > start && end[-1] == ')') {
		while (end > start && end[-1] != '(')
			end--;
		for (end -= end > start; end > start && end[-1] == ' ';)
			end--;
	}
	const char *pid = end;
	while (pid > start && isdigit((unsigned char)pid[-1]))
		pid--;
	if (pid == end || pid <= start + 1 || pid[-1] != '-')
		return false;
	snprintf(task, size, "%.*s", (int)(pid - 1 - start), start);
	return true;
}

/* What a line says: event "*name" with "*args".  A system call's line "NAME(..." or "NAME -> ..." too. */
static bool
read_line(char *line, struct event *e, char **name, char **args)
{
	char *rest = NULL;

	for (char *p = line; rest == NULL && (p = strchr(p, '[')) != NULL; p++)
		if (p > line && p[-1] == ' ' && (rest = read_head(p, &e->t)) != NULL &&
		    !read_task(line, p, e->task, sizeof e->task))
			rest = NULL;
	if (rest == NULL)
		return false;
	*name = rest;
	while (isalnum((unsigned char)*rest) || *rest == '_')
		rest++;
	if (rest == *name || (*rest != ':' && *rest != '(' && strncmp(rest, " -> ", 4) != 0))
		return false;
	*args = rest + 1 + (*rest == ':' && rest[1] == ' ');
	*rest = '\0';
	return true;
}

/* Keep "text" for the event. */
static void
keep_text(struct importer *im, struct event *e, const char *text)
{
	size_t length = strnlen(text, MARK_MAX);

	GROW(im, im->texts, length + 1);
	e->extra = im->texts.count;
	memcpy(im->texts.at + im->texts.count, text, length);
	im->texts.at[im->texts.count + length] = '\0';
	im->texts.count += length + 1;
}

static void
keep_event(struct importer *im, const struct event *e)
{
	GROW(im, im->events, 1);
	im->events.at[im->events.count++] = *e;
}

static void
add_span(struct importer *im, const struct event *e)
{
	uint64_t start = e->v[ALLOC_VSTART], end = e->v[ALLOC_VEND];
	uint64_t low = e->v[ALLOC_VA], high = low + e->v[ALLOC_SIZE];
	struct span *span = im->spans.at;

	if (start == 0)
		return; /* not told: the bases say where the kernel's areas lie */
	for (size_t i = 0; i < im->spans.count; i++, span++) {
		if (span->start != start || span->end != end)
			continue;
		span->count++;
		span->low = low < span->low ? low : span->low;
		span->high = high > span->high ? high : span->high;
		return;
	}
	if (im->spans.count == SPANS_MAX)
		return;
	GROW(im, im->spans, 1);
	im->spans.at[im->spans.count++] = (struct span){ start, end, 1, low, high };
}

/*
 * A probe on the kernel's function says less than the event: where the area
 * lies, or that all freed ranges were purged.  Areas of modules lie in one place
 * since there is address space layout randomisation, and in another without it.
 */
static void
complete_probed(struct event *e, const struct format *format)
{
	uint64_t start = e->v[PROBED_VA];

	if (e->kind == EVENT_PURGE) {
		e->v[PURGE_START] = 0;
		e->v[PURGE_END] = e->v[PURGE_COUNT] = UINT64_MAX;
		return;
	}
	/* per-CPU memory is probed too, with its size */
	if (strcmp(format->field[PROBED_END], "va_end") == 0)
		e->v[ALLOC_SIZE] = e->v[PROBED_END] - start;
	e->v[ALLOC_VSTART] = start >= MODULES_START         ? MODULES_START
			     : start >= MODULES_START_FIXED ? MODULES_START_FIXED
							    : 0;
	e->v[ALLOC_VEND] = start >= MODULES_START_FIXED ? MODULES_END : UINT64_MAX;
	e->v[ALLOC_FAILED] = 0;
}

/* Read the arguments of an event that matters.  False: they are not what its format says. */
static bool
read_args(struct importer *im, const struct format *format, const char *args, struct event *e)
{
	size_t count = 0;

	e->kind = format->kind;
	e->format = (unsigned char)(format - formats);
	if (e->kind == EVENT_ALLOC && strstr(args, "va_start=(fault)") != NULL) {
		e->v[ALLOC_FAILED] = 1; /* what a probe says where the kernel's function gave no area */
		return true;
	}
	for (; count < FIELDS_MAX && format->field[count] != NULL; count++)
		if (!read_field(args, format->field[count], &e->v[count]))
			return false;
	if ((e->kind == EVENT_ALLOC && count == PROBED_END + 1) || (e->kind == EVENT_PURGE && count == 0))
		complete_probed(e, format);
	if (!event_is_sound(e))
		return false;
	return !format->pages || read_pages(im, args, e, (e->v[MAP_END] - e->v[MAP_START]) / PAGE);
}

/* What an event tells before its turn comes: where areas lie, and how pages are named. */
static void
learn_from(struct importer *im, const struct event *e)
{
	if (e->kind == EVENT_ALLOC && e->v[ALLOC_FAILED] == 0) {
		im->from_boot = im->spans.count == 0 ? e->v[ALLOC_VA] == e->v[ALLOC_VSTART] : im->from_boot;
		add_span(im, e);
	}
	if (e->kind != EVENT_ALLOC && e->kind != EVENT_FREE && e->kind != EVENT_PURGE)
		im->probes = true;
	if (e->kind != EVENT_BASES || im->bases_known)
		return;
	im->bases_known = true;
	im->page_offset = e->v[BASES_OFFSET];
	im->vmalloc_base = e->v[BASES_VMALLOC];
	im->vmemmap = e->v[BASES_VMEMMAP];
}

/* The kernel prints its buffer in the order of time. */
static void
take_time(struct importer *im, const struct event *e)
{
	if (e->t < im->last_time)
		anomaly(im, KVT_IMPORT_TIME_BACKWARDS, e->line, im->last_time, e->t, 0);
	im->last_time = e->t;
}

/* One event line.  False: it is none. */
static bool
take_line(struct importer *im, char *line)
{
	struct event e = { .line = im->line };
	char *name, *args;

	if (!read_line(line, &e, &name, &args))
		return false;
	take_time(im, &e);
	if (strcmp(name, "tracing_mark_write") == 0) {
		e.kind = EVENT_MARK;
		keep_text(im, &e, args);
		keep_event(im, &e);
		return true;
	}
	for (size_t i = 0; i < FORMATS_COUNT; i++) {
		if (strcmp(name, formats[i].name) != 0)
			continue;
		if (!read_args(im, &formats[i], args, &e)) {
			if (i + 1 < FORMATS_COUNT && strcmp(name, formats[i + 1].name) == 0)
				continue;
			return false;
		}
		learn_from(im, &e);
		if (e.kind == EVENT_BASES)
			count_event(im->report, KVT_IMPORT_INFORMATION, name, NULL);
		else
			keep_event(im, &e);
		return true;
	}
	count_event(im->report, KVT_IMPORT_NOT_EXPRESSED, name, NULL);
	return true;
}

/* "CPU:N [LOST M EVENTS]": the buffer overran here. */
static bool
take_lost(struct importer *im, const char *line)
{
	struct event e = { .kind = EVENT_LOST, .line = im->line };
	const char *p = strstr(line, "[LOST ");
	char text[64];
	uint64_t lost;

	if (p == NULL || strncmp(line, "CPU:", 4) != 0)
		return false;
	p += strlen("[LOST ");
	if (!read_number(&p, &lost) || strcmp(p, " EVENTS]") != 0)
		return false;
	im->report->events_lost += lost;
	if (im->in->strict)
		fail(im, "%s:%" PRIu64 ": %" PRIu64 " events were lost here", im->report->file[KVT_IMPORT_FILE_TRACE],
		     im->line, lost);
	snprintf(text, sizeof text, "%" PRIu64 " events lost", lost);
	keep_text(im, &e, text);
	keep_event(im, &e);
	return true;
}

/* "# entries-in-buffer/entries-written: A/B": what the file should hold. */
static void
take_header(struct importer *im, const char *line)
{
	const char *p = strstr(line, "entries-written:");
	uint64_t held, written;

	im->report->header_lines++;
	if (p == NULL)
		return;
	p += strlen("entries-written:");
	p += strspn(p, " ");
	if (!read_number(&p, &held) || *p++ != '/' || !read_number(&p, &written))
		return;
	im->report->events_promised = held;
	im->report->events_overwritten = written > held ? written - held : 0;
}

/* Remember what file it was; "path" may lie in a buffer that is used again. */
static const char *
keep_path(struct importer *im, enum kvt_import_file file, const char *path)
{
	im->report->file[file] = strdup(path);
	if (im->report->file[file] == NULL)
		fail(im, "out of memory");
	return im->report->file[file];
}

/* Events that the report counts: those kept will be counted when they are written. */
static uint64_t
events_read(const struct importer *im)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < im->events.count; i++)
		lost += im->events.at[i].kind == EVENT_LOST;
	return im->report->events + im->events.count - lost;
}

/* The header knows how many events there were. */
static void
refuse_missing(struct importer *im, const char *path)
{
	const struct kvt_import_report *report = im->report;

	if (report->events_overwritten > 0)
		fail(im, "%s: %" PRIu64 " events were overwritten before the first", path, report->events_overwritten);
	if (report->events_promised > events_read(im))
		fail(im,
		     "%s:%" PRIu64 ": the file ends here, but its header promises %" PRIu64 " events, and %" PRIu64
		     " are not here",
		     path, report->lines, report->events_promised, report->events_promised - events_read(im));
}

static void
read_trace(struct importer *im, const char *path)
{
	struct kvt_import_report *report = im->report;
	char *line, text[64];
	size_t length;

	path = keep_path(im, KVT_IMPORT_FILE_TRACE, path);
	open_file(im, path);
	while ((line = next_line(im, &length)) != NULL) {
		report->lines++;
		if (line[0] == '#' || line[strspn(line, " \t")] == '\0') {
			take_header(im, line);
			continue;
		}
		shown(line, text); /* reading a line takes it apart */
		if (length <= KVT_LINE_MAX && strlen(line) == length && (take_line(im, line) || take_lost(im, line)))
			continue;
		if (im->in->strict)
			fail(im, "%s:%" PRIu64 ": neither an event nor a header: '%s'", path, im->line, text);
		if (report->unparsed++ == 0)
			report->unparsed_first_line = im->line;
	}
	if (im->events.count == 0 && report->events == 0)
		fail(im, "%s: no line of an ftrace recording in it (%" PRIu64 " lines read)", path, report->lines);
	if (im->in->strict)
		refuse_missing(im, path);
}

/* ---- Ranges of areas ---------------------------------------------------- */

/* The range that holds all of [start, end), or NULL. */
static const struct range *
range_around(const struct importer *im, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < im->ranges.count; i++)
		if (im->ranges.at[i].start <= start && end <= im->ranges.at[i].end)
			return &im->ranges.at[i];
	return NULL;
}

static void
add_range(struct importer *im, uint64_t start, uint64_t end)
{
	size_t i, j;

	end = round_up(end, PAGE);
	start = round_down(start, PAGE);
	if (start >= end)
		return;
	for (i = 0; i < im->ranges.count && im->ranges.at[i].end < start;)
		i++;
	for (j = i; j < im->ranges.count && im->ranges.at[j].start <= end; j++) {
		start = start < im->ranges.at[j].start ? start : im->ranges.at[j].start;
		end = end > im->ranges.at[j].end ? end : im->ranges.at[j].end;
	}
	if (i == j)
		GROW(im, im->ranges, 1);
	memmove(im->ranges.at + i + 1, im->ranges.at + j, (im->ranges.count - j) * sizeof im->ranges.at[0]);
	im->ranges.count += i + 1 - j;
	im->ranges.at[i] = (struct range){ start, end };
}

static int
spans_by_count(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
				    : (x->start > y->start) - (x->start < y->start);
}

/*
 * Where areas lie: the ranges that allocations were made from, common ones
 * first.  One that reaches beyond a more common one, with no area there, is
 * more likely a damaged line than a range of its own.
 */
static void
collect_ranges(struct importer *im)
{
	/* Probes do not tell, and the first listing may have modules' areas of which no event speaks. */
	for (size_t i = 0; im->bases_known && i < im->listing.count && im->spans.count < SPANS_MAX; i++)
		if (im->listing.at[i].start >= MODULES_START && im->listing.at[i].end <= MODULES_END &&
		    im->spans.count == 0)
			add_range(im, MODULES_START, MODULES_END);
	if (im->spans.count > 0)
		qsort(im->spans.at, im->spans.count, sizeof im->spans.at[0], spans_by_count);
	for (size_t i = 0; i < im->spans.count; i++)
		if (range_around(im, im->spans.at[i].low, im->spans.at[i].high) == NULL)
			add_range(im, im->spans.at[i].start, im->spans.at[i].end);
}

/* ---- Reading what lies beside the trace -------------------------------- */

/* "START-END : System RAM", hexadecimal; nested lines are indented. */
static void
read_iomem(struct importer *im, const char *path)
{
	size_t length;
	char *line;

	open_file(im, path);
	while ((line = next_line(im, &length)) != NULL) {
		const char *p = line;
		struct range ram;
		if (!read_hex(&p, &ram.start) || *p++ != '-' || !read_hex(&p, &ram.end) || ram.start >= ram.end)
			continue;
		if (strcmp(p, " : System RAM") != 0 || ram.end >= PADDR_END)
			continue;
		ram.end++;
		GROW(im, im->ram, 1);
		im->ram.at[im->ram.count++] = ram;
		im->memory_end = im->memory_end > ram.end ? im->memory_end : ram.end;
	}
}

/* What one line of ptpages.0.json says, if it is one of ours. */
static void
read_machine_line(struct importer *im, const char *line, uint64_t *ram_base, uint64_t *ram_bytes)
{
	struct {
		const char *key;
		uint64_t *value;
	} numbers[] = { { "\"ram_bytes\":", ram_bytes },
			{ "\"ram_base\":", ram_base },
			{ "\"levels\":", &im->levels } };
	const char *p;

	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		if ((p = strstr(line, numbers[i].key)) == NULL)
			continue;
		p += strlen(numbers[i].key);
		p += strspn(p, " \"");
		read_number(&p, numbers[i].value);
	}
	if ((p = strstr(line, "\"arch\": \"")) != NULL) {
		p += strlen("\"arch\": \"");
		snprintf(im->machine, sizeof im->machine, "%.*s", (int)strcspn(p, "\""), p);
	}
}

static void
read_machine(struct importer *im, const char *path)
{
	uint64_t ram_base = 0, ram_bytes = 0;
	size_t length;
	char *line;

	open_file(im, path);
	while ((line = next_line(im, &length)) != NULL)
		read_machine_line(im, line, &ram_base, &ram_bytes);
	if (ram_bytes < PADDR_END && ram_base < PADDR_END && ram_base + ram_bytes > im->memory_end)
		im->memory_end = ram_base + ram_bytes;
}

static int
listed_by_start(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;
	return (x->start > y->start) - (x->start < y->start);
}

/* "0xSTART-0xEND SIZE OWNER+OFFSET ..." or "... unpurged vm_area". */
static void
read_listing(struct importer *im, const char *path)
{
	size_t length;
	char *line;

	path = keep_path(im, KVT_IMPORT_FILE_LISTING, path);
	open_file(im, path);
	while ((line = next_line(im, &length)) != NULL) {
		struct listed l = { .line = im->line };
		const char *p = line;
		char text[64];
		uint64_t size;
		if (length == 0)
			continue;
		bool shape = read_number(&p, &l.start) && *p++ == '-' && read_number(&p, &l.end) && *p == ' ';
		p += strspn(p, " ");
		if (!shape || !read_number(&p, &size))
			fail(im, "%s:%" PRIu64 ": expected '0xSTART-0xEND SIZE ...' with real addresses, found '%s'",
			     path, im->line, shown(line, text));
		if (!whole_pages(l.start, l.end) || size != l.end - l.start)
			fail(im, "%s:%" PRIu64 ": no area has start 0x%" PRIx64 ", end 0x%" PRIx64 " and size %" PRIu64,
			     path, im->line, l.start, l.end, size);
		p += strspn(p, " ");
		l.unpurged = strncmp(p, "unpurged", 8) == 0;
		l.ioremap = strstr(p, " ioremap") != NULL;
		snprintf(l.owner, sizeof l.owner, "%.*s", (int)strcspn(p, "+ "), p);
		GROW(im, im->listing, 1);
		im->listing.at[im->listing.count++] = l;
	}
	if (im->listing.count > 0)
		qsort(im->listing.at, im->listing.count, sizeof im->listing.at[0], listed_by_start);
}

static int
recorded_by_va(const void *a, const void *b)
{
	const struct recorded *x = a, *y = b;
	return (x->va > y->va) - (x->va < y->va);
}

/* Where the kernel's own linear mapping of memory lies; empty if the recording does not tell. */
static struct range
direct_map(const struct importer *im)
{
	if (!im->bases_known || im->page_offset >= im->vmalloc_base || im->page_offset < im->store->kernel_half)
		return (struct range){ 0, 0 };
	return (struct range){ im->page_offset, im->vmalloc_base };
}

/* Where its image lies: up to the first range of areas behind it, which is that of modules. */
static struct range
kernel_image(const struct importer *im)
{
	struct range image = { IMAGE_START, MODULES_START };

	if (strcmp(im->store->name, "x86_64") != 0)
		return (struct range){ 0, 0 };
	for (size_t i = im->ranges.count; i-- > 0;)
		if (im->ranges.at[i].start > IMAGE_START)
			image = (struct range){ IMAGE_START, im->ranges.at[i].start };
	return image;
}

static bool
inside(const struct recorded *r, struct range range)
{
	return r->va >= range.start && r->va < range.end && r->size <= range.end - r->va;
}

/* A leaf of the direct map or the image.  No store has leaves of 1 GiB there: 512 of 2 MiB say the same. */
static void
keep_boot_mapping(struct importer *im, const struct recorded *r)
{
	uint64_t size = r->size > HUGE ? HUGE : r->size, count = r->size / size;

	if (count > LEAVES_MAX - im->boot_mappings.count)
		fail(im, "%s:%" PRIu64 ": more than %" PRIu64 " leaves", im->report->file[KVT_IMPORT_FILE_MAPPINGS],
		     r->line, LEAVES_MAX);
	GROW(im, im->boot_mappings, count);
	for (uint64_t i = 0; i < count; i++)
		im->boot_mappings.at[im->boot_mappings.count++] =
		    (struct recorded){ r->va + i * size, r->pa + i * size, size, r->bits, r->line };
}

/* The leaves of "va,pa,size,entry,flags" that lie where areas do, in the direct map and in the image. */
static void
read_mappings(struct importer *im, const char *path)
{
	size_t length;
	char *line, text[64];

	path = keep_path(im, KVT_IMPORT_FILE_MAPPINGS, path);
	open_file(im, path);
	line = next_line(im, &length);
	if (line == NULL || strcmp(line, "va,pa,size,entry,flags") != 0)
		fail(im, "%s:1: expected 'va,pa,size,entry,flags', found '%s'", path,
		     line == NULL ? "end of file" : shown(line, text));
	while ((line = next_line(im, &length)) != NULL) {
		struct recorded r = { .line = im->line };
		const char *p = line;
		if (!read_number(&p, &r.va) || *p++ != ',' || !read_number(&p, &r.pa) || *p++ != ',' ||
		    !read_number(&p, &r.size) || *p++ != ',' || !read_number(&p, &r.bits) || *p != ',')
			fail(im, "%s:%" PRIu64 ": expected va,pa,size,entry,flags, found '%s'", path, im->line,
			     shown(line, text));
		if (r.size < PAGE || (r.size & (r.size - 1)) != 0 || r.va % r.size != 0 || r.pa % r.size != 0 ||
		    r.pa >= PADDR_END || r.va > UINT64_MAX - (r.size - 1))
			fail(im, "%s:%" PRIu64 ": no leaf has va 0x%" PRIx64 ", pa 0x%" PRIx64 " and size %" PRIu64,
			     path, im->line, r.va, r.pa, r.size);
		r.bits &= BITS_ALL;
		if (inside(&r, direct_map(im)) || inside(&r, kernel_image(im))) {
			if (r.size > GIANT)
				fail(im, "%s:%" PRIu64 ": no leaf of this machine has size %" PRIu64, path, im->line,
				     r.size);
			keep_boot_mapping(im, &r);
			continue;
		}
		if (range_around(im, r.va, r.va + (r.size - 1)) == NULL)
			continue;
		GROW(im, im->mappings, 1);
		im->mappings.at[im->mappings.count++] = r;
	}
	if (im->mappings.count > 0)
		qsort(im->mappings.at, im->mappings.count, sizeof im->mappings.at[0], recorded_by_va);
	if (im->boot_mappings.count > 0)
		qsort(im->boot_mappings.at, im->boot_mappings.count, sizeof im->boot_mappings.at[0], recorded_by_va);
}

/* The first of FOLDER/NAME and FOLDER/NAME.xz that exists, or NULL. */
static const char *
beside(struct importer *im, const char *name)
{
	static const char *const endings[] = { "", ".xz" };
	struct stat st;

	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		int n = snprintf(im->path_text, sizeof im->path_text, "%s/%s%s", im->in->path, name, endings[i]);
		if (n > 0 && (size_t)n < sizeof im->path_text && stat(im->path_text, &st) == 0)
			return im->path_text;
	}
	return NULL;
}

/* ---- Settling what the store must be ----------------------------------- */

static const struct machine *
find_machine(const struct importer *im)
{
	const struct machine *half = &machines[0];

	for (const struct machine *m = machines; m < machines + MACHINES_COUNT; m++) {
		/* the folder names the family where it is not x86 */
		if (im->levels == m->levels && strcmp(im->machine[0] == '\0' ? "x86_64" : im->machine, m->name) == 0)
			return m;
	}
	for (size_t i = 0; i < im->ranges.count; i++) {
		for (const struct machine *m = machines; m < machines + MACHINES_COUNT; m++)
			if (!im->bases_known && m->area_end != 0 && im->ranges.at[i].end == m->area_end)
				return m;
		if (im->ranges.at[i].start >= machines[1].kernel_half &&
		    im->ranges.at[i].start < machines[0].kernel_half)
			half = &machines[1];
	}
	if (im->bases_known && im->page_offset < machines[0].kernel_half)
		half = &machines[1];
	return half;
}

/* The frame a page pointer names, or NO_FRAME. */
static uint64_t
frame_named(const struct importer *im, uint64_t pointer)
{
	uint64_t offset = pointer - im->vmemmap;

	if (!im->bases_known || pointer < im->vmemmap || offset % 64 != 0 || offset / 64 >= (UINT64_C(1) << 45) / PAGE)
		return NO_FRAME;
	return offset / 64 * PAGE;
}

/* How much memory the events speak of: where named frames end, and how many have no name. */
static void
measure_frames(struct importer *im)
{
	const struct event *last = NULL;

	for (size_t i = 0; i < im->events.count; i++) {
		const struct event *e = &im->events.at[i];
		if ((e->kind != EVENT_MAP_PAGES || e->v[MAP_SHIFT] != 12) && e->kind != EVENT_MAP_SMALL)
			continue;
		uint64_t pages = (e->v[MAP_END] - e->v[MAP_START]) / PAGE;
		bool twin = last != NULL && last->v[MAP_START] == e->v[MAP_START] && last->v[MAP_END] == e->v[MAP_END];
		for (size_t k = 0; k < e->named; k++) {
			uint64_t frame = frame_named(im, im->pages.at[e->extra + k]);
			if (frame != NO_FRAME && frame + PAGE > im->frames_end)
				im->frames_end = frame + PAGE;
		}
		if (!twin && pages - e->named < PADDR_END / PAGE - im->unnamed)
			im->unnamed += pages - e->named;
		last = twin || e->kind == EVENT_MAP_SMALL ? NULL : e;
	}
}

/*
 * Where memory ends, and how much the store has: at least twice that, so that
 * frames without a name (upwards from the end of memory) and page-table nodes
 * (downwards from the end of the store's) meet no recorded frame.
 */
static void
settle_memory(struct importer *im)
{
	uint64_t most = im->store->max_paddr;

	measure_frames(im);
	if (im->in->memory_size != 0)
		im->memory_end = im->in->memory_size;
	im->memory_known = im->memory_end != 0;
	if (!im->memory_known)
		im->memory_end = im->frames_end > UINT64_C(0x10000000) ? im->frames_end : UINT64_C(0x10000000);
	if (im->memory_end > most / 2)
		fail(im, "the recorded machine's memory ends at 0x%" PRIx64 "; %s takes no more than 0x%" PRIx64,
		     im->memory_end, im->store->arch, most / 2);
	im->memory_end = round_up(im->memory_end, HUGE);

	uint64_t room = im->unnamed < most / PAGE / 2 ? im->unnamed * PAGE : most / 2;
	room = round_up(room + room / 4 + UINT64_C(0x4000000), HUGE);
	if (room < im->memory_end)
		room = im->memory_end;
	im->max_paddr = room < most - im->memory_end ? im->memory_end + room : most;
	im->next_frame_paddr = im->memory_end;
	im->frames_limit = im->max_paddr - round_down((im->max_paddr - im->memory_end) / 4, PAGE);
}

/* The ranges the store takes: in the kernel half, beside its linear map, and not below the kernel's own areas. */
static void
settle_ranges(struct importer *im)
{
	uint64_t lowest = im->store->kernel_half + im->max_paddr;
	size_t kept = 0;

	if (im->bases_known && im->vmalloc_base > lowest)
		lowest = round_down(im->vmalloc_base, PAGE);
	if (im->bases_known && range_around(im, im->vmalloc_base, im->vmalloc_base) == NULL &&
	    im->vmalloc_base <= UINT64_MAX - im->store->vmalloc_size)
		add_range(im, im->vmalloc_base, im->vmalloc_base + im->store->vmalloc_size);
	for (size_t i = 0; i < im->ranges.count; i++) {
		struct range r = im->ranges.at[i];
		r.start = r.start > lowest ? r.start : lowest;
		r.end = r.end < ADDRESS_END ? r.end : ADDRESS_END;
		if (r.start < r.end)
			im->ranges.at[kept++] = r;
	}
	im->ranges.count = kept;
	if (kept == 0)
		fail(im, "%s: neither an area event nor a bases line says where areas lie", im->in->path);
}

/* Where the listing and the mappings belong: the first mark that says so. */
static void
settle_marks(struct importer *im)
{
	im->listing_at = im->events.count;
	im->mappings_at = im->events.count;
	for (size_t i = im->events.count; i-- > 0;) {
		const struct event *e = &im->events.at[i];
		if (e->kind != EVENT_MARK)
			continue;
		const char *text = im->texts.at + e->extra;
		if (strncmp(text, "DUMP0-before", 12) == 0)
			im->mappings_at = i;
		if (strncmp(text, "DUMP0-before", 12) == 0 || strncmp(text, "SYNC0-begin", 11) == 0)
			im->listing_at = i;
	}
}

/* First listed line whose end lies above "va". */
static size_t
listed_above(const struct importer *im, uint64_t va)
{
	size_t low = 0, high = im->listing.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (im->listing.at[middle].end > va)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* What one event before the mark says about one listed line that it overlaps. */
static void
judge_listed(struct listed *l, const struct event *e)
{
	bool same = l->start == e->v[0] && (e->kind == EVENT_FREE || l->end - l->start == e->v[ALLOC_SIZE]);

	if (l->decided)
		return;
	if (e->kind == EVENT_ALLOC && !same) {
		l->overlapped = e->line;
	} else if (same && (e->kind == EVENT_ALLOC || l->overlapped == 0)) {
		l->decided = true;
		l->older = e->kind == EVENT_FREE && !l->unpurged;
	}
}

/*
 * Which listed areas are older than the trace.  An allocation of just this range
 * explains one; its end, met first, shows that it was there before.  One that
 * neither was met for is older, unless an event handed part of it out.
 */
static void
settle_listing(struct importer *im)
{
	for (size_t i = 0; i < im->listing.count; i++)
		im->listing.at[i].older = true;
	for (size_t i = 0; i < im->listing_at; i++) {
		const struct event *e = &im->events.at[i];
		if (e->kind != EVENT_FREE && (e->kind != EVENT_ALLOC || e->v[ALLOC_FAILED] != 0))
			continue;
		uint64_t end = e->v[0] + (e->kind == EVENT_ALLOC ? e->v[ALLOC_SIZE] : PAGE);
		for (size_t k = listed_above(im, e->v[0]); k < im->listing.count && im->listing.at[k].start < end; k++)
			judge_listed(&im->listing.at[k], e);
	}
	for (size_t i = 0; i < im->listing.count; i++) {
		struct listed *l = &im->listing.at[i];
		if (l->decided || l->overlapped == 0)
			continue;
		l->older = false;
		if (!l->unpurged)
			anomaly(im, KVT_IMPORT_LISTING_CONFLICT, l->line, l->start, l->end, l->overlapped);
	}
}

/* ---- The image: frames -------------------------------------------------- */

static struct count *
refs_entry(struct importer *im, uint64_t paddr)
{
	uint64_t key = paddr / PAGE + 1;
	size_t mask = im->refs.cap - 1;
	size_t i = (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 20) & mask;

	while (im->refs.at[i].key != 0 && im->refs.at[i].key != key)
		i = (i + 1) & mask;
	return &im->refs.at[i];
}

static void
refs_rehash(struct importer *im)
{
	struct count *old = im->refs.at;
	size_t old_cap = im->refs.cap, cap = old_cap == 0 ? 4096 : old_cap * 2;
	struct count *at = cap <= SIZE_MAX / sizeof *at / 2 ? calloc(cap, sizeof *at) : NULL;

	if (at == NULL)
		fail(im, "out of memory");
	im->refs.at = at;
	im->refs.cap = cap;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].key != 0)
			*refs_entry(im, (old[i].key - 1) * PAGE) = old[i];
	free(old);
}

/* References the store counts on a frame. */
static uint64_t
refs(struct importer *im, uint64_t paddr)
{
	return im->refs.cap == 0 ? 0 : refs_entry(im, paddr)->n;
}

static void
refs_add(struct importer *im, uint64_t paddr)
{
	if (im->refs.count >= im->refs.cap / 2)
		refs_rehash(im);
	struct count *c = refs_entry(im, paddr);
	im->refs.count += c->key == 0;
	c->key = paddr / PAGE + 1;
	c->n++;
}

static void
heap_swap(uint64_t *at, size_t i, size_t k)
{
	uint64_t kept = at[i];
	at[i] = at[k];
	at[k] = kept;
}

/* A frame without a name is free again. */
static void
free_frame(struct importer *im, uint64_t paddr)
{
	GROW(im, im->free_frames, 1);
	uint64_t *at = im->free_frames.at;
	size_t i = im->free_frames.count++;

	at[i] = paddr;
	for (; i > 0 && at[(i - 1) / 2] > at[i]; i = (i - 1) / 2)
		heap_swap(at, i, (i - 1) / 2);
}

/* The lowest frame above memory that is free; there is one (frames_free). */
static uint64_t
take_frame(struct importer *im)
{
	uint64_t *at = im->free_frames.at, lowest;
	size_t i = 0;

	if (im->free_frames.count == 0) {
		lowest = im->next_frame_paddr;
		im->next_frame_paddr += PAGE;
		return lowest;
	}
	lowest = at[0];
	at[0] = at[--im->free_frames.count];
	for (;;) {
		size_t child = 2 * i + 1, least = i;
		for (size_t k = child; k < child + 2 && k < im->free_frames.count; k++)
			if (at[k] < at[least])
				least = k;
		if (least == i)
			return lowest;
		heap_swap(at, i, least);
		i = least;
	}
}

static uint64_t
frames_free(const struct importer *im)
{
	return im->free_frames.count + (im->frames_limit - im->next_frame_paddr) / PAGE;
}

static void
refs_drop(struct importer *im, uint64_t paddr)
{
	struct count *c = refs_entry(im, paddr);

	assert(c->n > 0);
	if (--c->n == 0 && paddr >= im->memory_end)
		free_frame(im, paddr);
}

/* ---- The image: areas and leaves ---------------------------------------- */

/* First area whose end lies above "va". */
static size_t
area_above(const struct importer *im, uint64_t va)
{
	size_t low = 0, high = im->areas.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (im->areas.at[middle]->end > va)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* The live area that holds all of [start, end), or NULL. */
static struct area *
area_around(const struct importer *im, uint64_t start, uint64_t end)
{
	size_t i = area_above(im, start);

	if (i == im->areas.count || im->areas.at[i]->start > start || end > im->areas.at[i]->end)
		return NULL;
	return im->areas.at[i];
}

static void
area_add(struct importer *im, uint64_t start, uint64_t end)
{
	size_t i = area_above(im, start);

	GROW(im, im->areas, 1);
	struct area *area = calloc(1, sizeof *area);
	if (area == NULL)
		fail(im, "out of memory");
	*area = (struct area){ .start = start, .end = end, .id = im->next_area++ };
	memmove(im->areas.at + i + 1, im->areas.at + i, (im->areas.count - i) * sizeof im->areas.at[0]);
	im->areas.at[i] = area;
	im->areas.count++;
}

/* Forget area number i, which has no leaves. */
static void
area_remove(struct importer *im, size_t i)
{
	assert(im->areas.at[i]->leaves.count == 0);
	free(im->areas.at[i]->leaves.at);
	free(im->areas.at[i]);
	im->areas.count--;
	memmove(im->areas.at + i, im->areas.at + i + 1, (im->areas.count - i) * sizeof im->areas.at[0]);
}

static uint64_t
leaf_size(const struct leaf *leaf)
{
	return leaf->huge ? HUGE : PAGE;
}

/* First leaf whose end lies above "va". */
static size_t
leaf_above(const struct area *area, uint64_t va)
{
	size_t low = 0, high = area->leaves.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (area->leaves.at[middle].va + leaf_size(&area->leaves.at[middle]) > va)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static bool
any_leaf(const struct area *area, uint64_t start, uint64_t end)
{
	size_t i = leaf_above(area, start);
	return i < area->leaves.count && area->leaves.at[i].va < end;
}

/* Room for "count" leaves before leaf number i, to be filled in at once. */
static struct leaf *
leaves_open(struct importer *im, struct area *area, size_t i, size_t count)
{
	if (count > LEAVES_MAX - im->leaves)
		fail(im, "%s:%" PRIu64 ": more than %" PRIu64 " pages mapped at once",
		     im->report->file[KVT_IMPORT_FILE_TRACE],
		     im->at < im->events.count ? im->events.at[im->at].line : 0, LEAVES_MAX);
	im->leaves += count;
	GROW(im, area->leaves, count);
	struct leaf *at = area->leaves.at + i;
	memmove(at + count, at, (area->leaves.count - i) * sizeof *at);
	area->leaves.count += count;
	return at;
}

/* If a 2 MiB leaf lies across "va", the store splits it into small ones. */
static bool
leaf_cut(struct importer *im, struct area *area, uint64_t va)
{
	size_t i = leaf_above(area, va);

	if (i == area->leaves.count || area->leaves.at[i].va >= va)
		return false;
	struct leaf whole = area->leaves.at[i];
	assert(whole.huge);
	struct leaf *at = leaves_open(im, area, i, HUGE_PAGES - 1);
	for (size_t k = 0; k < HUGE_PAGES; k++) {
		at[k] = whole;
		at[k].va += k * PAGE;
		at[k].pa += k * PAGE;
		at[k].huge = false;
	}
	return true;
}

/* ---- Writing ops -------------------------------------------------------- */

/* The annotations and the outcome that end an op's line; "made" names the kind of id it creates. */
static void
op_end(struct importer *im, const char *made, uint64_t id)
{
	if (im->timed)
		fprintf(im->out, " @t=%" PRIu64, im->t);
	if (im->src[0] != '\0')
		fprintf(im->out, " @src=\"%s\"", im->src);
	if (made == NULL)
		fputs(" -> ok\n", im->out);
	else
		fprintf(im->out, " -> ok %s=%" PRIu64 "\n", made, id);
	im->report->ops++;
}

__attribute__((format(printf, 4, 5))) static void
op(struct importer *im, const char *made, uint64_t id, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(im->out, format, args);
	va_end(args);
	op_end(im, made, id);
}

/* The ops that follow are due to "e", or to "src" where that is given. */
static void
attribute_to(struct importer *im, const struct event *e, const char *src)
{
	im->timed = e != NULL;
	im->t = e != NULL ? e->t : 0;
	clean(im->src, sizeof im->src, src != NULL ? src : e->task, true);
}

/* A property in canonical form. */
static const char *
prop_text(uint64_t bits, char text[32])
{
	static const char *const caches[] = { "wb", "wt", "wc", "uc" };
	static const struct {
		uint64_t bit, set;
		char letter;
	} flags[] = { { BIT_P, BIT_P, 'r' },
		      { BIT_RW, BIT_RW, 'w' },
		      { BIT_NX, 0, 'x' },
		      { BIT_A, BIT_A, 'a' },
		      { BIT_D, BIT_D, 'd' } };
	char letters[8];
	size_t n = 0;

	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
		if ((bits & flags[i].bit) == flags[i].set)
			letters[n++] = flags[i].letter;
	letters[n] = '\0';
	snprintf(text, 32, "%s:%s%s%s", n == 0 ? "-" : letters, caches[(bits & BITS_CACHE) / BIT_PWT],
		 bits & BIT_US ? "+user" : "", bits & BIT_G ? "+global" : "");
	return text;
}

/* Flags in canonical form: "bits" are those of an entry, "nx" the bit that stands for x. */
static const char *
flags_text(uint64_t bits, bool x, char text[8])
{
	size_t n = 0;

	if (bits & BIT_P)
		text[n++] = 'r';
	if (bits & BIT_RW)
		text[n++] = 'w';
	if (x)
		text[n++] = 'x';
	if (bits & BIT_A)
		text[n++] = 'a';
	if (bits & BIT_D)
		text[n++] = 'd';
	if (n == 0)
		text[n++] = '-';
	text[n] = '\0';
	return text;
}

/* ---- What the kernel does, as ops ---------------------------------------- */

/* The store lost a leaf: so did its frame, or the segment that holds it. */
static void
leaf_gone(struct importer *im, const struct leaf *leaf)
{
	if (leaf->tracked)
		refs_drop(im, leaf->pa);
	if (leaf->hold == 0)
		return;
	struct hold *hold = &im->holds.at[leaf->hold - 1];
	hold->left -= leaf_size(leaf) / PAGE;
	if (hold->left == 0) {
		GROW(im, im->released, 1);
		im->released.at[im->released.count++] = leaf->hold - 1;
	}
}

/* Forget the leaves in [start, end), which cuts none, and drop the segments that held only them. */
static void
leaves_gone(struct importer *im, struct area *area, uint64_t start, uint64_t end)
{
	size_t i = leaf_above(area, start), k = i;

	if (area->leaves.count == 0)
		return;
	for (; k < area->leaves.count && area->leaves.at[k].va < end; k++)
		leaf_gone(im, &area->leaves.at[k]);
	memmove(area->leaves.at + i, area->leaves.at + k, (area->leaves.count - k) * sizeof area->leaves.at[0]);
	area->leaves.count -= k - i;
	im->leaves -= k - i;
	for (i = 0; i < im->released.count; i++) {
		const struct hold *hold = &im->holds.at[im->released.at[i]];
		op(im, NULL, 0, "segment_drop segment=%" PRIu64, hold->segment);
		for (uint64_t page = 0; page < HUGE; page += PAGE)
			refs_drop(im, hold->pa + page);
	}
	im->released.count = 0;
}

/* => gives: whether a 2 MiB leaf was cut by an end of the range */
static bool
unmap(struct importer *im, struct area *area, uint64_t start, uint64_t end)
{
	bool cut = leaf_cut(im, area, start);

	cut = leaf_cut(im, area, end) || cut;
	op(im, NULL, 0, "kvirt_unmap_range area=%" PRIu64 " start=0x%" PRIx64 " end=0x%" PRIx64, area->id, start, end);
	leaves_gone(im, area, start, end);
	return cut;
}

static void
op_map_frames(struct importer *im, const struct area *area, uint64_t va, uint64_t first, uint64_t count, uint64_t bits)
{
	char text[32];

	fprintf(im->out, "kvirt_map_frames_into area=%" PRIu64 " va=0x%" PRIx64 " frames=[", area->id, va);
	for (uint64_t i = 0; i < count; i++)
		fprintf(im->out, "%s%" PRIu64, i == 0 ? "" : ",", first + i);
	fprintf(im->out, "] prop=%s", prop_text(bits, text));
	op_end(im, NULL, 0);
}

/* Map im->paddrs from number "from" on, "count" of them; NO_FRAME: one without a name. */
static void
map_frames(struct importer *im, uint64_t line, struct area *area, uint64_t va, size_t from, size_t count, uint64_t bits)
{
	uint64_t *paddrs = im->paddrs.at + from, end = va + count * PAGE, first = im->next_frame;

	for (size_t i = 0; i < count; i++) {
		if (paddrs[i] == NO_FRAME)
			paddrs[i] = take_frame(im);
		if (refs(im, paddrs[i]) == 0)
			op(im, "frame", im->next_frame++, "frame_from_unused paddr=0x%" PRIx64 " kind=untyped meta=0x0",
			   paddrs[i]);
		else
			op(im, "frame", im->next_frame++, "frame_from_in_use paddr=0x%" PRIx64, paddrs[i]);
		refs_add(im, paddrs[i]);
	}
	if (any_leaf(area, va, end)) {
		anomaly(im, KVT_IMPORT_MAPPED_TWICE, line, va, end, 0);
		op_map_frames(im, area, va, first, count, bits);
		unmap(im, area, va, end);
	}
	op_map_frames(im, area, va, first, count, bits);
	struct leaf *leaves = leaves_open(im, area, leaf_above(area, va), count);
	for (size_t i = 0; i < count; i++)
		leaves[i] =
		    (struct leaf){ .va = va + i * PAGE, .pa = paddrs[i], .bits = bits & BITS_ALL, .tracked = true };
}

/* Map all of im->paddrs, in as many ops as lines of bounded length take. */
static void
map_paddrs(struct importer *im, uint64_t line, struct area *area, uint64_t va, uint64_t bits)
{
	for (size_t from = 0; from < im->paddrs.count; from += LIST_MAX) {
		size_t count = im->paddrs.count - from < LIST_MAX ? im->paddrs.count - from : LIST_MAX;
		map_frames(im, line, area, va + from * PAGE, from, count, bits);
	}
}

static bool
is_ram(const struct importer *im, uint64_t start, uint64_t size)
{
	for (size_t i = 0; i < im->ram.count; i++)
		if (im->ram.at[i].start <= start && start + size <= im->ram.at[i].end)
			return true;
	return im->ram.count == 0 && start + size <= im->memory_end;
}

/* Hold the RAM of the 2 MiB page at "pa": index + 1 of the hold, or 0 if there is nothing to hold. */
static size_t
hold_huge(struct importer *im, uint64_t line, uint64_t va, uint64_t pa)
{
	if (!is_ram(im, pa, HUGE) || pa + HUGE > im->memory_end)
		return 0;
	for (uint64_t page = 0; page < HUGE; page += PAGE) {
		if (refs(im, pa + page) == 0)
			continue;
		anomaly(im, KVT_IMPORT_HUGE_NOT_HELD, line, va, va + HUGE, 0);
		return 0;
	}
	GROW(im, im->holds, 1);
	op(im, "segment", im->next_segment,
	   "segment_from_unused start=0x%" PRIx64 " end=0x%" PRIx64 " kind=untyped meta=0x0", pa, pa + HUGE);
	for (uint64_t page = 0; page < HUGE; page += PAGE)
		refs_add(im, pa + page);
	im->holds.at[im->holds.count++] = (struct hold){ .pa = pa, .segment = im->next_segment++, .left = HUGE_PAGES };
	return im->holds.count;
}

static void
op_map_range(struct importer *im, const struct area *area, uint64_t va, uint64_t pa, uint64_t size, uint64_t bits,
	     int level)
{
	char text[32];

	op(im, NULL, 0,
	   "kvirt_map_untracked_into area=%" PRIu64 " va=0x%" PRIx64 " paddr_start=0x%" PRIx64 " paddr_end=0x%" PRIx64
	   " prop=%s max_level=%d",
	   area->id, va, pa, pa + size, prop_text(bits, text), level);
}

/*
 * Map contiguous memory without frames.  Whole 2 MiB slots get one leaf each
 * where "level" is 2 and both addresses allow it; the kernel takes their empty
 * tables out of the way first, and so does the op on their slots.
 */
static void
map_range(struct importer *im, uint64_t line, struct area *area, struct range va, uint64_t pa, uint64_t bits, int level)
{
	uint64_t low = round_up(va.start, HUGE), high = round_down(va.end, HUGE);
	bool huge = level == 2 && low < high && (va.start - pa) % HUGE == 0;

	if (any_leaf(area, va.start, va.end)) {
		anomaly(im, KVT_IMPORT_MAPPED_TWICE, line, va.start, va.end, 0);
		op_map_range(im, area, va.start, pa, va.end - va.start, bits, level);
		unmap(im, area, va.start, va.end);
	}
	if (!huge)
		low = high = va.end;
	else
		unmap(im, area, low, high);

	size_t count = (size_t)((va.end - va.start - (high - low)) / PAGE + (high - low) / HUGE);
	struct leaf *leaf = leaves_open(im, area, leaf_above(area, va.start), count);
	for (uint64_t at = va.start; at < va.end; at += leaf_size(leaf++)) {
		*leaf = (struct leaf){
			.va = at, .pa = pa + (at - va.start), .bits = bits & BITS_ALL, .huge = at >= low && at < high
		};
		if (leaf->huge)
			leaf->hold = hold_huge(im, line, at, leaf->pa);
	}
	op_map_range(im, area, va.start, pa, va.end - va.start, bits, level);
}

/* The op for one run of pages whose cache code becomes "cache", or stays where that is NULL. */
static void
op_protect(struct importer *im, const struct area *area, struct range va, uint64_t set, uint64_t clear,
	   const char *cache)
{
	const char *global = set & BIT_G ? "set" : clear & BIT_G ? "clear" : "keep";
	char set_text[8], clear_text[8], where[48] = "boot_protect_range";

	if (area != &im->boot)
		snprintf(where, sizeof where, "kvirt_protect_range area=%" PRIu64, area->id);
	/* set wins over clear, and NX is the absence of x */
	flags_text(set, (clear & BIT_NX) != 0 && (set & BIT_NX) == 0, set_text);
	flags_text(clear, (set & BIT_NX) != 0, clear_text);
	op(im, NULL, 0, "%s start=0x%" PRIx64 " end=0x%" PRIx64 " set=%s clear=%s cache=%s global=%s", where, va.start,
	   va.end, set_text, clear_text, cache == NULL ? "keep" : cache, global);
}

static uint64_t
changed(uint64_t bits, uint64_t set, uint64_t clear)
{
	return (bits & ~clear) | (set & BITS_ALL);
}

/* Neither end of a range inside a 2 MiB leaf that would not change: the kernel does not split such a leaf. */
static struct range
without_unchanged(const struct area *area, struct range va, uint64_t set, uint64_t clear)
{
	if (area->leaves.count == 0)
		return va;
	const struct leaf *leaf = area->leaves.at + leaf_above(area, va.start);
	const struct leaf *behind = area->leaves.at + area->leaves.count;

	if (leaf < behind && leaf->va < va.start && changed(leaf->bits, set, clear) == leaf->bits)
		va.start = leaf->va + HUGE < va.end ? leaf->va + HUGE : va.end;
	leaf = area->leaves.at + leaf_above(area, va.end);
	if (leaf < behind && leaf->va < va.end && changed(leaf->bits, set, clear) == leaf->bits)
		va.end = leaf->va > va.start ? leaf->va : va.start;
	return va;
}

/* entry = (entry & ~clear) | set on the pages of [start, end).  False: that changes nothing, and is no op. */
static bool
protect(struct importer *im, struct area *area, struct range va, uint64_t set, uint64_t clear)
{
	static const char *const caches[] = { "wb", "wt", "wc", "uc" };
	uint64_t code = set & BITS_CACHE;

	/* An entry that is no longer present keeps no global bit: the kernel uses it for something else there. */
	if ((clear & ~set & BIT_P) != 0)
		clear |= BIT_G;
	va = without_unchanged(area, va, set, clear);
	if (va.start == va.end)
		return false;
	leaf_cut(im, area, va.start);
	leaf_cut(im, area, va.end);
	size_t i = leaf_above(area, va.start), end = i;
	for (; end < area->leaves.count && area->leaves.at[end].va < va.end; end++)
		area->leaves.at[end].bits = changed(area->leaves.at[end].bits, set, clear);
	if (((set | clear) & BITS_CACHE) == 0 || i == end) {
		op_protect(im, area, va, set, clear, NULL);
		return true;
	}
	if (((set | clear) & BITS_CACHE) == BITS_CACHE) {
		op_protect(im, area, va, set, clear, caches[code / BIT_PWT]);
		return true;
	}
	/* One of the two bits is kept: pages of one outcome each. */
	for (size_t k = i; k < end; i = k) {
		code = area->leaves.at[i].bits & BITS_CACHE;
		while (k < end && (area->leaves.at[k].bits & BITS_CACHE) == code)
			k++;
		struct range run = { i == leaf_above(area, va.start) ? va.start : area->leaves.at[i].va,
				     k == end ? va.end : area->leaves.at[k].va };
		op_protect(im, area, run, set, clear, caches[code / BIT_PWT]);
	}
	return true;
}

/* ---- Events --------------------------------------------------------------- */

/* The verdict on an event, with the reason that its kind is counted under. */
static enum kvt_import_use
verdict(struct importer *im, enum kvt_import_use use, const char *reason)
{
	im->reason = reason;
	return use;
}

static size_t
lazy_above(const struct importer *im, uint64_t va)
{
	size_t low = 0, high = im->lazies.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (im->lazies.at[middle].end > va)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void
lazy_add(struct importer *im, uint64_t start, uint64_t end, uint64_t line)
{
	size_t i = lazy_above(im, start);

	GROW(im, im->lazies, 1);
	memmove(im->lazies.at + i + 1, im->lazies.at + i, (im->lazies.count - i) * sizeof im->lazies.at[0]);
	im->lazies.at[i] = (struct lazy){ start, end, line };
	im->lazies.count++;
}

/* [start, end) is handed out: freed ranges that overlap it were not purged. */
static void
lazies_reused(struct importer *im, uint64_t line, uint64_t start, uint64_t end)
{
	size_t i = lazy_above(im, start), k = i;

	for (; k < im->lazies.count && im->lazies.at[k].start < end; k++)
		anomaly(im, KVT_IMPORT_REUSED_UNPURGED, line, im->lazies.at[k].start, im->lazies.at[k].end,
			im->lazies.at[k].line);
	if (i == k)
		return;
	memmove(im->lazies.at + i, im->lazies.at + k, (im->lazies.count - k) * sizeof im->lazies.at[0]);
	im->lazies.count -= k - i;
}

/* Area number i ends with all it has: what the kernel must have done unseen. */
static void
area_drop(struct importer *im, size_t i)
{
	struct area *area = im->areas.at[i];

	op(im, NULL, 0, "kvirt_drop area=%" PRIu64, area->id);
	leaves_gone(im, area, area->start, area->end);
	area_remove(im, i);
}

static void
op_reserve(struct importer *im, uint64_t start, uint64_t end)
{
	op(im, "area", im->next_area, "kvirt_reserve_at start=0x%" PRIx64 " area_size=0x%" PRIx64, start, end - start);
}

static enum kvt_import_use
on_alloc(struct importer *im, const struct event *e)
{
	uint64_t start = e->v[ALLOC_VA], end = start + e->v[ALLOC_SIZE];
	size_t i = area_above(im, start);

	if (e->v[ALLOC_FAILED] != 0)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "failed");
	if (range_around(im, start, end) == NULL)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "where the store has no areas");
	lazies_reused(im, e->line, start, end);
	if (i < im->areas.count && im->areas.at[i]->start < end) {
		anomaly(im, KVT_IMPORT_ALLOCATED_LIVE, e->line, start, end, 0);
		op_reserve(im, start, end);
		while (i < im->areas.count && im->areas.at[i]->start < end)
			area_drop(im, i);
	}
	op_reserve(im, start, end);
	area_add(im, start, end);
	return verdict(im, KVT_IMPORT_EXPRESSED, NULL);
}

/* Whether every area that lives is known, so that one that is not known does not live. */
static bool
areas_known(const struct importer *im)
{
	return !im->lost && (im->from_boot || (im->listing.count > 0 && im->at >= im->listing_at));
}

/* Freed before and not purged, so freed twice; or never allocated, if that can be known. */
static enum kvt_import_use
freed_unknown(struct importer *im, const struct event *e)
{
	size_t i = lazy_above(im, e->v[0]);
	bool twice = i < im->lazies.count && im->lazies.at[i].start == e->v[0];

	if (twice || (areas_known(im) && range_around(im, e->v[0], e->v[0] + PAGE) != NULL))
		anomaly(im, KVT_IMPORT_FREED_UNKNOWN, e->line, e->v[0], e->v[0] + PAGE,
			twice ? im->lazies.at[i].line : 0);
	return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "no such area");
}

static enum kvt_import_use
on_free(struct importer *im, const struct event *e)
{
	size_t i = area_above(im, e->v[0]);

	if (i == im->areas.count || im->areas.at[i]->start != e->v[0])
		return freed_unknown(im, e);
	struct area *area = im->areas.at[i];
	uint64_t start = area->start, end = area->end;
	op(im, NULL, 0, "kvirt_unreserve area=%" PRIu64, area->id);
	if (area->leaves.count > 0) {
		anomaly(im, KVT_IMPORT_FREED_MAPPED, e->line, start, end, 0);
		area_drop(im, i);
	} else {
		area_remove(im, i);
	}
	/* What was freed here before and is still not purged cannot have been handed out: the alloc event is missing.
	 */
	lazies_reused(im, e->line, start, end);
	lazy_add(im, start, end, e->line);
	return verdict(im, KVT_IMPORT_EXPRESSED, NULL);
}

static int
numbers_up(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/*
 * Freed ranges inside the one that was flushed may be used again.  If more were
 * freed than the kernel says it purged, the latest ones came too late for it.
 */
static enum kvt_import_use
on_purge(struct importer *im, const struct event *e)
{
	uint64_t start = e->v[PURGE_START], end = e->v[PURGE_END], too_late = e->line;
	size_t first = lazy_above(im, start), kept = first;

	if (start >= end)
		return verdict(im, KVT_IMPORT_INFORMATION, NULL);
	im->lines.count = 0;
	for (size_t i = first; i < im->lazies.count && im->lazies.at[i].end <= end; i++) {
		GROW(im, im->lines, 1);
		im->lines.at[im->lines.count++] = im->lazies.at[i].line;
	}
	if (im->lines.count < e->v[PURGE_COUNT] && e->v[PURGE_COUNT] != UINT64_MAX)
		anomaly(im, KVT_IMPORT_PURGE_COUNT, e->line, start, end, 0);
	if (im->lines.count > e->v[PURGE_COUNT]) {
		qsort(im->lines.at, im->lines.count, sizeof im->lines.at[0], numbers_up);
		too_late = im->lines.at[e->v[PURGE_COUNT]];
	}
	for (size_t i = first; i < im->lazies.count; i++)
		if (im->lazies.at[i].end > end || im->lazies.at[i].line >= too_late)
			im->lazies.at[kept++] = im->lazies.at[i];
	im->lazies.count = kept;
	return verdict(im, KVT_IMPORT_INFORMATION, NULL);
}

/* The frames of a mapping event into im->paddrs.  False: more without a name than the store has room for. */
static bool
collect_frames(struct importer *im, const struct event *e)
{
	uint64_t count = (e->v[MAP_END] - e->v[MAP_START]) / PAGE;
	uint64_t most = im->memory_end / PAGE, unnamed = 0;

	if (!im->memory_known && most < (UINT64_C(1) << 18))
		most = UINT64_C(1) << 18;
	im->paddrs.count = 0;
	if (count > most)
		return false;
	GROW(im, im->paddrs, (size_t)count);
	for (size_t i = 0; i < count; i++) {
		uint64_t frame = i < e->named ? frame_named(im, im->pages.at[e->extra + i]) : NO_FRAME;
		if (frame != NO_FRAME && frame >= im->memory_end)
			frame = NO_FRAME;
		if (frame == NO_FRAME && i < e->named && im->bases_known)
			anomaly(im, KVT_IMPORT_FRAME_STRANGE, e->line, e->v[MAP_START] + i * PAGE,
				e->v[MAP_START] + (i + 1) * PAGE, 0);
		unnamed += frame == NO_FRAME;
		im->paddrs.at[i] = frame;
	}
	im->paddrs.count = (size_t)count;
	return unnamed <= frames_free(im);
}

/* Pages mapped where no area is: nothing to express. */
static enum kvt_import_use
mapped_nowhere(struct importer *im, const struct event *e)
{
	if (areas_known(im) && range_around(im, e->v[MAP_START], e->v[MAP_END]) != NULL)
		anomaly(im, KVT_IMPORT_MAPPED_NOWHERE, e->line, e->v[MAP_START], e->v[MAP_END], 0);
	return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "no area there");
}

/* Small pages.  Inside vmap_pages the kernel calls the function behind vmap_small: one mapping, two events. */
static enum kvt_import_use
on_map_pages(struct importer *im, const struct event *e)
{
	uint64_t start = e->v[MAP_START], end = e->v[MAP_END];
	struct area *area = area_around(im, start, end);

	if (e->kind == EVENT_MAP_PAGES && e->v[MAP_SHIFT] != 12)
		return verdict(im, KVT_IMPORT_INFORMATION, "large (vmap_range follows)");
	if (area == NULL)
		return mapped_nowhere(im, e);
	if (e->kind == EVENT_MAP_SMALL && area->twin_start == start && area->twin_end == end) {
		area->twin_start = area->twin_end = 0;
		return verdict(im, KVT_IMPORT_INFORMATION, "part of a vmap_pages");
	}
	if (!collect_frames(im, e))
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "more frames than there are");
	map_paddrs(im, e->line, area, start, e->v[MAP_PROT]);
	if (e->kind == EVENT_MAP_PAGES) {
		area->twin_start = start;
		area->twin_end = end;
	}
	return verdict(im, KVT_IMPORT_EXPRESSED, NULL);
}

static enum kvt_import_use
on_map_range(struct importer *im, const struct event *e)
{
	struct range va = { e->v[RANGE_START], e->v[RANGE_END] };
	struct area *area = area_around(im, va.start, va.end);
	int level = e->v[RANGE_SHIFT] >= 21 ? 2 : 1;

	if (area == NULL)
		return mapped_nowhere(im, e);
	bool aligned = level == 2 && (va.start - e->v[RANGE_PHYS]) % HUGE == 0;
	if ((va.end - va.start) / (aligned ? HUGE : PAGE) > RANGE_MAX)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "more than a million pages");
	map_range(im, e->line, area, va, e->v[RANGE_PHYS], e->v[RANGE_PROT], level);
	return verdict(im, KVT_IMPORT_EXPRESSED, NULL);
}

static enum kvt_import_use
on_unmap(struct importer *im, const struct event *e)
{
	uint64_t end = e->v[MAP_END];
	bool any = false;

	for (size_t i = area_above(im, e->v[MAP_START]); i < im->areas.count && im->areas.at[i]->start < end; i++) {
		struct area *area = im->areas.at[i];
		uint64_t low = e->v[MAP_START] > area->start ? e->v[MAP_START] : area->start;
		uint64_t high = end < area->end ? end : area->end;
		if (unmap(im, area, low, high))
			anomaly(im, KVT_IMPORT_HUGE_PARTLY, e->line, low, high, 0);
		any = true;
	}
	return any ? verdict(im, KVT_IMPORT_EXPRESSED, NULL) : verdict(im, KVT_IMPORT_NOT_EXPRESSED, "no area there");
}

/* Where an attribute change goes that touches no live area. */
static const char *
attributes_of(const struct importer *im, uint64_t va)
{
	struct range direct = direct_map(im), image = kernel_image(im);

	if (range_around(im, va, va + PAGE) != NULL)
		return "no area there";
	if (va >= direct.start && va < direct.end)
		return "direct map";
	if (va >= image.start && va < image.end)
		return "kernel image";
	return "elsewhere";
}

/* What lies in both, or an empty range. */
static struct range
common(struct range a, struct range b)
{
	struct range both = { a.start > b.start ? a.start : b.start, a.end < b.end ? a.end : b.end };

	return both.start < both.end ? both : (struct range){ 0, 0 };
}

/* Attributes of the direct map and the image.  Before DUMP0 the recorded mappings show them as they have become. */
static enum kvt_import_use
change_boot(struct importer *im, const struct event *e, struct range va)
{
	const char *where = attributes_of(im, va.start);
	struct range parts[] = { common(va, direct_map(im)), common(va, kernel_image(im)) };
	bool any = false, expressed = false;

	if (im->boot_mappings.count == 0)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, where);
	if (im->boot.leaves.count == 0)
		return verdict(im, KVT_IMPORT_INFORMATION, "before the first dump");
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		if (!any_leaf(&im->boot, parts[i].start, parts[i].end))
			continue;
		expressed = protect(im, &im->boot, parts[i], e->v[CPA_SET], e->v[CPA_CLEAR]) || expressed;
		any = true;
	}
	if (any && !expressed)
		return verdict(im, KVT_IMPORT_INFORMATION, "changes nothing");
	if (!any)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "nothing mapped there");
	return verdict(im, KVT_IMPORT_EXPRESSED, where);
}

static enum kvt_import_use
on_attributes(struct importer *im, const struct event *e)
{
	struct range all = { e->v[CPA_START], e->v[CPA_START] + e->v[CPA_PAGES] * PAGE };
	bool any = false, expressed = false;

	if (e->v[CPA_FLAGS] & CPA_ARRAYS)
		return verdict(im, KVT_IMPORT_NOT_EXPRESSED, "array of pages");
	for (size_t i = area_above(im, all.start); i < im->areas.count && im->areas.at[i]->start < all.end; i++) {
		struct area *area = im->areas.at[i];
		struct range va = common(all, (struct range){ area->start, area->end });
		expressed = protect(im, area, va, e->v[CPA_SET], e->v[CPA_CLEAR]) || expressed;
		any = true;
	}
	if (!any)
		return change_boot(im, e, all);
	if (!expressed)
		return verdict(im, KVT_IMPORT_INFORMATION, "changes nothing");
	return verdict(im, KVT_IMPORT_EXPRESSED, "area");
}

static enum kvt_import_use
on_mark(struct importer *im, const struct event *e)
{
	char text[2 * MARK_MAX];

	clean(text, sizeof text, im->texts.at + e->extra, false);
	fprintf(im->out, "# %s\n", text);
	return verdict(im, KVT_IMPORT_INFORMATION, NULL);
}

static void
on_lost(struct importer *im, const struct event *e)
{
	im->lost = true;
	fprintf(im->out, "gap @src=\"%s\"\n", im->texts.at + e->extra);
}

/* ---- What is older than the events ----------------------------------------- */

/* Reserve the listed areas that no event explains; take over what was freed before. */
static void
write_older_areas(struct importer *im)
{
	char src[96];

	for (size_t i = 0; i < im->listing.count; i++) {
		const struct listed *l = &im->listing.at[i];
		size_t k = area_above(im, l->start);
		if (!l->older)
			continue;
		if (range_around(im, l->start, l->end) == NULL ||
		    (k < im->areas.count && im->areas.at[k]->start < l->end)) {
			if (k == im->areas.count || im->areas.at[k]->start >= l->end)
				anomaly(im, KVT_IMPORT_LISTING_CONFLICT, l->line, l->start, l->end, 0);
			continue;
		}
		if (l->unpurged) {
			lazy_add(im, l->start, l->end, 0);
			continue;
		}
		snprintf(src, sizeof src, "older than the trace: %s", l->owner);
		attribute_to(im, NULL, src);
		op_reserve(im, l->start, l->end);
		area_add(im, l->start, l->end);
		im->report->areas_older++;
	}
}

/* Whether the store has the recorded leaf already; what differs from it is an anomaly. */
static bool
leaf_is_known(struct importer *im, const struct area *area, const struct recorded *r)
{
	uint64_t compared = BIT_P | BIT_RW | BIT_NX;
	size_t i = leaf_above(area, r->va);

	if (!any_leaf(area, r->va, r->va + r->size))
		return false;
	const struct leaf *leaf = &area->leaves.at[i];
	bool same_frame = leaf->pa == r->pa || (leaf->tracked && leaf->pa >= im->memory_end);
	if (leaf->va == r->va && leaf_size(leaf) == r->size && same_frame && ((leaf->bits ^ r->bits) & compared) == 0)
		im->report->leaves_confirmed++;
	else
		anomaly(im, KVT_IMPORT_MAPPING_CONFLICT, r->line, r->va, r->va + r->size, 0);
	return true;
}

/* Whether a recorded leaf maps a frame: device memory and what firmware keeps is mapped without. */
static bool
maps_frame(const struct importer *im, const struct area *area, const struct recorded *r)
{
	size_t i = listed_above(im, area->start);
	bool ioremap = i < im->listing.count && im->listing.at[i].start == area->start && im->listing.at[i].ioremap;

	return r->size == PAGE && !ioremap && is_ram(im, r->pa, PAGE) && r->pa < im->memory_end;
}

/* How many recorded leaves from number i on make one mapping: same area, kind and property, no hole. */
static size_t
run_of_leaves(const struct importer *im, const struct area *area, size_t i)
{
	const struct recorded *r = im->mappings.at;
	bool frames = maps_frame(im, area, &r[i]);
	size_t n = 1;

	if (r[i].size != PAGE)
		return 1;
	for (; i + n < im->mappings.count; n++) {
		const struct recorded *next = &r[i + n];
		if (next->va != r[i].va + n * PAGE || next->size != PAGE || next->bits != r[i].bits ||
		    next->va >= area->end || maps_frame(im, area, next) != frames ||
		    any_leaf(area, next->va, next->va + PAGE))
			break;
		if (!frames && next->pa != r[i].pa + n * PAGE)
			break;
	}
	return n;
}

/* Map what the recorded mappings show and no event so far did. */
static void
write_older_mappings(struct importer *im, const struct event *e)
{
	attribute_to(im, e, "mapped before the probes");
	for (size_t i = 0, n; i < im->mappings.count; i += n) {
		const struct recorded *r = &im->mappings.at[i];
		struct area *area = area_around(im, r->va, r->va + r->size);
		n = 1;
		if (area == NULL || (r->size != PAGE && r->size != HUGE)) {
			anomaly(im, KVT_IMPORT_MAPPING_CONFLICT, r->line, r->va, r->va + r->size, 0);
			continue;
		}
		if (leaf_is_known(im, area, r))
			continue;
		n = run_of_leaves(im, area, i);
		im->report->leaves_older += n;
		if (!maps_frame(im, area, r)) {
			struct range va = { r->va, r->va + n * r->size };
			map_range(im, r->line, area, va, r->pa, r->bits, r->size == HUGE ? 2 : 1);
			continue;
		}
		im->paddrs.count = 0;
		GROW(im, im->paddrs, n);
		for (size_t k = 0; k < n; k++)
			im->paddrs.at[im->paddrs.count++] = r[k].pa;
		map_paddrs(im, r->line, area, r->va, r->bits);
	}
}

/* How many leaves of the direct map or the image from number i on are one mapping of one kind of leaf. */
static size_t
run_of_boot(const struct importer *im, size_t i)
{
	const struct recorded *r = im->boot_mappings.at;
	size_t n = 1;

	while (i + n < im->boot_mappings.count && r[i + n].va == r[i].va + n * r[i].size &&
	       r[i + n].pa == r[i].pa + n * r[i].size && r[i + n].size == r[i].size && r[i + n].bits == r[i].bits)
		n++;
	return n;
}

/* No two leaves map one address; of those that say so, the later one counts as damage. */
static void
drop_overlapping(struct importer *im)
{
	struct recorded *r = im->boot_mappings.at;
	size_t kept = 0;

	for (size_t i = 0; i < im->boot_mappings.count; i++) {
		if (kept > 0 && r[i].va - r[kept - 1].va < r[kept - 1].size)
			anomaly(im, KVT_IMPORT_MAPPING_CONFLICT, r[i].line, r[i].va, r[i].va + r[i].size,
				r[kept - 1].line);
		else
			r[kept++] = r[i];
	}
	im->boot_mappings.count = kept;
}

/* Adopt the direct map and the image as the first dump shows them. */
static void
write_boot(struct importer *im, const struct event *e)
{
	const struct recorded *r = im->boot_mappings.at;
	char text[32];

	drop_overlapping(im);
	attribute_to(im, e, "adopted from the first dump");
	size_t count = im->boot_mappings.count;
	if (count == 0)
		return;
	for (size_t i = 0, n; i < count; i += n) {
		n = run_of_boot(im, i);
		op(im, NULL, 0,
		   "boot_map va=0x%" PRIx64 " paddr_start=0x%" PRIx64 " paddr_end=0x%" PRIx64 " prop=%s max_level=%d",
		   r[i].va, r[i].pa, r[i].pa + n * r[i].size, prop_text(r[i].bits, text), r[i].size == HUGE ? 2 : 1);
	}
	struct leaf *leaves = leaves_open(im, &im->boot, 0, count);
	for (size_t i = 0; i < count; i++) {
		leaves[i] = (struct leaf){ .va = r[i].va, .pa = r[i].pa, .bits = r[i].bits, .huge = r[i].size == HUGE };
		if (r[i].va >= IMAGE_START)
			im->report->leaves_image++;
		else
			im->report->leaves_direct++;
	}
}

/* ---- The whole --------------------------------------------------------------- */

static void
write_head(struct importer *im)
{
	fputs("kvmtrace 1\n# areas and mappings of a Linux kernel, imported from its ftrace recording\n", im->out);
	fprintf(im->out,
		"store arch=%s max_paddr=0x%" PRIx64 " rc_max=0x7fffffffffffffff ncpu=1 vmalloc=", im->store->arch,
		im->max_paddr);
	if (im->ranges.count > 1)
		fputc('[', im->out);
	for (size_t i = 0; i < im->ranges.count; i++)
		fprintf(im->out, "%s0x%" PRIx64 "..0x%" PRIx64, i == 0 ? "" : ",", im->ranges.at[i].start,
			im->ranges.at[i].end);
	if (im->ranges.count > 1)
		fputc(']', im->out);
	fputs(" boot=minimal kernel=0x8000000..0x9000000 reserve=[] mmio=[]\n", im->out);
}

static void
write_event(struct importer *im, const struct event *e)
{
	static enum kvt_import_use (*const handlers[])(struct importer *, const struct event *) = {
		[EVENT_ALLOC] = on_alloc,         [EVENT_FREE] = on_free,
		[EVENT_PURGE] = on_purge,         [EVENT_MAP_PAGES] = on_map_pages,
		[EVENT_MAP_SMALL] = on_map_pages, [EVENT_MAP_RANGE] = on_map_range,
		[EVENT_UNMAP] = on_unmap,         [EVENT_ATTRIBUTES] = on_attributes,
		[EVENT_MARK] = on_mark,
	};
	const char *name = e->kind == EVENT_MARK ? "tracing_mark_write" : formats[e->format].name;

	if (e->kind == EVENT_LOST) {
		on_lost(im, e);
		return;
	}
	attribute_to(im, e, NULL);
	enum kvt_import_use use = handlers[e->kind](im, e);
	count_event(im->report, use, name, im->reason);
}

/* What the first dump shows. */
static void
write_dump(struct importer *im, const struct event *e)
{
	write_boot(im, e);
	write_older_mappings(im, e);
}

static void
write_trace(struct importer *im)
{
	write_head(im);
	write_older_areas(im);
	if (im->report->events_overwritten > 0)
		fprintf(im->out, "gap @src=\"%" PRIu64 " events overwritten\"\n", im->report->events_overwritten);
	if (im->mappings_at == SIZE_MAX)
		write_dump(im, NULL);
	for (size_t i = 0; i < im->events.count; i++) {
		im->at = i;
		if (i == im->mappings_at)
			write_dump(im, &im->events.at[i]);
		write_event(im, &im->events.at[i]);
	}
	im->report->areas_live = im->areas.count;
	im->report->ranges_unpurged = im->lazies.count;
	if (fflush(im->out) != 0 || ferror(im->out))
		fail(im, "cannot write the trace: %s", strerror(errno));
}

/* The mappings belong to the mark DUMP0-before; named by the caller, they may also be older than all events. */
static void
take_mappings(struct importer *im)
{
	const char *path = im->in->mappings_before;

	if (path == NULL && im->folder)
		path = beside(im, "mappings.0.csv");
	if (path == NULL)
		return;
	if (!im->probes)
		im->report->mappings_unused = "no page-table events: what becomes of mappings is not recorded";
	else if (im->mappings_at == im->events.count && im->in->mappings_before == NULL)
		im->report->mappings_unused = "no mark DUMP0-before";
	if (im->report->mappings_unused != NULL)
		return;
	if (im->mappings_at == im->events.count)
		im->mappings_at = SIZE_MAX;
	read_mappings(im, path);
}

static void
import(struct importer *im)
{
	const char *path = im->in->path, *listing = im->in->areas_before;
	struct stat st;

	im->folder = strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	if (im->folder && (path = beside(im, "trace.txt")) == NULL)
		fail(im, "%s: neither trace.txt nor trace.txt.xz in this folder", im->in->path);
	read_trace(im, path);
	if (im->folder && (path = beside(im, "snap-0/iomem")) != NULL)
		read_iomem(im, path);
	if (im->folder && (path = beside(im, "ptpages.0.json")) != NULL)
		read_machine(im, path);
	if (listing == NULL && im->folder)
		listing = beside(im, "snap-0/vmallocinfo");
	if (listing != NULL)
		read_listing(im, listing);
	collect_ranges(im);
	im->store = find_machine(im);
	settle_memory(im);
	settle_ranges(im);
	settle_marks(im);
	settle_listing(im);
	take_mappings(im);
	write_trace(im);
}

/* 0, or -1 if fail() ended it. */
static int
try_import(struct importer *im)
{
	if (setjmp(im->failed) != 0)
		return -1;
	import(im);
	return 0;
}

static int
kinds_by_use(const void *a, const void *b)
{
	const struct kvt_import_kind *x = a, *y = b;
	return x->use != y->use ? (x->use > y->use) - (x->use < y->use) : strcmp(x->name, y->name);
}

static void
importer_free(struct importer *im)
{
	kvt_input_close(&im->input);
	free(im->boot.leaves.at);
	free(im->boot_mappings.at);
	for (size_t i = 0; i < im->areas.count; i++) {
		free(im->areas.at[i]->leaves.at);
		free(im->areas.at[i]);
	}
	void *const vectors[] = { im->events.at,      im->pages.at,  im->texts.at,    im->spans.at,
				  im->ranges.at,      im->ram.at,    im->listing.at,  im->mappings.at,
				  im->areas.at,       im->holds.at,  im->released.at, im->refs.at,
				  im->free_frames.at, im->lazies.at, im->paddrs.at,   im->lines.at };
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
		free(vectors[i]);
	free(im);
}

int
kvt_import_ftrace(const struct kvt_import *in, FILE *out, struct kvt_import_report *report, char *error,
		  size_t error_size)
{
	struct importer *im = calloc(1, sizeof *im);

	*report = (struct kvt_import_report){ 0 };
	report->kinds = calloc(KINDS_MAX, sizeof *report->kinds);
	report->anomalies = calloc(KVT_IMPORT_ANOMALIES_KEPT, sizeof *report->anomalies);
	if (im == NULL || report->kinds == NULL || report->anomalies == NULL) {
		snprintf(error, error_size, "out of memory");
		free(im);
		return -1;
	}
	im->in = in;
	im->out = out;
	im->report = report;
	im->error = error;
	im->error_size = error_size;
	im->next_area = im->next_frame = im->next_segment = 1;
	int result = try_import(im);
	importer_free(im);
	qsort(report->kinds, report->kinds_count, sizeof report->kinds[0], kinds_by_use);
	return result;
}

/* ---- The report ----------------------------------------------------------------- */

static void
print_kinds(const struct kvt_import_report *report, FILE *out)
{
	const struct {
		const char *title;
		uint64_t total;
	} uses[KVT_IMPORT_USES] = {
		[KVT_IMPORT_EXPRESSED] = { "expressed as operations", report->expressed },
		[KVT_IMPORT_INFORMATION] = { "used as information", report->information },
		[KVT_IMPORT_NOT_EXPRESSED] = { "not expressed", report->not_expressed },
	};
	size_t k = 0;

	for (size_t use = 0; use < KVT_IMPORT_USES; use++) {
		fprintf(out, "  %-46s %10" PRIu64 "\n", uses[use].title, uses[use].total);
		for (; k < report->kinds_count && report->kinds[k].use == (enum kvt_import_use)use; k++)
			fprintf(out, "    %-44s %10" PRIu64 "\n", report->kinds[k].name, report->kinds[k].count);
	}
}

static void
print_anomalies(const struct kvt_import_report *report, FILE *out)
{
	uint64_t total = 0;

	for (size_t kind = 0; kind < KVT_IMPORT_ANOMALY_KINDS; kind++) {
		total += report->anomalies_count[kind];
		if (report->anomalies_count[kind] > 0)
			fprintf(out, "%-48s %10" PRIu64 "\n", anomaly_texts[kind], report->anomalies_count[kind]);
	}
	if (total == 0)
		fprintf(out, "%-48s %10s\n", "anomalies", "none");
	for (size_t i = 0; i < report->anomalies_kept; i++) {
		char text[KVT_IMPORT_SENTENCE];
		anomaly_sentence(report, &report->anomalies[i], text, sizeof text);
		fprintf(out, "  %s\n", text);
	}
	if (total > report->anomalies_kept)
		fprintf(out, "  ... and %" PRIu64 " more\n", total - report->anomalies_kept);
}

void
kvt_import_report_print(const struct kvt_import_report *report, FILE *out)
{
	const struct {
		const char *title;
		uint64_t value;
		bool always;
	} rows[] = {
		{ "operations written", report->ops, true },
		{ "areas older than the trace, reserved at the start", report->areas_older, true },
		{ "areas live at the end", report->areas_live, true },
		{ "freed ranges not purged at the end", report->ranges_unpurged, true },
		{ "leaves older than the probes, mapped at DUMP0", report->leaves_older, true },
		{ "leaves at DUMP0 that events explain", report->leaves_confirmed, true },
		{ "leaves of the direct map, adopted at DUMP0", report->leaves_direct, true },
		{ "leaves of the kernel image, adopted at DUMP0", report->leaves_image, true },
		{ "events lost, by the trace's own lines", report->events_lost, false },
		{ "events overwritten before the trace begins", report->events_overwritten, false },
	};

	fprintf(out, "%-48s %10" PRIu64 "\n", "lines", report->lines);
	fprintf(out, "%-48s %10" PRIu64 "\n", "events", report->events);
	print_kinds(report, out);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].always || rows[i].value > 0)
			fprintf(out, "%-48s %10" PRIu64 "\n", rows[i].title, rows[i].value);
	if (report->mappings_unused != NULL)
		fprintf(out, "the recorded mappings were not used: %s\n", report->mappings_unused);
	if (report->events_promised > report->events)
		fprintf(out, "the header promises %" PRIu64 " events: %" PRIu64 " are not here\n",
			report->events_promised, report->events_promised - report->events);
	fprintf(out, "%-48s %10" PRIu64, "unparsed lines", report->unparsed);
	if (report->unparsed > 0)
		fprintf(out, " (first: line %" PRIu64 ")", report->unparsed_first_line);
	fputc('\n', out);
	print_anomalies(report, out);
}

void
kvt_import_report_free(struct kvt_import_report *report)
{
	free(report->kinds);
	free(report->anomalies);
	for (size_t i = 0; i < KVT_IMPORT_FILES; i++)
		free(report->file[i]);
	*report = (struct kvt_import_report){ 0 };
}
