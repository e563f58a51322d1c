/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "spec.h"

/* The box's /etc/resolv.conf; NULL: the host's is right as it is. The caller's. */
char *net_resolv_conf(const Spec *spec);

/* The box's /etc/hosts: the host's lines, the box's own name, --add-host. The caller's. */
char *net_etc_hosts(const Spec *spec);

/* Append to ret (of NetHost *) the names that have an address by the host's /etc/hosts and of which one of the rules is. */
void net_file_hosts(const Spec *spec, const NetRules *rules, GPtrArray *ret);

/* Append to ret (of NetHost *) the names that have an address by --add-host, or by the host's /etc/hosts and a rule. */
void net_given_hosts(const Spec *spec, GPtrArray *ret);

/* The name servers that usbox-net is to ask, of char *: --dns, else the host's. The caller's. */
GPtrArray *net_resolvers(const Spec *spec);

/* resolvconf_watch(), where the host's file counts; -1: nothing to watch, or with error. */
int net_resolv_watch(const Spec *spec, GError **error);
