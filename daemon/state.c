#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/lock.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/tasks.h"
#include "proto/address.h"

#define LOCK_NAME "kvmstored.lock"

/* ---- The directory ---------------------------------------------------------------- */

static bool
dir_make(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) == 0) {
		kvmd_log(KVMD_INFO, "made the state directory %s", dir);
		return true;
	}
	if (errno != EEXIST) {
		kvmd_log(KVMD_ERROR,
			 "cannot make the state directory %s: %s; make it, or name another with --state-dir", dir,
			 strerror(errno));
		return false;
	}
	if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode)) {
		kvmd_log(KVMD_ERROR, "%s is not a directory; name another with --state-dir", dir);
		return false;
	}
	return true;
}

/* Hold DIR/kvmstored.lock, with our process id in it for whoever looks. */
static bool
dir_lock(struct kvmd_state *state)
{
	char path[PATH_MAX + sizeof LOCK_NAME + 1], text[32];
	ssize_t n;

	snprintf(path, sizeof path, "%s/%s", state->dir, LOCK_NAME);
	state->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (state->lock < 0) {
		kvmd_log(KVMD_ERROR,
			 "cannot write to the state directory: %s: %s; make it writable for user %u, or name "
			 "another with --state-dir",
			 path, strerror(errno), (unsigned)geteuid());
		return false;
	}
	if (!kvmd_lock(state->lock)) {
		n = read(state->lock, text, sizeof text - 1);
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		kvmd_log(KVMD_ERROR,
			 "the state directory %s is in use by another kvmstored%s%s; stop that one, or name "
			 "another with --state-dir",
			 state->dir, text[0] == '\0' ? "" : ", process ", text);
		return false;
	}
	n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	/* who holds it is only for people to read */
	if (ftruncate(state->lock, 0) != 0 || pwrite(state->lock, text, (size_t)n, 0) != n)
		kvmd_log(KVMD_WARNING, "cannot write to %s: %s", path, strerror(errno));
	return true;
}

bool
kvmd_state_open(struct kvmd_state *state, const struct kvmd_options *o)
{
	char why[PERSIST_WHY];

	*state = (struct kvmd_state){ .dir = o->state_dir[0] == '\0' ? NULL : o->state_dir,
				      .lock = -1,
				      .durability = o->durability,
				      .interval = o->sync_interval,
				      .snapshot_every = o->snapshot_every,
				      .snapshot_bytes = o->snapshot_bytes };
	if (state->dir == NULL) {
		kvmd_log(KVMD_WARNING, "no --state-dir: what the stores hold is lost when kvmstored ends");
		return true;
	}
	if (!dir_make(state->dir) || !dir_lock(state)) {
		kvmd_state_close(state);
		return false;
	}
	bool done = persist_open(state->dir, PERSIST_CREATE, &state->db, why, sizeof why) == PERSIST_OK;
	if (done) {
		persist_keep(state->db, o->keep_snapshots);
		if (persist_torn(state->db) > 0)
			kvmd_log(KVMD_WARNING,
				 "%s: the journal's end was torn: %" PRIu64 " bytes behind the last whole group were "
				 "dropped",
				 state->dir, persist_torn(state->db));
		done = persist_writer_start(state->db, state->durability, state->interval, &state->writer, why,
					    sizeof why) == PERSIST_OK;
	}
	if (!done) {
		kvmd_log(KVMD_ERROR, "the state directory %s cannot be used: %s", state->dir, why);
		kvmd_state_close(state);
		return false;
	}
	return true;
}

#define PATIENCE_MS 2000u /* at the end, with a disk that takes nothing */

bool
kvmd_state_close(struct kvmd_state *state)
{
	char why[PERSIST_WHY];
	bool all = persist_writer_stop(&state->writer, PATIENCE_MS, why, sizeof why);

	if (!all)
		kvmd_log(KVMD_ERROR, "the last operations are not in the journal: %s", why);
	persist_close(&state->db);
	if (state->lock >= 0)
		close(state->lock); /* the file stays: removing it would race with the next daemon */
	state->lock = -1;
	return all;
}

/* ---- Loading ------------------------------------------------------------------------ */

void
kvmd_state_is_saved(struct kvmd_store *store, const struct persist_snapshot *snapshot)
{
	store->saved = true;
	store->saved_id = snapshot->id;
	store->saved_step = snapshot->step;
	store->saved_digest = snapshot->digest;
}

/* To come to the store's present state a start repeats so much. */
static void
repeat_from_here(struct kvmd_store *store, uint64_t steps, uint64_t bytes)
{
	store->repeat = steps;
	store->repeat_bytes = bytes;
	store->from = kvms_steps(store->model);
	store->from_bytes = store->journal == NULL ? 0 : persist_stream_bytes(store->journal);
}

/* Names found while listing; each comes with its newest snapshot first. */
struct names {
	char (*at)[KVMP_STORE_NAME_MAX + 1];
	size_t count;
	size_t capacity;
	bool refused;
};

static bool
name_collect(void *arg, const struct persist_snapshot *snapshot)
{
	struct names *names = arg;

	if (!kvmp_store_name_valid(snapshot->store)) {
		kvmd_log(KVMD_ERROR,
			 "there is a snapshot of a store named \"%s\", which no store can be called; move "
			 "kvmstore.db elsewhere or remove that store with sqlite3",
			 snapshot->store);
		names->refused = true;
		return false;
	}
	if (names->count > 0 && strcmp(names->at[names->count - 1], snapshot->store) == 0)
		return true;
	if (names->count == names->capacity) {
		size_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
		void *grown = realloc(names->at, capacity * sizeof(*names->at));

		if (grown == NULL) {
			kvmd_log(KVMD_ERROR, "no memory left to list the snapshots");
			names->refused = true;
			return false;
		}
		names->at = grown;
		names->capacity = capacity;
	}
	strcpy(names->at[names->count++], snapshot->store);
	return true;
}

#define PROGRESS_FIRST_MS 500 /* what takes no longer shows none */
#define PROGRESS_MS 100

/* How far a long start is, in place on a terminal; elsewhere nobody watches. */
struct progress {
	const char *store;
	uint64_t next; /* not before, milliseconds */
	bool terminal, shown;
};

static uint64_t
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;
	uint64_t now = monotonic_ms();

	if (!p->terminal || now < p->next)
		return;
	p->next = now + PROGRESS_MS;
	p->shown = true;
	if (total == 0)
		fprintf(stderr, "\rstore \"%s\": loading a snapshot\033[K", p->store);
	else
		fprintf(stderr, "\rstore \"%s\": %" PRIu64 " of %" PRIu64 " operations replayed, %" PRIu64 "%%\033[K",
			p->store, done, total, done * 100 / total);
}

/* Say of what the store was made, and remember which snapshots were no good. */
static void
rebuilt_note(struct kvmd_state *state, const char *name, struct kvms *model, const struct persist_rebuilt *rebuilt)
{
	char why[PERSIST_WHY];

	for (unsigned i = 0; i < rebuilt->aside && i < PERSIST_ASIDE; i++) {
		kvmd_log(KVMD_WARNING,
			 "store \"%s\": snapshot %" PRIu64 " cannot be loaded and is set aside; an earlier one and the "
			 "journal gave the same state (%s)",
			 name, rebuilt->aside_id[i], rebuilt->aside_why);
		if (persist_set_aside(state->db, rebuilt->aside_id[i], rebuilt->aside_why, why, sizeof why) !=
		    PERSIST_OK)
			kvmd_log(KVMD_WARNING, "that cannot be noted: %s", why);
	}
	kvmd_log(KVMD_INFO,
		 "loaded store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64 "; snapshot of step %" PRIu64
		 ", saved %s, and %" PRIu64 " operations",
		 name, kvms_steps(model), kvms_digest(model), rebuilt->snapshot.step, rebuilt->snapshot.taken,
		 rebuilt->replayed);
}

/* Every law holds in what was loaded; else says which does not. */
static bool
loaded_check(struct kvms *model, const char *name)
{
	struct kvms_findings findings;

	if (kvms_check_all(model, &findings))
		return true;
	if (findings.count == 0)
		kvmd_log(KVMD_ERROR, "store \"%s\": no memory left to check it", name);
	else
		kvmd_log(KVMD_ERROR,
			 "store \"%s\", step %" PRIu64 ": its laws do not hold (%s); use the version of kvmstored that "
			 "wrote it, or restore a copy of the state directory",
			 name, kvms_steps(model), kvms_law_name(findings.at[0].law));
	return false;
}

bool
kvmd_state_journal(struct kvmd_state *state, struct kvmd_store *store)
{
	if (state->durability == PERSIST_DURABILITY_OFF)
		return true;
	store->journal = persist_stream_new(state->writer, store->name, store->model);
	return store->journal != NULL;
}

static bool
store_load(struct kvmd_state *state, struct kvmd_stores *stores, const char *name)
{
	struct progress progress = { .store = name,
				     .next = monotonic_ms() + PROGRESS_FIRST_MS,
				     .terminal = isatty(STDERR_FILENO) };
	struct persist_rebuilt rebuilt;
	char why[PERSIST_WHY];
	struct kvmd_store *store;
	struct kvms *model;

	if (stores->count == stores->max) {
		kvmd_log(KVMD_ERROR, "%s holds more than %zu stores; raise --max-stores", state->dir, stores->max);
		return false;
	}
	enum persist_status status = persist_rebuild(state->db, name, PERSIST_NO_STEP, on_progress, &progress, &model,
						     &rebuilt, why, sizeof why);
	if (progress.shown)
		fputs("\r\033[K", stderr);
	if (status != PERSIST_OK) {
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": %s", name, why);
		return false;
	}
	/* loading a snapshot has judged the state in it; what was replayed has not been judged */
	if (rebuilt.replayed > 0 && !loaded_check(model, name)) {
		kvms_free(&model);
		return false;
	}
	store = kvmd_stores_add(stores, name, model);
	if (store == NULL) {
		kvms_free(&model);
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": no memory left", name);
		return false;
	}
	kvmd_state_is_saved(store, &rebuilt.snapshot);
	rebuilt_note(state, name, model, &rebuilt);
	if (!kvmd_state_journal(state, store)) {
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": no memory left", name);
		return false;
	}
	repeat_from_here(store, rebuilt.replayed, rebuilt.bytes);
	return true;
}

bool
kvmd_state_load_all(struct kvmd_state *state, struct kvmd_stores *stores)
{
	struct names names = { 0 };
	char why[PERSIST_WHY];
	bool done;

	if (state->db == NULL)
		return true;
	done = persist_list(state->db, name_collect, &names, why, sizeof why) == PERSIST_OK;
	if (!done)
		kvmd_log(KVMD_ERROR, "cannot list the snapshots in %s: %s", state->dir, why);
	done = done && !names.refused;
	for (size_t i = 0; done && i < names.count; i++)
		done = store_load(state, stores, names.at[i]);
	free(names.at);
	return done;
}

/* ---- Keeping ------------------------------------------------------------------------- */

#define NOT_KEPT "this kvmstored keeps nothing; start it with --state-dir DIR"

bool
kvmd_state_none(const struct kvmd_state *state, char *why, size_t size)
{
	if (state->db == NULL)
		snprintf(why, size, NOT_KEPT);
	return state->db == NULL;
}

bool
kvmd_state_keeps(const struct kvmd_state *state)
{
	return state->db != NULL && state->durability != PERSIST_DURABILITY_OFF;
}

/* Save on the spot; the writer has all that came before. */
static bool
save_now(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	const struct persist_snapshot snapshot = { .step = kvms_steps(store->model),
						   .digest = kvms_digest(store->model) };

	if (persist_writer_save_now(state->writer, store->name, store->model, why, size) != PERSIST_OK)
		return false;
	kvmd_state_is_saved(store, &snapshot);
	kvmd_log(KVMD_INFO, "saved store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64, store->name, snapshot.step,
		 snapshot.digest);
	return true;
}

bool
kvmd_state_keep(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	if (!kvmd_state_keeps(state))
		return true;
	if (!save_now(state, store, why, size))
		return false;
	if (!kvmd_state_journal(state, store)) {
		/* it must not come back at the next start */
		(void)persist_writer_drop(state->writer, store->name, why, size);
		snprintf(why, size, "no memory left for a journal");
		return false;
	}
	return true;
}

bool
kvmd_state_save_all(struct kvmd_state *state, struct kvmd_stores *stores)
{
	bool done = true;

	if (state->db == NULL)
		return true;
	for (size_t i = 0; i < stores->count; i++) {
		struct kvmd_store *store = stores->at[i];
		char why[PERSIST_WHY];

		if (store->saved && store->saved_step == kvms_steps(store->model) &&
		    store->saved_digest == kvms_digest(store->model)) {
			kvmd_log(KVMD_INFO, "store \"%s\" is as it was saved: step %" PRIu64 ", digest 0x%016" PRIx64,
				 store->name, store->saved_step, store->saved_digest);
		} else if (store->broken[0] != '\0') {
			kvmd_log(KVMD_ERROR,
				 "store \"%s\", step %" PRIu64 ": not saved, because a law broke (%s); its last snapshot stays",
				 store->name, kvms_steps(store->model), store->broken);
			done = false;
		} else if (!save_now(state, store, why, sizeof why)) {
			kvmd_log(KVMD_ERROR, "store \"%s\", step %" PRIu64 ": not saved: %s", store->name,
				 kvms_steps(store->model), why);
			done = false;
		}
	}
	return done;
}

/* ---- Snapshots ------------------------------------------------------------------------- */

static uint64_t
microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

bool
kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, bool hold, persist_saved *done, void *arg)
{
	uint64_t began = microseconds();

	store->saving_bytes = store->journal == NULL ? 0 : persist_stream_bytes(store->journal);
	store->saving = hold ? persist_writer_hold(state->writer, store->name, store->model, done, arg)
			     : persist_writer_save(state->writer, store->name, store->model, done, arg);
	if (store->saving)
		kvmd_log(KVMD_INFO, "store \"%s\": snapshot begun: step %" PRIu64 ", stood still for %" PRIu64 " us",
			 store->name, kvms_steps(store->model), microseconds() - began);
	return store->saving;
}

void
kvmd_state_saved(struct kvmd_store *store, enum persist_status status, const struct persist_snapshot *snapshot,
		 const char *why)
{
	store->saving = false;
	if (status != PERSIST_OK) {
		kvmd_log(KVMD_WARNING, "store \"%s\": no snapshot: %s", store->name, why);
		return;
	}
	if (!store->saved || store->saved_step <= snapshot->step)
		kvmd_state_is_saved(store, snapshot);
	/* else: it was put back meanwhile to a state that this one does not lead to */
	if (store->from <= snapshot->step) {
		store->repeat = store->repeat_bytes = 0;
		store->from = snapshot->step;
		store->from_bytes = store->saving_bytes;
	}
	kvmd_log(KVMD_INFO, "saved store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64, store->name, snapshot->step,
		 snapshot->digest);
}

void
kvmd_state_dropped(struct kvmd_state *state, struct kvmd_store *store, uint64_t id)
{
	kvmd_log(KVMD_INFO, "store \"%s\": dropped snapshot %" PRIu64, store->name, id);
	if (store->saved_id != 0 && store->saved_id != id)
		return;
	/* how much a start would repeat now is not known: one more is due */
	store->saved = false;
	store->saved_id = 0;
	store->repeat = state->snapshot_every;
	store->repeat_bytes = state->snapshot_bytes;
	store->save_after = 0;
}

/* ---- Going back ------------------------------------------------------------------------ */

bool
kvmd_state_put_back(struct kvmd_state *state, struct kvmd_store *store, struct kvms *model, uint64_t step,
		    uint64_t repeat, uint64_t bytes, char *why, size_t size)
{
	if (store->journal != NULL && persist_stream_last(store->journal) != kvms_steps(store->model)) {
		kvms_free(&model);
		snprintf(why, size, "%s; start kvmstored again", store->broken);
		return false;
	}
	/* also without a journal: with one later on, a number must not mean two states */
	kvms_set_steps(model, kvms_steps(store->model) + 1);
	if (store->journal != NULL && !persist_stream_restored(store->journal, model, step)) {
		kvms_free(&model);
		snprintf(why, size, "no memory left");
		return false;
	}
	/* not flushed here: its answer waits for the number of the next flush, which must hold it */
	kvmd_store_replace(store, model);
	/* the snapshot it was made from may be one that goes before long: then this is as good as a guess */
	repeat_from_here(store, repeat, bytes);
	if (store->saving) {
		store->repeat = state->snapshot_every;
		store->save_after = 0;
	}
	kvmd_log(KVMD_INFO, "store \"%s\" put back to step %" PRIu64 ", digest 0x%016" PRIx64, store->name, step,
		 kvms_digest(model));
	return true;
}

/* ---- Steps ----------------------------------------------------------------------------- */

bool
kvmd_state_step(struct kvmd_state *state, struct kvmd_store *store, uint64_t connection, const struct kvms_op *op,
		const struct kvms_outcome *out)
{
	(void)state;
	if (store->journal == NULL || persist_stream_add(store->journal, connection, op, out))
		return true;
	kvmd_log(KVMD_ERROR,
		 "store \"%s\": no memory left to note step %" PRIu64 " in the journal; it takes no more writes until "
		 "kvmstored is started again, which brings back the step before",
		 store->name, kvms_steps(store->model));
	snprintf(store->broken, sizeof store->broken, "its journal ends before step %" PRIu64 ", for lack of memory",
		 kvms_steps(store->model));
	return false;
}

static void
on_saved(void *arg, enum persist_status status, const struct persist_snapshot *snapshot, const char *why)
{
	struct kvmd_store *store = arg;

	kvmd_state_saved(store, status, snapshot, why);
	kvmd_held_again(&store->held);
	kvmd_store_put(store);
}

/* True if a start would repeat as much as it may. */
static bool
is_due(const struct kvmd_state *state, const struct kvmd_store *store)
{
	uint64_t steps = store->repeat + (kvms_steps(store->model) - store->from);
	uint64_t bytes = store->journal == NULL
			     ? 0
			     : store->repeat_bytes + (persist_stream_bytes(store->journal) - store->from_bytes);

	return (state->snapshot_every > 0 && steps >= state->snapshot_every) ||
	       (state->snapshot_bytes > 0 && bytes >= state->snapshot_bytes);
}

/* Begin a snapshot of every store that has gone far enough since its last. */
static void
snapshots_due(struct kvmd_state *state, struct kvmd_stores *stores)
{
	for (size_t i = 0; i < stores->count; i++) {
		struct kvmd_store *store = stores->at[i];
		uint64_t now = kvms_steps(store->model);

		if (store->saving || store->dropping || store->broken[0] != '\0' || now < store->save_after ||
		    !is_due(state, store))
			continue;
		store->save_after = now + (now - store->from) / 10 + 1;
		if (!kvmd_state_save(state, store, false, on_saved, kvmd_store_get(store))) {
			kvmd_store_put(store);
			kvmd_log_limited(KVMD_WARNING, "store \"%s\": no snapshot: no memory left", store->name);
		}
	}
}

#define AHEAD_BYTES (64u << 20) /* with so much to be written no more is taken ... */
#define AGAIN_BYTES (32u << 20) /* until it is no more than this */

void
kvmd_state_flush(struct kvmd_state *state, struct kvmd_stores *stores)
{
	if (state->writer == NULL)
		return;
	persist_writer_flush(state->writer);
	if (stores != NULL)
		snapshots_due(state, stores);
	if (!state->ahead)
		state->ahead = persist_writer_waiting(state->writer) > AHEAD_BYTES;
}

uint64_t
kvmd_state_hurry(struct kvmd_state *state)
{
	if (state->writer == NULL)
		return 0;
	persist_writer_hurry(state->writer);
	return persist_writer_next(state->writer) - 1;
}

uint64_t
kvmd_state_number(const struct kvmd_state *state)
{
	return state->writer == NULL || state->durability != PERSIST_DURABILITY_FULL
		   ? 0
		   : persist_writer_next(state->writer);
}

uint64_t
kvmd_state_written(const struct kvmd_state *state)
{
	return state->writer == NULL ? UINT64_MAX : persist_writer_written(state->writer);
}

int
kvmd_state_fd(const struct kvmd_state *state)
{
	return state->writer == NULL ? -1 : persist_writer_fd(state->writer);
}

void
kvmd_state_heard(struct kvmd_state *state)
{
	bool failed = state->failing;

	persist_writer_heard(state->writer);
	persist_writer_finished(state->writer);
	state->ahead = state->ahead && persist_writer_waiting(state->writer) > AGAIN_BYTES;
	state->failing = persist_writer_failing(state->writer, state->why, sizeof state->why);
	if (state->failing && !failed)
		kvmd_log(KVMD_ERROR, "no store takes writes until this is mended: %s", state->why);
	else if (failed && !state->failing)
		kvmd_log(KVMD_INFO, "the journal is written again; stores take writes");
}
