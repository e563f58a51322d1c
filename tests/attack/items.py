# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an attacker would try, thing by thing, and which attempts there are at each: probes, made in every configuration (sandboxes.OURS), and
tests of their own where a probe cannot be made from inside, FILE.py or FILE.py::TEST below tests/. docs/security.md has it as a table."""
import probes

# An entry that ends with * stands for all probes that begin so.
ITEMS = {
    "files outside": ["file_home", "file_outside", "file_dotdot", "file_tmp", "file_var_tmp", "file_shm", "file_runtime", "file_link", "file_move_parent", "file_merge*",
                      "file_second_root", "attack/test_probes.py::test_files_outside_without_an_overlay"],
    "what is above the working directory": ["file_above*"],
    "private files outside of home and working directory": ["file_place*", "integration/test_private_files.py"],
    "credentials in toolchains": ["file_tool_*"],
    "hidden names": ["hidden_open", "hidden_list", "hidden_spelling", "hidden_symlink"],
    "hidden names by hard links": ["hidden_hard_link", "write_hard_link"],
    "by /proc/PID/root, cwd and fd": ["hidden_proc_root", "hidden_proc_cwd", "proc_root", "proc_cwd", "proc_task_cwd", "proc_fd"],
    "by /proc/self/fd and O_PATH": ["hidden_opath", "hidden_dir_opath", "write_reopen", "write_chmod_opath", "stdin_reopen_write", "stderr_reopen_*"],
    "by file handles": ["hidden_handle", "call_open_handle", "call_file_handle"],
    "by the overlay's own marks": ["overlay_*", "device_null_made"],
    "by renames, over it and above it": ["hidden_rename*", "hidden_exchange*", "hidden_move_parent", "hidden_merge", "hidden_remove_merge", "hidden_create_over"],
    "by another case": ["attack/test_caseless.py"],
    "by mmap": ["hidden_mmap", "write_mmap*"],
    "writes to files of the host": ["write_*"],
    "project hooks in a tree that is written through": ["integration/test_hooks.py", "attack/test_guarded_hooks.py"],
    "mounts and remounts": ["mount_*", "remount_root", "umount_*", "fsopen", "open_tree_clone", "move_mount", "pivot_root", "chroot*"],
    "propagation": ["mount_shared", "integration/test_root.py::test_no_trace_of_the_old_root",
                    "integration/test_namespaces.py::test_what_is_mounted_later_on_the_host_is_not_there"],
    "namespaces entered": ["ns_*"],
    "namespaces left": ["unshare_*", "clone_user", "nested_*", "sethostname", "setdomainname"],
    "processes of the host seen": ["proc_cmdline", "proc_environ", "proc_exe", "victim_pidfd", "victim_compared"],
    "signalled, slowed": ["signal_*", "slow_*", "limit_process"],
    "traced and read": ["ptrace", "proc_mem", "vm_*", "victim_descriptor"],
    "writes to /proc and /sys": ["sysrq", "core_pattern", "sysctl_*", "sys_write", "proc_exe_chmod", "integration/test_root.py"],
    "what /proc and /sys tell": ["kernel_log", "kcore", "timer_list", "interrupts", "key_users", "dmi"],
    "cgroups": ["cgroup_*", "integration/test_limits.py"],
    "devices": ["device_*"],
    "terminals": ["tty_*", "integration/test_terminal.py"],
    "leaked descriptors": ["fd_*"],
    "abstract sockets": ["unix_abstract*", "unix_x11_abstract", "unix_listed"],
    "sockets and FIFOs by path": ["unix_work", "unix_tmp", "unix_home", "fifo_*"],
    "D-Bus, the user's systemd, agents, X11, Wayland": ["unix_session_bus", "unix_user_systemd", "unix_agent", "unix_gpg_agent", "unix_x11", "unix_wayland"],
    "loopback and the host's addresses, by every spelling": ["loopback*", "host_address*", "gateway*", "resolver", "sockets_listed", "integration/test_netpolicy.py"],
    "the box's own network": ["route_*", "link_down", "socket_inet_raw", "socket_packet"],
    "keyrings": ["keys_*"],
    "System V and POSIX IPC": ["shm_*", "msg_receive", "mqueue", "sem_set"],
    "calls by number": ["call_*", "socket_*", "integration/test_seccomp.py", "integration/test_exec.py::test_probes_fail_as_in_the_command"],
    "by the 32-bit ABI": ["int80_*"],
    "by the x32 ABI": ["x32_*"],
    "by clone3 and io_uring": ["call_clone3", "call_io_uring"],
    "capabilities": ["caps_*", "new_privileges"],
    "core dumps": ["core_limit", "core_pattern", "integration/test_process.py::test_core_dumps_are_off", "integration/test_core_pattern.py"],
    "set-id files and file capabilities": ["setuid_*", "setgid_file", "file_caps*", "attack/test_once_open.py::test_no_setid_file_in_a_written_host_directory"],
    "usbox-fs: races of rename, unlink, truncate, attributes": ["race_*", "fs/test_hostile.py"],
    "usbox-fs: long names and paths, chains of symlinks": ["shape_*"],
    "usbox-net: frames and DNS": ["attack/test_network_helper.py", "integration/test_usbox_net_alone.py"],
    "usbox-net: ARP, DHCP, router's words, tags, other senders": ["integration/test_usbox_net_alone.py::test_frames_that_no_kernel_sends"],
    "usbox's processes, traced and read": ["attack/test_looked_into.py", "integration/test_pods.py::test_the_pods_processes_are_out_of_reach"],
    "usbox itself, on its way into a box": ["attack/test_once_open_fuse.py::test_no_code_of_the_box_on_the_way_in"],
    "changes that are looked at and taken, while they change": ["attack/test_review_races.py", "integration/test_review_commit.py::test_hostile_upper"],
    "what is shown of it": ["integration/test_review_diff.py::test_a_files_escapes_are_shown_and_not_obeyed", "integration/test_review_diff.py::test_nothing_stands_behind_a_nul"],
    "the control socket": ["unix_control", "integration/test_boxes.py::test_garbage_on_the_control_socket"],
    "helpers that are taken over": ["attack/test_helpers.py"],
    "environment and inherited secrets": ["environment", "proc_environ", "keys_session", "integration/test_process.py"],
}


def of(entry):
    """The probes that an entry stands for; none where it is a test."""
    return [name for name in probes.PROBES if name == entry or (entry.endswith("*") and name.startswith(entry[:-1]))]


def rows():
    """Thing, its probes, its tests."""
    for thing, entries in ITEMS.items():
        yield thing, [name for entry in entries for name in of(entry)], [entry for entry in entries if ".py" in entry]
