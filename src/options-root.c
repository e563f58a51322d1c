/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's root file system: its options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); root-plan.c looks
 * at the host and decides the rest.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "spec.h"

static bool apply_rootfs(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->root.rootfs);
        draft->root.rootfs = option_host_path(draft, values[0]);
        return true;
}

static bool apply_overlay(Spec *draft, const char *const *values, GError **error) {
        unsigned place;

        if (g_str_equal(values[0], "fuse")) {
                err_usage(error, "--overlay: 'fuse' is not in this version");
                return err_hint(error, "--overlay=kernel is the copy-on-write root that this version has");
        }
        if (!option_choice("--overlay", values[0], "kernel|none", &place, error))
                return false;
        draft->root.overlay = place == 0 ? OVERLAY_KERNEL : OVERLAY_NONE;
        return true;
}

static bool apply_read_only(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--read-only", values[0], &draft->root.read_only, error);
}

static bool apply_home(Spec *draft, const char *const *values, GError **error) {
        unsigned place;
        if (!option_choice("--home", values[0], "tools|empty|all", &place, error))
                return false;
        draft->root.home = (HomeMode) place;
        return true;
}

static bool apply_hide(Spec *draft, const char *const *values, GError **error) {
        if (strpbrk(values[0], "*?[")) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--hide: '%s' is a pattern, and this version hides only paths", quoted);
                return err_hint(error, "name each file or directory: --hide .env --hide sub/.env");
        }
        g_autofree char *host = option_host_path(draft, values[0]);
        char *path = NULL;
        if (!option_box_path("--hide", host, true, &path, error))
                return false;
        g_ptr_array_add(draft->root.hide, path);
        return true;
}

static bool apply_workdir(Spec *draft, const char *const *values, GError **error) {
        g_autofree char *path = option_host_path(draft, values[0]);

        g_clear_pointer(&draft->root.workdir, g_free);
        draft->root.workdir_given = true;
        return option_box_path("--workdir", path, false, &draft->root.workdir, error);
}

const Option root_options[] = {
        { .name = "rootfs",
          .arg = "DIR",
          .group = OPTION_ROOT,
          .complete = COMPLETE_DIR,
          .help = "the box's root is DIR, not the host's /",
          .apply = apply_rootfs },
        { .name = "overlay",
          .arg = "kernel|none",
          .group = OPTION_ROOT,
          .complete = COMPLETE_CHOICES,
          .choices = "kernel|none",
          .help = "copy-on-write by the kernel's overlayfs (default), or a root that cannot be written",
          .apply = apply_overlay },
        { .name = "read-only",
          .group = OPTION_ROOT,
          .help = "the root cannot be written; /tmp, /run and mounts of --rw and the like still can",
          .apply = apply_read_only },
        { .name = "home",
          .arg = "tools|empty|all",
          .group = OPTION_ROOT,
          .complete = COMPLETE_CHOICES,
          .choices = "tools|empty|all",
          .help = "of your home the box sees toolchains (default), nothing, or all but credentials",
          .apply = apply_home },
        { .name = "hide",
          .arg = "PATH",
          .group = OPTION_ROOT,
          .flags = OPTION_LIST,
          .complete = COMPLETE_FILE,
          .help = "PATH does not exist in the box",
          .apply = apply_hide },
        { .name = "workdir",
          .short_name = 'w',
          .arg = "DIR",
          .group = OPTION_ROOT,
          .complete = COMPLETE_DIR,
          .help = "where the command starts (default: where you are)",
          .apply = apply_workdir },
        { 0 },
};

void root_init(RootSpec *s) {
        s->overlay = OVERLAY_KERNEL;
        s->home = HOME_TOOLS;
        s->hide = g_ptr_array_new_with_free_func(g_free);
}

void root_clear(RootSpec *s) {
        g_free(s->rootfs);
        g_free(s->workdir);
        g_clear_pointer(&s->hide, g_ptr_array_unref);
}

bool root_check(Spec *draft, GError **error) {
        if (draft->root.overlay == OVERLAY_NONE)
                draft->root.read_only = true;
        /* --rootfs / is the default by another name. */
        char *real = draft->root.rootfs ? realpath(draft->root.rootfs, NULL) : NULL;
        if (real && g_str_equal(real, "/"))
                g_clear_pointer(&draft->root.rootfs, g_free);
        free(real);
        return true;
}
