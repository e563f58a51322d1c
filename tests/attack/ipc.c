/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at System V and POSIX IPC, and at keyrings of the caller's.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one. System calls for keys are raw: there is
 * no wrapper in libc.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe.h"

static long secret_in_shm(int id) {
        const char *at = id < 0 ? (void *) -1 : shmat(id, NULL, SHM_RDONLY);
        return at == (void *) -1 ? -1 : reached_secret(at, 64);
}
static long probe_shm_key(void) {
        return secret_in_shm(shmget((key_t) target_number("ipc_key"), 0, 0));
}
static long probe_shm_id(void) {
        return secret_in_shm((int) target_number("shm_id"));
}
static long probe_shm_listed(void) {
        char line[512];
        FILE *file = fopen("/proc/sysvipc/shm", "re");
        long ret = -1;
        if (!file)
                return -1;
        while (ret < 0 && fgets(line, sizeof line, file)) {
                int key = 0;
                if (sscanf(line, "%d", &key) == 1 && key == (int) target_number("ipc_key"))
                        ret = reached("key %d", key);
        }
        fclose(file);
        errno = ENOENT;
        return ret;
}
static long probe_sem_set(void) {
        int id = semget((key_t) target_number("ipc_key"), 0, 0);
        return id < 0 ? -1 : semctl(id, 0, SETVAL, 4711);
}
static long probe_msg_receive(void) {
        struct {
                long type;
                char text[64];
        } message = { 0 };
        int id = msgget((key_t) target_number("ipc_key"), 0);
        ssize_t n = id < 0 ? -1 : msgrcv(id, &message, sizeof message.text, 0, IPC_NOWAIT);
        return n < 0 ? -1 : reached_secret(message.text, (size_t) n);
}
static long probe_mqueue(void) {
        char data[8192];
        mqd_t queue = target("mqueue") ? mq_open(target("mqueue"), O_RDONLY | O_NONBLOCK) : -1;
        ssize_t n = queue < 0 ? -1 : mq_receive(queue, data, sizeof data, NULL);
        return n < 0 ? -1 : reached_secret(data, (size_t) n);
}

static long key_of(long key) {
        char text[64];
        long n = key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof text);
        return n < 0 ? -1 : reached_secret(text, (size_t) n < sizeof text ? (size_t) n : sizeof text);
}
static long search_key(int ring) {
        return target("key") ? key_of(syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", target("key"), 0)) : -1;
}
static long probe_keys_session(void) {
        return search_key(KEY_SPEC_SESSION_KEYRING);
}
static long probe_keys_user(void) {
        return search_key(KEY_SPEC_USER_KEYRING);
}
static long probe_keys_number(void) {
        return key_of((long) target_number("key_id"));
}
static long probe_keys_request(void) {
        return target("key") ? key_of(syscall(SYS_request_key, "user", target("key"), NULL, 0)) : -1;
}
static long probe_keys_listed(void) {
        char line[512];
        FILE *file = fopen("/proc/keys", "re");
        long ret = -1;
        if (!file)
                return -1;
        while (ret < 0 && target("key") && fgets(line, sizeof line, file))
                if (strstr(line, target("key")))
                        ret = reached("%s", target("key"));
        fclose(file);
        errno = ENOENT;
        return ret;
}
static long probe_keys_add(void) {
        return syscall(SYS_add_key, "user", "usbox-attack", "x", 1, KEY_SPEC_PROCESS_KEYRING) < 0 ? -1 : reached("a key");
}

const Probe ipc_probes[] = {
        PROBE(shm_key),      PROBE(shm_id),    PROBE(shm_listed),  PROBE(sem_set),      PROBE(msg_receive), PROBE(mqueue),
        PROBE(keys_session), PROBE(keys_user), PROBE(keys_number), PROBE(keys_request), PROBE(keys_listed), PROBE(keys_add),
        { NULL, NULL },
};
