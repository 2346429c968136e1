#!/usr/bin/env bash
# Installs what the tests need beside Go: redis-server, redis-tools and strace.
# It does so as root, or through sudo with INSTALL=1; else it names what is
# missing and fails.
set -euo pipefail
missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v redis-cli >/dev/null || missing+=(redis-tools)
command -v redis-benchmark >/dev/null || missing+=(redis-tools)
command -v strace >/dev/null || missing+=(strace)
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing for the tests: ${missing[*]}" >&2
run=()
if [ "$(id -u)" -ne 0 ]; then
	if [ "${INSTALL:-}" != 1 ]; then
		echo "missing: ${missing[*]} (install them, or run with INSTALL=1 to use sudo)" >&2
		exit 1
	fi
	run=(sudo)
fi
"${run[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# The package starts a server of its own; the tests start theirs.
"${run[@]}" service redis-server stop >/dev/null 2>&1 || true
