#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: says which packages are missing,
# then installs them with apt-get, through sudo where not root. Each package that cannot
# be installed is reported in one line with what does not work without it. 'make deps'
# and 'make check-block' run this.
#
# usage: scripts/deps.sh [PROGRAM ...]
#
# Each PROGRAM is installed as well, from the package of the same name: gdb, gdbserver,
# valgrind. The word 'ssh' means what images over ssh:// need: an ssh server that
# each test starts for itself, and QEMU's ssh driver.
#
# Where there is no cargo, Debian's own is installed: the first of rustc, rustc-web and that of
# backports that is new enough. A toolchain that is there is left alone.
#
# The exit status is 0 when the image tools, cargo and a linker are installed at the end, else 1.

set -u

top=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/packages.sh
. "$top/scripts/lib/packages.sh"

# The image tools, each with the packages it may be in: Debian 12 has the storage
# daemon in another package than later ones.
TOOLS=(qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils
       qemu-storage-daemon:qemu-utils qemu-storage-daemon:qemu-system-common)

note() { printf 'deps: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
# Prints the text at the top of this file.
help() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# Options of every apt call: waits for another apt that is running.
apt_options=(-o DPkg::Lock::Timeout=120)

# Why nothing can be installed here; empty where it can.
hindrance() {
    have apt-get || { echo "there is no apt-get"; return; }
    [ "$(id -u)" = 0 ] && return
    have sudo || { echo "not root, and there is no sudo"; return; }
    # Where nobody can be asked for a password, sudo must do without.
    [ -t 0 ] || sudo -n true 2>/dev/null || echo "not root, and sudo asks for a password"
}

# Runs apt-get, as root or through sudo; its output is shown only when it fails.
apt_get() {
    local log sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    log=$(mktemp) || return 1
    if "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${apt_options[@]}" -q -y "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    grep -E '^(E|W):|^sudo:' "$log" | head -n 3 >&2
    rm -f "$log"
    return 1
}

# Fetches the package lists, once.
lists_fetched=
fetch_lists() {
    [ -n "$lists_fetched" ] && return
    lists_fetched=yes
    apt_get update || note "cannot fetch the package lists; using the existing ones"
}

# Installs packages; one line for each that cannot be.
install() {
    apt_get install --no-install-recommends "$@" && return
    fetch_lists
    local package failed=0
    for package; do
        apt_get install --no-install-recommends "$package" && continue
        note "cannot install $package; $(what_for "$package")"
        failed=1
    done
    return $failed
}

# What does not work without a package.
what_for() {
    case $1 in
        gcc | libc6-dev | cargo* | rustc*) echo "nothing can be built without it" ;;
        qemu-utils | qemu-system-common) echo "no test can be run without its image tools" ;;
        qemu-system-*) echo "tests that need a machine are not run" ;;
        fuse3) echo "tests of FUSE exports are not run" ;;
        openssh-server | qemu-block-extra) echo "tests over ssh are not run" ;;
        *) echo "tests that need it are not run" ;;
    esac
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

# Whether apt knows the emulator in the version of the image tools.
offered() {
    apt-cache "${apt_options[@]}" madison "$package" 2>/dev/null | grep -qF " $version "
}

# Makes apt use suite $2 in this run, from the server of suite $1: image tools may come
# from a suite that is no longer enabled. $3 says what comes from there. The machine's own lists of sources and
# packages are not changed.
enable_for_now() {
    local uri
    [ -z "${private-}" ] || return
    uri=$(suite_uri "$1")
    [ -n "$uri" ] || return
    [ -e "$DEBIAN_KEY" ] || return
    private=$(mktemp -d) || return
    trap 'rm -rf "$private"' EXIT
    chmod 755 "$private"
    mkdir -p "$private/sources" "$private/lists/partial"
    cp /etc/apt/sources.list.d/* "$private/sources/" 2>/dev/null
    printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEY" "$uri" "$2" >"$private/sources/for-now.list"
    note "$3 from $2, which is not enabled here; using it in this run only"
    apt_options+=(-o "Dir::Etc::SourceParts=$private/sources" -o "Dir::State::Lists=$private/lists")
    apt_get update || note "cannot fetch the package lists of $2"
}

# The version of the package with the image tools.
tools_version() { dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null; }

# Installs package $1 in the version of the image tools, from wherever they come:
# both are made of the same source package, and tests compare what they say.
install_matching() {
    local package=$1 version suite=() codename
    version=$(tools_version)
    [ -z "$version" ] && return
    offered || fetch_lists
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME-}")
    case $version in
        *bpo*)
            suite=(-t "$codename-backports")
            offered || enable_for_now "$codename" "$codename-backports" "the image tools come"
            ;;
    esac
    if ! offered; then
        note "$package $version, the version of the image tools, is not available;" \
             "$(what_for "$package")"
        return
    fi
    note "installing $package, version $version"
    apt_get install --no-install-recommends "${suite[@]}" "$package=$version" ||
        note "cannot install $package; $(what_for "$package")"
}

# The version of Rust that the sources need.
rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1; }

# Whether apt would install package $1 in a version that is new enough; with $2 from that suite.
new_enough() {
    local version
    version=$(apt-cache "${apt_options[@]}" ${2:+-t "$2"} policy "$1" 2>/dev/null |
        sed -n 's/^ *Candidate: *\([0-9][^ ]*\).*/\1/p')
    [ -n "$version" ] && [ "$(printf '%s\n' "$(rust_version)" "$version" | sort -V | head -n 1)" = "$(rust_version)" ]
}

# Installs cargo and rustc from wherever the distribution has them new enough, and the
# certificates with which cargo fetches.
install_cargo() {
    local suffix suite=() packages=() codename
    fetch_lists
    for suffix in '' -web; do
        new_enough "rustc$suffix" && new_enough "cargo$suffix" && packages=("rustc$suffix" "cargo$suffix") && break
    done
    if [ "${#packages[@]}" = 0 ]; then
        # shellcheck source=/dev/null
        codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME-}")
        suite=(-t "$codename-backports")
        lists_fetched=
        new_enough cargo "${suite[1]}" || enable_for_now "$codename" "${suite[1]}" "cargo comes"
        if new_enough cargo "${suite[1]}"; then
            packages=(rustc cargo)
        else
            note "no package has Rust $(rust_version) or newer; nothing can be built without it:" \
                 "install it from https://rustup.rs"
            return 1
        fi
    fi
    [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
    note "missing: cargo; installing ${packages[*]} with apt-get"
    apt_get install --no-install-recommends "${suite[@]}" "${packages[@]}" ||
        note "cannot install ${packages[*]}; $(what_for cargo)"
    hash -r
}

# Whether there is a cargo; one that is not in PATH is named.
have_cargo() {
    local own=${CARGO_HOME:-${HOME-}/.cargo}/bin
    have cargo && return
    [ -x "$own/cargo" ] || return
    note "cargo is in $own, which is not in PATH; run: export PATH=\$PATH:$own"
}

install_emulator() {
    local package=$1 theirs ours
    if ! have "$(emulator_program)"; then
        install_matching "$package"
        return
    fi
    theirs=$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null)
    ours=$(tools_version)
    if [ -n "$theirs" ] && [ -n "$ours" ] && [ "$theirs" != "$ours" ]; then
        note "$package is version $theirs, but the image tools are $ours;" \
             "tests that use both may differ"
    fi
}

# QEMU's driver for ssh:// is in a separate package, and not a program.
install_ssh_driver() {
    qemu-img info ssh://127.0.0.1:1/none 2>&1 | grep -q 'Unable to load module' || return 0
    install_matching qemu-block-extra
}

main() {
    local entry ssh=
    for entry; do
        case $entry in
            -h | --help) help; return ;;
            -*) note "unknown option '$entry'; see scripts/deps.sh --help"; return 2 ;;
        esac
    done
    need cc gcc
    have cc || missing+=(libc6-dev)
    # The daemon's second package is tried only after its first.
    for entry in "${TOOLS[@]:0:4}"; do
        need "${entry%%:*}" "${entry#*:}"
    done
    need fusermount3 fuse3
    for entry; do
        case $entry in
            ssh) ssh=yes; PATH=$PATH:/usr/sbin need sshd openssh-server ;;
            *) need "$entry" "$entry" ;;
        esac
    done

    local hindrance= cargo=
    have_cargo || cargo=missing
    if [ "${#missing[@]}" != 0 ] || [ -n "$cargo" ] || ! have "$(emulator_program)"; then
        hindrance=$(hindrance)
    fi
    if [ -n "$hindrance" ]; then
        need "$(emulator_program)" "$(emulator_package)"
        [ -z "$cargo" ] || missing+=(cargo)
        for entry in "${missing[@]}"; do
            note "cannot install $entry ($hindrance); $(what_for "$entry")"
        done
        if ! have apt-get && [ "${#missing[@]}" != 0 ]; then
            note "these are Debian package names; install this system's equivalents"
        fi
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
        [ -z "$cargo" ] || install_cargo
        install_emulator "$(emulator_package)"
        [ -z "$ssh" ] || install_ssh_driver
    fi

    local lacking=()
    for entry in cc cargo qemu-img qemu-io qemu-nbd qemu-storage-daemon; do
        have "$entry" || lacking+=("$entry")
    done
    if [ "${#lacking[@]}" != 0 ]; then
        note "still missing: ${lacking[*]}"
        return 1
    fi
}

main "$@"
