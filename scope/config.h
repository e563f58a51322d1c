/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * What the launcher tells usbox-scope, and what a limit is. The launcher packs, usbox-scope parses; both link this one file.
 *
 * A setting is a file of cgroup v2 and what is to be written to it ("memory.max", "536870912"): what systemd knows by another name
 * is translated (property.h), what there is no systemd for is written as it is. One file may be set once for each device ("io.max").
 */
typedef struct {
        char *file;
        char *value;
} ScopeSetting;

/* The types of WIRE_SCOPE_CONFIG's and WIRE_SCOPE_UPDATE's bodies. */
#define SCOPE_CONFIG_SIGNATURE "(sa(ss)a(ss)ssbbb)"
#define SCOPE_UPDATE_SIGNATURE "(a(ss)a(ss))"

typedef struct {
        char *id;              /* of the box */
        GPtrArray *settings;   /* of ScopeSetting * */
        GPtrArray *properties; /* of ScopeSetting *: systemd's NAME and VALUE as --property has them, checked */
        char *runtime_dir;     /* the caller's $XDG_RUNTIME_DIR; "": he has none */
        char *pod;             /* the cgroup's directory of the pod that the box is in; "": it is in none that has one */
        bool is_pod;           /* what is to be limited is a pod: its boxes will come */
        bool late;             /* of a box that has run without so far */
        bool verbose;
} ScopeConfig;

ScopeSetting *scope_setting_new(const char *file, const char *value);
void scope_setting_free(ScopeSetting *s);

/* Set file to value in a list: what it was before is replaced. */
void scope_setting_put(GPtrArray *settings, const char *file, const char *value);
/* Its value, or NULL. */
const char *scope_setting_get(const GPtrArray *settings, const char *file);

/* "memory" of "memory.max". The caller's. */
char *scope_setting_controller(const ScopeSetting *s);

ScopeConfig *scope_config_new(void);
void scope_config_free(ScopeConfig *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ScopeConfig, scope_config_free)

/* Floating. */
GVariant *scope_config_pack(const ScopeConfig *c);
GVariant *scope_update_pack(const GPtrArray *settings, const GPtrArray *properties);

/* body is of the signature. A file's name that could lead elsewhere is an error. */
ScopeConfig *scope_config_parse(GVariant *body, GError **error);
ScopeConfig *scope_update_parse(GVariant *body, GError **error);

/* The unit's name of a box, "usbox-ID.scope"; the caller's. */
#define SCOPE_SLICE "usbox.slice"
char *scope_unit_name(const char *id);

/* Within a memory limit the helpers are to outlive the command: whom the kernel kills there is who has most, each of these thousandths
 * of the limit counted in (oom_badness(), mm/oom_kill.c). */
#define SCOPE_OOM_SCORE 500

/* The oom_score_adj of a command that had own, as the kernel's file has it, and is limited now. */
int scope_oom_score(const char *own);

/* The leaves below the scope. */
#define SCOPE_LEAF_PAYLOAD "payload"
#define SCOPE_LEAF_HELPERS "helpers"
/* Of a pod's, for its boxes'. */
#define SCOPE_LEAF_BOXES "boxes"
