/*
 * record_history - a state directory as a daemon leaves it, made from a trace.
 *
 *	record_history DIR TRACE [key=value ...]
 *
 *	store=NAME      default "default"
 *	flush=N         a group of the journal every N steps (default 5)
 *	snapshot=N      and a snapshot (default: only the first)
 *	restore=N:M     behind step N, put back the state behind step M; may be repeated
 *	journal=no      keep no journal
 *
 * Outcomes that the trace records are not compared.  Prints "STEP DIGEST" for
 * step 0 and every other.
 */
#include "persist/writer.h"
#include "trace/replay.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define RESTORES_MAX 8u

struct recorder {
	struct kvt_target target; /* first, so that one is the other */
	struct persist *db;
	struct persist_writer *writer;
	struct persist_stream *stream;
	struct kvms *s;
	const char *store;
	uint64_t flush, snapshot;
	uint64_t at[RESTORES_MAX], back_to[RESTORES_MAX];
	unsigned restores;
	char why[PERSIST_WHY];
};

static void
die(const char *why)
{
	fprintf(stderr, "record_history: %s\n", why);
	exit(1);
}

static void
must(struct recorder *r, enum persist_status status)
{
	if (status != PERSIST_OK)
		die(r->why);
}

static void
settle(struct recorder *r)
{
	struct pollfd p = { .fd = persist_writer_fd(r->writer), .events = POLLIN };

	persist_writer_flush(r->writer);
	for (uint64_t number = persist_writer_next(r->writer) - 1; persist_writer_written(r->writer) < number;) {
		if (poll(&p, 1, 10000) < 1)
			die("nothing is written");
		persist_writer_heard(r->writer);
		if (persist_writer_failing(r->writer, r->why, sizeof r->why))
			die(r->why);
	}
	persist_writer_finished(r->writer);
}

static void
print_digest(struct recorder *r)
{
	printf("%" PRIu64 " 0x%016" PRIx64 "\n", kvms_steps(r->s), kvms_digest(r->s));
}

static void
put_back(struct recorder *r, uint64_t target)
{
	uint64_t step = kvms_steps(r->s) + 1;
	struct kvms *s;

	settle(r);
	must(r, persist_rebuild(r->db, r->store, target, NULL, NULL, &s, NULL, r->why, sizeof r->why));
	kvms_set_steps(s, step);
	if (!persist_stream_restored(r->stream, s, target))
		die("no memory");
	kvms_free(&r->s);
	r->s = s;
	print_digest(r);
}

static enum kvt_status
record(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	struct recorder *r = (struct recorder *)t;

	if (kvms_apply(r->s, op, out) != KVMS_DONE)
		die("an operation was not done");
	print_digest(r);
	if (r->stream == NULL)
		return KVT_DONE;
	if (!persist_stream_add(r->stream, 7, op, out))
		die("no memory");
	if (kvms_steps(r->s) % r->flush == 0)
		persist_writer_flush(r->writer);
	if (r->snapshot > 0 && kvms_steps(r->s) % r->snapshot == 0) {
		if (!persist_writer_save(r->writer, r->store, r->s, NULL, NULL))
			die("no memory");
		settle(r);
	}
	for (unsigned i = 0; i < r->restores; i++)
		if (r->at[i] == kvms_steps(r->s))
			put_back(r, r->back_to[i]);
	return KVT_DONE;
}

static enum kvt_status
inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	return kvms_inspect(((struct recorder *)t)->s, request, out) == KVMS_DONE ? KVT_DONE : KVT_NOMEM;
}

static enum kvt_status
digest(struct kvt_target *t, uint64_t *value)
{
	*value = kvms_digest(((struct recorder *)t)->s);
	return KVT_DONE;
}

static enum kvt_status
config(struct kvt_target *t, const struct kvms_op **value)
{
	*value = kvms_config(((struct recorder *)t)->s);
	return KVT_DONE;
}

static const char *
no_error(struct kvt_target *t)
{
	(void)t;
	return "";
}

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct recorder *r = arg;

	(void)base;
	r->s = kvms_new(config, why);
	if (r->s == NULL)
		return NULL;
	kvms_set_check(r->s, KVMS_CHECK_OFF, 1);
	must(r, persist_writer_save_now(r->writer, r->store, r->s, r->why, sizeof r->why));
	if (r->flush > 0 && (r->stream = persist_stream_new(r->writer, r->store, r->s)) == NULL)
		die("no memory");
	print_digest(r);
	return &r->target;
}

static void
read_key(struct recorder *r, char *text)
{
	char *value = strchr(text, '='), *end;

	if (value == NULL)
		die("expected key=value");
	*value++ = '\0';
	if (strcmp(text, "store") == 0) {
		r->store = value;
	} else if (strcmp(text, "flush") == 0) {
		r->flush = strtoull(value, NULL, 10);
	} else if (strcmp(text, "snapshot") == 0) {
		r->snapshot = strtoull(value, NULL, 10);
	} else if (strcmp(text, "restore") == 0 && r->restores < RESTORES_MAX) {
		r->at[r->restores] = strtoull(value, &end, 10);
		r->back_to[r->restores++] = strtoull(end + (*end == ':'), NULL, 10);
	} else if (strcmp(text, "journal") == 0 && strcmp(value, "no") == 0) {
		r->flush = 0;
	} else {
		die("unknown key");
	}
}

int
main(int argc, char **argv)
{
	struct recorder r = {
		.target = { .apply = record,
			    .inspect = inspect,
			    .digest = digest,
			    .config = config,
			    .error = no_error },
		.store = "default",
		.flush = 5,
	};
	struct kvt_replay run = { .arg = &r, .open = open_store, .keep_going = true };
	char error[1024];

	if (argc < 3)
		die("usage: record_history DIR TRACE [key=value ...]");
	for (int i = 3; i < argc; i++)
		read_key(&r, argv[i]);
	must(&r, persist_open(argv[1], PERSIST_CREATE, &r.db, r.why, sizeof r.why));
	must(&r, persist_writer_start(r.db, PERSIST_DURABILITY_FULL, 5, &r.writer, r.why, sizeof r.why));
	struct kvt_input *in = kvt_input_open(argv[2], error, sizeof error);
	if (in == NULL)
		die(error);
	run.print = run.report = fopen("/dev/null", "w");
	enum kvt_result result = kvt_replay(&run, in, argv[2]);
	if (result != KVT_PASSED && result != KVT_DIVERGED)
		die("the trace cannot be replayed");
	fclose(run.print);
	kvt_input_close(&in);
	persist_stream_free(&r.stream);
	if (!persist_writer_stop(&r.writer, 1000, r.why, sizeof r.why))
		die(r.why);
	persist_close(&r.db);
	kvms_free(&r.s);
	return 0;
}
