"""For delay.py: one request through the vendors' Python SDKs with their own time limits.

usage: delay_sdk.py URL WAY PROMPT; prints what the model said.
"""
import sys

import anthropic
import openai

url, way, prompt = sys.argv[1:]
api, form = way.split("-")
say = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
if api == "messages":
    client = anthropic.Anthropic(base_url=url, api_key="none")
    if form == "stream":
        with client.messages.stream(max_tokens=100, **say) as s:
            text = s.get_final_text()
    else:
        text = client.messages.create(max_tokens=100, **say).content[0].text
else:
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    if api == "responses" and form == "stream":
        with client.responses.stream(model="m", input=prompt) as s:
            text = s.get_final_response().output_text
    elif api == "responses":
        text = client.responses.create(model="m", input=prompt).output_text
    elif form == "stream":
        with client.chat.completions.stream(**say) as s:
            text = s.get_final_completion().choices[0].message.content
    else:
        text = client.chat.completions.create(**say).choices[0].message.content
print(text)
