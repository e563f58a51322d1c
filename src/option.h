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
        OPTION_TWO = 1 << 2,   /* takes two arguments (--bind SRC DST); in a profile "SRC:DST" is not split: no key */
        OPTION_FIRST = 1 << 3, /* applies before all others, wherever it stands (--profile) */
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
        COMPLETE_BOX,
        COMPLETE_POD,
} OptionComplete;

/*
 * One option: a row. Parser, --help, profile keys, completions and the man page come from it.
 * apply() gets the values as they were typed (values[0], with OPTION_TWO values[1]; a switch gets "true" or, from a
 * profile or `--name=false`, "false") and fills the draft; it judges the value alone: what must agree with other
 * options is the module's x_check()'s. A row without arg is a switch.
 */
typedef struct {
        const char *name;
        char short_name;   /* 0: none */
        const char *alias; /* another long name or NULL */
        const char *arg;   /* "SIZE"; with OPTION_TWO "SRC DST"; NULL: a switch */
        OptionGroup group;
        OptionFlags flags;
        OptionComplete complete;
        const char *choices; /* "self|root": what option_choice() takes; of a switch: values besides true and false */
        const char *help;    /* one sentence, no capital, no dot */
        bool (*apply)(Spec *draft, const char *const *values, GError **error);
} Option;

/* Whether it has a key in profiles (its long name). */
static inline bool option_in_profile(const Option *o) {
        return !(o->flags & (OPTION_NO_PROFILE | OPTION_TWO));
}

/* Every option of `run`, in the order of the groups; NULL-terminated; static. */
const Option *const *option_all(void);

/* By long name or alias (no dashes) or NULL; by short name or NULL. */
const Option *option_find(const char *name);
const Option *option_find_short(char c);

const char *option_group_title(OptionGroup group);

/* The name of the table (or, with names: of that NULL-terminated list) that is nearest to what was typed, or NULL
 * if none is near (edit distance). Static or borrowed. */
const char *option_nearest(const char *typed, const char *const *names);

/* Words of other tools that are no typing errors, so that no name that is near to them helps, and what they are here. */
typedef struct {
        const char *words[10], *hint;
} ForeignWords;

/* The hint of the row that has what was typed, or NULL. rows end with one without words. */
const char *foreign_hint(const ForeignWords *rows, const char *typed);

/*
 * Parse argv (without the program and the verb) into draft: options up to the first non-option or "--". *ret_rest is
 * the index of what follows. Profiles that are named are applied first, in their order, so that the command line wins:
 * a value replaces a profile's, an item of a list comes after a profile's. After --help nothing is looked at any more
 * (draft->box.help). False with a usage error.
 */
bool option_parse(Spec *draft, int argc, char *const *argv, int *ret_rest, GError **error);

/* Apply one value of a row, as the parser and profiles do: refuses the empty one. values as for Option.apply. */
bool option_apply(const Option *o, Spec *draft, const char *const *values, GError **error);

/*
 * Parsers of values, for apply(). option is what errors name ("--timeout"). All are strict: no sign, blank or base
 * prefix that is not in the description, nothing after the value.
 */
bool option_bool(const char *option, const char *text, bool *ret, GError **error); /* true|false|yes|no|1|0|on|off */
bool option_u64(const char *option, const char *text, guint64 max, guint64 *ret, GError **error);
bool option_i64(const char *option, const char *text, gint64 min, gint64 max, gint64 *ret, GError **error);
/* "1.5s" "2m" "1h30m" "250ms"; a bare number is seconds */
bool option_duration(const char *option, const char *text, guint64 *ret_ns, GError **error);
/* "512M" "1.5G": binary units */
bool option_size(const char *option, const char *text, guint64 *ret_bytes, GError **error);
/* "TERM" "SIGTERM" "15" */
bool option_signal(const char *option, const char *text, int *ret, GError **error);

/* The place of text in choices ("a|b|c") as *ret. */
bool option_choice(const char *option, const char *text, const char *choices, unsigned *ret, GError **error);

/* An id: decimal digits alone, at most 4294967294 (the last 32-bit number means "no id"). */
bool option_id(const char *option, const char *text, guint32 *ret, GError **error);

/* Decimal digits alone, at most max: the one reader of numbers beneath the others. */
bool option_digits(const char *text, guint64 max, guint64 *ret);

/* A descriptor that the caller of usbox left open for us, with an access mode that can (F_GETFL) read or write. */
bool option_fd(const char *option, const char *text, bool for_write, int *ret, GError **error);

/*
 * Paths. option_host_path(): absolute, a leading ~/ is the caller's home, a relative one is in the caller's directory,
 * not resolved further. option_box_path(): must be absolute, "." and ".." resolved lexically, never above "/"; never
 * "/" itself where not_root. The strings are the caller's.
 */
char *option_host_path(const Spec *draft, const char *text);
bool option_box_path(const char *option, const char *text, bool not_root, char **ret, GError **error);

/* Lexically: no "." or "..", no double or trailing slash. path is absolute; the caller's. */
char *option_normal_path(const char *path);

/* The name of a signal without SIG, of 1 to SIGRTMAX, as option_signal() takes it; the caller's. */
char *option_signal_name(int sig);
