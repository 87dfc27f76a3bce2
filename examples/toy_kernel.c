/*
 * A toy kernel with a bug, and the traces that show it: see README.md.
 *
 * Frames, one reserved range at a time, and page tables of four levels: all of
 * it written here, and nothing shared with the model.  It prints what it is
 * asked and what it answers as a trace.
 *
 *	toy_kernel           run a workload of its own
 *	toy_kernel TRACE     do what a trace says
 *
 * What it cannot do, or refuses, it prints without an answer: then nothing is
 * compared.  With -DFIXED the bug is mended.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 0x1000u
#define FRAMES 4096u /* of memory */
#define AREAS_MAX 4096u
#define LIST_MAX 64u
#define ENTRIES 512u
#define TOP 4u

/* ---- The kernel ----------------------------------------------------------------- */

struct entry {
	struct table *table; /* above level 1 */
	unsigned frame;
	bool present, writable;
};

struct table {
	struct entry entry[ENTRIES];
};

static struct table root;
static bool frame_used[FRAMES];

struct area {
	uint64_t start, end;
};

static struct area area[AREAS_MAX];  /* by id */
static unsigned frame_of[AREAS_MAX]; /* frame by id of a handle */
static bool handle_live[AREAS_MAX];
static unsigned areas, handles;

static unsigned
entry_index(uint64_t va, unsigned level)
{
	return (unsigned)(va >> (12 + 9 * (level - 1))) % ENTRIES;
}

/* The level-1 table of an address; it is made if "make" says so. */
static struct table *
last_table(uint64_t va, bool make)
{
	struct table *t = &root;

	for (unsigned level = TOP; level > 1; level--) {
		struct entry *e = &t->entry[entry_index(va, level)];

		if (e->table == NULL && make)
			e->table = calloc(1, sizeof *e->table);
		if (e->table == NULL)
			return NULL;
		t = e->table;
	}
	return t;
}

static struct entry *
find(uint64_t va)
{
	struct table *t = last_table(va, false);

	return t != NULL && t->entry[entry_index(va, 1)].present ? &t->entry[entry_index(va, 1)] : NULL;
}

static void
map(uint64_t va, unsigned frame, bool writable)
{
	struct table *t = last_table(va, true);

	if (t != NULL)
		t->entry[entry_index(va, 1)] = (struct entry){ .frame = frame, .present = true, .writable = writable };
}

static void
unmap(uint64_t start, uint64_t end)
{
	for (uint64_t va = start; va < end; va += PAGE) {
		struct entry *e = find(va);

		if (e == NULL)
			continue;
		e->present = false;
		frame_used[e->frame] = false;
	}
}

/* One table after the other, and in each the entries of the range. */
static void
protect(uint64_t start, uint64_t end, bool writable)
{
	while (start < end) {
		uint64_t table_end = (start | (ENTRIES * PAGE - 1)) + 1, stop = end < table_end ? end : table_end;
		struct table *t = last_table(start, false);
#ifdef FIXED
		unsigned last = entry_index(stop - 1, 1);
#else
		unsigned last = stop < table_end ? entry_index(stop, 1) : ENTRIES - 1;
#endif

		for (unsigned i = entry_index(start, 1); t != NULL && i <= last; i++)
			t->entry[i].writable = writable;
		start = stop;
	}
}

/* ---- What it is asked --------------------------------------------------------------- */

static bool
number(const char *line, const char *key, uint64_t *value)
{
	const char *at = strstr(line, key);

	if (at != NULL)
		*value = strtoull(at + strlen(key), NULL, 0);
	return at != NULL;
}

static bool
claim(const char *line)
{
	uint64_t paddr;

	if (!number(line, " paddr=", &paddr) || paddr % PAGE != 0 || paddr / PAGE >= FRAMES || handles + 1 == AREAS_MAX)
		return false;
	if (frame_used[paddr / PAGE]) {
		printf(" -> err InUse");
		return true;
	}
	frame_used[paddr / PAGE] = true;
	handle_live[++handles] = true;
	frame_of[handles] = (unsigned)(paddr / PAGE);
	printf(" -> ok frame=%u", handles);
	return true;
}

static bool
reserve(const char *line)
{
	uint64_t start, size;

	if (!number(line, " start=", &start) || !number(line, " area_size=", &size) || start % PAGE != 0 ||
	    size % PAGE != 0 || size == 0 || start < 0xffffc00000000000 || start > 0xffffe00000000000 - size ||
	    areas + 1 == AREAS_MAX)
		return false;
	for (unsigned i = 1; i <= areas; i++)
		if (start < area[i].end && area[i].start < start + size)
			return false;
	area[++areas] = (struct area){ start, start + size };
	printf(" -> ok area=%u", areas);
	return true;
}

/* The area of a line, if the range lies in it. */
static bool
in_area(const char *line, uint64_t start, uint64_t end)
{
	uint64_t id;

	return number(line, " area=", &id) && id >= 1 && id <= areas && start % PAGE == 0 && end % PAGE == 0 &&
	       start <= end && area[id].start <= start && end <= area[id].end;
}

static bool
map_frames(const char *line)
{
	const char *at = strstr(line, " frames=[");
	uint64_t va = 0, id[LIST_MAX];
	unsigned n = 0;

	if (at == NULL || !number(line, " va=", &va))
		return false;
	for (at += strlen(" frames=["); *at >= '0' && *at <= '9' && n < LIST_MAX; at += *at == ',')
		id[n++] = strtoull(at, (char **)&at, 10);
	if (*at != ']' || !in_area(line, va, va + n * PAGE))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (id[i] == 0 || id[i] > handles || !handle_live[id[i]] || find(va + i * PAGE) != NULL)
			return false;
		for (unsigned k = 0; k < i; k++)
			if (id[k] == id[i])
				return false;
	}
	for (unsigned i = 0; i < n; i++) {
		map(va + i * PAGE, frame_of[id[i]], strstr(line, " prop=rw") != NULL);
		handle_live[id[i]] = false;
	}
	printf(" -> ok");
	return true;
}

static bool
change(const char *line, bool unmaps)
{
	uint64_t start, end;

	if (!number(line, " start=", &start) || !number(line, " end=", &end) || !in_area(line, start, end))
		return false;
	if (unmaps)
		unmap(start, end);
	else
		protect(start, end, strstr(line, " set=w") != NULL);
	printf(" -> ok");
	return true;
}

static bool
peek(const char *line)
{
	const struct entry *e;
	uint64_t va;

	if (!number(line, " va=", &va) || !in_area(line, va - va % PAGE, va - va % PAGE + PAGE))
		return false;
	e = find(va);
	if (e == NULL)
		printf(" -> ok found=false");
	else
		printf(" -> ok found=true paddr=0x%x prop=%s:wb", e->frame * PAGE, e->writable ? "rw" : "r");
	return true;
}

/* Print the operation, do it, print the answer. */
static void
step(const char *line)
{
	static const struct {
		const char *name;
		bool (*run)(const char *line);
	} ops[] = { { "frame_from_unused ", claim },
		    { "kvirt_reserve_at ", reserve },
		    { "kvirt_map_frames_into ", map_frames },
		    { "kvirt_peek ", peek } };

	printf("%s", line);
	for (unsigned i = 0; i < sizeof ops / sizeof ops[0]; i++)
		if (strncmp(line, ops[i].name, strlen(ops[i].name)) == 0)
			(void)ops[i].run(line);
	if (strncmp(line, "kvirt_protect_range ", 20) == 0)
		/* this kernel sets the write bit or clears it, and knows no other */
		(void)((strstr(line, " clear=w") != NULL || strstr(line, " set=w") != NULL) && change(line, false));
	if (strncmp(line, "kvirt_unmap_range ", 18) == 0)
		(void)change(line, true);
	printf("\n");
}

/* ---- Where the questions come from ---------------------------------------------------------- */

static unsigned
draw(unsigned below)
{
	static uint32_t state = 7;

	state = state * 1664525 + 1013904223;
	return (state >> 8) % below;
}

/* Three areas, in which pages come and go, and change. */
static void
work(void)
{
	const uint64_t base = 0xffffc00000000000, size = 0x40000;
	char line[256];

	printf("kvmtrace 1\nstore\n");
	for (unsigned i = 0; i < 3; i++) {
		snprintf(line, sizeof line, "kvirt_reserve_at start=0x%llx area_size=0x%llx",
			 (unsigned long long)(base + i * 2 * size), (unsigned long long)size);
		step(line);
	}
	for (unsigned i = 0; i < 2000; i++) {
		unsigned id = 1 + draw(3), page = draw(60), pages = 1 + draw(4), what = draw(10), frame = draw(FRAMES);
		unsigned long long va = base + (id - 1) * 2 * size + page * PAGE, end = va + pages * PAGE;

		if (what < 4 && find(va) == NULL && !frame_used[frame]) {
			snprintf(line, sizeof line, "frame_from_unused paddr=0x%x", frame * PAGE);
			step(line);
			snprintf(line, sizeof line, "kvirt_map_frames_into area=%u va=0x%llx frames=[%u] prop=rw:wb",
				 id, va, handles);
		} else if (what < 6) {
			snprintf(line, sizeof line, "kvirt_protect_range area=%u start=0x%llx end=0x%llx %s", id, va,
				 end, draw(2) == 0 ? "set=w" : "clear=w");
		} else if (what < 7) {
			snprintf(line, sizeof line, "kvirt_unmap_range area=%u start=0x%llx end=0x%llx", id, va, end);
		} else {
			snprintf(line, sizeof line, "kvirt_peek area=%u va=0x%llx", id, va);
		}
		step(line);
	}
}

/* The operations of a trace; its answers are somebody else's. */
static int
play(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[4096], *arrow;

	if (file == NULL) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof line, file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		arrow = strstr(line, " ->");
		if (arrow != NULL)
			*arrow = '\0';
		step(line);
	}
	fclose(file);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		return play(argv[1]);
	work();
	return 0;
}
