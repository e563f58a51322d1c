/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Profiles: options by name, from files and built in.
 *
 * A profile decides what a box may do, so whoever can write one can open it: a file counts only if it is the caller's
 * or root's and nobody else may write it, and never because it lies in the working directory (that is where untrusted
 * code is).
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: within option_parse(), before the options themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "profile.h"
#include "profile-builtin.h"
#include "spec.h"

#define GROUP "usbox"
#define SYSTEM_DIR "/etc/usbox/profiles"
#define SUFFIX ".conf"
#define FILE_MAX (1024 * 1024)
#define DEPTH_MAX 16

static void item_free(gpointer p) {
        ProfileItem *item = p;
        g_free(item->value);
        g_free(item);
}

void profile_free(Profile *profile) {
        g_free(profile->source);
        g_free(profile->description);
        g_strfreev(profile->inherits);
        g_clear_pointer(&profile->items, g_ptr_array_unref);
        g_free(profile);
}

/* ${NAME} replaced; NULL and *ret_unset where a variable is not set, or is empty: half a path is not a path. */
static char *expand(const char *value, char **ret_unset) {
        g_autoptr(GString) out = g_string_new(NULL);
        const char *p = value, *open, *close;

        while ((open = strstr(p, "${")) && (close = strchr(open, '}'))) {
                g_autofree char *name = g_strndup(open + 2, (gsize) (close - open - 2));
                const char *set = g_getenv(name);
                if (!set || *set == '\0') {
                        *ret_unset = g_steal_pointer(&name);
                        return NULL;
                }
                g_string_append_len(out, p, open - p);
                g_string_append(out, set);
                p = close + 1;
        }
        g_string_append(out, p);
        return g_string_free(g_steal_pointer(&out), FALSE);
}

/* Whether an item may be passed over for a variable that is not set. Of most the box would have more without it: a name that is not hidden, a
 * network without its only rule. */
static bool may_be_passed_over(const ProfileItem *item) {
        if (g_str_equal(item->option->name, "mount")) {
                g_auto(GStrv) words = g_strsplit(item->value, ",", -1);
                return g_strv_contains((const char *const *) words, "optional");
        }
        return g_str_equal(item->option->name, "env");
}

static bool unknown_key(const char *source, const char *key, GError **error) {
        g_autofree char *quoted = err_quote(key), *file = err_quote(source);
        g_autoptr(GPtrArray) keys = g_ptr_array_new();

        for (const Option *const *o = option_all(); *o; o++)
                if (option_in_profile(*o))
                        g_ptr_array_add(keys, (char *) (*o)->name);
        g_ptr_array_add(keys, (char *) "inherits");
        g_ptr_array_add(keys, (char *) "description");
        g_ptr_array_add(keys, NULL);

        const Option *o = option_find(key);
        err_usage(error, o ? "%s: --%s is not for profiles" : "%s: unknown key '%s'", file, quoted);
        const char *near = option_nearest(key, (const char *const *) keys->pdata);
        return near ? err_hint(error, "did you mean %s?", near)
                    : err_hint(error, "keys are the long names of options, see usbox-profile(5)");
}

/* One key's value or values into items. */
static bool parse_key(Profile *profile, GKeyFile *file, const char *key, GError **error) {
        const Option *o = option_find(key);
        g_auto(GStrv) values = NULL;

        if (!o || !option_in_profile(o) || !g_str_equal(o->name, key))
                return unknown_key(profile->source, key, error);
        if (o->flags & OPTION_LIST)
                values = g_key_file_get_string_list(file, GROUP, key, NULL, error);
        else {
                values = g_new0(char *, 2);
                values[0] = g_key_file_get_string(file, GROUP, key, error);
                if (!values[0])
                        return false;
        }
        /* No item is no word of what is wanted: `allow=` would leave everything open. */
        if (values && !*values) {
                g_autofree char *quoted = err_quote(profile->source);
                err_usage(error, "%s: --%s: the value is empty", quoted, key);
                return err_hint(error, "give it one, or take the line %s= out", key);
        }
        for (char **value = values; value && *value; value++) {
                ProfileItem *item = g_new0(ProfileItem, 1);
                item->option = o;
                item->value = g_strdup(*value);
                g_ptr_array_add(profile->items, item);
        }
        return values != NULL;
}

/* GKeyFile lets the last of two equal keys win without a word: a `hide=` would be lost. */
static bool check_doubles(const char *source, const char *text, GError **error) {
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (char **line = lines; *line; line++) {
                const char *eq = strchr(*line, '=');
                if (**line == '#' || !eq)
                        continue;
                char *key = g_strndup(*line, (gsize) (eq - *line));
                if (!g_hash_table_add(seen, g_strstrip(key))) {
                        g_autofree char *quoted = err_quote(g_strstrip(*line)), *file = err_quote(source);
                        err_usage(error, "%s: the key of '%s' is there twice", file, quoted);
                        return err_hint(error, "put the items of a list in one line, with ';' between them");
                }
        }
        return true;
}

/* What GKeyFile says has no code of ours: keep the text. */
static bool bad_file(const char *source, GError *cause, GError **error) {
        g_autofree char *file = err_quote(source), *why = err_quote(cause ? cause->message : "");
        g_clear_error(&cause);
        err_usage(error, "%s: %s", file, why);
        err_hint(error, "it begins with [" GROUP "], then KEY=VALUE a line; # begins a comment: usbox-profile(5)");
        return err_step(error, "profile");
}

static bool parse_into(Profile *profile, const char *text, GError **error) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        GError *cause = NULL;

        if (*text && !g_key_file_load_from_data(file, text, (gsize) -1, G_KEY_FILE_NONE, &cause))
                return bad_file(profile->source, cause, error);
        g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
        for (char **group = groups; *group; group++)
                if (!g_str_equal(*group, GROUP)) {
                        g_autofree char *quoted = err_quote(*group), *source = err_quote(profile->source);
                        err_usage(error, "%s: unknown group [%s]; a profile has one, [" GROUP "]", source, quoted);
                        return err_hint(error, "write its keys below [" GROUP "]: usbox-profile(5)");
                }
        if (!check_doubles(profile->source, text, error))
                return false;

        g_auto(GStrv) keys = g_key_file_get_keys(file, GROUP, NULL, NULL);
        for (char **key = keys; key && *key; key++) {
                if (g_str_equal(*key, "description")) {
                        g_free(profile->description);
                        profile->description = g_key_file_get_string(file, GROUP, *key, &cause);
                } else if (g_str_equal(*key, "inherits")) {
                        g_strfreev(profile->inherits);
                        profile->inherits = g_key_file_get_string_list(file, GROUP, *key, NULL, &cause);
                } else if (!parse_key(profile, file, *key, &cause)) {
                        if (cause->domain == USBOX_ERROR) {
                                g_propagate_error(error, cause);
                                return false;
                        }
                }
                if (cause)
                        return bad_file(profile->source, cause, error);
        }
        return true;
}

Profile *profile_parse(const char *source, const char *text, GError **error) {
        g_autoptr(Profile) profile = g_new0(Profile, 1);

        profile->source = g_strdup(source);
        profile->description = g_strdup("");
        profile->inherits = g_new0(char *, 1);
        profile->items = g_ptr_array_new_with_free_func(item_free);
        if (!parse_into(profile, text, error)) {
                err_step(error, "profile");
                return NULL;
        }
        return g_steal_pointer(&profile);
}

static bool check_trust(const char *path, const struct stat *st, uid_t caller, GError **error) {
        g_autofree char *quoted = err_quote(path);

        if (!S_ISREG(st->st_mode))
                return err_usage(error, "%s: not a regular file", quoted);
        if (st->st_uid != caller && st->st_uid != 0) {
                err_usage(error, "%s: it belongs to uid %u, neither to you nor to root", quoted, st->st_uid);
                return err_hint(error, "read it, and copy it to a file of your own");
        }
        if (st->st_mode & (S_IWGRP | S_IWOTH)) {
                err_usage(error, "%s: others may write it", quoted);
                return err_hint(error, "chmod go-w %s", quoted);
        }
        return true;
}

/* The profile in the file path. *ret is NULL without an error where there is no such file. */
static bool load_file(const Spec *draft, const char *path, Profile **ret, GError **error) {
        g_autofree char *text = NULL, *quoted = err_quote(path);
        struct stat st;
        size_t len;

        *ret = NULL;
        /* O_NONBLOCK: a FIFO in its place must not hold us up. */
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
                return true;
        if (fd < 0 || fstat(fd, &st) < 0) {
                int errnum = errno;
                err_set_code(error, USBOX_ERROR_USAGE, errnum, "%s", quoted);
                if (errnum == EACCES)
                        err_hint(error, "a profile of yours by that name may lie there: let it be read, or set XDG_CONFIG_HOME");
                return false;
        }
        if (!check_trust(path, &st, draft->caller.uid, error))
                return false;
        if (!fd_read_all(fd, FILE_MAX, &text, &len))
                return err_set_code(error, USBOX_ERROR_USAGE, errno, "%s", quoted);
        if (strlen(text) != len)
                return err_usage(error, "%s: a NUL byte in it", quoted);
        *ret = profile_parse(path, text, error);
        return *ret != NULL;
}

/* The directories of profiles by name, in the order of the search. */
static char **search_dirs(const Spec *draft) {
        const char *config = g_getenv("XDG_CONFIG_HOME");
        char **dirs = g_new0(char *, 3);

        dirs[0] = config && *config == '/' ? g_build_filename(config, "usbox/profiles", NULL)
                                           : g_build_filename(draft->caller.home, ".config/usbox/profiles", NULL);
        dirs[1] = g_strdup(SYSTEM_DIR);
        return dirs;
}

static bool is_name(const char *name) {
        return *name && *name != '.' && *name != '-' && strlen(name) <= 64 &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(name);
}

static const ProfileBuiltin *find_builtin(const char *name) {
        for (const ProfileBuiltin *b = profile_builtins; b->name; b++)
                if (g_str_equal(b->name, name))
                        return b;
        return NULL;
}

/* own: one of that name asks for the next. */
static bool not_found(const Spec *draft, const char *name, bool own, GError **error) {
        g_auto(GStrv) names = profile_names(draft);
        g_autofree char *quoted = err_quote(name), *in_cwd = g_build_filename(draft->caller.cwd, name, NULL);

        err_usage(error, own ? "no other profile '%s'" : "no profile '%s'", quoted);
        if (own)
                return err_hint(error, "a profile that inherits its own name goes on from the one that it stands before, in " SYSTEM_DIR " or built in");
        if (g_str_equal(name, "default"))
                return err_hint(error, "that is what is in force without one; leave --profile away");
        if (access(in_cwd, F_OK) == 0)
                return err_hint(error, "a file is named by its path: ./%s", quoted);
        const char *near = option_nearest(name, (const char *const *) names);
        return near ? err_hint(error, "did you mean %s?", near) : err_hint(error, "'usbox profile list' shows them");
}

/* A name, on the search path behind the place `after` (NULL: from its start). *ret NULL without error: not found. */
static bool search(const Spec *draft, const char *name, const char *after, Profile **ret, GError **error) {
        g_auto(GStrv) dirs = search_dirs(draft);
        const ProfileBuiltin *builtin = find_builtin(name);
        bool skipping = after != NULL;

        *ret = NULL;
        for (char **dir = dirs; *dir; dir++) {
                g_autofree char *path = g_strconcat(*dir, "/", name, SUFFIX, NULL);
                if (skipping) {
                        skipping = !g_str_equal(path, after);
                        continue;
                }
                if (!load_file(draft, path, ret, error))
                        return false;
                if (*ret)
                        return true;
        }
        if (!builtin)
                return true;
        g_autofree char *source = g_strdup_printf("built-in %s", name);
        if (g_strcmp0(source, after) == 0)
                return true;
        *ret = profile_parse(source, builtin->text, error);
        return *ret != NULL;
}

/* profile_load(), but a profile that inherits its own name means the next one of that name on the search path. */
static Profile *load_for(const Spec *draft, const char *name, const char *child, GError **error) {
        Profile *profile = NULL;
        bool ok;

        if (strchr(name, '/')) {
                g_autofree char *path = option_host_path(draft, name), *quoted = err_quote(name);
                ok = load_file(draft, path, &profile, error);
                if (ok && !profile)
                        ok = err_set_code(error, USBOX_ERROR_USAGE, ENOENT, "%s", quoted);
        } else if (!is_name(name)) {
                g_autofree char *quoted = err_quote(name);
                ok = err_usage(error, "'%s' is not the name of a profile", quoted);
        } else {
                g_autofree char *file = g_strconcat("/", name, SUFFIX, NULL);
                bool own = child && g_str_has_suffix(child, file);
                ok = search(draft, name, own ? child : NULL, &profile, error);
                if (ok && !profile)
                        ok = not_found(draft, name, own, error);
        }
        if (!ok && child) {
                g_autofree char *heir = err_quote(child);
                g_prefix_error(error, "%s: inherits: ", heir);
        }
        if (!ok)
                err_step(error, "profile");
        return profile;
}

Profile *profile_load(const Spec *draft, const char *name, GError **error) {
        return load_for(draft, name, NULL, error);
}

static bool unset_variable(const ProfileItem *item, const char *name, GError **error) {
        g_autofree char *value = err_quote(item->value), *variable = err_quote(name);

        err_usage(error, "--%s: '%s': the variable %s is not set, or is empty", item->option->name, value, variable);
        return err_hint(error, "set it for this run, or take the item out of the profile");
}

static bool apply_items(Spec *draft, const Profile *profile, GError **error) {
        draft->net.rules_place = 0;
        for (guint i = 0; i < profile->items->len; i++) {
                const ProfileItem *item = g_ptr_array_index(profile->items, i);
                /* The rest is its boxes'. */
                if (draft->pod.make && !pod_has_option(item->option))
                        continue;
                g_autofree char *unset = NULL, *value = expand(item->value, &unset);
                if (!value && may_be_passed_over(item))
                        continue;
                const char *values[] = { value, NULL };
                if (value ? !option_apply(item->option, draft, values, error) : !unset_variable(item, unset, error)) {
                        g_autofree char *quoted = err_quote(profile->source);
                        g_prefix_error(error, "%s: ", quoted);
                        return err_step(error, "profile");
                }
        }
        return true;
}

/* open: the sources of the profiles that wait for this one, the innermost last. */
static bool apply_within(Spec *draft, const char *name, GPtrArray *open_sources, GError **error) {
        const char *child = open_sources->len > 0 ? g_ptr_array_index(open_sources, open_sources->len - 1) : NULL;
        g_autoptr(Profile) profile = load_for(draft, name, child, error);

        if (!profile)
                return false;
        if (g_ptr_array_find_with_equal_func(open_sources, profile->source, g_str_equal, NULL) ||
            open_sources->len >= DEPTH_MAX) {
                g_autofree char *quoted = err_quote(profile->source), *from = err_quote(child);
                err_usage(error, "%s inherits %s, which leads back to it", from, quoted);
                err_hint(error, "take inherits= out of one of them");
                return err_step(error, "profile");
        }
        if (g_ptr_array_find_with_equal_func(draft->box.profiles, profile->source, g_str_equal, NULL))
                return true;

        g_ptr_array_add(open_sources, profile->source);
        for (char **parent = profile->inherits; *parent; parent++)
                if (!apply_within(draft, *parent, open_sources, error))
                        return false;
        g_ptr_array_set_size(open_sources, (gint) open_sources->len - 1);
        g_ptr_array_add(draft->box.profiles, g_strdup(profile->source));
        return apply_items(draft, profile, error);
}

bool profile_apply(Spec *draft, const char *name, GError **error) {
        g_autoptr(GPtrArray) open_sources = g_ptr_array_new();

        bool ok = apply_within(draft, name, open_sources, error);
        draft->net.rules_place = 0; /* what comes behind it is another source, whose rules come before these */
        return ok;
}

static int compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

char **profile_names(const Spec *draft) {
        g_auto(GStrv) dirs = search_dirs(draft);
        GPtrArray *names = g_ptr_array_new();

        for (const ProfileBuiltin *b = profile_builtins; b->name; b++)
                g_ptr_array_add(names, g_strdup(b->name));
        for (char **dir = dirs; *dir; dir++) {
                g_autoptr(GDir) entries = g_dir_open(*dir, 0, NULL);
                const char *entry;
                while (entries && (entry = g_dir_read_name(entries))) {
                        g_autofree char *name = g_str_has_suffix(entry, SUFFIX)
                                                        ? g_strndup(entry, strlen(entry) - strlen(SUFFIX))
                                                        : g_strdup("");
                        if (is_name(name) && !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
                                g_ptr_array_add(names, g_steal_pointer(&name));
                }
        }
        g_ptr_array_sort(names, compare_names);
        g_ptr_array_add(names, NULL);
        return (char **) g_ptr_array_free(names, FALSE);
}
