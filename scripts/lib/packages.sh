# shellcheck shell=bash
# What scripts that fetch packages share: names of packages and programs of this machine, the
# server that apt uses, and an apt that keeps everything in a folder of its own.

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
        i?86) echo qemu-system-i386 ;;
        arm*) echo qemu-system-arm ;;
        ppc64*) echo qemu-system-ppc64 ;;
        *) echo "qemu-system-$(uname -m)" ;;
    esac
}

# The key that Debian signs its suites with.
DEBIAN_KEY=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the address from which this machine has suite $1; nothing where it has none.
suite_uri() {
    local uri own
    own=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null)
    uri=$(sed -nE "s|^deb +(\[[^]]*\] +)?([a-z]+://[^ ]*) +$1 .*|\2|p" <<<"$own" | head -n 1)
    if [ -z "$uri" ]; then
        # Paragraphs of key: value lines; the one with this suite.
        own=$(awk -v RS= -v suite="$1" '
            /(^|\n)Suites:/ { s = $0; sub(/(.*\n)?Suites:/, " ", s); sub(/\n.*/, "", s);
                              if (index(s " ", " " suite " ")) { print; exit } }' \
            /etc/apt/sources.list.d/*.sources 2>/dev/null)
        uri=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' <<<"$own")
    fi
    [ -z "$uri" ] || printf '%s\n' "$uri"
}

# Sets 'own_apt' to the options with which apt-get and apt-cache keep everything in folder $1,
# know of no package that is installed, and use suites $2... of server DEBIAN_MIRROR. A suite
# whose server was not updated for weeks will do.
own_apt=()
own_apt() {
    local dir=$1 suite
    shift
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    : >"$dir/status"
    for suite; do
        printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEY" "$DEBIAN_MIRROR" "$suite"
    done >"$dir/sources.list"
    # Root fetches as itself: the user _apt cannot write in our folders.
    own_apt=(-o "Dir::State=$dir" -o "Dir::State::Lists=$dir/lists" -o "Dir::State::status=$dir/status"
        -o "Dir::Cache=$dir" -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=-
        -o Dir::Etc::Preferences=- -o Dir::Etc::PreferencesParts=- -o APT::Sandbox::User=root
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
}
