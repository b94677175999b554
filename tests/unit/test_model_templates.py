"""Chat templates as real model families ship them: what the model reads and, by hand, what of it carries loss.

The templates here are written anew and shorter; each behaves as its family's does where loss is concerned. In the
expected texts «» stand around what is learned. A row that is unrolled has several expected texts.
"""

import json
import re
from dataclasses import dataclass
from functools import cache

import pytest
from jinja2 import TemplateError as TemplateException
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tunesmith.core.messages import Example, Message
from tunesmith.data.fitting import Fitting
from tunesmith.data.template import TemplateError, render_unrolled, special_tokens
from tunesmith.data.tokenize import encode, encode_prompt, encode_unrolled
from tunesmith.models.plain_chat import Quick


@dataclass(frozen=True)
class Family:
    """A template with the tokens it needs; `ends` are the tokens that close an assistant's turn."""

    template: str
    ends: tuple[str, ...]
    eos: str
    special: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    bos: str | None = None


CHATML = Family(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_end|>",), "<|im_end|>", ("<|im_start|>",),
)  # fmt: skip
CALLS = (
    "{% for call in m.tool_calls or [] %}{{ ('' if loop.first and not m.content else '\n') + '<tool_call>\n' + "
    "({'name': call.function.name, 'arguments': call.function.arguments} | tojson) + '\n</tool_call>' }}{% endfor %}"
)
RESULTS = (
    "{% if m.role == 'tool' %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}"
    "{{ '<|im_start|>user' }}{% endif %}{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
)
TOOLS = Family(
    "{% if tools %}{{ '<|im_start|>system\nTools: ' }}{% for t in tools %}{{ t.function.name }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% for m in messages %}" + RESULTS + "{% else %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content }}" + CALLS + "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_end|>",), "<|im_end|>", ("<|im_start|>",), ("<tool_call>", "</tool_call>"),
)  # fmt: skip
LLAMA3 = Family(
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + "
    "'<|end_header_id|>\n\n' }}{% if m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    "{{ '{\"name\": \"' + call.name + '\", \"parameters\": ' + (call.arguments | tojson) + '}' }}"
    "{{ '<|eom_id|>' if call.name == 'python' else '<|eot_id|>' }}"
    "{% else %}{{ (m.content | trim) + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ("<|eot_id|>", "<|eom_id|>"), "<|end_of_text|>",
    ("<|start_header_id|>", "<|end_header_id|>"), bos="<|begin_of_text|>",
)  # fmt: skip
INSTRUCT = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}{% for m in turns %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + (system if loop.WHERE else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
# Version 0.3 and Nemo show the system message with the last turn, if that is the user's; later ones with the first.
MISTRAL_LAST = Family(INSTRUCT.replace("WHERE", "last"), ("</s>",), "</s>", bos="<s>")
MISTRAL = Family(INSTRUCT.replace("WHERE", "first"), ("</s>",), "</s>", bos="<s>")
TURN = (
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (system if loop.first else '') + "
    "(m.content | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA2 = Family(
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set system = '' %}{% for m in messages %}" + TURN,
    ("<end_of_turn>",), "<eos>", ("<start_of_turn>",), bos="<bos>",
)  # fmt: skip
GEMMA3 = Family(
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}" + TURN,
    ("<end_of_turn>",), "<eos>", ("<start_of_turn>",), bos="<bos>",
)  # fmt: skip
PHI3 = Family(
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    ("<|end|>",), "<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>"),
)  # fmt: skip
PHI4 = Family(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    ("<|im_end|>",), "<|endoftext|>", ("<|im_start|>", "<|im_sep|>"),
)  # fmt: skip
THINKING = (
    "{% set ns = namespace(asked=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}" + RESULTS + "{% else %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{% set text = m.content %}{% if m.role == 'assistant' %}"
    "{% set thought = m.reasoning_content if m.reasoning_content is string else '' %}"
    "{% if not thought and '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.asked and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{% endif %}{{ text }}" + CALLS + "{{ '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + 'OPENING' }}{% endif %}"
)
THINK = ("<think>", "</think>", "<tool_call>", "</tool_call>")
QWEN3 = Family(THINKING.replace("OPENING", ""), ("<|im_end|>",), "<|im_end|>", ("<|im_start|>", "<|endoftext|>"), THINK)
# The variant that always thinks: the prompt opens the block.
QWEN3_THINKING = Family(
    THINKING.replace("OPENING", "<think>\n"), ("<|im_end|>",), "<|im_end|>", ("<|im_start|>",), THINK
)
REASONER = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% elif m.role == 'tool' %}{{ '<｜tool▁outputs▁begin｜>' + m.content + '<｜tool▁outputs▁end｜>' }}"
    "{% else %}{{ '<｜Assistant｜>' + 'HISTORY' + m.content.split('</think>')[-1] }}{% if m.tool_calls %}"
    "{{ '<｜tool▁calls▁begin｜>' }}{% for call in m.tool_calls %}{{ call.function.name }}{% endfor %}"
    "{{ '<｜tool▁calls▁end｜>' }}{% endif %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' + 'OPENING' }}{% endif %}"
)
MARKS = (
    "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
    "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
)  # fmt: skip


def deepseek(history, opening):
    template = REASONER.replace("HISTORY", history).replace("OPENING", opening)
    return Family(
        template, ("<｜end▁of▁sentence｜>",), "<｜end▁of▁sentence｜>", MARKS, THINK[:2], bos="<｜begin▁of▁sentence｜>"
    )


R1 = deepseek("", "<think>\n")  # opens the block when served, and removes it from every answer
V3 = deepseek("", "")  # removes thinking from every answer, opens nothing
V31 = deepseek("</think>", "</think>")  # an answer without thinking begins behind a closed block
# Keeps what stands in the answer: the block that the prompt opens goes on in the text.
KEEPS = Family(
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + (m.content if loop.last else m.content.split('</think>')[-1] | trim) }}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
    ("<｜end▁of▁sentence｜>",), "<｜end▁of▁sentence｜>", MARKS, THINK[:2],
)  # fmt: skip


def said(role):
    return lambda content, **more: Message(role=role, content=content, **more)


system, user, answer, result = (said(role) for role in ("system", "user", "assistant", "tool"))


def call(name, arguments, **more):
    wire = {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return Message(role="assistant", tool_calls=(wire,), **more)


ONE = [user("2+2?"), answer("4")]
TWO = [*ONE, user("3+3?"), answer("6")]
SYSTEM = [system("Be brief."), *TWO]
UNLEARNED = [user("2+2?"), answer("5", weight=0), user("Sure?"), answer("4")]
THOUGHT = [
    user("2+2?"), answer("<think>\ntwo twos\n</think>\n\n4"),
    user("3+3?"), answer("6", reasoning_content="two threes"),
]  # fmt: skip
WEATHER = [user("Warm?"), call("sky", {"at": "Rome"}), result("31 C"), answer("Yes."), user("Thanks"), answer("Bye")]
ADDER = {"type": "function", "function": {"name": "sky"}}

CASES = {
    "chatml one": (CHATML, ONE, ["<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"]),
    "chatml two": (CHATML, TWO, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"
        "<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n«6<|im_end|>»\n"
    ]),
    "chatml system": (CHATML, SYSTEM, [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        "«4<|im_end|>»\n<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n«6<|im_end|>»\n"
    ]),
    "chatml unlearned": (CHATML, UNLEARNED, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"
    ]),
    "chatml greeting": (CHATML, [answer("Hello!", weight=0), *ONE], [
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n«4<|im_end|>»\n"
    ]),
    "chatml thinking in the text": (CHATML, [user("2+2?"), answer("<think>two twos</think>4")], [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>two twos</think>4<|im_end|>»\n"
    ]),
    "chatml tools": (TOOLS, WEATHER, [
        "<|im_start|>system\nTools: sky<|im_end|>\n<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n"
        '«<tool_call>\n{"name": "sky", "arguments": {"at": "Rome"}}\n</tool_call><|im_end|>»\n'
        "<|im_start|>user\n<tool_response>\n31 C\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "«Yes.<|im_end|>»\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n«Bye<|im_end|>»\n"
    ]),
    "chatml tools, the call unlearned": (TOOLS, [WEATHER[0], call("sky", {}, content="So:", weight=0), *WEATHER[2:4]], [
        "<|im_start|>system\nTools: sky<|im_end|>\n<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n"
        'So:\n<tool_call>\n{"name": "sky", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n31 C\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "«Yes.<|im_end|>»\n"
    ]),
    "llama one": (LLAMA3, ONE, [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«4<|eot_id|>»"
    ]),
    "llama system": (LLAMA3, SYSTEM, [
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«4<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\n3+3?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«6<|eot_id|>»"
    ]),
    "llama unlearned": (LLAMA3, UNLEARNED, [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n5<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«4<|eot_id|>»"
    ]),
    "llama calls": (LLAMA3, [*WEATHER[:3], call("python", {"code": "31 > 25"}), result("True"), answer(" Yes. ")], [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWarm?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '«{"name": "sky", "parameters": {"at": "Rome"}}<|eot_id|>»'
        "<|start_header_id|>ipython<|end_header_id|>\n\n31 C<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '«{"name": "python", "parameters": {"code": "31 > 25"}}<|eom_id|>»'
        "<|start_header_id|>ipython<|end_header_id|>\n\nTrue<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Yes.<|eot_id|>»"
    ]),
    "mistral one": (MISTRAL, ONE, ["<s>[INST] 2+2?[/INST]« 4</s>»"]),
    "mistral two": (MISTRAL_LAST, TWO, ["<s>[INST] 2+2?[/INST]« 4</s>»[INST] 3+3?[/INST]« 6</s>»"]),
    "mistral system": (MISTRAL, SYSTEM, ["<s>[INST] Be brief.\n\n2+2?[/INST]« 4</s>»[INST] 3+3?[/INST]« 6</s>»"]),
    "mistral unlearned": (MISTRAL, UNLEARNED, ["<s>[INST] 2+2?[/INST] 5</s>[INST] Sure?[/INST]« 4</s>»"]),
    "gemma one": (GEMMA2, ONE, [
        "<bos><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n"
    ]),
    "gemma two": (GEMMA2, TWO, [
        "<bos><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n"
        "<start_of_turn>user\n3+3?<end_of_turn>\n<start_of_turn>model\n«6<end_of_turn>»\n"
    ]),
    "gemma system": (GEMMA3, SYSTEM, [
        "<bos><start_of_turn>user\nBe brief.\n\n2+2?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n"
        "<start_of_turn>user\n3+3?<end_of_turn>\n<start_of_turn>model\n«6<end_of_turn>»\n"
    ]),
    "gemma unlearned": (GEMMA2, UNLEARNED, [
        "<bos><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n5<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n"
    ]),
    "phi3 one": (PHI3, ONE, ["<|user|>\n2+2?<|end|>\n<|assistant|>\n«4<|end|>»\n<|endoftext|>"]),
    "phi3 two": (PHI3, TWO, [
        "<|user|>\n2+2?<|end|>\n<|assistant|>\n«4<|end|>»\n<|user|>\n3+3?<|end|>\n<|assistant|>\n«6<|end|>»\n<|endoftext|>"
    ]),
    "phi3 system": (PHI3, SYSTEM[:3], [
        "<|system|>\nBe brief.<|end|>\n<|user|>\n2+2?<|end|>\n<|assistant|>\n«4<|end|>»\n<|endoftext|>"
    ]),
    "phi3 unlearned": (PHI3, UNLEARNED, [
        "<|user|>\n2+2?<|end|>\n<|assistant|>\n5<|end|>\n<|user|>\nSure?<|end|>\n<|assistant|>\n«4<|end|>»\n<|endoftext|>"
    ]),
    "phi4 system": (PHI4, SYSTEM, [
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>2+2?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>«4<|im_end|>»<|im_start|>user<|im_sep|>3+3?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>«6<|im_end|>»"
    ]),
    "qwen3 one": (QWEN3, ONE, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n4<|im_end|>»\n"
    ]),
    "qwen3 two": (QWEN3, TWO, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n4<|im_end|>»\n",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n6<|im_end|>»\n",
    ]),
    "qwen3 system, thinking": (QWEN3, [system("Be brief."), *THOUGHT], [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\ntwo twos\n</think>\n\n4<|im_end|>»\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        "4<|im_end|>\n<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\ntwo threes\n</think>\n\n6<|im_end|>»\n",
    ]),
    "qwen3 unlearned": (QWEN3, UNLEARNED, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n4<|im_end|>»\n"
    ]),
    "qwen3 last unlearned": (QWEN3, [*ONE, user("3+3?"), answer("7", weight=0)], [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n4<|im_end|>»\n"
    ]),
    "qwen3 calls": (QWEN3, WEATHER[:4], [
        "<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n"
        '<tool_call>\n{"name": "sky", "arguments": {"at": "Rome"}}\n</tool_call><|im_end|>»\n',
        "<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "sky", "arguments": {"at": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n31 C\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "«<think>\n\n</think>\n\nYes.<|im_end|>»\n",
    ]),
    "qwen3 thinking calls": (
        QWEN3, [WEATHER[0], call("sky", {}, reasoning_content="look"), WEATHER[2], answer("<think>hot</think>Yes.")], [
            "<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n«<think>\nlook\n</think>\n\n"
            '<tool_call>\n{"name": "sky", "arguments": {}}\n</tool_call><|im_end|>»\n'
            "<|im_start|>user\n<tool_response>\n31 C\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
            "«<think>\nhot\n</think>\n\nYes.<|im_end|>»\n"
    ]),
    "qwen3 always thinking": (QWEN3_THINKING, THOUGHT, [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n«two twos\n</think>\n\n4<|im_end|>»\n",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n<think>\n«two threes\n</think>\n\n6<|im_end|>»\n",
    ]),
    "deepseek, thinking kept": (KEEPS, [*THOUGHT[:3], answer("<think>\ntwo threes\n</think>\n\n6")], [
        "<｜User｜>2+2?<｜Assistant｜><think>\n«two twos\n</think>\n\n4<｜end▁of▁sentence｜>»",
        "<｜User｜>2+2?<｜Assistant｜>4<｜end▁of▁sentence｜>"
        "<｜User｜>3+3?<｜Assistant｜><think>\n«two threes\n</think>\n\n6<｜end▁of▁sentence｜>»",
    ]),
    "deepseek, closed block": (V31, SYSTEM, [
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>2+2?<｜Assistant｜></think>«4<｜end▁of▁sentence｜>»"
        "<｜User｜>3+3?<｜Assistant｜></think>«6<｜end▁of▁sentence｜>»"
    ]),
    "deepseek, no thinking": (V3, UNLEARNED, [
        "<｜begin▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜>5<｜end▁of▁sentence｜>"
        "<｜User｜>Sure?<｜Assistant｜>«4<｜end▁of▁sentence｜>»"
    ]),
    "deepseek calls": (V3, WEATHER[:4], [
        "<｜begin▁of▁sentence｜><｜User｜>Warm?<｜Assistant｜>"
        "«<｜tool▁calls▁begin｜>sky<｜tool▁calls▁end｜><｜end▁of▁sentence｜>»"
        "<｜tool▁outputs▁begin｜>31 C<｜tool▁outputs▁end｜><｜Assistant｜>«Yes.<｜end▁of▁sentence｜>»"
    ]),
}  # fmt: skip

REFUSED = {
    "deepseek removes the thinking it asks for": (R1, THOUGHT[:2], "served prompt opens a thinking block"),
    "deepseek opens a block for an answer without": (KEEPS, ONE, "give the answer its thinking"),
    "deepseek removes the thinking": (V3, THOUGHT[:2], "does not show the thinking of turn 1"),
    "chatml knows no reasoning_content": (CHATML, THOUGHT[2:], "does not show the thinking of turn 1"),
    "chatml knows no tool calls": (CHATML, WEATHER[:2], "does not show the tool calls of turn 1"),
    "mistral moves the system message": (MISTRAL_LAST, SYSTEM, "put its text into the user turn"),
    "mistral wants turns": (MISTRAL, [user("a"), user("b"), answer("c")], "roles must alternate"),
    "gemma knows no system role": (GEMMA2, SYSTEM, "System role not supported"),
    "a learned greeting": (CHATML, [answer("Hello!"), *ONE], "no prompt stands before"),
}


@cache
def small_vocabulary():
    """Bytes and a few merges, some of them over the borders of turns."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [re.sub("[«»]", "", text) for _, _, expected in CASES.values() for text in expected]
    made.train_from_iterator(texts, trainer)
    return made.to_str()


@cache
def tokenizer_for(family, vocabulary):
    made = Tokenizer.from_str(vocabulary)
    made.add_special_tokens([t for t in (*family.ends, family.eos, family.bos, *family.special) if t])
    made.add_tokens(list(family.plain))
    bos = {"bos_token": family.bos} if family.bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=family.eos, chat_template=family.template, **bos
    )  # fmt: skip


@pytest.fixture(params=["small", "smollm2"])
def vocabulary(request):
    """The tokens below the special ones: made here, and a real model's."""
    if request.param == "small":
        return small_vocabulary()
    return (request.getfixturevalue("shared") / "tokenizers" / "smollm2" / "tokenizer.json").read_text("utf-8")


def row(family, messages):
    return Example(messages=tuple(messages), tools=(ADDER,) if family is TOOLS else None, origin="f:1")


def marked(rendered):
    text = rendered.text
    for span in reversed(rendered.spans):
        if span.weight:
            text = f"{text[: span.start]}«{text[span.start : span.end]}»{text[span.end :]}"
    return text


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_and_what_is_learned(case):
    family, messages, expected = CASES[case]
    pieces = render_unrolled(tokenizer_for(family, small_vocabulary()), row(family, messages))
    assert [marked(rendered) for _, rendered in pieces] == expected


@pytest.mark.parametrize("case", CASES)
def test_a_conversation_of_plain_texts_is_rendered_as_by_transformers(case):
    family, messages, _ = CASES[case]
    tokenizer = tokenizer_for(family, small_vocabulary())
    quick = Quick(tokenizer)
    forms = [message.template_form() for message in messages]
    plain = [form for form in forms if form.keys() == {"role", "content"} and form["role"] != "tool"]
    for prompt in (False, True):
        options = {"tokenize": False, "add_generation_prompt": prompt}
        try:
            wanted = tokenizer.apply_chat_template(plain, **options)
        except TemplateException:
            with pytest.raises(TemplateException):
                quick(plain, **options)
        else:
            assert quick(plain, **options) == wanted


def stretches(encoded):
    """The runs of tokens that carry loss."""
    runs, before = [], 0.0
    for token, weight in zip(encoded.input_ids.tolist(), encoded.loss_weight.tolist(), strict=True):
        if weight and not before:
            runs.append([])
        if weight:
            runs[-1].append(token)
        before = weight
    return runs


@pytest.mark.parametrize("case", CASES)
def test_tokens_with_loss_are_the_learned_text_with_its_end_mark(case, vocabulary):
    family, messages, expected = CASES[case]
    tokenizer = tokenizer_for(family, vocabulary)
    [pieces] = encode_unrolled(tokenizer, [row(family, messages)])
    assert [tokenizer.decode(encoded.input_ids) for _, encoded in pieces] == [
        re.sub("[«»]", "", text) for text in expected
    ]
    for (_, encoded), text in zip(pieces, expected, strict=True):
        learned = stretches(encoded)
        assert [tokenizer.decode(run) for run in learned] == re.findall("«(.*?)»", text, re.DOTALL)
        assert {run[-1] for run in learned} <= set(tokenizer.convert_tokens_to_ids(list(family.ends)))
    fitting = Fitting(tokenizer, 10_000, "error")
    assert fitting.take(row(family, messages), pieces)
    assert not [f.code for f in fitting.findings(ends=True) if f.code != "unrolled"]


@pytest.mark.parametrize("case", CASES)
def test_the_trained_prompt_is_the_served_one(case, vocabulary):
    family, messages, _ = CASES[case]
    tokenizer = tokenizer_for(family, vocabulary)
    [pieces] = encode_unrolled(tokenizer, [row(family, messages)])
    compared = 0
    for example, encoded in pieces:
        for index, message in enumerate(example.messages):
            if message.learned:
                # A server is told no weights.
                served = [m.model_copy(update={"weight": None}) for m in example.messages[:index]]
                prompt = encode_prompt(tokenizer, served, example.tools)
                assert encoded.input_ids[: len(prompt)].tolist() == prompt
                assert encoded.loss_weight[len(prompt)] == 1
                compared += 1
    assert compared == sum(m.learned for m in messages)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_decided_is_refused_with_its_reason(case):
    family, messages, reason = REFUSED[case]
    [refused] = encode_unrolled(tokenizer_for(family, small_vocabulary()), [row(family, messages)])
    assert isinstance(refused, TemplateError)
    assert reason in str(refused)


def test_a_prompt_whose_history_is_shown_otherwise_is_served_all_the_same():
    tokenizer = tokenizer_for(QWEN3, small_vocabulary())
    prompt = encode_prompt(tokenizer, THOUGHT[:3])
    assert tokenizer.decode(prompt) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_piece_keeps_the_weight_of_its_turn_and_what_else_the_row_holds():
    tokenizer = tokenizer_for(QWEN3, small_vocabulary())
    whole = Example(
        messages=(user("a"), answer("b", weight=0.25), user("c"), answer("d", weight=3)),
        metadata={"kind": 1}, origin="f:7",
    )  # fmt: skip
    [pieces] = encode_unrolled(tokenizer, [whole])
    assert [set(encoded.loss_weight.tolist()) for _, encoded in pieces] == [{0.0, 0.25}, {0.0, 3.0}]
    assert [(e.metadata, e.origin, e.answer()) for e, _ in pieces] == [
        ({"kind": 1}, "f:7", "b"),
        ({"kind": 1}, "f:7", "d"),
    ]
    assert isinstance(encode(tokenizer, [whole])[0], TemplateError)


def test_arguments_as_json_text_and_as_objects_are_shown_alike():
    tokenizer = tokenizer_for(TOOLS, small_vocabulary())
    wire = call("sky", {"at": "Rome"})
    function = {"name": "sky", "arguments": {"at": "Rome"}}
    plain = wire.model_copy(update={"tool_calls": ({"function": function},)})
    [a], [b] = (render_unrolled(tokenizer, row(TOOLS, [user("Warm?"), turn])) for turn in (wire, plain))
    assert a[1] == b[1]
    broken = wire.model_copy(update={"tool_calls": ({"function": function | {"arguments": "{at"}},)})
    [(_, shown)] = render_unrolled(tokenizer, row(TOOLS, [user("Warm?"), broken]))
    assert '"arguments": "{at"' in shown.text


def test_special_tokens_are_found_beyond_those_with_a_name():
    tokenizer = tokenizer_for(GEMMA2, small_vocabulary())
    assert set(special_tokens(tokenizer).values()) == {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"}
    assert "<end_of_turn>" not in tokenizer.all_special_tokens
    assert "<think>" not in special_tokens(tokenizer_for(QWEN3, small_vocabulary())).values()


def test_phi_with_tokens_that_swallow_white_space_learns_its_end_mark():
    made = Tokenizer.from_str(small_vocabulary())
    marks = ("<|user|>", "<|assistant|>", "<|end|>")
    made.add_special_tokens([AddedToken(t, rstrip=True, special=True) for t in marks] + ["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", chat_template=PHI3.template
    )  # fmt: skip
    [[(_, encoded)]] = encode_unrolled(tokenizer, [row(PHI3, TWO)])
    assert [tokenizer.decode(run) for run in stretches(encoded)] == ["4<|end|>", "6<|end|>"]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.role + ': ' + m.content + (eos_token if loop.last and m.role == 'assistant' else "
        "'\n') }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        "{% for m in messages %}{{ '' if loop.first else '\n' }}{{ m.role + ': ' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nassistant: ' }}{% else %}{{ eos_token }}{% endif %}",
    ],
)
def test_where_only_the_last_turn_is_closed_each_turn_still_learns_to_stop(template):
    tokenizer = tokenizer_for(Family(template, ("</s>",), "</s>"), small_vocabulary())
    assert [marked(rendered) for _, rendered in render_unrolled(tokenizer, row(CHATML, TWO))] == [
        "user: 2+2?\nassistant: «4</s>»",
        "user: 2+2?\nassistant: 4\nuser: 3+3?\nassistant: «6</s>»",
    ]
