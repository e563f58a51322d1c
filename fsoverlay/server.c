/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The FUSE protocol (linux/fuse.h, include/uapi): requests are read from /dev/fuse, carried out, answered.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: this starts them; each reads, works and answers by itself.
 *
 * Spoken directly and not through libfuse: its 3.14 knows neither FUSE_TMPFILE (O_TMPFILE) nor FUSE_HANDLE_KILLPRIV_V2 (without which
 * every first write of a file asks for its capabilities), and opens what its threads need when they start, which a confined
 * process cannot.
 *
 * What the kernel cannot be kept from: to ask for a new file's capabilities before its first write (cap_inode_need_killpriv(),
 * security/commoncap.c), for a directory's attributes after a name was made in it (fuse_dir_changed(), fs/fuse/dir.c), and for those
 * of a file after it was read, whose atime may be another, and after each close(2) of it, since the kernel counts no blocks of the pages that it
 * keeps (fuse_flush(), fs/fuse/file.c; without the writeback cache it does not ask, but then each small write(2) is a request).
 *
 * Requests come from the kernel, not from the box: their form can be trusted, names in them cannot. Sizes are checked all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "fsoverlay/memory.h"
#include "fsoverlay/ops.h"
#include "fsoverlay/server.h"
#include "fsoverlay/turns.h"

#define MAX_PAGES 256u /* of a request: 1 MiB, the kernel's own most (FUSE_MAX_MAX_PAGES) */
#define MAX_WRITE (MAX_PAGES * 4096u)
#define BUFFER_SIZE (MAX_WRITE + 8192u)
#define MUCH (64u * 1024) /* bytes */
#define WAITING_MAX 16u

typedef struct Worker Worker;

struct Server {
        Fs *fs;
        Turns *turns;
        Worker *first; /* until its thread runs */
        pthread_t *threads;
        unsigned n_threads;
        int end_fd;
};

typedef struct {
        int (*handle)(Request *);
        size_t min_in;
        const char *name;
} Operation;

static int op_init(Request *r);
static int op_nothing(Request *r);

static const Operation operations[] = {
        [FUSE_LOOKUP] = { op_lookup, 1, "LOOKUP" },
        [FUSE_FORGET] = { op_forget, sizeof(struct fuse_forget_in), "FORGET" },
        [FUSE_GETATTR] = { op_getattr, 0, "GETATTR" },
        [FUSE_SETATTR] = { op_setattr, sizeof(struct fuse_setattr_in), "SETATTR" },
        [FUSE_READLINK] = { op_readlink, 0, "READLINK" },
        [FUSE_SYMLINK] = { op_symlink, 2, "SYMLINK" },
        [FUSE_MKNOD] = { op_mknod, sizeof(struct fuse_mknod_in), "MKNOD" },
        [FUSE_MKDIR] = { op_mkdir, sizeof(struct fuse_mkdir_in), "MKDIR" },
        [FUSE_UNLINK] = { op_unlink, 1, "UNLINK" },
        [FUSE_RMDIR] = { op_rmdir, 1, "RMDIR" },
        [FUSE_RENAME] = { op_rename, sizeof(struct fuse_rename_in), "RENAME" },
        [FUSE_LINK] = { op_link, sizeof(struct fuse_link_in), "LINK" },
        [FUSE_OPEN] = { op_open, sizeof(struct fuse_open_in), "OPEN" },
        [FUSE_READ] = { op_read, sizeof(struct fuse_read_in), "READ" },
        [FUSE_WRITE] = { op_write, sizeof(struct fuse_write_in), "WRITE" },
        [FUSE_STATFS] = { op_statfs, 0, "STATFS" },
        [FUSE_RELEASE] = { op_nothing, 0, "RELEASE" },
        [FUSE_FSYNC] = { op_fsync, sizeof(struct fuse_fsync_in), "FSYNC" },
        [FUSE_SETXATTR] = { op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, "SETXATTR" },
        [FUSE_GETXATTR] = { op_getxattr, sizeof(struct fuse_getxattr_in), "GETXATTR" },
        [FUSE_LISTXATTR] = { op_listxattr, sizeof(struct fuse_getxattr_in), "LISTXATTR" },
        [FUSE_REMOVEXATTR] = { op_removexattr, 1, "REMOVEXATTR" },
        [FUSE_INIT] = { op_init, offsetof(struct fuse_init_in, flags2), "INIT" },
        [FUSE_OPENDIR] = { op_opendir, 0, "OPENDIR" },
        [FUSE_READDIR] = { op_readdir, sizeof(struct fuse_read_in), "READDIR" },
        [FUSE_RELEASEDIR] = { op_nothing, 0, "RELEASEDIR" },
        [FUSE_FSYNCDIR] = { op_fsyncdir, sizeof(struct fuse_fsync_in), "FSYNCDIR" },
        [FUSE_CREATE] = { op_create, sizeof(struct fuse_create_in), "CREATE" },
        [FUSE_DESTROY] = { op_nothing, 0, "DESTROY" },
        [FUSE_BATCH_FORGET] = { op_batch_forget, sizeof(struct fuse_batch_forget_in), "BATCH_FORGET" },
        [FUSE_FALLOCATE] = { op_fallocate, sizeof(struct fuse_fallocate_in), "FALLOCATE" },
        [FUSE_READDIRPLUS] = { op_readdirplus, sizeof(struct fuse_read_in), "READDIRPLUS" },
        [FUSE_RENAME2] = { op_rename2, sizeof(struct fuse_rename2_in), "RENAME2" },
        [FUSE_LSEEK] = { op_lseek, sizeof(struct fuse_lseek_in), "LSEEK" },
        [FUSE_COPY_FILE_RANGE] = { op_copy_file_range, sizeof(struct fuse_copy_file_range_in), "COPY_FILE_RANGE" },
        [FUSE_TMPFILE] = { op_tmpfile, sizeof(struct fuse_create_in), "TMPFILE" },
        /* Answered by ENOSYS, which the kernel remembers; in the table for their names. */
        [FUSE_FLUSH] = { NULL, 0, "FLUSH" },
        [FUSE_ACCESS] = { NULL, 0, "ACCESS" },
        [FUSE_INTERRUPT] = { NULL, 0, "INTERRUPT" },
        [FUSE_IOCTL] = { NULL, 0, "IOCTL" },
        [FUSE_POLL] = { NULL, 0, "POLL" },
        [FUSE_BMAP] = { NULL, 0, "BMAP" },
        [FUSE_SYNCFS] = { NULL, 0, "SYNCFS" },
};

const char *request_string(const Request *r, size_t offset) {
        if (offset >= r->in_len)
                return NULL;
        const char *s = (const char *) r->in + offset;
        return memchr(s, '\0', r->in_len - offset) ? s : NULL;
}

const char *request_name(const Request *r, size_t offset) {
        const char *s = request_string(r, offset);

        if (!s || !*s || strlen(s) > NAME_LEN_MAX || strchr(s, '/') || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
                return NULL;
        return s;
}

int reply_xattr_size(Request *r, uint32_t size) {
        struct fuse_getxattr_out *out = r->out;
        *out = (struct fuse_getxattr_out){ .size = size };
        r->out_len = sizeof *out;
        return 0;
}

static int op_nothing(Request *r) {
        (void) r;
        return 0;
}

static int op_init(Request *r) {
        const struct fuse_init_in *in = r->in;
        struct fuse_init_out *out = r->out;
        Fs *fs = r->fs;
        uint32_t want = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS |
                        FUSE_CACHE_SYMLINKS | FUSE_DONT_MASK | FUSE_HANDLE_KILLPRIV_V2 | FUSE_ASYNC_DIO | FUSE_NO_OPENDIR_SUPPORT;

        *out = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
        r->out_len = sizeof *out;
        if (in->major < 7)
                return -EPROTO;
        if (in->major > 7) /* it asks again with ours */
                return 0;
        fs->no_open = !fs->journal && in->flags & FUSE_NO_OPEN_SUPPORT;
        if (fs->no_open)
                want |= FUSE_NO_OPEN_SUPPORT;
        if (fs->writeback)
                want |= FUSE_WRITEBACK_CACHE;
        if (fs->acl)
                want |= FUSE_POSIX_ACL;
        want |= fs->strict ? FUSE_AUTO_INVAL_DATA : FUSE_EXPLICIT_INVAL_DATA;
        out->flags = in->flags & want;
        out->max_readahead = in->max_readahead;
        out->max_background = 64;
        out->congestion_threshold = 48;
        out->max_write = MAX_WRITE;
        out->max_pages = MAX_PAGES;
        out->time_gran = 1;
        fs->acl = fs->acl && (out->flags & FUSE_POSIX_ACL);
        log_step("kernel speaks FUSE %u.%u, flags %#x of %#x", in->major, in->minor, out->flags, in->flags);
        return 0;
}

void fs_give_up(int errnum, const char *what) {
        log_note("%s: %s", what, err_text(errnum));
        _exit(EXIT_FAILURE);
}

void server_send(const Fs *fs, struct iovec *iov, int n) {
        struct fuse_out_header *head = iov[0].iov_base;

        /* ENOENT: nobody waits for it any more (interrupted). */
        if (writev(fs->dev, iov, n) >= 0 || errno == ENOENT || errno == ENODEV)
                return;
        log_step("answer: %s", err_text(errno));
        head->error = -EIO;
        head->len = sizeof *head;
        if (writev(fs->dev, iov, 1) < 0 && errno != ENOENT && errno != ENODEV)
                fs_give_up(errno, "answer a request");
}

void server_take_umask(void) {
        if (unshare(CLONE_FS) < 0)
                fs_give_up(errno, "unshare(CLONE_FS)");
}

static void reply(Request *r, int result) {
        struct fuse_out_header head = { .unique = r->head->unique };
        struct iovec iov[2] = { { &head, sizeof head }, { r->out, r->out_len } };
        int n = 1;

        if (result < 0 && result != -ENOENT && result != -ENOSYS && result != -ENODATA)
                log_step("%s of node %" PRIx64 ": %s", operations[r->head->opcode].name, r->head->nodeid, err_text(-result));
        if (result < 0)
                head.error = result;
        else if (r->out_len > 0)
                n = 2;
        head.len = (uint32_t) (sizeof head + (n == 2 ? r->out_len : 0));
        server_send(r->fs, iov, n);
}

/* These need no memory, or free some. */
static bool gives_back(uint32_t opcode) {
        return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_FSYNC;
}

void server_handle(Request *r) {
        uint32_t opcode = r->head->opcode;
        const Operation *op = opcode < G_N_ELEMENTS(operations) ? &operations[opcode] : NULL;
        int result = -ENOSYS;

        if (opcode < G_N_ELEMENTS(operations))
                atomic_fetch_add_explicit(&r->fs->counts[opcode], 1, memory_order_relaxed);
        if (opcode == FUSE_INTERRUPT)
                return;
        if (op && op->handle) {
                r->node = r->head->nodeid ? node_of_id(r->fs, r->head->nodeid) : NULL;
                result = r->in_len < op->min_in ? -EINVAL : memory_short() && !gives_back(opcode) ? -ENOMEM : op->handle(r);
        }
        if (!r->no_reply)
                reply(r, result);
}

static void *map_buffer(void) {
        void *p = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return p == MAP_FAILED ? NULL : p;
}

/* What a thread uses; its own to free. */
struct Worker {
        Server *server;
        void *in, *out;
};

static void worker_free(Worker *w) {
        if (!w)
                return;
        if (w->in)
                munmap(w->in, BUFFER_SIZE);
        if (w->out)
                munmap(w->out, BUFFER_SIZE);
        g_free(w);
}

static Worker *worker_new(Server *server) {
        Worker *w = g_new(Worker, 1);

        *w = (Worker){ .server = server, .in = map_buffer(), .out = map_buffer() };
        if (w->in && w->out)
                return w;
        worker_free(w);
        return NULL;
}

/* head NULL: there is none, whatever errno says. */
static Request next_request(const Worker *w) {
        ssize_t n = read(w->server->fs->dev, w->in, BUFFER_SIZE);

        if (n < (ssize_t) sizeof(struct fuse_in_header)) {
                errno = n < 0 ? errno : EAGAIN;
                return (Request){ 0 };
        }
        return (Request){ .fs = w->server->fs,
                          .head = w->in,
                          .in = (char *) w->in + sizeof(struct fuse_in_header),
                          .in_len = (size_t) n - sizeof(struct fuse_in_header),
                          .out = w->out,
                          .out_size = BUFFER_SIZE };
}

/* Requests that wait for a disk, or move much. Of the rest few do: something is copied up, or was not in the cache. */
static bool may_take_long(const struct fuse_in_header *head) {
        switch (head->opcode) {
        case FUSE_WRITE:
                return head->len >= MUCH;
        case FUSE_FSYNC:
        case FUSE_FSYNCDIR:
        case FUSE_FALLOCATE:
        case FUSE_COPY_FILE_RANGE:
                return true;
        default:
                return false;
        }
}

static void *worker_main(void *arg) {
        Worker *w = arg;
        Server *server = w->server;
        Turns *turns = server->turns;

        /* The umask is a thread's own then: that of the request's maker is set before something is made. */
        server_take_umask();
        turns_enter(turns);
        for (;;) {
                turns_await(turns);
                Request r = next_request(w);
                if (!r.head) {
                        if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
                                continue;
                        if (errno != ENODEV)
                                log_note("read from /dev/fuse: %s", err_text(errno));
                        break;
                }
                uint64_t begun = turns_begin(turns, r.head->pid, may_take_long(r.head));
                server_handle(&r);
                turns_end(turns, begun);
        }
        turns_close(turns);
        uint64_t one = 1;
        (void) !write(server->end_fd, &one, sizeof one);
        worker_free(w);
        return NULL;
}

static bool start_thread(Server *s, GError **error) {
        Worker *w = s->first ? g_steal_pointer(&s->first) : worker_new(s);
        pthread_attr_t attr;

        if (!w)
                return err_set(error, ENOMEM, "start a thread");
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 512 * 1024);
        int r = pthread_create(&s->threads[s->n_threads], &attr, worker_main, w);
        pthread_attr_destroy(&attr);
        if (r != 0) {
                worker_free(w);
                return err_set(error, r, "start a thread") || proc_hint_full(error);
        }
        s->n_threads++;
        return true;
}

static void server_free(Server *s) {
        fd_closep(&s->end_fd);
        worker_free(s->first);
        g_free(s->threads);
        g_free(s);
}

Server *server_new(Fs *fs, GError **error) {
        Server *s = g_new0(Server, 1);

        s->fs = fs;
        s->end_fd = eventfd(0, EFD_CLOEXEC);
        if (s->end_fd < 0) {
                err_set(error, errno, "eventfd");
                server_free(s);
                return NULL;
        }
        fs->counts = calloc(G_N_ELEMENTS(operations), sizeof *fs->counts);
        s->turns = turns_new(fs->dev, fs->polling);
        s->first = worker_new(s);
        if (!fs->counts || !s->turns || !s->first) {
                err_set(error, ENOMEM, "start");
                server_free(s);
                return NULL;
        }
        /* INIT, which is there since it was mounted; nothing else comes before that is answered. */
        Request r;
        do
                r = next_request(s->first);
        while (!r.head && errno == EINTR);
        if (!r.head || r.head->opcode != FUSE_INIT) {
                err_set(error, r.head ? EPROTO : errno, "read from /dev/fuse");
                server_free(s);
                return NULL;
        }
        server_handle(&r);
        return s;
}

/* What was asked meanwhile, as far as that has an end: a new thread takes its time to begin. */
static void answer_waiting(const Server *s) {
        struct pollfd device = { .fd = s->fs->dev, .events = POLLIN };

        for (unsigned n = 0; n < WAITING_MAX && poll(&device, 1, 0) == 1 && device.revents == POLLIN; n++) {
                Request r = next_request(s->first);
                if (r.head)
                        server_handle(&r);
        }
}

bool server_start(Server *s, unsigned threads, GError **error) {
        answer_waiting(s);
        s->threads = g_new0(pthread_t, threads);
        for (unsigned i = 0; i < threads; i++)
                if (!start_thread(s, error)) {
                        if (s->n_threads == 0)
                                return false;
                        g_clear_error(error); /* fewer will do */
                        break;
                }
        return true;
}

int server_end_fd(const Server *server) {
        return server->end_fd;
}

void server_join(Server *s) {
        for (unsigned i = 0; i < s->n_threads; i++)
                pthread_join(s->threads[i], NULL);
        server_free(s);
}

char *server_stats(Fs *fs) {
        GString *text = g_string_new("{");

        for (size_t i = 0; i < G_N_ELEMENTS(operations); i++)
                if (operations[i].name && fs->counts[i] > 0)
                        g_string_append_printf(text, "\"%s\": %" PRIu64 ", ", operations[i].name, (uint64_t) fs->counts[i]);
        pthread_mutex_lock(&fs->clock_lock);
        unsigned fds = fs->n_fds;
        pthread_mutex_unlock(&fs->clock_lock);
        g_string_append_printf(text, "\"nodes\": %" PRIu64 ", \"fds\": %u}\n", nodes_count(fs), fds);
        return g_string_free(text, FALSE);
}
