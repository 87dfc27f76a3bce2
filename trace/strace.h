/*
 * strace - the text of strace as calls: what import_strace.c works on.
 */
#ifndef KVT_STRACE_H
#define KVT_STRACE_H

#include "trace/import_strace.h"

enum strace_sys {
	STRACE_MMAP,
	STRACE_MUNMAP,
	STRACE_MPROTECT,
	STRACE_MREMAP,
	STRACE_BRK,
	STRACE_MADVISE,
	STRACE_CLONE, /* fork, vfork, clone, clone3 */
	STRACE_EXECVE,
	STRACE_EXIT,
	STRACE_OTHER
};

/* Flags of mmap, mremap and clone, whatever their numbers, and one advice. */
#define STRACE_SHARED 0x01u
#define STRACE_FIXED 0x02u
#define STRACE_ANONYMOUS 0x04u
#define STRACE_NOREPLACE 0x08u
#define STRACE_DONTUNMAP 0x10u
#define STRACE_VM 0x20u
#define STRACE_DONTNEED 0x40u

/* Protections, as the kernel numbers them. */
#define STRACE_READ 1u
#define STRACE_WRITE 2u
#define STRACE_EXEC 4u

struct strace_call {
	enum strace_sys sys;
	char name[24];
	uint64_t pid;
	uint64_t line, end_line; /* where it begins; where it is resumed, or the same */
	/*
	 * arg of     0     1         2         3
	 * mmap       -     size      -         -
	 * munmap     va    size
	 * mprotect   va    size
	 * mremap     va    old size  new size  -
	 * brk        va or 0
	 * madvise    va    size
	 */
	uint64_t arg[3];
	unsigned prot, flags;
	bool done;   /* it has a result, */
	bool failed; /* which is an error, or none */
	uint64_t result;
	char *text; /* as it stood, cut short */
};

enum strace_event { STRACE_BEGIN, STRACE_END, STRACE_WHOLE, STRACE_GONE, STRACE_SUPERSEDED };

/* What happens, in the order of lines. */
struct strace_step {
	enum strace_event event;
	size_t call; /* BEGIN, END, WHOLE */
	uint64_t line;
	uint64_t pid;   /* all */
	uint64_t other; /* SUPERSEDED: the thread that takes its place */
};

/* Zero-initialise; strace_free() ends it. */
struct strace {
	struct strace_call *calls;
	size_t calls_count, calls_capacity;
	struct strace_step *steps;
	size_t steps_count, steps_capacity;
	struct kvt_strace_report *report; /* lines are counted there, and anomalies of lines kept */
};

/* Read all lines.  Fails with false and a sentence: the file cannot be read, no memory, damage. */
bool strace_read(struct strace *s, struct kvt_input *in, char *error, size_t error_size);
void strace_free(struct strace *s);

void strace_anomaly(struct kvt_strace_report *r, enum kvt_strace_anomaly_kind kind, uint64_t line, uint64_t start,
		    uint64_t end);

/* Numbers of processes to numbers of something, which are never 0.  Zero-initialise. */
struct pids {
	struct pids_entry {
		uint64_t pid;
		size_t value; /* never 0 */
	} * at;
	size_t count, capacity;
};

/* The value of a pid, in place until the next call, made as "fallback" if it has none; NULL: no memory. */
size_t *pids_at(struct pids *p, uint64_t pid, size_t fallback);
void pids_free(struct pids *p);

#endif /* KVT_STRACE_H */
