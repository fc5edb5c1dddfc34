# PayKit. `make help` lists the targets.
SHELL := bash
GO ?= go
GOLANGCI_VERSION := v2.15.0
BIN := $(CURDIR)/bin
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
TEST_TIMEOUT ?= 15m
# How many packages are tested at once: many of their tests wait.
TEST_PACKAGES ?= 4
# What an ordinary build leaves out; .golangci.yml has the same. The planted bugs are one file of a few lines.
ALL_TAGS := crashpoints,soak,browser

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run the whole loop: NATS, sandbox, ingest, worker, projector
	$(GO) run ./cmd/paykit dev

.PHONY: build
build: ## build the four programs into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o $(BIN)/ ./cmd/...

.PHONY: test
test: ## all tests that need nothing but Go, with the race detector where there is a C compiler
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null 2>&1; then \
		$(GO) test -race -p $(TEST_PACKAGES) -timeout $(TEST_TIMEOUT) ./...; \
	else \
		echo "no C compiler: tests run without the race detector"; \
		CGO_ENABLED=0 $(GO) test -p $(TEST_PACKAGES) -timeout $(TEST_TIMEOUT) ./...; \
	fi

SIM_SEEDS ?= 20000

.PHONY: sim
sim: ## the simulation: 20,000 seeds (SIM_SEEDS); a failing one prints itself, is shrunk and kept
	$(GO) test -count=1 -timeout 40m -run '^(TestSeeds|TestRegressions|TestSameSeedSameLog)$$' -v ./internal/sim -first 1 -seeds $(SIM_SEEDS) -keep

SOAK_TIME ?= 2h
SOAK_SEEDS ?= 1000000
SOAK_FIRST ?= 1000000
SOAK_HITS ?= 1,2,4,7

.PHONY: soak
soak: soak-seeds soak-crash soak-days ## what proves itself, for long: a million seeds (SOAK_SEEDS), kills, virtual weeks; at most SOAK_TIME (2h) each

.PHONY: soak-seeds
soak-seeds: ## the simulation: SOAK_SEEDS seeds from SOAK_FIRST on, for at most SOAK_TIME
	$(GO) test -count=1 -timeout 0 -run '^TestSeeds$$' -v ./internal/sim -first $(SOAK_FIRST) -seeds $(SOAK_SEEDS) -for $(SOAK_TIME) -keep

.PHONY: soak-crash
soak-crash: ## real processes: kills at random for SOAK_TIME, then later hits (SOAK_HITS) of every crash point for at most SOAK_TIME
	SOAK_TIME=$(SOAK_TIME) $(GO) test -tags crashpoints -count=1 -timeout 0 -run '^TestKillsAtRandom$$' -v ./internal/e2e
	SOAK_TIME=$(SOAK_TIME) CRASH_HITS=$(SOAK_HITS) $(GO) test -tags crashpoints -count=1 -timeout 0 -parallel $(CRASH_PARALLEL) -run '^(TestCrashPoints|TestNetwork|TestStandByTakesOver|TestManyAtOnce)$$' -v ./internal/e2e

.PHONY: soak-days
soak-days: ## virtual time: weeks that pass in minutes
	$(GO) test -tags soak -count=1 -timeout $(SOAK_TIME) -v ./internal/virtualtime

.PHONY: planted
planted: ## plant a bug against each invariant; fails if the simulation does not catch it
	@mkdir -p $(BIN)
	$(GO) test -c -vet=off -tags planted -o $(BIN)/planted.test ./internal/sim
	@cd internal/sim && seq 1 11 | xargs -P $(PLANTED_PARALLEL) -I{} env PLANT_BUG={} $(BIN)/planted.test -test.timeout 5m -test.run '^TestPlanted$$' -test.v

# How many planted bugs are looked for at once, each by one processor.
PLANTED_PARALLEL ?= 2

.PHONY: test-browser
test-browser: ## the hosted pages in headless Chromium (installs it where it is missing)
	.ci/install-browser
	$(GO) test -count=1 -timeout 5m -tags browser -run 'Browser' ./internal/provider/stripe/sandbox/...

# How many whole systems, of five processes each, run at once.
CRASH_PARALLEL ?= 5

.PHONY: crash
crash: ## kill the real processes at every crash point, break their network, under load; then hold everything against each other
	$(GO) test -tags crashpoints -count=1 -timeout 20m -parallel $(CRASH_PARALLEL) -run '^(TestCrashPoints|TestNetwork|TestStandByTakesOver|TestManyAtOnce|TestKillsAtRandom)$$' -v ./internal/e2e

.PHONY: check
check: ## formatting, vet, tidy go.mod
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags $(ALL_TAGS) ./...
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint with .golangci.yml, which names the build tags
	$(GOLANGCI) run --timeout 40m ./...

$(GOLANGCI):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv $(BIN)/golangci-lint $@

.PHONY: bench
bench: ## the figures of docs/performance.md, each as a ratio within one run
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./internal/bench/...

.PHONY: golden
golden: ## write missing golden files and logs (existing ones are never changed)
	$(GO) test ./internal/events ./internal/projections -run Golden -golden

.PHONY: schema
schema: ## write the JSON Schemas and docs/asyncapi.yaml anew, from the Go types and the registries
	$(GO) test -count=1 ./internal/schema -run '^(TestCurrent|TestAsyncAPICurrent)$$' -write

.PHONY: check-asyncapi
check-asyncapi: ## docs/asyncapi.yaml in AsyncAPI's official parser (installs Node.js where it is missing)
	.ci/check-asyncapi

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
