/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/*
 * Which file of the lower a file of an upper was copied from. Both drivers of a box's root note it where the box cannot: usbox-fs the inode number
 * (user.overlay.usbox.ino), the kernel a file handle (user.overlay.origin), or without CAP_DAC_READ_SEARCH that there is one.
 */

/* A set of files of the lower. */
typedef struct CopyOrigins CopyOrigins;
CopyOrigins *copy_origins_new(void);
void copy_origins_free(CopyOrigins *origins);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CopyOrigins, copy_origins_free)
void copy_origins_add(CopyOrigins *origins, int lower_fd);

/* The file of the upper (O_PATH) was copied from some file of the lower. */
bool copy_origin_of_upper(int upper_fd);

/* Its inode number; 0: it was not, or that is not told. */
guint64 copy_origin_ino(int upper_fd);

/* What of an inode number of the lower is told by that. */
guint64 copy_origin_number(guint64 ino);

/* And that is one of these. */
typedef enum { COPY_ORIGIN_NO, COPY_ORIGIN_YES, COPY_ORIGIN_UNKNOWN } CopyOriginKnown;
CopyOriginKnown copy_origins_have(const CopyOrigins *origins, int upper_fd);

/* What the upper has (O_PATH) was copied from what the lower has with this status, as far as inode numbers tell. */
CopyOriginKnown copy_origin_was(int upper_fd, const struct stat *lower);
