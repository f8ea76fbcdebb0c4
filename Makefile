# make            builds bin/extexec
# make demo       shows the main job by hand (root)
# make test       installs what the tests need and runs all of them (root)
# make help       lists the rest

.PHONY: build demo test unit race crash rig bench soak fuzz packages lint install clean clean-rig have-go root-only test-deps help
.DEFAULT_GOAL := build

export CGO_ENABLED ?= 0
# On many systems /tmp is in memory, where the kernel mounts no image without a loop device.
export TMPDIR ?= /var/tmp

GO       ?= go
PREFIX   ?= /usr
FUZZTIME ?= 1m
SOAKTIME ?= 10m
# Of what make soak draws; 0 draws others every time.
SEED     ?= 0
# git shows nobody but the owner a tree, root neither; go build takes that for an error.
NOVCS     = $(if $(shell git rev-parse --git-dir 2>/dev/null),,-buildvcs=false)
# They build the program themselves, so what go test has cached of them says nothing: -count=1.
INTEGRATION = ./integration/...
# libcontainer enters namespaces in C: its tests have nothing in them without cgo.
CGO_TESTS   = $(addprefix ./,$(wildcard integration/foreign))
UNIT        = $$($(GO) list ./... | grep -v /integration)

# program:package of everything that the tests call on this machine.
TEST_TOOLS = mmdebstrap:mmdebstrap mkfs.erofs:erofs-utils mksquashfs:squashfs-tools mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs \
	mkfs.ext4:e2fsprogs sfdisk:fdisk sgdisk:gdisk setfattr:attr veritysetup:cryptsetup-bin openssl:openssl strace:strace tar:tar groff:groff-base qemu-aarch64-static:qemu-user-static \
	losetup:mount depmod:kmod openssl:openssl systemd-escape:systemd systemd-analyze:systemd \
	gcc:gcc gcc:libc6-dev

build: have-go ## the static binary, bin/extexec
	$(GO) build $(NOVCS) -trimpath -ldflags "-s -w" -o bin/extexec ./cmd/extexec

demo: root-only build ## the main job by hand, on real directories (root)
	@GO=$(GO) demo/run.sh

test: root-only test-deps ## all tests, under real systemds too (root; cold caches: some minutes)
	@rc=0; \
	EXTEXEC_REQUIRE_RIG=1 $(GO) test -timeout 30m $(UNIT) || rc=1; \
	EXTEXEC_REQUIRE_RIG=1 $(GO) test -count=1 -p 1 -timeout 30m $(INTEGRATION) || rc=1; \
	for pkg in $(CGO_TESTS); do CGO_ENABLED=1 EXTEXEC_REQUIRE_RIG=1 $(GO) test $$pkg || rc=1; done; \
	$(MAKE) --no-print-directory race || rc=1; \
	exit $$rc

unit: ## the tests beside the code; without root the ones that need it are skipped
	$(GO) test $(UNIT)

race: root-only test-deps ## what goes on after it was given up, under the race detector (root)
	CGO_ENABLED=1 EXTEXEC_REQUIRE_RIG=1 $(GO) test -race -run 'TestDo|TestSurveyThatIsGivenUp|TestHanging' ./nsmount ./nsmount/hierarchy

crash: root-only test-deps ## strike every system call of reload, run, install and portable attach, not a sample (root; an hour)
	$(GO) test -timeout 120m -count=1 -v ./integration/crash -all

rig: root-only test-deps ## only the tests under real systemds (root)
	EXTEXEC_REQUIRE_RIG=1 $(GO) test -count=1 -p 1 -timeout 30m $(INTEGRATION)

bench: root-only test-deps ## the table of figures, under systemd 262 (root; some minutes)
	$(GO) test -c -o bin/bench ./integration/bench
	EXTEXEC_REQUIRE_RIG=1 bin/bench -table -test.run '^TestTable$$' -test.timeout 60m

soak: root-only test-deps ## random versions, kills and reloads for SOAKTIME=10m (root); SEED= draws the same again
	$(GO) test -c -o bin/soak ./integration/soak
	cd integration/soak && EXTEXEC_REQUIRE_RIG=1 ../../bin/soak -test.run '^TestSoak$$' -test.timeout 0 -for $(SOAKTIME) -seed $(SEED)

fuzz: ## every fuzz target for FUZZTIME=1m
	@for pkg in $(UNIT); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

packages: have-go ## .deb and .rpm for amd64 and arm64, in dist/
	packaging/build dist

lint: ## gofmt, go vet, golangci-lint
	@.ci/lint

install: ## binary, units, man pages and completions, below DESTDIR= and PREFIX=/usr
	@test -x bin/extexec || { echo "build it first: make" >&2; exit 1; }
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin bin/extexec
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system units/*.service units/*.path
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/systemd/system-generators units/extexec-generator
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system-preset units/90-extexec.preset
	install -D -m 644 units/extexec.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/extexec.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog share/extexec.catalog
	for page in man/*.[1-8]; do install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page; done
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	bin/extexec completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/extexec
	bin/extexec completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_extexec
	bin/extexec completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/extexec.fish

clean: ## what make built; the rig's roots stay: make clean-rig
	rm -rf bin dist

clean-rig: ## the roots in the cache; no test may be running
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/extexec-rig"

have-go:
	@command -v $(GO) >/dev/null || { echo "this needs Go, https://go.dev/dl/, and its bin directory in PATH; if only sudo does not find it: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)" >&2; exit 1; }

root-only:
	@test "$$(id -u)" = 0 || { echo "this needs root, for namespaces and mounts: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

test-deps:
	@.ci/install-tools $(TEST_TOOLS)

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
