# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What tests/vm's scripts share: where the image is, and how the machine is started. Sourced; wants $me and $here (this directory).
: "${me:?}" "${here:?}"

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { printf '%s: error: %s\n' "$me" "$*" >&2; exit 1; }

vm_cache=${USBOX_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/usbox-vm}

# The directory of the image that these inputs make: another input, another image.
vm_image_dir() {
    local hash
    hash=$(cd "$here" && sha256sum build guest/setup guest/initrd-init | sha256sum | cut -c1-16)
    printf '%s/%s\n' "$vm_cache" "$hash"
}

# Builds it where it is not there. usage: image=$(vm_image)
vm_image() {
    local dir
    dir=$(vm_image_dir)
    [ -e "$dir/root.img" ] || "$here/build" >&2 || return 1
    printf '%s\n' "$dir"
}

# qemu with what is common to a trial and to a run. usage: vm_qemu ACCEL ARGS... (ACCEL: kvm, tcg)
vm_qemu() {
    local accel=$1
    shift
    case $accel in
        kvm) set -- -accel kvm -cpu host "$@" ;;
        *) set -- -accel tcg,thread=multi -cpu max "$@" ;;
    esac
    exec qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -machine q35 \
        -smp "${USBOX_VM_CPUS:-2}" -m "${USBOX_VM_MEMORY:-1536}" "$@"
}

# kvm where it truly runs this kernel, found out by trying: a /dev/kvm that opens may still be of a machine that cannot. The answer is
# kept beside the image until the host is booted anew. $USBOX_VM_ACCEL overrides it.
vm_accel() {
    local image=$1 boot known
    [ -z "${USBOX_VM_ACCEL:-}" ] || { printf '%s\n' "$USBOX_VM_ACCEL"; return; }
    [ -w /dev/kvm ] || { echo tcg; return; }
    boot=$(cat /proc/sys/kernel/random/boot_id)
    if [ -r "$image/accel" ] && read -r known <"$image/accel" && [ "${known%% *}" = "$boot" ]; then
        printf '%s\n' "${known#* }"
        return
    fi
    # The initrd alone says on the console that it came up, where it is told to try.
    local answer=tcg
    # shellcheck disable=SC2016 # the inner shell's
    if timeout -k 1 20 bash -c 'me=$1 here=$2; . "$here/lib.sh"; vm_qemu kvm -kernel "$3/vmlinuz" -initrd "$3/initrd" -serial stdio \
            -append "console=ttyS0 panic=-1 quiet usbox.trial"' bash "$me" "$here" "$image" </dev/null 2>/dev/null | grep -q usbox-trial-ok; then
        answer=kvm
    fi
    printf '%s %s\n' "$boot" "$answer" >"$image/accel" 2>/dev/null || :
    printf '%s\n' "$answer"
}

# What the machine gets of this build, as a file system: the programs, the tree's tests, what to do. usage: vm_pack BUILD SRC FILE WHAT ARGS...
vm_pack() {
    local build=$1 src=$2 file=$3 stage f
    shift 3
    stage=$(mktemp -d) || return 1
    mkdir -p "$stage/build" "$stage/src"
    # Programs, where the tests look for them: beside their sources.
    (cd "$build" && find . -mindepth 2 -maxdepth 3 -type f -perm -u+x \( -name 'usbox*' -o -path './tests/lib/*' -o -path './tests/attack/*' -o -path './tests/bench/*' -o -path './tests/fs/*' -o -path './tests/faults/*' \) -print0) |
        while IFS= read -r -d '' f; do
            mkdir -p "$stage/build/$(dirname "$f")"
            strip -g -o "$stage/build/$f" "$build/$f" 2>/dev/null || cp "$build/$f" "$stage/build/$f"
        done
    cp -r "$src/tests" "$src/src" "$src/seccomp" "$src/data" "$src/README.md" "$stage/src/" || return 1
    find "$stage" -name __pycache__ -prune -exec rm -rf {} +
    printf '%s\0' "$@" >"$stage/what"
    chmod -R a+rX "$stage"
    rm -f "$file"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -L usbox-run -E root_owner=0:0 -d "$stage" "$file" "$(($(du -sk "$stage" | cut -f1) * 5 / 4 + 8192))k"
    local rc=$?
    rm -rf "$stage"
    return $rc
}

# A disk of 64 MiB of zeros that gives 8 MiB a second: what is slow is the disk, on whatever machine, and not who reads it.
vm_slow_disk() {
    printf '%s' file.driver=null-co,file.size=67108864,file.read-zeroes=on,format=raw,if=virtio,throttling.bps-total=8388608
}

# Boot, with this terminal on the channel, until the machine powers off or the time is up. In $work: run.img, and then console.log, alive, status, and where
# the time was up last-words. usage: vm_boot ACCEL IMAGE WORK SECONDS WHAT [KERNEL-ARGUMENTS...]
vm_boot() {
    local accel=$1 image=$2 work=$3 limit=$4 rc=0 waits
    shift 4
    (exec >/dev/null 2>&1 </dev/null && sleep "$limit" && exec "$here/last-words" "$work/qmp" "$work/console.log" >"$work/last-words") &
    waits=$!
    # Told to stop by an NMI, a kernel panics, says where each processor and task is, and ends the machine.
    # shellcheck disable=SC2016 # the inner shell's
    timeout --foreground -k 5 "$((limit + 60))" bash -c 'me=$1 here=$2; . "$here/lib.sh"; shift 2; vm_qemu "$@"' bash "$me" "$here" "$accel" \
        -kernel "$image/vmlinuz" -initrd "$image/initrd" \
        -append "root=/dev/vda console=ttyS0 quiet loglevel=4 panic=-1 unknown_nmi_panic panic_print=0x43 no_timer_check maxcpus=1 usbox.run=$*" \
        -drive "file=$image/root.img,format=raw,if=virtio,snapshot=on,cache=unsafe" \
        -drive "file=$work/run.img,format=raw,if=virtio,readonly=on" \
        -drive "$(vm_slow_disk)" -drive "$(vm_slow_disk)" \
        -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci -qmp "unix:$work/qmp,server=on,wait=off" \
        -serial "file:$work/console.log" -chardev stdio,id=channel,signal=off -serial chardev:channel -serial "file:$work/status" \
        -serial "file:$work/alive" || rc=$?
    pkill -P "$waits" 2>/dev/null || :
    kill "$waits" 2>/dev/null || :
    wait "$waits" 2>/dev/null || :
    [ ! -s "$work/last-words" ] || rc=124
    return $rc
}

# For an error: the end of the console's log, or all of it since something was told to tell what it waits for; when the machine was last heard of.
vm_console() {
    local work=$1 from
    echo
    from=$(grep -anE -m1 'usbox-watch:|NMI' "$work/console.log" | cut -d: -f1)
    if [ -n "$from" ]; then tail -n "+$from" "$work/console.log" | head -n 6000; else tail -n 40 "$work/console.log"; fi | tr -d '\r'
    if [ -s "$work/alive" ]; then
        echo "last signs of life; the last one came $(($(date +%s) - $(stat -c %Y "$work/alive"))) s ago:"
        tail -n 3 "$work/alive" | tr -d '\r'
    fi
    cat "$work/last-words" 2>/dev/null || :
}
