/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A box's cgroup, read and written as files (Documentation/admin-guide/cgroup-v2.rst of the kernel).
 *
 * Role: launcher, and verbs that look at a running box. Privileges: the caller's, whose cgroup it is. Threads: any. Order: from the moment that
 * usbox-scope has made it until it is let go of.
 *
 * What the files say is the kernel's, not the box's, which can write none of them.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/number.h"
#include "cgroup.h"
#include "limit.h"
#include "scope/config.h"

#define FILE_MAX (1024 * 1024)
#define FREEZE_MS 10000
#define LEAF SCOPE_LEAF_PAYLOAD "/"

/* From a box's cgroup that is a part of its pod's. */
#define PODS_BOXES "../"
#define PODS "../../"

struct Cgroup {
        int fd;
        char *path;
        bool pod, in_pod; /* it is a pod's; it is a part of one */
};

Cgroup *cgroup_new_take(int fd, const char *path) {
        Cgroup *c = g_new0(Cgroup, 1);

        c->fd = fd;
        c->path = g_strdup(path);
        c->pod = faccessat(fd, SCOPE_LEAF_BOXES, F_OK, 0) == 0;
        c->in_pod = strstr(path, "/" SCOPE_LEAF_BOXES "/");
        return c;
}

Cgroup *cgroup_open(const char *path, GError **error) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                return cgroup_new_take(fd, path);
        err_set(error, errno, "%s", path);
        return NULL;
}

void cgroup_free(Cgroup *c) {
        if (!c)
                return;
        fd_closep(&c->fd);
        g_free(c->path);
        g_free(c);
}

const char *cgroup_path(const Cgroup *c) {
        return c->path;
}

static bool write_file(const Cgroup *c, const char *file, const char *text, GError **error) {
        return fd_write_file(c->fd, file, text) ? true : err_set(error, errno, "write '%s' to %s/%s", text, c->path, file);
}

static bool join(const Cgroup *c, const char *procs, pid_t pid, GError **error) {
        char text[16];

        g_snprintf(text, sizeof text, "%d", (int) pid);
        return write_file(c, procs, text, error);
}

bool cgroup_join_payload(const Cgroup *c, pid_t pid, GError **error) {
        return join(c, LEAF "cgroup.procs", pid, error);
}

bool cgroup_join_helpers(const Cgroup *c, pid_t pid, GError **error) {
        return join(c, SCOPE_LEAF_HELPERS "/cgroup.procs", pid, error);
}

bool cgroup_limit_cpu(const Cgroup *c, const char *cpu_max, GError **error) {
        return write_file(c, "cpu.max", cpu_max, error);
}

/* The number behind a key of a flat file ("oom_kill 3"); absent where it is not there. */
static guint64 keyed(const char *text, const char *key, guint64 absent) {
        size_t len = strlen(key);

        for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
                if (g_str_has_prefix(line, key) && line[len] == ' ')
                        return g_ascii_strtoull(line + len + 1, NULL, 10);
        return absent;
}

static char *read_text(const Cgroup *c, const char *file) {
        char *text = NULL;

        return fd_read_file(c->fd, file, FILE_MAX, &text, NULL) ? text : NULL;
}

/* A file of one number, or "max". */
static guint64 number(const Cgroup *c, const char *file) {
        g_autofree char *text = read_text(c, file);

        return text && g_ascii_isdigit(*text) ? g_ascii_strtoull(text, NULL, 10) : G_MAXUINT64;
}

bool cgroup_is_frozen(const Cgroup *c) {
        g_autofree char *text = read_text(c, LEAF "cgroup.events");

        return keyed(text, "frozen", 0) == 1;
}

bool cgroup_freeze(const Cgroup *c, bool on, GError **error) {
        _cleanup_close_ int events = openat(c->fd, LEAF "cgroup.events", O_RDONLY | O_CLOEXEC);

        if (events < 0)
                return err_set(error, errno, "%s/" LEAF "cgroup.events", c->path);
        if (!write_file(c, LEAF "cgroup.freeze", on ? "1" : "0", error))
                return false;
        /* Processes stop at their next return to user space; the kernel says so by POLLPRI. */
        gint64 end = g_get_monotonic_time() + FREEZE_MS * 1000;
        while (cgroup_is_frozen(c) != on) {
                struct pollfd fd = { .fd = events, .events = POLLPRI };
                if (g_get_monotonic_time() > end)
                        return err_set(error, ETIMEDOUT, "%s the box's processes", on ? "stop" : "continue");
                (void) poll(&fd, 1, 10);
        }
        return true;
}

bool cgroup_kill(const Cgroup *c, GError **error) {
        return write_file(c, LEAF "cgroup.kill", "1", error);
}

/* "some avg10=0.00 avg60=..." */
static double pressure_line(const char *text, const char *kind) {
        g_autofree char *key = g_strconcat(kind, " avg10=", NULL);
        const char *at = text ? strstr(text, key) : NULL;

        return at ? g_ascii_strtod(at + strlen(key), NULL) : -1;
}

static CgroupPressure pressure(const Cgroup *c, const char *file) {
        g_autofree char *text = read_text(c, file);

        return (CgroupPressure){ .some = pressure_line(text, "some"), .full = pressure_line(text, "full") };
}

/* A line for each disk: "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0". */
static guint64 io_sum(const char *text, const char *key) {
        guint64 sum = 0;

        for (const char *at = text ? strstr(text, key) : NULL; at; at = strstr(at + 1, key))
                if (at[-1] == ' ')
                        sum += g_ascii_strtoull(at + strlen(key), NULL, 10);
        return sum;
}

static void read_io(const Cgroup *c, CgroupNumbers *n) {
        g_autofree char *text = read_text(c, "io.stat");

        n->read_bytes = text ? io_sum(text, "rbytes=") : G_MAXUINT64;
        n->write_bytes = text ? io_sum(text, "wbytes=") : G_MAXUINT64;
        n->reads = text ? io_sum(text, "rios=") : G_MAXUINT64;
        n->writes = text ? io_sum(text, "wios=") : G_MAXUINT64;
}

static void read_cpu(const Cgroup *c, CgroupNumbers *n) {
        g_autofree char *stat = read_text(c, "cpu.stat"), *max = read_text(c, "cpu.max");
        const char *space = max ? strchr(max, ' ') : NULL;

        n->cpu_us = keyed(stat, "usage_usec", G_MAXUINT64);
        n->periods = keyed(stat, "nr_periods", 0);
        n->throttled = keyed(stat, "nr_throttled", 0);
        n->throttled_us = keyed(stat, "throttled_usec", 0);
        n->cpu_quota_us = max && g_ascii_isdigit(*max) ? g_ascii_strtoull(max, NULL, 10) : G_MAXUINT64;
        n->cpu_period_us = space ? g_ascii_strtoull(space + 1, NULL, 10) : 0;
}

/* A pod's processes are its boxes'. */
static void read_pids(const Cgroup *c, CgroupNumbers *n) {
        const char *leaf = c->pod ? SCOPE_LEAF_BOXES : SCOPE_LEAF_PAYLOAD;
        g_autofree char *current = g_strconcat(leaf, "/pids.current", NULL), *max = g_strconcat(leaf, "/pids.max", NULL);
        g_autofree char *events = g_strconcat(leaf, "/pids.events", NULL), *text = read_text(c, events);

        n->pids = number(c, current);
        n->pids_max = number(c, max);
        n->pids_refused = keyed(text, "max", 0);
}

void cgroup_read(const Cgroup *c, CgroupNumbers *n) {
        g_autofree char *memory_events = read_text(c, "memory.events");

        n->memory = number(c, "memory.current");
        n->memory_peak = number(c, "memory.peak"); /* Linux 5.19 */
        n->memory_max = number(c, "memory.max");
        n->swap = number(c, "memory.swap.current");
        n->oom_kills = keyed(memory_events, "oom_kill", 0);
        /* "oom" is counted where the limit is that was met, and above. */
        n->oom_by_pod = c->in_pod && n->oom_kills > 0 && keyed(memory_events, "oom", 0) == 0;
        n->pod_memory_max = c->in_pod ? number(c, PODS "memory.max") : G_MAXUINT64;
        n->pod_pids_max = c->in_pod ? number(c, PODS_BOXES "pids.max") : G_MAXUINT64;
        read_pids(c, n);
        read_cpu(c, n);
        read_io(c, n);
        n->pressure_cpu = pressure(c, "cpu.pressure");
        n->pressure_memory = pressure(c, "memory.pressure");
        n->pressure_io = pressure(c, "io.pressure");
}

/* The processes in one cgroup. */
static void add_processes(int dir, GArray *ret) {
        g_autofree char *text = NULL;

        if (fd_read_file(dir, "cgroup.procs", FILE_MAX, &text, NULL)) {
                char *rest = text;
                for (char *line; (line = strsep(&rest, "\n")) && *line;) {
                        pid_t pid = (pid_t) g_ascii_strtoll(line, NULL, 10);
                        if (pid > 0)
                                g_array_append_val(ret, pid);
                }
        }
}

GArray *cgroup_processes(const Cgroup *c) {
        GArray *ret = g_array_new(FALSE, FALSE, sizeof(pid_t));
        _cleanup_close_ int dir = openat(c->fd, SCOPE_LEAF_PAYLOAD, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (dir >= 0)
                add_processes(dir, ret);
        return ret;
}

/* Below this it is noise: a process that was stopped for one tick at a period's end. */
#define THROTTLED_WORTH_US 50000

/* Linux before 6.11 counts a refusal where the process is, whoever's limit it was: where both have one, it may be either's. */
static char *pids_limit_text(const CgroupNumbers *n) {
        if (n->pod_pids_max == G_MAXUINT64)
                return g_strdup_printf("limit %" G_GUINT64_FORMAT, n->pids_max);
        if (n->pids_max == G_MAXUINT64)
                return g_strdup_printf("the pod's limit %" G_GUINT64_FORMAT, n->pod_pids_max);
        return g_strdup_printf("limit %" G_GUINT64_FORMAT " or the pod's limit %" G_GUINT64_FORMAT, n->pids_max, n->pod_pids_max);
}

GPtrArray *cgroup_outcome(const CgroupNumbers *n) {
        GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);

        if (n->oom_kills > 0) {
                guint64 limit = n->oom_by_pod ? n->pod_memory_max : n->memory_max;
                g_autofree char *max = limit == G_MAXUINT64 ? g_strdup("no") : limits_size_text(limit);
                g_autofree char *peak = n->memory_peak == G_MAXUINT64 ? NULL : limits_size_text(n->memory_peak);
                g_ptr_array_add(lines, g_strdup_printf("out of memory: %s%s limit%s%s, %" G_GUINT64_FORMAT " kill%s",
                                                       n->oom_by_pod && limit != G_MAXUINT64 ? "the pod's " : "", max, peak ? ", peak " : "",
                                                       peak ? peak : "", n->oom_kills, number_plural(n->oom_kills)));
        }
        if (n->pids_refused > 0) {
                g_autofree char *limit = pids_limit_text(n);
                g_ptr_array_add(lines, g_strdup_printf("out of processes: %s, refused %" G_GUINT64_FORMAT " time%s", limit, n->pids_refused,
                                                       number_plural(n->pids_refused)));
        }
        if (n->throttled_us >= THROTTLED_WORTH_US && n->cpu_quota_us != G_MAXUINT64 && n->cpu_period_us > 0)
                g_ptr_array_add(lines, g_strdup_printf("throttled: limit %g CPUs, in %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " periods, waited %.1f s",
                                                       (double) n->cpu_quota_us / (double) n->cpu_period_us, n->throttled, n->periods,
                                                       (double) n->throttled_us / 1e6));
        return lines;
}
