/*
 * adopt - a store from a memory image of another kernel: what is in it, in a
 * few lines; its mappings; any request; and kept in a file.
 */
#include "client/commands.h"
#include "client/image.h"
#include "client/mappings.h"
#include "client/session.h"

#include "persist/snapshot.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

struct adopt {
	struct kvmctl *k;
	struct kvmctl_image image;
	struct kvms *s;
	uint64_t microseconds; /* that it took to make the store */
	FILE *out;             /* where the report goes */
};

/* ---- The report -------------------------------------------------------------------- */

/* Leaves by level, of all tables. */
struct sizes {
	uint64_t count[6];
};

static bool
size_count(void *arg, const struct kvms_leaf *leaf)
{
	((struct sizes *)arg)->count[leaf->level]++;
	return true;
}

static struct sizes
sizes_of(struct kvms *s)
{
	struct sizes sizes = { { 0 } };
	uint64_t table = 0;

	do {
		(void)kvms_leaves(s, table, size_count, &sizes);
		table = kvms_next_space(s, table);
	} while (table != 0);
	return sizes;
}

static const char *const size_names[6] = { "", "4K", "2M", "1G", "512G", "256T" };

static void
put_head(const struct adopt *a, struct kvt_buffer *b)
{
	const struct kvms_adopted *known = kvms_adopted(a->s);
	struct sizes sizes = sizes_of(a->s);
	uint64_t root = 0;

	(void)kvms_root(a->s, 0, &root);
	kvt_putf(b, "arch=%s levels=%u root=0x%" PRIx64 " tables=%zu max_paddr=0x%" PRIx64 "\n",
		 kvms_machine_name(a->s), kvms_levels(a->s), root, a->image.roots_count,
		 kvms_config(a->s)->arg[kvms_arg_index(kvms_store_row(), "max_paddr")]);
	kvt_putf(b, "pages=%" PRIu64 " nodes=%" PRIu64 " shared=%" PRIu64 " most_parents=%" PRIu64 "\n", known->pages,
		 known->nodes, known->shared, known->most_parents);
	kvt_putf(b, "leaves=%" PRIu64, known->leaves);
	for (unsigned level = 1; level < 6; level++)
		if (sizes.count[level] > 0)
			kvt_putf(b, " leaves_%s=%" PRIu64, size_names[level], sizes.count[level]);
	kvt_putc(b, '\n');
	if (known->leaves_listed < known->leaves)
		kvt_putf(
		    b,
		    "# so many leaves come of page-table pages that are shared; lists of a table end after %" PRIu64
		    "\n",
		    known->leaves_listed);
}

static void
put_offset(struct kvt_buffer *b, uint64_t offset)
{
	if (offset != UINT64_MAX)
		kvt_putf(b, " (byte 0x%" PRIx64 ")", offset);
}

/* What is wrong: how many of each kind, and the first places. */
static void
put_flaws(const struct adopt *a, struct kvt_buffer *b)
{
	const struct kvms_adopted *known = kvms_adopted(a->s);
	const struct kvmctl_image *image = &a->image;

	kvt_putf(b, "flaws=%" PRIu64, known->flaws + image->flaws);
	for (unsigned i = 0; i < KVMCTL_IMAGE_FLAWS; i++)
		if (image->count[i] > 0)
			kvt_putf(b, " %s=%" PRIu64, kvmctl_image_flaw_name(i), image->count[i]);
	for (unsigned i = 0; i < KVMS_FLAWS; i++)
		if (known->count[i] > 0)
			kvt_putf(b, " %s=%" PRIu64, kvms_flaw_name(i), known->count[i]);
	kvt_putc(b, '\n');
	for (unsigned i = 0; i < image->places; i++)
		kvt_putf(b, "%s: byte 0x%" PRIx64 ": 0x%" PRIx64 ": %s\n", image->path, image->place[i].offset,
			 image->place[i].value, kvmctl_image_flaw_text(image->place[i].flaw));
	for (unsigned i = 0; i < known->places; i++) {
		kvt_putf(b, "%s: word at 0x%" PRIx64, image->path, known->place[i].paddr);
		put_offset(b, kvmctl_image_offset(image, known->place[i].paddr));
		kvt_putf(b, ", level %u: 0x%" PRIx64 ": %s\n", known->place[i].level, known->place[i].word,
			 kvms_flaw_text(known->place[i].flaw));
	}
}

static void
json_flaws(const struct adopt *a, struct kvt_buffer *b)
{
	const struct kvms_adopted *known = kvms_adopted(a->s);
	const struct kvmctl_image *image = &a->image;
	const char *between = "";

	kvt_puts(b, ",\"places\":[");
	for (unsigned i = 0; i < image->places; i++, between = ",")
		kvt_putf(b, "%s{\"flaw\":\"%s\",\"byte\":\"0x%" PRIx64 "\",\"value\":\"0x%" PRIx64 "\"}", between,
			 kvmctl_image_flaw_name(image->place[i].flaw), image->place[i].offset, image->place[i].value);
	for (unsigned i = 0; i < known->places; i++, between = ",") {
		uint64_t offset = kvmctl_image_offset(image, known->place[i].paddr);

		kvt_putf(b, "%s{\"flaw\":\"%s\",", between, kvms_flaw_name(known->place[i].flaw));
		if (offset != UINT64_MAX)
			kvt_putf(b, "\"byte\":\"0x%" PRIx64 "\",", offset);
		kvt_putf(b, "\"paddr\":\"0x%" PRIx64 "\",\"level\":%u,\"word\":\"0x%" PRIx64 "\"}",
			 known->place[i].paddr, known->place[i].level, known->place[i].word);
	}
	kvt_putc(b, ']');
}

static void
json_report(const struct adopt *a, struct kvt_buffer *b)
{
	const struct kvms_adopted *known = kvms_adopted(a->s);
	struct sizes sizes = sizes_of(a->s);
	uint64_t root = 0;

	(void)kvms_root(a->s, 0, &root);
	kvt_putf(b,
		 "{\"arch\":\"%s\",\"levels\":%u,\"root\":\"0x%" PRIx64 "\",\"tables\":%zu,\"max_paddr\":\"0x%" PRIx64
		 "\",\"pages\":%" PRIu64 ",\"nodes\":%" PRIu64 ",\"shared\":%" PRIu64 ",\"most_parents\":%" PRIu64
		 ",\"leaves\":%" PRIu64,
		 kvms_machine_name(a->s), kvms_levels(a->s), root, a->image.roots_count,
		 kvms_config(a->s)->arg[kvms_arg_index(kvms_store_row(), "max_paddr")], known->pages, known->nodes,
		 known->shared, known->most_parents, known->leaves);
	for (unsigned level = 1; level < 6; level++)
		if (sizes.count[level] > 0)
			kvt_putf(b, ",\"leaves_%s\":%" PRIu64, size_names[level], sizes.count[level]);
	kvt_putf(b, ",\"leaves_listed\":%" PRIu64 ",\"flaws\":%" PRIu64, known->leaves_listed,
		 known->flaws + a->image.flaws);
	for (unsigned i = 0; i < KVMCTL_IMAGE_FLAWS; i++)
		if (a->image.count[i] > 0)
			kvt_putf(b, ",\"%s\":%" PRIu64, kvmctl_image_flaw_name(i), a->image.count[i]);
	for (unsigned i = 0; i < KVMS_FLAWS; i++)
		if (known->count[i] > 0)
			kvt_putf(b, ",\"%s\":%" PRIu64, kvms_flaw_name(i), known->count[i]);
	json_flaws(a, b);
	kvt_puts(b, "}\n");
}

static void
report(const struct adopt *a)
{
	const struct kvmctl *k = a->k;
	struct kvt_buffer b = { 0 };

	if (k->json) {
		json_report(a, &b);
	} else {
		put_head(a, &b);
		put_flaws(a, &b);
		if (k->option[OPTION_verbose] != NULL)
			kvt_putf(&b, "# adopted in %" PRIu64 ".%03u ms\n", a->microseconds / 1000,
				 (unsigned)(a->microseconds % 1000));
	}
	fwrite(kvt_buffer_text(&b), 1, b.size, a->out);
	kvt_buffer_free(&b);
}

/* ---- The command ---------------------------------------------------------------------- */

static uint64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Any flaw stops, with --strict, before anything is made of the store. */
static enum kvmctl_status
strict(const struct adopt *a)
{
	uint64_t flaws = kvms_adopted(a->s)->flaws + a->image.flaws;

	if (a->k->option[OPTION_strict] == NULL || flaws == 0)
		return KVMCTL_OK;
	kvmctl_complain("%s: %" PRIu64 " flaw%s, and --strict was given", a->image.path, flaws, flaws == 1 ? "" : "s");
	return KVMCTL_UNREADABLE;
}

/* Make the store, tell of it, and keep it. */
static enum kvmctl_status
adopt(struct adopt *a, const char *path)
{
	const char *output = a->k->option[OPTION_output];
	enum kvmctl_status status = kvmctl_image_open(a->k, path, &a->image);
	char why[1200];
	uint64_t began;

	if (status != KVMCTL_OK)
		return status;
	began = now();
	a->s = kvmctl_image_adopt(&a->image);
	a->microseconds = now() - began;
	if (a->s == NULL)
		return KVMCTL_UNREADABLE;
	if (!a->k->quiet || a->out == stdout)
		report(a);
	status = strict(a);
	if (status == KVMCTL_OK && output != NULL &&
	    persist_file_save(output, kvmctl_store_name(a->k), a->s, NULL, why, sizeof why) != PERSIST_OK) {
		kvmctl_complain("%s", why);
		status = KVMCTL_UNREADABLE;
	}
	return status;
}

/* The store for requests: called when their words are known to be right. */
static enum kvmctl_status
open_adopted(struct kvmctl *k, struct kvmctl_session *session, void *arg)
{
	struct adopt *a = arg;
	enum kvmctl_status status = adopt(a, k->argv[-1]);

	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_session_embed(k, session, a->s);
	a->s = NULL;
	return status;
}

enum kvmctl_status
kvmctl_adopt(struct kvmctl *k)
{
	struct adopt a = { .k = k, .out = k->argc > 1 ? stderr : stdout };
	enum kvmctl_status status;

	if (k->option[OPTION_embedded] != NULL || k->option[OPTION_connect] != NULL) {
		kvmctl_complain("\"adopt\" makes a store of its own: leave --embedded and --connect out");
		return KVMCTL_USAGE;
	}
	if (k->argc == 1 || (k->argc == 2 && strcmp(k->argv[1], "mappings") == 0)) {
		status = adopt(&a, k->argv[0]);
		if (status == KVMCTL_OK && k->argc == 2)
			status = kvmctl_mappings_print(k, a.s, stdout);
	} else {
		k->argv++;
		k->argc--;
		status = kvmctl_exec_requests(k, open_adopted, &a);
		k->argv--;
		k->argc++;
	}
	kvms_free(&a.s);
	kvmctl_image_close(&a.image);
	return status;
}
