// sdk_streams.mjs - the JavaScript half of sdk_streams.py: jobs from stdin, the folder with
// the SDKs and the server's base URL as arguments; one line per job with what the SDK made
// of the answer.  SPDX-License-Identifier: MIT
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [folder, base] = process.argv.slice(2);
const require = createRequire(path.resolve(folder) + '/');
const OpenAI = require('openai').OpenAI;
const Anthropic = require('@anthropic-ai/sdk').Anthropic;
const version = (name) =>
  JSON.parse(readFileSync(path.join(folder, 'node_modules', name, 'package.json'))).version;

function readChat(c) {
  const { message, finish_reason } = c.choices[0];
  const calls = (message.tool_calls ?? []).map((t) => [t.id, t.function.name, t.function.arguments]);
  const u = c.usage;
  return {
    content: message.content ?? '', end: finish_reason, calls,
    usage: [u.prompt_tokens, u.completion_tokens, u.prompt_tokens_details.cached_tokens],
  };
}

function readResponseItem(i) {
  if (i.type === 'message') return ['text', i.content.map((p) => p.text).join('')];
  if (i.type === 'custom_tool_call') return ['custom', i.call_id, i.name, i.input];
  if (i.type === 'local_shell_call') return ['shell', i.call_id, i.action.command];
  return ['call', i.call_id, i.name, i.namespace ?? null, i.arguments];
}

function readResponse(r) {
  if (r.status === 'failed') return { error: r.error.message };
  const u = r.usage;
  return {
    items: r.output.map(readResponseItem), end: r.status,
    usage: [u.input_tokens, u.output_tokens, u.input_tokens_details.cached_tokens],
  };
}

function readMessage(m) {
  const items = m.content.map((b) =>
    b.type === 'text' ? ['text', b.text] : ['call', b.id, b.name, b.input]);
  const u = m.usage;
  return {
    items, end: [m.stop_reason, m.stop_sequence],
    usage: [u.input_tokens, u.output_tokens, u.cache_read_input_tokens],
  };
}

async function ask(job) {
  const say = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] };
  if (job.api === 'messages') {
    const client = new Anthropic({ baseURL: `${base}/${job.key}`, apiKey: 'none', maxRetries: 0 });
    const body = { ...say, max_tokens: 100 };
    if (!job.stream) return readMessage(await client.messages.create(body));
    return readMessage(await client.messages.stream(body).finalMessage());
  }
  const client = new OpenAI({ baseURL: `${base}/${job.key}/v1`, apiKey: 'none', maxRetries: 0 });
  if (job.api === 'responses') {
    const body = { model: 'tiny', input: 'Hi' };
    if (!job.stream) return readResponse(await client.responses.create(body));
    return readResponse(await client.responses.stream(body).finalResponse());
  }
  if (!job.stream) return readChat(await client.chat.completions.create(say));
  const body = { ...say, stream_options: { include_usage: true } };
  return readChat(await client.chat.completions.stream(body).finalChatCompletion());
}

console.log(`javascript: openai ${version('openai')}, @anthropic-ai/sdk ${version('@anthropic-ai/sdk')}, ` +
            `node ${process.version}`);
for (const job of JSON.parse(readFileSync(0))) {
  let got;
  try {
    got = await ask(job);
  } catch (e) {
    got = { status: e.status, error: `${e.name}: ${e.message}` };
  }
  console.log(JSON.stringify(got));
}
