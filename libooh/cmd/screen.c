// SPDX-License-Identifier: GPL-2.0-only
/* ooh top: the screen and its keys. */
#include <curses.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "top.h"

#define SHORTEST_MS 10
#define LONGEST_MS  (3600L * 1000)

static SCREEN *screen;
static const struct proc *selected;
static size_t first; /* process shown at the top of the list */
static bool help;

static const char all_keys[] = "q quit  j/k select  p pause  +/- interval  s sort  h help";

static const char *const help_lines[] = {
	"ooh top: which processes write how much of their memory, and where",
	"",
	"  q             quit",
	"  up, k         select the process above, whose ranges are shown",
	"  down, j       the one below",
	"  p, space      pause: no rounds until it is pressed again",
	"  +  -          longer, shorter interval",
	"  s             sort by MB/s, share, mapped, PID",
	"  h, ?          this help, and back",
	"",
	"WRITTEN  pages of 4 KiB written in the last round (ranges: lately, a round)",
	"SHARE    of the pages mapped",
	"UNKNOWN  pages of which the tracker cannot tell whether they changed",
	"COLLECT  time to end the round",
	"",
	"See ooh(1), which lists all columns; those that find no room are left out.",
};

int screen_open(void)
{
	const char *term = getenv("TERM");

	setlocale(LC_ALL, "");
	/* not initscr(), which ends the program with words of its own */
	screen = newterm(NULL, stdout, stdin);
	if (!screen) {
		say("the terminal \"%s\" is not known here (TERM); --batch needs none",
		    term ? term : "");
		return ST_USAGE;
	}
	cbreak();
	noecho();
	nonl();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	return ST_OK;
}

void screen_close(void)
{
	endwin();
	delscreen(screen);
}

static void put(int y, int attributes, const char *line)
{
	if (y < 0 || y >= LINES)
		return;
	attrset(attributes);
	mvaddnstr(y, 0, line, COLS);
	/* an attribute goes on to the end of the line */
	if (attributes != A_NORMAL) {
		int x = getcurx(stdscr), n;

		n = (int)strlen(line) < COLS ? COLS - x : 0;
		if (n > 0)
			hline(' ' | attributes, n);
	}
	attrset(A_NORMAL);
}

/*
 * Over as many lines as it needs, those after the first one indented; gives the line after them.
 * What is about something is never cut in the middle of a word.
 */
static int put_wrapped(int y, int end, int attributes, const char *text, int indent)
{
	char line[LINE];
	int left, n;

	for (left = 0; y < end; left = indent) {
		int room = COLS - left < LINE - left ? COLS - left : LINE - left - 1;

		if (room < 8)
			room = left = 0;
		n = strlen(text);
		if (room && n > room) {
			for (n = room; n > 0 && text[n] != ' '; n--)
				;
			n = n ? n : room;
		}
		snprintf(line, sizeof(line), "%*s%.*s", left, "", n, text);
		put(y++, attributes, line);
		text += n;
		if (!room || !*text)
			break;
		text += strspn(text, " ");
	}
	return y;
}

static size_t position(const struct top *top)
{
	size_t i;

	for (i = 0; i < top->n; i++)
		if (top->order[i] == selected)
			return i;
	return 0;
}

static void put_hot(const struct proc *p, int y, int end)
{
	int i, n = end - y - 1;
	char line[LINE];
	struct hot *hot;
	size_t got;

	if (n <= 0 || p->ended)
		return;
	hot = malloc(n * sizeof(*hot));
	if (!hot)
		return;
	hot_head(line, COLS);
	put(y++, A_REVERSE, line);
	got = heat_hottest(&p->heat, &p->vmas, hot, n);
	for (i = 0; i < (int)got; i++) {
		hot_row(&hot[i], line, COLS);
		put(y++, A_NORMAL, line);
	}
	free(hot);
}

static void draw_help(void)
{
	size_t i;
	int y = 0;

	for (i = 0; i < sizeof(help_lines) / sizeof(help_lines[0]); i++)
		y = put_wrapped(y, LINES, i ? A_NORMAL : A_BOLD, help_lines[i],
				help_lines[i][0] == ' ' ? 16 : 9);
}

/*
 * From the top: one line about all, the processes, two lines about the selected
 * one, its hottest ranges, the keys. What finds no room is left out from below.
 */
static void draw(const struct top *top)
{
	int room, y = 0, keys = LINES >= 8, end = LINES - keys;
	char line[LINE];
	size_t at, i;

	if (!selected)
		selected = top->order[0];
	at = position(top);
	top_summary(top, line, COLS);
	put(y++, A_BOLD, line);
	proc_head(line, COLS);
	put(y++, A_REVERSE, line);

	room = end - y > 12 ? (end - y - 4) / 2 : end - y > 5 ? 2 : 1;
	if ((size_t)room > top->n)
		room = top->n;
	if (at < first)
		first = at;
	if (at >= first + room)
		first = at - room + 1;
	if (first + room > top->n)
		first = top->n - room;
	for (i = first; i < first + room && y < end; i++) {
		proc_row(top->order[i], line, COLS);
		put(y++, i == at && top->n > 1 ? A_STANDOUT : A_NORMAL, line);
	}
	if (y < end) {
		proc_choice(selected, line, COLS);
		y = put_wrapped(y, end, A_BOLD, line, 4);
	}
	if (y < end) {
		proc_all_dirty(selected, line, LINE);
		y = put_wrapped(y, end,
				selected->all_dirty_now && !selected->ended ? A_BOLD : A_NORMAL,
				line, 4);
	}
	put_hot(selected, y, end);
	if (keys && COLS >= (int)strlen(all_keys))
		put(LINES - 1, A_DIM, all_keys);
	else if (keys)
		put(LINES - 1, A_DIM, "q quit  h help");
}

void screen_draw(const struct top *top)
{
	erase();
	if (help)
		draw_help();
	else
		draw(top);
	refresh();
}

static void select_next(const struct top *top, int step)
{
	size_t at = position(top);

	if (step < 0 ? at > 0 : at + 1 < top->n)
		selected = top->order[at + step];
}

static void change_interval(struct top *top, bool longer)
{
	long ms = longer ? top->interval_ms * 2 : top->interval_ms / 2;

	if (ms < SHORTEST_MS)
		ms = SHORTEST_MS;
	top->interval_ms = ms > LONGEST_MS ? LONGEST_MS : ms;
}

/* Takes all keys that were pressed. */
enum todo screen_keys(struct top *top)
{
	enum todo found = DO_NOTHING;
	int c;

	while ((c = getch()) != ERR) {
		found = DO_DRAW;
		switch (c) {
		case 'q':
		case 'Q':
			return DO_QUIT;
		case KEY_UP:
		case 'k':
			select_next(top, -1);
			break;
		case KEY_DOWN:
		case 'j':
			select_next(top, 1);
			break;
		case 'p':
		case ' ':
			top->paused = !top->paused;
			break;
		case '+':
		case '=':
			change_interval(top, true);
			break;
		case '-':
			change_interval(top, false);
			break;
		case 's':
			top->sort = (top->sort + 1) % SORTS;
			break;
		case 'h':
		case '?':
			help = !help;
			break;
		case KEY_RESIZE:
			break;
		default:
			/* any key leaves the help */
			help = false;
		}
	}
	return found;
}
