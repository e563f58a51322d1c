/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fsoverlay/fs.h"

/* What a file system is made of. Descriptors are borrowed; they stay in use. */
typedef struct {
        int upper, work;      /* directories; -1: read-only */
        const int *lowers;    /* topmost first */
        unsigned n_lowers;
        bool last_is_host;    /* the last lower is a live host tree: rules and others_eyes are asked of it, and it holds no marks */
        bool foreign;         /* the others, and an upper that usbox-fs has not begun, may hold marks of other drivers */
        const FsConfig *config; /* borrowed for good */
        bool noacl, fsync_ignored;
        int trace;            /* fd, taken; -1: none */
} FsParts;

/* Make it ready but for its lowers, of which the number has to be known. NULL with error. */
Fs *fs_open(const FsParts *parts, GError **error);

/* And with them, to be served on the descriptor dev (-1: it is not mounted yet). */
bool fs_add_lowers(Fs *fs, const FsParts *parts, int dev, GError **error);

/* The agent, in the user namespace userns (-1: one of its own), where there is an upper; and what is there already of a limit. life: the launcher's
 * wire; -1: there is none, and it goes without an agent where no user namespace can be had. Before there are threads, and before the
 * confinement. files: agent_start(). False with error. */
bool fs_start_agent(Fs *fs, const FsParts *parts, int userns, int life, const Confinement *files, GError **error);
