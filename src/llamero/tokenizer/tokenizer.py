"""Text <-> ids, for every Llama. Knows nothing of files, conversations or models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError
from llamero.tokenizer import names
from llamero.tokenizer.definition import Definition, Kind, Rules, TokenType
from llamero.tokenizer.from_llama2c import read_llama2c
from llamero.tokenizer.identity import identity
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.patterns import begins_with_bos
from llamero.tokenizer.stream import Speller, StreamDecoder
from llamero.tokenizer.to_gguf import write_metadata
from llamero.tokenizer.to_json import write_config, write_json
from llamero.tokenizer.to_sentencepiece import write_sentencepiece
from llamero.tokenizer.to_tiktoken import write_ranks


class Tokenizer:
    """One vocabulary and its rules; never changes, so threads may share it. Made by `load_tokenizer`.

    Attributes:
        kind: "spm" (SentencePiece BPE) or "bpe" (byte-level BPE); pre: the name of the split pattern, as in GGUF.
        bos_id, eos_id, pad_id, unk_id, eot_id (end of turn), eom_id (end of message): None where there is none.
        end_id: what ends a document in training: the end of a text by its name, else eos_id.
        stop_ids: every id that ends a text, a turn or a message, by the file's word or by its name.
        control_ids: tokens that are no text: control tokens, and the unknown one.
        add_bos: whether texts begin with BOS.
        special_tokens: the tokens that `special=True` finds in a text, and user-defined ones, by name.
        chat_template: the Jinja2 template that came with the vocabulary.
    """

    def __init__(self, definition: Definition) -> None:
        self.rules = rules = definition.rules
        self._encoder = Encoder(definition)
        self._types = definition.types.copy()
        self._scores = None if definition.scores is None else definition.scores.copy()
        self.kind: Kind = rules.kind
        self.pre = rules.pre
        self.vocab_size = len(definition.tokens)
        self.chat_template = rules.chat_template
        self.special_tokens: Mapping[str, int] = MappingProxyType(self._named())
        self._set_roles(rules)
        self.control_ids: frozenset[int] = self._of_type(TokenType.CONTROL, TokenType.UNKNOWN)
        self._bytes_only = self._of_type(TokenType.BYTE)

    @classmethod
    def from_llama2c(cls, data: bytes) -> Tokenizer:
        """From the bytes of llama2.c's `tokenizer.bin`. Raises TokenizerError."""
        return cls(read_llama2c(data))

    def encode(
        self, text: str, *, bos: bool = True, special: bool = False, start: bool = True, guard: str | None = None
    ) -> list[int]:
        """The ids of a text.

        `bos`: begin with the BOS token where the model uses one; never a second one where the text itself brings it.
        `special`: `<|eot_id|>` and its like in the text become that token. Without it they are plain text, so a user
        cannot forge a turn. `start`: the text begins here, so SentencePiece puts a space before it. That space also
        stands after a BOS in the text and nowhere else: text after any other special token is taken as it is.
        `guard`: a string that keeps what it stands in from being a special token, and is then taken out of the text.
        A text is never cut: Meta's code for Llama 3 and 4 cuts at 400,000 characters and in runs of 25,000.
        Raises TokenizerError for a text that is not Unicode (half a surrogate pair).
        """
        ids = self._encoder.encode(text, special=special, start=start, guard=guard or "")
        if bos and self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """The ids of a text as (tokens,) int32, without BOS and special tokens: the quick way to whole corpora."""
        return self._encoder.encode_array(text, special=False, start=True)

    def encode_document(self, text: str) -> NDArray[np.int32]:
        """The ids of a text to learn from, (tokens,): BOS where the model uses one, the text, the end of a text.

        Raises TokenizerError where the vocabulary has no token that ends a text.
        """
        if self.end_id is None:
            raise TokenizerError("this vocabulary has no token that ends a text, so documents would run together")
        begin = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        first, last = (np.array(each, np.int32) for each in (begin, [self.end_id]))
        return np.concatenate([first, self.encode_array(text), last])

    def fingerprint(self) -> str:
        """SHA-256 in hex of all that decides the ids of a document, whatever kind of file it came from."""
        begin = self.bos_id if self.add_bos else None
        return identity(self.rules, self._encoder, self._types, self._scores, begin, self.end_id)

    def decode(self, ids: Iterable[int], *, special: bool = False, start: bool = True) -> str:
        """The text of some ids; what is not UTF-8 becomes U+FFFD.

        `special`: show control tokens by name, which are left out otherwise. `start`: the text begins here, so the
        space that SentencePiece put before it goes. Raises TokenizerError for an id outside the vocabulary.
        """
        speller = self._speller(special, start)
        return b"".join(map(speller.spell, ids)).decode("utf-8", "replace")

    def stream(self, *, special: bool = False, start: bool = True, show: Iterable[str] = ()) -> StreamDecoder:
        """The same as `decode`, id by id; `start=False` where the ids continue a text that is already there.

        `show`: control tokens that are shown by name in any case; names of none are passed over.
        """
        shown = {self.special_tokens[name] for name in show if name in self.special_tokens}
        return StreamDecoder(self._speller(special, start, shown))

    def piece(self, token: int) -> bytes:
        """The bytes of a token: a space where SentencePiece writes U+2581, the one byte of a byte token."""
        return self._encoder.piece(token)

    def split(self, text: str) -> list[str]:
        """The pieces that a byte-level text is cut into before merging; SentencePiece does not cut."""
        return self._encoder.split(text)

    def to_gguf(self) -> dict[str, Any]:
        """The tokenizer as `tokenizer.*` metadata of a GGUF file."""
        roles = {"bos": self.bos_id, "eos": self.eos_id, "eot": self.eot_id, "eom": self.eom_id}
        roles |= {"unknown": self.unk_id, "padding": self.pad_id}
        return write_metadata(self.rules, self._encoder, self._types, self._scores, roles, add_bos=self.add_bos)

    def to_json(self) -> dict[str, Any]:
        """The tokenizer as the object of a `tokenizer.json`."""
        bos = self.bos_id if self.add_bos else None
        return write_json(self.rules, self._encoder, self._types, self._scores, bos)

    def to_config(self) -> dict[str, Any]:
        """What belongs beside it: the object of a `tokenizer_config.json`, with the chat template."""
        roles = {"bos": self.bos_id, "eos": self.eos_id, "unk": self.unk_id, "pad": self.pad_id}
        return write_config(self.rules, self._encoder, self._types, roles, add_bos=self.add_bos)

    def to_sentencepiece(self) -> bytes:
        """The tokenizer as a sentencepiece `tokenizer.model`. Raises TokenizerError where it is not of that kind."""
        return write_sentencepiece(self.rules, self._encoder, self._types, self._scores)

    def to_tiktoken(self) -> bytes:
        """The ordinary tokens as tiktoken's rank file. Raises TokenizerError where ranks would give other ids."""
        return write_ranks(self.rules, self._encoder, self._types)

    def _speller(self, special: bool, start: bool, shown: Set[int] = frozenset()) -> Speller:
        spm = self.kind == "spm"
        strip_all = spm and self.rules.remove_extra_whitespaces
        strip = start and (strip_all or (spm and self.rules.add_space_prefix))
        return Speller(
            self._encoder.piece,
            self.control_ids - shown,
            self._bytes_only,
            special=special,
            strip=strip,
            strip_all=strip_all,
        )

    def _of_type(self, *types: TokenType) -> frozenset[int]:
        return frozenset(np.flatnonzero(np.isin(self._types, types)).tolist())

    def _named(self) -> dict[str, int]:
        named: dict[str, int] = {}
        for token in sorted(self._of_type(TokenType.CONTROL, TokenType.USER, TokenType.UNKNOWN)):
            raw = self._encoder.piece(token)
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                raise TokenizerError(f"special token {token} is not UTF-8: {raw[:40]!r}") from None
            named[name.replace(" ", "▁") if self.kind == "spm" else name] = token
        return named

    def _set_roles(self, rules: Rules) -> None:
        """Roles by the file's word, else by the name that every Llama of the family gives them."""
        ids, tokens = rules.ids, self.special_tokens
        self.bos_id = names.first_of(names.BEGIN, tokens) if ids.bos is None else ids.bos
        self.eos_id = names.first_of(names.END, tokens) if ids.eos is None else ids.eos
        ending = names.first_of(names.END, tokens)  # the file's word may be the end of a turn
        self.end_id = self.eos_id if ending is None else ending
        self.eot_id = names.first_of(names.END_OF_TURN, tokens) if ids.eot is None else ids.eot
        self.eom_id = names.first_of(names.END_OF_MESSAGE, tokens) if ids.eom is None else ids.eom
        self.pad_id = names.first_of(names.PAD, tokens) if ids.pad is None else ids.pad
        self.unk_id = ids.unk
        ends = {self.eos_id, self.eot_id, self.eom_id, *ids.stops}
        ends |= {token for name, token in tokens.items() if name in names.STOPS}
        self.stop_ids: frozenset[int] = frozenset(end for end in ends if end is not None)
        usual = rules.kind == "spm" or begins_with_bos(rules.pre)
        self.add_bos = self.bos_id is not None and (usual if rules.add_bos is None else rules.add_bos)
