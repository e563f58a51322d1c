/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <string.h>

#include "base/error.h"
#include "spec.h"

#define ANN_UID 1000u
#define ANN_GID 1001u

/* A draft of somebody who is not whoever runs the test: uid 1000, gid 1001, in ~/project. */
static inline Spec *draft_new(void) {
        g_autoptr(GError) error = NULL;
        Spec *draft = spec_new(&error);
        g_assert_no_error(error);

        g_free(draft->caller.name);
        g_free(draft->caller.home);
        g_free(draft->caller.shell);
        g_free(draft->caller.cwd);
        draft->caller = (Caller){ .uid = ANN_UID,
                                  .gid = ANN_GID,
                                  .name = g_strdup("ann"),
                                  .home = g_strdup("/home/ann"),
                                  .shell = g_strdup("/bin/bash"),
                                  .cwd = g_strdup("/home/ann/project") };
        return draft;
}

/* Parse words (NULL-terminated) into draft. Returns the index of the command, -1 with error. */
static inline int draft_parse(Spec *draft, const char *const *words, GError **error) {
        int rest = -1;
        bool ok = option_parse(draft, (int) g_strv_length((char **) words), (char *const *) words, &rest, error);
        g_assert_true(ok == (!error || !*error));
        return ok ? rest : -1;
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* These words parse; the draft is the caller's. */
static inline Spec *draft_of(const char *const *words) {
        g_autoptr(GError) error = NULL;
        Spec *draft = draft_new();
        int rest = draft_parse(draft, words, &error);
        g_assert_no_error(error);
        g_assert_cmpint(rest, >=, 0);
        return draft;
}

/* It is a usage error, its text has needle in it, and its hint has hint (NULL: not looked at). */
static inline void assert_usage(GError *error, const char *needle, const char *hint) {
        g_assert_nonnull(error);
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
        if (!strstr(error->message, needle))
                g_error("\"%s\" is not in: %s", needle, error->message);
        if (hint) {
                g_assert_nonnull(err_get_hint(error));
                if (!strstr(err_get_hint(error), hint))
                        g_error("\"%s\" is not in the hint: %s", hint, err_get_hint(error));
        }
}

/* These words do not parse. */
static inline void assert_refused(const char *const *words, const char *needle, const char *hint) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Spec) draft = draft_new();
        draft_parse(draft, words, &error);
        assert_usage(error, needle, hint);
        g_assert_cmpstr(err_get_step(error), ==, "options");
}
