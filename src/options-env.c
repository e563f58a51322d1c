/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The payload's environment: options, and what is in force.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then process_check().
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "spec.h"

#define ENV_FILE_MAX (1024 * 1024)
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

bool process_add_variable(GPtrArray *assignments, const char *text) {
        const char *eq = strchr(text, '='), *value = eq ? NULL : g_getenv(text);

        if (eq == text || *text == '\0')
                return false;
        if (eq) {
                g_ptr_array_add(assignments, g_strdup(text));
        } else if (g_str_has_suffix(text, "*")) {
                g_auto(GStrv) names = g_listenv();
                for (guint i = 0; names[i]; i++)
                        if (strncmp(names[i], text, strlen(text) - 1) == 0)
                                g_ptr_array_add(assignments, g_strconcat(names[i], "=", g_getenv(names[i]), NULL));
        } else if (value) {
                g_ptr_array_add(assignments, g_strconcat(text, "=", value, NULL));
        }
        return true;
}

static bool add_assignment(Spec *draft, const char *option, const char *text, GError **error) {
        if (process_add_variable(draft->process.env_ops, text))
                return true;

        g_autofree char *quoted = err_quote(text);
        return err_usage(error, "%s: '%s' is not NAME=VALUE or NAME", option, quoted);
}

static bool apply_env(Spec *draft, const char *const *values, GError **error) {
        return add_assignment(draft, "--env", values[0], error);
}

/* podman's format: a line is NAME=VALUE, NAME or NAME*; blank lines and those that begin with '#' say nothing. No quotes. */
static bool apply_env_file(Spec *draft, const char *const *values, GError **error) {
        g_autofree char *path = option_host_path(draft, values[0]), *quoted = err_quote(values[0]), *text = NULL;
        size_t len;

        if (!fd_read_file(AT_FDCWD, path, ENV_FILE_MAX, &text, &len)) {
                err_set_code(error, USBOX_ERROR_USAGE, errno, "--env-file: %s", quoted);
                return err_hint(error, "it is a file of this machine with a line NAME=VALUE for each variable; -e NAME=VALUE gives one without a file");
        }
        if (!draft->process.env_files)
                draft->process.env_files = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(draft->process.env_files, g_strdup(path));
        if (strlen(text) != len)
                return err_usage(error, "--env-file: %s: a NUL byte in it", quoted);

        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (guint i = 0; lines[i]; i++) {
                char *line = g_strchug(lines[i]);
                if (*line == '\0' || *line == '#' || g_str_equal(line, "\r"))
                        continue;
                g_autofree char *where = g_strdup_printf("--env-file: %s line %u", quoted, i + 1);
                /* No program has set such a variable: an '=' was forgotten, and would be missed in the box alone. */
                if (!strchr(line, '=') && strpbrk(g_strchomp(line), " \t")) {
                        g_autofree char *shown = err_quote(line);
                        err_usage(error, "%s: '%s' is not NAME=VALUE or NAME", where, shown);
                        return err_hint(error, "a line with a NAME alone passes the caller's value on; a name has no blanks");
                }
                if (!add_assignment(draft, where, line, error))
                        return false;
        }
        return true;
}

static bool apply_unsetenv(Spec *draft, const char *const *values, GError **error) {
        if (strchr(values[0], '=')) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--unsetenv: '%s' is not a name", quoted);
        }
        g_ptr_array_add(draft->process.env_ops, g_strdup(values[0]));
        return true;
}

static bool set_base(Spec *draft, const char *option, const char *text, EnvBase base, GError **error) {
        bool on;
        if (!option_bool(option, text, &on, error))
                return false;
        if (on)
                draft->process.env_base = base;
        else if (draft->process.env_base == base)
                draft->process.env_base = ENV_DEFAULT;
        return true;
}

static bool apply_env_inherit(Spec *draft, const char *const *values, GError **error) {
        return set_base(draft, "--env-inherit", values[0], ENV_INHERIT, error);
}

static bool apply_clearenv(Spec *draft, const char *const *values, GError **error) {
        return set_base(draft, "--clearenv", values[0], ENV_CLEAR, error);
}

const Option env_options[] = {
        { .name = "env",
          .short_name = 'e',
          .arg = "NAME[=VALUE]",
          .group = OPTION_ENVIRONMENT,
          .flags = OPTION_LIST,
          .help = "set a variable; NAME alone: to the value that it has outside, if any; 'NAME*': so all whose names begin with NAME",
          .apply = apply_env },
        { .name = "env-file",
          .arg = "FILE",
          .group = OPTION_ENVIRONMENT,
          .flags = OPTION_LIST,
          .complete = COMPLETE_FILE,
          .help = "set what FILE says, a line each; # begins a comment",
          .apply = apply_env_file },
        { .name = "unsetenv",
          .arg = "NAME",
          .group = OPTION_ENVIRONMENT,
          .flags = OPTION_LIST,
          .help = "remove a variable",
          .apply = apply_unsetenv },
        { .name = "env-inherit",
          .group = OPTION_ENVIRONMENT,
          .help = "begin with all of your environment, not only PATH, HOME, LANG, TERM and the like",
          .apply = apply_env_inherit },
        { .name = "clearenv",
          .group = OPTION_ENVIRONMENT,
          .help = "begin with an empty environment",
          .apply = apply_clearenv },
        { 0 },
};

static bool is_passed_on(const char *entry) {
        static const char *const names[] = { "PATH",  "HOME", "USER", "LOGNAME",   "SHELL",  "LANG",
                                             "TZ",    "TERM", "COLORTERM", "EDITOR", "PAGER", NULL };
        g_autofree char *name = g_strndup(entry, strcspn(entry, "="));
        return g_strv_contains(names, name) || g_str_has_prefix(name, "LC_");
}

/* A debian user's PATH has no sbin, and the box's root needs it (dpkg looks for ldconfig there). */
static char **add_sbin(char **env) {
        static const char *const dirs[] = { "/usr/local/sbin", "/usr/sbin", "/sbin", NULL };
        g_autoptr(GString) path = g_string_new(g_environ_getenv(env, "PATH"));
        g_auto(GStrv) have = g_strsplit(path->str, ":", -1);

        for (const char *const *dir = dirs; *dir; dir++)
                if (!g_strv_contains((const char *const *) have, *dir))
                        g_string_append_printf(path, ":%s", *dir);
        return g_environ_setenv(env, "PATH", path->str, TRUE);
}

static char **base_environment(const Spec *draft, const char *const *outside) {
        const Caller *caller = &draft->caller;
        bool all = draft->process.env_base == ENV_INHERIT, root = draft->user.uid == 0;
        char **env = g_new0(char *, 1);

        if (draft->process.env_base == ENV_CLEAR)
                return env;
        for (const char *const *entry = outside; *entry; entry++) {
                const char *eq = strchr(*entry, '=');
                if (!eq || eq == *entry || (!all && !is_passed_on(*entry)))
                        continue;
                g_autofree char *name = g_strndup(*entry, (gsize) (eq - *entry));
                env = g_environ_setenv(env, name, eq + 1, FALSE);
        }
        env = g_environ_setenv(env, "PATH", PATH_DEFAULT, FALSE);
        if (root)
                env = add_sbin(env);
        env = g_environ_setenv(env, "HOME", root ? "/root" : caller->home, root);
        env = g_environ_setenv(env, "USER", root ? "root" : caller->name, TRUE);
        env = g_environ_setenv(env, "LOGNAME", root ? "root" : caller->name, TRUE);
        return g_environ_setenv(env, "SHELL", caller->shell, FALSE);
}

static bool is_named(const ProcessSpec *s, const char *name) {
        size_t len = strlen(name);

        for (guint i = 0; i < s->env_ops->len; i++) {
                const char *op = g_ptr_array_index(s->env_ops, i);
                if (strcspn(op, "=") == len && strncmp(op, name, len) == 0)
                        return true;
        }
        return false;
}

/* A program fails where the directory of one of these is not (mktemp), or believes that it stands there (make's $(PWD)). */
static char **inherited_places(const ProcessSpec *s, const char *const *outside) {
        static const char *const names[] = { "TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR", "PWD", "OLDPWD", NULL };
        g_autoptr(GStrvBuilder) places = g_strv_builder_new();

        for (const char *const *name = names; s->env_base == ENV_INHERIT && *name; name++) {
                const char *value = is_named(s, *name) ? NULL : g_environ_getenv((char **) outside, *name);
                g_autofree char *entry = value ? g_strconcat(*name, "=", value, NULL) : NULL;
                if (entry)
                        g_strv_builder_add(places, entry);
        }
        return g_strv_builder_end(places);
}

void process_fill_environment(Spec *draft, const char *const *outside) {
        char **env = base_environment(draft, outside);

        for (guint i = 0; i < draft->process.env_ops->len; i++) {
                const char *op = g_ptr_array_index(draft->process.env_ops, i), *eq = strchr(op, '=');
                if (!eq) {
                        env = g_environ_unsetenv(env, op);
                        continue;
                }
                g_autofree char *name = g_strndup(op, (gsize) (eq - op));
                env = g_environ_setenv(env, name, eq + 1, TRUE);
        }
        env = g_environ_unsetenv(env, "USBOX_BOX");
        g_strfreev(draft->process.envp);
        draft->process.envp = g_environ_setenv(env, "USBOX", "1", TRUE);
        g_strfreev(draft->process.env_places);
        draft->process.env_places = inherited_places(&draft->process, outside);
}
