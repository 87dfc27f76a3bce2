#include "persist/thin.h"

void
persist_thin(struct persist_mark *marks, size_t count, uint64_t newest, unsigned keep)
{
	size_t recent = count; /* from here on all stay */
	const struct persist_mark *before = NULL;

	for (unsigned others = 1; recent > 0 && (others < keep || marks[recent - 1].held);)
		others += !marks[--recent].held;
	for (size_t i = 0; i < count; i++) {
		struct persist_mark *m = &marks[i];
		uint64_t next = i + 1 < count ? marks[i + 1].step : newest;

		m->drop = !m->held && i < recent &&
			  (m->useless || (before != NULL && next - before->step <= newest - next));
		if (!m->drop && !m->useless)
			before = m;
	}
}
