# The long forms of tests/reliability; `make test` runs the short ones.
LONG := $(BIN)/python -m pytest -o log_cli=true -o log_cli_level=INFO -o timeout=7200

.PHONY: attack chaos cluster-test fuzz large-image soak

attack: $(VENV)/dev  ## attack servers as a stranger would, and print what honest callers and the memory notice
	TEST_SCALE=10 $(LONG) tests/reliability/attacks

chaos: $(VENV)/dev  ## inject faults for ten minutes, and judge latency in a flood and after outages
	TEST_SCALE=30 $(LONG) $(addprefix tests/reliability/test_,chaos.py machine.py flood_latency.py outages.py)

cluster-test: $(VENV)/dev  ## kill, cut off and upgrade machines of a cluster under a million calls; as root; REQUESTS=… for another number
	TEST_REQUESTS=$(or $(REQUESTS),1000000) $(LONG) tests/deploy/cluster/test_cluster.py tests/deploy/cluster/rounds.py

fuzz: $(VENV)/dev  ## send and read bad bytes; EXAMPLES=… of each kind
	TEST_EXAMPLES=$(or $(EXAMPLES),2000) $(LONG) $(addprefix tests/reliability/test_fuzz_,requests.py protocols.py http.py files.py bundles.py) tests/reliability/attacks/test_run_files.py

large-image: $(VENV)/dev  ## send a picture of 100 megapixels; MEGAPIXELS=… for another size
	TEST_SCALE=$(or $(MEGAPIXELS),100) $(LONG) tests/reliability/test_large_image.py

soak: $(VENV)/dev  ## a million mixed requests; REQUESTS=… for another number
	TEST_REQUESTS=$(or $(REQUESTS),1000000) $(LONG) tests/reliability/test_soak.py
