#include "trace/reader.h"

#include "trace/binary.h"

#include <stdlib.h>

struct kvt_reader {
	struct kvt_input *in;
	struct kvt_parser *parser;
	bool failed; /* the input did */
};

struct kvt_reader *
kvt_reader_new(struct kvt_input *in, const char *source)
{
	struct kvt_reader *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	r->in = in;
	r->parser = kvt_parser_new(source);
	if (r->parser == NULL)
		kvt_reader_free(&r);
	return r;
}

void
kvt_reader_free(struct kvt_reader **rr)
{
	struct kvt_reader *r = *rr;

	*rr = NULL;
	if (r == NULL)
		return;
	kvt_parser_free(&r->parser);
	free(r);
}

static enum kvt_read
at_end(struct kvt_reader *r)
{
	return kvt_parse_end(r->parser) ? KVT_READ_END : KVT_READ_SYNTAX;
}

static enum kvt_read
input_failed(struct kvt_reader *r)
{
	r->failed = true;
	return KVT_READ_FAILED;
}

static enum kvt_read
next_binary(struct kvt_reader *r, struct kvt_line *line)
{
	struct kvt_span text;
	enum kvt_binary_status status = kvt_binary_next(kvt_input_binary(r->in), line, &text);

	kvt_input_took(r->in, status);
	switch (status) {
	case KVT_BINARY_LINE:
		return kvt_parse_given(r->parser, line) ? KVT_READ_LINE : KVT_READ_SYNTAX;
	case KVT_BINARY_TEXT:
		return kvt_parse(r->parser, text.at, text.size, line) ? KVT_READ_LINE : KVT_READ_SYNTAX;
	case KVT_BINARY_END:
		return at_end(r);
	case KVT_BINARY_FAILED:
		break;
	}
	return input_failed(r);
}

enum kvt_read
kvt_reader_next(struct kvt_reader *r, struct kvt_line *line)
{
	ssize_t size;
	char *text;

	if (kvt_input_binary(r->in) != NULL)
		return next_binary(r, line);
	size = kvt_input_line(r->in, &text);
	if (size >= 0)
		return kvt_parse(r->parser, text, (size_t)size, line) ? KVT_READ_LINE : KVT_READ_SYNTAX;
	return size == -1 ? at_end(r) : input_failed(r);
}

uint64_t
kvt_reader_skip(struct kvt_reader *r, uint64_t so_far, uint64_t ops)
{
	struct kvt_binary *b = kvt_input_binary(r->in);
	uint64_t before;

	if (b == NULL || ops <= so_far)
		return so_far;
	before = kvt_binary_skip(b, ops);
	kvt_parser_move(r->parser, kvt_binary_lines(b));
	return before;
}

const char *
kvt_reader_error(const struct kvt_reader *r)
{
	return r->failed ? kvt_input_error(r->in) : kvt_parser_error(r->parser);
}
