#include "client/session.h"

#include "persist/snapshot.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>

static enum kvmctl_status
fail(struct kvmctl_session *s, enum kvmctl_status status, const char *text)
{
	if (text != s->error)
		snprintf(s->error, sizeof s->error, "%s", text);
	return status;
}

/* What a refusal means for the exit status, and what to do about it where the daemon cannot know. */
static const struct {
	enum kvmp_error_code code;
	enum kvmctl_status status;
	const char *advice;
} refusals[] = {
	{ KVMP_ERROR_INVALID, KVMCTL_USAGE, "" },
	{ KVMP_ERROR_STORE_BROKEN, KVMCTL_BROKEN, "" },
	{ KVMP_ERROR_STATE, KVMCTL_UNREADABLE, "" },
	{ KVMP_ERROR_UNKNOWN_STORE, KVMCTL_CONNECTION, "; \"kvmctl store list\" shows those there are" },
	{ KVMP_ERROR_STORE_EXISTS, KVMCTL_CONNECTION, "; take another name, or end it with \"kvmctl store drop\"" },
};

static enum kvmctl_status
fail_connection(struct kvmctl_session *s, const struct kvmctl_failure *why)
{
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
		if (why->kind != KVMCTL_REFUSED || why->code != refusals[i].code)
			continue;
		snprintf(s->error, sizeof s->error, "%s%s", why->text, refusals[i].advice);
		return refusals[i].status;
	}
	return fail(s, KVMCTL_CONNECTION, why->text);
}

static enum kvmctl_status
fail_persist(struct kvmctl_session *s)
{
	return fail(s, KVMCTL_UNREADABLE, s->error);
}

/* Turn the dial, if that was asked for. */
static enum kvmctl_status
set_check(const struct kvmctl *k, struct kvmctl_session *s)
{
	enum kvt_status status;

	if (k->option[OPTION_check] == NULL)
		return KVMCTL_OK;
	status = s->target->set_check(s->target, k->check, k->check_every);
	if (status == KVT_DONE)
		return KVMCTL_OK;
	return fail(s, KVMCTL_CONNECTION, s->target->error(s->target));
}

const char *
kvmctl_store_name(const struct kvmctl *k)
{
	return k->option[OPTION_store] != NULL ? k->option[OPTION_store] : "default";
}

enum kvmctl_status
kvmctl_session_connect(const struct kvmctl *k, struct kvmctl_session *s, const char *store)
{
	struct kvmctl_failure why;

	s->connection = kvmctl_connect(k->option[OPTION_connect], store, "kvmctl", &why);
	if (s->connection == NULL)
		return fail_connection(s, &why);
	s->target = kvmctl_remote_target(s->connection);
	if (s->target == NULL)
		return fail(s, KVMCTL_CONNECTION, "no memory");
	return set_check(k, s);
}

enum kvmctl_status
kvmctl_session_embed(const struct kvmctl *k, struct kvmctl_session *s, struct kvms *store)
{
	s->target = kvt_target_embedded(store, true);
	if (s->target == NULL) {
		kvms_free(&store);
		return fail(s, KVMCTL_UNREADABLE, "no memory");
	}
	return set_check(k, s);
}

enum kvmctl_status
kvmctl_session_load(const struct kvmctl *k, struct kvmctl_session *s, const char *path)
{
	struct kvms *store;

	if (persist_file_load(path, k->option[OPTION_store], 0, &store, NULL, s->error, sizeof s->error) != PERSIST_OK)
		return fail_persist(s);
	return kvmctl_session_embed(k, s, store);
}

enum kvmctl_status
kvmctl_session_save(const struct kvmctl *k, struct kvmctl_session *s, const char *path)
{
	struct kvms *store = kvt_target_store(s->target);

	if (persist_file_save(path, kvmctl_store_name(k), store, NULL, s->error, sizeof s->error) != PERSIST_OK)
		return fail_persist(s);
	return KVMCTL_OK;
}

static enum kvmctl_status
open_embedded(const struct kvmctl *k, struct kvmctl_session *s)
{
	const char *path = k->option[OPTION_embedded];
	struct kvms_refusal why;
	struct kvms *store;

	if (path[0] != '\0')
		return kvmctl_session_load(k, s, path);
	store = kvms_new(NULL, &why);
	if (store == NULL)
		return fail(s, KVMCTL_UNREADABLE, why.text);
	return kvmctl_session_embed(k, s, store);
}

enum kvmctl_status
kvmctl_session_open(const struct kvmctl *k, struct kvmctl_session *s)
{
	enum kvmctl_status status;

	if (k->shell != NULL) {
		*s = *k->shell;
		s->borrowed = true;
		return KVMCTL_OK;
	}
	if (k->option[OPTION_embedded] != NULL)
		status = open_embedded(k, s);
	else
		status = kvmctl_session_connect(k, s, kvmctl_store_name(k));
	if (status != KVMCTL_OK) {
		kvmctl_complain("%s", s->error);
		kvmctl_session_close(s);
	}
	return status;
}

void
kvmctl_session_why(const struct kvmctl_session *s, struct kvms_refusal *why)
{
	size_t length = strlen(s->error);

	if (length < sizeof why->text) {
		memcpy(why->text, s->error, length + 1);
		return;
	}
	kvmctl_complain("%s", s->error);
	strcpy(why->text, "as said above");
}

/* ---- The store of a trace ---------------------------------------------------- */

static bool
same_value(const struct kvms_op *a, const struct kvms_op *b, unsigned key)
{
	const struct kvms_row *row = kvms_store_row();
	const uint64_t *x, *y;
	uint64_t count;

	if (a->arg[key] != b->arg[key])
		return false;
	if (!kvms_type_is_list(row->args[key].type))
		return true;
	x = kvms_op_list(a, row, key, &count);
	y = kvms_op_list(b, row, key, &count);
	return count == 0 || memcmp(x, y, count * kvms_type_arity(row->args[key].type) * sizeof *x) == 0;
}

static void
print_key(struct kvt_buffer *b, const struct kvms_op *config, unsigned key)
{
	const struct kvms_row *row = kvms_store_row();
	const struct kvms_field *f = &row->args[key];
	const uint64_t *list = NULL;
	uint64_t count;

	if (kvms_type_is_list(f->type))
		list = kvms_op_list(config, row, key, &count);
	kvt_putf(b, "%s=", f->name);
	kvt_print_value(b, f->type, config->arg[key], list);
}

/* "want" has every key filled in; "given", if not NULL, is what was asked for: its defaults do not count. */
static enum kvmctl_status
compare_keys(struct kvmctl_session *s, const struct kvms_op *want, const struct kvms_op *have,
	     const struct kvms_op *given)
{
	const struct kvms_row *row = kvms_store_row();
	struct kvt_buffer b = { 0 };

	for (unsigned i = 0; i < row->args_count; i++) {
		if (same_value(want, have, i) || (given != NULL && given->arg[i] == row->args[i].value))
			continue;
		kvt_puts(&b, "the trace is for a store with ");
		print_key(&b, want, i);
		kvt_puts(&b, ", this one has ");
		print_key(&b, have, i);
		fail(s, KVMCTL_USAGE, kvt_buffer_text(&b));
		kvt_buffer_free(&b);
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}

/* Is the store of the session configured as the trace asks? */
static enum kvmctl_status
compare_config(struct kvmctl_session *s, const struct kvmctl_trace_store *want, struct kvms_refusal *why)
{
	enum kvmctl_status status;
	const struct kvms_op *have;
	struct kvms *filled_in;

	if (s->target->config(s->target, &have) != KVT_DONE)
		return fail(s, KVMCTL_CONNECTION, s->target->error(s->target));
	filled_in = kvms_new(want->config, why);
	if (filled_in == NULL)
		return fail(s, KVMCTL_USAGE, why->text);
	status = compare_keys(s, kvms_config(filled_in), have, want->given_only ? want->config : NULL);
	kvms_free(&filled_in);
	return status;
}

/* The file that a base line names, beside the trace. */
static enum kvmctl_status
load_base(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_trace_store *want)
{
	const char *snapshot = want->base->snapshot, *slash = strrchr(want->trace, '/');
	struct kvt_buffer path = { 0 };
	enum kvmctl_status status;

	if (snapshot == NULL)
		return fail(s, KVMCTL_USAGE,
			    "the trace starts from a saved state and names no file: say which with --embedded=FILE");
	if (snapshot[0] != '/' && slash != NULL)
		kvt_put(&path, want->trace, (size_t)(slash - want->trace) + 1);
	kvt_puts(&path, snapshot);
	status = kvmctl_session_load(k, s, kvt_buffer_text(&path));
	kvt_buffer_free(&path);
	return status;
}

static enum kvmctl_status
embed_fresh(const struct kvmctl *k, struct kvmctl_session *s, const struct kvms_op *config, struct kvms_refusal *why)
{
	struct kvms *store = kvms_new(config, why);

	if (store == NULL)
		return fail(s, why->key >= 0 ? KVMCTL_USAGE : KVMCTL_UNREADABLE, why->text);
	return kvmctl_session_embed(k, s, store);
}

enum kvmctl_status
kvmctl_session_open_trace(const struct kvmctl *k, struct kvmctl_session *s, const struct kvmctl_trace_store *want,
			  struct kvms_refusal *why)
{
	const char *embedded = k->option[OPTION_embedded];
	enum kvmctl_status status;

	why->key = -1;
	if (embedded == NULL)
		status = kvmctl_session_connect(k, s, want->name);
	else if (embedded[0] != '\0')
		status = kvmctl_session_load(k, s, embedded);
	else if (want->base != NULL)
		status = load_base(k, s, want);
	else
		status = embed_fresh(k, s, want->config, why);
	if (status == KVMCTL_OK && (embedded == NULL || embedded[0] != '\0' || want->base != NULL))
		status = compare_config(s, want, why);
	if (status != KVMCTL_OK)
		kvmctl_session_why(s, why);
	return status;
}

void
kvmctl_session_close(struct kvmctl_session *s)
{
	if (s->borrowed) {
		s->target = NULL;
		s->connection = NULL;
		return;
	}
	kvt_target_close(&s->target);
	kvmctl_disconnect(&s->connection);
}

enum kvmctl_status
kvmctl_session_request(struct kvmctl_session *s, struct kvmp_request *request, struct kvmp_response *response)
{
	struct kvmctl_failure why;

	if (kvmctl_request(s->connection, request, response, &why))
		return KVMCTL_OK;
	return fail_connection(s, &why);
}

enum kvt_status
kvmctl_session_dry_run(struct kvmctl_session *s, const struct kvms_op *op, struct kvms_outcome *out)
{
	if (s->connection != NULL)
		return kvmctl_remote_dry_run(s->target, op, out);
	switch (kvms_dry_run(kvt_target_store(s->target), op, out)) {
	case KVMS_DONE:
		return KVT_DONE;
	case KVMS_BROKEN:
		return KVT_BROKEN;
	case KVMS_INVALID:
		return KVT_INVALID;
	case KVMS_NOMEM:
		break;
	}
	return KVT_NOMEM;
}

bool
kvmctl_row_opens(const struct kvms_row *row)
{
	return strcmp(row->name, "cursor_open") == 0 || strcmp(row->name, "cursor_open_mut") == 0;
}

/* The cursors of a wait cycle, and what they mean. */
static void
cycle_explain(const struct kvmctl_block *block)
{
	struct kvt_buffer text = { 0 };

	for (size_t i = 0; i < block->count; i++)
		kvt_putf(&text, "%s%" PRIu64, i == 0 ? "" : ", ", block->cursors[i]);
	if (block->count == 1)
		kvmctl_complain("it does not wait: cursor %s belongs to this connection itself",
				kvt_buffer_text(&text));
	else
		kvmctl_complain("it does not wait: cursors %s belong to connections that wait for one another, this "
				"one among them",
				kvt_buffer_text(&text));
	kvt_buffer_free(&text);
}

enum kvt_status
kvmctl_session_open_cursor(const struct kvmctl *k, struct kvmctl_session *s, const struct kvms_op *op,
			   struct kvms_outcome *out)
{
	enum kvt_status status = kvmctl_remote_open(s->target, op, k->wait_ms, k->option[OPTION_detached] != NULL, out);
	const struct kvmctl_block *block = kvmctl_last_block(s->connection);

	if (status != KVT_DONE || out->name == 0)
		return status;
	if (block->count > 0)
		cycle_explain(block);
	if (block->held_back)
		kvmctl_complain("no lock is in its way, but an open that waits for longer; it was not applied");
	return status;
}

enum kvmctl_status
kvmctl_complain_target(struct kvmctl_session *s, enum kvt_status status)
{
	static const struct {
		const char *text; /* where the target has none */
		enum kvmctl_status status;
	} answers[] = {
		[KVT_DONE] = { "", KVMCTL_OK },
		[KVT_BROKEN] = { "a law of the model broke: this store takes no more operations", KVMCTL_BROKEN },
		[KVT_LOST] = { "the connection is gone", KVMCTL_CONNECTION },
		[KVT_READ_ONLY] = { "this store takes no operations", KVMCTL_CONNECTION },
		[KVT_NOMEM] = { "no memory", KVMCTL_CONNECTION },
		[KVT_INVALID] = { "an argument is outside its type", KVMCTL_USAGE },
	};
	const char *text = s->target->error(s->target);

	kvmctl_complain("%s", text != NULL && text[0] != '\0' ? text : answers[status].text);
	return answers[status].status;
}
