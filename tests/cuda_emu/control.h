/* control.h - what tests ask of the emulated driver beside the driver's own functions.
 *
 * The library exports them; tests find them with dlsym on the loaded driver, so the same test program runs on a real driver, which has none.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CUDA_EMU_CONTROL_H
#define TUG_TESTS_CUDA_EMU_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options, separated by spaces; the environment variable TUG_EMU is read first.
 *   devices=1 cc=86 driver=12000 vram=SIZE (K, M, G) others=SIZE (VRAM that others hold)
 *   memops=1   0: it says that streams cannot wait for words of memory
 *   schedule=immediate | deferred | random:SEED      order=forward | reversed
 *   fail=N:CODE   the N-th driver call from now returns CODE; 700 and 719 stay
 *   lost=FILE      launches fail and the device stays lost from when there is such a file
 *   watchdog=SECONDS   of a stream that waits for a value (20)
 * Unknown ones end the process. */
void tug_emu_configure(const char *options);

/* Driver calls so far (those that only name errors are not counted), and whether the failure
 * that was asked for has happened. */
unsigned long tug_emu_calls(void);
int tug_emu_failed(void);

/* As on a fresh process, but for the addresses: no sticky error, no failure to come. */
void tug_emu_recover(void);

typedef struct tug_emu_live {
    size_t device, host, streams, events, modules, graphs, contexts;
} tug_emu_live;
/* What was created and not destroyed. */
void tug_emu_get_live(tug_emu_live *out);

/* Kernel launches so far, of all or of one name. */
unsigned long tug_emu_launches(const char *name);

/* What this build of it can find. */
int tug_emu_finds_races(void);
int tug_emu_finds_overruns(void); /* of static shared arrays: ASan */

#ifdef __cplusplus
}
#endif

#endif
