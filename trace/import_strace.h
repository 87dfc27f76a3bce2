/*
 * import_strace - what strace saw processes do to their memory, as a trace.
 *
 * A recording is the text of "strace -f -ttt" (the time, the process and the
 * duration of a call may be missing or in another of strace's forms).  What a
 * call becomes:
 *
 *   mmap, brk, mremap    a frame for each page (frame_from_unused), mapped with
 *                        a cursor over the range (cursor_open_mut, cursor_map)
 *   munmap, brk, mmap over a mapping, madvise DONTNEED
 *                        cursor_unmap
 *   mprotect             cursor_protect_next for each page; of what no line mapped:
 *                        it was mapped before, and is from here on
 *   mremap to elsewhere  frame_from_in_use, cursor_unmap, cursor_map
 *   fork, clone          vm_space_new; each page of the parent again: its frame
 *                        (frame_from_in_use) if it is shared or cannot be
 *                        written, else a frame of its own
 *   execve, last exit    vm_space_drop
 *
 * When a page is touched first is not recorded.  Every page that may be
 * accessed is mapped at once, up to a limit for one call; a page that a process
 * writes after a fork is copied at the fork.  A page that nobody may access is
 * not mapped, unless it was before.
 *
 * Threads, and children of vfork until they call execve, share their space.
 * A call that was interrupted by others takes memory away where it begins and
 * gives memory where it is resumed.
 *
 * Law: calls == expressed + information + not_expressed, and each line is part
 * of a call, or counted by its kind.
 */
#ifndef KVT_IMPORT_STRACE_H
#define KVT_IMPORT_STRACE_H

#include "trace/input.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct kvt_strace {
	struct kvt_input *in;
	/* /proc/PID/maps of the first process when its first call begins; NULL: it has nothing mapped */
	struct kvt_input *maps_before;
	uint64_t populate; /* most pages that one call maps; 0 = KVT_STRACE_POPULATE */
	bool strict;       /* stop at the first contradiction, and at the first call that is not expressed */
};

#define KVT_STRACE_POPULATE 65536u

enum kvt_strace_use { KVT_STRACE_EXPRESSED, KVT_STRACE_INFORMATION, KVT_STRACE_NOT_EXPRESSED, KVT_STRACE_USES };

struct kvt_strace_kind {
	char name[64]; /* the call, then ", REASON" where that does not say it all */
	enum kvt_strace_use use;
	uint64_t count;
};

/* Where a recording contradicts itself, or touches what it does not know of. */
enum kvt_strace_anomaly_kind {
	KVT_STRACE_UNMAPPED_NOTHING, /* munmap of what no line mapped: execve did, or nobody */
	KVT_STRACE_MOVED_NOTHING,    /* mremap, likewise: what it was is not known */
	KVT_STRACE_MAPPED_TWICE,     /* the kernel chose addresses that are mapped */
	KVT_STRACE_TIME_BACKWARDS,
	KVT_STRACE_RESUMED_NOTHING, /* a call resumed that was not interrupted */
	KVT_STRACE_NEVER_RESUMED,
	KVT_STRACE_ENDED_TWICE, /* a call or an end of a process that has ended */
	KVT_STRACE_ANOMALY_KINDS
};

const char *kvt_strace_anomaly_text(enum kvt_strace_anomaly_kind kind);

struct kvt_strace_anomaly {
	enum kvt_strace_anomaly_kind kind;
	uint64_t line;
	uint64_t start, end; /* addresses, or 0 */
};

#define KVT_STRACE_ANOMALIES_KEPT 100u
#define KVT_STRACE_KINDS_MAX 96u

struct kvt_strace_report {
	uint64_t lines, calls, expressed, information, not_expressed;
	uint64_t signals, ends,
	    other_lines; /* lines that are no calls: signals, ends of processes, blank and remarks */
	uint64_t unparsed, unparsed_first_line;
	struct kvt_strace_kind kinds[KVT_STRACE_KINDS_MAX];
	size_t kinds_count;

	uint64_t ops;
	uint64_t processes, spaces; /* as they came */
	uint64_t spaces_live;       /* at the end */
	uint64_t pages_mapped;      /* in all */
	uint64_t pages_peak;        /* frames in use, at most */
	uint64_t pages_left_out;    /* beyond the limit of a call */
	uint64_t anomalies_count[KVT_STRACE_ANOMALY_KINDS];
	struct kvt_strace_anomaly anomalies[KVT_STRACE_ANOMALIES_KEPT];
	size_t anomalies_kept;
};

/*
 * Read a recording and write it to "out" as a text trace.
 *
 * => gives 0, with "report" filled in; nothing is written before all input has
 *    been read and understood
 * => fails: -1 and a sentence in "error", with file and line where there is one
 */
int kvt_import_strace(const struct kvt_strace *from, FILE *out, struct kvt_strace_report *report, char *error,
		      size_t error_size);

/* Print "report" for a reader. */
void kvt_strace_report_print(const struct kvt_strace_report *report, const char *file, FILE *out);

#endif /* KVT_IMPORT_STRACE_H */
