/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The boxes of a pod, as connections of their launchers.
 *
 * Role: launcher, of a pod. Privileges: the caller's. Threads: one. Order: step 10, behind control.c. Of a member comes no request: POD_BOX once, where the
 * boxes share their processes, and its end. They are waited for by one epoll instance, so that the loop's list does not grow with them.
 */
#include <jansson.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "pod-kill.h"
#include "pod-members.h"
#include "state.h"

/* Of a box that left the pod: as long as others of the pod may wait. */
#define LEFT_MS 2000

/* Descriptors that are kept free for what else the launcher does, verbs at its control socket among it. */
#define SPARE_FDS 128

#define EVENTS 32

typedef struct {
        int fd;
        int userns, pidns, init; /* of that box, where it has no processes of its own: pidns is the pod's, and borrowed; -1 */
        char id[BOX_ID_LEN + 1];
} Member;

struct PodMembers {
        int epoll;
        GPtrArray *list; /* of Member * */
};

static void member_free(gpointer p) {
        Member *member = p;

        fd_closep(&member->fd);
        /* Its launcher has done so itself, unless it was killed. */
        if (member->userns >= 0)
                (void) pod_kill_box(member->userns, member->pidns, member->init, LEFT_MS);
        fd_closep(&member->userns);
        fd_closep(&member->init);
        g_free(member);
}

PodMembers *pod_members_new(GError **error) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        if (epoll < 0) {
                err_set(error, errno, "epoll");
                return NULL;
        }
        (void) fd_raise_limit(); /* the launcher's alone by now: the pod's init has what it was forked with */
        PodMembers *members = g_new(PodMembers, 1);
        *members = (PodMembers){ epoll, g_ptr_array_new_with_free_func(member_free) };
        return members;
}

void pod_members_free(PodMembers *members) {
        if (!members)
                return;
        fd_closep(&members->epoll);
        g_ptr_array_unref(members->list);
        g_free(members);
}

/* Taken off the list by hand: a fork of ours may have the connection open, too, and epoll(7) would go on to speak of it. */
static void leave(PodMembers *members, Member *member) {
        (void) epoll_ctl(members->epoll, EPOLL_CTL_DEL, member->fd, NULL);
        (void) g_ptr_array_remove_fast(members->list, member);
}

/* The lowest number is free that the kernel gives, so it says how many are in use. */
bool pod_members_have_room(PodMembers *members, int fd, GError **error) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t) fd + SPARE_FDS <= limit.rlim_cur)
                return true;
        err_set(error, EMFILE, "the pod has %u boxes", members->list->len);
        return err_hint(error, "each is an open file of the pod's launcher, of which this user may have %" G_GUINT64_FORMAT
                               " (ulimit -Hn, LimitNOFILE=): raise that and make the pod again",
                        (guint64) limit.rlim_cur);
}

bool pod_members_add(PodMembers *members, int fd_take, const char *box_id, GError **error) {
        Member *member = g_new(Member, 1);

        *member = (Member){ .fd = fd_take, .userns = -1, .pidns = -1, .init = -1 };
        g_strlcpy(member->id, box_id, sizeof member->id);
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = member };
        if (epoll_ctl(members->epoll, EPOLL_CTL_ADD, member->fd, &event) < 0) {
                err_set(error, errno, "epoll");
                member_free(member);
                return false;
        }
        g_ptr_array_add(members->list, member);
        return true;
}

guint pod_members_count(const PodMembers *members) {
        return members->list->len;
}

void pod_members_tell(PodMembers *members, WireType type, guint32 number) {
        for (guint i = members->list->len; i-- > 0;) {
                g_autoptr(GError) failure = NULL;
                Member *member = members->list->pdata[i];
                if (wire_send(member->fd, type, g_variant_new("(u)", number), NULL, 0, &failure))
                        continue;
                log_step("pod: %s: %s", member->id, failure->message);
                leave(members, member);
        }
}

json_t *pod_members_ids(const PodMembers *members) {
        json_t *ids = json_array();

        for (guint i = 0; i < members->list->len; i++)
                json_array_append_new(ids, json_string(((const Member *) members->list->pdata[i])->id));
        return ids;
}

int pod_members_fd(const PodMembers *members) {
        return members->epoll;
}

/* False: it has left, or said what no member says. */
static bool hear(Member *member, int pidns) {
        g_autoptr(GError) failure = NULL;
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(member->fd, &m, &failure);
        if (r < 0 && err_get_errno(failure) == EAGAIN)
                return true;
        if (r <= 0 || m.type != WIRE_POD_BOX || member->userns >= 0)
                return false;
        member->userns = wire_message_take_fd(&m, 0);
        member->init = wire_message_take_fd(&m, 1);
        member->pidns = pidns;
        return true;
}

void pod_members_dispatch(PodMembers *members, int pidns) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(members->epoll, events, EVENTS, 0);

        /* What is freed here is in no later event: each has one in the list. */
        for (int i = 0; i < n; i++)
                if (!hear(events[i].data.ptr, pidns))
                        leave(members, events[i].data.ptr);
}
