/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints what a program in the box is held by and can see, for a comparison line by line, and makes the file "made".
 *
 * Role: tests, runs as the payload. Privileges: what the box gives. Threads: one. One program without children, so that a run under the injector
 * is short.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* Lines of interest; of the others some are different each time. */
static const char *const of_status[] = { "Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp", "SigIgn:", "Threads:", "THP_enabled:", "Umask:", NULL };
static const char *const all[] = { "", NULL };

static void print_file(const char *path, const char *const *wanted) {
        char line[4096];
        FILE *file = fopen(path, "re");

        if (!file)
                printf("%s: %s\n", path, strerrorname_np(errno));
        while (file && fgets(line, sizeof line, file))
                for (const char *const *w = wanted; *w; w++)
                        if (strncmp(line, *w, strlen(*w)) == 0)
                                printf("%s: %.*s\n", path, (int) strcspn(line, "\n"), line);
        if (file)
                fclose(file);
}

static void print_directory(const char *path) {
        struct dirent **entries;
        int n = scandir(path, &entries, NULL, alphasort);

        if (n < 0)
                printf("%s: %s\n", path, strerrorname_np(errno));
        for (int i = 0; i < n; i++) {
                char name[4096], target[4096] = "";
                snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
                (void) !readlink(name, target, sizeof target - 1);
                printf("%s %s\n", name, target);
        }
}

int main(void) {
        static const char *const files[] = { "/proc/self/limits",        "/proc/self/cgroup",           "/proc/self/uid_map",
                                             "/proc/self/gid_map",       "/proc/self/oom_score_adj",    "/proc/self/timens_offsets",
                                             "/proc/self/mountinfo",     "/proc/net/route",             "/proc/sys/user/max_user_namespaces",
                                             "/proc/sys/user/max_inotify_instances",                    "/proc/sys/user/max_inotify_watches",
                                             "/proc/sys/kernel/hostname", "/etc/hostname",              "/etc/hosts",
                                             "/etc/resolv.conf",         "/proc/sys/net/ipv4/ping_group_range" };
        static const char *const directories[] = { "/proc/self/fd", "/proc/self/ns", "/", "/dev", "/home", "/tmp", "/run", "/sys/class/net" };
        char line[16] = "no file";

        print_file("/proc/self/status", of_status);
        print_file("/proc/1/status", of_status);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
                print_file(files[i], all);
        for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
                print_directory(directories[i]);
        for (char **e = environ; *e; e++)
                puts(*e);
        if (fflush(stdout) != 0)
                return 1;
        int fd = open("made", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd >= 0 && write(fd, "made\n", 5) == 5 && pread(fd, line, sizeof line - 1, 0) == 5 && close(fd) == 0)
                printf("made: %s", line);
        else if (errno != EROFS)
                return 3; /* the tests know this one */
        return 0;
}
