/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Ids of files as the box sees them (those of its outer user namespace) and as the process does. */
typedef struct {
        const GArray *uidmap, *gidmap; /* of FsIdRange, borrowed; NULL or empty: they are the same */
        uid_t uid;                     /* of the process */
        gid_t gid;
        bool squash_uid, squash_gid;   /* everything is shown as these */
        uint32_t squash_to_uid, squash_to_gid;
} Ids;

/*
 * What a file of the host's owner shows in the box. An id that is not mapped keeps its number where the box has
 * one of that number ("root" is root, although of another user namespace), and else is the overflow id 65534, as
 * the kernel has it. What the box may do with such a file is not decided by this number alone: the process that opens it is the caller.
 */
uint32_t ids_uid_out(const Ids *ids, uid_t uid);
uint32_t ids_gid_out(const Ids *ids, gid_t gid);

/*
 * The group that a file shows. The kernel lets nobody write what has an id that its user namespace has not (inode_permission(), fs/namei.c), the
 * overflow id included: a box that has the caller's own id and group alone could not write what is the caller's, in a directory of a project's
 * group for example. Such a file shows the caller's group. As its owner he has the rights of the owner, whatever those of a group are.
 */
uint32_t ids_group_out(const Ids *ids, const struct stat *st);

/* The way back; false where the box's id is not mapped. */
bool ids_uid_in(const Ids *ids, uint32_t box, uid_t *ret);
bool ids_gid_in(const Ids *ids, uint32_t box, gid_t *ret);
