/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The wire: typed messages between the launcher, the child (init), the payload before its exec, and the helpers.
 * One SOCK_SEQPACKET pair for each neighbour; a message is one packet: a u32 type, then its body, a
 * serialised GVariant of that type's fixed signature, and beside it at most WIRE_MAX_FDS descriptors.
 * wire.c holds the table of types: name, signature, number of fds, sender and receiver.
 */
typedef enum {
        /* the payload, where the stub executes the command (src/stub, which has this number) → launcher */
        WIRE_NOT_EXECUTED = 1, /* (i) errno */
        /* launcher → child */
        WIRE_MAPPED, /* the id maps are written */
        WIRE_SIGNAL,     /* (i) forward this signal to the payload */
        WIRE_RESUME,     /* the launcher was continued: so shall the payload be */
        WIRE_PLAN,       /* the plan of the root is in the shared memory (root-share.h) */
        WIRE_DIRS,       /* the box's directory has all that overlays need */
        WIRE_SCOPED,     /* (s) it is in the box's cgroup, whose directory this is; empty: it has none after all */
        /* launcher → payload */
        WIRE_MOVED, /* with limits: it is in its cgroup, or has none after all */
        WIRE_GO, /* helpers and limits are ready: start */
        /* payload → launcher */
        WIRE_NET_FDS, /* + the TAP's fd, + the network namespace */
        /* child → payload */
        WIRE_OUTER, /* + /proc/sys of the box: the outer user namespace's maps are written */
        /* payload → child */
        WIRE_NETNS,    /* + the box's network namespace, with nothing in it yet */
        WIRE_UNSHARED, /* the network is set up, the inner user namespace is made: the host's tree is not needed any more */
        /* child → launcher */
        WIRE_FS_FDS,   /* + /dev/fuse, mounted; + the lower root, + the box layer, + the outer user namespace */
        WIRE_PTY,      /* + the pty's master side */
        WIRE_BORN,     /* with limits: + the payload's pidfd, as soon as there is one */
        WIRE_ROOTED,   /* + the payload's pidfd, + the mount namespace: the root stands */
        WIRE_GUARDED,  /* (u) a source of the plan's that has project hooks, + as it is mounted in the box: they have their guards */
        WIRE_POD_FDS,  /* of a pod: + its network, + IPC, + UTS, + pid namespace */
        WIRE_STOPPED,  /* (i) the payload was stopped by this signal */
        WIRE_EXITED,   /* (ixxx) the payload's wait status; what it and those it awaited used: µs as user, as system, KiB at most */
        /* launcher → usbox-net */
        WIRE_NET_CONFIG, /* see NET_CONFIG_SIGNATURE in netstack/config.h */
        WIRE_NET_TAP,    /* + what WIRE_NET_FDS had */
        WIRE_NET_RESOLVERS, /* (as) the host's name servers are others now */
        WIRE_NET_RULE,   /* (ubsa(ss)) a serial number; allow or deny; the rule, asked before all others from now on; names of /etc/hosts that it is of */
        WIRE_NET_FLOWS,  /* (u) a serial number; + a memfd, for the present flows as JSON */
        WIRE_NET_PUBLISH, /* (ub(ssqsq)) a serial number; open or close; a port */
        /* usbox-net → launcher */
        WIRE_NET_READY, /* (a(ssqsq)) published ports as they came out: protocol, host address, port, box address, port */
        WIRE_NET_PORTS, /* (a(ssqsq)) published ports, as they are from now on */
        WIRE_NET_DONE,   /* (uss) the serial number of NET_RULE, NET_FLOWS or NET_PUBLISH; an error's text and hint, or "" */
        WIRE_NET_DENIED, /* (ss) what the policy refused; the option that would allow it, or the --deny that refuses it; "": none would */
        /* launcher → usbox-fs */
        WIRE_FS_CONFIG, /* see FS_CONFIG_SIGNATURE in fsoverlay/config.h */
        WIRE_FS_MOUNT,  /* + what WIRE_FS_FDS had */
        /* usbox-fs → launcher */
        WIRE_FS_READY, /* confined and serving */
        /* who enters a box for `usbox exec` → launcher */
        WIRE_FORKED, /* (i) the command's process, as the host sees it + its pidfd */
        /* supervisor → who called run --detach */
        WIRE_DETACHED, /* (s) the command runs, in the box of this id */
        /* a verb → launcher, over the control socket */
        WIRE_CTL_SIGNAL,  /* (i) to the command */
        WIRE_CTL_STOP,    /* (u) the stop signal, and SIGKILL so many milliseconds later; EXITED comes */
        WIRE_CTL_WAIT,    /* EXITED comes when the box has ended */
        WIRE_CTL_INSPECT, /* TEXT comes */
        WIRE_CTL_NET_RULE,  /* (bs) allow or deny; the rule. OK comes */
        WIRE_CTL_NET_FLOWS, /* TEXT comes */
        WIRE_CTL_NET_PUBLISH, /* (bs) open or close; the port as -p takes it. OK comes */
        WIRE_CTL_HELLO,   /* OK comes: the launcher is not stopped */
        WIRE_CTL_EXEC,    /* another command, see src/exec.h + its stdin, + stdout, + stderr; + what does not fit in the body */
        WIRE_CTL_EXEC_SIGNAL, /* (i) for that command */
        WIRE_CTL_CGROUP,  /* the box shall have a cgroup of its own (scope-late.h). OK comes */
        WIRE_CTL_UPDATE,  /* (a(ss)a(ss)) other limits, see SCOPE_UPDATE_SIGNATURE in scope/config.h */
        /* a box's launcher → its pod's */
        WIRE_CTL_POD_JOIN, /* (s) the box's id: take it in. POD_JOINED comes */
        WIRE_POD_BOX,      /* where the boxes share their processes: + its user namespace, + a pidfd of its init */
        /* launcher → a verb */
        WIRE_CTL_OK,
        WIRE_CTL_TEXT,   /* + a sealed memfd */
        WIRE_CTL_PTY,    /* + the master side of that command's terminal */
        WIRE_CTL_EXITED, /* (i) usbox's exit status for it */
        WIRE_CTL_FAILED, /* (iisss) as ERROR: by this the box ends, and the command with it */
        /* a pod's launcher → that of one of its boxes */
        WIRE_POD_JOINED, /* host name, contents of /etc/hosts and resolv.conf, id maps: see src/pod-host.c; + what POD_FDS had */
        WIRE_POD_END,    /* (u) the pod ends: the box is to end within so many milliseconds */
        /* launcher → usbox-scope */
        WIRE_SCOPE_CONFIG, /* see SCOPE_CONFIG_SIGNATURE in scope/config.h */
        WIRE_SCOPE_JOIN,   /* (auau) helpers, processes of the payload: into the box's cgroup with them */
        WIRE_SCOPE_ADOPT,  /* (uauaub) the same of a box that runs: init, helpers, what exec started; whether its command gets the oom_score_adj of one that
                            * is limited; + its mount namespace. SCOPE_JOINED comes */
        WIRE_SCOPE_UPDATE, /* see SCOPE_UPDATE_SIGNATURE */
        /* usbox-scope → launcher */
        WIRE_SCOPE_MADE,    /* (ss) the cgroup's directory, and what is to be written to its cpu.max before GO ("": nothing); + opened */
        WIRE_SCOPE_JOINED,  /* (iss) errno, message, hint; empty: they are in it */
        WIRE_SCOPE_UPDATED, /* (iss) errno, message, hint; empty where all went well */
        /* any → launcher; launcher → a verb */
        WIRE_ERROR, /* (iisss) UsboxErrorCode, errno, step, text, hint */
        WIRE_TYPE_MAX
} WireType;

#define WIRE_MAX_FDS 6
#define WIRE_MAX_SIZE 65536u
#define WIRE_MAX_BODY (WIRE_MAX_SIZE - sizeof(uint32_t))

typedef struct {
        WireType type;
        GVariant *body; /* never NULL in a received message: "()" where there is no body */
        int fds[WIRE_MAX_FDS];
        unsigned n_fds;
} WireMessage;

/* Close what fds are still in it and free the body. Take an fd out with wire_message_take_fd(). */
void wire_message_clear(WireMessage *m);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(WireMessage, wire_message_clear)
int wire_message_take_fd(WireMessage *m, unsigned i);

const char *wire_type_name(WireType type);
const char *wire_type_signature(WireType type);
unsigned wire_type_n_fds(WireType type);

/* How many more there may be. */
unsigned wire_type_more_fds(WireType type);

/* A pair of connected sockets, both O_CLOEXEC. */
bool wire_pair(int ret_fds[2], GError **error);

/* Send one message. body (floating references are consumed; NULL: none) must have the type's signature: anything
 * else is a bug and aborts. fds are borrowed. Never raises SIGPIPE: a closed peer is EPIPE. */
bool wire_send(int fd, WireType type, GVariant *body, const int *fds, unsigned n_fds, GError **error);

/* Why wire_send() could not, of which the error is taken: true where a non-blocking fd has no room by now, which is none; else false, and it is *error. */
bool wire_is_full(GError *failure_take, GError **error);

/* Receive one message, waiting for it unless fd is non-blocking. Returns 1, 0 when the peer has closed (or sent an empty
 * packet, which looks the same), -1 with error (errno EAGAIN in it for a non-blocking fd). What is not of the table, has a
 * wrong signature, is not in normal form or carries another number of fds is an error, and its fds are closed. */
int wire_receive(int fd, WireMessage *ret, GError **error);

/* wire_receive(), and what comes must be of that type: WIRE_ERROR becomes *error, anything else is an error, the
 * peer's end too ("PEER closed the connection"). */
bool wire_expect(int fd, const char *peer, WireType type, WireMessage *ret, GError **error);

/* Send error as WIRE_ERROR, texts of more than 4 KiB without their middle; nothing can be done if that fails too. */
void wire_send_error(int fd, const GError *error);

/* The same as another type of that signature. */
void wire_send_error_as(int fd, WireType type, const GError *error);

/* The error that such a message carries, as *error. Returns false. */
bool wire_error_to_gerror(const WireMessage *m, GError **error);
