/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The id maps of both user namespaces.
 *
 * Role: user_setup_parent() launcher, with the caller's rights; user_setup_child() init, with the outer user namespace's
 * capabilities; user_map_payload() either init or the payload. Threads: one. Order: steps 4 and 9.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "user-map.h"
#include "user.h"

/* What newuidmap says goes to the error message; longer than any line of it. */
#define HELPER_OUTPUT_MAX 4096

static char *map_text(const GArray *map) {
        GString *text = g_string_new(NULL);
        for (guint i = 0; i < map->len; i++) {
                const IdRange *range = &g_array_index(map, IdRange, i);
                g_string_append_printf(text, "%u %u %u\n", range->box, range->host, range->count);
        }
        return g_string_free(text, FALSE);
}

/* Nobody but the caller, who has no right over ids. */
static bool has_caller_alone(const Spec *spec) {
        return !spec->user.subids && spec->caller.uid != 0;
}

bool user_maps_itself(const Spec *spec) {
        return has_caller_alone(spec) && !spec->pod.name;
}

static bool write_maps(int proc_dir, bool deny_setgroups, const GArray *uidmap, const GArray *gidmap, GError **error) {
        g_autofree char *uids = map_text(uidmap), *gids = map_text(gidmap);

        if (deny_setgroups && !fd_write_file(proc_dir, "setgroups", "deny"))
                return err_set(error, errno, "write setgroups");
        if (!fd_write_file(proc_dir, "uid_map", uids)) {
                bool denied = errno == EPERM;
                err_set(error, errno, "write uid_map");
                if (denied && geteuid() == 0)
                        err_hint(error, "root without capabilities, as in a container that drops them, cannot make a box: " USER_GIVE_ROOT);
                return false;
        }
        if (!fd_write_file(proc_dir, "gid_map", gids))
                return err_set(error, errno, "write gid_map");
        return true;
}

static bool write_maps_directly(const Spec *spec, int proc_dir, GError **error) {
        /* Without CAP_SETGID over the parent namespace the kernel wants setgroups(2) given up first (user_namespaces(7)). */
        return write_maps(proc_dir, user_maps_itself(spec), spec->user.uidmap, spec->user.gidmap, error);
}

bool user_map_within(const GArray *map, const GArray *outer, GArray *ret, GError **error) {
        for (guint i = 0; i < map->len; i++) {
                IdRange left = g_array_index(map, IdRange, i);
                while (left.count > 0) {
                        const IdRange *in = NULL;
                        for (guint j = 0; j < outer->len && !in; j++) {
                                const IdRange *r = &g_array_index(outer, IdRange, j);
                                if (left.host >= r->host && left.host - r->host < r->count)
                                        in = r;
                        }
                        if (!in) {
                                err_set(error, 0, "the host's id %u is none of the pod's", left.host);
                                return err_hint(error, "a pod has the ids that were yours when it was created: make it anew");
                        }
                        guint32 at = left.host - in->host, n = MIN(left.count, in->count - at);
                        IdRange piece = { .box = left.box, .host = in->box + at, .count = n };
                        g_array_append_val(ret, piece);
                        left = (IdRange){ .box = left.box + n, .host = left.host + n, .count = left.count - n };
                }
        }
        return true;
}

bool user_map_in_pod(const Spec *spec, int proc, const GArray *pod_uids, const GArray *pod_gids, GError **error) {
        g_autoptr(GArray) uids = g_array_new(FALSE, FALSE, sizeof(IdRange)), gids = g_array_new(FALSE, FALSE, sizeof(IdRange));

        if (!user_map_within(spec->user.uidmap, pod_uids, uids, error) || !user_map_within(spec->user.gidmap, pod_gids, gids, error))
                return false;
        /* As in a box by itself: to drop groups is for who was given ranges of ids. */
        return write_maps(proc, has_caller_alone(spec), uids, gids, error);
}

static bool start_map_helper(MapHelper *h, const GArray *map, pid_t child_pid, GError **error) {
        h->path = g_find_program_in_path(h->program);
        if (!h->path) {
                err_set(error, ENOENT, "%s", h->program);
                return err_hint(error, "sudo apt-get install uidmap (Fedora: sudo dnf install shadow-utils)");
        }

        g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(argv, g_strdup(h->program));
        g_ptr_array_add(argv, g_strdup_printf("%d", (int) child_pid));
        for (guint i = 0; i < map->len; i++) {
                const IdRange *range = &g_array_index(map, IdRange, i);
                g_ptr_array_add(argv, g_strdup_printf("%u", range->box));
                g_ptr_array_add(argv, g_strdup_printf("%u", range->host));
                g_ptr_array_add(argv, g_strdup_printf("%u", range->count));
        }
        g_ptr_array_add(argv, NULL);

        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe");
        char *const envp[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
        ProcFd fds[] = { { ends[1], 1 }, { ends[1], 2 } };
        h->pid = proc_spawn(h->path, (char *const *) argv->pdata, envp, fds, G_N_ELEMENTS(fds), NULL, error);
        close(ends[1]);
        h->output = ends[0];
        return h->pid > 0;
}

/*
 * Why newuidmap could not: it serves not this caller, it gains nothing by being executed here, it has neither its setuid bit nor its file
 * capability, or the range is not the caller's.
 */
static void explain_map_failure(const MapHelper *h, GError **error) {
        struct stat st;

        if (h->served == ACCOUNT_OTHER_GROUP) {
                err_hint(error, "%s serves a caller in the group of their account alone, and id -g is another here: leave the shell that "
                                "newgrp or sg has started, or --userns=self", h->path);
                return;
        }
        if (h->served == ACCOUNT_NONE) {
                g_autofree char *mend = account_mend(h->uid);
                err_hint(error, "%s serves nobody without an account: %s; or --userns=self", h->path, mend);
                return;
        }
        if (proc_gains_nothing()) {
                err_hint(error, "no_new_privs is set here, so %s gains no rights: unset what set it (systemd: NoNewPrivileges=no; docker: no-new-privileges; "
                                "Kubernetes: allowPrivilegeEscalation), or --userns=self", h->path);
                return;
        }
        if (stat(h->path, &st) == 0 && !(st.st_mode & S_ISUID) &&
            getxattr(h->path, "security.capability", NULL, 0) < 0) {
                err_hint(error, "%s has lost its privilege: sudo setcap %s+ep %s", h->path, h->capability, h->path);
                return;
        }
        err_hint(error, "see /etc/subuid and /etc/subgid, and that %s lies on a file system without nosuid; a container has to have those ids, too: "
                        "usbox doctor looks at it all", h->path);
}

static bool finish_map_helper(MapHelper *h, GError **error) {
        g_autofree char *output = NULL;
        int status;

        bool read_ok = fd_read_all(h->output, HELPER_OUTPUT_MAX, &output, NULL);
        if (!proc_wait(h->pid, &status))
                return err_set(error, errno, "wait for %s", h->program);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return true;

        g_autofree char *how = proc_status_text(status);
        g_autofree char *said = read_ok ? err_quote(g_strstrip(output)) : g_strdup("");
        err_set(error, 0, "%s: %s%s%s", h->program, how, *said ? ": " : "", said);
        explain_map_failure(h, error);
        return false;
}

static bool start_map_helpers(MapHelpers *ret, const Caller *caller, const GArray *uidmap, const GArray *gidmap, pid_t child_pid, GError **error) {
        *ret = (MapHelpers){ .each = { { .program = "newuidmap", .capability = "cap_setuid", .output = -1 },
                                       { .program = "newgidmap", .capability = "cap_setgid", .output = -1 } } };
        for (size_t i = 0; i < G_N_ELEMENTS(ret->each); i++) {
                ret->each[i].served = caller->served;
                ret->each[i].uid = caller->uid;
        }
        return start_map_helper(&ret->each[0], uidmap, child_pid, error) && start_map_helper(&ret->each[1], gidmap, child_pid, error);
}

bool map_helpers_finish(MapHelpers *helpers, GError **error) {
        bool ok = true;

        for (size_t i = 0; i < G_N_ELEMENTS(helpers->each); i++) {
                MapHelper *h = &helpers->each[i];
                if (!h->path)
                        continue; /* none was wanted */
                if (h->pid > 0)
                        ok = finish_map_helper(h, ok ? error : NULL) && ok;
                fd_closep(&h->output);
                g_clear_pointer(&h->path, g_free);
        }
        return ok;
}

bool user_map_self(const Spec *spec, GError **error) {
        _cleanup_close_ int fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return err_set(error, errno, "/proc/self");
        return write_maps_directly(spec, fd, error);
}

bool user_setup_parent(const Spec *spec, pid_t child_pid, MapHelpers *ret, GError **error) {
        *ret = (MapHelpers){ 0 };
        if (user_maps_itself(spec) || spec->pod.name)
                return true;
        if (spec->user.subids && spec->caller.uid != 0)
                return start_map_helpers(ret, &spec->caller, spec->user.uidmap, spec->user.gidmap, child_pid, error);

        g_autofree char *dir = g_strdup_printf("/proc/%d", (int) child_pid);
        _cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return err_set(error, errno, "%s", dir);
        return write_maps_directly(spec, fd, error);
}

bool user_map_all_ids(const Spec *spec, pid_t pid, GError **error) {
        g_autoptr(GArray) uids = g_array_new(FALSE, FALSE, sizeof(IdRange)), gids = g_array_new(FALSE, FALSE, sizeof(IdRange));

        if (!user_all_ids(spec, uids, gids, error))
                return false;
        if (uids->len == 0)
                return err_set(error, 0, "no ids but the caller's own");
        MapHelpers helpers;
        bool started = start_map_helpers(&helpers, &spec->caller, uids, gids, pid, error);
        return map_helpers_finish(&helpers, started ? error : NULL) && started;
}

/* The box id of a host id; false where it is not mapped. */
static bool box_id(const GArray *map, guint32 host, guint32 *ret) {
        for (guint i = 0; i < map->len; i++) {
                const IdRange *range = &g_array_index(map, IdRange, i);
                if (host >= range->host && host - range->host < range->count) {
                        *ret = range->box + (host - range->host);
                        return true;
                }
        }
        return false;
}

bool user_setup_child(const Spec *spec, GError **error) {
        guint32 uid, gid;

        if (!box_id(spec->user.uidmap, spec->caller.uid, &uid))
                return err_set(error, 0, "the caller's uid %u is not in the uid map", spec->caller.uid);
        if (!box_id(spec->user.gidmap, spec->caller.gid, &gid))
                return err_set(error, 0, "the caller's gid %u is not in the gid map", spec->caller.gid);
        /* The kernel's ids do not change by this; it only makes real, effective and saved ones equal. */
        if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return err_set(error, errno, "take ids %u:%u", uid, gid);
        return true;
}

bool user_map_payload(const Spec *spec, int proc, const char *dir, GError **error) {
        g_autoptr(GArray) uids = g_array_new(FALSE, FALSE, sizeof(IdRange)),
                          gids = g_array_new(FALSE, FALSE, sizeof(IdRange));
        struct {
                const GArray *from;
                GArray *to;
        } maps[] = { { spec->user.uidmap, uids }, { spec->user.gidmap, gids } };

        for (size_t m = 0; m < G_N_ELEMENTS(maps); m++)
                for (guint i = 0; i < maps[m].from->len; i++) {
                        IdRange range = g_array_index(maps[m].from, IdRange, i);
                        range.host = range.box; /* the parent namespace's ids are the box's */
                        g_array_append_val(maps[m].to, range);
                }
        g_autofree char *uid_text = map_text(uids), *gid_text = map_text(gids);
        g_autofree char *uid_path = g_strconcat(dir, "/uid_map", NULL), *gid_path = g_strconcat(dir, "/gid_map", NULL);
        if (!fd_write_file(proc, uid_path, uid_text))
                return err_set(error, errno, "write the payload's uid_map");
        if (!fd_write_file(proc, gid_path, gid_text))
                return err_set(error, errno, "write the payload's gid_map");
        return true;
}
