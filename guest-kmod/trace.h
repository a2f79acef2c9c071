/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ooh

#if !defined(OOH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define OOH_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(ooh_arm,
	TP_PROTO(unsigned int armed, unsigned int forgotten, int ret),
	TP_ARGS(armed, forgotten, ret),
	TP_STRUCT__entry(
		__field(unsigned int, armed)
		__field(unsigned int, forgotten)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->armed = armed;
		__entry->forgotten = forgotten;
		__entry->ret = ret;
	),
	TP_printk("armed=%u forgotten=%u ret=%d", __entry->armed, __entry->forgotten, __entry->ret)
);

TRACE_EVENT(ooh_drain,
	TP_PROTO(u64 records, u64 rearmed),
	TP_ARGS(records, rearmed),
	TP_STRUCT__entry(
		__field(u64, records)
		__field(u64, rearmed)
	),
	TP_fast_assign(
		__entry->records = records;
		__entry->rearmed = rearmed;
	),
	TP_printk("records=%llu rearmed=%llu", __entry->records, __entry->rearmed)
);

/* A record of EPML: which address was written, and by whom; flags are XEN_EPML_R_* */
TRACE_EVENT(ooh_record,
	TP_PROTO(u64 gva, u64 gpa, unsigned int flags),
	TP_ARGS(gva, gpa, flags),
	TP_STRUCT__entry(
		__field(u64, gva)
		__field(u64, gpa)
		__field(unsigned int, flags)
	),
	TP_fast_assign(
		__entry->gva = gva;
		__entry->gpa = gpa;
		__entry->flags = flags;
	),
	TP_printk("gva=%#llx gpa=%#llx%s%s%s", __entry->gva, __entry->gpa,
		  __entry->flags & 1 ? " walk" : "", __entry->flags & 2 ? " user" : "",
		  __entry->flags & 4 ? " no-linear" : "")
);

TRACE_EVENT(ooh_collect,
	TP_PROTO(const void *tracker, u64 round, u64 tables, u64 pages, u32 reason),
	TP_ARGS(tracker, round, tables, pages, reason),
	TP_STRUCT__entry(
		__field(const void *, tracker)
		__field(u64, round)
		__field(u64, tables)
		__field(u64, pages)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->tracker = tracker;
		__entry->round = round;
		__entry->tables = tables;
		__entry->pages = pages;
		__entry->reason = reason;
	),
	TP_printk("tracker=%p round=%llu tables=%llu pages=%llu reason=%#x", __entry->tracker,
		  __entry->round, __entry->tables, __entry->pages, __entry->reason)
);

TRACE_EVENT(ooh_lost,
	TP_PROTO(u32 reason),
	TP_ARGS(reason),
	TP_STRUCT__entry(
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->reason = reason;
	),
	TP_printk("reason=%#x", __entry->reason)
);

#endif /* OOH_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
