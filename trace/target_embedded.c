/* A store of this process as a target. */
#include "trace/target.h"

#include "trace/buffer.h"

#include <inttypes.h>
#include <stdlib.h>

struct embedded {
	struct kvt_target target;
	struct kvms *store;
	bool owned;
	struct kvt_buffer error;
};

static struct embedded *
embedded_of(struct kvt_target *t)
{
	return (struct embedded *)t;
}

/* Findings as text: the law, the object and the two numbers, one a line. */
static void
print_findings(struct kvt_buffer *b, const struct kvms_findings *findings)
{
	if (findings == NULL || findings->count == 0)
		kvt_puts(b, "a law of the model is broken");
	for (unsigned i = 0; findings != NULL && i < findings->count; i++) {
		const struct kvms_finding *f = &findings->at[i];
		const char *law = kvms_law_name(f->law);

		kvt_putf(b, "%s%s: object 0x%" PRIx64 ", expected 0x%" PRIx64 ", found 0x%" PRIx64, i > 0 ? "\n" : "",
			 law != NULL ? law : "a law without a name", f->object, f->want, f->have);
	}
	if (findings != NULL && findings->total > findings->count)
		kvt_putf(b, "\nand %" PRIu64 " more", findings->total - findings->count);
}

static enum kvt_status
status_of(struct embedded *e, enum kvms_status status)
{
	kvt_buffer_reset(&e->error);
	switch (status) {
	case KVMS_DONE:
		return KVT_DONE;
	case KVMS_BROKEN:
		print_findings(&e->error, kvms_broken(e->store));
		return KVT_BROKEN;
	case KVMS_INVALID:
		kvt_puts(&e->error, "an argument is outside its type");
		return KVT_INVALID;
	case KVMS_NOMEM:
		break;
	}
	kvt_puts(&e->error, "the machine has no memory left");
	return KVT_NOMEM;
}

static enum kvt_status
embedded_apply(struct kvt_target *t, const struct kvms_op *op, struct kvms_outcome *out)
{
	enum kvms_status status = kvms_apply(embedded_of(t)->store, op, out);

	return status == KVMS_DONE ? KVT_DONE : status_of(embedded_of(t), status);
}

static enum kvt_status
embedded_inspect(struct kvt_target *t, const struct kvms_op *request, struct kvms_outcome *out)
{
	return status_of(embedded_of(t), kvms_inspect(embedded_of(t)->store, request, out));
}

static enum kvt_status
embedded_digest(struct kvt_target *t, uint64_t *digest)
{
	*digest = kvms_digest(embedded_of(t)->store);
	return KVT_DONE;
}

static enum kvt_status
embedded_steps(struct kvt_target *t, uint64_t *steps)
{
	*steps = kvms_steps(embedded_of(t)->store);
	return KVT_DONE;
}

static enum kvt_status
embedded_set_check(struct kvt_target *t, enum kvms_check check, uint64_t every)
{
	kvms_set_check(embedded_of(t)->store, check, every);
	return KVT_DONE;
}

static enum kvt_status
embedded_config(struct kvt_target *t, const struct kvms_op **config)
{
	*config = kvms_config(embedded_of(t)->store);
	return KVT_DONE;
}

/* The part of the runs that starts in [first, last]. */
struct window {
	uint64_t first, last;
	kvms_extent_visitor *visit;
	void *arg;
};

static uint64_t
leaf_size(unsigned level)
{
	return (uint64_t)KVMS_PAGE_SIZE << (9 * (level - 1));
}

static bool
visit_window(void *arg, const struct kvms_extent *run)
{
	const struct window *w = arg;
	struct kvms_extent part = *run;
	uint64_t size = leaf_size(run->level), skip = 0, last_leaf;

	if (run->va > w->last)
		return false;
	last_leaf = run->va + (run->leaves - 1) * size;
	if (last_leaf < w->first)
		return true;
	if (run->va < w->first)
		skip = (w->first - run->va + size - 1) / size;
	part.va += skip * size;
	part.paddr += skip * size;
	part.leaves -= skip;
	if (last_leaf > w->last)
		part.leaves = (w->last - part.va) / size + 1;
	return part.va > w->last || w->visit(w->arg, &part);
}

static enum kvt_status
embedded_extents(struct kvt_target *t, uint64_t table, uint64_t first, uint64_t last, kvms_extent_visitor *visit,
		 void *arg)
{
	struct window w = { first, last, visit, arg };

	kvms_extents(embedded_of(t)->store, table, visit_window, &w);
	return KVT_DONE;
}

static const char *
embedded_error(struct kvt_target *t)
{
	return kvt_buffer_text(&embedded_of(t)->error);
}

static void
embedded_close(struct kvt_target *t)
{
	struct embedded *e = embedded_of(t);

	if (e->owned)
		kvms_free(&e->store);
	kvt_buffer_free(&e->error);
	free(e);
}

struct kvt_target *
kvt_target_embedded(struct kvms *s, bool owned)
{
	struct embedded *e = calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	e->store = s;
	e->owned = owned;
	e->target.apply = embedded_apply;
	e->target.inspect = embedded_inspect;
	e->target.digest = embedded_digest;
	e->target.steps = embedded_steps;
	e->target.set_check = embedded_set_check;
	e->target.config = embedded_config;
	e->target.extents = embedded_extents;
	e->target.error = embedded_error;
	e->target.close = embedded_close;
	return &e->target;
}

struct kvms *
kvt_target_store(struct kvt_target *t)
{
	return t->close == embedded_close ? embedded_of(t)->store : NULL;
}

void
kvt_target_close(struct kvt_target **t)
{
	struct kvt_target *target = *t;

	*t = NULL;
	if (target != NULL)
		target->close(target);
}
