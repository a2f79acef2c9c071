// SPDX-License-Identifier: GPL-2.0-only
/* The choice of a log. */
#include <linux/errno.h>
#include <linux/kernel.h>

#include "compat/compat.h"
#include "log.h"
#include "log-spml.h"

const struct ooh_log_ops *ooh_log;

/* The best one first. */
static const struct ooh_log_ops *const kinds[] = {
#ifdef OOH_EPML
	&ooh_log_epml,
#endif
	&ooh_log_spml,
};

/* A log on which others depend comes first, and goes last. */
int ooh_log_init(void)
{
	unsigned int i;
	int ret;

	for (i = ARRAY_SIZE(kinds); i-- > 0;) {
		ret = kinds[i]->init();
		if (!ret)
			continue;
		while (++i < ARRAY_SIZE(kinds))
			kinds[i]->exit();
		return ret;
	}
	return 0;
}

void ooh_log_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		kinds[i]->exit();
}

static u32 usable_mechanisms(void)
{
	unsigned int i;
	u32 set = 0;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i]->usable())
			set |= 1U << kinds[i]->mechanism;
	return set;
}

bool ooh_log_usable(u32 mechanism)
{
	return !mechanism || (mechanism < 32 && usable_mechanisms() & 1U << mechanism);
}

int ooh_log_start(u32 mechanism)
{
	int ret = -EOPNOTSUPP;
	unsigned int i;

	if (ooh_log)
		return mechanism && mechanism != ooh_log->mechanism ? -EBUSY : 0;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if ((mechanism && mechanism != kinds[i]->mechanism) || !kinds[i]->usable())
			continue;
		ret = kinds[i]->start();
		if (!ret) {
			WRITE_ONCE(ooh_log, kinds[i]);
			return 0;
		}
	}
	return ret;
}

void ooh_log_stop(void)
{
	const struct ooh_log_ops *was = ooh_log;

	WRITE_ONCE(ooh_log, NULL);
	if (was)
		was->stop();
}

u64 ooh_log_waiting(void)
{
	const struct ooh_log_ops *log = READ_ONCE(ooh_log);

	return log ? log->waiting() : 0;
}

void ooh_log_info(struct ooh_info *info)
{
	info->mechanisms = usable_mechanisms();
	info->via = ooh_spml_via();
	info->max_pages = ooh_spml_max_tracked();
	/* a record is a frame, so no more than that can wait */
	info->max_records = info->max_pages;
}

void ooh_log_shutdown(void)
{
	ooh_log_stop();
	ooh_spml_shutdown();
}
