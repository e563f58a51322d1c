/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "root.h"

/* Where the payload is the box's root: put files of the box's own in the place of the host's /etc/shadow and /etc/gshadow, which the caller may not read. */
void root_accounts_add(RootPlan *plan, const Spec *spec);
