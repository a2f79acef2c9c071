/* SPDX-License-Identifier: GPL-2.0-only */
/* For the unit tests: what is not so ends the program, with the line that says it. */
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
