/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The operations of the FUSE protocol (linux/fuse.h), one function for each opcode, and what they share. */

#include <linux/fuse.h>

#include "fsoverlay/fs.h"

/* One request at work: what came, and where the answer goes. */
typedef struct Request {
        Fs *fs;
        const struct fuse_in_header *head;
        Node *node; /* head->nodeid; NULL where that is 0 */
        const void *in; /* what follows the header */
        size_t in_len;
        void *out; /* room for the answer; an operation may point it elsewhere */
        size_t out_size, out_len;
        bool no_reply;
} Request;

/* A NUL-terminated string that begins offset bytes into the request; NULL where there is none. */
const char *request_string(const Request *r, size_t offset);
/* A name of one part: not empty, ".", "..", without slash, of at most 255 bytes. NULL else. */
const char *request_name(const Request *r, size_t offset);
int reply_xattr_size(Request *r, uint32_t size);
/* The entry (and with it a reference for the kernel) of a node; st as node_stat() gives it. */
void reply_entry(Request *r, Node *node, const struct stat *st, struct fuse_entry_out *ret);
uint64_t entry_valid(const Fs *fs, const Node *node);

/* The data of a file as answer. False: nothing was sent, it is to be read. */
#define SPLICE_MIN ((size_t) 64 * 1024) /* what is less is copied sooner than passed on */
bool splice_answer(Request *r, int fd, off_t offset, size_t size);

/* attr.c: who changes a file's data loses its set-id bits (kill) or not, and that was for the box's kernel to judge; ours went by our own rights. */
void keep_setid(Request *r, int fd, const struct stat *before, bool kill);

/* data.c: a directory of the upper, by whatever descriptor: its names and marks are on the disk then. */
int sync_dir_fd(Fs *fs, int dir, bool data_only);

/* The node of an id of the kernel's. */
Node *node_of_id(Fs *fs, uint64_t id);
uint64_t id_of_node(const Fs *fs, const Node *node);

/* What a listing knows of a name: the first layer that has it, as long as nothing came, went or was copied up in the directory. */
typedef struct {
        unsigned layer;
        uint32_t version;
} Hint;
/* The first layer to look in. Under Fs.tree, and only for as long as that is held. */
unsigned hint_layer(const Hint *hint, const Node *parent);

/* Look up, and make known. A reference more. hint may be NULL. Takes Fs.tree. */
int entry_lookup(Fs *fs, Node *parent, const char *name, const Hint *hint, Node **ret, struct stat *ret_st);

/* 1 where the parent's default ACL was given to the new file (mode then is in it), 0 where there is none, or a negative errno. */
int acl_inherit(Fs *fs, const Place *parent, const Place *file, mode_t mode, bool is_dir);

/* Operations: 0 with r->out_len set, or a negative errno. */
int op_lookup(Request *r);
int op_forget(Request *r);
int op_batch_forget(Request *r);
int op_getattr(Request *r);
int op_setattr(Request *r);
int op_readlink(Request *r);
int op_mknod(Request *r);
int op_mkdir(Request *r);
int op_symlink(Request *r);
int op_create(Request *r);
int op_tmpfile(Request *r);
int op_link(Request *r);
int op_unlink(Request *r);
int op_rmdir(Request *r);
int op_rename(Request *r);
int op_rename2(Request *r);
int op_open(Request *r);
int op_opendir(Request *r);
int op_read(Request *r);
int op_write(Request *r);
int op_fsync(Request *r);
int op_fsyncdir(Request *r);
int op_fallocate(Request *r);
int op_lseek(Request *r);
int op_copy_file_range(Request *r);
int op_readdir(Request *r);
int op_readdirplus(Request *r);
int op_statfs(Request *r);
int op_setxattr(Request *r);
int op_getxattr(Request *r);
int op_listxattr(Request *r);
int op_removexattr(Request *r);
