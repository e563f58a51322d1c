/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/* What --best-effort=THING lets usbox go on without. */
typedef enum {
        BEST_EFFORT_KEYRING = 1 << 0,  /* a fresh session keyring */
        BEST_EFFORT_SYSFS = 1 << 1,    /* a sysfs of the box's own */
        BEST_EFFORT_IPV6 = 1 << 2,     /* IPv6 towards the box */
        BEST_EFFORT_CONFINE = 1 << 3,  /* a helper's own namespaces and empty root */
        BEST_EFFORT_LIMITS = 1 << 4,   /* limits by cgroup */
        BEST_EFFORT_HIDE = 1 << 5,     /* --hide in a tree that is given as it is */
} BestEffort;

#define BEST_EFFORT_CHOICES "keyring|sysfs|ipv6|confine|limits|hide"

/* The run as a whole. */
typedef struct {
        char *name;  /* NULL: none */
        bool detach;
        char **typed;       /* the options as they came, without the command; NULL-terminated */
        char *explored;     /* the id of the box that this run goes on with whatever its name (usbox explore); NULL: none */
        guint64 log_size; /* with detach: bytes of output that are kept */
        bool rm;
        guint64 keep_max;   /* an unnamed run's changes are kept up to this many bytes; 0: whatever they take */
        bool tty;           /* -t: a pty even where stdin is no terminal */
        bool help;          /* --help: show it and do nothing */
        bool dry_run;
        bool dry_run_json;  /* --dry-run=json */
        bool verbose;
        bool die_with_parent;
        int status_fd;      /* -1: none */
        char *pidfile;      /* NULL: none */
        guint64 timeout_ns; /* 0: none */
        int stop_signal;    /* default SIGTERM: sent at --timeout, SIGKILL 10 s later */
        unsigned best_effort; /* of BestEffort */
        GPtrArray *profiles;  /* of char *: where each came from (a path, "built-in NAME"), in the order applied */
} BoxSpec;

extern const Option box_options[];

/* The defaults; and free what it owns. */
void box_init(BoxSpec *s);
void box_clear(BoxSpec *s);

/* What does not go together. */
bool box_check(const Spec *draft, GError **error);

/* The name of one BEST_EFFORT_* bit, as --best-effort takes it. Static. */
const char *box_best_effort_name(BestEffort bit);
