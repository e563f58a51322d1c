/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bad networks and captures: their options.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build(); usbox-net carries it out.
 */
#include "base/error.h"
#include "netstack/values.h"
#include "spec.h"

static bool apply_rate(Spec *draft, const char *const *values, GError **error) {
        return net_value_rate(values[0], &draft->net.shape, error);
}

static bool apply_delay(Spec *draft, const char *const *values, GError **error) {
        return net_value_delay(values[0], &draft->net.shape, error);
}

static bool apply_loss(Spec *draft, const char *const *values, GError **error) {
        return net_value_loss(values[0], &draft->net.shape, error);
}

static bool apply_pcap(Spec *draft, const char *const *values, GError **error) {
        g_free(draft->net.pcap_file);
        draft->net.pcap_file = option_host_path(draft, values[0]);
        return true;
}

const Option netshape_options[] = {
        { .name = "net-rate",
          .arg = "RATE[/up|/down]",
          .group = OPTION_NETWORK,
          .help = "bits per second that the box's network carries: 10M, or 512k/up,2M/down",
          .apply = apply_rate },
        { .name = "net-delay",
          .arg = "TIME[+-TIME]",
          .group = OPTION_NETWORK,
          .help = "each packet is under way for so long, each way, give or take the second time",
          .apply = apply_delay },
        { .name = "net-loss",
          .arg = "PERCENT",
          .group = OPTION_NETWORK,
          .help = "so many of a hundred packets are lost, each way",
          .apply = apply_loss },
        { .name = "pcap",
          .arg = "FILE",
          .group = OPTION_NETWORK,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_FILE,
          .help = "write what passes between the box and its network to FILE, for tcpdump and Wireshark",
          .apply = apply_pcap },
        { 0 },
};

void netshape_clear(NetSpec *s) {
        g_clear_pointer(&s->pcap_file, g_free);
}

bool netshape_check(NetSpec *s, GError **error) {
        const char *what = s->shape.up_bps > 0 || s->shape.down_bps > 0 ? "--net-rate" : s->shape.delay_us > 0 ? "--net-delay"
                           : s->shape.loss_ppm > 0 ? "--net-loss"
                           : s->pcap_file ? "--pcap" : NULL;

        if (s->tls_names && !s->fast_path)
                return err_usage(error, "--tls-names and --no-fast-path: names are looked at on the fast path alone");
        if (!what)
                return true;
        if (s->mode != NET_USER)
                return err_usage(error, "%s needs --network=user, not --network=%s", what, net_mode_name(s->mode));
        if (net_shape_is_any(&s->shape) && !s->mtu_given)
                s->mtu = NET_MTU_SHAPED;
        return true;
}
