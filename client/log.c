/*
 * log - the past of a store: its steps, what became of one thing in it, the
 * state behind any step.
 */
#include "client/commands.h"
#include "client/history.h"
#include "client/progress.h"
#include "client/show.h"
#include "client/watch.h"

#include "trace/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- The state behind a step ------------------------------------------------------------ */

/* Put the state behind the step that the call in "arg" names into the session. */
static enum kvmctl_status
open_state(struct kvmctl *k, struct kvmctl_session *session, void *arg)
{
	struct kvmctl_history h = { .k = NULL };
	struct kvmctl *call = arg;
	struct kvms *s = NULL;
	uint64_t step = 0;

	enum kvmctl_status status = kvmctl_history_open(call, &h);
	if (status == KVMCTL_OK)
		status = kvmctl_history_step(&h, call->argv[0], &step);
	if (status == KVMCTL_OK)
		status = kvmctl_history_rebuild(&h, step, &s);
	kvmctl_history_close(&h);
	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_session_embed(k, session, s);
	if (status != KVMCTL_OK)
		kvmctl_complain("%s", session->error);
	return status;
}

/* Are the words one request and its arguments, each a word? */
static bool
is_one_request(int words, char *const *word)
{
	for (int i = 0; i < words; i++)
		if (strpbrk(word[i], " \t\n") != NULL || (i > 0 && strchr(word[i], '=') == NULL))
			return false;
	return strcmp(word[0], "-") != 0;
}

enum kvmctl_status
kvmctl_at(struct kvmctl *k)
{
	struct kvmctl asked = *k;
	struct kvt_buffer text = { 0 };

	enum kvmctl_status status = kvmctl_step_check("at", k->argv[0]);
	if (status != KVMCTL_OK)
		return status;
	asked.argc = k->argc - 1;
	asked.argv = k->argv + 1;
	if (is_one_request(asked.argc, asked.argv)) {
		for (int i = 0; i < asked.argc; i++)
			kvt_putf(&text, "%s%s", i > 0 ? " " : "", asked.argv[i]);
		asked.command = NULL; /* as if the request had been the command */
		asked.argc = 1;
		asked.argv = &text.at;
	}
	status = kvmctl_exec_requests(&asked, open_state, k);
	kvt_buffer_free(&text);
	return status;
}

/* ---- Which steps ------------------------------------------------------------------------------ */

struct log {
	struct kvmctl *k;
	struct kvmctl_history h;
	const struct kvms_row *op; /* only this one; NULL: all */
	struct kvmctl_watch watch[KVMCTL_WATCHED];
	uint64_t key[KVMCTL_WATCHED]; /* of the watches that are */
	bool watched[KVMCTL_WATCHED];
	bool story; /* tell what changed */
	bool trace;
	uint64_t from, to;
	uint64_t total, done; /* steps, for the bar */
	uint64_t told;        /* steps told */
	uint64_t skipped;     /* steps since then that were not */
	struct kvt_buffer line;
};

static const enum kvmctl_option watch_options[KVMCTL_WATCHED] = {
	[KVMCTL_FRAME] = OPTION_frame, [KVMCTL_AREA] = OPTION_area, [KVMCTL_VA] = OPTION_va
};

static bool
any_watch(const struct log *l)
{
	return l->watched[KVMCTL_FRAME] || l->watched[KVMCTL_AREA] || l->watched[KVMCTL_VA];
}

/* The filters in the options. */
static enum kvmctl_status
read_filters(struct log *l)
{
	const char *name = l->k->option[OPTION_op];
	char shown[KVMCTL_SHOWN];
	bool is_request = false;

	for (unsigned i = 0; i < KVMCTL_WATCHED; i++) {
		enum kvmctl_status status = kvmctl_option_number(l->k, watch_options[i], 0, &l->key[i]);

		if (status != KVMCTL_OK)
			return status;
		l->watched[i] = l->k->option[watch_options[i]] != NULL;
	}
	if (name == NULL)
		return KVMCTL_OK;
	l->op = kvmctl_row_find(name, &is_request);
	if (l->op != NULL && !is_request)
		return KVMCTL_OK;
	kvmctl_complain("--op '%s': expected the name of an operation; \"kvmctl help ops\" lists them",
			kvmctl_shown(shown, name));
	return KVMCTL_USAGE;
}

/* ---- Telling them --------------------------------------------------------------------------------- */

static void
indent_changes(const char *text)
{
	while (*text != '\0') {
		size_t length = strcspn(text, "\n");

		printf("    %.*s\n", (int)length, text);
		text += length + (text[length] != '\0');
	}
}

/* The watch of a story, which has one. */
static struct kvmctl_watch *
story_watch(struct log *l)
{
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		if (l->watched[i])
			return &l->watch[i];
	return NULL;
}

static void
tell_story(struct log *l, const struct persist_step *step)
{
	struct kvmctl_watch *w = story_watch(l);
	struct kvt_buffer *b = &l->line;

	if (l->k->json) {
		kvmctl_json_step(b, step);
		kvt_putf(b, ",\"changes\":[%s]}", kvt_buffer_text(&w->json));
		kvmctl_show_line(b);
		return;
	}
	kvmctl_put_step(b, step);
	kvmctl_show_line(b);
	indent_changes(kvt_buffer_text(&w->text));
}

static void
tell(struct log *l, const struct persist_step *step)
{
	struct kvt_buffer *b = &l->line;

	kvmctl_progress_clear();
	l->told++;
	if (l->story) {
		tell_story(l, step);
		return;
	}
	if (l->trace && l->skipped > 0) {
		kvt_putf(b, "gap ops=%" PRIu64, l->skipped);
		kvmctl_show_line(b);
	}
	if (l->k->json) {
		kvmctl_json_step(b, step);
		kvt_putc(b, '}');
	} else {
		kvmctl_put_step(b, step);
	}
	kvmctl_show_line(b);
	l->skipped = 0;
}

static bool
fits(struct log *l, struct kvms *s, const struct persist_step *step)
{
	bool all = l->op == NULL || (step->op != NULL && step->op->code == l->op->code);

	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		if (l->watched[i])
			all &= kvmctl_watch_step(&l->watch[i], s, step);
	return all;
}

static enum kvmctl_status
no_memory(void)
{
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

static bool
memory_failed(const struct log *l)
{
	bool failed = l->line.failed;

	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		failed |= l->watch[i].nomem;
	return failed;
}

/* Walk the steps behind "behind" and tell those that fit. */
static enum kvmctl_status
walk(struct log *l, struct persist_travel *t)
{
	struct persist_step step;
	bool more = true;

	for (;;) {
		enum kvmctl_status status = kvmctl_history_next(&l->h, t, &step, &more);

		if (status != KVMCTL_OK || !more)
			return status;
		if (l->trace && step.unrecorded != 0) {
			kvmctl_complain("steps %" PRIu64 " to %" PRIu64
					" were not recorded: a trace begins behind them, with --from %" PRIu64
					", or ends before, with --to %" PRIu64,
					step.unrecorded, step.number, step.number + 1, step.unrecorded - 1);
			return KVMCTL_USAGE;
		}
		if (fits(l, persist_travel_store(t), &step))
			tell(l, &step);
		else
			l->skipped++;
		if (memory_failed(l))
			return no_memory();
		if (l->told > 0 && !kvmctl_flush())
			return KVMCTL_OK;
		if (++l->done % 256 == 0)
			kvmctl_history_progress(&l->h, l->done, l->total);
	}
}

/* Begin the watches with the state "s". */
static enum kvmctl_status
begin_watches(struct log *l, struct kvms *s)
{
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++) {
		if (!l->watched[i] || kvmctl_watch_begin(&l->watch[i], i, l->key[i], s))
			continue;
		if (memory_failed(l))
			return no_memory();
		kvmctl_complain("the store has no frame at 0x%" PRIx64, l->key[i]);
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}

/* What there was before the first step of a story. */
static void
tell_before(struct log *l)
{
	const struct kvmctl_watch *w = story_watch(l);

	if (w->changes == 0)
		return;
	if (l->k->json) {
		printf("{\"behind\":%" PRIu64 ",\"changes\":[%s]}\n", l->from - 1, kvt_buffer_text(&w->json));
		return;
	}
	printf("# behind step %" PRIu64 "\n", l->from - 1);
	indent_changes(kvt_buffer_text(&w->text));
}

/* The steps in their order, those that put a state back too. */
static enum kvmctl_status
log_steps(struct log *l)
{
	struct persist_travel *t = NULL;
	bool with_state = any_watch(l);

	l->total = l->to - l->from + 1;
	enum kvmctl_status status = kvmctl_history_travel(&l->h, l->from - 1, l->to, with_state, &t);
	if (status == KVMCTL_OK && with_state)
		status = begin_watches(l, persist_travel_store(t));
	kvmctl_progress_clear();
	if (status == KVMCTL_OK && l->story)
		tell_before(l);
	if (status == KVMCTL_OK)
		status = walk(l, t);
	persist_travel_free(&t);
	return status;
}

/* ---- As a trace ---------------------------------------------------------------------------------------- */

/* Header, store line, and where the store came from if it was not fresh. */
static enum kvmctl_status
trace_head(struct log *l, struct kvms *s)
{
	struct kvms_refusal why;
	struct kvms *fresh = kvms_new(kvms_config(s), &why);

	if (fresh == NULL)
		return no_memory();
	puts("kvmtrace 1");
	kvt_print_store(&l->line, kvms_config(s));
	kvmctl_show_line(&l->line);
	if (kvms_digest(fresh) != kvms_digest(s)) {
		printf("base digest=0x%016" PRIx64 "\n", kvms_digest(s));
		printf("# replay it on that state: kvmctl at %" PRIu64 " --keep FILE digest; "
		       "kvmctl --embedded=FILE replay TRACE\n",
		       l->from - 1);
	}
	kvms_free(&fresh);
	return KVMCTL_OK;
}

/* One stretch; its watches begin with its state, since the one before ends with the same. */
static enum kvmctl_status
trace_stretch(struct log *l, const struct kvmctl_stretch *stretch, bool is_first, bool is_last)
{
	struct persist_travel *t = NULL;

	enum kvmctl_status status = kvmctl_history_travel(&l->h, stretch->from - 1, stretch->to, true, &t);
	kvmctl_progress_clear();
	if (status == KVMCTL_OK && is_first)
		status = trace_head(l, persist_travel_store(t));
	if (status == KVMCTL_OK && is_first)
		status = begin_watches(l, persist_travel_store(t));
	if (status == KVMCTL_OK)
		status = walk(l, t);
	if (status == KVMCTL_OK && is_last) {
		kvmctl_progress_clear();
		if (l->skipped > 0)
			printf("gap ops=%" PRIu64 "\n", l->skipped);
		if (l->told == l->done)
			printf("expect digest=0x%016" PRIx64 "\n", kvms_digest(persist_travel_store(t)));
	}
	persist_travel_free(&t);
	return status;
}

/*
 * The steps that led to the state behind the last of them.  What was undone by
 * a step that put a state back is left out: a trace has no such operation.
 */
static enum kvmctl_status
log_trace(struct log *l)
{
	struct kvmctl_stretches all = { .at = NULL };

	enum kvmctl_status status = kvmctl_history_stretches(&l->h, l->from, l->to, &all);
	for (size_t i = 0; i < all.count; i++)
		l->total += all.at[i].to + 1 - all.at[i].from;
	for (size_t i = all.count; i-- > 0 && status == KVMCTL_OK;)
		status = trace_stretch(l, &all.at[i], i + 1 == all.count, i == 0);
	free(all.at);
	return status;
}

/* ---- Commands ---------------------------------------------------------------------------------------------- */

/* Open the history and find the range of steps. */
static enum kvmctl_status
open_log(struct log *l)
{
	enum kvmctl_status status = kvmctl_history_open(l->k, &l->h);

	if (status == KVMCTL_OK)
		status = kvmctl_history_recorded(&l->h);
	if (status != KVMCTL_OK)
		return status;
	return kvmctl_history_range(&l->h, l->h.is.first, l->h.is.last, &l->from, &l->to);
}

static enum kvmctl_status
close_log(struct log *l, enum kvmctl_status status)
{
	kvmctl_history_close(&l->h);
	for (unsigned i = 0; i < KVMCTL_WATCHED; i++)
		kvmctl_watch_end(&l->watch[i]);
	kvt_buffer_free(&l->line);
	return status;
}

enum kvmctl_status
kvmctl_log(struct kvmctl *k)
{
	struct log l = { .k = k, .trace = k->option[OPTION_trace] != NULL };

	if (l.trace && k->json) {
		kvmctl_complain("a trace is text: leave --trace or --json out");
		return KVMCTL_USAGE;
	}
	enum kvmctl_status status = read_filters(&l);
	if (status == KVMCTL_OK)
		status = open_log(&l);
	if (status == KVMCTL_OK)
		status = l.trace ? log_trace(&l) : log_steps(&l);
	return close_log(&l, status);
}

enum kvmctl_status
kvmctl_story(struct kvmctl *k)
{
	static const char *const kinds[KVMCTL_WATCHED] = {
		[KVMCTL_FRAME] = "frame", [KVMCTL_AREA] = "area", [KVMCTL_VA] = "va"
	};
	struct log l = { .k = k, .story = true };
	char shown[KVMCTL_SHOWN];
	unsigned kind = 0;

	while (kind < KVMCTL_WATCHED && strcmp(kinds[kind], k->argv[0]) != 0)
		kind++;
	if (kind == KVMCTL_WATCHED) {
		kvmctl_complain("'%s': a story is about a frame, an area or a va", kvmctl_shown(shown, k->argv[0]));
		return KVMCTL_USAGE;
	}
	if (!kvt_parse_u64(k->argv[1], strlen(k->argv[1]), &l.key[kind])) {
		kvmctl_complain("%s '%s': expected a number (decimal, or 0x and hex digits)", kinds[kind],
				kvmctl_shown(shown, k->argv[1]));
		return KVMCTL_USAGE;
	}
	l.watched[kind] = true;
	enum kvmctl_status status = open_log(&l);
	if (status == KVMCTL_OK)
		status = log_steps(&l);
	if (status == KVMCTL_OK && l.from > l.to && !k->quiet)
		kvmctl_complain("store \"%s\" has made no steps yet", l.h.store);
	else if (status == KVMCTL_OK && l.told == 0 && !k->quiet)
		kvmctl_complain("no step from %" PRIu64 " to %" PRIu64 " touched %s %s", l.from, l.to, kinds[kind],
				k->argv[1]);
	return close_log(&l, status);
}
