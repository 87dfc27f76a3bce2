/*
 * Snapshots of adopted images: what was adopted comes back from a file as it
 * was; a file that says otherwise than its digest, or is no image, is refused.
 */
#include "tests/store_kit.h"

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "persist/json.h"
#include "persist/snapshot.h"

static char why[PERSIST_WHY];
#define WHY why, sizeof why

static char file[64];

static void
setup(void)
{
	snprintf(file, sizeof file, "/tmp/kvmstore-foreign-%ld.db", (long)getpid());
}

static void
teardown(void)
{
	(void)unlink(file);
}

TestSuite(persist_foreign, .init = setup, .fini = teardown, .timeout = 60);

/* Pages 1 .. 4 are tables, 5 a second root, 7 a page of zeros that nothing leads to, 9 one that is not all zeros. */
static const void *
image_page(void *arg, uint64_t paddr)
{
	static uint64_t words[512];

	(void)arg;
	memset(words, 0, sizeof words);
	switch (paddr / PAGE) {
	case 1:
	case 2:
	case 3:
		words[0] = (paddr + PAGE) | 7;
		break;
	case 4:
		for (unsigned i = 0; i < 512; i += 3)
			words[i] = UINT64_C(0x123000) * i | 3;
		break;
	case 5:
		words[3] = 2 * PAGE | 5;
		break;
	case 9:
		words[511] = 77;
		break;
	case 7:
		break;
	default:
		return NULL;
	}
	return words;
}

static struct kvms *
adopt(void)
{
	static const uint64_t roots[] = { 1 * PAGE, 5 * PAGE }, pages[] = { 7 * PAGE, 9 * PAGE };
	const struct kvms_image image = { .machine = KVMS_MACHINE_X86_64,
					  .levels = 4,
					  .max_paddr = 0x400000,
					  .pat = UINT64_C(0x0001040600010406),
					  .roots = roots,
					  .roots_count = 2,
					  .pages = pages,
					  .pages_count = 2,
					  .page = image_page };
	struct kvms_refusal refusal;
	struct kvms *s = kvms_adopt(&image, &refusal);

	cr_assert_not_null(s, "%s", refusal.text);
	return s;
}

static void
same(struct kvms *a, struct kvms *b)
{
	cr_assert_eq(kvms_digest(a), kvms_digest(b));
	cr_assert_eq(kvms_pat(a), kvms_pat(b));
	cr_assert_eq(kvms_adopted(a)->pages, kvms_adopted(b)->pages);
	cr_assert_eq(kvms_adopted(a)->leaves, kvms_adopted(b)->leaves);
	cr_assert_eq(kit_visible(a), kit_visible(b));
	cr_assert_str_eq(kit_step(b, "frame_alloc"), "pre foreign_store");
}

static void
sql(const char *statements)
{
	sqlite3 *db;

	cr_assert_eq(sqlite3_open(file, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK, "%s", statements);
	cr_assert_gt(sqlite3_total_changes(db), 0, "%s", statements);
	cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

Test(persist_foreign, what_was_saved_comes_back)
{
	struct kvms *s = adopt(), *loaded, *copy;

	cr_assert_eq(persist_file_save(file, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_file_load(file, NULL, 0, &loaded, NULL, WHY), PERSIST_OK, "%s", why);
	same(s, loaded);
	cr_assert_eq(kvms_adopted(loaded)->pages, 7);
	cr_assert_eq(kvms_adopted(loaded)->nodes, 5);
	kvms_free(&loaded);
	cr_assert_eq(persist_copy(s, &copy, WHY), PERSIST_OK, "%s", why);
	kvms_free(&s);
	s = adopt();
	same(s, copy);
	kvms_free(&copy);
	kvms_free(&s);
}

/* Mappings are there for readers, and nothing depends on them. */
Test(persist_foreign, mappings_in_the_file_are_for_readers)
{
	struct kvms *s = adopt(), *loaded;

	cr_assert_eq(persist_file_save(file, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	sql("DELETE FROM mapping");
	cr_assert_eq(persist_file_load(file, NULL, 0, &loaded, NULL, WHY), PERSIST_OK, "%s", why);
	same(s, loaded);
	kvms_free(&loaded);
	kvms_free(&s);
}

Test(persist_foreign, rows_that_are_no_image_are_refused)
{
	static const char *const damages[] = {
		"UPDATE snapshot SET format = format - 256", /* then it is no image */
		"UPDATE snapshot SET format = format + 1",
		"DELETE FROM element WHERE tag = 24",
		"UPDATE element SET words = '0x0 0x0 0x4 0x0 0x1000' WHERE tag = 24",             /* another PAT */
		"UPDATE element SET words = '0x0 0x7 0x4 0x1040600010406 0x1000' WHERE tag = 24", /* no machine */
		"UPDATE element SET words = '0x0 0x0 0x9 0x1040600010406 0x1000' WHERE tag = 24", /* no levels */
		"UPDATE element SET words = '0x0 0x0 0x4 0x1040600010406 0x8000' WHERE tag = 24", /* no root */
		"UPDATE element SET words = '0x0 0x0 0x4 0x1040600010406 0x1001' WHERE tag = 24",
		"UPDATE element SET words = '0x0 0x0 0x4' WHERE tag = 24",
		"DELETE FROM element WHERE tag = 10",
		"DELETE FROM memory",
		"DELETE FROM memory WHERE paddr = 0x4000",
		"DELETE FROM frame WHERE paddr = 0x7000",
		"UPDATE memory SET paddr = 0x4008 WHERE paddr = 0x4000",
		"UPDATE frame SET pages = 0x7fffffffffffffff",
		"UPDATE frame SET pages = 1048576",
		"UPDATE frame SET paddr = paddr + 1048576",
		"UPDATE frame SET paddr = paddr + 8",
	};

	for (size_t i = 0; i < KIT_COUNT(damages); i++) {
		struct kvms *s = adopt(), *loaded = s;

		(void)unlink(file);
		cr_assert_eq(persist_file_save(file, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
		sql(damages[i]);
		cr_expect_eq(persist_file_load(file, NULL, 0, &loaded, NULL, WHY), PERSIST_REFUSED, "%s", damages[i]);
		cr_expect_null(loaded);
		kvms_free(&loaded);
		kvms_free(&s);
	}
}

/* ---- The text beside an image ------------------------------------------------------------- */

Test(persist_foreign, values_out_of_json)
{
	static const char text[] = "{\"a\":[{\"b\":\"0x10\"},{\"b\":17}],\"c\":\"word\",\"d\":null,\"e\":1.5,\"f\":-3}";
	struct persist_json *j = persist_json_open(text, sizeof text - 1);
	uint64_t number;
	char word[5];

	cr_assert_not_null(j);
	cr_assert(persist_json_number(j, "$.a[0].b", &number) && number == 16);
	cr_assert(persist_json_number(j, "$.a[1].b", &number) && number == 17);
	cr_assert(!persist_json_number(j, "$.a[2].b", &number));
	cr_assert(!persist_json_number(j, "$.c", &number));
	cr_assert(!persist_json_number(j, "$.d", &number));
	cr_assert(!persist_json_number(j, "$.e", &number));
	cr_assert(!persist_json_number(j, "$.f", &number));
	cr_assert(persist_json_text(j, "$.c", word, sizeof word));
	cr_assert_str_eq(word, "word");
	cr_assert(!persist_json_text(j, "$.c", word, 4));
	persist_json_close(&j);
	persist_json_close(&j);
	cr_assert_null(persist_json_open("{", 1));
	cr_assert_null(persist_json_open("", 0));
}
