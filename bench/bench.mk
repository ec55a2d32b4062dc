# Included by the Makefile. The load generator and the echo server are built from source; each peer has its own environment.
PEERS := triton mlserver mosec litserve bentoml openvino

.PHONY: bench bench-peers gpu-check
bench: $(VENV)/run build/bench/loadgen build/bench/echo  ## measure this server and its peers, write docs/benchmarks.md
	$(BIN)/python -m bench $(BENCH)

bench-peers: $(PEERS:%=build/peers/%/ready) build/bench/openvino_server  ## install the peers of `make bench`

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

# The wheel of OpenVINO has its headers and libraries.
OPENVINO = $(realpath $(firstword $(wildcard build/peers/openvino/lib/python3*/site-packages/openvino)))
PROTOCOL := inference/open_inference inference/model_config

build/bench/openvino_server: bench/native/openvino_server.cc build/peers/openvino/ready
	@command -v grpc_cpp_plugin >/dev/null || { echo 'bench: needs apt-get install protobuf-compiler-grpc libprotobuf-dev'; exit 2; }
	@mkdir -p build/bench/protocol
	protoc -I proto --cpp_out build/bench/protocol --grpc_out build/bench/protocol \
		--plugin protoc-gen-grpc=$$(command -v grpc_cpp_plugin) $(PROTOCOL:%=%.proto)
	$(CXX) -O2 -std=c++17 -Wall -Wextra -I build/bench/protocol -isystem $(OPENVINO)/include $< \
		$(PROTOCOL:%=build/bench/protocol/%.pb.cc) build/bench/protocol/inference/open_inference.grpc.pb.cc \
		$(wildcard $(OPENVINO)/libs/libopenvino.so.*) -Wl,-rpath,$(OPENVINO)/libs $$(pkg-config --cflags --libs grpc++ protobuf) -o $@

build/peers/%/ready: bench/peers/requirements/%.txt
	$(PYTHON) -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
