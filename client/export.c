/*
 * export - the state of a store, now or behind a step, as one file.
 */
#include "client/commands.h"
#include "client/export_json.h"
#include "client/outfile.h"
#include "client/session.h"
#include "client/state.h"

#include "persist/snapshot.h"

#include <string.h>

/* ---- SQLite ------------------------------------------------------------------------ */

static enum kvmctl_status
export_sqlite(struct kvmctl *k, struct kvms *s, const char *path)
{
	bool force = k->option[OPTION_force] != NULL;
	char why[PERSIST_WHY];
	enum persist_status saved;

	enum kvmctl_status status = kvmctl_outfile_check(path, force);
	if (status != KVMCTL_OK)
		return status;
	saved = force ? persist_file_save(path, kvmctl_store_name(k), s, NULL, why, sizeof why)
		      : persist_file_save_new(path, kvmctl_store_name(k), s, NULL, why, sizeof why);
	if (saved == PERSIST_OK)
		return KVMCTL_OK;
	kvmctl_complain("%s", why);
	return KVMCTL_UNREADABLE;
}

/* ---- JSON ----------------------------------------------------------------------------- */

static enum kvmctl_status
export_json(struct kvmctl *k, struct kvms *s, const char *path)
{
	struct kvmctl_outfile o;
	bool done;

	enum kvmctl_status status = kvmctl_outfile_open(&o, path, k->option[OPTION_force] != NULL);
	if (status != KVMCTL_OK)
		return status;
	done = kvmctl_export_json(s, kvmctl_store_name(k), o.file);
	if (!done)
		kvmctl_complain("no memory");
	status = kvmctl_outfile_close(&o, done);
	return done ? status : KVMCTL_UNREADABLE;
}

/* ---- The command ------------------------------------------------------------------------ */

/* Which forms were asked for, and where to. */
static enum kvmctl_status
check_words(const struct kvmctl *k)
{
	bool sqlite = k->option[OPTION_sqlite] != NULL;

	if (sqlite == k->json) {
		kvmctl_complain("which form? --sqlite FILE or --json FILE");
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
	struct kvms *s = NULL;

	enum kvmctl_status status = check_words(k);
	if (status == KVMCTL_OK)
		status = kvmctl_state_get(k, &s);
	if (status != KVMCTL_OK)
		return status;
	if (k->json)
		status = export_json(k, s, path);
	else
		status = export_sqlite(k, s, path);
	kvms_free(&s);
	return status;
}
