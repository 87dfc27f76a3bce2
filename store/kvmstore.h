/*
 * kvmstore - an executable golden model of a kernel's virtual memory.
 *
 * A store is a pure state machine: simulated physical memory with real page
 * tables in it, one metadata slot for every frame, kernel virtual areas and
 * the allocators behind them.  Operations go in, outcomes come out.
 *
 * Law: an operation either happens completely (class ok) or changes nothing.
 * The same configuration and the same operations give the same outcomes and
 * the same digest on every machine.
 *
 * The model mirrors OSTD, the memory core of the Asterinas kernel, as its
 * formal specification describes it.  Each operation names its upstream
 * partner in the "mirrors" text of its row.
 *
 * No function here is safe to call on one store from two threads at once;
 * different stores are independent.  Nothing here performs I/O.
 */
#ifndef KVMSTORE_H
#define KVMSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library, "MAJOR.MINOR.PATCH".  Static storage. */
const char *kvms_version(void);

/* ---- Values, and the rows that describe operations --------------------- */

#define KVMS_PAGE_SIZE 4096u
#define KVMS_ARGS_MAX 10u   /* most arguments any row has */
#define KVMS_FIELDS_MAX 24u /* most result fields any row has */

/* Kinds of ids.  The numbers are those of the digest's id counters. */
enum kvms_kind {
	KVMS_ID_NONE,
	KVMS_ID_FRAME,
	KVMS_ID_SEGMENT,
	KVMS_ID_UNIQUE,
	KVMS_ID_LIST,
	KVMS_ID_VM_SPACE,
	KVMS_ID_CURSOR,
	KVMS_ID_AREA,
	KVMS_ID_READER,
	KVMS_ID_WRITER,
	KVMS_ID_IOMEM,
	KVMS_ID_LIST_TAG, /* a counter only; no objects */
	KVMS_ID_KINDS
};

/*
 * How one value is meant, and so how it is printed and read.  A scalar is one
 * uint64_t.  A list is a count plus that many elements of a fixed number of
 * words each (kvms_type_arity) in the payload beside the scalars.
 */
enum kvms_type {
	KVMS_DEC,       /* number, printed in decimal */
	KVMS_HEX,       /* number, printed 0x... */
	KVMS_DIGEST,    /* number, printed with 16 hex digits */
	KVMS_BOOL,      /* 0 or 1 */
	KVMS_ID,        /* id of the field's kind */
	KVMS_CPU,       /* number of a simulated CPU */
	KVMS_TABLE,     /* page table: 0 = kernel, else a vm_space id */
	KVMS_TABLE_ALL, /* as TABLE, or UINT64_MAX = all */
	KVMS_FLAGS,     /* page flags: r 1, w 2, x 4, a 8, d 16 */
	KVMS_PROP,      /* page property, see KVMS_PROP_* */
	KVMS_RC,        /* reference count, UINT64_MAX = unused, UINT64_MAX - 1 = unique */
	/* words, see kvms_word() */
	KVMS_ARCH,
	KVMS_BOOT,
	KVMS_FRAME_KIND, /* untyped 1, typed 2, link 3 */
	KVMS_SLOT_KIND,  /* none 0, untyped, typed, link, node 4, boot 5 */
	KVMS_USAGE,
	KVMS_BOOT_USAGE, /* what boot_reserve may give: Reserved 1, Kernel 5, Meta 4, MMIO 6 */
	KVMS_CACHE,
	KVMS_CACHE_KEEP,
	KVMS_GLOBAL,
	KVMS_FLUSH_KIND,
	KVMS_ACCESS,
	KVMS_MODE,
	KVMS_HIT,
	/* lists: element words in brackets */
	KVMS_BYTES,    /* the count is in bytes; packed 8 to a word, memory order */
	KVMS_IDS,      /* [id] of the field's kind */
	KVMS_CPUS,     /* [cpu] */
	KVMS_PADDRS,   /* [paddr] */
	KVMS_RANGE,    /* [start, end], exactly one element */
	KVMS_RANGES,   /* [start, end] */
	KVMS_VMALLOC,  /* [start, end]: printed as a range if there is one element; count 0 = not given */
	KVMS_LEVELS,   /* [level, node paddr, index, word] */
	KVMS_MAPPINGS, /* [table, va] */
	KVMS_REVERSE,  /* [table, va, level, tracked] */
	KVMS_AREAS,    /* [area, start, end] */
	KVMS_STALE,    /* [cpu, table, va, paddr] */
	KVMS_LAWS,     /* [law number], ascending by name; empty = ok */
	KVMS_TYPES
};

/* A property: flags | privileged << 8 | cache << 16. */
#define KVMS_PROP_R 0x1u
#define KVMS_PROP_W 0x2u
#define KVMS_PROP_X 0x4u
#define KVMS_PROP_A 0x8u
#define KVMS_PROP_D 0x10u
#define KVMS_PROP_AVAIL2 0x80u
#define KVMS_PROP_USER 0x100u
#define KVMS_PROP_GLOBAL 0x200u
#define KVMS_PROP_CACHE_SHIFT 16
#define KVMS_PROP_VALID 0x0003039fu /* every bit a property may have, cache as a mask 0..3; see kvms_prop_valid */

/* True if "prop" has only defined bits and a cache code of 0 .. 4. */
bool kvms_prop_valid(uint64_t prop);

#define KVMS_RC_UNUSED UINT64_MAX
#define KVMS_RC_UNIQUE (UINT64_MAX - 1)

/* One argument or result field of a row. */
struct kvms_field {
	const char *name;
	enum kvms_type type;
	enum kvms_kind kind; /* for KVMS_ID and KVMS_IDS */
	bool has_default;    /* argument: may be left out */
	bool created;        /* result: a new id, bound by a replay, never compared by value */
	uint64_t value;      /* argument: the default */
};

/* One operation, inspection request, or the store line: what it takes and gives. */
struct kvms_row {
	unsigned code;    /* number on the wire and in journals; never reused */
	const char *name; /* as in a trace */
	const struct kvms_field *args;
	unsigned args_count;
	const struct kvms_field *results;
	unsigned results_count;
	const char *mirrors; /* upstream partner, "" if none */
	const char *summary; /* one sentence */
	const char *effect;  /* what changes, or what a request answers: sentences; names in backquotes */
};

/* What an argument or result of a row counts or means, with its unit: half a sentence; NULL if its type says it all. */
const char *kvms_field_meaning(const struct kvms_row *row, const struct kvms_field *field);

/* Words per element of a list type; 0 for scalars, and for BYTES (packed). */
unsigned kvms_type_arity(enum kvms_type type);

/* True for the types whose value is a list in the payload. */
bool kvms_type_is_list(enum kvms_type type);

/*
 * Words of an enumerated type: the word for "value", or NULL.
 * kvms_word_at() enumerates them in the documented order: index 0, 1, ...,
 * NULL past the end.  Types that are not enumerated have no words.
 */
const char *kvms_word(enum kvms_type type, uint64_t value);
const char *kvms_word_at(enum kvms_type type, unsigned index, uint64_t *value);

/* Rows.  Codes run from 1; NULL for a code or name that does not exist. */
unsigned kvms_op_max(void);
const struct kvms_row *kvms_op_row(unsigned code);
const struct kvms_row *kvms_op_find(const char *name);
unsigned kvms_request_max(void);
const struct kvms_row *kvms_request_row(unsigned code);
const struct kvms_row *kvms_request_find(const char *name);
/* The store configuration, as a row with arguments only. */
const struct kvms_row *kvms_store_row(void);

/*
 * Arguments of an operation, a request or a store configuration.
 * The caller owns the memory behind "list", which must outlive the call that
 * reads it.  Lists lie in it one behind the other in argument order; arg[i]
 * of a list argument is its count.
 */
struct kvms_op {
	unsigned code;               /* of the row; unused for a configuration */
	uint64_t arg[KVMS_ARGS_MAX]; /* in row order */
	const uint64_t *list;
};

/* Set every argument of "row" to its default (those without one: 0, empty). */
void kvms_op_init(struct kvms_op *op, const struct kvms_row *row);

/*
 * The index of an argument or result by name, or -1.
 */
int kvms_arg_index(const struct kvms_row *row, const char *name);
int kvms_result_index(const struct kvms_row *row, const char *name);

/* ---- Outcomes ----------------------------------------------------------- */

enum kvms_class {
	KVMS_OK,    /* done */
	KVMS_PRE,   /* the caller broke the operation's precondition */
	KVMS_ERR,   /* an error value of the real interface */
	KVMS_PANIC, /* the real kernel would panic */
	KVMS_ABORT, /* the real kernel would halt: a count is saturated */
	KVMS_BLOCK, /* a cursor would have to wait for another's lock */
	KVMS_CLASSES
};

/* Names of outcomes: number 0 is ok.  NULL past the end. */
unsigned kvms_outcome_max(void);
const char *kvms_outcome_name(unsigned name);  /* "" for ok */
enum kvms_class kvms_outcome_class(unsigned name);
const char *kvms_outcome_cause(unsigned name); /* of AccessDenied, else NULL */
const char *kvms_outcome_detail(unsigned name); /* field shown with it: "holder", "cpu", else NULL */
const char *kvms_outcome_meaning(unsigned name);
const char *kvms_class_word(enum kvms_class c);

/*
 * The outcomes an operation or request may give, ok among them: the k-th one's
 * number, k = 0, 1, ..., or UINT_MAX past the end.
 */
unsigned kvms_row_outcome(const struct kvms_row *row, unsigned k);

/*
 * What an operation or request answered.  Zero-initialise before first use;
 * the payload is kept and reused from call to call, kvms_outcome_free() ends it.
 */
struct kvms_outcome {
	unsigned name;    /* 0 = ok, else an outcome name */
	uint64_t detail;  /* value of kvms_outcome_detail(), if any */
	uint64_t present; /* bit i: result field i applies */
	uint64_t field[KVMS_FIELDS_MAX];
	uint64_t *list; /* payload: lists of the fields present, in field order */
	size_t list_count;
	size_t list_capacity;
};

/* Payload of list field "i" of "row"; *count gets its elements (bytes for BYTES). */
const uint64_t *kvms_outcome_list(const struct kvms_outcome *out, const struct kvms_row *row, unsigned i,
				  uint64_t *count);
/* The same for list argument "i" of an operation. */
const uint64_t *kvms_op_list(const struct kvms_op *op, const struct kvms_row *row, unsigned i, uint64_t *count);
void kvms_outcome_free(struct kvms_outcome *out);

/* ---- Laws ---------------------------------------------------------------- */

/* Number of laws, the name ("slot.rc_legal") and the sentence of each; numbers run from 0, ascending by name. */
unsigned kvms_law_max(void);
const char *kvms_law_name(unsigned law);
const char *kvms_law_text(unsigned law);

#define KVMS_FINDINGS_MAX 64u

/* One offender: which law, which object, and the two numbers that disagree. */
struct kvms_finding {
	unsigned law;
	uint64_t object; /* slot index, address or id, as the law's text says */
	uint64_t want;
	uint64_t have;
};

/* Findings of a check: all laws that fired, and the first offenders. */
struct kvms_findings {
	uint64_t total; /* offenders found, those not kept included */
	unsigned count; /* kept in "at" */
	uint64_t fired[4]; /* bit set of law numbers */
	struct kvms_finding at[KVMS_FINDINGS_MAX];
};

/* ---- A store --------------------------------------------------------------- */

struct kvms; /* opaque */

/* Why a configuration was refused. */
struct kvms_refusal {
	int key;        /* argument index in kvms_store_row(), or -1: not the configuration's fault */
	char text[200]; /* one sentence without a full stop */
};

/*
 * Create a store.
 *
 * => config: arguments of kvms_store_row(); NULL = all defaults
 * => gives a store the caller owns and ends with kvms_free()
 * => fails with NULL and *why filled: a limit is broken, a value is not built
 *    yet, or the machine grants no memory
 */
struct kvms *kvms_new(const struct kvms_op *config, struct kvms_refusal *why);

/* End a store: takes it and sets the caller's pointer to NULL.  NULL is fine. */
void kvms_free(struct kvms **s);

/*
 * The configuration the store was created with, every key filled in.
 * The payload belongs to the store and lives as long as it.
 */
const struct kvms_op *kvms_config(const struct kvms *s);

/* How much is checked after a step. */
enum kvms_check {
	KVMS_CHECK_OFF,
	KVMS_CHECK_TOUCHED, /* every law that mentions an object the step touched */
	KVMS_CHECK_FULL     /* every law on everything */
};

/*
 * Set the dial.  A new store has KVMS_CHECK_TOUCHED.
 * "every": with FULL, run the full check only when the step number is a
 * multiple of it (1 = every step), and touched laws in between.
 */
void kvms_set_check(struct kvms *s, enum kvms_check check, uint64_t every);

enum kvms_status {
	KVMS_DONE,   /* the outcome says what happened */
	KVMS_BROKEN, /* a law broke, or an op gave an outcome outside its set: a defect of the model itself */
	KVMS_INVALID, /* an argument is outside its type (a bool of 7, say): nothing happened, not a step */
	KVMS_NOMEM   /* the host has no memory left; nothing changed */
};

/*
 * Apply one operation.
 *
 * => op: a known code; list arguments point at valid memory
 * => gives KVMS_DONE and *out; anything but ok leaves the store bit-identical
 * => the step number grows by one with every outcome of class ok or not
 * => fails with KVMS_BROKEN: the step was rolled back, kvms_findings() tells
 *    what is wrong, and every later write answers KVMS_BROKEN too
 */
enum kvms_status kvms_apply(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out);

/*
 * Steps that happen together or not at all.  Between begin and end apply them
 * one by one, and call nothing else on the store.
 *
 * => keep: false undoes all of them; the number of steps is then what it was
 * => gives false if they were to be kept and the host has no memory: they are undone
 */
void kvms_group_begin(struct kvms *s);
bool kvms_group_end(struct kvms *s, bool keep);

/* What kvms_apply would answer, with no effect: no change of state, step number or digest. */
enum kvms_status kvms_dry_run(struct kvms *s, const struct kvms_op *op, struct kvms_outcome *out);

/* What broke, after KVMS_BROKEN.  Valid until the store ends. */
const struct kvms_findings *kvms_broken(const struct kvms *s);

/*
 * Answer an inspection request (a row of kvms_request_row).  No effect on the
 * store, ids or digest.  Outcomes are ok or pre.
 * => KVMS_NOMEM if the host has no memory for the answer
 */
enum kvms_status kvms_inspect(struct kvms *s, const struct kvms_op *request, struct kvms_outcome *out);

/*
 * What many addresses of one table reach: the request "translate" without all
 * that stands around one answer.  Addresses that ascend are the cheapest.
 *
 * => table: 0 = kernel, else a vm_space id
 * => found[i] gets 0 or 1, paddr[i] the byte, 0 if there is none
 * => fails with false: there is no such table
 */
bool kvms_translate(const struct kvms *s, uint64_t table, const uint64_t *va, size_t count, uint8_t *found,
		    uint64_t *paddr);

/* Operations applied so far, whatever their outcome. */
uint64_t kvms_steps(const struct kvms *s);

/*
 * Number the steps from "steps" on: for a store that took an earlier state
 * again while its history goes on.  No effect on state or digest.
 */
void kvms_set_steps(struct kvms *s, uint64_t steps);

/* The state digest.  O(elements changed since it was last asked). */
uint64_t kvms_digest(struct kvms *s);

/*
 * Run every law on the whole store.  O(live state).
 * => true if nothing was found; false with findings->count 0 if the host has
 *    no memory for the check
 */
bool kvms_check_all(struct kvms *s, struct kvms_findings *findings);

/*
 * The laws that steps and checks have evaluated, on something, since this was
 * asked last: a bit set of law numbers.  A law is in it if something
 * was there that it speaks of, whether it asked anything of it or not.
 */
void kvms_laws_judged(struct kvms *s, uint64_t set[4]);

/* ---- Whole state, for snapshots -------------------------------------------- */

/*
 * Most words of one state element handed to a visitor by kvms_visit(), except
 * the configuration (tag 1), which has 9 and two for each further vmalloc range.
 */
#define KVMS_ELEMENT_WORDS_MAX 4096u

/*
 * Visit every element of the state as the digest defines them: a tag and its
 * key and field words.  Order: by tag, then by key.  Words of page-table
 * nodes (tag 3) are visited too.  Stops early if "visit" returns false, or if
 * the host has no memory; then it returns false.
 */
typedef bool kvms_visitor(void *arg, const uint64_t *words, unsigned count);
bool kvms_visit(struct kvms *s, kvms_visitor *visit, void *arg);

/* One run of leaves: "pages" leaves of one level, va and paddr both rising by the leaf size. */
struct kvms_extent {
	uint64_t table; /* 0 = kernel, else vm_space id */
	uint64_t va;
	uint64_t paddr;
	uint64_t leaves;
	unsigned level;
	uint64_t prop;
	bool tracked;
};

/*
 * Visit the leaves of a table in ascending order, as maximal runs.  The
 * property is the one that encodes to the word, also where reading it back
 * loses something (loongarch64: uc reads as wb).
 */
typedef bool kvms_extent_visitor(void *arg, const struct kvms_extent *run);
bool kvms_extents(struct kvms *s, uint64_t table, kvms_extent_visitor *visit, void *arg);

/* Where a page-table node hangs: the table and the first address of its span. */
struct kvms_node_place {
	uint64_t paddr;
	uint64_t table;
	uint64_t va;
	unsigned level;
};
/* False if there is no node there, or if it hangs in no table any more (a detached sub-tree). */
bool kvms_node_find(const struct kvms *s, uint64_t paddr, struct kvms_node_place *place);

/*
 * Rebuild a saved state in a store fresh from kvms_new() with the same
 * configuration: kvms_restore_begin() empties it, then elements (in any
 * order within a tag, tags ascending, tag 3 words for anything that is not
 * re-created by extents), nodes' places and extents are given, and
 * kvms_restore_end() derives the rest, checks every law and compares the digest.
 *
 * => false: the data does not make a store; "why" (at least 200 bytes) says
 *    what is wrong, and the store must be freed
 */
bool kvms_restore_begin(struct kvms *s);
bool kvms_restore_element(struct kvms *s, const uint64_t *words, unsigned count, char *why, size_t size);
bool kvms_restore_node(struct kvms *s, const struct kvms_node_place *place, char *why, size_t size);
bool kvms_restore_extent(struct kvms *s, const struct kvms_extent *run, char *why, size_t size);
/* Leaves like the first of "run", at places one behind the other: frame numbers, UINT64_MAX = no leaf there. */
bool kvms_restore_list(struct kvms *s, const struct kvms_extent *run, const uint64_t *page, size_t count, char *why,
		       size_t size);
bool kvms_restore_end(struct kvms *s, uint64_t steps, uint64_t digest, char *why, size_t size);

/* ---- Memory as it lies ------------------------------------------------------ */

#define KVMS_ALL_TABLES UINT64_MAX

/* The address of a table's root: 0 = the kernel's, else a vm_space's.  False if there is no such table. */
bool kvms_root(const struct kvms *s, uint64_t table, uint64_t *paddr);

/* The least id of an address space above "id", 0 if there is none. */
uint64_t kvms_next_space(const struct kvms *s, uint64_t id);

/* Levels of the page tables: the root's. */
unsigned kvms_levels(const struct kvms *s);

/* What decodes the words: x86_64, x86_64_la57, riscv64_sv39, riscv64_sv48, riscv64_sv57 or loongarch64. */
const char *kvms_machine_name(const struct kvms *s);

/* On x86 the eight cache types that words select from, as in the register PAT; else 0. */
uint64_t kvms_pat(const struct kvms *s);

/*
 * Visit page-table pages in ascending order of address, each once.
 *
 * => table: those that its root leads to (of an address space also the
 *    kernel's); KVMS_ALL_TABLES: all there are
 * => all_memory: every page that was ever written besides, whatever "table" is
 * => bytes: KVMS_PAGE_SIZE of them, in memory order, valid during the call
 * => false if "visit" gave false, or the host has no memory
 */
typedef bool kvms_page_visitor(void *arg, uint64_t paddr, const unsigned char *bytes);
bool kvms_pages(const struct kvms *s, uint64_t table, bool all_memory, kvms_page_visitor *visit, void *arg);

/* One leaf with the word that makes it one. */
struct kvms_leaf {
	uint64_t table;
	uint64_t va;
	uint64_t paddr;
	uint64_t size;
	unsigned level;
	uint64_t word;
	uint64_t prop;
	bool tracked;
};

/* Visit the leaves of a table in ascending order.  False if "visit" gave false. */
typedef bool kvms_leaf_visitor(void *arg, const struct kvms_leaf *leaf);
bool kvms_leaves(struct kvms *s, uint64_t table, kvms_leaf_visitor *visit, void *arg);

/* ---- Memory images of other kernels ----------------------------------------- */

/*
 * A store made from page tables that any kernel has built, read by the rules
 * of the hardware and not as OSTD writes its words: a foreign store.
 *
 * It is read-only: every operation answers "pre foreign_store".  Inspection
 * works.  There are no areas, no free addresses and no frames with holders,
 * for page tables do not tell; every leaf is untracked, and its property has
 * the rights that all levels together leave (x86).
 *
 * The table "kernel" is the first root, with both halves of the address space.
 * Further roots are address spaces 1, 2, ... in their order; in the upper half
 * such a table lists only entries of its root that are not the first root's.
 *
 * Words that lead nowhere and pages that are nodes at two levels are reported
 * and never followed for ever; a node that many words lead to is one node.
 * Cost of making it: O(pages), whatever the words say.
 */
enum kvms_machine {
	KVMS_MACHINE_X86_64,      /* 4 or 5 levels */
	KVMS_MACHINE_RISCV64,     /* 3, 4 or 5 levels: Sv39, Sv48, Sv57 */
	KVMS_MACHINE_LOONGARCH64, /* 4 levels of 9 bits */
	KVMS_MACHINES
};

#define KVMS_PAT_RESET UINT64_C(0x0007040600070406) /* what x86 begins with */

struct kvms_image {
	enum kvms_machine machine;
	unsigned levels;
	uint64_t max_paddr; /* end of memory; rounded up to 2 MiB */
	uint64_t pat;       /* x86: the register PAT; 0 = KVMS_PAT_RESET */
	const uint64_t *roots;
	size_t roots_count; /* at least 1 */
	/* pages that belong to the store even if no root leads to them: ascending, each once */
	const uint64_t *pages;
	size_t pages_count;
	/* the bytes of a page, valid until the next call; NULL: the image lacks it */
	const void *(*page)(void *arg, uint64_t paddr);
	void *arg;
};

/* What may be wrong with a word. */
enum kvms_flaw {
	KVMS_FLAW_OUTSIDE,    /* leads to a page that is not below max_paddr */
	KVMS_FLAW_MISSING,    /* leads to a page that the image lacks */
	KVMS_FLAW_TWO_LEVELS, /* leads to a page that is a node at another level too: perhaps a loop */
	KVMS_FLAW_LEVEL1,     /* leads on from level 1 */
	KVMS_FLAW_LEAF_LEVEL, /* a leaf at a level where the hardware has none */
	KVMS_FLAW_ALIGNMENT,  /* a leaf whose address is no multiple of its size */
	KVMS_FLAW_RESERVED,   /* bits that must be zero, or go together otherwise */
	KVMS_FLAWS
};

/* Its name ("outside"), and half a sentence. */
const char *kvms_flaw_name(enum kvms_flaw flaw);
const char *kvms_flaw_text(enum kvms_flaw flaw);

#define KVMS_FLAW_PLACES 64u

/* What is known of a foreign store as a whole. */
struct kvms_adopted {
	enum kvms_machine machine;
	uint64_t pages;         /* of the image that are in the store */
	uint64_t nodes;         /* of them, those that roots lead to */
	uint64_t shared;        /* nodes that more than one word or root leads to */
	uint64_t most_parents;  /* words and roots that lead to one node, at most */
	uint64_t leaves;        /* of all tables, each way to it counted; UINT64_MAX: that many or more */
	uint64_t leaves_listed; /* a listing of a table ends there: only sharing makes so many */
	uint64_t flaws;         /* words with a flaw */
	uint64_t count[KVMS_FLAWS];
	unsigned places; /* kept below: the first 8 of each kind */
	struct {
		enum kvms_flaw flaw;
		uint64_t paddr; /* of the word */
		uint64_t word;
		unsigned level;
	} place[KVMS_FLAW_PLACES];
};

/*
 * Make a foreign store.
 *
 * => gives a store the caller owns and ends with kvms_free()
 * => fails with NULL and why->text: no such machine, a root that the image
 *    lacks, more than 2^20 page-table pages, or no memory
 */
struct kvms *kvms_adopt(const struct kvms_image *image, struct kvms_refusal *why);

/* What is known of a foreign store; NULL for any other.  Valid until the store ends. */
const struct kvms_adopted *kvms_adopted(const struct kvms *s);

#ifdef __cplusplus
}
#endif

#endif /* KVMSTORE_H */
