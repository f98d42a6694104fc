/* profile.h - what a model records while it is measured (tug_profile.h).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_PROFILE_H
#define TUG_ENGINE_PROFILE_H

#include "backend/backend_stage.h"
#include "engine/engine_impl.h"

/* Frees the clock; the model's pool must not use it any more. */
void tug_recorder_close(tug_recorder *r);

#endif
