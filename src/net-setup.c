/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The box's side of the network.
 *
 * Role: payload, in the box's network namespace that it has made. Privileges: CAP_NET_ADMIN of the outer user namespace. Threads: one.
 * Order: step 5, while init builds the root.
 */
#include "base/error.h"
#include "base/fd.h"
#include "net-setup.h"
#include "netstack/boxside.h"
#include "netstack/config.h"
#include "netstack/values.h"

/* A new network namespace lets nobody have ICMP sockets (icmp(7), ping_group_range "1 0"): ping is for the payload's group, or for all of a pod's. */
static bool allow_ping(const Spec *spec, int proc_sys, GError **error) {
        guint32 first = spec->user.gid, last = first;

        /* A pod's boxes may have any of its ids; what counts is the order of the host's. */
        if (spec->pod.make)
                user_map_ends(spec->user.gidmap, &first, &last);
        g_autofree char *range = g_strdup_printf("%u %u", first, last);
        return fd_write_file(proc_sys, "net/ipv4/ping_group_range", range) ||
               err_set(error, errno, "write ping_group_range");
}

bool net_setup_payload(const Spec *spec, int proc_sys, int netns, int wire, GError **error) {
        BoxSide side = { .tap = spec->net.mode == NET_USER ? NET_TAP_NAME : NULL, .mtu = spec->net.mtu, .ipv6 = spec->net.ipv6 && boxside_has_ipv6(proc_sys),
                         .fast_path = spec->net.fast_path, .framed = net_shape_is_framed(&spec->net.shape, spec->net.pcap_file),
                         .or_else = "; or run without network: --network=none" };
        _cleanup_close_ int tap = -1;

        if (side.tap && spec->net.ipv6 && !side.ipv6 && !(spec->box.best_effort & BEST_EFFORT_IPV6)) {
                err_set(error, EAFNOSUPPORT, "IPv6");
                return err_hint(error, "this kernel has IPv6 off: --no-ipv6 or --best-effort=ipv6");
        }
        if (!boxside_set_up(&side, proc_sys, &tap, error) || !allow_ping(spec, proc_sys, error))
                return false;
        return tap < 0 || boxside_hand_over(&side, wire, WIRE_NET_FDS, tap, netns, error);
}
