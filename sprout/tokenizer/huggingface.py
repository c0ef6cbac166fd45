"""The tokenizer as Hugging Face files: `tokenizer.json` (the vocabulary) and `tokenizer_config.json` (the chat format)."""

from __future__ import annotations

import json
from pathlib import Path

from sprout.common.errors import UserError
from sprout.common.files import write_json
from sprout.tokenizer.tokenizer import Tokenizer

# The chat format of chat.py once more, for whoever loads the folder with other software.
CHAT_TEMPLATE = (
    "{{- '<|endoftext|>' -}}"
    "{%- set ns = namespace(names=[]) -%}"
    "{%- for tool in tools or [] -%}"
    "{%- set ns.names = ns.names + [tool if tool is string else (tool.function.name if tool.function is defined else tool.name)] -%}"
    "{%- endfor -%}"
    "{%- set rest = messages -%}{%- set system = '' -%}"
    "{%- if messages and messages[0].role == 'system' -%}"
    "{%- set system = messages[0].content -%}{%- set rest = messages[1:] -%}{%- endif -%}"
    "{%- if ns.names -%}"
    "{%- set system = (system + '\n' if system else '') + 'Tools: ' + ns.names | join(', ') -%}{%- endif -%}"
    "{%- if system -%}{{- '<|system|>' + system + '<|end|>' -}}{%- endif -%}"
    "{%- for m in rest -%}"
    "{{- '<|' + m.role + '|>' + (m.content or '') -}}"
    "{%- for call in m.tool_calls or [] -%}{%- set f = call.function if call.function is defined else call -%}"
    "{{- '<|call|>' + f.name + ' ' + (f.arguments if f.arguments is string else f.arguments | tojson) -}}{%- endfor -%}"
    "{{- '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def byte_letters() -> list[str]:
    """GPT-2's printable stand-in for every byte: printable ones stay, the others get letters from U+0100 on."""
    keep = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters, spare = [], 256
    for b in range(256):
        letters.append(chr(b if b in keep else spare))
        spare += b not in keep
    return letters


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write both files into `folder`, atomically."""
    letters = byte_letters()

    def spell(i: int) -> str:
        return "".join(letters[b] for b in tokenizer.tokens[i])

    added = [
        {
            "id": i,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, i in tokenizer.specials.items()
    ]
    split = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    vocabulary = {spell(i): i for i in range(len(tokenizer.tokens))}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [[spell(a), spell(b)] for a, b in tokenizer.merges],
    }
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": model,
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|end|>",
            "pad_token": "<|endoftext|>",
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def load(folder: Path) -> Tokenizer:
    """Read `folder`/tokenizer.json. Raises UserError where it is missing or not one of ours."""
    path = folder / "tokenizer.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        byte_of = {letter: b for b, letter in enumerate(byte_letters())}
        vocabulary = plain["model"]["vocab"]
        tokens = [bytes(byte_of[c] for c in text) for text, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
        merges = [(vocabulary[a], vocabulary[b]) for a, b in plain["model"]["merges"]]
        specials = [a["content"] for a in sorted(plain["added_tokens"], key=lambda a: a["id"])]
        pattern = plain["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
        return Tokenizer(tokens, merges, specials, pattern)
    except FileNotFoundError:
        raise UserError(
            f"there is no tokenizer in {folder}; expected a file tokenizer.json. Grow or name another run."
        ) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged or not a tokenizer of this kind ({error!r}); write it anew.") from error
