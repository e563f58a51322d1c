# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox-net without the launcher, in a laboratory of namespaces (tests/lib/net_lab.py): traffic, what is closed, hostile
frames, published ports, confinement, ends of all kinds."""
import concurrent.futures
import os
import subprocess
import sys

import pytest

from conftest import BUILD, SLOW, TOP

SCENARIOS = ["tcp", "udp", "udp_many_answered", "udp_exposed", "dns", "dns_on_loopback", "dns_without_ipv4", "dns_bound", "dns_old_answer", "dns_tcp_lost", "no_ipv6", "host_closed", "host_address_added", "host_address_moved", "host_address_of_another_table",
             "fragments", "hostile_frames", "ping", "publish", "publish_addresses", "udp_peer_only", "publish_errors", "config_errors", "confinement", "no_namespaces",
             "killed_launcher", "killed_before_tap", "interface_gone", "no_descriptors", "many_flows"]


# By the TCP fast path, as a program in the box sees it (tests/lib/net_tcp.py). Those that wait longest come first.
TCP = ["short", "pending", "errors", "shaped", "keepalive", "late", "fast_open", "ends", "sockets", "slow_reader", "no_fds", "attacks", "published", "spares", "fallback",
       "agentless", "agent_lost", "stopped"]
AT_ONCE = 5  # most of their time they wait, and each has namespaces of its own


def play(module, scenario):
    argv = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
            str(TOP / "tests" / "lib" / module), scenario]
    return subprocess.run(argv, env={**os.environ, "USBOX_BUILD": str(BUILD), "PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=400 * SLOW, check=False)


def assert_good(result):
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def played(request):
    """What became of each scenario that somebody asked for. All are played before the first test looks, some beside each other."""
    wanted = [(item.function.module, item.callspec.params["scenario"]) for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return {what: pool.submit(play, *what) for what in wanted}


def scenarios(module, names):
    """A test for each of them."""
    @pytest.mark.slice
    @pytest.mark.parametrize("scenario", names)
    def test(played, scenario):
        assert_good(played[module, scenario].result())
    test.module = module
    return test


test_tcp = scenarios("net_tcp.py", TCP)
test_usbox_net = scenarios("net_scenarios.py", SCENARIOS)


@pytest.mark.slice
def test_frames_that_no_kernel_sends():
    assert_good(play("net_raw.py", "foreign"))
