# SPDX-License-Identifier: GPL-2.0-only
# make          the library and the ooh command for this machine (no package manager is called)
# make demo     everything from scratch, then the main job on a real redis-server (CONFIG=kvm: in a guest of KVM)
# make check    all tests; the last line is "N passed, N failed, N skipped"
# make bench    every tracker on the same work, and a report (an hour; QUICK=1: minutes, a check that it works)
# make cost     the cost of a round over mapped size and dirty share (COST="--log epml --sizes 1024")
# make sqemu    QEMU's disk tools with our patches for long backing chains, in build/sqemu/usr/bin
# make bench-gc pauses of a garbage collector by implementation of its dirty bits (half an hour)
# make bench-disk  what disks of up to 1000 files cost, with QEMU as it is and ours (half an hour; DISK="--files 1,100")
# make check-long  what make check leaves out, too: all tests, each with every log and on every machine (hours)
# make check-gc of these the collector's (minutes)
# make check-kvm  the guest's tests and the generator in a guest of KVM (half an hour)
# make check-criu  CRIU's own tests and all ways to change memory, with the plugin and without (hours)
# make check-packages  packages of each release, built, installed, used, removed, and the module's (half an hour)
# make check-patches  of these every prefix of every patch series (an hour or two)
# make pictures  docs/pictures anew: what a redis-server writes on this machine
# make site     the documentation as a site, with the man pages: build/site
# make bench-criu  what a dump costs, by soft-dirty and by each tracker (hours; BENCH="--keys N,N ...")
# make fuzz     a million hostile calls of the hypercall (hours; FUZZ="--calls N --seconds N")
# make soak     ten million operations of a hard process, compared by the oracle (an hour or more; SOAK="--ops N --seconds N")
# make soak-disk  a million operations on long chains of disk files, judged by a flat copy (hours; SOAK="--ops N --seconds N")
# make lint     style and static checks; make format mends the style of the C files
# make install  library, command, man pages, completion, udev rule, unit (prefix=/usr/local, DESTDIR)
# make uninstall  what make install with the same arguments has put there
# make deb      Debian packages for this machine's release, in build/deb
# make deb-criu deb-libgc  the same of CRIU with our plugin, and of bdwgc, with our patches
# make dist     the sources of HEAD as build/ooh-VERSION.tar.xz
# make down     end the emulated machines
# make clean    remove build/ (the cache outside the tree stays)

BUILD ?= build
override BUILD := $(abspath $(BUILD))
export OOH_BUILD := $(BUILD)
VERSION = $(shell scripts/version)
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
libdir ?= $(prefix)/lib
dirs = prefix=$(prefix) libdir=$(libdir)

# Prerequisites are made in order: what is to be installed comes first. Below, -j works.
.NOTPARALLEL:

all: host

# What the tests, the emulated machine and the tools of developers need from the distribution is
# installed by testbed/packages, which says so. Nothing is installed when all is there, and nothing
# for what a user builds with make alone: host, install, dist.
packages-%:
	@testbed/packages $*

host:
	@$(MAKE) -s -C libooh O=$(BUILD)/host-obj
	@$(MAKE) -s -C libooh O=$(BUILD)/host-obj DESTDIR=$(BUILD)/host prefix=/usr libdir=/usr/lib SHARED=1 install

# The emulated machine: Bochs, Xen, images.
testbed:
	@testbed/build all

# What goes into the running guest: module, library, command, tests. Built in
# the guest's own distribution, so that compiler and headers fit its kernel.
guest: testbed
	@rm -rf $(BUILD)/libgc && cp -a $$(readlink -f $(BUILD)/testbed/libgc)/dist $(BUILD)/libgc
	@testbed/in-root make -s -f tests/guest.mk BUILD=/build
	@IN_ROOT_DIR=$$(readlink -f $(BUILD)/testbed/tools)/dist testbed/in-root make -s -f /ooh/tests/dom0.mk BUILD=/build
	@testbed/build criu
	@IN_ROOT_LAYER=$$(readlink -f $(BUILD)/testbed/criu-root)/layer IN_ROOT_DIR=$$(readlink -f $(BUILD)/testbed/criu) \
		testbed/in-root make -s -f /ooh/tests/criu.mk BUILD=/build

sqemu:
	@testbed/build sqemu
	@rm -rf $(BUILD)/sqemu && cp -a $$(readlink -f $(BUILD)/testbed/sqemu-patched)/dist $(BUILD)/sqemu

demo: guest
	@demo/run $(if $(CONFIG),--config $(CONFIG))

bench: guest packages-bench
	@bench/run $(if $(QUICK),--quick)

cost: guest
	@bench/cost-curve $(COST)

bench-gc: guest
	@bench/gc-pauses

bench-disk: sqemu packages-bench
	@testbed/build sqemu plain
	@bench/disk-chains $(DISK)

check-gc: guest packages-check
	@OOH_LONG=1 tests/run tests/guest/test_boehm.py

fuzz: guest
	@PYTHONPATH=tests:. PYTHONDONTWRITEBYTECODE=1 tests/fuzz/fuzzing.py $(FUZZ)

soak: guest
	@PYTHONPATH=tests:. PYTHONDONTWRITEBYTECODE=1 tests/hard/soaking.py $(SOAK)

soak-disk: sqemu
	@testbed/build sqemu plain
	@PYTHONPATH=tests/disk PYTHONDONTWRITEBYTECODE=1 tests/disk/soaking.py $(SOAK)

# The machines that the tests use, and the roots; one that cannot boot, or be made, is an error of its
# tests. First those with two processors, which take longest to boot.
MACHINES = debug 4vcpu default nospml novpid plainxen pmlbits 2vcpu oldkernel newkernel migrate kvm

check: packages-host host guest sqemu packages-check
	@$(if $(TESTS),,testbed/vm prepare $(MACHINES) ||) true
	@$(if $(TESTS),,testbed/build packaging trixie ||) true
	@tests/run $(TESTS)

check-long: packages-host host guest sqemu packages-check
	@OOH_LONG=1 tests/run $(TESTS)

check-criu: guest packages-check
	@rm -f $(BUILD)/criu-zdtm.txt
	@OOH_LONG=1 tests/run tests/guest/test_criu_zdtm.py tests/guest/test_criu_long.py tests/guest/test_criu_rollback.py \
		tests/guest/test_criu.py::test_the_synopsis_runs_as_printed \
		tests/guest/test_programs.py::test_a_round_ends_while_pages_move; s=$$?; cat $(BUILD)/criu-zdtm.txt; exit $$s

# What needs no Xen.
check-kvm: guest packages-check
	@OOH_MACHINE=kvm tests/run -n 0 tests/guest/test_programs.py tests/guest/test_verify.py tests/guest/test_examples.py \
		tests/guest/test_boehm.py tests/guest/test_criu.py tests/guest/test_criu_patches.py \
		tests/guest/test_top_guest.py tests/hard/test_hard.py tests/testbed/test_kvm.py tests/testbed/test_kvm_writers.py

check-packages: packages-check packages-testbed
	@OOH_LONG=1 tests/run -n 0 tests/packaging

check-patches: testbed packages-check
	@OOH_LONG=1 tests/run tests/test_patches.py

bench-criu: guest
	@bench/criu-table $(BENCH)

pictures: host packages-pictures
	@demo/pictures docs/pictures

site: packages-site
	@scripts/site

lint: packages-lint
	@scripts/lint

format: packages-lint
	@clang-format -i $$(git ls-files '*.c' '*.h' ':!include/xen/*' ':!include/qemu/*' ':!guest-kmod/trace.h')

install:
	@$(MAKE) -s -C libooh O=$(BUILD)/host-obj $(dirs) install
	@$(MAKE) -s -C packaging $(dirs) install
	@$(if $(DESTDIR),,packaging/after-install $(prefix))

# What install would put into an empty folder, taken away from DESTDIR.
uninstall:
	@tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && \
		$(MAKE) -s -C libooh O=$(BUILD)/host-obj $(dirs) install DESTDIR="$$tree" && \
		$(MAKE) -s -C packaging $(dirs) install DESTDIR="$$tree" && \
		find "$$tree" ! -type d -printf '%P\n' | while read -r f; do rm -fv "$(DESTDIR)/$$f"; done

# In a tarball there is no git, and what there is was in one.
dist:
	@mkdir -p $(BUILD)
	@git diff --quiet HEAD -- || echo 'dist: changes that are not committed are left out' >&2
	git archive --prefix=ooh-$(VERSION)/ HEAD | xz -T0 >$(BUILD)/ooh-$(VERSION).tar.xz

deb: packages-deb
	@packaging/build-deb $(BUILD)/deb

series-criu := criu-plugin/patches
series-libgc := boehm-backend/patches
deb-criu deb-libgc: deb-%: packages-deb-%
	@tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && scripts/patches import $(series-$*) "$$tree/src" && \
		packaging/build-deb $(BUILD)/deb $* "$$tree/src"

down:
	@testbed/vm down --all

clean:
	@! [ -d $(BUILD)/testbed ] || testbed/vm down --all
	rm -rf $(BUILD)

.PHONY: all host testbed guest sqemu demo bench cost bench-gc bench-disk check-gc fuzz soak check check-long check-kvm check-criu check-patches bench-criu lint format install down clean uninstall dist deb check-packages pictures site deb-criu deb-libgc soak-disk
