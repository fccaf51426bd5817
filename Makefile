# Weir's build. `make help` lists what there is.

GO      ?= go
export CGO_ENABLED ?= 0
RELEASE ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X weir/internal/app.Release=$(RELEASE)
PKGS    := ./cmd/... ./internal/... ./examples/... ./test/...
BIN     := bin/weir

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: tools
tools: # Name what is missing, with the line that installs it.
	@build/prerequisites

.PHONY: assets
assets: tools node_modules/.installed ## Fetch and bundle the pages' assets (npm, esbuild)
	@$(GO) run ./internal/edge/web/assets/build

node_modules/.installed: package.json package-lock.json
	@echo "assets: npm ci (fonts, htmx)"
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: sandbox-init
sandbox-init: tools # The small program that is process 1 of every sandbox; without it the whole binary is.
	@$(GO) run ./internal/base/jail/build

.PHONY: build
build: assets sandbox-init ## Build bin/weir with its pages' assets
	@echo "build: $(BIN) $(RELEASE) (a few minutes the first time)"
	@mkdir -p bin
	@$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/weir
	@echo "build: done, $$(du -h $(BIN) | cut -f1)"

.PHONY: demo
demo: build ## See the main job; EXIT=1 ends by itself
	@$(BIN) demo $(if $(EXIT),--exit)

.PHONY: deps
deps: ## Install what tests need from Debian: PostgreSQL, Chromium (root or sudo)
	@build/deps

.PHONY: test
test: deps build ## Run the tests (PostgreSQL and Chromium included), and the demo as an unprivileged user
	@build/test

.PHONY: test-all
test-all: ## The long checks: race detector, stock cosign, conformance, crash storms, dogfood
	@build/test-all

.PHONY: check
check: ## Format, vet, staticcheck, architecture, generated files
	@build/check

.PHONY: generate
generate: ## Make generated files again: pages, reference
	@$(GO) tool templ generate -path internal/edge/web
	@$(GO) run ./internal/app/reference docs/reference

.PHONY: bench
bench: deps build ## Measure; writes bench/results.tsv and docs/benchmarks.md
	@mkdir -p bench && $(GO) build -o bin/bench ./internal/app/bench && build/with-postgres bin/bench $(BIN) bench/results.tsv && bin/bench page bench/results.tsv docs/benchmarks.md

.PHONY: dogfood
dogfood: build ## Weir's own repository through a running Weir
	@build/dogfood

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin node_modules internal/edge/web/assets/dist/* internal/base/confine/dist/* test-results
