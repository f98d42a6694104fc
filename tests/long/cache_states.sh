#!/bin/sh
# cache_states.sh - every state of larger worlds of the expert cache than the quick tests'.
#
#   tests/long/cache_states.sh     (from the repository root, after `make tests`)
exec "${B:-build}/tests/unit/test_expert_cache" --larger
