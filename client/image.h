/*
 * image - a file with the page tables of some kernel: what it holds, and a
 * foreign store made from it.
 *
 * Three forms, told by their first bytes: PTPAGES1 (as "dump-memory" writes
 * it), an ELF core whose segments have physical addresses (a dump of a
 * virtual machine), and, if the registers are given, physical memory as it
 * is.  Any may be compressed with xz.  Files are mapped, and of what is not
 * compressed only page-table pages are read.
 *
 * What a file says is not believed: whatever is wrong with it is counted, with
 * the offset where it stands, and what can still be read is.
 */
#ifndef KVMCTL_IMAGE_H
#define KVMCTL_IMAGE_H

#include "client/kvmctl.h"

/* What may be wrong with a file. */
enum kvmctl_image_flaw {
	KVMCTL_IMAGE_TRUNCATED, /* ends inside a page */
	KVMCTL_IMAGE_COUNT,     /* has another number of pages than it says */
	KVMCTL_IMAGE_ADDRESS,   /* an address that is no page's, or too high */
	KVMCTL_IMAGE_DUPLICATE, /* a page twice; the first counts */
	KVMCTL_IMAGE_ORDER,     /* addresses that do not ascend */
	KVMCTL_IMAGE_SEGMENT,   /* a segment of an ELF file that lies outside it */
	KVMCTL_IMAGE_FLAWS
};

const char *kvmctl_image_flaw_name(enum kvmctl_image_flaw flaw);
const char *kvmctl_image_flaw_text(enum kvmctl_image_flaw flaw);

#define KVMCTL_IMAGE_PLACES 8u /* of each kind */
#define KVMCTL_IMAGE_ROOTS 64u

struct kvmctl_image {
	const char *path;
	enum { KVMCTL_PTPAGES, KVMCTL_RAW, KVMCTL_ELF } format;
	const unsigned char *at; /* the bytes, decoded */
	size_t size;
	void *mapped; /* of the file, or NULL */
	size_t mapped_size;
	unsigned char *decoded;
	/* PTPAGES1: addresses ascending, and where each page's bytes are */
	uint64_t *pages;
	size_t *offsets;
	size_t pages_count;
	/* ELF: segments in the order of the file */
	struct kvmctl_segment {
		uint64_t paddr, size;
		size_t offset;
	} *segments;
	size_t segments_count;
	unsigned char page[KVMS_PAGE_SIZE]; /* one that a segment has only a part of */
	/* memory as it is: the address of its first byte */
	uint64_t base;
	/* what the file, the text beside it and the options say of the tables */
	enum kvms_machine machine;
	bool has_machine;
	unsigned levels; /* 0: not known */
	uint64_t max_paddr;
	uint64_t pat;
	uint64_t roots[KVMCTL_IMAGE_ROOTS];
	size_t roots_count;
	uint64_t flaws, count[KVMCTL_IMAGE_FLAWS];
	unsigned places;
	struct {
		enum kvmctl_image_flaw flaw;
		uint64_t offset;
		uint64_t value;
	} place[KVMCTL_IMAGE_PLACES * KVMCTL_IMAGE_FLAWS];
};

/*
 * Open an image and find out about its tables: from --cr3, --satp, --root,
 * --arch, --levels, --pat, --base and --memory if they are given, else from the file
 * and FILE.json.  Zero-initialise before; kvmctl_image_close() ends it.
 *
 * => fails with a status, having said why
 */
enum kvmctl_status kvmctl_image_open(struct kvmctl *k, const char *path, struct kvmctl_image *image);
void kvmctl_image_close(struct kvmctl_image *image);

/* Is the file an image that says so itself: PTPAGES1 or ELF, compressed or not? */
bool kvmctl_image_is(const char *path);

/* Make the store; NULL having said why. */
struct kvms *kvmctl_image_adopt(struct kvmctl_image *image);

/* Where a byte of memory stands in the (decoded) file; UINT64_MAX: nowhere. */
uint64_t kvmctl_image_offset(const struct kvmctl_image *image, uint64_t paddr);

#endif /* KVMCTL_IMAGE_H */
