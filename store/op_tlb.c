/* Flushers, TLBs and the environment: docs/ops.md. */
#include "store/op.h"
#include "store/space.h"

static unsigned
mutable_check(const struct kvms *s, uint64_t cursor)
{
	return CURSOR(s, cursor)->mutable ? O_ok : O_read_only_cursor;
}

PRE(flush_issue)
{
	unsigned name = mutable_check(s, a->cursor);

	if (name != O_ok || a->kind != 0)
		return name;
	return a->start % PAGE != 0 || a->end % PAGE != 0 || a->start >= a->end ? O_flush_range_invalid : O_ok;
}

STEP(flush_issue)
{
	struct flusher *f = flusher_mut(s, a->cursor);

	if (a->kind != 0)
		stack_push_all(&f->stack);
	else
		stack_push(&f->stack, a->start, (a->end - a->start) / PAGE);
	return O_ok;
}

POST(flush_issue)
{
}

PRE(flush_dispatch)
{
	return mutable_check(s, a->cursor);
}

STEP(flush_dispatch)
{
	uint64_t nodes_freed = 0;

	return flush_dispatch(s, a->cursor, NULL, 0, &r->remote, &nodes_freed);
}

POST(flush_dispatch)
{
}

PRE(flush_sync)
{
	return mutable_check(s, a->cursor);
}

STEP(flush_sync)
{
	const struct flusher *f = FLUSHER(s, a->cursor);

	if (f == NULL)
		return O_ok;
	for (uint64_t sent = f->sent; sent != 0; sent &= sent - 1) {
		uint64_t cpu = (uint64_t)__builtin_ctzll(sent);

		if (CPU(s, cpu)->ipi) {
			out->detail = cpu;
			return O_ipi_pending;
		}
	}
	((struct flusher *)record_mut(s, REC_FLUSHER, a->cursor))->sent = 0;
	flusher_tidy(s, a->cursor);
	return O_ok;
}

POST(flush_sync)
{
}

PRE(ipi_deliver)
{
	return O_ok;
}

STEP(ipi_deliver)
{
	struct cpu *cpu = record_mut(s, REC_CPU, a->cpu + 1);
	struct flush_stack queue = cpu->queue;

	cpu->queue = (struct flush_stack){ .all = 0 };
	if (cpu->ipi)
		r->flushed = tlb_flush_stack(s, a->cpu, &queue);
	cpu->ipi = 0;
	queue_release(s, a->cpu, &r->nodes_freed);
	return O_ok;
}

POST(ipi_deliver)
{
	want->tlb_entries -= r->flushed;
	want->pagetable -= r->nodes_freed;
}

/* RES: what a CPU finds at va, in its TLB or by walking.  False: a page fault. */
struct resolved {
	bool hit;
	uint64_t table;
	struct translation t;
};

static bool
resolve(const struct kvms *s, uint64_t cpu, uint64_t va, struct resolved *res)
{
	const struct tlb_entry *e;

	if (!va_is_canonical(&s->paging, va))
		return false;
	res->table = va >= s->paging.kernel_base ? KERNEL_TABLE : CPU(s, cpu)->active;
	if (va < s->paging.kernel_base && res->table == 0)
		return false;
	e = tlb_find(s, cpu, va);
	res->hit = e != NULL;
	if (!res->hit) {
		res->t = translate(s, res->table, va);
		return res->t.found;
	}
	res->t = (struct translation){ .found = true,
				       .start = e->va,
				       .last = e->va + (e->size - 1),
				       .leaf = { .paddr = e->paddr, .prop = e->prop },
				       .tracked = e->tracked };
	return true;
}

PRE(tlb_fill)
{
	struct resolved res;

	return resolve(s, a->cpu, a->va, &res) ? O_ok : O_PageFault;
}

STEP(tlb_fill)
{
	struct resolved res;

	(void)resolve(s, a->cpu, a->va, &res);
	if (!res.hit)
		tlb_insert(s, a->cpu, res.table, &res.t);
	r->filled = !res.hit;
	r->start = res.t.start;
	r->end = res.t.last + 1;
	r->paddr = res.t.leaf.paddr;
	r->tracked = res.t.tracked;
	return O_ok;
}

POST(tlb_fill)
{
}

PRE(access)
{
	/* what r, w and x need */
	static const uint64_t needs[] = { KVMS_PROP_R, KVMS_PROP_R | KVMS_PROP_W, KVMS_PROP_R | KVMS_PROP_X };
	uint64_t need = needs[a->access] | (a->mode == 0 ? KVMS_PROP_USER : 0);
	struct resolved res;

	if (!resolve(s, a->cpu, a->va, &res))
		return O_PageFault;
	return (res.t.leaf.prop & need) == need ? O_ok : O_PageFault;
}

STEP(access)
{
	struct resolved res;

	(void)resolve(s, a->cpu, a->va, &res);
	if (!res.hit)
		tlb_insert(s, a->cpu, res.table, &res.t);
	r->paddr = res.t.leaf.paddr + (a->va - res.t.start);
	r->hit = !res.hit;
	return O_ok;
}

POST(access)
{
}

PRE(rcu)
{
	return O_ok;
}

STEP(rcu)
{
	return O_ok;
}

POST(rcu)
{
}
