#!/usr/bin/env bash
# Do Kafka, ClickHouse and Redis answer? For compose, local and external services alike; needs bash and curl only.
#
#   infrastructure/scripts/health-check.sh
#   PIPELINE_KAFKA__BOOTSTRAP_SERVERS=host:9092 infrastructure/scripts/health-check.sh       # the settings' variables
#   KAFKA=host:9092 CLICKHOUSE=host:8123 REDIS=host:6379 WAIT=60 infrastructure/scripts/health-check.sh
#
# WAIT is how many seconds to wait for those that do not answer yet (default 0). Exit code 0: all answer; 69: not all.
set -uo pipefail

# The first of several bootstrap servers stands for all; addresses in settings files are not read here.
kafka=${PIPELINE_KAFKA__BOOTSTRAP_SERVERS:-localhost:9092}
KAFKA=${KAFKA:-${kafka%%,*}}
CLICKHOUSE=${CLICKHOUSE:-${PIPELINE_CLICKHOUSE__HOST:-localhost}:${PIPELINE_CLICKHOUSE__PORT:-8123}}
REDIS=${REDIS:-${PIPELINE_REDIS__HOST:-localhost}:${PIPELINE_REDIS__PORT:-6379}}
WAIT=${WAIT:-0}

# ApiVersions, version 0, correlation 7, no client id: the answer repeats the correlation and has error code 0.
ask_kafka() {
    local answer
    exec 3<>"/dev/tcp/${KAFKA%:*}/${KAFKA##*:}" || return 1
    printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff' >&3
    answer=$(head -c 10 <&3 | od -An -v -tx1 | tr -d ' \n')
    exec 3>&-
    [[ ${answer:8} == 000000070000 ]]
}

ask_redis() {
    local answer
    exec 3<>"/dev/tcp/${REDIS%:*}/${REDIS##*:}" || return 1
    printf 'PING\r\n' >&3
    IFS= read -r -t 3 answer <&3
    exec 3>&-
    [[ $answer == +PONG* || $answer == -NOAUTH* ]]
}

ask_clickhouse() {
    local code
    code=$(curl -s -o /dev/null -m 3 -w '%{http_code}' "http://$CLICKHOUSE/?query=SELECT+1")
    [[ $code == 200 || $code == 401 || $code == 403 ]]
}

# In a process of its own under a limit: a frozen server accepts and never answers.
asked() { timeout 5 bash -c "$(declare -f "ask_$1"); ask_$1" 2>/dev/null; }
export KAFKA CLICKHOUSE REDIS

check() {
    local name=$1 address=$2 until=$((SECONDS + WAIT))
    until asked "$name"; do
        if ((SECONDS >= until)); then
            echo "✗ $name does not answer at $address"
            return 1
        fi
        sleep 1
    done
    echo "✓ $name answers at $address"
}

failed=0
check kafka "$KAFKA" || failed=1
check clickhouse "$CLICKHOUSE" || failed=1
check redis "$REDIS" || failed=1
if ((failed)); then
    echo "  Try: make services    or    docker compose -f infrastructure/docker-compose.yml up -d" >&2
    exit 69
fi
