# Everything here needs Go and a POSIX system; `make help` lists the targets.

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s
# The date in man pages: that of the last commit, so that builds are reproducible.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# The packages that the targets test and fuzz use. The slowest comes first, so that no
# processor waits for it at the end.
PACKAGES ?= ./pkg/store ./...
# Arguments for `go test` in the targets test and bench, such as -run or -count.
TESTFLAGS ?=

# Where make install puts files. DESTDIR comes before all of these, for packagers.
PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd/system
HOOKDIR ?= $(PREFIX)/lib/acmeproxy
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
# Where it takes them from.
BIN = bin
DIST = dist

# Programs that some tests use in addition to Go; .ci/run installs them.
TEST_PROGRAMS = age openssl curl wget jq ip nft named nginx apache2 haproxy caddy certbot podman

# ACME clients that the target e2e runs in addition to Go packages.
E2E_PROGRAMS = certbot dehydrated lego uacme caddy openssl curl unshare

# The container image and the program that builds it: podman, or else docker.
IMAGE ?= acmeproxy
CONTAINERS ?= $(shell command -v podman || command -v docker)

# Each developer tool has a module of its own, so that its dependencies do not
# affect the versions of another tool's, or of ours.
tool = $(GO) tool -modfile=tools/$(1)/go.mod $(1)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/acmeproxy, a static program
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X github.com/acmeproxy/acmeproxy/cmd.version=$(VERSION)' -o bin/acmeproxy .

.PHONY: image
image: image-files ## build a container image (IMAGE=acmeproxy)
	@if [ -z "$(CONTAINERS)" ]; then \
		echo "neither podman nor docker is installed; install one: sudo apt-get install podman" >&2; \
		exit 1; \
	fi
	$(CONTAINERS) build -t $(IMAGE) -f Containerfile bin/image

# Files that the Containerfile copies: the program, this host's root certificates
# and an empty folder for data.
.PHONY: image-files
image-files: build
	@rm -rf bin/image
	@mkdir -p bin/image/data
	@chmod 700 bin/image/data
	@cp bin/acmeproxy bin/image/
	@for roots in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do \
		if [ -s "$$roots" ]; then \
			cp "$$roots" bin/image/ca-certificates.crt; \
			exit 0; \
		fi; \
	done; \
	echo "no root certificates found on this host; install the package ca-certificates" >&2; \
	exit 1

.PHONY: pebble
pebble: .pebble/bin/pebble ## build the ACME test server into .pebble/bin

.pebble/bin/pebble: .pebble/go.mod .pebble/go.sum
	cd .pebble && CGO_ENABLED=0 $(GO) build -trimpath -o bin/ tool
	touch $@

.PHONY: zlint
zlint: tools/zlint/bin/zlint ## build the linter of certificates into tools/zlint/bin

tools/zlint/bin/zlint: tools/zlint/go.mod tools/zlint/go.sum
	cd tools/zlint && CGO_ENABLED=0 $(GO) build -trimpath -o bin/ tool
	touch $@

# Most tests wait more than they compute, so we run more of them at once than there
# are processors. SQLite, translated from C, uses neither goroutines nor our memory: the
# race detector finds nothing there, and makes it seven times slower. make lint vets the
# tests, and no person debugs these binaries.
.PHONY: test
test: pebble zlint ## run all tests with the race detector, list the skipped ones (PACKAGES=… TESTFLAGS=…)
	@race="-race -gcflags=modernc.org/...=-race=false"; \
	if ! command -v "$$($(GO) env CC)" >/dev/null; then \
		race=; \
		echo "*** no C compiler: testing WITHOUT the race detector; install gcc to have it ***"; \
	fi; \
	for program in $(TEST_PROGRAMS); do \
		command -v $$program >/dev/null || echo "*** $$program is not installed: the tests that use it are SKIPPED ***"; \
	done; \
	parallel=$$((3 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))); \
	set -x; \
	ACMEPROXY_REQUIRE_PEBBLE=1 $(GO) run ./internal/gotest $(GOTEST) $(GO) test -json $$race -vet=off -ldflags='-s -w' -timeout=20m -parallel="$$parallel" $(TESTFLAGS) $(PACKAGES)

# A module of its own, because of its dependencies. The clients wait more than they compute.
.PHONY: e2e
e2e: ## run stock ACME clients against the ACME server, list the skipped ones (TESTFLAGS=…)
	@for program in $(E2E_PROGRAMS); do \
		command -v $$program >/dev/null || echo "*** $$program is not installed: its tests are SKIPPED ***"; \
	done; \
	parallel=$$((4 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))); \
	cd e2e; \
	set -x; \
	$(GO) run ../internal/gotest $(GOTEST) $(GO) test -json -count=1 -timeout=15m -parallel="$$parallel" $(TESTFLAGS) .

.PHONY: lint
lint: lint-format lint-vet lint-staticcheck lint-golangci lint-words ## check format, code and words

.PHONY: lint-format
lint-format:
	@unformatted=$$($(call tool,gofumpt) -l .); \
	if [ -n "$$unformatted" ]; then \
		echo "not formatted; run make format:"; \
		echo "$$unformatted"; \
		exit 1; \
	fi

.PHONY: lint-vet
lint-vet:
	$(GO) vet ./...
	cd e2e && $(GO) vet ./...

# The other systems that the program and its tests compile for. docs/platforms.md says what
# was run there.
CROSS ?= darwin/arm64 freebsd/amd64 windows/amd64

# go vet type-checks all packages and their tests, and compiles what they import. Nothing
# is linked, and the build cache serves later runs.
.PHONY: cross
cross: ## check that everything compiles for other systems (CROSS=windows/amd64)
	@for system in $(CROSS); do \
		echo "== $$system"; \
		CGO_ENABLED=0 GOOS="$${system%/*}" GOARCH="$${system#*/}" $(GO) vet ./...; \
	done

.PHONY: lint-staticcheck
lint-staticcheck:
	$(call tool,staticcheck) ./...
	cd e2e && $(GO) tool -modfile=../tools/staticcheck/go.mod staticcheck ./...

.PHONY: lint-golangci
lint-golangci:
	$(call tool,golangci-lint) run ./...
	cd e2e && $(GO) tool -modfile=../tools/golangci-lint/go.mod golangci-lint run ./...

.PHONY: lint-words
lint-words:
	@scripts/words.sh

.PHONY: format
format: ## format the code
	$(call tool,gofumpt) -l -w .

.PHONY: bench
bench: build ## run the benchmarks (TESTFLAGS=…)
	$(GO) test -run '^$$' -bench . -skip Shares -benchtime 100x -timeout 30m $(TESTFLAGS) ./internal/loadtest ./pkg/store
	$(GO) test -run '^$$' -bench Shares -benchtime 1x $(TESTFLAGS) ./internal/loadtest
	$(GO) test -run '^$$' -bench . -benchtime 10x -timeout 30m $(TESTFLAGS) ./internal/processbench
	$(GO) test -run '^$$' -bench . -benchtime 300x -timeout 30m $(TESTFLAGS) ./pkg/acmeserver/sqlstore

.PHONY: demo
demo: build pebble ## show the three modes with a test CA
	$(GO) run ./internal/demo

.PHONY: docs
docs: ## write docs/configuration.md from the code
	$(GO) run ./internal/gendocs config docs/configuration.md

.PHONY: man
man: ## write the man pages into dist/man
	rm -rf dist/man
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(GO) run ./internal/gendocs man dist/man

.PHONY: completions
completions: ## write shell completions into dist/completions
	rm -rf dist/completions
	$(GO) run ./internal/gendocs completions dist/completions

.PHONY: dist
dist: build man completions ## build the program, man pages and completions

.PHONY: install
install: ## install what make dist has built (PREFIX=/usr/local DESTDIR=…)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" BIN="$(BIN)" DIST="$(DIST)" BINDIR="$(BINDIR)" UNITDIR="$(UNITDIR)" HOOKDIR="$(HOOKDIR)" MANDIR="$(MANDIR)" \
		BASHDIR="$(BASHDIR)" ZSHDIR="$(ZSHDIR)" FISHDIR="$(FISHDIR)" scripts/install.sh

.PHONY: uninstall
uninstall: ## remove what make install has installed; data and configuration stay
	rm -f "$(DESTDIR)$(BINDIR)/acmeproxy" "$(DESTDIR)$(UNITDIR)/acmeproxy.service" "$(DESTDIR)$(UNITDIR)/acmeproxy-remote.service" \
		"$(DESTDIR)$(HOOKDIR)"/certbot-hook "$(DESTDIR)$(HOOKDIR)"/dehydrated-hook "$(DESTDIR)$(HOOKDIR)"/uacme-hook "$(DESTDIR)$(HOOKDIR)"/acme.sh-hook \
		"$(DESTDIR)$(BASHDIR)/acmeproxy" "$(DESTDIR)$(ZSHDIR)/_acmeproxy" "$(DESTDIR)$(FISHDIR)/acmeproxy.fish" \
		"$(DESTDIR)$(MANDIR)/man1/acmeproxy.1" "$(DESTDIR)$(MANDIR)"/man1/acmeproxy-*.1

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (PACKAGES=… FUZZTIME=10s)
	@packages=$$($(GO) list $(PACKAGES)); \
	for package in $$packages; do \
		listed=$$($(GO) test -list '^Fuzz' "$$package"); \
		for target in $$(echo "$$listed" | sed -n '/^Fuzz/p'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$package"; \
		done; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .pebble/bin tools/zlint/bin coverage.out
