/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A box of a pod: how it is taken in, and how its init comes to stand in the pod's namespaces.
 *
 * Role: launcher; between the fork and the clone in pod_join_clone() the maker. Privileges: the caller's; the maker has all capabilities of the
 * pod's user namespace. Threads: one. Order: step 3.
 *
 * The pod's user namespace P owns network, IPC and UTS namespace, and maps every id that the caller may use. The box's own one, B, is a child
 * of P: so it may have any maps, and neither the box's init nor anybody in the box has a capability over what P owns. What needs those
 * capabilities is done by the maker, which enters P and ends with the clone: it enters P's namespaces, makes the mounts that are
 * windows on them (sysfs, mqueue), and writes B's maps, which nobody outside of P can express.
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/wire.h"
#include "control-client.h"
#include "pod-host.h"
#include "pod-join.h"
#include "registry.h"
#include "root-build.h"
#include "user-map.h"

static bool take_facts(PodJoin *pod, WireMessage *m, GError **error) {
        gboolean share_pid = FALSE;
        g_autoptr(GVariant) uids = g_variant_lookup_value(m->body, "uidmap", POD_MAP_TYPE), gids = g_variant_lookup_value(m->body, "gidmap", POD_MAP_TYPE);

        if (!uids || !gids || !g_variant_lookup(m->body, "hostname", "s", &pod->hostname) || !g_variant_lookup(m->body, "hosts", "s", &pod->hosts))
                return err_set(error, EPROTO, "the pod's launcher said POD_JOINED");
        (void) g_variant_lookup(m->body, "resolv", "s", &pod->resolv);
        (void) g_variant_lookup(m->body, "cgroup", "s", &pod->cgroup);
        (void) g_variant_lookup(m->body, "share_pid", "b", &share_pid);
        pod->share_pid = share_pid;
        pod->uidmap = pod_map_unpack(uids);
        pod->gidmap = pod_map_unpack(gids);
        for (unsigned i = 0; i < POD_N_NAMESPACES; i++)
                pod->namespaces[i] = wire_message_take_fd(m, i);
        return true;
}

bool pod_join_begin(const Spec *spec, const char *box_id, PodJoin *ret, GError **error) {
        g_autoptr(BoxInfo) pod = registry_find_running_pod(&spec->caller, spec->pod.name, error);
        g_auto(WireMessage) m = { 0 };

        *ret = POD_JOIN_NONE;
        if (!pod || (ret->wire = control_open(pod, error)) < 0 ||
            !control_ask(pod, ret->wire, WIRE_CTL_POD_JOIN, g_variant_new("(s)", box_id), WIRE_POD_JOINED, &m, error))
                return err_step(error, "pod");
        g_strlcpy(ret->id, pod->id, sizeof ret->id);
        return (take_facts(ret, &m, error) && (!ret->share_pid || pod_check_shared_pids(spec, error))) || err_step(error, "pod");
}

/* Into the pod, and into a mount namespace of its user namespace's, without which nothing can be mounted. */
static bool enter(const PodJoin *pod, pid_t launcher, GError **error) {
        static const int kinds[POD_N_NAMESPACES] = { [POD_NET] = CLONE_NEWNET, [POD_IPC] = CLONE_NEWIPC, [POD_UTS] = CLONE_NEWUTS, [POD_PID] = CLONE_NEWPID };
        _cleanup_close_ int user = ioctl(pod->namespaces[POD_NET], NS_GET_USERNS);

        if (user < 0 || setns(user, CLONE_NEWUSER) < 0)
                return err_set(error, errno, "enter the pod's user namespace");
        /* That took it away. Stopped, and its launcher killed, the maker would keep the box that it has made: it has the launcher's end of its wire. */
        if (!confine_die_with_parent(launcher, error))
                return false;
        /* The last of them is entered by what is forked. */
        for (size_t i = 0; i < (pod->share_pid ? POD_N_NAMESPACES : POD_PID); i++)
                if (setns(pod->namespaces[i], kinds[i]) < 0)
                        return err_set(error, errno, "enter the pod");
        if (unshare(CLONE_NEWNS) < 0)
                return err_set(error, errno, "make a mount namespace");
        /* Other ids have taken that away, and with it the right to write one's children's maps. */
        if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
                return err_set(error, errno, "PR_SET_DUMPABLE");
        return true;
}

/* Its ids are those of the pod's boxes, which may therefore stop it; who waited for it then would do so for ever. */
static bool await_forked(pid_t pid, int *ret_status) {
        while (TEMP_FAILURE_RETRY(waitpid(pid, ret_status, WUNTRACED)) == pid) {
                if (!WIFSTOPPED(*ret_status))
                        return true;
                (void) kill(pid, SIGKILL);
        }
        return false;
}

/* What has to be done by a process that is in the pod's pid namespace: one that has our descriptors. work() gives errno or 0. */
static bool do_in_pod(const char *what, int (*work)(void *), void *data, GError **error) {
        struct clone_args args = { .flags = CLONE_FILES, .exit_signal = SIGCHLD };
        int status = 0;

        pid_t pid = sys_clone3(&args);
        if (pid == 0)
                _exit(work(data));
        if (pid < 0)
                return err_set(error, errno, "%s", what);
        if (!await_forked(pid, &status) || !WIFEXITED(status))
                return err_set(error, 0, "%s: another process of the pod has stopped or killed who does that", what);
        return WEXITSTATUS(status) == 0 || err_set(error, WEXITSTATUS(status), "%s", what);
}

/* A number for the descriptor that such a process makes. */
static int reserve_place(GError **error) {
        int place = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        if (place < 0)
                err_set(error, errno, "dup");
        return place;
}

static int mount_proc(void *data) {
        const int *place = data;
        g_autoptr(GError) failure = NULL;

        int mnt = root_mount_new("proc", NULL, KERNEL_ATTRS, &failure);
        return mnt < 0 ? err_get_errno(failure) : dup3(mnt, *place, O_CLOEXEC) < 0 ? errno : 0;
}

/* A proc shows the processes of the namespace of who mounts it. */
static int make_proc(GError **error) {
        _cleanup_close_ int place = reserve_place(error);
        return place >= 0 && do_in_pod("mount the pod's proc", mount_proc, &place, error) ? fd_steal(&place) : -1;
}

/* A sysfs that cannot be had is the box's to complain about: --best-effort=sysfs goes on without. */
static bool make_windows(const PodJoin *pod, PodMounts *ret, GError **error) {
        ret->in_pod = true;
        if (pod->share_pid && (ret->proc = make_proc(error)) < 0)
                return false;
        ret->sysfs = root_mount_new("sysfs", NULL, KERNEL_ATTRS | MOUNT_ATTR_RDONLY, NULL);
        ret->mqueue = root_mount_new("mqueue", NULL, KERNEL_ATTRS, error);
        return ret->mqueue >= 0;
}

/* By the time that we look the pod's init may have reaped it. */
#define INIT_KILLED "another process of the pod has killed the box's init"

typedef struct {
        guint64 flags;
        const ChildContext *context;
        int wire;
        int *pidfd; /* memory that is shared with the maker: the kernel writes it before anybody could kill who has cloned */
} InitPlan;

static int clone_init(void *data) {
        const InitPlan *plan = data;
        struct clone_args args = { .flags = plan->flags | CLONE_PIDFD, .pidfd = (uintptr_t) plan->pidfd, .exit_signal = SIGCHLD };

        pid_t pid = sys_clone3(&args);
        if (pid == 0) {
                close(plan->wire);
                child_main(plan->context);
        }
        return pid < 0 ? errno : 0;
}

/*
 * Where the boxes share their processes, init is the child of one that ends at once, and so of the pod's init, which reaps it. Were it the launcher's, and the
 * launcher killed, it would be that of whoever adopts orphans on this machine; in a container that may be somebody who reaps none, and a pid
 * namespace ends only when all who were in it are reaped.
 */
static pid_t clone_into_pid_namespace(guint64 flags, const ChildContext *context, int wire, int *ret_pidfd, GError **error) {
        g_autoptr(GError) failure = NULL;
        int *pidfd = proc_share(sizeof *pidfd, error);
        InitPlan plan = { .flags = flags, .context = context, .wire = wire, .pidfd = pidfd };

        if (!pidfd)
                return -1;
        *pidfd = -1;
        bool cloned = do_in_pod("clone into new namespaces", clone_init, &plan, &failure);
        *ret_pidfd = *pidfd;
        (void) munmap(pidfd, sizeof *pidfd);
        /* Of a clone that did not come about there may be a number, but no pidfd; of one that did, there is, whatever became of who cloned. */
        pid_t pid = *ret_pidfd >= 0 ? proc_pidfd_pid(*ret_pidfd) : -1;
        if (pid > 0)
                return pid;
        if (cloned)
                err_set(error, 0, INIT_KILLED);
        else
                g_propagate_error(error, g_steal_pointer(&failure));
        return -1;
}

static pid_t clone_for_launcher(guint64 flags, const ChildContext *context, int wire, int *ret_pidfd, GError **error) {
        struct clone_args args = { .flags = flags | CLONE_PARENT | CLONE_PIDFD, .pidfd = (uintptr_t) ret_pidfd };

        pid_t pid = sys_clone3(&args);
        if (pid == 0) {
                close(wire);
                child_main(context);
        }
        if (pid < 0)
                err_set(error, errno, "clone into new namespaces");
        return pid;
}

static int open_init(int pidfd, GError **error) {
        int proc = proc_pidfd_open(pidfd);
        if (proc < 0)
                err_set(error, errno, INIT_KILLED);
        return proc;
}

static bool map_init(const PodJoin *pod, const Spec *spec, int pidfd, GError **error) {
        _cleanup_close_ int proc = open_init(pidfd, error);
        return proc >= 0 && user_map_in_pod(spec, proc, pod->uidmap, pod->gidmap, error);
}

static _Noreturn void maker_main(const PodJoin *pod, guint64 flags, ChildContext *context, const int ends[2], pid_t launcher) {
        g_autoptr(GError) error = NULL;
        int wire = ends[1], pidfd = -1;

        bool ok = confine_die_with_parent(launcher, &error);
        close(ends[0]);
        /* What it forks is seen by the pod's other boxes, where they share their processes. */
        child_forget_argv("usbox-maker");
        if (ok && enter(pod, launcher, &error) && make_windows(pod, &context->pod, &error)) {
                pid_t pid = pod->share_pid ? clone_into_pid_namespace(flags, context, wire, &pidfd, &error) :
                                             clone_for_launcher(flags, context, wire, &pidfd, &error);
                if (pid > 0 && wire_send(wire, WIRE_FORKED, g_variant_new("(i)", (int) pid), &pidfd, 1, &error) &&
                    map_init(pod, context->spec, pidfd, &error) && wire_send(wire, WIRE_MAPPED, NULL, NULL, 0, &error))
                        _exit(0);
        }
        err_step(&error, "pod");
        wire_send_error(wire, error);
        _exit(0);
}

/* What the box will be known by when its processes are to be killed: the pod does that where the box's launcher cannot. */
static bool tell_box(PodJoin *pod, int pidfd, GError **error) {
        _cleanup_close_ int proc = open_init(pidfd, error);

        if (proc < 0)
                return false;
        pod->userns = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
        if (pod->userns < 0)
                return err_set(error, errno, "the box's user namespace");
        return wire_send(pod->wire, WIRE_POD_BOX, NULL, (int[]){ pod->userns, pidfd }, 2, error);
}

pid_t pod_join_clone(PodJoin *pod, guint64 flags, ChildContext *context, int *ret_pidfd, GError **error) {
        g_auto(WireMessage) forked = { 0 };
        int ends[2], pid;
        pid_t launcher = getpid();

        if (!wire_pair(ends, error))
                return -1;
        pod->maker_pid = fork();
        if (pod->maker_pid == 0)
                maker_main(pod, flags, context, ends, launcher);
        int saved = errno;
        close(ends[1]);
        pod->maker = ends[0];
        if (pod->maker_pid < 0) {
                err_set(error, saved, "fork");
                return -1;
        }
        if (!wire_expect(pod->maker, "the maker of the box's namespaces", WIRE_FORKED, &forked, error))
                return -1;
        g_variant_get(forked.body, "(i)", &pid);
        *ret_pidfd = wire_message_take_fd(&forked, 0);
        /* As long as the maps are not written the child waits, and can be looked into. */
        if (!pod->share_pid || tell_box(pod, *ret_pidfd, error))
                return pid;
        (void) pidfd_send_signal(*ret_pidfd, SIGKILL, NULL, 0);
        return -1;
}

static void reap_maker(PodJoin *pod) {
        fd_closep(&pod->maker);
        if (pod->maker_pid > 0)
                (void) proc_wait(pod->maker_pid, NULL);
        pod->maker_pid = 0;
}

bool pod_join_mapped(PodJoin *pod, GError **error) {
        g_auto(WireMessage) mapped = { 0 };

        bool ok = wire_expect(pod->maker, "the maker of the box's namespaces", WIRE_MAPPED, &mapped, error);
        reap_maker(pod);
        return ok;
}

bool pod_join_dispatch(PodJoin *pod, gint64 *ret_grace, GError **error) {
        g_auto(WireMessage) m = { 0 };
        guint32 grace_ms;

        int r = wire_receive(pod->wire, &m, error);
        if (r > 0 && m.type == WIRE_POD_END) {
                g_variant_get(m.body, "(u)", &grace_ms);
                *ret_grace = grace_ms * G_GINT64_CONSTANT(1000);
                return true;
        }
        if (r == 0)
                err_set(error, 0, "the pod has ended");
        else if (r > 0)
                err_set(error, EPROTO, "the pod's launcher said %s", wire_type_name(m.type));
        return err_step(error, "pod");
}

void pod_join_clear(PodJoin *pod) {
        reap_maker(pod);
        fd_closep(&pod->wire);
        fd_closep(&pod->userns);
        for (size_t i = 0; i < POD_N_NAMESPACES; i++)
                fd_closep(&pod->namespaces[i]);
        g_free(pod->hostname);
        g_free(pod->hosts);
        g_free(pod->resolv);
        g_free(pod->cgroup);
        g_clear_pointer(&pod->uidmap, g_array_unref);
        g_clear_pointer(&pod->gidmap, g_array_unref);
        *pod = POD_JOIN_NONE;
}
