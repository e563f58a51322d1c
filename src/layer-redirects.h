/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* A renamed directory of a box's layer: path is where it is in the box, mark what the layer says that it was. Both borrowed. False: no more of them. */
typedef bool (*LayerRedirect)(void *data, const char *path, const char *mark);

/* Each of them below upper, which is borrowed. False where each() said so, or with error: there are too few descriptors. What cannot be read, or lies deeper
 * than a path is long, is passed over. */
bool layer_redirects_each(int upper, LayerRedirect each, void *data, GError **error);

/*
 * Whether the kernel's overlayfs can read the layer in box_fd, a box's directory: it follows no renamed directory in a user namespace. False with error.
 */
bool layer_redirects_none(int box_fd, GError **error);
