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
#include "fsoverlay/config.h"
#include "spec.h"

static bool apply_rootfs(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->root.rootfs);
        draft->root.rootfs = option_host_path(draft, values[0]);
        return true;
}

static bool apply_overlay(Spec *draft, const char *const *values, GError **error) {
        unsigned place;

        if (!option_choice("--overlay", values[0], OVERLAY_DRIVERS, &place, error))
                return false;
        draft->root.overlay = (OverlayDriver) place;
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

/* A pattern that says where it begins is made absolute, as a path is; any other may begin at every directory. */
static bool hide_glob(Spec *draft, const char *text, GError **error) {
        bool anchored = text[0] == '/' || g_str_has_prefix(text, "~/") || g_str_has_prefix(text, "./") ||
                        g_str_has_prefix(text, "../");
        g_autofree char *host = anchored ? option_host_path(draft, text) : NULL;
        g_autofree char *pattern = host ? option_normal_path(host) : g_strdup(text);

        if (!fs_rule_check(FS_RULE_GLOB, pattern, error)) {
                g_prefix_error(error, "--hide: ");
                return false;
        }
        g_ptr_array_add(draft->root.hide_globs, g_steal_pointer(&pattern));
        return true;
}

static bool apply_hide(Spec *draft, const char *const *values, GError **error) {
        if (strpbrk(values[0], "*?["))
                return hide_glob(draft, values[0], error);
        g_autofree char *host = option_host_path(draft, values[0]);
        char *path = NULL;
        if (!option_box_path("--hide", host, true, &path, error))
                return false;
        g_ptr_array_add(draft->root.hide, path);
        return true;
}

static bool apply_disk(Spec *draft, const char *const *values, GError **error) {
        guint64 bytes;

        if (!option_size("--disk", values[0], &bytes, error))
                return false;
        if (bytes == 0) {
                err_usage(error, "--disk: a copy of no bytes could not be written");
                return err_hint(error, "a root that cannot be written: --read-only");
        }
        draft->root.disk = bytes;
        return true;
}

static bool apply_trace_files(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->root.trace_file);
        draft->root.trace_file = option_host_path(draft, values[0]);
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
          .arg = OVERLAY_DRIVERS,
          .group = OPTION_ROOT,
          .complete = COMPLETE_CHOICES,
          .choices = OVERLAY_DRIVERS,
          .help = "copy-on-write by usbox-fs, by the kernel's overlayfs, or a root that cannot be written "
                  "(default: " OVERLAY_DEFAULT_NAME ")",
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
          .arg = "PATH|GLOB",
          .group = OPTION_ROOT,
          .flags = OPTION_LIST,
          .complete = COMPLETE_FILE,
          .help = "PATH, or with --overlay=fuse each name that GLOB matches ('*.pem', '**/.env'), does not exist in the box",
          .apply = apply_hide },
        { .name = "disk",
          .arg = "SIZE",
          .group = OPTION_ROOT,
          .help = "what the box writes may take no more than SIZE on disk (only with --overlay=fuse)",
          .apply = apply_disk },
        { .name = "trace-files",
          .arg = "FILE",
          .group = OPTION_ROOT,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_FILE,
          .help = "append to FILE, as JSON lines, what the box reads, writes and looks for in vain (only with --overlay=fuse)",
          .apply = apply_trace_files },
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
        s->overlay = OVERLAY_DEFAULT;
        s->home = HOME_TOOLS;
        s->hide = g_ptr_array_new_with_free_func(g_free);
        s->hide_globs = g_ptr_array_new_with_free_func(g_free);
}

void root_clear(RootSpec *s) {
        g_free(s->rootfs);
        g_free(s->workdir);
        g_free(s->trace_file);
        g_clear_pointer(&s->hide, g_ptr_array_unref);
        g_clear_pointer(&s->hide_globs, g_ptr_array_unref);
}

const char *root_overlay_name(OverlayDriver overlay) {
        static const char *const names[] = { [OVERLAY_FUSE] = "fuse", [OVERLAY_KERNEL] = "kernel", [OVERLAY_NONE] = "none" };
        return names[overlay];
}

/* What the kernel's overlay cannot do, and a root without one needs not. */
static bool check_driver(const RootSpec *root, GError **error) {
        g_autofree char *what = NULL;

        if (root->overlay == OVERLAY_FUSE)
                return true;
        if (root->hide_globs->len > 0) {
                g_autofree char *quoted = err_quote(g_ptr_array_index(root->hide_globs, 0));
                what = g_strdup_printf("--hide: '%s' is a pattern, and that is", quoted);
        } else if (root->disk > 0) {
                what = g_strdup("--disk is");
        } else if (root->trace_file) {
                what = g_strdup("--trace-files is");
        } else {
                return true;
        }
        err_usage(error, "%s for --overlay=fuse, not --overlay=%s", what, root_overlay_name(root->overlay));
        return err_hint(error, root->hide_globs->len > 0 ? "add --overlay=fuse, or name each file or directory: --hide .env" :
                                                           "add --overlay=fuse");
}

bool root_check(Spec *draft, GError **error) {
        if (!check_driver(&draft->root, error))
                return false;
        if (draft->root.overlay == OVERLAY_NONE)
                draft->root.read_only = true;
        /* --rootfs / is the default by another name. */
        char *real = draft->root.rootfs ? realpath(draft->root.rootfs, NULL) : NULL;
        if (draft->root.rootfs && !real) {
                int errnum = errno;
                g_autofree char *shown = err_quote(draft->root.rootfs);
                err_set(error, errnum, "--rootfs %s", shown);
                return err_hint(error, "it is a directory with a system in it, such as one that mmdebstrap makes, or podman export | tar -x unpacks");
        }
        if (real && g_str_equal(real, "/"))
                g_clear_pointer(&draft->root.rootfs, g_free);
        free(real);
        return true;
}
