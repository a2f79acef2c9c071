// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: plain stores are reported, round after round, and only they.
 *
 * PML logs a page when its EPT dirty bit goes from 0 to 1. A tracker that does not arm a
 * frame again sees its page only once. One that arms too early or too much reports pages
 * that nobody wrote. EPT superpages mapped the memory at first: a superpage has to be
 * split before the first write.
 */
#include "tracker.h"

#define NR 256UL

int main(void)
{
	char *p = touched(NR);
	struct round r = { 0 };
	int fd = tracker_of(getpid());

	collect(fd, &r);
	check(reported_in(&r, p, NR) == 0, "nothing written, nothing reported (%lu)",
	      reported_in(&r, p, NR));
	for (unsigned long k = 1; k <= 8; k++) {
		unsigned long want = 0, missed = 0, extra = 0;

		for (unsigned long i = 0; i < NR; i += k)
			p[i * PAGE + i]++;
		collect(fd, &r);
		for (unsigned long i = 0; i < NR; i++) {
			bool is = reported(&r, p + i * PAGE);

			want += i % k == 0;
			missed += i % k == 0 && !is;
			extra += i % k != 0 && is;
		}
		check(!missed && !extra, "every %lu. page: %lu written, %lu missed, %lu extra", k,
		      want, missed, extra);
	}
	/* the same page in every round */
	for (int k = 0; k < 20; k++) {
		p[7 * PAGE]++;
		collect(fd, &r);
		if (!reported(&r, p + 7 * PAGE) || reported(&r, p + 8 * PAGE))
			break;
		if (k == 19)
			check(true, "one page, twenty rounds");
	}
	check(reported(&r, p + 7 * PAGE) && !reported(&r, p + 8 * PAGE), "page 7 and not page 8");
	return verdict();
}
