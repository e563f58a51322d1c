#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The servers on the other machine of the network tests: peer.py DIR ADDRESS4 [ADDRESS6].

  7/tcp 7/udp   echo; 443/tcp as well
  80/tcp        http: files of DIR/www (hello.txt, big.bin with big.sha256, repo.git), GET /whoami, POST /sum
  53/udp+tcp    DNS: peer.usbox.test A and AAAA, many.usbox.test A (too many for UDP), fail.usbox.test SERVFAIL; NXDOMAIN for all else
                on ADDRESS6's network at ::53, dnsmasq: what dnsmasq_lines() says
  nginx, sshd, iperf3, git daemon, chronyd, unbound: peer_real.py
DIR/ready appears when all listen; DIR/queries gets one line for each DNS query that is not dnsmasq's.
"""
import functools
import hashlib
import http.server
import os
import random
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

import peer_real

DIR, ADDR4 = sys.argv[1:3]
ADDR6 = sys.argv[3] if len(sys.argv) > 3 and sys.argv[3] else None
WWW = os.path.join(DIR, "www")


class Http(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/whoami":
            self.reply(self.client_address[0] + "\n")
        else:
            super().do_GET()

    def do_POST(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            data = self.rfile.read(min(left, 1 << 16))
            if not data:
                break
            digest.update(data)
            left -= len(data)
        self.reply(digest.hexdigest() + "\n")

    def log_message(self, *args):
        pass


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


def dns_answer(query, over_udp):
    """One question, RFC 1035 by hand: only what the tests ask."""
    ident, _flags, count = struct.unpack("!HHH", query[:6])
    if count != 1:
        return None
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
        at += query[at] + 1
    qtype = struct.unpack("!H", query[at + 1:at + 3])[0]
    question, name = query[12:at + 5], ".".join(labels)
    with open(os.path.join(DIR, "queries"), "a", encoding="ascii", errors="replace") as f:
        f.write(f"{name} {qtype} {'udp' if over_udp else 'tcp'}\n")
    records, known = [], name in ("peer.usbox.test", "many.usbox.test")
    if name == "peer.usbox.test" and qtype == 1:
        records = [socket.inet_aton(ADDR4)]
    elif name == "peer.usbox.test" and qtype == 28 and ADDR6:
        records = [socket.inet_pton(socket.AF_INET6, ADDR6)]
    elif name == "many.usbox.test" and qtype == 1:
        records = [socket.inet_aton(f"203.0.113.{i}") for i in range(1, 101)]
    truncated = over_udp and len(records) > 20
    if truncated:
        records = []
    flags = 0x8180 | (0x0200 if truncated else 0) | (0 if known else 2 if name == "fail.usbox.test" else 3)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", qtype, 1, 60, len(r)) + r for r in records)
    return struct.pack("!HHHHHH", ident, flags, 1, len(records), 0, 0) + question + body


class DnsTcp(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(2)) == 2:
            answer = dns_answer(self.rfile.read(struct.unpack("!H", head)[0]), False)
            if answer is None:
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


def udp_loop(address, family, port, answer):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, port))

    def loop():
        while True:
            data, sender = sock.recvfrom(65536)
            reply = answer(data)
            if reply is not None:
                sock.sendto(reply, sender)
    threading.Thread(target=loop, daemon=True).start()


def tcp_server(address, family, port, handler):
    server = type("Server", (socketserver.ThreadingTCPServer,), {
        "address_family": family, "allow_reuse_address": True, "daemon_threads": True, "request_queue_size": 128})
    threading.Thread(target=server((address, port), handler).serve_forever, daemon=True).start()


def dnsmasq_lines():
    """Aliases, names of the other machine, and names whose owner chose addresses that are not his."""
    own = [f"address=/{name}/{address}" for name in ("www.named.test", "named.test", "deep.sub.named.test", "xn--bcher-kva.test", "target.test")
           for address in (ADDR4, ADDR6)]
    bad = [f"address=/{name}.rebind.test/{address}" for name, address in (
        ("loopback", "127.0.0.1"), ("any", "0.0.0.0"), ("mapped", "::ffff:127.0.0.1"), ("loopback6", "::1"), ("gateway", "10.0.2.2"), ("private", "10.1.2.3"),
        ("lan", "192.168.1.1"), ("local", "169.254.1.1"), ("metadata", "169.254.169.254"), ("unique", "fd12::1"))]
    return own + bad + ["cname=alias.test,alias2.test", "cname=alias2.test,target.test", "cname=cut.test,target.test", f"host-record=target.test,{ADDR4}"]


def start_dnsmasq():
    conf = os.path.join(DIR, "dnsmasq.conf")
    with open(conf, "w", encoding="ascii") as f:
        f.write("\n".join(["keep-in-foreground", "no-resolv", "no-hosts", "bind-interfaces", "pid-file=", "user=", "local=/test/", "local-ttl=60",
                           "listen-address=" + ADDR6.rpartition("::")[0] + "::53", *dnsmasq_lines()]) + "\n")
    subprocess.Popen(["/usr/sbin/dnsmasq", "-C", conf])
    query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\6target\4test\0" + struct.pack("!HH", 1, 1)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(0.1)
        for _ in range(600):
            try:
                s.sendto(query, (ADDR6.rpartition("::")[0] + "::53", 53))
                s.recv(512)
                return
            except TimeoutError:
                pass
            except OSError:  # it does not listen yet
                time.sleep(0.1)
    sys.exit("dnsmasq does not answer")


def make_files():
    os.makedirs(WWW)
    with open(os.path.join(WWW, "hello.txt"), "w", encoding="ascii") as f:
        f.write("hello from the peer\n")
    big = random.Random(7).randbytes(16 << 20)
    with open(os.path.join(WWW, "big.bin"), "wb") as f:
        f.write(big)
    with open(os.path.join(WWW, "big.sha256"), "w", encoding="ascii") as f:
        f.write(hashlib.sha256(big).hexdigest() + "\n")
    tree = os.path.join(DIR, "tree")
    env = dict(os.environ, GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@usbox.test", GIT_COMMITTER_NAME="t",
               GIT_COMMITTER_EMAIL="t@usbox.test", GIT_CONFIG_NOSYSTEM="1")

    def git(*args):
        subprocess.run(["git", "-c", "init.defaultBranch=main", *args], check=True, env=env, stdout=subprocess.DEVNULL)
    git("init", "-q", tree)
    for i in range(200):
        with open(os.path.join(tree, f"file {i}.txt"), "w", encoding="ascii") as f:
            f.write(f"line {i}\n" * (i + 1))
    git("-C", tree, "add", ".")
    git("-C", tree, "commit", "-q", "-m", "all of it")
    git("clone", "-q", "--bare", tree, os.path.join(WWW, "repo.git"))
    git("-C", os.path.join(WWW, "repo.git"), "update-server-info")
    head = subprocess.run(["git", "-C", tree, "rev-parse", "HEAD^{tree}"], check=True, capture_output=True).stdout
    with open(os.path.join(WWW, "repo.tree"), "wb") as f:
        f.write(head)


def main():
    make_files()
    http_handler = functools.partial(Http, directory=WWW)
    families = [(ADDR4, socket.AF_INET)] + ([(ADDR6, socket.AF_INET6)] if ADDR6 else [])
    for address, family in families:
        udp_loop(address, family, 7, lambda data: data)
        udp_loop(address, family, 53, lambda data: dns_answer(data, True))
        tcp_server(address, family, 7, Echo)
        tcp_server(address, family, 443, Echo)
        tcp_server(address, family, 53, DnsTcp)
        tcp_server(address, family, 80, http_handler)
    if ADDR6:
        start_dnsmasq()
    peer_real.start(DIR, WWW, ADDR4, ADDR6.rpartition("::")[0] + "::54" if ADDR6 else None)
    with open(os.path.join(DIR, "ready"), "w", encoding="ascii"):
        pass
    threading.Event().wait()


main()
