/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Values of options: numbers, times, sizes, signals, descriptors, paths.
 *
 * Everything is read strictly: libc's own readers take blanks, signs and base prefixes, and turn what is too large into
 * another number; in ids that has made users out of roots and the other way round (CVE-2026-30892).
 *
 * Role: launcher. Privileges: the caller's. Threads: any. Order: under option_parse() and profile_apply().
 */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "option.h"
#include "spec.h"

static bool bad_value(GError **error, const char *option, const char *text, const char *wanted) {
        g_autofree char *quoted = err_quote(text);
        return err_usage(error, "%s: '%s' is not %s", option, quoted, wanted);
}

bool option_digits(const char *text, guint64 max, guint64 *ret) {
        guint64 n = 0;

        if (*text == '\0')
                return false;
        for (const char *p = text; *p; p++) {
                if (!g_ascii_isdigit(*p))
                        return false;
                guint64 digit = (guint64) (*p - '0');
                if (n > (G_MAXUINT64 - digit) / 10)
                        return false;
                n = n * 10 + digit;
        }
        if (n > max)
                return false;
        *ret = n;
        return true;
}

bool option_bool(const char *option, const char *text, bool *ret, GError **error) {
        static const char *const yes[] = { "true", "yes", "on", "1", NULL }, *const no[] = { "false", "no", "off", "0",
                                                                                             NULL };

        if (g_strv_contains(yes, text))
                *ret = true;
        else if (g_strv_contains(no, text))
                *ret = false;
        else
                return bad_value(error, option, text, "true or false");
        return true;
}

bool option_u64(const char *option, const char *text, guint64 max, guint64 *ret, GError **error) {
        if (option_digits(text, max, ret))
                return true;
        g_autofree char *wanted = g_strdup_printf("a number from 0 to %" G_GUINT64_FORMAT, max);
        return bad_value(error, option, text, wanted);
}

bool option_i64(const char *option, const char *text, gint64 min, gint64 max, gint64 *ret, GError **error) {
        bool negative = *text == '-';
        guint64 n;

        if (option_digits(text + (negative || *text == '+'), G_MAXINT64, &n)) {
                gint64 value = negative ? -(gint64) n : (gint64) n;
                if (value >= min && value <= max) {
                        *ret = value;
                        return true;
                }
        }
        g_autofree char *wanted = g_strdup_printf("a number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, min, max);
        return bad_value(error, option, text, wanted);
}

bool option_id(const char *option, const char *text, guint32 *ret, GError **error) {
        guint64 n;

        /* (uid_t) -1 means "leave it as it is" to setresuid(2) and chown(2). */
        if (!option_digits(text, G_MAXUINT32 - 1, &n))
                return bad_value(error, option, text, "an id from 0 to 4294967294");
        *ret = (guint32) n;
        return true;
}

bool option_duration(const char *option, const char *text, guint64 *ret_ns, GError **error) {
        return number_duration(text, ret_ns) || bad_value(error, option, text, "a time such as 90, 1.5s, 2m or 1h30m");
}

bool option_size(const char *option, const char *text, guint64 *ret_bytes, GError **error) {
        const char *wanted = "a size such as 65536, 512M or 1.5G", *letters = "KMGTP", *p = text;
        double value;

        if (!number_scan(&p, &value))
                return bad_value(error, option, text, wanted);
        if (*p) {
                const char *letter = strchr(letters, g_ascii_toupper(*p));
                if (letter) {
                        value = ldexp(value, 10 * (int) (letter - letters + 1));
                        p++;
                        if (*p == 'i')
                                p++;
                }
                if (*p == 'B' || *p == 'b')
                        p++;
        }
        if (*p || value > (double) (G_MAXINT64 / 2))
                return bad_value(error, option, text, wanted);
        *ret_bytes = (guint64) value;
        return true;
}

bool option_signal(const char *option, const char *text, int *ret, GError **error) {
        const char *name = g_str_has_prefix(text, "SIG") ? text + 3 : text;
        guint64 n;

        if (option_digits(text, (guint64) SIGRTMAX, &n) && n > 0) {
                *ret = (int) n;
                return true;
        }
        for (int sig = 1; sig <= SIGRTMAX; sig++) {
                g_autofree char *known = option_signal_name(sig);
                if (known && g_str_equal(known, name)) {
                        *ret = sig;
                        return true;
                }
        }
        return bad_value(error, option, text, "a signal such as TERM, SIGINT or 10");
}

char *option_signal_name(int sig) {
        const char *abbrev = sigabbrev_np(sig);
        if (abbrev)
                return g_strdup(abbrev);
        if (sig >= SIGRTMIN && sig <= SIGRTMAX)
                return sig == SIGRTMIN ? g_strdup("RTMIN") : g_strdup_printf("RTMIN+%d", sig - SIGRTMIN);
        return g_strdup_printf("%d", sig);
}

bool option_choice(const char *option, const char *text, const char *choices, unsigned *ret, GError **error) {
        g_auto(GStrv) list = g_strsplit(choices, "|", -1);

        for (unsigned i = 0; list[i]; i++)
                if (g_str_equal(list[i], text)) {
                        *ret = i;
                        return true;
                }
        g_autofree char *names = g_strjoinv(", ", list);
        g_autofree char *wanted = g_strdup_printf("one of %s", names);
        bad_value(error, option, text, wanted);
        const char *near = option_nearest(text, (const char *const *) list);
        return near ? err_hint(error, "did you mean %s?", near) : false;
}

bool option_fd(const char *option, const char *text, bool for_write, int *ret, GError **error) {
        guint64 n;

        if (!option_digits(text, G_MAXINT, &n))
                return bad_value(error, option, text, "a file descriptor's number");

        /* Ours are all close-on-exec; what the caller handed over cannot be, it came through exec. */
        int fd = (int) n, fd_flags = fcntl(fd, F_GETFD), flags = fcntl(fd, F_GETFL);
        if (fd_flags < 0 || flags < 0 || (fd_flags & FD_CLOEXEC)) {
                err_usage(error, "%s: file descriptor %d is not open", option, fd);
                return err_hint(error, "open it where usbox is started, in a shell by %d%sFILE behind the command", fd, for_write ? ">" : "<");
        }
        int mode = flags & O_ACCMODE;
        if ((flags & O_PATH) || mode == (for_write ? O_RDONLY : O_WRONLY))
                return err_usage(error, "%s: file descriptor %d is not open for %s", option, fd,
                                 for_write ? "writing" : "reading");
        *ret = fd;
        return true;
}

char *option_normal_path(const char *path) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        g_autoptr(GPtrArray) kept = g_ptr_array_new();

        for (char **p = parts; *p; p++) {
                if (**p == '\0' || g_str_equal(*p, "."))
                        continue;
                if (!g_str_equal(*p, ".."))
                        g_ptr_array_add(kept, *p);
                else if (kept->len > 0)
                        g_ptr_array_set_size(kept, (gint) kept->len - 1);
        }
        g_ptr_array_add(kept, NULL);
        g_autofree char *joined = g_strjoinv("/", (char **) kept->pdata);
        return g_strconcat("/", joined, NULL);
}

char *option_host_path(const Spec *draft, const char *text) {
        if (text[0] == '/')
                return g_strdup(text);
        if (text[0] == '~' && (text[1] == '/' || text[1] == '\0'))
                return g_strconcat(draft->caller.home, text + 1, NULL);
        return g_build_filename(draft->caller.cwd, text, NULL);
}

bool option_box_path(const char *option, const char *text, bool not_root, char **ret, GError **error) {
        if (text[0] != '/')
                return bad_value(error, option, text, "an absolute path in the box");

        g_autofree char *path = option_normal_path(text);
        if (not_root && g_str_equal(path, "/")) {
                err_usage(error, "%s: the box's root itself cannot be replaced", option);
                return err_hint(error, "this machine's files are there without it, copy-on-write (--read-only: not to be written); "
                                       "--rootfs DIR is another root");
        }
        *ret = g_steal_pointer(&path);
        return true;
}
