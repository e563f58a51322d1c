/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: state.json of a box that has ended, as the verbs read and print it. The first byte says whether "kept" lies beside it.
 *
 * Role: tests only. Privileges: the caller's, in a directory of its own. Threads: one. Whatever stands there: the box is listed once, can be found by its id,
 * and nothing that could steer a terminal is printed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "box-remove.h"
#include "cmd-verbs.h"
#include "fuzz.h"
#include "registry.h"

#define ID "0123456789ab"
#define BOX "data/usbox/boxes/" ID

static char *top, *box;
static int shown;

static void remove_top(void) {
        FdLater later = { .n = FD_LATER_MAX };
        (void) box_remove_part(&later, AT_FDCWD, top, NULL);
}

static void begin(void) {
        static const char *const dirs[] = { "run", "data", "data/usbox", "data/usbox/boxes", BOX };

        top = g_dir_make_tmp("usbox-fuzz-XXXXXX", NULL);
        g_assert_cmpint(atexit(remove_top), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
                g_autofree char *path = g_build_filename(top, dirs[i], NULL);
                g_assert_cmpint(mkdir(path, 0700), ==, 0);
        }
        box = g_build_filename(top, BOX, NULL);
        g_autofree char *run = g_build_filename(top, "run", NULL), *data = g_build_filename(top, "data", NULL);
        g_assert_true(g_setenv("XDG_RUNTIME_DIR", run, true) && g_setenv("XDG_DATA_HOME", data, true));
        shown = memfd_create("shown", MFD_CLOEXEC);
        g_assert_cmpint(shown, >=, 0);
        /* What the verbs print. libFuzzer has stderr. */
        g_assert_cmpint(dup2(shown, STDOUT_FILENO), ==, STDOUT_FILENO);
}

static void write_file(const char *name, const uint8_t *data, size_t size) {
        g_autofree char *path = g_build_filename(box, name, NULL);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        g_assert_true(fd >= 0 && fd_write_all(fd, data, size));
}

static void show(int (*verb)(int, char **, GError **), char *a, char *b) {
        char *argv[] = { a, b, NULL };
        g_autoptr(GError) error = NULL;
        char text[65536];

        g_assert_cmpint(ftruncate(shown, 0), ==, 0);
        g_assert_cmpint(lseek(shown, 0, SEEK_SET), ==, 0);
        int r = verb(b ? 2 : 1, argv, &error);
        fflush(stdout);
        g_assert_true(r >= 0 || error);
        ssize_t n = pread(shown, text, sizeof text, 0);
        g_assert_true(g_utf8_validate(text, n, NULL));
        for (ssize_t i = 0; i < n; i++)
                g_assert_true((unsigned char) text[i] >= 0x20 || text[i] == '\n'); /* DEL, which JSON may have as it is, steers nothing */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char all[] = "-a", json[] = "--json", id[] = ID;
        g_autofree char *kept = NULL;
        g_autoptr(GError) error = NULL;

        if (size == 0)
                return 0;
        if (!top)
                begin();
        kept = g_build_filename(box, "kept", NULL);
        if (*data & 1)
                write_file("kept", NULL, 0);
        else
                (void) !unlink(kept);
        write_file("state.json", data + 1, size - 1);

        g_autoptr(Spec) spec = spec_new(&error);
        g_autoptr(GPtrArray) boxes = registry_list(&spec->caller, &error);
        g_autoptr(GPtrArray) pods = registry_list_pods(&spec->caller, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(boxes->len + pods->len, ==, 1);
        g_autoptr(BoxInfo) found = registry_find_any(&spec->caller, ID, &error);
        g_assert_no_error(error);
        g_assert_true(json_is_object(found->facts) && (!found->name || registry_name_ok(found->name)));
        show(cmd_ps, all, NULL);
        show(cmd_ps, all, json);
        show(cmd_inspect, id, NULL);
        show(cmd_port, id, NULL);
        return 0;
}
