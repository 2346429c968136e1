#!/usr/bin/env bash
# Runs all tests. Where Redis' tools or strace are missing and can't be
# installed this fails, naming them; what needs only Go runs all the same.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
if ! scripts/install-test-deps.sh; then
	status=1
	command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null || export QUIPU_WITHOUT_REDIS=1
	command -v strace >/dev/null || export QUIPU_WITHOUT_STRACE=1
fi
go test -timeout 15m ./... || status=1
go test -race -short -timeout 15m ./internal/pool ./internal/store ./internal/respapi ./internal/nodecounter ./internal/raftstore \
	./internal/ledger ./internal/wal ./internal/memstore ./internal/storetest ./internal/history || status=1
exit $status
