# `make` alone lists what there is. Each target is a script in scripts/, which says what it does.
.DEFAULT_GOAL := help
.PHONY: help setup weights build run test lint fmt bench bench-engine corpus watch

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Install what the build and the tests need and is missing
	@scripts/setup.sh --tests
	@node scripts/weights.mjs default small

weights: ## Fetch the weights of the model inside Verbatim; ARGS=small names another than the default
	@node scripts/weights.mjs $(ARGS)

build: ## Build what has changed, without starting it
	@scripts/setup.sh
	@scripts/build.sh

run:   ## Build what has changed and start the server; ARGS="--help" lists its options
	@scripts/run.sh $(ARGS)

test:  ## Run every check: form, Rust tests, browser tests; ARGS go to Playwright
	@scripts/test.sh $(ARGS)

lint:  ## Check the form: rustfmt, clippy for both builds, types, shell scripts
	@scripts/lint.sh

fmt:   ## Format the Rust code
	@scripts/fmt.sh

bench: ## Measure sizes, memory, store and server over corpora; N="1000 100000" names their sizes
	@scripts/bench.sh $(N)

bench-engine: ## Measure the engine beside llama-cpp-python on the same weights; ARGS="--help" lists options
	@scripts/bench-engine.sh $(ARGS)

corpus: ## Make N sessions (100000) for benchmarks; SEED (1), OUT (corpus-N in the build directory)
	@scripts/corpus.sh "$(N)" "$(SEED)" "$(OUT)"

watch: ## Rebuild and reload the page at each change (needs cargo-leptos)
	@scripts/watch.sh $(ARGS)
