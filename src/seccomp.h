/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "option.h"

typedef enum { SECCOMP_DEFAULT, SECCOMP_OFF, SECCOMP_FILE } SeccompMode;

typedef struct {
        SeccompMode mode;
        bool compat32; /* --seccomp default+32bit */
        char *file;    /* --seccomp FILE: absolute */
} SeccompSpec;

extern const Option seccomp_options[];

/* Free what it owns. All zero is the default. */
void seccomp_clear(SeccompSpec *s);

/* A filter for confine_seccomp(); n is 0 where none is to be installed. */
typedef struct {
        const struct sock_filter *filter;
        size_t n;
        struct sock_filter *owned; /* NULL: filter is static */
} SeccompProgram;

void seccomp_program_clear(SeccompProgram *program);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SeccompProgram, seccomp_program_clear)

/* What a filter opens. */
typedef struct {
        bool compat32;     /* the 32-bit ABI too, else it is refused; of the built-in filters, by SeccompSpec */
        bool nested;       /* namespaces and mounts */
        bool root_payload; /* what the box's root with ids of its own may */
        bool core_dumps;   /* to change the limit of core dumps */
} SeccompFeatures;

/* One of the filters that were compiled with usbox; static. */
void seccomp_builtin(SeccompFeatures features, const struct sock_filter **ret, size_t *ret_n);

/*
 * Launcher, before the clone: the filter that spec asks for. A FILE is compiled by usbox-seccomp, a process of its own;
 * it replaces the default whole. *ret is set on success only. Errors (step "seccomp") name the file and the place in
 * it.
 */
bool seccomp_prepare(const SeccompSpec *spec, SeccompFeatures features, SeccompProgram *ret, GError **error);
