/* Frames, buffers, the arena, and where the daemon listens. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "proto/address.h"
#include "proto/arena.h"
#include "proto/buffer.h"
#include "proto/frame.h"

/* Same seed, same run. */
static uint64_t
random_next(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t x = *state;

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

Test(frame, header_reads_back)
{
	static const size_t sizes[] = { 1, 2, 255, 256, 65535, 65536, 0x1000000, KVMP_RESPONSE_MAX };
	uint8_t header[KVMP_FRAME_HEADER];
	size_t size;

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		kvmp_frame_header(header, sizes[i]);
		cr_assert(kvmp_frame_next(header, sizeof header, KVMP_RESPONSE_MAX, &size) == KVMP_FRAME_PARTIAL);
		cr_assert(size == sizes[i]);
	}
}

Test(frame, length_is_little_endian)
{
	static const uint8_t bytes[] = { 2, 0, 0, 0, 'a', 'b' };
	size_t size;

	cr_assert(kvmp_frame_next(bytes, sizeof bytes, 10, &size) == KVMP_FRAME_WHOLE);
	cr_assert(size == 2);
}

Test(frame, every_prefix_is_partial)
{
	static const uint8_t bytes[] = { 3, 0, 0, 0, 'a', 'b', 'c', 'd' };
	size_t size;

	for (size_t n = 0; n < 7; n++) {
		cr_assert(kvmp_frame_next(bytes, n, 100, &size) == KVMP_FRAME_PARTIAL, "at %zu", n);
		cr_assert(size == (n < 4 ? 0u : 3u));
	}
	cr_assert(kvmp_frame_next(bytes, 7, 100, &size) == KVMP_FRAME_WHOLE);
	cr_assert(kvmp_frame_next(bytes, 8, 100, &size) == KVMP_FRAME_WHOLE);
}

Test(frame, empty_and_oversize_are_bad)
{
	static const uint8_t empty[] = { 0, 0, 0, 0 }, large[] = { 11, 0, 0, 0 }, huge[] = { 255, 255, 255, 255 };
	size_t size;

	cr_assert(kvmp_frame_next(empty, 4, 10, &size) == KVMP_FRAME_BAD);
	cr_assert(kvmp_frame_next(large, 4, 10, &size) == KVMP_FRAME_BAD);
	cr_assert(size == 11);
	cr_assert(kvmp_frame_next(large, 4, 11, &size) == KVMP_FRAME_PARTIAL);
	cr_assert(kvmp_frame_next(huge, 4, KVMP_RESPONSE_MAX, &size) == KVMP_FRAME_BAD);
	cr_assert(size == UINT32_MAX);
}

Test(buffer, bytes_come_out_as_they_went_in)
{
	struct kvmp_buffer b = { 0 };
	uint64_t seed = 7;
	uint8_t in = 0, out = 0;

	for (unsigned round = 0; round < 20000; round++) {
		size_t add = random_next(&seed) % 300, take;
		uint8_t *place = kvmp_buffer_reserve(&b, add);

		cr_assert(place != NULL || add == 0);
		for (size_t i = 0; i < add; i++)
			place[i] = in++;
		kvmp_buffer_added(&b, add);
		cr_assert(b.start <= b.end && b.end <= b.capacity);
		take = kvmp_buffer_size(&b) == 0 ? 0 : random_next(&seed) % (kvmp_buffer_size(&b) + 1);
		if (round % 100 == 99)
			take = kvmp_buffer_size(&b);
		for (size_t i = 0; i < take; i++)
			cr_assert(b.data[b.start + i] == out++);
		kvmp_buffer_take(&b, take);
		if (round % 1000 == 999)
			kvmp_buffer_shrink(&b, 1000);
	}
	cr_assert(b.capacity < 200000, "it grew to %zu", b.capacity);
	kvmp_buffer_free(&b);
	cr_assert(b.data == NULL);
}

Test(buffer, absurd_size_is_refused)
{
	struct kvmp_buffer b = { 0 };

	memcpy(kvmp_buffer_reserve(&b, 3), "abc", 3);
	kvmp_buffer_added(&b, 3);
	cr_assert(kvmp_buffer_reserve(&b, SIZE_MAX - 2) == NULL);
	cr_assert(kvmp_buffer_reserve(&b, SIZE_MAX / 4) == NULL);
	cr_assert(kvmp_buffer_size(&b) == 3 && memcmp(b.data + b.start, "abc", 3) == 0);
	kvmp_buffer_free(&b);
}

Test(arena, places_are_aligned_and_apart)
{
	struct kvmp_arena a;
	uint8_t *last = NULL;

	kvmp_arena_init(&a, 1 << 20);
	for (size_t size = 0; size < 1000; size++) {
		uint8_t *place = kvmp_arena_alloc(&a, size);

		cr_assert(place != NULL);
		cr_assert((uintptr_t)place % 16 == 0);
		cr_assert(place != last);
		memset(place, (int)size, size);
		last = place;
	}
	kvmp_arena_free(&a);
}

Test(arena, limit_is_refused_and_reset_forgets)
{
	struct kvmp_arena a;

	kvmp_arena_init(&a, 100000);
	cr_assert(kvmp_arena_alloc(&a, 60000) != NULL);
	cr_assert(!a.refused);
	cr_assert(kvmp_arena_alloc(&a, 60000) == NULL);
	cr_assert(a.refused);
	kvmp_arena_reset(&a);
	cr_assert(!a.refused);
	cr_assert(kvmp_arena_alloc(&a, 100000) != NULL);
	cr_assert(kvmp_arena_alloc(&a, 1) == NULL);
	cr_assert(kvmp_arena_alloc(&a, SIZE_MAX) == NULL);
	kvmp_arena_free(&a);
}

Test(address, variable_then_root_then_runtime_directory)
{
	char path[64];

	cr_assert(kvmp_socket_path(&(struct kvmp_surroundings){ "/a/b", "/run/user/7", true }, path, sizeof path));
	cr_assert_str_eq(path, "/a/b");
	cr_assert(kvmp_socket_path(&(struct kvmp_surroundings){ "", "/run/user/7", true }, path, sizeof path));
	cr_assert_str_eq(path, KVMP_SOCKET_ROOT);
	cr_assert(kvmp_socket_path(&(struct kvmp_surroundings){ NULL, "/run/user/7", false }, path, sizeof path));
	cr_assert_str_eq(path, "/run/user/7/kvmstored.sock");
}

Test(address, no_default_without_runtime_directory)
{
	char path[20];

	cr_assert(!kvmp_socket_path(&(struct kvmp_surroundings){ NULL, NULL, false }, path, sizeof path));
	cr_assert(!kvmp_socket_path(&(struct kvmp_surroundings){ NULL, "", false }, path, sizeof path));
	cr_assert(
	    !kvmp_socket_path(&(struct kvmp_surroundings){ NULL, "/run/user/7777777", false }, path, sizeof path));
}

Test(address, store_names)
{
	static const char *const good[] = { "a", "default", "A.b-c_9", "0",
					    "0123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const bad[] = {
		"",    ".",   "..",       ".a",  "a/b",
		"a b", "a\n", "\xc3\xa9", "a:b", "01234567890123456789012345678901234567890123456789012345678901234"
	};

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		cr_assert(kvmp_store_name_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_assert(!kvmp_store_name_valid(bad[i]), "%s", bad[i]);
}
