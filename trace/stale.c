#include "trace/stale.h"

#include <stdlib.h>
#include <string.h>

/* What an operation that ended ok may do to a stale entry of the kernel. */
enum role {
	ROLE_OTHER,  /* take frames, map, flush: of interest while something is stale */
	ROLE_NONE,   /* nothing */
	ROLE_FILLS,  /* make a TLB entry */
	ROLE_UNMAPS, /* take a mapping away, or cut it */
};

/* A stale entry. */
struct watched {
	uint64_t cpu, va, paddr;
	uint64_t size; /* of the entry if known, else a page */
	struct kvt_place since;
	bool gone;  /* its first page is mapped no more; until then the entry was only cut */
	bool freed; /* and its frame has been seen unused */
	bool told;
};

/* A TLB entry of more than one page: the answers of "stale" do not tell sizes. */
struct large {
	uint64_t cpu, va, size;
};

struct kvt_stale {
	bool active; /* a TLB holds, or may hold, entries of the kernel */
	bool ended;  /* the target did not answer once */
	bool overflowed;
	unsigned char *role; /* by operation code */
	struct watched *at;  /* ascending by cpu, va */
	struct watched *next;
	size_t count;
	struct large large[KVT_STALE_LARGE]; /* a ring */
	size_t large_count;
	uint64_t told[KVT_STALE_TOLD][2]; /* cpu, va */
	size_t told_count;
	struct kvms_outcome answer;
};

/* ---- Which operations matter -------------------------------------------------------- */

static enum role
role_of(const char *name)
{
	static const char *const unmaps[] = { "kvirt_drop",         "kvirt_unmap_range",  "kvirt_protect_range",
					      "boot_protect_range", "iomem_drop",         "vm_space_drop",
					      "vm_space_activate",  "vm_space_deactivate" };
	static const char *const none[] = { "reader_", "writer_", "io_", "list_", "iomem_read", "iomem_write" };

	for (size_t i = 0; i < sizeof unmaps / sizeof unmaps[0]; i++)
		if (strcmp(name, unmaps[i]) == 0)
			return ROLE_UNMAPS;
	if (strcmp(name, "tlb_fill") == 0 || strcmp(name, "access") == 0)
		return ROLE_FILLS;
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		if (strncmp(name, none[i], strlen(none[i])) == 0 && strcmp(name, "list_drop") != 0)
			return ROLE_NONE;
	return ROLE_OTHER;
}

struct kvt_stale *
kvt_stale_new(void)
{
	struct kvt_stale *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->role = calloc(kvms_op_max() + 1, 1);
	w->at = malloc(KVT_STALE_WATCHED * sizeof *w->at);
	w->next = malloc(KVT_STALE_WATCHED * sizeof *w->next);
	if (w->role == NULL || w->at == NULL || w->next == NULL) {
		kvt_stale_free(&w);
		return NULL;
	}
	for (unsigned code = 1; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL)
			w->role[code] = (unsigned char)role_of(kvms_op_row(code)->name);
	return w;
}

void
kvt_stale_free(struct kvt_stale **w)
{
	if (*w == NULL)
		return;
	kvms_outcome_free(&(*w)->answer);
	free((*w)->role);
	free((*w)->at);
	free((*w)->next);
	free(*w);
	*w = NULL;
}

bool
kvt_stale_overflowed(const struct kvt_stale *w)
{
	return w->overflowed;
}

/* ---- Asking ---------------------------------------------------------------------------- */

/* Ask a request with one address or none; false: it answered "pre", or not at all, which ends the watch. */
static bool
ask(struct kvt_stale *w, struct kvt_target *t, const char *request, const char *arg, uint64_t value)
{
	const struct kvms_row *row = kvms_request_find(request);
	struct kvms_op op;

	kvms_op_init(&op, row);
	if (arg != NULL)
		op.arg[kvms_arg_index(row, arg)] = value;
	if (!w->ended && t->inspect(t, &op, &w->answer) != KVT_DONE)
		w->ended = true;
	return !w->ended && w->answer.name == 0;
}

/* A field of the last answer; false if it does not apply. */
static bool
answered(const struct kvt_stale *w, const char *request, const char *field, uint64_t *value)
{
	int i = kvms_result_index(kvms_request_find(request), field);

	*value = i >= 0 ? w->answer.field[i] : 0;
	return i >= 0 && (w->answer.present >> i & 1) != 0;
}

/* Does the kernel table map a byte there? */
static bool
maps_to(struct kvt_stale *w, struct kvt_target *t, uint64_t va, uint64_t paddr)
{
	uint64_t now;

	return ask(w, t, "translate", "va", va) && answered(w, "translate", "paddr", &now) && now == paddr;
}

/* ---- Sizes of entries -------------------------------------------------------------------- */

static void
large_note(struct kvt_stale *w, uint64_t cpu, uint64_t va, uint64_t size)
{
	if (size <= KVMS_PAGE_SIZE)
		return;
	for (size_t i = 0; i < w->large_count && i < KVT_STALE_LARGE; i++)
		if (w->large[i].cpu == cpu && w->large[i].va == va) {
			w->large[i].size = size;
			return;
		}
	w->large[w->large_count++ % KVT_STALE_LARGE] = (struct large){ cpu, va, size };
}

static uint64_t
large_size(const struct kvt_stale *w, uint64_t cpu, uint64_t va)
{
	for (size_t i = 0; i < w->large_count && i < KVT_STALE_LARGE; i++)
		if (w->large[i].cpu == cpu && w->large[i].va == va)
			return w->large[i].size;
	return KVMS_PAGE_SIZE;
}

static bool
is_kernel(uint64_t va)
{
	return va >> 63 != 0;
}

static uint64_t
arg_of(const struct kvms_op *op, const char *name)
{
	int i = kvms_arg_index(kvms_op_row(op->code), name);

	return i >= 0 ? op->arg[i] : 0;
}

static uint64_t
result_of(const struct kvms_op *op, const struct kvms_outcome *out, const char *name)
{
	int i = kvms_result_index(kvms_op_row(op->code), name);

	return i >= 0 ? out->field[i] : 0;
}

/* A TLB entry was made, perhaps: from here on there is something to watch. */
static void
filled(struct kvt_stale *w, struct kvt_target *t, const struct kvms_op *op)
{
	uint64_t va = arg_of(op, "va"), start, end;

	if (!is_kernel(va))
		return;
	w->active = true;
	if (ask(w, t, "translate", "va", va) && answered(w, "translate", "start", &start) &&
	    answered(w, "translate", "end", &end))
		large_note(w, arg_of(op, "cpu"), start, end - start);
}

/* ---- What is stale now ----------------------------------------------------------------- */

static bool
is_before(const struct watched *a, uint64_t cpu, uint64_t va)
{
	return a->cpu != cpu ? a->cpu < cpu : a->va < va;
}

static bool
was_told(const struct kvt_stale *w, uint64_t cpu, uint64_t va)
{
	for (size_t i = 0; i < w->told_count; i++)
		if (w->told[i][0] == cpu && w->told[i][1] == va)
			return true;
	return false;
}

/*
 * Ask which entries are stale, and keep of those known before what is known.
 * Both lists ascend by CPU and address.
 */
static void
poll_entries(struct kvt_stale *w, struct kvt_target *t, struct kvt_place here)
{
	const struct kvms_row *row = kvms_request_find("stale");
	size_t old = 0, count = 0;
	const uint64_t *entry;
	struct watched *swap;
	uint64_t entries;

	if (!ask(w, t, "stale", NULL, 0))
		return;
	entry = kvms_outcome_list(&w->answer, row, 0, &entries);
	for (uint64_t i = 0; i < entries; i++, entry += 4) {
		uint64_t cpu = entry[0], va = entry[2], paddr = entry[3];

		if (entry[1] != 0)
			continue; /* a user's: a broken law, and told as such */
		if (count == KVT_STALE_WATCHED) {
			w->overflowed = true;
			break;
		}
		while (old < w->count && is_before(&w->at[old], cpu, va))
			old++;
		if (old < w->count && w->at[old].cpu == cpu && w->at[old].va == va && w->at[old].paddr == paddr)
			w->next[count++] = w->at[old];
		else
			w->next[count++] = (struct watched){ .cpu = cpu,
							     .va = va,
							     .paddr = paddr,
							     .size = large_size(w, cpu, va),
							     .since = here,
							     .told = was_told(w, cpu, va) };
	}
	swap = w->at;
	w->at = w->next;
	w->next = swap;
	w->count = count;
}

/* ---- Is it used again? --------------------------------------------------------------------- */

/* What the operation mapped in the kernel table; empty for one that maps nothing there. */
static void
mapped_range(const struct kvms_op *op, const struct kvms_outcome *out, uint64_t *start, uint64_t *end)
{
	const struct kvms_row *row = kvms_op_row(op->code);
	uint64_t paddr_start = arg_of(op, "paddr_start"), paddr_end = arg_of(op, "paddr_end");

	*start = *end = 0;
	if (strncmp(row->name, "kvirt_map_", 10) != 0 && strcmp(row->name, "boot_map") != 0)
		return;
	if (kvms_arg_index(row, "area_size") < 0) { /* into something that exists: from va to the end reached */
		*start = arg_of(op, "va");
		*end = result_of(op, out, "end");
		return;
	}
	*start = result_of(op, out, "start") + arg_of(op, "map_offset");
	if (kvms_arg_index(row, "frames") >= 0)
		*end = *start + arg_of(op, "frames") * KVMS_PAGE_SIZE;
	else
		*end = *start + (paddr_end > paddr_start ? paddr_end - paddr_start : 0);
}

/* Is a part of the entry's range mapped to something else by what was mapped in [start, end)? */
static bool
range_reused(struct kvt_stale *w, struct kvt_target *t, const struct watched *e, uint64_t start, uint64_t end)
{
	uint64_t first = start > e->va ? start : e->va;
	uint64_t last = (end - e->va < e->size ? end : e->va + e->size) - KVMS_PAGE_SIZE;

	if (start >= end || end <= e->va || (start > e->va && start - e->va >= e->size))
		return false;
	return !maps_to(w, t, first, e->paddr + (first - e->va)) || !maps_to(w, t, last, e->paddr + (last - e->va));
}

/* Has the frame been unused since the entry became stale, and is it in use now? */
static bool
frame_reused(struct kvt_stale *w, struct kvt_target *t, struct watched *e, struct kvt_place here)
{
	uint64_t rc;

	if (!e->gone && !maps_to(w, t, e->va, e->paddr)) {
		e->gone = true;
		e->since = here;
	}
	if (!e->gone || !ask(w, t, "frame", "paddr", e->paddr) || !answered(w, "frame", "rc", &rc))
		return false;
	if (rc == KVMS_RC_UNUSED)
		e->freed = true;
	return e->freed && rc != KVMS_RC_UNUSED;
}

static void
look_at(struct kvt_stale *w, struct kvt_target *t, const struct kvms_op *op, const struct kvms_outcome *out,
	struct kvt_place here, kvt_stale_teller *tell, void *arg)
{
	uint64_t start, end;

	mapped_range(op, out, &start, &end);
	for (size_t i = 0; i < w->count && !w->ended; i++) {
		struct watched *e = &w->at[i];
		struct kvt_stale_warning warning = { e->cpu, e->va, e->paddr, false, e->since, here };
		bool range, frame;

		if (e->told)
			continue;
		range = range_reused(w, t, e, start, end);
		frame = frame_reused(w, t, e, here);
		if (w->ended || (!range && !frame))
			continue;
		if (w->told_count == KVT_STALE_TOLD) {
			w->overflowed = true;
			continue;
		}
		e->told = true;
		w->told[w->told_count][0] = e->cpu;
		w->told[w->told_count++][1] = e->va;
		warning.is_frame = !range;
		tell(arg, &warning);
	}
}

/* ---- The run ----------------------------------------------------------------------------------- */

void
kvt_stale_begin(struct kvt_stale *w, struct kvt_target *t)
{
	static const struct kvt_place before = { 0, 0 };
	uint64_t entries;

	if (!ask(w, t, "census", NULL, 0) || !answered(w, "census", "tlb_entries", &entries) || entries == 0)
		return;
	w->active = true;
	poll_entries(w, t, before);
	for (size_t i = 0; i < w->count; i++)
		(void)frame_reused(w, t, &w->at[i], before); /* which frames are unused already */
}

void
kvt_stale_step(struct kvt_stale *w, struct kvt_target *t, const struct kvms_op *op, const struct kvms_outcome *out,
	       struct kvt_place here, kvt_stale_teller *tell, void *arg)
{
	enum role role = (enum role)w->role[op->code];

	if (role == ROLE_FILLS)
		filled(w, t, op);
	if (!w->active || w->ended || role == ROLE_NONE || (w->count == 0 && role != ROLE_UNMAPS))
		return;
	poll_entries(w, t, here);
	if (!w->ended && w->count > 0)
		look_at(w, t, op, out, here, tell, arg);
}
