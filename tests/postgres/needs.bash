# Finds the programs that the tests of a shared circuit need, and installs those that are missing. For `source`.

die() {
    printf 'tests/postgres/%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the folder of the newest PostgreSQL server binaries.
find_postgresql() {
    local folder found=
    while read -r folder; do
        if [[ -x $folder/initdb && -x $folder/postgres ]]; then
            found=$folder
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V)
    if [[ -z $found ]] && folder=$(command -v initdb); then
        folder=$(dirname "$(realpath "$folder")")
        if [[ -x $folder/postgres ]]; then
            found=$folder
        fi
    fi
    [[ -n $found ]] && printf '%s\n' "$found"
}

# Prints a python3 that can make a venv with pip in it.
find_python() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

# Prints the path of PgBouncer.
find_pgbouncer() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin command -v pgbouncer
}

# Prints where a program is, and installs it first if it is missing: `need postgresql`, `need pgbouncer`,
# `need python`.
need() {
    local missing packages
    "find_$1" && return
    case $1 in
        postgresql) missing='no initdb and postgres here' packages=(postgresql) ;;
        pgbouncer) missing='no pgbouncer here' packages=(pgbouncer) ;;
        python) missing='no python3 with its venv module here' packages=(python3 python3-venv) ;;
    esac
    command -v apt-get >/dev/null || die "$missing, and no apt-get either: install them by hand"
    [[ $EUID == 0 ]] || die "$missing. Run this once: sudo tests/postgres/install"
    # One process at a time, whichever checkout it belongs to.
    (
        flock 8
        # Another process may have installed it meanwhile.
        "find_$1" >/dev/null || get "${packages[@]}"
    ) 8</var/lib/dpkg || exit 1
    "find_$1" || die "apt-get has installed ${packages[*]}, and still: $missing"
}

# Installs packages by apt-get, and says so.
get() {
    local log conf=/etc/postgresql-common/createcluster.conf
    printf 'tests/postgres/%s: %s, so apt-get installs %s (once)\n' "${0##*/}" "$missing" "$*" >&2
    if [[ $1 == postgresql ]]; then
        # Else the package makes a cluster and starts it on port 5432.
        mkdir -p "$(dirname "$conf")"
        if ! grep -qs '^create_main_cluster' "$conf"; then
            printf 'create_main_cluster = false\n' >>"$conf"
        fi
    fi
    export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
    # Neither the input of the script nor its lock is for apt-get and the services that it may start.
    log=$(
        {
            apt-get -o DPkg::Lock::Timeout=300 update &&
                apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
                    install -y --no-install-recommends "$@"
        } </dev/null 2>&1 8<&-
    ) || die "apt-get could not install $*: $(tail -n 5 <<<"$log")"
    if [[ $1 == pgbouncer ]]; then
        # The package starts a service of its own.
        systemctl disable --now pgbouncer &>/dev/null || true
    fi
}
