/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/* Mounts over usbox's own directories behind those by which a box could write to them; false where such a one leads into them. */
bool own_state_check(Spec *draft, GError **error);

/* Where there are such mounts, make the directories that they stand on: a box would make its own. */
bool own_state_make(const Spec *spec, GError **error);
