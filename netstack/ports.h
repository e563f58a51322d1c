/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netstack/loop.h"

/* Published ports, whoever carries them. net->published is what there is, each as it came out. */

/* One more, at any time. */
bool ports_open(Net *net, const NetPublish *port, GError **error);

/* One less; named as net->published has it, or as it was asked for ("*": both halves). What was opened through it stays. */
bool ports_close(Net *net, const NetPublish *port, GError **error);

/* The agent has ended, and without it there are no TCP ports any more. */
void ports_lost(Net *net);

/* There is no fast path: the TCP ports that are waiting for it become libslirp's. */
bool ports_by_frames(Net *net, GError **error);
