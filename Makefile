# The one door for contributors. CI runs `make ci`, which is these and nothing else.

.PHONY: ci system fmt lint core test doc schema golden fuzz bench demo

CARGO ?= cargo

# Everything CI runs, after `make system`.
ci: fmt lint core doc test

# System packages of a bare Debian: cmake for a C dependency of the proxy, the rest for tests of deploy/ and the README.
system:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends cmake gcc curl systemd prometheus

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

# The inner ring alone: proves that it names no runtime, socket, disk or clock.
core:
	$(CARGO) check --locked --no-default-features --lib

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib

# All tests. Documentation tests show that a permit cannot be forged.
test:
	$(CARGO) test --locked

# Write the files that tests compare: JSON Schemas and golden files.
golden:
	UPDATE=1 $(CARGO) test --locked --test gateway -- golden

# CPU time per request against a bare pingora proxy, then the decision alone.
bench:
	$(CARGO) bench --locked --bench forwarding
	$(CARGO) bench --locked --bench decision

demo:
	$(CARGO) run --release -- demo
