# EdgeCoder. `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -o pipefail -euc
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help build install run demo test race lint fuzz sim bench clean

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/edgecoder/edgecoder/cmd.Version=$(VERSION)
FUZZTIME ?= 20s
SIMCHECKS ?= 1000
RUN_DIR ?= $(CURDIR)/run
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

build: ## build bin/edgecoder
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/edgecoder ./cmd/edgecoder

install: build ## copy bin/edgecoder to GOBIN (or GOPATH/bin)
	install -D bin/edgecoder "$${GOBIN:-$$(go env GOPATH)/bin}/edgecoder"

run: build ## a three-node cluster on loopback, in the foreground; Ctrl-C stops it
	./bin/edgecoder cluster up --nodes 3 --data '$(RUN_DIR)'

demo: build ## the guided tour on a throw-away cluster
	./bin/edgecoder demo

test: build ## everything a fresh machine can check
	go test -timeout 15m ./...

race: ## the whole test suite under the race detector
	go test -race -timeout 30m ./...

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

fuzz: ## every fuzz target for FUZZTIME (default 20s) each
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; done; done

sim: ## gossip in virtual time; the state machine against its model, SIMCHECKS (1000) histories a property
	go test -count=1 ./gossip -run Sim
	go test -count=1 -timeout 30m ./fsm -run 'P[0-9]|Monotone' -rapid.checks=$(SIMCHECKS)

bench: ## micro benchmarks, then signed admissions through a real three-node cluster
	go test -run '^$$' -bench . -benchmem ./crypto ./fsm ./api
	go test -run '^$$' -bench . -benchtime 5s ./e2e

clean: ## remove what was built or run here
	rm -rf bin '$(RUN_DIR)'
