/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A profile that comes with usbox; a file of the same name replaces it. */
typedef struct {
        const char *name;
        const char *text; /* as in a file */
} ProfileBuiltin;

/* Ends with a row without a name. */
extern const ProfileBuiltin profile_builtins[];
