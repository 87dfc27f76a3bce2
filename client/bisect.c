/*
 * bisect - the first step behind which a predicate holds.
 */
#include "client/commands.h"
#include "client/history.h"
#include "client/predicate.h"
#include "client/progress.h"
#include "client/show.h"

#include "trace/text.h"

#include <inttypes.h>

struct bisect {
	struct kvmctl *k;
	struct kvmctl_history h;
	struct kvmctl_predicate *predicate;
	uint64_t from, to; /* states behind these steps and those between */
	bool found;
	uint64_t step;  /* the first, if found */
	uint64_t asked; /* states */
};

static enum kvmctl_status
ask(struct bisect *b, struct kvms *s, bool *holds)
{
	bool nomem;

	*holds = kvmctl_predicate_holds(b->predicate, s, &nomem);
	b->asked++;
	if (!nomem)
		return KVMCTL_OK;
	kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

/* Ask every state in turn. */
static enum kvmctl_status
search_all(struct bisect *b)
{
	struct persist_travel *t = NULL;
	struct persist_step step = { .number = b->from };
	bool more = true;

	enum kvmctl_status status = kvmctl_history_travel(&b->h, b->from, b->to, true, &t);
	while (status == KVMCTL_OK && more) {
		status = ask(b, persist_travel_store(t), &b->found);
		b->step = step.number;
		if (status != KVMCTL_OK || b->found)
			break;
		if (b->asked % 256 == 0)
			kvmctl_history_progress(&b->h, b->asked, b->to - b->from + 1);
		status = kvmctl_history_next(&b->h, t, &step, &more);
	}
	persist_travel_free(&t);
	return status;
}

/* Ask the state behind one step. */
static enum kvmctl_status
ask_step(struct bisect *b, uint64_t step, bool *holds)
{
	struct kvms *s;

	enum kvmctl_status status = kvmctl_history_rebuild(&b->h, step, &s);
	if (status == KVMCTL_OK)
		status = ask(b, s, holds);
	kvms_free(&s);
	return status;
}

/* Halve the range: it holds at "high", and at nothing below "low". */
static enum kvmctl_status
search_halves(struct bisect *b)
{
	uint64_t low = b->from, high = b->to;
	bool holds = false;

	enum kvmctl_status status = ask_step(b, high, &b->found);
	while (status == KVMCTL_OK && b->found && low < high) {
		uint64_t middle = low + (high - low) / 2;

		status = ask_step(b, middle, &holds);
		if (holds)
			high = middle;
		else
			low = middle + 1;
	}
	b->step = high;
	if (status == KVMCTL_OK && b->found) /* so that the answer is that of the step found */
		status = ask_step(b, high, &holds);
	return status;
}

/* The step that was found, as "log" prints it, and what its state answers. */
static enum kvmctl_status
tell(struct bisect *b)
{
	struct kvt_buffer line = { 0 };
	struct persist_travel *t = NULL;
	struct persist_step step;
	bool more = false;
	enum kvmctl_status status = KVMCTL_OK;

	/* the state that the history begins with has no step */
	if (b->step > 0 && b->h.is.has_journal && b->step >= b->h.is.first)
		status = kvmctl_history_travel(&b->h, b->step - 1, b->step, false, &t);
	if (t != NULL)
		status = kvmctl_history_next(&b->h, t, &step, &more);
	if (status == KVMCTL_OK && b->k->json) {
		if (more)
			kvmctl_json_step(&line, &step);
		else
			kvt_putf(&line, "{\"step\":%" PRIu64, b->step);
		kvt_puts(&line, ",\"answer\":");
		kvmctl_json_outcome(&line, kvmctl_predicate_row(b->predicate), kvmctl_predicate_request(b->predicate),
				    kvmctl_predicate_answer(b->predicate));
		kvt_putc(&line, '}');
		kvmctl_show_line(&line);
	} else if (status == KVMCTL_OK) {
		printf("step %" PRIu64 "\n", b->step);
		if (more)
			kvmctl_put_step(&line, &step);
		else
			kvt_puts(&line, "# the history begins with this state");
		kvmctl_show_line(&line);
		kvt_print_op(&line, kvmctl_predicate_row(b->predicate), kvmctl_predicate_request(b->predicate));
		kvt_puts(&line, " ->");
		kvt_print_results(&line, kvmctl_predicate_row(b->predicate), kvmctl_predicate_answer(b->predicate));
		kvmctl_show_line(&line);
	}
	persist_travel_free(&t);
	kvt_buffer_free(&line);
	return status;
}

static enum kvmctl_status
search(struct bisect *b)
{
	enum kvmctl_status status = kvmctl_history_open(b->k, &b->h);

	if (status == KVMCTL_OK && !b->h.is.has_state) {
		kvmctl_complain("store \"%s\" has no snapshot from which a state could be made", b->h.store);
		status = KVMCTL_UNREADABLE;
	}
	if (status == KVMCTL_OK)
		status = kvmctl_history_range(&b->h, b->h.is.earliest, b->h.is.latest, &b->from, &b->to);
	if (status == KVMCTL_OK)
		status = b->k->option[OPTION_monotonic] != NULL ? search_halves(b) : search_all(b);
	kvmctl_progress_clear();
	if (status != KVMCTL_OK)
		return status;
	if (b->found)
		return tell(b);
	if (b->k->option[OPTION_monotonic] != NULL)
		kvmctl_complain("it does not hold behind step %" PRIu64 ", so with --monotonic behind none before",
				b->to);
	else
		kvmctl_complain("it holds behind no step from %" PRIu64 " to %" PRIu64, b->from, b->to);
	return KVMCTL_NOT_OK;
}

enum kvmctl_status
kvmctl_bisect(struct kvmctl *k)
{
	struct kvt_buffer text = { 0 };
	struct bisect b = { .k = k };

	for (int i = 0; i < k->argc; i++)
		kvt_putf(&text, "%s%s", i > 0 ? " " : "", k->argv[i]);
	enum kvmctl_status status = kvmctl_predicate_new(kvt_buffer_text(&text), &b.predicate);
	if (status == KVMCTL_OK)
		status = search(&b);
	kvmctl_history_close(&b.h);
	kvmctl_predicate_free(&b.predicate);
	kvt_buffer_free(&text);
	return status;
}
