/*
 * The power fails: what was not forced to the disk is lost, or comes there in
 * any order, in part.  What was answered in full is there.
 */
#include "tests/daemon_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persist/journal.h"
#include "tests/powerlog.h"

TestSuite(power, .init = dk_enter, .fini = dk_leave, .timeout = 300);

static struct kit_random rnd;
static char log_name[96];

/* ---- The log ----------------------------------------------------------------------------- */

struct entry {
	const struct powerlog *head;
	const char *name;
	const unsigned char *bytes;
};

static struct entry *records;
static size_t records_count;
static unsigned char *log_bytes;

static void
log_read(void)
{
	FILE *file = fopen(log_name, "r");
	struct stat st;
	size_t size, at;

	cr_assert_not_null(file);
	cr_assert_eq(fstat(fileno(file), &st), 0);
	size = (size_t)st.st_size;
	log_bytes = malloc(size + 1);
	cr_assert_eq(fread(log_bytes, 1, size, file), size);
	fclose(file);
	records = malloc((size / sizeof(struct powerlog) + 1) * sizeof *records);
	for (at = 0, records_count = 0; at + sizeof(struct powerlog) <= size; records_count++) {
		struct entry *r = &records[records_count];
		struct powerlog *head = malloc(sizeof *head);

		memcpy(head, log_bytes + at, sizeof *head);
		at += sizeof *head;
		*r = (struct entry){ head, (const char *)log_bytes + at, log_bytes + at + head->name_size };
		at += head->name_size + head->size;
		cr_assert_leq(at, size);
	}
}

static void
log_forget(void)
{
	for (size_t i = 0; i < records_count; i++)
		free((void *)records[i].head);
	free(records);
	free(log_bytes);
}

/* ---- The disk ------------------------------------------------------------------------------ */

#define FILES 64u
#define NAMES 64u
#define SECTOR 512u

struct disk_file {
	uint64_t inode;
	unsigned char *at; /* what is on the disk */
	size_t size;
	size_t pending[20000]; /* records that may be or not */
	size_t count;
};

struct name {
	char text[100];
	struct disk_file *file;
};

static struct disk_file files[FILES];
static unsigned files_count;
static struct name names[NAMES];
static unsigned names_count;
static size_t changes[1000]; /* of names, that may be or not */
static size_t changes_count;

static struct disk_file *
file_of(uint64_t inode)
{
	for (unsigned i = files_count; i-- > 0;) /* a number may be used again */
		if (files[i].inode == inode)
			return &files[i];
	cr_assert(false, "a file that was never made");
	return NULL;
}

static void
resize(struct disk_file *f, size_t size)
{
	unsigned char *at = realloc(f->at, size + 1);

	cr_assert_not_null(at);
	if (size > f->size)
		memset(at + f->size, 0, size - f->size);
	f->at = at;
	f->size = size;
}

static void
put(struct disk_file *f, uint64_t offset, const unsigned char *bytes, size_t size)
{
	if (offset + size > f->size)
		resize(f, offset + size);
	memcpy(f->at + offset, bytes, size);
}

static void
content_apply(struct disk_file *f, const struct entry *r)
{
	if (r->head->type == POWERLOG_TRUNCATE)
		resize(f, r->head->offset);
	else
		put(f, r->head->offset, r->bytes, r->head->size);
}

static void
sync_file(struct disk_file *f)
{
	for (size_t i = 0; i < f->count; i++)
		content_apply(f, &records[f->pending[i]]);
	f->count = 0;
}

static struct name *
name_find(const char *text, size_t size)
{
	for (unsigned i = 0; i < names_count; i++)
		if (strlen(names[i].text) == size && memcmp(names[i].text, text, size) == 0)
			return &names[i];
	return NULL;
}

static void
name_set(const char *text, size_t size, struct disk_file *file)
{
	struct name *name = name_find(text, size);

	if (name == NULL) {
		cr_assert_lt(names_count, NAMES);
		name = &names[names_count++];
		snprintf(name->text, sizeof name->text, "%.*s", (int)size, text);
	}
	name->file = file;
}

static void
change_apply(const struct entry *r)
{
	struct name *old = name_find(r->name, r->head->name_size);

	switch (r->head->type) {
	case POWERLOG_MADE:
		for (unsigned i = 0; i < files_count; i++)
			if (files[i].inode == r->head->inode && &files[i] == file_of(r->head->inode))
				name_set(r->name, r->head->name_size, &files[i]);
		break;
	case POWERLOG_RENAME:
		if (old != NULL && old->file != NULL) {
			name_set((const char *)r->bytes, r->head->size, old->file);
			name_find(r->name, r->head->name_size)->file = NULL;
		}
		break;
	case POWERLOG_UNLINK:
		if (old != NULL)
			old->file = NULL;
		break;
	default:
		cr_assert(false);
	}
}

static void
sync_names(void)
{
	for (size_t i = 0; i < changes_count; i++)
		change_apply(&records[changes[i]]);
	changes_count = 0;
}

static void
disk_empty(void)
{
	for (unsigned i = 0; i < files_count; i++)
		free(files[i].at);
	files_count = names_count = 0;
	changes_count = 0;
}

#define NONE UINT64_MAX

/*
 * The disk as it is known to be when the log ends before record "end"; gives
 * the last step answered before, NONE if the store was not there for its client.
 */
static uint64_t
disk_replay(size_t end)
{
	uint64_t answered = NONE;

	disk_empty();
	for (size_t i = 0; i < end; i++) {
		const struct powerlog *head = records[i].head;

		switch (head->type) {
		case POWERLOG_MADE:
			cr_assert_lt(files_count, FILES);
			files[files_count].inode = head->inode;
			files[files_count].at = NULL;
			files[files_count].size = files[files_count].count = 0;
			files_count++;
			/* fall through */
		case POWERLOG_RENAME:
		case POWERLOG_UNLINK:
			cr_assert_lt(changes_count, KIT_COUNT(changes));
			changes[changes_count++] = i;
			break;
		case POWERLOG_WRITE:
		case POWERLOG_TRUNCATE: {
			struct disk_file *f = file_of(head->inode);

			cr_assert_lt(f->count, KIT_COUNT(f->pending));
			f->pending[f->count++] = i;
			break;
		}
		case POWERLOG_SYNC:
			sync_file(file_of(head->inode));
			break;
		case POWERLOG_SYNC_DIR:
			sync_names();
			break;
		case POWERLOG_ANSWERED:
			answered = head->offset;
			break;
		default:
			cr_assert(false);
		}
	}
	return answered;
}

enum fate { LOST, SOME, ALL };

/* What becomes of the rest of one file: some of its writes, whole or only some of their sectors. */
static void
some(struct disk_file *f)
{
	unsigned percent = (unsigned)kit_below(&rnd, 101);

	for (size_t i = 0; i < f->count; i++) {
		const struct entry *r = &records[f->pending[i]];

		if (kit_below(&rnd, 100) >= percent)
			continue;
		if (r->head->type == POWERLOG_TRUNCATE || kit_below(&rnd, 4) != 0) {
			content_apply(f, r);
			continue;
		}
		for (uint64_t at = 0; at < r->head->size;) {
			uint64_t here = SECTOR - (r->head->offset + at) % SECTOR;
			uint64_t size = here < r->head->size - at ? here : r->head->size - at;

			if (kit_below(&rnd, 2) == 0)
				put(f, r->head->offset + at, r->bytes + at, size);
			at += size;
		}
	}
}

/* The power fails; the directory then holds this. */
static void
disk_fail(enum fate fate)
{
	/* names change in their order, as far as they come */
	size_t change = fate == LOST ? 0 : fate == ALL ? changes_count : kit_below(&rnd, changes_count + 1);

	changes_count = change;
	sync_names();
	for (unsigned i = 0; i < files_count; i++) {
		if (fate == ALL)
			sync_file(&files[i]);
		else if (fate == SOME)
			some(&files[i]);
	}
	dk_run("rm -rf '%s'; mkdir '%s'", dk_state, dk_state);
	for (unsigned i = 0; i < names_count; i++) {
		const struct disk_file *f = names[i].file;
		char path[256];

		if (f == NULL)
			continue;
		snprintf(path, sizeof path, "%s/%s", dk_state, names[i].text);
		FILE *file = fopen(path, "w");
		cr_assert_not_null(file);
		cr_assert_eq(fwrite(f->size == 0 ? (const void *)"" : f->at, 1, f->size, file), f->size);
		cr_assert_eq(fclose(file), 0);
	}
}

/* ---- The test ------------------------------------------------------------------------------- */

static struct dk_load load;

static void
told(int fd)
{
	const struct powerlog head = { .type = POWERLOG_ANSWERED, .offset = load.answered };

	cr_assert_eq(write(fd, &head, sizeof head), (ssize_t)sizeof head);
}

/* What is in the directory has every step up to "least", and is where the store was. */
static void
is_sound(uint64_t least, size_t at, enum fate fate)
{
	char why[PERSIST_WHY];
	struct persist *db;
	struct kvms *s;

	cr_assert_eq(persist_open(dk_state, PERSIST_CREATE, &db, why, sizeof why), PERSIST_OK,
		     "record %zu, %d: does not open: %s", at, (int)fate, why);
	enum persist_status status = persist_rebuild(db, "s", PERSIST_NO_STEP, NULL, NULL, &s, NULL, why, sizeof why);
	if (status == PERSIST_ABSENT && least == NONE) {
		persist_close(&db);
		return;
	}
	cr_assert_eq(status, PERSIST_OK, "record %zu, %d: %s", at, (int)fate, why);
	uint64_t step = kvms_steps(s);
	cr_assert(least == NONE || step >= least, "record %zu of %zu, %d: at step %" PRIu64 ", not %" PRIu64, at,
		  records_count, (int)fate, step, least);
	cr_assert_leq(step, load.sent);
	cr_assert_eq(kvms_digest(s), load.digest[step], "record %zu, %d: step %" PRIu64, at, (int)fate, step);
	kvms_free(&s);
	persist_close(&db);
}

static const char *
library(void)
{
	static char path[400];
	const char *name = getenv("KVMS_POWERLOSS") != NULL ? getenv("KVMS_POWERLOSS") : "tests/.libs/powerloss.so";

	return realpath(name, path);
}

Test(power, failing_takes_nothing_that_was_answered)
{
	uint64_t cuts = kit_scaled(400);

	dk_surroundings.preload = library();
	if (dk_surroundings.preload == NULL)
		cr_skip_test("tests/powerloss.so was not built: no shared libraries here");
	snprintf(log_name, sizeof log_name, "%s/power", dk_dir);
	setenv(POWERLOG_DIR, dk_state, 1);
	setenv(POWERLOG_FILE, log_name, 1);
	int fd = open(log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);

	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "150", NULL);
	dk_load_begin(&load, "s", 2, 21);
	told(fd);
	for (uint64_t i = 0, steps = kit_scaled(1500) + 300; i < steps; i++) {
		cr_assert(dk_load_turn(&load, i % 200 < 60 ? 1 : 40), "%s", load.why);
		told(fd);
	}
	cr_assert(dk_load_finish(&load));
	kvmctl_disconnect(&load.c);
	cr_assert_eq(dk_stop(pid), 0);
	dk_surroundings.preload = NULL;

	log_read();
	cr_log_info("%zu records, %" PRIu64 " steps", records_count, load.answered);
	rnd.state = 31;
	for (uint64_t i = 0; i < cuts; i++) {
		size_t at = i == 0 ? records_count : kit_below(&rnd, records_count + 1);
		enum fate fate = (enum fate)(i % 8 == 0 ? LOST : i % 8 == 1 ? ALL : SOME);
		uint64_t least = disk_replay(at);

		disk_fail(fate);
		if (i % 50 == 7) {
			/* the daemon itself, and on from there */
			pid = dk_start("--durability", "full", NULL);
			if (least != NONE)
				dk_load_resume(&load, least);
			kvmctl_disconnect(&load.c);
			dk_kill(pid);
			load.sent = load.answered = load.drawn;
		}
		is_sound(least, at, fate);
	}
	disk_empty();
	log_forget();
	dk_load_end(&load);
	close(fd);
}
