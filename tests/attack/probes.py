# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of probes: what each attempts, how it is seen to have come through, how it is proven to work, and where it may come through.

seen by     secret    the probe's output has a secret of this run's
            call      the probe says "ok"
            host      the suite finds the host changed (World.changed())
            terminal  the same, and it is run on a terminal
proven by   plain     it comes through as an ordinary user without any sandbox
            own       it comes through as root of namespaces of its own (`probe --own`), since an ordinary user may do it nowhere else
            stand-in  it comes through without a sandbox at something else than in one: the host's own is root's (World.targets())
"""
import ctypes
import dataclasses
import gzip
import os
import pathlib
import resource
import socket

ROOT = "the box's own root, in the inner user namespace alone"
INSTALLS = "the box's own root installs programs as they are; nobody else can come to the box's directory"
NESTED = "what --nested is for"
HOST_NET = "what --network=host is for"


def read(path):
    try:
        return pathlib.Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def has_keyrings():
    number = 250 if os.uname().machine == "x86_64" else 219
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), 0, -3, 1) >= 0  # KEYCTL_GET_KEYRING_ID


def has_x32():
    return os.uname().machine == "x86_64" and ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39)) >= 0  # getpid


def handle_of(path):
    """Of a file: TYPE:HEX; None where the file system has no such thing."""
    handle, mount = (ctypes.c_char * 136).from_buffer_copy((128).to_bytes(4, "little") + bytes(132)), ctypes.c_int()
    number = 303 if os.uname().machine == "x86_64" else 264
    if ctypes.CDLL(None).syscall(ctypes.c_long(number), -100, os.fsencode(path), handle, ctypes.byref(mount), 0) < 0:
        return None
    size, kind = (int.from_bytes(handle.raw[at:at + 4], "little") for at in (0, 4))
    return f"{kind}:{handle.raw[8:8 + size].hex()}"


def has_family(family, kind=socket.SOCK_STREAM, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
        return True
    except OSError:
        return False


PLACES = ("/srv", "/opt", "/mnt")

# What a machine must have for a probe to be provable there: name → (whether it has, in words)
NEEDS = {
    "ipv6": (has_ipv6, "IPv6 on loopback"),
    "address": (lambda: bool(own_address()), "an address beside loopback"),
    "processors": (lambda: os.sched_getaffinity(0) > {0}, "more than one processor"),
    "tiocsti": (lambda: read("/proc/sys/dev/tty/legacy_tiocsti") != "0", "dev.tty.legacy_tiocsti"),
    "io_uring": (lambda: read("/proc/sys/kernel/io_uring_disabled") == "0", "kernel.io_uring_disabled=0"),
    "perf": (lambda: read("/proc/sys/kernel/perf_event_paranoid") in ("-1", "0", "1", "2"), "kernel.perf_event_paranoid of 2 at most"),
    "x86": (lambda: os.uname().machine == "x86_64", "an x86"),
    "ia32": (lambda: os.uname().machine == "x86_64" and "CONFIG_IA32_EMULATION" not in missing_config(), "32-bit programs"),
    "x32": (has_x32, "the x32 ABI"),
    "vsock": (lambda: has_family(40), "vsock"),
    "audit": (lambda: has_family(socket.AF_NETLINK, socket.SOCK_RAW, 9), "audit"),
    "netfilter": (lambda: has_family(socket.AF_NETLINK, socket.SOCK_RAW, 12), "nfnetlink"),
    "handles": (lambda: kernel_version() >= (6, 11), "Linux 6.11: file handles in user namespaces"),
    "handle": (lambda: kernel_version() >= (6, 11) and bool(handle_of(os.environ["HOME"])), "Linux 6.11, and a file system with handles"),
    "setxattrat": (lambda: kernel_version() >= (6, 13), "Linux 6.13: setxattrat"),
    "file_setattr": (lambda: kernel_version() >= (6, 17), "Linux 6.17: file_setattr"),
    "su": (lambda: os.path.exists("/usr/bin/su") and os.stat("/usr/bin/su").st_mode & 0o4000 and not no_new_privileges(), "a set-id su"),
    "place": (lambda: bool(own_place()), "a directory of the caller's in " + ", ".join(PLACES)),
    "privileges": (lambda: not no_new_privileges(), "a caller without no_new_privs"),
    "keyrings": (has_keyrings, "keyrings"),
    "dumps": (lambda: resource.getrlimit(resource.RLIMIT_CORE)[1] != 0, "a caller who may have core dumps"),
    "dmi": (lambda: bool(read("/sys/class/dmi/id/sys_vendor")), "DMI"),
    "fuse": (lambda: os.access("/dev/fuse", os.R_OK | os.W_OK), "/dev/fuse for everyone"),
    "tun": (lambda: os.access("/dev/net/tun", os.R_OK | os.W_OK), "/dev/net/tun for everyone"),
}


def own_place():
    """A directory that the caller may write, and that a box shows as it shows the system; ./check makes one. None without one."""
    return next((os.path.join(top, name) for top in PLACES if os.path.isdir(top) for name in sorted(os.listdir(top))
                 if os.stat(os.path.join(top, name)).st_uid == os.getuid() and os.access(os.path.join(top, name), os.W_OK | os.X_OK)), None)


def kernel_version():
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


def no_new_privileges():
    return "NoNewPrivs:\t1" in read("/proc/self/status")


def missing_config():
    """Of the options that probes ask for, those that this kernel says it has not; empty where it does not say."""
    try:
        with gzip.open("/proc/config.gz", "rt") as f:
            text = f.read()
    except OSError:
        return set()
    return {name for name in ("CONFIG_IA32_EMULATION",) if name + "=y" not in text}


def own_address():
    """An IPv4 address of this machine's beside loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("198.51.100.1", 9))
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith(("127.", "0.")) else address


@dataclasses.dataclass(frozen=True)
class Probe:
    name: str
    what: str
    seen: str
    proven: str = "plain"
    needs: str = ""
    open: dict = dataclasses.field(default_factory=dict)  # configuration → why it comes through there


def rows(seen, *entries, proven="plain", needs="", open=None):
    """Probes of one kind; an entry is (name, what) or (name, what, {other fields})."""
    common = {"proven": proven, "needs": needs, "open": open or {}}
    return [Probe(name, what, seen, **{**common, **(more[0] if more else {})}) for name, what, *more in entries]


HOST = {"host": HOST_NET}
KERNEL = {"kernel": "the kernel's overlay knows no patterns"}
ROOT_BOXES = dict.fromkeys(("root", "root-nested", "pod-root"), ROOT)
NESTED_BOXES = dict.fromkeys(("nested", "root-nested"), NESTED)

GROUPS = {
    "Files outside": rows(
        "secret",
        ("file_home", "a private file in the home"),
        ("file_outside", "a private file beside the working directory, by its path"),
        ("file_dotdot", "the same by `..`"),
        ("file_tmp", "a private file in /tmp"),
        ("file_var_tmp", "a private file in /var/tmp"),
        ("file_shm", "a private file in /dev/shm"),
        ("file_runtime", "a private file in the runtime directory"),
        ("file_link", "by a symlink that the project has to outside"),
        ("file_move_parent", "by renaming a directory above both"),
        ("file_merge", "by making a directory of that name"),
        ("file_merge_home", "the same in the home"),
        ("file_second_root", "by the root's second name in the box", {"proven": "stand-in"}),
        ("file_above", "a file for all in a closed directory above the working directory"),
        ("file_above_listed", "names in that directory")) + rows(
        "secret",
        ("file_place", "a private file outside of home and working directory"),
        ("file_place_deep", "one that is deep in such a place"),
        ("file_place_group", "one that the group may read, too"),
        ("file_place_closed", "a file for all in a closed directory there"),
        ("file_place_link", "such a file by a hard link to it"),
        ("file_place_rename", "by renaming the closed directory that it is in"),
        ("file_place_mode", "by changing its mode"),
        ("file_place_merge", "by making a directory of the closed one's name"),
        needs="place") + rows(
        "secret",
        ("file_tool_place", "credentials of a toolchain in the home, by their place"),
        ("file_tool_name", "credentials by their name, deep in a toolchain", {"open": KERNEL})),
    "Hidden names in the working directory": rows(
        "secret",
        ("hidden_open", "by name"),
        ("hidden_list", "by listing the directory and opening all"),
        ("hidden_spelling", "by `//`, `.` and `..`"),
        ("hidden_opath", "by O_PATH and /proc/self/fd"),
        ("hidden_dir_opath", "by an O_PATH descriptor of the hidden directory"),
        ("hidden_symlink", "by a symlink to it"),
        ("hidden_handle", "by the handle of the directory that it is in", {"proven": "own", "needs": "handle"}),
        ("hidden_hard_link", "by a hard link to it"),
        ("hidden_rename", "by renaming it"),
        ("hidden_exchange", "by RENAME_EXCHANGE with a file of its own"),
        ("hidden_move_parent", "by renaming the directory that it is in"),
        ("hidden_exchange_parent", "by exchanging that directory with another"),
        ("hidden_merge", "by making a directory of its name"),
        ("hidden_remove_merge", "by making, moving and making such a directory"),
        ("hidden_mmap", "by mmap"),
        ("hidden_create_over", "by O_CREAT"),
        ("hidden_proc_cwd", "by /proc/self/cwd"),
        ("hidden_proc_root", "by /proc/self/root"),
        ("hidden_rename_over", "by a file put over it and removed again")) + rows(
        "host",
        ("overlay_redirect", "the overlay's own mark: a directory that says it is another"),
        ("overlay_opaque", "the overlay's own mark: an opaque directory"),
        ("device_null_made", "the overlay's own mark: a whiteout")),
    "What the caller leaves by accident": rows(
        "secret",
        ("environment", "a variable of the caller's"),
        ("fd_file", "an open file"),
        ("fd_directory", "an open directory"),
        ("fd_socket", "a connected socket"),
        ("stderr_reopen_read", "a log file that is stderr: read what was there before")) + rows(
        "host",
        ("stdin_reopen_write", "a file that is stdin: open again for writing"),
        ("stderr_reopen_truncate", "a log file that is stderr: truncate it")),
    "Writes to the host": rows(
        "host",
        ("write_open", "open and write"),
        ("write_openat2", "the same by openat2"),
        ("write_append", "append"),
        ("write_truncate", "truncate"),
        ("write_mmap", "a shared mapping"),
        ("write_mmap_before_copy", "a mapping from before the first change"),
        ("write_reopen", "a descriptor for reading opened again for writing"),
        ("write_hard_link", "by a hard link"),
        ("write_symlink", "by a symlink"),
        ("write_fallocate", "a hole"),
        ("write_copy_range", "sendfile into it"),
        ("write_rename_over", "a rename over it"),
        ("write_unlink", "unlink"),
        ("write_move_directory", "rename of its directory"),
        ("write_create", "a new file beside it"),
        ("write_tmpfile", "O_TMPFILE and linkat"),
        ("write_chmod", "chmod"),
        ("write_chmod_at", "the same by fchmodat"),
        ("write_chmod_opath", "chmod by an O_PATH descriptor"),
        ("write_times", "utimensat"),
        ("write_times_fd", "the same by a descriptor for reading"),
        ("write_xattr", "an extended attribute"),
        ("write_xattr_at", "the same by setxattrat", {"needs": "setxattrat"}),
        ("write_acl", "an ACL"),
        ("write_flags", "inode flags"),
        ("write_flags_at", "the same by file_setattr", {"needs": "file_setattr"}),
        ("write_remove_directory", "rmdir of its directory")),
    "The server of the root": rows(
        "host",
        ("shape_long_name", "a name of 255 bytes"),
        ("shape_odd_bytes", "a name of each byte"),
        ("shape_long_path", "a path over 4 KiB"),
        ("shape_symlinks", "64 symlinks in a chain"),
        ("shape_huge_xattr", "an attribute as large as may be"),
        ("shape_sparse", "a file of 1 TiB"),
        ("race_rename", "renames and exchanges that race"),
        ("race_unlink", "unlink, create and link that race"),
        ("race_truncate", "writes and truncations that race"),
        ("race_xattr", "attributes and modes that race"),
        ("race_copy", "first changes of many files while their directory moves")),
    "Processes outside": rows(
        "secret",
        ("proc_cmdline", "arguments, in /proc"),
        ("proc_environ", "environment, in /proc (also of what started the box)"),
        ("proc_cwd", "files by /proc/PID/cwd"),
        ("proc_root", "files by /proc/PID/root"),
        ("proc_task_cwd", "files by /proc/PID/task"),
        ("proc_fd", "an unlinked file by /proc/PID/fd"),
        ("proc_exe", "the program by /proc/PID/exe"),
        ("proc_mem", "memory by /proc/PID/mem"),
        ("vm_read", "memory by process_vm_readv"),
        ("ptrace", "memory by ptrace"),
        ("victim_descriptor", "a descriptor by pidfd_getfd")) + rows(
        "host",
        ("vm_write", "memory by process_vm_writev"),
        ("signal_kill", "a signal by kill"),
        ("signal_tgkill", "a signal by tgkill"),
        ("signal_queue", "a signal by sigqueue"),
        ("signal_pidfd", "a signal by pidfd_send_signal"),
        ("signal_async", "a signal by F_SETOWN of a socket"),
        ("signal_all", "a signal to all"),
        ("slow_priority", "its priority"),
        ("slow_affinity", "its processors", {"needs": "processors"}),
        ("slow_io_of_user", "the I/O priority of all of a user's"),
        ("limit_process", "its limits")) + rows(
        "call",
        ("proc_exe_chmod", "the program's mode by /proc/PID/exe"),
        ("victim_compared", "comparison by kcmp"),
        ("victim_pidfd", "a pidfd")),
    "Mounts": rows(
        "call",
        ("mount_tmpfs", "a tmpfs"),
        ("mount_proc", "a proc"),
        ("mount_sysfs", "a sysfs"),
        ("mount_cgroup", "a cgroup file system"),
        ("mount_mqueue", "an mqueue"),
        ("mount_devpts", "a devpts"),
        ("mount_overlay", "an overlay"),
        ("mount_fuse", "a FUSE mount", {"needs": "fuse"}),
        ("mount_bind", "a bind"),
        ("mount_private_bind", "/proc without what lies on it"),
        ("remount_root", "a remount of the root"),
        ("mount_shared", "propagation to the outside"),
        ("umount_proc", "unmount /proc and its masks"),
        ("umount_tmp", "unmount /tmp"),
        ("pivot_root", "pivot_root"),
        ("fsopen", "fsopen"),
        ("open_tree_clone", "open_tree"),
        ("move_mount", "move_mount"),
        ("chroot", "chroot", {"open": ROOT_BOXES}),
        proven="own") + rows(
        "secret",
        ("chroot_escape", "out of a chroot by a descriptor", {"proven": "own"})),
    "Namespaces": rows(
        "secret",
        ("ns_enter", "another's user and mount namespace"),
        ("ns_enter_pidfd", "the same by a pidfd"),
        ("nested_overlay", "an overlay in a user namespace of its own, of files outside")) + rows(
        "call",
        ("ns_parent", "the user namespace above"),
        ("ns_of_socket", "the network namespace of a socket", {"proven": "own"}),
        ("unshare_user", "a user namespace", {"open": NESTED_BOXES}),
        ("clone_user", "the same by clone", {"open": NESTED_BOXES}),
        ("call_clone3", "the same by clone3, whose flags no filter sees", {"open": NESTED_BOXES}),
        ("unshare_mount", "a mount namespace", {"proven": "own"}),
        ("unshare_net", "a network namespace", {"proven": "own"}),
        ("unshare_pid", "a pid namespace", {"proven": "own"}),
        ("unshare_ipc", "an IPC namespace", {"proven": "own"}),
        ("unshare_uts", "a UTS namespace", {"proven": "own"}),
        ("unshare_cgroup", "a cgroup namespace", {"proven": "own"}),
        ("unshare_time", "a time namespace", {"proven": "own"}),
        ("nested_mount", "a mount in a user namespace of its own", {"open": NESTED_BOXES}),
        ("nested_proc", "names of the caller's keys, in a /proc without masks in a user namespace of its own", {"open": NESTED_BOXES, "needs": "keyrings"}),
        ("sethostname", "the host name", {"proven": "own"}),
        ("setdomainname", "the domain name", {"proven": "own"})),
    "/proc, /sys, cgroups, devices": rows(
        "call",
        ("sysrq", "write to /proc/sysrq-trigger"),
        ("core_pattern", "write to /proc/sys/kernel/core_pattern"),
        ("sysctl_kernel", "write to /proc/sys/kernel/panic"),
        ("sysctl_host_name", "write to /proc/sys/kernel/hostname"),
        ("sys_write", "write to /sys/power/state"),
        ("kernel_log", "read /proc/kmsg"),
        ("kcore", "read /proc/kcore"),
        ("timer_list", "read /proc/timer_list"),
        ("cgroup_join", "join another cgroup"),
        ("cgroup_make", "make a cgroup"),
        ("cgroup_limit", "write a limit of memory, processes or processor time"),
        ("cgroup_kill", "write to what kills or freezes a cgroup"),
        ("cgroup_delegate", "give controllers to cgroups below"),
        ("cgroup_release_agent", "name a program for the kernel to run as root when a cgroup is empty"),
        proven="stand-in") + rows(
        "call",
        ("sysctl_net", "write to /proc/sys/net/ipv4/ip_forward", {"proven": "own"}),
        ("sysctl_user", "write to /proc/sys/user/max_user_namespaces", {"proven": "own"}),
        ("interrupts", "read /proc/interrupts"),
        ("key_users", "read /proc/key-users"),
        ("dmi", "read the machine's DMI data", {"needs": "dmi"}),
        ("device_any", "open any device of the host's"),
        ("device_fuse", "open /dev/fuse", {"needs": "fuse"}),
        ("device_tun", "make a network interface by /dev/net/tun", {"needs": "tun", "proven": "own"})),
    "Terminals": rows(
        "terminal",
        ("tty_type", "type into the caller's terminal by TIOCSTI", {"needs": "tiocsti"}),
        ("tty_type_high_bits", "the same, by a number that filters do not compare", {"needs": "tiocsti"})) + rows(
        "host",
        ("tty_open_callers", "write to another terminal of the caller's")),
    "Sockets of the host": rows(
        "secret",
        ("unix_work", "a socket in the working directory"),
        ("unix_tmp", "a socket in /tmp"),
        ("unix_home", "a socket in the home"),
        ("unix_session_bus", "the D-Bus session bus"),
        ("unix_user_systemd", "the user's systemd"),
        ("unix_agent", "the SSH agent"),
        ("unix_gpg_agent", "the GnuPG agent"),
        ("unix_wayland", "Wayland"),
        ("unix_x11", "X11"),
        ("unix_x11_abstract", "X11 by its abstract name", {"open": HOST}),
        ("unix_abstract", "an abstract stream socket", {"open": HOST}),
        ("unix_abstract_packet", "an abstract packet socket", {"open": HOST}),
        ("unix_abstract_datagram", "an abstract datagram socket", {"open": HOST}),
        ("fifo_work", "a FIFO in the working directory"),
        ("fifo_tmp", "a FIFO in /tmp")) + rows(
        "call",
        ("unix_control", "the control socket of a box"),
        ("unix_listed", "abstract names in /proc/net/unix", {"open": HOST})),
    "The host's network": rows(
        "secret",
        ("loopback", "127.0.0.1"),
        ("loopback_other", "127.1.2.3"),
        ("loopback_zero", "0.0.0.0"),
        ("loopback_mapped", "::ffff:127.0.0.1", {"needs": "ipv6"}),
        ("loopback_mapped_zero", "::ffff:0.0.0.0", {"needs": "ipv6"}),
        ("loopback_six", "::1", {"needs": "ipv6"}),
        ("loopback_six_any", "::", {"needs": "ipv6"}),
        ("loopback_udp", "127.0.0.1 by UDP"),
        ("loopback_udp_zero", "0.0.0.0 by UDP"),
        ("loopback_udp_six", "::1 by UDP", {"needs": "ipv6"}),
        ("host_address", "an address of the host's own", {"needs": "address"}),
        ("host_address_mapped", "the same within IPv6", {"needs": "address"}),
        ("host_address_udp", "the same by UDP", {"needs": "address"}),
        open=HOST) + rows(
        "secret",
        ("gateway", "the box's gateway"),
        ("gateway_udp", "the gateway by UDP"),
        ("gateway_six", "the gateway by IPv6", {"needs": "ipv6"}),
        ("resolver", "the resolver's address, another port"),
        proven="stand-in") + rows(
        "call",
        ("sockets_listed", "listening ports in /proc/net/tcp", {"open": HOST}),
        ("route_ioctl", "a route by ioctl", {"proven": "own"}),
        ("route_netlink", "a route by netlink", {"proven": "own"}),
        ("link_down", "an interface", {"proven": "own"}),
        ("socket_inet_raw", "a raw socket", {"proven": "own"}),
        ("socket_packet", "a packet socket", {"proven": "own"}),
        ("socket_netfilter", "an nfnetlink socket", {"needs": "netfilter"}),
        ("socket_audit", "an audit socket", {"needs": "audit"}),
        ("socket_vsock", "a socket to the hypervisor", {"needs": "vsock"})),
    "IPC and keyrings": rows(
        "secret",
        ("shm_key", "System V shared memory by its key"),
        ("shm_id", "System V shared memory by its number"),
        ("msg_receive", "a System V message"),
        ("mqueue", "a POSIX message queue"),
        ("keys_session", "a key of the session keyring", {"needs": "keyrings"}),
        ("keys_user", "a key of the user keyring", {"needs": "keyrings"}),
        ("keys_number", "a key by its number", {"needs": "keyrings"}),
        ("keys_request", "a key by request_key", {"needs": "keyrings"})) + rows(
        "host",
        ("sem_set", "a System V semaphore")) + rows(
        "call",
        ("shm_listed", "shared memory in /proc/sysvipc"),
        ("keys_listed", "keys in /proc/keys", {"needs": "keyrings"}),
        ("keys_add", "add a key", {"needs": "keyrings"})),
    "Calls": rows(
        "call",
        ("call_io_uring", "io_uring", {"needs": "io_uring"}),
        ("call_userfaultfd", "userfaultfd"),
        ("call_perf", "perf_event_open", {"needs": "perf"}),
        ("call_fanotify", "fanotify_init"),
        ("call_modify_ldt", "modify_ldt", {"needs": "x86"}),
        ("call_numa_policy", "set_mempolicy"),
        ("call_move_pages", "move_pages"),
        ("call_file_handle", "name_to_handle_at"),
        ("call_open_handle", "open_by_handle_at", {"proven": "own", "needs": "handles"}),
        ("call_personality", "personality"),
        ("call_process_madvise", "process_madvise"),
        ("x32_getpid", "a call of the x32 ABI", {"needs": "x32"}),
        ("x32_unshare_user", "a user namespace by it", {"needs": "x32"}),
        ("x32_keyctl", "keyctl by it", {"needs": "x32"}),
        ("int80_getpid", "a 32-bit call of a 64-bit program", {"needs": "ia32"}),
        ("int80_unshare_user", "a user namespace by a 32-bit call", {"needs": "ia32"}),
        ("int80_keyctl", "keyctl by a 32-bit call", {"needs": "ia32"})),
    "Rights": rows(
        "call",
        ("caps_effective", "a capability in force", {"proven": "own", "open": ROOT_BOXES}),
        ("caps_bounding", "a capability in the bounding set", {"open": ROOT_BOXES}),
        ("caps_great", "one over mounts, network, processes or the machine"),
        ("new_privileges", "no_new_privs is not set", {"needs": "privileges"}),
        ("core_limit", "a core dump's way to a program of the host's: a limit of 0, not 1", {"needs": "dumps"}),
        ("setuid_program", "another user by a set-id program", {"needs": "su"}),
        ("file_caps", "a file with capabilities, in /tmp", {"proven": "own", "open": ROOT_BOXES}),
        ("file_caps_executed", "capabilities by executing it", {"proven": "own"})) + rows(
        "host",
        ("setuid_file", "a set-uid file on the host's disk, by chmod"),
        ("setgid_file", "a set-gid file there"),
        ("setuid_created", "a set-uid file there, by open"),
        open=dict.fromkeys(ROOT_BOXES, INSTALLS)),
}

PROBES = {probe.name: probe for group in GROUPS.values() for probe in group}
