# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What ./bootstrap and ./check share. Sourced; wants $top (the source tree), $me (the name in messages) and
# $tmp (a directory for logs).
: "${top:?}" "${me:?}" "${tmp:?}"

# A pyenv, conda or nix in front of the path would give other tools than the packages that are installed here.
# shellcheck disable=SC2034 # ./bootstrap's to read
caller_path=$PATH
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
unset CDPATH PYTHONPATH PYTHONHOME USBOX_LIBEXECDIR

say() { printf '%s: %s\n' "$me" "$*"; }
die() { printf '%s: error: %s\n' "$me" "$*" >&2; exit 1; }

# Run as root: directly, or through sudo. Never asks for a password where nobody can type one.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        die "this needs root and there is no sudo: $*"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

can_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

# The packages of some groups ("build run"), one name per line.
packages() {
    local group
    for group in "$@"; do
        awk -v g="$group" '$1 == g { print $2 }' "$top/tests/lib/packages.txt"
    done
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c2)" = i ]; }

# A package whose program the tests start themselves must not make this machine a server: its units are masked before it comes.
no_service() {
    local units=()
    [ -d /run/systemd/system ] || return 0
    case $1 in
        nginx) units=(nginx.service) ;;
        openssh-server) units=(ssh.service ssh.socket) ;;
        *) return 0 ;;
    esac
    ! systemctl cat "${units[0]}" >/dev/null 2>&1 || return 0 # there already: its owner's
    say "masking ${units[*]}: $1 is wanted for its program (to have the service: systemctl unmask ${units[*]})"
    as_root systemctl mask "${units[@]}" >"$tmp/apt.log" 2>&1 || { tail -n 20 "$tmp/apt.log" >&2; die "systemctl mask ${units[*]} failed"; }
}

# Install what is missing of the groups; quick when nothing is.
install_packages() {
    local missing=() p
    command -v dpkg-query >/dev/null || die "this is no Debian or Ubuntu (no dpkg): install by hand what tests/lib/packages.txt lists, then use --no-packages"
    for p in $(packages "$@"); do
        installed "$p" || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    can_root || die "these packages are missing and neither root nor sudo is at hand: apt-get install ${missing[*]}"
    as_root apt-get update -q >"$tmp/apt.log" 2>&1 || { tail -n 20 "$tmp/apt.log" >&2; die "apt-get update failed"; }
    for p in "${missing[@]}"; do no_service "$p"; done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
        >"$tmp/apt.log" 2>&1 </dev/null || { tail -n 20 "$tmp/apt.log" >&2; die "apt-get install failed"; }
}

# Take those of the group "unpack" apart below DIR/root, with what they depend on and is missing here, and install none of it; quick when it is there.
# usage: unpack_packages DIR; wants u()
unpack_packages() {
    local dir=$1 missing=() deb p
    for p in $(packages unpack); do
        installed "$p" || [ -e "$dir/$p" ] || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "unpacking in $dir: ${missing[*]}"
    can_root || die "neither root nor sudo is at hand to fetch: ${missing[*]} (or use --no-packages)"
    u rm -rf "$dir"
    u mkdir -p "$dir/debs/partial" "$dir/root"
    as_root apt-get update -q >"$tmp/apt.log" 2>&1 || { tail -n 20 "$tmp/apt.log" >&2; die "apt-get update failed"; }
    as_root apt-get install -q -y --no-install-recommends --download-only -o Dir::Cache::archives="$dir/debs" -o APT::Sandbox::User=root "${missing[@]}" \
        >"$tmp/apt.log" 2>&1 </dev/null || { tail -n 20 "$tmp/apt.log" >&2; die "apt-get install --download-only failed"; }
    for deb in "$dir"/debs/*.deb; do
        u dpkg-deb --extract "$deb" "$dir/root" || die "cannot unpack $deb"
    done
    for p in "${missing[@]}"; do u touch "$dir/$p"; done
}

# udev gives everyone /dev/net/tun and /dev/fuse (50-udev-default.rules). Where no udev runs, do as it would.
open_devices() {
    local dev
    for dev in /dev/net/tun /dev/fuse; do
        if [ ! -e "$dev" ]; then
            say "note: $dev is missing; the kernel module may be loaded with: modprobe $(basename "$dev")"
        elif [ "$(stat -c %a "$dev")" != 666 ]; then
            if can_root; then
                say "mode of $dev: $(stat -c %a "$dev") becomes 666, as udev sets it"
                as_root chmod 0666 "$dev"
            else
                say "note: $dev is not open to everyone and I am not root: chmod 0666 $dev"
            fi
        fi
    done
}

# Make the user that tests run as where the caller is root, with ranges for newuidmap (adduser gives those itself).
ensure_user() {
    local user=$1
    id -u "$user" >/dev/null 2>&1 || { say "making the user $user"; useradd -m -s /bin/bash -c "usbox tests" "$user"; }
    local file flag
    for file in /etc/subuid /etc/subgid; do
        flag=--add-subuids
        [ "$file" = /etc/subuid ] || flag=--add-subgids
        if ! grep -q "^$user:" "$file" 2>/dev/null; then
            local next
            next=$(awk -F: 'BEGIN { m = 100000 } $2 + $3 > m { m = $2 + $3 } END { print m }' "$file" 2>/dev/null || echo 100000)
            usermod "$flag" "$next-$((next + 65535))" "$user"
        fi
    done
}

# Run a command as that user, in a login-like environment, with no terminal of ours.
as_user() {
    local user=$1 home
    shift
    home=$(getent passwd "$user" | cut -d: -f6)
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups --inh-caps=-all -- \
        env -i HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash PATH="$PATH" LANG=C.UTF-8 \
        ${TERM:+TERM="$TERM"} ${CI:+CI="$CI"} "$@"
}

# Can that user read this tree? (A clone below a 0700 directory cannot be.)
readable_for() {
    # shellcheck disable=SC2016 # the inner shell's $1
    as_user "$1" sh -c 'cd "$1" && [ -r meson.build ] && [ -r tests/lib/shell.sh ]' sh "$2" 2>/dev/null
}

# The tree as git has it (with what is not committed), without what is ignored, as a copy of that user's own.
copy_tree() {
    local from=$1 to=$2 user=$3
    rm -rf -- "$to"
    as_user "$user" mkdir -p -- "$to"
    if git -c safe.directory='*' -C "$from" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$from" && git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done |
            tar --null -T - -cf -)
    else
        tar -C "$from" --exclude='./build*' -cf - .
    fi | as_user "$user" tar -C "$to" -xf -
}
