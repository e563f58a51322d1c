/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/statvfs.h>

/*
 * --disk: what the upper may take, in bytes as they are allocated (st_blocks * 512) of all that is in it: files, directories, symlinks, with their attributes,
 * as du(1) counts them, itself too; a file with several names counts once.
 *
 * All functions but the first two are for any number of threads at once and take NULL for "no limit".
 */
typedef struct Quota Quota;

/* Count what is in the directory upper_fd (of that file system alone) already, sizes and depth as hostile as they like, and in links_fd, where more names of
 * the same files are (-1: there is none); both are borrowed. Nothing else may rename there meanwhile. False with error where a directory cannot be
 * read: who may read all of them has to count. */
bool quota_count(int upper_fd, int links_fd, guint64 *ret_bytes, GError **error);

/* A limit, and what of it is used: counted by quota_count() here, NULL with error; or known to the caller. used may be beyond the limit. */
Quota *quota_new(guint64 limit, int upper_fd, int links_fd, GError **error);
Quota *quota_new_used(guint64 limit, guint64 used);
void quota_free(Quota *quota);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Quota, quota_free)

/* Take bytes before they are written; false (nothing is taken) where that would go beyond the limit: ENOSPC or EDQUOT. */
bool quota_reserve(Quota *quota, guint64 bytes);

/* Give back what was reserved or has been freed. */
void quota_release(Quota *quota, guint64 bytes);

/* What was done took that much more (less, if negative) than was reserved for it. What is on the disk counts, beyond the limit too. */
void quota_adjust(Quota *quota, gint64 delta);

/* Bytes in use; 0 without a limit. */
guint64 quota_used(const Quota *quota);

/* Bytes that are left of the limit. */
guint64 quota_room(const Quota *quota);

/* Make sizes in *st, of the upper's file system, those of the limit: f_blocks the limit, f_bfree and f_bavail what is left of it and can be had. */
void quota_statfs(const Quota *quota, struct statvfs *st);
