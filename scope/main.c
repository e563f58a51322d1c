/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-scope: the cgroup of one box.
 *
 * Role: helper of the launcher. Privileges: the caller's. Threads: one.
 *
 * Theory of operation. The launcher is linked statically and speaks no D-Bus; this program does, and is started before everything else of a
 * box that is to be limited, so that systemd works on the scope while the launcher prepares the rest:
 *
 *      SCOPE_CONFIG  the box's id and limits
 *      SCOPE_JOIN    (at any time) the box's processes: helpers, init and the payload's, which waits for this before it takes other ids and
 *                    executes the command; later what `usbox exec` starts
 *      SCOPE_MADE    the scope is there, with this process in it, and its leaves payload/ and helpers/
 *      SCOPE_JOINED  they are in their leaves, and all that they fork is
 *      SCOPE_ADOPT   instead of that, of a box that has run for a while: all of its processes
 *      SCOPE_UPDATE  (any time later) other limits; SCOPE_UPDATED says how that went
 *
 * A process of its own stays in the scope for another reason: systemd takes a scope away as soon as it is empty, and the launcher reads
 * from it what the box used when all else has ended. The wire's end means that the launcher has done so or is gone: then what is
 * left in payload/ is killed, and where the cgroup is not systemd's it is removed.
 *
 * It reads nothing that comes from the box.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/wire.h"
#include "scope/leaves.h"
#include "scope/members.h"
#include "scope/systemd.h"

#define WIRE_FD_MAX 1024
/* A box that forks as it should is caught after two or three. */
#define ADOPT_ROUNDS 50
/* A process may get another parent while the children of both are read: then the next round finds it. */
#define CLEAN_ROUNDS 2

typedef struct {
        int wire;
        ScopeConfig *config;
        ScopeCgroup cgroup;
        bool asking;      /* the machine's systemd has to move those of the box's processes that are in a login's session yet */
        Systemd *machine; /* for that; NULL: not now */
        char *weight;     /* io.weight as it was asked for; NULL: it was not */
        int weights;      /* weight_watch() */
        WireMessage join; /* SCOPE_JOIN, where it came before the scope was made; else its body is NULL */
} Scope;

/* The kernel lets nobody but the machine's systemd move processes from own to path, from a login's session: the way leads past what is the user's. */
static bool must_ask(const char *own, const char *path) {
        return !systemd_is_users(own) && systemd_is_users(path) && geteuid() != 0;
}

/* Settings that systemd has no word for are written by us, after it; all of them where there is no systemd. */
static bool apply(const Scope *s, const GPtrArray *settings, GError **error) {
        static const char *const systemds[] = { "memory.", "cpu.", "cpuset.", "io.", NULL };
        g_autoptr(GPtrArray) mine = g_ptr_array_new();

        for (guint i = 0; i < settings->len; i++) {
                ScopeSetting *setting = settings->pdata[i];
                bool theirs = false;
                for (const char *const *prefix = systemds; *prefix && !s->cgroup.own; prefix++)
                        theirs = theirs || g_str_has_prefix(setting->file, *prefix);
                if (!theirs)
                        g_ptr_array_add(mine, setting);
        }
        return cgroup_apply(&s->cgroup, mine, error);
}

/* What was asked for by the option, after systemd; its own property means what it takes it for. */
static bool apply_weight(Scope *s, const ScopeConfig *config, GError **error) {
        const char *weight = scope_setting_get(config->settings, "io.weight");

        if (weight || scope_setting_get(config->properties, "IOWeight")) {
                g_free(s->weight);
                s->weight = g_strdup(weight);
        }
        if (!s->weight)
                fd_closep(&s->weights);
        if (s->cgroup.own || !s->weight)
                return true;
        if (s->weights < 0)
                s->weights = weight_watch(&s->cgroup);
        return weight_apply(&s->cgroup, s->weight, error);
}

/* By systemd, which takes all of them or none. */
static bool attach(Scope *s, const char *path, GArray *pids, GError **error) {
        if (!s->machine && !(s->machine = systemd_open_machine(error)))
                return false;
        while (pids->len > 0) {
                g_autoptr(GError) failure = NULL;
                if (systemd_attach(s->machine, path, (const pid_t *) (void *) pids->data, pids->len, &failure))
                        return true;
                if (!members_drop_ended(pids)) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
        }
        return true;
}

/* By us, and those whom the kernel forbids us to take out of where they are by systemd, in one call. One that has ended is the launcher's to notice. */
static bool join_all(Scope *s, const char *leaf, const pid_t *pids, size_t n, GError **error) {
        g_autoptr(GArray) forbidden = g_array_new(FALSE, FALSE, sizeof(pid_t));

        for (size_t i = 0; i < n; i++) {
                g_autoptr(GError) failure = NULL;
                if (cgroup_join(&s->cgroup, leaf, pids[i], &failure) || err_get_errno(failure) == ESRCH)
                        continue;
                if (!s->asking || (err_get_errno(failure) != EACCES && err_get_errno(failure) != EPERM)) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                g_array_append_val(forbidden, pids[i]);
        }
        g_autofree char *path = g_strconcat(s->cgroup.path, "/", leaf, NULL);
        return forbidden->len == 0 || attach(s, path, forbidden, error);
}

/*
 * Out of a login's session with the box's processes and this one, in one call, which takes systemd as long for one process as for all: to where the user's
 * systemd is itself, which has a place for processes there. From there it moves this one to the scope, and we the others, and nobody has to ask. Back they
 * cannot go, so what can be known to fail has been looked for before.
 */
static bool come_over(Scope *s, const char *place, GError **error) {
        g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(pid_t));
        const pid_t self = getpid();

        if (!(s->machine = systemd_open_machine(error)) || !wire_expect(s->wire, "launcher", WIRE_SCOPE_JOIN, &s->join, error))
                return false;
        g_autoptr(GVariant) helpers = g_variant_get_child_value(s->join.body, 0), payload = g_variant_get_child_value(s->join.body, 1);
        members_add(all, payload);
        members_add(all, helpers);
        members_add_children(all, 0, false);
        g_array_append_val(all, self);
        if (!attach(s, place, all, error))
                return false;
        log_step("out of the login's session");
        return true;
}

static bool by_systemd(Scope *s, Systemd *systemd, GError **error) {
        g_autofree char *own = cgroup_of_self(error), *users = systemd_cgroup(systemd);

        if (!own)
                return false;
        if (users && must_ask(own, users) && !s->config->late) { /* whose processes come one after the other */
                g_autofree char *place = systemd_init_scope(users), *above = g_path_get_dirname(place);
                if (!cgroup_check_beforehand(above, s->config, error) || !come_over(s, place, error))
                        return false;
        }
        if (!systemd_start_scope(systemd, s->config, &s->cgroup, error))
                return false;
        s->asking = must_ask(own, s->cgroup.path);
        g_autofree char *path = g_strconcat(CGROUP_MOUNT, s->cgroup.path, NULL);
        s->cgroup.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return s->cgroup.fd >= 0 ? true : err_set(error, errno, "%s", path);
}

/* One that is made in its pod's has to get there first, as the box's processes do. */
static bool in_pod(Scope *s, GError **error) {
        g_autofree char *own = cgroup_of_self(error);

        if (!own || !pod_make_box(s->config, &s->cgroup, error))
                return false;
        s->asking = must_ask(own, s->cgroup.path);
        if (!s->asking || s->config->late)
                return true;
        g_autofree char *place = systemd_init_scope(s->cgroup.path);
        return cgroup_check_controllers(&s->cgroup, s->config, error) && come_over(s, place, error);
}

static bool enter(Scope *s, GError **error) {
        const pid_t self = getpid();
        return s->cgroup.in_pod ? join_all(s, SCOPE_LEAF_HELPERS, &self, 1, error) : cgroup_join(&s->cgroup, SCOPE_LEAF_HELPERS, self, error);
}

static bool make(Scope *s, GError **error) {
        g_auto(WireMessage) m = { 0 };

        if (!wire_expect(s->wire, "launcher", WIRE_SCOPE_CONFIG, &m, error) || !(s->config = scope_config_parse(m.body, error)))
                return false;
        log_init("usbox-scope", s->config->verbose);
        if (*s->config->runtime_dir)
                g_setenv("XDG_RUNTIME_DIR", s->config->runtime_dir, TRUE);
        if (!cgroup_check_version(error))
                return false;
        bool of_pod = *s->config->pod;
        g_autoptr(Systemd) systemd = of_pod ? NULL : systemd_open(error);
        if (!(of_pod ? in_pod(s, error) : systemd ? by_systemd(s, systemd, error) : direct_make(s->config, &s->cgroup, error)))
                return false;
        s->cgroup.pod = s->config->is_pod;
        /* Nobody listens there any more: systemd need not tell us of what happens to other units. */
        g_clear_pointer(&systemd, systemd_free);
        log_step("cgroup %s", s->cgroup.path);
        g_autofree char *cpu_max = NULL;
        if (!cgroup_check_controllers(&s->cgroup, s->config, error) || !cgroup_make_leaves(&s->cgroup, error) ||
            !enter(s, error) || !cgroup_prepare_leaves(&s->cgroup, error) ||
            !apply(s, s->config->settings, error) || !apply_weight(s, s->config, error) || !(cpu_max = cgroup_hold_cpu(&s->cgroup, error)))
                return false;
        g_autofree char *path = g_strconcat(CGROUP_MOUNT, s->cgroup.path, NULL);
        return wire_send(s->wire, WIRE_SCOPE_MADE, g_variant_new("(ss)", path, cpu_max), &s->cgroup.fd, 1, error);
}

/* A list of processes, with their children but those that are known already; looked for once more when they are in: what they fork from then on is
 * in, too. Only first threads of a helper's fork anything. */
static bool join_leaf(Scope *s, const char *leaf, GVariant *list, GArray *known, GError **error) {
        guint first = known->len, done = first;

        members_add(known, list);
        members_add_children(known, first, false);
        while (done < known->len) {
                guint n = known->len - done;
                if (!join_all(s, leaf, (const pid_t *) (void *) known->data + done, n, error))
                        return false;
                done += n;
                members_add_children(known, first, false);
        }
        return true;
}

static bool join(Scope *s, const WireMessage *m, GError **error) {
        g_autoptr(GArray) known = g_array_new(FALSE, FALSE, sizeof(pid_t));
        g_autoptr(GVariant) helpers = g_variant_get_child_value(m->body, 0), payload = g_variant_get_child_value(m->body, 1);

        /* The payload first: it is a child of init, which is among the others. */
        return join_leaf(s, SCOPE_LEAF_PAYLOAD, payload, known, error) && join_leaf(s, SCOPE_LEAF_HELPERS, helpers, known, error);
}

/* found: what the box was seen to have forked; tree: all of it that was seen. A box can make the machine use numbers again, and somebody else who has that
 * of one which has ended is not to be moved: so it is looked at right before each is, or all are where systemd has to do it. moved gets what was. */
static bool join_found(Scope *s, const GArray *found, const GArray *tree, GArray *moved, GError **error) {
        g_autoptr(GArray) some = g_array_new(FALSE, FALSE, sizeof(pid_t));

        for (guint i = 0; i < found->len; i++) {
                pid_t pid = g_array_index(found, pid_t, i);
                if (members_is_child(pid, tree))
                        g_array_append_val(some, pid);
                if (s->asking && i + 1 < found->len)
                        continue;
                if (some->len > 0 && !join_all(s, SCOPE_LEAF_PAYLOAD, (const pid_t *) (void *) some->data, some->len, error))
                        return false;
                g_array_append_vals(moved, some->data, some->len);
                g_array_set_size(some, 0);
        }
        return true;
}

/* What of roots' (pid_t) trees was not moved into payload/ yet; whether there was anything. */
static bool adopt_round(Scope *s, const GArray *roots, GArray *moved, bool *ret_any, GError **error) {
        g_autoptr(GArray) tree = g_array_new(FALSE, FALSE, sizeof(pid_t)), found = g_array_new(FALSE, FALSE, sizeof(pid_t));

        g_array_append_vals(tree, roots->data, roots->len);
        members_add_children(tree, 0, true);
        g_array_append_vals(found, (const pid_t *) (void *) tree->data + roots->len, tree->len - roots->len);
        members_remove(found, moved);
        *ret_any = found->len > 0;
        return join_found(s, found, tree, moved, error);
}

static bool freeze(const Scope *s, const char *text, GError **error) {
        return fd_write_file(s->cgroup.fd, SCOPE_LEAF_PAYLOAD "/cgroup.freeze", text) ||
               err_set(error, errno, "write '%s' to %s/" SCOPE_LEAF_PAYLOAD "/cgroup.freeze", text, s->cgroup.path);
}

/* All that init and what exec started have forked. What is in payload/ is frozen meanwhile: so in the end nobody is left who forks outside of it. */
static bool adopt_payload(Scope *s, pid_t init, GVariant *execs, GError **error) {
        g_autoptr(GArray) roots = g_array_new(FALSE, FALSE, sizeof(pid_t)), moved = g_array_new(FALSE, FALSE, sizeof(pid_t));

        members_add(moved, execs);
        if (moved->len > 0 && !join_all(s, SCOPE_LEAF_PAYLOAD, (const pid_t *) (void *) moved->data, moved->len, error))
                return false;
        g_array_append_val(roots, init);
        g_array_append_vals(roots, moved->data, moved->len);
        for (int i = 0, clean = 0; i < ADOPT_ROUNDS; i++) {
                bool any;
                if (!adopt_round(s, roots, moved, &any, error))
                        return false;
                clean = any ? 0 : clean + 1;
                if (clean == CLEAN_ROUNDS)
                        return true;
        }
        return err_set(error, EAGAIN, "the box's processes become more faster than they can be moved");
}

/* A box that has run without so far. */
static bool adopt(Scope *s, const WireMessage *m, GError **error) {
        g_autoptr(GVariant) helpers = g_variant_get_child_value(m->body, 1), execs = g_variant_get_child_value(m->body, 2);
        g_autoptr(GArray) others = g_array_new(FALSE, FALSE, sizeof(pid_t));
        gboolean raise_oom;
        guint32 init;

        g_variant_get_child(m->body, 0, "u", &init);
        g_variant_get_child(m->body, 3, "b", &raise_oom);
        if (!freeze(s, "1", error))
                return false;
        pid_t pid = (pid_t) init;
        bool ok = adopt_payload(s, pid, execs, error);
        g_array_append_val(others, pid);
        members_add(others, helpers);
        ok = ok && join_all(s, SCOPE_LEAF_HELPERS, (const pid_t *) (void *) others->data, others->len, error);
        ok = ok && (!raise_oom || cgroup_raise_oom(&s->cgroup, m->fds[0], error));
        return freeze(s, "0", ok ? error : NULL) && ok;
}

static bool change(Scope *s, const ScopeConfig *update, GError **error) {
        if (!cgroup_check_delegated(&s->cgroup, update, error))
                return false;
        if (!s->cgroup.own) {
                g_autoptr(Systemd) systemd = systemd_open(error);
                if (!systemd)
                        return err_set(error, ENOENT, "this user's systemd does not answer");
                if (!systemd_update(systemd, s->config->id, update->settings, update->properties, error))
                        return false;
        } else if (update->properties->len > 0) {
                return err_set(error, EOPNOTSUPP, "--property is for systemd, and this cgroup is not systemd's");
        }
        return cgroup_check_controllers(&s->cgroup, update, error) && apply(s, update->settings, error) && apply_weight(s, update, error);
}

/* Whether something failed is the asker's to know, and no reason for us to end the box. */
static bool answer(const Scope *s, WireType type, const GError *failure, GError **error) {
        const char *hint = failure ? err_get_hint(failure) : NULL;

        return wire_send(s->wire, type, g_variant_new("(iss)", err_get_errno(failure), failure ? failure->message : "", hint ? hint : ""), NULL, 0, error);
}

static bool on_join(Scope *s, const WireMessage *m, GError **error) {
        g_autoptr(GError) failure = NULL;

        (void) join(s, m, &failure);
        g_clear_pointer(&s->machine, systemd_free);
        return answer(s, WIRE_SCOPE_JOINED, failure, error);
}

static bool on_adopt(Scope *s, const WireMessage *m, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (!adopt(s, m, &failure))
                err_hint(&failure, "a box has a cgroup from its start on where it is started with a limit, such as --pids-limit unlimited");
        g_clear_pointer(&s->machine, systemd_free);
        return answer(s, WIRE_SCOPE_JOINED, failure, error);
}

static bool on_update(Scope *s, const WireMessage *m, GError **error) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(ScopeConfig) wanted = scope_update_parse(m->body, &failure);

        if (wanted)
                (void) change(s, wanted, &failure);
        return answer(s, WIRE_SCOPE_UPDATED, failure, error);
}

/* Of the launcher's; what else there is to do meanwhile is done. */
static bool await_message(Scope *s, GError **error) {
        for (;;) {
                struct pollfd fds[] = { { .fd = s->wire, .events = POLLIN }, { .fd = s->weights, .events = POLLIN } };
                if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
                        return err_set(error, errno, "poll");
                if (fds[0].revents)
                        return true;
                if (fds[1].revents)
                        weight_restore(&s->cgroup, s->weights, s->weight);
        }
}

static bool serve(Scope *s, GError **error) {
        if (s->join.body && !on_join(s, &s->join, error))
                return false;
        for (;;) {
                g_auto(WireMessage) m = { 0 };
                if (!await_message(s, error))
                        return false;
                int r = wire_receive(s->wire, &m, error);
                if (r <= 0)
                        return r == 0;
                bool ok = m.type == WIRE_SCOPE_JOIN     ? on_join(s, &m, error)
                          : m.type == WIRE_SCOPE_ADOPT  ? on_adopt(s, &m, error)
                          : m.type == WIRE_SCOPE_UPDATE ? on_update(s, &m, error)
                                                        : err_set(error, EPROTO, "the launcher said %s", wire_type_name(m.type));
                if (!ok)
                        return false;
        }
}

static void end(Scope *s) {
        if (s->cgroup.fd >= 0)
                cgroup_kill_payload(&s->cgroup);
        cgroup_remove(&s->cgroup);
        fd_closep(&s->cgroup.fd);
        g_clear_pointer(&s->cgroup.path, g_free);
        g_clear_pointer(&s->cgroup.home, g_free);
        g_clear_pointer(&s->weight, g_free);
        fd_closep(&s->weights);
        g_clear_pointer(&s->machine, systemd_free);
        g_clear_pointer(&s->config, scope_config_free);
        wire_message_clear(&s->join);
}

int main(int argc, char **argv) {
        Scope s = { .wire = -1, .cgroup.fd = -1, .weights = -1 };
        g_autoptr(GError) error = NULL;
        guint64 fd;

        log_init("usbox-scope", false);
        if (argc == 3 && g_str_equal(argv[1], "--wire") && g_ascii_string_to_unsigned(argv[2], 10, 3, WIRE_FD_MAX, &fd, NULL))
                s.wire = (int) fd;
        else {
                log_note("this program is started by usbox; its option is --wire FD");
                return EXIT_FAILURE;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        /* ^C is the launcher's to hear. */
        (void) signal(SIGINT, SIG_IGN);
        (void) signal(SIGQUIT, SIG_IGN);
        (void) signal(SIGHUP, SIG_IGN);
        (void) signal(SIGTERM, SIG_IGN);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                err_set(&error, errno, "no_new_privs");
        bool ok = !error && confine_wake_without_parent(&error) && make(&s, &error) && serve(&s, &error);
        if (!ok)
                wire_send_error(s.wire, error);
        end(&s);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
