#include "persist/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD_BYTES 32u
#define FRAME_HEAD 24u
#define MAGIC 0x377f0682u /* the last bit: words of the pages are big-endian for the checksum */

struct sum {
	uint32_t a, b;
};

struct wal {
	FILE *file;
	bool big; /* byte order for checksums */
	size_t page;
	uint32_t salt[2];
	uint64_t size;
	struct sum sum; /* stored in the head, then in the frame before */
	unsigned char *frame;
};

static uint32_t
word(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint32_t
word_of(const struct wal *w, const unsigned char *at)
{
	return w->big ? word(at) : (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static struct sum
sum_on(const struct wal *w, struct sum s, const unsigned char *at, size_t size)
{
	for (size_t i = 0; i + 8 <= size; i += 8) {
		s.a += word_of(w, at + i) + s.b;
		s.b += word_of(w, at + i + 4) + s.a;
	}
	return s;
}

static bool
sum_is(struct sum s, const unsigned char *at)
{
	return s.a == word(at) && s.b == word(at + 4);
}

/* Read the head; false: SQLite would take none of the log. */
static bool
head_read(struct wal *w)
{
	unsigned char head[HEAD_BYTES];

	if (fread(head, sizeof head, 1, w->file) != 1)
		return false;
	w->big = (word(head) & 1) != 0;
	w->page = word(head + 8);
	w->salt[0] = word(head + 16);
	w->salt[1] = word(head + 20);
	w->sum = sum_on(w, (struct sum){ 0, 0 }, head, 24);
	return (word(head) & ~UINT32_C(1)) == MAGIC && sum_is(w->sum, head + 24) && w->page >= 512 &&
	       w->page <= 65536 && (w->page & (w->page - 1)) == 0;
}

/* What stands behind the first frame that is not what was written. */
struct behind {
	uint64_t end;     /* of the last frame with the log's salts, 0 = none */
	unsigned commits; /* in the run of frames at hand, which follow each other */
	unsigned most;    /* in any run */
};

static void
behind_add(struct wal *w, struct behind *behind, uint64_t at)
{
	const unsigned char *f = w->frame;
	bool ours = word(f + 8) == w->salt[0] && word(f + 12) == w->salt[1];
	struct sum sum = sum_on(w, sum_on(w, w->sum, f, 8), f + FRAME_HEAD, w->page);

	if (!ours || !sum_is(sum, f + 16))
		behind->commits = 0; /* a run begins here at most */
	if (ours) {
		behind->end = at + FRAME_HEAD + w->page;
		behind->commits += word(f + 4) != 0;
	}
	if (behind->commits > behind->most)
		behind->most = behind->commits;
	w->sum = (struct sum){ word(f + 16), word(f + 20) };
}

/* The rest of the file is no whole frame: one that was begun, if it has the log's salts. */
static bool
begun(const struct wal *w, size_t size)
{
	return size >= 16 ? word(w->frame + 8) == w->salt[0] && word(w->frame + 12) == w->salt[1] : size > 0;
}

static enum persist_status
frames_judge(struct wal *w, const char *path, uint64_t *torn, const struct report *r)
{
	uint64_t at = HEAD_BYTES, whole = HEAD_BYTES, broken = 0;
	struct behind behind = { .end = 0 };
	size_t size;

	while ((size = fread(w->frame, 1, FRAME_HEAD + w->page, w->file)) == FRAME_HEAD + w->page) {
		const unsigned char *f = w->frame;
		struct sum sum = sum_on(w, sum_on(w, w->sum, f, 8), f + FRAME_HEAD, w->page);

		if (broken == 0 && (word(f) == 0 || word(f + 8) != w->salt[0] || word(f + 12) != w->salt[1] ||
				    !sum_is(sum, f + 16)))
			broken = at;
		if (broken != 0) {
			behind_add(w, &behind, at);
		} else {
			w->sum = sum;
			behind.end = at + size;
			if (word(f + 4) != 0)
				whole = at + size;
		}
		at += size;
	}
	if (ferror(w->file))
		return persist_report(r, PERSIST_FAILED, "%s-wal: cannot read: %s", path, strerror(errno));
	if (begun(w, size))
		behind.end = at + size;
	if (behind.most >= 2)
		return persist_report(r, PERSIST_REFUSED,
				      "%s-wal: damaged: the frame at byte %" PRIu64 " is not what was written, and whole "
				      "groups follow it: operations that were acknowledged would be lost. It was left "
				      "alone: restore a copy of the directory, or give up what comes after the last "
				      "sound group: truncate -s %" PRIu64 " %s-wal",
				      path, broken, whole, path);
	*torn = behind.end > whole ? behind.end - whole : 0;
	return PERSIST_OK;
}

static enum persist_status
judge(struct wal *w, const char *path, uint64_t *torn, const struct report *r)
{
	bool good = head_read(w);

	if (ferror(w->file))
		return persist_report(r, PERSIST_FAILED, "%s-wal: cannot read: %s", path, strerror(errno));
	if (!good && w->size > HEAD_BYTES)
		return persist_report(r, PERSIST_REFUSED,
				      "%s-wal: damaged: its head is not what was written: operations that were "
				      "acknowledged would be lost. It was left alone: restore a copy of the directory, "
				      "or give up what is in the log: truncate -s 0 %s-wal",
				      path, path);
	if (!good)
		return PERSIST_OK;
	w->frame = malloc(FRAME_HEAD + w->page);
	if (w->frame == NULL)
		return persist_report(r, PERSIST_FAILED, "%s-wal: out of memory", path);
	return frames_judge(w, path, torn, r);
}

enum persist_status
persist_wal_judge(const char *path, uint64_t *torn, const struct report *r)
{
	struct wal w = { .file = NULL };
	enum persist_status status;
	struct stat st;
	char *name;

	*torn = 0;
	if (asprintf(&name, "%s-wal", path) < 0)
		return persist_report(r, PERSIST_FAILED, "%s: out of memory", path);
	bool absent = stat(name, &st) != 0 && errno == ENOENT;
	if (!absent && S_ISREG(st.st_mode))
		w.file = fopen(name, "re");
	int error = errno;
	free(name);
	if (absent)
		return PERSIST_OK;
	if (w.file == NULL) {
		status = persist_report(r, PERSIST_FAILED, "%s-wal: cannot open: %s", path, strerror(error));
	} else {
		w.size = (uint64_t)st.st_size;
		status = judge(&w, path, torn, r);
	}
	free(w.frame);
	if (w.file != NULL)
		(void)fclose(w.file);
	return status;
}
