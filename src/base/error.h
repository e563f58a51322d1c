/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Every failure of usbox is a GError of this one domain. The code says how the process ends; the
 * extended part carries what a person and --status-fd need: the step, the errno, and a hint.
 */
#define USBOX_ERROR (usbox_error_quark())
GQuark usbox_error_quark(void);

typedef enum {
        USBOX_ERROR_FAILED,    /* usbox could not do its work: exit 125 */
        USBOX_ERROR_USAGE,     /* the command line or a profile is wrong: exit 125 */
        USBOX_ERROR_NOT_EXEC,  /* the command was found but is not executable: exit 126 */
        USBOX_ERROR_NOT_FOUND, /* the command was not found: exit 127 */
} UsboxErrorCode;

/*
 * What errnum says, in English; static. Not g_strerror(), nor anything else that converts from a locale's character set: for that glibc reads
 * which module does it, and loads that, from the tree at hand. After setns(2) or pivot_root(2) that is the box's, and so would the code be.
 */
const char *err_text(int errnum);

/*
 * Set *error to "WHAT: err_text(errnum)" (only "WHAT" when errnum is 0), remember errnum. Always
 * returns false, so that a caller can write `return err_set(error, errno, "open %s", path);`.
 * Names that come from outside go through err_quote() first. error may be NULL.
 */
bool err_set(GError **error, int errnum, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* As err_set() with another code than USBOX_ERROR_FAILED. */
bool err_set_code(GError **error, UsboxErrorCode code, int errnum, const char *fmt, ...) G_GNUC_PRINTF(4, 5);

/* A usage error: err_set_code(USBOX_ERROR_USAGE) without errno. Returns false. */
bool err_usage(GError **error, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Attach the one command or action that would mend it; the first hint stays. Returns false. */
bool err_hint(GError **error, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The same in the place of a hint that it may have. */
void err_replace_hint(GError *error, const char *hint);

/* Name the step that failed ("mount", "network", ...); the first (innermost) one stays. Returns false. */
bool err_step(GError **error, const char *step);

/* What was attached; NULL or 0 where nothing was, or where the error is of another domain. */
const char *err_get_step(const GError *error);
const char *err_get_hint(const GError *error);
int err_get_errno(const GError *error);

/* Remember errnum in an error whose message has its text already (one that came over the wire). */
void err_set_errno(GError *error, int errnum);

/* A copy of name that is safe to print on a terminal and is one line: control and format characters, separators of lines,
 * backslash and invalid UTF-8 become \xNN or \n; returned string is the caller's. */
char *err_quote(const char *name);

/* The same for a line that was put together already, of parts that were quoted or not: backslashes stay what they are. */
char *err_visible(const char *line);
