#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
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
	if (flock(state->lock, LOCK_EX | LOCK_NB) != 0) {
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
kvmd_state_open(struct kvmd_state *state, const char *dir, unsigned keep)
{
	char why[PERSIST_WHY];

	*state = (struct kvmd_state){ .dir = dir, .lock = -1 };
	if (dir == NULL) {
		kvmd_log(KVMD_WARNING, "no --state-dir: what the stores hold is lost when kvmstored ends");
		return true;
	}
	if (!dir_make(dir) || !dir_lock(state)) {
		kvmd_state_close(state);
		return false;
	}
	if (persist_open(dir, PERSIST_CREATE, &state->db, why, sizeof why) != PERSIST_OK) {
		kvmd_log(KVMD_ERROR, "the state directory %s cannot be used: %s", dir, why);
		kvmd_state_close(state);
		return false;
	}
	persist_keep(state->db, keep);
	return true;
}

void
kvmd_state_close(struct kvmd_state *state)
{
	persist_close(&state->db);
	if (state->lock >= 0)
		close(state->lock); /* the file stays: removing it would race with the next daemon */
	state->lock = -1;
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

static bool
store_load(struct kvmd_state *state, struct kvmd_stores *stores, const char *name)
{
	struct persist_snapshot snapshot;
	char why[PERSIST_WHY];
	struct kvmd_store *store;
	struct kvms *model;

	if (stores->count == stores->max) {
		kvmd_log(KVMD_ERROR, "%s holds more than %zu stores; raise --max-stores", state->dir, stores->max);
		return false;
	}
	if (persist_load(state->db, name, 0, &model, &snapshot, why, sizeof why) != PERSIST_OK) {
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": %s", name, why);
		return false;
	}
	store = kvmd_stores_add(stores, name, model);
	if (store == NULL) {
		kvms_free(&model);
		kvmd_log(KVMD_ERROR, "cannot load store \"%s\": no memory left", name);
		return false;
	}
	saved(store, &snapshot);
	kvmd_log(KVMD_INFO, "loaded store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64 ", saved %s", name,
		 snapshot.step, snapshot.digest, snapshot.taken);
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

bool
kvmd_state_load(struct kvmd_state *state, struct kvmd_store *store, uint64_t id, char *why, size_t size)
{
	struct persist_snapshot snapshot;
	struct kvms *model;

	if (state->db == NULL) {
		snprintf(why, size, "this kvmstored keeps no snapshots; start it with --state-dir DIR");
		return false;
	}
	if (persist_load(state->db, store->name, id, &model, &snapshot, why, size) != PERSIST_OK)
		return false;
	kvmd_store_replace(store, model);
	saved(store, &snapshot);
	kvmd_log(KVMD_INFO, "store \"%s\" put back to step %" PRIu64 ", digest 0x%016" PRIx64 ", saved %s", store->name,
		 snapshot.step, snapshot.digest, snapshot.taken);
	return true;
}

/* ---- Saving -------------------------------------------------------------------------- */

bool
kvmd_state_save(struct kvmd_state *state, struct kvmd_store *store, char *why, size_t size)
{
	struct persist_snapshot snapshot;

	if (state->db == NULL) {
		snprintf(why, size, "this kvmstored keeps no snapshots; start it with --state-dir DIR");
		return false;
	}
	if (store->broken[0] != '\0') {
		snprintf(why, size, "store \"%s\" is not saved, because a law broke (%s); its last snapshot stays",
			 store->name, store->broken);
		return false;
	}
	if (persist_save(state->db, store->name, store->model, &snapshot, why, size) != PERSIST_OK)
		return false;
	saved(store, &snapshot);
	kvmd_log(KVMD_INFO, "saved store \"%s\": step %" PRIu64 ", digest 0x%016" PRIx64, store->name, snapshot.step,
		 snapshot.digest);
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
		} else if (!kvmd_state_save(state, store, why, sizeof why)) {
			kvmd_log(KVMD_ERROR, "store \"%s\", step %" PRIu64 ": not saved: %s", store->name,
				 kvms_steps(store->model), why);
			done = false;
		}
	}
	return done;
}

bool
kvmd_state_forget(struct kvmd_state *state, const char *name, char *why, size_t size)
{
	enum persist_status status;

	if (state->db == NULL)
		return true;
	status = persist_drop(state->db, name, why, size);
	return status == PERSIST_OK || status == PERSIST_ABSENT;
}
