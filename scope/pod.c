/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pod's cgroup, and that of a box in it.
 *
 * Role: usbox-scope, of a pod or of a box of one. Privileges: the caller's. Threads: one. Order: instead of systemd.c and direct.c where the box's pod has a
 * cgroup.
 *
 * The pod's is made like any box's, its limits sit on it, and it has a third leaf, boxes/, below which is a directory for each of its boxes, named by the box's
 * id: whatever a box is allowed, it is of what the pod is. It is the caller's (Delegate=yes), so systemd is not asked for any of that, and takes it away with
 * the pod's scope.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/leaves.h"

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

/* What boxes left that could not see to it themselves. */
void pod_remove_boxes(const ScopeCgroup *c) {
        int place = openat(c->fd, SCOPE_LEAF_BOXES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = place >= 0 ? fdopendir(place) : NULL;

        if (!dir) {
                fd_closep(&place);
                return;
        }
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
