/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A TCP socket of the host's that has just been connected: where the peer is near, bound what may wait in it for us. Of others nothing changes. */
void near_bound(int fd);
