// delay_sdk.mjs - for delay.py: one request through the vendors' JavaScript SDKs with their
// own time limits.  usage: SDK_JS=FOLDER node delay_sdk.mjs URL WAY PROMPT; prints what the
// model said.  SPDX-License-Identifier: MIT
import { createRequire } from 'node:module';

const require = createRequire(process.env.SDK_JS + '/');
const [url, way, prompt] = process.argv.slice(2);
const openai = () => new (require('openai').OpenAI)({ baseURL: `${url}/v1`, apiKey: 'none' });
const anthropic = () => new (require('@anthropic-ai/sdk').Anthropic)({ baseURL: url, apiKey: 'none' });
const say = { model: 'm', messages: [{ role: 'user', content: prompt }] };
const input = { model: 'm', input: prompt };
const text = {
  'chat-stream': async () =>
    (await openai().chat.completions.stream(say).finalChatCompletion()).choices[0].message.content,
  'chat-whole': async () => (await openai().chat.completions.create(say)).choices[0].message.content,
  'responses-stream': async () => (await openai().responses.stream(input).finalResponse()).output_text,
  'responses-whole': async () => (await openai().responses.create(input)).output_text,
  'messages-stream': async () => anthropic().messages.stream({ ...say, max_tokens: 100 }).finalText(),
  'messages-whole': async () =>
    (await anthropic().messages.create({ ...say, max_tokens: 100 })).content[0].text,
};
console.log(await text[way]());
