# Included by the Makefile. The load generator and the echo server are built from source; each peer has its own environment.
PEERS := triton mlserver mosec litserve bentoml

.PHONY: bench bench-peers gpu-check
bench: $(VENV)/run build/bench/loadgen build/bench/echo  ## measure this server and its peers, write docs/benchmarks.md
	$(BIN)/python -m bench $(BENCH)

bench-peers: $(PEERS:%=build/peers/%/ready)  ## install the peers of `make bench`

# onnxruntime and onnxruntime-gpu install the same package, so the checks have their own environment, made if a card answers.
gpu-check:  ## check this server on a CUDA card, write docs/gpu.md; without a card, say so
	@if nvidia-smi >/dev/null 2>&1; then \
		$(MAKE) build/gpu/ready build/bench/models/ready && \
		build/gpu/bin/python -m bench.gpu --repository build/bench/models $(GPU); \
	else $(PYTHON) -m bench.gpu $(GPU); fi

build/gpu/ready: pyproject.toml constraints.txt hashed-requirements.txt
	$(PYTHON) -m venv build/gpu
	build/gpu/bin/python $(HASHED)
	build/gpu/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,gpu]'
	@touch $@

build/bench/models/ready: $(VENV)/run
	$(BIN)/python -m bench.works
	@touch $@

build/bench/%: bench/native/%.cc
	@pkg-config --exists grpc++ && command -v h2load >/dev/null || \
		{ echo 'bench: needs apt-get install g++ pkg-config libgrpc++-dev nghttp2-client'; exit 2; }
	@mkdir -p $(@D)
	$(CXX) -O2 -std=c++17 -Wall -Wextra $< $$(pkg-config --cflags --libs grpc++) -o $@

build/peers/%/ready: bench/peers/requirements/%.txt
	$(PYTHON) -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
