/*
 * frame - where one message ends and the next begins.
 *
 * A frame is the length of a message in 4 bytes, little-endian, then the
 * message.  A message is never empty.  No I/O: the caller owns the bytes.
 */
#ifndef KVMP_FRAME_H
#define KVMP_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define KVMP_FRAME_HEADER 4u                /* bytes before a message */
#define KVMP_REQUEST_MAX (8u * 1024 * 1024) /* bytes of a request at most */
#define KVMP_RESPONSE_MAX (32u * 1024 * 1024)

enum kvmp_frame {
	KVMP_FRAME_WHOLE,   /* a message is there */
	KVMP_FRAME_PARTIAL, /* more bytes must come first */
	KVMP_FRAME_BAD      /* the length is 0 or too large: this is no frame */
};

/*
 * Look at the first frame in "data".
 *
 * => max: bytes a message may have
 * => gives in *size the bytes of the message behind the header: WHOLE, all are
 *    there; PARTIAL, what the header announces, or 0 if the header itself is
 *    not complete; BAD, what it says
 */
enum kvmp_frame kvmp_frame_next(const uint8_t *data, size_t length, size_t max, size_t *size);

/* Write the header of a message of "size" bytes, 1 .. UINT32_MAX. */
void kvmp_frame_header(uint8_t header[KVMP_FRAME_HEADER], size_t size);

#endif /* KVMP_FRAME_H */
