/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fsoverlay/fs.h"

/* Its thread; a negative errno. notifier_stop() waits until all that was asked is done. */
int notifier_start(Fs *fs);
void notifier_stop(Fs *fs);
