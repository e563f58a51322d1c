/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Which threads wait for requests, and how. All of it may be called by any thread. */
typedef struct Turns Turns;

/* For threads that read from dev; may_look: processor time may be spent on looking for requests. NULL: out of memory. For the life of the process. */
Turns *turns_new(int dev, bool may_look);
/* A thread begins. */
void turns_enter(Turns *t);
/* Before a thread reads the next request. It may stay in there for as long as one thread is enough. */
void turns_await(Turns *t);
/* A request came, of the process pid (0: of none). may_take_long: others shall not wait for this one. Returns the time, for turns_end(). */
uint64_t turns_begin(Turns *t, uint32_t pid, bool may_take_long);
/* It was answered. */
void turns_end(Turns *t, uint64_t begun);
/* There will be no more requests: nobody stays in turns_await(). */
void turns_close(Turns *t);
