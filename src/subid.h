/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* One line of /etc/subuid or /etc/subgid (subuid(5)): count ids from start on. start + count is at most 2^32 - 1. */
typedef struct {
        guint32 start, count;
} SubidRange;

/*
 * The ranges of the user (lines with the name, or with uid as a number) in text, in the order they stand; name NULL:
 * everybody's. Lines that make no sense are passed over, as shadow's own readers do. An array of SubidRange, the
 * caller's.
 */
GArray *subid_parse(const char *text, const char *name, uid_t uid);

/* subid_parse() of the file path; a missing file is an empty one. NULL with error. */
GArray *subid_read(const char *path, const char *name, uid_t uid, GError **error);

/* The ids that a user namespace has, from the text of its uid_map or gid_map (user_namespaces(7)). The caller's. */
GArray *subid_parse_map(const char *text);

/* A start for 65536 new ids that overlaps no range in text_uid or text_gid (contents of the two files): the usual
 * 100000 + n * 65536; 0 where nothing is free. */
guint32 subid_propose(const char *text_uid, const char *text_gid);

/*
 * What of ranges may go into one id map beside the ids self: without overlaps among themselves (the kernel refuses
 * them) and without self. An array of SubidRange, the caller's.
 */
GArray *subid_distinct(const GArray *ranges, guint32 self);

/* Whether start .. start + count - 1 lies in one of ranges as a whole, or (newuidmap takes that) in neighbouring ones.
 */
bool subid_contains(const GArray *ranges, guint32 start, guint32 count);
