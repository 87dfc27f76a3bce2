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
				      .snapshot_every = o->snapshot_every };
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

static void
saved(struct kvmd_store *store, const struct persist_snapshot *snapshot)
{
	store->saved = true;
	store->saved_step = snapshot->step;
	store->saved_digest = snapshot->digest;
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

/* How far a long start is, once a second; in place on a terminal. */
struct progress {
	const char *store;
	struct timespec next;
	bool terminal, shown;
};

static void
on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec < p->next.tv_sec || (now.tv_sec == p->next.tv_sec && now.tv_nsec < p->next.tv_nsec))
		return;
	p->next = now;
	p->next.tv_sec++;
	p->shown = true;
	if (p->terminal)
		fprintf(stderr, "\rstore \"%s\": %" PRIu64 " of %" PRIu64 " operations replayed", p->store, done, total);
	else
		kvmd_log(KVMD_INFO, "store \"%s\": %" PRIu64 " of %" PRIu64 " operations replayed", p->store, done,
			 total);
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

static bool
store_begin(struct kvmd_state *state, struct kvmd_store *store)
{
	if (state->durability == PERSIST_DURABILITY_OFF)
		return true;
	store->journal = persist_stream_new(state->writer, store->name, store->model);
	return store->journal != NULL;
}

static bool
store_load(struct kvmd_state *state, struct kvmd_stores *stores, const char *name)
{
	struct progress progress = { .store = name, .terminal = isatty(STDERR_FILENO) };
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
	if (progress.shown && progress.terminal)
		fputc('\n', stderr);
	if (status != PERSIST_OK) {
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": %s", name, why);
		return false;
	}
	if (!loaded_check(model, name)) {
		kvms_free(&model);
		return false;
	}
	store = kvmd_stores_add(stores, name, model);
	if (store == NULL) {
		kvms_free(&model);
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": no memory left", name);
		return false;
	}
	saved(store, &rebuilt.snapshot);
	rebuilt_note(state, name, model, &rebuilt);
	if (!store_begin(state, store)) {
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": no memory left", name);
		return false;
	}
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

static bool
no_state(const struct kvmd_state *state, char *why, size_t size)
{
	if (state->db == NULL)
		snprintf(why, size, NOT_KEPT);
	return state->db == NULL;
}

/* Save on the spot; the writer has all that came before. */
static bool
save_now(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	const struct persist_snapshot snapshot = { .step = kvms_steps(store->model),
						   .digest = kvms_digest(store->model) };

	if (persist_writer_save_now(state->writer, store->name, store->model, why, size) != PERSIST_OK)
		return false;
	saved(store, &snapshot);
	kvmd_log(KVMD_INFO, "saved store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64, store->name, snapshot.step,
		 snapshot.digest);
	return true;
}

bool
kvmd_state_keep(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	if (state->db == NULL || state->durability == PERSIST_DURABILITY_OFF)
		return true;
	if (!save_now(state, store, why, size))
		return false;
	if (!store_begin(state, store)) {
		(void)persist_writer_drop(state->writer, store->name, why, size); /* it must not come back at the next start */
		snprintf(why, size, "no memory left for a journal");
		return false;
	}
	return true;
}

bool
kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	if (no_state(state, why, size))
		return false;
	if (store->broken[0] != '\0') {
		snprintf(why, size, "store \"%s\" is not saved, because a law broke (%s); its last snapshot stays",
			 store->name, store->broken);
		return false;
	}
	return save_now(state, store, why, size);
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
		} else if (!kvmd_state_save(state, store, why, sizeof why)) {
			kvmd_log(KVMD_ERROR, "store \"%s\", step %" PRIu64 ": not saved: %s", store->name,
				 kvms_steps(store->model), why);
			done = false;
		}
	}
	return done;
}

bool
kvmd_state_forget(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	enum persist_status status;
	bool kept = store->journal != NULL;

	if (state->db == NULL)
		return true;
	persist_stream_free(&store->journal);
	status = persist_writer_drop(state->writer, store->name, why, size);
	if (status == PERSIST_OK || status == PERSIST_ABSENT)
		return true;
	if (kept && !store_begin(state, store))
		snprintf(store->broken, sizeof store->broken, "its journal was lost, for lack of memory");
	return false;
}

/* ---- Going back ------------------------------------------------------------------------ */

/* Put a store into the state it had behind "step", which is in "model". */
static bool
put_back(struct kvmd_store *store, struct kvms *model, uint64_t step, char *why, size_t size)
{
	if (store->journal != NULL) {
		if (persist_stream_last(store->journal) != kvms_steps(store->model)) {
			kvms_free(&model);
			snprintf(why, size, "%s; start kvmstored again", store->broken);
			return false;
		}
		kvms_set_steps(model, kvms_steps(store->model) + 1);
		if (!persist_stream_restored(store->journal, model, step)) {
			kvms_free(&model);
			snprintf(why, size, "no memory left");
			return false;
		}
	}
	/* not flushed here: its answer waits for the number of the next flush, which must hold it */
	kvmd_store_replace(store, model);
	kvmd_log(KVMD_INFO, "store \"%s\" put back to step %" PRIu64 ", digest 0x%016" PRIx64, store->name, step,
		 kvms_digest(model));
	return true;
}

bool
kvmd_state_load(struct kvmd_state *state, struct kvmd_store *store, uint64_t id, char *why, size_t size)
{
	struct persist_snapshot snapshot;
	struct kvms *model;

	if (no_state(state, why, size) || !kvmd_state_settle(state, why, size))
		return false;
	if (persist_load(state->db, store->name, id, &model, &snapshot, why, size) != PERSIST_OK ||
	    !put_back(store, model, snapshot.step, why, size))
		return false;
	if (store->journal == NULL)
		saved(store, &snapshot);
	return true;
}

bool
kvmd_state_at(struct kvmd_state *state, struct kvmd_store *store, uint64_t step, struct kvms **model, char *why,
	      size_t size)
{
	if (no_state(state, why, size))
		return false;
	if (store->journal == NULL) {
		snprintf(why, size, "this kvmstored keeps no journal (--durability off)");
		return false;
	}
	return kvmd_state_settle(state, why, size) &&
	       persist_rebuild(state->db, store->name, step, NULL, NULL, model, NULL, why, size) == PERSIST_OK;
}

bool
kvmd_state_copy(struct kvmd_store *store, struct kvms **model, char *why, size_t size)
{
	return persist_copy(store->model, model, why, size) == PERSIST_OK;
}

bool
kvmd_state_undo(struct kvmd_state *state, struct kvmd_store *store, uint64_t steps, char *why, size_t size)
{
	uint64_t now = kvms_steps(store->model);
	struct kvms *model;

	if (steps == 0 || steps > now) {
		snprintf(why, size, "store \"%s\" has made %" PRIu64 " steps; undo takes 1 to that many", store->name,
			 now);
		return false;
	}
	if (!kvmd_state_at(state, store, now - steps, &model, why, size))
		return false;
	return put_back(store, model, now - steps, why, size);
}

/* ---- Steps ----------------------------------------------------------------------------- */

#define AHEAD_BYTES (64u << 20) /* the loop waits for the disk when it is so far ahead */

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

	store->saving = false;
	if (status == PERSIST_OK) {
		if (!store->saved || store->saved_step < snapshot->step)
			saved(store, snapshot);
		kvmd_log(KVMD_INFO, "saved store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64, store->name,
			 snapshot->step, snapshot->digest);
	} else {
		kvmd_log(KVMD_WARNING, "store \"%s\": no snapshot: %s", store->name, why);
	}
	kvmd_store_put(store);
}

/* Begin a snapshot of every store that has gone far enough since its last. */
static void
snapshots_due(struct kvmd_state *state, struct kvmd_stores *stores)
{
	for (size_t i = 0; i < stores->count; i++) {
		struct kvmd_store *store = stores->at[i];
		uint64_t from = store->saved ? store->saved_step : 0;

		if (store->saving || store->broken[0] != '\0' || kvms_steps(store->model) < store->save_after ||
		    kvms_steps(store->model) - from < state->snapshot_every)
			continue;
		store->save_after = kvms_steps(store->model) + state->snapshot_every / 10 + 1;
		if (!persist_writer_save(state->writer, store->name, store->model, on_saved, kvmd_store_get(store))) {
			kvmd_store_put(store);
			kvmd_log_limited(KVMD_WARNING, "store \"%s\": no snapshot: no memory left", store->name);
			continue;
		}
		store->saving = true;
	}
}

void
kvmd_state_flush(struct kvmd_state *state, struct kvmd_stores *stores)
{
	if (state->writer == NULL)
		return;
	persist_writer_flush(state->writer);
	if (stores != NULL && state->snapshot_every > 0)
		snapshots_due(state, stores);
	while (!state->failing && persist_writer_waiting(state->writer) > AHEAD_BYTES) {
		usleep(1000);
		state->failing = persist_writer_failing(state->writer, state->why, sizeof state->why);
	}
}

#define SETTLE_MS 5000u

bool
kvmd_state_settle(struct kvmd_state *state, char *why, size_t size)
{
	uint64_t number;

	if (state->writer == NULL)
		return true;
	persist_writer_hurry(state->writer);
	number = persist_writer_next(state->writer) - 1;
	for (unsigned ms = 0; persist_writer_written(state->writer) < number; ms++) {
		if (persist_writer_failing(state->writer, why, size))
			return false;
		if (ms == SETTLE_MS) {
			snprintf(why, size, "the disk is too slow: not all is written after %u seconds",
				 SETTLE_MS / 1000);
			return false;
		}
		usleep(1000);
	}
	return true;
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
	state->failing = persist_writer_failing(state->writer, state->why, sizeof state->why);
	if (state->failing && !failed)
		kvmd_log(KVMD_ERROR, "no store takes writes until this is mended: %s", state->why);
	else if (failed && !state->failing)
		kvmd_log(KVMD_INFO, "the journal is written again; stores take writes");
}
