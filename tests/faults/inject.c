/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a command and lets one system call of it, or of any process that comes of it, fail once, or sends a signal there:
 *
 *     inject [--log FILE] [--places] [--limit SECONDS] [--grace MS] [--fault ROLE:CALL:N:WHAT]... [--then MS:SIGNAL:ROLE]... -- COMMAND...
 *
 * ROLE is a process: "usbox" is the first that executes that program, "usbox#2" the second, "usbox.1" the first that "usbox" forks; "usbox-fs~" are
 * all threads of usbox-fs but its first, which are counted as one. CALL is a name, N counts the calls of that name in that process. WHAT is an
 * errno's name: the call is not made and says that; or a signal's: the process gets it before the call. --then sends a signal some time after the
 * (last) fault.
 *
 * The log: "call ROLE CALL N" for each call of usbox's own programs, in order, with --places also from where in the program (call_place());
 * "fault ...", where one took place; "name ROLE COMM";
 * "state ROLE ..." of each of them when one has executed a program that is not usbox's, which waits until the others have come to rest;
 * "end STATUS MS"; "rest MS", when the last process was gone after that; "left ROLE COMM" of those that were not after --grace, "hang ROLE COMM"
 * of those that were at work at --limit: these are killed. Exit status: the command's, 128 and the signal.
 *
 * Role: tests. By ptrace(2), since usbox is linked statically, and since a seccomp notifier would ask for no_new_privs, with which newuidmap
 * is not set-uid. Neither is it under a tracer: so a process is let go before it executes such a program. Privileges: none. Threads: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS_MAX 512
#define HOLD_US (2 * G_USEC_PER_SEC)
#define OPTIONS                                                                                                                       \
        (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

typedef struct {
        pid_t pid;
        char *role;      /* NULL: seen before its parent has told of it */
        char *comm;      /* as it was last looked at */
        bool ours;       /* it executes a program of usbox's: its calls count */
        guint children;
        guint *counts; /* shared: role_counts */
        struct user_regs_struct saved; /* of a call that is not made */
        int failing;                   /* with this errno, at the end of the call */
        bool made;                     /* the call is made all the same */
        bool naming;                   /* it is in prctl(2), perhaps for a name */
        gint64 held;                   /* it has executed the payload, and waits since then */
} Tracee;

typedef struct {
        char *role;
        int nr;
        guint n;
        int errnum, signal; /* one of them is 0 */
        bool done;
} Fault;

typedef struct {
        gint64 after; /* µs */
        int signal;
        char *role;
        bool done;
} Then;

static FILE *log_file;
static gboolean with_places;
static GHashTable *tracees; /* pid → Tracee */
static GHashTable *early_gone; /* pids that ended before their parent had told of them */
static GHashTable *programs; /* name → how many have executed it */
static GHashTable *role_counts; /* role → how often it has made which call, which threads of one process do together: which of them does a thing is chance */
static GPtrArray *faults, *thens;
static gint64 begin, fault_time, end_time;
static int end_status;
static pid_t main_pid;

static void G_GNUC_PRINTF(1, 2) note(const char *format, ...) {
        va_list ap;

        if (!log_file)
                return;
        va_start(ap, format);
        vfprintf(log_file, format, ap);
        va_end(ap);
        fputc('\n', log_file);
}

static void tracee_free(void *p) {
        Tracee *t = p;

        g_free(t->role);
        g_free(t->comm);
        g_free(t);
}

static Tracee *tracee_get(pid_t pid) {
        Tracee *t = g_hash_table_lookup(tracees, GINT_TO_POINTER(pid));

        if (!t) {
                t = g_new0(Tracee, 1);
                t->pid = pid;
                g_hash_table_insert(tracees, GINT_TO_POINTER(pid), t);
        }
        return t;
}

static Tracee *tracee_by_role(const char *role) {
        GHashTableIter iter;
        void *value;

        g_hash_table_iter_init(&iter, tracees);
        while (g_hash_table_iter_next(&iter, NULL, &value))
                if (g_strcmp0(((Tracee *) value)->role, role) == 0)
                        return value;
        return NULL;
}

/* A file of the process's directory in /proc, which everyone may read. */
static char *proc_text(pid_t pid, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/%d/%s", pid, name);
        char *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : g_strdup("");
}

static const char *call_name(int nr) {
        static char *names[CALLS_MAX];

        if (nr < 0 || nr >= CALLS_MAX)
                return "?";
        if (!names[nr] && !(names[nr] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr)))
                names[nr] = g_strdup_printf("call-%d", nr);
        return names[nr];
}

/* What is worth comparing of a process: who it is, what it may, what holds it. */
static void note_states(void) {
        static const char *const keys[] = { "Uid:",    "Gid:",    "Groups:", "CapInh:",     "CapPrm:",  "CapEff:",
                                            "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:" };
        GHashTableIter iter;
        void *value;

        g_hash_table_iter_init(&iter, tracees);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const Tracee *t = value;
                if (!t->ours)
                        continue;
                g_autofree char *status = proc_text(t->pid, "status");
                g_auto(GStrv) lines = g_strsplit(status, "\n", -1);
                g_autoptr(GString) text = g_string_new(NULL);
                for (char **line = lines; *line; line++)
                        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
                                if (g_str_has_prefix(*line, keys[i]))
                                        g_string_append_printf(text, " %s", g_strdelimit(*line, "\t ", ','));
                note("state %s%s", t->role ? t->role : "?", text->str);
        }
}

static void set_role(Tracee *t, char *role_take) {
        g_free(t->role);
        t->role = role_take;
        t->counts = g_hash_table_lookup(role_counts, role_take);
        if (!t->counts) {
                t->counts = g_new0(guint, CALLS_MAX);
                g_hash_table_insert(role_counts, g_strdup(role_take), t->counts);
        }
}

static void name_by_program(Tracee *t) {
        g_autofree char *link = g_strdup_printf("/proc/%d/exe", t->pid), *comm = proc_text(t->pid, "comm");
        g_autofree char *path = g_file_read_link(link, NULL);
        /* What is not dumpable shows its short name alone. */
        g_autofree char *program = path ? g_path_get_basename(path) : g_strdup(comm);

        bool was_ours = t->ours;
        t->ours = g_str_has_prefix(program, "usbox") || g_str_has_prefix(program, "memfd:usbox");
        if (!t->ours) {
                note("exec %s %s", t->role ? t->role : "-", program);
                if (was_ours)
                        t->held = g_get_monotonic_time();
                return;
        }
        if (g_str_has_prefix(program, "memfd:")) /* the payload's last step keeps the payload's name, and its exec is still to come */
                return;
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(programs, program)) + 1;
        g_hash_table_insert(programs, g_strdup(program), GUINT_TO_POINTER(n));
        set_role(t, n == 1 ? g_strdup(program) : g_strdup_printf("%s#%u", program, n));
        note("exec %s %s", t->role, program);
}

static void born(Tracee *parent, pid_t pid) {
        if (g_hash_table_remove(early_gone, GINT_TO_POINTER(pid)))
                return;
        Tracee *t = tracee_get(pid);
        g_autofree char *status = proc_text(pid, "status");
        const char *tgid = strstr(status, "\nTgid:");

        if (t->role)
                return;
        bool thread = tgid && atoi(tgid + 6) != pid;
        const char *of = parent->role ? parent->role : "-";
        set_role(t, thread ? g_strdup_printf("%s~", of) : g_strdup_printf("%s.%u", of, ++parent->children));
        t->ours = parent->ours;
}

static void go_on(const Tracee *t, int sig) {
        ptrace(t->ours ? PTRACE_SYSCALL : PTRACE_CONT, t->pid, NULL, (void *) (intptr_t) sig);
}

/* Under a tracer a program with rights of its own would not get them. */
static bool executes_privileged(pid_t pid, const char *call, guint64 name, guint64 name_at) {
        char path[4096] = "";
        struct iovec local = { path, sizeof path - 1 };
        guint64 at = g_str_equal(call, "execve") ? name : name_at;
        size_t first = MIN(local.iov_len, 4096 - (at & 4095)); /* the page behind it need not be there: then as much as there is comes */
        struct iovec remote[] = { { (void *) (uintptr_t) at, first }, { (void *) (uintptr_t) (at + first), local.iov_len - first } };
        struct stat st;

        if (!g_str_has_prefix(call, "execve") || process_vm_readv(pid, &local, 1, remote, G_N_ELEMENTS(remote), 0) <= 0)
                return false;
        return stat(path, &st) == 0 && ((st.st_mode & (S_ISUID | S_ISGID)) || g_str_has_suffix(path, "idmap"));
}

static void give_fault(Tracee *t, Fault *f, int nr) {
        struct user_regs_struct regs;

        f->done = true;
        fault_time = g_get_monotonic_time();
        note("fault %s %s %u", f->role, call_name(f->nr), f->n);
        if (f->signal) {
                kill(t->pid, f->signal);
                return;
        }
        ptrace(PTRACE_GETREGS, t->pid, NULL, &t->saved);
        t->failing = f->errnum;
        /* close(2) has closed, whatever it says; and of a child that nobody has waited for kill(2) does not say ESRCH unless it ends at this moment. */
        t->made = nr == SYS_close || f->errnum == ESRCH;
        if (t->made)
                return;
        regs = t->saved;
        if (nr == SYS_brk) {
                regs.rdi = 0; /* it fails by saying what it says then */
        } else {
                /* Not by the number -1, which a filter may kill for: close(2) is allowed in each. */
                regs.orig_rax = SYS_close;
                regs.rdi = (unsigned long long) -1;
        }
        ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
}

/*
 * A number for the place of a call in its program: who calls it, who calls that, and so on, by frame pointers (-fno-omit-frame-pointer). What is not dumpable
 * shows its registers alone: there it is how deep the stack is, and what the call is given. Without address space randomization it is the same in each process.
 */
static guint64 call_place(pid_t pid) {
        const guint64 prime = 0x100000001B3; /* FNV-1a's, a word at a time */
        struct user_regs_struct regs;
        guint64 caller, frame[2];

        if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
                return 0;
        guint64 hash = (0xCBF29CE484222325 ^ regs.rip) * prime;
        struct iovec local = { &caller, sizeof caller }, remote = { (void *) (uintptr_t) regs.rsp, sizeof caller };
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != sizeof caller)
                return ((((hash ^ regs.rsp) * prime) ^ regs.rdi) * prime ^ regs.rsi) * prime;
        hash = (hash ^ caller) * prime;
        local = (struct iovec){ frame, sizeof frame };
        for (guint64 at = regs.rbp; at > regs.rsp; at = frame[0]) { /* a caller's frame is above, all of them are on the stack */
                remote = (struct iovec){ (void *) (uintptr_t) at, sizeof frame };
                if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != sizeof frame)
                        break;
                hash = (hash ^ frame[1]) * prime;
                if (frame[0] <= at)
                        break;
        }
        return hash;
}

/* false: it is let go. */
static bool call_begins(Tracee *t, const struct __ptrace_syscall_info *info) {
        int nr = (int) info->entry.nr;

        if (nr < 0 || nr >= CALLS_MAX)
                return true;
        guint n = ++t->counts[nr];
        if (with_places)
                note("call %s %s %u %016" G_GINT64_MODIFIER "x", t->role ? t->role : "?", call_name(nr), n, call_place(t->pid));
        else
                note("call %s %s %u", t->role ? t->role : "?", call_name(nr), n);
        for (guint i = 0; i < faults->len; i++) {
                Fault *f = g_ptr_array_index(faults, i);
                if (!f->done && f->nr == nr && f->n == n && g_strcmp0(f->role, t->role) == 0)
                        give_fault(t, f, nr);
        }
        if (t->failing || !executes_privileged(t->pid, call_name(nr), info->entry.args[0], info->entry.args[1]))
                return true;
        note("free %s", t->role);
        ptrace(PTRACE_DETACH, t->pid, NULL, NULL);
        g_hash_table_remove(tracees, GINT_TO_POINTER(t->pid));
        return false;
}

static void call_ends(Tracee *t) {
        g_autofree char *comm = t->naming ? proc_text(t->pid, "comm") : NULL;

        if (t->failing) {
                struct user_regs_struct regs;
                ptrace(PTRACE_GETREGS, t->pid, NULL, &regs);
                if (t->saved.orig_rax != SYS_brk)
                        regs.rax = (unsigned long long) -t->failing;
                if (!t->made)
                        regs.rdi = t->saved.rdi;
                ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
                t->failing = 0;
        }
        if (comm && g_strcmp0(comm, t->comm) != 0) {
                note("name %s %s", t->role ? t->role : "?", comm);
                g_free(t->comm);
                t->comm = g_steal_pointer(&comm);
        }
}

static void stopped(Tracee *t, int status) {
        struct __ptrace_syscall_info info;
        unsigned long message = 0;
        int sig = WSTOPSIG(status), event = status >> 16;

        if (sig == (SIGTRAP | 0x80)) {
                if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, (void *) sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                        if (t->ours && !call_begins(t, &info))
                                return;
                        t->naming = info.entry.nr == SYS_prctl;
                } else {
                        call_ends(t);
                        t->naming = false;
                }
                go_on(t, 0);
        } else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
                ptrace(PTRACE_GETEVENTMSG, t->pid, NULL, &message);
                born(t, (pid_t) message);
                go_on(t, 0);
        } else if (event == PTRACE_EVENT_EXEC) {
                name_by_program(t);
                if (!t->held)
                        go_on(t, 0);
        } else if (event == PTRACE_EVENT_STOP) {
                if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
                        ptrace(PTRACE_LISTEN, t->pid, NULL, NULL);
                else
                        go_on(t, 0);
        } else {
                go_on(t, sig);
        }
}

/* Running, waiting for the disk, or stopped at a call that we have not seen yet: it is about to do something. */
static bool is_busy(const Tracee *t) {
        g_autofree char *stat = proc_text(t->pid, "stat");
        const char *state = strrchr(stat, ')');

        return t->ours && state && strchr("RDt", state[2]) != NULL;
}

/* What comes and goes while a box starts has gone when all others wait for something: then they are looked at. */
static void let_go(gint64 now) {
        GHashTableIter iter;
        void *value;
        Tracee *held = NULL;
        bool busy = false;

        g_hash_table_iter_init(&iter, tracees);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                Tracee *t = value;
                if (t->held)
                        held = t;
                else
                        busy = busy || is_busy(t);
        }
        if (!held || (busy && now < held->held + HOLD_US))
                return;
        note_states();
        held->held = 0;
        go_on(held, 0);
}

/* Its first stop may come before its parent has told of it: then nothing of it is missed by waiting for that. */
static bool unknown(pid_t pid, int status) {
        const Tracee *t = g_hash_table_lookup(tracees, GINT_TO_POINTER(pid));

        return WIFSTOPPED(status) && (!t || !t->role) && pid != main_pid;
}

static int status_of(int status) {
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void ended(pid_t pid, int status) {
        if (!g_hash_table_remove(tracees, GINT_TO_POINTER(pid)))
                g_hash_table_add(early_gone, GINT_TO_POINTER(pid));
        if (pid != main_pid)
                return;
        end_time = g_get_monotonic_time();
        end_status = status_of(status);
        note("end %d %" G_GINT64_FORMAT, end_status, (end_time - begin) / 1000);
}

static void send_thens(gint64 now) {
        for (guint i = 0; fault_time && i < thens->len; i++) {
                Then *then = g_ptr_array_index(thens, i);
                const Tracee *t = tracee_by_role(then->role);
                if (then->done || now < fault_time + then->after)
                        continue;
                then->done = true;
                note("then %s %s", then->role, t ? sigabbrev_np(then->signal) : "gone");
                if (t)
                        kill(t->pid, then->signal);
        }
}

/* All that is there is named and killed. */
static void kill_rest(const char *why) {
        GHashTableIter iter;
        void *value;

        g_hash_table_iter_init(&iter, tracees);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const Tracee *t = value;
                g_autofree char *comm = proc_text(t->pid, "comm"), *call = proc_text(t->pid, "syscall"), *wchan = proc_text(t->pid, "wchan");
                note("%s %s %s %s %s", why, t->role ? t->role : "?", comm, call, wchan);
                kill(t->pid, SIGKILL);
        }
}

/* The stops of processes that have a name by now. */
static void take_early(GHashTable *early) {
        GHashTableIter iter;
        void *pid, *status;

        g_hash_table_iter_init(&iter, early);
        while (g_hash_table_iter_next(&iter, &pid, &status)) {
                if (unknown(GPOINTER_TO_INT(pid), GPOINTER_TO_INT(status)))
                        continue;
                g_hash_table_iter_remove(&iter);
                stopped(tracee_get(GPOINTER_TO_INT(pid)), GPOINTER_TO_INT(status));
        }
}

/* Whether something was waiting. */
static bool take_one(GHashTable *early) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);

        if (pid <= 0)
                return false;
        if (unknown(pid, status)) {
                g_hash_table_insert(early, GINT_TO_POINTER(pid), GINT_TO_POINTER(status));
        } else if (WIFSTOPPED(status)) {
                stopped(tracee_get(pid), status);
        } else {
                ended(pid, status);
                g_hash_table_remove(early, GINT_TO_POINTER(pid));
        }
        take_early(early);
        return true;
}

/* Until all are gone. */
static void follow(gint64 limit, gint64 grace) {
        g_autoptr(GHashTable) early = g_hash_table_new(NULL, NULL); /* pid → a stop of a process that has no name yet */
        gint64 killed = 0;
        sigset_t chld;

        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        while (g_hash_table_size(tracees) > 0) {
                bool busy = take_one(early);
                gint64 now = g_get_monotonic_time();
                send_thens(now);
                if (!killed && now > (end_time ? end_time + grace : begin + limit)) {
                        kill_rest(end_time ? "left" : "hang");
                        killed = now;
                }
                if (killed && now > killed + 5 * G_USEC_PER_SEC)
                        break;
                if (busy)
                        continue;
                let_go(now);
                if (g_hash_table_size(tracees) > 0)
                        (void) sigtimedwait(&chld, NULL, &(struct timespec){ .tv_nsec = 10 * 1000 * 1000 });
        }
        if (!killed)
                note("rest %" G_GINT64_FORMAT, (g_get_monotonic_time() - end_time) / 1000);
}

static int call_number(const char *name) {
        return g_str_has_prefix(name, "call-") ? atoi(name + 5) : seccomp_syscall_resolve_name(name);
}

static int errno_by_name(const char *name) {
        for (int e = 1; e < 140; e++)
                if (g_strcmp0(strerrorname_np(e), name) == 0)
                        return e;
        return 0;
}

static int signal_by_name(const char *name) {
        for (int sig = 1; g_str_has_prefix(name, "SIG") && sig < NSIG; sig++)
                if (g_strcmp0(sigabbrev_np(sig), name + 3) == 0)
                        return sig;
        return 0;
}

static gboolean take_fault(const char *option, const char *value, void *data, GError **error) {
        g_auto(GStrv) words = g_strsplit(value, ":", 4);
        Fault *f = g_new0(Fault, 1);

        if (g_strv_length(words) == 4) {
                f->role = g_strdup(words[0]);
                f->nr = call_number(words[1]);
                f->n = (guint) atoi(words[2]);
                f->errnum = errno_by_name(words[3]);
                f->signal = signal_by_name(words[3]);
        }
        g_ptr_array_add(faults, f);
        if (f->role && f->nr >= 0 && f->n > 0 && (f->errnum || f->signal))
                return TRUE;
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s %s: not ROLE:CALL:N:WHAT", option, value);
        return FALSE;
}

static gboolean take_then(const char *option, const char *value, void *data, GError **error) {
        g_auto(GStrv) words = g_strsplit(value, ":", 3);
        Then *then = g_new0(Then, 1);

        if (g_strv_length(words) == 3) {
                then->after = 1000 * (gint64) atoi(words[0]);
                then->signal = signal_by_name(words[1]);
                then->role = g_strdup(words[2]);
        }
        g_ptr_array_add(thens, then);
        if (then->signal)
                return TRUE;
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s %s: not MS:SIGNAL:ROLE", option, value);
        return FALSE;
}

/* The command, which waits until it is traced. */
static pid_t start(char **argv) {
        int gate[2];
        char byte = 0;

        if (pipe2(gate, O_CLOEXEC) < 0)
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                sigset_t none;
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                close(gate[1]);
                if (with_places)
                        personality(ADDR_NO_RANDOMIZE);
                if (read(gate[0], &byte, 1) == 1)
                        execvp(argv[0], argv);
                _exit(127);
        }
        close(gate[0]);
        if (pid > 0 && ptrace(PTRACE_SEIZE, pid, NULL, (void *) OPTIONS) == 0 && write(gate[1], &byte, 1) == 1) {
                close(gate[1]);
                return pid;
        }
        return -1;
}

int main(int argc, char **argv) {
        g_autofree char *log_path = NULL;
        int limit = 20, grace = 2000;
        g_auto(GStrv) command = NULL;
        g_autoptr(GError) error = NULL;
        const GOptionEntry entries[] = { { "log", 0, 0, G_OPTION_ARG_FILENAME, &log_path, NULL, NULL },
                                         { "limit", 0, 0, G_OPTION_ARG_INT, &limit, NULL, NULL },
                                         { "grace", 0, 0, G_OPTION_ARG_INT, &grace, NULL, NULL },
                                         { "places", 0, 0, G_OPTION_ARG_NONE, &with_places, NULL, NULL },
                                         { "fault", 0, 0, G_OPTION_ARG_CALLBACK, (void *) take_fault, NULL, NULL },
                                         { "then", 0, 0, G_OPTION_ARG_CALLBACK, (void *) take_then, NULL, NULL },
                                         { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &command, NULL, NULL },
                                         { 0 } };
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        sigset_t chld;

        faults = g_ptr_array_new();
        thens = g_ptr_array_new();
        early_gone = g_hash_table_new(NULL, NULL);
        tracees = g_hash_table_new_full(NULL, NULL, NULL, tracee_free);
        programs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        role_counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_option_context_add_main_entries(context, entries, NULL);
        g_option_context_set_strict_posix(context, TRUE);
        if (!g_option_context_parse(context, &argc, &argv, &error) || !command) {
                fprintf(stderr, "inject: %s\n", error ? error->message : "no command");
                return 2;
        }
        if (log_path && !(log_file = fopen(log_path, "we"))) {
                perror(log_path);
                return 2;
        }
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        sigprocmask(SIG_BLOCK, &chld, NULL);
        main_pid = start(command);
        if (main_pid < 0) {
                perror("inject: cannot trace");
                return 2;
        }
        set_role(tracee_get(main_pid), g_strdup("-"));
        begin = g_get_monotonic_time();
        follow((gint64) limit * G_USEC_PER_SEC, (gint64) grace * 1000);
        if (log_file)
                fclose(log_file);
        return end_status;
}
