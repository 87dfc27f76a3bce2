/*
 * compare - the mappings of a store against a listing of a real system.
 */
#include "client/commands.h"
#include "client/show.h"
#include "client/state.h"

#include "trace/match.h"
#include "trace/text.h"
#include "trace/value.h"

#include <inttypes.h>
#include <string.h>

#define HALF (UINT64_C(1) << 63)

struct comparing {
	struct kvmctl *k;
	enum kvt_form form;
	struct kvt_match how;
	struct kvt_words ranges; /* [first, last] */
	unsigned told_aspects;   /* of the listing */
	uint64_t most, told;     /* 0: all */
	struct kvt_buffer line;
};

/* ---- Telling ----------------------------------------------------------------------------------- */

/* Letters for those aspects that the listing has; the others are blank. */
static void
put_letters(struct kvt_buffer *b, uint64_t prop, unsigned told)
{
	static const struct {
		enum kvt_aspect aspect;
		uint64_t bit;
		char letter;
	} letters[] = {
		{ KVT_ASPECT_READ, KVMS_PROP_R, 'r' },        { KVT_ASPECT_WRITE, KVMS_PROP_W, 'w' },
		{ KVT_ASPECT_EXECUTE, KVMS_PROP_X, 'x' },     { KVT_ASPECT_USER, KVMS_PROP_USER, 'u' },
		{ KVT_ASPECT_GLOBAL, KVMS_PROP_GLOBAL, 'g' }, { KVT_ASPECT_ACCESSED, KVMS_PROP_A, 'a' },
		{ KVT_ASPECT_DIRTY, KVMS_PROP_D, 'd' },
	};

	for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
		if ((told >> letters[i].aspect & 1) != 0)
			kvt_putc(b, (prop & letters[i].bit) != 0 ? letters[i].letter : '-');
	if ((told >> KVT_ASPECT_CACHE & 1) != 0)
		kvt_putf(b, ":%s", kvms_word(KVMS_CACHE, prop >> KVMS_PROP_CACHE_SHIFT));
}

static const char *
size_word(uint64_t size)
{
	return size == UINT64_C(1) << 12   ? "4K"
	       : size == UINT64_C(1) << 21 ? "2M"
	       : size == UINT64_C(1) << 30 ? "1G"
					   : "?";
}

static void
put_side(struct comparing *c, const struct kvt_item *item, bool goes_on)
{
	struct kvt_buffer *b = &c->line;
	unsigned told = c->told_aspects & c->how.aspects;

	if ((told >> KVT_ASPECT_FRAME & 1) != 0) {
		kvt_putc(b, ' ');
		kvt_put_hex(b, item->paddr);
		kvt_puts(b, goes_on ? "" : " and others");
	}
	if ((told & ~(1u << KVT_ASPECT_FRAME | 1u << KVT_ASPECT_SIZE)) != 0) {
		kvt_putc(b, ' ');
		put_letters(b, item->prop, told);
	}
	if ((told >> KVT_ASPECT_SIZE & 1) != 0 && item->size != 0)
		kvt_putf(b, " %s", size_word(item->size));
}

static void
text_difference(struct comparing *c, const struct kvt_difference *d)
{
	bool areas = c->form == KVT_VMALLOCINFO;
	struct kvt_buffer *b = &c->line;

	kvt_puts(b, !d->is_in_store ? "- " : !d->is_listed ? "+ " : "~ ");
	kvt_put_hex(b, d->start);
	kvt_puts(b, "..");
	kvt_put_hex(b, d->last + 1);
	if (!areas)
		kvt_putf(b, " %" PRIu64 " page%s", (d->last - d->start) / KVMS_PAGE_SIZE + 1,
			 (d->last - d->start) / KVMS_PAGE_SIZE > 0 ? "s" : "");
	if (d->is_listed) {
		kvt_putf(b, " line %" PRIu64, d->listed.id);
		if (!areas)
			put_side(c, &d->listed, d->listed_goes_on);
	}
	kvt_puts(b, d->is_listed && d->is_in_store ? "; store" : "");
	if (d->is_in_store && areas) {
		kvt_putf(b, " area %" PRIu64, d->store.id);
		if (d->is_listed) {
			kvt_puts(b, " ends at ");
			kvt_put_hex(b, d->store.last + 1);
		}
	} else if (d->is_in_store) {
		put_side(c, &d->store, d->store_goes_on);
	}
	kvmctl_show_line(b);
}

static void
json_side(struct comparing *c, const char *name, const struct kvt_item *item, bool goes_on, bool is_store)
{
	struct kvt_buffer *b = &c->line;
	unsigned told = is_store ? (1u << KVT_ASPECTS) - 1 : c->told_aspects;

	kvt_putf(b, ",\"%s\":{", name);
	if (is_store && c->form != KVT_VMALLOCINFO)
		kvt_putf(b, "\"tracked\":%s", item->tracked ? "true" : "false");
	else
		kvt_putf(b, "\"%s\":%" PRIu64, is_store ? "area" : "line", item->id);
	if (c->form == KVT_VMALLOCINFO) {
		kvt_puts(b, ",\"end\":");
		kvt_json_value(b, KVMS_HEX, item->last + 1, NULL);
		kvt_putc(b, '}');
		return;
	}
	if ((told >> KVT_ASPECT_FRAME & 1) != 0) {
		kvt_puts(b, ",\"paddr\":");
		kvt_json_value(b, KVMS_HEX, item->paddr, NULL);
		kvt_putf(b, ",\"frames_follow\":%s", goes_on ? "true" : "false");
	}
	if ((told >> KVT_ASPECT_SIZE & 1) != 0) {
		kvt_puts(b, ",\"size\":");
		kvt_json_value(b, KVMS_HEX, item->size, NULL);
	}
	kvt_puts(b, ",\"flags\":\"");
	put_letters(b, item->prop, told & ~(1u << KVT_ASPECT_CACHE));
	kvt_putc(b, '"');
	if ((told >> KVT_ASPECT_CACHE & 1) != 0)
		kvt_putf(b, ",\"cache\":\"%s\"", kvms_word(KVMS_CACHE, item->prop >> KVMS_PROP_CACHE_SHIFT));
	kvt_putc(b, '}');
}

static void
json_difference(struct comparing *c, const struct kvt_difference *d)
{
	const char *between = "";
	struct kvt_buffer *b = &c->line;

	kvt_putf(b, "{\"difference\":\"%s\",\"start\":",
		 !d->is_in_store ? "missing"
		 : !d->is_listed ? "extra"
				 : "different");
	kvt_json_value(b, KVMS_HEX, d->start, NULL);
	kvt_puts(b, ",\"end\":");
	kvt_json_value(b, KVMS_HEX, d->last + 1, NULL);
	if (d->aspects != 0) {
		kvt_puts(b, ",\"in\":[");
		for (unsigned i = 0; i < KVT_ASPECTS; i++) {
			if ((d->aspects >> i & 1) == 0)
				continue;
			kvt_putf(b, "%s\"%s\"", between, kvt_aspect_name((enum kvt_aspect)i));
			between = ",";
		}
		kvt_putc(b, ']');
	}
	if (d->is_listed)
		json_side(c, "listed", &d->listed, d->listed_goes_on, false);
	if (d->is_in_store)
		json_side(c, "store", &d->store, d->store_goes_on, true);
	kvt_putc(b, '}');
	kvmctl_show_line(b);
}

static void
tell(void *arg, const struct kvt_difference *d)
{
	struct comparing *c = arg;

	if (c->told++ >= c->most && c->most != 0)
		return;
	if (c->k->json)
		json_difference(c, d);
	else
		text_difference(c, d);
}

static void
tell_counts(struct comparing *c, const struct kvt_matched *m)
{
	static const char *const names[] = { "listed",    "in_store", "agree",          "missing",  "extra",
					     "different", "outside",  "unknown_frames", "unpurged", "differences" };
	const uint64_t counts[] = { m->listed,    m->in_store, m->agree,   m->missing,  m->extra,
				    m->different, m->outside,  m->unknown, m->unpurged, m->differences };
	struct kvt_buffer *b = &c->line;
	const char *unit = c->form == KVT_VMALLOCINFO ? "areas" : "pages";

	if (!c->k->json && c->most != 0 && c->told > c->most) {
		kvt_putf(b, "and %" PRIu64 " more (--most 0 tells all)", c->told - c->most);
		kvmctl_show_line(b);
	}
	if (c->k->json)
		kvt_putf(b, "{\"equal\":%s,\"unit\":\"%s\"", m->equal ? "true" : "false", unit);
	else
		kvt_puts(b, unit);
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		if (c->k->json)
			kvt_putf(b, ",\"%s\":%" PRIu64, names[i], counts[i]);
		else if (i < 6 || counts[i] > 0)
			kvt_putf(b, " %s=%" PRIu64, names[i], counts[i]);
	}
	if (c->k->json)
		kvt_putc(b, '}');
	kvmctl_show_line(b);
}

/* ---- What was asked ------------------------------------------------------------------------------- */

static enum kvmctl_status
bad_range(const char *word)
{
	char shown[KVMCTL_SHOWN];

	kvmctl_complain("--range '%s': expected START..END, in whole pages, or user, kernel, all, vmalloc",
			kvmctl_shown(shown, word));
	return KVMCTL_USAGE;
}

static enum kvmctl_status
add_range(struct comparing *c, uint64_t start, uint64_t end)
{
	uint64_t *at = kvt_words_add(&c->ranges, 2);

	if (at == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	at[0] = start;
	at[1] = end - 1;
	return KVMCTL_OK;
}

/* The tables of an adopted image have both halves; a process lists its own. */
static enum kvmctl_status
range_of_image(struct comparing *c, const struct kvmctl_session *s)
{
	bool is_user = c->form == KVT_MAPS || c->form == KVT_PAGEMAP;
	enum kvmctl_status status = KVMCTL_OK;

	if (s->connection == NULL && kvms_adopted(kvt_target_store(s->target)) != NULL)
		status = add_range(c, 0, is_user ? HALF : 0);
	return status;
}

/* --range: START..END, an END of 0 being the end of all addresses; a half or both; or the ranges of areas. */
static enum kvmctl_status
read_range(struct comparing *c, const struct kvmctl_session *s)
{
	const char *word = c->k->option[OPTION_range], *dots;
	enum kvmctl_status status = KVMCTL_OK;
	struct kvt_target *t = s->target;
	const struct kvms_op *config;
	uint64_t start, end, count;

	if (word == NULL) {
		status = range_of_image(c, s);
	} else if (strcmp(word, "user") == 0) {
		status = add_range(c, 0, HALF);
	} else if (strcmp(word, "kernel") == 0) {
		status = add_range(c, HALF, 0);
	} else if (strcmp(word, "all") == 0) {
		status = add_range(c, 0, 0);
	} else if (strcmp(word, "vmalloc") == 0) {
		if (t->config(t, &config) != KVT_DONE) {
			kvmctl_complain("%s", t->error(t));
			return KVMCTL_CONNECTION;
		}
		const uint64_t *ranges = kvms_op_list(config, kvms_store_row(),
						      (unsigned)kvms_arg_index(kvms_store_row(), "vmalloc"), &count);
		for (uint64_t i = 0; i < count && status == KVMCTL_OK; i++)
			status = add_range(c, ranges[2 * i], ranges[2 * i + 1]);
	} else {
		dots = strstr(word, "..");
		if (dots == NULL || !kvt_parse_u64(word, (size_t)(dots - word), &start) ||
		    !kvt_parse_u64(dots + 2, strlen(dots + 2), &end) || start % KVMS_PAGE_SIZE != 0 ||
		    end % KVMS_PAGE_SIZE != 0 || end - 1 < start)
			return bad_range(word);
		status = add_range(c, start, end);
	}
	if (c->ranges.size > 0)
		c->how.ranges = c->ranges.at;
	c->how.ranges_count = c->ranges.size / 2;
	return status;
}

static enum kvmctl_status
read_aspects(const struct kvmctl *k, enum kvmctl_option option, unsigned *set)
{
	const char *bad;
	char shown[KVMCTL_SHOWN];

	*set = 0;
	if (k->option[option] == NULL || kvt_aspects_parse(k->option[option], set, &bad))
		return KVMCTL_OK;
	kvmctl_complain("--%s: '%s' is none of frame, size, read, write, execute, user, global, accessed, dirty, cache",
			kvmctl_option_row(option)->name, kvmctl_shown(shown, bad));
	return KVMCTL_USAGE;
}

static enum kvmctl_status
read_options(struct comparing *c)
{
	const char *from = c->k->option[OPTION_from];
	unsigned with, without;

	c->form = kvt_form_find(from != NULL ? from : "");
	if (c->form == KVT_FORMS || c->form == KVT_PTDUMP) {
		kvmctl_complain(
		    "say what the listing is: --from qemu-tlb, qemu-mem, vmallocinfo, maps, pagemap or leaves");
		return KVMCTL_USAGE;
	}
	enum kvmctl_status status = read_aspects(c->k, OPTION_with, &with);
	if (status == KVMCTL_OK)
		status = read_aspects(c->k, OPTION_without, &without);
	if (status == KVMCTL_OK)
		status = kvmctl_state_table(c->k, &c->how.table);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(c->k, OPTION_memory, 0, &c->how.memory);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(c->k, OPTION_most, 50, &c->most);
	if (status != KVMCTL_OK)
		return status;
	c->how.aspects = (KVT_ASPECTS_USUAL | with) & ~without;
	c->how.partial = c->k->option[OPTION_partial] != NULL;
	return KVMCTL_OK;
}

/* ---- The command -------------------------------------------------------------------------------------- */

/* Is there such a table?  Else an empty one would be compared. */
static enum kvmctl_status
check_table(struct comparing *c, struct kvmctl_session *s)
{
	struct kvms_outcome out = { 0 };
	struct kvms_op op;

	kvms_op_init(&op, kvms_request_find("nodes"));
	op.arg[0] = c->how.table;
	enum kvt_status asked = s->target->inspect(s->target, &op, &out);
	unsigned name = out.name;
	kvms_outcome_free(&out);
	if (asked != KVT_DONE)
		return kvmctl_complain_target(s, asked);
	if (name == 0)
		return KVMCTL_OK;
	kvmctl_complain("the store has no address space %" PRIu64, c->how.table);
	return KVMCTL_USAGE;
}

static enum kvmctl_status
run(struct comparing *c, struct kvmctl_session *s, struct kvt_items *listing)
{
	struct kvt_matched matched;

	enum kvmctl_status status = read_range(c, s);
	if (status == KVMCTL_OK)
		status = check_table(c, s);
	if (status != KVMCTL_OK)
		return status;
	c->told_aspects = listing->told;
	enum kvt_status done = kvt_match(s->target, c->form, listing, &c->how, tell, c, &matched);
	if (done != KVT_DONE)
		return kvmctl_complain_target(s, done);
	tell_counts(c, &matched);
	return matched.equal ? KVMCTL_OK : KVMCTL_DIVERGED;
}

enum kvmctl_status
kvmctl_compare(struct kvmctl *k)
{
	struct comparing c = { .k = k };
	struct kvt_items listing = { 0 };
	struct kvmctl_session s = { 0 };
	struct kvt_input *in;
	char error[1024];

	enum kvmctl_status status = read_options(&c);
	if (status != KVMCTL_OK)
		return status;
	in = kvt_input_open(k->argv[0], error, sizeof error);
	if (in == NULL || !kvt_listing_read(&listing, c.form, in, error, sizeof error)) {
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	kvt_input_close(&in);
	if (status == KVMCTL_OK)
		status = kvmctl_state_open(k, &s);
	if (status == KVMCTL_OK) {
		status = run(&c, &s, &listing);
		kvmctl_session_close(&s);
	}
	kvt_items_free(&listing);
	kvt_words_free(&c.ranges);
	kvt_buffer_free(&c.line);
	return status;
}
