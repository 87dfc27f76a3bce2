#include "store/int.h"

#include <string.h>
#include <sys/mman.h>

/* Address space without memory behind it; NULL if refused. */
static unsigned char *
reserve(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

bool
memory_reserve(struct kvms *s, char *why, size_t size)
{
	/* one page and one slot past the end, which must stay zero: laws region.* look there */
	size_t slots = (size_t)(s->slots_count + 1) * sizeof(struct slot);
	size_t used = bitmap_bytes(s->slots_count, true);
	static const char text[] = "the machine grants no address space of that size: raise the limit on virtual memory "
				   "(ulimit -v, vm.overcommit_memory) or choose a smaller max_paddr";

	s->memory_size = (size_t)s->max_paddr + PAGE;
	s->metadata_size = slots + used + bitmap_bytes(s->slots_count, false);
	s->memory = reserve(s->memory_size);
	s->metadata = reserve(s->metadata_size);
	if (s->memory == NULL || s->metadata == NULL) {
		memory_release(s);
		if (size > 0) {
			strncpy(why, text, size - 1);
			why[size - 1] = '\0';
		}
		return false;
	}
	s->slot = (struct slot *)(void *)s->metadata;
	bitmap_init(&s->used, s->slots_count, true, s->metadata + slots);
	bitmap_init(&s->written, s->slots_count, false, s->metadata + slots + used);
	return true;
}

void
memory_release(struct kvms *s)
{
	if (s->memory != NULL)
		munmap(s->memory, s->memory_size);
	if (s->metadata != NULL)
		munmap(s->metadata, s->metadata_size);
	s->memory = s->metadata = NULL;
}

void
word_set(struct kvms *s, uint64_t paddr, uint64_t word)
{
	uint64_t *at = (uint64_t *)(void *)(s->memory + paddr);
	uint64_t old = *at;

	if (old == word)
		return;
	undo_save_word(s, paddr, old);
	s->live.sum += digest_word(paddr, word) - digest_word(paddr, old);
	*at = word;
	if (!bitmap_test(&s->written, paddr / PAGE))
		bitmap_set(&s->written, paddr / PAGE);
}

void
page_zero(struct kvms *s, uint64_t paddr)
{
	if (!bitmap_test(&s->written, paddr / PAGE))
		return;
	for (uint64_t at = paddr; at < paddr + PAGE; at += 8)
		if (word_at(s, at) != 0)
			word_set(s, at, 0);
	bitmap_clear(&s->written, paddr / PAGE);
}

/* Replace bytes [offset, offset + count) of the word at "at". */
static void
word_patch(struct kvms *s, uint64_t at, unsigned offset, unsigned count, const unsigned char *bytes)
{
	uint64_t word = word_at(s, at);

	memcpy((unsigned char *)&word + offset, bytes, count);
	word_set(s, at, word);
}

void
memory_write(struct kvms *s, uint64_t paddr, const void *bytes, uint64_t size)
{
	const unsigned char *from = bytes;

	while (size > 0) {
		unsigned offset = (unsigned)(paddr % 8);
		unsigned count = size < 8 - offset ? (unsigned)size : 8 - offset;

		word_patch(s, paddr - offset, offset, count, from);
		from += count;
		paddr += count;
		size -= count;
	}
}

void
memory_read(const struct kvms *s, uint64_t paddr, void *bytes, uint64_t size)
{
	memcpy(bytes, s->memory + paddr, (size_t)size);
}

void
memory_zero(struct kvms *s, uint64_t paddr, uint64_t size)
{
	static const unsigned char zeros[PAGE];

	while (size > 0) {
		uint64_t count = PAGE - paddr % PAGE < size ? PAGE - paddr % PAGE : size;

		if (count == PAGE)
			page_zero(s, paddr);
		else if (bitmap_test(&s->written, paddr / PAGE))
			memory_write(s, paddr, zeros, count);
		paddr += count;
		size -= count;
	}
}
