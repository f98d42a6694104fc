/* plan_names.c - what the parts of a plan are called.  SPDX-License-Identifier: MIT */
#include "plan/plan.h"

const char *tug_plan_part_name(tug_plan_part part) {
    static const char *const names[TUG_PLAN_PARTS] = {"deltanet", "attention", "shared",
                                                      "router",   "head",      "norms"};
    return names[part];
}

const char *tug_plan_use_name(tug_plan_use use) {
    static const char *const names[TUG_PLAN_USES] = {
        [TUG_PLAN_USE_DENSE] = "dense",
        [TUG_PLAN_USE_EMBEDDING] = "embedding",
        [TUG_PLAN_USE_ONLY_HERE] = "experts",
        [TUG_PLAN_USE_COPIES] = "expert_copies",
        [TUG_PLAN_USE_KV] = "kv",
        [TUG_PLAN_USE_STATE] = "state",
        [TUG_PLAN_USE_CHECKPOINTS] = "checkpoints",
        [TUG_PLAN_USE_WORKSPACE] = "workspace",
        [TUG_PLAN_USE_STAGING] = "staging",
        [TUG_PLAN_USE_MARGIN] = "margin",
        [TUG_PLAN_USE_FREE] = "free",
    };
    return names[use];
}

const char *tug_plan_term_name(tug_plan_term term) {
    static const char *const names[TUG_PLAN_TERMS] = {
        [TUG_PLAN_T_DENSE] = "dense",      [TUG_PLAN_T_KV] = "kv",
        [TUG_PLAN_T_STATE] = "state",      [TUG_PLAN_T_EXPERTS] = "experts",
        [TUG_PLAN_T_HOST] = "cpu_experts", [TUG_PLAN_T_LINK] = "pcie",
        [TUG_PLAN_T_DISK] = "disk",        [TUG_PLAN_T_FIXED] = "overhead",
    };
    return names[term];
}

const char *tug_plan_routing_name(tug_plan_routing routing) {
    static const char *const names[TUG_PLAN_ROUTINGS] = {"typical", "optimistic",
                                                         "skewed", "uniform"};
    return names[routing];
}

const char *tug_plan_kv_name(tug_plan_kv kv) {
    static const char *const names[TUG_PLAN_KVS] = {"f16", "q8_0", "f32"};
    return names[kv];
}
