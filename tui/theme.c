#include "tui/theme.h"

#include <string.h>

const char *const theme_names[] = {"default", "mono", "colourblind", NULL};

/* rgb -1: the terminal's own foreground; ansi: the nearest of the 16 by meaning, not by distance */
struct color {
    int rgb, ansi;
    unsigned flags;
};

#define NONE                                                                                       \
    {                                                                                              \
        -1, -1, 0                                                                                  \
    }

static const struct color default_theme[STYLE_COUNT] = {
    [STYLE_NORMAL] = NONE,
    [STYLE_DIM] = {0x8a8a8a, 8, 0},
    [STYLE_TITLE] = {0x5fafd7, 6, LOOK_BOLD},
    [STYLE_VALUE] = {-1, -1, LOOK_BOLD},
    [STYLE_LABEL] = {0x8a8a8a, 8, 0},
    [STYLE_HEADING] = {0x5fafd7, 6, LOOK_UNDERLINE},
    [STYLE_ACCENT] = {0xd7875f, 3, LOOK_BOLD},
    [STYLE_GOOD] = {0x5faf5f, 2, 0},
    [STYLE_WARNING] = {0xd7af00, 3, 0},
    [STYLE_ERROR] = {0xd75f5f, 1, LOOK_BOLD},
    [STYLE_HINT] = {0x5fafaf, 6, 0},
    [STYLE_ECHO] = {0x8787d7, 4, 0},
    [STYLE_PROMPT] = {0x5faf5f, 2, LOOK_BOLD},
    [STYLE_KEY] = {0x5fafd7, 6, LOOK_BOLD},
    [STYLE_MATCH] = {0xd7af00, 3, LOOK_BOLD | LOOK_UNDERLINE},
    [STYLE_HEAT_LOW] = {0x5faf5f, 2, 0},
    [STYLE_HEAT_MIDDLE] = {0xd7af00, 3, 0},
    [STYLE_HEAT_HIGH] = {0xd75f5f, 1, 0},
    [STYLE_SERIES_A] = {0x5fafd7, 6, 0},
    [STYLE_SERIES_B] = {0xd7875f, 3, 0},
    [STYLE_SERIES_C] = {0x87af5f, 2, 0},
    [STYLE_SERIES_D] = {0xaf87d7, 5, 0},
    [STYLE_SERIES_E] = {0xd7af5f, 11, 0},
    [STYLE_SERIES_F] = {0x9e9e9e, 8, 0},
};

/* Okabe and Ito's eight colours, "Color Universal Design", 2008 */
static const struct color colorblind_theme[STYLE_COUNT] = {
    [STYLE_NORMAL] = NONE,
    [STYLE_DIM] = {0x8a8a8a, 8, 0},
    [STYLE_TITLE] = {0x56b4e9, 6, LOOK_BOLD},
    [STYLE_VALUE] = {-1, -1, LOOK_BOLD},
    [STYLE_LABEL] = {0x8a8a8a, 8, 0},
    [STYLE_HEADING] = {0x56b4e9, 6, LOOK_UNDERLINE},
    [STYLE_ACCENT] = {0xe69f00, 3, LOOK_BOLD},
    [STYLE_GOOD] = {0x009e73, 2, 0},
    [STYLE_WARNING] = {0xe69f00, 3, LOOK_BOLD},
    [STYLE_ERROR] = {0xd55e00, 1, LOOK_BOLD | LOOK_UNDERLINE},
    [STYLE_HINT] = {0x56b4e9, 6, 0},
    [STYLE_ECHO] = {0x0072b2, 4, 0},
    [STYLE_PROMPT] = {0x009e73, 2, LOOK_BOLD},
    [STYLE_KEY] = {0x56b4e9, 6, LOOK_BOLD},
    [STYLE_MATCH] = {0xf0e442, 3, LOOK_BOLD | LOOK_UNDERLINE},
    [STYLE_HEAT_LOW] = {0x56b4e9, 6, 0},
    [STYLE_HEAT_MIDDLE] = {0xe69f00, 3, 0},
    [STYLE_HEAT_HIGH] = {0xd55e00, 1, LOOK_BOLD},
    [STYLE_SERIES_A] = {0x56b4e9, 6, 0},
    [STYLE_SERIES_B] = {0xe69f00, 3, 0},
    [STYLE_SERIES_C] = {0x009e73, 2, 0},
    [STYLE_SERIES_D] = {0xcc79a7, 5, 0},
    [STYLE_SERIES_E] = {0xf0e442, 11, 0},
    [STYLE_SERIES_F] = {0x9e9e9e, 8, 0},
};

/* What stays of a style without colours. */
static unsigned mono_flags(enum style style)
{
    switch (style) {
    case STYLE_DIM:
    case STYLE_LABEL:
    case STYLE_SERIES_F:
        return LOOK_DIM;
    case STYLE_TITLE:
    case STYLE_VALUE:
    case STYLE_ACCENT:
    case STYLE_PROMPT:
    case STYLE_KEY:
    case STYLE_WARNING:
    case STYLE_HEAT_HIGH:
    case STYLE_SERIES_A:
        return LOOK_BOLD;
    case STYLE_HEADING:
        return LOOK_UNDERLINE;
    case STYLE_ERROR:
    case STYLE_MATCH:
        return LOOK_REVERSE;
    default:
        return 0;
    }
}

/* Nearest entry of xterm's 6x6x6 cube or grey ramp (colours 16 to 255). */
static int rgb_to_256(int rgb)
{
    static const int levels[6] = {0, 95, 135, 175, 215, 255};
    int part[3] = {rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255};
    int index[3], cube_error = 0;
    for (int i = 0; i < 3; i++) {
        int best = 0;
        for (int k = 1; k < 6; k++) {
            int d = part[i] - levels[k], e = part[i] - levels[best];
            if (d * d < e * e)
                best = k;
        }
        index[i] = best;
        cube_error += (part[i] - levels[best]) * (part[i] - levels[best]);
    }
    int mean = (part[0] + part[1] + part[2]) / 3;
    int grey = mean < 8 ? 0 : mean > 238 ? 23 : (mean - 3) / 10, grey_error = 0;
    for (int i = 0; i < 3; i++)
        grey_error += (part[i] - (8 + 10 * grey)) * (part[i] - (8 + 10 * grey));
    return grey_error < cube_error ? 232 + grey : 16 + 36 * index[0] + 6 * index[1] + index[2];
}

struct look theme_look(const char *theme, enum style style, int colors)
{
    struct look look = {-1, 0};
    if ((unsigned)style >= STYLE_COUNT)
        return look;
    if (colors < 8 || (theme != NULL && strcmp(theme, "mono") == 0)) {
        look.flags = mono_flags(style);
        return look;
    }
    const struct color *color = theme != NULL && strcmp(theme, "colourblind") == 0
                                    ? &colorblind_theme[style]
                                    : &default_theme[style];
    look.flags = color->flags;
    if (color->rgb < 0)
        return look;
    if (colors >= 1 << 24)
        look.color = color->rgb;
    else if (colors >= 256)
        look.color = rgb_to_256(color->rgb);
    else if (colors >= 16)
        look.color = color->ansi;
    else if (color->ansi == 8) { /* eight colours have no grey */
        look.flags |= LOOK_DIM;
    } else {
        look.color = color->ansi & 7;
        if (color->ansi > 7)
            look.flags |= LOOK_BOLD;
    }
    return look;
}
