/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox's own directories in what a box may write: the boxes on the disk, and what is about running ones.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: at the end of spec_build(); own_state_make() in step 3.
 *
 * They are in many a home that is given to be written through, and hold the records and the layers of all boxes. An empty read-only directory in memory stands
 * over them there, right behind the mount that would show them; a tree that lies in them is refused.
 */
#include <errno.h>
#include <string.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "mountinfo.h"
#include "own-state.h"
#include "runtime.h"
#include "state.h"

/* What path is without symlinks, where a part of it may not exist yet. The caller's. */
static char *real_or_to_be(const char *path) {
        g_autofree char *head = g_strdup(path);

        for (;;) {
                g_autofree char *real = path_real(head);
                if (real)
                        return g_build_filename(real, path + strlen(head), NULL);
                char *slash = strrchr(head, '/');
                if (!slash || slash == head)
                        return g_strdup(path);
                *slash = '\0';
        }
}

/* Once each: boxes/ lies in the first one, unless it is a symlink. */
static GPtrArray *own_directories(const Caller *caller) {
        GPtrArray *dirs = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *data = account_data_dir(caller->home);
        RuntimeKind kind;
        char *typed[] = { g_build_filename(data, "usbox", NULL), g_build_filename(data, "usbox", "boxes", NULL), runtime_path(&kind) };

        for (size_t i = 0; i < G_N_ELEMENTS(typed); i++) {
                g_autofree char *real = real_or_to_be(typed[i]);
                if (dirs->len == 0 || !path_is_at_or_below(real, g_ptr_array_index(dirs, 0)))
                        g_ptr_array_add(dirs, g_steal_pointer(&real));
                g_free(typed[i]);
        }
        return dirs;
}

static MountOp *cover_new(const MountOp *of, const char *source, const char *own) {
        MountOp *op = g_new0(MountOp, 1);

        op->kind = MOUNT_TMPFS;
        op->src = g_strdup(own);
        op->dst = g_build_filename(of->dst, own + (g_str_equal(source, "/") ? 0 : strlen(source)), NULL);
        op->read_only = op->own_state = true;
        op->mode = 0555;
        op->fd = -1;
        op->option = g_strdup(of->option);
        return op;
}

bool own_state_check(Spec *draft, GError **error) {
        GPtrArray *ops = draft->mount.ops;
        g_autoptr(GPtrArray) dirs = NULL;

        for (guint i = 0; i < ops->len; i++) {
                const MountOp *op = g_ptr_array_index(ops, i);
                g_autofree char *source = op->kind == MOUNT_BIND && !op->read_only ? path_real(op->src) : NULL;
                guint n = i;

                if (!source) /* no such mount; or no such source, which whoever opens it says */
                        continue;
                if (!dirs)
                        dirs = own_directories(&draft->caller);
                for (guint j = 0; j < dirs->len; j++) {
                        const char *own = g_ptr_array_index(dirs, j);
                        if (path_is_at_or_below(source, own)) {
                                err_usage(error, "%s: usbox keeps what it knows of boxes there, which no box may write", op->option);
                                return err_hint(error, "--ro shows it; usbox explore BOX is a shell on a box's changes");
                        }
                        if (path_is_below(own, source))
                                g_ptr_array_insert(ops, (gint) ++i, cover_new(g_ptr_array_index(ops, n), source, own));
                }
        }
        return true;
}

/* Both, since that is a box's whole need: what matters is whether this one is there then. */
static bool make_one(const Spec *spec, const char *own, GError **error) {
        g_autoptr(GError) failure = NULL;
        _cleanup_close_ int boxes = state_open_boxes(&spec->caller, true, NULL, &failure);
        _cleanup_close_ int runtime = runtime_open(true, boxes < 0 ? NULL : &failure);

        if (g_file_test(own, G_FILE_TEST_IS_DIR))
                return true;
        if (failure)
                g_propagate_error(error, g_steal_pointer(&failure));
        else
                err_set(error, ENOENT, "%s", own);
        return false;
}

bool own_state_make(const Spec *spec, GError **error) {
        for (guint i = 0; i < spec->mount.ops->len; i++) {
                const MountOp *op = g_ptr_array_index(spec->mount.ops, i);
                if (op->own_state && !g_file_test(op->src, G_FILE_TEST_IS_DIR) && !make_one(spec, op->src, error))
                        return false;
        }
        return true;
}
