/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/uio.h>

#include "fsoverlay/ops.h"

/*
 * What answers requests on fs->dev, which is mounted. server_new() answers the kernel's own first one (INIT), for which all others
 * wait: so soon after mounting. Then server_start() answers what has been asked, by the caller's thread, and starts the threads that go on; on
 * false all is over.
 */
typedef struct Server Server;
Server *server_new(Fs *fs, GError **error);
bool server_start(Server *server, unsigned threads, GError **error);
/* Answer one request, on fs->dev; what came is untrusted as far as its size and what is in it, not its node id. Any thread. */
void server_handle(Request *r);
/* Answer a request. Where the answer cannot be given an error is, and where not even that can, usbox-fs ends: who asked would wait for ever. */
void server_send(const Fs *fs, struct iovec *iov, int n);
/* For a thread that makes files for others: the umask is its own from now on. */
void server_take_umask(void);
/* Until the file system is unmounted (or the connection was aborted). Frees. */
void server_join(Server *server);
/* True once the kernel has said that the file system is gone; a descriptor that becomes readable then. */
int server_end_fd(const Server *server);
/* Requests by name of opcode, and what is held, as one JSON object on a line; the caller's. */
char *server_stats(Fs *fs);
