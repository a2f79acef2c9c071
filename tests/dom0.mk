# SPDX-License-Identifier: GPL-2.0-only
# Run inside the build root with Xen's installed tools at /mnt: the programs that
# tests run in dom0.
BUILD ?= build
SRC := /ooh/tests/dom0
all: $(addprefix $(BUILD)/dom0/,$(basename $(notdir $(wildcard $(SRC)/*.c))))

$(BUILD)/dom0/%: $(SRC)/%.c $(BUILD)/testbed/tools.is
	@mkdir -p $(@D)
	$(CC) -O2 -g -Wall -Wextra -D_GNU_SOURCE -I/mnt/usr/include -L/mnt/usr/lib -Wl,-rpath-link,/mnt/usr/lib -o $@ $< -lxenctrl -lxendevicemodel -lxenforeignmemory

.PHONY: all
