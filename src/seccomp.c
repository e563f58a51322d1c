/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The payload's seccomp filter: which one, and where it comes from.
 *
 * Role: launcher, before the clone; the payload inherits the finished program and installs it
 * (confine_seccomp()). Privileges: none. Threads: one. Order: after spec_build(), before anything is started.
 *
 * The built-in filters are arrays that the build made of seccomp/default.json. JSON and libseccomp are in a helper
 * program alone: a run with the default pays for neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "seccomp.h"
#include "seccomp_default.h"
#include "seccomp_default_compat32.h"
#include "seccomp_default_compat32_coredumps.h"
#include "seccomp_default_compat32_nested.h"
#include "seccomp_default_compat32_nested_coredumps.h"
#include "seccomp_default_compat32_nested_rootpayload.h"
#include "seccomp_default_compat32_nested_rootpayload_coredumps.h"
#include "seccomp_default_compat32_rootpayload.h"
#include "seccomp_default_compat32_rootpayload_coredumps.h"
#include "seccomp_default_coredumps.h"
#include "seccomp_default_nested.h"
#include "seccomp_default_nested_coredumps.h"
#include "seccomp_default_nested_rootpayload.h"
#include "seccomp_default_nested_rootpayload_coredumps.h"
#include "seccomp_default_rootpayload.h"
#include "seccomp_default_rootpayload_coredumps.h"
#include "spec.h"

#define COMPILER "usbox-seccomp"
#define FILTER_MAX (BPF_MAXINSNS * sizeof(struct sock_filter))
#define MESSAGE_MAX (64 * 1024)

static bool apply_seccomp(Spec *draft, const char *const *values, GError **error) {
        SeccompSpec *spec = &draft->seccomp;
        const char *value = values[0];

        g_clear_pointer(&spec->file, g_free);
        spec->compat32 = g_str_equal(value, "default+32bit");
        if (spec->compat32 || g_str_equal(value, "default")) {
                spec->mode = SECCOMP_DEFAULT;
        } else if (g_str_equal(value, "off")) {
                spec->mode = SECCOMP_OFF;
        } else {
                spec->mode = SECCOMP_FILE;
                spec->file = option_host_path(draft, value);
        }
        return true;
}

const Option seccomp_options[] = {
        { .name = "seccomp",
          .arg = "default|default+32bit|off|FILE",
          .group = OPTION_SECURITY,
          .complete = COMPLETE_FILE,
          .help = "system calls the command may make: the built-in list, with 32-bit programs, all, or an OCI JSON "
                  "profile",
          .apply = apply_seccomp },
        { 0 },
};

void seccomp_clear(SeccompSpec *s) {
        g_clear_pointer(&s->file, g_free);
}

void seccomp_program_clear(SeccompProgram *program) {
        g_free(program->owned);
        *program = (SeccompProgram){ 0 };
}

void seccomp_builtin(SeccompFeatures features, const struct sock_filter **ret, size_t *ret_n) {
#define ROW(array) \
        { array, G_N_ELEMENTS(array) }
        static const struct {
                const struct sock_filter *filter;
                size_t n;
        } builtin[2][2][2][2] = {
                { { { ROW(seccomp_default), ROW(seccomp_default_coredumps) },
                      { ROW(seccomp_default_rootpayload), ROW(seccomp_default_rootpayload_coredumps) } },
                  { { ROW(seccomp_default_nested), ROW(seccomp_default_nested_coredumps) },
                      { ROW(seccomp_default_nested_rootpayload), ROW(seccomp_default_nested_rootpayload_coredumps) } } },
                { { { ROW(seccomp_default_compat32), ROW(seccomp_default_compat32_coredumps) },
                      { ROW(seccomp_default_compat32_rootpayload), ROW(seccomp_default_compat32_rootpayload_coredumps) } },
                  { { ROW(seccomp_default_compat32_nested), ROW(seccomp_default_compat32_nested_coredumps) },
                      { ROW(seccomp_default_compat32_nested_rootpayload), ROW(seccomp_default_compat32_nested_rootpayload_coredumps) } } },
        };
#undef ROW
        *ret = builtin[features.compat32][features.nested][features.root_payload][features.core_dumps].filter;
        *ret_n = builtin[features.compat32][features.nested][features.root_payload][features.core_dumps].n;
}

/* A file, or a pipe as the shell's <(...) makes one; never a device, whose opening may do something. */
static int open_profile(const char *path, GError **error) {
        g_autofree char *quoted = err_quote(path);
        struct stat st;

        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0) {
                bool missing = errno == ENOENT;
                err_set(error, errno, "open %s", quoted);
                if (missing)
                        err_hint(error,
                                 "--seccomp takes default, default+32bit, off, or the path of an OCI seccomp profile");
                return -1;
        }
        if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode)) {
                err_set(error, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "%s is not a file", quoted);
                return -1;
        }
        if (!fd_set_nonblock(fd, false)) {
                err_set(error, errno, "open %s", quoted);
                return -1;
        }
        return fd_steal(&fd);
}

static GPtrArray *compiler_argv(const char *path, const SeccompSpec *spec, SeccompFeatures features) {
        GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
        const char *fixed[] = { path, "--verbose", "--name", spec->file };
        for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
                g_ptr_array_add(argv, g_strdup(fixed[i]));

        /* An engine's profile opens calls for who has a capability; the payload has them in namespaces of its own
         * making. */
        const struct {
                bool given;
                const char *option, *value;
        } rows[] = {
                { features.nested, "--feature", "nested" },
                { features.nested, "--cap", "CAP_SYS_ADMIN" },
                { features.root_payload, "--feature", "rootpayload" },
                { features.core_dumps, "--feature", "coredumps" },
                { features.nested || features.root_payload, "--cap", "CAP_SYS_CHROOT" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                if (!rows[i].given)
                        continue;
                g_ptr_array_add(argv, g_strdup(rows[i].option));
                g_ptr_array_add(argv, g_strdup(rows[i].value));
        }
        g_ptr_array_add(argv, NULL);
        return argv;
}

/* What the compiler said, from the start of its memory file, without the program's name. The caller's; NULL:
 * unreadable. */
static char **read_lines(int fd) {
        g_autofree char *text = NULL;
        if (lseek(fd, 0, SEEK_SET) < 0 || !fd_read_all(fd, MESSAGE_MAX, &text, NULL))
                return NULL;
        char **lines = g_strsplit(g_strchomp(text), "\n", -1);
        for (char **line = lines; *line; line++)
                if (g_str_has_prefix(*line, COMPILER ": "))
                        memmove(*line, *line + strlen(COMPILER ": "), strlen(*line + strlen(COMPILER ": ")) + 1);
        return lines;
}

/* Run the compiler over the open profile; out and messages are memory files, so that neither can fill and block it. */
static bool run_compiler(const SeccompSpec *spec, char *const *argv, int profile, int out, int messages,
                         GError **error) {
        const ProcFd map[] = { { profile, 0 }, { out, 1 }, { messages, 2 } };
        int status;

        pid_t pid = proc_spawn(argv[0], argv, (char *[]){ NULL }, map, G_N_ELEMENTS(map), NULL, error);
        if (pid < 0)
                return false;
        if (!proc_wait(pid, &status))
                return err_set(error, errno, "wait for " COMPILER);

        g_auto(GStrv) lines = read_lines(messages);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
                for (char **line = lines; line && *line; line++)
                        log_step("seccomp: %s", *line);
                return true;
        }
        if (WIFEXITED(status) && lines && lines[0] && *lines[0]) {
                err_set(error, 0, "%s", lines[0]);
                return err_hint(error, "a filter is JSON as docker and podman take it (OCI's seccomp); --seccomp=default is the built-in one");
        }
        g_autofree char *how = proc_status_text(status), *quoted = err_quote(spec->file);
        return err_set(error, 0, "%s: " COMPILER ": %s", quoted, how);
}

static bool compile_file(const SeccompSpec *spec, SeccompFeatures features, SeccompProgram *ret, GError **error) {
        g_autofree char *path = proc_helper_path(COMPILER, error);
        if (!path)
                return false;
        _cleanup_close_ int profile = open_profile(spec->file, error);
        if (profile < 0)
                return false;
        _cleanup_close_ int out = memfd_create("seccomp-filter", MFD_CLOEXEC);
        _cleanup_close_ int messages = memfd_create("seccomp-messages", MFD_CLOEXEC);
        if (out < 0 || messages < 0)
                return err_set(error, errno, "memfd_create");

        g_autoptr(GPtrArray) argv = compiler_argv(path, spec, features);
        if (!run_compiler(spec, (char *const *) argv->pdata, profile, out, messages, error))
                return false;

        g_autofree char *filter = NULL;
        size_t length;
        if (lseek(out, 0, SEEK_SET) < 0 || !fd_read_all(out, FILTER_MAX, &filter, &length))
                return err_set(error, errno, "read the filter");
        if (length == 0 || length % sizeof(struct sock_filter) != 0)
                return err_set(error, 0, COMPILER " made no whole filter");
        ret->owned = (struct sock_filter *) (void *) g_steal_pointer(&filter);
        ret->filter = ret->owned;
        ret->n = length / sizeof(struct sock_filter);
        return true;
}

bool seccomp_prepare(const SeccompSpec *spec, SeccompFeatures features, SeccompProgram *ret, GError **error) {
        *ret = (SeccompProgram){ 0 };
        switch (spec->mode) {
        case SECCOMP_DEFAULT:
                features.compat32 = spec->compat32;
                seccomp_builtin(features, &ret->filter, &ret->n);
                return true;
        case SECCOMP_OFF:
                return true;
        case SECCOMP_FILE:
                return compile_file(spec, features, ret, error) || err_step(error, "seccomp");
        }
        g_assert_not_reached();
}
