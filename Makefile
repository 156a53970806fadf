# Everything starts from Python 3.11, gcc and make; what else is missing is installed (Debian, root or sudo).
#
#   make            build into .venv, so that .venv/bin/ntx works
#   make demo       the whole workflow against the simulator, proved with tools that are not ours
#   make demo-agent the agent against the simulator: a schedule, a repository that is gone for a while, a clean stop
#   make demo-replicate   a replica against the simulator: four cycles, a test cutover, the machine boots
#   make test       the tests
#   make soak       what needs hundreds of rounds: captures stopped at random moments, among random faults, and by
#                   power cuts; copies killed, and their servers, and over a network that loses packets; jobs of the core
#                   among faults of a disk in memory;
#                   images written by us and by qemu, at random; each fault of a disk below an image; huge ones;
#                   flipped bits of images; points forgotten at random, pruned and synced;
#                   replicas killed at random;
#                   SOAK_ROUNDS, PRUNE_ROUNDS, REPLICA_CYCLES, IMAGE_ROUNDS, FLIPS, FAULT_ROUNDS, CUT_ROUNDS, JOB_ROUNDS, COPY_KILLS, COPY_LOSSES,
#                   CAPTURE_KILLS, AGENT_KILLS, EXPORT_KILLS, LOSSY_COPIES, SOAK_SEED
#   make fuzz       what parses hostile bytes, on bytes made up; FUZZ_SECONDS for each parser
#   make lint       ruff and clang-format
#   make types      mypy, and the stubs of the C binding against the binding itself
#   make bench        measure copying on this machine, beside its peers, into bench/results
#   make bench-scale  what many regions, large disks and many disks cost; BENCH_SAVE=machine keeps the records
#   make bench-smoke  each regression benchmark once, to see that it still works
#   make bench-regression         does anything cost more than bench/baseline.json says?  under two minutes
#   make bench-baseline           make what is measured now the baseline; on a quiet machine
#   make bench-regression-against BASE=COMMIT   as the first, but held against that commit, measured here too
#   make bench-regression-proof   show that a planted slowdown of 20 % is found
#   make check      what the CI does
#   make release    build a folder to install the agent from, without a network: dist/ntx-VERSION
#   make clean      remove what was made

PYTHON_OF_VENV := .venv/bin/python
C_FILES := $(wildcard csrc/*.[ch] tests/csrc/*.[ch] tests/fuzz/*.[ch] bench/*/*.c)
# Files of tests that share a fixture stay in one process, and begin in our order: by default the shortest come last.
PYTEST_ARGS ?= -q -n 4 --dist loadfile --no-loadscope-reorder -p no:benchmark

# The tests start thousands of processes, and an image of a system may say that no compiled module is kept.
export PYTHONDONTWRITEBYTECODE :=

SOAK_ROUNDS ?= 200
FAULT_ROUNDS ?= 100
CUT_ROUNDS ?= 50
JOB_ROUNDS ?= 1000
COPY_KILLS ?= 200
COPY_LOSSES ?= 50
CAPTURE_KILLS ?= 200
AGENT_KILLS ?= 100
EXPORT_KILLS ?= 100
LOSSY_COPIES ?= 150
IMAGE_ROUNDS ?= 1000
FLIPS ?= 1000
PRUNE_ROUNDS ?= 200
REPLICA_CYCLES ?= 50
SOAK_SEED := $(or $(SOAK_SEED),$(shell date +%s))

FUZZ_SECONDS ?= 60

SCALE ?= planning sparse many in_flight

.DEFAULT_GOAL := build
.PHONY: build build-test demo demo-agent demo-replicate test soak fuzz lint types types-mypy types-stubs bench bench-scale bench-smoke bench-regression \
        bench-regression-against bench-regression-proof bench-baseline check clean format release

build:
	@scripts/build demo

build-test:
	@scripts/build test

demo: build
	@.venv/bin/ntx demo $(DEMO_ARGS)

demo-agent: build
	@.venv/bin/ntx demo agent $(DEMO_ARGS)

demo-replicate: build
	@scripts/install-packages.sh boot
	@.venv/bin/ntx demo replicate $(DEMO_ARGS)

test: build-test
	@$(PYTHON_OF_VENV) -m pytest $(PYTEST_ARGS)

soak: build-test
	@echo "SOAK_SEED=$(SOAK_SEED)"
	@NTX_SOAK_ROUNDS=$(SOAK_ROUNDS) NTX_FAULT_ROUNDS=$(FAULT_ROUNDS) NTX_CUT_ROUNDS=$(CUT_ROUNDS) \
	    NTX_COPY_KILLS=$(COPY_KILLS) NTX_COPY_SIZE=4G NTX_COPY_BANDWIDTH=200M NTX_COPY_LOSSES=$(COPY_LOSSES) \
	    NTX_CAPTURE_KILLS=$(CAPTURE_KILLS) NTX_AGENT_KILLS=$(AGENT_KILLS) NTX_EXPORT_KILLS=$(EXPORT_KILLS) NTX_LOSSY_COPIES=$(LOSSY_COPIES) NTX_SOAK_SEED=$(SOAK_SEED) \
	    NTX_RESUME_LONG=1 NTX_JOB_ROUNDS=$(JOB_ROUNDS) \
	    NTX_IMAGE_ROUNDS=$(IMAGE_ROUNDS) NTX_EVERY_FAULT=1 NTX_LARGE_IMAGES=1 NTX_FLIPS=$(FLIPS) NTX_RETENTION_ROUNDS=60 \
	    NTX_PRUNE_ROUNDS=$(PRUNE_ROUNDS) NTX_REPLICA_CYCLES=$(REPLICA_CYCLES) \
	    $(PYTHON_OF_VENV) -m pytest -q -p no:benchmark --timeout 0 \
	    tests/agent/test_killed.py tests/export/test_killed.py tests/capture/test_soak.py tests/capture/test_random_faults.py tests/capture/test_killed_ways.py \
	    tests/capture/test_together_killed.py tests/capture/test_together_faults.py tests/repository/test_power_cuts.py \
	    tests/retention/test_policy.py tests/retention/test_forget.py \
	    tests/capture/test_resume.py tests/capture/test_resume_damaged.py tests/capture/test_resume_killed.py \
	    tests/copying/test_killed.py::test_a_new_file_is_whole_after_many_kills \
	    tests/copying/test_lost.py tests/copying/test_power_cuts.py \
	    tests/capture/test_many_kills.py tests/capture/test_power_cuts.py tests/interop/test_lossy_link.py \
	    tests/images/test_differential.py tests/images/test_faults_of_writing.py tests/images/test_large_images.py \
	    tests/repository/test_flipped_anywhere.py tests/prune tests/sync tests/replicate/test_random.py \
	    'tests/csrc/test_c.py::test_c[power_cut]' 'tests/csrc/test_c_threads.py::test_c[power_cut]'

fuzz: build-test
	@$(PYTHON_OF_VENV) -m tests.fuzz.fuzzing $(FUZZ_SECONDS)
	@NTX_FUZZ_EXAMPLES=$$((100 * $(FUZZ_SECONDS))) $(PYTHON_OF_VENV) -m pytest -q -p no:benchmark --timeout 0 -n 2 \
	    tests/fuzz/test_python_parsers.py tests/fuzz/test_config.py tests/repository/test_point_json.py

lint: build-test
	@.venv/bin/ruff check src tests bench setup.py
	@.venv/bin/ruff format --check src tests bench setup.py
	@clang-format --dry-run --Werror $(C_FILES)

format: build-test
	@.venv/bin/ruff format src tests bench setup.py
	@clang-format -i $(C_FILES)

types: types-mypy types-stubs

types-mypy: build-test
	@.venv/bin/mypy
	@.venv/bin/mypy --implicit-reexport -p tests

types-stubs: build-test
	@MYPYPATH=src $(PYTHON_OF_VENV) -m mypy.stubtest $(addprefix ntxengine._core.,kernels limiter tls device engine)

bench: build-test
	@.venv/bin/ntx bench --out bench/results $(BENCH_ARGS)

bench-smoke: build-test
	@$(PYTHON_OF_VENV) -m pytest bench -q -o python_files='bench_*.py' -o python_functions='bench_*' --benchmark-disable

bench-scale: build-test
	@for name in $(SCALE); do \
	    $(PYTHON_OF_VENV) bench/scale/$$name.py $(if $(BENCH_SAVE),--save scale-$$name-$(BENCH_SAVE)) || exit; \
	done

bench-regression: build-test
	@bench/regression/run

bench-baseline: build-test
	@bench/regression/run --update

bench-regression-against: build-test
	@bench/regression/against $(BASE)

bench-regression-proof: build-test
	@bench/regression/proof

check:
	@.ci/run

release: build-test
	@scripts/release $(RELEASE)

clean:
	rm -rf .venv build dist demo .fuzz *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f src/ntxengine/_core/*.so src/ntxengine/_core/*.c
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
