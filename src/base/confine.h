/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What every process of usbox does to itself before it meets hostile bytes. Each takes effect on the calling
 * thread only: call them while there is one. */

/* No new privileges and not dumpable (prctl(2)): not traced, its /proc files are root's. */
bool confine_self(GError **error);

/* Die by SIGKILL when the parent ends; fails with ESRCH when it has ended already (parent: its pid, or 0 when it is of
 * another pid namespace). Cleared by the kernel when ids change: call it after that. */
bool confine_die_with_parent(pid_t parent, GError **error);

/* Go on, if stopped (SIGSTOP), when the parent ends: for a helper that ends by itself then, and has something to do before. Cleared likewise. */
bool confine_wake_without_parent(GError **error);

/* Empty the ambient and the bounding set (this only where the right to is held). What is held stays, but nothing that is executed gets it. */
bool confine_drop_bounding(GError **error);

/* Empty all capability sets, bounding and ambient too (the bounding set only where the right to is held). */
bool confine_drop_caps(GError **error);

/* Hold these capabilities alone (1u << CAP_..., of the first 32), effective and permitted. The bounding set stays. */
bool confine_keep_caps(uint32_t keep, GError **error);

/* Install a seccomp filter (as the build compiled it). Needs confine_self() first. */
bool confine_seccomp(const struct sock_filter *filter, size_t n, GError **error);

/* A helper's own namespaces: user (which knows the caller's ids alone, as nobody's), mount, ipc, uts, cgroup, all by one unshare(2).
 * Where the kernel or its policy forbids that, false with error: whether to go on is the caller's to decide. */
bool confine_unshare(GError **error);

/* After confine_unshare(): an empty read-only tmpfs becomes the root and the old one is detached. keep_files (NULL-terminated,
 * absolute; NULL: none) are copied in under the same names first, those that do not exist passed over. */
bool confine_empty_root(const char *const *keep_files, GError **error);
