#include "client/progress.h"

#include <inttypes.h>
#include <string.h>

#define BAR 30u

static bool drawn;

void
kvmctl_progress_draw(const struct kvt_statistics *run)
{
	double seconds = (double)run->nanoseconds / 1e9;
	char bar[BAR + 1];
	unsigned filled = 0;

	if (run->bytes_total > 0)
		filled = (unsigned)(run->bytes_done * BAR / run->bytes_total);
	if (filled > BAR)
		filled = BAR;
	memset(bar, '.', BAR);
	memset(bar, '#', filled);
	bar[BAR] = '\0';
	fprintf(stderr, "\r[%s] %" PRIu64 " ops, %.0f a second ", bar, run->ops,
		seconds > 0 ? (double)run->ops / seconds : 0);
	fflush(stderr);
	drawn = true;
}

void
kvmctl_progress_clear(void)
{
	if (drawn)
		fprintf(stderr, "\r%*s\r", 78, "");
	drawn = false;
}

static ssize_t
write_clean(void *cookie, const char *bytes, size_t size)
{
	(void)cookie;
	kvmctl_progress_clear();
	return (ssize_t)fwrite(bytes, 1, size, stderr);
}

FILE *
kvmctl_progress_stream(void)
{
	cookie_io_functions_t functions = { .write = write_clean };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream != NULL)
		setvbuf(stream, NULL, _IOLBF, 0);
	return stream;
}
