/*
 * store_kit - what the tests of the store share: stores and steps from lines
 * of text, everything visible in one number, and a generator of numbers.
 *
 * Every function that can fail asserts, naming the line of the test it was
 * called from.  Texts it gives live until eight further calls.
 */
#ifndef TESTS_STORE_KIT_H
#define TESTS_STORE_KIT_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/int.h"

#define KIT_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define KIT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Vmalloc ranges that tests often use; the default's start and end. */
#define KIT_VMALLOC UINT64_C(0xffffc00000000000)
#define KIT_VMALLOC_END UINT64_C(0xffffe00000000000)

/* ---- Stores ---------------------------------------------------------------- */

/* A store from the keys of a store line: kit_new("max_paddr=0x%x", ...). */
struct kvms *kit_new_at(int line, const char *format, ...) KIT_PRINTF(2, 3);
#define kit_new(...) kit_new_at(__LINE__, __VA_ARGS__)

/* The refusal of such keys as "KEY: text" ("-" if no key is at fault), or "" if they make a store. */
const char *kit_refusal_at(int line, const char *format, ...) KIT_PRINTF(2, 3);
#define kit_refusal(...) kit_refusal_at(__LINE__, __VA_ARGS__)

/* ---- Steps and questions, as text ------------------------------------------------ */

/* An operation from its trace text.  The list belongs to the kit, until eight further calls. */
struct kvms_op kit_op_at(int line, const char *format, ...) KIT_PRINTF(2, 3);
#define kit_op(...) kit_op_at(__LINE__, __VA_ARGS__)

/* Apply an operation; its outcome as a trace prints it. */
const char *kit_step_at(int line, struct kvms *s, const char *format, ...) KIT_PRINTF(3, 4);
#define kit_step(s, ...) kit_step_at(__LINE__, s, __VA_ARGS__)

/* The same; the outcome must be exactly this text. */
void kit_want_at(int line, struct kvms *s, const char *want, const char *format, ...) KIT_PRINTF(4, 5);
#define kit_want(s, want, ...) kit_want_at(__LINE__, s, want, __VA_ARGS__)

/* The same; the outcome must be of class ok.  Gives the named result field (NULL: 0). */
uint64_t kit_ok_at(int line, struct kvms *s, const char *field, const char *format, ...) KIT_PRINTF(4, 5);
#define kit_ok(s, ...) kit_ok_at(__LINE__, s, NULL, __VA_ARGS__)
#define kit_get(s, field, ...) kit_ok_at(__LINE__, s, field, __VA_ARGS__)

/* The status of an operation given as text. */
enum kvms_status kit_status_at(int line, struct kvms *s, const char *format, ...) KIT_PRINTF(3, 4);
#define kit_status(s, ...) kit_status_at(__LINE__, s, __VA_ARGS__)

/* Ask an inspection request; the answer as a trace prints it. */
const char *kit_ask_at(int line, struct kvms *s, const char *format, ...) KIT_PRINTF(3, 4);
#define kit_ask(s, ...) kit_ask_at(__LINE__, s, __VA_ARGS__)

/* The same; the answer must be exactly this text. */
void kit_see_at(int line, struct kvms *s, const char *want, const char *format, ...) KIT_PRINTF(4, 5);
#define kit_see(s, want, ...) kit_see_at(__LINE__, s, want, __VA_ARGS__)

/* The name of an outcome, "ok" for ok. */
const char *kit_outcome(unsigned name);

/* The same as store/outcomes.def writes it: one for each cause. */
const char *kit_outcome_symbol(unsigned name);

/* ---- The whole of a store ------------------------------------------------------------ */

/* One number over everything a caller can see: digest, elements, leaves, answers of requests, steps left out. */
uint64_t kit_visible(struct kvms *s);

/* Every law holds. */
void kit_sound_at(int line, struct kvms *s);
#define kit_sound(s) kit_sound_at(__LINE__, s)

/* Names of the laws that fired, ascending, with blanks between: "acct.rc_exact slot.rc_legal". */
const char *kit_fired(const struct kvms_findings *findings);

/* The elements that kvms_visit() gives: how many, and the sum of their mix() values. */
uint64_t kit_elements(struct kvms *s, uint64_t *sum);

/* ---- Numbers ---------------------------------------------------------------------------- */

struct kit_random {
	uint64_t state;
};

uint64_t kit_draw(struct kit_random *r);
/* 0 .. below - 1 */
uint64_t kit_below(struct kit_random *r, uint64_t below);

/*
 * How often a long test shall loop: "count" in full, less under sanitizers.
 * KVMS_TEST_SCALE in the environment is a percentage that overrides it.
 */
uint64_t kit_scaled(uint64_t count);

/* ---- Random operations -------------------------------------------------------------- */

/* Configurations in which little is enough to run into every limit. */
struct kit_world {
	const char *config;
	uint64_t boot; /* first address outside the vmalloc ranges that boot ops use */
};

extern const struct kit_world kit_worlds[];
extern const unsigned kit_worlds_count;

/* Random operations over all rows, legal and not, fitted to the state a store is in. */
struct kit_walk {
	struct kvms *s;
	const struct kit_world *world;
	struct kit_random r;
	uint64_t number;   /* of the op, from 0; tides of filling and emptying follow it */
	struct kvms_op op; /* the one drawn; its list is in "list" */
	uint64_t list[0x10008 / 8]; /* bytes more than an operation takes */
	uint64_t words;  /* in the list */
	uint64_t size;   /* the latest size drawn; sizes that agree are what makes large pages fit */
	uint64_t area;   /* the area argument of this op, 0 if it has none */
	uint64_t anchor; /* the first address argument of this op */
	bool huge;       /* this op is about pages of 2 MiB */
	unsigned space;  /* what its addresses are about */
	const struct kvms_row *row;
	const void *first; /* the object of its first id argument, NULL if there is none */
};

/* A walk on a store of that world; s == NULL makes one, which the caller frees. */
void kit_walk_init(struct kit_walk *w, struct kvms *s, unsigned world, uint64_t seed);

/* Draw the next operation.  False: one of its arguments is outside its type. */
bool kit_walk_draw(struct kit_walk *w);

/* ---- What came of operations ----------------------------------------------------------- */

/* Operation by outcome. */
struct kit_table {
	uint64_t count[256][O_COUNT];
};

/*
 * A cell that no run of operations reaches in bearable time; docs/gaps.md has
 * the reason.  NULL if the cell is not one of them.
 */
const char *kit_unreachable(const struct kvms_row *row, unsigned name);

/* Is the outcome in the set of the operation? */
bool kit_listed(const struct kvms_row *row, unsigned name);

/*
 * Print the table on stderr, an operation a line, its outcomes with how often
 * they came, those that never came marked.
 *
 * => gives how many never came and are not kit_unreachable()
 */
unsigned kit_table_print(const struct kit_table *table);

/* ---- Sanitizers ------------------------------------------------------------------------ */

/* True in a build with the address sanitizer. */
bool kit_sanitized(void);

#endif /* TESTS_STORE_KIT_H */
