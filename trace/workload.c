#include "trace/workload.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS 26u
#define LINES_MAX 12u
#define POOL_MAX 256u /* ids in one list; what comes more is not remembered */
#define WAITS_MAX 6u
#define TRIES_MAX 256u /* plans that cannot begin, one behind the other */

/* ---- Plans --------------------------------------------------------------------------- */

/*
 * A plan: the workloads it is part of, how often it is chosen among theirs,
 * what numbers are drawn for it, and its lines.
 *
 *   draws   "n=1..16 p=0..3": a number for each small letter
 *   line    [LETTER*] OP KEY=VALUE ... [> RESULT:LETTER ...]
 *
 * A line with a number and * runs that often, with i = 0, 1, ...
 * A value with $ is a sum of products of small letters and numbers.  @L is all
 * ids of list L; ^L its first id, which leaves the list, ~L the last; %L one of
 * them, which stays; without one the plan ends.
 * RESULT:LETTER keeps a result: a small letter as a number, a capital as one
 * more id of that list.  Lists are the workload's; F G H are the plan's own.
 */
struct plan {
	const char *workloads;
	unsigned weight;
	const char *draws;
	const char *lines[LINES_MAX];
};

static const struct plan plans[] = {
	/* kernel stacks: an area with guard pages on both sides, two of them below */
	{ "stacks", 10, "", { "kvirt_reserve area_size=0xc000 > start:a area:k", "kvirt_unreserve area=$k" } },
	{ "stacks",
	  45,
	  "n=8..8",
	  { "n* frame_alloc kind=typed > frame:F",
	    "kvirt_map_frames area_size=0xc000 map_offset=0x2000 frames=[@F] prop=rw:wb > area:S start:a",
	    "kvirt_query area=%S va=$a+0x2000 > frame:f", "frame_drop frame=$f" } },
	{ "stacks",
	  8,
	  "n=64..64",
	  { "n* frame_alloc kind=typed > frame:F",
	    "kvirt_map_frames area_size=0x44000 map_offset=0x2000 frames=[@F] prop=rw:wb > area:S" } },
	{ "stacks", 20, "", { "kvirt_drop area=^S" } },
	{ "stacks", 20, "", { "kvirt_drop area=~S" } },
	/* drivers: device registers, windows of many sizes, buffers */
	{ "drivers",
	  30,
	  "p=0..255",
	  { "kvirt_map_untracked_frames area_size=0x1000 paddr_start=$0x200000000+p*0x1000 "
	    "paddr_end=$0x200001000+p*0x1000 prop=rw:uc > area:D start:a",
	    "kvirt_peek area=%D va=$a" } },
	{ "drivers",
	  3,
	  "p=0..3",
	  { "kvirt_map_untracked_frames area_size=0x10000000 paddr_start=$0x300000000+p*0x10000000 "
	    "paddr_end=$0x310000000+p*0x10000000 prop=rw:wb+global > area:D" } },
	{ "drivers",
	  10,
	  "n=16..64",
	  { "n* frame_alloc > frame:F", "kvirt_map_frames area_size=$n*0x1000 frames=[@F] prop=rw:wb > area:D" } },
	{ "drivers",
	  10,
	  "p=0..4095 n=1..16",
	  { "iomem_acquire start=$0xfe000000+p*0x1000 end=$0xfe000000+p*0x1000+n*0x200 > iomem:M",
	    "iomem_read_once iomem=%M offset=0 width=4", "iomem_write_once iomem=%M offset=0 width=4 value=1" } },
	{ "drivers", 6, "", { "iomem_clone iomem=%M > iomem:M", "iomem_slice iomem=%M start=0 end=0x100 > iomem:M" } },
	{ "drivers", 8, "", { "iomem_drop iomem=^M" } },
	{ "drivers", 20, "", { "kvirt_drop area=^D" } },
	{ "drivers", 12, "", { "kvirt_drop area=~D" } },
	/* DMA rings: areas that are cut, and whose halves go in either order */
	{ "dma",
	  40,
	  "n=2..16 o=1..1",
	  { "n* frame_alloc zeroed=false > frame:F",
	    "kvirt_map_frames area_size=$n*0x1000 frames=[@F] prop=rw:wb > area:k start:a", "kvirt_peek area=$k va=$a",
	    "kvirt_split area=$k offset=0x1000 > left:L right:R" } },
	{ "dma", 20, "", { "kvirt_drop area=^L" } },
	{ "dma", 20, "", { "kvirt_drop area=~R" } },
	{ "dma",
	  10,
	  "n=1..8",
	  { "segment_alloc pages=$n > segment:g", "segment_clone segment=$g > segment:G",
	    "segment_write segment=$g offset=0x10 bytes=00ff", "segment_drop segment=$g",
	    "segment_next segment=^G > frame:f", "frame_drop frame=$f" } },
	{ "dma",
	  10,
	  "n=2..8",
	  { "segment_alloc pages=$n > segment:g", "segment_slice segment=$g start=0x1000 end=0x2000 > segment:h",
	    "segment_clone segment=$g > segment:k", "segment_drop segment=$k", "segment_drop segment=$h",
	    "segment_drop segment=$g" } },
	/* large pages of the kernel, cut by what happens to a part of them */
	{ "huge",
	  30,
	  "p=0..15",
	  { "kvirt_map_untracked_frames area_size=0x400000 paddr_start=$0x40000000+p*0x200000 "
	    "paddr_end=$0x40400000+p*0x200000 prop=rw:wb+global > area:h start:a area:B",
	    "kvirt_peek area=$h va=$a" } },
	{ "huge",
	  30,
	  "p=0..511 n=1..4",
	  { "kvirt_range area=%B > start:a size:z",
	    "kvirt_protect_range area=%B start=$a+p*0x1000 end=$a+p*0x1000+n*0x1000 clear=w",
	    "kvirt_peek area=%B va=$a+p*0x1000" } },
	{ "huge",
	  20,
	  "p=0..511 n=1..600",
	  { "kvirt_range area=%B > start:a", "kvirt_unmap_range area=%B start=$a+p*0x1000 end=$a+p*0x1000+n*0x1000",
	    "kvirt_peek area=%B va=$a+p*0x1000+n*0x1000" } },
	{ "huge", 25, "", { "kvirt_drop area=^B" } },
	{ "huge",
	  10,
	  "p=0..63",
	  { "boot_map va=$0xffff900000000000+p*0x200000 paddr_start=$0x40000000+p*0x200000 "
	    "paddr_end=$0x40200000+p*0x200000 prop=rw:wb+global",
	    "boot_protect_range start=$0xffff900000000000+p*0x200000 end=$0xffff900000001000+p*0x200000 clear=w "
	    "global=clear" } },
	/* all memory is taken, and given back */
	{ "pressure", 10, "", { "segment_alloc pages=65536 zeroed=false > segment:T" } },
	{ "pressure", 20, "", { "segment_alloc pages=128 zeroed=false > segment:T" } },
	{ "pressure", 20, "", { "segment_alloc pages=8 zeroed=false > segment:T" } },
	{ "pressure", 50, "", { "frame_alloc zeroed=false > frame:U" } },
	{ "pressure", 2, "", { "frame_drop frame=~U" } },
	{ "relief", 10, "", { "segment_drop segment=^T" } },
	{ "relief", 10, "", { "frame_drop frame=^U" } },
	/* spaces, which forks, faults and unmaps share */
	{ "fork faults munmap", 6, "", { "vm_space_new > vm_space:P", "vm_space_activate vm_space=~P" } },
	{ "fork faults munmap", 4, "", { "vm_space_new > vm_space:P vm_space:p", "vm_space_activate vm_space=$p" } },
	{ "fork faults munmap", 6, "", { "vm_space_activate vm_space=%P" } },
	{ "fork faults munmap", 3, "", { "vm_space_deactivate" } },
	{ "fork faults munmap", 3, "", { "vm_space_drop vm_space=^P" } },
	{ "fork faults munmap", 4, "c=0..1", { "ipi_deliver cpu=$c" } },
	/* fork: every page of one space write-protected, and mapped in another one */
	{ "fork",
	  12,
	  "n=1..16",
	  { "vm_space_new > vm_space:p vm_space:P",
	    "cursor_open_mut vm_space=$p start=0x10000 end=$0x10000+n*0x1000 > cursor:c", "n* frame_alloc > frame:F",
	    "n* cursor_map cursor=$c frame=^F prop=rw:wb+user", "cursor_drop cursor=$c",
	    "vm_space_activate vm_space=$p", "n* access cpu=0 va=$0x10000+i*0x1000 access=w" } },
	{ "fork",
	  20,
	  "n=1..16",
	  { "vm_space_new > vm_space:q", "cursor_open_mut vm_space=%P start=0x10000 end=0x20000 > cursor:c",
	    "cursor_open_mut vm_space=$q start=0x10000 end=0x20000 > cursor:d",
	    "n* cursor_find_next cursor=$c len=0x1000 > va:v", "cursor_jump cursor=$c va=0x10000",
	    "cursor_query cursor=$c > frame:f", "cursor_protect_next cursor=$c len=0x1000 clear=w",
	    "cursor_map cursor=$d frame=$f prop=r:wb+user", "flush_issue cursor=$c kind=all",
	    "flush_dispatch cursor=$c", "cursor_drop cursor=$c", "cursor_drop cursor=$d" } },
	/* page faults: one page; around a page; copy on write; protection */
	{ "faults",
	  50,
	  "v=16..47",
	  { "cursor_open_mut vm_space=%P start=$v*0x1000 end=$v*0x1000+0x1000 > cursor:c", "cursor_peek cursor=$c",
	    "frame_alloc > frame:f", "cursor_map cursor=$c frame=$f prop=rw:wb+user", "cursor_drop cursor=$c",
	    "access cpu=0 va=$v*0x1000" } },
	{ "faults",
	  12,
	  "v=1..2 n=16..16",
	  { "cursor_open_mut vm_space=%P start=$v*0x10000 end=$v*0x10000+0x10000 > cursor:c",
	    "n* frame_alloc > frame:F", "n* cursor_map cursor=$c frame=^F prop=r:wb+user", "cursor_drop cursor=$c" } },
	{ "faults",
	  10,
	  "v=16..47",
	  { "cursor_open_mut vm_space=%P start=$v*0x1000 end=$v*0x1000+0x1000 > cursor:c",
	    "cursor_query cursor=$c > frame:f", "cursor_unmap cursor=$c len=0x1000",
	    "cursor_jump cursor=$c va=$v*0x1000", "frame_alloc > frame:g",
	    "cursor_map cursor=$c frame=$g prop=rw:wb+user", "flush_sync cursor=$c", "cursor_drop cursor=$c",
	    "frame_drop frame=$f" } },
	{ "faults",
	  8,
	  "v=16..47",
	  { "cursor_open_mut vm_space=%P start=$v*0x1000 end=$v*0x1000+0x1000 > cursor:c",
	    "cursor_protect_next cursor=$c len=0x1000 clear=w",
	    "flush_issue cursor=$c start=$v*0x1000 end=$v*0x1000+0x1000", "flush_dispatch cursor=$c",
	    "flush_sync cursor=$c", "cursor_drop cursor=$c" } },
	/* unmaps: of single pages, and of 2 MiB, which take whole nodes */
	{ "munmap",
	  30,
	  "v=0..3 n=1..8 o=0..255",
	  { "cursor_open_mut vm_space=%P start=$v*0x200000 end=$v*0x200000+0x200000 > cursor:c",
	    "cursor_jump cursor=$c va=$v*0x200000+o*0x1000", "n* frame_alloc > frame:F",
	    "n* cursor_map cursor=$c frame=^F prop=rw:wb+user", "cursor_drop cursor=$c",
	    "n* access cpu=0 va=$v*0x200000+o*0x1000+i*0x1000 access=w", "tlb_fill cpu=1 va=$v*0x200000+o*0x1000" } },
	{ "munmap",
	  15,
	  "v=0..3",
	  { "cursor_open_mut vm_space=%P start=$v*0x200000 end=$v*0x200000+0x200000 > cursor:c",
	    "cursor_unmap cursor=$c len=0x200000", "flush_sync cursor=$c", "cursor_drop cursor=$c" } },
	{ "munmap",
	  20,
	  "v=0..3",
	  { "cursor_open_mut vm_space=%P start=$v*0x200000 end=$v*0x200000+0x200000 > cursor:c",
	    "cursor_find_next cursor=$c len=0x200000 > va:a", "cursor_unmap cursor=$c len=0x1000", "access cpu=0 va=$a",
	    "flush_sync cursor=$c", "cursor_drop cursor=$c" } },
};

#define PLANS (sizeof plans / sizeof plans[0])

/* ---- The state of a workload --------------------------------------------------------------- */

struct ids {
	uint64_t at[POOL_MAX];
	unsigned count;
};

struct client {
	const struct plan *plan; /* NULL: choose one */
	unsigned line, turn, turns, waits;
	uint64_t var[LETTERS];
	struct ids own[3]; /* F G H */
	struct ids open;   /* cursors */
	uint64_t cpu;
};

struct kvt_workload {
	const char *name;
	uint64_t random, ncpu, current_cpu;
	unsigned clients, now;
	struct client client[KVT_CLIENTS_MAX];
	struct ids pool[LETTERS];
	struct kvt_parser *parser;
	struct kvt_buffer text;
	struct kvt_line op;
	const char *keep; /* what of the outcome is kept */
	char picked;      /* list of the last %, 0 = none ... */
	uint64_t picked_id;
	bool is_switch; /* the operation only makes the client's CPU the current one */
};

static uint64_t
draw(struct kvt_workload *w)
{
	uint64_t x = w->random += 0x9E3779B97F4A7C15u;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
	x = (x ^ x >> 27) * 0x94D049BB133111EBu;
	return x ^ x >> 31;
}

static uint64_t
below(struct kvt_workload *w, uint64_t n)
{
	return (draw(w) >> 11) % n;
}

/* Is the word in a list of words with blanks between? */
static bool
among(const char *words, const char *word)
{
	size_t size = strlen(word);

	for (; *words != '\0'; words += strcspn(words, " "), words += strspn(words, " "))
		if (strncmp(words, word, size) == 0 && (words[size] == ' ' || words[size] == '\0'))
			return true;
	return false;
}

static struct ids *
list_of(struct kvt_workload *w, char letter)
{
	if (letter >= 'F' && letter <= 'H')
		return &w->client[w->now].own[letter - 'F'];
	return &w->pool[letter - 'A'];
}

static void
list_add(struct ids *ids, uint64_t id)
{
	if (ids->count < POOL_MAX)
		ids->at[ids->count++] = id;
}

/* ---- Values -------------------------------------------------------------------------------------- */

/* A sum of products; *at is left behind it. */
static uint64_t
evaluate(const struct client *c, const char **at)
{
	uint64_t sum = 0, product = 1;

	for (;;) {
		char *end = (char *)(uintptr_t)(*at + 1);

		if (**at >= 'a' && **at <= 'z')
			product *= c->var[**at - 'a'];
		else
			product *= strtoull(*at, &end, 0);
		*at = end;
		if (**at == '*') {
			(*at)++;
			continue;
		}
		sum += product;
		product = 1;
		if (**at != '+')
			return sum;
		(*at)++;
	}
}

/* An id of a list, or false if it is empty. */
static bool
put_id(struct kvt_workload *w, char how, char letter)
{
	struct ids *ids = list_of(w, letter);
	uint64_t i, id;

	if (ids->count == 0)
		return false;
	i = how == '^' ? 0 : how == '~' ? ids->count - 1 : below(w, ids->count);
	id = ids->at[i];
	w->picked = how == '%' ? letter : '\0';
	w->picked_id = id;
	if (how != '%') {
		memmove(&ids->at[i], &ids->at[i + 1], (ids->count - i - 1) * sizeof ids->at[0]);
		ids->count--;
	}
	kvt_put_dec(&w->text, id);
	return true;
}

static void
put_list(struct kvt_workload *w, char letter)
{
	struct ids *ids = list_of(w, letter);

	for (unsigned i = 0; i < ids->count; i++) {
		if (i > 0)
			kvt_putc(&w->text, ',');
		kvt_put_dec(&w->text, ids->at[i]);
	}
	ids->count = 0;
}

/* The line as the text of an operation, up to its ">", which is left in w->keep.  False: an id is missing. */
static bool
put_line(struct kvt_workload *w, const char *line)
{
	kvt_buffer_reset(&w->text);
	w->keep = "";
	w->picked = '\0';
	while (*line != '\0') {
		if (*line == '>') {
			w->keep = line + 1;
			return true;
		}
		if (*line == '$') {
			line++;
			kvt_put_hex(&w->text, evaluate(&w->client[w->now], &line));
		} else if (*line == '@') {
			put_list(w, line[1]);
			line += 2;
		} else if (*line == '^' || *line == '~' || *line == '%') {
			if (!put_id(w, line[0], line[1]))
				return false;
			line += 2;
		} else {
			kvt_putc(&w->text, *line++);
		}
	}
	return true;
}

/* ---- Choosing ------------------------------------------------------------------------------------------ */

/* "n=1..16 p=0..3" */
static void
draw_numbers(struct kvt_workload *w, struct client *c, const char *draws)
{
	while (*draws != '\0') {
		unsigned letter = (unsigned)(draws[0] - 'a');
		char *end;
		uint64_t low = strtoull(draws + 2, &end, 0), high = strtoull(end + 2, &end, 0);

		c->var[letter] = low + below(w, high - low + 1);
		draws = end + strspn(end, " ");
	}
}

static void
choose_plan(struct kvt_workload *w, struct client *c)
{
	uint64_t total = 0, at;
	size_t i = 0;

	for (size_t k = 0; k < PLANS; k++)
		if (among(plans[k].workloads, w->name))
			total += plans[k].weight;
	for (at = below(w, total);; i++) {
		if (!among(plans[i].workloads, w->name))
			continue;
		if (at < plans[i].weight)
			break;
		at -= plans[i].weight;
	}
	c->plan = &plans[i];
	c->line = c->turn = c->waits = 0;
	memset(c->own, 0, sizeof c->own);
	draw_numbers(w, c, plans[i].draws);
}

/* The next line of the client's plan as w->op.  False: the plan is over, or cannot go on. */
static bool
next_line(struct kvt_workload *w, struct client *c)
{
	const char *line = c->line < LINES_MAX ? c->plan->lines[c->line] : NULL;

	if (line == NULL)
		return false;
	c->turns = 1;
	if (line[1] == '*') {
		c->turns = (unsigned)c->var[line[0] - 'a'];
		c->var['i' - 'a'] = c->turn;
		line += 3;
	}
	return put_line(w, line) && kvt_parse_op(w->parser, w->text.at, w->text.size, &w->op) && w->op.kind == KVT_OP;
}

static void
switch_cpu(struct kvt_workload *w, uint64_t cpu)
{
	kvt_buffer_reset(&w->text);
	kvt_putf(&w->text, "cpu_set cpu=%" PRIu64, cpu);
	w->keep = "";
	w->is_switch = kvt_parse_op(w->parser, w->text.at, w->text.size, &w->op);
}

/* A plan that did not come to its end leaves no cursor behind, for which others would wait for ever. */
static bool
close_cursor(struct kvt_workload *w, struct client *c)
{
	if (c->open.count == 0)
		return false;
	kvt_buffer_reset(&w->text);
	kvt_putf(&w->text, "cursor_drop cursor=%" PRIu64, c->open.at[c->open.count - 1]);
	w->keep = "";
	return kvt_parse_op(w->parser, w->text.at, w->text.size, &w->op);
}

const struct kvms_op *
kvt_workload_next(struct kvt_workload *w, unsigned *client)
{
	if (w->is_switch || w->clients == 1)
		w->is_switch = false; /* the client whose CPU it is goes on */
	else
		w->now = (unsigned)below(w, w->clients);
	struct client *c = &w->client[w->now];

	*client = w->now;
	if (c->cpu != w->current_cpu) {
		switch_cpu(w, c->cpu);
		return &w->op.op;
	}
	for (unsigned tries = 0; c->plan == NULL || !next_line(w, c); tries++) {
		if (tries == TRIES_MAX)
			return NULL;
		c->plan = NULL;
		if (w->text.failed)
			return NULL;
		if (close_cursor(w, c))
			break;
		choose_plan(w, c);
	}
	return &w->op.op;
}

/* ---- Outcomes --------------------------------------------------------------------------------------------- */

/* " RESULT:LETTER ..." of an outcome. */
static void
keep_results(struct kvt_workload *w, const struct kvms_outcome *out)
{
	struct client *c = &w->client[w->now];
	char name[32];

	for (const char *at = w->keep + strspn(w->keep, " "); *at != '\0'; at += strspn(at, " ")) {
		size_t size = strcspn(at, ":");
		char letter = at[size + 1];
		int i;

		memcpy(name, at, size);
		name[size] = '\0';
		at += size + 2;
		i = kvms_result_index(w->op.row, name);
		if (i < 0 || (out->present >> i & 1) == 0)
			continue;
		if (w->op.row->results[i].kind == KVMS_ID_CURSOR)
			list_add(&c->open, out->field[i]);
		if (letter >= 'a')
			c->var[letter - 'a'] = out->field[i];
		else
			list_add(list_of(w, letter), out->field[i]);
	}
}

static void
list_remove(struct ids *ids, uint64_t id)
{
	for (unsigned i = 0; i < ids->count; i++)
		if (ids->at[i] == id) {
			memmove(&ids->at[i], &ids->at[i + 1], (ids->count - i - 1) * sizeof ids->at[0]);
			ids->count--;
			return;
		}
}

void
kvt_workload_turn_to(struct kvt_workload *w, const char *name)
{
	w->name = name;
}

void
kvt_workload_cpu(struct kvt_workload *w, uint64_t cpu)
{
	w->current_cpu = cpu;
}

void
kvt_workload_answer(struct kvt_workload *w, const struct kvms_outcome *out)
{
	struct client *c = &w->client[w->now];

	if (strcmp(w->op.row->name, "cpu_set") == 0)
		return;
	if (strcmp(w->op.row->name, "cursor_drop") == 0)
		list_remove(&c->open, w->op.op.arg[0]);
	if (c->plan == NULL)
		return;
	if (kvms_outcome_class(out->name) == KVMS_PRE && w->picked != '\0')
		list_remove(list_of(w, w->picked), w->picked_id); /* somebody else has ended it */
	if (kvms_outcome_class(out->name) == KVMS_BLOCK && ++c->waits < WAITS_MAX)
		return;
	if (out->name != 0 && kvms_outcome_class(out->name) != KVMS_ERR) {
		c->plan = NULL;
		return;
	}
	if (out->name == 0)
		keep_results(w, out);
	c->waits = 0;
	if (++c->turn < c->turns)
		return;
	c->turn = 0;
	c->line++;
}

/* ---- Life ---------------------------------------------------------------------------------------------------- */

bool
kvt_workload_exists(const char *name)
{
	for (size_t i = 0; i < PLANS; i++)
		if (among(plans[i].workloads, name))
			return true;
	return false;
}

/* Does every line of a plan make an operation, and keep results that it has?  The first that does not, or NULL. */
static const char *
wrong_line(struct kvt_workload *w, const struct plan *plan)
{
	struct client *c = &w->client[0];

	draw_numbers(w, c, plan->draws);
	for (unsigned i = 0; i < LETTERS; i++)
		list_add(&w->pool[i], 1);
	for (c->plan = plan, c->line = 0; c->line < LINES_MAX && plan->lines[c->line] != NULL; c->line++) {
		for (unsigned i = 0; i < 3; i++)
			list_add(&c->own[i], 1);
		if (!next_line(w, c))
			return plan->lines[c->line];
		for (const char *at = w->keep + strspn(w->keep, " "); *at != '\0'; at += strspn(at, " ")) {
			char name[32] = "";

			memcpy(name, at, strcspn(at, ":"));
			if (kvms_result_index(w->op.row, name) < 0)
				return plan->lines[c->line];
			at += strcspn(at, ":") + 2;
		}
	}
	return NULL;
}

const char *
kvt_workload_wrong(struct kvms *s)
{
	struct kvt_workload *w = kvt_workload_new("all", 1, 1, s);
	const char *wrong = w == NULL ? "no memory" : NULL;

	for (size_t i = 0; wrong == NULL && i < PLANS; i++)
		wrong = wrong_line(w, &plans[i]);
	kvt_workload_free(&w);
	return wrong;
}

struct kvt_workload *
kvt_workload_new(const char *name, uint64_t seed, unsigned clients, struct kvms *s)
{
	struct kvt_workload *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->name = name;
	w->random = seed ^ 0x6a09e667f3bcc908u;
	w->ncpu = kvms_config(s)->arg[kvms_arg_index(kvms_store_row(), "ncpu")];
	w->clients = clients;
	for (unsigned i = 0; i < clients; i++)
		w->client[i].cpu = i % w->ncpu;
	w->parser = kvt_parser_new("plan");
	if (w->parser == NULL)
		kvt_workload_free(&w);
	return w;
}

void
kvt_workload_free(struct kvt_workload **wp)
{
	struct kvt_workload *w = *wp;

	*wp = NULL;
	if (w == NULL)
		return;
	kvt_parser_free(&w->parser);
	kvt_buffer_free(&w->text);
	free(w);
}
