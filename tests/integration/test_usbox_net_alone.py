# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox-net without the launcher, in a laboratory of namespaces (tests/lib/net_lab.py): traffic, what is closed, hostile
frames, published ports, confinement, ends of all kinds."""
import os
import subprocess
import sys

import pytest

from conftest import BUILD, SLOW, TOP

SCENARIOS = ["tcp", "udp", "udp_many_answered", "udp_exposed", "dns", "dns_on_loopback", "dns_without_ipv4", "dns_bound", "dns_old_answer", "dns_tcp_lost", "no_ipv6", "host_closed", "host_address_added", "host_address_moved", "host_address_of_another_table",
             "fragments", "hostile_frames", "ping", "publish", "publish_addresses", "udp_peer_only", "publish_errors", "config_errors", "confinement", "no_namespaces",
             "killed_launcher", "killed_before_tap", "interface_gone", "no_descriptors", "many_flows"]


# By the TCP fast path, as a program in the box sees it (tests/lib/net_tcp.py).
TCP = ["errors", "late", "fast_open", "keepalive", "ends", "shaped", "sockets", "slow_reader", "short", "no_fds", "pending", "attacks", "published", "spares", "fallback", "agentless",
       "agent_lost", "stopped"]


def play(module, scenario):
    argv = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
            str(TOP / "tests" / "lib" / module), scenario]
    result = subprocess.run(argv, env={**os.environ, "USBOX_BUILD": str(BUILD), "PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=400 * SLOW, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slice
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_usbox_net(scenario):
    play("net_scenarios.py", scenario)


@pytest.mark.slice
def test_frames_that_no_kernel_sends():
    play("net_raw.py", "foreign")


@pytest.mark.slice
@pytest.mark.parametrize("scenario", TCP)
def test_tcp(scenario):
    play("net_tcp.py", scenario)
