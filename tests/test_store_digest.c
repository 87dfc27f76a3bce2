/*
 * The digest: the function, the numbers of three stores, and that keeping it
 * step by step gives what computing it afresh gives.
 */
#include "tests/store_kit.h"

Test(digest, mixes_words_as_written_down)
{
	cr_assert_eq(digest_mix((const uint64_t[]){ 0 }, 1), UINT64_C(0xe220a8397b1dcdaf));
	cr_assert_eq(digest_mix((const uint64_t[]){ 1, 2, 3 }, 3), UINT64_C(0xd0734750fde362b3));
	cr_assert_eq(digest_mix(NULL, 0), 0);
	cr_assert_eq(digest_word(0x1000, 0), 0, "a word of zero is no element");
	cr_assert_eq(digest_word(0x1000, 5), digest_mix((const uint64_t[]){ 3, 0x1000, 5 }, 3));
}

Test(digest, of_three_stores)
{
	struct kvms_refusal why;
	struct kvms *s = kvms_new(NULL, &why);
	uint64_t sum;

	cr_assert_not_null(s);
	cr_assert_eq(kvms_digest(s), UINT64_C(0x89724308c7d7aa90));
	cr_assert_eq(kit_elements(s, &sum), 787);
	cr_assert_eq(sum, kvms_digest(s));
	kit_want(s, "ok frame=1", "frame_from_unused paddr=0x1000");
	cr_assert_eq(kvms_digest(s), UINT64_C(0x7f75b2dfbb38d6de));
	cr_assert_eq(kit_elements(s, &sum), 789);
	cr_assert_eq(sum, kvms_digest(s));
	kit_want(s, "ok area=1 start=0xffffdfffffffe000 end=0xffffe00000000000 nodes_allocated=2",
		 "kvirt_map_frames area_size=0x2000 frames=[1] prop=rw:wb");
	cr_assert_eq(kvms_digest(s), UINT64_C(0xf2c8117a32c65f1f));
	cr_assert_eq(kit_elements(s, &sum), 796);
	cr_assert_eq(sum, kvms_digest(s));
	cr_assert_eq(word_at(s, 0x7fefdff0), UINT64_C(0x8010000000001083));
	kvms_free(&s);
}

struct listing {
	uint64_t last[3];
	uint64_t of_tag[32];
};

static bool
list_element(void *arg, const uint64_t *words, unsigned count)
{
	struct listing *l = arg;
	uint64_t key = words[0] == 19 ? words[1] << 60 | words[2] : words[1];

	cr_assert_geq(count, 3);
	cr_assert_lt(words[0], 32);
	cr_assert(words[0] > l->last[0] || (words[0] == l->last[0] && key > l->last[1]),
		  "tag %" PRIu64 " key %" PRIu64 " behind tag %" PRIu64 " key %" PRIu64, words[0], key, l->last[0],
		  l->last[1]);
	l->last[0] = words[0];
	l->last[1] = key;
	l->of_tag[words[0]]++;
	return true;
}

Test(digest, elements_of_a_fresh_store_by_tag_and_in_order)
{
	struct kvms *s = kit_new("ncpu=3");
	struct listing l = { .last = { 0 } };

	cr_assert(kvms_visit(s, list_element, &l));
	cr_assert_eq(l.of_tag[1], 1);
	cr_assert_eq(l.of_tag[2], 257);
	cr_assert_eq(l.of_tag[3], 256);
	cr_assert_eq(l.of_tag[4], 257);
	cr_assert_eq(l.of_tag[15], 1);
	cr_assert_eq(l.of_tag[19], 2);
	cr_assert_eq(l.of_tag[20], 3);
	cr_assert_eq(l.of_tag[22], 11);
	cr_assert_eq(l.of_tag[23], 1);
	cr_assert_eq(kit_elements(s, NULL), 789);
	kvms_free(&s);
}

struct stop {
	uint64_t after;
	bool asked_again;
};

static bool
stop_element(void *arg, const uint64_t *words, unsigned count)
{
	struct stop *stop = arg;

	(void)words;
	(void)count;
	cr_assert(!stop->asked_again, "asked again after it had said no");
	stop->asked_again = stop->after-- == 0;
	return !stop->asked_again;
}

Test(digest, a_visit_stops_where_it_is_told_to)
{
	struct kvms *s = kit_new("max_paddr=0x400000");

	kit_ok(s, "frame_alloc");
	kit_ok(s, "segment_from_unused start=0x5000 end=0x6000");
	kit_ok(s, "kvirt_reserve area_size=0x1000");
	uint64_t count = kit_elements(s, NULL);

	for (uint64_t after = 0; after < count; after++) {
		struct stop stop = { after, false };
		cr_assert(!kvms_visit(s, stop_element, &stop));
	}
	struct stop never = { count, false };
	cr_assert(kvms_visit(s, stop_element, &never));
	kvms_free(&s);
}

/* Each key of the configuration that the digest names makes another store. */
Test(digest, tells_configurations_apart)
{
	static const char *const configs[] = {
		"",
		"max_paddr=0x80001000",
		"max_paddr=0x40000000",
		"rc_max=1",
		"ncpu=2",
		"ncpu=64",
		"vmalloc=0xffffc00000000000..0xffffc00000001000",
		"vmalloc=0xffffc00000001000..0xffffe00000000000",
		"vmalloc=[0xffffc00000000000..0xffffd00000000000,0xffffd00000001000..0xffffe00000000000]",
		"reserve=[0x0..0x1000]",
		"mmio=[0x0..0x1000]",
		"reserve=[0x1000..0x2000]",
	};
	uint64_t digests[KIT_COUNT(configs)];

	for (size_t i = 0; i < KIT_COUNT(configs); i++) {
		struct kvms *s = kit_new("%s", configs[i]);

		digests[i] = kvms_digest(s);
		for (size_t k = 0; k < i; k++)
			cr_assert_neq(digests[i], digests[k], "'%s' and '%s'", configs[i], configs[k]);
		kvms_free(&s);
	}
	/* written otherwise, the same store */
	struct kvms *s = kit_new("max_paddr=2147483648 vmalloc=[0xffffc00000000000..0xffffe00000000000] boot=minimal");
	cr_assert_eq(kvms_digest(s), digests[0]);
	kvms_free(&s);
}

/* What goes back to where it was has the digest it had, but for the ids that were used up. */
Test(digest, of_a_state_reached_by_another_way_is_the_same)
{
	struct kvms *a = kit_new("max_paddr=0x400000"), *b = kit_new("max_paddr=0x400000");

	kit_ok(a, "frame_from_unused paddr=0x1000");
	kit_ok(a, "frame_from_unused paddr=0x2000");
	kit_ok(a, "frame_drop frame=1");
	kit_ok(a, "kvirt_reserve area_size=0x2000");
	kit_ok(a, "kvirt_reserve area_size=0x1000");
	kit_ok(a, "kvirt_unreserve area=2");
	kit_ok(b, "frame_from_unused paddr=0x5000");
	kit_ok(b, "frame_drop frame=1");
	kit_ok(b, "frame_from_unused paddr=0x2000");
	kit_ok(b, "kvirt_reserve area_size=0x2000");
	kit_ok(b, "kvirt_reserve_at start=0xffffc00000000000 area_size=0x7000");
	kit_ok(b, "kvirt_unreserve area=2");
	cr_assert_eq(kvms_digest(a), kvms_digest(b));
	cr_assert_eq(kit_visible(a), kit_visible(b));
	kvms_free(&a);
	kvms_free(&b);
}

/* Asked at random, the digest kept in steps is that of all elements; more changes than its list holds included. */
Test(digest, kept_in_steps_is_the_digest_computed_afresh)
{
	struct kvms *s = kit_new("max_paddr=0x4000000 vmalloc=0xffffc00000000000..0xffffc00010000000");
	struct kit_random r = { 3 };
	uint64_t steps = kit_scaled(4000), sum;

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	for (uint64_t i = 0; i < steps; i++) {
		uint64_t page = kit_below(&r, 12000) * PAGE;

		switch (kit_below(&r, 8)) {
		case 0:
			kit_step(s, "segment_from_unused start=0x%" PRIx64 " end=0x%" PRIx64, page,
				 page + kit_below(&r, 5000) * PAGE);
			break;
		case 1:
			kit_step(s, "segment_drop segment=%" PRIu64, record_next(s, KVMS_ID_SEGMENT, 1));
			break;
		case 2:
			kit_step(s, "frame_from_unused paddr=0x%" PRIx64, page);
			break;
		case 3:
			kit_step(s, "frame_drop frame=%" PRIu64, record_next(s, KVMS_ID_FRAME, 1));
			break;
		case 4:
			kit_step(s, "kvirt_map_frames area_size=0x3000 frames=[%" PRIu64 "] prop=rw:wb",
				 record_next(s, KVMS_ID_FRAME, 1));
			break;
		case 5:
			kit_step(s,
				 "kvirt_map_untracked_frames area_size=0x400000 paddr_start=0x%" PRIx64
				 " paddr_end=0x%" PRIx64 " prop=r:uc",
				 page, page + kit_below(&r, 400) * PAGE);
			break;
		case 6:
			kit_step(s, "kvirt_drop area=%" PRIu64, record_next(s, KVMS_ID_AREA, 1));
			break;
		default:
			kit_step(s, "kvirt_split area=%" PRIu64 " offset=0x1000", record_next(s, KVMS_ID_AREA, 1));
		}
		if (kit_below(&r, 20) != 0)
			continue;
		kit_elements(s, &sum);
		cr_assert_eq(kvms_digest(s), sum, "step %" PRIu64, i);
		cr_assert_eq(digest_recompute(s), sum);
	}
	kit_sound(s);
	kvms_free(&s);
}
