#include "trace/binary.h"

#include "proto/item.h"
#include "trace/input.h"
#include "trace/value.h"

#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define VERSION 1u
#define MAGIC_HEAD 0x184D2A50u
#define MAGIC_INDEX 0x184D2A51u
#define MAGIC_ZSTD 0xFD2FB528u
#define FRAME_FULL (256u * 1024)      /* content at which a frame ends */
#define FRAME_MAX (8u * 1024 * 1024)  /* content of a frame that is read */
#define INDEX_MAX (64u * 1024 * 1024) /* bytes of an index */
#define FOOTER 12u
#define FRAME_LEAST 10u /* bytes of a frame that holds something */
#define WINDOW_LOG 23   /* FRAME_MAX */
#define CHUNK 65536u
#define LEVEL 3

static void
put32(uint8_t *at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t
get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

bool
kvt_is_binary(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	return size >= 12 && get32(at) == MAGIC_HEAD && memcmp(at + 8, "kvtb", 4) == 0;
}

/* ---- Words of an outcome ------------------------------------------------------------ */

/* What outcomes and causes are called: letters, digits and underscores. */
static bool
is_name(const char *at, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (!((at[i] >= 'a' && at[i] <= 'z') || (at[i] >= 'A' && at[i] <= 'Z') ||
		      (at[i] >= '0' && at[i] <= '9') || at[i] == '_'))
			return false;
	return size > 0;
}

/* What the number is called that goes with an outcome of this name, or NULL. */
static const char *
detail_of(const char *name, size_t size)
{
	for (unsigned i = 1; i <= kvms_outcome_max(); i++) {
		const char *known = kvms_outcome_name(i);

		if (kvms_outcome_detail(i) != NULL && strlen(known) == size && memcmp(known, name, size) == 0)
			return kvms_outcome_detail(i);
	}
	return NULL;
}

static bool
span_is(struct kvt_span span, const char *word)
{
	return strlen(word) == span.size && memcmp(span.at, word, span.size) == 0;
}

/* ---- From a line to an item ----------------------------------------------------------- */

struct kvt_binary_writer {
	FILE *to;
	ZSTD_CCtx *zstd;
	struct kvmp_buffer content; /* of the frame */
	struct kvmp_buffer message;
	uint8_t *packed;
	size_t packed_capacity;
	struct kvmp_index_row frame; /* being filled */
	struct kvmp_index_row *rows;
	size_t rows_count, rows_capacity;
	struct kvt_words words;
	struct kvmp_annotation *annotations;
	size_t annotations_capacity;
	struct kvt_buffer text;
};

static struct kvmp_span
as_item(struct kvt_span span)
{
	return (struct kvmp_span){ span.at, span.size };
}

/* Class, name, and the fields that are none of the row's.  False: no item can say it. */
static bool
item_outcome(struct kvmp_item *item, const struct kvt_line *line)
{
	const char *detail;

	item->has_recorded = line->recorded || line->fields_count > 0;
	item->has_class = line->recorded;
	item->class = line->class;
	if (line->name.at != NULL && !is_name(line->name.at, line->name.size))
		return false;
	item->name = as_item(line->name);
	for (size_t i = 0; i < line->fields_count; i++) {
		const struct kvt_field *f = &line->fields[i];

		if (f->index >= 0 && f->typed)
			continue;
		if (f->index == KVT_FIELD_CAUSE && item->cause.at == NULL && !item->has_detail &&
		    is_name(f->text.at, f->text.size)) {
			item->cause = as_item(f->text);
			continue;
		}
		detail = line->name.at != NULL ? detail_of(line->name.at, line->name.size) : NULL;
		if (f->index != KVT_FIELD_DETAIL || !f->typed || item->has_detail || detail == NULL ||
		    !span_is(f->name, detail))
			return false;
		item->has_detail = true;
		item->detail = f->value;
	}
	return true;
}

/* The row's fields, their lists one behind the other. */
static bool
item_fields(struct kvt_binary_writer *w, struct kvmp_item *item, const struct kvt_line *line)
{
	const struct kvt_field *at[KVMS_FIELDS_MAX] = { NULL };

	for (size_t i = 0; i < line->fields_count; i++)
		if (line->fields[i].index >= 0)
			at[line->fields[i].index] = &line->fields[i];
	w->words.size = 0;
	for (unsigned i = 0; i < KVMS_FIELDS_MAX; i++) {
		size_t words;
		uint64_t *to;

		if (at[i] == NULL)
			continue;
		item->present |= UINT64_C(1) << i;
		item->field[i] = at[i]->value;
		if (!kvms_type_is_list(at[i]->type))
			continue;
		words = kvt_list_words(at[i]->type, at[i]->value);
		to = kvt_words_add(&w->words, words);
		if (to == NULL)
			return false;
		if (words > 0)
			memcpy(to, at[i]->list, words * sizeof *to);
	}
	item->list = w->words.at;
	return true;
}

static bool
item_annotations(struct kvt_binary_writer *w, struct kvmp_item *item, const struct kvt_line *line)
{
	if (line->annotations_count > w->annotations_capacity) {
		size_t capacity = 2 * line->annotations_count;
		struct kvmp_annotation *at = realloc(w->annotations, capacity * sizeof *at);

		if (at == NULL)
			return false;
		w->annotations = at;
		w->annotations_capacity = capacity;
	}
	for (size_t i = 0; i < line->annotations_count; i++) {
		const struct kvt_annotation *a = &line->annotations[i];

		w->annotations[i] = (struct kvmp_annotation){ as_item(a->name), as_item(a->value), a->is_result };
	}
	item->annotations = w->annotations;
	item->annotations_count = line->annotations_count;
	return true;
}

/* REFUSED: the line has to go as text. */
static enum kvmp_item_status
item_of(struct kvt_binary_writer *w, struct kvmp_item *item, const struct kvt_line *line)
{
	static const enum kvmp_item_type types[] = {
		[KVT_BLANK] = KVMP_ITEM_BLANK, [KVT_HEADER] = KVMP_ITEM_HEADER, [KVT_STORE] = KVMP_ITEM_STORE,
		[KVT_OP] = KVMP_ITEM_OP,       [KVT_EXPECT] = KVMP_ITEM_EXPECT, [KVT_GAP] = KVMP_ITEM_GAP,
		[KVT_BASE] = KVMP_ITEM_BASE,
	};

	*item = (struct kvmp_item){ .type = types[line->kind], .row = line->row, .op = line->op };
	item->comment = as_item(line->comment);
	item->is_short = line->kind == KVT_EXPECT && line->is_short;
	if (line->kind == KVT_HEADER)
		item->number = 1;
	if (line->kind == KVT_GAP) {
		item->has_number = line->has_ops;
		item->number = line->ops;
	}
	if (line->kind == KVT_BASE) {
		item->has_number = true;
		item->number = line->digest;
		item->text = as_item(line->snapshot);
	}
	if (line->kind == KVT_OP || line->kind == KVT_EXPECT) {
		if (!item_outcome(item, line))
			return KVMP_ITEM_REFUSED;
		if (!item_fields(w, item, line))
			return KVMP_ITEM_NOMEM;
	}
	return item_annotations(w, item, line) ? KVMP_ITEM_DONE : KVMP_ITEM_NOMEM;
}

/* ---- Writing --------------------------------------------------------------------------- */

static bool
write_all(struct kvt_binary_writer *w, const void *bytes, size_t size)
{
	return fwrite(bytes, 1, size, w->to) == size;
}

static bool
no_memory(void)
{
	errno = ENOMEM;
	return false;
}

struct kvt_binary_writer *
kvt_binary_writer_new(FILE *to)
{
	static const uint8_t head[KVT_BINARY_HEAD] = { 0x50, 0x2a, 0x4d, 0x18, 8,       0, 0, 0,
						       'k',  'v',  't',  'b',  VERSION, 0, 0, 0 };
	struct kvt_binary_writer *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->to = to;
	w->zstd = ZSTD_createCCtx();
	w->packed_capacity = ZSTD_compressBound(FRAME_FULL + KVMP_ITEM_MAX + 16);
	w->packed = malloc(w->packed_capacity);
	if (kvmp_item_ready() && w->zstd != NULL && w->packed != NULL &&
	    !ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL)) &&
	    !ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1)) && write_all(w, head, sizeof head))
		return w;
	if (w->zstd == NULL || w->packed == NULL)
		no_memory();
	kvt_binary_writer_end(&w, false);
	return NULL;
}

bool
kvt_binary_flush(struct kvt_binary_writer *w)
{
	size_t size;

	if (kvmp_buffer_size(&w->content) == 0)
		return fflush(w->to) == 0;
	size = ZSTD_compress2(w->zstd, w->packed, w->packed_capacity, w->content.data + w->content.start,
			      kvmp_buffer_size(&w->content));
	if (ZSTD_isError(size))
		return no_memory(); /* all that can fail with room for the result */
	if (w->rows_count == w->rows_capacity) {
		size_t capacity = 2 * w->rows_capacity + 64;
		struct kvmp_index_row *rows = realloc(w->rows, capacity * sizeof *rows);

		if (rows == NULL)
			return no_memory();
		w->rows = rows;
		w->rows_capacity = capacity;
	}
	if (!write_all(w, w->packed, size))
		return false;
	w->frame.size = size;
	w->rows[w->rows_count++] = w->frame;
	w->frame = (struct kvmp_index_row){ 0, 0, 0 };
	kvmp_buffer_take(&w->content, kvmp_buffer_size(&w->content));
	return fflush(w->to) == 0;
}

/* The message behind its length. */
static bool
add_message(struct kvt_binary_writer *w)
{
	size_t size = kvmp_buffer_size(&w->message), length = size;
	uint8_t *at = kvmp_buffer_reserve(&w->content, size + 5), *start = at;

	if (at == NULL)
		return no_memory();
	for (; length > 0x7f; length >>= 7)
		*at++ = (uint8_t)(length | 0x80);
	*at++ = (uint8_t)length;
	memcpy(at, w->message.data + w->message.start, size);
	kvmp_buffer_added(&w->content, (size_t)(at - start) + size);
	kvmp_buffer_take(&w->message, size);
	return true;
}

bool
kvt_binary_put(struct kvt_binary_writer *w, const struct kvt_line *line)
{
	struct kvmp_item item;
	enum kvmp_item_status status = item_of(w, &item, line);

	if (status == KVMP_ITEM_DONE)
		status = kvmp_item_put(&item, &w->message);
	if (status == KVMP_ITEM_REFUSED) {
		kvt_buffer_reset(&w->text);
		kvt_print_line(&w->text, line, NULL);
		item = (struct kvmp_item){ .type = KVMP_ITEM_TEXT };
		item.text = (struct kvmp_span){ kvt_buffer_text(&w->text), w->text.size };
		status = w->text.failed ? KVMP_ITEM_NOMEM : kvmp_item_put(&item, &w->message);
	}
	if (status != KVMP_ITEM_DONE)
		return no_memory();
	if (!add_message(w))
		return false;
	w->frame.items++;
	w->frame.ops += line->kind == KVT_OP;
	return kvmp_buffer_size(&w->content) < FRAME_FULL || kvt_binary_flush(w);
}

static bool
write_index(struct kvt_binary_writer *w)
{
	struct kvmp_buffer index = { 0 };
	uint8_t head[8], footer[FOOTER];
	bool done = false;
	size_t size;

	if (kvmp_index_put(w->rows, w->rows_count, &index)) {
		size = kvmp_buffer_size(&index);
		put32(head, MAGIC_INDEX);
		put32(head + 4, (uint32_t)(size + FOOTER));
		put32(footer, lzma_crc32(index.data != NULL ? index.data + index.start : footer, size, 0));
		put32(footer + 4, (uint32_t)size);
		memcpy(footer + 8, "kvti", 4);
		done = write_all(w, head, sizeof head) && (size == 0 || write_all(w, index.data + index.start, size)) &&
		       write_all(w, footer, FOOTER) && fflush(w->to) == 0;
	} else {
		no_memory();
	}
	kvmp_buffer_free(&index);
	return done;
}

bool
kvt_binary_writer_end(struct kvt_binary_writer **ww, bool finish)
{
	struct kvt_binary_writer *w = *ww;
	bool done = true;
	int saved;

	*ww = NULL;
	if (w == NULL)
		return true;
	if (finish)
		done = kvt_binary_flush(w) && write_index(w);
	saved = errno;
	ZSTD_freeCCtx(w->zstd);
	kvmp_buffer_free(&w->content);
	kvmp_buffer_free(&w->message);
	kvt_words_free(&w->words);
	kvt_buffer_free(&w->text);
	free(w->packed);
	free(w->rows);
	free(w->annotations);
	free(w);
	errno = saved;
	return done;
}

/* ---- From an item to a line ------------------------------------------------------------------ */

struct kvt_binary {
	struct kvt_binary_source source;
	uint64_t offset; /* of raw[begin] in the file */
	uint8_t *raw;
	size_t begin, end;
	bool raw_end;
	ZSTD_DCtx *zstd;

	uint8_t *content; /* of the frame */
	size_t content_capacity, content_size, at;
	uint64_t frame_offset; /* 0: none so far */
	struct kvmp_index_row frame;

	uint64_t lines, ops; /* before the next */
	uint64_t frames;     /* before the next frame */
	struct kvmp_index_row *rows;
	size_t rows_count;
	enum { INDEX_UNKNOWN, INDEX_THERE, INDEX_MISSING } index;

	struct kvmp_item item;
	struct kvmp_item_memory memory;
	struct kvt_field *fields;
	struct kvt_annotation *annotations;
	size_t annotations_capacity;

	bool ended, failed;
	char error[300];
	char note[300];
};

static struct kvt_span
as_line(struct kvmp_span span)
{
	return (struct kvt_span){ span.at, span.size };
}

/* What stands in an item must read the same as text. */
static bool
is_value(const char *at, size_t size)
{
	if (size > 0 && *at == '"') {
		for (size_t i = 1; i < size; i++) {
			if (at[i] == '"')
				return i + 1 == size;
			if (at[i] == '\\')
				i++;
		}
		return false;
	}
	return memchr(at, ' ', size) == NULL && memchr(at, '\t', size) == NULL;
}

static bool
annotation_fits(const struct kvmp_annotation *a)
{
	return a->name.size > 0 && memchr(a->name.at, ' ', a->name.size) == NULL &&
	       memchr(a->name.at, '\t', a->name.size) == NULL && memchr(a->name.at, '=', a->name.size) == NULL &&
	       kvt_text_fits(a->name.at, a->name.size) && kvt_text_fits(a->value.at, a->value.size) &&
	       is_value(a->value.at, a->value.size);
}

static bool
line_annotations(struct kvt_binary *b, struct kvt_line *line)
{
	const struct kvmp_item *item = &b->item;

	if (item->annotations_count > b->annotations_capacity) {
		size_t capacity = 2 * item->annotations_count;
		struct kvt_annotation *at = realloc(b->annotations, capacity * sizeof *at);

		if (at == NULL)
			return false;
		b->annotations = at;
		b->annotations_capacity = capacity;
	}
	for (size_t i = 0; i < item->annotations_count; i++) {
		const struct kvmp_annotation *a = &item->annotations[i];

		if (!annotation_fits(a) || (a->is_result && !item->has_class))
			return false;
		b->annotations[i] = (struct kvt_annotation){ as_line(a->name), as_line(a->value), a->is_result };
	}
	line->annotations = b->annotations;
	line->annotations_count = item->annotations_count;
	return item->annotations_count == 0 || item->type == KVMP_ITEM_OP || item->type == KVMP_ITEM_GAP;
}

static void
add_field(struct kvt_binary *b, struct kvt_line *line, int index, const char *name)
{
	struct kvt_field *f = &b->fields[line->fields_count++];

	*f = (struct kvt_field){ .index = index, .typed = true, .name = { name, strlen(name) }, .type = KVMS_DEC };
}

/* The row's fields that are recorded. */
static void
line_fields(struct kvt_binary *b, struct kvt_line *line)
{
	const struct kvmp_item *item = &b->item;
	const uint64_t *list = item->list;

	for (uint64_t left = item->present; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		const struct kvms_field *result = &item->row->results[i];
		struct kvt_field *f = &b->fields[line->fields_count++];

		f->index = (int)i;
		f->typed = true;
		f->name = (struct kvt_span){ result->name, strlen(result->name) };
		f->text = (struct kvt_span){ NULL, 0 };
		f->value = item->field[i];
		f->list = NULL;
		f->type = result->type;
		f->id = result->type == KVMS_ID ? result->kind : KVMS_ID_NONE;
		if (kvms_type_is_list(result->type)) {
			f->list = list;
			list += kvt_list_words(result->type, f->value);
		}
	}
}

static bool
line_outcome(struct kvt_binary *b, struct kvt_line *line)
{
	const struct kvmp_item *item = &b->item;
	const char *detail;

	if (item->has_recorded && !item->has_class && (line->kind == KVT_OP || item->present == 0))
		return false;
	if (line->kind == KVT_EXPECT &&
	    (item->has_class || item->name.at != NULL || item->cause.at != NULL || item->has_detail))
		return false;
	line->recorded = item->has_class;
	line->class = item->class;
	line->name = as_line(item->name);
	if (item->name.at != NULL && !is_name(item->name.at, item->name.size))
		return false;
	line_fields(b, line);
	if (item->cause.at != NULL) {
		if (item->class == KVMS_OK || !is_name(item->cause.at, item->cause.size))
			return false;
		add_field(b, line, KVT_FIELD_CAUSE, "cause");
		b->fields[line->fields_count - 1].typed = false;
		b->fields[line->fields_count - 1].type = KVMS_TYPES;
		b->fields[line->fields_count - 1].text = as_line(item->cause);
	}
	if (!item->has_detail)
		return true;
	detail = item->name.at != NULL ? detail_of(item->name.at, item->name.size) : NULL;
	if (detail == NULL || item->class == KVMS_OK)
		return false;
	add_field(b, line, KVT_FIELD_DETAIL, detail);
	b->fields[line->fields_count - 1].value = item->detail;
	b->fields[line->fields_count - 1].id = kvt_detail_kind(detail);
	if (kvt_detail_kind(detail) != KVMS_ID_NONE)
		b->fields[line->fields_count - 1].type = KVMS_ID;
	return true;
}

/* A short form is a request that has one field and no arguments. */
static bool
short_fits(const struct kvmp_item *item)
{
	return !item->is_short || (item->row->args_count == 0 && item->present == 1) ||
	       (strcmp(item->row->name, "nodes") == 0 && item->present == 1 &&
		item->op.arg[0] == item->row->args[0].value);
}

/* Is the text of a line an operation? */
static bool
is_op_text(const char *at, size_t size)
{
	static const char *const others[] = { "", "kvmtrace", "store", "base", "gap", "expect" };
	size_t word = 0;

	while (size > 0 && (*at == ' ' || *at == '\t')) {
		at++;
		size--;
	}
	while (word < size && at[word] != ' ' && at[word] != '\t')
		word++;
	if (word > 0 && *at == '#')
		return false;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (strlen(others[i]) == word && memcmp(at, others[i], word) == 0)
			return false;
	return true;
}

/* False: this is not what a line can be. */
static bool
line_of(struct kvt_binary *b, struct kvt_line *line)
{
	static const enum kvt_kind kinds[] = {
		[KVMP_ITEM_BLANK] = KVT_BLANK, [KVMP_ITEM_HEADER] = KVT_HEADER, [KVMP_ITEM_STORE] = KVT_STORE,
		[KVMP_ITEM_OP] = KVT_OP,       [KVMP_ITEM_EXPECT] = KVT_EXPECT, [KVMP_ITEM_GAP] = KVT_GAP,
		[KVMP_ITEM_BASE] = KVT_BASE,   [KVMP_ITEM_TEXT] = KVT_BLANK,
	};
	const struct kvmp_item *item = &b->item;

	memset(line, 0, sizeof *line);
	line->kind = kinds[item->type];
	line->number = b->lines;
	line->row = item->row;
	line->fields = b->fields;
	if (item->comment.at != NULL && (item->comment.size == 0 || item->comment.at[0] != '#' ||
					 !kvt_text_fits(item->comment.at, item->comment.size)))
		return false;
	line->comment = as_line(item->comment);
	if (item->is_short && line->kind != KVT_EXPECT)
		return false;
	switch (line->kind) {
	case KVT_BLANK:
		break;
	case KVT_HEADER:
		if (item->number != 1)
			return false;
		break;
	case KVT_STORE:
	case KVT_OP:
	case KVT_EXPECT:
		line->op = item->op;
		line->given = UINT64_MAX;
		line->is_short = item->is_short;
		if (line->kind != KVT_STORE && (!line_outcome(b, line) || !short_fits(item)))
			return false;
		break;
	case KVT_GAP:
		line->has_ops = item->has_number;
		line->ops = item->number;
		break;
	case KVT_BASE:
		line->digest = item->number;
		line->snapshot = as_line(item->text);
		if (item->text.at != NULL &&
		    (item->text.size < 2 || item->text.at[0] != '"' || !is_value(item->text.at, item->text.size) ||
		     !kvt_text_fits(item->text.at, item->text.size)))
			return false;
		break;
	}
	return line_annotations(b, line);
}

/* ---- Bytes of the file ---------------------------------------------------------------------------- */

static enum kvt_binary_status
fail(struct kvt_binary *b, uint64_t offset, const char *what)
{
	b->failed = true;
	snprintf(b->error, sizeof b->error, "byte %" PRIu64 ": %.200s", offset, what);
	return KVT_BINARY_FAILED;
}

/* At least "size" bytes in raw, or all there are.  False: the source failed. */
static bool
want(struct kvt_binary *b, size_t size)
{
	while (b->end - b->begin < size && !b->raw_end) {
		ssize_t n;

		if (b->begin > 0) {
			memmove(b->raw, b->raw + b->begin, b->end - b->begin);
			b->end -= b->begin;
			b->begin = 0;
		}
		n = b->source.read(b->source.arg, b->raw + b->end, CHUNK - b->end);
		if (n < 0) {
			b->failed = true;
			return false;
		}
		b->raw_end = n == 0;
		b->end += (size_t)n;
	}
	return true;
}

static void
take(struct kvt_binary *b, size_t size)
{
	b->begin += size;
	b->offset += size;
}

/* The file ends where a frame or the index should be. */
static enum kvt_binary_status
cut_off(struct kvt_binary *b)
{
	snprintf(b->note, sizeof b->note,
		 "cut off at byte %" PRIu64
		 ": the trace has no index and was read up to its last whole frame, line %" PRIu64
		 ", operation %" PRIu64,
		 b->offset + (uint64_t)(b->end - b->begin), b->lines, b->ops);
	b->ended = true;
	return KVT_BINARY_END;
}

/* ---- The index ---------------------------------------------------------------------------------------- */

/* Take what was read as the index of at most "frames" frames.  NULL, or what is wrong with it. */
static const char *
index_take(struct kvt_binary *b, const uint8_t *bytes, size_t size, uint64_t frames)
{
	const uint8_t *footer = bytes + size - FOOTER;
	struct kvmp_index_row *rows;
	size_t count;

	if (memcmp(footer + 8, "kvti", 4) != 0 || get32(footer + 4) != size - FOOTER)
		return "the index has no end";
	if (get32(footer) != lzma_crc32(bytes, size - FOOTER, 0))
		return "the index is damaged: its checksum is wrong";
	switch (kvmp_index_get(bytes, size - FOOTER, frames, &rows, &count)) {
	case KVMP_ITEM_DONE:
		break;
	case KVMP_ITEM_REFUSED:
		return "the index is no index of this trace";
	case KVMP_ITEM_NOMEM:
		return "no memory for the index";
	}
	free(b->rows);
	b->rows = rows;
	b->rows_count = count;
	b->index = INDEX_THERE;
	return NULL;
}

/* Read "size" bytes into *bytes, which grows with what comes.  1, 0 at the end of the file, -1 on failure. */
static int
read_piece(struct kvt_binary *b, uint8_t **bytes, size_t size)
{
	size_t have = 0, capacity = 0;

	*bytes = NULL;
	while (have < size) {
		size_t some;

		if (!want(b, 1))
			return -1;
		some = b->end - b->begin < size - have ? b->end - b->begin : size - have;
		if (some == 0)
			return 0;
		if (capacity - have < some) {
			uint8_t *at = realloc(*bytes, capacity = 2 * capacity + some);

			if (at == NULL) {
				fail(b, b->offset, "no memory for the index");
				return -1;
			}
			*bytes = at;
		}
		memcpy(*bytes + have, b->raw + b->begin, some);
		have += some;
		take(b, some);
	}
	return 1;
}

/* The index at the end: it must agree with what was read. */
static enum kvt_binary_status
read_index(struct kvt_binary *b)
{
	uint64_t offset = b->offset, items = 0, ops = 0;
	size_t size = get32(b->raw + b->begin + 4);
	const char *wrong;
	uint8_t *bytes;
	int status;

	if (size < FOOTER || size > INDEX_MAX)
		return fail(b, offset, "an index of an impossible size");
	take(b, 8);
	status = read_piece(b, &bytes, size);
	if (status <= 0) {
		free(bytes);
		return status < 0 ? KVT_BINARY_FAILED : cut_off(b);
	}
	wrong = index_take(b, bytes, size, b->frames);
	free(bytes);
	if (wrong != NULL)
		return fail(b, offset, wrong);
	for (size_t i = 0; i < b->rows_count; i++) {
		items += b->rows[i].items;
		ops += b->rows[i].ops;
	}
	if (b->rows_count != b->frames || items != b->lines || ops != b->ops)
		return fail(b, offset, "the index does not fit the trace");
	if (!want(b, 1))
		return KVT_BINARY_FAILED;
	if (b->end > b->begin)
		return fail(b, b->offset, "there is something behind the index");
	b->ended = true;
	return KVT_BINARY_END;
}

/* Look for the index, and go back to where we were.  Whatever is wrong with it will be told when reading gets there. */
static void
find_index(struct kvt_binary *b)
{
	uint64_t here = b->offset + (b->end - b->begin), size;
	uint8_t *bytes = NULL;
	bool failed = b->failed;
	struct kvt_binary saved = *b;
	uint8_t *raw = malloc(CHUNK);

	b->index = INDEX_MISSING;
	if (b->source.seek == NULL || b->source.size < here || b->source.size < KVT_BINARY_HEAD + 8 + FOOTER ||
	    raw == NULL) {
		free(raw);
		return;
	}
	b->raw = raw;
	b->begin = b->end = 0;
	b->raw_end = false;
	if (b->source.seek(b->source.arg, b->source.size - FOOTER) && read_piece(b, &bytes, FOOTER) == 1 &&
	    memcmp(bytes + 8, "kvti", 4) == 0) {
		size = (uint64_t)get32(bytes + 4) + FOOTER;
		free(bytes);
		bytes = NULL;
		b->begin = b->end = 0;
		b->raw_end = false;
		if (size <= b->source.size - KVT_BINARY_HEAD - 8 && size <= INDEX_MAX &&
		    b->source.seek(b->source.arg, b->source.size - size) && read_piece(b, &bytes, (size_t)size) == 1)
			(void)index_take(b, bytes, (size_t)size, b->source.size / FRAME_LEAST);
	}
	free(bytes);
	free(raw);
	saved.rows = b->rows;
	saved.rows_count = b->rows_count;
	saved.index = b->index;
	*b = saved;
	b->failed = failed;
	if (!b->source.seek(b->source.arg, here))
		b->failed = true;
}

uint64_t
kvt_binary_skip(struct kvt_binary *b, uint64_t ops)
{
	uint64_t offset = KVT_BINARY_HEAD, lines = 0, before = 0;
	size_t i;

	if (b->index == INDEX_UNKNOWN)
		find_index(b);
	if (b->index != INDEX_THERE || b->failed || b->ended)
		return b->ops;
	for (i = 0; i < b->rows_count && before + b->rows[i].ops <= ops; i++) {
		offset += b->rows[i].size;
		lines += b->rows[i].items;
		before += b->rows[i].ops;
	}
	if (i < b->frames || offset > b->source.size)
		return b->ops; /* it is in the frame at hand */
	if (!b->source.seek(b->source.arg, offset)) {
		b->failed = true;
		return b->ops;
	}
	b->begin = b->end = 0;
	b->raw_end = false;
	b->offset = offset;
	b->at = b->content_size = 0;
	b->frame = (struct kvmp_index_row){ 0, 0, 0 };
	b->frame_offset = 0;
	b->frames = i;
	b->lines = lines;
	b->ops = before;
	return before;
}

/* ---- Frames ---------------------------------------------------------------------------------------------- */

/* Unpack the frame whose first bytes are in raw. */
static enum kvt_binary_status
read_frame(struct kvt_binary *b)
{
	unsigned long long size;
	ZSTD_outBuffer out;
	size_t left = 1;

	if (!want(b, 18))
		return KVT_BINARY_FAILED;
	b->frame_offset = b->offset;
	size = ZSTD_getFrameContentSize(b->raw + b->begin, b->end - b->begin);
	if (size == ZSTD_CONTENTSIZE_ERROR && b->raw_end && b->end - b->begin < 18)
		return cut_off(b);
	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size == 0)
		return fail(b, b->frame_offset, "the frame does not say how large its content is");
	if (size > FRAME_MAX)
		return fail(b, b->frame_offset, "the content of the frame is larger than 8 MiB");
	if (size > b->content_capacity) {
		free(b->content);
		b->content = malloc((size_t)size);
		b->content_capacity = b->content != NULL ? (size_t)size : 0;
		if (b->content == NULL)
			return fail(b, b->frame_offset, "no memory for the frame");
	}
	ZSTD_DCtx_reset(b->zstd, ZSTD_reset_session_only);
	out = (ZSTD_outBuffer){ b->content, (size_t)size, 0 };
	while (left != 0) {
		ZSTD_inBuffer in;

		if (!want(b, 1))
			return KVT_BINARY_FAILED;
		if (b->end == b->begin)
			return cut_off(b);
		in = (ZSTD_inBuffer){ b->raw + b->begin, b->end - b->begin, 0 };
		left = ZSTD_decompressStream(b->zstd, &out, &in);
		if (ZSTD_isError(left)) {
			char what[200];

			snprintf(what, sizeof what, "the frame is damaged: %s", ZSTD_getErrorName(left));
			return fail(b, b->frame_offset, what);
		}
		take(b, in.pos);
		if (left != 0 && in.pos == 0 && out.pos == out.size)
			return fail(b, b->frame_offset, "the frame is damaged: it is larger than it says");
	}
	if (out.pos != size)
		return fail(b, b->frame_offset, "the frame is damaged: it is smaller than it says");
	b->content_size = (size_t)size;
	b->at = 0;
	b->frames++;
	b->frame = (struct kvmp_index_row){ b->offset - b->frame_offset, 0, 0 };
	return KVT_BINARY_LINE;
}

/* The frame at hand is through: is it what the index says? */
static bool
frame_fits(const struct kvt_binary *b)
{
	const struct kvmp_index_row *row;

	if (b->index != INDEX_THERE || b->frames == 0 || b->frame_offset == 0)
		return true;
	row = b->frames <= b->rows_count ? &b->rows[b->frames - 1] : NULL;
	return row != NULL && row->size == b->frame.size && row->items == b->frame.items && row->ops == b->frame.ops;
}

static enum kvt_binary_status
next_frame(struct kvt_binary *b)
{
	uint32_t magic;

	if (!frame_fits(b))
		return fail(b, b->frame_offset, "the index does not fit the frame");
	if (!want(b, 8))
		return KVT_BINARY_FAILED;
	if (b->end - b->begin < 8)
		return cut_off(b);
	magic = get32(b->raw + b->begin);
	if (magic == MAGIC_ZSTD)
		return read_frame(b);
	if (magic == MAGIC_INDEX)
		return read_index(b);
	return fail(b, b->offset,
		    magic == MAGIC_HEAD ? "another trace begins here: a file holds one" : "no frame begins here");
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

struct kvt_binary *
kvt_binary_new(const struct kvt_binary_source *source, const void *head, char *error, size_t error_size)
{
	const uint8_t *at = head;
	unsigned version = (unsigned)at[12] | (unsigned)at[13] << 8;
	struct kvt_binary *b;

	if (get32(at + 4) != 8 || at[14] != 0 || at[15] != 0) {
		snprintf(error, error_size, "byte 4: the beginning of a binary trace is damaged");
		return NULL;
	}
	if (version != VERSION) {
		snprintf(error, error_size, "byte 12: a binary trace of version %u; this program reads version %u",
			 version, VERSION);
		return NULL;
	}
	b = calloc(1, sizeof *b);
	if (b != NULL) {
		b->source = *source;
		b->offset = KVT_BINARY_HEAD;
		b->raw = malloc(CHUNK);
		b->fields = malloc((KVMS_FIELDS_MAX + 2) * sizeof *b->fields);
		b->zstd = ZSTD_createDCtx();
		if (kvmp_item_ready() && b->raw != NULL && b->fields != NULL && b->zstd != NULL &&
		    !ZSTD_isError(ZSTD_DCtx_setParameter(b->zstd, ZSTD_d_windowLogMax, WINDOW_LOG)))
			return b;
	}
	kvt_binary_free(&b);
	snprintf(error, error_size, "no memory to read a binary trace");
	return NULL;
}

void
kvt_binary_free(struct kvt_binary **bb)
{
	struct kvt_binary *b = *bb;

	*bb = NULL;
	if (b == NULL)
		return;
	ZSTD_freeDCtx(b->zstd);
	kvmp_item_memory_free(&b->memory);
	free(b->raw);
	free(b->content);
	free(b->rows);
	free(b->fields);
	free(b->annotations);
	free(b);
}

static enum kvt_binary_status
fail_item(struct kvt_binary *b, const char *what)
{
	char text[200];

	snprintf(text, sizeof text, "line %" PRIu64 ", in the frame's content at byte %zu, is %s", b->lines, b->at,
		 what);
	return fail(b, b->frame_offset, text);
}

enum kvt_binary_status
kvt_binary_next(struct kvt_binary *b, struct kvt_line *line, struct kvt_span *text)
{
	enum kvt_binary_status status;
	enum kvmp_item_status got;
	size_t size = 0;
	unsigned shift = 0;

	if (b->failed || b->ended)
		return b->failed ? KVT_BINARY_FAILED : KVT_BINARY_END;
	while (b->at == b->content_size) {
		status = next_frame(b);
		if (status != KVT_BINARY_LINE)
			return status;
	}
	b->lines++;
	for (;; shift += 7) {
		if (b->at == b->content_size || shift > 21)
			return fail_item(b, "no message");
		size |= (size_t)(b->content[b->at] & 0x7f) << shift;
		if (b->content[b->at++] <= 0x7f)
			break;
	}
	if (size > b->content_size - b->at || size > KVMP_ITEM_MAX)
		return fail_item(b, "no message");
	got = kvmp_item_get(b->content + b->at, size, &b->memory, &b->item);
	if (got != KVMP_ITEM_DONE)
		return fail_item(b, got == KVMP_ITEM_NOMEM ? "too large for the memory" : "no line of a trace");
	b->frame.items++;
	if (b->item.type == KVMP_ITEM_TEXT) {
		*text = as_line(b->item.text);
		if (!kvt_text_fits(text->at, text->size) || b->item.comment.at != NULL ||
		    b->item.annotations_count > 0 || b->item.is_short)
			return fail_item(b, "no line of a trace");
		if (is_op_text(text->at, text->size)) {
			b->ops++;
			b->frame.ops++;
		}
		b->at += size;
		return KVT_BINARY_TEXT;
	}
	if (!line_of(b, line))
		return fail_item(b, "no line of a trace");
	if (line->kind == KVT_OP) {
		b->ops++;
		b->frame.ops++;
	}
	b->at += size;
	return KVT_BINARY_LINE;
}

uint64_t
kvt_binary_lines(const struct kvt_binary *b)
{
	return b->lines;
}

const char *
kvt_binary_error(const struct kvt_binary *b)
{
	return b->error;
}

const char *
kvt_binary_note(const struct kvt_binary *b)
{
	return b->note;
}
