/*
 * wire - operations, requests and outcomes straight to bytes and back.
 *
 * What travels most is written and read here by table, several times faster
 * than through protobuf-c's structs.  The bytes are the same: what is written
 * here is what protobuf-c writes, and reading accepts only the form in which
 * protobuf libraries write: fields ascending, each once, numbers in as few
 * bytes as they need.  Anything else is left to protobuf-c, which also finds
 * the words for what is wrong.
 *
 * Law: what is read here, protobuf-c reads to the same values; what is written
 * here, byte for byte what it writes (tests/test_proto_codec.c).
 */
#ifndef KVMP_WIRE_H
#define KVMP_WIRE_H

#include "proto/arena.h"
#include "proto/message.h"

/*
 * Append the frame of an operation or inspection request.
 * => false: not one of those, or too large, or no memory; nothing is appended
 */
bool kvmp_wire_request_put(const struct kvmp_request *r, struct kvmp_buffer *to);

/* Read such a request.  Lists go to "arena".  False: left to protobuf-c. */
bool kvmp_wire_request_get(const uint8_t *data, size_t size, struct kvmp_arena *arena, struct kvmp_request *r);

/* The same for the response to one. */
bool kvmp_wire_response_put(const struct kvmp_response *r, struct kvmp_buffer *to);
bool kvmp_wire_response_get(const uint8_t *data, size_t size, struct kvmp_arena *arena, struct kvmp_response *r);

#endif /* KVMP_WIRE_H */
