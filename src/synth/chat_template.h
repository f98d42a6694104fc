/* chat_template.h - the chat template that models of ours carry: the format of
 * Qwen3-Coder-Next.  SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_CHAT_TEMPLATE_H
#define TUG_SYNTH_CHAT_TEMPLATE_H

extern const char tug_synth_chat_template[]; /* zero-terminated */

#endif
