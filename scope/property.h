/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * systemd's names and types for limits (systemd.resource-control(5), org.freedesktop.systemd1(5)). A property is a GVariant "(sv)"; pure.
 */

/* NAME=VALUE as a unit file would have it ("MemoryHigh", "512M"): appends one property (or two) to ret. An unknown name or a value that
 * is not of its kind is a usage error. */
bool property_parse(const char *name, const char *value, GPtrArray *ret, GError **error);

/* The controller that it needs ("memory" of "MemoryHigh"); NULL: none. Static. */
const char *property_controller(const char *name);

/*
 * Settings (of ScopeSetting) as properties, appended to ret, of GVariant. What systemd has no name for stays in ret_rest (borrowed
 * pointers; not freed by it). False with error where a value cannot be said.
 */
bool property_from_settings(const GPtrArray *settings, GPtrArray *ret, GPtrArray *ret_rest, GError **error);
