/*
 * schema - the tables of our SQLite files, as text that SQLite keeps.
 *
 * The comments are inside the statements, so that ".schema" of the sqlite3
 * shell shows them to whoever opens a file.
 */
#ifndef PERSIST_SCHEMA_H
#define PERSIST_SCHEMA_H

/* Version of the tables: PRAGMA user_version of a file, snapshot.format of a snapshot. */
#define PERSIST_FORMAT 3
#define PERSIST_FORMAT_JOURNAL 2 /* the first with a journal */
#define PERSIST_FORMAT_LISTS 3   /* the first with lists of pages in table mapping */
/* Added to the version in snapshot.format: of an adopted image, which programs that know of none take for newer. */
#define PERSIST_FORMAT_FOREIGN 0x100u

/* PRAGMA application_id, bytes 68 .. 71 of a file. */
#define PERSIST_ID_STATE 0x6b766d73    /* "kvms": database of a state directory */
#define PERSIST_ID_SNAPSHOT 0x6b766d66 /* "kvmf": one snapshot on its own */

/* Statements that make the tables and views in an empty database. */
extern const char persist_schema[];

/* Those of version 2, which a file of version 1 gets when it is opened for writing. */
extern const char persist_schema_journal[];

/* Those of version 3, which older files get in the same way. */
extern const char persist_schema_lists[];

#endif /* PERSIST_SCHEMA_H */
