# Bare make prints help.
.DEFAULT_GOAL := help
-include .env
HTTP_PORT ?= 8080
RESP_PORT ?= 6380
DATA ?= data
RUN := .run
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: help build up down demo log clean-data test test-short lint bench bench-http bench-scale fuzz-short

help: ## Print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/quipu
	@go build -ldflags "-X main.version=$(VERSION)" -o bin/quipu ./cmd/quipu

up: build ## Build, start a node in the background, wait until it is ready
	@mkdir -p $(RUN)
	@if [ -f $(RUN)/pid ] && kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then echo "already up (process $$(cat $(RUN)/pid)); make down stops it"; exit 1; fi
	@nohup bin/quipu serve --data $(DATA) --http 127.0.0.1:$(HTTP_PORT) --resp 127.0.0.1:$(RESP_PORT) > $(RUN)/log 2>&1 & echo $$! > $(RUN)/pid
	@for i in $$(seq 300); do \
		if bin/quipu health --server http://127.0.0.1:$(HTTP_PORT) 2>/dev/null; then grep -v level= $(RUN)/log; echo "  redis-cli -p $(RESP_PORT) get hits"; exit 0; fi; \
		if ! kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then break; fi; sleep 0.1; done; \
		echo "the node did not become ready:" >&2; tail -20 $(RUN)/log >&2; rm -f $(RUN)/pid; exit 1

down: ## Stop the node; its data stays
	@if [ -f $(RUN)/pid ] && kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then \
		kill -TERM $$(cat $(RUN)/pid); while kill -0 $$(cat $(RUN)/pid) 2>/dev/null; do sleep 0.1; done; echo "stopped"; \
	else echo "not running"; fi; rm -f $(RUN)/pid

demo: build ## Show in 20 seconds that nothing is lost or doubled: kill -9, dropped answers, retries
	@bin/quipu demo

log: ## Follow the node's log
	@tail -n 50 -f $(RUN)/log

clean-data: ## Remove the data folder (asks)
	@if [ -f $(RUN)/pid ] && kill -0 $$(cat $(RUN)/pid) 2>/dev/null; then echo "the node is running: make down first"; exit 1; fi
	@printf 'Remove %s with all counters in it? [y/N] ' "$(DATA)"; read answer; [ "$$answer" = y ] && rm -rf "$(DATA)" && echo removed || echo kept

test: ## Run all tests; installs Redis, its tests, Tcl, redis-py and strace as root or with INSTALL=1
	@scripts/test.sh

test-short: ## Run the quick tests
	@go test -short ./...

lint: ## gofmt, vet, staticcheck, go.mod
	@scripts/lint.sh

bench: ## Measure Quipu and Redis side by side (needs redis-server)
	@scripts/bench.sh

bench-http: ## Measure batches over HTTP
	@go build -o bin/quipu ./cmd/quipu
	@go run ./bench/http -quipu bin/quipu

bench-scale: ## Measure a node of 10 million counters (6 GB of disk, some minutes)
	@go build -o bin/quipu ./cmd/quipu
	@go run ./bench/scale -quipu bin/quipu

fuzz-short: ## Fuzz each decoder, and the ledger against the model, for ten seconds
	@go test -run xxx -fuzz FuzzSegment -fuzztime 10s ./internal/wal
	@go test -run xxx -fuzz FuzzDecodeNode -fuzztime 10s ./internal/datadir
	@go test -run xxx -fuzz FuzzDecodeEntry -fuzztime 10s ./internal/ledger
	@# Coverage differs from run to run beneath the ledger: minimizing would never end.
	@go test -run xxx -fuzz FuzzAgainstModel -fuzztime 10s -fuzzminimizetime 1x ./internal/ledger
	@go test -run xxx -fuzz FuzzParse -fuzztime 10s ./internal/respapi
	@go test -run xxx -fuzz FuzzParse -fuzztime 10s ./internal/accesslog
