#include "persist/image.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Tags of the digest's elements that have a table of their own. */
enum tag {
	TAG_CONFIG = 1,
	TAG_SLOT,
	TAG_WORD,
	TAG_NODE,
	TAG_FRAME,
	TAG_SEGMENT,
	TAG_UNIQUE,
	TAG_VM_SPACE = 10,
	TAG_AREA = 14,
	TAG_FREE_VA = 15,
	TAG_FREE_MMIO = 19,
	TAG_CPU = 20,
	TAG_NEXT_ID = 22,
	TAG_CURRENT_CPU = 23,
	TAG_FOREIGN = 24,
};

#define PAGE KVMS_PAGE_SIZE
#define PAGE_WORDS (KVMS_PAGE_SIZE / 8u)
#define LEVELS_MAX 5u

/* ---- Records ---------------------------------------------------------------- */

static bool
rows_reserve(struct rows *rows, size_t more)
{
	if (rows->capacity - rows->used >= more)
		return true;
	size_t capacity = rows->capacity < 512 ? 1024 : rows->capacity * 2;
	while (capacity - rows->used < more)
		capacity *= 2;
	uint64_t *word = realloc(rows->word, capacity * sizeof *word);
	if (word == NULL)
		return false;
	rows->word = word;
	rows->capacity = capacity;
	return true;
}

uint64_t *
persist_rows_add(struct rows *rows, size_t width)
{
	if (!rows_reserve(rows, width + 1))
		return NULL;
	rows->last = rows->used;
	rows->word[rows->used] = width;
	rows->used += width + 1;
	rows->count++;
	return rows->word + rows->last + 1;
}

bool
persist_rows_extend(struct rows *rows, uint64_t word)
{
	if (!rows_reserve(rows, 1))
		return false;
	rows->word[rows->last]++;
	rows->word[rows->used++] = word;
	return true;
}

const uint64_t *
persist_rows_at(const struct rows *rows, size_t *at, size_t *width)
{
	if (*at == rows->used)
		return NULL;
	const uint64_t *record = rows->word + *at + 1;
	*width = rows->word[*at];
	*at += *width + 1;
	return record;
}

/* The newest record, or NULL. */
static uint64_t *
rows_last(const struct rows *rows)
{
	return rows->count == 0 ? NULL : rows->word + rows->last + 1;
}

struct persist_image *
persist_image_new(void)
{
	struct persist_image *image = calloc(1, sizeof *image);
	if (image != NULL)
		kvms_op_init(&image->config, kvms_store_row());
	return image;
}

void
persist_image_free(struct persist_image **image)
{
	if (*image == NULL)
		return;
	for (unsigned t = 0; t < TABLES; t++)
		free((*image)->rows[t].word);
	free((*image)->config_list);
	free(*image);
	*image = NULL;
}

/* ---- Taking the picture -------------------------------------------------------- */

/*
 * What became of an element: recorded, not needed because it follows from
 * others, not one its table can hold (it goes to TABLE_ELEMENT), or no memory.
 */
enum taken { TAKEN, FOLLOWS, OTHER, NOMEM };

struct capture {
	struct kvms *s;
	struct persist_image *image;
	struct rows spaces;  /* vm_space ids, one word each */
	uint64_t skipped;    /* page of a node whose words follow from other records */
	uint64_t page_known; /* page that "skipped" was decided for, or ABSENT */
};

static enum taken
take(struct rows *rows, const uint64_t *words, size_t count)
{
	uint64_t *record = persist_rows_add(rows, count);
	if (record == NULL)
		return NOMEM;
	memcpy(record, words, count * sizeof *words);
	return TAKEN;
}

/* index, rc, usage, kind, meta, in_list: a new run, or one more page of the last. */
static enum taken
take_slot(struct capture *c, const uint64_t *w, unsigned count)
{
	struct rows *rows = &c->image->rows[TABLE_FRAME];
	uint64_t *last = rows_last(rows);

	if (count != 6 || w[0] > UINT64_MAX / PAGE || kvms_word(KVMS_USAGE, w[2]) == NULL ||
	    kvms_word(KVMS_SLOT_KIND, w[3]) == NULL)
		return OTHER;
	if (last != NULL && last[0] + last[1] * PAGE == w[0] * PAGE && memcmp(last + 2, w + 1, 5 * sizeof *w) == 0) {
		last[1]++;
		return TAKEN;
	}
	const uint64_t record[7] = { w[0] * PAGE, 1, w[1], w[2], w[3], w[4], w[5] };
	return take(rows, record, 7);
}

/* paddr, word: skipped if it follows, else collected page by page. */
static enum taken
take_word(struct capture *c, const uint64_t *w, unsigned count)
{
	struct rows *rows = &c->image->rows[TABLE_MEMORY];
	struct kvms_node_place place;

	if (count != 2 || w[0] % 8 != 0)
		return OTHER;
	uint64_t page = w[0] / PAGE;
	if (page != c->page_known) {
		c->page_known = page;
		c->skipped = kvms_node_find(c->s, page * PAGE, &place) ? page : ABSENT;
	}
	if (c->skipped == page)
		return FOLLOWS;
	uint64_t *last = rows_last(rows);
	if (last == NULL || last[0] / PAGE != page)
		return take(rows, w, 2);
	uint64_t width = rows->word[rows->last];
	for (uint64_t next = last[0] + (width - 1) * 8; next < w[0]; next += 8)
		if (!persist_rows_extend(rows, 0))
			return NOMEM;
	return persist_rows_extend(rows, w[1]) ? TAKEN : NOMEM;
}

/* index, level, nr_children, stray, lock: with the place it hangs at. */
static enum taken
take_node(struct capture *c, const uint64_t *w, unsigned count)
{
	struct kvms_node_place place = { .table = ABSENT, .va = ABSENT };

	if (count != 5 || w[0] > UINT64_MAX / PAGE || w[3] > 1)
		return OTHER;
	if (!kvms_node_find(c->s, w[0] * PAGE, &place))
		place.table = place.va = ABSENT;
	const uint64_t record[7] = { w[0] * PAGE, w[1], w[2], w[3], w[4], place.table, place.va };
	return take(&c->image->rows[TABLE_NODE], record, 7);
}

/* id, paddr, or id, start, end. */
static enum taken
take_handle(struct capture *c, uint64_t tag, const uint64_t *w, unsigned count)
{
	if (count != (tag == TAG_SEGMENT ? 3 : 2))
		return OTHER;
	const uint64_t record[4] = { tag, w[0], w[1], tag == TAG_SEGMENT ? w[2] : w[1] + PAGE };
	return take(&c->image->rows[TABLE_HANDLE], record, 4);
}

static enum taken
take_plain(struct capture *c, enum table table, const uint64_t *w, unsigned count, unsigned width)
{
	return count == width ? take(&c->image->rows[table], w, count) : OTHER;
}

static enum taken
take_element(struct capture *c, const uint64_t *words, unsigned count)
{
	const uint64_t *w = words + 1;
	unsigned n = count - 1;

	switch (words[0]) {
	case TAG_CONFIG:
		return FOLLOWS;
	case TAG_SLOT:
		return take_slot(c, w, n);
	case TAG_WORD:
		return take_word(c, w, n);
	case TAG_NODE:
		return take_node(c, w, n);
	case TAG_FRAME:
	case TAG_SEGMENT:
	case TAG_UNIQUE:
		return take_handle(c, words[0], w, n);
	case TAG_VM_SPACE:
		return n == 0 || take(&c->spaces, w, 1) == TAKEN ? OTHER : NOMEM;
	case TAG_AREA:
		return take_plain(c, TABLE_AREA, w, n, 4);
	case TAG_FREE_VA:
		return take_plain(c, TABLE_FREE_VA, w, n, 2);
	case TAG_FREE_MMIO:
		return take_plain(c, TABLE_FREE_MMIO, w, n, 3);
	case TAG_CPU:
		return n >= 4 && w[2] <= 1 && w[3] <= 1 ? take_plain(c, TABLE_CPU, w, n, n) : OTHER;
	case TAG_NEXT_ID:
		return n == 2 && w[0] - 1 < KVMS_ID_KINDS - 1 ? take_plain(c, TABLE_NEXT_ID, w, n, 2) : OTHER;
	case TAG_CURRENT_CPU:
		return n == 2 && w[0] == 0 ? take_plain(c, TABLE_CURRENT_CPU, w + 1, 1, 1) : OTHER;
	default:
		return OTHER;
	}
}

static bool
visit_element(void *arg, const uint64_t *words, unsigned count)
{
	struct capture *c = arg;
	struct rows *rows = &c->image->rows[TABLE_ELEMENT];

	enum taken taken = take_element(c, words, count);
	if (taken == NOMEM || taken == FOLLOWS)
		return taken == FOLLOWS;
	c->image->elements++;
	if (taken == TAKEN)
		return true;
	uint64_t position = rows->count;
	uint64_t *record = persist_rows_add(rows, (size_t)count + 1);
	if (record == NULL)
		return false;
	record[0] = words[0];
	record[1] = position;
	memcpy(record + 2, words + 1, (count - 1) * sizeof *words);
	return true;
}

#define PROP_FLAGS (KVMS_PROP_R | KVMS_PROP_W | KVMS_PROP_X | KVMS_PROP_A | KVMS_PROP_D)

/* Runs of so many leaves get a record of their own; shorter ones share one, with gaps up to as many places. */
#define RUN_LONG 16u
#define GAP_LONG 8u

/* Places from the record's first leaf to that of the run; UINT64_MAX = it cannot join the record's list. */
static uint64_t
list_place(const struct rows *rows, const uint64_t *last, const uint64_t record[MAPPING_WORDS])
{
	uint64_t listed = rows->word[rows->last] - MAPPING_WORDS, place;

	if (listed == 0 && last[3] >= RUN_LONG)
		return UINT64_MAX;
	if (last[0] != record[0] || record[1] < last[1] ||
	    memcmp(last + 4, record + 4, (MAPPING_WORDS - 4) * sizeof *last) != 0)
		return UINT64_MAX;
	place = (record[1] - last[1]) / ((uint64_t)PAGE << 9 * (record[4] - 1));
	if (place + record[3] > MAPPING_LIST || place > (listed != 0 ? listed : last[3]) + GAP_LONG)
		return UINT64_MAX;
	return place;
}

/* Append the leaves of a run to the newest record's list. */
static bool
list_add(struct rows *rows, uint64_t paddr, uint64_t leaves, unsigned level)
{
	for (uint64_t i = 0; i < leaves; i++)
		if (!persist_rows_extend(rows, (paddr + (i * PAGE << 9 * (level - 1))) / PAGE))
			return false;
	return true;
}

/* Put a short run into the list of the newest record, which may be no list yet. */
static bool
list_join(struct rows *rows, const uint64_t record[MAPPING_WORDS], uint64_t place)
{
	uint64_t *last = rows_last(rows);

	if (rows->word[rows->last] == MAPPING_WORDS && !list_add(rows, last[2], last[3], (unsigned)last[4]))
		return false;
	while (rows->word[rows->last] < MAPPING_WORDS + place)
		if (!persist_rows_extend(rows, ABSENT))
			return false;
	if (!list_add(rows, record[2], record[3], (unsigned)record[4]))
		return false;
	rows_last(rows)[3] += record[3];
	return true;
}

static bool
visit_extent(void *arg, const struct kvms_extent *run)
{
	struct capture *c = arg;
	struct rows *rows = &c->image->rows[TABLE_MAPPING];
	uint64_t p = run->prop, place, *last = rows_last(rows);
	const uint64_t record[MAPPING_WORDS] = {
		run->table,
		run->va,
		run->paddr,
		run->leaves,
		run->level,
		p & PROP_FLAGS,
		p >> KVMS_PROP_CACHE_SHIFT,
		(p & KVMS_PROP_USER) != 0,
		(p & KVMS_PROP_GLOBAL) != 0,
		(p & KVMS_PROP_AVAIL2) != 0,
		run->tracked,
	};

	assert(kvms_prop_valid(p));
	c->image->leaves += run->leaves;
	place = last == NULL || run->leaves >= RUN_LONG ? UINT64_MAX : list_place(rows, last, record);
	if (place != UINT64_MAX)
		return list_join(rows, record, place);
	return take(rows, record, MAPPING_WORDS) == TAKEN;
}

/* Copy the configuration with its lists. */
static bool
take_config(struct persist_image *image, const struct kvms_op *config)
{
	const struct kvms_row *row = kvms_store_row();
	size_t words = 0;

	for (unsigned i = 0; i < row->args_count; i++)
		words += config->arg[i] * kvms_type_arity(row->args[i].type);
	image->config_list = malloc((words + 1) * sizeof *image->config_list);
	if (image->config_list == NULL)
		return false;
	if (words > 0)
		memcpy(image->config_list, config->list, words * sizeof *image->config_list);
	image->config = *config;
	image->config.list = image->config_list;
	return true;
}

static bool
capture(struct capture *c)
{
	const struct kvms_adopted *known = kvms_adopted(c->s);
	size_t at = 0, width;
	const uint64_t *space;

	if (!take_config(c->image, kvms_config(c->s)))
		return false;
	c->image->step = kvms_steps(c->s);
	c->image->digest = kvms_digest(c->s);
	if (!kvms_visit(c->s, visit_element, c))
		return false;
	c->image->foreign = known != NULL;
	if (known != NULL && known->leaves_listed < known->leaves)
		return true; /* more than anybody reads; they follow from the words, which are there as they are */
	if (!kvms_extents(c->s, 0, visit_extent, c))
		return false;
	while ((space = persist_rows_at(&c->spaces, &at, &width)) != NULL)
		if (!kvms_extents(c->s, space[0], visit_extent, c))
			return false;
	return true;
}

enum persist_status
persist_capture(struct kvms *s, struct persist_image **image, char *why, size_t size)
{
	struct capture c = { .s = s, .image = persist_image_new(), .page_known = ABSENT, .skipped = ABSENT };
	struct report r = { why, size };
	bool done = c.image != NULL && capture(&c);

	free(c.spaces.word);
	if (!done)
		persist_image_free(&c.image);
	*image = c.image;
	return done ? PERSIST_OK
		    : persist_report(&r, PERSIST_FAILED, "out of memory for a picture of the store; nothing was saved");
}

/* ---- Making a store of it ----------------------------------------------------------- */

struct build {
	struct kvms *s;
	const struct persist_image *image;
	uint64_t elements, leaves; /* given so far: never more than were saved, and as many in the end */
	char why[PERSIST_WHY];
};

static bool
refuse(struct build *b, const char *text)
{
	size_t n = strlen(text) < sizeof b->why ? strlen(text) : sizeof b->why - 1;

	memcpy(b->why, text, n);
	b->why[n] = '\0';
	return false;
}

static bool
give(struct build *b, const uint64_t *words, unsigned count)
{
	if (b->elements == b->image->elements)
		return refuse(b, "more elements than were saved");
	b->elements++;
	return kvms_restore_element(b->s, words, count, b->why, sizeof b->why);
}

static bool
give_frame(struct build *b, const uint64_t *r)
{
	uint64_t words[7] = { TAG_SLOT, r[0] / PAGE, r[2], r[3], r[4], r[5], r[6] };

	if (r[0] % PAGE != 0)
		return refuse(b, "a frame's address is not that of a page");
	if (r[1] == 0 || r[1] > b->image->elements)
		return refuse(b, "a run of frames has an impossible length");
	for (uint64_t i = 0; i < r[1]; i++, words[1]++)
		if (!give(b, words, 7))
			return false;
	return true;
}

static bool
give_memory(struct build *b, const uint64_t *r, size_t width)
{
	uint64_t words[3] = { TAG_WORD, r[0], 0 };

	if (r[0] % 8 != 0 || width < 2 || r[0] % PAGE / 8 + (width - 1) > PAGE_WORDS)
		return refuse(b, "a piece of memory does not lie in one page");
	for (size_t i = 1; i < width; i++, words[1] += 8) {
		words[2] = r[i];
		if (r[i] != 0 && !give(b, words, 3))
			return false;
	}
	return true;
}

static bool
give_node(struct build *b, const uint64_t *r)
{
	const uint64_t words[6] = { TAG_NODE, r[0] / PAGE, r[1], r[2], r[3], r[4] };

	if (r[0] % PAGE != 0)
		return refuse(b, "a node's address is not that of a page");
	return give(b, words, 6);
}

static bool
give_handle(struct build *b, const uint64_t *r)
{
	const uint64_t words[4] = { r[0], r[1], r[2], r[3] };

	if (r[0] != TAG_SEGMENT && r[3] != r[2] + PAGE)
		return refuse(b, "a handle on a frame does not cover one page");
	return give(b, words, r[0] == TAG_SEGMENT ? 4 : 3);
}

/* A tag, then the record. */
static bool
give_plain(struct build *b, uint64_t tag, const uint64_t *r, size_t width)
{
	uint64_t words[KVMS_ELEMENT_WORDS_MAX];

	if (width + 1 > KVMS_ELEMENT_WORDS_MAX)
		return refuse(b, "an element has too many words");
	words[0] = tag;
	memcpy(words + 1, r, width * sizeof *r);
	return give(b, words, (unsigned)width + 1);
}

static bool
give_current_cpu(struct build *b, const uint64_t *r)
{
	const uint64_t words[3] = { TAG_CURRENT_CPU, 0, r[0] };

	return give(b, words, 3);
}

/* Where the elements of a tag with a table of its own are. */
static const struct home {
	uint64_t tag;
	enum table table;
} homes[] = {
	{ TAG_SLOT, TABLE_FRAME },   { TAG_WORD, TABLE_MEMORY },     { TAG_NODE, TABLE_NODE },
	{ TAG_FRAME, TABLE_HANDLE }, { TAG_SEGMENT, TABLE_HANDLE },  { TAG_UNIQUE, TABLE_HANDLE },
	{ TAG_AREA, TABLE_AREA },    { TAG_FREE_VA, TABLE_FREE_VA }, { TAG_FREE_MMIO, TABLE_FREE_MMIO },
	{ TAG_CPU, TABLE_CPU },      { TAG_NEXT_ID, TABLE_NEXT_ID }, { TAG_CURRENT_CPU, TABLE_CURRENT_CPU },
	{ UINT64_MAX, TABLES },
};

static bool
give_record(struct build *b, uint64_t tag, const uint64_t *r, size_t width)
{
	switch (tag) {
	case TAG_SLOT:
		return give_frame(b, r);
	case TAG_WORD:
		return give_memory(b, r, width);
	case TAG_NODE:
		return give_node(b, r);
	case TAG_FRAME:
	case TAG_SEGMENT:
	case TAG_UNIQUE:
		return r[0] != tag || give_handle(b, r);
	case TAG_CURRENT_CPU:
		return give_current_cpu(b, r);
	default:
		return give_plain(b, tag, r, width);
	}
}

static bool
give_table(struct build *b, const struct home *home)
{
	const uint64_t *r;
	size_t at = 0, width;

	while ((r = persist_rows_at(&b->image->rows[home->table], &at, &width)) != NULL)
		if (!give_record(b, home->tag, r, width))
			return false;
	return true;
}

/* All elements, tags ascending: TABLE_ELEMENT merged with the tables. */
static bool
give_elements(struct build *b)
{
	const struct rows *others = &b->image->rows[TABLE_ELEMENT];
	const struct home *home = homes;
	const uint64_t *r;
	size_t at = 0, width;

	while ((r = persist_rows_at(others, &at, &width)) != NULL) {
		for (; home->tag <= r[0] && home->table != TABLES; home++)
			if (!give_table(b, home))
				return false;
		if (!give_plain(b, r[0], r + 2, width - 2))
			return false;
	}
	for (; home->table != TABLES; home++)
		if (!give_table(b, home))
			return false;
	return true;
}

/* Nodes of one level that hang in a table. */
static bool
give_places(struct build *b, unsigned level)
{
	const uint64_t *r;
	size_t at = 0, width;

	while ((r = persist_rows_at(&b->image->rows[TABLE_NODE], &at, &width)) != NULL) {
		struct kvms_node_place place = { .paddr = r[0], .table = r[5], .va = r[6], .level = level };

		if (r[1] != level || r[5] == ABSENT)
			continue;
		if (r[6] % ((uint64_t)PAGE << 9 * level) != 0)
			return refuse(b, "a page-table node's address is not the first of its span");
		if (!kvms_restore_node(b->s, &place, b->why, sizeof b->why))
			return false;
	}
	return true;
}

static bool
give_list(struct build *b, const struct kvms_extent *run, const uint64_t *page, size_t count)
{
	uint64_t leaves = 0;

	for (size_t i = 0; i < count; i++)
		leaves += page[i] != ABSENT;
	if (count > MAPPING_LIST || leaves != run->leaves || page[0] != run->paddr / PAGE || run->paddr % PAGE != 0)
		return refuse(b, "a list of mappings is not what its row says");
	return kvms_restore_list(b->s, run, page, count, b->why, sizeof b->why);
}

static bool
give_extents(struct build *b)
{
	const uint64_t *r;
	size_t at = 0, width;

	while ((r = persist_rows_at(&b->image->rows[TABLE_MAPPING], &at, &width)) != NULL) {
		struct kvms_extent run = {
			.table = r[0],
			.va = r[1],
			.paddr = r[2],
			.leaves = r[3],
			.level = (unsigned)r[4],
			.prop = r[5] | r[6] << KVMS_PROP_CACHE_SHIFT | (r[7] != 0 ? KVMS_PROP_USER : 0) |
				(r[8] != 0 ? KVMS_PROP_GLOBAL : 0) | (r[9] != 0 ? KVMS_PROP_AVAIL2 : 0),
			.tracked = r[10] != 0,
		};
		if (r[3] == 0 || r[3] > b->image->leaves - b->leaves)
			return refuse(b, "a run of mappings has an impossible length");
		if (r[4] == 0 || r[4] > LEVELS_MAX || !kvms_prop_valid(run.prop))
			return refuse(b, "a run of mappings has an impossible level or property");
		b->leaves += r[3];
		if (width > MAPPING_WORDS ? !give_list(b, &run, r + MAPPING_WORDS, width - MAPPING_WORDS)
					  : !kvms_restore_extent(b->s, &run, b->why, sizeof b->why))
			return false;
	}
	return true;
}

static bool
build(struct build *b)
{
	if (!give_elements(b))
		return false;
	for (unsigned level = LEVELS_MAX; level >= 1; level--)
		if (!give_places(b, level))
			return false;
	if (!give_extents(b))
		return false;
	if (b->elements != b->image->elements || b->leaves != b->image->leaves)
		return refuse(b, "fewer elements than were saved");
	return kvms_restore_end(b->s, b->image->step, b->image->digest, b->why, sizeof b->why);
}

/* ---- Making a foreign store of it ------------------------------------------------------ */

#define ADOPTED_PAGES_MAX (UINT64_C(1) << 20) /* more page-table pages the model does not take */

/* The image as kvms_adopt() takes it: pages that have slots, with the words that are not zero. */
struct adoption {
	struct kvms_image image;
	uint64_t *pages, *roots;
	const struct rows *memory;
	size_t *at; /* where the pieces of memory begin, by address */
	size_t pieces;
	uint64_t page[PAGE_WORDS];
};

static void
adoption_free(struct adoption *a)
{
	free(a->pages);
	free(a->roots);
	free(a->at);
}

static int
paddr_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A page, put together from the pieces of memory in it; rows come by address. */
static const void *
adoption_page(void *arg, uint64_t paddr)
{
	struct adoption *a = arg;
	size_t low = 0, high = a->pieces;

	if (bsearch(&paddr, a->pages, a->image.pages_count, sizeof *a->pages, paddr_compare) == NULL)
		return NULL;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->memory->word[a->at[middle] + 1] < paddr)
			low = middle + 1;
		else
			high = middle;
	}
	memset(a->page, 0, sizeof a->page);
	for (; low < a->pieces; low++) {
		const uint64_t *r = a->memory->word + a->at[low];
		size_t words = r[0] - 1, first = r[1] % PAGE / 8;

		if (r[1] / PAGE != paddr / PAGE)
			break;
		if (r[1] % 8 == 0 && first + words <= PAGE_WORDS)
			memcpy(a->page + first, r + 2, words * sizeof *r);
	}
	return a->page;
}

static bool
adoption_pages(struct adoption *a, const struct persist_image *image)
{
	const uint64_t *r;
	size_t at = 0, width, count = 0;

	while ((r = persist_rows_at(&image->rows[TABLE_FRAME], &at, &width)) != NULL)
		count += r[1] <= ADOPTED_PAGES_MAX ? r[1] : 0;
	if (count > ADOPTED_PAGES_MAX)
		return false;
	a->pages = malloc((count + 1) * sizeof *a->pages);
	a->at = malloc((a->memory->count + 1) * sizeof *a->at);
	if (a->pages == NULL || a->at == NULL)
		return false;
	at = 0;
	while ((r = persist_rows_at(&image->rows[TABLE_FRAME], &at, &width)) != NULL)
		for (uint64_t i = 0; i < r[1] && r[1] <= ADOPTED_PAGES_MAX; i++)
			a->pages[a->image.pages_count++] = r[0] + i * PAGE;
	for (at = 0; a->pieces < a->memory->count; a->pieces++) {
		a->at[a->pieces] = at;
		(void)persist_rows_at(a->memory, &at, &width);
	}
	return true;
}

/* Machine, levels, cache types and roots: elements 24, and 10 for each table but the first. */
static bool
adoption_tables(struct adoption *a, const struct persist_image *image)
{
	const struct rows *others = &image->rows[TABLE_ELEMENT];
	const uint64_t *r;
	size_t at = 0, width;
	bool found = false;

	a->roots = malloc((others->count + 1) * sizeof *a->roots);
	if (a->roots == NULL)
		return false;
	a->image.roots_count = 1;
	while ((r = persist_rows_at(others, &at, &width)) != NULL) {
		if (r[0] == TAG_VM_SPACE && width == 5)
			a->roots[a->image.roots_count++] = r[3];
		if (r[0] != TAG_FOREIGN || width != 7 || r[3] >= KVMS_MACHINES)
			continue;
		a->image.machine = (enum kvms_machine)r[3];
		a->image.levels = (unsigned)r[4];
		a->image.pat = r[5];
		a->roots[0] = r[6];
		found = true;
	}
	a->image.max_paddr = image->config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")];
	a->image.pages = a->pages;
	a->image.roots = a->roots;
	return found;
}

static enum persist_status
build_foreign(const struct persist_image *image, struct kvms **s, const struct report *r)
{
	struct adoption a = { .memory = &image->rows[TABLE_MEMORY] };
	struct kvms_refusal refusal = { .text = "a page or a table of the adopted image is missing" };

	a.image.page = adoption_page;
	a.image.arg = &a;
	if (adoption_pages(&a, image) && adoption_tables(&a, image))
		*s = kvms_adopt(&a.image, &refusal);
	adoption_free(&a);
	if (*s == NULL)
		return persist_report(r, PERSIST_REFUSED, "%s", refusal.text);
	if (kvms_digest(*s) != image->digest) {
		kvms_free(s);
		return persist_report(r, PERSIST_REFUSED, "the restored state does not have the saved digest");
	}
	kvms_set_steps(*s, image->step);
	return PERSIST_OK;
}

enum persist_status
persist_image_build(const struct persist_image *image, struct kvms **s, const struct report *r)
{
	struct build b = { .image = image, .why = "no reason given" };
	struct kvms_refusal refusal;

	*s = NULL;
	if (image->foreign)
		return build_foreign(image, s, r);
	b.s = kvms_new(&image->config, &refusal);
	if (b.s == NULL)
		return persist_report(r, refusal.key < 0 ? PERSIST_FAILED : PERSIST_REFUSED, "its configuration: %s",
				      refusal.text);
	if (!kvms_restore_begin(b.s)) {
		kvms_free(&b.s);
		return persist_report(r, PERSIST_FAILED, "out of memory");
	}
	if (!build(&b)) {
		kvms_free(&b.s);
		return persist_report(r, PERSIST_REFUSED, "%s", b.why);
	}
	*s = b.s;
	return PERSIST_OK;
}
