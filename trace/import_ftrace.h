/*
 * import_ftrace - a recording of a Linux kernel, event by event, as a trace.
 *
 * A recording is the text of the kernel's trace buffer, and what was noted
 * beside it: the first listing of the kernel's areas (vmallocinfo), the leaves
 * of its page tables at the mark DUMP0-before (mappings.0.csv), and what memory
 * it has (iomem, ptpages.0.json).  What an event becomes:
 *
 *   (the leaves at DUMP0)     boot_map of the direct map and the kernel's image
 *   alloc_vmap_area           kvirt_reserve_at; pcpu_vm_areas too
 *   vmap_pages, vmap_small    a frame for each page (frame_from_unused, or
 *                             frame_from_in_use where the store already uses
 *                             it), then kvirt_map_frames_into
 *   vmap_range                kvirt_map_untracked_into; for pages of 2 MiB after
 *                             kvirt_unmap_range of their slots, and with one
 *                             segment_from_unused for each that is RAM
 *   vunmap_range              kvirt_unmap_range, then segment_drop of what that
 *                             left without a mapping
 *   cpa                       kvirt_protect_range in an area, boot_protect_range
 *                             in the direct map and the kernel's image
 *   free_vmap_area_noflush    kvirt_unreserve
 *   tracing_mark_write        a comment line "# TEXT"
 *   [LOST n EVENTS]           gap
 *
 * docs/import-linux.md has the fields of each, also of the probes that stand for
 * them in older kernels.  Everything else is used to know how to read these, or counted by its name.
 * Law: events == expressed + information + not_expressed, and a line that is
 * neither event nor header nor blank is counted as unparsed (or lost).
 *
 * The importer follows the store: which areas live, which leaves each has, how
 * often each frame is referenced, which id comes next.  So it knows what the
 * store will answer.  A recording that contradicts itself (a mapping over a
 * mapping, an area freed with mappings left, an allocation over a live area) is
 * an anomaly: the op still claims "ok", as the kernel did it, so that a replay
 * stops there; ops that bring the store to the kernel's state follow, so that
 * with --keep-going the rest replays.  "strict" refuses the recording instead.
 */
#ifndef KVT_IMPORT_FTRACE_H
#define KVT_IMPORT_FTRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What to import.  Any file may be compressed with xz. */
struct kvt_import {
	const char *path;            /* folder of a recording, or its trace.txt; "-" = standard input */
	const char *areas_before;    /* vmallocinfo text; NULL: the folder's snap-0/vmallocinfo, if there */
	const char *mappings_before; /* va,pa,size,entry,flags; NULL: the folder's mappings.0.csv, if there */
	bool strict;                 /* fail at the first line that is not understood, contradicts others, or says
					that events are missing */
	uint64_t memory_size;        /* where the recorded machine's RAM ends; 0 = find out: the folder's
					snap-0/iomem and ptpages.0.json, else the highest frame named */
};

/* What became of an event. */
enum kvt_import_use {
	KVT_IMPORT_EXPRESSED,     /* at least one op was written for it */
	KVT_IMPORT_INFORMATION,   /* no op of its own, but it was needed */
	KVT_IMPORT_NOT_EXPRESSED, /* counted here, and nothing else */
	KVT_IMPORT_USES
};

struct kvt_import_kind {
	char name[64]; /* the event's name, then ", REASON" where that does not say it all */
	enum kvt_import_use use;
	uint64_t count;
};

/*
 * Where a recording contradicts itself, or what the model can take.  Those up to
 * MAPPED_NOWHERE are comments in the trace too.  What is freed or mapped counts
 * as unknown only where all areas are known: from the first listing on, or from
 * the first event of a recording that begins at boot; and not after lost events.
 */
enum kvt_import_anomaly_kind {
	KVT_IMPORT_REUSED_UNPURGED,  /* area allocated inside a freed range before its purge */
	KVT_IMPORT_ALLOCATED_LIVE,   /* area allocated over a live one */
	KVT_IMPORT_MAPPED_TWICE,     /* page mapped where one was mapped */
	KVT_IMPORT_FREED_MAPPED,     /* area freed with mappings left in it */
	KVT_IMPORT_FREED_UNKNOWN,    /* area freed that is not allocated: never was, or freed before */
	KVT_IMPORT_MAPPED_NOWHERE,   /* pages mapped where no area is */
	KVT_IMPORT_FRAME_STRANGE,    /* page pointer that names no frame of the machine */
	KVT_IMPORT_HUGE_NOT_HELD,    /* 2 MiB page over frames in use: mapped, but not held */
	KVT_IMPORT_HUGE_PARTLY,      /* part of a 2 MiB page unmapped: the kernel clears all of it */
	KVT_IMPORT_PURGE_COUNT,      /* more ranges purged than were known to be freed */
	KVT_IMPORT_LISTING_CONFLICT, /* listed area that the events, or the ranges, contradict */
	KVT_IMPORT_MAPPING_CONFLICT, /* recorded leaf that the events contradict, or in no area */
	KVT_IMPORT_TIME_BACKWARDS,   /* event earlier than the line before it; nanoseconds for addresses */
	KVT_IMPORT_ANOMALY_KINDS
};

struct kvt_import_anomaly {
	enum kvt_import_anomaly_kind kind;
	uint64_t line;       /* in the trace; in the listing or the mappings for the CONFLICT kinds */
	uint64_t start, end; /* virtual addresses */
	uint64_t other_line; /* where it was freed before; LISTING_CONFLICT: the event; 0 = none */
};

/* What a line number of an anomaly counts in. */
enum kvt_import_file { KVT_IMPORT_FILE_TRACE, KVT_IMPORT_FILE_LISTING, KVT_IMPORT_FILE_MAPPINGS, KVT_IMPORT_FILES };

#define KVT_IMPORT_ANOMALIES_KEPT 100

struct kvt_import_report {
	uint64_t lines, header_lines; /* of the trace; header_lines: blank ones too */
	uint64_t events, expressed, information, not_expressed;
	struct kvt_import_kind *kinds; /* by use, then name; their counts add up to events */
	size_t kinds_count;
	uint64_t events_promised;               /* by the header, in the buffer; 0 = it does not say */
	uint64_t events_overwritten;            /* before the first line, by the header */
	uint64_t events_lost;                   /* sum of the LOST lines */
	uint64_t unparsed, unparsed_first_line; /* line number; 0 = none */

	char *file[KVT_IMPORT_FILES]; /* the paths read; NULL: there was none */

	uint64_t ops;
	uint64_t areas_older;        /* reserved at the start: listed, and no event explains them */
	uint64_t areas_live;         /* at the end */
	uint64_t ranges_unpurged;    /* freed, and not purged at the end */
	uint64_t leaves_older;       /* mapped at DUMP0 from the recorded mappings */
	uint64_t leaves_confirmed;   /* recorded at DUMP0 and already there, the same */
	uint64_t leaves_direct;      /* of the direct map, adopted at DUMP0 */
	uint64_t leaves_image;       /* of the kernel's image, adopted at DUMP0 */
	const char *mappings_unused; /* why the recorded mappings were not used (static text), or NULL */

	uint64_t anomalies_count[KVT_IMPORT_ANOMALY_KINDS];
	struct kvt_import_anomaly *anomalies; /* the first KVT_IMPORT_ANOMALIES_KEPT, as met */
	size_t anomalies_kept;
};

/*
 * Read the recording "in" and write it to "out" as a text trace.
 *
 * => needs: "out" open for writing; "report" of any content
 * => gives: 0, the trace written and "report" filled in: ids in it are those a
 *    fresh store assigns; nothing is written before all input has been read
 * => owns: the caller frees "report" with kvt_import_report_free, after failure too
 * => fails: -1 and a sentence in "error", with file and line where there is one
 */
int kvt_import_ftrace(const struct kvt_import *in, FILE *out, struct kvt_import_report *report, char *error,
		      size_t error_size);

/* What an anomaly's kind is called, and the file it speaks of. */
const char *kvt_import_anomaly_text(enum kvt_import_anomaly_kind kind);
enum kvt_import_file kvt_import_anomaly_file(enum kvt_import_anomaly_kind kind);

/* Print "report" for a reader: accounting by kind, what was carried over, anomalies. */
void kvt_import_report_print(const struct kvt_import_report *report, FILE *out);

/* Free what "report" holds and clear it.  A report of zeros is fine. */
void kvt_import_report_free(struct kvt_import_report *report);

#endif /* KVT_IMPORT_FTRACE_H */
