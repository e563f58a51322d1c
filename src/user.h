/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "option.h"

typedef enum { USERNS_AUTO, USERNS_SELF, USERNS_SUBIDS } UsernsMode;
typedef enum { GROUPS_KEEP, GROUPS_NONE } GroupsMode;

/* One line of an id map: count ids from box on are host ids from host on (user_namespaces(7)). */
typedef struct {
        guint32 box, host, count;
} IdRange;

typedef struct {
        /* as asked */
        UsernsMode mode;
        bool user_given;    /* --user */
        bool user_is_self;  /* default, or --user self */
        uid_t uid;          /* box ids of the payload; after user_check() always valid */
        gid_t gid;
        bool gid_given;
        GArray *uidmap, *gidmap; /* of IdRange: --uidmap/--gidmap; after user_check() the maps in force */
        bool maps_given;
        GroupsMode groups;
        /* filled by user_check() */
        bool subids; /* newuidmap and newgidmap write the maps (or, as real root, we do) */
} UserSpec;

extern const Option user_options[];
