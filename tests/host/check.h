/* SPDX-License-Identifier: GPL-2.0-only */
/* For the unit tests: a condition that does not hold ends the program, and names its line. */
#ifndef OOH_CHECK_H
#define OOH_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x)                                                       \
	do {                                                           \
		if (!(x)) {                                            \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #x); \
			exit(1);                                       \
		}                                                      \
	} while (0)

#endif /* OOH_CHECK_H */
