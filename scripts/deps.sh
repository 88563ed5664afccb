#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: says first which packages
# are missing, then asks apt-get for them (through sudo where not root). What
# cannot be installed gets one line, and whatever can run without it, runs.
#
# Exits with 0 when the image tools and a linker are there in the end.

set -u

# The image tools, each with the packages it may be in: Debian 12 has the storage
# daemon in another package than later ones.
TOOLS=(qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils
       qemu-storage-daemon:qemu-utils qemu-storage-daemon:qemu-system-common)

note() { printf 'deps: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# The package with the emulator of this machine.
emulator_package() {
    case $(uname -m) in
        x86_64 | i?86) echo qemu-system-x86 ;;
        aarch64 | arm*) echo qemu-system-arm ;;
        ppc*) echo qemu-system-ppc ;;
        s390x) echo qemu-system-s390x ;;
        riscv*) echo qemu-system-riscv ;;
        *) echo qemu-system-misc ;;
    esac
}

emulator_program() {
    case $(uname -m) in
        ppc64*) echo qemu-system-ppc64 ;;
        *) echo "qemu-system-$(uname -m)" ;;
    esac
}

# Runs apt-get, as root or through sudo, its chatter shown only when it fails.
apt_get() {
    local log sudo=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || { note "not root, and there is no sudo"; return 1; }
        sudo=(sudo)
    fi
    log=$(mktemp) || return 1
    if "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    grep -E '^(E|W):' "$log" | head -n 3 >&2
    rm -f "$log"
    return 1
}

# Fetches the package lists, once.
lists_fetched=
fetch_lists() {
    [ -n "$lists_fetched" ] && return
    lists_fetched=yes
    apt_get update || note "the package lists cannot be fetched; going on with those there are"
}

# Installs packages; one line for each that cannot be.
install() {
    apt_get install --no-install-recommends "$@" && return
    fetch_lists
    local package failed=0
    for package; do
        apt_get install --no-install-recommends "$package" && continue
        note "cannot install $package; what needs it is not run"
        failed=1
    done
    return $failed
}

# Adds to the packages to install those with missing programs.
missing=()
need() {
    local package
    have "$1" && return
    for package in "${missing[@]}"; do
        [ "$package" = "$2" ] && return
    done
    missing+=("$2")
}

# The emulator must be of the version of the image tools: both come from the same
# source package, and tests compare what they say.
install_emulator() {
    local package=$1 version suite=() codename
    version=$(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null)
    [ -z "$version" ] && return
    if have "$(emulator_program)"; then
        local theirs
        theirs=$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null)
        if [ -n "$theirs" ] && [ "$theirs" != "$version" ]; then
            note "$package is version $theirs, but the image tools are $version;" \
                 "tests that use both may differ"
        fi
        return
    fi
    offered() { apt-cache madison "$package" 2>/dev/null | grep -qF " $version "; }
    offered || fetch_lists
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME-}")
    case $version in
        *bpo*) suite=(-t "$codename-backports") ;;
    esac
    if ! offered; then
        if [ "${#suite[@]}" != 0 ]; then
            note "$package $version is not to be had: the image tools come from" \
                 "$codename-backports, which is not enabled here;" \
                 "tests that need a machine are not run"
        else
            note "$package $version, as the image tools have it, is not to be had;" \
                 "tests that need a machine are not run"
        fi
        return
    fi
    note "installing $package, version $version"
    apt_get install --no-install-recommends "${suite[@]}" "$package=$version" ||
        note "cannot install $package; tests that need a machine are not run"
}

main() {
    local entry
    need cc gcc
    have cc || missing+=(libc6-dev)
    # The daemon's second package is tried only after its first.
    for entry in "${TOOLS[@]:0:4}"; do
        need "${entry%%:*}" "${entry#*:}"
    done
    need fusermount3 fuse3

    if ! have apt-get; then
        for entry in "${missing[@]}"; do
            note "missing: $entry (so named in Debian); install what this system has in its place"
        done
    else
        if [ "${#missing[@]}" != 0 ]; then
            note "missing: ${missing[*]}; installing with apt-get"
            install "${missing[@]}"
            hash -r
        fi
        if have qemu-img && ! have qemu-storage-daemon; then
            note "missing: qemu-system-common (for qemu-storage-daemon); installing with apt-get"
            install qemu-system-common
            hash -r
        fi
        install_emulator "$(emulator_package)"
    fi

    local lacking=()
    for entry in cc qemu-img qemu-io qemu-nbd qemu-storage-daemon; do
        have "$entry" || lacking+=("$entry")
    done
    if [ "${#lacking[@]}" != 0 ]; then
        note "still missing: ${lacking[*]}"
        return 1
    fi
}

main
