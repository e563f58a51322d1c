/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who the payload is, and the id maps of the box: options, and the decision.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); user-map.c writes
 * what is decided here.
 *
 * Two layouts with subordinate ids. For a payload that is root, box id 0 is the caller, 1 and up are the subordinate
 * ids in their order. For any other payload the caller keeps its own number (its files, its name in /etc/passwd) and
 * the subordinate ids lie around it. Without subordinate ids the box has one id alone, the payload's, which is the
 * caller.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "spec.h"
#include "subid.h"

#define SUBUID "/etc/subuid"
#define SUBGID "/etc/subgid"
#define ID_END G_GUINT64_CONSTANT(4294967295)
#define MAP_LINES_MAX 340 /* UID_GID_MAP_MAX_EXTENTS of the kernel */
#define SUBID_FILE_MAX (64 * 1024 * 1024)
#define MAP_FILE_MAX 65536 /* 340 lines */

static bool apply_user(Spec *draft, const char *const *values, GError **error) {
        UserSpec *s = &draft->user;
        const char *text = values[0], *colon = strchr(text, ':');
        g_autofree char *uid = colon ? g_strndup(text, (gsize) (colon - text)) : g_strdup(text);

        s->user_is_self = g_str_equal(text, "self");
        s->gid_given = false;
        s->uid = s->gid = 0;
        if (s->user_is_self || g_str_equal(text, "root"))
                return true;
        if (!g_ascii_isdigit(*uid)) {
                g_autofree char *quoted = err_quote(text);
                err_usage(error, "--user: '%s' is not self, root or UID[:GID] in numbers", quoted);
                return err_hint(error, "id says the number of a user of this machine: id -u NAME");
        }
        if (!option_id("--user", uid, &s->uid, error))
                return false;
        s->gid_given = colon != NULL;
        return !colon || option_id("--user", colon + 1, &s->gid, error);
}

static bool apply_userns(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--userns", values[0], "auto|self|subids", &place, error))
                return false;
        draft->user.mode = (UsernsMode) place;
        return true;
}

static bool apply_map(const char *option, GArray *map, const char *text, GError **error) {
        g_auto(GStrv) fields = g_strsplit(text, ":", 4);
        guint64 box, host, count;

        if (g_strv_length(fields) != 3 || !option_digits(fields[0], ID_END - 1, &box) ||
            !option_digits(fields[1], ID_END - 1, &host) || !option_digits(fields[2], ID_END, &count) || count == 0 ||
            box + count > ID_END || host + count > ID_END) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "%s: '%s' is not BOX:HOST:COUNT with ids below 4294967295", option, quoted);
        }
        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                if ((box < (guint64) r->box + r->count && r->box < box + count) ||
                    (host < (guint64) r->host + r->count && r->host < host + count))
                        return err_usage(error, "%s: %s overlaps %u:%u:%u", option, text, r->box, r->host, r->count);
        }
        if (map->len == MAP_LINES_MAX)
                return err_usage(error, "%s: the kernel takes at most %d lines", option, MAP_LINES_MAX);
        IdRange range = { .box = (guint32) box, .host = (guint32) host, .count = (guint32) count };
        g_array_append_val(map, range);
        return true;
}

static bool apply_uidmap(Spec *draft, const char *const *values, GError **error) {
        draft->user.maps_given = true;
        return apply_map("--uidmap", draft->user.uidmap, values[0], error);
}

static bool apply_gidmap(Spec *draft, const char *const *values, GError **error) {
        draft->user.maps_given = true;
        return apply_map("--gidmap", draft->user.gidmap, values[0], error);
}

static bool apply_groups(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--groups", values[0], "keep|none", &place, error))
                return false;
        draft->user.groups = (GroupsMode) place;
        return true;
}

const Option user_options[] = {
        { .name = "user",
          .short_name = 'u',
          .arg = "self|root|UID[:GID]",
          .group = OPTION_USER,
          .complete = COMPLETE_USER,
          .choices = "self|root",
          .help = "who the command is in the box: you (default), its root, or a number; GID: by default the same "
                  "number",
          .apply = apply_user },
        { .name = "userns",
          .arg = "auto|self|subids",
          .group = OPTION_USER,
          .complete = COMPLETE_CHOICES,
          .choices = "auto|self|subids",
          .help = "ids in the box: your own alone, your ranges of /etc/subuid too, or (auto) those only where needed",
          .apply = apply_userns },
        { .name = "uidmap",
          .arg = "BOX:HOST:COUNT",
          .group = OPTION_USER,
          .flags = OPTION_LIST,
          .help = "COUNT user ids from BOX on are the host's from HOST on; your own must be among them",
          .apply = apply_uidmap },
        { .name = "gidmap",
          .arg = "BOX:HOST:COUNT",
          .group = OPTION_USER,
          .flags = OPTION_LIST,
          .help = "group ids, in the same way",
          .apply = apply_gidmap },
        { .name = "groups",
          .arg = "keep|none",
          .group = OPTION_USER,
          .complete = COMPLETE_CHOICES,
          .choices = "keep|none",
          .help = "keep your supplementary groups (default), or drop them",
          .apply = apply_groups },
        { 0 },
};

void user_init(UserSpec *s) {
        s->mode = USERNS_AUTO;
        s->user_is_self = true;
        s->groups = GROUPS_KEEP;
        s->uidmap = g_array_new(FALSE, FALSE, sizeof(IdRange));
        s->gidmap = g_array_new(FALSE, FALSE, sizeof(IdRange));
}

void user_clear(UserSpec *s) {
        g_clear_pointer(&s->uidmap, g_array_unref);
        g_clear_pointer(&s->gidmap, g_array_unref);
}

bool user_map_to_host(const GArray *map, guint32 box, guint32 *ret_host) {
        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                if (box >= r->box && box - r->box < r->count) {
                        *ret_host = r->host + (box - r->box);
                        return true;
                }
        }
        return false;
}

void user_map_ends(const GArray *map, guint32 *ret_first, guint32 *ret_last) {
        guint64 low = G_MAXUINT64, high = 0;

        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                guint64 last = (guint64) r->host + r->count - 1;
                if (r->host < low) {
                        low = r->host;
                        *ret_first = r->box;
                }
                if (last >= high) {
                        high = last;
                        *ret_last = r->box + (r->count - 1);
                }
        }
}

static void append_range(GString *out, guint32 start, guint32 count) {
        g_string_append_printf(out, count > 1 ? "%u-%u" : "%u", start, start + count - 1);
}

char *user_map_text(const GArray *map) {
        GString *out = g_string_new(NULL);

        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                if (i > 0)
                        g_string_append_c(out, ' ');
                append_range(out, r->box, r->count);
                g_string_append_c(out, '=');
                append_range(out, r->host, r->count);
        }
        return g_string_free(out, FALSE);
}

/* Fill the box ids from .. end (exclusive) with what is left of pool, one piece after the other. */
static void take_from_pool(GArray *map, GArray *pool, guint64 from, guint64 end) {
        while (from < end && pool->len > 0 && map->len < MAP_LINES_MAX - 1) {
                SubidRange *piece = &g_array_index(pool, SubidRange, 0);
                guint32 count = (guint32) MIN((guint64) piece->count, end - from);
                IdRange line = { .box = (guint32) from, .host = piece->start, .count = count };

                g_array_append_val(map, line);
                from += count;
                piece->start += count;
                piece->count -= count;
                if (piece->count == 0)
                        g_array_remove_index(pool, 0);
        }
}

/* One map of a layout: the caller's id at the box id place, ranges around it. */
static void lay_out(GArray *map, guint32 place, guint32 self, const GArray *ranges) {
        g_autoptr(GArray) pool = subid_distinct(ranges, self);
        IdRange own = { .box = place, .host = self, .count = 1 };

        take_from_pool(map, pool, 0, place);
        g_array_append_val(map, own);
        take_from_pool(map, pool, (guint64) place + 1, ID_END);
}

bool user_wants_subids(const Spec *draft) {
        const UserSpec *s = &draft->user;

        if (s->mode != USERNS_AUTO)
                return s->mode == USERNS_SUBIDS;
        if (s->maps_given || s->user_is_self)
                return s->maps_given;
        return s->uid != draft->caller.uid || (s->gid_given && s->gid != draft->caller.gid);
}

/* Whether auto takes subordinate ids where they can be had: usbox-fs shows files of the system's ids as theirs, for which the box
 * must have such ids, and keeps what the box gives away to one of them; and it is the box's 0 that may write its settings of IPC. */
static bool gains_by_subids(const Spec *draft) {
        return draft->user.mode == USERNS_AUTO && (draft->root.overlay == OVERLAY_FUSE || process_has_ipc_sysctl(&draft->process));
}

/* What newuidmap and newgidmap would refuse: each line must be the caller's own id or lie in its ranges. */
static bool check_asked_map(const Spec *draft, const char *option, const GArray *map, guint32 self,
                            const GArray *ranges, const char *file, GError **error) {
        bool has_self = false;

        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                if (self >= r->host && self - r->host < r->count)
                        has_self = true;
                if (draft->caller.uid == 0 || (r->host == self && r->count == 1) ||
                    subid_contains(ranges, r->host, r->count))
                        continue;
                g_autofree char *name = err_quote(draft->caller.name);
                err_usage(error, "%s: host ids %u-%u are neither your own (%u) nor given to '%s' in %s", option, r->host,
                          r->host + (r->count - 1), self, name, file);
                return err_hint(error, "grep ^%s: %s says which are yours: NAME:FIRST:COUNT", name, file);
        }
        if (!has_self) {
                err_usage(error, "%s: your own id %u is not among the host ids", option, self);
                return err_hint(error, "add %s BOX:%u:1: what the box is built from is yours", option, self);
        }
        return true;
}

static bool check_in_map(const GArray *map, guint32 id, const char *what, GError **error) {
        guint32 host;

        if (user_map_to_host(map, id, &host))
                return true;
        g_autofree char *text = user_map_text(map);
        err_usage(error, "--user: %s %u is not in the box's %s map: %s", what, id, what, text);
        return err_hint(error, "take a number of that map (BOX=HOST), or give it a host id by --%smap", what);
}

static bool self_alone(Spec *draft, GError **error) {
        UserSpec *s = &draft->user;

        if (s->maps_given)
                return err_usage(error, "--userns=self and --uidmap or --gidmap: your own id alone needs no map");
        if (s->groups == GROUPS_NONE) {
                err_usage(error,
                          "--groups=none: the kernel lets no one drop groups where the box has the caller's id alone");
                return err_hint(error, "add --userns=subids");
        }
        IdRange uid = { .box = s->uid, .host = draft->caller.uid, .count = 1 };
        IdRange gid = { .box = s->gid, .host = draft->caller.gid, .count = 1 };
        g_array_append_val(s->uidmap, uid);
        g_array_append_val(s->gidmap, gid);
        return true;
}

bool user_build_maps(Spec *draft, const GArray *subuids, const GArray *subgids, GError **error) {
        UserSpec *s = &draft->user;
        const Caller *caller = &draft->caller;

        if (s->user_is_self) {
                s->uid = caller->uid;
                s->gid = caller->gid;
        } else if (!s->gid_given)
                s->gid = s->uid == caller->uid && s->uid != 0 ? caller->gid : s->uid;

        s->subids = user_wants_subids(draft) ||
                    (gains_by_subids(draft) && subuids && subuids->len > 0 && subgids && subgids->len > 0);
        s->mode = s->subids ? USERNS_SUBIDS : USERNS_SELF;
        if (!s->subids)
                return self_alone(draft, error);

        bool root = s->uid == 0;
        if (s->uidmap->len == 0)
                lay_out(s->uidmap, root ? 0 : caller->uid, caller->uid, subuids);
        else if (!check_asked_map(draft, "--uidmap", s->uidmap, caller->uid, subuids, SUBUID, error))
                return false;
        if (s->gidmap->len == 0)
                lay_out(s->gidmap, root ? 0 : caller->gid, caller->gid, subgids);
        else if (!check_asked_map(draft, "--gidmap", s->gidmap, caller->gid, subgids, SUBGID, error))
                return false;
        return check_in_map(s->uidmap, s->uid, "uid", error) && check_in_map(s->gidmap, s->gid, "gid", error);
}

/* The error for a caller without ranges, with the line that adds them where no one else's are. */
static bool no_ranges(const Spec *draft, bool no_uids, bool no_gids, GError **error) {
        g_autofree char *uids = NULL, *gids = NULL, *name = err_quote(draft->caller.name);

        err_set(error, 0, "'%s' has no range of ids in %s", name,
                no_uids && no_gids ? SUBUID " and " SUBGID
                : no_uids          ? SUBUID
                                   : SUBGID);
        if (!fd_read_file(AT_FDCWD, SUBUID, SUBID_FILE_MAX, &uids, NULL))
                uids = g_strdup("");
        if (!fd_read_file(AT_FDCWD, SUBGID, SUBID_FILE_MAX, &gids, NULL))
                gids = g_strdup("");
        guint32 first = subid_propose(uids, gids), last = first + 65535;
        if (first == 0)
                return err_hint(error, "ask the administrator for a range: all usual ones are taken");
        if (draft->caller.served == ACCOUNT_NONE) {
                g_autofree char *mend = account_mend(draft->caller.uid);
                return err_hint(error, "newuidmap serves nobody without an account: %s; or --userns=self", mend);
        }
        g_autofree char *add_uids = no_uids ? g_strdup_printf(" --add-subuids %u-%u", first, last) : g_strdup("");
        g_autofree char *add_gids = no_gids ? g_strdup_printf(" --add-subgids %u-%u", first, last) : g_strdup("");
        return err_hint(error, "sudo usermod%s%s %s", add_uids, add_gids, name);
}

/* Whether a map needs the caller's ranges: real root may map what it likes, so an explicit map of root's needs none. */
static bool needs_ranges(const Spec *draft, const GArray *asked) {
        return asked->len == 0 || draft->caller.uid != 0;
}

static GArray *read_map(const char *own_map, GError **error) {
        g_autofree char *text = NULL;

        if (fd_read_file(AT_FDCWD, own_map, MAP_FILE_MAX, &text, NULL))
                return subid_parse_map(text);
        int errnum = errno;
        err_set(error, errnum, "read %s", own_map);
        if (errnum == ENOENT)
                err_hint(error, "/proc is not mounted here, and usbox needs it: usbox doctor says how to mount one");
        return NULL;
}

/* The caller's ranges in file, if all of them are ids of this user namespace, and else none: in a container they may not be. */
static GArray *read_mappable(const Caller *caller, const char *file, const char *own_map, GError **error) {
        g_autoptr(GArray) ranges = subid_read(file, caller->name, caller->uid, error);
        g_autoptr(GArray) own = ranges ? read_map(own_map, error) : NULL;

        for (guint i = 0; own && i < ranges->len; i++) {
                const SubidRange *r = &g_array_index(ranges, SubidRange, i);
                if (!subid_contains(own, r->start, r->count))
                        g_array_set_size(ranges, 0);
        }
        return own ? g_steal_pointer(&ranges) : NULL;
}

/* Ranges that can be mapped, if there are the programs that do it, and they gain the rights to and serve the caller; else auto goes without. */
static bool read_useful(const Caller *caller, GArray **ret_subuids, GArray **ret_subgids, GError **error) {
        g_autofree char *newuidmap = g_find_program_in_path("newuidmap"), *newgidmap = g_find_program_in_path("newgidmap");

        if (caller->uid != 0 && (!newuidmap || !newgidmap || proc_gains_nothing() || caller->served != ACCOUNT_SERVED))
                return true;
        return (*ret_subuids = read_mappable(caller, SUBUID, "/proc/self/uid_map", error)) &&
               (*ret_subgids = read_mappable(caller, SUBGID, "/proc/self/gid_map", error));
}

bool user_all_ids(const Spec *spec, GArray *uidmap, GArray *gidmap, GError **error) {
        const Caller *caller = &spec->caller;
        g_autoptr(GArray) subuids = NULL, subgids = NULL;

        if (!read_useful(caller, &subuids, &subgids, error))
                return false;
        if (!subuids || !subgids || (subuids->len == 0 && subgids->len == 0))
                return true;
        lay_out(uidmap, 0, caller->uid, subuids);
        lay_out(gidmap, 0, caller->gid, subgids);
        return true;
}

/* Real root: all that there is in its own user namespace, each as itself. */
static bool map_as_it_is(GArray *map, const char *own_map, GError **error) {
        g_autoptr(GArray) own = read_map(own_map, error);

        for (guint i = 0; own && i < own->len; i++) {
                const SubidRange *r = &g_array_index(own, SubidRange, i);
                IdRange line = { .box = r->start, .host = r->start, .count = r->count };
                g_array_append_val(map, line);
        }
        return own != NULL;
}

bool user_ask_all(Spec *draft, GError **error) {
        UserSpec *s = &draft->user;

        if (draft->caller.uid == 0) {
                if (!map_as_it_is(s->uidmap, "/proc/self/uid_map", error) || !map_as_it_is(s->gidmap, "/proc/self/gid_map", error))
                        return err_step(error, "user");
        } else if (!user_all_ids(draft, s->uidmap, s->gidmap, error)) {
                return err_step(error, "user");
        } else if (s->uidmap->len > 0) {
                s->user_is_self = false;
                s->uid = 0;
                s->gid = 0;
                s->gid_given = true;
        }
        s->maps_given = s->uidmap->len > 0 && s->gidmap->len > 0;
        return true;
}

bool user_check(Spec *draft, GError **error) {
        const Caller *caller = &draft->caller;
        g_autoptr(GArray) subuids = NULL, subgids = NULL;

        if (user_wants_subids(draft)) {
                subuids = subid_read(SUBUID, caller->name, caller->uid, error);
                subgids = subuids ? subid_read(SUBGID, caller->name, caller->uid, error) : NULL;
                if (!subgids)
                        return err_step(error, "user");
                bool no_uids = subuids->len == 0 && needs_ranges(draft, draft->user.uidmap);
                bool no_gids = subgids->len == 0 && needs_ranges(draft, draft->user.gidmap);
                if (no_uids || no_gids) {
                        no_ranges(draft, no_uids, no_gids, error);
                        return err_step(error, "user");
                }
        } else if (gains_by_subids(draft) && !read_useful(caller, &subuids, &subgids, error)) {
                err_hint(error, "--userns=self does without subordinate ids");
                return err_step(error, "user");
        }
        return user_build_maps(draft, subuids, subgids, error);
}
