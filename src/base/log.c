/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Notes and the step times of --verbose, on stderr.
 *
 * Role: every process. Privileges: none needed. Threads: any (one write a line).
 */
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"

static const char *log_program = "usbox";
static bool log_verbose;
static struct timespec log_start;

/*
 * That no memory is to be had is GLib's last word (g_malloc(), glib/gmem.c), after which it takes the process down by a signal, as for a mistake in the
 * program. It is none: so it is said like any other reason, without allocating, and the process ends by a status.
 */
static void on_glib(const char *domain, GLogLevelFlags level, const char *message, gpointer data) {
        static const char said[] = ": out of memory\n";

        if (!(level & G_LOG_FLAG_FATAL) || !message || !strstr(message, "failed to allocate")) {
                g_log_default_handler(domain, level, message, data);
                return;
        }
        static const char limit[] = "hint: the limit on memory may be too small (ulimit -v, ulimit -d)\n";
        bool limited = proc_is_limited(RLIMIT_AS) || proc_is_limited(RLIMIT_DATA);
        const struct iovec parts[] = { { .iov_base = (void *) log_program, .iov_len = strlen(log_program) },
                                       { .iov_base = (void *) said, .iov_len = sizeof said - 1 },
                                       { .iov_base = (void *) limit, .iov_len = limited ? sizeof limit - 1 : 0 } };
        (void) !writev(STDERR_FILENO, parts, G_N_ELEMENTS(parts));
        _exit(LOG_EXIT_NO_MEMORY);
}

void log_init(const char *program, bool verbose) {
        log_program = program;
        log_verbose = verbose;
        g_log_set_default_handler(on_glib, NULL);
        if (log_start.tv_sec == 0)
                clock_gettime(CLOCK_MONOTONIC, &log_start);
}

bool log_is_verbose(void) {
        return log_verbose;
}

G_GNUC_PRINTF(2, 0)
static void log_line(const char *prefix, const char *fmt, va_list ap) {
        g_autofree char *text = g_strdup_vprintf(fmt, ap), *visible = err_visible(text);
        g_autofree char *line = g_strdup_printf("%s: %s%s\n", log_program, prefix, visible);
        int saved = errno;
        /* A closed or full stderr is no reason to stop. */
        (void) fd_write_all(STDERR_FILENO, line, strlen(line));
        errno = saved;
}

void log_note(const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        log_line("", fmt, ap);
        va_end(ap);
}

void log_step(const char *fmt, ...) {
        if (!log_verbose)
                return;

        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        double ms = (double) (now.tv_sec - log_start.tv_sec) * 1e3 + (double) (now.tv_nsec - log_start.tv_nsec) / 1e6;

        char prefix[32];
        g_snprintf(prefix, sizeof prefix, "%8.3f ms ", ms);
        va_list ap;
        va_start(ap, fmt);
        log_line(prefix, fmt, ap);
        va_end(ap);
}
