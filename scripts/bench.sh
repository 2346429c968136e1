#!/usr/bin/env bash
# Measures Quipu and Redis side by side. Arguments go to bench/resp, for example
#   scripts/bench.sh -rounds 3 -settings 50x16
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in redis-server redis-benchmark; do
	command -v "$tool" >/dev/null || { echo "bench: $tool is missing: install redis-server and redis-tools" >&2; exit 1; }
done
go build -o bin/quipu ./cmd/quipu
exec go run ./bench/resp -quipu bin/quipu "$@"
