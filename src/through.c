/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names that lead through a tree which the box may write.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: through_check() at the end of spec_build(); the rest with the sources of mounts, when all of
 * them are open (root-sources.c).
 *
 * What an earlier run made there may be a symlink in the place of a directory that the caller names again: `--rw . --rw vendor/lib` would give it what that
 * leads to. Where it leads to something else in the tree, the box has that anyway.
 */
#include <sys/stat.h>

#include "base/error.h"
#include "mountinfo.h"
#include "through.h"

#define LINKS_MAX 40 /* as the kernel has it (path_resolution(7)) */

static bool is_in_any(const GPtrArray *trees, const char *path) {
        for (guint i = 0; i < trees->len; i++)
                if (path_is_at_or_below(path, trees->pdata[i]))
                        return true;
        return false;
}

/* A symlink in at, a real directory, leads to next; NULL: to nothing. The tree that has the one and not the other; NULL: none. */
static const char *tree_left(const GPtrArray *trees, const char *at, const char *next) {
        for (guint i = 0; i < trees->len; i++) {
                const char *tree = trees->pdata[i];
                if (path_is_at_or_below(at, tree) && !g_str_equal(tree, "/") && !(next && path_is_at_or_below(next, tree)))
                        return tree;
        }
        return NULL;
}

/* Before the names that are to come. */
static void push_names(GQueue *names, const char *path) {
        g_auto(GStrv) more = g_strsplit(path, "/", -1);

        for (guint i = g_strv_length(more); i-- > 0;)
                if (*more[i] && !g_str_equal(more[i], "."))
                        g_queue_push_head(names, g_strdup(more[i]));
}

typedef struct {
        const GPtrArray *trees;
        GQueue names; /* to come */
        char *at;     /* real */
        const char *left;
        bool through;
        unsigned links;
} Way;

/* A symlink that the box cannot have made leads where it says; of one that it can have made it counts where that ends. False: to nothing. */
static bool follow(Way *w, const char *link) {
        if (is_in_any(w->trees, w->at)) {
                char *next = path_real(link);
                w->left = tree_left(w->trees, w->at, next);
                g_free(w->at);
                w->at = next;
                return next;
        }
        g_autofree char *target = g_file_read_link(link, NULL);
        if (!target || ++w->links > LINKS_MAX)
                return false;
        push_names(&w->names, target);
        if (*target == '/') {
                g_free(w->at);
                w->at = g_strdup("/");
        }
        return true;
}

static bool step(Way *w, const char *name, bool last_counts) {
        bool up = g_str_equal(name, "..");
        g_autofree char *there = up ? g_path_get_dirname(w->at) : g_build_filename(w->at, name, NULL);
        struct stat st;

        if (lstat(there, &st) < 0)
                return false; /* nothing, or nothing that we may look at: whoever opens it says so */
        w->through = w->through || is_in_any(w->trees, w->at);
        if (S_ISLNK(st.st_mode) && (last_counts || w->names.length > 0))
                return follow(w, there);
        g_free(w->at);
        w->at = g_steal_pointer(&there);
        return true;
}

static bool refuse(const char *option, const char *path, const char *tree, GError **error) {
        g_autofree char *shown = err_quote(path), *tree_shown = err_quote(tree), *real = path_real(path), *real_shown = real ? err_quote(real) : NULL;

        err_set(error, 0, "%s: %s leads by a symlink out of %s, which the box may write", option, shown, tree_shown);
        if (!real_shown)
                return err_hint(error, "a box may have made it: look at it, and remove it");
        return err_hint(error, "a box may have made it, and it leads to %s: look at it, and name that itself where it is meant", real_shown);
}

bool through_stays(const char *option, const GPtrArray *trees, const char *path, bool follow_last, char **ret_real, GError **error) {
        Way w = { .trees = trees, .names = G_QUEUE_INIT, .at = g_strdup("/") };
        bool there = true;

        push_names(&w.names, path);
        while (there && !w.left && w.names.length > 0) {
                g_autofree char *name = g_queue_pop_head(&w.names);
                there = step(&w, name, follow_last);
        }
        if (ret_real)
                *ret_real = there && w.through ? g_strdup(w.at) : NULL;
        g_queue_clear_full(&w.names, g_free);
        g_free(w.at);
        return !w.left || refuse(option, path, w.left, error);
}

static GPtrArray *written_trees(const Spec *draft) {
        GPtrArray *trees = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < draft->mount.ops->len; i++) {
                const MountOp *op = draft->mount.ops->pdata[i];
                char *real = op->kind == MOUNT_BIND && !op->read_only ? path_real(op->src) : NULL;
                if (real)
                        g_ptr_array_add(trees, real);
        }
        return trees;
}

bool through_check(const Spec *draft, GError **error) {
        const struct {
                const char *option, *path;
                bool replaced; /* the name itself, by another file */
        } files[] = {
                { "--rootfs", draft->root.rootfs, false },
                { "--net-log", draft->net.log_file, false },
                { "--pcap", draft->net.pcap_file, false },
                { "--trace-files", draft->root.trace_file, false },
                { "--pidfile", draft->box.pidfile, true },
        };
        g_autoptr(GPtrArray) trees = written_trees(draft);

        if (trees->len == 0)
                return true;
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
                if (files[i].path && !through_stays(files[i].option, trees, files[i].path, !files[i].replaced, NULL, error))
                        return false;
        for (guint i = 0; draft->process.env_files && i < draft->process.env_files->len; i++)
                if (!through_stays("--env-file", trees, draft->process.env_files->pdata[i], true, NULL, error))
                        return false;
        return true;
}
