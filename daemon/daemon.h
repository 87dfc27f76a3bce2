/*
 * daemon - kvmstored: many clients, named stores, one thread.
 *
 * The life of the process, top to bottom: settings, socket, state directory,
 * event loop until SIGTERM or SIGINT, snapshots.
 */
#ifndef KVMD_DAEMON_H
#define KVMD_DAEMON_H

/* The program.  Gives the exit status: 0 ended as told, 1 could not start or save, 2 wrong settings. */
int kvmd_main(int argc, char **argv);

#endif /* KVMD_DAEMON_H */
