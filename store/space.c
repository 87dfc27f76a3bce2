#include "store/space.h"

#include "store/area.h"

#include <string.h>

/* ---- TLB ---------------------------------------------------------------- */

/*
 * One ordered set for each CPU: the kernel half belongs to the kernel table,
 * the user half to the one active space, so addresses never clash.
 */
static enum extent_set
tlb_set(uint64_t cpu)
{
	return (enum extent_set)(SET_TLB + cpu);
}

const struct tlb_entry *
tlb_find(const struct kvms *s, uint64_t cpu, uint64_t va)
{
	const struct extent *e = extent_below(s, tlb_set(cpu), va);

	return e != NULL && va < e->end ? TLB(s, e->id) : NULL;
}

/* Would a stack's flush remove the entry? */
static bool
stack_covers(const struct flush_stack *stack, const struct tlb_entry *t)
{
	if (stack->all)
		return t->table != KERNEL_TABLE || (t->prop & KVMS_PROP_GLOBAL) == 0;
	for (uint64_t i = 0; i < stack->count && i < FLUSH_PAGES - 1; i++)
		if (t->va < stack->op[i].va + stack->op[i].pages * PAGE && stack->op[i].va < t->va + t->size)
			return true;
	return false;
}

bool
tlb_is_backed(const struct kvms *s, const struct tlb_entry *t)
{
	struct translation now = translate(s, t->table, t->va);

	if (now.found && now.start == t->va && page_size(now.level) == t->size && now.leaf.paddr == t->paddr)
		return true;
	return stack_covers(&CPU(s, t->cpu)->queue, t);
}

static void
tlb_remove(struct kvms *s, uint64_t cpu, const struct extent *e)
{
	record_end(s, REC_TLB, e->id);
	extent_remove(s, tlb_set(cpu), e->start);
	s->live.totals.tlb_entries--;
}

uint64_t
tlb_flush_range(struct kvms *s, uint64_t cpu, uint64_t start, uint64_t end)
{
	uint64_t removed = 0;
	const struct extent *e;

	if (start >= end)
		return 0;
	while ((e = extent_below(s, tlb_set(cpu), end - 1)) != NULL && e->end > start) {
		tlb_remove(s, cpu, e);
		removed++;
	}
	return removed;
}

uint64_t
tlb_flush_all(struct kvms *s, uint64_t cpu)
{
	uint64_t removed = 0, from = 0;
	const struct extent *e;

	while ((e = extent_from(s, tlb_set(cpu), from)) != NULL) {
		const struct tlb_entry *t = TLB(s, e->id);

		from = e->start + 1;
		if (t->table == KERNEL_TABLE && (t->prop & KVMS_PROP_GLOBAL) != 0)
			continue;
		tlb_remove(s, cpu, e);
		removed++;
	}
	return removed;
}

uint64_t
tlb_flush_stack(struct kvms *s, uint64_t cpu, const struct flush_stack *stack)
{
	uint64_t removed = 0;

	if (stack->all)
		return tlb_flush_all(s, cpu);
	for (uint64_t i = 0; i < stack->count; i++)
		removed += tlb_flush_range(s, cpu, stack->op[i].va, stack->op[i].va + stack->op[i].pages * PAGE);
	return removed;
}

void
tlb_insert(struct kvms *s, uint64_t cpu, uint64_t table, const struct translation *t)
{
	struct tlb_entry *entry;
	uint64_t id;

	tlb_flush_range(s, cpu, t->start, t->last + 1);
	id = record_new(s, REC_TLB, (void **)&entry);
	entry->cpu = cpu;
	entry->table = table;
	entry->va = t->start;
	entry->size = page_size(t->level);
	entry->paddr = t->leaf.paddr;
	entry->prop = t->leaf.prop;
	entry->tracked = t->tracked;
	extent_insert(s, tlb_set(cpu), t->start, t->last + 1, id);
	s->live.totals.tlb_entries++;
}

/* ---- Flush stacks ------------------------------------------------------------ */

static uint64_t
stack_pages(const struct flush_stack *stack)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < stack->count; i++)
		pages += stack->op[i].pages;
	return pages;
}

void
stack_push_all(struct flush_stack *stack)
{
	*stack = (struct flush_stack){ .all = 1 };
}

void
stack_push(struct flush_stack *stack, uint64_t va, uint64_t pages)
{
	if (stack->all)
		return;
	if (pages >= FLUSH_PAGES || stack_pages(stack) + pages >= FLUSH_PAGES) {
		stack_push_all(stack);
		return;
	}
	stack->op[stack->count].va = va;
	stack->op[stack->count].pages = pages;
	stack->count++;
}

static void
stack_merge(struct flush_stack *queue, const struct flush_stack *stack)
{
	if (queue->all)
		return;
	if (stack->all || stack_pages(queue) + stack_pages(stack) >= FLUSH_PAGES) {
		stack_push_all(queue);
		return;
	}
	for (uint64_t i = 0; i < stack->count; i++)
		queue->op[queue->count++] = stack->op[i];
}

struct flusher *
flusher_mut(struct kvms *s, uint64_t cursor)
{
	return FLUSHER(s, cursor) != NULL ? record_mut(s, REC_FLUSHER, cursor) : record_put(s, REC_FLUSHER, cursor);
}

void
flusher_tidy(struct kvms *s, uint64_t cursor)
{
	const struct flusher *f = FLUSHER(s, cursor);

	if (f != NULL && stack_is_empty(&f->stack) && f->sent == 0)
		record_end(s, REC_FLUSHER, cursor);
}

/* ---- References kept by queues ---------------------------------------------------- */

/* Keep a frame or node once more, at the end of a CPU's list. */
static unsigned
keep(struct kvms *s, struct cpu *cpu, uint64_t is_node, uint64_t paddr)
{
	struct kept *k;
	uint64_t id;

	if (!slot_inc(s, paddr / PAGE))
		return O_refcount_saturated;
	if (!is_node)
		slot_users_mut(s, paddr / PAGE)->kept++;
	id = record_new(s, REC_KEPT, (void **)&k);
	k->is_node = is_node;
	k->paddr = paddr;
	if (cpu->kept_last != 0)
		((struct kept *)record_mut(s, REC_KEPT, cpu->kept_last))->next = id;
	else
		cpu->kept_first = id;
	cpu->kept_last = id;
	cpu->kept_count++;
	return O_ok;
}

static void
kept_end(struct kvms *s, uint64_t is_node, uint64_t paddr, uint64_t *nodes_freed)
{
	if (is_node) {
		node_release(s, paddr, nodes_freed);
		return;
	}
	slot_users_mut(s, paddr / PAGE)->kept--;
	slot_dec(s, paddr / PAGE);
}

void
queue_release(struct kvms *s, uint64_t number, uint64_t *nodes_freed)
{
	struct cpu *cpu = record_mut(s, REC_CPU, number + 1);
	uint64_t id = cpu->kept_first;

	cpu->kept_first = cpu->kept_last = cpu->kept_count = 0;
	while (id != 0) {
		struct kept k = *KEPT(s, id);

		record_end(s, REC_KEPT, id);
		kept_end(s, k.is_node, k.paddr, nodes_freed);
		id = k.next;
	}
}

unsigned
flush_dispatch(struct kvms *s, uint64_t cursor, const uint64_t *kept, uint64_t kept_count, uint64_t *remote,
	       uint64_t *nodes_freed)
{
	uint64_t space = CURSOR(s, cursor)->space, cpus = VM_SPACE(s, space)->cpus;
	uint64_t here = UINT64_C(1) << s->live.current_cpu;
	struct flusher *f;

	*remote = 0;
	if (FLUSHER(s, cursor) == NULL || stack_is_empty(&FLUSHER(s, cursor)->stack))
		return O_ok;
	f = record_mut(s, REC_FLUSHER, cursor);
	for (uint64_t others = cpus & ~here; others != 0; others &= others - 1) {
		uint64_t number = (uint64_t)__builtin_ctzll(others);
		struct cpu *cpu = record_mut(s, REC_CPU, number + 1);

		for (uint64_t i = 0; i < kept_count; i++) {
			unsigned name = keep(s, cpu, kept[2 * i], kept[2 * i + 1]);

			if (name != O_ok)
				return name;
		}
		stack_merge(&cpu->queue, &f->stack);
		cpu->ipi = 1;
		f->sent |= UINT64_C(1) << number;
		(*remote)++;
	}
	if ((cpus & here) != 0 && !FAULT(no_local_flush))
		tlb_flush_stack(s, s->live.current_cpu, &f->stack);
	for (uint64_t i = 0; i < kept_count; i++)
		kept_end(s, kept[2 * i], kept[2 * i + 1], nodes_freed);
	f->stack = (struct flush_stack){ .all = 0 };
	flusher_tidy(s, cursor);
	return O_ok;
}

/* ---- I/O memory ------------------------------------------------------------------ */

void
io_area_get(struct kvms *s, uint64_t area)
{
	((struct area *)record_mut(s, KVMS_ID_AREA, area))->refs++;
}

void
io_area_put(struct kvms *s, uint64_t id, uint64_t *nodes_freed)
{
	struct area *area = record_mut(s, KVMS_ID_AREA, id);
	uint64_t leaves = 0, subtrees = 0;
	struct cursor c;
	unsigned name;

	if (--area->refs > 0)
		return;
	name = cursor_open(s, &c, KERNEL_TABLE, area->start, area->end);
	if (name == O_ok)
		name = cursor_unmap(s, &c, c.end, &leaves, &subtrees);
	/* the area is mapped from end to end in whole leaves: nothing has to be made or cut */
	assert(name == O_ok && c.nodes_allocated == 0);
	*nodes_freed += c.nodes_freed;
	area_free(s, id);
}

uint64_t
iomem_new(struct kvms *s, uint64_t area, uint64_t paddr, uint64_t size, uint64_t cache, uint64_t offset)
{
	struct iomem *m;
	uint64_t id = record_new(s, KVMS_ID_IOMEM, (void **)&m);

	m->area = area;
	m->paddr = paddr;
	m->size = size;
	m->cache = cache;
	m->offset = offset;
	s->live.totals.iomems++;
	return id;
}

/* ---- Spaces -------------------------------------------------------------------- */

void
space_use(struct kvms *s, uint64_t space, int by)
{
	if (space != 0)
		((struct vm_space *)record_mut(s, KVMS_ID_VM_SPACE, space))->users += (uint64_t)by;
}

void
space_destroy(struct kvms *s, uint64_t id, uint64_t *nodes_freed)
{
	struct vm_space space = *VM_SPACE(s, id);

	node_release(s, space.root, nodes_freed);
	record_end(s, KVMS_ID_VM_SPACE, id);
	s->live.totals.vm_spaces--;
	for (uint64_t entry = space.io_first; entry != 0;) {
		struct io_entry e = *IO_ENTRY(s, entry);

		record_end(s, REC_IO_ENTRY, entry);
		io_area_put(s, e.area, nodes_freed);
		entry = e.next;
	}
}

/* The current CPU leaves a space. */
static void
space_leave(struct kvms *s, uint64_t id, uint64_t *nodes_freed)
{
	struct vm_space *space = record_mut(s, KVMS_ID_VM_SPACE, id);

	space->cpus &= ~(UINT64_C(1) << s->live.current_cpu);
	slot_mut(s, space->root / PAGE)->rc1--;
	if (!space->handle && space->cpus == 0)
		space_destroy(s, id, nodes_freed);
}

unsigned
space_switch(struct kvms *s, uint64_t id, uint64_t *changed, uint64_t *nodes_freed)
{
	uint64_t old = CPU(s, s->live.current_cpu)->active;

	*changed = old != id;
	if (old == id)
		return O_ok;
	if (id != 0) {
		struct vm_space *space = record_mut(s, KVMS_ID_VM_SPACE, id);

		if (!slot_inc(s, space->root / PAGE))
			return O_refcount_saturated;
		space->cpus |= UINT64_C(1) << s->live.current_cpu;
	}
	((struct cpu *)record_mut(s, REC_CPU, s->live.current_cpu + 1))->active = id;
	tlb_flush_all(s, s->live.current_cpu);
	if (old != 0)
		space_leave(s, old, nodes_freed);
	return O_ok;
}
