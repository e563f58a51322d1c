/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-scope's configuration.
 *
 * Role: launcher (packs) and usbox-scope (parses). Privileges: none needed. Threads: any. Order: the first message on the wire.
 */
#include <string.h>

#include "base/error.h"
#include "scope/config.h"

ScopeSetting *scope_setting_new(const char *file, const char *value) {
        ScopeSetting *s = g_new0(ScopeSetting, 1);

        s->file = g_strdup(file);
        s->value = g_strdup(value);
        return s;
}

void scope_setting_free(ScopeSetting *s) {
        g_free(s->file);
        g_free(s->value);
        g_free(s);
}

static GPtrArray *settings_new(void) {
        return g_ptr_array_new_with_free_func((GDestroyNotify) scope_setting_free);
}

void scope_setting_put(GPtrArray *settings, const char *file, const char *value) {
        for (guint i = 0; i < settings->len; i++)
                if (g_str_equal(((ScopeSetting *) settings->pdata[i])->file, file)) {
                        g_ptr_array_remove_index(settings, i);
                        break;
                }
        g_ptr_array_add(settings, scope_setting_new(file, value));
}

const char *scope_setting_get(const GPtrArray *settings, const char *file) {
        for (guint i = 0; i < settings->len; i++) {
                const ScopeSetting *s = settings->pdata[i];
                if (g_str_equal(s->file, file))
                        return s->value;
        }
        return NULL;
}

char *scope_setting_controller(const ScopeSetting *s) {
        return g_strndup(s->file, strcspn(s->file, "."));
}

ScopeConfig *scope_config_new(void) {
        ScopeConfig *c = g_new0(ScopeConfig, 1);

        c->settings = settings_new();
        c->properties = settings_new();
        return c;
}

void scope_config_free(ScopeConfig *c) {
        g_free(c->id);
        g_free(c->runtime_dir);
        g_free(c->pod);
        g_ptr_array_unref(c->settings);
        g_ptr_array_unref(c->properties);
        g_free(c);
}

static GVariant *pack_settings(const GPtrArray *settings) {
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ss)"));
        for (guint i = 0; i < settings->len; i++) {
                const ScopeSetting *s = settings->pdata[i];
                g_variant_builder_add(&builder, "(ss)", s->file, s->value);
        }
        return g_variant_builder_end(&builder);
}

GVariant *scope_config_pack(const ScopeConfig *c) {
        return g_variant_new("(s@a(ss)@a(ss)ssbbb)", c->id, pack_settings(c->settings), pack_settings(c->properties), c->runtime_dir ? c->runtime_dir : "",
                             c->pod ? c->pod : "", c->is_pod, c->late, c->verbose);
}

GVariant *scope_update_pack(const GPtrArray *settings, const GPtrArray *properties) {
        return g_variant_new("(@a(ss)@a(ss))", pack_settings(settings), pack_settings(properties));
}

/* A file's name is one of the kernel's: "io.max", "hugetlb.2MB.max". */
static bool name_ok(const char *name) {
        return g_ascii_isalpha(*name) &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") == strlen(name);
}

static bool parse_settings(GVariant *list, GPtrArray *ret, GError **error) {
        GVariantIter iter;
        const char *file, *value;

        g_variant_iter_init(&iter, list);
        while (g_variant_iter_next(&iter, "(&s&s)", &file, &value)) {
                if (!name_ok(file)) {
                        g_autofree char *quoted = err_quote(file);
                        return err_set(error, EINVAL, "limit '%s'", quoted);
                }
                g_ptr_array_add(ret, scope_setting_new(file, value));
        }
        return true;
}

ScopeConfig *scope_config_parse(GVariant *body, GError **error) {
        g_autoptr(ScopeConfig) c = scope_config_new();
        g_autoptr(GVariant) settings = NULL, properties = NULL;
        gboolean verbose, is_pod, late;

        g_variant_get(body, "(s@a(ss)@a(ss)ssbbb)", &c->id, &settings, &properties, &c->runtime_dir, &c->pod, &is_pod, &late, &verbose);
        c->is_pod = is_pod;
        c->late = late;
        c->verbose = verbose;
        if (*c->id == '\0' || strspn(c->id, "0123456789abcdefghijklmnopqrstuvwxyz") != strlen(c->id)) {
                err_set(error, EINVAL, "id of the box");
                return NULL;
        }
        return parse_settings(settings, c->settings, error) && parse_settings(properties, c->properties, error) ? g_steal_pointer(&c) : NULL;
}

ScopeConfig *scope_update_parse(GVariant *body, GError **error) {
        g_autoptr(ScopeConfig) c = scope_config_new();
        g_autoptr(GVariant) settings = NULL, properties = NULL;

        g_variant_get(body, "(@a(ss)@a(ss))", &settings, &properties);
        return parse_settings(settings, c->settings, error) && parse_settings(properties, c->properties, error) ? g_steal_pointer(&c) : NULL;
}

char *scope_unit_name(const char *id) {
        return g_strconcat("usbox-", id, ".scope", NULL);
}

int scope_oom_score(const char *own) {
        return MIN((int) g_ascii_strtoll(own, NULL, 10) + SCOPE_OOM_SCORE, 1000);
}
