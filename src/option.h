/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct Spec Spec; /* spec.h */

typedef enum {
        OPTION_BOX,
        OPTION_USER,
        OPTION_NAMESPACES,
        OPTION_ROOT,
        OPTION_MOUNTS,
        OPTION_NETWORK,
        OPTION_LIMITS,
        OPTION_SECURITY,
        OPTION_ENVIRONMENT,
        OPTION_GROUP_MAX
} OptionGroup;

typedef enum {
        OPTION_LIST = 1 << 0,       /* may be given more than once; a profile's value is a list with ';' */
        OPTION_NO_PROFILE = 1 << 1, /* about this one run: no profile key */
        OPTION_TWO = 1 << 2,        /* takes two arguments (--bind SRC DST); in a profile "SRC:DST" is not split: no key */
} OptionFlags;

/* What a shell completes after the option. */
typedef enum {
        COMPLETE_NONE,
        COMPLETE_FILE,
        COMPLETE_DIR,
        COMPLETE_CHOICES, /* of Option.choices */
        COMPLETE_PROFILE,
        COMPLETE_USER,
        COMPLETE_SIGNAL,
} OptionComplete;

/*
 * One option: a row. Parser, --help, profile keys, completions and the man page come from it.
 * apply() gets the values as they were typed (values[0], with OPTION_TWO values[1]; a switch gets "true" or, from a
 * profile or `--name=false`, "false") and fills the draft; it judges the value alone: what must agree with other options is
 * the module's x_check()'s. A row without arg is a switch.
 */
typedef struct {
        const char *name;
        char short_name;   /* 0: none */
        const char *alias; /* another long name or NULL */
        const char *arg;   /* "SIZE"; with OPTION_TWO "SRC DST"; NULL: a switch */
        OptionGroup group;
        OptionFlags flags;
        OptionComplete complete;
        const char *choices; /* "self|root": also checked by the parser where complete is COMPLETE_CHOICES */
        const char *help;    /* one sentence, no capital, no dot */
        bool (*apply)(Spec *draft, const char *const *values, GError **error);
} Option;

/* Every option of `run`, in the order of the groups; NULL-terminated; static. */
const Option *const *option_all(void);

/* By long name or alias (no dashes) or NULL; by short name or NULL. */
const Option *option_find(const char *name);
const Option *option_find_short(char c);

const char *option_group_title(OptionGroup group);

/* The name of the table (or, with names: of that NULL-terminated list) that is nearest to what was typed, or NULL
 * if none is near (edit distance). Static or borrowed. */
const char *option_nearest(const char *typed, const char *const *names);

/*
 * Parse argv (without the program and the verb) into draft: options up to the first non-option or "--". *ret_rest is the
 * index of what follows. Profiles that are named are read where they are named, but the command line wins over all of
 * them. False with a usage error.
 */
bool option_parse(Spec *draft, int argc, char *const *argv, int *ret_rest, GError **error);

/* Parsers of values, for apply(). All give usage errors that name the option. */
bool option_bool(const char *option, const char *text, bool *ret, GError **error);       /* true|false|yes|no|1|0|on|off */
bool option_u64(const char *option, const char *text, guint64 max, guint64 *ret, GError **error);
bool option_duration(const char *option, const char *text, guint64 *ret_ns, GError **error); /* "1.5s" "2m" "1h30m" "250ms"; bare: seconds */
bool option_size(const char *option, const char *text, guint64 *ret_bytes, GError **error);  /* "512M" "1.5G" binary units */
bool option_signal(const char *option, const char *text, int *ret, GError **error);      /* "TERM" "SIGTERM" "15" */
