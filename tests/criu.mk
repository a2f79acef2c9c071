# SPDX-License-Identifier: GPL-2.0-only
# Run inside the build root with CRIU's layer (testbed/in-root, IN_ROOT_LAYER), in
# testbed/build's folder of CRIU: criu, our plugin and what they need, into the guest's tree.
BUILD ?= /build
TREE := $(BUILD)/guest
LIB := usr/lib/x86_64-linux-gnu
KERNEL := $(notdir $(lastword $(sort $(wildcard /usr/lib/modules/*-amd64))))
PROGRAMS := dist/usr/sbin/criu /usr/bin/tkrzw_dbm_perf /usr/bin/tkrzw_dbm_util

all: criu plugin modules zdtm

criu:
	install -D -m 755 -s dist/usr/sbin/criu $(TREE)/usr/sbin/criu
	install -D -m 755 -s criu-unpatched $(TREE)/usr/lib/ooh/criu-unpatched
	install -D -m 755 -t $(TREE)/usr/bin $(filter /usr/bin/%,$(PROGRAMS))
	@mkdir -p $(TREE)/$(LIB)
	ldd $(PROGRAMS) | awk '$$2 == "=>" && $$3 ~ /^\// { print $$3 }' | sort -u | grep -v -e '/libc\.' -e /libm -e /ld- | \
		xargs cp -Lu -t $(TREE)/$(LIB)

# its makefile knows nothing of stages
plugin:
	@[ $(BUILD)/criu-plugin/ooh_plugin.so -nt $(BUILD)/testbed/criu.is ] || rm -f $(BUILD)/criu-plugin/ooh_plugin.so
	$(MAKE) -s -C /ooh/criu-plugin O=$(BUILD)/criu-plugin LIBOOH=$(BUILD)/guest-obj CRIU=$(CURDIR)/headers
	$(MAKE) -s -C /ooh/criu-plugin O=$(BUILD)/criu-plugin LIBOOH=$(BUILD)/guest-obj CRIU=$(CURDIR)/headers \
		DESTDIR=$(TREE) install

# CRIU asks the kernel about sockets, its tests want binfmt_misc; the guest's image has no modules
modules:
	@mkdir -p $(TREE)/usr/lib/modules/$(KERNEL)
	cp -u /usr/lib/modules/$(KERNEL)/modules.builtin* /usr/lib/modules/$(KERNEL)/modules.order $(TREE)/usr/lib/modules/$(KERNEL)/
	cd /usr/lib/modules/$(KERNEL) && for m in $$(find . -name 'binfmt_misc.ko*' -o -name '*_diag.ko*' ! -name 'mptcp*' ! -name 'sctp*' ! -name 'xsk*' ! -name 'vsock*' ! -name 'tipc*' ! -name 'smc*' ! -name 'dccp*'); do \
		install -D -m 644 $$m $(TREE)/usr/lib/modules/$(KERNEL)/$$m || exit 1; done
	depmod -b $(TREE)/usr $(KERNEL) 2>/dev/null || depmod -b $(TREE) $(KERNEL)

# CRIU's own tests with the python that they are written in, as one archive, which
# is not part of the guest's tree: tests/guest/test_criu_zdtm.py takes it there.
PYTHON := $(notdir $(realpath /usr/bin/python3))
zdtm: $(BUILD)/zdtm.tar
$(BUILD)/zdtm.tar: /ooh/tests/criu-make /ooh/tests/criu.mk $(BUILD)/testbed/criu.is
	@rm -rf $(BUILD)/zdtm && mkdir -p $(BUILD)/zdtm/usr/bin $(BUILD)/zdtm/usr/lib/python3 $(BUILD)/zdtm/$(LIB)
	cp -a zdtm $(BUILD)/zdtm/
	install -m 755 $< $(BUILD)/zdtm/usr/bin/make
	cp -a /usr/bin/python3 /usr/bin/$(PYTHON) $(BUILD)/zdtm/usr/bin/
	cd /usr/lib && find $(PYTHON) ! -path '*/test/*' ! -path '*/idlelib/*' ! -path '*/ensurepip/*' ! -path '*/config-*' | \
		cpio -pdm --quiet $(BUILD)/zdtm/usr/lib
	cp -a /usr/lib/python3/dist-packages $(BUILD)/zdtm/usr/lib/python3/
	ldd /usr/bin/$(PYTHON) $$(find /usr/lib/$(PYTHON) /usr/lib/python3 -name '*.so') $$(find zdtm/test/zdtm -type f -perm -100) 2>/dev/null | \
		awk '$$2 == "=>" && $$3 ~ /^\// { print $$3 }' | sort -u | grep -v -e '/libc\.' -e /ld- | xargs cp -L -t $(BUILD)/zdtm/$(LIB)
	tar -C $(BUILD)/zdtm -cf $@ .

.PHONY: all criu plugin modules zdtm
