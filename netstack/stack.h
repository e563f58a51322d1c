/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "netstack/config.h"
#include "netstack/events.h"

typedef struct Stack Stack;

/* A frame for the box. Whether it is sent or lost is the callee's affair. */
typedef void (*StackSend)(const void *frame, size_t len, void *data);

/* libslirp has sent what it has for now. */
typedef void (*StackSent)(void *data);

/* libslirp, set up by config, its sockets in events. send gets its frames. NULL with error. */
Stack *stack_new(const NetConfig *config, Events *events, StackSend send, void *data, GError **error);
void stack_free(Stack *stack);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stack, stack_free)

/* After each call of libslirp in which connections may have sent frames, with the data that send gets. */
void stack_on_sent(Stack *stack, StackSent sent);

/* Listen on a TCP port of the host for the box. Returns the port that it is, which differs where 0 was asked; 0 with error. */
guint16 stack_publish(Stack *stack, const NetPublish *publish, GError **error);

/* No more; named as it came out. */
void stack_unpublish(Stack *stack, const NetPublish *publish);

/* A frame from the box, which the policy has passed. */
void stack_input(Stack *stack, const uint8_t *frame, size_t len);

/* Let libslirp work on what its sockets have, and on its timers. The loop comes here by itself, but for the first time. */
void stack_turn(Stack *stack);
