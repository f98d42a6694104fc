/* json_walk.h - a byte automaton over JSON values under rules.
 *
 * The state is plain data of a fixed size: a copy is a clone.  From every state that was
 * reached by allowed bytes a complete value can be reached: a comma is only allowed where
 * another key or element may come, an object is only opened where its required keys fit
 * into the depth that is left.
 *
 * Narrower than JSON where JSON has no bounds: at most TUG_WALK_SPACE bytes of white space
 * in a row, numbers of at most 18 digits before and behind the point and an exponent of
 * two, free values nested at most 64 deep.  SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_JSON_WALK_H
#define TUG_CALLS_JSON_WALK_H

#include "calls/schema_rule.h"

enum { TUG_WALK_SPACE = 64, TUG_WALK_FREE_DEPTH = 64 };

/* An open object or array that has a rule. */
typedef struct tug_walk_frame {
    uint32_t rule;
    uint16_t live; /* alternatives that what was written so far belongs to */
    bool is_array;
    uint64_t seen; /* object: bits of the keys; array: number of elements */
} tug_walk_frame;

/* Which value comes: of the alternatives `live`, under `rule`, or one of `texts`. */
typedef struct tug_walk_pick {
    uint32_t rule;
    uint16_t live;
    const tug_rule_texts *texts; /* NULL: the rule's */
} tug_walk_pick;

typedef struct tug_walk {
    const tug_rules *rules; /* borrowed */
    const tug_rule_texts *texts;
    uint64_t free_bits; /* 1: object, innermost lowest */
    uint32_t root;      /* rule of the value at `base` */
    uint32_t key;       /* of the innermost frame, or TUG_WALK_REST */
    uint32_t lo, hi, pos;
    uint16_t live; /* alternatives that the coming value leaves possible */
    uint8_t state; /* json_walk.c */
    uint8_t depth; /* open frames */
    uint8_t base;  /* of those, frames around the value: of a call */
    uint8_t free_depth;
    uint8_t spaces;
    uint8_t utf8_left, utf8_lo, utf8_hi; /* bytes missing; bounds of the next */
    uint8_t escape;                      /* hex digits missing, and surrogates */
    bool in_key;
    tug_walk_frame frame[TUG_RULE_DEPTH];
} tug_walk;

#define TUG_WALK_REST UINT32_MAX

/* Awaits a value of `root`, after up to `spaces` of white space.  `base` open frames stay
 * as they are. */
void tug_walk_start(tug_walk *w, uint32_t root, unsigned spaces);

/* False: not allowed; the state is then undefined. */
bool tug_walk_step(tug_walk *w, unsigned char byte);

/* Is the value complete?  (More digits may still be possible.) */
bool tug_walk_complete(const tug_walk *w);

/* ---- objects, for those that are written as a call -------------------------------------- */

/* Opens an object of the rule, which has keys, in a new frame. */
void tug_walk_open(tug_walk *w, uint32_t rule);

/* Alternatives of the innermost frame in which the key may come now; 0: it may not. */
uint16_t tug_walk_key_alts(const tug_walk *w, uint32_t key);

/* May any key come?  Any of the range [lo, hi)?  May the object end? */
bool tug_walk_any_key(const tug_walk *w, uint32_t lo, uint32_t hi, bool plain);
bool tug_walk_may_close(const tug_walk *w);

/* The key comes. */
void tug_walk_take_key(tug_walk *w, uint32_t key);

/* [*lo, *hi) becomes the keys that agree with one more byte at pos. */
void tug_walk_narrow_keys(const tug_walk *w, uint32_t pos, unsigned char byte,
                          uint32_t *lo, uint32_t *hi);

/* Rule of the key's value in one alternative. */
uint32_t tug_walk_child(const tug_walk *w, uint32_t key, unsigned alt);

#endif
