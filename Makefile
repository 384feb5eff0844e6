# EdgeCoder. `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -o pipefail -euc
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help build dist install run demo test race lint openapi fuzz fuzz-short sim bench bench-edge spread spread-real overload failover rotation saturation ledger-scale upgrade-test chaos chaos-short chaos-planted clean

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/edgecoder/edgecoder/cmd.Version=$(VERSION)
FUZZTIME ?= 20s
FUZZSHORT ?= 300x
SIMCHECKS ?= 1000
SPREAD ?= 10,100,1000
EDGES ?= 27
SIMSEEDS ?= 1-8,1008,1026
SIMHOURS ?= 0.5
SIMSEASONS ?= 12
OVERLOAD ?= 1m
KILLS ?= 20
SATURATION ?= 10m
LEDGER_RECORDS ?= 10000000
DURATION ?= 10m
CHAOS_DIR ?= $(CURDIR)/chaos-runs
SIM_DIR ?= $(CURDIR)/sim-runs
PLANTED ?= .*
RUN_DIR ?= $(CURDIR)/run
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

build: ## build bin/edgecoder
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/edgecoder ./cmd/edgecoder

dist: ## dist/edgecoder-OS-ARCH for linux and darwin on amd64 and arm64, without C, and their SHA-256 sums
	@rm -rf dist; mkdir dist; sums=$$(command -v sha256sum || echo 'shasum -a 256'); \
	for p in $(PLATFORMS); do echo "$$p"; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -trimpath -ldflags '$(LDFLAGS)' -o "dist/edgecoder-$${p%/*}-$${p#*/}" ./cmd/edgecoder; done; \
	cd dist; $$sums edgecoder-* >SHA256SUMS; cat SHA256SUMS

install: build ## copy bin/edgecoder to GOBIN (or GOPATH/bin)
	install -D bin/edgecoder "$${GOBIN:-$$(go env GOPATH)/bin}/edgecoder"

run: build ## a three-node cluster on loopback, in the foreground; Ctrl-C stops it
	./bin/edgecoder cluster up --nodes 3 --data '$(RUN_DIR)'

demo: build ## the guided tour on a throw-away cluster
	./bin/edgecoder demo

# Most of a cluster's test is waiting, so four go side by side, also on two processors.
test: build ## everything a fresh machine can check
	go test -timeout 15m -parallel 4 ./...

race: ## the whole test suite under the race detector
	go test -race -timeout 30m ./...

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

openapi: ## write docs/openapi.json from the route table; a test fails when it differs
	go test ./api -run TestOpenAPIIsStoredAndServed -openapi

fuzz: ## every fuzz target for FUZZTIME (default 20s) each; minimising what was found would take all of it
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg; done; done

fuzz-short: ## FUZZSHORT (default 300x) mutants of the seeds of every fuzz target, blind: without building all packages anew to follow their paths
	@bin=$$(mktemp -d); trap 'rm -rf "$$bin"' EXIT; \
	for dir in $$(grep -rl --include=*_test.go '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  go test -c -o "$$bin/t" "./$$dir"; \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -c6-); do \
	    (cd "$$dir" && "$$bin/t" -test.run '^$$' -test.fuzz "^$$f\$$" -test.fuzztime $(FUZZSHORT) -test.fuzzminimizetime 1x -test.fuzzcachedir "$$bin/cache" >"$$bin/log" 2>&1) || { echo "$$dir $$f"; cat "$$bin/log"; exit 1; }; \
	  done; done

sim: ## five real nodes in virtual time, SIMHOURS (0.5) each for SIMSEEDS (1-8, and those that found something); years of their key schedules, SIMSEASONS (12); gossip alone; the state machine against its model, SIMCHECKS (1000) histories a property
	@mkdir -p '$(SIM_DIR)'
	EDGECODER_SIM_SEEDS='$(SIMSEEDS)' EDGECODER_SIM_FOR='$(SIMHOURS)h' GOGC=300 go test -count=1 -timeout 12h -v -artifacts -outputdir '$(SIM_DIR)' ./node -run '^TestSim$$'
	EDGECODER_SIM_SEASONS='$(SIMSEASONS)' GOGC=300 go test -count=1 -timeout 2h -v ./node -run '^TestSimKeyYears$$'
	go test -count=1 ./gossip -run Sim
	go test -count=1 -timeout 30m ./fsm -run 'P[0-9]|Monotone' -rapid.checks=$(SIMCHECKS)

spread: ## how fast a ban reaches SPREAD (10,100,1000) edges in virtual time, with 0, 5 and 25 % loss, and what they say when idle (a thousand: five minutes of processor and 7 GiB)
	EDGECODER_SPREAD='$(SPREAD)' GOGC=300 GOMEMLIMIT=8GiB go test -count=1 -timeout 2h -v -run '^TestSimSpread$$' ./node
	EDGECODER_ACKS=100 go test -count=1 -timeout 1h -v -run '^TestSimAcksCost$$' ./gossip

spread-real: ## how fast a ban reaches EDGES (27) edges beside three coordinators, processes on loopback, and what they say when idle (exact for these alone in a network namespace of their own)
	EDGECODER_SPREAD_REAL=$(EDGES) go test -count=1 -timeout 20m -v -run '^TestSpreadReal$$' ./e2e

bench: ## micro benchmarks, then signed admissions and transfers through a real three-node cluster
	go test -run '^$$' -bench . -benchmem ./crypto/... ./fsm ./ledger/walk ./api
	go test -run '^$$' -bench . -benchtime 5s ./e2e

bench-edge: ## an edge with 1,000,000 bans: bytes a ban, a check in process and over a unix socket, load (a minute)
	go test -run '^$$' -bench . -benchmem ./edge

overload: ## a flood from loopback for OVERLOAD (1m) against a real cluster while honest agents are admitted
	EDGECODER_OVERLOAD=$(OVERLOAD) go test -count=1 -timeout 10m -v -run '^TestOverload$$' ./e2e

failover: ## KILLS (20) leader kills by SIGKILL, then handovers and a rolling restart, as clients of the other nodes see them
	EDGECODER_FAILOVER=$(KILLS) go test -count=1 -timeout 30m -v -run '^(TestFailover|TestLeadershipHandedOver)$$' ./e2e

rotation: ## keys of an agent and of coordinators, gossip key and CA of real servers rotated under load, the leader killed in the middle of each (some two minutes)
	EDGECODER_ROTATION=1 go test -count=1 -timeout 10m -v -run '^TestP5RotationUnderKills$$' ./e2e

saturation: ## every processor busy for SATURATION (10m): a cluster with default settings must keep its leader
	EDGECODER_SATURATION=$(SATURATION) go test -count=1 -timeout 60m -v -run '^TestSaturation$$' ./e2e

ledger-scale: ## LEDGER_RECORDS (10000000) records of the ledger on a node: memory, snapshot, restart, pages (a minute and some 2 GiB of disk)
	EDGECODER_LEDGER_SCALE=$(LEDGER_RECORDS) go test -count=1 -timeout 60m -v -run '^TestLedgerScale$$' ./store

upgrade-test: ## a cluster of the landed version upgraded server by server under load, in both orders (three minutes; needs this repository's history)
	EDGECODER_UPGRADE=1 go test -count=1 -timeout 10m -v -run '^TestUpgrade' ./e2e

chaos: build ## every chaos scenario, a hundred leader kills, then explore-all for DURATION (10m); as root with all faults
	@mkdir -p '$(CHAOS_DIR)'; failed=; at=$$(date -u +%Y%m%d-%H%M%S); \
	once() { ./bin/edgecoder chaos run "$$1" --netns --out '$(CHAOS_DIR)'/"$$1-$$at" "$${@:2}" || failed="$$failed $$1"; }; \
	for s in $$(./bin/edgecoder chaos list | awk 'NR > 1 && $$1 != "kill-leader-100" && $$1 != "explore-all" { print $$1 }'); do once "$$s"; done; \
	once kill-leader-100; once explore-all --duration $(DURATION); \
	if [ -n "$$failed" ]; then echo "not passed:$$failed; everything about them is in $(CHAOS_DIR)"; exit 1; fi

chaos-short: ## the chaos runs that are part of make test
	go test -count=1 -timeout 3m -v -run '^TestRun' ./chaos

chaos-planted: ## judge the judges: each planted bug that PLANTED (all) matches must be found (about five minutes)
	go vet -tags planted ./cmd ./durable ./fsm ./node ./store
	go test -count=1 -tags planted -run '^TestPlants' ./cmd
	go test -tags planted -count=1 -timeout 5m -v -run '^TestP4Agreement|^TestSimPlanted' ./node
	EDGECODER_PLANTED=1 go test -count=1 -timeout 6m -v -run '^TestPlanted$$/^(none|$(PLANTED))$$' ./chaos

clean: ## remove what was built or run here
	rm -rf bin dist '$(RUN_DIR)'
