/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A box's share of disks (--io-weight).
 *
 * Role: usbox-scope. Privileges: the caller's. Threads: one. Order: when settings are written, and whenever systemd has written its own.
 *
 * The kernel has two that share by weight, each with a file of its own: by what requests cost, and a disk's scheduler, bfq. Of a weight above 100 systemd tells
 * bfq less, since it maps what is the most in the one scale to what is the most in the other, and so 300 to 118. But what a box gets is its weight
 * to the others' weights. So we write both, after systemd, which writes its own again when it changes something of the scope or reads its units anew: then
 * the kernel tells us (inotify(7)).
 */
#include <fcntl.h>
#include <sys/inotify.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/leaves.h"

#define COST_WEIGHT "io.weight"
/* What that is called where the disk's scheduler has it (Documentation/block/bfq-iosched.rst), and what it is at most there. */
#define BFQ_WEIGHT "io.bfq.weight"
#define BFQ_WEIGHT_MAX 1000
#define FILE_MAX (64 * 1024)

static bool has(const ScopeCgroup *c, const char *file) {
        return faccessat(c->fd, file, F_OK, 0) == 0;
}

bool weight_check(const ScopeCgroup *c, const char *what, GError **error) {
        if (has(c, COST_WEIGHT) || has(c, BFQ_WEIGHT))
                return true;
        err_set(error, EOPNOTSUPP, "%s: nothing in this machine's kernel shares disks by weight", what);
        return err_hint(error, "sudo modprobe bfq && echo bfq | sudo tee /sys/block/DISK/queue/scheduler");
}

static bool write_weight(const ScopeCgroup *c, const char *file, const char *value, GError **error) {
        return !has(c, file) || fd_write_file(c->fd, file, value) || err_set(error, errno, "write '%s' to %s/%s", value, c->path, file);
}

static char *bfq_weight(const char *value) {
        return g_strdup_printf("%d", MIN((int) g_ascii_strtoll(value, NULL, 10), BFQ_WEIGHT_MAX));
}

bool weight_apply(const ScopeCgroup *c, const char *value, GError **error) {
        g_autofree char *bfq = bfq_weight(value);

        return write_weight(c, COST_WEIGHT, value, error) && write_weight(c, BFQ_WEIGHT, bfq, error);
}

int weight_watch(const ScopeCgroup *c) {
        g_autofree char *path = g_strconcat(CGROUP_MOUNT, c->path, "/" BFQ_WEIGHT, NULL);
        _cleanup_close_ int watch = has(c, BFQ_WEIGHT) ? inotify_init1(IN_CLOEXEC | IN_NONBLOCK) : -1;

        if (watch >= 0 && inotify_add_watch(watch, path, IN_MODIFY) < 0) {
                log_step("watch %s: %s", path, err_text(errno));
                return -1;
        }
        return fd_steal(&watch);
}

void weight_restore(const ScopeCgroup *c, int watch, const char *value) {
        g_autofree char *bfq = bfq_weight(value), *wanted = g_strconcat("default ", bfq, "\n", NULL), *text = NULL;
        char events[4096];

        while (read(watch, events, sizeof events) > 0)
                continue;
        /* Ours makes an event, too. */
        if (fd_read_file(c->fd, BFQ_WEIGHT, FILE_MAX, &text, NULL) && !g_str_has_prefix(text, wanted) && !fd_write_file(c->fd, BFQ_WEIGHT, bfq))
                log_note("write '%s' to %s/" BFQ_WEIGHT ": %s", bfq, c->path, err_text(errno));
}
