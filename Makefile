# INOS Edge. `make` lists the targets. run, build and test are the only set-up
# that a fresh machine with Go and Node needs: see tools/setup.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

BIN      := $(CURDIR)/bin
VERSION   = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
PAIRS    ?= 7
QUICK    ?=
ONLY     ?=

export PATH := $(BIN):$(CURDIR)/web/node_modules/.bin:$(PATH)
# The version is stamped below. Asking git for more fails a build in a tree
# that belongs to another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build bin/inos
	@tools/setup build
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/inos ./cmd/inos

.PHONY: run
run: build ## start a node for this machine alone: http://127.0.0.1:8080, data in ./data
	@exec $(BIN)/inos serve --dev --data data --listen 127.0.0.1:8080 --admin 127.0.0.1:8081

.PHONY: test
test: lint build ## all that a change has to pass: lint, generated code, race detector, web (12 minutes)
	@INOS_SOAK=0 go test -race -timeout 12m $(if $(CI),-count=1) ./...
	@cd web && npm run check && npm test

.PHONY: soak
soak: tools build ## the crash, fuzz and load loops at their full numbers (hours)
	@INOS_SOAK=1 go test -race -timeout 6h -count=1 ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s each)
	@tools/fuzz $(FUZZTIME)

.PHONY: bench
bench: tools build ## measure side by side with nginx and write docs/benchmarks.md (PAIRS=7; QUICK=1: a smoke run; ONLY=accounting)
	@go run ./loadtest/bench -inos $(BIN)/inos -pairs $(PAIRS) $(if $(QUICK),-quick) $(if $(ONLY),-only $(ONLY))

.PHONY: lint
lint: generate ## formatting, linters, and that the committed generated code is what generate makes
	@tools/clean-tree proto/gen web/gen gateway/conformance/gen gateway/conformance/gen
	@golangci-lint run ./...
	@golangci-lint fmt --diff ./...
	@buf format --diff --exit-code proto

.PHONY: fmt
fmt: tools ## format Go and proto files
	@golangci-lint fmt ./...
	@buf format --write proto

.PHONY: generate
generate: tools ## write all code that comes from the schema
	@proto/generate

.PHONY: tools
tools: ## install and build what testing needs (as root through apt; else it names the command)
	@tools/setup test
	@tools/build $(BIN)
	@tools/npm-ci

.PHONY: clean
clean: ## remove what was built; data/ stays
	rm -rf $(BIN) web/node_modules
