/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "root.h"

/*
 * How the plan of the root comes to the child, which was cloned before there was one: namespaces take the kernel as long to make as
 * the launcher needs to look at the host, so the two go on side by side.
 */
typedef struct PlanShare PlanShare;

/* Launcher, before the clone. NULL with error. */
PlanShare *plan_share_new(const Spec *spec, GError **error);
void plan_share_free(PlanShare *share);

/* Launcher, once: put a copy of the plan there, but for its fs. The child may look for it when it is told. */
bool plan_share_put(PlanShare *share, const RootPlan *plan, GError **error);

/* Child and payload, when the plan is there. What it points to is const. */
const RootPlan *plan_share_get(const PlanShare *share);
