"""Captions as tokens: byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909, Algorithm 1) as CLIP does it.

The tokens are learnt here, and not by `tokenizers`, whose order of equally frequent pairs, and so the numbers of the
tokens, differ from run to run.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

ENDS = ("<|startoftext|>", "<|endoftext|>")  # 0 and 1: transformers takes an end of 2 for an old mistake
MAX_MERGES = 4096
WORD_END = "</w>"
TOKENIZER_KEYS = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
PRINTABLE = "".join(map(chr, range(33, 127))).lower()  # of ASCII


def train_tokenizer(captions: Iterable[str], length: int) -> "CLIPTokenizer":
    """Learns the tokens of `captions`. Each letter of ASCII and of the captions is one, so that other words are spelt.

    Args:
        length: tokens of a text with its two ends, to which the texts of a batch are filled up or cut.
    """
    from transformers import CLIPTokenizer

    vocab = {end: number for number, end in enumerate(ENDS)}
    backend = CLIPTokenizer(vocab=vocab, merges=[]).backend_tokenizer
    words: Counter[str] = Counter()
    for text in captions:
        normal = backend.normalizer.normalize_str(text)
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    spelt = {(*word[:-1], word[-1] + WORD_END): count for word, count in words.items() if word}
    letters = {*PRINTABLE, *(symbol.removesuffix(WORD_END) for word in spelt for symbol in word)}
    symbols = sorted(letter + end for letter in letters for end in ("", WORD_END))
    merges: Any = learn_merges(spelt)
    tokens = dict.fromkeys([*ENDS, *symbols, *("".join(pair) for pair in merges)])
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def learn_merges(words: dict[tuple[str, ...], int], max_merges: int = MAX_MERGES) -> list[tuple[str, str]]:
    """Returns the pairs of symbols to merge, in this order: always the most frequent pair, of equally frequent ones
    the first by the alphabet, until none occurs twice.

    Args:
        words: the symbols of each word -> how often it occurs.
    """
    merges = []
    while len(merges) < max_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {merge(word, best): count for word, count in words.items()}
    return merges


def merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Returns the symbols of a word with each `pair`, from the left, as one symbol."""
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def tokenize(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """Returns the tokens of each caption, int64 (N, T), as diffusers' text-to-image pipelines make them."""
    length = tokenizer.model_max_length
    tokens = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True)
    return torch.tensor(tokens["input_ids"])


def token_counts(tokenizer: Any) -> dict[str, int]:
    """Returns what a text encoder's config says about its tokenizer."""
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return dict(zip(TOKENIZER_KEYS, (len(tokenizer), tokenizer.model_max_length, *ends), strict=True))
