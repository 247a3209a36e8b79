"""Profiles: how guards of other makers are asked, and how their answers are read.

profile        what a profile is; which categories a guard can judge; answers under a policy
boxed          our own grammar: RSafe, any instruct model, gpt-oss-safeguard
llama_guard    Llama Guard 3 and 4
qwen3guard     Qwen3Guard-Gen
yes_no         one risk a call: ShieldGemma, Granite Guardian
catalogue      all of them, by name
format         what the modules above say of a prompt in another maker's words
skeleton       a format's layout over a tokenizer, cut at its slots
renderer       a format over a tokenizer: prompts as token ids
rendering      what serving needs of a renderer, ours or of another format; makes the right one
"""
