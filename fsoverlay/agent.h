/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "fsoverlay/confinement.h"

/*
 * A process that does in the upper layer what the caller's own rights do not reach: give files to other ids of the box, and work
 * with those. It shares our table of descriptors, so directories and files are named by their numbers. All calls return 0 or
 * what they say, or a negative errno. Any thread may call; one call at a time is carried out.
 */
typedef struct Agent Agent;

/* What is to be counted for a limit (quota_count()), and what came of it. */
typedef struct {
        int upper, links; /* borrowed */
        guint64 bytes;
} AgentCount;

/* Fork it into the user namespace of userns_fd (borrowed; -1: one of its own). The process must have one thread still. life: a socket whose other
 * end closes when there is nobody left to start it for; -1: none. count may be NULL: before it begins it counts, since it may enter each directory of the
 * upper. files: what it may open, make, move and remove; NULL: all that its ids may. NULL with error. */
Agent *agent_start(int userns_fd, int life, const Confinement *files, AgentCount *count, GError **error);

int agent_open(Agent *a, int dir, const char *name, int flags, mode_t mode); /* the descriptor */
int agent_stat(Agent *a, int dir, const char *name, struct stat *ret); /* owners as the host has them */
int agent_link_fd(Agent *a, int fd, int to, const char *to_name);
/* dir -1, name NULL: of the descriptor fd, O_PATH or not. uid and gid are the box's; (uint32_t) -1: as it is. */
int agent_chown(Agent *a, int dir, const char *name, int fd, uint32_t uid, uint32_t gid);
int agent_utimens(Agent *a, int dir, const char *name, int fd, const struct timespec times[2]);
int agent_readlink(Agent *a, int dir, const char *name, char *ret, size_t size);
/* Of what stands at dir/name (never followed), or of fd. */
int agent_setxattr(Agent *a, int dir, const char *name, int fd, const char *xattr, const void *value, size_t size, int flags);
int agent_getxattr(Agent *a, int dir, const char *name, int fd, const char *xattr, void *ret, size_t size);
int agent_listxattr(Agent *a, int dir, const char *name, int fd, void *ret, size_t size);
int agent_removexattr(Agent *a, int dir, const char *name, int fd, const char *xattr);

/* The same by our own rights first, and by the agent's (fs->agent may be NULL) where those do not do. */
struct Fs;
int up_open(struct Fs *fs, int dir, const char *name, int flags, mode_t mode);
int up_stat(struct Fs *fs, int dir, const char *name, struct stat *ret); /* symlinks not followed */
/* dir -1, name NULL: of the descriptor fd, which may be one of O_PATH. */
int up_chmod(struct Fs *fs, int dir, const char *name, int fd, mode_t mode);
int up_mkdir(struct Fs *fs, int dir, const char *name, mode_t mode);
int up_mknod(struct Fs *fs, int dir, const char *name, mode_t mode, dev_t dev);
int up_symlink(struct Fs *fs, const char *target, int dir, const char *name);
int up_link(struct Fs *fs, int from, const char *from_name, int to, const char *to_name);
int up_unlink(struct Fs *fs, int dir, const char *name, int flags);
int up_rename(struct Fs *fs, int from, const char *from_name, int to, const char *to_name, unsigned flags);
