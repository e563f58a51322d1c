/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* The space that a box's directory takes on disk, in bytes: what of it the caller may look into. dir may be NULL. */
guint64 box_usage(const char *dir);
