/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Profiles: what a file may say, which files are believed, and what comes first.
 */
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "draft.h"
#include "profile-builtin.h"
#include "profile.h"

/* A configuration directory of the test's own. */
typedef struct {
        char *config, *dir;
} Place;

static void place_set_up(Place *p, gconstpointer data) {
        p->config = g_dir_make_tmp("usbox-profiles-XXXXXX", NULL);
        p->dir = g_build_filename(p->config, "usbox/profiles", NULL);
        g_assert_cmpint(g_mkdir_with_parents(p->dir, 0700), ==, 0);
        g_setenv("XDG_CONFIG_HOME", p->config, TRUE);
}

static void place_tear_down(Place *p, gconstpointer data) {
        g_autoptr(GDir) entries = g_dir_open(p->dir, 0, NULL);
        for (const char *entry; (entry = g_dir_read_name(entries));) {
                g_autofree char *path = g_build_filename(p->dir, entry, NULL);
                g_remove(path);
        }
        g_autofree char *parent = g_path_get_dirname(p->dir);
        g_rmdir(p->dir);
        g_rmdir(parent);
        g_rmdir(p->config);
        g_free(p->config);
        g_free(p->dir);
}

/* The file NAME.conf with text; its path, the caller's. */
static char *write_profile(const Place *p, const char *name, const char *text) {
        g_autofree char *file = g_strconcat(name, ".conf", NULL);
        char *path = g_build_filename(p->dir, file, NULL);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        g_assert_cmpint(g_chmod(path, 0644), ==, 0);
        return path;
}

/* The owner of these files is whoever runs the test: so is the caller. */
static Spec *parse_as_owner(const char *const *words, GError **error) {
        Spec *draft = draft_new();
        draft->caller.uid = getuid();
        if (draft_parse(draft, words, error) >= 0)
                return draft;
        spec_free(draft);
        return NULL;
}

static void assert_profile_error(const char *const *words, const char *needle, const char *hint) {
        g_autoptr(GError) error = NULL;
        g_assert_null(parse_as_owner(words, &error));
        assert_usage(error, needle, hint);
        g_assert_cmpstr(err_get_step(error), ==, "profile");
}

static void test_order(Place *p, gconstpointer data) {
        g_autofree char *base =
                write_profile(p, "base", "[usbox]\nnetwork=none\nenv=A=base;B=base\nrm=true\nhome=all\n");
        g_autofree char *top =
                write_profile(p, "top", "[usbox]\nhome=empty\ninherits=base\nenv=B=top;C=top\nvolume=/t:/t;/u:/u:ro\n");
        g_autoptr(GError) error = NULL;
        /* The profile stands last and loses all the same. */
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--network", "host", "-v", "/c:/c", "-e", "C=line", "--rm=false",
                                                     "--profile", "top", "cmd"),
                                               &error);

        g_assert_no_error(error);
        g_assert_cmpint(draft->net.mode, ==, NET_HOST);
        g_assert_cmpint(draft->root.home, ==, HOME_EMPTY); /* the heir's, wherever inherits= stands */
        g_assert_false(draft->box.rm);
        g_assert_cmpuint(draft->mount.ops->len, ==, 3);
        g_assert_cmpstr(((MountOp *) draft->mount.ops->pdata[0])->src, ==, "/t");
        g_assert_true(((MountOp *) draft->mount.ops->pdata[1])->read_only);
        g_assert_cmpstr(((MountOp *) draft->mount.ops->pdata[2])->src, ==, "/c");
        process_fill_environment(draft, (const char *const[]){ NULL });
        g_assert_cmpstr(g_environ_getenv(draft->process.envp, "A"), ==, "base");
        g_assert_cmpstr(g_environ_getenv(draft->process.envp, "B"), ==, "top");
        g_assert_cmpstr(g_environ_getenv(draft->process.envp, "C"), ==, "line");
        g_assert_cmpuint(draft->box.profiles->len, ==, 2);
        g_assert_cmpstr(draft->box.profiles->pdata[0], ==, base);
        g_assert_cmpstr(draft->box.profiles->pdata[1], ==, top);
}

static void test_inherits(Place *p, gconstpointer data) {
        g_autofree char *a = write_profile(p, "a", "[usbox]\ninherits=b;c\n"),
                        *b = write_profile(p, "b", "[usbox]\ninherits=d\n"),
                        *c = write_profile(p, "c", "[usbox]\ninherits=d\n"),
                        *d = write_profile(p, "d", "[usbox]\npublish=1:2\n");
        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) diamond = parse_as_owner(WORDS("--profile", "a", "--profile", "d", "cmd"), &error);
        g_assert_no_error(error);
        g_assert_cmpuint(diamond->net.publish->len, ==, 1);

        g_autofree char *e = write_profile(p, "e", "[usbox]\ninherits=f\n"),
                        *f = write_profile(p, "f", "[usbox]\ninherits=e\n");
        assert_profile_error(WORDS("--profile", "e", "cmd"), "leads back to it", NULL);
        g_autofree char *self = write_profile(p, "self", "[usbox]\ninherits=self\n");
        assert_profile_error(WORDS("--profile", "self", "cmd"), "no other profile 'self'", NULL);
        g_autofree char *by_path = g_strdup_printf("[usbox]\ninherits=%s/g.conf\n", p->dir);
        g_autofree char *g = write_profile(p, "g", by_path);
        assert_profile_error(WORDS("--profile", "g", "cmd"), "leads back to it", NULL);
        for (int i = 0; i < 20; i++) {
                g_autofree char *name = g_strdup_printf("deep%d", i),
                                *text = g_strdup_printf("[usbox]\ninherits=deep%d\n", i + 1);
                g_autofree char *path = write_profile(p, name, text);
        }
        assert_profile_error(WORDS("--profile", "deep0", "cmd"), "inherits", NULL);

        /* One's own build adds to the built-in one. */
        g_autofree char *build = write_profile(p, "build", "[usbox]\ninherits=build\nhome=empty\n");
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--profile", "build", "cmd"), &error);
        g_assert_no_error(error);
        g_assert_cmpint(draft->root.home, ==, HOME_EMPTY);
        g_assert_cmpint(draft->net.mode, ==, NET_NONE);
        g_assert_cmpstr(draft->box.profiles->pdata[0], ==, "built-in build");
}

static void test_bad_files(Place *p, gconstpointer data) {
        static const struct {
                const char *text, *needle, *hint;
        } rows[] = {
                { "[usbox]\nnetwrok=none\n", "unknown key 'netwrok'", "did you mean network?" },
                { "[usbox]\nnet=none\n", "--net is not for profiles", NULL },
                { "[usbox]\ndry-run=true\n", "--dry-run is not for profiles", NULL },
                { "[usbox]\nbind=/a:/b\n", "--bind is not for profiles", NULL },
                { "[usbox]\nprofile=build\n", "--profile is not for profiles", NULL },
                { "[usbox]\nnetwork=usr\n", "x.conf: --network: 'usr' is not one of", "user" },
                { "[usbox]\nnetwork=\n", "the value is empty", NULL },
                { "[usbox]\nallow=\n", "--allow: the value is empty", "take the line allow= out" },
                { "[usbox]\nhide=\n", "--hide: the value is empty", NULL },
                { "[usbox]\nallow=;\n", "--allow: the value is empty", NULL },
                { "[usbox]\nrm=maybe\n", "--rm: 'maybe'", NULL },
                { "[usbox]\nuser=4294967295\n", "--user: '4294967295'", NULL },
                { "[usbox]\nhide=a\nhide=b\n", "is there twice", "';'" },
                { "[usbox]\nhide=a\n hide = b\n", "is there twice", NULL },
                { "[usbox]\n[other]\nx=1\n", "unknown group [other]", NULL },
                { "network=none\n", "x.conf: ", NULL },
                { "garbage\n", "x.conf: ", NULL },
                { "[usbox]\nhide=/\377\n", "x.conf: ", NULL },
                { "[usbox]\nhostname=a\\qb\n", "x.conf: ", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *path = write_profile(p, "x", rows[i].text);
                g_test_message("row %zu", i);
                assert_profile_error(WORDS("--profile", "x", "cmd"), rows[i].needle, rows[i].hint);
        }
        g_autofree char *path = write_profile(p, "x", "[usbox]\n");
        g_assert_true(g_file_set_contents(path, "[usbox]\n\0home=all\n", 18, NULL));
        assert_profile_error(WORDS("--profile", "x", "cmd"), "NUL", NULL);

        g_autofree char *nothing = write_profile(p, "empty", "");
        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--profile", "empty", "cmd"), &error);
        g_assert_no_error(error);
}

static void test_names(Place *p, gconstpointer data) {
        static const char *const bad[] = { ".hidden", "-x", "a b", "a\nb", "..", NULL };
        for (const char *const *name = bad; *name; name++)
                assert_profile_error(WORDS("--profile", *name, "cmd"), "is not the name of a profile", NULL);
        assert_profile_error(WORDS("--profile", "buidl", "cmd"), "no profile 'buidl'", "did you mean build?");
        assert_profile_error(WORDS("--profile", "default", "cmd"), "no profile 'default'", "leave --profile away");
        assert_profile_error(WORDS("--profile", "/no/such/file", "cmd"), "No such file", NULL);

        /* In the working directory: by its path alone. */
        g_autofree char *path = write_profile(p, "here", "[usbox]\nrm=true\n");
        g_autoptr(Spec) draft = draft_new();
        g_autoptr(GError) error = NULL;
        draft->caller.uid = getuid();
        g_free(draft->caller.cwd);
        draft->caller.cwd = g_strdup(p->dir);
        g_assert_cmpint(draft_parse(draft, WORDS("--profile", "here.conf", "cmd"), &error), ==, -1);
        assert_usage(error, "no profile", "./here.conf");
        g_clear_error(&error);
        g_assert_cmpint(draft_parse(draft, WORDS("--profile", "./here.conf", "cmd"), &error), ==, 2);
        g_assert_true(draft->box.rm);
}

static void test_trust(Place *p, gconstpointer data) {
        g_autofree char *path = write_profile(p, "x", "[usbox]\nrm=true\n");
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(g_chmod(path, 0664), ==, 0);
        assert_profile_error(WORDS("--profile", "x", "cmd"), "others may write it", "chmod go-w ");
        g_assert_cmpint(g_chmod(path, 0646), ==, 0);
        assert_profile_error(WORDS("--profile", "x", "cmd"), "others may write it", NULL);
        g_assert_cmpint(g_chmod(path, 0600), ==, 0);
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--profile", "x", "cmd"), &error);
        g_assert_no_error(error);

        /* Somebody else's: the caller is not whoever wrote it. Root's would be believed, so root takes another owner.
         */
        if (getuid() == 0)
                g_assert_cmpint(chown(path, 4321, (gid_t) -1), ==, 0);
        g_autoptr(Spec) other = draft_new();
        other->caller.uid = getuid() + 1;
        g_assert_cmpint(draft_parse(other, WORDS("--profile", "x", "cmd"), &error), ==, -1);
        assert_usage(error, "neither to you nor to root", "read it");

        g_assert_cmpint(g_remove(path), ==, 0);
        g_assert_cmpint(mkfifo(path, 0600), ==, 0);
        assert_profile_error(WORDS("--profile", "x", "cmd"), "not a regular file", NULL);
        g_assert_cmpint(g_remove(path), ==, 0);
        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
        assert_profile_error(WORDS("--profile", "x", "cmd"), "not a regular file", NULL);
        g_assert_cmpint(g_rmdir(path), ==, 0);
}

static void test_variables(Place *p, gconstpointer data) {
        g_autofree char *path =
                write_profile(p, "x",
                              "[usbox]\nenv=A=${USBOX_T_SET}/"
                              "x${USBOX_T_SET};B=${USBOX_T_UNSET}y;C=${USBOX_T_EMPTY};D=$x ${;E=a\\;b\n");
        g_autoptr(GError) error = NULL;
        g_setenv("USBOX_T_SET", "v${USBOX_T_SET}", TRUE); /* its value is not looked into */
        g_setenv("USBOX_T_EMPTY", "", TRUE);
        g_unsetenv("USBOX_T_UNSET");
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--profile", "x", "cmd"), &error);

        g_assert_no_error(error);
        process_fill_environment(draft, (const char *const[]){ NULL });
        char **env = draft->process.envp;
        g_assert_cmpstr(g_environ_getenv(env, "A"), ==, "v${USBOX_T_SET}/xv${USBOX_T_SET}");
        g_assert_null(g_environ_getenv(env, "B"));
        g_assert_null(g_environ_getenv(env, "C"));
        g_assert_cmpstr(g_environ_getenv(env, "D"), ==, "$x ${");
        g_assert_cmpstr(g_environ_getenv(env, "E"), ==, "a;b");
}

/* What is passed over must not be what closes something: `allow=${HOST}` would be no rule at all. */
static void test_unset_variables(Place *p, gconstpointer data) {
        static const char *const refused[] = { "allow=${USBOX_T_UNSET}:443",
                                               "allow=192.0.2.1;${USBOX_T_EMPTY}",
                                               "deny=${USBOX_T_UNSET}",
                                               "hide=a;${USBOX_T_UNSET}/key",
                                               "network=${USBOX_T_UNSET}",
                                               "read-only=${USBOX_T_EMPTY}",
                                               "memory=${USBOX_T_UNSET}",
                                               "disk=${USBOX_T_UNSET}",
                                               "timeout=${USBOX_T_UNSET}",
                                               "seccomp=${USBOX_T_UNSET}",
                                               "home=${USBOX_T_UNSET}",
                                               "ro=${USBOX_T_UNSET}",
                                               "volume=${USBOX_T_UNSET}:/x:ro",
                                               "tmpfs=${USBOX_T_UNSET}",
                                               "mount=type=bind,src=/dev/null,dst=${USBOX_T_UNSET},ro",
                                               "mount=type=tmpfs,dst=${USBOX_T_UNSET}" };

        g_setenv("USBOX_T_EMPTY", "", TRUE);
        g_unsetenv("USBOX_T_UNSET");
        for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
                g_autofree char *text = g_strdup_printf("[usbox]\n%s\n", refused[i]), *path = write_profile(p, "x", text);
                g_test_message("%s", refused[i]);
                assert_profile_error(WORDS("--profile", "x", "cmd"), "is not set, or is empty", "set it for this run");
        }

        g_autofree char *path = write_profile(p, "x",
                                              "[usbox]\nmount=type=tmpfs,dst=${USBOX_T_UNSET},optional;type=bind,optional,src=${USBOX_T_EMPTY},dst=/"
                                              "x;type=tmpfs,dst=/y,optional\n");
        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) draft = parse_as_owner(WORDS("--profile", "x", "cmd"), &error);
        g_assert_no_error(error);
        g_assert_cmpuint(draft->mount.ops->len, ==, 1);
}

/* What comes with usbox parses, applies and passes every check, and no part of it is passed over but for variables. */
static void test_builtins(Place *p, gconstpointer data) {
        g_setenv("XDG_RUNTIME_DIR", "/run/user/1000", TRUE);
        g_setenv("WAYLAND_DISPLAY", "wayland-0", TRUE);
        for (const ProfileBuiltin *b = profile_builtins; b->name; b++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(Spec) draft = draft_of(WORDS("--profile", b->name, "cmd"));
                g_autoptr(Profile) profile = profile_load(draft, b->name, &error);
                g_assert_no_error(error);
                g_assert_cmpuint(profile->items->len, >=, 3);
                /* 1 is the default and keeps a core from a piped handler of the host's; 0 would not (core(5)). */
                g_assert_cmpuint(draft->process.ulimits->len, ==, 0);
                g_assert_cmpuint(strlen(profile->description), >, 20);
                g_assert_nonnull(spec_build(draft, (char *[]){ (char *) "cmd", NULL }, &error));
                g_assert_no_error(error);
                g_assert_cmpuint(draft->mount.ops->len, ==,
                                 g_str_equal(b->name, "desktop") ? 5
                                 : g_str_equal(b->name, "build") ? 0
                                                                 : 1);
        }
}

static void test_list(Place *p, gconstpointer data) {
        g_autofree char *mine = write_profile(p, "mine", "garbage"),
                        *build = write_profile(p, "build", "[usbox]\ndescription=my own\n"),
                        *odd = write_profile(p, ".odd", "");
        g_autoptr(Spec) draft = draft_new();
        g_autoptr(GError) error = NULL;
        draft->caller.uid = getuid();
        g_auto(GStrv) names = profile_names(draft);
        g_autofree char *joined = g_strjoinv(" ", names);

        /* /etc/usbox/profiles may have more. */
        g_assert_true(g_strv_contains((const char *const *) names, "mine"));
        g_assert_true(g_strv_contains((const char *const *) names, "agent"));
        g_assert_true(g_str_has_prefix(joined, "agent build ci "));
        g_assert_null(strstr(joined, "build build"));
        g_assert_null(strstr(joined, "odd"));
        g_autoptr(Profile) profile = profile_load(draft, "build", &error);
        g_assert_cmpstr(profile->description, ==, "my own");
}

int main(int argc, char **argv) {
        static const struct {
                const char *path;
                void (*run)(Place *, gconstpointer);
        } tests[] = {
                { "/profile/order", test_order },         { "/profile/inherits", test_inherits },
                { "/profile/bad-files", test_bad_files }, { "/profile/names", test_names },
                { "/profile/trust", test_trust },         { "/profile/variables", test_variables },
                { "/profile/builtins", test_builtins },   { "/profile/list", test_list },
                { "/profile/unset-variables", test_unset_variables },
        };

        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
                g_test_add(tests[i].path, Place, NULL, place_set_up, tests[i].run, place_tear_down);
        return g_test_run();
}
