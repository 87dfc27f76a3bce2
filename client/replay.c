/*
 * replay - a trace against a store, and the report.
 *
 * A replay through a daemon has a store of its own, made when the trace's
 * configuration is known and dropped when the replay ends, however it ends.
 */
#include "client/commands.h"
#include "client/coverage.h"
#include "client/explain.h"
#include "client/guard.h"
#include "client/output.h"
#include "client/progress.h"
#include "client/replays.h"
#include "client/report.h"
#include "client/session.h"

#include "proto/address.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DIFFERENCES_SHOWN 20u /* of one comparison */
#define EXPLAINED 5u          /* divergences that are looked into: each takes a replay */
#define LISTED 100u           /* divergences in the JSON report */

struct replaying {
	struct kvmctl *k;
	struct kvmctl_session session;
	enum kvmctl_status status;          /* of what is not the replay's own: opening, comparing */
	char made[KVMP_STORE_NAME_MAX + 1]; /* store in the daemon to drop at the end, "" = none */
	struct kvmctl_guard guard;
	struct kvmctl_comparison listing, mappings;
	struct kvmctl_stale stale;
	struct kvmctl_guess mark; /* what a mark that did not come was perhaps meant to be */
	char *marks;              /* where the candidates live, one behind the other */
	size_t marks_size;
	bool progress;
	struct timespec began;
	uint64_t from, to;
	unsigned divergences;
	struct kvt_buffer listed; /* the divergences as JSON */
	struct kvt_coverage *coverage;
};

/* ---- The store ------------------------------------------------------------------------- */

/* A name no other replay has. */
static void
name_store(const struct kvmctl *k, char name[KVMP_STORE_NAME_MAX + 1])
{
	struct timespec now;

	if (k->option[OPTION_keep] != NULL) {
		snprintf(name, KVMP_STORE_NAME_MAX + 1, "%s", k->option[OPTION_keep]);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, KVMP_STORE_NAME_MAX + 1, "replay-%ld-%lld-%09ld", (long)getpid(), (long long)now.tv_sec,
		 now.tv_nsec);
}

/* Make a store in the daemon and work on it. */
static enum kvmctl_status
make_store(struct replaying *r, const struct kvms_op *config, struct kvms_refusal *why)
{
	struct kvmp_request request = { .type = KVMP_STORE_CREATE };
	struct kvmp_response response;
	enum kvmctl_status status;
	struct kvmctl plain = *r->k;
	char name[KVMP_STORE_NAME_MAX + 1];
	struct kvms *tried = kvms_new(config, why); /* the key at fault is known here only */

	if (tried == NULL && why->key >= 0)
		return KVMCTL_USAGE;
	kvms_free(&tried);
	why->key = -1;
	plain.option[OPTION_check] = NULL; /* not the default store's dial */
	status = kvmctl_session_connect(&plain, &r->session, NULL);
	if (status != KVMCTL_OK)
		return status;
	name_store(r->k, name);
	fflush(NULL);
	if (r->k->option[OPTION_keep] == NULL &&
	    kvmctl_guard_start(&r->guard, kvmctl_socket(r->session.connection), name) != 0) {
		snprintf(r->session.error, sizeof r->session.error, "cannot start a process: %s", strerror(errno));
		return KVMCTL_CONNECTION;
	}
	request.store.name = name;
	request.store.config = *config;
	status = kvmctl_session_request(&r->session, &request, &response);
	if (status != KVMCTL_OK)
		return status;
	if (r->k->option[OPTION_keep] == NULL)
		memcpy(r->made, name, sizeof name);
	else
		kvmctl_remote_detach(r->session.target); /* it is kept as the trace leaves it */
	request.type = KVMP_STORE_SELECT;
	status = kvmctl_session_request(&r->session, &request, &response);
	if (status == KVMCTL_OK && r->k->option[OPTION_check] != NULL &&
	    r->session.target->set_check(r->session.target, r->k->check, r->k->check_every) != KVT_DONE) {
		snprintf(r->session.error, sizeof r->session.error, "%s", r->session.target->error(r->session.target));
		status = KVMCTL_CONNECTION;
	}
	return status;
}

/* Laws put to the test since this was asked last: none that is known of in a daemon. */
static void
laws_of(struct kvt_target *target, uint64_t laws[KVT_LAW_WORDS])
{
	struct kvms *store = kvt_target_store(target);

	memset(laws, 0, KVT_LAW_WORDS * sizeof *laws);
	if (store != NULL)
		kvms_laws_judged(store, laws);
}

static struct kvt_target *
open_store(void *arg, const struct kvms_op *config, const struct kvt_base *base, struct kvms_refusal *why)
{
	struct replaying *r = arg;
	uint64_t laws[KVT_LAW_WORDS];
	const struct kvmctl_trace_store want = {
		.trace = r->k->argv[0],
		.name = kvmctl_store_name(r->k),
		.config = config,
		.base = base,
	};

	why->key = -1;
	if (r->k->option[OPTION_embedded] != NULL || r->k->option[OPTION_store] != NULL) {
		r->status = kvmctl_session_open_trace(r->k, &r->session, &want, why);
	} else if (base != NULL) {
		r->status = KVMCTL_USAGE;
		snprintf(why->text, sizeof why->text,
			 "the trace starts from a saved state: use --embedded, or --store "
			 "NAME of a store in that state");
	} else {
		r->status = make_store(r, config, why);
		if (r->status != KVMCTL_OK && why->key < 0)
			kvmctl_session_why(&r->session, why);
	}
	if (r->status != KVMCTL_OK)
		return NULL;
	laws_of(r->session.target, laws); /* of its making */
	return r->session.target;
}

/* Drop what was made, keep what is to be kept. */
static void
close_store(struct replaying *r)
{
	struct kvmp_request request = { .type = KVMP_STORE_DROP };
	struct kvmp_response response;
	enum kvmctl_status status = KVMCTL_OK;

	if (r->made[0] != '\0') {
		request.store.name = r->made;
		if (kvmctl_session_request(&r->session, &request, &response) != KVMCTL_OK && r->status == KVMCTL_OK)
			kvmctl_complain("the store %s is left in the daemon: %s", r->made, r->session.error);
	}
	kvmctl_guard_end(&r->guard);
	if (r->session.target != NULL && r->session.connection == NULL && r->k->option[OPTION_keep] != NULL) {
		status = kvmctl_session_save(r->k, &r->session, r->k->option[OPTION_keep]);
		if (status != KVMCTL_OK)
			kvmctl_complain("%s", r->session.error);
	}
	if (r->status == KVMCTL_OK)
		r->status = status;
	kvmctl_session_close(&r->session);
}

/* ---- Comparing ------------------------------------------------------------------------------ */

/* Compare now.  What is wrong with the file, or the store, ends up in r->status. */
static void
compare(struct replaying *r, struct kvmctl_comparison *c, struct kvt_target *target)
{
	struct kvt_input *in;
	enum kvt_status status;
	bool readable = true;
	char error[1024];
	size_t size;
	FILE *report;

	c->done = true;
	in = kvt_input_open(c->path, error, sizeof error);
	if (in == NULL) {
		kvmctl_complain("%s", error);
		r->status = KVMCTL_UNREADABLE;
		return;
	}
	report = open_memstream(&c->text, &size);
	if (report == NULL) {
		kvmctl_complain("no memory");
		r->status = KVMCTL_UNREADABLE;
		kvt_input_close(&in);
		return;
	}
	if (c == &r->listing)
		status = kvt_compare_areas(target, in, DIFFERENCES_SHOWN, report, &c->result, &readable);
	else
		status = kvt_compare_leaves(target, in, 0, DIFFERENCES_SHOWN, report, &c->leaves, &readable);
	fclose(report);
	kvt_input_close(&in);
	if (status != KVT_DONE)
		r->status = kvmctl_complain_target(&r->session, status);
	else if (!readable)
		r->status = KVMCTL_UNREADABLE;
	else if ((!kvt_compared_equal(&c->result) || !kvt_compared_leaves_equal(&c->leaves)) && r->status == KVMCTL_OK)
		r->status = KVMCTL_DIVERGED;
}

static bool
failed_to_compare(const struct replaying *r)
{
	return r->status != KVMCTL_OK && r->status != KVMCTL_DIVERGED;
}

/* Remember a mark, in case the one that is waited for never comes. */
static void
remember_mark(struct replaying *r, const char *mark)
{
	const char *wanted = r->listing.mark != NULL ? r->listing.mark : r->mappings.mark;
	size_t length = strlen(mark) + 1;
	char *copy;

	if (wanted == NULL || length > 64 || r->marks_size + length > 65536)
		return;
	if (r->marks == NULL)
		r->marks = malloc(65536);
	if (r->marks == NULL)
		return;
	copy = memcpy(r->marks + r->marks_size, mark, length);
	r->marks_size += length;
	r->mark.word = wanted;
	kvmctl_guess_try(&r->mark, copy);
}

static bool
on_comment(void *arg, const char *text, uint64_t number, struct kvt_target *target)
{
	struct replaying *r = arg;
	struct kvmctl_comparison *const both[] = { &r->listing, &r->mappings };

	(void)number;
	text += strspn(text, "# \t");
	remember_mark(r, text);
	for (size_t i = 0; i < 2; i++) {
		if (both[i]->path == NULL || both[i]->done || both[i]->mark == NULL || strcmp(both[i]->mark, text) != 0)
			continue;
		if (target != NULL) {
			compare(r, both[i], target);
			continue;
		}
		kvmctl_complain("nothing to compare at \"# %s\": no operation stands before it", text);
		r->status = KVMCTL_USAGE;
	}
	return !failed_to_compare(r);
}

/*
 * Where a recorder dumped the page tables, and so where they are compared.  A
 * trace that has no such mark is compared at its end.
 */
static const char dump_mark[] = "DUMP1-before";

/* The trace is at its end: what was to be compared there, and what should have been before. */
static void
compare_rest(struct replaying *r, struct kvt_target *target)
{
	struct kvmctl_comparison *const both[] = { &r->listing, &r->mappings };

	for (size_t i = 0; i < 2 && !failed_to_compare(r); i++) {
		struct kvmctl_comparison *c = both[i];

		if (c->path == NULL || c->done)
			continue;
		if (c->mark == NULL || c->mark == dump_mark) {
			compare(r, c, target);
			continue;
		}
		kvmctl_complain("the trace has no comment line \"# %s\"%s%s%s", c->mark,
				r->mark.best != NULL ? "; did you mean \"" : "",
				r->mark.best != NULL ? r->mark.best : "", r->mark.best != NULL ? "\"?" : "");
		r->status = KVMCTL_USAGE;
	}
}

static const char *
first_of(const char *a, const char *b)
{
	return a != NULL ? a : b;
}

/* What to compare and when; the files are looked at now, not after minutes of replay. */
static enum kvmctl_status
set_comparisons(struct replaying *r)
{
	const char *const *option = r->k->option;
	const char *path;

	r->listing.path = option[OPTION_listing];
	r->mappings.path = option[OPTION_mappings];
	/* --at speaks of the mappings, or of the listing where that is all there is */
	r->listing.mark = first_of(option[OPTION_listing_at], r->mappings.path == NULL ? option[OPTION_at] : NULL);
	r->mappings.mark = first_of(option[OPTION_mappings_at], option[OPTION_at]);
	if (r->mappings.path == NULL)
		r->mappings.mark = NULL;
	else if (r->mappings.mark == NULL)
		r->mappings.mark = dump_mark;
	if ((r->listing.mark != NULL && r->listing.path == NULL) ||
	    (option[OPTION_mappings_at] != NULL && r->mappings.path == NULL) ||
	    (option[OPTION_at] != NULL && r->mappings.path == NULL && r->listing.path == NULL)) {
		kvmctl_complain("nothing to compare: a mark needs --listing FILE or --mappings FILE");
		return KVMCTL_USAGE;
	}
	for (int i = 0; i < 2; i++) {
		path = i == 0 ? r->listing.path : r->mappings.path;
		if (path == NULL || access(path, R_OK) == 0)
			continue;
		kvmctl_complain("%s: %s", path, strerror(errno));
		return KVMCTL_UNREADABLE;
	}
	return KVMCTL_OK;
}

/* ---- The command --------------------------------------------------------------------------------- */

static void
on_progress(void *arg, const struct kvt_statistics *so_far)
{
	struct replaying *r = arg;

	if (r->progress)
		kvmctl_progress_draw(so_far);
}

static void
on_stale(void *arg, const struct kvt_stale_warning *w)
{
	struct kvmctl_stale *stale = &((struct replaying *)arg)->stale;

	if (stale->count == stale->capacity) {
		size_t capacity = stale->capacity > 0 ? 2 * stale->capacity : 16;
		struct kvt_stale_warning *at = realloc(stale->at, capacity * sizeof *at);

		if (at == NULL)
			return; /* the text has been told all the same */
		stale->at = at;
		stale->capacity = capacity;
	}
	stale->at[stale->count++] = *w;
}

static bool
on_step(void *arg, struct kvt_target *target, const struct kvt_line *line, const struct kvms_op *op,
	const struct kvms_outcome *out, uint64_t number)
{
	struct replaying *r = arg;
	uint64_t laws[KVT_LAW_WORDS];

	(void)number;
	laws_of(target, laws);
	if (line->kind == KVT_EXPECT)
		kvt_coverage_expect(r->coverage, op, laws);
	else
		kvt_coverage_step(r->coverage, op, out, laws);
	return true;
}

/* A divergence as a JSON object; "said" are the lines of text about it. */
static void
list_divergence(struct replaying *r, const struct kvt_divergence *d, const char *said)
{
	struct kvt_buffer b = { 0 };

	kvt_putf(&r->listed, "%s{\"line\":%" PRIu64 ",\"step\":%" PRIu64 ",\"is_expectation\":%s,\"call\":",
		 r->listed.size > 0 ? "," : "", d->line->number, d->step, d->line->kind == KVT_OP ? "false" : "true");
	kvt_json_op(&r->listed, d->line->row, d->op);
	kvt_print_recorded(&b, d->line);
	kvt_puts(&r->listed, ",\"expected\":");
	kvt_json_string(&r->listed, kvt_buffer_text(&b), b.size);
	kvt_puts(&r->listed, ",\"actual\":");
	kvt_json_outcome(&r->listed, d->line->row, d->out);
	kvt_puts(&r->listed, ",\"report\":[");
	for (bool first = true; *said != '\0'; first = false) {
		size_t size = strcspn(said, "\n");

		kvt_puts(&r->listed, first ? "" : ",");
		kvt_json_string(&r->listed, said, size);
		said += size + (said[size] == '\n');
	}
	kvt_puts(&r->listed, "]}");
	kvt_buffer_free(&b);
}

static void
on_diverged(void *arg, const struct kvt_divergence *d, struct kvt_buffer *text)
{
	struct replaying *r = arg;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (r->divergences++ < EXPLAINED)
		kvmctl_explain(r->k, r->k->argv[0], d, (uint64_t)(now.tv_sec - r->began.tv_sec) * UINT64_C(1000000000),
			       text);
	if (r->k->json && r->divergences <= LISTED)
		list_divergence(r, d, kvt_buffer_text(text));
}

static const char *
verdict(enum kvmctl_status status)
{
	static const char *const words[] = {
		"passed", "failed", "failed", "failed", "diverged", "broke a law", "failed"
	};

	return words[status];
}

/* The worst of what the replay says and what happened around it. */
static enum kvmctl_status
combined(const struct replaying *r, enum kvt_result result, const struct kvt_input *in)
{
	if (result == KVT_SYNTAX && kvt_input_error(in)[0] != '\0')
		return KVMCTL_UNREADABLE;
	if (result == KVT_LAW_BROKEN)
		return KVMCTL_BROKEN;
	if (r->status != KVMCTL_OK && r->status != KVMCTL_DIVERGED)
		return r->status;
	return result != KVT_PASSED ? (enum kvmctl_status)result : r->status;
}

static enum kvmctl_status
replay(struct replaying *r, struct kvt_input *in, struct kvt_statistics *statistics)
{
	struct kvt_replay run = {
		.arg = r,
		.open = open_store,
		.comment = on_comment,
		.progress = on_progress,
		.stale = on_stale,
		.step = r->coverage != NULL ? on_step : NULL,
		.diverged = on_diverged,
		.from = r->from,
		.has_to = r->k->option[OPTION_to] != NULL,
		.to = r->to,
		.keep_going = r->k->option[OPTION_keep_going] != NULL,
		.report = stderr,
	};
	struct kvmctl_report report = { .has_state = false };
	const char *embedded = r->k->option[OPTION_embedded];
	FILE *clean = kvmctl_progress_stream();
	enum kvmctl_status status;
	enum kvt_result result;

	if (clean != NULL)
		run.report = clean;
	/* a store that was there before has the state in front of the first operation */
	run.skip = r->from > 1 && (embedded != NULL ? embedded[0] != '\0' : r->k->option[OPTION_store] != NULL);
	result = kvt_replay(&run, in, kvt_input_name(in));
	*statistics = run.statistics;
	if (clean != NULL)
		fclose(clean);
	kvmctl_progress_clear();
	if ((result == KVT_PASSED || (result == KVT_DIVERGED && run.keep_going)) && run.target != NULL)
		compare_rest(r, run.target);
	if ((result == KVT_PASSED || result == KVT_DIVERGED) && run.target != NULL) {
		enum kvt_status asked = kvmctl_report_state(run.target, &report);

		if (asked != KVT_DONE && !failed_to_compare(r))
			r->status = kvmctl_complain_target(&r->session, asked);
		else if (report.laws > 0)
			result = KVT_LAW_BROKEN;
	}
	status = combined(r, result, in);
	report.file = r->k->argv[0];
	report.divergences = kvt_buffer_text(&r->listed);
	if (run.target != NULL)
		kvmctl_report_print(r->k, &report, &run.statistics, &r->stale, &r->listing, &r->mappings,
				    verdict(status));
	return status;
}

/* The only file of the call "k". */
static enum kvmctl_status
replay_one(struct kvmctl *k, char *path, struct kvt_coverage *coverage, struct kvt_statistics *statistics)
{
	struct replaying r = { .k = k, .progress = !k->quiet && isatty(STDERR_FILENO), .coverage = coverage };
	enum kvmctl_status status;
	struct kvt_input *in;
	char error[1024];

	clock_gettime(CLOCK_MONOTONIC, &r.began);
	status = kvmctl_option_number(k, OPTION_from, 0, &r.from);
	if (status == KVMCTL_OK)
		status = kvmctl_option_number(k, OPTION_to, 0, &r.to);
	if (status == KVMCTL_OK)
		status = set_comparisons(&r);
	if (status != KVMCTL_OK)
		return status;
	in = kvt_input_open(path, error, sizeof error);
	if (in == NULL) {
		kvmctl_complain("%s", error);
		return KVMCTL_UNREADABLE;
	}
	status = replay(&r, in, statistics);
	close_store(&r);
	if (status == KVMCTL_OK)
		status = r.status;
	kvt_input_close(&in);
	free(r.listing.text);
	free(r.mappings.text);
	free(r.stale.at);
	free(r.marks);
	kvt_buffer_free(&r.listed);
	return status;
}

/* What goes with one trace only. */
static enum kvmctl_status
check_options(const struct kvmctl *k)
{
	static const enum kvmctl_option single[] = { OPTION_keep, OPTION_store,      OPTION_listing,    OPTION_mappings,
						     OPTION_at,   OPTION_listing_at, OPTION_mappings_at };

	if (k->option[OPTION_keep] != NULL && k->option[OPTION_embedded] == NULL && k->option[OPTION_store] != NULL) {
		kvmctl_complain("--store NAME runs in a store that stays anyway: leave --keep out");
		return KVMCTL_USAGE;
	}
	for (size_t i = 0; k->argc > 1 && i < sizeof single / sizeof single[0]; i++) {
		if (k->option[single[i]] == NULL)
			continue;
		kvmctl_complain("--%s goes with one trace, not with several", kvmctl_option_row(single[i])->name);
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}

/* All of it, with --coverage if "coverage" is not NULL. */
static enum kvmctl_status
replay_files(struct kvmctl *k, struct kvt_coverage *coverage, struct kvt_statistics *run)
{
	if (k->argc == 1 && k->option[OPTION_jobs] == NULL && k->option[OPTION_junit] == NULL)
		return replay_one(k, k->argv[0], coverage, run);
	return kvmctl_replay_all(k, replay_one, coverage, run);
}

enum kvmctl_status
kvmctl_replay(struct kvmctl *k)
{
	enum kvmctl_status status = check_options(k), written;
	struct kvt_statistics run = { 0 };
	struct kvt_coverage coverage;
	struct kvmctl_output out;

	if (status != KVMCTL_OK)
		return status;
	if (k->option[OPTION_coverage] == NULL)
		return replay_files(k, NULL, &run);
	status = kvmctl_output_open(&out, k->option[OPTION_coverage]);
	if (status != KVMCTL_OK)
		return status;
	if (kvt_coverage_init(&coverage)) {
		status = replay_files(k, &coverage, &run);
		kvmctl_coverage_print(k, out.file, &coverage, run.nanoseconds, k->option[OPTION_embedded] != NULL);
		written = kvmctl_output_close(&out, true);
	} else {
		kvmctl_complain("no memory");
		written = kvmctl_output_close(&out, false);
		status = KVMCTL_UNREADABLE;
	}
	kvt_coverage_free(&coverage);
	return status != KVMCTL_OK ? status : written;
}
