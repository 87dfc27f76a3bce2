/*
 * Requests served without a socket: what each answers, what it refuses, and
 * that a refusal changes nothing.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/options.h"
#include "daemon/serve.h"
#include "store/int.h"

static struct kvmd_server server;
static struct kvmd_client client;
static struct kvmp_response answer;
static struct kvmd_options options;
static char directory[] = "/tmp/kvmstore-serve-XXXXXX";

static void
begin(const char *state_dir)
{
	options = (struct kvmd_options){
		.check = KVMS_CHECK_TOUCHED, .check_every = 1, .max_stores = 3, .keep_snapshots = 2
	};
	if (state_dir != NULL)
		snprintf(options.state_dir, sizeof options.state_dir, "%s", state_dir);
	kvmd_log_level(0); /* nothing */
	cr_assert(kvmd_server_begin(&server, &options));
}

static void
end(void)
{
	kvmd_client_end(&server, &client);
	kvmd_server_end(&server);
	memset(&client, 0, sizeof client);
}

static void
ask_as(struct kvmd_client *who, const struct kvmp_request *request)
{
	memset(&answer, 0, sizeof answer);
	kvmd_serve(&server, who, request, &answer);
	cr_assert(answer.id == request->id);
	cr_assert(answer.type != KVMP_R_NOTHING);
}

static void
ask(enum kvmp_request_type type)
{
	ask_as(&client, &(struct kvmp_request){ .id = 5, .type = type });
}

static void
hello_as(struct kvmd_client *who, const char *store)
{
	ask_as(who, &(struct kvmp_request){ .type = KVMP_HELLO, .hello = { KVMP_VERSION, store, "test", NULL, 0 } });
}

/* An operation with one list of arguments in row order. */
static void
op(const char *name, unsigned count, const uint64_t *args)
{
	const struct kvms_row *row = kvms_op_find(name);
	struct kvmp_request r = { .id = 6, .type = KVMP_OP };

	kvms_op_init(&r.op, row);
	for (unsigned i = 0; i < count; i++)
		r.op.arg[i] = args[i];
	ask_as(&client, &r);
}

static void
named(enum kvmp_request_type type, const char *name)
{
	struct kvmp_request r = { .id = 7, .type = type };

	r.store.name = name;
	kvms_op_init(&r.store.config, kvms_store_row());
	ask_as(&client, &r);
}

static void
assert_error(enum kvmp_error_code code, const char *word)
{
	cr_assert(answer.type == KVMP_R_ERROR, "type %d", answer.type);
	cr_assert(answer.error.code == code, "%s: %s", kvmp_error_word(answer.error.code), answer.error.text);
	cr_assert(strstr(answer.error.text, word) != NULL, "\"%s\" does not say %s", answer.error.text, word);
	cr_assert(!answer.error.closing);
}

static void
setup(void)
{
	begin(NULL);
	hello_as(&client, "default");
	cr_assert(answer.type == KVMP_R_HELLO);
}

TestSuite(serve, .init = setup, .fini = end);

/* ---- Hello ------------------------------------------------------------------- */

Test(serve, anything_before_hello_is_refused)
{
	struct kvmd_client other = { 0 };

	for (unsigned type = KVMP_OP; type < KVMP_REQUEST_TYPES; type++) {
		ask_as(&other, &(struct kvmp_request){ .id = type, .type = (enum kvmp_request_type)type });
		assert_error(KVMP_ERROR_HELLO_FIRST, "Hello");
	}
}

Test(serve, hello_names_server_features_and_store)
{
	struct kvmd_client other = { 0 };
	bool batch = false;

	hello_as(&other, "default");
	cr_assert(answer.type == KVMP_R_HELLO && answer.hello.version == KVMP_VERSION);
	cr_assert(strncmp(answer.hello.server, "kvmstored ", 10) == 0);
	cr_assert_str_eq(answer.hello.store->name, "default");
	for (size_t i = 0; i < answer.hello.features_count; i++) {
		batch = batch || strcmp(answer.hello.features[i], "batch") == 0;
		cr_assert_str_neq(answer.hello.features[i], "snapshots"); /* there is no state directory */
	}
	cr_assert(batch);
	kvmd_client_end(&server, &other);
}

Test(serve, second_hello_is_refused)
{
	hello_as(&client, "default");
	assert_error(KVMP_ERROR_HELLO_FIRST, "once");
}

Test(serve, hello_with_wrong_version_feature_or_store_is_refused)
{
	static const char *const features[] = { "batch", "telepathy" };
	struct kvmd_client other = { 0 };
	struct kvmp_request r = { .type = KVMP_HELLO, .hello = { 2, "default", "", NULL, 0 } };

	ask_as(&other, &r);
	assert_error(KVMP_ERROR_UNSUPPORTED, "version 1");
	r.hello = (struct kvmp_hello){ 1, "default", "", features, 2 };
	ask_as(&other, &r);
	assert_error(KVMP_ERROR_UNSUPPORTED, "telepathy");
	hello_as(&other, "nowhere");
	assert_error(KVMP_ERROR_UNKNOWN_STORE, "nowhere");
	cr_assert(!other.greeted);
	hello_as(&other, "default");
	cr_assert(answer.type == KVMP_R_HELLO);
	kvmd_client_end(&server, &other);
}

/* ---- Operations and inspection -------------------------------------------------- */

Test(serve, operation_is_applied_and_counted)
{
	op("frame_from_unused", 1, (uint64_t[]){ 0x1000 });
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0);
	cr_assert(answer.answer.outcome.field[0] == 1 && answer.answer.has_step && answer.answer.step == 1);
	op("frame_from_unused", 1, (uint64_t[]){ 0x1000 });
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name != 0);
	cr_assert(answer.answer.step == 2);
}

Test(serve, dry_run_changes_nothing)
{
	struct kvmp_request r = { .type = KVMP_OP, .dry_run = true };
	uint64_t digest = kvms_digest(client.store->model);

	kvms_op_init(&r.op, kvms_op_find("frame_alloc"));
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0 && !answer.answer.has_step);
	cr_assert(kvms_steps(client.store->model) == 0);
	cr_assert(kvms_digest(client.store->model) == digest);
}

Test(serve, argument_outside_its_type_is_refused)
{
	/* the codec refuses this too; here as a client within the process might send it */
	op("frame_alloc", 1, (uint64_t[]){ 7 });
	assert_error(KVMP_ERROR_INVALID, "type");
}

Test(serve, batch_applies_all_or_stops_where_told)
{
	const struct kvms_row *row = kvms_op_find("frame_from_unused");
	struct kvms_op ops[4];
	struct kvmp_request r = { .type = KVMP_BATCH, .batch = { ops, 4, false, false } };
	static const uint64_t paddr[4] = { 0x1000, 0x1000, 0x2000, 0x3000 };

	for (unsigned i = 0; i < 4; i++) {
		kvms_op_init(&ops[i], row);
		ops[i].arg[0] = paddr[i];
	}
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_BATCH && answer.batch.count == 4);
	cr_assert(answer.batch.answers[0].outcome.name == 0 && answer.batch.answers[1].outcome.name != 0);
	cr_assert(answer.batch.answers[3].outcome.field[0] == 3 && answer.batch.answers[3].step == 4);
	r.batch.stop = true;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_BATCH && answer.batch.count == 1);
	cr_assert(kvms_steps(client.store->model) == 5);
	r.batch.count = 0;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_BATCH && answer.batch.count == 0);
}

/* One area of 5 pages, its last 4 mapped to frames 0x1000 .. 0x4000; gives its start. */
static uint64_t
area_of_four(void)
{
	const struct kvms_row *row = kvms_op_find("kvirt_map_frames");
	static const uint64_t frames[] = { 1, 2, 3, 4 };
	struct kvmp_request r = { .type = KVMP_OP };

	for (uint64_t paddr = 0x1000; paddr <= 0x4000; paddr += 0x1000)
		op("frame_from_unused", 1, &paddr);
	kvms_op_init(&r.op, row);
	r.op.arg[kvms_arg_index(row, "area_size")] = 0x5000;
	r.op.arg[kvms_arg_index(row, "map_offset")] = 0x1000;
	r.op.arg[kvms_arg_index(row, "frames")] = 4;
	r.op.arg[kvms_arg_index(row, "prop")] = 0x40003;
	r.op.list = frames;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0);
	return answer.answer.outcome.field[kvms_result_index(row, "start")];
}

Test(serve, translate_many_answers_as_translate_does)
{
	uint64_t start = area_of_four(), va[3] = { start, start + 0x1010, UINT64_MAX };
	struct kvmp_request r = { .type = KVMP_TRANSLATE_MANY, .translate = { 0, va, 3 } };

	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_TRANSLATED && answer.translated.count == 3);
	cr_assert(answer.translated.found[0] == 0 && answer.translated.paddr[0] == 0);
	cr_assert(answer.translated.found[1] == 1 && answer.translated.paddr[1] == 0x1010);
	cr_assert(answer.translated.found[2] == 0);
	r.translate.table = 99;
	ask_as(&client, &r);
	assert_error(KVMP_ERROR_INVALID, "table 99");
}

Test(serve, extents_are_cut_to_what_was_asked)
{
	uint64_t start = area_of_four();
	struct kvmp_request r = { .type = KVMP_EXTENTS, .extents = { 0, 0, UINT64_MAX } };
	const struct kvms_extent *run;

	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_EXTENTS && answer.extents.count == 1 && !answer.extents.more);
	run = &answer.extents.runs[0];
	cr_assert(run->va == start + 0x1000 && run->paddr == 0x1000 && run->leaves == 4 && run->level == 1 &&
		  run->tracked);
	r.extents.first = start + 0x1001; /* the first leaf starts before */
	r.extents.last = start + 0x3000;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_EXTENTS && answer.extents.count == 1);
	run = &answer.extents.runs[0];
	cr_assert(run->va == start + 0x2000 && run->paddr == 0x2000 && run->leaves == 2);
	r.extents.first = start + 0x5000;
	r.extents.last = UINT64_MAX;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_EXTENTS && answer.extents.count == 0);
	r.extents.table = 99;
	ask_as(&client, &r);
	assert_error(KVMP_ERROR_INVALID, "table 99");
}

/* ---- Stores ------------------------------------------------------------------------ */

Test(serve, stores_are_created_listed_selected_and_dropped)
{
	named(KVMP_STORE_CREATE, "two");
	cr_assert(answer.type == KVMP_R_STORE);
	cr_assert_str_eq(answer.store.name, "two");
	ask(KVMP_STORE_LIST);
	cr_assert(answer.type == KVMP_R_STORES && answer.stores.count == 2);
	cr_assert_str_eq(answer.stores.stores[0].name, "default");
	cr_assert_str_eq(answer.stores.stores[1].name, "two");
	op("frame_alloc", 0, NULL);
	named(KVMP_STORE_SELECT, "two");
	cr_assert(answer.type == KVMP_R_STORE && answer.store.step == 0);
	named(KVMP_STORE_SELECT, "default");
	cr_assert(answer.type == KVMP_R_STORE && answer.store.step == 1);
	named(KVMP_STORE_DROP, "two");
	cr_assert(answer.type == KVMP_R_DONE);
	named(KVMP_STORE_SELECT, "two");
	assert_error(KVMP_ERROR_UNKNOWN_STORE, "two");
}

Test(serve, store_of_another_connection_may_vanish)
{
	struct kvmd_client other = { 0 };

	named(KVMP_STORE_CREATE, "gone");
	hello_as(&other, "gone");
	named(KVMP_STORE_DROP, "gone");
	for (unsigned i = 0; i < 2; i++) {
		ask_as(&other, &(struct kvmp_request){ .type = KVMP_SET_CHECK, .check = { KVMS_CHECK_OFF, 1 } });
		assert_error(KVMP_ERROR_UNKNOWN_STORE, "gone");
		/* a new one of the same name is another store */
		named(KVMP_STORE_CREATE, "gone");
		cr_assert(answer.type == (i == 0 ? KVMP_R_STORE : KVMP_R_ERROR));
	}
	ask_as(&other, &(struct kvmp_request){ .type = KVMP_STATUS });
	cr_assert(answer.type == KVMP_R_STATUS && answer.status.store == NULL);
	kvmd_client_end(&server, &other);
}

Test(serve, store_limits)
{
	struct kvmp_request r = { .type = KVMP_STORE_CREATE };

	named(KVMP_STORE_CREATE, "default");
	assert_error(KVMP_ERROR_STORE_EXISTS, "default");
	named(KVMP_STORE_DROP, "default");
	assert_error(KVMP_ERROR_INVALID, "default");
	named(KVMP_STORE_DROP, "other");
	assert_error(KVMP_ERROR_UNKNOWN_STORE, "other");
	r.store.name = "odd";
	kvms_op_init(&r.store.config, kvms_store_row());
	r.store.config.arg[kvms_arg_index(kvms_store_row(), "max_paddr")] = 12345;
	ask_as(&client, &r);
	assert_error(KVMP_ERROR_STORE_REFUSED, "max_paddr");
	named(KVMP_STORE_CREATE, "two");
	named(KVMP_STORE_CREATE, "three");
	cr_assert(answer.type == KVMP_R_STORE);
	named(KVMP_STORE_CREATE, "four");
	assert_error(KVMP_ERROR_LIMIT, "--max-stores");
}

Test(serve, set_check_turns_the_dial_of_one_store)
{
	ask_as(&client, &(struct kvmp_request){ .type = KVMP_SET_CHECK, .check = { KVMS_CHECK_FULL, 100 } });
	cr_assert(answer.type == KVMP_R_STORE && answer.store.check == KVMS_CHECK_FULL &&
		  answer.store.check_every == 100);
	named(KVMP_STORE_CREATE, "two");
	cr_assert(answer.store.check == KVMS_CHECK_TOUCHED);
}

Test(serve, status_says_that_nothing_is_kept)
{
	ask(KVMP_STATUS);
	cr_assert(answer.type == KVMP_R_STATUS && answer.status.state_dir == NULL);
	cr_assert(strstr(answer.status.durability, "nothing is kept") != NULL);
	cr_assert(answer.status.stores == 1 && answer.status.pid == (uint64_t)getpid());
	cr_assert(answer.status.store->config->arg[kvms_arg_index(kvms_store_row(), "max_paddr")] == 0x80000000);
}

/* ---- A broken law --------------------------------------------------------------------- */

Test(serve, broken_law_stops_writes_but_not_reads)
{
	struct kvmp_request r = { .type = KVMP_INSPECT };

	named(KVMP_STORE_CREATE, "sound");
	op("frame_from_unused", 1, (uint64_t[]){ 0x1000 });
	client.store->model->slot[1].kind = KIND_NODE; /* a data frame is never a node */
	op("frame_clone", 1, (uint64_t[]){ 1 });
	assert_error(KVMP_ERROR_STORE_BROKEN, "slot.kind_matches_usage");
	cr_assert(answer.error.findings_count >= 1);
	cr_assert(strstr(answer.error.findings[0], "object 0x1") != NULL, "%s", answer.error.findings[0]);
	op("frame_alloc", 0, NULL);
	assert_error(KVMP_ERROR_STORE_BROKEN, "step 2");
	cr_assert(kvms_steps(client.store->model) == 1);

	kvms_op_init(&r.op, kvms_request_find("frame"));
	r.op.arg[0] = 0x1000;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0);
	ask(KVMP_STATUS);
	cr_assert(strstr(answer.status.store->broken, "slot.kind_matches_usage") != NULL);
	named(KVMP_STORE_SELECT, "sound");
	op("frame_alloc", 0, NULL);
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0);
}

Test(serve, broken_law_ends_a_batch)
{
	struct kvms_op ops[3];
	struct kvmp_request r = { .type = KVMP_BATCH, .batch = { ops, 3, false, false } };

	op("frame_from_unused", 1, (uint64_t[]){ 0x1000 });
	client.store->model->slot[1].kind = KIND_NODE;
	for (unsigned i = 0; i < 3; i++)
		kvms_op_init(&ops[i], kvms_op_find(i == 1 ? "frame_clone" : "frame_alloc"));
	ops[1].arg[0] = 1;
	ask_as(&client, &r);
	cr_assert(answer.type == KVMP_R_BATCH && answer.batch.count == 1);
	ask_as(&client, &r);
	assert_error(KVMP_ERROR_STORE_BROKEN, "slot.kind_matches_usage");
}

/* ---- Snapshots ---------------------------------------------------------------------------- */

Test(serve, without_state_directory_snapshots_are_refused)
{
	ask(KVMP_SNAPSHOT_SAVE);
	assert_error(KVMP_ERROR_STATE, "--state-dir");
	ask(KVMP_SNAPSHOT_LIST);
	assert_error(KVMP_ERROR_STATE, "--state-dir");
	ask(KVMP_SNAPSHOT_LOAD);
	assert_error(KVMP_ERROR_STATE, "--state-dir");
}

static void
state_setup(void)
{
	cr_assert(mkdtemp(directory) != NULL);
	begin(directory);
	hello_as(&client, "default");
	cr_assert(answer.type == KVMP_R_HELLO);
}

static void
state_end(void)
{
	char command[128];

	end();
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	cr_assert(system(command) == 0);
}

TestSuite(state, .init = state_setup, .fini = state_end);

Test(state, saved_store_comes_back)
{
	uint64_t digest;

	ask(KVMP_STATUS);
	cr_assert(strstr(answer.status.durability, "off: what came after the last snapshot") != NULL);
	named(KVMP_STORE_CREATE, "two");
	named(KVMP_STORE_SELECT, "two");
	area_of_four();
	digest = kvms_digest(client.store->model);
	cr_assert(kvmd_state_save_all(&server.state, &server.stores));
	end();
	begin(directory);
	hello_as(&client, "two");
	cr_assert(answer.type == KVMP_R_HELLO);
	cr_assert(answer.hello.store->step == 5 && answer.hello.store->digest == digest);
	cr_assert(answer.hello.store->saved && answer.hello.store->saved_step == 5);
	ask(KVMP_STATUS);
	cr_assert(strstr(answer.status.durability, "off: what came after step 5") != NULL);
}

Test(state, snapshots_are_listed_and_put_back)
{
	uint64_t first;

	op("frame_alloc", 0, NULL);
	ask(KVMP_SNAPSHOT_SAVE);
	cr_assert(answer.type == KVMP_R_STORE && answer.store.saved && answer.store.saved_step == 1);
	op("frame_alloc", 0, NULL);
	ask(KVMP_SNAPSHOT_SAVE);
	op("frame_alloc", 0, NULL);
	ask(KVMP_SNAPSHOT_LIST);
	cr_assert(answer.type == KVMP_R_SNAPSHOTS && answer.snapshots.count == 2);
	cr_assert(answer.snapshots.snapshots[0].step == 2 && answer.snapshots.snapshots[1].step == 1);
	first = answer.snapshots.snapshots[1].id;
	ask(KVMP_SNAPSHOT_LOAD);
	/* the state of step 2, but no number means two states: a journal may be kept later */
	cr_assert(answer.type == KVMP_R_STORE && answer.store.step == 4);
	ask_as(&client, &(struct kvmp_request){ .type = KVMP_SNAPSHOT_LOAD, .snapshot = first });
	cr_assert(answer.type == KVMP_R_STORE && answer.store.step == 5);
	ask_as(&client, &(struct kvmp_request){ .type = KVMP_SNAPSHOT_LOAD, .snapshot = 999 });
	cr_assert(answer.type == KVMP_R_ERROR && answer.error.code == KVMP_ERROR_STATE);
	cr_assert(kvms_steps(client.store->model) == 5);
}

Test(state, broken_store_is_not_saved_and_can_be_put_back)
{
	op("frame_from_unused", 1, (uint64_t[]){ 0x1000 });
	ask(KVMP_SNAPSHOT_SAVE);
	op("frame_alloc", 0, NULL);
	client.store->model->slot[1].kind = KIND_NODE;
	op("frame_clone", 1, (uint64_t[]){ 1 });
	ask(KVMP_SNAPSHOT_SAVE);
	assert_error(KVMP_ERROR_STATE, "slot.kind_matches_usage");
	cr_assert(!kvmd_state_save_all(&server.state, &server.stores));
	ask(KVMP_SNAPSHOT_LOAD);
	cr_assert(answer.type == KVMP_R_STORE && answer.store.broken == NULL && answer.store.step == 3);
	op("frame_clone", 1, (uint64_t[]){ 1 });
	cr_assert(answer.type == KVMP_R_OUTCOME && answer.answer.outcome.name == 0);
}

Test(state, dropped_store_stays_away)
{
	named(KVMP_STORE_CREATE, "two");
	cr_assert(kvmd_state_save_all(&server.state, &server.stores));
	named(KVMP_STORE_DROP, "two");
	cr_assert(answer.type == KVMP_R_DONE);
	end();
	begin(directory);
	hello_as(&client, "two");
	assert_error(KVMP_ERROR_UNKNOWN_STORE, "two");
}

/* Open the state directory "path" as a second daemon would. */
static bool
second_open(struct kvmd_state *second, const char *path)
{
	static struct kvmd_options o;

	o = options;
	snprintf(o.state_dir, sizeof o.state_dir, "%s", path);
	return kvmd_state_open(second, &o);
}

Test(state, directory_is_taken_once)
{
	struct kvmd_state second;

	cr_assert(!second_open(&second, directory));
	cr_assert(second.lock == -1 && second.db == NULL);
}

Test(state, directory_that_is_none_is_refused)
{
	struct kvmd_state second;
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/file", directory);
	file = fopen(path, "w");
	cr_assert(file != NULL);
	fclose(file);
	cr_assert(!second_open(&second, path));
	snprintf(path, sizeof path, "%s/file/below", directory);
	cr_assert(!second_open(&second, path));
	snprintf(path, sizeof path, "%s/no/such", directory);
	cr_assert(!second_open(&second, path));
	snprintf(path, sizeof path, "%s/made", directory);
	cr_assert(second_open(&second, path));
	kvmd_state_close(&second);
}

Test(state, more_stores_than_allowed_refuse_the_start)
{
	struct kvmd_server again;

	named(KVMP_STORE_CREATE, "two");
	named(KVMP_STORE_CREATE, "three");
	cr_assert(kvmd_state_save_all(&server.state, &server.stores));
	end();
	options.max_stores = 2;
	cr_assert(!kvmd_server_begin(&again, &options));
	begin(directory); /* the default limit of these tests; for state_end() */
	cr_assert(server.stores.count == 3);
}
