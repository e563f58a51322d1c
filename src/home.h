/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What of the caller's home a box sees: paths relative to it, NULL-terminated. A path covers everything below it.
 * `usbox profile show default` prints them.
 */

/* --home=tools shows these, copy-on-write: toolchains and what they need to be found. */
extern const char *const home_tools[];

/* Credentials that lie inside home_tools: never shown, with --home=all neither. One name on the way may be "*": any, as the start finds them. */
extern const char *const home_tool_secrets[];

/* Names that a credential has wherever it is: usbox-fs shows none of them below home_tools. */
extern const char *const home_secret_names[];

/* --home=all shows everything but these. */
extern const char *const home_hidden[];
