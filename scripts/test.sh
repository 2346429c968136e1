#!/usr/bin/env bash
# Runs all tests. What needs Redis' tools fails, naming them, where they can't
# be installed; what needs only Go runs all the same.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
scripts/install-test-deps.sh || { status=1; export QUIPU_WITHOUT_REDIS=1; }
go test -timeout 15m ./... || status=1
go test -race -short -timeout 15m ./internal/pool ./internal/store ./internal/respapi ./internal/nodecounter ./internal/raftstore || status=1
exit $status
