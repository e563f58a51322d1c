/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cgroup.h"
#include "helper.h"
#include "spec.h"

/* usbox-scope of one box, from the launcher's side; none where no limit was asked for. */
typedef struct {
        Helper helper;
        Cgroup *cgroup; /* the box's; NULL before it is made, and where it was given up */
        char *cpu_max; /* its limit of processor time, which it gets when the command is executed; "": none */
        bool joined;   /* the box is in it, or it is waited for no longer */
        bool updating; /* an update was sent and not answered */
        bool late;     /* it is being made for a box that has run without so far (scope-late.c) */
} ScopeHelper;

#define SCOPE_HELPER_NONE ((ScopeHelper){ .helper = HELPER_NONE })

/* What came on its wire. */
typedef enum {
        SCOPE_HELPER_MADE,    /* the cgroup is there */
        SCOPE_HELPER_JOINED,  /* the box is in it */
        SCOPE_HELPER_UPDATED, /* the answer to an update */
} ScopeHelperEvent;

/* A box that has run for a while. */
typedef struct {
        pid_t init;
        const pid_t *helpers; /* those that are 0 are none */
        size_t n_helpers;
        const GArray *execs; /* of pid_t: what exec started */
        int mount_ns;
        bool raise_oom; /* its command is to be killed before its helpers: nobody has said which oom_score_adj it is to have */
} ScopeBox;

/* Start it and tell it the limits: it works from then on, beside all else. pod_cgroup: the directory of the pod's that the box is in; NULL: none. late: the
 * box runs already; else scope_helper_join() comes, without which no cgroup is made from within a login's session. */
bool scope_helper_start(const Spec *spec, const char *id, const char *pod_cgroup, bool late, ScopeHelper *ret, GError **error);

/* For --dry-run: what usbox-scope asks first of the machine. False with the error that the start would have; with --best-effort=limits that is said alone. */
bool scope_helper_foresee(const Spec *spec, GError **error);

/* Why a box cannot have its limits: its hint is from now on also that it may go on without. */
void scope_helper_hint_without(GError *failure);

/* Have helpers (those that are 0 are none) and a process of the payload moved into it, with their children, once it is there. */
bool scope_helper_join(ScopeHelper *h, const pid_t *helpers, size_t n, pid_t payload, GError **error);
/* Have all of a box moved into it that has run without so far, with what its processes have forked. */
bool scope_helper_adopt(ScopeHelper *h, const ScopeBox *box, GError **error);
/* When the box runs, and the wire can be read: how that went. */
bool scope_helper_joined(ScopeHelper *h, GError **error);

/* Before the command is executed: its limit of processor time, which usbox-scope has taken off so that what is done until then is not slowed down by it. */
bool scope_helper_limit_cpu(const ScopeHelper *h, GError **error);

/* Ask for other limits of a box that runs, of SCOPE_UPDATE_SIGNATURE; the answer comes by scope_helper_dispatch(). One at a time. */
bool scope_helper_update(ScopeHelper *h, bool pod, GVariant *limits, GError **error);

/* Something came on its wire, or its end. *ret_answer: why the update failed, or the move of a box that runs; or NULL. False with error where
 * usbox-scope ended, or the box cannot be moved. */
bool scope_helper_dispatch(ScopeHelper *h, ScopeHelperEvent *ret_event, GError **ret_answer, GError **error);

/*
 * The box goes on without. Some of its processes may be in the cgroup all the same, which would be ended with usbox-scope: so that stays until the
 * end where the cgroup was made.
 */
void scope_helper_give_up(ScopeHelper *h);

/* The last numbers were read: let it end, which takes the cgroup with it. */
void scope_helper_finish(ScopeHelper *h);
void scope_helper_clear(ScopeHelper *h);
