/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two numberings of owners.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any; nothing changes after the start.
 */
#include "fsoverlay/config.h"
#include "fsoverlay/ids.h"

#define OVERFLOW_ID 65534u

static bool is_identity(const GArray *map) {
        return !map || map->len == 0;
}

static uint32_t out(const GArray *map, uint32_t host) {
        bool has_number = false;

        if (is_identity(map))
                return host;
        for (guint i = 0; i < map->len; i++) {
                const FsIdRange *r = &g_array_index(map, FsIdRange, i);
                if (host >= r->host && host - r->host < r->count)
                        return r->box + (host - r->host);
                if (host >= r->box && host - r->box < r->count)
                        has_number = true;
        }
        return has_number ? host : OVERFLOW_ID;
}

static bool in(const GArray *map, uint32_t box, uint32_t *ret) {
        *ret = box;
        if (is_identity(map))
                return true;
        for (guint i = 0; i < map->len; i++) {
                const FsIdRange *r = &g_array_index(map, FsIdRange, i);
                if (box >= r->box && box - r->box < r->count) {
                        *ret = r->host + (box - r->box);
                        return true;
                }
        }
        return false;
}

uint32_t ids_uid_out(const Ids *ids, uid_t uid) {
        return ids->squash_uid ? ids->squash_to_uid : out(ids->uidmap, uid);
}

uint32_t ids_gid_out(const Ids *ids, gid_t gid) {
        return ids->squash_gid ? ids->squash_to_gid : out(ids->gidmap, gid);
}

uint32_t ids_group_out(const Ids *ids, const struct stat *st) {
        uint32_t shown = ids_gid_out(ids, st->st_gid);
        gid_t known;

        if (ids->squash_gid || st->st_uid != ids->uid || ids_gid_in(ids, shown, &known))
                return shown;
        return ids_gid_out(ids, ids->gid);
}

bool ids_uid_in(const Ids *ids, uint32_t box, uid_t *ret) {
        return in(ids->uidmap, box, ret);
}

bool ids_gid_in(const Ids *ids, uint32_t box, gid_t *ret) {
        return in(ids->gidmap, box, ret);
}
