/*
 * wal - the end of SQLite's log, judged before SQLite reads it.
 *
 *	log   = head  frame ...              frames of the size of a page and 24 bytes
 *	head  = magic version page-size sequence salt salt checksum checksum
 *	frame = page commit salt salt checksum checksum  page
 *
 * Big-endian words.  Each checksum goes on from the one before, so a frame that
 * is not what was written ends what SQLite takes from the log: silently, as if
 * it had never been longer.  A frame with "commit" not 0 ends a transaction.
 *
 * A transaction is forced to the disk before the next one begins.  So what a
 * crash leaves behind the last whole transaction belongs to one transaction at
 * most, which nobody was told of; that may go.  If two or more follow a broken
 * frame, the disk has lost what it had promised to keep.
 */
#ifndef PERSIST_WAL_H
#define PERSIST_WAL_H

#include "persist/db.h"

/*
 * Judge the log of the database at "path".
 *
 * => needs: nobody writes to it
 * => gives in *torn the bytes of the current log behind its last whole
 *    transaction, 0 if there are none, or no log
 * => fails with PERSIST_REFUSED if whole transactions follow a broken frame, or
 *    the head is damaged and something follows it; PERSIST_FAILED; never writes
 */
enum persist_status persist_wal_judge(const char *path, uint64_t *torn, const struct report *r);

#endif /* PERSIST_WAL_H */
