/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pod's cgroup, and that of a box in it.
 *
 * Role: usbox-scope, of a pod or of a box of one. Privileges: the caller's. Threads: one. Order: instead of systemd.c and direct.c where the box's pod has a
 * cgroup.
 *
 * The pod's is made like any box's, its limits sit on it, and it has a third leaf, boxes/, below which is a directory for each of its boxes, named by the box's
 * id: whatever a box is allowed, it is of what the pod is. What memory of a box is protected the kernel takes from others first as far as boxes/, which it lies
 * in, is protected as well, so that has the sum of them. It is the caller's (Delegate=yes), so systemd is not asked for any of that, and takes it away with
 * the pod's scope.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/leaves.h"

#define NUMBER_MAX 64

/* A box's memory that the kernel is to take from others first. */
static const char *const protections[] = { "memory.low", "memory.min", NULL };

/* All that there are, one by one: what of it a box needs it looks for (cgroup_check_controllers()), and will say so. */
static void hand_down_controllers(int dir, const char *path) {
        g_auto(GStrv) have = cgroup_words(dir, "cgroup.controllers");

        for (char **name = have; *name; name++) {
                g_autofree char *on = g_strconcat("+", *name, NULL);
                if (!fd_write_file(dir, "cgroup.subtree_control", on))
                        log_step("%s: %s: %s", path, on, err_text(errno));
        }
}

bool pod_make_place(const ScopeCgroup *c, GError **error) {
        _cleanup_close_ int boxes = openat(c->fd, SCOPE_LEAF_BOXES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (boxes < 0)
                return err_set(error, errno, "%s/" SCOPE_LEAF_BOXES, c->path);
        hand_down_controllers(c->fd, c->path);
        hand_down_controllers(boxes, SCOPE_LEAF_BOXES);
        return true;
}

/* pod: its directory, which the launcher had from the pod's. */
bool pod_make_box(const ScopeConfig *config, ScopeCgroup *ret, GError **error) {
        g_autofree char *place = g_strconcat(config->pod, "/" SCOPE_LEAF_BOXES, NULL), *path = g_strconcat(place, "/", config->id, NULL);

        if (config->properties->len > 0) {
                err_set(error, EOPNOTSUPP, "--property is for systemd, and this box's cgroup is a part of its pod's");
                return err_hint(error, "give it to usbox pod create, or the box its limits by --memory and the like");
        }
        if (!g_str_has_prefix(config->pod, CGROUP_MOUNT "/"))
                return err_set(error, EINVAL, "the pod's cgroup");
        if (mkdir(path, 0755) < 0)
                return err_set(error, errno, "make the cgroup %s", path);
        ret->own = ret->in_pod = true;
        ret->home = g_strconcat(config->pod + strlen(CGROUP_MOUNT), "/" SCOPE_LEAF_HELPERS, NULL);
        ret->path = g_strdup(path + strlen(CGROUP_MOUNT));
        ret->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return ret->fd >= 0 || err_set(error, errno, "%s", path);
}

static guint64 protection(int dir, const char *file) {
        g_autofree char *text = NULL;

        if (!fd_read_file(dir, file, NUMBER_MAX, &text, NULL))
                return 0;
        return g_str_has_prefix(text, "max") ? G_MAXUINT64 : g_ascii_strtoull(text, NULL, 10);
}

/* Of all boxes that run, whose usbox-scope is in their cgroup. One that was left behind protects nothing. */
static bool boxes_protection(int place, const char *file, guint64 *ret) {
        DIR *dir = fd_open_dir(place, ".");

        *ret = 0;
        if (!dir)
                return false;
        for (struct dirent *e; (e = readdir(dir));) {
                _cleanup_close_ int box = *e->d_name != '.' ? openat(place, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
                guint64 n = box >= 0 && cgroup_populated(box) ? protection(box, file) : 0;
                *ret = n > G_MAXUINT64 - *ret ? G_MAXUINT64 : *ret + n;
        }
        closedir(dir);
        return true;
}

bool pod_protect_boxes(const ScopeCgroup *c, GError **error) {
        g_autofree char *path = g_strconcat(CGROUP_MOUNT, c->path, NULL), *above = g_path_get_dirname(path);
        _cleanup_close_ int place = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        /* Another box's, which does the same at this moment, must not write what it has counted without this one. */
        if (place < 0 || flock(place, LOCK_EX) < 0)
                return err_set(error, errno, "%s", above);
        for (const char *const *file = protections; *file; file++) {
                guint64 sum;
                if (!boxes_protection(place, *file, &sum))
                        return err_set(error, errno, "%s", above);
                g_autofree char *text = sum == G_MAXUINT64 ? g_strdup("max") : g_strdup_printf("%" G_GUINT64_FORMAT, sum);
                if (sum != protection(place, *file) && !fd_write_file(place, *file, text))
                        return err_set(error, errno, "write '%s' to %s/%s", text, above, *file);
        }
        return true;
}

bool pod_is_protection(const GPtrArray *settings) {
        for (const char *const *file = protections; *file; file++)
                if (scope_setting_get(settings, *file))
                        return true;
        return false;
}

void pod_leave(const ScopeCgroup *c) {
        if (protection(c->fd, protections[0]) > 0 || protection(c->fd, protections[1]) > 0)
                (void) pod_protect_boxes(c, NULL);
}

/* What boxes left that could not see to it themselves. */
void pod_remove_boxes(const ScopeCgroup *c) {
        DIR *dir = fd_open_dir(c->fd, SCOPE_LEAF_BOXES);

        if (!dir)
                return;
        const int place = dirfd(dir);
        for (struct dirent *e; (e = readdir(dir));) {
                _cleanup_close_ int box = *e->d_name != '.' ? openat(place, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
                if (box < 0)
                        continue;
                (void) unlinkat(box, SCOPE_LEAF_PAYLOAD, AT_REMOVEDIR);
                (void) unlinkat(box, SCOPE_LEAF_HELPERS, AT_REMOVEDIR);
                (void) unlinkat(place, e->d_name, AT_REMOVEDIR);
        }
        closedir(dir);
        (void) unlinkat(c->fd, SCOPE_LEAF_BOXES, AT_REMOVEDIR);
}
