/*
 * A state directory that is not as the daemon left it: cut, changed, newer,
 * not writable, in use.  Either the store is exactly as it was, or the daemon
 * says why it does not start and has changed nothing.
 */
#include "tests/daemon_kit.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persist/journal.h"

TestSuite(files, .init = dk_enter, .fini = dk_leave, .timeout = 300);

static char why[PERSIST_WHY];
static struct kit_random rnd;

/* ---- Files ---------------------------------------------------------------------------- */

struct file {
	unsigned char *at;
	size_t size;
};

static const char *
path_of(const char *name)
{
	static char path[160];

	snprintf(path, sizeof path, "%s/%s", dk_state, name);
	return path;
}

static struct file
read_file(const char *name)
{
	FILE *file = fopen(path_of(name), "r");
	struct file f = { .at = NULL };
	struct stat st;

	cr_assert_not_null(file, "%s", name);
	cr_assert_eq(fstat(fileno(file), &st), 0);
	f.size = (size_t)st.st_size;
	f.at = malloc(f.size + 1);
	cr_assert_eq(fread(f.at, 1, f.size, file), f.size);
	fclose(file);
	return f;
}

static void
write_file(const char *name, const struct file *f, size_t size)
{
	FILE *file = fopen(path_of(name), "w");

	cr_assert_not_null(file);
	cr_assert_eq(fwrite(f->at, 1, size, file), size);
	cr_assert_eq(fclose(file), 0);
}

static void
sql(const char *statements)
{
	sqlite3 *db;

	cr_assert_eq(sqlite3_open(path_of("kvmstore.db"), &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* The daemon does not start, says these words and leaves all as it was. */
static void
refuses(const char *words)
{
	uint64_t before = dk_state_bytes();

	cr_expect_eq(dk_start_fails("--durability", "full", NULL), 1);
	cr_expect(dk_logged(words), "not logged: %s", words);
	cr_expect_eq(dk_state_bytes(), before, "\"%s\", but something was written", words);
}

/* ---- The end of the log ----------------------------------------------------------------- */

/* A daemon that was killed: many groups of one step each in the log, none in the database yet. */
static void
killed_daemon(struct dk_load *load, uint64_t steps)
{
	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "0", NULL);

	dk_load_begin(load, "s", 0, 5);
	while (load->answered < steps)
		cr_assert(dk_load_turn(load, 1));
	dk_kill(pid);
}

/* Where the transactions in the log end, ascending. */
static size_t
ends(const struct file *wal, size_t *at, size_t most)
{
	size_t page = (size_t)wal->at[8] << 24 | (size_t)wal->at[9] << 16 | (size_t)wal->at[10] << 8 | wal->at[11];
	size_t count = 0;

	for (size_t i = 32; i + 24 + page <= wal->size; i += 24 + page) {
		const unsigned char *f = wal->at + i;

		if (memcmp(f + 8, wal->at + 16, 8) == 0 && (f[4] | f[5] | f[6] | f[7]) != 0 && count < most)
			at[count++] = i + 24 + page;
	}
	return count;
}

/* The daemon starts with what is there, the store "steps" before the last one that was answered. */
static void
starts_torn(struct dk_load *load, bool torn, uint64_t steps)
{
	dk_log_clear();
	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "0", NULL);
	uint64_t answered = load->answered;

	cr_expect_eq(dk_logged("the journal's end was torn"), torn);
	dk_load_resume(load, answered - steps);
	cr_expect_eq(load->answered, answered - steps);
	kvmctl_disconnect(&load->c);
	dk_kill(pid);
	/* it is told once */
	dk_log_clear();
	pid = dk_start("--durability", "full", "--snapshot-every", "0", NULL);
	cr_expect(!dk_logged("the journal's end was torn"));
	dk_load_resume(load, answered - steps);
	kvmctl_disconnect(&load->c);
	dk_kill(pid);
	load->answered = load->sent = answered;
}

static struct dk_load load;

Test(files, torn_end_is_told_and_costs_the_last_group)
{
	size_t end[400];

	killed_daemon(&load, 60);
	struct file db = read_file("kvmstore.db"), wal = read_file("kvmstore.db-wal");
	size_t count = ends(&wal, end, KIT_COUNT(end));

	cr_assert_geq(count, 60);
	cr_assert_eq(end[count - 1], wal.size);
	starts_torn(&load, false, 0);
	for (unsigned i = 0; i < 8; i++) {
		size_t last = end[count - 1] - end[count - 2];
		/* cut somewhere in the last group, at its first and last byte too */
		size_t cut = i == 0 ? 1 : i == 1 ? last - 1 : i == 2 ? last : 1 + kit_below(&rnd, last - 1);

		dk_run("rm -f '%s'/kvmstore.db*", dk_state);
		write_file("kvmstore.db", &db, db.size);
		write_file("kvmstore.db-wal", &wal, wal.size - cut);
		starts_torn(&load, cut != last, 1);
	}
	for (unsigned i = 0; i < 8; i++) {
		size_t at = end[count - 2] + (i == 0 ? 0 : kit_below(&rnd, end[count - 1] - end[count - 2]));

		dk_run("rm -f '%s'/kvmstore.db*", dk_state);
		write_file("kvmstore.db", &db, db.size);
		wal.at[at] ^= 0x10;
		write_file("kvmstore.db-wal", &wal, wal.size);
		wal.at[at] ^= 0x10;
		starts_torn(&load, true, 1);
	}
	free(db.at);
	free(wal.at);
	dk_load_end(&load);
}

Test(files, log_that_is_damaged_in_the_middle_is_refused)
{
	size_t end[400];

	killed_daemon(&load, 60);
	struct file db = read_file("kvmstore.db"), wal = read_file("kvmstore.db-wal");
	size_t count = ends(&wal, end, KIT_COUNT(end));

	cr_assert_geq(count, 60);
	for (unsigned i = 0; i < 12; i++) {
		/* up to the middle of the last group but two, and the head of the log */
		size_t group = kit_below(&rnd, count - 3);
		size_t at = i == 0   ? end[count - 3] - 1
			    : i < 4 ? kit_below(&rnd, 32)
				    : end[group] + kit_below(&rnd, end[group + 1] - end[group]);

		dk_run("rm -f '%s'/kvmstore.db*", dk_state);
		write_file("kvmstore.db", &db, db.size);
		wal.at[at] ^= (unsigned char)(1u << kit_below(&rnd, 8));
		write_file("kvmstore.db-wal", &wal, wal.size);
		refuses(at < 32 ? "its head is not what was written" : "whole groups follow it");
		if (i == 5) {
			/* what the message says to do gives a prefix */
			dk_run("$(grep -o 'truncate -s [0-9]* [^ ]*wal' '%s' | head -n 1)", dk_log);
			pid_t pid = dk_start("--durability", "full", NULL);

			load.answered = 0;
			dk_load_resume(&load, 0);
			load.answered = load.sent = 60;
			dk_kill(pid);
		}
		free(wal.at);
		wal = (struct file){ .at = NULL };
		dk_run("rm -rf '%s'", dk_state);
		dk_load_end(&load);
		killed_daemon(&load, 60);
		db = (free(db.at), read_file("kvmstore.db"));
		wal = read_file("kvmstore.db-wal");
		count = ends(&wal, end, KIT_COUNT(end));
	}
	free(db.at);
	free(wal.at);
	dk_load_end(&load);
}

/* ---- The database -------------------------------------------------------------------------- */

#define STORES 2u

static struct dk_load loads[STORES];

/* Two stores with snapshots, and groups before, between and behind them; all in the database. */
static void
database_make(void)
{
	pid_t pid = dk_start("--durability", "full", "--snapshot-every", "150", "--keep-snapshots", "1", NULL);

	dk_load_begin(&loads[0], "one", 0, 11);
	dk_load_begin(&loads[1], "two", 2, 12);
	for (unsigned i = 0; i < 2 * 500; i++)
		cr_assert(dk_load_turn(&loads[i % STORES], 7));
	for (unsigned i = 0; i < STORES; i++) {
		cr_assert(dk_load_finish(&loads[i]));
		kvmctl_disconnect(&loads[i].c);
	}
	dk_kill(pid);
	sql("PRAGMA wal_checkpoint(TRUNCATE)");
}

static size_t place; /* of the damage at hand, in the database */

struct seen {
	bool store[STORES];
	unsigned others;
};

static bool
see(void *arg, const struct persist_snapshot *s)
{
	struct seen *seen = arg;

	for (unsigned i = 0; i < STORES; i++)
		if (strcmp(s->store, loads[i].store) == 0) {
			seen->store[i] = true;
			return true;
		}
	seen->others += strcmp(s->store, "default") != 0;
	return true;
}

/* Load all stores as the daemon does; false if it would not start. */
static bool
loads_as_it_was(void)
{
	struct seen seen = { .others = 0 };
	struct persist *db;

	why[0] = '\0';
	if (persist_open(dk_state, 0, &db, why, sizeof why) != PERSIST_OK)
		return false;
	bool good = persist_list(db, see, &seen, why, sizeof why) == PERSIST_OK;

	for (unsigned i = 0; i < STORES && good; i++) {
		struct kvms *s;

		cr_assert(seen.store[i], "byte %zu: a store is gone", place);
		good = persist_rebuild(db, loads[i].store, PERSIST_NO_STEP, NULL, NULL, &s, NULL, why, sizeof why) ==
		       PERSIST_OK;
		if (!good)
			break;
		cr_assert_eq(kvms_steps(s), loads[i].answered, "byte %zu: step %" PRIu64 ", not %" PRIu64, place,
			     kvms_steps(s), loads[i].answered);
		cr_assert_eq(kvms_digest(s), loads[i].digest[loads[i].answered], "byte %zu: another digest", place);
		kvms_free(&s);
	}
	persist_close(&db);
	cr_assert(!good || seen.others == 0, "byte %zu: there is a store that never was", place);
	return good;
}

static void
restore(const struct file *db)
{
	dk_run("rm -f '%s'/kvmstore.db*", dk_state);
	write_file("kvmstore.db", db, db->size);
}

Test(files, flipped_bits_are_harmless_or_refused)
{
	unsigned refused = 0, harmless = 0;

	rnd.state = 6;
	database_make();
	struct file db = read_file("kvmstore.db");
	cr_assert(loads_as_it_was(), "%s", why);
	for (uint64_t i = 0, count = kit_scaled(450); i < count; i++) {
		/* in the head, in a name of a store (the index of the journal has them too), anywhere */
		size_t at = kit_below(&rnd, i % 3 == 0 ? 100 : db.size - 3);

		if (i % 3 == 1) {
			while (memcmp(db.at + at, "one", 3) != 0 && memcmp(db.at + at, "two", 3) != 0)
				at = (at + 1) % (db.size - 3);
			at += kit_below(&rnd, 3);
		}
		unsigned char bit = (unsigned char)(1u << kit_below(&rnd, 8));

		restore(&db);
		place = at;
		db.at[at] ^= bit;
		int fd = open(path_of("kvmstore.db"), O_WRONLY);
		cr_assert_eq(pwrite(fd, &db.at[at], 1, (off_t)at), 1);
		close(fd);
		uint64_t before = dk_state_bytes();
		if (loads_as_it_was()) {
			harmless++;
		} else {
			refused++;
			cr_assert_gt(strlen(why), 20);
			cr_assert_eq(dk_state_bytes(), before, "byte %zu: refused (%s) and changed", at, why);
		}
		db.at[at] ^= bit;
	}
	cr_log_info("%u refused, %u harmless", refused, harmless);
	cr_expect_gt(refused, 0);
	cr_expect_gt(harmless, 0);
	/* and the daemon itself, once */
	restore(&db);
	dk_run("printf kvmstore | dd of='%s/kvmstore.db' bs=1 seek=4096 conv=notrunc 2> /dev/null", dk_state);
	refuses("damaged");
	free(db.at);
}

Test(files, cut_and_foreign_databases_are_refused)
{
	rnd.state = 7;
	database_make();
	struct file db = read_file("kvmstore.db");

	for (uint64_t i = 0, count = kit_scaled(60); i < count; i++) {
		size_t size = i < 5 ? i * 30 : i < 10 ? db.size - 1 - (i - 5) * 1000 : kit_below(&rnd, db.size);

		dk_run("rm -f '%s'/kvmstore.db*", dk_state);
		write_file("kvmstore.db", &db, size);
		uint64_t before = dk_state_bytes();
		place = size;
		/* what is cut may have been zero */
		cr_assert(!loads_as_it_was() || size + 4096 > db.size, "cut to %zu bytes", size);
		cr_assert(why[0] == '\0' || dk_state_bytes() == before, "cut to %zu bytes", size);
	}
	restore(&db);
	dk_run("truncate -s 70000 '%s/kvmstore.db'", dk_state);
	refuses("damaged");
	/* tables of a version to come: bytes 60 .. 63 */
	restore(&db);
	dk_run("printf '\\0\\0\\0\\11' | dd of='%s/kvmstore.db' bs=1 seek=60 conv=notrunc 2> /dev/null", dk_state);
	refuses("newer version");
	dk_run("echo 'not ours' > '%s/kvmstore.db'", dk_state);
	refuses("not a file of kvmstore");
	dk_run("rm '%s/kvmstore.db'; echo x > '%s/kvmstore.db-wal'", dk_state, dk_state);
	refuses("its log kvmstore.db-wal is");
	free(db.at);
}

/* A snapshot in which a value changed is set aside, once; the one before and the journal give the same state. */
Test(files, damaged_snapshot_is_set_aside)
{
	database_make();
	sql("UPDATE frame SET rc = 77 WHERE snapshot = (SELECT max(id) FROM snapshot WHERE store = 'one')"
	    " AND paddr = (SELECT min(paddr) FROM frame)");
	dk_log_clear();
	pid_t pid = dk_start("--durability", "full", NULL);
	cr_expect(dk_logged("store \"one\": snapshot"));
	cr_expect(dk_logged("is set aside"));
	for (unsigned i = 0; i < STORES; i++) {
		uint64_t answered = loads[i].answered;

		dk_load_resume(&loads[i], answered);
		cr_assert(dk_load_turn(&loads[i], 1), "%s", loads[i].why);
	}
	dk_kill(pid);
	dk_log_clear();
	pid = dk_start("--durability", "full", NULL);
	cr_expect(!dk_logged("is set aside"));
	for (unsigned i = 0; i < STORES; i++) {
		dk_load_resume(&loads[i], loads[i].answered);
		dk_load_end(&loads[i]);
	}
	cr_assert_eq(dk_stop(pid), 0);
}

/* ---- Who may, and who is in the way ------------------------------------------------------------- */

Test(files, directory_that_cannot_be_written_is_refused)
{
	static char program[160];
	const char *original = getenv("KVMSTORED") != NULL ? getenv("KVMSTORED") : "./kvmstored";
	const struct passwd *nobody = getpwnam("nobody");

	if (geteuid() != 0 || nobody == NULL)
		cr_skip_test("only root can become somebody else");
	database_make();
	snprintf(program, sizeof program, "%s/kvmstored", dk_dir);
	dk_run("cp '%s' '%s' && chmod 755 '%s' '%s' && chown nobody '%s' && touch '%s' && chmod 666 '%s'", original,
	       program, program, dk_dir, dk_dir, dk_log, dk_log);
	setenv("KVMSTORED", program, 1);
	dk_run("rm -f '%s' '%s'.lock", dk_socket, dk_socket);
	dk_surroundings.user = nobody->pw_uid;

	/* not for others at all; readable; its own, and read-only; all but the database its own */
	dk_run("chmod 700 '%s'", dk_state);
	refuses("cannot write to the state directory");
	dk_run("chmod 755 '%s'; chmod 644 '%s'/*", dk_state, dk_state);
	refuses("cannot write to the state directory");
	dk_run("rm '%s'/kvmstored.lock; chown -R nobody '%s'; chmod 555 '%s'", dk_state, dk_state, dk_state);
	refuses("cannot write to the state directory");
	dk_run("chmod 755 '%s'; chown root '%s/kvmstore.db'; chmod 644 '%s/kvmstore.db'", dk_state, dk_state, dk_state);
	refuses("check the permissions");
	dk_run("chmod 600 '%s/kvmstore.db'", dk_state);
	refuses("kvmstore.db: cannot open: Permission denied");

	/* and with all of it its own */
	dk_run("chown nobody '%s/kvmstore.db'", dk_state);
	pid_t pid = dk_start("--durability", "full", NULL);
	for (unsigned i = 0; i < STORES; i++) {
		dk_load_resume(&loads[i], loads[i].answered);
		dk_load_end(&loads[i]);
	}
	cr_assert_eq(dk_stop(pid), 0);
}

Test(files, directory_in_use_is_refused)
{
	char other[120];
	sqlite3 *db;
	int told[2];

	/* a second daemon, on another socket */
	pid_t pid = dk_start("--durability", "full", NULL);
	struct kvmctl_connection *c = dk_connect(NULL);
	snprintf(other, sizeof other, "%s/other", dk_dir);
	cr_assert_str_eq(dk_step(c, "frame_alloc"), "ok frame=1 paddr=0x0");
	pid_t second = dk_spawn("--listen", other, NULL);
	cr_expect_eq(dk_wait_end(second), 1);
	snprintf(other, sizeof other, "is in use by another kvmstored, process %ld", (long)pid);
	cr_expect(dk_logged(other));
	cr_expect_str_eq(dk_step(c, "frame_alloc"), "ok frame=2 paddr=0x1000");
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_stop(pid), 0);

	/* another program that has the database to itself: another process, for locks go when one of ours looks */
	cr_assert_eq(pipe(told), 0);
	pid_t holder = fork();
	if (holder == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (sqlite3_open(path_of("kvmstore.db"), &db) == SQLITE_OK &&
		    sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK &&
		    write(told[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert_eq(read(told[0], other, 1), 1);
	refuses("in use by another program");
	dk_kill(holder);
	pid = dk_start("--durability", "full", NULL);
	c = dk_connect(NULL);
	cr_expect_str_eq(dk_step(c, "frame_alloc"), "ok frame=3 paddr=0x2000");
	kvmctl_disconnect(&c);
	cr_assert_eq(dk_stop(pid), 0);
}
