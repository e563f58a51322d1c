/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's scope in the user's systemd (org.freedesktop.systemd1(5)).
 *
 * Role: usbox-scope. Privileges: the caller's. Threads: one. Order: as soon as usbox-scope has its configuration.
 *
 * systemd is spoken to over its own socket, where it is reached without the message bus and its daemon between; the bus is the second choice.
 */
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "scope/property.h"
#include "scope/systemd.h"

#define MANAGER "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
#define SLICE_DESCRIPTION "usbox: boxes"
#define JOB_TIMEOUT_US (25 * G_USEC_PER_SEC)

/* Each is a box of ours that has ended, or begun, between two calls. */
#define START_TRIES 20

struct Systemd {
        sd_bus *bus;
        char *job, *result; /* the job that is waited for, and how it ended */
};

static void message_unrefp(sd_bus_message **m) {
        sd_bus_message_unref(*m);
}
#define _cleanup_message_ __attribute__((cleanup(message_unrefp)))
#define _cleanup_bus_error_ __attribute__((cleanup(sd_bus_error_free)))

/* systemd's own socket in a runtime directory; the caller's if it is there. */
static sd_bus *open_private(const char *runtime_dir) {
        g_autofree char *path = g_strconcat(runtime_dir, "/systemd/private", NULL);
        g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE);
        g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
        sd_bus *bus = NULL;

        if (access(path, W_OK) < 0 || sd_bus_new(&bus) < 0)
                return NULL;
        if (sd_bus_set_address(bus, address) < 0 || sd_bus_start(bus) < 0)
                return sd_bus_unref(bus);
        log_step("systemd at %s", path);
        return bus;
}

Systemd *systemd_open(GError **error) {
        const char *runtime_dir = g_getenv("XDG_RUNTIME_DIR");
        g_autofree char *usual = g_strdup_printf("/run/user/%u", (unsigned) getuid());
        sd_bus *bus = runtime_dir && *runtime_dir == '/' ? open_private(runtime_dir) : NULL;

        /* Where the environment says nothing of it (su, cron) it is there none the less. */
        if (!bus)
                bus = open_private(usual);
        if (!bus && sd_bus_open_user(&bus) < 0)
                return NULL;
        Systemd *s = g_new0(Systemd, 1);
        s->bus = bus;
        return s;
}

void systemd_free(Systemd *s) {
        if (!s)
                return;
        sd_bus_flush_close_unref(s->bus);
        g_free(s->job);
        g_free(s->result);
        g_free(s);
}

/* A GVariant of the types that limits have, as an argument. */
static int append_value(sd_bus_message *m, GVariant *v) {
        const char *type = g_variant_get_type_string(v);
        const char *path;
        guint64 n;
        int r = 0;

        if (g_str_equal(type, "t"))
                return sd_bus_message_append(m, "v", "t", g_variant_get_uint64(v));
        if (g_str_equal(type, "u"))
                return sd_bus_message_append(m, "v", "u", g_variant_get_uint32(v));
        if (g_str_equal(type, "b"))
                return sd_bus_message_append(m, "v", "b", (int) g_variant_get_boolean(v));
        if (g_str_equal(type, "s"))
                return sd_bus_message_append(m, "v", "s", g_variant_get_string(v, NULL));
        r = sd_bus_message_open_container(m, 'v', type);
        if (r >= 0 && g_str_equal(type, "ay")) {
                gsize len;
                const void *bytes = g_variant_get_fixed_array(v, &len, 1);
                r = sd_bus_message_append_array(m, 'y', bytes, len);
        } else if (r >= 0) {
                GVariantIter iter;
                g_assert(g_str_equal(type, "a(st)"));
                r = sd_bus_message_open_container(m, 'a', "(st)");
                g_variant_iter_init(&iter, v);
                while (r >= 0 && g_variant_iter_next(&iter, "(&st)", &path, &n))
                        r = sd_bus_message_append(m, "(st)", path, n);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* Properties (of GVariant "(sv)") within an open array. */
static int append_properties(sd_bus_message *m, const GPtrArray *properties) {
        int r = 0;

        for (guint i = 0; r >= 0 && i < properties->len; i++) {
                g_autoptr(GVariant) name = g_variant_get_child_value(properties->pdata[i], 0);
                g_autoptr(GVariant) boxed = g_variant_get_child_value(properties->pdata[i], 1);
                g_autoptr(GVariant) value = g_variant_get_variant(boxed);
                r = sd_bus_message_open_container(m, 'r', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", g_variant_get_string(name, NULL));
                if (r >= 0)
                        r = append_value(m, value);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r;
}

static GPtrArray *all_properties(const GPtrArray *settings, const GPtrArray *named, GError **error) {
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify) g_variant_unref);
        g_autoptr(GPtrArray) rest = g_ptr_array_new();

        if (!property_from_settings(settings, all, rest, error))
                return NULL;
        for (guint i = 0; i < named->len; i++) {
                const ScopeSetting *p = named->pdata[i];
                if (!property_parse(p->file, p->value, all, error))
                        return NULL;
        }
        return g_steal_pointer(&all);
}

static bool bus_failed(int r, const sd_bus_error *bus_error, const char *what, GError **error) {
        g_autofree char *said = bus_error && bus_error->message ? err_quote(bus_error->message) : NULL;

        if (!said)
                return err_set(error, -r, "systemd: %s", what);
        err_set(error, 0, "systemd: %s: %s", what, said);
        if (error && *error)
                err_set_errno(*error, -r);
        return false;
}

/* The slice itself goes when its last box does, if it is we who define it; it can be defined only where it is not there. */
static int append_slice(sd_bus_message *m, bool define) {
        int r = sd_bus_message_open_container(m, 'a', "(sa(sv))");

        if (r >= 0 && define)
                r = sd_bus_message_append(m, "(sa(sv))", SCOPE_SLICE, 2, "Description", "s", SLICE_DESCRIPTION, "StopWhenUnneeded", "b", 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int call_start(Systemd *s, const ScopeConfig *config, const GPtrArray *properties, bool define_slice, sd_bus_error *ret_error,
                      sd_bus_message **ret_reply) {
        g_autofree char *unit = scope_unit_name(config->id);
        g_autofree char *description = g_strdup_printf("usbox: box %s", config->id);
        _cleanup_message_ sd_bus_message *m = NULL;

        int r = sd_bus_message_new_method_call(s->bus, &m, MANAGER, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "replace"); /* replace: the stop of a slice that was empty a moment ago */
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", description, "Slice", "s", SCOPE_SLICE, "PIDs", "au", 1,
                                          (uint32_t) getpid(), "DelegateControllers", "as", 4, "cpu", "io", "memory", "pids", "CollectMode", "s",
                                          "inactive-or-failed", "MemoryAccounting", "b", 1, "TasksAccounting", "b", 1);
        if (r >= 0 && config->is_pod) /* what its boxes will ask for is not known yet: all that there are */
                r = sd_bus_message_append(m, "(sv)", "Delegate", "b", 1);
        if (r >= 0)
                r = append_properties(m, properties);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = append_slice(m, define_slice);
        return r < 0 ? r : sd_bus_call(s->bus, m, 0, ret_error, ret_reply);
}

static int on_job_removed(sd_bus_message *m, void *data, sd_bus_error *ret_error) {
        Systemd *s = data;
        const char *job, *unit, *result;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) >= 0 && g_strcmp0(job, s->job) == 0) {
                g_free(s->result);
                s->result = g_strdup(result);
        }
        return 0;
}

static bool await_job(Systemd *s, GError **error) {
        gint64 end = g_get_monotonic_time() + JOB_TIMEOUT_US;

        while (!s->result) {
                int r = sd_bus_process(s->bus, NULL);
                if (r == 0) {
                        gint64 left = end - g_get_monotonic_time();
                        if (left <= 0)
                                return err_set(error, ETIMEDOUT, "systemd: wait for the scope");
                        r = sd_bus_wait(s->bus, (uint64_t) left);
                }
                if (r < 0 && r != -EINTR)
                        return bus_failed(r, NULL, "wait for the scope", error);
        }
        return g_str_equal(s->result, "done") ? true : err_set(error, 0, "systemd: start the scope: %s", s->result);
}

/*
 * The slice exists, but did not when we said what it is: another box's ended between the two calls, and so it was made anew, without what makes
 * it go with its last box. Say it again: systemd takes that for a unit which has no file and no definition yet, also while it is active.
 */
static void define_slice(Systemd *s) {
        _cleanup_message_ sd_bus_message *m = NULL;

        int r = sd_bus_message_new_method_call(s->bus, &m, MANAGER, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ssa(sv)a(sa(sv))", SCOPE_SLICE, "replace", 2, "Description", "s", SLICE_DESCRIPTION,
                                          "StopWhenUnneeded", "b", 1, 0);
        if (r >= 0)
                (void) sd_bus_call(s->bus, m, 0, NULL, NULL); /* mostly: it is defined as it should be */
}

bool systemd_start_scope(Systemd *s, const ScopeConfig *config, ScopeCgroup *ret, GError **error) {
        g_autoptr(GPtrArray) properties = all_properties(config->settings, config->properties, error);
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_bus_error_ sd_bus_error bus_error = SD_BUS_ERROR_NULL;
        const char *job;

        if (!properties)
                return false;
        int r = sd_bus_match_signal(s->bus, NULL, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", on_job_removed, s);
        if (r < 0)
                return bus_failed(r, NULL, "listen for the scope", error);
        bool defined = true;
        for (int i = 0; i < START_TRIES; i++) {
                /* Another box runs, and has defined the slice: without it then. And that has ended meanwhile, so that there is no slice: with it. */
                static const char exists[] = "org.freedesktop.systemd1.UnitExists", gone[] = "org.freedesktop.systemd1.NoSuchUnit";
                sd_bus_error_free(&bus_error);
                r = call_start(s, config, properties, defined, &bus_error, &reply);
                if (r >= 0 || !sd_bus_error_has_name(&bus_error, defined ? exists : gone))
                        break;
                defined = !defined;
        }
        if (r < 0)
                return bus_failed(r, &bus_error, "start the scope", error);
        if (sd_bus_message_read(reply, "o", &job) < 0)
                return bus_failed(-EPROTO, NULL, "start the scope", error);
        s->job = g_strdup(job);
        if (!await_job(s, error))
                return false;
        if (!defined)
                define_slice(s);

        ret->path = cgroup_of_self(error);
        if (!ret->path)
                return false;
        g_autofree char *unit = scope_unit_name(config->id);
        if (!g_str_has_suffix(ret->path, unit))
                return err_set(error, ESRCH, "systemd: the scope has started, but this process is in %s", ret->path);
        return true;
}

/* "/user.slice/user-1000.slice/user@1000.service/usbox.slice/...": the user's systemd as a unit of the machine's, and what is below it. */
static bool split_at_user_unit(const char *path, char **ret_unit, const char **ret_below) {
        g_autofree char *unit = g_strdup_printf("user@%u.service", (unsigned) getuid());
        g_autofree char *part = g_strconcat("/", unit, "/", NULL);
        const char *at = strstr(path, part);

        if (!at)
                return false;
        *ret_below = at + strlen(part) - 1;
        *ret_unit = g_steal_pointer(&unit);
        return true;
}

char *systemd_init_scope(const char *path) {
        g_autofree char *unit = NULL;
        const char *below;

        return split_at_user_unit(path, &unit, &below) ? g_strdup_printf("%.*s/init.scope", (int) (below - path), path) : NULL;
}

char *systemd_cgroup(Systemd *s) {
        struct ucred peer;
        socklen_t len = sizeof peer;
        int fd = sd_bus_get_fd(s->bus);

        return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? cgroup_of(peer.pid, NULL) : NULL;
}

bool systemd_is_users(const char *path) {
        g_autofree char *unit = NULL;
        const char *below;

        return split_at_user_unit(path, &unit, &below);
}

Systemd *systemd_open_machine(GError **error) {
        sd_bus *bus = NULL;
        const char *name;
        int r = sd_bus_open_system(&bus);

        /* Until the bus has said who we are: what there is to wait for is over when it is needed. */
        if (r >= 0 && (r = sd_bus_get_unique_name(bus, &name)) < 0)
                sd_bus_unref(bus);
        if (r < 0) {
                bus_failed(r, NULL, "reach the machine's, to move the box's processes out of this login's session", error);
                err_hint(error, "does its message bus run? systemctl status dbus");
                return NULL;
        }
        Systemd *s = g_new0(Systemd, 1);
        s->bus = bus;
        return s;
}

bool systemd_attach(Systemd *machine, const char *path, const pid_t *pids, size_t n, GError **error) {
        _cleanup_message_ sd_bus_message *m = NULL;
        _cleanup_bus_error_ sd_bus_error bus_error = SD_BUS_ERROR_NULL;
        g_autofree char *unit = NULL;
        const char *below;

        if (!split_at_user_unit(path, &unit, &below))
                return err_set(error, EACCES, "move the box's processes to %s", path);
        int r = sd_bus_message_new_method_call(machine->bus, &m, MANAGER, "AttachProcessesToUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, below);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "u");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append(m, "u", (uint32_t) pids[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call(machine->bus, m, 0, &bus_error, NULL);
        return r >= 0 || bus_failed(r, &bus_error, "move the box's processes into the scope", error);
}

bool systemd_update(Systemd *s, const char *id, const GPtrArray *settings, const GPtrArray *named, GError **error) {
        g_autofree char *unit = scope_unit_name(id);
        g_autoptr(GPtrArray) properties = all_properties(settings, named, error);
        _cleanup_message_ sd_bus_message *m = NULL;
        _cleanup_bus_error_ sd_bus_error bus_error = SD_BUS_ERROR_NULL;

        if (!properties)
                return false;
        if (properties->len == 0)
                return true;
        int r = sd_bus_message_new_method_call(s->bus, &m, MANAGER, "SetUnitProperties");
        if (r >= 0)
                r = sd_bus_message_append(m, "sb", unit, 1);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_properties(m, properties);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call(s->bus, m, 0, &bus_error, NULL);
        return r >= 0 || bus_failed(r, &bus_error, "change the scope", error);
}
