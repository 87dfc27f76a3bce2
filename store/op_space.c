/* User address spaces and their cursors: docs/ops.md. */
#include "store/op.h"
#include "store/space.h"

PRE(vm_space_new)
{
	return O_ok;
}

STEP(vm_space_new)
{
	struct vm_space *space;
	uint64_t id = record_new(s, KVMS_ID_VM_SPACE, (void **)&space), root;
	unsigned name = node_new(s, s->paging.levels, id, 0, 0, &root);

	if (name != O_ok)
		return name;
	space->root = root;
	space->handle = 1;
	/* the kernel half is shared by address; nobody counts it */
	for (unsigned i = NODE_ENTRIES / 2; i < NODE_ENTRIES; i++)
		word_set(s, word_paddr(root, i), word_at(s, word_paddr(s->live.kernel_root, i)));
	s->live.totals.vm_spaces++;
	r->vm_space = id;
	r->paddr = root;
	return O_ok;
}

POST(vm_space_new)
{
	want->vm_spaces++;
	want->pagetable++;
	want->unused--;
}

PRE(vm_space_drop)
{
	return VM_SPACE(s, a->vm_space)->users > 0 ? O_vm_space_in_use : O_ok;
}

STEP(vm_space_drop)
{
	struct vm_space *space = record_mut(s, KVMS_ID_VM_SPACE, a->vm_space);

	space->handle = 0;
	r->destroyed = space->cpus == 0;
	if (r->destroyed)
		space_destroy(s, a->vm_space, &r->nodes_freed);
	return O_ok;
}

POST(vm_space_drop)
{
	want->pagetable -= r->nodes_freed;
}

PRE(vm_space_activate)
{
	return O_ok;
}

STEP(vm_space_activate)
{
	return space_switch(s, a->vm_space, &r->changed, &r->nodes_freed);
}

POST(vm_space_activate)
{
	want->pagetable -= r->nodes_freed;
}

PRE(vm_space_deactivate)
{
	return O_ok;
}

STEP(vm_space_deactivate)
{
	return space_switch(s, 0, &r->changed, &r->nodes_freed);
}

POST(vm_space_deactivate)
{
	want->pagetable -= r->nodes_freed;
}

PRE(cpu_set)
{
	return O_ok;
}

STEP(cpu_set)
{
	s->live.current_cpu = a->cpu;
	return O_ok;
}

POST(cpu_set)
{
}

/* ---- Cursors between operations ------------------------------------------------ */

/* The cursor as the engine moves it. */
static struct cursor
cursor_load(const struct kvms *s, uint64_t id)
{
	const struct cursor_record *record = CURSOR(s, id);
	struct cursor c = { .table = record->space,
			    .lock = id,
			    .start = record->start,
			    .end = record->end,
			    .va = record->va,
			    .level = (unsigned)record->level,
			    .guard_level = (unsigned)record->guard_level };

	for (unsigned i = 0; i <= LEVELS_MAX; i++)
		c.path[i] = record->path[i];
	return c;
}

/* Remember where it went. */
static void
cursor_store(struct kvms *s, uint64_t id, const struct cursor *c)
{
	struct cursor_record *record = record_mut(s, KVMS_ID_CURSOR, id);

	record->va = c->va;
	record->level = c->level;
	for (unsigned i = 0; i <= LEVELS_MAX; i++)
		record->path[i] = c->path[i];
}

static unsigned
open_check(const struct kvms *s, uint64_t start, uint64_t end)
{
	if (start >= end || end - 1 > s->paging.user_last)
		return O_InvalidVaddrRange;
	return start % PAGE != 0 || end % PAGE != 0 ? O_UnalignedVaddr : O_ok;
}

static unsigned
open_step(struct kvms *s, const struct args_cursor_open *a, uint64_t mutable, struct reply_cursor_open *r,
	  struct kvms_outcome *out)
{
	struct cursor_record *record;
	struct cursor c;
	unsigned name;

	r->cursor = record_new(s, KVMS_ID_CURSOR, (void **)&record);
	name = cursor_open_locked(s, &c, a->vm_space, a->start, a->end, r->cursor, &out->detail);
	if (name != O_ok)
		return name;
	record->space = a->vm_space;
	record->mutable = mutable;
	record->start = a->start;
	record->end = a->end;
	record->guard_level = c.guard_level;
	cursor_store(s, r->cursor, &c);
	space_use(s, a->vm_space, +1);
	s->live.totals.cursors++;
	r->guard_level = c.guard_level;
	r->nodes_allocated = c.nodes_allocated;
	return O_ok;
}

static void
opened(union totals *want, uint64_t nodes)
{
	want->cursors++;
	want->pagetable += nodes;
	want->unused -= nodes;
}

PRE(cursor_open)
{
	return open_check(s, a->start, a->end);
}

STEP(cursor_open)
{
	return open_step(s, a, 0, r, out);
}

POST(cursor_open)
{
	opened(want, r->nodes_allocated);
}

PRE(cursor_open_mut)
{
	return open_check(s, a->start, a->end);
}

STEP(cursor_open_mut)
{
	struct args_cursor_open args = { a->vm_space, a->start, a->end };
	struct reply_cursor_open reply = { 0 };
	unsigned name = open_step(s, &args, 1, &reply, out);

	*r = (struct reply_cursor_open_mut){ reply.cursor, reply.guard_level, reply.nodes_allocated };
	return name;
}

POST(cursor_open_mut)
{
	opened(want, r->nodes_allocated);
}

PRE(cursor_drop)
{
	return O_ok;
}

STEP(cursor_drop)
{
	struct cursor c = cursor_load(s, a->cursor);

	cursor_unlock(s, &c);
	if (FLUSHER(s, a->cursor) != NULL)
		record_end(s, REC_FLUSHER, a->cursor);
	space_use(s, c.table, -1);
	record_end(s, KVMS_ID_CURSOR, a->cursor);
	s->live.totals.cursors--;
	return O_ok;
}

POST(cursor_drop)
{
	want->cursors--;
}

/* ---- Looking and moving ------------------------------------------------------------ */

static unsigned
at_end_check(const struct kvms *s, uint64_t id)
{
	return CURSOR(s, id)->va >= CURSOR(s, id)->end ? O_InvalidVaddr : O_ok;
}

static struct translation
query_step(struct kvms *s, uint64_t id)
{
	struct cursor c = cursor_load(s, id);
	struct translation t = cursor_query(s, &c);

	cursor_store(s, id, &c);
	return t;
}

PRE(cursor_query)
{
	return at_end_check(s, a->cursor);
}

STEP(cursor_query)
{
	struct translation t = query_step(s, a->cursor);

	REPLY_LEAF(cursor_query, t);
	if (!t.tracked) {
		out->present &= ~REPLY_BIT(cursor_query, frame);
		return O_ok;
	}
	return leaf_clone(s, &t, &r->frame);
}

POST(cursor_query)
{
	want->frames += r->frame != 0;
}

PRE(cursor_peek)
{
	return at_end_check(s, a->cursor);
}

STEP(cursor_peek)
{
	struct translation t = query_step(s, a->cursor);

	REPLY_LEAF(cursor_peek, t);
	return O_ok;
}

POST(cursor_peek)
{
}

PRE(cursor_virt_addr)
{
	return O_ok;
}

STEP(cursor_virt_addr)
{
	r->va = CURSOR(s, a->cursor)->va;
	r->level = CURSOR(s, a->cursor)->level;
	return O_ok;
}

POST(cursor_virt_addr)
{
}

static unsigned
scan_check(const struct kvms *s, uint64_t id, uint64_t len)
{
	if (len % PAGE != 0)
		return O_len_unaligned;
	return len > CURSOR(s, id)->end - CURSOR(s, id)->va ? O_len_exceeds_range : O_ok;
}

static unsigned
mutable_check(const struct kvms *s, uint64_t id)
{
	return CURSOR(s, id)->mutable ? O_ok : O_read_only_cursor;
}

PRE(cursor_find_next)
{
	return scan_check(s, a->cursor, a->len);
}

STEP(cursor_find_next)
{
	struct cursor c = cursor_load(s, a->cursor);
	bool found;
	unsigned name = cursor_find(s, &c, c.va + a->len, &found);

	cursor_store(s, a->cursor, &c);
	r->found = found;
	r->va = c.va;
	r->level = c.level;
	return name;
}

POST(cursor_find_next)
{
}

PRE(cursor_jump)
{
	const struct cursor_record *c = CURSOR(s, a->cursor);

	if (a->va % PAGE != 0)
		return O_va_unaligned;
	return a->va < c->start || a->va >= c->end ? O_InvalidVaddr : O_ok;
}

STEP(cursor_jump)
{
	struct cursor c = cursor_load(s, a->cursor);

	cursor_jump(&c, a->va);
	cursor_store(s, a->cursor, &c);
	r->va = c.va;
	r->level = c.level;
	return O_ok;
}

POST(cursor_jump)
{
}

/* ---- Mapping --------------------------------------------------------------------------- */

PRE(cursor_map)
{
	unsigned name = mutable_check(s, a->cursor);

	if (name != O_ok)
		return name;
	return s->slot[FRAME(s, a->frame)->paddr / PAGE].kind != KIND_UNTYPED ? O_not_untyped : O_ok;
}

STEP(cursor_map)
{
	struct cursor c = cursor_load(s, a->cursor);
	struct leaf leaf = { .paddr = FRAME(s, a->frame)->paddr, .prop = a->prop, .avail1 = false };
	unsigned name = cursor_map(s, &c, &leaf, 1);

	if (name != O_ok)
		return name;
	handle_end(s, a->frame);
	cursor_store(s, a->cursor, &c);
	r->va = c.va;
	r->level = c.level;
	r->nodes_allocated = c.nodes_allocated;
	return O_ok;
}

static void
nodes_moved(union totals *want, uint64_t allocated)
{
	want->pagetable += allocated;
	want->unused -= allocated;
}

POST(cursor_map)
{
	want->frames--;
	want->leaves_tracked++;
	nodes_moved(want, r->nodes_allocated);
}

/* The space's I/O list gets the handle's memory at its end, unless it has that pair. */
static void
io_list_add(struct kvms *s, uint64_t id, const struct iomem *m)
{
	struct vm_space *space;
	struct io_entry *e;
	uint64_t entry;

	for (entry = VM_SPACE(s, id)->io_first; entry != 0; entry = IO_ENTRY(s, entry)->next)
		if (IO_ENTRY(s, entry)->paddr == m->paddr && IO_ENTRY(s, entry)->size == m->size)
			return;
	space = record_mut(s, KVMS_ID_VM_SPACE, id);
	entry = record_new(s, REC_IO_ENTRY, (void **)&e);
	*e = (struct io_entry){ e->head, id, ++space->io_count, m->paddr, m->size, m->cache, m->area, m->offset, 0 };
	if (space->io_last != 0)
		((struct io_entry *)record_mut(s, REC_IO_ENTRY, space->io_last))->next = entry;
	else
		space->io_first = entry;
	space->io_last = entry;
	io_area_get(s, m->area);
}

PRE(cursor_map_iomem)
{
	unsigned name = mutable_check(s, a->cursor);

	if (name != O_ok)
		return name;
	if (a->len % PAGE != 0)
		return O_len_unaligned;
	if (a->offset % PAGE != 0)
		return O_offset_unaligned;
	if (a->offset >= IOMEM(s, a->iomem)->size)
		return O_ok;
	return a->len > UINT64_MAX - a->offset ? O_arithmetic_overflow : O_ok;
}

STEP(cursor_map_iomem)
{
	struct cursor c = cursor_load(s, a->cursor);
	struct iomem m = *IOMEM(s, a->iomem);
	uint64_t offset = a->offset, end;

	r->va = c.va;
	r->level = c.level;
	if (a->offset >= m.size)
		return O_ok;
	end = a->offset + a->len < m.size ? a->offset + a->len : m.size;
	for (; offset < end; offset += PAGE, r->pages++) {
		struct leaf leaf = { .paddr = m.paddr + offset, .prop = a->prop, .avail1 = true };
		unsigned name = cursor_map(s, &c, &leaf, 1);

		if (name != O_ok)
			return name;
	}
	cursor_store(s, a->cursor, &c);
	io_list_add(s, c.table, &m);
	r->va = c.va;
	r->level = c.level;
	r->nodes_allocated = c.nodes_allocated;
	return O_ok;
}

POST(cursor_map_iomem)
{
	want->leaves_untracked += r->pages;
	nodes_moved(want, r->nodes_allocated);
}

PRE(cursor_find_iomem_by_paddr)
{
	return O_ok;
}

STEP(cursor_find_iomem_by_paddr)
{
	uint64_t entry = VM_SPACE(s, CURSOR(s, a->cursor)->space)->io_first;
	struct io_entry e;

	while (entry != 0 && (a->paddr < IO_ENTRY(s, entry)->paddr ||
			      a->paddr - IO_ENTRY(s, entry)->paddr >= IO_ENTRY(s, entry)->size))
		entry = IO_ENTRY(s, entry)->next;
	r->found = entry != 0;
	if (!r->found) {
		out->present = REPLY_BIT(cursor_find_iomem_by_paddr, found);
		return O_ok;
	}
	e = *IO_ENTRY(s, entry);
	io_area_get(s, e.area);
	r->iomem = iomem_new(s, e.area, e.paddr, e.size, e.cache, e.offset);
	r->offset = a->paddr - e.paddr;
	return O_ok;
}

POST(cursor_find_iomem_by_paddr)
{
	want->iomems += r->found;
}

/* ---- Unmapping ---------------------------------------------------------------------------- */

PRE(cursor_unmap)
{
	unsigned name = mutable_check(s, a->cursor);

	return name != O_ok ? name : scan_check(s, a->cursor, a->len);
}

/* What a fragment held moves to the flusher: one pair in scratch for a frame or a node. */
static void
unmap_fragment(struct kvms *s, uint64_t cursor, const struct fragment *f, uint64_t *kept_count,
	       struct reply_cursor_unmap *r)
{
	struct flusher *flusher = flusher_mut(s, cursor);
	uint64_t *kept;

	if (f->kind == FRAGMENT_SUBTREE) {
		r->subtrees++;
		r->count += subtree_detach(s, f->paddr);
		stack_push(&flusher->stack, f->va, page_size(f->level) / PAGE);
	} else {
		r->leaves++;
		stack_push(&flusher->stack, f->va, 1);
		if (!f->tracked)
			return;
		r->count++;
		slot_users_mut(s, f->paddr / PAGE)->kept++;
	}
	kept = scratch_need(s, 2 * (size_t)*kept_count + 2);
	kept[2 * *kept_count] = f->kind == FRAGMENT_SUBTREE;
	kept[2 * *kept_count + 1] = f->paddr;
	(*kept_count)++;
}

STEP(cursor_unmap)
{
	struct cursor c = cursor_load(s, a->cursor);
	uint64_t limit = c.va + a->len, kept_count = 0;
	struct fragment f;
	unsigned name;

	for (;;) {
		name = cursor_take(s, &c, limit, &f);
		if (name != O_ok)
			return name;
		if (f.kind == FRAGMENT_NONE)
			break;
		unmap_fragment(s, a->cursor, &f, &kept_count, r);
	}
	cursor_store(s, a->cursor, &c);
	r->va = c.va;
	r->level = c.level;
	return flush_dispatch(s, a->cursor, s->scratch, kept_count, &r->remote, &r->nodes_freed);
}

POST(cursor_unmap)
{
	want->pagetable -= r->nodes_freed;
}

PRE(cursor_protect_next)
{
	unsigned name = mutable_check(s, a->cursor);

	return name != O_ok ? name : scan_check(s, a->cursor, a->len);
}

STEP(cursor_protect_next)
{
	struct cursor c = cursor_load(s, a->cursor);
	struct protect p = { a->set, a->clear, a->cache, 0 };
	uint64_t start = 0, last = 0;
	bool found;
	unsigned name = cursor_protect_one(s, &c, c.va + a->len, &p, &found, &start, &last);

	if (name != O_ok)
		return name;
	cursor_store(s, a->cursor, &c);
	r->found = found;
	r->start = start;
	r->end = last + 1;
	r->va = c.va;
	r->level = c.level;
	if (!found)
		out->present &= ~(REPLY_BIT(cursor_protect_next, start) | REPLY_BIT(cursor_protect_next, end));
	return O_ok;
}

POST(cursor_protect_next)
{
}
