#include "proto/frame.h"

#include <assert.h>

enum kvmp_frame
kvmp_frame_next(const uint8_t *data, size_t length, size_t max, size_t *size)
{
	*size = 0;
	if (length < KVMP_FRAME_HEADER)
		return KVMP_FRAME_PARTIAL;
	*size = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
	if (*size == 0 || *size > max)
		return KVMP_FRAME_BAD;
	return length - KVMP_FRAME_HEADER < *size ? KVMP_FRAME_PARTIAL : KVMP_FRAME_WHOLE;
}

void
kvmp_frame_header(uint8_t header[KVMP_FRAME_HEADER], size_t size)
{
	assert(size > 0 && size <= UINT32_MAX);
	for (unsigned i = 0; i < KVMP_FRAME_HEADER; i++)
		header[i] = (uint8_t)(size >> 8 * i);
}
