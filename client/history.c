#include "client/history.h"

#include "client/commands.h"
#include "client/progress.h"
#include "client/show.h"

#include "trace/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- Opening -------------------------------------------------------------------- */

/*
 * Let the daemon write the steps that it holds, so that the directory has all
 * that was answered.
 */
static enum kvmctl_status
settle(struct kvmctl_session *s)
{
	struct kvmp_request request = { .type = KVMP_SETTLE };
	struct kvmp_response response;

	return kvmctl_session_request(s, &request, &response);
}

/* The state directory of the daemon, in "dir". */
static enum kvmctl_status
ask_daemon(struct kvmctl_history *h, struct kvt_buffer *dir)
{
	struct kvmctl *k = h->k;
	struct kvmp_request request = { .type = KVMP_STATUS };
	struct kvmctl_session s = { 0 };
	struct kvmp_response response;

	enum kvmctl_status status = kvmctl_session_connect(k, &s, kvmctl_store_name(k));
	if (status == KVMCTL_OK && (status = settle(&s)) == KVMCTL_UNREADABLE) {
		size_t length = strlen(s.error);

		snprintf(s.error + length, sizeof s.error - length,
			 "; what is on the disk can be asked with --state-dir DIR");
	}
	if (status == KVMCTL_OK)
		status = kvmctl_session_request(&s, &request, &response);
	if (status != KVMCTL_OK) {
		kvmctl_complain("%s", s.error);
	} else if (response.status.state_dir == NULL) {
		kvmctl_complain("the daemon keeps no history: it was started without a state directory; kvmstored "
				"--state-dir DIR keeps one");
		status = KVMCTL_UNREADABLE;
	} else {
		h->without_journal = strncmp(response.status.durability, "off", 3) == 0;
		h->recording = !h->without_journal;
		/* a relative path is relative to where the daemon runs */
		if (response.status.state_dir[0] != '/')
			kvt_putf(dir, "/proc/%" PRIu64 "/cwd/", response.status.pid);
		kvt_puts(dir, response.status.state_dir);
	}
	kvmctl_session_close(&s);
	return status;
}

enum kvmctl_status
kvmctl_history_fail(const struct kvmctl_history *h)
{
	kvmctl_complain("%s", h->why);
	return KVMCTL_UNREADABLE;
}

/* Keep daemons out of the directory while it is opened: true, with the lock or -1 in *lock, if none has it. */
static bool
keep_daemons_out(const char *dir, int *lock)
{
	struct kvt_buffer path = { 0 };

	kvt_putf(&path, "%s/kvmstored.lock", dir);
	*lock = path.failed ? -1 : open(path.at, O_RDONLY | O_CLOEXEC);
	bool missing = *lock < 0 && !path.failed && errno == ENOENT;
	kvt_buffer_free(&path);
	if (*lock < 0)
		return missing;
	return flock(*lock, LOCK_SH | LOCK_NB) == 0;
}

/* Open the directory, and look what there is of the store. */
static enum kvmctl_status
open_dir(struct kvmctl_history *h, const char *dir)
{
	int lock;
	unsigned alone = keep_daemons_out(dir, &lock) ? PERSIST_ALONE : 0;
	enum persist_status status = persist_open(dir, PERSIST_READ_ONLY | alone, &h->db, h->why, sizeof h->why);

	if (lock >= 0)
		close(lock);
	if (status == PERSIST_OK)
		status = persist_history(h->db, h->store, &h->is, h->why, sizeof h->why);
	if (status == PERSIST_OK)
		return KVMCTL_OK;
	if (status == PERSIST_ABSENT && h->without_journal)
		snprintf(h->why, sizeof h->why,
			 "no history of store \"%s\": this daemon keeps no journal (--durability off)", h->store);
	enum kvmctl_status failed = kvmctl_history_fail(h);
	persist_close(&h->db);
	return failed;
}

enum kvmctl_status
kvmctl_history_open(struct kvmctl *k, struct kvmctl_history *h)
{
	const char *dir = k->option[OPTION_state_dir];
	struct kvt_buffer asked = { 0 };
	enum kvmctl_status status = KVMCTL_OK;

	h->k = k;
	h->store = kvmctl_store_name(k);
	h->progress = !k->quiet && isatty(STDERR_FILENO);
	clock_gettime(CLOCK_MONOTONIC, &h->began);
	if (k->option[OPTION_embedded] != NULL) {
		kvmctl_complain("\"%s\" reads a state directory: give --state-dir DIR in place of --embedded",
				k->command->name);
		return KVMCTL_USAGE;
	}
	if (dir != NULL && k->option[OPTION_connect] != NULL) {
		kvmctl_complain("--state-dir works without a daemon, --connect with one: give one of them");
		return KVMCTL_USAGE;
	}
	if (dir == NULL)
		status = ask_daemon(h, &asked);
	if (status == KVMCTL_OK)
		status = open_dir(h, dir != NULL ? dir : kvt_buffer_text(&asked));
	kvt_buffer_free(&asked);
	return status;
}

void
kvmctl_history_close(struct kvmctl_history *h)
{
	kvmctl_progress_clear();
	persist_close(&h->db);
}

/* ---- Steps ------------------------------------------------------------------------ */

/* N, "last" or "last-N": true, and the number, from the end or not. */
static bool
step_parse(const char *word, bool *from_end, uint64_t *number)
{
	*from_end = strncmp(word, "last", 4) == 0;
	*number = 0;
	if (*from_end && word[4] == '\0')
		return true;
	if (*from_end && word[4] != '-')
		return false;
	word += *from_end ? 5 : 0;
	return kvt_parse_u64(word, strlen(word), number);
}

bool
kvmctl_step_is(const char *word)
{
	bool from_end;
	uint64_t number;

	return step_parse(word, &from_end, &number);
}

enum kvmctl_status
kvmctl_step_check(const char *what, const char *word)
{
	char shown[KVMCTL_SHOWN];

	if (kvmctl_step_is(word))
		return KVMCTL_OK;
	kvmctl_complain("%s '%s': expected a step: a number, last or last-N", what, kvmctl_shown(shown, word));
	return KVMCTL_USAGE;
}

static enum kvmctl_status
check_last(const struct kvmctl_history *h, uint64_t step)
{
	if (step <= h->is.latest)
		return KVMCTL_OK;
	kvmctl_complain("store \"%s\" has not come to step %" PRIu64 ", its last is %" PRIu64, h->store, step,
			h->is.latest);
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_history_step(struct kvmctl_history *h, const char *word, uint64_t *step)
{
	bool from_end;

	(void)step_parse(word, &from_end, step);
	if (from_end && *step <= h->is.latest) {
		*step = h->is.latest - *step;
	} else if (from_end) {
		kvmctl_complain("%s: the last step of store \"%s\" is %" PRIu64, word, h->store, h->is.latest);
		return KVMCTL_UNREADABLE;
	}
	return check_last(h, *step);
}

enum kvmctl_status
kvmctl_history_recorded(struct kvmctl_history *h)
{
	if (h->is.has_journal)
		return KVMCTL_OK;
	h->is.first = h->is.latest + 1;
	h->is.last = h->is.latest;
	if (h->recording && (h->is.latest == 0 || h->k->option[OPTION_live] != NULL))
		return KVMCTL_OK;
	kvmctl_complain("no step of store \"%s\" is recorded: its history begins behind step %" PRIu64, h->store,
			h->is.latest);
	return KVMCTL_UNREADABLE;
}

enum kvmctl_status
kvmctl_history_range(struct kvmctl_history *h, uint64_t first, uint64_t last, uint64_t *from, uint64_t *to)
{
	const char *given_from = h->k->option[OPTION_from], *given_to = h->k->option[OPTION_to];
	enum kvmctl_status status = KVMCTL_OK;

	*from = first;
	*to = last;
	if (given_from != NULL)
		status = kvmctl_step_check("--from", given_from);
	if (status == KVMCTL_OK && given_to != NULL)
		status = kvmctl_step_check("--to", given_to);
	if (status == KVMCTL_OK && given_from != NULL)
		status = kvmctl_history_step(h, given_from, from);
	if (status == KVMCTL_OK && given_to != NULL)
		status = kvmctl_history_step(h, given_to, to);
	if (status != KVMCTL_OK)
		return status;
	if (*from < first && *from + 1 == first)
		*from = first; /* behind step 0 comes step 1 */
	if (*from > *to && (given_from != NULL || given_to != NULL)) {
		kvmctl_complain("--from %" PRIu64 " --to %" PRIu64 ": no step lies between them", *from, *to);
		return KVMCTL_USAGE;
	}
	if (*from < first) {
		kvmctl_complain("the history of store \"%s\" begins with step %" PRIu64, h->store, first);
		return KVMCTL_UNREADABLE;
	}
	return KVMCTL_OK;
}

/* ---- States ------------------------------------------------------------------------- */

void
kvmctl_history_progress(struct kvmctl_history *h, uint64_t done, uint64_t total)
{
	struct kvt_statistics run = { .ops = done, .bytes_done = done, .bytes_total = total };
	struct timespec now;

	if (!h->progress || total == 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	run.nanoseconds =
	    (uint64_t)(now.tv_sec - h->began.tv_sec) * 1000000000 + (uint64_t)now.tv_nsec - (uint64_t)h->began.tv_nsec;
	if (run.nanoseconds / 100000000 == h->drawn)
		return;
	h->drawn = run.nanoseconds / 100000000;
	kvmctl_progress_draw(&run);
}

static void
rebuild_progress(void *arg, uint64_t done, uint64_t total)
{
	kvmctl_history_progress(arg, done, total);
}

enum kvmctl_status
kvmctl_history_rebuild(struct kvmctl_history *h, uint64_t step, struct kvms **s)
{
	enum persist_status status =
	    persist_rebuild(h->db, h->store, step, rebuild_progress, h, s, NULL, h->why, sizeof h->why);

	kvmctl_progress_clear();
	return status == PERSIST_OK ? KVMCTL_OK : kvmctl_history_fail(h);
}

enum kvmctl_status
kvmctl_history_travel(struct kvmctl_history *h, uint64_t behind, uint64_t to, bool with_state,
		      struct persist_travel **t)
{
	enum persist_status status =
	    persist_travel_new(h->db, h->store, behind, to, with_state, rebuild_progress, h, t, h->why, sizeof h->why);

	return status == PERSIST_OK ? KVMCTL_OK : kvmctl_history_fail(h);
}

enum kvmctl_status
kvmctl_history_next(struct kvmctl_history *h, struct persist_travel *t, struct persist_step *step, bool *more)
{
	enum persist_status status = persist_travel_next(t, step, h->why, sizeof h->why);

	*more = status == PERSIST_OK;
	return status == PERSIST_OK || status == PERSIST_ABSENT ? KVMCTL_OK : kvmctl_history_fail(h);
}

static enum kvmctl_status
stretch_add(struct kvmctl_stretches *all, uint64_t from, uint64_t to)
{
	if (all->count == all->capacity) {
		size_t capacity = 2 * all->capacity + 8;
		struct kvmctl_stretch *at = realloc(all->at, capacity * sizeof *at);

		if (at == NULL) {
			kvmctl_complain("no memory");
			return KVMCTL_UNREADABLE;
		}
		all->at = at;
		all->capacity = capacity;
	}
	all->at[all->count++] = (struct kvmctl_stretch){ from, to };
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_history_stretches(struct kvmctl_history *h, uint64_t from, uint64_t to, struct kvmctl_stretches *all)
{
	uint64_t step, target;
	bool found;

	for (;;) {
		if (persist_journal_restored(h->db, h->store, to, &step, &target, &found, h->why, sizeof h->why) !=
		    PERSIST_OK)
			return kvmctl_history_fail(h);
		found = found && step >= from;
		enum kvmctl_status status = stretch_add(all, found ? step + 1 : from, to);
		if (status != KVMCTL_OK || !found)
			return status;
		if (target < from - 1 || target >= step) {
			kvmctl_complain("step %" PRIu64 " put back the state behind step %" PRIu64
					": a trace of it begins there, with --from %" PRIu64 " or before",
					step, target, target + 1);
			return KVMCTL_USAGE;
		}
		to = target;
	}
}

/* ---- Steps as text -------------------------------------------------------------------- */

void
kvmctl_put_time(struct kvt_buffer *b, uint64_t microseconds)
{
	time_t seconds = (time_t)(microseconds / 1000000);
	struct tm tm;
	char text[40];

	if (gmtime_r(&seconds, &tm) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
		kvt_put_dec(b, microseconds);
		return;
	}
	kvt_putf(b, "%s.%06uZ", text, (unsigned)(microseconds % 1000000));
}

static void
put_annotations(struct kvt_buffer *b, const struct persist_step *step)
{
	kvt_putf(b, " @step=%" PRIu64, step->number);
	if (step->restored == PERSIST_NO_STEP)
		kvt_putf(b, " @connection=%" PRIu64, step->connection);
	kvt_puts(b, " @time=\"");
	kvmctl_put_time(b, step->time);
	kvt_putc(b, '"');
}

void
kvmctl_put_step(struct kvt_buffer *b, const struct persist_step *step)
{
	if (step->unrecorded != 0) {
		kvt_putf(b, "# steps %" PRIu64 " to %" PRIu64 " were not recorded", step->unrecorded, step->number);
		return;
	}
	if (step->op == NULL) {
		kvt_putf(b, "# the state behind step %" PRIu64 " was put back", step->restored);
		put_annotations(b, step);
		return;
	}
	const struct kvms_row *row = kvms_op_row(step->op->code);

	kvt_print_op(b, row, step->op);
	put_annotations(b, step);
	kvt_puts(b, " -> ");
	kvt_print_outcome(b, row, step->out);
}

void
kvmctl_json_step(struct kvt_buffer *b, const struct persist_step *step)
{
	if (step->unrecorded != 0) {
		kvt_putf(b, "{\"step\":%" PRIu64 ",\"unrecorded_from\":%" PRIu64, step->number, step->unrecorded);
		return;
	}
	kvt_putf(b, "{\"step\":%" PRIu64 ",\"time\":\"", step->number);
	kvmctl_put_time(b, step->time);
	kvt_putc(b, '"');
	if (step->op == NULL) {
		kvt_putf(b, ",\"restored\":%" PRIu64, step->restored);
		return;
	}
	kvt_putf(b, ",\"connection\":%" PRIu64 ",", step->connection);
	struct kvt_buffer whole = { 0 };

	kvmctl_json_outcome(&whole, kvms_op_row(step->op->code), step->op, step->out);
	if (whole.size > 2) /* without its braces */
		kvt_put(b, whole.at + 1, whole.size - 2);
	b->failed |= whole.failed;
	kvt_buffer_free(&whole);
}
