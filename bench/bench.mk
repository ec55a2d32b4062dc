# Included by the Makefile. The load generator and the echo come from source; the peers live in environments of their own.
PEERS := triton mlserver mosec litserve bentoml

.PHONY: bench bench-peers
bench: $(VENV)/run build/bench/loadgen build/bench/echo  ## measure this server beside its peers, write docs/benchmarks.md
	$(BIN)/python -m bench $(BENCH)

bench-peers: $(PEERS:%=build/peers/%/ready)  ## install the peers that `make bench` compares with

build/bench/%: bench/native/%.cc
	@pkg-config --exists grpc++ && command -v h2load >/dev/null || \
		{ echo 'bench: needs apt-get install g++ pkg-config libgrpc++-dev nghttp2-client'; exit 2; }
	@mkdir -p $(@D)
	$(CXX) -O2 -std=c++17 -Wall -Wextra $< $$(pkg-config --cflags --libs grpc++) -o $@

build/peers/%/ready: bench/peers/requirements/%.txt
	$(PYTHON) -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
