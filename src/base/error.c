/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors: one GError domain with step, errno and hint attached.
 *
 * Role: every process. Privileges: none needed. Threads: any. Order: used by all, uses nothing.
 */
#include <stdbool.h>
#include <string.h>

#include "base/error.h"

typedef struct {
        int errnum;
        char *step;
        char *hint;
} UsboxErrorPrivate;

static void usbox_error_private_init(UsboxErrorPrivate *priv) {
        *priv = (UsboxErrorPrivate){ 0 };
}

static void usbox_error_private_copy(const UsboxErrorPrivate *src, UsboxErrorPrivate *dst) {
        dst->errnum = src->errnum;
        dst->step = g_strdup(src->step);
        dst->hint = g_strdup(src->hint);
}

static void usbox_error_private_clear(UsboxErrorPrivate *priv) {
        g_free(priv->step);
        g_free(priv->hint);
}

/* The getter that the macro defines is of use inside this file only. */
G_DEFINE_EXTENDED_ERROR(UsboxError, usbox_error)

const char *err_text(int errnum) {
        const char *text = strerrordesc_np(errnum);
        return text ? text : "unknown error";
}

G_GNUC_PRINTF(4, 0)
static void set_valist(GError **error, UsboxErrorCode code, int errnum, const char *fmt, va_list ap) {
        if (!error)
                return;

        g_autofree char *what = g_strdup_vprintf(fmt, ap);
        if (errnum != 0)
                g_set_error(error, USBOX_ERROR, (int) code, "%s: %s", what, err_text(errnum));
        else
                g_set_error_literal(error, USBOX_ERROR, (int) code, what);
        usbox_error_get_private(*error)->errnum = errnum;
}

bool err_set(GError **error, int errnum, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        set_valist(error, USBOX_ERROR_FAILED, errnum, fmt, ap);
        va_end(ap);
        return false;
}

bool err_set_code(GError **error, UsboxErrorCode code, int errnum, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        set_valist(error, code, errnum, fmt, ap);
        va_end(ap);
        return false;
}

bool err_usage(GError **error, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        set_valist(error, USBOX_ERROR_USAGE, 0, fmt, ap);
        va_end(ap);
        return false;
}

bool err_hint(GError **error, const char *fmt, ...) {
        if (!error || !*error || (*error)->domain != USBOX_ERROR)
                return false;

        UsboxErrorPrivate *priv = usbox_error_get_private(*error);
        if (priv->hint)
                return false;

        va_list ap;
        va_start(ap, fmt);
        priv->hint = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        return false;
}

void err_replace_hint(GError *error, const char *hint) {
        if (error->domain != USBOX_ERROR)
                return;

        UsboxErrorPrivate *priv = usbox_error_get_private(error);
        g_free(priv->hint);
        priv->hint = g_strdup(hint);
}

bool err_step(GError **error, const char *step) {
        if (!error || !*error || (*error)->domain != USBOX_ERROR)
                return false;

        UsboxErrorPrivate *priv = usbox_error_get_private(*error);
        if (!priv->step)
                priv->step = g_strdup(step);
        return false;
}

const char *err_get_step(const GError *error) {
        return error && error->domain == USBOX_ERROR ? usbox_error_get_private(error)->step : NULL;
}

const char *err_get_hint(const GError *error) {
        return error && error->domain == USBOX_ERROR ? usbox_error_get_private(error)->hint : NULL;
}

int err_get_errno(const GError *error) {
        return error && error->domain == USBOX_ERROR ? usbox_error_get_private(error)->errnum : 0;
}

void err_set_errno(GError *error, int errnum) {
        if (error->domain == USBOX_ERROR)
                usbox_error_get_private(error)->errnum = errnum;
}

static bool is_safe(gunichar c) {
        GUnicodeType type = g_unichar_type(c);
        return g_unichar_isprint(c) && type != G_UNICODE_FORMAT && type != G_UNICODE_LINE_SEPARATOR && type != G_UNICODE_PARAGRAPH_SEPARATOR;
}

/* own: characters besides that are escaped, by themselves behind a backslash. */
static char *escape(const char *text, const char *own) {
        GString *out = g_string_new(NULL);

        for (const char *p = text; *p;) {
                gunichar c = g_utf8_get_char_validated(p, -1);
                if (c == (gunichar) -1 || c == (gunichar) -2) {
                        g_string_append_printf(out, "\\x%02x", (unsigned char) *p);
                        p++;
                        continue;
                }
                const char *next = g_utf8_next_char(p);
                if (c == '\n')
                        g_string_append(out, "\\n");
                else if (c == '\t')
                        g_string_append(out, "\\t");
                else if (c < 0x80 && strchr(own, (int) c))
                        g_string_append_printf(out, "\\%c", (char) c);
                else if (is_safe(c))
                        g_string_append_len(out, p, next - p);
                else
                        for (const char *q = p; q < next; q++)
                                g_string_append_printf(out, "\\x%02x", (unsigned char) *q);
                p = next;
        }
        return g_string_free(out, FALSE);
}

char *err_quote(const char *name) {
        return escape(name, "\\");
}

char *err_visible(const char *line) {
        return escape(line, "");
}
