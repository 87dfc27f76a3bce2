#include "client/mappings.h"

#include "client/commands.h"
#include "client/source.h"
#include "client/output.h"

#include "trace/buffer.h"

#include <inttypes.h>
#include <string.h>

struct print {
	bool is_x86, json;
	struct kvt_buffer text;
	FILE *out;
	bool failed;
};

#define FLUSH_SIZE 60000u

/*
 * Flags of a leaf.  x86: r w x u or k, g, c (PCD), t (PWT), a, d; others: r w
 * x u g a d.  r, w, x and u are what all levels leave.
 */
static void
put_flags(struct print *p, const struct kvms_leaf *leaf)
{
	struct kvt_buffer *b = &p->text;

	kvt_putc(b, (leaf->prop & KVMS_PROP_R) != 0 ? 'r' : '-');
	kvt_putc(b, (leaf->prop & KVMS_PROP_W) != 0 ? 'w' : '-');
	kvt_putc(b, (leaf->prop & KVMS_PROP_X) != 0 ? 'x' : '-');
	kvt_putc(b, (leaf->prop & KVMS_PROP_USER) != 0 ? 'u' : p->is_x86 ? 'k' : '-');
	kvt_putc(b, (leaf->prop & KVMS_PROP_GLOBAL) != 0 ? 'g' : '-');
	if (p->is_x86) {
		kvt_putc(b, (leaf->word >> 4 & 1) != 0 ? 'c' : '-');
		kvt_putc(b, (leaf->word >> 3 & 1) != 0 ? 't' : '-');
	}
	kvt_putc(b, (leaf->prop & KVMS_PROP_A) != 0 ? 'a' : '-');
	kvt_putc(b, (leaf->prop & KVMS_PROP_D) != 0 ? 'd' : '-');
}

static bool
flush(struct print *p)
{
	p->failed |= p->text.failed || fwrite(kvt_buffer_text(&p->text), 1, p->text.size, p->out) != p->text.size;
	kvt_buffer_reset(&p->text);
	return !p->failed;
}

static bool
put_leaf(void *arg, const struct kvms_leaf *leaf)
{
	struct print *p = arg;
	struct kvt_buffer *b = &p->text;

	kvt_puts(b, p->json ? "{\"va\":\"" : "");
	kvt_put_hex(b, leaf->va);
	kvt_puts(b, p->json ? "\",\"pa\":\"" : ",");
	kvt_put_hex(b, leaf->paddr);
	kvt_puts(b, p->json ? "\",\"size\":" : ",");
	kvt_put_dec(b, leaf->size);
	kvt_puts(b, p->json ? ",\"entry\":\"" : ",");
	kvt_put_hex(b, leaf->word);
	kvt_puts(b, p->json ? "\",\"flags\":\"" : ",");
	put_flags(p, leaf);
	kvt_puts(b, p->json ? "\"}\n" : "\n");
	return b->size < FLUSH_SIZE || flush(p);
}

enum kvmctl_status
kvmctl_mappings_print(const struct kvmctl *k, struct kvms *s, FILE *out)
{
	const struct kvmctl_source source = { .s = s };
	struct print p = { .is_x86 = strncmp(kvms_machine_name(s), "x86", 3) == 0, .json = k->json, .out = out };
	uint64_t table;

	enum kvmctl_status status = kvmctl_source_table(k, &source, 0, false, &table);
	if (status != KVMCTL_OK)
		return status;
	if (!k->json)
		kvt_puts(&p.text, "va,pa,size,entry,flags\n");
	(void)kvms_leaves(s, table, put_leaf, &p);
	(void)flush(&p);
	if (p.text.failed) {
		kvmctl_complain("no memory");
		status = KVMCTL_UNREADABLE;
	}
	kvt_buffer_free(&p.text);
	return status; /* whoever closes "out" sees whether it took all */
}

enum kvmctl_status
kvmctl_mappings(struct kvmctl *k)
{
	struct kvmctl_source source = { 0 };
	struct kvmctl_output o;
	enum kvmctl_status status = kvmctl_source_open(k, &source), closed;

	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_output_open(&o, k->option[OPTION_output]);
	if (status == KVMCTL_OK) {
		status = kvmctl_mappings_print(k, source.s, o.file);
		closed = kvmctl_output_close(&o, status != KVMCTL_USAGE);
		status = closed != KVMCTL_OK ? closed : status;
	}
	kvmctl_source_close(&source);
	return status;
}
