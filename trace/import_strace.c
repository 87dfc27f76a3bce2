/*
 * import_strace - calls of processes as operations on address spaces.
 *
 *	read    all lines become calls and steps (trace/strace.c)
 *	follow  the steps, once without writing, to know how much memory is needed
 *	        and to report, and once more to write
 *
 * Law of following: each space's pages, and the count of each frame, are what a
 * fresh store has after the operations written so far.
 */
#include "trace/import_strace.h"

#include "trace/listing.h"
#include "trace/strace.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(0x1000)
#define USER_END_48 ((UINT64_C(1) << 47) - PAGE)
#define USER_END_57 ((UINT64_C(1) << 56) - PAGE)
#define FRAMES_MAX (UINT64_C(1) << 28) /* 1 TiB of memory in use: no recording needs it */

/* What calls mapped, whether there are pages or not.  Regions of a space ascend, and none lies over another. */
struct region {
	uint64_t start, end;
	unsigned prot;
	bool shared;
};

struct page {
	uint64_t va;
	uint64_t frame; /* its number */
};

struct space {
	uint64_t id;   /* in the store; 0: it has had no page yet */
	uint64_t refs; /* processes */
	struct region *regions;
	size_t regions_count, regions_capacity;
	struct page *pages; /* ascending */
	size_t pages_count, pages_capacity;
	uint64_t brk; /* 0: not known */
};

struct process {
	uint64_t pid;
	struct space *space;
	bool alive;
};

struct world {
	const struct kvt_strace *from;
	const struct strace *s;
	struct kvt_strace_report *report;
	bool *forked; /* of each call that it has had its effect already */

	FILE *out; /* NULL: only follow */
	struct process *processes;
	size_t processes_count, processes_capacity;
	struct pids by_pid;    /* index of the process + 1 */
	struct space **spaces; /* all there are, to end them */
	size_t spaces_count, spaces_capacity;

	uint32_t *frames; /* references of each */
	size_t frames_count, frames_capacity;
	uint64_t *spare; /* numbers of frames without references */
	size_t spare_count, spare_capacity;
	uint64_t in_use, nodes_at_most, highest;

	uint64_t next_frame, next_cursor, next_space; /* ids */
	uint64_t line;                                /* of the step at hand */
	jmp_buf stop;
	char *error;
	size_t error_size;
};

/* ---- Stopping ------------------------------------------------------------------------------- */

static _Noreturn void stop(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static _Noreturn void
stop(struct world *w, const char *format, ...)
{
	int size = snprintf(w->error, w->error_size, "%s:%" PRIu64 ": ", kvt_input_name(w->from->in), w->line);
	va_list args;

	va_start(args, format);
	if (size >= 0 && (size_t)size < w->error_size)
		vsnprintf(w->error + size, w->error_size - (size_t)size, format, args);
	va_end(args);
	longjmp(w->stop, 1);
}

static void *
grown(struct world *w, void *at, size_t *capacity, size_t need, size_t size)
{
	if (need <= *capacity)
		return at;
	size_t more = *capacity == 0 ? 16 : *capacity;

	while (more < need)
		more *= 2;
	void *larger = realloc(at, more * size);
	if (larger == NULL)
		stop(w, "no memory");
	*capacity = more;
	return larger;
}

static const char *const anomaly_texts[KVT_STRACE_ANOMALY_KINDS] = {
	[KVT_STRACE_UNMAPPED_NOTHING] = "unmapped what no line mapped",
	[KVT_STRACE_MOVED_NOTHING] = "moved what no line mapped",
	[KVT_STRACE_MAPPED_TWICE] = "mapped, at an address of the kernel's choice, what is mapped",
	[KVT_STRACE_TIME_BACKWARDS] = "time runs backwards",
	[KVT_STRACE_RESUMED_NOTHING] = "resumed a call that was not interrupted",
	[KVT_STRACE_NEVER_RESUMED] = "a call that is not resumed",
	[KVT_STRACE_ENDED_TWICE] = "a process that has ended goes on",
};

const char *
kvt_strace_anomaly_text(enum kvt_strace_anomaly_kind kind)
{
	return anomaly_texts[kind];
}

/* The second time all is known. */
static void
anomaly(struct world *w, enum kvt_strace_anomaly_kind kind, uint64_t start, uint64_t end)
{
	if (w->out != NULL)
		return;
	strace_anomaly(w->report, kind, w->line, start, end);
	if (w->from->strict && start != end)
		stop(w, "%s: 0x%" PRIx64 "..0x%" PRIx64, anomaly_texts[kind], start, end);
	if (w->from->strict)
		stop(w, "%s", anomaly_texts[kind]);
}

/* What became of a call. */
static void
used(struct world *w, const struct strace_call *c, enum kvt_strace_use use, const char *reason)
{
	struct kvt_strace_report *r = w->report;
	char name[sizeof r->kinds[0].name];
	size_t i = 0;

	if (w->out != NULL)
		return;
	snprintf(name, sizeof name, "%s%s%s", c->name, reason[0] != '\0' ? ", " : "", reason);
	if (use == KVT_STRACE_EXPRESSED)
		r->expressed++;
	else if (use == KVT_STRACE_INFORMATION)
		r->information++;
	else
		r->not_expressed++;
	while (i < r->kinds_count && (r->kinds[i].use != use || strcmp(r->kinds[i].name, name) != 0))
		i++;
	if (i == r->kinds_count && i == KVT_STRACE_KINDS_MAX - 1)
		snprintf(name, sizeof name, "others");
	if (i == r->kinds_count && i < KVT_STRACE_KINDS_MAX) {
		r->kinds[i].use = use;
		memcpy(r->kinds[i].name, name, sizeof name);
		r->kinds_count++;
	}
	if (i == KVT_STRACE_KINDS_MAX)
		i--;
	r->kinds[i].count++;
	if (w->from->strict && use == KVT_STRACE_NOT_EXPRESSED)
		stop(w, "not expressed: %s", name);
}

/* ---- Operations --------------------------------------------------------------------------------- */

static void op(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
op(struct world *w, const char *format, ...)
{
	va_list args;

	if (w->out == NULL) {
		w->report->ops++;
		return;
	}
	va_start(args, format);
	vfprintf(w->out, format, args);
	va_end(args);
	fputc('\n', w->out);
}

/* A frame that nobody has, for a new reference. */
static uint64_t
frame_take(struct world *w)
{
	uint64_t frame;

	if (w->spare_count > 0) {
		frame = w->spare[--w->spare_count];
	} else {
		w->frames = grown(w, w->frames, &w->frames_capacity, w->frames_count + 1, sizeof *w->frames);
		frame = w->frames_count++;
	}
	w->frames[frame] = 1;
	if (++w->in_use > w->report->pages_peak)
		w->report->pages_peak = w->in_use;
	if (w->in_use > FRAMES_MAX)
		stop(w, "more than %" PRIu64 " pages are in use: give a smaller limit with --populate", FRAMES_MAX);
	return frame;
}

static void
frame_release(struct world *w, uint64_t frame)
{
	if (--w->frames[frame] > 0)
		return;
	w->spare = grown(w, w->spare, &w->spare_capacity, w->spare_count + 1, sizeof *w->spare);
	w->spare[w->spare_count++] = frame;
	w->in_use--;
}

static void
space_need(struct world *w, struct space *sp)
{
	if (sp->id != 0)
		return;
	sp->id = ++w->next_space;
	w->report->spaces += w->out == NULL;
	op(w, "vm_space_new -> ok vm_space=%" PRIu64, sp->id);
	w->nodes_at_most += 1;
}

/* A cursor over a range of a space, and where it stands. */
struct cursor {
	uint64_t id, va, end;
};

static struct cursor
cursor_open(struct world *w, struct space *sp, uint64_t start, uint64_t end)
{
	struct cursor c = { ++w->next_cursor, start, end };

	space_need(w, sp);
	op(w, "cursor_open_mut vm_space=%" PRIu64 " start=0x%" PRIx64 " end=0x%" PRIx64 " -> ok cursor=%" PRIu64,
	   sp->id, start, end, c.id);
	w->nodes_at_most += 4;
	return c;
}

static void
cursor_drop(struct world *w, const struct cursor *c)
{
	op(w, "cursor_drop cursor=%" PRIu64 " -> ok", c->id);
}

static const char *
prop_text(unsigned prot)
{
	static const char *const texts[] = { "-:wb+user",  "r:wb+user",  "rw:wb+user",  "rw:wb+user",
					     "rx:wb+user", "rx:wb+user", "rwx:wb+user", "rwx:wb+user" };

	return texts[prot & 7];
}

/* Map a frame at "va", where the cursor goes first: a fresh one, or one that is in use. */
static void
cursor_map(struct world *w, struct cursor *c, uint64_t va, uint64_t frame, bool fresh, unsigned prot)
{
	uint64_t id = ++w->next_frame;

	if (c->va != va)
		op(w, "cursor_jump cursor=%" PRIu64 " va=0x%" PRIx64 " -> ok", c->id, va);
	op(w, "%s paddr=0x%" PRIx64 " -> ok frame=%" PRIu64, fresh ? "frame_from_unused" : "frame_from_in_use",
	   frame * PAGE, id);
	op(w, "cursor_map cursor=%" PRIu64 " frame=%" PRIu64 " prop=%s -> ok", c->id, id, prop_text(prot));
	c->va = va + PAGE;
	w->nodes_at_most += va % (PAGE << 9) == 0 ? 3 : 0;
	w->report->pages_mapped += w->out == NULL;
}

/* ---- Pages of a space ------------------------------------------------------------------------------ */

/* The first page at "va" or above. */
static size_t
page_from(const struct space *sp, uint64_t va)
{
	size_t low = 0, high = sp->pages_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sp->pages[middle].va < va)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for "count" pages more at index "at". */
static void
pages_open(struct world *w, struct space *sp, size_t at, size_t count)
{
	sp->pages = grown(w, sp->pages, &sp->pages_capacity, sp->pages_count + count, sizeof *sp->pages);
	memmove(sp->pages + at + count, sp->pages + at, (sp->pages_count - at) * sizeof *sp->pages);
	sp->pages_count += count;
}

static void
pages_close(struct space *sp, size_t at, size_t count)
{
	memmove(sp->pages + at, sp->pages + at + count, (sp->pages_count - at - count) * sizeof *sp->pages);
	sp->pages_count -= count;
}

/* Map fresh frames in [start, end) where there is no page.  Gives how many. */
static uint64_t
populate(struct world *w, struct space *sp, uint64_t start, uint64_t end, unsigned prot)
{
	uint64_t limit = w->from->populate != 0 ? w->from->populate : KVT_STRACE_POPULATE, mapped = 0;
	struct cursor c = { 0 };

	if (prot == 0)
		return 0;
	for (uint64_t va = start; va < end;) {
		size_t at = page_from(sp, va);
		uint64_t hole_end = at < sp->pages_count && sp->pages[at].va < end ? sp->pages[at].va : end;
		uint64_t count = (hole_end - va) / PAGE, fits = count < limit - mapped ? count : limit - mapped;

		if (fits > 0 && c.id == 0)
			c = cursor_open(w, sp, va, end);
		if (fits > 0)
			pages_open(w, sp, at, (size_t)fits);
		for (uint64_t i = 0; i < fits; i++) {
			sp->pages[at + i] = (struct page){ va + i * PAGE, frame_take(w) };
			cursor_map(w, &c, va + i * PAGE, sp->pages[at + i].frame, true, prot);
		}
		mapped += fits;
		w->report->pages_left_out += w->out == NULL ? count - fits : 0;
		va = hole_end;
		for (at = page_from(sp, va); at < sp->pages_count && sp->pages[at].va == va && va < end; at++)
			va += PAGE;
	}
	if (c.id != 0)
		cursor_drop(w, &c);
	return mapped;
}

/* Unmap the pages in [start, end).  Gives how many. */
static uint64_t
unmap(struct world *w, struct space *sp, uint64_t start, uint64_t end)
{
	size_t from = page_from(sp, start), to = page_from(sp, end);

	if (from == to)
		return 0;
	struct cursor c = cursor_open(w, sp, sp->pages[from].va, sp->pages[to - 1].va + PAGE);

	op(w, "cursor_unmap cursor=%" PRIu64 " len=0x%" PRIx64 " -> ok", c.id, c.end - c.va);
	cursor_drop(w, &c);
	for (size_t i = from; i < to; i++)
		frame_release(w, sp->pages[i].frame);
	pages_close(sp, from, to - from);
	return to - from;
}

/* Give the pages in [start, end) other rights.  Gives how many. */
static uint64_t
protect(struct world *w, struct space *sp, uint64_t start, uint64_t end, unsigned prot)
{
	size_t from = page_from(sp, start), to = page_from(sp, end);
	const char *prop = prop_text(prot);

	if (from == to)
		return 0;
	struct cursor c = cursor_open(w, sp, sp->pages[from].va, sp->pages[to - 1].va + PAGE);

	for (size_t i = from; i < to; i++) {
		op(w, "cursor_protect_next cursor=%" PRIu64 " len=0x%" PRIx64 " set=%.*s clear=rwx -> ok", c.id,
		   c.end - c.va, (int)strcspn(prop, ":"), prop);
		c.va = sp->pages[i].va + PAGE;
	}
	cursor_drop(w, &c);
	return to - from;
}

/* ---- Regions of a space ------------------------------------------------------------------------------- */

static void
region_insert(struct world *w, struct space *sp, size_t at, const struct region *region)
{
	sp->regions = grown(w, sp->regions, &sp->regions_capacity, sp->regions_count + 1, sizeof *sp->regions);
	memmove(sp->regions + at + 1, sp->regions + at, (sp->regions_count - at) * sizeof *sp->regions);
	sp->regions[at] = *region;
	sp->regions_count++;
}

/* The first region that ends behind "va". */
static size_t
region_from(const struct space *sp, uint64_t va)
{
	size_t low = 0, high = sp->regions_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sp->regions[middle].end <= va)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Cut the region that "va" lies inside of in two. */
static void
region_cut(struct world *w, struct space *sp, uint64_t va)
{
	size_t at = region_from(sp, va);

	if (at == sp->regions_count || sp->regions[at].start >= va)
		return;
	struct region behind = sp->regions[at];

	behind.start = va;
	region_insert(w, sp, at + 1, &behind);
	sp->regions[at].end = va;
}

static bool
region_any(const struct space *sp, uint64_t start, uint64_t end)
{
	size_t at = region_from(sp, start);

	return at < sp->regions_count && sp->regions[at].start < end;
}

static void
regions_remove(struct world *w, struct space *sp, uint64_t start, uint64_t end)
{
	region_cut(w, sp, start);
	region_cut(w, sp, end);
	size_t from = region_from(sp, start), to = from;

	while (to < sp->regions_count && sp->regions[to].end <= end)
		to++;
	if (to == from)
		return;
	memmove(sp->regions + from, sp->regions + to, (sp->regions_count - to) * sizeof *sp->regions);
	sp->regions_count -= to - from;
}

/* A region where none is; neighbours that are alike become one. */
static void
region_add(struct world *w, struct space *sp, const struct region *region)
{
	size_t at = region_from(sp, region->start);
	struct region *before = at > 0 ? &sp->regions[at - 1] : NULL;

	if (before != NULL && before->end == region->start && before->prot == region->prot &&
	    before->shared == region->shared)
		before->end = region->end;
	else
		region_insert(w, sp, at, region);
}

/* ---- Spaces and processes ----------------------------------------------------------------------------------- */

static struct space *
space_new(struct world *w)
{
	w->spaces = grown(w, w->spaces, &w->spaces_capacity, w->spaces_count + 1, sizeof(struct space *));
	struct space *sp = calloc(1, sizeof *sp);

	if (sp == NULL)
		stop(w, "no memory");
	w->spaces[w->spaces_count++] = sp;
	sp->refs = 1;
	return sp;
}

/* One process less has the space; with the last it goes.  Gives whether an op was written. */
static bool
space_leave(struct world *w, struct space *sp)
{
	bool drops = --sp->refs == 0 && sp->id != 0;

	if (sp->refs > 0)
		return false;
	if (drops)
		op(w, "vm_space_drop vm_space=%" PRIu64 " -> ok", sp->id);
	for (size_t i = 0; i < sp->pages_count; i++)
		frame_release(w, sp->pages[i].frame);
	free(sp->pages);
	free(sp->regions);
	*sp = (struct space){ .refs = 0 };
	return drops;
}

static struct process *
process_add(struct world *w, uint64_t pid, struct space *sp)
{
	size_t *index = pids_at(&w->by_pid, pid, 1);

	if (index == NULL)
		stop(w, "no memory");
	w->processes = grown(w, w->processes, &w->processes_capacity, w->processes_count + 1, sizeof *w->processes);
	w->processes[w->processes_count++] = (struct process){ pid, sp, true };
	*index = w->processes_count + 1;
	w->report->processes += w->out == NULL;
	return &w->processes[w->processes_count - 1];
}

static struct process *
process_find(struct world *w, uint64_t pid)
{
	size_t *index = pids_at(&w->by_pid, pid, 1);

	if (index == NULL)
		stop(w, "no memory");
	return *index > 1 ? &w->processes[*index - 2] : NULL;
}

/* Copy a page to another space: the frame itself, or one of its own. */
static void
page_copy(struct world *w, struct space *to, struct cursor *c, const struct page *page, const struct region *region)
{
	bool own = !region->shared && (region->prot & STRACE_WRITE) != 0;
	struct page copy = { page->va, own ? 0 : page->frame };

	if (own)
		copy.frame = frame_take(w);
	else
		w->frames[page->frame]++;
	if (c->id == 0)
		*c = cursor_open(w, to, page->va, region->end);
	cursor_map(w, c, page->va, copy.frame, own, region->prot);
	to->pages = grown(w, to->pages, &to->pages_capacity, to->pages_count + 1, sizeof *to->pages);
	to->pages[to->pages_count++] = copy;
}

static struct space *
space_copy(struct world *w, const struct space *from)
{
	struct space *to = space_new(w);

	to->brk = from->brk;
	for (size_t i = 0; i < from->regions_count; i++) {
		const struct region *region = &from->regions[i];
		size_t end = page_from(from, region->end);
		struct cursor c = { 0 };

		region_insert(w, to, to->regions_count, region);
		for (size_t k = page_from(from, region->start); k < end; k++)
			page_copy(w, to, &c, &from->pages[k], region);
		if (c.id != 0)
			cursor_drop(w, &c);
	}
	return to;
}

/* The call makes its child, now. */
static void
fork_now(struct world *w, size_t index)
{
	const struct strace_call *c = &w->s->calls[index];
	struct process *parent = process_find(w, c->pid);
	uint64_t ops = w->report->ops;

	w->forked[index] = true;
	struct space *sp = parent->space;
	if ((c->flags & STRACE_VM) != 0)
		sp->refs++;
	else
		sp = space_copy(w, sp);
	(void)process_add(w, c->result, sp);
	if ((c->flags & STRACE_VM) != 0)
		used(w, c, KVT_STRACE_INFORMATION, "in the same space");
	else
		used(w, c, w->report->ops > ops ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION,
		     w->report->ops > ops ? "" : "of nothing that is known");
}

/* A process whose number is new: the child of a call that has not ended yet, or one that was there before. */
static struct process *
process_meet(struct world *w, uint64_t pid, size_t step)
{
	struct process *p = process_find(w, pid);

	if (p != NULL && p->alive)
		return p;
	for (size_t i = step; i < w->s->steps_count && i < step + 4096; i++) {
		const struct strace_step *st = &w->s->steps[i];
		const struct strace_call *c = &w->s->calls[st->call];

		if (st->event != STRACE_END && st->event != STRACE_WHOLE)
			continue;
		if (c->sys != STRACE_CLONE || c->failed || c->result != pid || w->forked[st->call] || c->pid == pid)
			continue;
		p = process_find(w, c->pid);
		if (p == NULL || !p->alive)
			break;
		fork_now(w, st->call);
		return process_find(w, pid);
	}
	p = process_find(w, pid);
	if (p != NULL)
		anomaly(w, KVT_STRACE_ENDED_TWICE, 0, 0);
	return process_add(w, pid, space_new(w));
}

/* ---- Calls -------------------------------------------------------------------------------------------------- */

/* The range of pages that addresses and a size mean; false: none. */
static bool
range_of(struct world *w, uint64_t va, uint64_t size, uint64_t *end)
{
	uint64_t pages = size / PAGE + (size % PAGE != 0);

	if (va % PAGE != 0 || va >= USER_END_57 || pages > (USER_END_57 - va) / PAGE)
		stop(w, "no range of a process: 0x%" PRIx64 ", %" PRIu64 " bytes", va, size);
	*end = va + pages * PAGE;
	if (*end > w->highest)
		w->highest = *end;
	return pages > 0;
}

/* Take away what is in the range, regions and pages. */
static uint64_t
range_clear(struct world *w, struct space *sp, uint64_t start, uint64_t end)
{
	uint64_t pages = unmap(w, sp, start, end);

	regions_remove(w, sp, start, end);
	return pages;
}

/* Put something into a range, over what is there if that was asked for. */
static uint64_t
range_fill(struct world *w, struct space *sp, const struct region *region, bool over)
{
	if (region_any(sp, region->start, region->end)) {
		if (!over)
			anomaly(w, KVT_STRACE_MAPPED_TWICE, region->start, region->end);
		(void)range_clear(w, sp, region->start, region->end);
	}
	region_add(w, sp, region);
	return populate(w, sp, region->start, region->end, region->prot);
}

static void
call_mmap(struct world *w, struct space *sp, const struct strace_call *c)
{
	struct region region = { .start = c->result, .prot = c->prot, .shared = (c->flags & STRACE_SHARED) != 0 };
	bool over = (c->flags & (STRACE_FIXED | STRACE_NOREPLACE)) == STRACE_FIXED;

	if (!range_of(w, region.start, c->arg[1], &region.end)) {
		used(w, c, KVT_STRACE_INFORMATION, "of nothing");
		return;
	}
	uint64_t ops = w->report->ops;
	(void)range_fill(w, sp, &region, over);
	used(w, c, w->report->ops > ops ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION,
	     w->report->ops > ops ? "" : "that nobody may access");
}

static void
call_munmap(struct world *w, struct space *sp, const struct strace_call *c)
{
	uint64_t start = c->arg[0], end;

	if (!range_of(w, start, c->arg[1], &end)) {
		used(w, c, KVT_STRACE_INFORMATION, "of nothing");
	} else if (!region_any(sp, start, end)) {
		anomaly(w, KVT_STRACE_UNMAPPED_NOTHING, start, end);
		used(w, c, KVT_STRACE_NOT_EXPRESSED, "of what no line mapped");
	} else {
		bool some = range_clear(w, sp, start, end) > 0;

		used(w, c, some ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION, some ? "" : "without pages");
	}
}

/* Regions where there are none, of which nothing but their being there is known.  Gives whether there were any. */
static bool
regions_learn(struct world *w, struct space *sp, uint64_t start, uint64_t end)
{
	bool some = false;

	for (uint64_t va = start; va < end;) {
		size_t at = region_from(sp, va);
		const struct region *next = at < sp->regions_count ? &sp->regions[at] : NULL;

		if (next != NULL && next->start <= va) {
			va = next->end;
			continue;
		}
		struct region gap = { va, next != NULL && next->start < end ? next->start : end, 0, false };

		region_insert(w, sp, at, &gap);
		va = gap.end;
		some = true;
	}
	return some;
}

static void
call_mprotect(struct world *w, struct space *sp, const struct strace_call *c)
{
	uint64_t start = c->arg[0], end, changed = 0;

	if (!range_of(w, start, c->arg[1], &end)) {
		used(w, c, KVT_STRACE_INFORMATION, "of nothing");
		return;
	}
	/* that it succeeds says that all of it is mapped: what no line mapped execve did, or who came before */
	bool learned = regions_learn(w, sp, start, end);
	region_cut(w, sp, start);
	region_cut(w, sp, end);
	changed = protect(w, sp, start, end, c->prot);
	for (size_t i = region_from(sp, start); i < sp->regions_count && sp->regions[i].start < end; i++) {
		bool was_none = sp->regions[i].prot == 0;

		sp->regions[i].prot = c->prot;
		if (was_none)
			changed += populate(w, sp, sp->regions[i].start, sp->regions[i].end, c->prot);
	}
	used(w, c, changed > 0 ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION,
	     changed == 0 ? "without pages"
	     : learned    ? "of an older mapping"
			  : "");
}

static void
call_brk(struct world *w, struct space *sp, const struct strace_call *c)
{
	uint64_t old = sp->brk, is = c->result, start, end;

	if (is > USER_END_57)
		stop(w, "no address of a process: 0x%" PRIx64, is);
	sp->brk = is;
	if (c->arg[0] != is) { /* it asks, or was refused */
		used(w, c, KVT_STRACE_INFORMATION, c->arg[0] == 0 ? "asks" : "refused");
		return;
	}
	if (old == 0) {
		used(w, c, KVT_STRACE_NOT_EXPRESSED, "from where is not known");
		return;
	}
	start = (old + PAGE - 1) & ~(PAGE - 1);
	end = (is + PAGE - 1) & ~(PAGE - 1);
	if (start == end) {
		used(w, c, KVT_STRACE_INFORMATION, "within a page");
	} else if (end > start) {
		struct region region = { start, end, STRACE_READ | STRACE_WRITE, false };

		(void)range_of(w, start, end - start, &end);
		(void)range_fill(w, sp, &region, false);
		used(w, c, KVT_STRACE_EXPRESSED, "");
	} else {
		(void)range_clear(w, sp, end, start);
		used(w, c, KVT_STRACE_EXPRESSED, "");
	}
}

/* Pages of [start, end) to where they are "distance" further, with the frames they have. */
static void
pages_move(struct world *w, struct space *sp, uint64_t start, uint64_t end, uint64_t to, unsigned prot)
{
	size_t from = page_from(sp, start), count = page_from(sp, end) - from;

	if (count == 0)
		return;
	struct page *moved = malloc(count * sizeof *moved);
	uint64_t first = w->next_frame + 1;

	if (moved == NULL)
		stop(w, "no memory");
	memcpy(moved, sp->pages + from, count * sizeof *moved);
	for (size_t i = 0; i < count; i++) {
		w->frames[moved[i].frame]++;
		op(w, "frame_from_in_use paddr=0x%" PRIx64 " -> ok frame=%" PRIu64, moved[i].frame * PAGE, first + i);
	}
	w->next_frame += count;
	(void)unmap(w, sp, start, end);
	struct cursor c = cursor_open(w, sp, moved[0].va - start + to, moved[count - 1].va - start + to + PAGE);

	from = page_from(sp, to);
	pages_open(w, sp, from, count);
	for (size_t i = 0; i < count; i++) {
		uint64_t va = moved[i].va - start + to;

		if (c.va != va)
			op(w, "cursor_jump cursor=%" PRIu64 " va=0x%" PRIx64 " -> ok", c.id, va);
		op(w, "cursor_map cursor=%" PRIu64 " frame=%" PRIu64 " prop=%s -> ok", c.id, first + i,
		   prop_text(prot));
		c.va = va + PAGE;
		w->nodes_at_most += va % (PAGE << 9) == 0 ? 3 : 0;
		sp->pages[from + i] = (struct page){ va, moved[i].frame };
	}
	cursor_drop(w, &c);
	free(moved);
}

static void
call_mremap(struct world *w, struct space *sp, const struct strace_call *c)
{
	uint64_t old = c->arg[0], old_end, new = c->result, new_end, kept;
	size_t at = region_from(sp, old);

	if (!range_of(w, new, c->arg[2], &new_end) || !range_of(w, old, c->arg[1], &old_end)) {
		used(w, c, KVT_STRACE_NOT_EXPRESSED, "that copies");
		return;
	}
	if (at == sp->regions_count || sp->regions[at].start > old || sp->regions[at].end < old_end) {
		anomaly(w, KVT_STRACE_MOVED_NOTHING, old, old_end);
		used(w, c, KVT_STRACE_NOT_EXPRESSED, "of what no line mapped");
		return;
	}
	uint64_t ops = w->report->ops;
	struct region region = sp->regions[at];

	kept = old_end - old < new_end - new ? old_end - old : new_end - new;
	if (new == old) {
		if (old_end > new_end) {
			(void)range_clear(w, sp, new_end, old_end);
		} else if (new_end > old_end) {
			region.start = old_end;
			region.end = new_end;
			(void)range_fill(w, sp, &region, false);
		}
	} else {
		region.start = new;
		region.end = new_end;
		if (region_any(sp, new, new_end) && (c->flags & STRACE_FIXED) == 0)
			anomaly(w, KVT_STRACE_MAPPED_TWICE, new, new_end);
		if (new < old_end && old < new_end)
			stop(w, "a range moved over itself");
		(void)range_clear(w, sp, new, new_end);
		pages_move(w, sp, old, old + kept, new, region.prot);
		(void)unmap(w, sp, old, old_end);
		if ((c->flags & STRACE_DONTUNMAP) == 0)
			regions_remove(w, sp, old, old_end);
		region_add(w, sp, &region);
		(void)populate(w, sp, new + kept, new_end, region.prot);
	}
	used(w, c, w->report->ops > ops ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION,
	     w->report->ops > ops ? "" : "without pages");
}

static void
call_madvise(struct world *w, struct space *sp, const struct strace_call *c)
{
	uint64_t end;

	if ((c->flags & STRACE_DONTNEED) == 0 || !range_of(w, c->arg[0], c->arg[1], &end)) {
		used(w, c, KVT_STRACE_INFORMATION, "other advice");
		return;
	}
	bool some = unmap(w, sp, c->arg[0], end) > 0;
	used(w, c, some ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION, some ? "" : "without pages");
}

static void
call_execve(struct world *w, struct process *p, const struct strace_call *c)
{
	bool dropped = space_leave(w, p->space);

	p->space = space_new(w);
	used(w, c, dropped ? KVT_STRACE_EXPRESSED : KVT_STRACE_INFORMATION,
	     dropped ? "" : "out of nothing that is known");
}

/* Does the call take memory away where it begins? */
static bool
call_is_early(const struct strace_call *c)
{
	return c->done && !c->failed && (c->sys == STRACE_MUNMAP || (c->sys == STRACE_MADVISE));
}

static void
call_apply(struct world *w, size_t index, size_t step)
{
	const struct strace_call *c = &w->s->calls[index];
	struct process *p = process_meet(w, c->pid, step);
	struct space *sp = p->space;

	if (w->out != NULL)
		fprintf(w->out, "# %" PRIu64 ": %" PRIu64 " %s\n", w->line, c->pid, c->text);
	if (!c->done) {
		if (c->sys != STRACE_EXIT && c->sys != STRACE_OTHER)
			anomaly(w, KVT_STRACE_NEVER_RESUMED, 0, 0);
		used(w, c, c->sys == STRACE_EXIT ? KVT_STRACE_INFORMATION : KVT_STRACE_NOT_EXPRESSED, "not resumed");
	} else if (c->sys == STRACE_EXIT) {
		used(w, c, KVT_STRACE_INFORMATION, "");
	} else if (c->failed) {
		used(w, c, KVT_STRACE_INFORMATION, "failed");
	} else {
		switch (c->sys) {
		case STRACE_MMAP:
			call_mmap(w, sp, c);
			break;
		case STRACE_MUNMAP:
			call_munmap(w, sp, c);
			break;
		case STRACE_MPROTECT:
			call_mprotect(w, sp, c);
			break;
		case STRACE_MREMAP:
			call_mremap(w, sp, c);
			break;
		case STRACE_BRK:
			call_brk(w, sp, c);
			break;
		case STRACE_MADVISE:
			call_madvise(w, sp, c);
			break;
		case STRACE_CLONE:
			if (!w->forked[index])
				fork_now(w, index);
			break;
		case STRACE_EXECVE:
			call_execve(w, p, c);
			break;
		case STRACE_EXIT:
		case STRACE_OTHER:
			used(w, c, KVT_STRACE_NOT_EXPRESSED, "");
			break;
		}
	}
}

/* ---- All steps --------------------------------------------------------------------------------------------------- */

static void
step_gone(struct world *w, const struct strace_step *st, size_t step)
{
	struct process *p = process_find(w, st->pid);

	if (p == NULL)
		p = process_meet(w, st->pid, step);
	if (!p->alive) {
		anomaly(w, KVT_STRACE_ENDED_TWICE, 0, 0);
		return;
	}
	if (w->out != NULL)
		fprintf(w->out, "# %" PRIu64 ": %" PRIu64 " has ended\n", w->line, st->pid);
	p->alive = false;
	(void)space_leave(w, p->space);
}

/* A thread that calls execve takes the number of its leader, who goes. */
static void
step_superseded(struct world *w, const struct strace_step *st)
{
	struct process *leader = process_find(w, st->pid), *thread = process_find(w, st->other);

	if (leader == NULL || thread == NULL || !leader->alive || !thread->alive || leader == thread)
		return;
	(void)space_leave(w, leader->space);
	leader->space = thread->space;
	thread->alive = false;
}

static void
step_apply(struct world *w, size_t step)
{
	const struct strace_step *st = &w->s->steps[step];
	const struct strace_call *c = &w->s->calls[st->call];

	w->line = st->line;
	switch (st->event) {
	case STRACE_WHOLE:
		call_apply(w, st->call, step);
		break;
	case STRACE_BEGIN:
		if (call_is_early(c) || !c->done)
			call_apply(w, st->call, step);
		else
			(void)process_meet(w, st->pid, step);
		break;
	case STRACE_END:
		if (!call_is_early(c))
			call_apply(w, st->call, step);
		break;
	case STRACE_GONE:
		step_gone(w, st, step);
		break;
	case STRACE_SUPERSEDED:
		step_superseded(w, st);
		break;
	}
}

/* What the first process has from before. */
static void
maps_apply(struct world *w, const struct kvt_items *maps)
{
	const struct strace_step *first = &w->s->steps[0];
	struct process *p = process_meet(w, first->pid, 0);

	for (size_t i = 0; i < maps->count && maps->at[i].start < USER_END_57; i++) {
		struct region region = { .start = maps->at[i].start, .prot = 0 };

		(void)range_of(w, region.start, maps->at[i].last - region.start + 1, &region.end);
		region.prot |= (maps->at[i].prop & KVMS_PROP_R) != 0 ? STRACE_READ : 0;
		region.prot |= (maps->at[i].prop & KVMS_PROP_W) != 0 ? STRACE_WRITE : 0;
		region.prot |= (maps->at[i].prop & KVMS_PROP_X) != 0 ? STRACE_EXEC : 0;
		(void)range_fill(w, p->space, &region, false);
	}
}

static void
world_clear(struct world *w)
{
	for (size_t i = 0; i < w->spaces_count; i++) {
		free(w->spaces[i]->pages);
		free(w->spaces[i]->regions);
		free(w->spaces[i]);
	}
	free(w->spaces);
	free(w->processes);
	pids_free(&w->by_pid);
	free(w->frames);
	free(w->spare);
	free(w->forked);
}

/* Go through all steps.  Gives what the store must have: frames, and the end of addresses. */
static bool
follow(struct world *w, const struct kvt_items *maps, uint64_t *frames)
{
	w->forked = calloc(w->s->calls_count + 1, sizeof *w->forked);
	if (w->forked == NULL) {
		snprintf(w->error, w->error_size, "%s: no memory", kvt_input_name(w->from->in));
		return false;
	}
	if (setjmp(w->stop) != 0)
		return false;
	w->line = 1;
	if (maps != NULL)
		maps_apply(w, maps);
	for (size_t i = 0; i < w->s->steps_count; i++)
		step_apply(w, i);
	*frames = w->frames_count + w->nodes_at_most;
	for (size_t i = 0; i < w->spaces_count && w->out == NULL; i++)
		w->report->spaces_live += w->spaces[i]->refs > 0 && w->spaces[i]->id != 0;
	return true;
}

static int
by_use(const void *a, const void *b)
{
	const struct kvt_strace_kind *x = a, *y = b;

	return x->use != y->use ? (x->use < y->use ? -1 : 1) : strcmp(x->name, y->name);
}

static int
by_line(const void *a, const void *b)
{
	const struct kvt_strace_anomaly *x = a, *y = b;

	return x->line < y->line ? -1 : x->line > y->line;
}

static bool
write_trace(struct world *w, const struct kvt_items *maps, uint64_t frames, uint64_t highest, FILE *out)
{
	struct world again = { .from = w->from,
			       .s = w->s,
			       .report = w->report,
			       .out = out,
			       .error = w->error,
			       .error_size = w->error_size };
	uint64_t memory = UINT64_C(0x80000000), ops = w->report->ops;

	while (memory / PAGE < 2 * frames)
		memory *= 2;
	fprintf(out, "kvmtrace 1\nstore arch=%s max_paddr=0x%" PRIx64 "\n",
		highest > USER_END_48 ? "x86_64_la57" : "x86_64", memory);
	bool done = follow(&again, maps, &frames);
	w->report->ops = ops;
	world_clear(&again);
	return done;
}

/* With --strict what is wrong with lines themselves ends it too. */
static bool
lines_strict(const struct kvt_strace *from, const struct kvt_strace_report *r, char *error, size_t error_size)
{
	if (!from->strict)
		return true;
	if (r->anomalies_kept > 0) {
		snprintf(error, error_size, "%s:%" PRIu64 ": %s", kvt_input_name(from->in), r->anomalies[0].line,
			 anomaly_texts[r->anomalies[0].kind]);
		return false;
	}
	if (r->unparsed > 0)
		snprintf(error, error_size, "%s:%" PRIu64 ": no line of strace", kvt_input_name(from->in),
			 r->unparsed_first_line);
	return r->unparsed == 0;
}

int
kvt_import_strace(const struct kvt_strace *from, FILE *out, struct kvt_strace_report *report, char *error,
		  size_t error_size)
{
	struct strace s = { .report = report };
	struct world w = { .from = from, .s = &s, .report = report, .error = error, .error_size = error_size };
	struct kvt_items maps = { 0 };
	uint64_t frames = 0;

	memset(report, 0, sizeof *report);
	bool done =
	    from->maps_before == NULL || kvt_listing_read(&maps, KVT_MAPS, from->maps_before, error, error_size);
	done = done && strace_read(&s, from->in, error, error_size) && lines_strict(from, report, error, error_size);
	done = done && follow(&w, from->maps_before != NULL ? &maps : NULL, &frames);
	done = done && write_trace(&w, from->maps_before != NULL ? &maps : NULL, frames, w.highest, out);
	qsort(report->kinds, report->kinds_count, sizeof report->kinds[0], by_use);
	qsort(report->anomalies, report->anomalies_kept, sizeof report->anomalies[0], by_line);
	world_clear(&w);
	strace_free(&s);
	kvt_items_free(&maps);
	return done ? 0 : -1;
}

/* ---- Report ---------------------------------------------------------------------------------------------------------
 */

void
kvt_strace_report_print(const struct kvt_strace_report *r, const char *file, FILE *out)
{
	static const char *const uses[] = { "expressed", "information", "not expressed" };

	fprintf(out,
		"%" PRIu64 " lines: %" PRIu64 " calls, %" PRIu64 " signals, %" PRIu64 " ends of processes, %" PRIu64
		" others, %" PRIu64 " not understood\n",
		r->lines, r->calls, r->signals, r->ends, r->other_lines, r->unparsed);
	if (r->unparsed > 0)
		fprintf(out, "  first not understood: %s:%" PRIu64 "\n", file, r->unparsed_first_line);
	fprintf(out, "calls: %" PRIu64 " expressed, %" PRIu64 " information, %" PRIu64 " not expressed\n", r->expressed,
		r->information, r->not_expressed);
	for (size_t i = 0; i < r->kinds_count; i++)
		fprintf(out, "  %-13s %8" PRIu64 "  %s\n", uses[r->kinds[i].use], r->kinds[i].count, r->kinds[i].name);
	fprintf(out,
		"%" PRIu64 " processes and threads, %" PRIu64 " address spaces, %" PRIu64 " of them at the end\n"
		"%" PRIu64 " pages mapped, at most %" PRIu64 " frames at a time, %" PRIu64 " operations\n",
		r->processes, r->spaces, r->spaces_live, r->pages_mapped, r->pages_peak, r->ops);
	if (r->pages_left_out > 0)
		fprintf(out, "%" PRIu64 " pages left out, beyond the limit of a call (--populate)\n",
			r->pages_left_out);
	for (unsigned i = 0; i < KVT_STRACE_ANOMALY_KINDS; i++)
		if (r->anomalies_count[i] > 0)
			fprintf(out, "anomalies: %" PRIu64 " times %s\n", r->anomalies_count[i], anomaly_texts[i]);
	for (size_t i = 0; i < r->anomalies_kept && i < 10; i++) {
		const struct kvt_strace_anomaly *a = &r->anomalies[i];

		fprintf(out, "  %s:%" PRIu64 ": %s", file, a->line, anomaly_texts[a->kind]);
		if (a->end != a->start)
			fprintf(out, ": 0x%" PRIx64 "..0x%" PRIx64, a->start, a->end);
		fputc('\n', out);
	}
}
