/* value.c - sizes, rates, times and lists of ranks as people write them */
#include "value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define UNIT_SIZE 16

/* The number that 'text' begins with, without a sign or what else strtod
 * takes, and what follows.
 */
static int split (const char *text, double *number, char unit[UNIT_SIZE])
{
    char *end;
    size_t len;

    while (isspace ((unsigned char)*text))
        text++;
    if (!isdigit ((unsigned char)text[0])
        && !(text[0] == '.' && isdigit ((unsigned char)text[1])))
        return -1;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return -1;
    *number = strtod (text, &end);
    while (isspace ((unsigned char)*end))
        end++;
    len = strlen (end);
    while (len > 0 && isspace ((unsigned char)end[len - 1]))
        len--;
    if (len >= UNIT_SIZE)
        return -1;
    memcpy (unit, end, len);
    unit[len] = '\0';
    return isfinite (*number) ? 0 : -1;
}

int value_bytes (const char *text, uint64_t *bytes)
{
    static const char prefixes[] = "kmgtpe";
    char buf[UNIT_SIZE];
    const char *unit = buf;
    const char *prefix;
    double number;
    double base = 1024;

    if (split (text, &number, buf) < 0)
        return -1;
    if (*unit && strcmp (unit, "B")) {
        if (!(prefix = strchr (prefixes, tolower ((unsigned char)*unit)))
            || (islower ((unsigned char)*unit) && *unit != 'k'))
            return -1;
        unit++;
        if (!strcmp (unit, "B"))
            base = 1000;
        else if (*unit && strcmp (unit, "i") && strcmp (unit, "iB"))
            return -1;
        number *= pow (base, prefix - prefixes + 1);
    }
    else if (number != floor (number))
        return -1;
    if (number >= 9.2e18)
        return -1;
    *bytes = (uint64_t)llround (number);
    return 0;
}

int value_rate (const char *text, double *rate)
{
    static const char prefixes[] = "kmgtpe";
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        { "B", 1 }, { "b", 1. / 8 }, { "bit", 1. / 8 }, { "bits", 1. / 8 }, { "Bit", 1. / 8 },
    };
    char unit[UNIT_SIZE];
    const char *prefix;
    const char *p = unit;
    double number;
    size_t len = 0;

    if (split (text, &number, unit) < 0)
        return -1;
    for (const char *q = unit; *q; q++) {
        if (*q != ' ')
            unit[len++] = *q;
    }
    unit[len] = '\0';
    if (len >= 2 && (!strcmp (&unit[len - 2], "/s") || !strcmp (&unit[len - 2], "ps")))
        unit[len -= 2] = '\0';
    else if (len == 0) {
        *rate = number;
        return number > 0 ? 0 : -1;
    }
    if (*p && (prefix = strchr (prefixes, tolower ((unsigned char)*p)))) {
        bool binary = p[1] == 'i';

        if (islower ((unsigned char)*p) && !strcmp (p + 1 + binary, "b"))
            return -1; /* bits or bytes? */
        number *= pow (binary ? 1024 : 1000, prefix - prefixes + 1);
        p += 1 + binary;
    }
    for (size_t i = 0; i < sizeof (units) / sizeof (units[0]); i++) {
        if (!strcmp (p, units[i].name)) {
            *rate = number * units[i].factor;
            return *rate > 0 && *rate < 0x1p80 ? 0 : -1;
        }
    }
    return -1;
}

int value_seconds (const char *text, double *seconds)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        { "", 1 },    { "ns", 1e-9 }, { "us", 1e-6 },  { "ms", 1e-3 }, { "s", 1 },
        { "m", 60 },  { "min", 60 },  { "h", 3600 },   { "d", 86400 },
    };
    char unit[UNIT_SIZE];
    double number;

    if (split (text, &number, unit) < 0)
        return -1;
    for (size_t i = 0; i < sizeof (units) / sizeof (units[0]); i++) {
        if (!strcmp (unit, units[i].name)) {
            *seconds = number * units[i].factor;
            return *seconds < 1e15 ? 0 : -1;
        }
    }
    return -1;
}

static int take_rank (const char **p, int size, long *rank)
{
    char *end;

    if (!isdigit ((unsigned char)**p))
        return -1;
    errno = 0;
    *rank = strtol (*p, &end, 10);
    *p = end;
    return errno != 0 || *rank >= size ? -1 : 0;
}

int value_idset (const char *text, int size, uint8_t *flags)
{
    bool bracket = text[0] == '[';
    const char *p = text + bracket;
    long low;
    long high;

    for (;; p++) {
        if (take_rank (&p, size, &low) < 0)
            return -1;
        high = low;
        if (*p == '-') {
            p++;
            if (take_rank (&p, size, &high) < 0 || high < low)
                return -1;
        }
        if (flags)
            memset (flags + low, 1, high - low + 1);
        if (*p != ',')
            break;
    }
    if (bracket && *p++ != ']')
        return -1;
    return *p ? -1 : 0;
}

int value_hex (const char *text, unsigned char *bytes, size_t size)
{
    if (strlen (text) != 2 * size)
        return -1;
    for (size_t i = 0; i < size; i++) {
        char digits[3] = { text[2 * i], text[2 * i + 1], '\0' };

        if (!isxdigit ((unsigned char)digits[0]) || !isxdigit ((unsigned char)digits[1]))
            return -1;
        bytes[i] = strtoul (digits, NULL, 16);
    }
    return 0;
}
