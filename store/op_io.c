/* Readers and writers: docs/ops.md. */
#include "store/op.h"
#include "store/space.h"

#include <string.h>

#define RESULT_MAX UINT64_C(0x10000)
#define MOVE_MAX UINT64_C(0x1000000)

/* ---- Bytes behind a handle --------------------------------------------------- */

enum stop { STOP_NONE, STOP_FAULT, STOP_PROTECTED };

/* PIECE: the physical address behind va, if the handle may reach it. */
static bool
piece(const struct kvms *s, const struct vm_io *io, uint64_t va, bool write, uint64_t *paddr)
{
	uint64_t need = KVMS_PROP_R | (write ? KVMS_PROP_W : 0);
	struct translation t;

	if (io->space == 0 && va - s->linear_base < s->max_paddr) {
		*paddr = va - s->linear_base;
		return true;
	}
	t = translate(s, io->space, va);
	*paddr = t.leaf.paddr + (va - t.start);
	return t.found && (t.leaf.prop & need) == need;
}

/* The accessible prefix of n bytes, page by page, and what ends it. */
static uint64_t
prefix(const struct kvms *s, const struct vm_io *io, uint64_t n, bool write, enum stop *stop)
{
	uint64_t done = 0, paddr;

	*stop = STOP_NONE;
	while (done < n) {
		uint64_t va = io->va + done, left = PAGE - va % PAGE;

		if (!piece(s, io, va, write, &paddr)) {
			*stop = STOP_FAULT;
			return done;
		}
		if (write && paddr < s->max_paddr && s->slot[paddr / PAGE].usage != USAGE_FRAME) {
			*stop = STOP_PROTECTED;
			return done;
		}
		done += left < n - done ? left : n - done;
	}
	return n;
}

/* Read n bytes at the handle's place, all accessible.  Memory above max_paddr reads as zeros. */
static void
bytes_read(const struct kvms *s, const struct vm_io *io, unsigned char *to, uint64_t n)
{
	uint64_t done = 0, paddr = 0;

	while (done < n) {
		uint64_t va = io->va + done, left = PAGE - va % PAGE, count = left < n - done ? left : n - done;

		(void)piece(s, io, va, false, &paddr);
		if (paddr < s->max_paddr)
			memory_read(s, paddr, to + done, count);
		else
			memset(to + done, 0, (size_t)count);
		done += count;
	}
}

/* Write n bytes, or zeros if "from" is NULL, at the handle's place, all accessible. */
static void
bytes_write(struct kvms *s, const struct vm_io *io, const unsigned char *from, uint64_t n)
{
	uint64_t done = 0, paddr = 0;

	while (done < n) {
		uint64_t va = io->va + done, left = PAGE - va % PAGE, count = left < n - done ? left : n - done;

		(void)piece(s, io, va, true, &paddr);
		if (paddr < s->max_paddr && from != NULL)
			memory_write(s, paddr, from + done, count);
		else if (paddr < s->max_paddr)
			memory_zero(s, paddr, count);
		done += count;
	}
}

/* ALL n. */
static unsigned
all_check(const struct kvms *s, const struct vm_io *io, uint64_t n, bool write)
{
	enum stop stop;

	(void)prefix(s, io, n, write, &stop);
	if (stop == STOP_PROTECTED)
		return O_not_data_memory;
	if (stop == STOP_FAULT)
		return io->fallible ? O_PageFault : O_kernel_page_fault;
	return O_ok;
}

/* PART n: *done bytes are accessible. */
static unsigned
part_check(const struct kvms *s, const struct vm_io *io, uint64_t n, bool write, uint64_t *done)
{
	enum stop stop;

	*done = prefix(s, io, n, write, &stop);
	if (stop == STOP_PROTECTED)
		return O_not_data_memory;
	return stop == STOP_FAULT && !io->fallible ? O_kernel_page_fault : O_ok;
}

static struct vm_io *
io_mut(struct kvms *s, enum kvms_kind kind, uint64_t id)
{
	return record_mut(s, kind, id);
}

static uint64_t
remain(const struct vm_io *io)
{
	return io->end - io->va;
}

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t
low_bytes(uint64_t value, uint64_t width)
{
	return width >= 8 ? value : value & ((UINT64_C(1) << 8 * width) - 1);
}

/* ---- Making and ending handles -------------------------------------------------- */

static uint64_t
io_new(struct kvms *s, enum kvms_kind kind, const struct vm_io *from)
{
	struct vm_io *io;
	uint64_t id = record_new(s, kind, (void **)&io);
	struct record head = io->head;

	*io = *from;
	io->head = head;
	space_use(s, io->space, +1);
	if (kind == KVMS_ID_READER)
		s->live.totals.readers++;
	else
		s->live.totals.writers++;
	return id;
}

static void
io_end(struct kvms *s, enum kvms_kind kind, uint64_t id)
{
	space_use(s, ((const struct vm_io *)record_at(s, kind, id))->space, -1);
	record_end(s, kind, id);
	if (kind == KVMS_ID_READER)
		s->live.totals.readers--;
	else
		s->live.totals.writers--;
}

static unsigned
user_check(const struct kvms *s, uint64_t space, uint64_t va, uint64_t len)
{
	if (CPU(s, s->live.current_cpu)->active != space)
		return O_NotActive;
	return len > UINT64_MAX - va || va + len > s->paging.user_end ? O_UserRange : O_ok;
}

static unsigned
kernel_check(const struct kvms *s, uint64_t va, uint64_t len)
{
	if (len == 0)
		return O_ok;
	return va < s->paging.space_base || len > UINT64_MAX - va || va + len > KERNEL_END_VADDR
		       ? O_kernel_range_invalid
		       : O_ok;
}

static struct vm_io
window(uint64_t space, uint64_t va, uint64_t len)
{
	return (struct vm_io){ .space = space, .va = va, .end = va + len, .fallible = space != 0 };
}

PRE(reader_new)
{
	return user_check(s, a->vm_space, a->va, a->len);
}

STEP(reader_new)
{
	struct vm_io io = window(a->vm_space, a->va, a->len);

	r->reader = io_new(s, KVMS_ID_READER, &io);
	return O_ok;
}

POST(reader_new)
{
	want->readers++;
}

PRE(writer_new)
{
	return user_check(s, a->vm_space, a->va, a->len);
}

STEP(writer_new)
{
	struct vm_io io = window(a->vm_space, a->va, a->len);

	r->writer = io_new(s, KVMS_ID_WRITER, &io);
	return O_ok;
}

POST(writer_new)
{
	want->writers++;
}

PRE(reader_writer_new)
{
	return user_check(s, a->vm_space, a->va, a->len);
}

STEP(reader_writer_new)
{
	struct vm_io io = window(a->vm_space, a->va, a->len);

	r->reader = io_new(s, KVMS_ID_READER, &io);
	r->writer = io_new(s, KVMS_ID_WRITER, &io);
	return O_ok;
}

POST(reader_writer_new)
{
	want->readers++;
	want->writers++;
}

PRE(reader_new_kernel)
{
	return kernel_check(s, a->va, a->len);
}

STEP(reader_new_kernel)
{
	struct vm_io io = window(0, a->va, a->len);

	r->reader = io_new(s, KVMS_ID_READER, &io);
	return O_ok;
}

POST(reader_new_kernel)
{
	want->readers++;
}

PRE(writer_new_kernel)
{
	return kernel_check(s, a->va, a->len);
}

STEP(writer_new_kernel)
{
	struct vm_io io = window(0, a->va, a->len);

	r->writer = io_new(s, KVMS_ID_WRITER, &io);
	return O_ok;
}

POST(writer_new_kernel)
{
	want->writers++;
}

/* ---- What a reader does with its window ------------------------------------------ */

PRE(reader_drop)
{
	return O_ok;
}

STEP(reader_drop)
{
	io_end(s, KVMS_ID_READER, a->reader);
	return O_ok;
}

POST(reader_drop)
{
	want->readers--;
}

PRE(reader_clone)
{
	return O_ok;
}

STEP(reader_clone)
{
	struct vm_io io = *READER(s, a->reader);

	r->reader = io_new(s, KVMS_ID_READER, &io);
	return O_ok;
}

POST(reader_clone)
{
	want->readers++;
}

PRE(reader_to_fallible)
{
	return READER(s, a->reader)->fallible ? O_fallible_handle : O_ok;
}

STEP(reader_to_fallible)
{
	io_mut(s, KVMS_ID_READER, a->reader)->fallible = 1;
	return O_ok;
}

POST(reader_to_fallible)
{
}

PRE(reader_query)
{
	return O_ok;
}

STEP(reader_query)
{
	r->va = READER(s, a->reader)->va;
	r->remain = remain(READER(s, a->reader));
	return O_ok;
}

POST(reader_query)
{
}

PRE(reader_limit)
{
	return O_ok;
}

STEP(reader_limit)
{
	struct vm_io *io = io_mut(s, KVMS_ID_READER, a->reader);

	if (a->max < remain(io))
		io->end = io->va + a->max;
	r->remain = remain(io);
	return O_ok;
}

POST(reader_limit)
{
}

PRE(reader_skip)
{
	return a->len > remain(READER(s, a->reader)) ? O_skip_out_of_range : O_ok;
}

STEP(reader_skip)
{
	struct vm_io *io = io_mut(s, KVMS_ID_READER, a->reader);

	io->va += a->len;
	r->remain = remain(io);
	return O_ok;
}

POST(reader_skip)
{
}

/* ---- What a writer does with its window ------------------------------------------ */

PRE(writer_drop)
{
	return O_ok;
}

STEP(writer_drop)
{
	io_end(s, KVMS_ID_WRITER, a->writer);
	return O_ok;
}

POST(writer_drop)
{
	want->writers--;
}

PRE(writer_clone)
{
	return O_ok;
}

STEP(writer_clone)
{
	struct vm_io io = *WRITER(s, a->writer);

	r->writer = io_new(s, KVMS_ID_WRITER, &io);
	return O_ok;
}

POST(writer_clone)
{
	want->writers++;
}

PRE(writer_to_fallible)
{
	return WRITER(s, a->writer)->fallible ? O_fallible_handle : O_ok;
}

STEP(writer_to_fallible)
{
	io_mut(s, KVMS_ID_WRITER, a->writer)->fallible = 1;
	return O_ok;
}

POST(writer_to_fallible)
{
}

PRE(writer_query)
{
	return O_ok;
}

STEP(writer_query)
{
	r->va = WRITER(s, a->writer)->va;
	r->avail = remain(WRITER(s, a->writer));
	return O_ok;
}

POST(writer_query)
{
}

PRE(writer_limit)
{
	return O_ok;
}

STEP(writer_limit)
{
	struct vm_io *io = io_mut(s, KVMS_ID_WRITER, a->writer);

	if (a->max < remain(io))
		io->end = io->va + a->max;
	r->avail = remain(io);
	return O_ok;
}

POST(writer_limit)
{
}

PRE(writer_skip)
{
	return a->len > remain(WRITER(s, a->writer)) ? O_skip_out_of_range : O_ok;
}

STEP(writer_skip)
{
	struct vm_io *io = io_mut(s, KVMS_ID_WRITER, a->writer);

	io->va += a->len;
	r->avail = remain(io);
	return O_ok;
}

POST(writer_skip)
{
}

/* ---- Values ------------------------------------------------------------------------ */

static unsigned
width_check(const struct vm_io *io, uint64_t width)
{
	if (width != 1 && width != 2 && width != 4 && width != 8)
		return O_bad_width;
	return remain(io) < width ? O_InvalidArgs : O_ok;
}

static unsigned
value_check(const struct kvms *s, const struct vm_io *io, uint64_t width, bool write)
{
	unsigned name = width_check(io, width);

	return name != O_ok ? name : all_check(s, io, width, write);
}

static unsigned
once_check(const struct kvms *s, const struct vm_io *io, uint64_t width, bool write)
{
	unsigned name;

	if (io->fallible)
		return O_fallible_handle;
	name = width_check(io, width);
	if (name != O_ok)
		return name;
	return io->va % width != 0 ? O_misaligned : all_check(s, io, width, write);
}

/* Read a value and move behind it. */
static uint64_t
value_read(struct kvms *s, uint64_t reader, uint64_t width)
{
	uint64_t value = 0;

	bytes_read(s, READER(s, reader), (unsigned char *)&value, width);
	io_mut(s, KVMS_ID_READER, reader)->va += width;
	return value;
}

static void
value_write(struct kvms *s, uint64_t writer, uint64_t width, uint64_t value)
{
	bytes_write(s, WRITER(s, writer), (const unsigned char *)&value, width);
	io_mut(s, KVMS_ID_WRITER, writer)->va += width;
}

PRE(reader_read_val)
{
	return value_check(s, READER(s, a->reader), a->width, false);
}

STEP(reader_read_val)
{
	r->value = value_read(s, a->reader, a->width);
	return O_ok;
}

POST(reader_read_val)
{
}

PRE(writer_write_val)
{
	return value_check(s, WRITER(s, a->writer), a->width, true);
}

STEP(writer_write_val)
{
	value_write(s, a->writer, a->width, a->value);
	return O_ok;
}

POST(writer_write_val)
{
}

PRE(reader_read_once)
{
	return once_check(s, READER(s, a->reader), a->width, false);
}

STEP(reader_read_once)
{
	r->value = value_read(s, a->reader, a->width);
	return O_ok;
}

POST(reader_read_once)
{
}

PRE(writer_write_once)
{
	return once_check(s, WRITER(s, a->writer), a->width, true);
}

STEP(writer_write_once)
{
	value_write(s, a->writer, a->width, a->value);
	return O_ok;
}

POST(writer_write_once)
{
}

PRE(reader_atomic_load)
{
	const struct vm_io *io = READER(s, a->reader);

	if (!io->fallible)
		return O_infallible_handle;
	if (remain(io) < 4)
		return O_InvalidArgs;
	return io->va % 4 != 0 ? O_misaligned : all_check(s, io, 4, false);
}

STEP(reader_atomic_load)
{
	bytes_read(s, READER(s, a->reader), (unsigned char *)&r->value, 4);
	return O_ok;
}

POST(reader_atomic_load)
{
}

PRE(writer_atomic_compare_exchange)
{
	const struct vm_io *writer = WRITER(s, a->writer), *reader = READER(s, a->reader);

	if (!writer->fallible || !reader->fallible)
		return O_infallible_handle;
	if (remain(writer) < 4 || remain(reader) < 4)
		return O_InvalidArgs;
	if (writer->space != reader->space || writer->va != reader->va)
		return O_cursor_mismatch;
	return writer->va % 4 != 0 ? O_misaligned : all_check(s, writer, 4, true);
}

STEP(writer_atomic_compare_exchange)
{
	const struct vm_io *io = WRITER(s, a->writer);

	bytes_read(s, io, (unsigned char *)&r->prev, 4);
	r->success = r->prev == low_bytes(a->old, 4);
	if (r->success)
		bytes_write(s, io, (const unsigned char *)&a->new, 4);
	return O_ok;
}

POST(writer_atomic_compare_exchange)
{
}

/* ---- Bytes ---------------------------------------------------------------------------- */

PRE(reader_collect)
{
	const struct vm_io *io = READER(s, a->reader);

	return remain(io) > RESULT_MAX ? O_too_long : all_check(s, io, remain(io), false);
}

STEP(reader_collect)
{
	struct vm_io *io = io_mut(s, KVMS_ID_READER, a->reader);

	r->bytes = remain(io);
	bytes_read(s, io, payload_bytes(s, out, r->bytes), r->bytes);
	io->va = io->end;
	return O_ok;
}

POST(reader_collect)
{
}

PRE(reader_read_bytes)
{
	const struct vm_io *io = READER(s, a->reader);
	uint64_t n = least(a->len, remain(io)), done;

	return n > RESULT_MAX ? O_too_long : part_check(s, io, n, false, &done);
}

STEP(reader_read_bytes)
{
	struct vm_io *io = io_mut(s, KVMS_ID_READER, a->reader);
	uint64_t n = least(a->len, remain(io));
	enum stop stop;

	r->copied = prefix(s, io, n, false, &stop);
	r->fault = r->copied < n;
	r->bytes = r->copied;
	bytes_read(s, io, payload_bytes(s, out, r->copied), r->copied);
	io->va += r->copied;
	return O_ok;
}

POST(reader_read_bytes)
{
}

PRE(writer_write_bytes)
{
	const struct vm_io *io = WRITER(s, a->writer);
	uint64_t done;

	return part_check(s, io, least(a->bytes, remain(io)), true, &done);
}

STEP(writer_write_bytes)
{
	struct vm_io *io = io_mut(s, KVMS_ID_WRITER, a->writer);
	uint64_t n = least(a->bytes, remain(io));
	enum stop stop;

	r->copied = prefix(s, io, n, true, &stop);
	r->fault = r->copied < n;
	bytes_write(s, io, (const unsigned char *)list, r->copied);
	io->va += r->copied;
	return O_ok;
}

POST(writer_write_bytes)
{
}

PRE(writer_fill_zeros)
{
	const struct vm_io *io = WRITER(s, a->writer);
	uint64_t n = least(a->len, remain(io)), done;

	return n > MOVE_MAX ? O_too_long : part_check(s, io, n, true, &done);
}

STEP(writer_fill_zeros)
{
	struct vm_io *io = io_mut(s, KVMS_ID_WRITER, a->writer);
	uint64_t n = least(a->len, remain(io));
	enum stop stop;

	r->copied = prefix(s, io, n, true, &stop);
	r->fault = r->copied < n;
	bytes_write(s, io, NULL, r->copied);
	io->va += r->copied;
	return O_ok;
}

POST(writer_fill_zeros)
{
}

PRE(writer_fill)
{
	const struct vm_io *io = WRITER(s, a->writer);
	uint64_t avail = remain(io);

	if (io->fallible)
		return O_fallible_handle;
	if (a->width != 1 && a->width != 2 && a->width != 4 && a->width != 8)
		return O_bad_width;
	if (avail > MOVE_MAX)
		return O_too_long;
	if (io->va % a->width != 0 || avail % a->width != 0)
		return O_misaligned;
	return all_check(s, io, avail, true);
}

STEP(writer_fill)
{
	struct vm_io *io = io_mut(s, KVMS_ID_WRITER, a->writer);
	unsigned char piece_of[64];

	for (unsigned i = 0; i < sizeof piece_of; i++)
		piece_of[i] = (unsigned char)(a->value >> 8 * (i % a->width));
	r->count = remain(io) / a->width;
	while (remain(io) > 0) {
		uint64_t n = least(remain(io), sizeof piece_of);

		bytes_write(s, io, piece_of, n);
		io->va += n;
	}
	return O_ok;
}

POST(writer_fill)
{
}

/* ---- Copying ------------------------------------------------------------------------------ */

/* COPY's decision: how many bytes, or why not.  With *fault the side that stopped is fallible. */
static unsigned
copy_check(const struct kvms *s, const struct vm_io *reader, const struct vm_io *writer, uint64_t *k, bool *fault)
{
	uint64_t n = least(remain(reader), remain(writer));
	enum stop reader_stop, writer_stop;
	uint64_t kr = prefix(s, reader, n, false, &reader_stop), kw = prefix(s, writer, n, true, &writer_stop);
	bool by_reader = kr <= kw;

	*k = least(kr, kw);
	*fault = *k < n;
	if (*k == n)
		return O_ok;
	if ((by_reader ? reader_stop : writer_stop) == STOP_PROTECTED)
		return O_not_data_memory;
	return (by_reader ? reader : writer)->fallible ? O_ok : O_kernel_page_fault;
}

/* All source bytes are read before any is written; both windows advance. */
static void
copy(struct kvms *s, uint64_t reader, uint64_t writer, uint64_t k)
{
	unsigned char *bytes = (unsigned char *)scratch_need(s, (size_t)(k + 7) / 8);
	struct vm_io *from = io_mut(s, KVMS_ID_READER, reader), *to = io_mut(s, KVMS_ID_WRITER, writer);

	bytes_read(s, from, bytes, k);
	bytes_write(s, to, bytes, k);
	from->va += k;
	to->va += k;
}

static unsigned
infallible_copy_check(const struct kvms *s, uint64_t reader, uint64_t writer)
{
	const struct vm_io *from = READER(s, reader), *to = WRITER(s, writer);
	uint64_t k;
	bool fault;

	if (from->fallible || to->fallible)
		return O_fallible_handle;
	if (least(remain(from), remain(to)) > MOVE_MAX)
		return O_too_long;
	return copy_check(s, from, to, &k, &fault);
}

PRE(io_read)
{
	return infallible_copy_check(s, a->reader, a->writer);
}

STEP(io_read)
{
	struct vm_io consumed = window(0, WRITER(s, a->writer)->va, 0);

	r->copied = least(remain(READER(s, a->reader)), remain(WRITER(s, a->writer)));
	copy(s, a->reader, a->writer, r->copied);
	consumed.end = consumed.va + r->copied;
	r->consumed = io_new(s, KVMS_ID_WRITER, &consumed);
	return O_ok;
}

POST(io_read)
{
	want->writers++;
}

PRE(io_write)
{
	return infallible_copy_check(s, a->reader, a->writer);
}

STEP(io_write)
{
	r->copied = least(remain(READER(s, a->reader)), remain(WRITER(s, a->writer)));
	copy(s, a->reader, a->writer, r->copied);
	return O_ok;
}

POST(io_write)
{
}

PRE(io_copy_fallible)
{
	const struct vm_io *from = READER(s, a->reader), *to = WRITER(s, a->writer);
	uint64_t k;
	bool fault;

	if (!from->fallible && !to->fallible)
		return O_infallible_handle;
	if (least(remain(from), remain(to)) > MOVE_MAX)
		return O_too_long;
	return copy_check(s, from, to, &k, &fault);
}

STEP(io_copy_fallible)
{
	bool fault;

	(void)copy_check(s, READER(s, a->reader), WRITER(s, a->writer), &r->copied, &fault);
	r->fault = fault;
	copy(s, a->reader, a->writer, r->copied);
	return O_ok;
}

POST(io_copy_fallible)
{
}
