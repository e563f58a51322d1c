/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's cgroup as files: leaves, controllers, processes.
 *
 * Role: usbox-scope. Privileges: the caller's; the cgroup belongs to him. Threads: one. Order: after the cgroup was made, by systemd or
 * by direct.c.
 *
 * A cgroup that hands controllers to its children may hold no process of its own (cgroups(7)), hence two leaves: helpers/ with
 * usbox-net, usbox-fs, init and ourselves, payload/ with what the command starts. Limits sit above both, so that work which the box makes its
 * helpers do is counted too; what concerns processes as such (their number, freezing, killing) is payload/'s.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/leaves.h"
#include "scope/property.h"

#define FILE_MAX (64 * 1024)
#define REMOVE_WAIT_MS 5000

char *cgroup_of(pid_t pid, GError **error) {
        g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int) pid), *text = NULL;

        if (!fd_read_file(AT_FDCWD, path, FILE_MAX, &text, NULL)) {
                err_set(error, errno, "read %s", path);
                return NULL;
        }
        char *line = strstr(text, "0::/");
        if (!line || strstr(line, "/..")) {
                err_set(error, ENOENT, "%s names no cgroup that is in sight", path);
                return NULL;
        }
        line += strlen("0::");
        return g_strndup(line, strcspn(line, "\n"));
}

char *cgroup_of_self(GError **error) {
        return cgroup_of(getpid(), error);
}

char **cgroup_words(int dir, const char *file) {
        g_autofree char *text = NULL;

        if (!fd_read_file(dir, file, FILE_MAX, &text, NULL))
                return g_new0(char *, 1);
        return g_strsplit(g_strstrip(text), " ", -1);
}

/* The controllers that this user's systemd has: of the cgroup above the box's slice. */
static char **delegated_words(const ScopeCgroup *c) {
        _cleanup_close_ int above = openat(c->fd, c->own ? ".." : "../..", O_PATH | O_DIRECTORY | O_CLOEXEC);

        return cgroup_words(above, "cgroup.controllers");
}

/* direct: whoever made the cgroup has to delegate it, not systemd. */
static bool not_delegated(const char *controller, char **delegated, bool direct, GError **error) {
        static const char *const known[] = { "cpu", "cpuset", "io", "memory", "pids", NULL };
        g_autofree char *are = delegated[0] && *delegated[0] ? g_strjoinv(", ", delegated) : g_strdup("none");

        err_set(error, EOPNOTSUPP, "the controller %s is not delegated to this user (these are: %s)", controller, are);
        if (direct)
                return err_hint(error, "whoever made this cgroup must switch it on in cgroup.subtree_control");
        if (!g_strv_contains(known, controller))
                return err_hint(error, "systemd delegates no %s to anyone", controller);
        return err_hint(error, "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
                               "sudo tee /etc/systemd/system/user@.service.d/usbox-delegate.conf && sudo systemctl daemon-reload, then log "
                               "out and in");
}

/* The first that config needs and that is not among have; NULL: there is none. The caller's. */
static char *missing_controller(const ScopeConfig *config, char **have) {
        for (guint i = 0; i < config->settings->len; i++) {
                g_autofree char *controller = scope_setting_controller(config->settings->pdata[i]);
                if (!g_strv_contains((const char *const *) have, controller))
                        return g_steal_pointer(&controller);
        }
        for (guint i = 0; i < config->properties->len; i++) {
                const char *controller = property_controller(((const ScopeSetting *) config->properties->pdata[i])->file);
                if (controller && !g_strv_contains((const char *const *) have, controller))
                        return g_strdup(controller);
        }
        return NULL;
}

/* What of a controller's files not every kernel has: systemd says nothing of those that it does not find. */
static bool check_files(const ScopeCgroup *c, const ScopeConfig *config, GError **error) {
        if (scope_setting_get(config->settings, "io.weight") && !weight_check(c, "--io-weight", error))
                return false;
        for (guint i = 0; i < config->properties->len; i++) {
                const char *name = ((const ScopeSetting *) config->properties->pdata[i])->file;
                g_autofree char *what = g_strconcat("--property ", name, NULL);
                if (g_str_has_prefix(name, "IO") && g_str_has_suffix(name, "Weight") && !weight_check(c, what, error))
                        return false;
                if (g_str_equal(name, "IODeviceLatencyTargetSec") && faccessat(c->fd, "io.latency", F_OK, 0) < 0) {
                        err_set(error, EOPNOTSUPP, "%s: this machine's kernel has no io.latency", what);
                        return err_hint(error, "one that is built with CONFIG_BLK_CGROUP_IOLATENCY has");
                }
        }
        return true;
}

static bool check(const ScopeCgroup *c, const ScopeConfig *config, char **have, GError **error) {
        g_autofree char *missing = missing_controller(config, have);

        if (!missing)
                return check_files(c, config, error);
        g_auto(GStrv) delegated = delegated_words(c);
        /* A pod's cgroup, which a box's is a part of, is mostly systemd's. */
        return not_delegated(missing, delegated, c->own && !(c->in_pod && strstr(c->path, "/" SCOPE_SLICE "/")), error);
}

bool cgroup_check_controllers(const ScopeCgroup *c, const ScopeConfig *config, GError **error) {
        g_auto(GStrv) have = cgroup_words(c->fd, "cgroup.controllers");

        return check(c, config, have, error);
}

bool cgroup_check_delegated(const ScopeCgroup *c, const ScopeConfig *config, GError **error) {
        g_auto(GStrv) have = c->own ? cgroup_words(c->fd, "cgroup.controllers") : delegated_words(c);

        return check(c, config, have, error);
}

bool cgroup_check_beforehand(const char *above, const ScopeConfig *config, GError **error) {
        g_autofree char *file = g_strconcat(CGROUP_MOUNT, above, "/cgroup.controllers", NULL);
        g_auto(GStrv) have = cgroup_words(AT_FDCWD, file);
        g_autofree char *missing = missing_controller(config, have);

        return !missing || not_delegated(missing, have, false, error);
}

static bool make_leaf(const ScopeCgroup *c, const char *leaf, GError **error) {
        if (mkdirat(c->fd, leaf, 0755) < 0 && errno != EEXIST)
                return err_set(error, errno, "make the cgroup %s/%s", c->path, leaf);
        return true;
}

static bool write_leaf(const ScopeCgroup *c, const char *leaf, const char *file, const char *value, GError **error) {
        g_autofree char *path = leaf ? g_strconcat(leaf, "/", file, NULL) : g_strdup(file);

        if (fd_write_file(c->fd, path, value))
                return true;
        g_autofree char *shown = err_quote(value);
        return err_set(error, errno, "write '%s' to %s/%s", shown, c->path, path);
}

bool cgroup_make_leaves(const ScopeCgroup *c, GError **error) {
        return make_leaf(c, SCOPE_LEAF_HELPERS, error) && make_leaf(c, SCOPE_LEAF_PAYLOAD, error) && (!c->pod || make_leaf(c, SCOPE_LEAF_BOXES, error));
}

bool cgroup_prepare_leaves(const ScopeCgroup *c, GError **error) {
        g_auto(GStrv) have = cgroup_words(c->fd, "cgroup.controllers");

        if (c->pod && !pod_make_place(c, error))
                return false;
        g_autoptr(GString) wanted = g_string_new(NULL);
        for (const char *const *name = (const char *const[]){ "memory", "pids", NULL }; *name; name++)
                if (g_strv_contains((const char *const *) have, *name))
                        g_string_append_printf(wanted, "%s+%s", wanted->len ? " " : "", *name);
        if (wanted->len > 0 && !write_leaf(c, NULL, "cgroup.subtree_control", wanted->str, error))
                return false;
        /* A box whose command lost one of its processes to the limit is no box to go on with. */
        return !strstr(wanted->str, "memory") || write_leaf(c, SCOPE_LEAF_PAYLOAD, "memory.oom.group", "1", error);
}

/* What of a kind the machine has, where one was named that it has not. */
static bool no_such(const char *file, GError **error) {
        static const struct {
                const char *prefix, *hint;
        } rows[] = {
                { "hugetlb.", "ls /sys/kernel/mm/hugepages shows which sizes of huge pages this machine has" },
                { "misc.", "cat " CGROUP_MOUNT "/misc.capacity shows which resources this machine has" },
                { "rdma.", "ls /sys/class/infiniband shows which RDMA devices this machine has" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
                if (g_str_has_prefix(file, rows[i].prefix))
                        return err_hint(error, "%s", rows[i].hint);
        return false;
}

static bool apply_one(const ScopeCgroup *c, const ScopeSetting *s, GError **error) {
        const char *leaf = !g_str_has_prefix(s->file, "pids.") ? NULL : c->pod ? SCOPE_LEAF_BOXES : SCOPE_LEAF_PAYLOAD;

        if (g_str_equal(s->file, "io.weight"))
                return weight_apply(c, s->value, error);
        if (write_leaf(c, leaf, s->file, s->value, error))
                return true;
        /* A machine without swap accounting has nothing to forbid. */
        if (err_get_errno(error ? *error : NULL) == ENOENT && g_str_equal(s->file, "memory.swap.max")) {
                g_clear_error(error);
                return true;
        }
        return no_such(s->file, error);
}

bool cgroup_apply(const ScopeCgroup *c, const GPtrArray *settings, GError **error) {
        for (guint i = 0; i < settings->len; i++)
                if (!apply_one(c, settings->pdata[i], error))
                        return false;
        return !c->in_pod || !pod_is_protection(settings) || pod_protect_boxes(c, error);
}

char *cgroup_hold_cpu(const ScopeCgroup *c, GError **error) {
        g_autofree char *text = NULL;

        if (!fd_read_file(c->fd, "cpu.max", FILE_MAX, &text, NULL) || !g_ascii_isdigit(*text))
                return g_strdup("");
        return write_leaf(c, NULL, "cpu.max", "max", error) ? g_strdup(g_strchomp(text)) : NULL;
}

bool cgroup_join(const ScopeCgroup *c, const char *leaf, pid_t pid, GError **error) {
        char text[16];

        g_snprintf(text, sizeof text, "%d", (int) pid);
        return write_leaf(c, leaf, "cgroup.procs", text, error);
}

/* cgroup.procs of payload/, each process of it. */
static void kill_one_by_one(const ScopeCgroup *c) {
        for (int round = 0; round < 100; round++) {
                g_autofree char *text = NULL;
                if (!fd_read_file(c->fd, SCOPE_LEAF_PAYLOAD "/cgroup.procs", 16 * FILE_MAX, &text, NULL) || *text == '\0')
                        return;
                char *rest = text;
                for (char *line; (line = strsep(&rest, "\n")) && *line;) {
                        pid_t pid = (pid_t) g_ascii_strtoll(line, NULL, 10);
                        if (pid > 1)
                                (void) kill(pid, SIGKILL);
                }
        }
}

void cgroup_kill_payload(const ScopeCgroup *c) {
        if (!fd_write_file(c->fd, SCOPE_LEAF_PAYLOAD "/cgroup.kill", "1"))
                kill_one_by_one(c);
}

bool cgroup_populated(int dir) {
        g_autofree char *text = NULL;

        return fd_read_file(dir, "cgroup.events", FILE_MAX, &text, NULL) && strstr(text, "populated 1");
}

void cgroup_remove(ScopeCgroup *c) {
        if (!c->own || !c->path)
                return;
        g_autofree char *home = g_strconcat(CGROUP_MOUNT, c->home, "/cgroup.procs", NULL);
        (void) fd_write_file(AT_FDCWD, home, "0");
        _cleanup_close_ int events = openat(c->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        gint64 end = g_get_monotonic_time() + REMOVE_WAIT_MS * 1000;
        while (events >= 0 && cgroup_populated(c->fd) && g_get_monotonic_time() < end) {
                /* The kernel says POLLPRI when it changes (cgroups(7)); a second look each 20 ms costs less than a missed one. */
                struct pollfd fd = { .fd = events, .events = POLLPRI };
                (void) poll(&fd, 1, 20);
        }
        if (c->pod)
                pod_remove_boxes(c);
        if (c->in_pod)
                pod_leave(c);
        g_autofree char *path = g_strconcat(CGROUP_MOUNT, c->path, NULL);
        for (const char *const *leaf = (const char *const[]){ SCOPE_LEAF_PAYLOAD, SCOPE_LEAF_HELPERS, NULL }; *leaf; leaf++)
                (void) unlinkat(c->fd, *leaf, AT_REMOVEDIR);
        if (rmdir(path) < 0 && errno != ENOENT)
                log_note("%s: %s", path, err_text(errno));
        g_clear_pointer(&c->path, g_free);
}
