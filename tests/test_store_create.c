/*
 * Creation: every limit of the configuration is held, and named when it is
 * broken; what is large costs nothing while it is empty; a machine that gives
 * too little is told apart from a configuration that asks too much.
 */
#include "tests/store_kit.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- Limits ---------------------------------------------------------------------------------- */

/* Keys of a store line and the key to blame; "" = they make a store. */
static const struct {
	const char *keys;
	const char *key;
} limits[] = {
	{ "", "" },
	{ "max_paddr=0x200000", "" },
	{ "max_paddr=0x1ff000", "max_paddr" },
	{ "max_paddr=0x0", "max_paddr" },
	{ "max_paddr=0x200001", "max_paddr" },
	{ "max_paddr=0x200800", "max_paddr" },
	{ "max_paddr=0x201000", "" },
	{ "max_paddr=0x400000000000", "" },
	{ "max_paddr=0x400000001000", "max_paddr" },
	{ "max_paddr=0xfffffffffffff000", "max_paddr" },
	{ "max_paddr=0xffffffffffffffff", "max_paddr" },
	{ "rc_max=0", "rc_max" },
	{ "rc_max=1", "" },
	{ "rc_max=0x7fffffffffffffff", "" },
	{ "rc_max=0x8000000000000000", "rc_max" },
	{ "rc_max=0xffffffffffffffff", "rc_max" },
	{ "ncpu=0", "ncpu" },
	{ "ncpu=64", "" },
	{ "ncpu=65", "ncpu" },
	{ "ncpu=0xffffffffffffffff", "ncpu" },
	/* vmalloc: aligned, not empty, in the kernel half, ascending, apart, clear of the linear map */
	{ "vmalloc=0xffffc00000000000..0xffffc00000001000", "" },
	{ "vmalloc=[]", "vmalloc" },
	{ "vmalloc=0xffffc00000000800..0xffffc00000001000", "vmalloc" },
	{ "vmalloc=0xffffc00000000000..0xffffc00000001800", "vmalloc" },
	{ "vmalloc=0xffffc00000000000..0xffffc00000000000", "vmalloc" },
	{ "vmalloc=0xffffc00000001000..0xffffc00000000000", "vmalloc" },
	{ "vmalloc=0xffff7ffffffff000..0xffffc00000001000", "vmalloc" },
	{ "vmalloc=0x1000..0x2000", "vmalloc" },
	{ "vmalloc=0xfffffffffff00000..0xffffffffffff0000", "" },
	{ "vmalloc=0xfffffffffff00000..0xffffffffffff1000", "vmalloc" },
	{ "vmalloc=0xffff800080000000..0xffff800080001000", "" },
	{ "vmalloc=0xffff80007ffff000..0xffff800080001000", "vmalloc" },
	{ "vmalloc=0xffff800000000000..0xffff800000001000", "vmalloc" },
	{ "max_paddr=0x200000 vmalloc=0xffff800000200000..0xffff800000201000", "" },
	{ "max_paddr=0x201000 vmalloc=0xffff800000200000..0xffff800000201000", "vmalloc" },
	{ "max_paddr=0x400000000000 vmalloc=0xffffbffffffff000..0xffffc00000001000", "vmalloc" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffffc00000002000..0xffffc00000003000]", "" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffffc00000001000..0xffffc00000003000]", "vmalloc" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000002000,0xffffc00000001000..0xffffc00000003000]", "vmalloc" },
	{ "vmalloc=[0xffffc00000002000..0xffffc00000003000,0xffffc00000000000..0xffffc00000001000]", "vmalloc" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffffc00000002000..0xffffc00000002000]", "vmalloc" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffffc00000002000..0xffffc00000002800]", "vmalloc" },
	{ "vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffff800000000000..0xffff800000001000]", "vmalloc" },
	/* reserve and mmio: aligned, not empty, in memory, apart from each other */
	{ "reserve=[]", "" },
	{ "reserve=[0x1000..0x2000]", "" },
	{ "reserve=[0x1000..0x2000,0x2000..0x3000]", "" },
	{ "reserve=[0x1000..0x1000]", "reserve" },
	{ "reserve=[0x2000..0x1000]", "reserve" },
	{ "reserve=[0x1001..0x2000]", "reserve" },
	{ "reserve=[0x1000..0x2001]", "reserve" },
	{ "reserve=[0x7ffff000..0x80000000]", "" },
	{ "reserve=[0x7ffff000..0x80001000]", "reserve" },
	{ "reserve=[0x80000000..0x80001000]", "reserve" },
	{ "reserve=[0x1000..0x4000,0x3000..0x5000]", "reserve" },
	{ "reserve=[0x1000..0x4000,0x2000..0x3000]", "reserve" },
	{ "reserve=[0x1000..0x2000,0x1000..0x2000]", "reserve" },
	{ "reserve=[0x3000..0x5000,0x1000..0x2000]", "" },
	{ "reserve=[0x3000..0x5000,0x1000..0x4000]", "reserve" },
	{ "mmio=[0x1000..0x2000]", "" },
	{ "mmio=[0x1000..0x1000]", "mmio" },
	{ "mmio=[0x1000..0x1800]", "mmio" },
	{ "mmio=[0x80000000..0x80001000]", "mmio" },
	{ "mmio=[0x1000..0x3000,0x2000..0x4000]", "mmio" },
	{ "reserve=[0x1000..0x3000] mmio=[0x3000..0x4000]", "" },
	{ "reserve=[0x1000..0x3000] mmio=[0x2000..0x4000]", "mmio" },
	{ "reserve=[0x1000..0x3000] mmio=[0x0..0x2000]", "mmio" },
	{ "reserve=[0x1000..0x3000] mmio=[0x0..0x10000]", "mmio" },
	{ "reserve=[0x1000..0x2000,0x8000..0x9000] mmio=[0x2000..0x8000,0x9000..0xa000]", "" },
	/* the kernel image is looked at only where it is mapped */
	{ "kernel=0x1001..0x1000", "" },
	/* room for the 257 nodes of the kernel's table */
	{ "max_paddr=0x200000 reserve=[0x0..0xff000]", "" },
	{ "max_paddr=0x200000 reserve=[0x0..0x100000]", "boot" },
	{ "max_paddr=0x200000 mmio=[0x0..0x200000]", "boot" },
};

Test(creation, holds_every_limit_and_names_the_key)
{
	for (size_t i = 0; i < KIT_COUNT(limits); i++) {
		const char *refusal = kit_refusal("%s", limits[i].keys);
		size_t size = strlen(limits[i].key);

		if (kit_sanitized() && refusal[0] == '-')
			continue; /* the sanitizer has taken the address space for itself */
		if (size == 0)
			cr_expect_str_eq(refusal, "", "%s: refused: %s", limits[i].keys, refusal);
		else
			cr_expect(strncmp(refusal, limits[i].key, size) == 0 && refusal[size] == ':',
				  "%s: '%s', not %s", limits[i].keys, refusal, limits[i].key);
	}
}

/*
 * What is special to an architecture, and to a full boot, which maps memory,
 * metadata and image each by one cursor: over exactly one slot of a large page
 * that cannot be.
 */
static const struct {
	const char *keys;
	const char *key;
} boots[] = {
	{ "arch=riscv64_sv39 max_paddr=0x2000000000", "" },
	{ "arch=riscv64_sv39 max_paddr=0x2000001000", "max_paddr" },
	{ "arch=riscv64_sv48 max_paddr=0x2000001000", "" },
	{ "arch=loongarch64 max_paddr=0x400000001000", "max_paddr" },
	{ "arch=x86_64_la57 max_paddr=0x400000001000", "max_paddr" },
	/* the kernel half begins elsewhere */
	{ "arch=riscv64_sv39 vmalloc=0xffffffe000000000..0xffffffe000001000", "" },
	{ "arch=riscv64_sv39 vmalloc=0xffffc00000000000..0xffffc00000001000", "vmalloc" },
	{ "arch=riscv64_sv39 vmalloc=0xffffffbffffff000..0xffffffc000001000", "vmalloc" },
	{ "arch=riscv64_sv39 vmalloc=0xffffffc000000000..0xffffffc000001000", "vmalloc" },
	{ "arch=riscv64_sv39 vmalloc=0xffffffc080000000..0xffffffc080001000", "" },
	{ "arch=riscv64_sv39 max_paddr=0x2000000000 vmalloc=0xffffffdffffff000..0xffffffe000001000", "vmalloc" },
	{ "arch=x86_64_la57 vmalloc=0xff00000080000000..0xff00000080001000", "" },
	{ "arch=x86_64_la57 vmalloc=0xff0000007ffff000..0xff00000080001000", "vmalloc" },
	{ "arch=x86_64_la57 vmalloc=0xfeffffffffff0000..0xff80000000000000", "vmalloc" },
	/* loongarch64 has its memory in a window of the hardware, so nothing is in the way */
	{ "arch=loongarch64 vmalloc=0xffff800000000000..0xffff800000001000", "" },
	{ "arch=loongarch64 vmalloc=0xffff7ffffffff000..0xffff800000001000", "vmalloc" },
	{ "arch=loongarch64 vmalloc=0x9000000000000000..0x9000000000001000", "vmalloc" },
	/* the image: aligned, not empty, in memory, apart from the rest; only if it is mapped */
	{ "boot=full", "" },
	{ "boot=full kernel=0x8000800..0x9000000", "kernel" },
	{ "boot=full kernel=0x8000000..0x9000800", "kernel" },
	{ "boot=full kernel=0x8000000..0x8000000", "kernel" },
	{ "boot=full kernel=0x9000000..0x8000000", "kernel" },
	{ "boot=full kernel=0x7ff00000..0x7ffff000", "" },
	{ "boot=full max_paddr=0x100000000 kernel=0x7ff00000..0x80001000", "boot" }, /* behind the last address */
	{ "boot=full max_paddr=0x100000000 kernel=0x7ff00000..0x80000000", "boot" },
	{ "boot=full max_paddr=0x100000000 kernel=0x80000000..0x80400000", "boot" },
	{ "boot=full max_paddr=0x100000000 kernel=0xe0000000..0xe0400000", "boot" },
	{ "boot=full max_paddr=0x100000000 kernel=0x7ff00000..0x80000000 "
	  "vmalloc=0xfffffffffff00000..0xffffffffffff0000", "vmalloc" },
	{ "boot=full arch=riscv64_sv48 max_paddr=0x200000000 kernel=0xe0000000..0xe0400000", "" },
	{ "boot=full arch=riscv64_sv48 max_paddr=0x200000000 kernel=0xfff00000..0x100000000", "boot" },
	{ "boot=full arch=loongarch64 max_paddr=0x100000000 kernel=0x80000000..0x80400000", "" },
	{ "boot=full kernel=0x7ff00000..0x80001000", "kernel" },
	{ "boot=full max_paddr=0x200000", "kernel" },
	{ "boot=full kernel=0x8000000..0x9000000 reserve=[0x8fff000..0x9001000]", "reserve" },
	{ "boot=minimal kernel=0x8000000..0x9000000 reserve=[0x8fff000..0x9001000]", "" },
	{ "boot=full kernel=0x8000000..0x9000000 mmio=[0x7fff000..0x8001000]", "mmio" },
	{ "boot=full kernel=0x8000000..0x9000000 reserve=[0x9000000..0x9001000] mmio=[0x7fff000..0x8000000]", "" },
	/* areas away from the metadata's map and the image's */
	{ "boot=full vmalloc=0xffffe00000000000..0xffffe00000001000", "vmalloc" },
	{ "boot=full vmalloc=0xffffe00001fff000..0xffffe00002001000", "vmalloc" },
	{ "boot=full vmalloc=0xffffe00002000000..0xffffe00002001000", "" },
	{ "boot=minimal vmalloc=0xffffe00000000000..0xffffe00000001000", "" },
	{ "boot=full vmalloc=0xffffffff87fff000..0xffffffff88001000", "vmalloc" },
	{ "boot=full vmalloc=0xffffffff89000000..0xffffffff89001000", "" },
	{ "boot=full vmalloc=[0xffffc00000000000..0xffffc00000001000,0xffffffff88fff000..0xffffffff89001000]",
	  "vmalloc" },
	{ "boot=minimal vmalloc=0xffffffff88000000..0xffffffff88001000", "" },
	/* exactly one large page: the image; the metadata of 128 MiB; memory */
	{ "boot=full kernel=0x8000000..0x8200000", "boot" },
	{ "boot=full kernel=0x8000000..0x8201000", "" },
	{ "boot=full max_paddr=0x8000000 kernel=0x1000000..0x1400000", "boot" },
	{ "boot=full max_paddr=0x8001000 kernel=0x1000000..0x1400000", "" },
	{ "boot=full max_paddr=0x40000000", "" },
	{ "boot=full arch=riscv64_sv48 max_paddr=0x40000000", "boot" },
	{ "boot=full arch=riscv64_sv48 max_paddr=0x40001000", "" },
	{ "boot=full arch=riscv64_sv39 max_paddr=0x40000000", "" },
	{ "boot=full max_paddr=0x200000 kernel=0x100000..0x101000", "boot" },
	{ "boot=full arch=loongarch64 max_paddr=0x200000 kernel=0x100000..0x101000", "" },
	/* 512 GiB is a whole entry of the root, but the root's entries are tables */
	{ "boot=full arch=riscv64_sv48 max_paddr=0x8000001000", "boot" },
	{ "boot=full arch=riscv64_sv48 max_paddr=0x7fc0000000", "" },
	/* no run of frames for the metadata that begins on 2 MiB */
	{ "boot=full arch=loongarch64 max_paddr=0x200000 kernel=0x0..0x1000", "boot" },
	{ "boot=full max_paddr=0x1000000 kernel=0x401000..0x500000 "
	  "mmio=[0x0..0x1000,0x200000..0x201000,0x400000..0x401000]", "" },
};

Test(creation, holds_the_limits_of_each_architecture_and_boot)
{
	for (size_t i = 0; i < KIT_COUNT(boots); i++) {
		const char *refusal = kit_refusal("%s", boots[i].keys);
		size_t size = strlen(boots[i].key);

		if (kit_sanitized() && refusal[0] == '-')
			continue; /* the sanitizer has taken the address space for itself */
		if (size == 0) {
			cr_expect_str_eq(refusal, "", "%s: refused: %s", boots[i].keys, refusal);
			continue;
		}
		cr_expect(strncmp(refusal, boots[i].key, size) == 0 && refusal[size] == ':', "%s: '%s', not %s",
			  boots[i].keys, refusal, boots[i].key);
		cr_expect_str_eq(refusal + size + 2,
				 strcmp(boots[i].key, "boot") == 0 ?
					 "no room, or a panic, while building the kernel page table" :
					 "out of limits");
	}
}

/* Of two broken limits, the key that comes first in the table is named. */
Test(creation, names_the_first_of_two_broken_keys)
{
	static const struct {
		const char *key;
		const char *broken;
	} keys[] = {
		{ "max_paddr", "max_paddr=0x1000" },
		{ "rc_max", "rc_max=0" },
		{ "ncpu", "ncpu=99" },
		{ "vmalloc", "vmalloc=0x1000..0x2000" },
		{ "reserve", "reserve=[0x1000..0x1000]" },
		{ "mmio", "mmio=[0x1..0x2]" },
	};

	for (size_t i = 0; i < KIT_COUNT(keys); i++) {
		for (size_t k = i + 1; k < KIT_COUNT(keys); k++) {
			const char *refusal = kit_refusal("%s %s", keys[k].broken, keys[i].broken);

			cr_expect(strncmp(refusal, keys[i].key, strlen(keys[i].key)) == 0, "%s %s: '%s'",
				  keys[i].broken, keys[k].broken, refusal);
		}
	}
}

/* Whatever the table of architectures and boots names but this build lacks is refused by that key, not misunderstood.
 */
Test(creation, refuses_what_is_not_built_by_its_key)
{
	static const struct {
		enum config_key_index { ARCH, BOOT } which;
		enum kvms_type type;
		unsigned key;
	} keys[] = { { ARCH, KVMS_ARCH, CONFIG_arch }, { BOOT, KVMS_BOOT, CONFIG_boot } };

	for (size_t i = 0; i < KIT_COUNT(keys); i++) {
		for (uint64_t value = 0; value < 300; value++) {
			struct kvms_refusal why = { .key = -2 };
			struct kvms_op config;

			kvms_op_init(&config, kvms_store_row());
			config.arg[CONFIG_max_paddr] = 0x10000000; /* room for the kernel image of a full boot */
			config.arg[keys[i].key] = value;
			struct kvms *s = kvms_new(&config, &why);

			if (s == NULL) {
				cr_assert_eq(why.key, (int)keys[i].key, "%" PRIu64 ": key %d", value, why.key);
				cr_assert_gt(strlen(why.text), 5);
			} else {
				cr_assert_not_null(kvms_word(keys[i].type, value),
						   "%" PRIu64 " has no word and made a store", value);
				kit_sound(s);
			}
			kvms_free(&s);
		}
	}
}

/* ---- What is made ----------------------------------------------------------------------------- */

Test(creation, keeps_the_configuration_with_every_key_filled_in)
{
	uint64_t lists[] = { KIT_VMALLOC, KIT_VMALLOC + 0x1000, KIT_VMALLOC + 0x4000, KIT_VMALLOC + 0x5000, 0x1000,
			     0x2000 };
	struct kvms_op config;
	struct kvms_refusal why;
	uint64_t count;

	kvms_op_init(&config, kvms_store_row());
	config.arg[CONFIG_max_paddr] = 0x400000;
	config.arg[CONFIG_vmalloc] = 2;
	config.arg[CONFIG_reserve] = 1;
	config.list = lists;
	struct kvms *s = kvms_new(&config, &why);

	memset(lists, 0xff, sizeof lists); /* the caller's memory is the caller's */
	memset(&config, 0xff, sizeof config);
	const struct kvms_op *kept = kvms_config(s);
	cr_assert_eq(kept->arg[CONFIG_max_paddr], 0x400000);
	cr_assert_eq(kept->arg[CONFIG_rc_max], INT64_MAX);
	cr_assert_eq(kept->arg[CONFIG_ncpu], 1);
	const uint64_t *at = kvms_op_list(kept, kvms_store_row(), CONFIG_vmalloc, &count);
	cr_assert(count == 2 && at[0] == KIT_VMALLOC && at[3] == KIT_VMALLOC + 0x5000);
	at = kvms_op_list(kept, kvms_store_row(), CONFIG_kernel, &count);
	cr_assert(count == 1 && at[0] == 0x8000000 && at[1] == 0x9000000);
	at = kvms_op_list(kept, kvms_store_row(), CONFIG_reserve, &count);
	cr_assert(count == 1 && at[0] == 0x1000 && at[1] == 0x2000);
	(void)kvms_op_list(kept, kvms_store_row(), CONFIG_mmio, &count);
	cr_assert_eq(count, 0);
	cr_assert_eq(kvms_steps(s), 0);
	/* and makes the same store again */
	struct kvms *again = kvms_new(kept, &why);
	cr_assert_eq(kvms_digest(again), kvms_digest(s));
	kvms_free(&again);
	kvms_free(&s);
	kvms_free(&s); /* of nothing is fine */
	cr_assert_null(s);
}

Test(creation, puts_reserved_and_mmio_slots_where_they_are_asked_for)
{
	struct kvms *s = kit_new("max_paddr=0x400000 reserve=[0x1000..0x3000,0x10000..0x11000] mmio=[0x3000..0x5000]");

	kit_see(s, "ok rc=1 usage=Reserved kind=boot meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0", "frame paddr=0x2000");
	kit_see(s, "ok rc=unused usage=MMIO kind=none meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0",
		"frame paddr=0x4000");
	kit_see(s, "ok rc=unused usage=Unused kind=none meta=0x0 in_list=0 h=0 p=0 c=0 k=0 u=0 l=0",
		"frame paddr=0x5000");
	kit_see(s,
		"ok unused=762 reserved=3 frame=0 pagetable=257 meta=0 kernel=0 mmio=2 frames=0 segments=0 uniques=0 "
		"lists=0 "
		"vm_spaces=0 cursors=0 areas=0 readers=0 writers=0 iomems=0 leaves_tracked=0 leaves_untracked=0 "
		"tlb_entries=0",
		"census");
	kit_want(s, "err InUse", "frame_from_unused paddr=0x1000");
	kit_want(s, "err InUse", "frame_from_unused paddr=0x3000");
	kit_want(s, "err NotDataFrame", "frame_from_in_use paddr=0x1000");
	kit_want(s, "err Unused", "frame_from_in_use paddr=0x3000");
	kit_want(s, "ok frame=1 paddr=0x0", "frame_alloc");
	kit_want(s, "ok frame=2 paddr=0x5000", "frame_alloc");
	kit_sound(s);
	kvms_free(&s);
}

/* Reserved frames at the top push the table down; the root still comes first. */
Test(creation, takes_nodes_from_the_highest_unused_frames)
{
	struct kvms *s = kit_new("max_paddr=0x400000 reserve=[0x3fe000..0x400000] mmio=[0x3f0000..0x3f1000]");

	kit_see(s, "ok level=4 nr_children=256 stray=false holder=0 rc=1", "node paddr=0x3fd000");
	kit_see(s, "ok levels=[4:0x3fd000:256:0x3fc007,3:0x3fc000:0:0x0]", "walk va=0xffff800000000000");
	kit_see(s, "ok levels=[4:0x3fd000:268:0x3ef007,3:0x3ef000:0:0x0]",
		"walk va=0xffff860000000000"); /* below the MMIO page */
	kit_see(s, "pre bad_paddr", "node paddr=0x3f0000");
	kit_see(s, "ok nodes=257", "nodes");
	kit_sound(s);
	kvms_free(&s);
}

Test(creation, of_stores_side_by_side_keeps_them_apart)
{
	struct kvms_outcome out = { .name = O_ok };
	struct kit_walk w;
	struct kvms *alone, *beside;

	kit_walk_init(&w, NULL, 0, 5);
	alone = kit_new("%s", kit_worlds[0].config);
	beside = kit_new("%s", kit_worlds[3].config);
	for (unsigned i = 0; i < 500; i++) {
		(void)kit_walk_draw(&w);
		(void)kvms_apply(w.s, &w.op, &out);
		(void)kvms_apply(beside, &w.op, &out);
		(void)kvms_apply(alone, &w.op, &out);
	}
	cr_assert_eq(kvms_digest(alone), kvms_digest(w.s));
	kvms_free(&beside);
	cr_assert_eq(kit_visible(alone), kit_visible(w.s));
	kit_sound(alone);
	kvms_outcome_free(&out);
	kvms_free(&alone);
	kvms_free(&w.s);
}

/* ---- What it costs -------------------------------------------------------------------------------- */

static uint64_t
resident(void)
{
	unsigned long size, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	cr_assert(f != NULL && fscanf(f, "%lu %lu", &size, &pages) == 2);
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Time and memory of an empty store.  Of several tries the best: the machine may be busy. */
static void
cheap(const char *keys)
{
	double best = 1e9;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t before = resident();
		double from = seconds();
		struct kvms *s = kit_new("%s", keys);
		double took = seconds() - from;

		best = took < best ? took : best;
		kit_ok(s, "frame_alloc");
		kit_ok(s, "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb");
		(void)kvms_digest(s);
		if (!kit_sanitized())
			cr_assert_lt(resident() - before, UINT64_C(16) << 20, "%s: %" PRIu64 " KiB", keys,
				     (resident() - before) >> 10);
		kvms_free(&s);
	}
	fprintf(stderr, "%s: %.2f ms\n", keys, best * 1e3);
	if (!kit_sanitized())
		cr_assert_lt(best, 0.020, "%s: %.1f ms", keys, best * 1e3);
}

Test(creation, of_16_tib_takes_20_ms_and_16_mib)
{
	cheap("max_paddr=0x100000000000");
}

/* Half of the address space is left in one piece if the kernel has put nothing into its middle. */
static bool
has_room(uint64_t size)
{
	void *at = mmap(NULL, (size_t)size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at != MAP_FAILED && munmap(at, (size_t)size) == 0;
}

Test(creation, of_64_tib_the_most_there_is_takes_20_ms_and_16_mib)
{
	if (kit_sanitized())
		cr_skip_test("the sanitizer needs the address space for itself");
	if (!has_room(UINT64_C(65) << 40))
		cr_skip_test("what the process was given at random addresses leaves no 65 TiB in one piece");
	cheap("max_paddr=0x400000000000");
}

Test(creation, of_2_gib_takes_20_ms_and_16_mib)
{
	cheap("");
}

/* A full check of an empty store looks at what is there, not at what could be. */
Test(creation, of_16_tib_can_be_checked_and_asked)
{
	struct kvms *s = kit_new("max_paddr=0x100000000000");

	kit_want(s, "ok frame=1", "frame_from_unused paddr=0xff000000000");
	kit_want(s, "ok segment=1", "segment_from_unused start=0x80000000000 end=0x80000010000");
	kit_see(s, "ok level=4 nr_children=256 stray=false holder=0 rc=1", "node paddr=0xffffffff000");
	kit_see(s, "ok count=0 paddrs=[]", "unhandled");
	double from = seconds();
	kit_sound(s);
	fprintf(stderr, "full check: %.2f ms\n", (seconds() - from) * 1e3);
	kvms_free(&s);
}

/* ---- A machine that gives too little ------------------------------------------------------------------ */

static uint64_t
address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f != NULL && fscanf(f, "%lu", &pages) != 1)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(creation, beyond_the_limit_on_address_space_is_refused_with_a_reason)
{
	if (kit_sanitized())
		cr_skip_test("the sanitizer needs the address space for itself");
	for (unsigned spare = 0; spare < 3; spare++) {
		/* nothing at all; memory but not the slots of it; everything */
		static const uint64_t room[] = { 0x10000000, 0x80000000 + 0x800000, 0xc0000000 };
		int status;
		pid_t child = fork();

		if (child == 0) {
			struct kvms_refusal why = { .key = -2 };
			uint64_t held = address_space() + room[spare];
			struct rlimit limit = { held, held };

			if (setrlimit(RLIMIT_AS, &limit) != 0)
				_exit(10);
			struct kvms *s = kvms_new(NULL, &why);
			if (spare == 2)
				_exit(s != NULL ? 0 : 11);
			if (s != NULL)
				_exit(12);
			if (why.key != -1 || strstr(why.text, "address space") == NULL)
				_exit(13);
			/* nothing of the first try is in the way of a smaller one */
			struct kvms_op small;

			kvms_op_init(&small, kvms_store_row());
			small.arg[CONFIG_max_paddr] = 0x800000;
			s = kvms_new(&small, &why);
			_exit(s != NULL ? 0 : 14);
		}
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "case %u: status %x", spare, status);
	}
}
