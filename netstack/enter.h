/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Into userns and into netns, both borrowed. userns -1: into that which the network namespace belongs to, in which whoever made it has all
 * rights (user_namespaces(7)). Where that is our own, the rights have to be there. Nobody can trace us from then on.
 */
bool enter_netns(int netns, int userns, GError **error);
