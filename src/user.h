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

/* What root of a container that drops its capabilities lacks to map root (user_namespaces(7), as of Linux 5.12). */
#define USER_GIVE_ROOT "give it SETFCAP, SETUID and SETGID (docker, podman: --cap-add), or call usbox as another user"

extern const Option user_options[];

/* The defaults; and free what it owns. */
void user_init(UserSpec *s);
void user_clear(UserSpec *s);

/* Fills mode (never USERNS_AUTO), ids and the maps in force. Reads /etc/subuid and /etc/subgid where subids are chosen.
 */
bool user_check(Spec *draft, GError **error);

/* user_check() but for the reading: subuids and subgids are arrays of SubidRange (subid.h), or NULL where they were not
 * needed. */
bool user_build_maps(Spec *draft, const GArray *subuids, const GArray *subgids, GError **error);

/* Whether what was asked needs subordinate ids (before user_check(), too). auto also takes them for --overlay=fuse, where the
 * caller has some: after user_check() `subids` says what came out. */
bool user_wants_subids(const Spec *draft);

/* Maps of all ids that the caller may use, whatever those of a run are: to arrays of IdRange, the caller's own id as 0. Nothing is added where
 * it has no subordinate ones, or they cannot be mapped. */
bool user_all_ids(const Spec *spec, GArray *uidmap, GArray *gidmap, GError **error);

/* The draft asks for all of them, the caller as the box's root, or for the caller's own id where that is all there is. */
bool user_ask_all(Spec *draft, GError **error);

/* The host's id for a box id, false where it is not in the map (an array of IdRange). */
bool user_map_to_host(const GArray *map, guint32 box, guint32 *ret_host);

/* Of a map, the box ids that the lowest and the highest of its host ids have. */
void user_map_ends(const GArray *map, guint32 *ret_first, guint32 *ret_last);

/* "0-999=100000-100999 1000=1000": box ids and the host's, for people; the caller's. */
char *user_map_text(const GArray *map);
