// SPDX-License-Identifier: GPL-2.0-only
/*
 * criu_tip PLUGIN: loads a plugin as a criu does that does not know our hooks. In CRIU's
 * development branch the numbers after those of CRIU 4.2.1 are other hooks, with other
 * arguments, and the options are in another order. An older criu has fewer hooks, and refuses a
 * plugin with more. Not a test by itself: see test_criu_patches.py.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define VERSION	    0x200 /* 0.2.0: of CRIU 1.5 to 4.2 */
#define HOOKS_OLD   10
#define HOOKS_4_2_1 13
#define HOOKS_TIP   15
#define STAGE_DUMP  0

/* of criu-plugin.h */
struct desc {
	const char *name;
	int (*init)(int stage);
	void (*exit)(int stage, int ret);
	unsigned int version;
	unsigned int max_hooks;
	void *hooks[HOOKS_TIP];
};

/* What a plugin takes from criu. A plugin that reads the options or a task reads other fields. */
char opts[1 << 16] __attribute__((aligned(4096)));
void *root_item = opts;
int criu_get_image_dir(void);
void print_on_level(unsigned int level, const char *format, ...);

int criu_get_image_dir(void)
{
	return -1;
}

void print_on_level(unsigned int level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	printf("says (%u): ", level);
	vprintf(format, ap);
	va_end(ap);
}

int main(int argc, char **argv)
{
	void *lib = argc == 2 ? dlopen(argv[1], RTLD_LAZY) : NULL;
	struct desc *d = lib ? dlsym(lib, "CR_PLUGIN_DESC") : NULL;
	int bad = 0;

	setvbuf(stdout, NULL, _IONBF, 0);
	if (!d) {
		printf("no plugin: %s\n", dlerror());
		return 2;
	}
	if (d->version > VERSION || d->max_hooks > HOOKS_OLD) {
		printf("FAIL: an older criu refuses version %#x with %u hooks, and all its dumps "
		       "fail\n",
		       d->version, d->max_hooks);
		bad++;
	}
	for (unsigned int i = HOOKS_4_2_1; i < d->max_hooks && i < HOOKS_TIP; i++) {
		if (!d->hooks[i])
			continue;
		printf("FAIL: a newer criu would call hook %u for something else\n", i);
		bad++;
	}
	mprotect(opts, sizeof(opts), PROT_NONE);
	if (d->init(STAGE_DUMP)) {
		printf("FAIL: the plugin ends the dump\n");
		bad++;
	}
	d->exit(STAGE_DUMP, 0);
	if (!bad)
		printf("ok: left alone\n");
	return bad != 0;
}
