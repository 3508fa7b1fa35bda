# What a developer runs. On a fresh machine Go, git and make are enough:
# `make demo` shows the main job, `make test` passes the tests.

VERSION ?= $(patsubst v%,%,$(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null))
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))
# The race detector needs a C compiler; without one the tests run without it. It leaves
# SQLite, which is C that was made into Go, and the compressors alone: a third of all
# time for code that is not ours.
RACE := $(shell command -v $$(go env CC) >/dev/null 2>&1 && echo -race -gcflags=modernc.org/...=-race=false -gcflags=github.com/klauspost/...=-race=false)
export GORACE := atexit_sleep_ms=20 # not a second at the end of each of a thousand commands

.PHONY: build dist dist-twice nspawn demo demo-stop test lint fmt cross bench bench-capture bench-agent bench-inspect bench-idle oracle soak-capture judge-capture campaign explain crash soak wine wine-service filters fuzz captures

build: ## the program, in ./capagent
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o capagent ./cmd/capagent

PLATFORMS ?=
dist: ## archives, packages and checksums for every system, in dist/ (PLATFORMS=linux/amd64 for some)
	go run ./internal/tools/dist -version '$(VERSION)' $(if $(PLATFORMS),-platforms '$(PLATFORMS)')

dist-twice: ## the same from two checkouts with nothing in common, compared
	packaging/test/twice.sh '$(PLATFORMS)'

nspawn: ## the deb on Debian 12 and 13, booted in containers (as root; downloads 500 MB once)
	packaging/test/nspawn.sh

demo: build ## sandbox, import of the example captures, links
	@./examples/demo.sh

demo-stop: ## ends the sandbox that `make demo` left running
	@./examples/demo.sh stop

test: ## every test; first those that the race detector makes too slow
	$(if $(RACE),go test -run TestMemory ./enrich/cloudtrax ./enrich/threatconnect)
	go test $(RACE) -parallel 4 -timeout 25m ./...

lint: ## what CI holds the code to; gofumpt and staticcheck are among what golangci-lint runs
	go vet ./...
	golangci-lint run

fmt:
	gofumpt -w .

cross: ## every platform builds and vets without cgo (PLATFORMS=windows/amd64 for some)
	for p in $(or $(PLATFORMS),linux/amd64 linux/arm64 linux/arm windows/amd64 windows/arm64 darwin/amd64 darwin/arm64); do \
	  echo $$p; export CGO_ENABLED=0 GOARM=7 GOOS=$${p%/*} GOARCH=$${p#*/}; go build -o /dev/null ./cmd/capagent || exit 1; \
	  go vet ./... || exit 1; done

bench: build ## beside what a user would pick instead, in one run
	go run ./internal/tools/bench

bench-capture: build ## live capture beside tcpdump, dumpcap, netsniff-ng and stenotype (as root, 20 minutes; BENCHFLAGS=-h)
	go run ./internal/tools/benchcapture $(BENCHFLAGS)

bench-agent: build ## the agent from file to file beside dumpcap, and while it uploads beside capagent capture (as root, 10 minutes; BENCHFLAGS=-h)
	go run ./internal/tools/benchcapture -agent -sizes 512,1500 $(BENCHFLAGS)

bench-inspect: build ## what is in a capture, beside tshark: CAPTURES="folders to mix", and hostile captures (20 minutes; BENCHFLAGS=-h)
	go run ./internal/tools/benchinspect $(BENCHFLAGS) $(CAPTURES)

bench-idle: build ## what an agent costs that has nothing to do (as root, 10 minutes; BENCHFLAGS=-h)
	go run ./internal/tools/benchidle $(BENCHFLAGS)

oracle: ## every value that tshark finds, compared: CAPTURES="folders"
	go run ./internal/tools/oracle $(CAPTURES)

# Not stripped, so that its goroutines can be counted from outside.
soak-capture: ## live capture for an hour; its interface taken away 200 times (as root)
	mkdir -p .bench && CGO_ENABLED=0 go build -trimpath -o .bench/capagent ./cmd/capagent
	go run ./internal/tools/benchcapture -soak -capagent .bench/capagent $(BENCHFLAGS)

judge-capture: ## an agent that captures: 50 rotations at full rate, 500 kills, a simulated day (20 minutes; as root)
	go test ./cmd/capagent -count=1 -v -timeout 60m -run 'TestFiftyRotationsAtFullRate|TestKillsWhileCapturing' \
	  -live.rotations 50 -live.kills 500 -live.rate 100000
	go test ./service/daemon -count=1 -v -timeout 60m -run TestHoursOfCapture -daemon.hours 24

campaign: ## 20,000 files, 20 kills; then 4 GB through 64 MB (minutes)
	go test ./cmd/capagent -count=1 -v -timeout 60m -run 'TestImportSurvivesKills|TestBigFileStaysSmall' \
	  -campaign.files 20000 -campaign.kills 20 -campaign.big 4GiB

# Needs versitygw, an S3 that checks signatures:
# go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
explain: ## 100 kills while sessions are explained, 60 while captures are imported, 5 GB into S3 through 20 (10 minutes, 15 GB)
	go test ./cmd/capagent -count=1 -v -timeout 60m -run 'TestKillsWhileSessionsAreExplained|TestKillsWhileCapturesAreImported' \
	  -lookup.kills 100 -deliver.kills 60
	go test ./enrich/cado/bucket -count=1 -v -timeout 60m -run Campaign -bucket.campaign

CRASH := go test ./internal/faulttest/crash -count=1 -v -timeout 6h
crash: ## 2,000 kills, every system call, 1,000 power cuts, full and failing disks, mutants (hours; as root)
	$(CRASH) -run 'TestKills|TestEverySyscall|TestPowerCuts|TestTroublePasses|TestMutantsAreCaught' \
	  -crash.kills 2000 -crash.syscalls all -crash.cuts 1000 -crash.slow -crash.mutants

soak: ## an hour of bad networks, and 30 simulated days (as root)
	go test ./service/daemon -count=1 -v -timeout 60m -run TestDays -daemon.days 30
	$(CRASH) -run TestBadNetworks -crash.soak 60m

wine: ## the tests, built for Windows, under Wine 10 (as root; downloads 1.4 GB once)
	internal/tools/wine/run.sh

wine-service: ## the Windows installer under Wine 10: installed, running, upgraded, removed (as root)
	packaging/test/windows.sh

SUITE ?=
filters: ## filters against libpcap: 1,000,000 random trials, man page, regressions; SUITE=DIR of its sources: its own tests too (as root)
	nice go test ./capture/filter/filtertest -count=1 -v -timeout 60m \
	  -filter.trials 1000000 -filter.seed $$(date +%s) $(if $(SUITE),-filter.suite $(abspath $(SUITE)))

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME
	@mkdir -p .bench; for p in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  go test -c -fuzz . -o .bench/fuzz.test $$p || exit 1; \
	  for f in $$(cd $$p && $(CURDIR)/.bench/fuzz.test -test.list '^Fuzz'); do echo "$$p $$f"; \
	    (cd $$p && $(CURDIR)/.bench/fuzz.test -test.run '^$$' -test.fuzz "^$$f$$" -test.fuzztime $(FUZZTIME) \
	      -test.fuzzcachedir "$$(go env GOCACHE)/fuzz/capagent/$$p") || exit 1; done; done

captures: ## makes the example captures anew
	go run ./internal/tools/gencaptures examples/captures
