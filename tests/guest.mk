# SPDX-License-Identifier: GPL-2.0-only
# Run inside the build root (testbed/in-root): what the guest gets, as a tree
# that testbed/vm puts over the guest's root.
BUILD ?= build
override BUILD := $(abspath $(BUILD))
TREE := $(BUILD)/guest
KDIR := $(lastword $(sort $(wildcard /usr/src/linux-headers-*-amd64)))
CFLAGS ?= -O2 -g -Wall -Wextra
TESTS := $(addprefix $(TREE)/usr/lib/ooh/tests/,$(basename $(notdir $(wildcard tests/guest/*.c))) changers)
EXAMPLES := $(patsubst libooh/examples/%.c,$(TREE)/usr/lib/ooh/examples/%,$(wildcard libooh/examples/*.c))
compile = @mkdir -p $(@D) && $(CC) $(CFLAGS) -D_GNU_SOURCE -Iinclude -Ilibooh/include -Itestbed/agent -o $@ $< \
	-L$(TREE)/usr/lib -looh -lpthread

BENCHES := $(addprefix $(TREE)/usr/lib/ooh/bench/,$(basename $(notdir $(wildcard bench/*.c))))

# disks with file systems, and QEMU's devices, for tests/hard and tests/guest; the kernel takes only its own build's
MODULES := $(addprefix $(TREE)/usr/lib/ooh/modules/,$(addsuffix .ko,crc16 crc32c_generic mbcache jbd2 ext4 brd \
	nls_cp437 nls_ascii nls_utf8 fat vfat virtio_blk failover net_failover virtio_net virtio_balloon netfs 9pnet \
	9pnet_virtio 9p))


# The collector: the guest's libgc.so.1 is ours. The tests that came with it, and our programs
# linked with it, one without threads.
GC := $(BUILD)/libgc
GCDIR := $(TREE)/usr/lib/ooh/gc
GCPROGRAMS := gcbench gcbench-threads events events-threads pauses
GCTESTS := threads single checksums

all: collector module nested burst watch fuzz hard $(BUILD)/dom0/neighbour.img library $(TESTS) $(BENCHES) $(EXAMPLES) $(TREE)/usr/lib/ooh/reload $(TREE)/usr/share/terminfo

# What tests/here runs, without anything of another machine's
here: library $(TESTS) $(EXAMPLES) $(TREE)/usr/lib/ooh/hard/hard $(TREE)/usr/lib/ooh/reload

# A debug build: tests put faults into it.
module:
	$(MAKE) -s -C guest-kmod KDIR=$(KDIR) O=$(BUILD)/guest-kmod DEBUG=1
	install -D -m 644 $(BUILD)/guest-kmod/ooh.ko $(TREE)/usr/lib/ooh/ooh.ko

# A test's kernel module, from a folder of its own, beside links to its sources, as
# guest-kmod/Makefile does it. Xen's header for the kernel is what that has made.
kernel_module = @mkdir -p $(BUILD)/$(1) && ln -sfn $(CURDIR)/$(2)/Kbuild $(CURDIR)/$(2)/*.[ch] $(BUILD)/$(1)/ && \
	$(MAKE) -s -C $(KDIR) M=$(BUILD)/$(1) modules

nested:
	$(call kernel_module,nested,tests/guest/nested)
	install -D -m 644 $(BUILD)/nested/nested.ko $(TREE)/usr/lib/ooh/tests/nested.ko

burst:
	$(call kernel_module,burst,tests/guest/burst)
	install -D -m 644 $(BUILD)/burst/burst.ko $(TREE)/usr/lib/ooh/tests/burst.ko

watch: module
	$(call kernel_module,watch,tests/guest/watch)
	install -D -m 644 $(BUILD)/watch/watch.ko $(TREE)/usr/lib/ooh/tests/watch.ko

fuzz: module
	$(call kernel_module,fuzz,tests/fuzz)
	install -D -m 644 $(BUILD)/fuzz/spml-fuzz.ko $(TREE)/usr/lib/ooh/spml-fuzz.ko

hard: $(TREE)/usr/lib/ooh/hard/hard $(TREE)/usr/lib/ooh/hard/prepare $(MODULES)

$(TREE)/usr/lib/ooh/hard/hard: $(wildcard tests/hard/*.c tests/hard/*.h) tests/guest/fuse.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -D_GNU_SOURCE -o $@ $(filter %.c,$^) -lpthread

$(TREE)/usr/lib/ooh/hard/prepare: tests/hard/prepare
	install -D -m 755 $< $@

$(MODULES):
	@mkdir -p $(@D)
	xz -dc $$(find /usr/lib/modules/$(patsubst linux-headers-%,%,$(notdir $(KDIR))) -name $(@F).xz) >$@

# the other domain's whole software
$(BUILD)/dom0/neighbour.img: tests/fuzz/neighbour.c
	@mkdir -p $(@D) $(BUILD)/neighbour
	$(CC) $(CFLAGS) -static -o $(BUILD)/neighbour/init $<
	cd $(BUILD)/neighbour && echo init | cpio -o -H newc --quiet >$@

library:
	$(MAKE) -s -C libooh O=$(BUILD)/guest-obj
	$(MAKE) -s -C libooh O=$(BUILD)/guest-obj DESTDIR=$(TREE) prefix=/usr SHARED=1 install

HEADERS := include/ooh/uapi.h libooh/include/ooh.h testbed/agent/simcall.h $(wildcard tests/guest/*.h)

# it has what a plugin of CRIU's looks for in the program
$(TREE)/usr/lib/ooh/tests/criu_tip: private override CFLAGS += -rdynamic

$(TREE)/usr/lib/ooh/tests/%: tests/guest/%.c $(HEADERS) | library
	$(compile)
$(TREE)/usr/lib/ooh/tests/%: tests/host/%.c $(HEADERS) | library
	$(compile)

# calibrate runs in dom0, too, where libooh is not
$(TREE)/usr/lib/ooh/bench/%: CFLAGS += -Wl,--as-needed
$(TREE)/usr/lib/ooh/bench/%: bench/%.c bench/events.h $(HEADERS) | library
	$(compile)
$(TREE)/usr/lib/ooh/examples/%: libooh/examples/%.c $(HEADERS) | library
	$(compile)

$(TREE)/usr/lib/ooh/reload: tests/guest-reload
	install -D -m 755 $< $@

# ooh top; the library itself, libncursesw, is there for the guest's own programs
$(TREE)/usr/share/terminfo:
	@mkdir -p $(@D)
	cp -a /usr/share/terminfo $@

collector: $(addprefix $(GCDIR)/,$(GCPROGRAMS)) $(GCDIR)/liar/libooh.so.0
	@mkdir -p $(TREE)/usr/lib/x86_64-linux-gnu
	@cp -a $(GC)/lib/libgc.so.1* $(TREE)/usr/lib/x86_64-linux-gnu/
	@cp -a $(addprefix $(GC)/,$(GCTESTS)) $(GCDIR)/

gc_compile = @mkdir -p $(@D) && $(CC) $(CFLAGS) -D_GNU_SOURCE $(1) -I$(GC)/include -o $@ $< $(GC)/lib/libgc.so.1 -lpthread
$(GCDIR)/%-threads: boehm-backend/programs/%.c $(BUILD)/testbed/libgc.is
	$(call gc_compile,-DTHREADED)
$(GCDIR)/%: boehm-backend/programs/%.c $(BUILD)/testbed/libgc.is
	$(call gc_compile)
$(GCDIR)/liar/libooh.so.0: boehm-backend/programs/liar.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -D_GNU_SOURCE -Iinclude -Ilibooh/include -shared -fPIC -Wl,-soname,libooh.so.0 -o $@ $<

.PHONY: all here collector module nested burst watch fuzz hard library
