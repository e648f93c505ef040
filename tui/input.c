#include "tui/input.h"
#include "tui/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { NEED_MORE = 0 };

/* Keys that end in a letter after ESC [ or ESC O. */
static bool letter_key(unsigned char letter, struct input *key)
{
    static const struct {
        char letter;
        uint8_t code;
    } keys[] = {
        {'A', INPUT_UP},     {'B', INPUT_DOWN},   {'C', INPUT_RIGHT},   {'D', INPUT_LEFT},
        {'H', INPUT_HOME},   {'F', INPUT_END},    {'Z', INPUT_BACKTAB}, {'P', INPUT_F1},
        {'Q', INPUT_F1 + 1}, {'R', INPUT_F1 + 2}, {'S', INPUT_F1 + 3},  {'M', INPUT_ENTER},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if ((unsigned char)keys[i].letter == letter) {
            key->code = (enum input_code)keys[i].code;
            return true;
        }
    }
    return false;
}

/* Keys of the form ESC [ NUMBER ~. */
static bool number_key(int number, struct input *key)
{
    static const uint8_t codes[] = {
        [1] = INPUT_HOME,    [2] = INPUT_INSERT,    [3] = INPUT_DELETE,   [4] = INPUT_END,
        [5] = INPUT_PAGE_UP, [6] = INPUT_PAGE_DOWN, [7] = INPUT_HOME,     [8] = INPUT_END,
        [11] = INPUT_F1,     [12] = INPUT_F1 + 1,   [13] = INPUT_F1 + 2,  [14] = INPUT_F1 + 3,
        [15] = INPUT_F1 + 4, [17] = INPUT_F1 + 5,   [18] = INPUT_F1 + 6,  [19] = INPUT_F1 + 7,
        [20] = INPUT_F1 + 8, [21] = INPUT_F1 + 9,   [23] = INPUT_F1 + 10, [24] = INPUT_F1 + 11,
    };
    if (number < 1 || number >= (int)sizeof codes || codes[number] == 0)
        return false;
    key->code = (enum input_code)codes[number];
    return true;
}

static bool mouse_key(const int *numbers, int count, bool press, struct input *key)
{
    if (count < 3)
        return false;
    int button = numbers[0];
    key->x = numbers[1] - 1;
    key->y = numbers[2] - 1;
    if (button == 64 || button == 65)
        key->code = button == 64 ? INPUT_WHEEL_UP : INPUT_WHEEL_DOWN;
    else if (press && button < 3)
        key->code = INPUT_PRESS;
    else
        return false; /* releases and motion */
    key->point = (uint32_t)button & 3;
    return true;
}

/* Decode ESC [ ...; returns the bytes used, NEED_MORE if it is not finished. *found tells whether a
 * key came out of it. */
static size_t decode_csi(struct input_decoder *decoder, struct input *key, bool *found)
{
    const unsigned char *s = decoder->bytes;
    size_t i = 2, count = decoder->count;
    if (i < count && s[i] == '[') { /* the Linux console's F1 to F5 */
        if (count < 4)
            return NEED_MORE;
        if (s[3] >= 'A' && s[3] <= 'E') {
            key->code = (enum input_code)(INPUT_F1 + (s[3] - 'A'));
            *found = true;
        }
        return 4;
    }
    unsigned char prefix = 0, middle = 0;
    if (i < count && s[i] >= '<' && s[i] <= '?')
        prefix = s[i++];
    int numbers[8] = {0}, n = 0;
    for (; i < count && (s[i] < 0x40 || s[i] > 0x7e); i++) {
        if (s[i] >= '0' && s[i] <= '9') {
            if (numbers[n] < 100000)
                numbers[n] = numbers[n] * 10 + (s[i] - '0');
        } else if (s[i] == ';' || s[i] == ':') {
            n = n < 7 ? n + 1 : n;
        } else if (s[i] >= 0x20 && s[i] <= 0x2f) {
            middle = s[i];
        } else {
            return i; /* a control character ends the sequence and counts for itself */
        }
    }
    if (i == count)
        return NEED_MORE;
    unsigned char last = s[i];
    if (prefix == '<' && (last == 'M' || last == 'm')) {
        *found = mouse_key(numbers, n + 1, last == 'M', key);
    } else if (prefix == '?' && middle == '$' && last == 'y') {
        if (numbers[0] == 2026) {
            key->code = INPUT_SYNC_MODE;
            key->point = numbers[1] == 1 || numbers[1] == 2;
            *found = true;
        }
    } else if (prefix == 0 && middle == 0) {
        if (last == '~' && (numbers[0] == 200 || numbers[0] == 201))
            decoder->paste = numbers[0] == 200;
        else
            *found = last == '~' ? number_key(numbers[0], key) : letter_key(last, key);
        int modifiers = n >= 1 && numbers[1] > 0 ? numbers[1] - 1 : 0;
        key->shift = (modifiers & 1) != 0;
        key->alt = key->alt || (modifiers & 2) != 0;
        key->control = (modifiers & 4) != 0;
    }
    return i + 1;
}

/* Decode one character; returns the bytes used, NEED_MORE if it is cut. */
static size_t decode_char(const unsigned char *s, size_t count, bool final, struct input *key)
{
    size_t need = s[0] < 0xc2 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 1;
    for (size_t i = 1; i < need && i < count; i++) {
        if ((s[i] & 0xc0) != 0x80)
            need = 1; /* malformed: do not wait for more */
    }
    if (count < need && !final)
        return NEED_MORE;
    size_t used = utf8_decode((const char *)s, count, &key->point);
    key->code = INPUT_CHAR;
    if (key->point == '\r' || key->point == '\n')
        key->code = INPUT_ENTER;
    else if (key->point == '\t')
        key->code = INPUT_TAB;
    else if (key->point == 0x7f || key->point == 8)
        key->code = INPUT_BACKSPACE;
    else if (key->point == 0x1b)
        key->code = INPUT_ESCAPE;
    return used;
}

/* Decode one key from the front of the buffer; returns the bytes used or NEED_MORE. */
static size_t decode(struct input_decoder *decoder, bool final, struct input *key, bool *found)
{
    static const char paste_end[] = "\x1b[201~";
    const unsigned char *s = decoder->bytes;
    size_t count = decoder->count;
    *key = (struct input){.code = INPUT_CHAR};
    *found = false;
    if (decoder->paste) {
        size_t same = 0;
        while (same < count && same < 6 && s[same] == (unsigned char)paste_end[same])
            same++;
        if (same == 6) {
            decoder->paste = false;
            return 6;
        }
        if (same == count && !final)
            return NEED_MORE;
        key->pasted = true;
        *found = true;
        return decode_char(s, count, final, key);
    }
    if (s[0] != 0x1b) {
        *found = true;
        return decode_char(s, count, final, key);
    }
    size_t skip = 0; /* ESC ESC [ A is Alt with an arrow (rxvt) */
    if (count >= 3 && s[1] == 0x1b && (s[2] == '[' || s[2] == 'O'))
        skip = 1;
    if (count < 2 + skip) {
        if (!final)
            return NEED_MORE;
        key->code = INPUT_ESCAPE;
        *found = true;
        return 1;
    }
    if (s[1 + skip] == '[' || (s[1 + skip] == 'O' && count >= 3 + skip)) {
        if (skip > 0) {
            memmove(decoder->bytes, decoder->bytes + 1, --decoder->count);
            count--;
        }
        key->alt = skip > 0;
        if (s[1] == '[') {
            size_t used = decode_csi(decoder, key, found);
            if (used == NEED_MORE && final) { /* Alt-[ and what came after it */
                key->alt = *found = true;
                key->point = '[';
                return 2;
            }
            return used;
        }
        *found = letter_key(s[2], key);
        return 3;
    }
    if (s[1] == 'O' && !final)
        return NEED_MORE;
    if (s[1] == 0x1b && !final)
        return count == 2 ? NEED_MORE : (key->code = INPUT_ESCAPE, *found = true, (size_t)1);
    size_t used = decode_char(s + 1, count - 1, final, key);
    if (used == NEED_MORE)
        return NEED_MORE;
    if (key->code == INPUT_ESCAPE)
        used = 0; /* two Escapes, one at a time */
    key->alt = key->code != INPUT_ESCAPE;
    *found = true;
    return used + 1;
}

static void drain(struct input_decoder *decoder, bool final, input_handler *handler, void *context)
{
    while (decoder->count > 0) {
        struct input key;
        bool found;
        size_t used = decode(decoder, final, &key, &found);
        if (used == NEED_MORE) {
            if (decoder->count < sizeof decoder->bytes)
                return;
            used = decoder->count; /* no sequence is that long: swallow it */
            found = false;
        }
        decoder->count -= used;
        memmove(decoder->bytes, decoder->bytes + used, decoder->count);
        if (found)
            handler(context, &key);
    }
}

void input_feed(struct input_decoder *decoder, const char *bytes, size_t count,
                input_handler *handler, void *context)
{
    while (count > 0) {
        size_t room = sizeof decoder->bytes - decoder->count;
        size_t take = count < room ? count : room;
        memcpy(decoder->bytes + decoder->count, bytes, take);
        decoder->count += take;
        bytes += take;
        count -= take;
        drain(decoder, false, handler, context);
    }
}

bool input_pending(const struct input_decoder *decoder)
{
    return decoder->count > 0;
}

void input_flush(struct input_decoder *decoder, input_handler *handler, void *context)
{
    drain(decoder, true, handler, context);
}
