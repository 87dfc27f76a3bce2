/*
 * watch - what one frame, one area or one virtual address goes through.
 *
 * A watch remembers what it saw behind the last step and compares it with the
 * state behind the next.  A step touched what is watched if that changed, or
 * if the step names it: as an argument, in its results, or by a range of
 * addresses in which it lies.
 *
 *	frame    slot, holders, every mapping with its property; named by address or by a
 *	         handle on it
 *	area     whether it is there, and the leaves in it; named by id, or by kernel
 *	         addresses that meet it while it is there
 *	address  what it reaches, in every table of its half; named by address
 *
 * Cost of a step that did not touch it: O(mappings of the frame), O(1), O(address spaces).
 */
#ifndef KVMCTL_WATCH_H
#define KVMCTL_WATCH_H

#include "client/leaves.h"
#include "persist/travel.h"
#include "trace/buffer.h"
#include "trace/value.h"

enum kvmctl_watched { KVMCTL_FRAME, KVMCTL_AREA, KVMCTL_VA, KVMCTL_WATCHED };

/* What a frame looked like. */
struct kvmctl_frame_look {
	struct kvms_outcome slot;     /* of request "frame" */
	struct kvms_outcome holders;  /* of request "who_holds" */
	struct kvmctl_leaves reached; /* one run of one page for each address that maps it */
};

/* What an area looked like. */
struct kvmctl_area_look {
	bool lives;
	uint64_t start, end;
	struct kvmctl_leaves leaves;
};

struct kvmctl_watch {
	enum kvmctl_watched kind;
	uint64_t key; /* paddr of the frame's first byte, id, or address */
	struct kvmctl_frame_look frame;
	struct kvmctl_area_look area;
	struct kvmctl_leaves reached; /* by the address */
	struct kvt_words spaces;      /* ids of the address spaces there are */
	bool nomem;

	/* what changed with the last step */
	unsigned changes;
	struct kvt_buffer text; /* a line for each */
	struct kvt_buffer json; /* objects, separated by commas */
};

/*
 * Begin with the state "s".
 *
 * => key: any byte of the frame
 * => gives true, and as changes what there is, compared with nothing
 * => fails with false: no memory, or with "key" no frame of the store
 */
bool kvmctl_watch_begin(struct kvmctl_watch *w, enum kvmctl_watched kind, uint64_t key, struct kvms *s);
void kvmctl_watch_end(struct kvmctl_watch *w);

/*
 * Look at the state "s" behind "step".
 *
 * => gives whether the step touched what is watched; w->nomem if memory ran out
 */
bool kvmctl_watch_step(struct kvmctl_watch *w, struct kvms *s, const struct persist_step *step);

#endif /* KVMCTL_WATCH_H */
