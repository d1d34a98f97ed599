"""The packed weights of a model as the rule on them sees them: codes, their scheme, and the partners that are there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.knowledge.quantisation import BNB_4BIT, CODE_ENDINGS, SCHEMES, Need, Partner, Scheme, Settings

_FLAVOUR = "quant_state.bitsandbytes__"  # behind it the name of a data type
_NUMBER = re.compile(r"\d+")
_SURE = tuple(scheme for scheme in SCHEMES if scheme.sure)
_UNSURE = tuple(scheme for scheme in SCHEMES if not scheme.sure)
_ONE_BYTE = 8


class Packed(NamedTuple):
    """Codes that stand for a weight: the tensor, its scheme, and what the names of its partners begin with."""

    codes: TensorInfo
    scheme: Scheme
    stem: str

    @property
    def kind(self) -> str:
        """The path without numbers: the same for one module of every layer, and for all experts of a layer."""
        return _kind(self.stem)


class Lack(NamedTuple):
    """A partner that is not there, under the name that it has in other layers, or the first of its names."""

    packed: Packed
    partner: Partner
    name: str


class Misfit(NamedTuple):
    """A partner of another shape than the codes and the settings give."""

    packed: Packed
    partner: TensorInfo
    expected: tuple[tuple[int, ...], ...]


class PackedWeights:
    """All packed weights among ``tensors``, judged by what the config says (``settings``) and by each other."""

    def __init__(self, tensors: Iterable[TensorInfo], settings: Settings | None) -> None:
        self.settings = settings or Settings()
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self._flavours = {
            name[: name.index(_FLAVOUR) + len(_FLAVOUR)] + "*": tensor
            for name, tensor in self.tensors.items()
            if _FLAVOUR in name
        }

    @cached_property
    def found(self) -> tuple[Packed, ...]:
        """The packed weights, in the order of the tensors."""
        found: dict[str, Packed] = {}
        unclear = []
        for tensor in self.tensors.values():
            if not tensor.name.endswith(CODE_ENDINGS) or _is_plain(tensor):
                continue
            packed = self._packed(tensor)
            if packed is not None:
                found[tensor.name] = packed
            elif tensor.dtype.bits == _ONE_BYTE and tensor.dtype.name != "bool":
                unclear.append(tensor)
        if unclear:
            like = {(item.kind, item.codes.dtype.name): item.scheme for item in found.values() if not item.scheme.sure}
            for tensor in unclear:
                for scheme, stem in _named(tensor, _UNSURE):
                    if like.get((_kind(stem), tensor.dtype.name)) is scheme:
                        found[tensor.name] = Packed(tensor, scheme, stem)
        return tuple(found.values())

    def _packed(self, tensor: TensorInfo) -> Packed | None:
        for scheme, stem in _named(tensor, _SURE):
            return Packed(tensor, scheme, stem)
        unsure = list(_named(tensor, _UNSURE))
        for scheme, stem in unsure:
            if any(self._partner(stem, item) for item in scheme.partners if item.need is Need.ALWAYS):
                return Packed(tensor, scheme, stem)
        for scheme, stem in unsure:
            if self.settings.method in scheme.methods and self._means(scheme, tensor, stem):
                return Packed(tensor, scheme, stem)
        return None

    def _means(self, scheme: Scheme, tensor: TensorInfo, stem: str) -> bool:
        """Whether the method packs this tensor, which has no partner."""
        if tensor.dtype.bits != _ONE_BYTE or len(tensor.shape) < 2 or self.settings.excludes(stem):
            return False
        return scheme is not BNB_4BIT or tensor.shape[-1] == 1

    def _partner(self, stem: str, partner: Partner) -> TensorInfo | None:
        for ending in partner.endings:
            name = stem + ending
            tensor = self._flavours.get(name) if ending.endswith("*") else self.tensors.get(name)
            if tensor is not None:
                return tensor
        return None

    def lacks(self) -> Iterator[Lack]:
        """Partners that must be there and are not."""
        having: dict[tuple[str, Partner], list[Packed]] = defaultdict(list)
        lacking: dict[tuple[str, Partner], list[Packed]] = defaultdict(list)
        for packed in self.found:
            for partner in packed.scheme.partners:
                there = self._partner(packed.stem, partner) is not None
                (having if there else lacking)[packed.scheme.title, partner].append(packed)
        for (title, partner), without in lacking.items():
            ending = self._usual_ending(partner, having[title, partner])
            for packed in self._in_need(partner, without, having[title, partner]):
                yield Lack(packed, partner, packed.stem + ending)

    def _in_need(self, partner: Partner, without: list[Packed], having: list[Packed]) -> Iterator[Packed]:
        if partner.need is Need.ALWAYS or self.settings.method in partner.methods or self._is_asymmetric(partner):
            yield from without
        elif partner.need is Need.NESTED:
            yield from (packed for packed in without if self._is_nested(packed))
        elif partner.need is not Need.NEVER and having and self.settings.uniform:
            kinds = {packed.kind for packed in having}
            yield from (packed for packed in without if packed.kind in kinds)

    def _is_asymmetric(self, partner: Partner) -> bool:
        weights = self.settings.weights
        grouped = weights.get("strategy") in ("group", "channel")
        return partner.need is Need.ASYMMETRIC and grouped and weights.get("symmetric") is False

    def _is_nested(self, packed: Packed) -> bool:
        first = self._partner(packed.stem, packed.scheme.partners[0])
        nested = (item for item in packed.scheme.partners if item.need is Need.NESTED)
        bytes_there = first is not None and first.dtype.bits == _ONE_BYTE
        return bytes_there or any(self._partner(packed.stem, item) for item in nested)

    def _usual_ending(self, partner: Partner, having: list[Packed]) -> str:
        for packed in having[:1]:
            return next(e for e in partner.endings if e.endswith("*") or packed.stem + e in self.tensors)
        return partner.endings[0]

    def misfits(self) -> Iterator[Misfit]:
        """Partners of another shape than they must have."""
        for packed in self.found:
            for partner in packed.scheme.partners:
                tensor = self._partner(packed.stem, partner)
                # One number may be meant for the whole tensor, whatever the config says of the others.
                if tensor is None or tensor.numel == 1:
                    continue
                expected = partner.shapes(packed.codes, self.settings)
                if expected and tensor.shape not in expected:
                    yield Misfit(packed, tensor, tuple(sorted(expected)))

    def orphans(self) -> Iterator[tuple[TensorInfo, str]]:
        """Partners whose codes are not there, each with the name of the codes.

        Only those that nothing but packed weights have, and those of modules that are packed in other layers.
        """
        packed: dict[tuple[str, str], str] = {}
        for item in self.found:
            for ending in _ENDINGS[item.scheme.title]:
                packed.setdefault((ending, item.kind), item.codes.name.removeprefix(item.stem))
        named = (*self.tensors.items(), *self._flavours.items())
        for name, tensor in named:
            if not name.endswith(_PARTNER_ENDINGS):
                continue
            for ending in _PARTNER_ENDINGS:
                if name.endswith(ending):
                    codes = self._lost_codes(name.removesuffix(ending), ending, packed)
                    if codes is not None:
                        yield tensor, codes

    def _lost_codes(self, stem: str, ending: str, packed: Mapping[tuple[str, str], str]) -> str | None:
        forms = _CODES_OF[ending]
        if any(stem + form in self.tensors for form in forms):
            return None
        own = packed.get((ending, _kind(stem))) or (forms[0] if ending in _TELLING else None)
        return None if own is None else stem + own


_ENDINGS = {
    scheme.title: tuple(
        ending
        for partner in scheme.partners
        if partner.telling or partner.need is Need.ALWAYS
        for ending in partner.endings
    )
    for scheme in SCHEMES
}
_TELLING = frozenset(
    ending for scheme in SCHEMES for partner in scheme.partners if partner.telling for ending in partner.endings
)
_PARTNER_ENDINGS = tuple(sorted({ending for endings in _ENDINGS.values() for ending in endings}))
# Sparse tensors of old compressed-tensors releases hold their codes as "compressed".
_CODES_OF = {
    ending: (*(form for scheme in SCHEMES if ending in _ENDINGS[scheme.title] for form in scheme.codes), ".compressed")
    for ending in _PARTNER_ENDINGS
}


def _is_plain(tensor: TensorInfo) -> bool:
    """Whether this is what most tensors are: a weight of more than a byte that is no column of packed bytes."""
    return tensor.dtype.bits > _ONE_BYTE and tensor.shape[-1:] != (1,) and tensor.name.endswith((".weight", "_proj"))


def _named(tensor: TensorInfo, schemes: tuple[Scheme, ...]) -> Iterator[tuple[Scheme, str]]:
    """The schemes whose codes may be named and stored like this tensor, with its stem."""
    for scheme in schemes:
        for ending in scheme.codes:
            if tensor.name.endswith(ending) and tensor.dtype.name in scheme.dtypes:
                yield scheme, tensor.name.removesuffix(ending)


def _kind(stem: str) -> str:
    return _NUMBER.sub("*", stem)
