/*
 * Files with page tables: each form, what is wrong with a file and where, and
 * images in which bits have turned over.
 */
#include "tests/store_kit.h"

#include <elf.h>
#include <stdio.h>
#include <unistd.h>

#include "client/image.h"

#define RECORD (8 + PAGE)

/* ---- Files -------------------------------------------------------------------------- */

static char folder[] = "/tmp/kvmctl-image-XXXXXX";

static void
setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chdir(folder), 0);
}

static void
teardown(void)
{
	static const char *const names[] = { "image", "image.json" };

	for (size_t i = 0; i < KIT_COUNT(names); i++)
		(void)unlink(names[i]);
	(void)rmdir(folder);
}

TestSuite(image, .init = setup, .fini = teardown, .timeout = 120);

struct bytes {
	unsigned char *at;
	size_t size;
};

static void
add(struct bytes *b, const void *bytes, size_t size)
{
	b->at = realloc(b->at, b->size + size);
	cr_assert_not_null(b->at);
	if (bytes != NULL)
		memcpy(b->at + b->size, bytes, size);
	else
		memset(b->at + b->size, 0, size);
	b->size += size;
}

static void
add_number(struct bytes *b, uint64_t number)
{
	add(b, &number, sizeof number);
}

static void
save(const char *name, const struct bytes *b)
{
	FILE *f = fopen(name, "w");

	cr_assert_not_null(f);
	cr_assert_eq(fwrite(b->at, 1, b->size, f), b->size);
	cr_assert_eq(fclose(f), 0);
}

/* A page of page-table words: the first ones are given. */
static void
add_page(struct bytes *b, uint64_t paddr, const uint64_t *words, size_t count)
{
	if (paddr != UINT64_MAX)
		add_number(b, paddr);
	add(b, words, count * sizeof *words);
	add(b, NULL, PAGE - count * sizeof *words);
}

/* Four levels at 0x1000 .. 0x4000: va 0 reaches 0x9000, va 0x1000 reaches 0xa000. */
static struct bytes
ptpages(uint64_t says)
{
	struct bytes b = { NULL, 0 };

	add(&b, "PTPAGES1", 8);
	add_number(&b, says);
	add_page(&b, 0x1000, (const uint64_t[]){ 0x2007 }, 1);
	add_page(&b, 0x2000, (const uint64_t[]){ 0x3007 }, 1);
	add_page(&b, 0x3000, (const uint64_t[]){ 0x4007 }, 1);
	add_page(&b, 0x4000, (const uint64_t[]){ 0x9007, 0xa007 }, 2);
	return b;
}

static bool
count_leaf(void *arg, const struct kvms_leaf *leaf)
{
	(void)leaf;
	++*(uint64_t *)arg;
	return true;
}

static uint64_t
leaves_of(struct kvms *s)
{
	uint64_t count = 0;

	cr_assert(kvms_leaves(s, 0, count_leaf, &count));
	return count;
}

/* Open the file "image", adopt it, and want so many leaves. */
static struct kvms *
adopted(struct kvmctl *k, struct kvmctl_image *image, uint64_t leaves)
{
	struct kvms *s;

	cr_assert_eq(kvmctl_image_open(k, "image", image), KVMCTL_OK);
	s = kvmctl_image_adopt(image);
	cr_assert_not_null(s);
	cr_assert_eq(leaves_of(s), leaves);
	return s;
}

/* ---- PTPAGES1 ------------------------------------------------------------------------- */

Test(image, pages_of_a_sound_file_are_all_there)
{
	struct kvmctl k = { .option = { [OPTION_cr3] = "0x1000" } };
	struct kvmctl_image image = { .path = NULL };
	struct bytes b = ptpages(4);
	struct kvms *s;

	save("image", &b);
	cr_assert(kvmctl_image_is("image"));
	s = adopted(&k, &image, 2);
	cr_assert_eq(image.flaws, 0);
	cr_assert_eq(kvms_adopted(s)->pages, 4);
	cr_assert_eq(kvmctl_image_offset(&image, 0x4008), 16 + 3 * RECORD + 8 + 8);
	cr_assert_eq(kvmctl_image_offset(&image, 0x5000), UINT64_MAX);
	kvms_free(&s);
	kvmctl_image_close(&image);
	free(b.at);
}

/* Each flaw with its offset; what is sound is read all the same. */
Test(image, what_is_wrong_is_told_with_its_offset)
{
	static const struct {
		enum kvmctl_image_flaw flaw;
		uint64_t offset, value;
		uint64_t says;  /* pages in the header */
		uint64_t extra; /* address of one more page; 0: none */
		size_t cut;     /* bytes off the end */
	} cases[] = {
		{ KVMCTL_IMAGE_COUNT, 8, 5, 5, 0, 0 },
		{ KVMCTL_IMAGE_COUNT, 8, UINT64_MAX, UINT64_MAX, 0, 0 },
		{ KVMCTL_IMAGE_COUNT, 8, 0, 0, 0, 0 },
		{ KVMCTL_IMAGE_TRUNCATED, 16 + 4 * RECORD, RECORD - 1, 4, 0x5000, 1 },
		{ KVMCTL_IMAGE_TRUNCATED, 16 + 4 * RECORD, 3, 4, 0x5000, RECORD - 3 },
		{ KVMCTL_IMAGE_ADDRESS, 16 + 4 * RECORD, 0x5008, 5, 0x5008, 0 },
		{ KVMCTL_IMAGE_ADDRESS, 16 + 4 * RECORD, UINT64_C(1) << 60, 5, UINT64_C(1) << 60, 0 },
		{ KVMCTL_IMAGE_DUPLICATE, 16 + 4 * RECORD, 0x4000, 5, 0x4000, 0 },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct kvmctl k = { .option = { [OPTION_cr3] = "0x1000" } };
		struct kvmctl_image image = { .path = NULL };
		struct bytes b = ptpages(cases[i].says);
		struct kvms *s;

		if (cases[i].extra != 0)
			add_page(&b, cases[i].extra, NULL, 0);
		b.size -= cases[i].cut;
		save("image", &b);
		s = adopted(&k, &image, 2);
		cr_expect(image.flaws == 1 && image.count[cases[i].flaw] == 1 && image.places == 1 &&
			      image.place[0].flaw == cases[i].flaw && image.place[0].offset == cases[i].offset &&
			      image.place[0].value == cases[i].value,
			  "case %zu: %" PRIu64 " flaws, the first %s at 0x%" PRIx64, i, image.flaws,
			  kvmctl_image_flaw_name(image.place[0].flaw), image.place[0].offset);
		kvms_free(&s);
		kvmctl_image_close(&image);
		free(b.at);
	}
}

Test(image, pages_out_of_order_are_put_in_order)
{
	struct kvmctl k = { .option = { [OPTION_cr3] = "0x1000" } };
	struct kvmctl_image image = { .path = NULL };
	struct bytes b = ptpages(5);
	struct kvms *s;

	add_page(&b, 0x800, NULL, 0);
	b.at[16 + 4 * RECORD] = 0;
	b.at[16 + 4 * RECORD + 1] = 0; /* 0x0: below all others */
	save("image", &b);
	s = adopted(&k, &image, 2);
	cr_assert_eq(image.count[KVMCTL_IMAGE_ORDER], 1);
	cr_assert_eq(image.flaws, 1);
	cr_assert_eq(image.pages[0], 0);
	kvms_free(&s);
	kvmctl_image_close(&image);
	free(b.at);
}

Test(image, a_file_that_says_no_root_needs_one)
{
	static const struct {
		const char *json;
		enum kvmctl_status status;
		unsigned levels;
	} cases[] = {
		{ "{}", KVMCTL_USAGE, 0 },
		{ "{\"root\":\"0x1000\"}", KVMCTL_USAGE, 0 },                      /* of which machine? */
		{ "{\"root\":\"0x1000\",\"arch\":\"riscv64\"}", KVMCTL_USAGE, 0 }, /* how many levels? */
		{ "{\"root\":4096,\"arch\":\"x86_64\"}", KVMCTL_OK, 4 },
		{ "{\"cpus\":[{\"cr3\":\"0x1000\",\"levels\":4},{\"cr3\":\"0x1fff\"}]}", KVMCTL_OK, 4 },
		{ "{\"cpus\":[{\"cr3\":\"0x1000\",\"levels\":5}]}", KVMCTL_OK, 5 },
		{ "{\"satp\":\"0x8000000000000001\"}", KVMCTL_OK, 3 },
		{ "{\"satp\":\"0x0\"}", KVMCTL_USAGE, 0 },
		{ "{\"tables\":[{\"root\":\"0x1000\"}],\"arch\":\"loongarch64\"}", KVMCTL_OK, 4 },
		{ "[1,2", KVMCTL_UNREADABLE, 0 },
		{ "{\"root\":\"0x1000\",\"arch\":\"x86_64\",\"levels\":77}", KVMCTL_OK, 4 },
	};

	for (size_t i = 0; i < KIT_COUNT(cases); i++) {
		struct bytes b = ptpages(4), json = { NULL, 0 };
		struct kvmctl_image image = { .path = NULL };
		struct kvmctl k = { .json = false };
		enum kvmctl_status status;

		add(&json, cases[i].json, strlen(cases[i].json));
		save("image", &b);
		save("image.json", &json);
		status = kvmctl_image_open(&k, "image", &image);
		cr_expect_eq(status, cases[i].status, "case %zu: %d", i, (int)status);
		if (status == KVMCTL_OK) {
			cr_expect(image.levels == cases[i].levels && image.roots_count == 1 && image.roots[0] == 0x1000,
				  "case %zu", i);
			kvmctl_image_close(&image);
		}
		free(b.at);
		free(json.at);
	}
}

/* ---- Memory as it is ------------------------------------------------------------------- */

/* Four pages and a half, from 0x80000000 on. */
Test(image, memory_that_begins_elsewhere)
{
	struct kvmctl k = { .option = { [OPTION_satp] = "0x9000000000080000", [OPTION_base] = "0x80000000" } };
	struct kvmctl_image image = { .path = NULL };
	static const char text[] = "{\"format\":\"raw\",\"ram_base\":\"0x80000000\",\"satp\":\"0x9000000000080000\"}";
	struct bytes b = { NULL, 0 }, json = { NULL, 0 };
	struct kvms *s;

	for (unsigned i = 1; i < 4; i++)
		add_page(&b, UINT64_MAX, (const uint64_t[]){ (UINT64_C(0x80000) + i) << 10 | 1 }, 1);
	add_page(&b, UINT64_MAX, (const uint64_t[]){ UINT64_C(0x80000) << 10 | 3, UINT64_C(0x80004) << 10 | 3 }, 2);
	add(&b, NULL, PAGE / 2);
	save("image", &b);
	cr_assert(!kvmctl_image_is("image"));
	s = adopted(&k, &image, 2);
	cr_assert_eq(image.max_paddr, 0x80000000 + b.size);
	cr_assert_eq(kvmctl_image_offset(&image, 0x80003008), 3 * PAGE + 8);
	cr_assert_eq(kvmctl_image_offset(&image, 0x80004800), UINT64_MAX);
	cr_assert_eq(kvmctl_image_offset(&image, 0x3008), UINT64_MAX);
	cr_assert_eq(kvms_adopted(s)->flaws, 0);
	kvms_free(&s);
	kvmctl_image_close(&image);
	k.option[OPTION_base] = "0x80000001";
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_USAGE);
	/* the text beside it says as much */
	k = (struct kvmctl){ .json = false };
	add(&json, text, strlen(text));
	save("image.json", &json);
	s = adopted(&k, &image, 2);
	kvms_free(&s);
	kvmctl_image_close(&image);
	free(json.at);
	free(b.at);
}

/* ---- ELF -------------------------------------------------------------------------------- */

/* A core with one note of a CPU and one segment of memory: pages 1 .. 4. */
static struct bytes
elf(uint64_t cr3, uint64_t cr4)
{
	Elf64_Ehdr e = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			 .e_type = ET_CORE,
			 .e_machine = EM_X86_64,
			 .e_version = EV_CURRENT,
			 .e_phoff = sizeof e,
			 .e_ehsize = sizeof e,
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2 };
	Elf64_Nhdr n = { .n_namesz = 5, .n_descsz = 440 };
	uint64_t state[55] = { [52] = cr3, [53] = cr4 };
	size_t notes = sizeof e + 2 * sizeof(Elf64_Phdr), memory = notes + sizeof n + 8 + sizeof state;
	Elf64_Phdr note = { .p_type = PT_NOTE, .p_offset = notes, .p_filesz = sizeof n + 8 + sizeof state };
	Elf64_Phdr load = {
		.p_type = PT_LOAD, .p_offset = memory, .p_paddr = 0x1000, .p_filesz = 4 * PAGE, .p_memsz = 4 * PAGE
	};
	struct bytes b = { NULL, 0 };

	cr_assert_eq(sizeof state, 440);
	add(&b, &e, sizeof e);
	add(&b, &note, sizeof note);
	add(&b, &load, sizeof load);
	add(&b, &n, sizeof n);
	add(&b, "QEMU\0\0\0", 8);
	add(&b, state, sizeof state);
	add_page(&b, UINT64_MAX, (const uint64_t[]){ 0x2007 }, 1);
	add_page(&b, UINT64_MAX, (const uint64_t[]){ 0x3007 }, 1);
	add_page(&b, UINT64_MAX, (const uint64_t[]){ 0x4007 }, 1);
	add_page(&b, UINT64_MAX, (const uint64_t[]){ 0x9007, 0xa007 }, 2);
	return b;
}

Test(image, an_elf_core_says_itself_where_its_tables_are)
{
	struct kvmctl_image image = { .path = NULL };
	struct bytes b = elf(0x1018, 0);
	struct kvmctl k = { .json = false };
	struct kvms *s;

	save("image", &b);
	s = adopted(&k, &image, 2);
	cr_assert_eq(image.levels, 4);
	cr_assert_eq(image.flaws, 0);
	cr_assert_eq(kvms_adopted(s)->flaws, 0);
	cr_assert_eq(kvmctl_image_offset(&image, 0x1000), b.size - 4 * PAGE);
	kvms_free(&s);
	kvmctl_image_close(&image);
	free(b.at);
	/* five levels, by CR4; another root, by option */
	b = elf(0x1000, UINT64_C(1) << 12);
	save("image", &b);
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_OK);
	cr_assert_eq(image.levels, 5);
	kvmctl_image_close(&image);
	k.option[OPTION_cr3] = "0x2000";
	k.option[OPTION_levels] = "3";
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_OK);
	cr_assert_eq(image.roots[0], 0x2000);
	cr_assert_eq(image.roots_count, 1);
	cr_assert_eq(image.levels, 3);
	cr_assert_null(kvmctl_image_adopt(&image));
	kvmctl_image_close(&image);
	free(b.at);
}

Test(image, an_elf_core_that_lies_about_its_parts)
{
	struct kvmctl_image image = { .path = NULL };
	struct bytes b = elf(0x1000, 0);
	struct kvmctl k = { .json = false };
	struct kvms *s;
	Elf64_Ehdr e;

	b.size -= PAGE; /* the last page is gone, and with it both leaves */
	save("image", &b);
	s = adopted(&k, &image, 0);
	cr_assert_eq(image.count[KVMCTL_IMAGE_SEGMENT], 1);
	cr_assert_eq(kvms_adopted(s)->count[KVMS_FLAW_MISSING], 1);
	kvms_free(&s);
	kvmctl_image_close(&image);
	memcpy(&e, b.at, sizeof e);
	e.e_phnum = 0xfffe;
	memcpy(b.at, &e, sizeof e);
	save("image", &b);
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_UNREADABLE);
	e.e_phnum = PN_XNUM;
	e.e_shoff = UINT64_MAX - 3;
	memcpy(b.at, &e, sizeof e);
	save("image", &b);
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_UNREADABLE);
	e.e_phoff = UINT64_MAX;
	e.e_phnum = 2;
	memcpy(b.at, &e, sizeof e);
	save("image", &b);
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_UNREADABLE);
	b.size = 20;
	save("image", &b);
	cr_assert_eq(kvmctl_image_open(&k, "image", &image), KVMCTL_UNREADABLE);
	free(b.at);
}

/* ---- Bits that turned over ------------------------------------------------------------------ */

/* All that can be asked of what became of an image; how much is answered does not matter, but that it is. */
static void
ask_everything(struct kvms *s, struct kit_random *r)
{
	static const char *const requests[] = { "check", "census", "nodes", "nodes table=kernel", "digest" };
	struct kvms_outcome out = { .name = 0 };
	struct kvms_op op;

	for (size_t i = 0; i < KIT_COUNT(requests); i++)
		(void)kit_ask(s, "%s", requests[i]);
	cr_assert_leq(leaves_of(s), kvms_adopted(s)->leaves_listed);
	for (unsigned i = 0; i < 20; i++)
		(void)kit_ask(s, "walk va=0x%" PRIx64, kit_draw(r));
	kvms_op_init(&op, kvms_request_find("reverse_map"));
	op.arg[0] = kit_below(r, s->max_paddr);
	cr_assert_eq(kvms_inspect(s, &op, &out), KVMS_DONE);
	kvms_outcome_free(&out);
}

static void
turn_bits(const char *name, const char *option, enum kvmctl_option number, uint64_t seed)
{
	const char *top = getenv("top_srcdir") != NULL ? getenv("top_srcdir") : ".";
	struct kvmctl k = { .json = false };
	struct kvmctl_image image = { .path = NULL };
	struct kit_random r = { seed };
	struct bytes b = { NULL, 0 };
	unsigned made = 0;
	char path[4096];

	k.option[number] = option;
	snprintf(path, sizeof path, "%s/data/%s", top, name);
	cr_assert_eq(kvmctl_image_open(&k, path, &image), KVMCTL_OK, "%s", path);
	add(&b, image.at, image.size);
	kvmctl_image_close(&image);
	for (uint64_t i = 0, n = kit_scaled(200); i < n; i++) {
		struct bytes changed = { NULL, 0 };
		struct kvms *s;

		add(&changed, b.at, b.size);
		for (uint64_t flips = 1 + kit_below(&r, 200); flips > 0; flips--) {
			/* the bits that say what a word is, or any bit at all; now and then in the header */
			size_t at = kit_below(&r, 40) == 0 ? kit_below(&r, 64) : kit_below(&r, b.size / 8) * 8;

			changed.at[at + kit_below(&r, 8) % (b.size - at)] ^= (unsigned char)(1u << kit_below(&r, 8));
		}
		if (kit_below(&r, 4) == 0)
			changed.size = kit_below(&r, changed.size) + 1;
		save("image", &changed);
		if (kvmctl_image_open(&k, "image", &image) == KVMCTL_OK) {
			s = kvmctl_image_adopt(&image);
			if (s != NULL)
				ask_everything(s, &r);
			made += s != NULL;
			kvms_free(&s);
			kvmctl_image_close(&image);
		}
		free(changed.at);
	}
	cr_assert_gt(made, 0);
	free(b.at);
}

Test(image, turned_bits_of_four_levels)
{
	turn_bits("linux-6.12-x86_64-4level/ptpages.1.bin.xz", "0x1510e000", OPTION_cr3, 4);
}

Test(image, turned_bits_of_sv48)
{
	turn_bits("linux-6.12-riscv64-sv48/ptpages.1.bin.xz", "0x9000100000088b58", OPTION_satp, 48);
}
