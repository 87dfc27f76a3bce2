/*
 * dump-memory - the page-table pages of a store as a memory image, with what
 * is needed to read it beside it.
 *
 * Two forms.  PTPAGES1: the 8 bytes "PTPAGES1", how many pages as a 64-bit
 * little-endian number, then for each page its address in the same form and
 * its 4096 bytes, addresses ascending.  Raw: a file of max_paddr bytes in
 * which every page stands at its address, with holes for the rest.
 */
#include "client/commands.h"
#include "client/outfile.h"
#include "client/source.h"

#include "trace/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dump {
	struct kvmctl *k;
	struct kvms *s;
	uint64_t table;
	uint64_t max_paddr;
	bool raw, all_memory;
	uint64_t pages;
	struct kvt_buffer new_path; /* written there, then put in place */
	FILE *out;
	int error;
};

/* ---- The image ------------------------------------------------------------------ */

static bool
count_page(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	struct dump *d = arg;

	(void)paddr;
	(void)bytes;
	d->pages++;
	return true;
}

static bool
put(struct dump *d, const void *bytes, size_t size)
{
	if (fwrite(bytes, 1, size, d->out) == size)
		return true;
	d->error = errno;
	return false;
}

static bool
put_number(struct dump *d, uint64_t number)
{
	unsigned char bytes[8];

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(number >> 8 * i);
	return put(d, bytes, sizeof bytes);
}

static bool
put_page(void *arg, uint64_t paddr, const unsigned char *bytes)
{
	struct dump *d = arg;

	if (d->raw && fseeko(d->out, (off_t)paddr, SEEK_SET) != 0) {
		d->error = errno;
		return false;
	}
	return (d->raw || put_number(d, paddr)) && put(d, bytes, KVMS_PAGE_SIZE);
}

static bool
put_image(struct dump *d)
{
	if (!kvms_pages(d->s, d->table, d->all_memory, count_page, d))
		return false;
	if (d->raw && ftruncate(fileno(d->out), (off_t)d->max_paddr) != 0) {
		d->error = errno;
		return false;
	}
	if (!d->raw && (!put(d, "PTPAGES1", 8) || !put_number(d, d->pages)))
		return false;
	return kvms_pages(d->s, d->table, d->all_memory, put_page, d);
}

/* ---- What is beside it ------------------------------------------------------------- */

/* The root as the machine's register has it: "cr3":"0x...", and so on. */
static void
put_register(struct kvt_buffer *b, const char *machine, unsigned levels, uint64_t root)
{
	if (strncmp(machine, "riscv64", 7) == 0) /* mode 8, 9, 10 = 3, 4, 5 levels; the root's page number */
		kvt_putf(b, "\"satp\":\"0x%" PRIx64 "\"", (uint64_t)(levels + 5) << 60 | root / KVMS_PAGE_SIZE);
	else
		kvt_putf(b, "\"%s\":\"0x%" PRIx64 "\"", strcmp(machine, "loongarch64") == 0 ? "pgd" : "cr3", root);
}

static void
put_table(const struct dump *d, struct kvt_buffer *b, uint64_t table, bool first)
{
	uint64_t root;

	if (!kvms_root(d->s, table, &root))
		return;
	kvt_puts(b, first ? "{\"table\":" : ",{\"table\":");
	kvt_json_value(b, KVMS_TABLE, table, NULL);
	kvt_putf(b, ",\"root\":\"0x%" PRIx64 "\",", root);
	put_register(b, kvms_machine_name(d->s), kvms_levels(d->s), root);
	kvt_putc(b, '}');
}

static void
describe(const struct dump *d, struct kvt_buffer *b)
{
	uint64_t first = d->table == KVMS_ALL_TABLES ? 0 : d->table, root = 0;

	kvt_putf(b,
		 "{\"format\":\"%s\",\"arch\":\"%s\",\"levels\":%u,\"max_paddr\":\"0x%" PRIx64 "\",\"pages\":%" PRIu64,
		 d->raw ? "raw" : "PTPAGES1", kvms_machine_name(d->s), kvms_levels(d->s), d->max_paddr, d->pages);
	(void)kvms_root(d->s, first, &root);
	kvt_putf(b, ",\"root\":\"0x%" PRIx64 "\",", root);
	put_register(b, kvms_machine_name(d->s), kvms_levels(d->s), root);
	if (kvms_pat(d->s) != 0)
		kvt_putf(b, ",\"pat\":\"0x%" PRIx64 "\"", kvms_pat(d->s));
	kvt_puts(b, ",\"tables\":[");
	put_table(d, b, first, true);
	for (uint64_t id = d->table == KVMS_ALL_TABLES ? kvms_next_space(d->s, 0) : 0; id != 0;
	     id = kvms_next_space(d->s, id))
		put_table(d, b, id, false);
	kvt_putf(b, "],\"step\":%" PRIu64 ",\"digest\":\"0x%016" PRIx64 "\"}", kvms_steps(d->s), kvms_digest(d->s));
}

/* ---- Files --------------------------------------------------------------------------- */

static enum kvmctl_status
fail(const struct dump *d, const char *path)
{
	if (d->error != 0)
		kvmctl_complain("%s: %s", path, strerror(d->error));
	else
		kvmctl_complain("no memory");
	return KVMCTL_UNREADABLE;
}

/* Write a file beside "path" with "write", and put it in place. */
static enum kvmctl_status
replace(struct dump *d, const char *path, bool (*write)(struct dump *d))
{
	int fd;

	kvt_buffer_reset(&d->new_path);
	kvt_putf(&d->new_path, "%s.new-%ld", path, (long)getpid());
	if (d->new_path.failed)
		return fail(d, path);
	fd = open(d->new_path.at, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	d->out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (d->out == NULL) {
		d->error = errno;
		if (fd >= 0)
			close(fd);
		return fail(d, path);
	}
	bool written = write(d);
	if (fclose(d->out) != 0 && written) {
		d->error = errno;
		written = false;
	}
	if (written && rename(d->new_path.at, path) != 0) {
		d->error = errno;
		written = false;
	}
	if (written)
		return KVMCTL_OK;
	(void)unlink(d->new_path.at);
	return fail(d, path);
}

static bool
put_description(struct dump *d)
{
	struct kvt_buffer b = { 0 };
	bool done;

	describe(d, &b);
	kvt_putc(&b, '\n');
	done = !b.failed && put(d, b.at, b.size);
	kvt_buffer_free(&b);
	return done;
}

static void
tell(const struct dump *d)
{
	struct kvt_buffer b = { 0 };
	uint64_t root = 0;

	if (d->k->json) {
		describe(d, &b);
		puts(kvt_buffer_text(&b));
		kvt_buffer_free(&b);
	} else if (!d->k->quiet) {
		(void)kvms_root(d->s, d->table == KVMS_ALL_TABLES ? 0 : d->table, &root);
		printf("pages=%" PRIu64 " arch=%s levels=%u root=0x%" PRIx64 " max_paddr=0x%" PRIx64 "\n", d->pages,
		       kvms_machine_name(d->s), kvms_levels(d->s), root, d->max_paddr);
	}
}

static enum kvmctl_status
dump(struct dump *d)
{
	const char *path = d->k->argv[0];
	struct kvt_buffer beside = { 0 };
	enum kvmctl_status status;

	status = replace(d, path, put_image);
	if (status == KVMCTL_OK) {
		kvt_putf(&beside, "%s.json", path);
		status = beside.failed ? fail(d, path) : replace(d, beside.at, put_description);
	}
	if (status == KVMCTL_OK)
		tell(d);
	kvt_buffer_free(&beside);
	kvt_buffer_free(&d->new_path);
	return status;
}

enum kvmctl_status
kvmctl_dump_memory(struct kvmctl *k)
{
	struct kvmctl_source source = { 0 };
	struct dump d = { .k = k,
			  .raw = k->option[OPTION_raw] != NULL,
			  .all_memory = k->option[OPTION_all_memory] != NULL };

	if (strcmp(k->argv[0], "-") == 0) {
		kvmctl_complain("dump-memory writes two files, FILE and FILE.json: standard output is none");
		return KVMCTL_USAGE;
	}
	enum kvmctl_status status = kvmctl_outfile_spare(k->argv[0]);
	if (status == KVMCTL_OK)
		status = kvmctl_source_open(k, &source);
	if (status != KVMCTL_OK)
		return status;
	d.s = source.s;
	d.max_paddr = kvms_config(d.s)->arg[kvms_arg_index(kvms_store_row(), "max_paddr")];
	status = kvmctl_source_table(k, &source, KVMS_ALL_TABLES, true, &d.table);
	if (status == KVMCTL_OK)
		status = dump(&d);
	kvmctl_source_close(&source);
	return status;
}
