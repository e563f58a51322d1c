/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fsoverlay/config.h"
#include "helper.h"
#include "spec.h"

/* How long is waited for what usbox-fs still has to do at the end of a run. What the kernel holds back of a box's writes is bounded (it
 * is strict with FUSE), but a slow disk is slow. */
#define FS_HELPER_FLUSH_MS 30000

/* usbox-fs of one box, from the launcher's side. */
typedef struct {
        Helper helper;
        bool mounted; /* it has been given the mount: its end is the mount's */
        bool ready;   /* it serves, confined */
} FsHelper;

/* Start usbox-fs; box_fd is the box's directory, or -1 for a root that cannot be written. Opens --trace-files. */
bool fs_helper_start(const Spec *spec, int box_fd, FsHelper *ret, GError **error);

/* Tell it what to serve: the plan's rules, and what the Spec says. The directories in the box's directory are there by now. */
bool fs_helper_configure(FsHelper *h, const Spec *spec, FsConfig *config, GError **error);

/* Pass on what FS_FDS had. */
bool fs_helper_mount(FsHelper *h, const WireMessage *fds, GError **error);

/* Something came on its wire (or its end): READY, or its error. */
bool fs_helper_dispatch(FsHelper *h, GError **error);

/* It has ended, as it does with its mount, and the child, whose mount it is, with it; or does so within some moments. */
bool fs_helper_ended_with(const FsHelper *h, int child_pidfd);

/* It has ended or said why it will, or does so within some moments: as *error. False where it goes on. For an error of somebody
 * else that may come of that. */
bool fs_helper_is_the_reason(FsHelper *h, int errnum, GError **error);

/*
 * The box's processes are gone, its mount namespace is let go of: wait until usbox-fs has written what the kernel still had for it,
 * which its end says. Not for ever. False with error where it ended in any other way, so that upper/ may lack something.
 */
bool fs_helper_finish(FsHelper *h, GError **error);
