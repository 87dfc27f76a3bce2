/*
 * message - requests and responses as plain structs, and their bytes.
 *
 * proto/kvmstore.proto is the description; this is what the rest of the
 * program sees of it.  Generated types do not appear here.
 *
 * Ownership: decoding fills structs whose pointers (strings, lists) lead into
 * the codec's memory or the decoded bytes.  They are valid until the next
 * decode with the same codec.  Encoding copies all it needs.
 *
 * Input is refused, never asserted: every byte sequence has an answer.
 */
#ifndef KVMP_MESSAGE_H
#define KVMP_MESSAGE_H

#include "proto/buffer.h"
#include "proto/frame.h"
#include "store/kvmstore.h"

#define KVMP_VERSION 1u            /* of the protocol */
#define KVMP_TRANSLATE_MAX 524288u /* addresses in one translate_many */
#define KVMP_BATCH_MAX 4096u       /* operations in one batch */
#define KVMP_LIST_MAX 1048576u     /* words in one list argument */
#define KVMP_BYTES_MAX 65536u      /* bytes in one bytes argument */
#define KVMP_STORE_NAME_MAX 64u
#define KVMP_CLIENT_NAME_MAX 64u
#define KVMP_FEATURES_MAX 16u
#define KVMP_RUNS_MAX 65536u /* runs in one answer to extents */

/* Which request, and which answer.  The names are those of the schema. */
enum kvmp_request_type {
	KVMP_NOTHING,
	KVMP_HELLO,
	KVMP_OP,
	KVMP_INSPECT,
	KVMP_TRANSLATE_MANY,
	KVMP_BATCH,
	KVMP_STATUS,
	KVMP_STORE_LIST,
	KVMP_STORE_CREATE,
	KVMP_STORE_DROP,
	KVMP_STORE_SELECT,
	KVMP_SET_CHECK,
	KVMP_SNAPSHOT_SAVE,
	KVMP_SNAPSHOT_LIST,
	KVMP_SNAPSHOT_LOAD,
	KVMP_EXTENTS,
	KVMP_UNDO,
	KVMP_SETTLE,
	KVMP_STORE_CLONE,
	KVMP_SNAPSHOT_DROP,
	KVMP_REQUEST_TYPES
};

enum kvmp_response_type {
	KVMP_R_NOTHING,
	KVMP_R_ERROR,
	KVMP_R_HELLO,
	KVMP_R_OUTCOME,
	KVMP_R_TRANSLATED,
	KVMP_R_BATCH,
	KVMP_R_STATUS,
	KVMP_R_STORES,
	KVMP_R_STORE,
	KVMP_R_SNAPSHOTS,
	KVMP_R_DONE,
	KVMP_R_EXTENTS,
	KVMP_RESPONSE_TYPES
};

/* Why a request was not carried out; numbers of the schema. */
enum kvmp_error_code {
	KVMP_ERROR_NONE,
	KVMP_ERROR_MALFORMED,
	KVMP_ERROR_INVALID,
	KVMP_ERROR_HELLO_FIRST,
	KVMP_ERROR_UNSUPPORTED,
	KVMP_ERROR_UNKNOWN_STORE,
	KVMP_ERROR_STORE_EXISTS,
	KVMP_ERROR_STORE_REFUSED,
	KVMP_ERROR_STORE_BROKEN,
	KVMP_ERROR_NO_MEMORY,
	KVMP_ERROR_TOO_LARGE,
	KVMP_ERROR_STATE,
	KVMP_ERROR_LIMIT,
	KVMP_ERROR_TIMEOUT,
	KVMP_ERROR_CODES
};

/* ---- Requests ------------------------------------------------------------- */

struct kvmp_hello {
	unsigned version;
	const char *store;  /* "default" if the client named none */
	const char *client; /* who it is, "" if it did not say */
	const char *const *features;
	size_t features_count;
};

struct kvmp_request {
	uint64_t id;
	enum kvmp_request_type type;
	bool dry_run; /* KVMP_OP */
	bool detached;    /* KVMP_OP: the cursor it opens does not end with the connection */
	uint32_t wait_ms; /* KVMP_OP: how long the open may wait */
	union {
		struct kvmp_hello hello;
		struct kvms_op op; /* KVMP_OP; KVMP_INSPECT: the request's row */
		struct {
			uint64_t table;
			const uint64_t *va;
			size_t count;
		} translate;
		struct {
			const struct kvms_op *ops;
			size_t count;
			bool stop;
			bool atomic;
		} batch;
		struct {
			const char *name;      /* create, drop, select */
			struct kvms_op config; /* create */
		} store;
		struct {
			enum kvms_check check;
			uint64_t every;
		} check;
		uint64_t snapshot; /* load: its id, 0 = newest; drop: its id */
		uint64_t undo;     /* steps */
		struct {
			const char *name;
			bool has_step;
			uint64_t step;
		} clone;
		struct {
			uint64_t table;
			uint64_t first;
			uint64_t last; /* inclusive */
		} extents;
	};
};

/* ---- Responses -------------------------------------------------------------- */

struct kvmp_store_status {
	const char *name;
	uint64_t step;
	uint64_t digest;
	enum kvms_check check;
	uint64_t check_every;
	const char *broken; /* which law, or NULL: sound */
	bool saved;
	uint64_t saved_step;          /* if saved */
	const struct kvms_op *config; /* every key filled in */
};

struct kvmp_status {
	const char *server;
	uint64_t pid;
	uint64_t uptime_seconds;
	uint64_t connections;
	uint64_t requests;
	uint64_t stores;
	uint64_t waiting;
	const char *state_dir; /* NULL: none */
	const char *durability;
	const struct kvmp_store_status *store; /* NULL: dropped */
};

struct kvmp_snapshot {
	const char *store;
	uint64_t id;
	uint64_t step;
	uint64_t digest;
	const char *taken;
	const char *library;
	bool kept; /* until it is dropped */
};

/*
 * How one operation or request ended.  Encoding: "row" is its row.  Decoding:
 * "row" is the row of the result if it ended ok, else NULL; the payload of
 * "outcome" belongs to the codec and must not be freed or grown.
 */
struct kvmp_answer {
	const struct kvms_row *row;
	bool inspect; /* "row" is a request's */
	bool has_step;
	uint64_t step;
	struct kvms_outcome outcome;
	bool held_back;        /* an open that waits for longer was in the way; not applied */
	const uint64_t *cycle; /* cursors of a wait cycle */
	size_t cycle_count;
};

struct kvmp_response {
	uint64_t id;
	enum kvmp_response_type type;
	union {
		struct {
			enum kvmp_error_code code;
			const char *text;
			bool closing;
			const char *const *findings; /* STORE_BROKEN: the first offenders in words */
			size_t findings_count;
		} error;
		struct {
			unsigned version;
			const char *server;
			const char *const *features;
			size_t features_count;
			const struct kvmp_store_status *store; /* NULL: none */
		} hello;
		struct kvmp_answer answer;
		struct {
			const uint8_t *found; /* 0 or 1 each */
			const uint64_t *paddr;
			size_t count;
		} translated;
		struct {
			const struct kvmp_answer *answers;
			size_t count;
		} batch;
		struct kvmp_status status;
		struct {
			const struct kvmp_store_status *stores;
			size_t count;
		} stores;
		struct kvmp_store_status store;
		struct {
			const struct kvmp_snapshot *snapshots;
			size_t count;
		} snapshots;
		struct {
			const struct kvms_extent *runs; /* their table is not set when decoded */
			size_t count;
			bool more;
			uint64_t next; /* if more: where to go on */
		} extents;
	};
};

/* ---- Bytes --------------------------------------------------------------------- */

struct kvmp_codec; /* opaque: memory that decoding and encoding reuse */

/*
 * A codec that spends at most "limit" bytes on one message; 0 = enough for the
 * largest that is not an attack.
 *
 * => gives a codec the caller owns and ends with kvmp_codec_free()
 * => fails with NULL: no memory
 * => the schema is compared with the operation tables the first time; a
 *    difference is a defect of this program and asserts
 */
struct kvmp_codec *kvmp_codec_new(size_t limit);
void kvmp_codec_free(struct kvmp_codec **c);

/* Why a message was refused. */
struct kvmp_refusal {
	enum kvmp_error_code code; /* MALFORMED: the sender does not speak the protocol */
	uint64_t id;               /* of the request, 0 if it could not be read */
	char text[256];            /* one sentence without a full stop */
};

/*
 * Read one message, without its frame header.
 *
 * => fails with false and *why filled; *out is undefined then
 */
bool kvmp_request_decode(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_request *out,
			 struct kvmp_refusal *why);
bool kvmp_response_decode(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_response *out,
			  struct kvmp_refusal *why);

enum kvmp_encoded {
	KVMP_ENCODED,
	KVMP_ENCODED_TOO_LARGE, /* larger than the protocol allows */
	KVMP_ENCODED_NO_MEMORY
};

/*
 * Append one frame, header and message, to "to".
 *
 * => needs: a request or response of the kind that the sender of it may make:
 *    a known row, strings without bytes outside UTF-8
 * => fails with nothing appended
 */
enum kvmp_encoded kvmp_request_encode(struct kvmp_codec *c, const struct kvmp_request *request, struct kvmp_buffer *to);
enum kvmp_encoded kvmp_response_encode(struct kvmp_codec *c, const struct kvmp_response *response,
				       struct kvmp_buffer *to);

/*
 * Memory from the codec for parts of a response, valid until the next decode.
 * => fails with NULL: the codec's limit, or no memory
 */
void *kvmp_codec_alloc(struct kvmp_codec *c, size_t size);

/* A word for an error code: "malformed", "unknown store". */
const char *kvmp_error_word(enum kvmp_error_code code);

#endif /* KVMP_MESSAGE_H */
