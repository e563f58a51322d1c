/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which boxes there are.
 *
 * Role: verbs; the launcher for set_last. Privileges: the caller's. Threads: one. Takes no lock but for the moment of looking, and
 * believes what it reads only as far as it parses: a box's state may be cut short by a full disk.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "jsontext.h"
#include "registry.h"
#include "runtime.h"

#define FACTS_MAX (16 * 1024 * 1024) /* a command may have 2 MiB, each byte of which may be an escape of six */

typedef struct {
        int runtime_fd, boxes_fd; /* -1: there is none yet */
        char *boxes;
        GPtrArray *found;
        int shortage; /* errno of a look that failed for want of descriptors or memory, or 0 */
} Look;

void box_info_free(BoxInfo *box) {
        g_free(box->name);
        g_free(box->dir);
        json_decref(box->facts);
        g_free(box);
}

const char *box_state_name(BoxState state) {
        static const char *const names[] = { [BOX_RUNNING] = "running", [BOX_EXITED] = "exited", [BOX_DEAD] = "dead" };
        return names[state];
}

bool registry_name_ok(const char *name) {
        size_t len = strlen(name);

        if (len == 0 || len > BOX_NAME_MAX || !g_ascii_isalnum(*name) || state_is_id(name) || g_str_equal(name, "last"))
                return false;
        return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

/* What is not there, or not to be read, is as good as not there. But who is out of descriptors or memory cannot say that there is no box. */
static void note_shortage(Look *look) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
                look->shortage = errno;
}

static json_t *read_facts(Look *look, int dirfd, const char *id) {
        char path[64];
        g_autofree char *text = NULL;

        g_snprintf(path, sizeof path, "%s/state.json", id);
        if (!fd_read_file(dirfd, path, FACTS_MAX, &text, NULL)) {
                note_shortage(look);
                return NULL;
        }
        json_t *facts = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        if (facts && !json_is_object(facts))
                g_clear_pointer(&facts, json_decref);
        return facts;
}

static bool exists(int dirfd, const char *id, const char *file) {
        char path[64];
        g_snprintf(path, sizeof path, "%s/%s", id, file);
        return faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* One that is running, or was when its launcher was killed. */
static void add_runtime(Look *look, const char *id) {
        bool running = runtime_is_locked(look->runtime_fd, id);

        /* It ended while we looked: what is left of it is in its directory. */
        if (!running && !exists(look->runtime_fd, id, "lock"))
                return;
        /* Or it is at that: its record goes first, and is there from the beginning. */
        json_t *facts = read_facts(look, look->runtime_fd, id);
        if (!facts && !exists(look->runtime_fd, id, "state.json"))
                return;
        BoxInfo *box = g_new0(BoxInfo, 1);
        g_strlcpy(box->id, id, sizeof box->id);
        box->state = running ? BOX_RUNNING : BOX_DEAD;
        box->facts = facts;
        if (look->boxes_fd >= 0 && exists(look->boxes_fd, id, ""))
                box->dir = g_build_filename(look->boxes, id, NULL);
        g_ptr_array_add(look->found, box);
}

/*
 * One that has only its directory: it has ended, or is about to begin or end, which nobody is to look at yet. Its lock is held while it is
 * looked at: what is read then is whole, of a box that is not removed or begun again meanwhile.
 */
static void add_kept(Look *look, const char *id) {
        _cleanup_close_ int fd = openat(look->boxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                note_shortage(look);
        if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
                return;
        json_t *facts = read_facts(look, look->boxes_fd, id);
        if (!facts && !exists(look->boxes_fd, id, "state.json") && box_dir_is_new(fd))
                return;
        bool ended = exists(look->boxes_fd, id, "kept") || json_object_get(facts, "ended");
        BoxInfo *box = g_new0(BoxInfo, 1);
        g_strlcpy(box->id, id, sizeof box->id);
        box->state = ended ? BOX_EXITED : BOX_DEAD;
        box->facts = facts;
        box->dir = g_build_filename(look->boxes, id, NULL);
        g_ptr_array_add(look->found, box);
}

static bool known(const Look *look, const char *id) {
        for (guint i = 0; i < look->found->len; i++)
                if (g_str_equal(((BoxInfo *) g_ptr_array_index(look->found, i))->id, id))
                        return true;
        return false;
}

static void scan(Look *look, int dirfd, void (*add)(Look *look, const char *id)) {
        DIR *d = dirfd >= 0 ? fd_open_dir(dirfd, ".") : NULL;

        if (!d && dirfd >= 0)
                note_shortage(look);
        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));)
                if (state_is_id(e->d_name) && !known(look, e->d_name))
                        add(look, e->d_name);
        closedir(d);
}

static const char *created(const BoxInfo *box) {
        const char *text = json_string_value(json_object_get(box->facts, "created"));
        return text ? text : "";
}

static gint newest_first(gconstpointer a, gconstpointer b) {
        return strcmp(created(*(BoxInfo *const *) b), created(*(BoxInfo *const *) a));
}

/* Directories that are not there are no error: then there are no boxes. */
static bool look_open(Look *look, const Caller *caller, GError **error) {
        g_autoptr(GError) failure = NULL;

        look->runtime_fd = runtime_open(false, &failure);
        if (look->runtime_fd < 0 && err_get_errno(failure) != ENOENT) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return err_step(error, "state");
        }
        g_clear_error(&failure);
        look->boxes_fd = state_open_boxes(caller, false, &look->boxes, &failure);
        if (look->boxes_fd < 0 && err_get_errno(failure) != ENOENT) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return err_step(error, "state");
        }
        return true;
}

static bool is_pod(const json_t *facts) {
        return g_strcmp0(json_string_value(json_object_get(facts, "kind")), "pod") == 0;
}

bool box_info_is_pod(const BoxInfo *box) {
        return is_pod(box->facts);
}

const char *box_info_kind(const BoxInfo *box) {
        return box_info_is_pod(box) ? "pod" : "box";
}

const char *box_info_called(const BoxInfo *box) {
        return box->name ? box->name : box->id;
}

static GPtrArray *list_all(const Caller *caller, GError **error) {
        Look look = { .runtime_fd = -1, .boxes_fd = -1 };
        g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify) box_info_free);

        look.found = found;
        bool ok = look_open(&look, caller, error);
        if (ok) {
                scan(&look, look.runtime_fd, add_runtime);
                scan(&look, look.boxes_fd, add_kept);
        }
        for (guint i = 0; i < found->len; i++) {
                BoxInfo *box = g_ptr_array_index(found, i);
                if (!box->facts && box->dir)
                        box->facts = read_facts(&look, look.boxes_fd, box->id);
                if (!box->facts)
                        box->facts = json_object();
                /* Of one that ends, and whose directory has gone, its record says it. */
                box->name = box->dir ? state_box_name(look.boxes_fd, box->id) : g_strdup(json_string_value(json_object_get(box->facts, "name")));
                if (box->name && !registry_name_ok(box->name))
                        g_clear_pointer(&box->name, g_free);
        }
        if (ok && look.shortage) {
                ok = err_set(error, look.shortage, "look for boxes");
                err_step(error, "state");
        }
        g_ptr_array_sort(found, newest_first);
        fd_closep(&look.runtime_fd);
        fd_closep(&look.boxes_fd);
        g_free(look.boxes);
        return ok ? g_steal_pointer(&found) : NULL;
}

static GPtrArray *list(const Caller *caller, bool pods, GError **error) {
        GPtrArray *all = list_all(caller, error);

        for (guint i = all ? all->len : 0; i-- > 0;)
                if (box_info_is_pod(g_ptr_array_index(all, i)) != pods)
                        g_ptr_array_remove_index(all, i);
        return all;
}

GPtrArray *registry_list(const Caller *caller, GError **error) {
        return list(caller, false, error);
}

GPtrArray *registry_list_pods(const Caller *caller, GError **error) {
        return list(caller, true, error);
}

bool registry_set_last(const RuntimeBox *box, const char *id) {
        /* Made in the box's own directory, with which it goes if we are killed before it has its place. */
        if (symlinkat(id, box->fd, "last") == 0 && renameat(box->fd, "last", box->top_fd, "last") == 0)
                return true;
        log_step("last: %s", err_text(errno));
        (void) unlinkat(box->fd, "last", 0);
        (void) unlinkat(box->top_fd, "last", 0); /* better none than another box */
        return false;
}

/* The id that "last" means: after a boot, when that is forgotten, the newest. False: there was none. */
static bool last_id(const GPtrArray *all, char ret_id[static BOX_ID_LEN + 1]) {
        _cleanup_close_ int top = runtime_open(false, NULL);
        ssize_t n = top >= 0 ? readlinkat(top, "last", ret_id, BOX_ID_LEN + 1) : -1;

        if (n == BOX_ID_LEN) {
                ret_id[n] = '\0';
                if (state_is_id(ret_id))
                        return true;
        }
        if (all->len > 0)
                g_strlcpy(ret_id, ((BoxInfo *) g_ptr_array_index(all, 0))->id, BOX_ID_LEN + 1);
        return all->len > 0;
}

static BoxInfo *steal(GPtrArray *all, guint at) {
        return g_ptr_array_steal_index(all, at);
}

static BoxInfo *find_id(GPtrArray *all, const char *id) {
        for (guint i = 0; i < all->len; i++)
                if (g_str_equal(((BoxInfo *) g_ptr_array_index(all, i))->id, id))
                        return steal(all, i);
        return NULL;
}

static BoxInfo *find_last(GPtrArray *all, GError **error) {
        char id[BOX_ID_LEN + 1];
        BoxInfo *box = NULL;

        if (!last_id(all, id))
                err_set(error, 0, "there is no last box");
        else if (!(box = find_id(all, id)))
                err_set(error, 0, "the last box (%s) left nothing", id);
        return box;
}

static BoxInfo *find_prefix(GPtrArray *all, const char *text, GError **error) {
        g_autofree char *quoted = err_quote(text);
        g_autoptr(GString) matches = g_string_new(NULL);
        guint n = 0, at = 0;

        for (guint i = 0; *text && i < all->len; i++) {
                const BoxInfo *box = g_ptr_array_index(all, i);
                if (!g_str_has_prefix(box->id, text))
                        continue;
                if (n++ < 4)
                        g_string_append_printf(matches, "%s%s", n > 1 ? ", " : "", box->id);
                at = i;
        }
        if (n == 1)
                return steal(all, at);
        if (n > 1) {
                err_set(error, 0, "'%s' is ambiguous: %s%s", quoted, matches->str, n > 4 ? ", ..." : "");
                err_hint(error, "give more of the id");
        } else {
                err_set(error, 0, "no box '%s'", quoted);
        }
        return NULL;
}

static BoxInfo *find_name(GPtrArray *all, const char *name) {
        for (guint i = 0; i < all->len; i++)
                if (g_strcmp0(((BoxInfo *) g_ptr_array_index(all, i))->name, name) == 0)
                        return steal(all, i);
        return NULL;
}

BoxInfo *registry_find(const Caller *caller, const char *text, GError **error) {
        g_autoptr(BoxInfo) box = registry_find_any(caller, text, error);

        if (!box || !box_info_is_pod(box))
                return g_steal_pointer(&box);
        err_set(error, 0, "%s is a pod, not a box", box_info_called(box));
        err_hint(error, "usbox pod stop, rm and inspect are for pods, and usbox ps lists their boxes");
        err_step(error, "box");
        return NULL;
}

BoxInfo *registry_find_any(const Caller *caller, const char *text, GError **error) {
        g_autoptr(GPtrArray) all = list_all(caller, error);
        BoxInfo *box = all ? find_name(all, text) : NULL;

        if (!all)
                return NULL;
        if (!box)
                box = g_str_equal(text, "last") ? find_last(all, error) : find_prefix(all, text, error);
        if (!box) {
                err_hint(error, "usbox ps -a lists the boxes");
                err_step(error, "box");
        }
        return box;
}

BoxInfo *registry_find_pod(const Caller *caller, const char *text, GError **error) {
        g_autoptr(GPtrArray) all = list_all(caller, error);
        g_autoptr(BoxInfo) pod = all ? find_name(all, text) : NULL;
        g_autofree char *quoted = err_quote(text);

        if (!all)
                return NULL;
        if (!pod && state_is_id(text))
                pod = find_id(all, text);
        if (pod && box_info_is_pod(pod))
                return g_steal_pointer(&pod);
        if (pod) {
                err_set(error, 0, "%s is a box, not a pod", quoted);
                err_hint(error, "usbox pod ps lists the pods; one is made by usbox pod create");
        } else {
                err_set(error, 0, "no pod '%s'", quoted);
                err_hint(error, "usbox pod ps lists them, usbox pod create makes one");
        }
        err_step(error, "pod");
        return NULL;
}

BoxInfo *registry_find_running_pod(const Caller *caller, const char *text, GError **error) {
        g_autoptr(BoxInfo) pod = registry_find_pod(caller, text, error);
        g_autofree char *quoted = err_quote(text);

        if (!pod || pod->state == BOX_RUNNING)
                return g_steal_pointer(&pod);
        err_set(error, 0, "pod %s is dead: its launcher was killed", quoted);
        err_hint(error, "usbox pod rm %s forgets it", quoted);
        err_step(error, "pod");
        return NULL;
}

json_t *registry_facts(const BoxDir *dir) {
        return read_facts(&(Look){ 0 }, dir->boxes_fd, dir->id);
}

bool registry_may_go_on(const BoxDir *dir, bool pod, GError **error) {
        json_t *facts = registry_facts(dir);
        bool of_pod = is_pod(facts);

        json_decref(facts);
        if (pod)
                err_set(error, EEXIST, "there is a %s of that name", of_pod ? "dead pod" : "box");
        else if (of_pod)
                err_set(error, EEXIST, "there is a dead pod of that name");
        else
                return true;
        return err_hint(error, "usbox%s rm forgets it", of_pod ? " pod" : "");
}

static BoxInfo *must_run(BoxInfo *box_take, GError **error) {
        g_autoptr(BoxInfo) box = box_take;

        if (!box || box->state == BOX_RUNNING)
                return g_steal_pointer(&box);
        const char *shown = box_info_called(box);
        const char *kind = box_info_kind(box);
        err_set(error, 0, box->state == BOX_DEAD ? "%s %s is dead: its launcher was killed" : "%s %s is not running", kind, shown);
        if (box->name && !box_info_is_pod(box))
                err_hint(error, "usbox run --name %s -- COMMAND goes on with its files; usbox rm %s forgets it", shown, shown);
        else
                err_hint(error, "usbox%s rm %s forgets it", box_info_is_pod(box) ? " pod" : "", shown);
        err_step(error, "box");
        return NULL;
}

BoxInfo *registry_find_running(const Caller *caller, const char *text, GError **error) {
        return must_run(registry_find(caller, text, error), error);
}

BoxInfo *registry_find_running_any(const Caller *caller, const char *text, GError **error) {
        return must_run(registry_find_any(caller, text, error), error);
}

GPtrArray *registry_boxes_of(const GPtrArray *all, const BoxInfo *pod) {
        GPtrArray *found = g_ptr_array_new();

        for (guint i = 0; i < all->len; i++) {
                BoxInfo *box = all->pdata[i];
                if (box->state == BOX_RUNNING && g_strcmp0(json_string_value(json_object_get(box->facts, "pod_id")), pod->id) == 0)
                        g_ptr_array_add(found, box);
        }
        return found;
}

BoxInfo *registry_find_network(const Caller *caller, const char *text, const char *verb, GError **error) {
        g_autoptr(BoxInfo) box = registry_find_running_any(caller, text, error);
        const char *pod = box ? json_string_value(json_object_get(box->facts, "pod")) : NULL;

        if (!pod)
                return g_steal_pointer(&box);
        err_set(error, 0, "box %s has no network of its own, but that of pod %s", box_info_called(box), pod);
        err_hint(error, "usbox %s %s", verb, pod);
        err_step(error, "box");
        return NULL;
}

json_t *box_info_to_json(const BoxInfo *box) {
        json_t *out = json_object();

        json_object_set_new(out, "id", json_string(box->id));
        json_object_set_new(out, "name", box->name ? json_string(box->name) : json_null());
        json_object_set_new(out, "state", json_string(box_state_name(box->state)));
        if (box->dir)
                json_object_set_new(out, "directory", jsontext_string(box->dir));
        json_object_update_missing(out, box->facts);
        return out;
}
