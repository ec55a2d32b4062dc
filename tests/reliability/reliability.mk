# The long forms of tests/reliability; `make test` runs the short ones.
LONG := $(BIN)/python -m pytest -o log_cli=true -o log_cli_level=INFO -o timeout=7200

.PHONY: chaos fuzz soak

chaos: $(VENV)/dev  ## inject faults for ten minutes, and judge latency in a flood
	TEST_SCALE=30 $(LONG) $(addprefix tests/reliability/test_,chaos.py machine.py flood_latency.py)

fuzz: $(VENV)/dev  ## send and read bad bytes; EXAMPLES=… of each kind
	TEST_EXAMPLES=$(or $(EXAMPLES),2000) $(LONG) $(addprefix tests/reliability/test_fuzz_,requests.py protocols.py files.py) tests/reliability/attacks/test_run_files.py

soak: $(VENV)/dev  ## a million mixed requests; REQUESTS=… for another number
	TEST_REQUESTS=$(or $(REQUESTS),1000000) $(LONG) tests/reliability/test_soak.py
