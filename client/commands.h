/*
 * commands - the table of commands, and what each does.
 *
 * Operations and inspection requests are commands too, by name, and have no
 * row here: kvmctl_exec_row() serves them all.
 */
#ifndef KVMCTL_COMMANDS_H
#define KVMCTL_COMMANDS_H

#include "client/kvmctl.h"

/* A set of 1 << OPTION_*; there are more than 64. */
__extension__ typedef unsigned __int128 kvmctl_options;
_Static_assert(OPTION_COUNT <= 128, "a set of options has 128 members");

struct kvmctl_command {
	const char *name;     /* one word, or two with a blank */
	const char *synopsis; /* its words, "" if none */
	const char *summary;  /* half a sentence */
	const char *details;  /* paragraphs, each ended by a newline; one that begins with a tab is an example */
	kvmctl_options options; /* beyond the global ones */
	int words_min, words_max;
	enum kvmctl_status (*run)(struct kvmctl *k);
};

/* The rows; NULL past the end. */
const struct kvmctl_command *kvmctl_command_row(unsigned index);

/*
 * The command that words name, with *used the number of words its name has;
 * NULL if there is none.  '-' and '_' are the same.
 */
const struct kvmctl_command *kvmctl_command_find(int words, char *const *word, int *used);

/* The operation or request a word names, '-' and '_' being the same; NULL if there is none. */
const struct kvms_row *kvmctl_row_find(const char *word, bool *is_request);

/* Options, beyond the global ones, of every operation or request: a set as in a row. */
kvmctl_options kvmctl_row_options(bool is_request);

/* Say that the words name no command, and what was perhaps meant. */
void kvmctl_command_unknown(int words, char *const *word);

/* ---- What they do ------------------------------------------------------------ */

/* client/exec.c; the first: the operation or request k->row, k->argv being its arguments */
enum kvmctl_status kvmctl_exec_row(struct kvmctl *k);
enum kvmctl_status kvmctl_exec(struct kvmctl *k);
enum kvmctl_status kvmctl_exec_dry(struct kvmctl *k);
/* client/run.c */
enum kvmctl_status kvmctl_run(struct kvmctl *k);
/* client/replay.c */
enum kvmctl_status kvmctl_replay(struct kvmctl *k);
/* client/admin.c */
enum kvmctl_status kvmctl_status_show(struct kvmctl *k);
enum kvmctl_status kvmctl_store_create(struct kvmctl *k);
enum kvmctl_status kvmctl_store_list(struct kvmctl *k);
enum kvmctl_status kvmctl_store_drop(struct kvmctl *k);
enum kvmctl_status kvmctl_snapshot_save(struct kvmctl *k);
enum kvmctl_status kvmctl_snapshot_list(struct kvmctl *k);
enum kvmctl_status kvmctl_snapshot_load(struct kvmctl *k);
enum kvmctl_status kvmctl_snapshot_drop(struct kvmctl *k);
enum kvmctl_status kvmctl_undo(struct kvmctl *k);
enum kvmctl_status kvmctl_store_clone(struct kvmctl *k);
/*
 * Parse words as the configuration of a store (key=value ...), check its
 * limits, and call "use" with it.  Fails having said why.
 */
enum kvmctl_status kvmctl_with_config(struct kvmctl *k, int words, char *const *word,
				      enum kvmctl_status (*use)(struct kvmctl *k, const struct kvms_op *config));
/* client/traces.c */
enum kvmctl_status kvmctl_trace_import(struct kvmctl *k);
enum kvmctl_status kvmctl_trace_gen(struct kvmctl *k);
/* client/trace_coverage.c */
enum kvmctl_status kvmctl_trace_coverage(struct kvmctl *k);
/* client/trace_diff.c */
enum kvmctl_status kvmctl_trace_diff(struct kvmctl *k);
/* client/trace_export.c */
enum kvmctl_status kvmctl_trace_export(struct kvmctl *k);
/* client/trace_policy.c */
enum kvmctl_status kvmctl_trace_policy(struct kvmctl *k);
/* client/trace_stat.c */
enum kvmctl_status kvmctl_trace_stat(struct kvmctl *k);
/* client/shrink.c */
enum kvmctl_status kvmctl_trace_shrink(struct kvmctl *k);
/* client/convert.c */
enum kvmctl_status kvmctl_trace_convert(struct kvmctl *k);
/* client/import_strace.c: "trace import" of that kind */
enum kvmctl_status kvmctl_import_strace(struct kvmctl *k);
/* client/record.c */
enum kvmctl_status kvmctl_trace_record(struct kvmctl *k);
/* client/shell.c */
enum kvmctl_status kvmctl_shell(struct kvmctl *k);
/* client/log.c */
enum kvmctl_status kvmctl_at(struct kvmctl *k);
enum kvmctl_status kvmctl_log(struct kvmctl *k);
enum kvmctl_status kvmctl_story(struct kvmctl *k);
/* client/diff.c */
enum kvmctl_status kvmctl_diff(struct kvmctl *k);
/* client/compare.c */
enum kvmctl_status kvmctl_compare(struct kvmctl *k);
/* client/export.c */
enum kvmctl_status kvmctl_export(struct kvmctl *k);
/* client/dump.c */
enum kvmctl_status kvmctl_dump_memory(struct kvmctl *k);
/* client/adopt.c */
enum kvmctl_status kvmctl_adopt(struct kvmctl *k);
/* client/mappings.c */
enum kvmctl_status kvmctl_mappings(struct kvmctl *k);
/* client/bisect.c */
enum kvmctl_status kvmctl_bisect(struct kvmctl *k);
/* client/help.c */
enum kvmctl_status kvmctl_help(struct kvmctl *k);
enum kvmctl_status kvmctl_version_show(struct kvmctl *k);
/* client/gaps.c */
enum kvmctl_status kvmctl_gaps(struct kvmctl *k);

/* Help on the program; on one command; on one operation or request. */
void kvmctl_help_overview(FILE *out);
void kvmctl_help_command(const struct kvmctl_command *command, FILE *out);
void kvmctl_help_row(const struct kvms_row *row, bool is_request, FILE *out);

#endif /* KVMCTL_COMMANDS_H */
