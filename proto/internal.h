/*
 * internal - what request.c and response.c share.  Private to proto/.
 */
#ifndef KVMP_INTERNAL_H
#define KVMP_INTERNAL_H

#include "proto/codec.h"
#include "proto/kvmstore.pb-c.h"
#include "proto/message.h"

/* Memory of one message in each direction. */
struct kvmp_codec {
	struct kvmp_arena in;         /* what was decoded; reset by the next decode */
	struct kvmp_arena out;        /* what is being encoded */
	ProtobufCAllocator allocator; /* hands out "in" */
};

/*
 * Through protobuf-c alone: what kvmp_request_decode() and the others do with
 * all that proto/wire.c leaves to them.
 */
bool kvmp_request_unpack(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_request *out,
			 struct kvmp_refusal *why);
bool kvmp_response_unpack(struct kvmp_codec *c, const uint8_t *data, size_t size, struct kvmp_response *out,
			  struct kvmp_refusal *why);
enum kvmp_encoded kvmp_request_pack(struct kvmp_codec *c, const struct kvmp_request *r, struct kvmp_buffer *to);
enum kvmp_encoded kvmp_response_pack(struct kvmp_codec *c, const struct kvmp_response *r, struct kvmp_buffer *to);

/* Fill *why; returns false. */
bool kvmp_refuse(struct kvmp_refusal *why, enum kvmp_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Read a message into the codec's memory; NULL and *why filled if it is none. */
ProtobufCMessage *kvmp_unpack(struct kvmp_codec *c, const ProtobufCMessageDescriptor *descriptor, const uint8_t *data,
			      size_t size, struct kvmp_refusal *why);

/* The message, its parts aside, has no field that the schema does not have. */
bool kvmp_known(const ProtobufCMessage *m, struct kvmp_refusal *why);

/* The message is exactly what a protobuf library writes for its fields. */
bool kvmp_exact(const ProtobufCMessage *m, size_t size, struct kvmp_refusal *why);

/* A copy of "text" in which bytes that are not UTF-8 are question marks; NULL: no memory. */
char *kvmp_text(struct kvmp_arena *arena, const char *text);

/* Append the message as a frame. */
enum kvmp_encoded kvmp_frame_append(const ProtobufCMessage *m, size_t max, struct kvmp_buffer *to);

/* kvmp_args_decode() with its refusal. */
bool kvmp_row_args_decode(struct kvmp_codec *c, const struct kvmp_binding *b, const ProtobufCMessage *m,
			  struct kvms_op *op, struct kvmp_refusal *why);

#endif /* KVMP_INTERNAL_H */
