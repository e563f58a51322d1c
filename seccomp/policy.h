/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A seccomp policy as it was read: JSON's shape is checked, conditions are decided, names are not yet numbers. The
 * JSON form (the OCI runtime-spec's, the container engines' and our additions) is described in README.md.
 */

typedef enum {
        COMPARE_NE,
        COMPARE_LT,
        COMPARE_LE,
        COMPARE_EQ,
        COMPARE_GE,
        COMPARE_GT,
} Compare;

/* (argument & mask) OP value, unsigned 64-bit. */
typedef struct {
        unsigned index; /* 0..5 */
        Compare op;
        uint64_t mask;
        uint64_t value;
} PolicyArg;

typedef struct {
        GPtrArray *names; /* of char * */
        uint32_t action;  /* SECCOMP_RET_* with its data */
        GArray *args;     /* of PolicyArg: all must hold; empty: always */
        char *place;      /* "syscalls[3]", for messages */
} PolicyRule;

/* A system call that the library does not know. */
typedef struct {
        char *name;
        int number;
        char *arch; /* as Go spells it ("amd64"), or NULL: the same on all (true of what came after 5.0) */
} PolicyNumber;

typedef struct {
        uint32_t default_action;
        bool first_match; /* "order"; else a call's first unconditional rule beats its others, as libseccomp has it */
        bool compat;      /* the 32-bit ABI of this machine is filtered by the same rules; else refused whole */
        GPtrArray *rules;   /* of PolicyRule *, in the order of the file */
        GPtrArray *numbers; /* of PolicyNumber * */
} Policy;

/* What "includes" and "excludes" are decided by. */
typedef struct {
        GPtrArray *features; /* of char *: "nested", "rootpayload", "compat32" */
        GPtrArray *caps;     /* of char *: "CAP_SYS_ADMIN" ... that the payload has */
        bool strict;         /* the build's own policies: what a file of a user is forgiven is an error */
} PolicyConditions;

/* Read root (borrowed). Errors name the place in the file; notes (of char *) gets a line for what was passed over.
 * NULL with error. */
Policy *policy_parse(json_t *root, const PolicyConditions *conditions, GPtrArray *notes, GError **error);
void policy_free(Policy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Policy, policy_free)
