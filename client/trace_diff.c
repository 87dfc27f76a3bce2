/*
 * trace_diff - two traces: operations, outcomes, and the states they end in.
 */
#include "client/commands.h"
#include "client/diff.h"
#include "client/trace_run.h"

#include "trace/align.h"

#include <inttypes.h>
#include <string.h>

struct comparing {
	struct kvmctl *k;
	struct kvmctl_session session[2];
	enum kvmctl_status status; /* of opening a store */
	struct kvt_buffer line;
	uint64_t told;
};

static struct kvt_target *
open_store(void *arg, unsigned side, const struct kvms_op *config, const struct kvt_base *base,
	   struct kvms_refusal *why)
{
	struct comparing *c = arg;
	const struct kvmctl_trace_store want = { .trace = c->k->argv[side], .config = config, .base = base };
	struct kvmctl here = *c->k;

	here.option[OPTION_embedded] = "";
	c->status = kvmctl_session_open_trace(&here, &c->session[side], &want, why);
	return c->status == KVMCTL_OK ? c->session[side].target : NULL;
}

/* ---- For people --------------------------------------------------------------------- */

static void
put_place(struct comparing *c, unsigned side, const struct kvt_aligned *at)
{
	kvt_putf(&c->line, "%s:%" PRIu64 " (step %" PRIu64 ")", c->k->argv[side], at->line, at->step);
}

/* One side's operation and outcome, with the sign of its side. */
static void
put_side(struct comparing *c, const struct kvt_difference *d, unsigned side)
{
	kvt_putf(&c->line, "  %c ", "-+"[side]);
	kvt_print_op(&c->line, d->row, &d->side[side].op);
	kvt_puts(&c->line, " -> ");
	kvt_print_outcome(&c->line, d->row, d->side[side].out);
	kvt_putc(&c->line, '\n');
}

static void
put_field(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out, unsigned field)
{
	uint64_t count;

	if ((out->present >> field & 1) == 0)
		kvt_puts(b, "(none)");
	else
		kvt_print_value(b, row->results[field].type, out->field[field],
				kvms_type_is_list(row->results[field].type) ? kvms_outcome_list(out, row, field, &count)
									    : NULL);
}

static void
put_arg(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op, unsigned arg)
{
	uint64_t count;

	kvt_print_value(b, row->args[arg].type, op->arg[arg],
			kvms_type_is_list(row->args[arg].type) ? kvms_op_list(op, row, arg, &count) : NULL);
}

/* Arguments, class and name, result fields: those that differ, one a line. */
static void
put_changes(struct comparing *c, const struct kvt_difference *d)
{
	for (unsigned i = 0; i < d->row->args_count; i++) {
		if ((d->args >> i & 1) == 0)
			continue;
		kvt_putf(&c->line, "    %-18s ", d->row->args[i].name);
		put_arg(&c->line, d->row, &d->side[0].op, i);
		kvt_puts(&c->line, " -> ");
		put_arg(&c->line, d->row, &d->side[1].op, i);
		kvt_putc(&c->line, '\n');
	}
	if (d->outcomes && d->results == 0) {
		kvt_puts(&c->line, "    outcome            ");
		kvt_print_outcome(&c->line, d->row, d->side[0].out);
		kvt_puts(&c->line, " -> ");
		kvt_print_outcome(&c->line, d->row, d->side[1].out);
		kvt_putc(&c->line, '\n');
	}
	for (unsigned i = 0; i < d->row->results_count; i++) {
		if ((d->results >> i & 1) == 0)
			continue;
		kvt_putf(&c->line, "    %-18s ", d->row->results[i].name);
		put_field(&c->line, d->row, d->side[0].out, i);
		kvt_puts(&c->line, " -> ");
		put_field(&c->line, d->row, d->side[1].out, i);
		kvt_putc(&c->line, '\n');
	}
}

static void
tell_text(struct comparing *c, const struct kvt_difference *d)
{
	static const char *const words[] = { [KVT_CHANGED] = "other arguments", [KVT_OUTCOME] = "another outcome" };

	if (d->kind == KVT_CONFIG) {
		kvt_putf(&c->line, "store: %s ", d->row->args[d->field].name);
		put_arg(&c->line, d->row, &d->side[0].op, d->field);
		kvt_puts(&c->line, " -> ");
		put_arg(&c->line, d->row, &d->side[1].op, d->field);
		kvt_putc(&c->line, '\n');
	} else if (d->kind == KVT_ONLY) {
		unsigned side = d->has[0] ? 0 : 1;

		put_place(c, side, &d->side[side]);
		kvt_puts(&c->line, side == 0 ? ": only in the first\n" : ": only in the second\n");
		put_side(c, d, side);
	} else {
		put_place(c, 0, &d->side[0]);
		kvt_puts(&c->line, ", ");
		put_place(c, 1, &d->side[1]);
		kvt_putf(&c->line, ": %s\n", words[d->kind]);
		put_side(c, d, 0);
		put_side(c, d, 1);
		put_changes(c, d);
	}
}

/* ---- For programs ------------------------------------------------------------------------ */

static void
json_side(struct comparing *c, const struct kvt_difference *d, unsigned side)
{
	kvt_putf(&c->line, ",\"%s\":", side == 0 ? "first" : "second");
	if (!d->has[side]) {
		kvt_puts(&c->line, "null");
		return;
	}
	kvt_putf(&c->line, "{\"line\":%" PRIu64 ",\"step\":%" PRIu64 ",\"op\":", d->side[side].line,
		 d->side[side].step);
	kvt_json_op(&c->line, d->row, &d->side[side].op);
	kvt_puts(&c->line, ",\"outcome\":");
	kvt_json_outcome(&c->line, d->row, d->side[side].out);
	kvt_putc(&c->line, '}');
}

static void
json_names(struct kvt_buffer *b, const struct kvms_field *field, uint64_t set)
{
	bool more = false;

	kvt_putc(b, '[');
	for (unsigned i = 0; i < 64; i++) {
		if ((set >> i & 1) == 0)
			continue;
		kvt_putf(b, "%s\"%s\"", more ? "," : "", field[i].name);
		more = true;
	}
	kvt_putc(b, ']');
}

static void
tell_json(struct comparing *c, const struct kvt_difference *d)
{
	static const char *const words[] = { "store", "only", "changed", "outcome" };

	kvt_putf(&c->line, "%s{\"difference\":\"%s\"", c->told > 0 ? "," : "", words[d->kind]);
	if (d->kind == KVT_CONFIG) {
		kvt_putf(&c->line, ",\"key\":\"%s\"", d->row->args[d->field].name);
		for (unsigned side = 0; side < 2; side++) {
			uint64_t count;
			const struct kvms_op *op = &d->side[side].op;
			enum kvms_type type = d->row->args[d->field].type;

			kvt_putf(&c->line, ",\"%s\":", side == 0 ? "first" : "second");
			kvt_json_value(&c->line, type, op->arg[d->field],
				       kvms_type_is_list(type) ? kvms_op_list(op, d->row, d->field, &count) : NULL);
		}
	} else {
		json_side(c, d, 0);
		json_side(c, d, 1);
		kvt_puts(&c->line, ",\"args\":");
		json_names(&c->line, d->row->args, d->args);
		kvt_putf(&c->line, ",\"outcomes_differ\":%s,\"results\":", d->outcomes ? "true" : "false");
		json_names(&c->line, d->row->results, d->results);
	}
	kvt_putc(&c->line, '}');
}

/* ---- Both --------------------------------------------------------------------------------- */

static bool
differs(void *arg, const struct kvt_difference *d)
{
	struct comparing *c = arg;

	kvt_buffer_reset(&c->line);
	if (c->k->json)
		tell_json(c, d);
	else
		tell_text(c, d);
	fwrite(kvt_buffer_text(&c->line), 1, c->line.size, stdout);
	c->told++;
	return !ferror(stdout);
}

/* What the counts say, and the states at the end. */
static enum kvmctl_status
tell_end(struct comparing *c, const struct kvt_align_counts *n, bool *same_state)
{
	struct kvms *store[2] = { kvt_target_store(c->session[0].target), kvt_target_store(c->session[1].target) };
	uint64_t digest[2] = { kvms_digest(store[0]), kvms_digest(store[1]) };
	enum kvmctl_status status = KVMCTL_OK;

	*same_state = digest[0] == digest[1];
	if (c->k->json) {
		printf("],\"ops\":[%" PRIu64 ",%" PRIu64 "],\"same\":%" PRIu64 ",\"changed\":%" PRIu64
		       ",\"only\":[%" PRIu64 ",%" PRIu64 "],\"outcomes\":%" PRIu64 ",\"nanoseconds\":%" PRIu64 ",",
		       n->ops[0], n->ops[1], n->same, n->changed, n->only[0], n->only[1], n->outcomes, n->nanoseconds);
		printf("\"state\":{\"digest\":[\"0x%016" PRIx64 "\",\"0x%016" PRIx64 "\"],\"same\":%s", digest[0],
		       digest[1], *same_state ? "true" : "false");
		if (!*same_state)
			status = kvmctl_diff_stores(c->k, store[0], store[1]);
		puts("}}");
		return status;
	}
	if (c->k->quiet && c->told == 0 && *same_state)
		return KVMCTL_OK;
	printf("%s%" PRIu64 " operations in both, %" PRIu64 " with other arguments, %" PRIu64
	       " only in the first, %" PRIu64 " only in the second\n",
	       c->told > 0 ? "\n" : "", n->same, n->changed, n->only[0], n->only[1]);
	printf("%" PRIu64 " outcomes differ; %.0f operations a second\n", n->outcomes,
	       n->nanoseconds > 0 ? (double)(n->ops[0] + n->ops[1]) * 1e9 / (double)n->nanoseconds : 0);
	if (*same_state) {
		printf("both end in the same state, digest=0x%016" PRIx64 "\n", digest[0]);
		return KVMCTL_OK;
	}
	printf("at the end: digest=0x%016" PRIx64 " and 0x%016" PRIx64 "\n", digest[0], digest[1]);
	return kvmctl_diff_stores(c->k, store[0], store[1]);
}

static enum kvmctl_status
compare(struct comparing *c, struct kvt_input *in[2])
{
	struct kvt_align a = { .arg = c, .open = open_store, .differs = differs, .report = stderr };
	enum kvmctl_status status;
	enum kvt_result result;
	bool same_state;

	if (c->k->json) {
		kvt_puts(&c->line, "{\"first\":");
		kvt_json_string(&c->line, c->k->argv[0], strlen(c->k->argv[0]));
		kvt_puts(&c->line, ",\"second\":");
		kvt_json_string(&c->line, c->k->argv[1], strlen(c->k->argv[1]));
		printf("%s,\"differences\":[", kvt_buffer_text(&c->line));
	}
	result = kvt_align(&a, in[0], in[1]);
	if (c->k->json && result != KVT_PASSED && result != KVT_DIVERGED)
		puts("]}");
	if (result != KVT_PASSED && result != KVT_DIVERGED)
		return result == KVT_SYNTAX || c->status == KVMCTL_OK ? (enum kvmctl_status)result : c->status;
	status = tell_end(c, &a.counts, &same_state);
	if (status != KVMCTL_OK)
		return status;
	return result == KVT_PASSED && same_state ? KVMCTL_OK : KVMCTL_DIVERGED;
}

enum kvmctl_status
kvmctl_trace_diff(struct kvmctl *k)
{
	struct comparing c = { .k = k };
	struct kvt_input *in[2] = { NULL, NULL };
	enum kvmctl_status status = KVMCTL_OK;
	char error[1024];

	if (strcmp(k->argv[0], "-") == 0 && strcmp(k->argv[1], "-") == 0) {
		kvmctl_complain("only one of the traces can come from standard input");
		return KVMCTL_USAGE;
	}
	for (unsigned i = 0; i < 2 && status == KVMCTL_OK; i++) {
		in[i] = kvt_input_open(k->argv[i], error, sizeof error);
		if (in[i] != NULL)
			continue;
		kvmctl_complain("%s", error);
		status = KVMCTL_UNREADABLE;
	}
	if (status == KVMCTL_OK)
		status = compare(&c, in);
	for (unsigned i = 0; i < 2; i++) {
		kvmctl_session_close(&c.session[i]);
		kvt_input_close(&in[i]);
	}
	kvt_buffer_free(&c.line);
	return status;
}
