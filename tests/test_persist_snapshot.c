/*
 * Snapshots: what is saved comes back; what is not ours, is damaged or newer
 * is refused and stays as it was; what fails leaves the earlier ones alone.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "persist/image.h"
#include "persist/schema.h"
#include "persist/snapshot.h"
#include "persist/tables.h"
#include "trace/text.h"

/* ---- A directory for each test ---------------------------------------------------- */

static char dir[64];
static char why[PERSIST_WHY];
#define WHY why, sizeof why

static void
enter(void)
{
	snprintf(dir, sizeof dir, "/tmp/kvmstore-persist-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(chdir(dir), 0);
}

static void
leave(void)
{
	char command[128];

	cr_assert_eq(chdir("/"), 0);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

/* Give the directory a mode; root may write anyway, so become somebody who may not, and root again. */
static bool was_root;

static void
privileges_drop(mode_t mode)
{
	cr_assert_eq(chmod(dir, mode), 0);
	was_root = geteuid() == 0;
	if (was_root)
		cr_assert_eq(setresuid(65534, 65534, 0), 0);
}

static void
privileges_take(void)
{
	if (was_root)
		cr_assert_eq(setresuid(0, 0, 0), 0);
	cr_assert_eq(chmod(dir, 0755), 0);
}

/* ---- Stores ------------------------------------------------------------------------- */

static struct kvms *
store_new(const char *config)
{
	struct kvt_parser *p = kvt_parser_new("config");
	struct kvms_refusal refusal;
	struct kvt_line line;

	cr_assert(kvt_parse_store(p, config, strlen(config), &line), "%s", kvt_parser_error(p));
	struct kvms *s = kvms_new(&line.op, &refusal);
	cr_assert_not_null(s, "%s: %s", config, refusal.text);
	kvt_parser_free(&p);
	return s;
}

/* Apply an op given as text; gives the outcome as text, to kvt_buffer_free(). */
static struct kvt_buffer
step(struct kvms *s, const char *text)
{
	struct kvt_parser *p = kvt_parser_new("op");
	struct kvt_buffer printed = { .size = 0 };
	struct kvms_outcome out = { .name = 0 };
	struct kvt_line line;

	cr_assert(kvt_parse_op(p, text, strlen(text), &line), "%s", kvt_parser_error(p));
	cr_assert_eq(kvms_apply(s, &line.op, &out), KVMS_DONE, "%s", text);
	kvt_print_outcome(&printed, line.row, &out);
	kvms_outcome_free(&out);
	kvt_parser_free(&p);
	return printed;
}

static void
step_ok(struct kvms *s, const char *text)
{
	struct kvt_buffer printed = step(s, text);

	cr_assert(strncmp(printed.at, "ok", 2) == 0, "%s -> %s", text, printed.at);
	kvt_buffer_free(&printed);
}

/* Everything the kernel side has: runs and holes, leaves of two levels, splits, empty areas, shared frames. */
static const char *const busy_ops[] = {
	"frame_from_unused paddr=0x1000",
	"frame_from_unused paddr=0x2000 kind=typed meta=0xffffffffffffffff",
	"frame_from_unused paddr=0x5000 meta=7",
	"frame_clone frame=1",
	"frame_from_in_use paddr=0x5000",
	"frame_alloc",
	"segment_from_unused start=0x100000 end=0x180000",
	"segment_from_unused start=0x200000 end=0x202000 kind=typed meta=9",
	"frame_from_in_use paddr=0x100000",
	"frame_from_in_use paddr=0x101000",
	"frame_from_in_use paddr=0x102000",
	"kvirt_map_frames area_size=0x4000 map_offset=0x1000 frames=[1,5] prop=rwx:wb+global",
	"kvirt_map_frames area_size=0x5000 frames=[7,8,9] prop=rw:wc",
	"kvirt_query area=2 va=0xffffdfffffff7000",
	"kvirt_map_untracked_frames area_size=0x400000 paddr_start=0x40000000 paddr_end=0x40400000 prop=rwad:uc+avail2",
	"kvirt_map_untracked_frames area_size=0x3000 paddr_start=0xfee00000 paddr_end=0xfee01000 prop=r:uc",
	"kvirt_reserve area_size=0x10000",
	("kvirt_map_untracked_frames_at start=0xffffc00000400000 area_size=0x400000 "
	 "paddr_start=0x0 paddr_end=0x400000 prop=r:wt"),
	"kvirt_split area=5 offset=0x4000",
	"kvirt_map_untracked_frames area_size=0x0 paddr_start=0x0 paddr_end=0x0 prop=rw:wb",
	"boot_map va=0xffff888000000000 paddr_start=0x0 paddr_end=0x40000000 prop=rw:wb+global",
	"boot_protect_range start=0xffff888000001000 end=0xffff888000002000 clear=w global=clear",
	"kvirt_protect_range area=6 start=0xffffc00000401000 end=0xffffc00000403000 set=x",
	"kvirt_unmap_range area=6 start=0xffffc00000408000 end=0xffffc00000409000",
	"kvirt_drop area=4",
	"frame_drop frame=4",
};

static struct kvms *
busy_store(void)
{
	struct kvms *s = store_new("");

	for (size_t i = 0; i < sizeof busy_ops / sizeof busy_ops[0]; i++)
		step_ok(s, busy_ops[i]);
	return s;
}

/* A small generator: the same numbers everywhere. */
static uint64_t
draw(uint64_t *seed, uint64_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*seed >> 33) % below;
}

/* One random operation; many are refused, which is fine. */
static void
random_step(struct kvms *s, uint64_t *seed)
{
	static const char *const props[] = { "rw:wb", "r:uc", "rwx:wb+global", "rwad:wc+avail2", "-:wt" };
	char text[400];
	const char *prop = props[draw(seed, 5)];
	uint64_t id = 1 + draw(seed, 40), page = draw(seed, 600) * 4096, size = draw(seed, 9) * 4096;

	switch (draw(seed, 9)) {
	case 0:
		snprintf(text, sizeof text, "frame_from_unused paddr=0x%" PRIx64 " meta=%" PRIu64, page, draw(seed, 3));
		break;
	case 1:
		snprintf(text, sizeof text, "frame_from_in_use paddr=0x%" PRIx64, page);
		break;
	case 2:
		snprintf(text, sizeof text, "frame_drop frame=%" PRIu64, id);
		break;
	case 3:
		snprintf(text, sizeof text, "segment_from_unused start=0x%" PRIx64 " end=0x%" PRIx64, page,
			 page + size);
		break;
	case 4:
		snprintf(text, sizeof text,
			 "kvirt_map_frames area_size=0x%" PRIx64 " frames=[%" PRIu64 ",%" PRIu64 "] prop=%s", size, id,
			 id + 1, prop);
		break;
	case 5:
		snprintf(text, sizeof text,
			 "kvirt_map_untracked_frames area_size=0x%" PRIx64 " paddr_start=0x%" PRIx64
			 " paddr_end=0x%" PRIx64 " prop=%s",
			 size + 0x200000 * draw(seed, 3), page, page + size, prop);
		break;
	case 6:
		snprintf(text, sizeof text, "kvirt_drop area=%" PRIu64, id);
		break;
	case 7:
		snprintf(text, sizeof text, "kvirt_split area=%" PRIu64 " offset=0x%" PRIx64, id, size);
		break;
	default:
		snprintf(text, sizeof text, "kvirt_reserve area_size=0x%" PRIx64, size);
	}
	struct kvt_buffer printed = step(s, text);
	kvt_buffer_free(&printed);
}

/* The answers of both stores to one request must be the same text. */
static void
same_answer(struct kvms *a, struct kvms *b, const struct kvms_row *row, uint64_t argument)
{
	struct kvt_buffer text[2] = { { .size = 0 }, { .size = 0 } };
	struct kvms *store[2] = { a, b };
	struct kvms_op request;

	kvms_op_init(&request, row);
	if (kvms_arg_index(row, "va") >= 0)
		request.arg[kvms_arg_index(row, "va")] = argument;
	if (kvms_arg_index(row, "paddr") >= 0)
		request.arg[kvms_arg_index(row, "paddr")] = argument;
	for (int i = 0; i < 2; i++) {
		struct kvms_outcome out = { .name = 0 };
		cr_assert_eq(kvms_inspect(store[i], &request, &out), KVMS_DONE);
		kvt_print_outcome(&text[i], row, &out);
		kvms_outcome_free(&out);
	}
	cr_assert_str_eq(text[0].at, text[1].at, "%s 0x%" PRIx64, row->name, argument);
	kvt_buffer_free(&text[0]);
	kvt_buffer_free(&text[1]);
}

static bool
visit_area(void *arg, const uint64_t *words, unsigned count)
{
	struct kvms **pair = arg;

	(void)count;
	if (words[0] == 14)
		for (uint64_t va = words[2]; va < words[3] && va < words[2] + 0x20000; va += 4096) {
			same_answer(pair[0], pair[1], kvms_request_find("translate"), va);
			same_answer(pair[0], pair[1], kvms_request_find("walk"), va);
		}
	if (words[0] == 2 || words[0] == 4)
		for (unsigned code = 1; code <= kvms_request_max(); code++) {
			const struct kvms_row *row = kvms_request_row(code);
			if (row != NULL && kvms_arg_index(row, "paddr") >= 0)
				same_answer(pair[0], pair[1], row, words[1] * 4096);
		}
	return true;
}

/* Two stores that no inspection can tell apart, now and after more operations. */
static void
same(struct kvms *a, struct kvms *b)
{
	struct kvms *pair[2] = { a, b };
	struct kvms_findings findings;

	cr_assert_eq(kvms_digest(a), kvms_digest(b));
	cr_assert_eq(kvms_steps(a), kvms_steps(b));
	cr_assert(kvms_check_all(b, &findings), "%s", kvms_law_name(findings.at[0].law));
	for (unsigned code = 1; code <= kvms_request_max(); code++) {
		const struct kvms_row *row = kvms_request_row(code);
		if (row != NULL)
			same_answer(a, b, row, UINT64_C(0xffff888000001000));
	}
	cr_assert(kvms_visit(a, visit_area, pair));
}

static void
same_future(struct kvms *a, struct kvms *b)
{
	uint64_t seed[2] = { 77, 77 };

	for (int i = 0; i < 200; i++) {
		random_step(a, &seed[0]);
		random_step(b, &seed[1]);
		cr_assert_eq(kvms_digest(a), kvms_digest(b), "after %d more steps", i);
	}
}

/* ---- Files ------------------------------------------------------------------------------ */

struct bytes {
	unsigned char *at;
	size_t size;
};

static struct bytes
file_read(const char *path)
{
	struct bytes b = { NULL, 0 };
	struct stat st;
	FILE *in = fopen(path, "rb");

	cr_assert_not_null(in, "%s", path);
	cr_assert_eq(fstat(fileno(in), &st), 0);
	b.size = (size_t)st.st_size;
	b.at = malloc(b.size + 1);
	cr_assert_eq(fread(b.at, 1, b.size, in), b.size);
	fclose(in);
	return b;
}

static void
file_write(const char *path, const void *at, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out);
	cr_assert_eq(fwrite(at, 1, size, out), size);
	cr_assert_eq(fclose(out), 0);
}

static void
file_is(const char *path, struct bytes b)
{
	struct bytes now = file_read(path);

	cr_assert(now.size == b.size && memcmp(now.at, b.at, b.size) == 0, "%s was changed", path);
	free(now.at);
}

/* Nothing but these names is in the directory. */
static void
directory_has(const char *names)
{
	char command[400];

	snprintf(command, sizeof command, "test \"$(ls -A '%s' | tr '\\n' ' ')\" = '%s'", dir, names);
	cr_assert_eq(system(command), 0, "files left behind");
}

static void
sql(const char *path, const char *statements)
{
	sqlite3 *db;
	char *message = NULL;

	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, statements, NULL, NULL, &message), SQLITE_OK, "%s: %s", statements, message);
	cr_assert(strncmp(statements, "UPDATE", 6) != 0 || sqlite3_total_changes(db) > 0, "%s", statements);
	cr_assert(strncmp(statements, "DELETE", 6) != 0 || sqlite3_total_changes(db) > 0, "%s", statements);
	cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

/* One value of the database as text, to free(). */
static char *
sql_text(const char *path, const char *query)
{
	sqlite3 *db;
	sqlite3_stmt *statement;

	cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(db, query, -1, &statement, NULL), SQLITE_OK, "%s: %s", query,
		     sqlite3_errmsg(db));
	cr_assert_eq(sqlite3_step(statement), SQLITE_ROW, "%s", query);
	const unsigned char *text = sqlite3_column_text(statement, 0);
	char *copy = strdup(text != NULL ? (const char *)text : "NULL");
	sqlite3_finalize(statement);
	sqlite3_close(db);
	return copy;
}

static void
sql_is(const char *path, const char *query, const char *want)
{
	char *text = sql_text(path, query);

	cr_assert_str_eq(text, want, "%s: %s", query, text);
	free(text);
}

static void
save_file(const char *path, struct kvms *s)
{
	cr_assert_eq(persist_file_save(path, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
}

static struct kvms *
load_file(const char *path)
{
	struct kvms *s;

	cr_assert_eq(persist_file_load(path, NULL, 0, &s, NULL, WHY), PERSIST_OK, "%s", why);
	return s;
}

/* Loading and saving "path" are refused with "part" in the sentence, and it stays as it is. */
static void
refused(const char *path, const char *part)
{
	struct bytes before = file_read(path);
	struct kvms *s = store_new(""), *loaded = s;

	cr_assert_eq(persist_file_load(path, NULL, 0, &loaded, NULL, WHY), PERSIST_REFUSED);
	cr_assert_null(loaded);
	cr_assert_not_null(strstr(why, part), "%s", why);
	cr_assert_not_null(strstr(why, path), "%s", why);
	cr_assert_eq(persist_file_save(path, "default", s, NULL, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, part), "%s", why);
	file_is(path, before);
	free(before.at);
	kvms_free(&s);
}

static struct persist *
state_open(unsigned flags)
{
	struct persist *db;

	cr_assert_eq(persist_open(".", flags, &db, WHY), PERSIST_OK, "%s", why);
	return db;
}

/* ---- What is saved comes back ---------------------------------------------------------------- */

TestSuite(persist_file, .init = enter, .fini = leave);
TestSuite(persist_state, .init = enter, .fini = leave);
TestSuite(persist_damage, .init = enter, .fini = leave, .timeout = 300);
TestSuite(persist_machine, .init = enter, .fini = leave, .timeout = 120);
TestSuite(persist_tables, .init = enter, .fini = leave);

Test(persist_file, fresh_store_comes_back_the_same)
{
	struct kvms *s = store_new("");
	struct persist_snapshot saved, loaded;

	cr_assert_eq(persist_file_save("s.kvms", "default", s, &saved, WHY), PERSIST_OK, "%s", why);
	struct kvms *t;
	cr_assert_eq(persist_file_load("s.kvms", "default", saved.id, &t, &loaded, WHY), PERSIST_OK, "%s", why);
	same(s, t);
	same_future(s, t);
	cr_assert_eq(loaded.digest, UINT64_C(0x89724308c7d7aa90));
	cr_assert_eq(loaded.step, 0);
	cr_assert_eq(loaded.id, saved.id);
	cr_assert_str_eq(loaded.store, "default");
	cr_assert_str_eq(loaded.taken, saved.taken);
	cr_assert_str_eq(loaded.library, kvms_version());
	cr_assert_eq(loaded.format, PERSIST_FORMAT);
	kvms_free(&s);
	kvms_free(&t);
	directory_has("s.kvms ");
}

Test(persist_file, busy_store_comes_back_the_same)
{
	struct kvms *s = busy_store();

	save_file("s.kvms", s);
	struct kvms *t = load_file("s.kvms");
	same(s, t);
	same_future(s, t);
	kvms_free(&s);
	kvms_free(&t);
}

Test(persist_file, every_configuration_comes_back)
{
	static const char *const configs[] = {
		"max_paddr=0x200000 rc_max=3 ncpu=64",
		"max_paddr=0x10000000000",
		"vmalloc=0xffffc90000000000..0xffffe90000000000",
		"vmalloc=[0xffffc90000000000..0xffffe90000000000,0xffffffffc0000000..0xffffffffff000000] ncpu=3",
		"reserve=[0x1000..0x3000,0x80000..0x81000] mmio=[0x4000..0x5000] kernel=0x100000..0x200000",
		"reserve=[0x0..0x40000000]",
	};

	for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
		struct kvms *s = store_new(configs[i]);
		uint64_t seed = i;

		for (int k = 0; k < 100; k++)
			random_step(s, &seed);
		save_file("s.kvms", s);
		struct kvms *t = load_file("s.kvms");
		struct kvt_buffer text[2] = { { .size = 0 }, { .size = 0 } };
		kvt_print_store(&text[0], kvms_config(s));
		kvt_print_store(&text[1], kvms_config(t));
		cr_assert_str_eq(text[0].at, text[1].at);
		kvt_buffer_free(&text[0]);
		kvt_buffer_free(&text[1]);
		same(s, t);
		same_future(s, t);
		kvms_free(&s);
		kvms_free(&t);
	}
}

Test(persist_file, random_stores_come_back_the_same)
{
	for (uint64_t run = 1; run <= 20; run++) {
		struct kvms *s = store_new("max_paddr=0x4000000");
		uint64_t seed = run;

		for (int k = 0; k < 400; k++)
			random_step(s, &seed);
		save_file("s.kvms", s);
		struct kvms *t = load_file("s.kvms");
		same(s, t);
		same_future(s, t);
		kvms_free(&s);
		kvms_free(&t);
	}
}

Test(persist_file, picture_is_independent_of_its_store)
{
	struct kvms *s = busy_store(), *u = busy_store(), *t;
	struct persist_image *image;
	struct persist *db = state_open(PERSIST_CREATE);

	cr_assert_eq(persist_capture(s, &image, WHY), PERSIST_OK);
	step_ok(s, "frame_from_unused paddr=0x777000");
	kvms_free(&s);
	cr_assert_eq(persist_write(db, "default", image, NULL, WHY), PERSIST_OK, "%s", why);
	persist_image_free(&image);
	cr_assert_null(image);
	cr_assert_eq(persist_load(db, "default", 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	same(u, t);
	persist_close(&db);
	kvms_free(&u);
	kvms_free(&t);
}

Test(persist_file, saving_again_replaces_and_keeps_link_and_mode)
{
	struct kvms *s = store_new("");
	struct stat st;

	save_file("real.kvms", s);
	cr_assert_eq(chmod("real.kvms", 0640), 0);
	cr_assert_eq(symlink("real.kvms", "s.kvms"), 0);
	step_ok(s, "frame_alloc");
	save_file("s.kvms", s);
	cr_assert_eq(lstat("s.kvms", &st), 0);
	cr_assert(S_ISLNK(st.st_mode));
	cr_assert_eq(stat("s.kvms", &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0640);
	struct kvms *t = load_file("real.kvms");
	same(s, t);
	kvms_free(&s);
	kvms_free(&t);
	directory_has("real.kvms s.kvms ");
}

Test(persist_file, odd_paths_work)
{
	static const char *const paths[] = { "a b%20?mode=x#y.kvms", "\303\244'\"$.kvms", "file:x.kvms",
					     ":memory:", "-x" };
	struct kvms *s = store_new("");

	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		save_file(paths[i], s);
		cr_assert(persist_file_is_ours(paths[i]), "%s", paths[i]);
		struct kvms *t = load_file(paths[i]);
		cr_assert_eq(kvms_digest(s), kvms_digest(t));
		kvms_free(&t);
	}
	kvms_free(&s);
}

Test(persist_file, read_only_file_in_read_only_directory_is_loaded)
{
	struct kvms *s = busy_store();

	save_file("s.kvms", s);
	cr_assert_eq(chmod("s.kvms", 0444), 0);
	privileges_drop(0555);
	struct kvms *t = load_file("s.kvms");
	same(s, t);
	privileges_take();
	kvms_free(&s);
	kvms_free(&t);
	directory_has("s.kvms ");
}

Test(persist_file, bad_name_is_refused)
{
	struct kvms *s = store_new("");
	char name[300];

	memset(name, 'x', sizeof name);
	name[256] = '\0';
	cr_assert_eq(persist_file_save("s.kvms", "", s, NULL, WHY), PERSIST_FAILED);
	cr_assert_eq(persist_file_save("s.kvms", name, s, NULL, WHY), PERSIST_FAILED);
	cr_assert_not_null(strstr(why, "255 bytes"), "%s", why);
	name[255] = '\0';
	cr_assert_eq(persist_file_save("s.kvms", name, s, NULL, WHY), PERSIST_OK, "%s", why);
	kvms_free(&s);
}

/* ---- A state directory -------------------------------------------------------------------------- */

struct listed {
	char text[2000];
};

static bool
visit_listed(void *arg, const struct persist_snapshot *snapshot)
{
	struct listed *l = arg;
	size_t n = strlen(l->text);

	snprintf(l->text + n, sizeof l->text - n, "%s:%" PRIu64 ":%" PRIu64 " ", snapshot->store, snapshot->id,
		 snapshot->step);
	return true;
}

static void
list_is(struct persist *db, const char *want)
{
	struct listed l = { "" };

	cr_assert_eq(persist_list(db, visit_listed, &l, WHY), PERSIST_OK, "%s", why);
	cr_assert_str_eq(l.text, want);
}

Test(persist_state, newest_snapshots_of_each_store_are_kept)
{
	struct persist *db = state_open(PERSIST_CREATE);
	struct kvms *a = store_new(""), *b = busy_store(), *t;
	struct persist_snapshot saved;

	list_is(db, "");
	for (int i = 0; i < 4; i++) {
		step_ok(a, "frame_alloc");
		cr_assert_eq(persist_save(db, "a", a, &saved, WHY), PERSIST_OK, "%s", why);
	}
	cr_assert_eq(persist_save(db, "b", b, NULL, WHY), PERSIST_OK, "%s", why);
	list_is(db, "a:4:4 a:3:3 b:5:26 ");
	cr_assert_eq(saved.id, 4);
	struct bytes log = file_read("kvmstore.db-wal"); /* all of it is in the database already */
	cr_assert_eq(log.size, 0);
	free(log.at);
	persist_close(&db);
	directory_has("kvmstore.db ");

	db = state_open(0);
	cr_assert_eq(persist_load(db, "a", 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	same(a, t);
	kvms_free(&t);
	cr_assert_eq(persist_load(db, "a", 3, &t, &saved, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(saved.step, 3);
	cr_assert_eq(kvms_steps(t), 3);
	kvms_free(&t);
	cr_assert_eq(persist_load(db, "b", 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	same(b, t);
	kvms_free(&t);

	cr_assert_eq(persist_load(db, "a", 5, &t, NULL, WHY), PERSIST_ABSENT);
	cr_assert_eq(persist_load(db, "c", 0, &t, NULL, WHY), PERSIST_ABSENT);
	cr_assert_not_null(strstr(why, "\"c\""), "%s", why);
	cr_assert_eq(persist_drop(db, "c", WHY), PERSIST_ABSENT);
	cr_assert_eq(persist_drop(db, "a", WHY), PERSIST_OK, "%s", why);
	list_is(db, "b:5:26 ");
	persist_keep(db, 0);
	cr_assert_eq(persist_save(db, "b", b, NULL, WHY), PERSIST_OK, "%s", why);
	list_is(db, "b:6:26 ");
	persist_keep(db, 3);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(persist_save(db, "b", b, NULL, WHY), PERSIST_OK, "%s", why);
	list_is(db, "b:10:26 b:9:26 b:8:26 ");
	cr_assert_eq(persist_drop(db, "b", WHY), PERSIST_OK, "%s", why);
	list_is(db, "");
	persist_close(&db);
	/* nothing of them is left in any table */
	sql_is("kvmstore.db",
	       "SELECT (SELECT count(*) FROM frame) + (SELECT count(*) FROM node) + (SELECT count(*) FROM mapping) + "
	       "(SELECT count(*) FROM element) + (SELECT count(*) FROM configuration) + (SELECT count(*) FROM handle)",
	       "0");
	kvms_free(&a);
	kvms_free(&b);
}

Test(persist_state, database_can_be_read_as_a_file_while_open)
{
	struct persist *db = state_open(PERSIST_CREATE), *reader;
	struct kvms *s = busy_store(), *t;

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	t = load_file("kvmstore.db");
	same(s, t);
	kvms_free(&t);
	reader = state_open(PERSIST_READ_ONLY);
	list_is(reader, "default:1:26 ");
	cr_assert_eq(persist_save(reader, "default", s, NULL, WHY), PERSIST_FAILED);
	cr_assert_eq(persist_drop(reader, "default", WHY), PERSIST_FAILED);
	cr_assert_eq(persist_save(db, "other", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&reader);
	cr_assert_eq(persist_file_load("kvmstore.db", NULL, 0, &t, NULL, WHY), PERSIST_ABSENT);
	cr_assert_not_null(strstr(why, "several stores"), "%s", why);
	cr_assert_eq(persist_file_load("kvmstore.db", "other", 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	kvms_free(&t);
	persist_close(&db);
	struct listed l = { "" };
	cr_assert_eq(persist_file_list("kvmstore.db", visit_listed, &l, WHY), PERSIST_OK);
	cr_assert_str_eq(l.text, "default:1:26 other:2:26 ");
	kvms_free(&s);
}

Test(persist_state, absent_ones_are_reported_as_absent)
{
	struct persist *db;
	struct kvms *t;

	cr_assert_eq(persist_open(".", 0, &db, WHY), PERSIST_ABSENT);
	cr_assert_eq(persist_open(".", PERSIST_READ_ONLY, &db, WHY), PERSIST_ABSENT);
	cr_assert_eq(persist_open("nowhere", PERSIST_CREATE, &db, WHY), PERSIST_ABSENT);
	cr_assert_null(db);
	cr_assert_eq(persist_file_load("nothing", NULL, 0, &t, NULL, WHY), PERSIST_ABSENT);
	cr_assert(!persist_file_is_ours("nothing"));
	directory_has("");
	db = state_open(PERSIST_CREATE);
	persist_close(&db);
	cr_assert_eq(persist_file_load("kvmstore.db", NULL, 0, &t, NULL, WHY), PERSIST_ABSENT);
	cr_assert_not_null(strstr(why, "no snapshot"), "%s", why);
	directory_has("kvmstore.db ");
}

Test(persist_state, log_without_its_database_is_refused)
{
	struct persist *db;

	file_write("kvmstore.db-wal", "x", 1);
	cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "-wal"), "%s", why);
	directory_has("kvmstore.db-wal ");
}

Test(persist_state, the_two_sorts_of_file_are_not_confused)
{
	struct kvms *s = store_new("");
	struct persist *db = state_open(PERSIST_CREATE);

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	struct bytes before = file_read("kvmstore.db");
	cr_assert_eq(persist_file_save("kvmstore.db", "default", s, NULL, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "state directory"), "%s", why);
	file_is("kvmstore.db", before);
	free(before.at);

	cr_assert_eq(unlink("kvmstore.db"), 0);
	save_file("kvmstore.db", s);
	before = file_read("kvmstore.db");
	cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "a snapshot file"), "%s", why);
	file_is("kvmstore.db", before);
	free(before.at);
	kvms_free(&s);
	directory_has("kvmstore.db ");
}

Test(persist_state, busy_database_is_reported_and_unharmed)
{
	struct persist *db = state_open(PERSIST_CREATE);
	struct kvms *s = store_new("");
	sqlite3 *other;

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(sqlite3_open("kvmstore.db", &other), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_BUSY);
	cr_assert_not_null(strstr(why, "in use"), "%s", why);
	cr_assert_eq(sqlite3_close(other), SQLITE_OK);
	list_is(db, "default:1:0 ");
	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	kvms_free(&s);
}

/* ---- Not ours, damaged, newer ------------------------------------------------------------------------ */

Test(persist_damage, foreign_files_are_refused_and_left_alone)
{
	file_write("empty", "", 0);
	refused("empty", "empty file");
	file_write("text", "kvmtrace 1\nstore\n", 17);
	refused("text", "not a file of kvmstore");
	file_write("head", "SQLite format 3", 16);
	refused("head", "cut short");
	sql("foreign.db", "CREATE TABLE snapshot(id); INSERT INTO snapshot VALUES(1)");
	refused("foreign.db", "another program");
	sql("other.db", "PRAGMA application_id = 1234; CREATE TABLE t(x)");
	refused("other.db", "0x000004d2");
	sql("wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE t(x)");
	refused("wal.db", "another program");
	directory_has("empty foreign.db head other.db text wal.db ");
	cr_assert(!persist_file_is_ours("text"));
	cr_assert(!persist_file_is_ours("foreign.db"));
}

Test(persist_damage, things_that_are_no_files_are_refused)
{
	struct kvms *s = store_new(""), *t;

	cr_assert_eq(mkdir("d", 0755), 0);
	cr_assert_eq(mkfifo("fifo", 0644), 0);
	cr_assert_eq(persist_file_load("d", NULL, 0, &t, NULL, WHY), PERSIST_REFUSED);
	cr_assert_eq(persist_file_load("fifo", NULL, 0, &t, NULL, WHY), PERSIST_REFUSED);
	cr_assert_eq(persist_file_save("d", "x", s, NULL, WHY), PERSIST_REFUSED);
	cr_assert_eq(persist_file_save("fifo", "x", s, NULL, WHY), PERSIST_REFUSED);
	cr_assert_eq(persist_file_save("nowhere/s", "x", s, NULL, WHY), PERSIST_FAILED);
	cr_assert_eq(persist_file_save("/dev/null", "x", s, NULL, WHY), PERSIST_REFUSED);
	kvms_free(&s);
	directory_has("d fifo ");
}

Test(persist_damage, foreign_state_database_is_refused_and_left_alone)
{
	static const char *const made[] = {
		"CREATE TABLE snapshot(id)",
		"PRAGMA journal_mode = WAL; CREATE TABLE t(x)",
		"PRAGMA application_id = 0x6b766d73; PRAGMA user_version = 2; CREATE TABLE t(x)",
		"PRAGMA application_id = 0x6b766d73; CREATE TABLE t(x)",
		"PRAGMA application_id = 0x6b766d73; PRAGMA user_version = 1; CREATE TABLE t(x)",
		"PRAGMA application_id = 0x6b766d73; PRAGMA user_version = 1; PRAGMA journal_mode = WAL"
	};
	struct persist *db;

	for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
		(void)unlink("kvmstore.db");
		sql("kvmstore.db", made[i]);
		struct bytes before = file_read("kvmstore.db");
		cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_REFUSED, "%s", made[i]);
		cr_assert_null(db);
		file_is("kvmstore.db", before);
		free(before.at);
	}
	(void)unlink("kvmstore.db");
	file_write("kvmstore.db", "", 0);
	cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_REFUSED);
}

Test(persist_damage, newer_version_is_refused_and_left_alone)
{
	struct kvms *s = store_new("");

	save_file("s.kvms", s);
	sql("s.kvms", "PRAGMA user_version = 4");
	refused("s.kvms", "newer version");
	cr_assert(persist_file_is_ours("s.kvms"));
	sql("s.kvms", "PRAGMA user_version = 3; UPDATE snapshot SET format = 5, library = '9.9'");
	refused("s.kvms", "newer version of kvmstore (9.9)");
	sql("s.kvms", "PRAGMA user_version = 0; UPDATE snapshot SET format = 1");
	refused("s.kvms", "damaged");
	kvms_free(&s);
}

/* A log that makes the tables newer: judged too, and neither file changes. */
Test(persist_damage, newer_version_in_the_log_is_refused_and_left_alone)
{
	struct persist *db = state_open(PERSIST_CREATE);
	sqlite3 *other;

	persist_close(&db);
	cr_assert_eq(sqlite3_open("kvmstore.db", &other), SQLITE_OK);
	cr_assert_eq(sqlite3_db_config(other, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(other, "PRAGMA user_version = 7", NULL, NULL, NULL), SQLITE_OK);
	cr_assert_eq(sqlite3_close(other), SQLITE_OK);
	struct bytes file = file_read("kvmstore.db"), log = file_read("kvmstore.db-wal");
	cr_assert_gt(log.size, 0);
	cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "newer version"), "%s", why);
	file_is("kvmstore.db", file);
	file_is("kvmstore.db-wal", log);
	free(file.at);
	free(log.at);
}

/* What somebody might do to the rows of busy_store(): each makes another state, or none. */
static const char *const edits[] = {
	"UPDATE snapshot SET step = step + 1",
	"UPDATE snapshot SET store = 'other'",
	"UPDATE snapshot SET id = 9",
	"UPDATE snapshot SET digest = '0000000000000000'",
	"UPDATE snapshot SET elements = elements - 1",
	"UPDATE snapshot SET leaves = leaves + 1",
	"UPDATE snapshot SET taken = 'yesterday'",
	"UPDATE snapshot SET store = x'64656661756c74'",
	"UPDATE snapshot SET store = 'default' || char(0) || 'x'",
	"UPDATE configuration SET value = '2' WHERE key = 'ncpu'",
	"UPDATE configuration SET value = '0x1000..0x2000' WHERE key = 'kernel'",
	"DELETE FROM configuration WHERE key = 'kernel'",
	"INSERT INTO configuration VALUES(1, 'colour', 'red')",
	"UPDATE frame SET rc = 2 WHERE usage = 'Frame'",
	"UPDATE frame SET rc = 'many' WHERE usage = 'Frame'",
	"UPDATE frame SET usage = 'Lost'",
	"UPDATE frame SET pages = 0x7fffffffffffffff",
	"UPDATE frame SET pages = 0",
	"UPDATE frame SET paddr = paddr + 1 WHERE paddr = 0x2000",
	"DELETE FROM frame WHERE paddr = 0x2000",
	"UPDATE handle SET end = end + 4096 WHERE kind = 'frame'",
	"UPDATE handle SET kind = 'unique' WHERE kind = 'segment'",
	"UPDATE handle SET id = 1000000 WHERE id = 1",
	"UPDATE handle SET id = 0x7fffffffffffffff WHERE id = 1 AND kind = 'segment'",
	"DELETE FROM handle",
	"UPDATE area SET end = end + 4096 WHERE id = 1",
	"UPDATE area SET start = 12.5 WHERE id = 1",
	"UPDATE area SET id = -1 WHERE id = 1",
	"DELETE FROM area WHERE id = 1",
	"UPDATE mapping SET paddr = paddr + 4096 WHERE level = 1",
	"UPDATE mapping SET leaves = leaves + 1",
	"UPDATE mapping SET leaves = 0x7fffffffffffffff",
	"UPDATE mapping SET leaves = -1",
	"UPDATE mapping SET level = 9",
	"UPDATE mapping SET level = 5",
	"UPDATE mapping SET level = 3 WHERE level = 2",
	"UPDATE mapping SET level = 0",
	"UPDATE mapping SET va = va + 1",
	"UPDATE mapping SET va = 0x1000 WHERE va = (SELECT max(va) FROM mapping)",
	"UPDATE mapping SET va = 0x8000000000000000 WHERE va = (SELECT max(va) FROM mapping)",
	"UPDATE mapping SET vm_space = 3",
	"UPDATE mapping SET flags = 'wr'",
	"UPDATE mapping SET flags = 'x' WHERE flags = 'rw'",
	"UPDATE mapping SET cache = 'wp'",
	"UPDATE mapping SET tracked = 1 - tracked",
	"UPDATE mapping SET tracked = 2",
	"UPDATE mapping SET paddr = -4096",
	"UPDATE mapping SET pages = NULL WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = pages || ' ' WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ',', ', ') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, '[', '[0') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ']', '') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ']', ',1]') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ']', ',99999999999999999999]') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ',', ',9') WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = replace(pages, ',', ',null,') WHERE pages IS NOT NULL",
	("UPDATE mapping SET pages = replace(pages, ']', replace(hex(zeroblob(600)), '00', ',null') || ']')"
	 " WHERE pages IS NOT NULL"),
	"UPDATE mapping SET pages = '[]' WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = '[null]', leaves = 0 WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = '' WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = 1 WHERE pages IS NOT NULL",
	"UPDATE mapping SET pages = CAST(pages AS BLOB) WHERE pages IS NOT NULL",
	"UPDATE mapping SET level = 2 WHERE pages IS NOT NULL",
	"DELETE FROM mapping",
	"DELETE FROM mapping WHERE va = (SELECT min(va) FROM mapping)",
	"UPDATE node SET va = NULL",
	"UPDATE node SET va = va + 0x1000 WHERE level = 1",
	"UPDATE node SET vm_space = 1 WHERE level = 1",
	"UPDATE node SET level = level + 1",
	"UPDATE node SET level = 1000000000000",
	"UPDATE node SET nr_children = 5 WHERE level = 1",
	"UPDATE node SET stray = 1 WHERE level = 1",
	"UPDATE node SET lock = 1 WHERE level = 1",
	"UPDATE node SET paddr = paddr - 0x80000000",
	"DELETE FROM node WHERE level = 1",
	"DELETE FROM node",
	"INSERT INTO memory VALUES(1, 0x1000, x'0100000000000000')",
	"INSERT INTO memory VALUES(1, 0x1000, x'01')",
	"INSERT INTO memory VALUES(1, 0x1ff8, zeroblob(16))",
	"INSERT INTO memory VALUES(1, -8, x'0100000000000000')",
	"INSERT INTO memory VALUES(1, 0x7ffff008, x'0100000000000000')",
	"UPDATE free_va SET end = end - 4096",
	"UPDATE free_va SET start = start + 1",
	"DELETE FROM free_va",
	"UPDATE free_mmio SET io_window = 2",
	"DELETE FROM free_mmio",
	"UPDATE cpu SET vm_space = 1",
	"UPDATE cpu SET cpu = 1000",
	"UPDATE cpu SET queue = '0x1'",
	"UPDATE cpu SET queue = '0xffffffffffffffff 0x0'",
	"UPDATE cpu SET queue = 'none'",
	"UPDATE cpu SET queue = '0x0 0x0 '",
	"DELETE FROM cpu",
	"UPDATE current_cpu SET cpu = 1",
	"DELETE FROM current_cpu",
	"UPDATE next_id SET next = 1 WHERE kind = 'area'",
	"UPDATE next_id SET next = -1 WHERE kind = 'area'",
	"UPDATE next_id SET kind = 'thing' WHERE kind = 'area'",
	"DELETE FROM next_id WHERE kind = 'writer'",
	"INSERT INTO element VALUES(1, 99, 0, '0x1 0x2')",
	"INSERT INTO element VALUES(1, 0, 0, '')",
	"INSERT INTO element VALUES(1, -1, 0, '0x1')",
	"INSERT INTO element VALUES(1, 2, 0, '0x1')",
	"INSERT INTO element VALUES(1, 21, 0, '0x0 0x0')",
	"INSERT INTO element VALUES(1, 99, 0, '0x')",
	"INSERT INTO element VALUES(1, 99, 0, '0x11111111111111111')",
	"DROP TABLE mapping",
	"DROP VIEW nodes; ALTER TABLE node DROP COLUMN lock",
	"CREATE TRIGGER t AFTER INSERT ON snapshot BEGIN SELECT 1; END; DROP TABLE cpu",
};

Test(persist_damage, edited_rows_are_refused)
{
	struct kvms *s = busy_store(), *t;

	save_file("good.kvms", s);
	struct bytes good = file_read("good.kvms");
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		file_write("s.kvms", good.at, good.size);
		sql("s.kvms", edits[i]);
		struct bytes before = file_read("s.kvms");
		cr_assert_eq(persist_file_load("s.kvms", NULL, 0, &t, NULL, WHY), PERSIST_REFUSED, "%s", edits[i]);
		cr_assert_null(t);
		cr_assert_gt(strlen(why), strlen("s.kvms: "));
		file_is("s.kvms", before);
		free(before.at);
	}
	free(good.at);
	kvms_free(&s);
}

Test(persist_damage, older_snapshot_can_be_loaded_when_the_newest_is_bad)
{
	struct persist *db = state_open(PERSIST_CREATE);
	struct kvms *s = busy_store(), *u = busy_store(), *t;

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	step_ok(s, "frame_alloc");
	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	sql("kvmstore.db", "UPDATE area SET refs = 5 WHERE snapshot = 2");
	cr_assert_eq(persist_load(db, "default", 0, &t, NULL, WHY), PERSIST_REFUSED);
	cr_assert_not_null(strstr(why, "snapshot 2 of store \"default\""), "%s", why);
	cr_assert_eq(persist_load(db, "default", 1, &t, NULL, WHY), PERSIST_OK, "%s", why);
	same(u, t);
	persist_close(&db);
	kvms_free(&s);
	kvms_free(&t);
	kvms_free(&u);
}

/* How a damaged copy ended: refused, or loaded as exactly what was saved. */
static bool
damaged_copy(const char *path, uint64_t digest, uint64_t steps, size_t at)
{
	struct bytes before = file_read(path);
	struct kvms *t;

	enum persist_status status = persist_file_load(path, NULL, 0, &t, NULL, WHY);
	if (status == PERSIST_OK) {
		cr_assert_eq(kvms_digest(t), digest, "at %zu", at);
		cr_assert_eq(kvms_steps(t), steps, "at %zu", at);
	} else {
		cr_assert_eq(status, PERSIST_REFUSED, "at %zu: %s", at, why);
		cr_assert_null(t);
	}
	kvms_free(&t);
	file_is(path, before);
	free(before.at);
	return status == PERSIST_OK;
}

/*
 * A flipped byte: never a crash, never a different state.  Some bytes mean
 * nothing (free space in pages, texts of comments), so some loads succeed.
 */
Test(persist_damage, flipped_byte_is_refused_or_harmless)
{
	struct kvms *s = busy_store();
	uint64_t seed = 5;
	unsigned harmless = 0, count = 0;

	save_file("s.kvms", s);
	struct bytes good = file_read("s.kvms");
	for (size_t at = 0; at < good.size; at += at < 100 ? 1 : 1 + draw(&seed, 199)) {
		unsigned char old = good.at[at];
		good.at[at] = (unsigned char)(old ^ (1 + draw(&seed, 255)));
		file_write("s.kvms", good.at, good.size);
		good.at[at] = old;
		harmless += damaged_copy("s.kvms", kvms_digest(s), kvms_steps(s), at);
		count++;
	}
	fprintf(stderr, "%u of %u flipped bytes refused, the others harmless\n", count - harmless, count);
	cr_assert_gt(count - harmless, count / 20);
	free(good.at);
	kvms_free(&s);
}

Test(persist_damage, cut_file_is_refused)
{
	struct kvms *s = busy_store();

	save_file("s.kvms", s);
	struct bytes good = file_read("s.kvms");
	for (size_t size = 0; size < good.size; size += 509) {
		file_write("s.kvms", good.at, size);
		cr_assert(!damaged_copy("s.kvms", 0, 0, size), "cut to %zu", size);
	}
	free(good.at);
	kvms_free(&s);
}

/* The same for the database of a state directory: opening may write, so it must judge first. */
Test(persist_damage, damaged_state_database_is_refused_and_left_alone)
{
	struct persist *db = state_open(PERSIST_CREATE);
	struct kvms *s = busy_store(), *t;
	uint64_t seed = 9;

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	struct bytes good = file_read("kvmstore.db");
	for (size_t at = 0; at < good.size; at += 1 + draw(&seed, 400)) {
		unsigned char old = good.at[at];
		good.at[at] = (unsigned char)(old ^ (1 + draw(&seed, 255)));
		(void)unlink("kvmstore.db-wal");
		(void)unlink("kvmstore.db-shm");
		file_write("kvmstore.db", good.at, good.size);
		struct bytes before = file_read("kvmstore.db");
		good.at[at] = old;
		enum persist_status status = persist_open(".", PERSIST_CREATE, &db, WHY);
		if (status != PERSIST_OK) {
			cr_assert_eq(status, PERSIST_REFUSED, "at %zu: %s", at, why);
			file_is("kvmstore.db", before);
		} else {
			status = persist_load(db, "default", 0, &t, NULL, WHY);
			if (status == PERSIST_OK)
				cr_assert_eq(kvms_digest(t), kvms_digest(s), "at %zu", at);
			else
				cr_assert_eq(status, PERSIST_REFUSED, "at %zu: %s", at, why);
			kvms_free(&t);
			persist_close(&db);
		}
		free(before.at);
	}
	free(good.at);
	kvms_free(&s);
}

/* ---- The machine fails --------------------------------------------------------------------------------- */

Test(persist_machine, unwritable_directory_is_reported)
{
	struct kvms *s = store_new(""), *t;
	struct persist *db;

	cr_assert_eq(mkdir("d", 0755), 0);
	save_file("d/s.kvms", s);
	cr_assert_eq(chmod("d", 0555), 0);
	privileges_drop(0755);
	cr_assert_eq(persist_file_save("d/s.kvms", "default", s, NULL, WHY), PERSIST_FAILED);
	cr_assert_not_null(strstr(why, "Permission denied"), "%s", why);
	cr_assert_eq(persist_file_save("d/new", "default", s, NULL, WHY), PERSIST_FAILED);
	cr_assert_eq(persist_open("d", PERSIST_CREATE, &db, WHY), PERSIST_FAILED);
	cr_assert_not_null(strstr(why, "Permission denied"), "%s", why);
	cr_assert_eq(persist_file_load("d/s.kvms", NULL, 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	privileges_take();
	cr_assert_eq(chmod("d", 0755), 0);
	kvms_free(&t);
	kvms_free(&s);
}

Test(persist_machine, unwritable_database_is_reported)
{
	struct kvms *s = store_new("");
	struct persist *db = state_open(PERSIST_CREATE);

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	cr_assert_eq(chmod("kvmstore.db", 0444), 0);
	privileges_drop(0755);
	cr_assert_eq(persist_open(".", PERSIST_CREATE, &db, WHY), PERSIST_FAILED);
	cr_assert_not_null(strstr(why, "permission"), "%s", why);
	db = state_open(PERSIST_READ_ONLY);
	list_is(db, "default:1:0 ");
	persist_close(&db);
	privileges_take();
	kvms_free(&s);
}

/* Save until there is no room (for a file beside the database neither, if "file_too"); then the earlier snapshots must
 * be there still. */
static void
fill_disk(bool file_too)
{
	struct kvms *s = busy_store(), *t;
	struct persist *db = state_open(PERSIST_CREATE);
	enum persist_status status = PERSIST_OK;
	struct persist_snapshot last = { .id = 0 }, saved;

	persist_keep(db, 1000000);
	save_file("s.kvms", s);
	struct bytes before = file_read("s.kvms");
	for (int i = 0; i < 2000 && status == PERSIST_OK; i++) {
		status = persist_save(db, "default", s, &saved, WHY);
		if (status == PERSIST_OK)
			last = saved;
		step_ok(s, "frame_alloc");
	}
	cr_assert_eq(status, PERSIST_FAILED);
	cr_assert(strstr(why, "disk is full") != NULL || strstr(why, "input/output error") != NULL, "%s", why);
	if (file_too) {
		cr_assert_eq(persist_file_save("s.kvms", "default", s, NULL, WHY), PERSIST_FAILED);
		cr_assert_not_null(strstr(why, "disk is full"), "%s", why);
		file_is("s.kvms", before);
	}
	free(before.at);
	cr_assert_eq(persist_load(db, "default", 0, &t, &saved, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(saved.id, last.id);
	cr_assert_eq(kvms_digest(t), last.digest);
	kvms_free(&t);
	persist_close(&db);
	cr_assert_eq(system("ls -A | grep -q new"), 256, "a temporary file was left");
	db = state_open(0);
	cr_assert_eq(persist_load(db, "default", 0, &t, &saved, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(saved.id, last.id);
	kvms_free(&t);
	persist_close(&db);
	kvms_free(&s);
}

Test(persist_machine, full_disk_leaves_earlier_snapshots)
{
	cr_assert_eq(mkdir("small", 0755), 0);
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", "small", "tmpfs", 0, "size=2m") != 0) {
		leave(); /* skipping does not */
		cr_skip_test("mounting a small file system is not permitted here");
	}
	cr_assert_eq(chdir("small"), 0);
	fill_disk(true);
	cr_assert_eq(chdir("/"), 0);
	char mounted[80];
	snprintf(mounted, sizeof mounted, "%s/small", dir);
	cr_assert_eq(umount(mounted), 0);
}

Test(persist_machine, file_size_limit_leaves_earlier_snapshots)
{
	struct rlimit limit = { 1 << 20, 1 << 20 };

	cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	fill_disk(false);
}

/* What the process that is killed does: one operation, one save, for ever. */
static void
save_for_ever(void)
{
	struct persist *db = state_open(0);
	struct kvms *s;

	if (persist_load(db, "default", 0, &s, NULL, WHY) != PERSIST_OK)
		_exit(1);
	for (uint64_t seed = kvms_steps(s);; seed = kvms_steps(s)) {
		random_step(s, &seed);
		if (persist_save(db, "default", s, NULL, WHY) != PERSIST_OK ||
		    persist_file_save("s.kvms", "default", s, NULL, WHY) != PERSIST_OK)
			_exit(1);
	}
}

/* The digests the killed process passes through, by step. */
static uint64_t
expected_digest(uint64_t steps, uint64_t first)
{
	struct kvms *s = busy_store();

	cr_assert_eq(kvms_steps(s), first);
	for (uint64_t seed = first; kvms_steps(s) < steps; seed = kvms_steps(s))
		random_step(s, &seed);
	uint64_t digest = kvms_digest(s);
	kvms_free(&s);
	return digest;
}

Test(persist_machine, killed_while_saving_the_last_complete_snapshot_is_there)
{
	struct kvms *s = busy_store();
	uint64_t first = kvms_steps(s), seed = 3, step = first;
	struct persist *db = state_open(PERSIST_CREATE);

	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	save_file("s.kvms", s);
	kvms_free(&s);
	/* at any moment of a save; on a slow machine until some saves were complete */
	for (uint64_t round = 0; round < 20 || step < first + 20; round++) {
		int status;
		pid_t child = fork();
		if (child == 0)
			save_for_ever();
		struct timespec wait = { 0, (long)(20000000 + draw(&seed, 60000000) +
						   (round < 80 ? round : 80) * 5000000) };
		nanosleep(&wait, NULL);
		cr_assert_eq(kill(child, SIGKILL), 0);
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert(WIFSIGNALED(status), "the saving process failed");

		db = state_open(0);
		cr_assert_eq(persist_load(db, "default", 0, &s, NULL, WHY), PERSIST_OK, "%s", why);
		cr_assert_geq(kvms_steps(s), step);
		step = kvms_steps(s);
		cr_assert_eq(kvms_digest(s), expected_digest(step, first));
		kvms_free(&s);
		persist_close(&db);
		s = load_file("s.kvms");
		cr_assert_eq(kvms_digest(s), expected_digest(kvms_steps(s), first));
		kvms_free(&s);
	}
}

static double
seconds_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

/* Scattered frames, so that no two mappings make a run: the most rows 100000 mappings can be. */
Test(persist_machine, hundred_thousand_scattered_mappings_take_seconds_at_most)
{
	struct kvms *s = store_new("max_paddr=0x100000000"), *t;
	struct persist *db = state_open(PERSIST_CREATE);
	struct timespec from;
	char text[8192];

	kvms_set_check(s, KVMS_CHECK_OFF, 1);
	for (uint64_t i = 0; i < 100000; i++) {
		snprintf(text, sizeof text, "frame_from_unused paddr=0x%" PRIx64 " meta=%" PRIu64, i * 0x3000, i);
		step_ok(s, text);
		if (i % 100 == 99) {
			int n = snprintf(text, sizeof text, "kvirt_map_frames area_size=0x65000 prop=rw:wb frames=[");
			for (uint64_t k = 0; k < 100; k++)
				n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRIu64, k > 0 ? "," : "",
					      i - 98 + k);
			snprintf(text + n, sizeof text - (size_t)n, "]");
			step_ok(s, text);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	struct persist_image *image;
	cr_assert_eq(persist_capture(s, &image, WHY), PERSIST_OK);
	double capture = seconds_since(&from);
	cr_assert_eq(persist_write(db, "default", image, NULL, WHY), PERSIST_OK, "%s", why);
	double save = seconds_since(&from);
	persist_image_free(&image);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	clock_gettime(CLOCK_MONOTONIC, &from);
	cr_assert_eq(persist_load(db, "default", 0, &t, NULL, WHY), PERSIST_OK, "%s", why);
	double load = seconds_since(&from);
	cr_assert_eq(kvms_digest(s), kvms_digest(t));
	fprintf(stderr, "100000 mappings: capture %.3f s, save %.3f s, load %.3f s\n", capture, save, load);
	cr_assert_lt(save, 20);
	cr_assert_lt(load, 20);
	persist_close(&db);
	kvms_free(&s);
	kvms_free(&t);
}

/* ---- The tables ------------------------------------------------------------------------------------------ */

static void
row(struct persist_image *image, enum table table, size_t width, const uint64_t *words)
{
	memcpy(persist_rows_add(&image->rows[table], width), words, width * sizeof *words);
}

#define ROW(table, ...)                                                                                                \
	row(image, table, sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t), (const uint64_t[]){ __VA_ARGS__ })

/* Values no store of today has, elements of tags nobody knows: all of it comes back, word for word. */
Test(persist_tables, every_value_and_unknown_tags_survive)
{
	const uint64_t max = UINT64_MAX, high = UINT64_C(0x8000000000000000);
	const struct report r = { WHY };
	struct persist_image *image = persist_image_new(), *back = persist_image_new();
	struct persist *db;

	ROW(TABLE_FRAME, 0, 1, KVMS_RC_UNUSED, 6, 0, 0, 0);
	ROW(TABLE_FRAME, 0x1000, max, KVMS_RC_UNIQUE, 2, 3, max, high);
	ROW(TABLE_FRAME, 0x2000, 7, INT64_MAX, 2, 2, high, 1);
	ROW(TABLE_HANDLE, 5, 1, 0, 0x1000);
	ROW(TABLE_HANDLE, 6, max, high, max);
	ROW(TABLE_HANDLE, 7, 3, 0, 0);
	ROW(TABLE_AREA, 1, high, max, max);
	for (uint64_t flags = 0; flags < 32; flags++)
		ROW(TABLE_MAPPING, 0, flags, max, high, flags, flags, flags % 5, flags & 1, flags >> 1 & 1,
		    flags >> 2 & 1, 0);
	ROW(TABLE_MAPPING, 1, 0, 0x5000, 2, 1, 3, 4, 1, 0, 0, 1, 5, 0);
	ROW(TABLE_MAPPING, 1, 0x7000, 0, 2, 1, 3, 4, 1, 0, 0, 1, 0, ABSENT, ABSENT, INT64_MAX);
	ROW(TABLE_NODE, 0, 4, 512, 0, max, 0, high);
	ROW(TABLE_NODE, 0x1000, 1, 0, 1, 0, ABSENT, ABSENT);
	ROW(TABLE_MEMORY, 0x5000, 0x0807060504030201, 0, max);
	ROW(TABLE_FREE_VA, 1, 2);
	ROW(TABLE_FREE_MMIO, 1, 3, high);
	ROW(TABLE_CPU, 0, max, 1, 1, 0, 0);
	ROW(TABLE_CPU, 1, 0, 0, 0, 2, high, 1, max, 3, 1, 2, 0x5000);
	ROW(TABLE_CURRENT_CPU, 63);
	for (uint64_t kind = 1; kind < KVMS_ID_KINDS; kind++)
		ROW(TABLE_NEXT_ID, kind, max - kind);
	ROW(TABLE_ELEMENT, 0, 0);
	ROW(TABLE_ELEMENT, 8, 1, 1, 2, max, high, 0);
	ROW(TABLE_ELEMENT, 99, 2, 0x123456789abcdef0);

	cr_assert_eq(persist_db_create("t.db", PERSIST_ID_SNAPSHOT, &db, &r), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_db_exec(db, "BEGIN", &r), PERSIST_OK);
	cr_assert_eq(persist_tables_write(db, 1, image, &r), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_tables_write(db, 2, back, &r), PERSIST_OK, "%s", why);
	cr_assert_eq(persist_db_exec(db, "COMMIT", &r), PERSIST_OK);
	cr_assert_eq(persist_tables_read(db, 1, back, &r), PERSIST_OK, "%s", why);
	for (unsigned t = 0; t < TABLES; t++) {
		cr_assert_eq(image->rows[t].count, back->rows[t].count, "table %u", t);
		/* rows come back in the order of the table; counters are sorted by name */
		if (t != TABLE_NEXT_ID)
			cr_assert_eq(memcmp(image->rows[t].word, back->rows[t].word, image->rows[t].used * 8), 0,
				     "table %u", t);
	}
	persist_db_discard(&db);
	persist_image_free(&image);
	persist_image_free(&back);
	directory_has("");
}

/* A store with an area of scattered pages, one of pages in a row, and one with gaps. */
static struct kvms *
scattered_store(void)
{
	struct kvms *s = store_new("");

	for (unsigned i = 0; i < 60; i++)
		step_ok(s, "frame_alloc");
	step_ok(s, "kvirt_map_frames area_size=0x14000 prop=rw:wb "
		   "frames=[20,19,18,17,16,15,14,13,12,11,10,9,8,7,6,5,4,3,2,1]");
	step_ok(s, "kvirt_map_frames area_size=0x14000 prop=rw:wb "
		   "frames=[21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40]");
	for (unsigned i = 41; i <= 60; i += 2) {
		char text[120];

		snprintf(text, sizeof text, "kvirt_map_frames area_size=0x3000 frames=[%u,%u] prop=r:wb", i + 1, i);
		step_ok(s, text);
	}
	return s;
}

/* Short runs share a row, also across gaps; a person sees each leaf, and which area maps a frame. */
Test(persist_tables, short_runs_share_a_row_and_views_write_them_out)
{
	struct kvms *s = scattered_store(), *loaded;
	const char *f = "s.kvms";

	save_file(f, s);
	sql_is(f, "SELECT count(*) FROM mapping WHERE pages IS NOT NULL", "2");
	sql_is(f, "SELECT leaves || ' ' || json_array_length(pages) FROM mapping WHERE flags = 'r'", "20 29");
	sql_is(f, "SELECT leaves || ' ' || json_array_length(pages) FROM mapping WHERE flags = 'rw' AND pages NOT NULL",
	       "20 20");
	sql_is(f, "SELECT leaves FROM mapping WHERE pages IS NULL", "20");
	sql_is(f, "SELECT leaves FROM snapshot", "60");
	sql_is(f, "SELECT sum(leaves) FROM mappings", "60");
	sql_is(f, "SELECT count(*) FROM mappings", "41");
	sql_is(f, "SELECT count(*) || ' ' || count(DISTINCT area) || ' ' || sum(last - first + 1) FROM area_frames",
	       "41 12 245760");
	sql_is(f, "SELECT count(*) FROM area_mappings WHERE area = 1", "20");
	sql_is(f, "SELECT count(*) FROM area_mappings WHERE va IS NULL", "0");
	/* each frame with one reference has one holder, and the areas' leaves are where the mappings are */
	sql_is(f, "SELECT count(*) FROM holders WHERE holder = 'kernel table'", "41");
	sql_is(f,
	       "SELECT count(*) FROM area_frames AS a JOIN mappings AS m USING(va) "
	       "WHERE printf('0x%x', a.first) = m.paddr",
	       "41");
	loaded = load_file(f);
	cr_assert_eq(kvms_digest(loaded), kvms_digest(s));
	kvms_free(&loaded);
	kvms_free(&s);
}

/* Version 2 had a row for each run and other views. */
Test(persist_tables, a_file_of_version_2_is_read_as_it_is_and_brought_up_to_date_for_writing)
{
	struct kvms *s = store_new(""), *scattered = scattered_store(), *loaded;
	struct persist *db = state_open(PERSIST_CREATE);
	uint64_t digest;

	step_ok(s, "frame_alloc");
	step_ok(s, "kvirt_map_frames area_size=0x1000 frames=[1] prop=rw:wb");
	digest = kvms_digest(s);
	cr_assert_eq(persist_save(db, "default", s, NULL, WHY), PERSIST_OK, "%s", why);
	persist_close(&db);
	sql("kvmstore.db", "DROP VIEW runs; DROP VIEW area_runs; DROP VIEW mappings; DROP VIEW area_mappings;"
			   "DROP VIEW holders; DROP VIEW area_frames; ALTER TABLE mapping DROP COLUMN pages;"
			   "CREATE VIEW mappings AS SELECT * FROM mapping; PRAGMA user_version = 2");
	db = state_open(PERSIST_READ_ONLY);
	cr_assert_eq(persist_load(db, "default", 0, &loaded, NULL, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(kvms_digest(loaded), digest);
	kvms_free(&loaded);
	persist_close(&db);
	sql_is("kvmstore.db", "PRAGMA user_version", "2");
	db = state_open(0);
	cr_assert_eq(persist_load(db, "default", 0, &loaded, NULL, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(kvms_digest(loaded), digest);
	cr_assert_eq(persist_save(db, "default", scattered, NULL, WHY), PERSIST_OK, "%s", why);
	kvms_free(&loaded);
	cr_assert_eq(persist_load(db, "default", 0, &loaded, NULL, WHY), PERSIST_OK, "%s", why);
	cr_assert_eq(kvms_digest(loaded), kvms_digest(scattered));
	persist_close(&db);
	sql_is("kvmstore.db", "PRAGMA user_version", "3");
	sql_is("kvmstore.db", "SELECT count(*) FROM area_frames", "41");
	kvms_free(&loaded);
	kvms_free(&scattered);
	kvms_free(&s);
}

Test(persist_tables, a_person_can_ask)
{
	struct kvms *s = busy_store();
	const char *f = "s.kvms";

	save_file(f, s);
	kvms_free(&s);
	char *digest = sql_text(f, "SELECT digest FROM snapshots WHERE newest AND store = 'default' AND step = 26");
	cr_assert_eq(strlen(digest), 18);
	free(digest);
	sql_is(f, "SELECT value FROM configuration WHERE key = 'max_paddr'", "0x80000000");
	sql_is(f, "SELECT value FROM configuration WHERE key = 'vmalloc'", "0xffffc00000000000..0xffffe00000000000");
	sql_is(f, "SELECT start || ' ' || end || ' ' || size FROM areas WHERE id = 1",
	       "0xffffdfffffffc000 0xffffe00000000000 16384");
	sql_is(f, "SELECT group_concat(va || ' ' || paddr, ',') FROM area_mappings WHERE area = 1",
	       "0xffffdfffffffd000 0x1000,0xffffdfffffffe000 0x5000");
	sql_is(f, "SELECT prop FROM mappings WHERE va = '0xffffdfffffffd000'", "rwx:wb+global");
	sql_is(f,
	       "SELECT paddr || ' ' || end || ' ' || pages FROM frames WHERE usage = 'Frame' AND kind = 'untyped' AND "
	       "pages > 1 "
	       "ORDER BY pages DESC LIMIT 1",
	       "0x103000 0x180000 125");
	sql_is(f, "SELECT rc || ' ' || meta FROM frames WHERE paddr = '0x2000'", "1 0xffffffffffffffff");
	sql_is(f,
	       "SELECT group_concat(holder || ' ' || id || coalesce(' ' || va, ''), ', ') FROM holders "
	       "WHERE first <= 0x100000 AND 0x100000 <= last",
	       "frame 10, segment 1, kernel table 0 0xffffdfffffff7000");
	sql_is(f, "SELECT count(*) FROM nodes WHERE level = 3", "256");
	sql_is(f, "SELECT count(*) FROM nodes WHERE va IS NULL", "0");
	sql_is(f, "SELECT start FROM free_ranges WHERE space = 'mmio 1'", "0x100000000");
	sql_is(f, "SELECT count(*) FROM contents", "0");
	sql_is(f, "SELECT count(*) FROM elements", "0");
	sql_is(f, "SELECT count(*) FROM handles WHERE kind = 'segment'", "2");
	sql_is(f, "SELECT next FROM next_id WHERE kind = 'segment'", "3");
	sql_is(f, "SELECT count(*) FROM memory", "0");
}
