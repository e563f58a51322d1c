/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The profiles that come with usbox.
 *
 * Role: launcher. Privileges: none needed. Threads: any. Order: read by profile.c.
 *
 * Each is one kind of use. A profile may narrow a box, or open it in a way that its name promises and its description
 * says; none passes on a login of the caller's but `agent`, whose whole point is a program that needs one, and that by
 * variable alone: what such programs keep in files are settings too, which they obey outside of the box later.
 */
#include <stddef.h>

#include "profile-builtin.h"

const ProfileBuiltin profile_builtins[] = {
        { "build", "[usbox]\n"
                   "description=an untrusted build: no network, every write on the copy; add --rw DIR for the results\n"
                   "network=none\n"
                   "home=tools\n"
                   "die-with-parent=true\n" },
        { "agent", "[usbox]\n"
                   "description=an AI coding agent: the working directory is written through, its hooks are not; API "
                   "keys by variable\n"
                   "home=tools\n"
                   "network=user\n"
                   "rw=.\n"
                   "die-with-parent=true\n"
                   "env=ANTHROPIC_API_KEY;ANTHROPIC_BASE_URL;ANTHROPIC_MODEL;CLAUDE_CODE_OAUTH_TOKEN;OPENAI_API_KEY;"
                   "OPENAI_BASE_URL;"
                   "GEMINI_API_KEY;GOOGLE_API_KEY;MISTRAL_API_KEY;DEEPSEEK_API_KEY;OPENROUTER_API_KEY;GROQ_API_KEY;XAI_"
                   "API_KEY;\n" },
        { "ci",
          "[usbox]\n"
          "description=a job of a CI runner: the working directory is written through, home empty, two hours at most\n"
          "home=empty\n"
          "network=user\n"
          "rw=.\n"
          "rm=true\n"
          "die-with-parent=true\n"
          "timeout=2h\n"
          "env=CI=true\n" },
        { "desktop",
          "[usbox]\n"
          "description=a desktop application: Wayland, sound and graphics devices, no D-Bus, no X11; its own sandbox "
          "works\n"
          "home=tools\n"
          "network=user\n"
          "nested=true\n"
          "mount=type=tmpfs,dst=${XDG_RUNTIME_DIR},mode=0700,optional;"
          "type=bind,src=${XDG_RUNTIME_DIR}/${WAYLAND_DISPLAY},dst=${XDG_RUNTIME_DIR}/${WAYLAND_DISPLAY},ro,optional;"
          "type=bind,src=${XDG_RUNTIME_DIR}/pipewire-0,dst=${XDG_RUNTIME_DIR}/pipewire-0,ro,optional;"
          "type=bind,src=${XDG_RUNTIME_DIR}/pulse/native,dst=${XDG_RUNTIME_DIR}/pulse/native,ro,optional;"
          "type=bind,src=/dev/dri,dst=/dev/dri,dev,optional;\n"
          "env=XDG_RUNTIME_DIR;WAYLAND_DISPLAY;XDG_SESSION_TYPE;XDG_CURRENT_DESKTOP;XDG_DATA_DIRS;XCURSOR_THEME;"
          "XCURSOR_SIZE;"
          "GTK_THEME;QT_QPA_PLATFORM=wayland;GDK_BACKEND=wayland;SDL_VIDEODRIVER=wayland;MOZ_ENABLE_WAYLAND=1;"
          "ELECTRON_OZONE_PLATFORM_HINT=wayland;\n" },
        { NULL, NULL },
};
