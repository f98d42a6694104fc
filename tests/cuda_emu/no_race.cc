// no_race.cc - the build without the race detector: nothing is noted.
// SPDX-License-Identifier: MIT
#include "cuda_emu/emu.h"

namespace emu {
const bool race_build = false;
void note(const void *, size_t, access) {}
void note_range(uintptr_t, size_t) {}
void note_launch() {}
void note_epoch(bool) {}
void note_fresh(uintptr_t, size_t) {}
void note_filled(uintptr_t, size_t) {}
void note_stacks(uintptr_t, size_t) {}
} // namespace emu
