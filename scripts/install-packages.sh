#!/bin/bash
# Install the Debian packages that are missing, and say nothing when none is.
#
#   scripts/install-packages.sh demo     what building and the demo need
#   scripts/install-packages.sh boot     that, and what makes disks that boot, and boots them
#   scripts/install-packages.sh test     that, and what the tests and checks need
#
# A package is missing when the program or header that we want from it is not there, wherever it came from.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

missing=()
program() { command -v "$1" >/dev/null || missing+=("$2"); }
library() { compgen -G "/usr/lib/*/$1" >/dev/null || missing+=("$2"); } # or a part of a program, built with modules
header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ] || missing+=("$2"); }

wanted=${1:?demo, boot or test}
python=$(scripts/find-python)

program gcc gcc
program qemu-img qemu-utils
program qemu-nbd qemu-utils
program mkfs.ext4 e2fsprogs
program debugfs e2fsprogs
program setpriv util-linux
program fallocate util-linux
program curl curl
header xxhash.h libxxhash-dev
header zstd.h libzstd-dev
header liburing.h liburing-dev
header openssl/ssl.h libssl-dev
header stdio.h libc6-dev
if [ "$(dirname "$python")" = /usr/bin ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        missing+=(python3-dev)
fi
if [ "$wanted" = test ]; then
    program nbdkit nbdkit
    program qemu-storage-daemon qemu-system-common
    program nbdinfo libnbd-bin
    program nbdcopy libnbd-bin
    program nbd-server nbd-server
    program losetup mount
    program mkfs.xfs xfsprogs
    program eatmydata eatmydata
    program openssl openssl
    program ssh openssh-client
    program sshd openssh-server
    program clang-format clang-format
    program clang clang
    compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a' >/dev/null || missing+=(libclang-rt-dev)
    program valgrind valgrind
    # What a cluster offers its disks by, and what qemu reads them by.
    program tgtd tgt
    library qemu/block-iscsi.so qemu-block-extra
    library qemu/block-nfs.so qemu-block-extra
    program ganesha.nfsd nfs-ganesha
    library ganesha/libfsalvfs.so nfs-ganesha-vfs
    program rpcbind rpcbind
    program ip iproute2
    library libfuse3.so.3 libfuse3-3
    # What the agent is deployed with: a systemd that is booted for it, and what judges alerts and rotates logs.
    program systemd-analyze systemd
    program systemd-nspawn systemd-container
    program logrotate logrotate
    program promtool prometheus
    # Foreign readers of what machines are defined by.
    program virsh libvirt-clients
    program virt-xml-validate libvirt-clients
    program xmllint libxml2-utils
    program cpio cpio
    program syslinux syslinux
    [ -e /usr/lib/syslinux/mbr/mbr.bin ] || missing+=(syslinux-common)
    program busybox busybox-static
fi
if [ "$wanted" = test ] || [ "$wanted" = boot ]; then
    # What disks that boot are made with, and what boots them.
    program qemu-system-x86_64 qemu-system-x86
    program sfdisk fdisk
    program mformat mtools
    program grub-mkimage grub-common
    [ -e /usr/lib/grub/i386-pc/boot.img ] || missing+=(grub-pc-bin)
    [ -e /usr/lib/grub/x86_64-efi/moddep.lst ] || missing+=(grub-efi-amd64-bin)
    [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing+=(ovmf)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

mapfile -t packages < <(printf '%s\n' "${missing[@]}" | sort -u)
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing: ${packages[*]}.  Run as root: apt-get install --no-install-recommends ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "missing: ${packages[*]} (names in Debian).  This is no Debian: install them by its own means" >&2
    exit 1
fi

echo "installing Debian packages: ${packages[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The tests start the servers that they need; the packages of some would start one for good.
policy=/usr/sbin/policy-rc.d
if [ "$wanted" = test ] && [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >"$log"
    "${as_root[@]}" chmod +x $policy
    trap '"${as_root[@]}" rm -f "$policy"; rm -f "$log"' EXIT
fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y
    -o Dpkg::Use-Pty=0 install --no-install-recommends "${packages[@]}")
if ! "${install[@]}" >"$log" 2>&1; then
    # The lists of a fresh container are empty or old.
    if ! { "${as_root[@]}" apt-get -qq update && "${install[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "apt-get could not install ${packages[*]}; install them by hand and run make again" >&2
        exit 1
    fi
fi
