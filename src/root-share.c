/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan of the root, on its way from the launcher to the child.
 *
 * Role: launcher (new, put, free), child and payload (get). Privileges: none needed. Threads: one. Order: made before the clone,
 * filled in step 4.
 *
 * Memory that is shared over the clone and lies at the same address in both, so that a copy of the plan with all its pointers is good
 * in the child too: nothing is packed and parsed. What the plan points to outside of itself (the options, names in the program) was
 * there before the clone. The launcher only writes here, and goes on with the plan of its own: what anybody in the box may make of this
 * copy is nothing to it.
 */
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "root-hooks.h"
#include "root-share.h"

/* Address space and no memory (but where vm.overcommit_memory is 2): room for the plan and copies of dot files, for each mount of the
 * user's, and for what it may bring with it: a file's contents, those of eight hooks (MOUNT_FILE_MAX, HOOK_FILE_MAX). */
#define ROOM_PLAN ((size_t) 64 << 20)
#define ROOM_MOUNT ((size_t) 64 << 10)
#define ROOM_FILE ((size_t) 65 << 20)
#define ROOM_HOOKS ((size_t) 33 << 20)

struct PlanShare {
        char *base;
        size_t size, used;
};

static size_t room_of(const MountOp *op) {
        return ROOM_MOUNT + (op->kind == MOUNT_FILE ? ROOM_FILE : op->hooks_cow ? ROOM_HOOKS : 0);
}

PlanShare *plan_share_new(const Spec *spec, GError **error) {
        size_t size = ROOM_PLAN;
        for (guint i = 0; i < spec->mount.ops->len; i++)
                size += room_of(g_ptr_array_index(spec->mount.ops, i));
        char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (base == MAP_FAILED) {
                err_set(error, errno, "memory to share with the box's init");
                return NULL;
        }
        PlanShare *share = g_new(PlanShare, 1);
        *share = (PlanShare){ .base = base, .size = size };
        return share;
}

void plan_share_free(PlanShare *share) {
        (void) munmap(share->base, share->size);
        g_free(share);
}

/* n bytes for anything; NULL: there is no room left. */
static void *take(PlanShare *share, size_t n) {
        size_t at = (share->used + 15) & ~(size_t) 15;

        if (n > share->size || at > share->size - n)
                return NULL;
        share->used = at + n;
        return share->base + at;
}

/* Replace a pointer by one to a copy of what it points to. NULL stays so. */
static bool copy_bytes(PlanShare *share, void *pointer, size_t n) {
        void **p = pointer, *copy = *p ? take(share, n) : NULL;

        if (!*p)
                return true;
        if (copy)
                *p = memcpy(copy, *p, n);
        return copy != NULL;
}

static bool copy_text(PlanShare *share, char **text) {
        return !*text || copy_bytes(share, text, strlen(*text) + 1);
}

typedef bool (*CopyInside)(PlanShare *share, void *element);

/* The array, its elements, and by inside() what those point to. */
static bool copy_array(PlanShare *share, GPtrArray **array, size_t element_size, CopyInside inside) {
        GPtrArray *copy = *array ? take(share, sizeof *copy) : NULL;

        if (!*array)
                return true;
        if (!copy)
                return false;
        *copy = **array;
        *array = copy;
        if (copy->len > 0 && !copy_bytes(share, &copy->pdata, copy->len * sizeof *copy->pdata))
                return false;
        for (guint i = 0; i < copy->len; i++)
                if (!copy_bytes(share, &copy->pdata[i], element_size) || !inside(share, copy->pdata[i]))
                        return false;
        return true;
}

static bool copy_node(PlanShare *share, void *element) {
        RootNode *node = element;
        return copy_text(share, &node->path) && copy_text(share, &node->target) && copy_text(share, &node->host.path);
}

static bool copy_entry(PlanShare *share, void *element) {
        LayerEntry *entry = element;
        return copy_text(share, &entry->path) && copy_bytes(share, &entry->data, entry->len);
}

static bool copy_hook(PlanShare *share, void *element) {
        Hook *hook = element;
        return copy_text(share, &hook->path) && copy_text(share, &hook->host.path) && copy_bytes(share, &hook->data, hook->len);
}

static bool copy_source(PlanShare *share, void *element) {
        MountSource *source = element;
        return copy_text(share, &source->host.path) && copy_bytes(share, &source->data, source->len) &&
               copy_array(share, &source->hooks, sizeof(Hook), copy_hook);
}

bool plan_share_put(PlanShare *share, const RootPlan *plan, GError **error) {
        g_assert(share->used == 0); /* it is the first thing there: plan_share_get() */
        RootPlan *copy = take(share, sizeof *copy);

        if (copy) {
                *copy = *plan;
                copy->fs = NULL; /* the launcher's alone */
        }
        return (copy && copy_array(share, &copy->nodes, sizeof(RootNode), copy_node) &&
                copy_array(share, &copy->entries, sizeof(LayerEntry), copy_entry) &&
                copy_array(share, &copy->sources, sizeof(MountSource), copy_source) && copy_text(share, &copy->box_dir.path) &&
                copy_text(share, &copy->workdir)) ||
               err_set(error, ENOMEM, "the plan of the root does not fit into %zu MiB", share->size >> 20);
}

const RootPlan *plan_share_get(const PlanShare *share) {
        return (const RootPlan *) share->base;
}
