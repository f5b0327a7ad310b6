# Sourced by `cross` and `wine`: Debian's Rust, which, unlike rustup's here, can be had with the
# source of its standard library, and so compiles for systems whose own packages are not there.
#
# Its version is whatever Debian has. Everything it builds is kept in target/cross for the next run.
# shellcheck shell=bash

cross=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cross
std=(-Zbuild-std=std,panic_abort,panic_unwind,test,proc_macro)
windows=x86_64-pc-windows-gnu
mingw=x86_64-w64-mingw32-gcc-posix

# install LABEL COMMAND=PACKAGE...: installs the packages whose command (or path) is not there.
install() {
    local label=$1 pair packages=()
    shift
    for pair in "$@"; do
        [ -e "${pair%%=*}" ] || packages+=("${pair#*=}")
    done
    [ "${#packages[@]}" -ne 0 ] || return 0
    echo "installing ${packages[*]}"
    # Removing a Rust that somebody has installed is not for a check to do.
    if ! { apt-get -q update &&
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends --no-remove \
            "${packages[@]}"; } >"$cross/apt.log" 2>&1; then
        tail -n 5 "$cross/apt.log"
        echo "$label: apt cannot install ${packages[*]}"
        return 1
    fi
}

# debian_rust LABEL: makes sure of the compiler and of the source that belongs to it.
debian_rust() {
    local version source
    mkdir -p "$cross"
    # Windows' standard library has import libraries made while it is compiled, by dlltool.
    install "$1" /usr/bin/rustc=rustc-web /usr/bin/cargo=cargo-web \
        /usr/lib/rustlib/src/rust/library=rust-web-src /usr/bin/cc=gcc \
        /usr/bin/x86_64-w64-mingw32-dlltool=binutils-mingw-w64-x86-64
    version=$(debian rustc --version | sed -n 's/^rustc \([0-9.]*\) .*/\1/p')
    source=$(realpath /usr/lib/rustlib/src/rust)
    echo "Debian's Rust $version, standard library of $source"
    if [ -z "$version" ] || [ "${source##*-}" != "$version" ]; then
        echo "$1: the compiler and the source are not of one version"
        return 1
    fi
}

# debian TOOL ARGUMENT...: runs Debian's cargo or rustc, whatever else is in the PATH. The first
# variable makes a stable compiler take the flags that rebuild the standard library.
debian() {
    local tool=$1
    shift
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTUP_TOOLCHAIN PATH=/usr/bin:/bin \
        RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$cross" \
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 "/usr/bin/$tool" "$@"
}

# The flags of a target are the same for all who compile for it, or everything is built twice.
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS="-D warnings"
export CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS="-D warnings"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS="-D warnings -C link-self-contained=no \
-L native=$cross/objects"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$mingw
