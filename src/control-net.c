/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket's requests about a running box's network: new rules, the list of flows.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 10. usbox-net has the answer, so whoever asks gets it when that has come.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "control-net.h"
#include "netstack/values.h"
#include "supervise.h"

#define FLOWS_TEXT_MAX (16 * 1024 * 1024)

/* A question that usbox-net has been asked for a client. */
typedef struct {
        ControlLater *later;
        int memfd; /* for the flows; -1: a rule */
} Question;

static Question *question_new(ControlClient *client, int memfd_take) {
        Question *question = g_new0(Question, 1);

        *question = (Question){ .later = control_later(client), .memfd = memfd_take };
        return question;
}

static void answer_flows(ControlClient *client, int memfd) {
        g_autoptr(GError) failure = NULL;
        g_autofree char *text = NULL;

        if (lseek(memfd, 0, SEEK_SET) == 0 && fd_read_all(memfd, FLOWS_TEXT_MAX, &text, NULL)) {
                control_answer_text(client, text);
                return;
        }
        err_set(&failure, errno, "read the list of flows");
        control_answer_error(client, failure);
}

/* NetHelperDone */
static void on_done(const char *error, const char *hint, void *data) {
        Question *question = data;
        ControlClient *client = control_later_take(question->later);
        g_autoptr(GError) failure = NULL;

        if (client && error) {
                err_set(&failure, 0, "%s", error);
                if (hint)
                        err_hint(&failure, "%s", hint);
                control_answer_error(client, failure);
        } else if (client && question->memfd >= 0) {
                answer_flows(client, question->memfd);
        } else if (client) {
                control_answer(client, WIRE_CTL_OK, NULL);
        }
        fd_closep(&question->memfd);
        g_free(question);
}

static bool has_network(const Sandbox *s, GError **error) {
        if (s->net.ports && !s->exited)
                return true;
        err_set(error, 0, "the box has no network of its own, or not yet, or not any more");
        return err_hint(error, "one that was started with --network user has one while it runs");
}

bool control_net_rule(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        const char *text;
        gboolean allow;

        if (!has_network(s, error))
                return false;
        g_variant_get(m->body, "(b&s)", &allow, &text);
        g_autoptr(GVariant) hosts = net_helper_rule_hosts(&s->net, allow, text, error);
        if (!hosts)
                return false;
        net_helper_rule(&s->net, allow, text, hosts, on_done, question_new(client, -1));
        return true;
}

bool control_net_publish(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        const char *text;
        gboolean open;

        if (!has_network(s, error))
                return false;
        g_variant_get(m->body, "(b&s)", &open, &text);
        g_autoptr(GPtrArray) ports = net_value_publish(text, error);
        if (!ports)
                return false;
        if (ports->len > 1) /* each port of a range is asked for by itself, since each may fail by itself */
                return err_set(error, EINVAL, "publish %s at once", text);
        const NetPublish *port = ports->pdata[0];
        if (open && s->net.ports->len >= NET_PORTS_MAX)
                return err_set(error, 0, "publish %s: the box has %u published ports already", text, s->net.ports->len);
        if (strchr(port->host_addr, ':') && !s->spec->net.ipv6)
                return err_set(error, EAFNOSUPPORT, "publish %s", text);
        net_helper_publish(&s->net, open, port, on_done, question_new(client, -1));
        return true;
}

bool control_net_flows(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        if (!has_network(s, error))
                return false;
        int memfd = memfd_create("usbox-flows", MFD_CLOEXEC);
        if (memfd < 0)
                return err_set(error, errno, "memfd");
        net_helper_flows(&s->net, memfd, on_done, question_new(client, memfd));
        return true;
}
