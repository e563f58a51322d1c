/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fsoverlay/fs.h"

/* Before anything is to be told. Its thread starts when there is. */
void notifier_init(Fs *fs);
