/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line of usbox-fs without the launcher: flags, the mount point, and whether the whole of it makes sense. standalone-options.c
 * takes apart what comes after -o.
 *
 * Role: usbox-fs, stand-alone. Privileges: the caller's. Threads: one. Order: first thing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fsoverlay/standalone.h"

static bool apply_flag(StandaloneOptions *o, const char *arg, GError **error) {
        if (g_str_equal(arg, "-f"))
                o->foreground = true;
        else if (g_str_equal(arg, "-d") || g_str_equal(arg, "--debug"))
                o->debug = o->foreground = true;
        else if (g_str_equal(arg, "-s"))
                o->threads = 1;
        else if (g_str_equal(arg, "-h") || g_str_equal(arg, "--help"))
                o->help = true;
        else if (g_str_equal(arg, "-V") || g_str_equal(arg, "--version"))
                o->version = true;
        else {
                g_autofree char *quoted = err_quote(arg);
                err_usage(error, "%s: unknown option", quoted);
                return err_hint(error, "usbox-fs --help lists the options");
        }
        return true;
}

static bool set_mountpoint(StandaloneOptions *o, const char *arg, GError **error) {
        g_autofree char *quoted = err_quote(arg);

        if (o->mountpoint)
                return err_usage(error, "%s: there is one mount point already", quoted);
        char *real = realpath(arg, NULL);
        if (!real)
                return err_set(error, errno, "mount point %s", quoted);
        o->mountpoint = g_strdup(real);
        free(real);
        return true;
}

static bool is_pattern(const char *text) {
        return text[0] != '/' || strpbrk(text, "*?[\\");
}

static bool check(StandaloneOptions *o, GError **error) {
        if (o->lowers->len == 0)
                return err_usage(error, "-o lowerdir=… is missing");
        if (!o->upper != !o->work)
                return err_usage(error, "-o %s=… is missing beside -o %s=…", o->upper ? "workdir" : "upperdir", o->upper ? "upperdir" : "workdir");
        if (!o->mountpoint)
                return err_usage(error, "the mount point is missing");
        for (guint i = 0; i < o->hide->len; i++) {
                const char *rule = o->hide->pdata[i];
                if (!fs_rule_check(is_pattern(rule) ? FS_RULE_GLOB : FS_RULE_HIDE, rule, error)) {
                        g_prefix_error(error, "-o hide: ");
                        return false;
                }
        }
        o->read_only = o->read_only || !o->upper;
        return true;
}

static bool parse(int argc, char **argv, StandaloneOptions *ret, GError **error) {
        bool only_names = false;

        *ret = (StandaloneOptions){ .squash_uid = -1, .squash_gid = -1 };
        ret->lowers = g_ptr_array_new_with_free_func(g_free);
        ret->hide = g_ptr_array_new_with_free_func(g_free);
        ret->uidmap = g_array_new(FALSE, FALSE, sizeof(FsIdRange));
        ret->gidmap = g_array_new(FALSE, FALSE, sizeof(FsIdRange));
        ret->fsname = g_strdup("usbox-fs");

        for (int i = 1; i < argc; i++) {
                const char *arg = argv[i];
                bool ok;
                if (only_names || arg[0] != '-' || !arg[1])
                        ok = set_mountpoint(ret, arg, error);
                else if (g_str_equal(arg, "--")) {
                        only_names = true;
                        ok = true;
                } else if (g_str_equal(arg, "-o"))
                        ok = i + 1 < argc ? standalone_apply_options(ret, argv[++i], error) : err_usage(error, "-o: needs a list of options");
                else if (g_str_has_prefix(arg, "-o"))
                        ok = standalone_apply_options(ret, arg + 2, error);
                else
                        ok = apply_flag(ret, arg, error);
                if (!ok)
                        return false;
                if (ret->help || ret->version)
                        break;
        }
        return true;
}

bool standalone_parse(int argc, char **argv, StandaloneOptions *ret, GError **error) {
        return parse(argc, argv, ret, error) && (ret->help || ret->version || check(ret, error));
}

bool standalone_parse_diff(int argc, char **argv, StandaloneOptions *ret, GError **error) {
        if (!parse(argc, argv, ret, error))
                return false;
        if (ret->help)
                return true;
        if (ret->mountpoint || ret->version)
                return err_usage(error, "takes -o lowerdir=…,upperdir=… alone");
        return (ret->lowers->len > 0 || err_usage(error, "-o lowerdir=… is missing")) && (ret->upper || err_usage(error, "-o upperdir=… is missing"));
}

void standalone_clear(StandaloneOptions *o) {
        g_clear_pointer(&o->lowers, g_ptr_array_unref);
        g_clear_pointer(&o->hide, g_ptr_array_unref);
        g_clear_pointer(&o->uidmap, g_array_unref);
        g_clear_pointer(&o->gidmap, g_array_unref);
        g_clear_pointer(&o->upper, g_free);
        g_clear_pointer(&o->work, g_free);
        g_clear_pointer(&o->mountpoint, g_free);
        g_clear_pointer(&o->trace, g_free);
        g_clear_pointer(&o->stats, g_free);
        g_clear_pointer(&o->fsname, g_free);
        g_clear_pointer(&o->context, g_free);
}

FsConfig *standalone_config(const StandaloneOptions *o) {
        FsConfig *config = fs_config_new();

        config->verbose = o->debug;
        config->strict = o->strict;
        config->read_only = o->read_only;
        config->no_polling = o->no_polling;
        config->threads = o->threads;
        config->disk = o->disk;
        g_array_append_vals(config->uidmap, o->uidmap->data, o->uidmap->len);
        g_array_append_vals(config->gidmap, o->gidmap->data, o->gidmap->len);
        for (guint i = 0; i < o->hide->len; i++) {
                const char *rule = o->hide->pdata[i];
                fs_config_add_rule(config, is_pattern(rule) ? FS_RULE_GLOB : FS_RULE_HIDE, rule);
        }
        return config;
}

const char *standalone_help(void) {
        return "usage: usbox-fs [-f] [-d] -o lowerdir=A[:B…][,upperdir=U,workdir=W][,OPTION…] MOUNTPOINT\n"
               "       usbox-fs diff -o lowerdir=A[:B…],upperdir=U\n"
               "\n"
               "An overlay of directories: A over B, changes in U; without upperdir it is read-only. fusermount3 -u MOUNTPOINT ends it.\n"
               "\n"
               "  -f                    stay in the foreground\n"
               "  -d, --debug           and say what happens\n"
               "  -s                    one thread (threads=1)\n"
               "  -h, --help  -V, --version\n"
               "\n"
               "Options of -o:\n"
               "  lowerdir=A[:B…]       what is below, the topmost first; \\: is a colon of a name, \\, a comma\n"
               "  upperdir=U            where changes go, as the kernel's overlayfs (userxattr) has them\n"
               "  workdir=W             of usbox-fs's own, on the file system of U\n"
               "  uidmapping=ID:SHOWN:N[:…]  gidmapping=ID:SHOWN:N[:…]\n"
               "                        N ids of the layers from ID on are shown as those from SHOWN on\n"
               "  squash_to_root  squash_to_uid=ID  squash_to_gid=ID\n"
               "                        all files belong to this one\n"
               "  hide=PATH|PATTERN     this is not there (may be given more than once): /a/b, *.key, **/.env, dir/*.pem\n"
               "  disk=SIZE             limit what U may take (512M, 2G)\n"
               "  trace=FILE            write what is read, written, listed and found absent, as lines of JSON\n"
               "  stats=FILE            write how many requests there were, at the end and on SIGUSR1\n"
               "  cache=fast|strict     trust what is known of the lower (default), or ask again each time\n"
               "  timeout=SECONDS       0: as cache=strict; else as cache=fast\n"
               "  threads=N             that many serve requests\n"
               "  polling=on|off        look for the next request before sleeping (default), or sleep at once\n"
               "  fsync=0, volatile     let programs' fsync be without effect\n"
               "  noacl                 no POSIX ACLs\n"
               "  allow_other           let other users in (always where mount(2) is allowed to the caller)\n"
               "  ro rw suid nosuid dev nodev exec noexec atime noatime sync dirsync  fsname=NAME  context=LABEL\n"
               "                        as mount(8) has them\n";
}
