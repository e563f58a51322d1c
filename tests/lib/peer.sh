# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The other machine of the network tests: a network namespace with servers in it, joined to the host by a veth pair.
# Addresses of the host itself are closed to a box by default, so the servers must stand elsewhere. Needs root to be
# made; where there is none, $peer_addr stays empty and the tests that need it are skipped.
# Sourced after shell.sh; when peer_up() is called there must be u(), $user, $src, $work and $tmp, and may be $unpacked (unpack_packages()).
# shellcheck disable=SC2154

# shellcheck disable=SC2034 # ./check's to read
peer_addr='' peer_addr6='' peer_pid='' peer_ns='' peer_ping=''

peer_up() {
    [ -z "$peer_ns" ] || return 0
    can_root || { echo "no root: no peer"; return 0; }
    local k ns dev
    # The first of the documentation network's /30 blocks that no other run uses.
    for k in $(seq 0 62); do
        ns=usbox-peer$k
        as_root ip netns add "$ns" 2>/dev/null && break
    done
    peer_ns=$ns dev=uxpeer$k
    local host4=198.51.100.$((4 * k + 1)) addr4=198.51.100.$((4 * k + 2)) net6=2001:db8:75b:$((k + 1))
    # shellcheck disable=SC2015 # the last one is for whichever failed
    as_root ip link add "${dev}h" type veth peer name "${dev}p" netns "$ns" &&
        as_root ip address add "$host4/30" dev "${dev}h" &&
        as_root ip link set "${dev}h" up &&
        as_root ip -n "$ns" address add "$addr4/30" dev "${dev}p" &&
        as_root ip -n "$ns" link set lo up &&
        as_root ip -n "$ns" link set "${dev}p" up &&
        as_root ip -n "$ns" route add default via "$host4" || { echo "cannot make the peer's network"; return 1; }
    as_root ip -6 address add "$net6::1/64" dev "${dev}h" nodad &&
        as_root ip -n "$ns" -6 address add "$net6::2/64" dev "${dev}p" nodad &&
        as_root ip -n "$ns" -6 address add "$net6::53/64" dev "${dev}p" nodad &&
        as_root ip -n "$ns" -6 address add "$net6::54/64" dev "${dev}p" nodad && peer_addr6=$net6::2
    # Port 53 and 80 without rights: the servers are the test user's.
    as_root ip netns exec "$ns" sh -c 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range' || return 1
    # An ICMP echo without rights, as systemd allows it to everyone (50-default.conf); put back in peer_down().
    peer_ping=$(cat /proc/sys/net/ipv4/ping_group_range)
    echo '0 2147483647' | as_root tee /proc/sys/net/ipv4/ping_group_range >/dev/null
    u rm -rf "$work/peer"
    u mkdir -p "$work/peer"
    # Terminals of group tty, as sshd without rights wants them; `ip netns exec` gives a mount namespace of its own.
    # shellcheck disable=SC2016 # the inner shell's
    as_root ip netns exec "$ns" sh -c 'mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts /dev/pts && exec "$@"' sh \
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --no-new-privs -- \
        env -i PATH="$PATH" HOME="$work/peer" LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 USBOX_TEST_UNPACKED="${unpacked:+$unpacked/root}" \
        python3 "$src/tests/lib/peer.py" "$work/peer" "$addr4" "$peer_addr6" >"$tmp/peer.log" 2>&1 </dev/null 9<&- &
    peer_pid=$!
    # It ends where one of its servers does not come up.
    for _ in $(seq 1800); do
        [ ! -e "$work/peer/ready" ] || { peer_addr=$addr4; return 0; }
        [ -d "/proc/$peer_pid" ] || break
        sleep 0.1
    done
    echo "the peer's servers do not come up:"
    cat "$tmp/peer.log"
    return 1
}

peer_down() {
    [ -n "$peer_ns" ] || return 0
    local pid
    for pid in $(as_root ip netns pids "$peer_ns" 2>/dev/null); do as_root kill "$pid" 2>/dev/null; done
    [ -z "$peer_pid" ] || wait "$peer_pid" 2>/dev/null
    # With the namespace goes the veth pair.
    as_root ip netns delete "$peer_ns"
    [ -z "$peer_ping" ] || echo "$peer_ping" | as_root tee /proc/sys/net/ipv4/ping_group_range >/dev/null
    peer_ns=''
}
