# 'make help' lists what can be made.

# How much 'make check-block' runs: quick, slow or thorough.
SPEED ?= quick
# More options for ./check, such as ARGS='-j 4 --html report'.
ARGS ?=
# More programs for 'make deps' to install.
WITH ?=
# How long 'make fuzz' runs, in seconds.
DURATION ?= 60
# How long each measurement of 'make bench' takes, in seconds.
BENCH_SECONDS ?= 10
# The profile of cargo that 'make bench' and 'make recall' build in. In dev they use what 'make
# check' has built, and figures mean nothing.
BENCH_PROFILE ?= bench
# The same for 'make fuzz', which is slow in dev.
FUZZ_PROFILE ?= release
# How long 'make recall' searches for each fault, in seconds.
RECALL_SECONDS ?= 20
# The faults that 'make mutants' injects, or 'make recall' plants; all, where none is named.
FAULTS ?=

# Where 'make install' installs, and what stands before that for those who make packages.
PREFIX ?= /usr/local
DESTDIR ?=
# The profile of cargo that 'make install' builds in.
INSTALL_PROFILE ?= release

.PHONY: help deps check-block check guest mutants fuzz recall bench install uninstall

help:
	@echo 'make deps                      install the packages that the tests need'
	@echo "                               (WITH='ssh gdb gdbserver valgrind' adds these)"
	@echo 'make check-block               run the qcow2 tests of group auto'
	@echo 'make check-block SPEED=slow      and all other qcow2 tests, and raw'
	@echo 'make check-block SPEED=thorough  and luks, nbd, parallels, qed, vdi, vhdx, vmdk, vpc'
	@echo 'make check-block-DRIVER        run every test with one format or protocol'
	@echo "                               (ARGS='...' adds options of ./check)"
	@echo '                               Both install missing packages first.'
	@echo 'make guest                     make the Linux guest that the tests of group guest boot'
	@echo '                               (fetches packages; nothing is installed)'
	@echo 'make check                     run the tests of this project itself'
	@echo 'make mutants [FAULTS=...]      count the injected faults that the suite detects'
	@echo 'make fuzz [DURATION=SECONDS]   fuzz the image tools'
	@echo 'make recall [FAULTS=...]       measure the share of planted faults that the fuzzer finds'
	@echo 'make install [PREFIX=DIR]      install image-check, the suite as one program, image-fuzzer,'
	@echo '                               man pages and completions; default /usr/local'
	@echo 'make uninstall [PREFIX=DIR]    remove them'
	@echo 'make bench [BENCH_SECONDS=N]   measure the overhead of the runner and the fuzzer'

deps:
	@scripts/deps.sh $(WITH)

ifeq ($(SPEED),quick)
check-block: runs = '-qcow2 -g auto'
else ifeq ($(SPEED),slow)
check-block: runs = '--formats qcow2,raw'
else ifeq ($(SPEED),thorough)
check-block: runs = '--formats qcow2,raw,luks,parallels,qed,vdi,vhdx,vmdk,vpc' '-raw -nbd'
else
check-block: runs = $(error SPEED is '$(SPEED)', not quick, slow or thorough)
endif

# Every run is made, also after one has failed.
check-block: deps-there
	@status=0; \
	for run in $(runs); do CHECK_DEPS_TRIED=y ./check $$run $(ARGS) || status=$$?; done; \
	exit $$status

check-block-%: deps-there
	@CHECK_DEPS_TRIED=y ./check -$* $(ARGS)

# Installs packages where a program is missing, and says so. What cannot be installed is
# not tried again within the hour, except by 'make deps'.
TARGET := $(or $(CARGO_TARGET_DIR),target)
.PHONY: deps-there
deps-there:
	@mkdir -p $(TARGET)
	@[ -z "$$(find $(TARGET)/.deps-tried -mmin -60 2>/dev/null)" ] || exit 0; \
	[ -e $(TARGET)/.deps-seen ] || wanted=y; \
	for tool in cc cargo qemu-img qemu-io qemu-nbd qemu-storage-daemon; do \
	    command -v $$tool >/dev/null || wanted=y; \
	done; \
	[ -n "$$wanted" ] || exit 0; \
	scripts/deps.sh || touch $(TARGET)/.deps-tried; \
	touch $(TARGET)/.deps-seen

check: deps-there
	@command -v cc >/dev/null || { echo 'make check: cc is missing: nothing can be linked; install it with: make deps' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'make check: cargo is missing: nothing can be built; install it with: make deps' >&2; exit 1; }
	cargo test --workspace

guest:
	@scripts/guest

mutants: deps-there
	@ARGS='$(ARGS)' scripts/mutants $(FAULTS)

fuzz: deps-there
	@cargo build --profile $(FUZZ_PROFILE) --quiet --workspace --bin image-fuzzer
	@# Status 3 says that there are findings, which is what is looked for.
	@$(TARGET)/$(if $(filter dev,$(FUZZ_PROFILE)),debug,$(FUZZ_PROFILE))/image-fuzzer -d $(DURATION) $(ARGS) || [ $$? -eq 3 ]

# With the features of the whole workspace, as 'make check' has them: others are another build.
bench = cargo bench --workspace --profile $(BENCH_PROFILE)

recall:
	$(bench) --bench recall -- $(RECALL_SECONDS) $(FAULTS)

bench:
	$(bench) --bench own_cost --bench dry_run
	$(bench) --bench campaign -- $(BENCH_SECONDS)

install:
	@DESTDIR='$(DESTDIR)' INSTALL_PROFILE='$(INSTALL_PROFILE)' scripts/install '$(PREFIX)'

uninstall:
	@DESTDIR='$(DESTDIR)' scripts/install --remove '$(PREFIX)'
