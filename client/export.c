/*
 * export - the state of a store, now or behind a step, as one file.
 */
#include "client/commands.h"
#include "client/export_json.h"
#include "client/outfile.h"
#include "client/state.h"

#include "persist/snapshot.h"
#include "trace/listing.h"

#include <string.h>

/* ---- SQLite ------------------------------------------------------------------------ */

static enum kvmctl_status
export_sqlite(struct kvmctl *k, struct kvms *s, const char *name, const char *path)
{
	bool force = k->option[OPTION_force] != NULL;
	char why[PERSIST_WHY];
	enum persist_status saved;

	enum kvmctl_status status = kvmctl_outfile_check(path, force);
	if (status != KVMCTL_OK)
		return status;
	saved = force ? persist_file_save(path, name, s, NULL, why, sizeof why)
		      : persist_file_save_new(path, name, s, NULL, why, sizeof why);
	if (saved == PERSIST_OK)
		return KVMCTL_OK;
	kvmctl_complain("%s", why);
	return KVMCTL_UNREADABLE;
}

/* ---- JSON ----------------------------------------------------------------------------- */

static enum kvmctl_status
export_json(struct kvmctl *k, struct kvms *s, const char *name, const char *path)
{
	struct kvmctl_outfile o;
	bool done;

	enum kvmctl_status status = kvmctl_outfile_open(&o, path, k->option[OPTION_force] != NULL);
	if (status != KVMCTL_OK)
		return status;
	done = kvmctl_export_json(s, name, o.file);
	if (!done)
		kvmctl_complain("no memory");
	status = kvmctl_outfile_close(&o, done);
	return done ? status : KVMCTL_UNREADABLE;
}

/* ---- Listings ---------------------------------------------------------------------------- */

static enum kvmctl_status
unknown_form(const char *name)
{
	char names[160] = "";

	for (unsigned i = 0; i < KVT_FORMS; i++) {
		size_t size = strlen(names);

		snprintf(names + size, sizeof names - size, "%s%s", i > 0 ? ", " : "", kvt_form_name((enum kvt_form)i));
	}
	kvmctl_complain("no form \"%s\": there are %s", name, names);
	return KVMCTL_USAGE;
}

static enum kvmctl_status
print_listing(struct kvmctl *k, enum kvt_form form, const char *path)
{
	struct kvmctl_session s = { 0 };
	struct kvmctl_outfile o;
	char error[256];
	uint64_t table;

	enum kvmctl_status status = kvmctl_state_table(k, &table);
	if (status == KVMCTL_OK)
		status = kvmctl_state_open(k, &s);
	if (status != KVMCTL_OK)
		return status;
	status = kvmctl_outfile_open(&o, path, k->option[OPTION_force] != NULL);
	if (status == KVMCTL_OK) {
		enum kvt_status printed = kvt_listing_print(form, s.target, table, o.file, error, sizeof error);

		if (printed == KVT_INVALID && error[0] != '\0') {
			kvmctl_complain("%s", error);
			status = KVMCTL_USAGE;
		} else if (printed != KVT_DONE) {
			status = kvmctl_complain_target(&s, printed);
		}
		enum kvmctl_status closed = kvmctl_outfile_close(&o, status == KVMCTL_OK);
		status = status == KVMCTL_OK ? closed : status;
	}
	kvmctl_session_close(&s);
	return status;
}

/* ---- The command ------------------------------------------------------------------------ */

/* Which forms were asked for, and where to. */
static enum kvmctl_status
check_words(const struct kvmctl *k)
{
	bool sqlite = k->option[OPTION_sqlite] != NULL, as = k->option[OPTION_as] != NULL;

	if (sqlite + k->json + as != 1) {
		kvmctl_complain("which form? one of --sqlite FILE, --json FILE, --as FORM FILE");
		return KVMCTL_USAGE;
	}
	if (!as && k->option[OPTION_table] != NULL) {
		kvmctl_complain("--table goes with --as: the other forms have all tables");
		return KVMCTL_USAGE;
	}
	if (sqlite && (k->argc == 0 || strcmp(k->argv[0], "-") == 0)) {
		kvmctl_complain("--sqlite needs a file: a database does not go to standard output");
		return KVMCTL_USAGE;
	}
	return KVMCTL_OK;
}

enum kvmctl_status
kvmctl_export(struct kvmctl *k)
{
	const char *path = k->argc > 0 ? k->argv[0] : "-";
	char name[KVMCTL_STORE_NAME];
	struct kvms *s = NULL;

	enum kvmctl_status status = check_words(k);
	if (status == KVMCTL_OK && k->option[OPTION_as] != NULL) {
		enum kvt_form form = kvt_form_find(k->option[OPTION_as]);

		return form == KVT_FORMS ? unknown_form(k->option[OPTION_as]) : print_listing(k, form, path);
	}
	if (status == KVMCTL_OK)
		status = kvmctl_state_get(k, &s, name);
	if (status != KVMCTL_OK)
		return status;
	if (k->json)
		status = export_json(k, s, name, path);
	else
		status = export_sqlite(k, s, name, path);
	kvms_free(&s);
	return status;
}
