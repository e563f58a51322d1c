/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The option table of `run` and the parser over it.
 *
 * The rows stand with their modules; here they are one list, from which --help, profile keys, completions and the man
 * page are made as well. Parsing has two halves, so that a profile never overrides the command line, wherever it is
 * named: argv is first cut into (row, values), then the rows apply, --profile's before all others.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: first of all.
 */
#include <string.h>

#include "base/error.h"
#include "option.h"
#include "spec.h"

/* One option as it stood in argv. */
typedef struct {
        const Option *option;
        const char *values[3]; /* NULL-terminated */
} Token;

typedef struct {
        int argc;
        char *const *argv;
        int next;
        GArray *tokens;
} Cursor;

static const Option *const option_tables[] = {
        box_options,     pod_options,     user_options,    namespaces_options, timens_options,  root_options, mount_options,
        net_options,     limits_options,  process_options,    env_options,     seccomp_options, caps_options,
        netpolicy_options, netshape_options,
};

const Option *const *option_all(void) {
        static const Option *all[128];
        static bool filled;

        if (filled)
                return all;

        size_t n = 0;
        for (int group = 0; group < OPTION_GROUP_MAX; group++)
                for (size_t i = 0; i < G_N_ELEMENTS(option_tables); i++)
                        for (const Option *o = option_tables[i]; o->name; o++)
                                if ((int) o->group == group) {
                                        g_assert(n + 1 < G_N_ELEMENTS(all));
                                        all[n++] = o;
                                }
        filled = true;
        return all;
}

const Option *option_find(const char *name) {
        for (const Option *const *o = option_all(); *o; o++)
                if (g_str_equal((*o)->name, name) || g_strcmp0((*o)->alias, name) == 0)
                        return *o;
        return NULL;
}

const Option *option_find_short(char c) {
        if (c == '\0')
                return NULL;
        for (const Option *const *o = option_all(); *o; o++)
                if ((*o)->short_name == c)
                        return *o;
        return NULL;
}

const char *option_group_title(OptionGroup group) {
        static const char *const titles[OPTION_GROUP_MAX] = {
                [OPTION_BOX] = "Box",
                [OPTION_USER] = "User",
                [OPTION_NAMESPACES] = "Namespaces",
                [OPTION_ROOT] = "Root file system",
                [OPTION_MOUNTS] = "Mounts, in the order given",
                [OPTION_NETWORK] = "Network",
                [OPTION_LIMITS] = "Limits",
                [OPTION_SECURITY] = "Security",
                [OPTION_ENVIRONMENT] = "Environment",
        };
        return titles[group];
}

/* Edit distance where two neighbours swapped count as one change; both at most 63 bytes, else "far". */
static unsigned distance(const char *a, const char *b) {
        size_t la = strlen(a), lb = strlen(b);
        unsigned d[64][64];

        if (la > 63 || lb > 63)
                return G_MAXUINT;
        for (size_t i = 0; i <= la; i++)
                d[i][0] = (unsigned) i;
        for (size_t j = 0; j <= lb; j++)
                d[0][j] = (unsigned) j;
        for (size_t i = 1; i <= la; i++)
                for (size_t j = 1; j <= lb; j++) {
                        unsigned best = MIN(d[i - 1][j], d[i][j - 1]) + 1;
                        best = MIN(best, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                best = MIN(best, d[i - 2][j - 2] + 1);
                        d[i][j] = best;
                }
        return d[la][lb];
}

const char *option_nearest(const char *typed, const char *const *names) {
        const char *best = NULL;
        size_t len = strlen(typed);
        unsigned best_distance = len <= 4 ? 1 : len <= 7 ? 2 : 3;

        g_autoptr(GPtrArray) table = g_ptr_array_new();
        if (!names) {
                for (const Option *const *o = option_all(); *o; o++)
                        g_ptr_array_add(table, (char *) (*o)->name);
                g_ptr_array_add(table, NULL);
                names = (const char *const *) table->pdata;
        }
        for (const char *const *name = names; *name; name++) {
                /* The beginning of a name is near whatever is missing of it. */
                unsigned d = len >= 3 && g_str_has_prefix(*name, typed) ? 1 : distance(typed, *name);
                if (d < best_distance || (d == best_distance && !best)) {
                        best_distance = d;
                        best = *name;
                }
        }
        return best;
}

bool option_apply(const Option *o, Spec *draft, const char *const *values, GError **error) {
        for (int i = 0; i < (o->flags & OPTION_TWO ? 2 : 1); i++)
                if (*values[i] == '\0')
                        return err_usage(error, "--%s: the value is empty", o->name);
        if (!o->arg && o->choices && g_str_equal(values[0], o->choices))
                return o->apply(draft, values, error);
        if (!o->arg) {
                bool unused;
                g_autofree char *name = g_strdup_printf("--%s", o->name);
                if (!option_bool(name, values[0], &unused, error))
                        return false;
        }
        return o->apply(draft, values, error);
}

const char *foreign_hint(const ForeignWords *rows, const char *typed) {
        for (; *rows->words; rows++)
                if (g_strv_contains(rows->words, typed))
                        return rows->hint;
        return NULL;
}

/* What podman, bubblewrap and systemd-run call it, each with its own word. */
static const ForeignWords foreign_options[] = {
        { { "chdir", "working-directory", "same-dir" }, "--workdir DIR; without it the command starts where you are" },
        { { "cidfile" }, "run -d prints the box's id; --pidfile FILE gets the command's pid, --status-fd FD both" },
        { { "dir" }, "an empty directory: --tmpfs DST" },
        { { "entrypoint" }, "there are no images: the command stands behind the options" },
        { { "env-host" }, "--env-inherit begins with all of your environment" },
        { { "gpus" }, "a device is named: --device /dev/X; all of a directory: --dev-bind /dev/dri /dev/dri" },
        { { "init" }, "a box has an init of its own, always" },
        { { "memory-reservation" }, "--memory-low SIZE: so much is taken away from it last" },
        { { "privileged" }, "no option gives rights over this machine; --user root is root of the box, --nested lets it make boxes of its own" },
        { { "proc", "dev" }, "a box has /proc and /dev of its own, always; more of them: --mount type=proc,dst=DIR, --device /dev/X" },
        { { "pty" }, "a terminal is the command's where it is yours; elsewhere by -t" },
        { { "pull" }, "there are no images: a box has this machine's files, or a directory's by --rootfs DIR" },
        { { "security-opt" }, "--seccomp default, off or FILE; new privileges (setuid programs) are not to be had" },
        { { "setenv" }, "--env NAME=VALUE" },
        { { "share-net" }, "--network host is the host's own network; by default the box has one that leads outside" },
        { { "shm-size" }, "--tmpfs /dev/shm:size=SIZE" },
        { { "stop-timeout" }, "usbox stop -t SECONDS" },
        { { "uid", "gid" }, "--user UID:GID" },
        { { "unit" }, "--name NAME" },
        { { "unshare-all", "unshare-cgroup", "unshare-ipc", "unshare-pid", "unshare-user", "unshare-uts" },
          "a box has namespaces of its own, always; none but its own network: --network none" },
        { { "unshare-net" }, "--network none" },
        { { NULL }, NULL },
};

static bool unknown_option(const char *typed, GError **error) {
        g_autofree char *quoted = err_quote(typed);
        err_usage(error, "unknown option '%s'", quoted);

        bool is_long = g_str_has_prefix(typed, "--");
        const char *foreign = is_long ? foreign_hint(foreign_options, typed + 2) : NULL, *near = is_long ? option_nearest(typed + 2, NULL) : NULL;
        if (foreign)
                return err_hint(error, "%s", foreign);
        if (near)
                return err_hint(error, "did you mean --%s?", near);
        return err_hint(error, "'usbox help run' lists the options");
}

static bool wants_value(const Option *o, const char *typed, GError **error) {
        g_autofree char *quoted = err_quote(typed);
        return err_usage(error, "%s needs %s: %s %s", quoted, o->flags & OPTION_TWO ? "two values" : "a value", quoted,
                         o->arg);
}

/* Take the values of o from the arguments that follow. "--" is never one: it was forgotten then. */
static bool take_values(Cursor *c, const Option *o, const char *typed, Token *token, GError **error) {
        int n = o->flags & OPTION_TWO ? 2 : 1;
        for (int i = 0; i < n; i++) {
                if (c->next >= c->argc || g_str_equal(c->argv[c->next], "--"))
                        return wants_value(o, typed, error);
                token->values[i] = c->argv[c->next++];
        }
        return true;
}

static bool parse_long(Cursor *c, const char *arg, GError **error) {
        const char *eq = strchr(arg, '=');
        g_autofree char *typed = eq ? g_strndup(arg, (size_t) (eq - arg)) : g_strdup(arg);
        Token token = { .option = option_find(typed + 2) };

        if (!token.option)
                return unknown_option(typed, error);
        if (token.option->flags & OPTION_TWO) {
                if (eq)
                        return wants_value(token.option, typed, error);
                if (!take_values(c, token.option, typed, &token, error))
                        return false;
        } else if (eq)
                token.values[0] = eq + 1;
        else if (!token.option->arg)
                token.values[0] = "true";
        else if (!take_values(c, token.option, typed, &token, error))
                return false;
        g_array_append_val(c->tokens, token);
        return true;
}

/* -it, -v/a:/b, -v=/a:/b, -v /a:/b */
static bool parse_short(Cursor *c, const char *arg, GError **error) {
        for (const char *p = arg + 1; *p; p++) {
                Token token = { .option = option_find_short(*p) };
                /* A byte of a multi-byte character alone would be garbage: show what was typed. */
                g_autofree char *typed = g_ascii_isprint(*p) ? g_strdup_printf("-%c", *p) : g_strdup(arg);

                if (!token.option)
                        return unknown_option(typed, error);
                if (!token.option->arg)
                        token.values[0] = "true";
                else if (p[1])
                        token.values[0] = p[1] == '=' ? p + 2 : p + 1;
                else if (!take_values(c, token.option, typed, &token, error))
                        return false;
                g_array_append_val(c->tokens, token);
                if (token.option->arg)
                        break;
        }
        return true;
}

/* --help asks for nothing else, so that it helps with a line that is wrong further on. */
static bool last_is_help(const Cursor *c) {
        return c->tokens->len > 0 &&
               g_str_equal(g_array_index(c->tokens, Token, c->tokens->len - 1).option->name, "help");
}

static bool parse_argv(Cursor *c, GError **error) {
        while (c->next < c->argc) {
                const char *arg = c->argv[c->next];

                if (arg[0] != '-' || arg[1] == '\0')
                        return true;
                c->next++;
                if (g_str_equal(arg, "--"))
                        return true;
                if (!(arg[1] == '-' ? parse_long(c, arg, error) : parse_short(c, arg, error)))
                        return false;
                if (last_is_help(c))
                        return true;
        }
        return true;
}

bool option_parse(Spec *draft, int argc, char *const *argv, int *ret_rest, GError **error) {
        g_autoptr(GArray) tokens = g_array_new(FALSE, TRUE, sizeof(Token));
        Cursor c = { .argc = argc, .argv = argv, .tokens = tokens };

        if (!parse_argv(&c, error))
                return err_step(error, "options");
        if (last_is_help(&c))
                g_array_remove_range(tokens, 0, tokens->len - 1);
        for (int first = 1; first >= 0; first--) {
                draft->net.rules_place = 0;
                for (guint i = 0; i < tokens->len; i++) {
                        Token *t = &g_array_index(tokens, Token, i);
                        if (!!(t->option->flags & OPTION_FIRST) != first)
                                continue;
                        if (!option_apply(t->option, draft, t->values, error))
                                return err_step(error, "options");
                }
        }
        *ret_rest = c.next;
        return true;
}
