# SPDX-License-Identifier: LGPL-2.1-or-later
"""Servers that nobody here wrote, on the other machine of the network tests (peer.py starts them), for test_network_real.py:

  2222/tcp  sshd: the test user by the key http://ADDRESS4/ssh-key; its own key is in http://ADDRESS4/ssh-known-hosts
  5201      iperf3
  8080/tcp  nginx: GET, PUT and DELETE below /store/ (any method from anyone: it is the tests' own network), a fixed answer at /
  9418/tcp  git daemon: repo.git
  123/udp   chronyd
  on ADDRESS6's network at ::54, port 53: unbound, with the zones u.test, which is ZONE, and broken.test, which it has never got

All others on ADDRESS4, without rights. A program that is not installed is an error: tests/lib/packages.txt has them; unbound and chronyd may be missing.
"""
import os
import pwd
import socket
import subprocess
import sys
import time

import unpacked

NGINX = """
daemon off; pid {top}/nginx.pid; error_log {top}/error.log; worker_processes 1; worker_rlimit_nofile 8192;
events {{ worker_connections 4000; }}
http {{
    access_log off; client_max_body_size 0; keepalive_requests 1000000; sendfile on;
    client_body_temp_path {top}/body; proxy_temp_path {top}/proxy; fastcgi_temp_path {top}/fastcgi; uwsgi_temp_path {top}/uwsgi; scgi_temp_path {top}/scgi;
    server {{
        listen {address}:8080 backlog=4096;
        location / {{ return 200 "nginx\\n"; }}
        location /store/ {{ root {top}; dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""
SSHD = """
ListenAddress {address}:2222
HostKey {top}/host-key
AuthorizedKeysFile {www}/ssh-key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""
CHRONY = """
local stratum 8
allow
bindaddress {address}
cmdport 0
bindcmdaddress /
pidfile {top}/chronyd.pid
"""
UNBOUND = """
server:
  directory: "{top}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  interface: {resolver}
  access-control: ::/0 allow
  module-config: "iterator"
  local-zone: "test." nodefault
auth-zone:
  name: "u.test."
  for-upstream: no
  fallback-enabled: no
  zonefile: "zone"
auth-zone:
  name: "broken.test."
  for-upstream: no
  fallback-enabled: no
  primary: 127.0.0.1@9
remote-control:
  control-enable: no
"""
# A chain of aliases to www, and big, which no datagram holds.
ZONE = "\n".join(["$ORIGIN u.test.", "@ 60 IN SOA ns admin 1 60 60 60 60", "@ 60 IN NS ns", "ns 60 IN A {address}", "www 60 IN A {address}",
                  *[f"c{i} 60 IN CNAME c{i + 1}" for i in range(1, 8)], "c8 60 IN CNAME www", *[f'big 60 IN TXT "{i:0200}"' for i in range(60)]]) + "\n"


def make_ssh_keys(top, www, address):
    for key in (os.path.join(top, "host-key"), os.path.join(www, "ssh-key")):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "usbox tests", "-f", key], check=True)
    with open(os.path.join(top, "host-key.pub"), encoding="ascii") as f:
        kind, key = f.read().split()[:2]
    with open(os.path.join(www, "ssh-known-hosts"), "w", encoding="ascii") as f:
        f.write(f"[{address}]:2222 {kind} {key}\n")


def wait_for_port(address, port, what):
    for _ in range(1200):
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{what} does not listen on {address}, port {port}")


def start_unpacked(top, resolver):
    unbound, chronyd = unpacked.program("unbound"), unpacked.program("chronyd")
    if unbound and resolver:
        subprocess.Popen([*unbound, "-d", "-c", os.path.join(top, "unbound.conf")])
        wait_for_port(resolver, 53, "unbound")
    if chronyd:  # no rights, no clock of this machine's
        subprocess.Popen([*chronyd, "-U", "-x", "-d", "-u", pwd.getpwuid(os.getuid()).pw_name, "-f", os.path.join(top, "chrony.conf")])


def start(directory, www, address, resolver):
    top = os.path.join(directory, "real")
    os.mkdir(top)
    make_ssh_keys(top, www, address)
    for name, text in (("nginx.conf", NGINX), ("sshd.conf", SSHD), ("chrony.conf", CHRONY), ("unbound.conf", UNBOUND), ("zone", ZONE)):
        with open(os.path.join(top, name), "w", encoding="ascii") as f:
            f.write(text.format(top=top, www=www, address=address, resolver=resolver))
    start_unpacked(top, resolver)
    for port, argv in ((8080, ["/usr/sbin/nginx", "-p", top, "-e", "error.log", "-c", "nginx.conf"]),
                       (2222, ["/usr/sbin/sshd", "-D", "-e", "-f", os.path.join(top, "sshd.conf")]),
                       (5201, ["iperf3", "-s", "-B", address]),
                       (9418, ["git", "daemon", "--export-all", "--reuseaddr", "--base-path=" + www, "--listen=" + address])):
        subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        if port != 5201:  # which would take a connection for a test
            wait_for_port(address, port, argv[0])
