/*
 * text - operations, outcomes and trace lines as text: parser and printers.
 *
 * Law: parser and printers know no operation by name.  They read the rows of
 * store/kvmstore.h, so an operation exists here as soon as it has a row.
 * What a printer prints, the parser reads back to the same values.
 *
 * A parse error reads "SOURCE:LINE:COLUMN: expected WHAT, found 'TEXT'", with
 * columns in bytes from 1.
 */
#ifndef KVT_TEXT_H
#define KVT_TEXT_H

#include "store/kvmstore.h"
#include "trace/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVT_BYTES_MAX 65536u /* most bytes in a value of type bytes */

/* ---- A parsed line -------------------------------------------------------- */

/* A piece of the line that was parsed; at == NULL: it is not there. */
struct kvt_span {
	const char *at;
	size_t size;
};

enum kvt_kind {
	KVT_BLANK,  /* nothing, or a comment alone */
	KVT_HEADER, /* kvmtrace 1 */
	KVT_STORE,
	KVT_OP,
	KVT_EXPECT, /* a request with the fields it should answer; the short forms too */
	KVT_GAP,
	KVT_BASE
};

#define KVT_FIELD_CAUSE (-1)   /* cause= of an outcome */
#define KVT_FIELD_DETAIL (-2)  /* the number that goes with an outcome's name: holder=, cpu= */
#define KVT_FIELD_UNKNOWN (-3) /* no such field in the row; no outcome can have it */

/* One recorded result field. */
struct kvt_field {
	int index;            /* in row->results, or KVT_FIELD_* */
	bool typed;           /* "value" (and "list") hold it; else it is text that no value of its type prints as */
	struct kvt_span name; /* as written */
	struct kvt_span text; /* the value as written */
	uint64_t value;       /* scalar; of a list its count */
	const uint64_t *list; /* words of a list */
	enum kvms_type type;  /* of the value */
	enum kvms_kind id;    /* kind of id it holds, or KVMS_ID_NONE */
};

/* @name=value: kept and printed, never executed, never compared. */
struct kvt_annotation {
	struct kvt_span name;  /* without the @ */
	struct kvt_span value; /* as written, a string with its quotes */
	bool is_result;        /* it stood after the arrow */
};

/*
 * Spans point into the text that was parsed, lists into the parser: all of it
 * is valid until the next parse, and no longer than the text.
 *
 * kind     members beside number and comment
 * -------  -----------------------------------------------------------------
 * STORE    row, op, given
 * OP       row, op, given, recorded part, annotations
 * EXPECT   row (a request's), op, given, is_short; the fields are the expected ones
 * GAP      has_ops, ops; annotations
 * BASE     digest, snapshot
 */
struct kvt_line {
	enum kvt_kind kind;
	uint64_t number; /* of the line, from 1 */

	const struct kvms_row *row;
	struct kvms_op op;
	uint64_t given; /* bit i: argument i was written; the others have their defaults */
	bool is_short;  /* expect digest=..., inv= and so on */

	bool recorded; /* there is an arrow and an outcome class */
	enum kvms_class class;
	struct kvt_span name; /* of the outcome, if it was given */
	const struct kvt_field *fields;
	size_t fields_count;

	const struct kvt_annotation *annotations;
	size_t annotations_count;

	bool has_ops; /* gap ops=N */
	uint64_t ops;
	uint64_t digest;          /* of a base line */
	struct kvt_span snapshot; /* a string as written, quotes and all; see kvt_unquote() */

	struct kvt_span comment; /* from the # on */
};

/* What the line records of a result; NULL = nothing. */
const struct kvt_field *kvt_line_result(const struct kvt_line *line, unsigned index);

/* ---- The parser ------------------------------------------------------------- */

struct kvt_parser; /* opaque; it remembers what a trace has had so far, and keeps memory between lines */

/* A parser for one trace or one source of texts, named so in errors.  NULL: no memory. */
struct kvt_parser *kvt_parser_new(const char *source);
void kvt_parser_free(struct kvt_parser **p);

/*
 * Parse the next line of a trace.
 *
 * => text: without its LF; "size" may exceed the limit, as kvt_input_line() gives it
 * => gives true and *line
 * => false: kvt_parser_error() tells.  The parser must not go on in this trace
 */
bool kvt_parse(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line);

/*
 * Take a line that did not come as text as the next of the trace: may it stand
 * here?  Gives it its number.
 */
bool kvt_parse_given(struct kvt_parser *p, struct kvt_line *line);

/* The next line of the trace is that behind line "lines", wherever the parser was. */
void kvt_parser_move(struct kvt_parser *p, uint64_t lines);

/* May this text stand in a line?  No line end, no NUL, well-formed UTF-8. */
bool kvt_text_fits(const char *text, size_t size);

/* The trace is at its end: false if it never had its header. */
bool kvt_parse_end(struct kvt_parser *p);

/*
 * Parse a text that stands alone, as line 1 of the source; blank or comment
 * gives KVT_BLANK.  These leave the state of a trace alone.
 *   op       OP key=value ... with all an op line may have
 *   request  REQUEST key=value ...: arguments only
 *   store    key=value ...: what follows the word store
 */
bool kvt_parse_op(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line);
bool kvt_parse_request(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line);
bool kvt_parse_store(struct kvt_parser *p, const char *text, size_t size, struct kvt_line *line);

/* One sentence without line end, after a parse that gave false. */
const char *kvt_parser_error(const struct kvt_parser *p);

/* A number in one of the two accepted forms: true and *value, or false. */
bool kvt_parse_u64(const char *text, size_t size, uint64_t *value);

/* Take quotes and backslashes off a string value, into "b" (which is reset first). */
void kvt_unquote(struct kvt_buffer *b, struct kvt_span value);

/* The id kind behind the number that goes with an outcome's name (holder=), or KVMS_ID_NONE. */
enum kvms_kind kvt_detail_kind(const char *detail);

/* ---- Printers -------------------------------------------------------------------
 * All add canonical text to "b"; none adds a line end.
 */

/* A value.  "value" is the scalar or a list's count, "list" the words of a list. */
void kvt_print_value(struct kvt_buffer *b, enum kvms_type type, uint64_t value, const uint64_t *list);

/* OP key=value ...: every argument in the row's order, defaults too.  Requests likewise. */
void kvt_print_op(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op);

/* CLASS [NAME] [fields]: of an operation or a request. */
void kvt_print_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out);

/* " name=value" for each result field present. */
void kvt_print_results(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out);

/* Recorded class, name and fields, in the row's order; what is not typed as it was written, last. */
void kvt_print_recorded(struct kvt_buffer *b, const struct kvt_line *line);

/* store key=value ...: all keys.  A vmalloc without ranges (= the layout's) is left out. */
void kvt_print_store(struct kvt_buffer *b, const struct kvms_op *config);

/*
 * A whole line, comment and annotations kept.  "actual" takes the place of the
 * recorded outcome of an op line; NULL prints what was recorded.
 */
void kvt_print_line(struct kvt_buffer *b, const struct kvt_line *line, const struct kvms_outcome *actual);

/*
 * JSON.  Types whose canonical text is hex (addresses, sizes, metadata, the
 * digest) are strings in that form.  Decimal ones are numbers up to 2^53 - 1
 * and decimal strings above.  bool is a boolean; words, flags, properties and
 * bytes are strings; a reference count is a number, "unused" or "unique"; a
 * table is "kernel", "all" or a number.  A list is an array; its elements are
 * values, or objects where an element has several parts:
 *   ranges {start, end} · levels {level, node, index, word} · mappings {table, va}
 *   reverse_map {table, va, level, tracked} · areas {area, start, end}
 *   stale {cpu, table, va, paddr}
 * A single range is one object.  inv is an array of names, empty if all hold.
 *
 *   op, request  {"op":"frame_drop","args":{"frame":1}}
 *   outcome      {"class":"ok","result":{"last":true}}
 *                {"class":"err","name":"AccessDenied","cause":"UserRange","meaning":"..."}
 *                {"class":"block","name":"cursor_locked","holder":1,"meaning":"..."}
 *   store        {"arch":"x86_64",...}
 */
void kvt_json_string(struct kvt_buffer *b, const char *text, size_t size);
void kvt_json_value(struct kvt_buffer *b, enum kvms_type type, uint64_t value, const uint64_t *list);
void kvt_json_op(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_op *op);
void kvt_json_outcome(struct kvt_buffer *b, const struct kvms_row *row, const struct kvms_outcome *out);
void kvt_json_store(struct kvt_buffer *b, const struct kvms_op *config);

/* ---- Comparing -------------------------------------------------------------------- */

/* Does the outcome have this field?  Then its value and list, and true. */
bool kvt_outcome_field(const struct kvms_row *row, const struct kvms_outcome *out, const struct kvt_field *field,
		       uint64_t *value, const uint64_t **list);

/*
 * Does a recorded field hold against an outcome?  A created id only has to be
 * there; everything else must be equal in value.  Ids are compared as they
 * stand: translate them first.
 */
bool kvt_field_holds(const struct kvms_row *row, const struct kvms_outcome *out, const struct kvt_field *field);

/* Class and name of the line against those of an outcome. */
bool kvt_outcome_holds(const struct kvt_line *line, const struct kvms_outcome *out);

#endif /* KVT_TEXT_H */
