/*
 * convert - a trace from text to binary and back, whole or a piece of it.
 */
#include "client/outfile.h"
#include "client/commands.h"
#include "client/tracefile.h"

#include "trace/reader.h"

#include <inttypes.h>
#include <string.h>

struct converting {
	struct kvmctl *k;
	struct kvt_reader *reader;
	struct kvmctl_tracefile to;
	uint64_t from, last; /* operations */
	uint64_t ops;        /* read so far */
	uint64_t left_out;
};

/* Where operations were left out there is a gap. */
static enum kvmctl_status
put_gap(struct converting *c)
{
	struct kvt_line gap = { .kind = KVT_GAP, .has_ops = true, .ops = c->left_out };

	c->left_out = 0;
	return kvmctl_tracefile_put(&c->to, &gap);
}

static enum kvmctl_status
convert_line(struct converting *c, const struct kvt_line *line, bool *more)
{
	enum kvmctl_status status = KVMCTL_OK;
	uint64_t before = c->ops;

	c->ops += line->kind == KVT_OP;
	*more = c->ops <= c->last;
	if (!*more)
		return KVMCTL_OK;
	if (c->ops > 0 && c->ops < c->from) {
		if (line->kind == KVT_OP)
			c->ops = kvt_reader_skip(c->reader, c->ops, c->from - 1);
		c->left_out += c->ops - before;
		return KVMCTL_OK;
	}
	if (c->left_out > 0)
		status = put_gap(c);
	return status == KVMCTL_OK ? kvmctl_tracefile_put(&c->to, line) : status;
}

static enum kvmctl_status
convert(struct converting *c)
{
	enum kvt_read read = KVT_READ_END;
	enum kvmctl_status status = KVMCTL_OK;
	struct kvt_line line;
	bool more = true;

	while (status == KVMCTL_OK && more && (read = kvt_reader_next(c->reader, &line)) == KVT_READ_LINE)
		status = convert_line(c, &line, &more);
	if (status != KVMCTL_OK || !more || read == KVT_READ_END)
		return status;
	kvmctl_complain("%s", kvt_reader_error(c->reader));
	return read == KVT_READ_SYNTAX ? KVMCTL_USAGE : KVMCTL_UNREADABLE;
}

static enum kvmctl_status
convert_input(struct converting *c, struct kvt_input *in, const char *path)
{
	enum kvmctl_status status, closed;

	c->reader = kvt_reader_new(in, kvt_input_name(in));
	if (c->reader == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	status =
	    kvmctl_tracefile_open(&c->to, path, kvmctl_is_binary_name(path) || c->k->option[OPTION_binary] != NULL);
	if (status == KVMCTL_OK) {
		status = convert(c);
		closed = kvmctl_tracefile_close(&c->to, status == KVMCTL_OK);
		status = status != KVMCTL_OK ? status : closed;
	}
	kvt_reader_free(&c->reader);
	return status;
}

enum kvmctl_status
kvmctl_trace_convert(struct kvmctl *k)
{
	struct converting c = { .k = k };
	const char *from = k->argv[0], *to = k->argv[1];
	enum kvmctl_status status;
	struct kvt_input *in;
	char error[1024];

	status = kvmctl_option_number(k, OPTION_from, 1, &c.from);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_to, UINT64_MAX, &c.last);
	if (status != KVMCTL_OK)
		return status;
	if (c.from == 0)
		c.from = 1;
	if (c.from > c.last) {
		kvmctl_complain("--from %" PRIu64 " --to %" PRIu64 ": no operation lies between them", c.from, c.last);
		return KVMCTL_USAGE;
	}
	status = kvmctl_outfile_apart(to, from);
	if (status != KVMCTL_OK)
		return status;
	in = kvt_input_open(from, error, sizeof error);
	if (in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	status = convert_input(&c, in, to);
	if (status == KVMCTL_OK && k->json && strcmp(to, "-") != 0)
		printf("{\"lines\":%" PRIu64 ",\"ops\":%" PRIu64 "}\n", c.to.lines, c.to.ops);
	kvt_input_close(&in);
	return status;
}
