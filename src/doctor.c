/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: the list of checks and the report.
 *
 * Role: verb. Privileges: the caller's. Threads: one.
 *
 * Theory of operation: doctor_host_new() and doctor_try() find out facts, the second by really doing in children what `run` does;
 * the checks are pure functions over those facts and files of /proc, /sys and /etc. A check says that something is missing
 * because a trial failed, and uses the files only to say why and what mends it: sysctls and versions alone mislead.
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "doctor-check.h"
#include "jsontext.h"

#define FILE_MAX (1024 * 1024)

static const struct {
        const char *name;
        const char *colour; /* SGR */
} states[] = {
        [DOCTOR_OK] = { "ok", "32" },
        [DOCTOR_INFO] = { "info", "36" },
        [DOCTOR_DEGRADED] = { "degraded", "33" },
        [DOCTOR_MISSING] = { "missing", "31" },
};

static void check_free(gpointer data) {
        DoctorCheck *check = data;
        g_free(check->found);
        g_free(check->means);
        g_free(check->mend);
        g_free(check);
}

DoctorCheck *doctor_add(GPtrArray *checks, const char *id, const char *title, DoctorState state, const char *found, ...) {
        DoctorCheck *check = g_new0(DoctorCheck, 1);
        va_list ap;

        check->id = id;
        check->title = title;
        check->state = state;
        va_start(ap, found);
        check->found = g_strdup_vprintf(found, ap);
        va_end(ap);
        g_ptr_array_add(checks, check);
        return check;
}

void doctor_means(DoctorCheck *check, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        g_free(check->means);
        check->means = g_strdup_vprintf(fmt, ap);
        va_end(ap);
}

void doctor_mend(DoctorCheck *check, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        g_free(check->mend);
        check->mend = g_strdup_vprintf(fmt, ap);
        va_end(ap);
}

char *doctor_read(const DoctorHost *host, const char *path) {
        g_autofree char *full = g_strconcat(host->root, path, NULL);
        char *text = NULL;

        if (!fd_read_file(AT_FDCWD, full, FILE_MAX, &text, NULL))
                return NULL;
        return g_strchomp(text);
}

gint64 doctor_read_number(const DoctorHost *host, const char *path, gint64 fallback) {
        g_autofree char *text = doctor_read(host, path);
        char *end;

        if (!text || *text == '\0')
                return fallback;
        gint64 value = g_ascii_strtoll(text, &end, 10);
        return *end == '\0' ? value : fallback;
}

bool doctor_is_fedora(const DoctorHost *host) {
        g_autofree char *text = doctor_read(host, "/etc/os-release");
        g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

        for (char **line = lines; *line; line++)
                if ((g_str_has_prefix(*line, "ID=") || g_str_has_prefix(*line, "ID_LIKE=")) &&
                    (strstr(*line, "fedora") || strstr(*line, "rhel")))
                        return true;
        return false;
}

char *doctor_install_command(const DoctorHost *host, const char *debian, const char *fedora) {
        return doctor_is_fedora(host) ? g_strdup_printf("sudo dnf install %s", fedora) : g_strdup_printf("sudo apt-get install %s", debian);
}

char *doctor_sysctl_command(const char *key, const char *value) {
        return g_strdup_printf("echo '%s = %s' | sudo tee -a /etc/sysctl.d/60-usbox.conf && sudo sysctl -p /etc/sysctl.d/60-usbox.conf",
                               key, value);
}

char *doctor_word(const char *text) {
        static const char plain[] = G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_@%+=:,./-";

        if (*text != '\0' && text[strspn(text, plain)] == '\0')
                return g_strdup(text);
        g_autofree char *quoted = g_shell_quote(text);
        return err_quote(quoted);
}

char *doctor_container(const DoctorHost *host) {
        g_autofree char *docker = g_strconcat(host->root, "/.dockerenv", NULL);
        g_autofree char *podman = g_strconcat(host->root, "/run/.containerenv", NULL);
        if (host->in_box) /* which shows the files of what it runs in, too */
                return g_strdup("usbox");
        char *name = doctor_read(host, "/run/systemd/container");

        if (name && *name) {
                char *quoted = err_quote(name);
                g_free(name);
                return quoted;
        }
        g_free(name);
        if (g_file_test(podman, G_FILE_TEST_EXISTS))
                return g_strdup("podman");
        if (g_file_test(docker, G_FILE_TEST_EXISTS))
                return g_strdup("docker");
        return NULL;
}

const char *doctor_container_mend(const char *container) {
        if (g_strcmp0(container, "docker") == 0)
                return "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
                       "--security-opt systempaths=unconfined --device /dev/net/tun --device /dev/fuse --tmpfs /boxes -e XDG_DATA_HOME=/boxes ...";
        if (g_strcmp0(container, "podman") == 0)
                return "podman run --security-opt seccomp=unconfined --security-opt label=disable --security-opt unmask=ALL "
                       "--device /dev/net/tun --device /dev/fuse --tmpfs /boxes -e XDG_DATA_HOME=/boxes ...";
        if (g_strcmp0(container, "usbox") == 0)
                return "usbox run --nested --device /dev/fuse --device /dev/net/tun -e XDG_DATA_HOME=/tmp/usbox ...";
        return NULL;
}

GPtrArray *doctor_examine(const DoctorHost *host) {
        GPtrArray *checks = g_ptr_array_new_with_free_func(check_free);

        if (!doctor_check_shell(host, checks))
                return checks;
        doctor_check_kernel(host, checks);
        doctor_check_userns(host, checks);
        doctor_check_files(host, checks);
        doctor_check_network(host, checks);
        doctor_check_ids(host, checks);
        doctor_check_limits(host, checks);
        return checks;
}

bool doctor_can_run(const GPtrArray *checks) {
        for (guint i = 0; i < checks->len; i++)
                if (((const DoctorCheck *) g_ptr_array_index(checks, i))->state == DOCTOR_MISSING)
                        return false;
        return true;
}

static void add_verdict(GString *out, const GPtrArray *checks) {
        g_autoptr(GString) missing = g_string_new(NULL);
        unsigned degraded = 0;

        for (guint i = 0; i < checks->len; i++) {
                const DoctorCheck *check = g_ptr_array_index(checks, i);
                if (check->state == DOCTOR_MISSING)
                        g_string_append_printf(missing, "%s%s", missing->len > 0 ? ", " : "", check->title);
                degraded += check->state == DOCTOR_DEGRADED;
        }
        if (missing->len > 0)
                g_string_append_printf(out, "\n`usbox run` does not work here yet; missing: %s\n", missing->str);
        else if (degraded > 0)
                g_string_append(out, "\n`usbox run` works here; what is degraded above is needed by some options only\n");
        else
                g_string_append(out, "\n`usbox run` works here\n");
}

char *doctor_text(const GPtrArray *checks, bool colour) {
        GString *out = g_string_new(NULL);
        int width = 0;

        for (guint i = 0; i < checks->len; i++)
                width = MAX(width, (int) strlen(((const DoctorCheck *) g_ptr_array_index(checks, i))->title));
        for (guint i = 0; i < checks->len; i++) {
                const DoctorCheck *check = g_ptr_array_index(checks, i);
                g_autofree char *state = g_strdup_printf("%-8s", states[check->state].name);
                if (colour)
                        g_string_append_printf(out, "\x1b[%sm%s\x1b[0m", states[check->state].colour, state);
                else
                        g_string_append(out, state);
                g_string_append_printf(out, "  %-*s  %s\n", width, check->title, check->found);
                if (check->means)
                        g_string_append_printf(out, "%*s  means: %s\n", 10 + width, "", check->means);
                if (check->mend)
                        g_string_append_printf(out, "%*s  mend:  %s\n", 10 + width, "", check->mend);
        }
        add_verdict(out, checks);
        return g_string_free(out, FALSE);
}

char *doctor_json(const GPtrArray *checks) {
        json_t *out = json_array();

        for (guint i = 0; i < checks->len; i++) {
                const DoctorCheck *check = g_ptr_array_index(checks, i);
                json_t *entry = json_object();
                json_object_set_new(entry, "id", json_string(check->id));
                json_object_set_new(entry, "title", json_string(check->title));
                json_object_set_new(entry, "state", json_string(states[check->state].name));
                json_object_set_new(entry, "found", jsontext_string(check->found));
                if (check->means)
                        json_object_set_new(entry, "means", jsontext_string(check->means));
                if (check->mend)
                        json_object_set_new(entry, "mend", jsontext_string(check->mend));
                json_array_append_new(out, entry);
        }
        return jsontext_line(out);
}
