/*
 * admin - the daemon, its stores and snapshots.
 */
#include "client/commands.h"
#include "client/history.h"
#include "client/session.h"
#include "client/show.h"

#include "persist/snapshot.h"
#include "trace/text.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Say what is wrong and end the session. */
static enum kvmctl_status
done(struct kvmctl_session *s, enum kvmctl_status status)
{
	if (status != KVMCTL_OK)
		kvmctl_complain("%s", s->error);
	kvmctl_session_close(s);
	return status;
}

/* One question to the daemon, about the store "name" or, NULL, about none. */
static enum kvmctl_status
ask(struct kvmctl *k, struct kvmctl_session *s, const char *name, struct kvmp_request *request,
    struct kvmp_response *response)
{
	enum kvmctl_status status = kvmctl_session_connect(k, s, name);

	return status == KVMCTL_OK ? kvmctl_session_request(s, request, response) : status;
}

static bool
needs_daemon(const struct kvmctl *k)
{
	if (k->option[OPTION_embedded] == NULL)
		return true;
	kvmctl_complain("\"%s\" is about a daemon's stores: leave --embedded out", k->command->name);
	return false;
}

/* ---- A list of things, in each of the three forms ------------------------------------ */

/* What is told of one thing: names and values.  Zero-initialise. */
#define FACTS_MAX 16u
struct facts {
	unsigned count;
	const char *name[FACTS_MAX];
	bool is_bare[FACTS_MAX]; /* a number, or none: in JSON without quotes, or null */
	char value[FACTS_MAX][256];
};

static void
fact(struct facts *f, const char *name, const char *value)
{
	f->name[f->count] = name;
	snprintf(f->value[f->count++], sizeof f->value[0], "%s", value);
}

static void
fact_bool(struct facts *f, const char *name, bool value)
{
	f->is_bare[f->count] = true;
	fact(f, name, value ? "true" : "false");
}

static void
fact_number(struct facts *f, const char *name, uint64_t value)
{
	f->is_bare[f->count] = true;
	f->name[f->count] = name;
	snprintf(f->value[f->count++], sizeof f->value[0], "%" PRIu64, value);
}

static void
fact_none(struct facts *f, const char *name)
{
	f->is_bare[f->count] = true;
	f->name[f->count] = name;
	strcpy(f->value[f->count++], "none");
}

static void
fact_digest(struct facts *f, uint64_t digest)
{
	f->name[f->count] = "digest";
	snprintf(f->value[f->count++], sizeof f->value[0], "0x%016" PRIx64, digest);
}

static void
fact_check(struct facts *f, enum kvms_check check, uint64_t every)
{
	static const char *const words[] = { "off", "touched", "full" };
	char text[40];

	if (check == KVMS_CHECK_FULL && every > 1)
		snprintf(text, sizeof text, "full=%" PRIu64, every);
	else
		snprintf(text, sizeof text, "%s", words[check]);
	fact(f, "check", text);
}

static void
json_facts(struct kvt_buffer *b, const struct facts *f)
{
	for (unsigned i = 0; i < f->count; i++) {
		kvt_putf(b, "%s\"%s\":", i > 0 ? "," : "", f->name[i]);
		if (f->is_bare[i])
			kvt_puts(b, strcmp(f->value[i], "none") == 0 ? "null" : f->value[i]);
		else
			kvt_json_string(b, f->value[i], strlen(f->value[i]));
	}
}

/* A JSON object; with the configuration if there is one. */
static void
print_json(const struct facts *f, const struct kvms_op *config)
{
	struct kvt_buffer b = { 0 };

	kvt_putc(&b, '{');
	json_facts(&b, f);
	if (config != NULL) {
		kvt_puts(&b, f->count > 0 ? ",\"config\":" : "\"config\":");
		kvt_json_store(&b, config);
	}
	kvt_putc(&b, '}');
	kvmctl_show_line(&b);
	kvt_buffer_free(&b);
}

/* name=value, separated by "between", which is one character. */
static void
print_text(const struct facts *f, const struct kvms_op *config, const char *between)
{
	struct kvt_buffer b = { 0 };

	for (unsigned i = 0; i < f->count; i++)
		kvt_putf(&b, "%s%s=%s", i > 0 ? between : "", f->name[i], f->value[i]);
	if (config != NULL) {
		struct kvt_buffer store = { 0 };

		kvt_print_store(&store, config);
		for (size_t i = 0; i < store.size; i++)
			if (store.at[i] == ' ')
				store.at[i] = between[0];
		/* "store key=value ...": without the word */
		kvt_putf(&b, "%s", store.size > 5 ? store.at + 5 : "");
		kvt_buffer_free(&store);
	}
	kvmctl_show_line(&b);
	kvt_buffer_free(&b);
}

static void
table_row(struct kvmctl_table *t, const struct facts *f)
{
	if (t->columns == 0) {
		t->columns = f->count < KVMCTL_COLUMNS_MAX ? f->count : KVMCTL_COLUMNS_MAX;
		for (unsigned i = 0; i < t->columns; i++)
			kvmctl_table_add(t, f->name[i]);
	}
	for (unsigned i = 0; i < t->columns; i++)
		kvmctl_table_add(t, i < f->count ? f->value[i] : "");
}

/* One of several: a row of the table, or a line. */
static void
list_one(const struct kvmctl *k, struct kvmctl_table *t, const struct facts *f, const struct kvms_op *config)
{
	if (k->json)
		print_json(f, config);
	else if (kvmctl_show_tables(k))
		table_row(t, f);
	else
		print_text(f, config, " ");
}

/* ---- Stores --------------------------------------------------------------------------------- */

static void
store_facts(struct facts *f, const struct kvmp_store_status *store)
{
	fact(f, "name", store->name);
	fact_number(f, "step", store->step);
	fact_digest(f, store->digest);
	fact_check(f, store->check, store->check_every);
	if (store->saved)
		fact_number(f, "saved_step", store->saved_step);
	else
		fact_none(f, "saved_step");
	if (store->broken != NULL)
		fact(f, "broken", store->broken);
	else
		fact_none(f, "broken");
}

static void
show_store(const struct kvmctl *k, const struct kvmp_store_status *store)
{
	struct facts f = { 0 };

	store_facts(&f, store);
	if (k->json)
		print_json(&f, store->config);
	else
		print_text(&f, store->config, kvmctl_show_tables(k) ? "\n" : " ");
}

/* The configuration that words describe; it lives as long as the parser.  Fails having said why. */
static enum kvmctl_status
parse_config(struct kvt_parser *parser, int words, char *const *word, struct kvms_op *config)
{
	struct kvt_buffer text = { 0 };
	struct kvt_line line;
	enum kvmctl_status status = KVMCTL_OK;

	kvms_op_init(config, kvms_store_row());
	for (int i = 0; i < words; i++)
		kvt_putf(&text, "%s%s", i > 0 ? " " : "", word[i]);
	if (!kvt_parse_store(parser, kvt_buffer_text(&text), text.size, &line)) {
		kvmctl_complain("%s", kvt_parser_error(parser));
		fputs("  \"kvmctl help store create\" explains the keys\n", stderr);
		status = KVMCTL_USAGE;
	} else if (line.kind == KVT_STORE) {
		*config = line.op;
	}
	kvt_buffer_free(&text);
	return status;
}

enum kvmctl_status
kvmctl_with_config(struct kvmctl *k, int words, char *const *word,
		   enum kvmctl_status (*use)(struct kvmctl *k, const struct kvms_op *config))
{
	struct kvt_parser *parser = kvt_parser_new("configuration");
	struct kvms_refusal why;
	struct kvms_op config;
	enum kvmctl_status status;
	struct kvms *tried;

	if (parser == NULL) {
		kvmctl_complain("no memory");
		return KVMCTL_UNREADABLE;
	}
	status = parse_config(parser, words, word, &config);
	if (status == KVMCTL_OK) {
		/* a limit is the same everywhere: find out here which key breaks one */
		tried = kvms_new(&config, &why);
		if (tried == NULL && why.key >= 0) {
			kvmctl_complain("%s: %s; \"kvmctl help store create\" explains the keys",
					kvms_store_row()->args[why.key].name, why.text);
			status = KVMCTL_USAGE;
		}
		kvms_free(&tried);
	}
	if (status == KVMCTL_OK)
		status = use(k, &config);
	kvt_parser_free(&parser);
	return status;
}

static enum kvmctl_status
create(struct kvmctl *k, const struct kvms_op *config)
{
	struct kvmp_request request = { .type = KVMP_STORE_CREATE };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	struct kvmctl plain = *k;
	enum kvmctl_status status;

	plain.option[OPTION_check] = NULL; /* meant for the new store */
	request.store.name = k->argv[0];
	request.store.config = *config;
	status = ask(&plain, &s, NULL, &request, &response);
	if (status == KVMCTL_OK && k->option[OPTION_check] != NULL) {
		request.type = KVMP_STORE_SELECT;
		status = kvmctl_session_request(&s, &request, &response);
		request.type = KVMP_SET_CHECK;
		request.check.check = k->check;
		request.check.every = k->check_every;
		if (status == KVMCTL_OK)
			status = kvmctl_session_request(&s, &request, &response);
	}
	if (status == KVMCTL_OK && !k->quiet)
		show_store(k, &response.store);
	return done(&s, status);
}

enum kvmctl_status
kvmctl_store_create(struct kvmctl *k)
{
	if (!needs_daemon(k))
		return KVMCTL_USAGE;
	if (strchr(k->argv[0], '=') != NULL) {
		kvmctl_complain("the name comes first: kvmctl store create NAME %s ...", k->argv[0]);
		return KVMCTL_USAGE;
	}
	return kvmctl_with_config(k, k->argc - 1, k->argv + 1, create);
}

enum kvmctl_status
kvmctl_store_list(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_STORE_LIST };
	struct kvmctl_session s = { 0 };
	struct kvmctl_table table = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status;

	if (!needs_daemon(k))
		return KVMCTL_USAGE;
	status = ask(k, &s, NULL, &request, &response);
	for (size_t i = 0; status == KVMCTL_OK && i < response.stores.count; i++) {
		struct facts f = { 0 };

		store_facts(&f, &response.stores.stores[i]);
		list_one(k, &table, &f, response.stores.stores[i].config);
	}
	if (table.columns > 0)
		kvmctl_table_print(&table, 0);
	return done(&s, status);
}

/* Ask whoever is at the terminal; a script means what it says, and so does --yes. */
static bool
drop_is_meant(const struct kvmctl *k, const char *what)
{
	char answer[8];

	if (k->option[OPTION_yes] != NULL || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	fprintf(stderr, "drop %s? There is no way back. [y/N] ", what);
	if (fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y'))
		return true;
	fprintf(stderr, "it stays\n");
	return false;
}

enum kvmctl_status
kvmctl_store_drop(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_STORE_DROP };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status;
	char what[160];

	if (!needs_daemon(k))
		return KVMCTL_USAGE;
	snprintf(what, sizeof what, "store \"%.80s\" with its snapshots and its history", k->argv[0]);
	if (!drop_is_meant(k, what))
		return KVMCTL_NOT_OK;
	request.store.name = k->argv[0];
	status = ask(k, &s, NULL, &request, &response);
	return done(&s, status);
}

/* ---- Status ------------------------------------------------------------------------------------ */

static void
show_status(const struct kvmctl *k, const char *socket, const struct kvmp_status *status)
{
	struct facts f = { 0 };
	struct kvt_buffer b = { 0 };

	fact(&f, "server", status->server);
	fact(&f, "socket", socket);
	fact_number(&f, "pid", status->pid);
	fact_number(&f, "uptime_seconds", status->uptime_seconds);
	fact_number(&f, "connections", status->connections);
	fact_number(&f, "requests", status->requests);
	fact_number(&f, "stores", status->stores);
	fact_number(&f, "waiting", status->waiting);
	if (status->state_dir != NULL)
		fact(&f, "state_dir", status->state_dir);
	else
		fact_none(&f, "state_dir");
	fact(&f, "durability", status->durability);
	if (!k->json) {
		print_text(&f, NULL, "\n");
		if (status->store != NULL) {
			struct facts store = { 0 };

			store_facts(&store, status->store);
			store.name[0] = "store";
			print_text(&store, status->store->config, "\n");
		}
		return;
	}
	kvt_putc(&b, '{');
	json_facts(&b, &f);
	if (status->store != NULL) {
		struct facts store = { 0 };

		store_facts(&store, status->store);
		kvt_puts(&b, ",\"store\":{");
		json_facts(&b, &store);
		kvt_puts(&b, ",\"config\":");
		kvt_json_store(&b, status->store->config);
		kvt_putc(&b, '}');
	}
	kvt_putc(&b, '}');
	kvmctl_show_line(&b);
	kvt_buffer_free(&b);
}

/* A store of this process has no daemon around it. */
static enum kvmctl_status
show_embedded(const struct kvmctl *k, struct kvmctl_session *s)
{
	struct kvms *store = kvt_target_store(s->target);
	struct facts f = { 0 };

	fact_number(&f, "step", kvms_steps(store));
	fact_digest(&f, kvms_digest(store));
	if (kvms_adopted(store) != NULL) /* of what, the configuration cannot always say */
		fact(&f, "adopted", kvms_machine_name(store));
	if (k->json)
		print_json(&f, kvms_config(store));
	else
		print_text(&f, kvms_config(store), "\n");
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_status_show(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_STATUS };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status = kvmctl_session_open(k, &s);

	if (status != KVMCTL_OK)
		return status;
	if (s.connection == NULL)
		return done(&s, show_embedded(k, &s));
	status = kvmctl_session_request(&s, &request, &response);
	if (status == KVMCTL_OK)
		show_status(k, kvmctl_socket(s.connection), &response.status);
	return done(&s, status);
}

/* ---- Snapshots ----------------------------------------------------------------------------------- */

/* Ask the daemon one thing about its store, and show what the store is then. */
static enum kvmctl_status
store_request(struct kvmctl *k, struct kvmp_request *request)
{
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status;

	status = ask(k, &s, kvmctl_store_name(k), request, &response);
	if (status == KVMCTL_OK && !k->quiet)
		show_store(k, &response.store);
	return done(&s, status);
}

/* The store of this process, to a file. */
static enum kvmctl_status
save_file(struct kvmctl *k)
{
	struct kvmctl_session s = { 0 };
	enum kvmctl_status status;

	if (k->option[OPTION_embedded] == NULL) {
		kvmctl_complain(
		    "a daemon saves into its state directory: kvmctl snapshot save; to a file with --embedded only");
		return KVMCTL_USAGE;
	}
	status = kvmctl_session_open(k, &s);
	return status != KVMCTL_OK ? status : done(&s, kvmctl_session_save(k, &s, k->argv[0]));
}

enum kvmctl_status
kvmctl_snapshot_save(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_SNAPSHOT_SAVE };

	if (k->argc > 0)
		return save_file(k);
	if (k->option[OPTION_embedded] != NULL) {
		kvmctl_complain("which file? kvmctl --embedded snapshot save FILE");
		return KVMCTL_USAGE;
	}
	return store_request(k, &request);
}

struct listing {
	const struct kvmctl *k;
	struct kvmctl_table table;
};

static void
list_snapshot(struct listing *l, const struct kvmp_snapshot *snapshot)
{
	struct facts f = { 0 };

	fact(&f, "store", snapshot->store);
	fact_number(&f, "id", snapshot->id);
	fact_number(&f, "step", snapshot->step);
	fact_digest(&f, snapshot->digest);
	fact(&f, "taken", snapshot->taken);
	fact(&f, "library", snapshot->library);
	fact_bool(&f, "kept", snapshot->kept);
	list_one(l->k, &l->table, &f, NULL);
}

static bool
list_of_file(void *arg, const struct persist_snapshot *snapshot)
{
	const struct kvmp_snapshot same = {
		.store = snapshot->store,
		.id = snapshot->id,
		.step = snapshot->step,
		.digest = snapshot->digest,
		.taken = snapshot->taken,
		.library = snapshot->library,
		.kept = snapshot->kept,
	};

	list_snapshot(arg, &same);
	return true;
}

static enum kvmctl_status
list_file(const struct kvmctl *k, const char *path)
{
	struct listing l = { .k = k };
	char why[PERSIST_WHY];

	if (persist_file_list(path, list_of_file, &l, why, sizeof why) != PERSIST_OK) {
		kvmctl_complain("%s", why);
		return KVMCTL_UNREADABLE;
	}
	if (l.table.columns > 0)
		kvmctl_table_print(&l.table, 0);
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_snapshot_list(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_SNAPSHOT_LIST };
	struct kvmctl_session s = { 0 };
	struct listing l = { .k = k };
	struct kvmp_response response;
	enum kvmctl_status status;

	if (k->argc > 0)
		return list_file(k, k->argv[0]);
	if (k->option[OPTION_embedded] != NULL && k->option[OPTION_embedded][0] != '\0')
		return list_file(k, k->option[OPTION_embedded]);
	if (!needs_daemon(k))
		return KVMCTL_USAGE;
	status = ask(k, &s, NULL, &request, &response);
	for (size_t i = 0; status == KVMCTL_OK && i < response.snapshots.count; i++)
		list_snapshot(&l, &response.snapshots.snapshots[i]);
	if (l.table.columns > 0)
		kvmctl_table_print(&l.table, 0);
	return done(&s, status);
}

enum kvmctl_status
kvmctl_snapshot_load(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_SNAPSHOT_LOAD };

	if (k->option[OPTION_embedded] != NULL) {
		kvmctl_complain(
		    "--embedded=FILE works on a snapshot with any command; there is nothing to load it into");
		return KVMCTL_USAGE;
	}
	if (k->argc > 0 &&
	    (!kvt_parse_u64(k->argv[0], strlen(k->argv[0]), &request.snapshot) || request.snapshot == 0)) {
		kvmctl_complain("'%s' is no id of a snapshot: \"kvmctl snapshot list\" shows them", k->argv[0]);
		return KVMCTL_USAGE;
	}
	return store_request(k, &request);
}

enum kvmctl_status
kvmctl_snapshot_drop(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_SNAPSHOT_DROP };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status;
	char what[160];

	if (!needs_daemon(k))
		return KVMCTL_USAGE;
	if (!kvt_parse_u64(k->argv[0], strlen(k->argv[0]), &request.snapshot) || request.snapshot == 0) {
		kvmctl_complain("'%s' is no id of a snapshot: \"kvmctl snapshot list\" shows them", k->argv[0]);
		return KVMCTL_USAGE;
	}
	snprintf(what, sizeof what, "snapshot %.20s of store \"%.80s\"", k->argv[0], kvmctl_store_name(k));
	if (!drop_is_meant(k, what))
		return KVMCTL_NOT_OK;
	status = ask(k, &s, kvmctl_store_name(k), &request, &response);
	return done(&s, status);
}

static enum kvmctl_status
history_request(struct kvmctl *k, struct kvmp_request *request)
{
	if (k->option[OPTION_embedded] == NULL)
		return store_request(k, request);
	kvmctl_complain("this needs a daemon with a state directory; --embedded has no history");
	return KVMCTL_USAGE;
}

enum kvmctl_status
kvmctl_undo(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_UNDO, .undo = 1 };

	if (k->argc > 0 &&
	    (!kvt_parse_u64(k->argv[0], strlen(k->argv[0]), &request.undo) || request.undo == 0)) {
		kvmctl_complain("'%s' is no number of steps", k->argv[0]);
		return KVMCTL_USAGE;
	}
	return history_request(k, &request);
}

/* The number of "last" or "last-N". */
static enum kvmctl_status
step_from_end(struct kvmctl *k, const char *word, uint64_t *step)
{
	struct kvmp_request request = { .type = KVMP_STATUS };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;
	enum kvmctl_status status;
	uint64_t back = 0;

	if (word[4] != '\0')
		(void)kvt_parse_u64(word + 5, strlen(word + 5), &back);
	status = ask(k, &s, kvmctl_store_name(k), &request, &response);
	if (status == KVMCTL_OK && (response.status.store == NULL || response.status.store->step < back)) {
		snprintf(s.error, sizeof s.error, "%s: store \"%s\" has not made so many steps", word,
			 kvmctl_store_name(k));
		status = KVMCTL_UNREADABLE;
	}
	if (status == KVMCTL_OK)
		*step = response.status.store->step - back;
	return done(&s, status);
}

enum kvmctl_status
kvmctl_store_clone(struct kvmctl *k)
{
	struct kvmp_request request = { .type = KVMP_STORE_CLONE, .clone = { .name = k->argv[0] } };
	const char *word = k->argc > 1 ? k->argv[1] : NULL;
	enum kvmctl_status status = KVMCTL_OK;

	request.clone.has_step = word != NULL;
	if (word != NULL)
		status = kvmctl_step_check("store clone", word);
	if (status != KVMCTL_OK)
		return status;
	if (word != NULL && k->option[OPTION_embedded] == NULL && strncmp(word, "last", 4) == 0)
		status = step_from_end(k, word, &request.clone.step);
	else if (word != NULL)
		(void)kvt_parse_u64(word, strlen(word), &request.clone.step);
	return status == KVMCTL_OK ? history_request(k, &request) : status;
}
