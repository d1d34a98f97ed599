"""The packed weights of a model as the rule on them sees them: codes, their scheme, and the partners that are there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.knowledge.quantisation import BNB_4BIT, CODE_ENDINGS, SCHEMES, Need, Partner, Scheme, Settings
from ckpt_doctor.knowledge.quantisation.shapes import anything

_FLAVOUR = "quant_state.bitsandbytes__"  # behind it the name of a data type
_NUMBER = re.compile(r"\d+")
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

    @property
    def alike(self) -> tuple[str, str, str]:
        """What is the same for modules of one kind that were quantised in the same way."""
        return self.kind, self.codes.dtype.name, self.codes.name.removeprefix(self.stem)


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
                for scheme, stem in _named(tensor):
                    if like.get((_kind(stem), tensor.dtype.name)) is scheme:
                        found[tensor.name] = Packed(tensor, scheme, stem)
        return tuple(found.values())

    def _packed(self, tensor: TensorInfo) -> Packed | None:
        named = list(_named(tensor))
        for scheme, stem in named:
            if scheme.sure:
                return Packed(tensor, scheme, stem)
        for scheme, stem in named:
            for item in scheme.partners:
                partner = self._partner(stem, item) if item.need is Need.ALWAYS else None
                # A scale is finer than what it scales; beside a plain cast, everything was cast.
                if partner is not None and partner.dtype != tensor.dtype:
                    return Packed(tensor, scheme, stem)
        for scheme, stem in named:
            if self.settings.method in scheme.methods and self._means(scheme, tensor, stem):
                return Packed(tensor, scheme, stem)
        return None

    def _means(self, scheme: Scheme, tensor: TensorInfo, stem: str) -> bool:
        """True if the method packs this tensor, which has no partner."""
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
        lacking: dict[tuple[str, Partner], list[Packed]] = defaultdict(list)
        for packed, partner, tensor in self._partners:
            if tensor is None and partner.need is not Need.NEVER:
                lacking[packed.scheme.title, partner].append(packed)
        total = Counter(packed.scheme.title for packed in self.found)
        for (title, partner), without in lacking.items():
            having = self._having(title, partner) if len(without) < total[title] else []
            ending = self._usual_ending(partner, having)
            for packed in self._in_need(partner, without, having):
                yield Lack(packed, partner, packed.stem + ending)

    @cached_property
    def _partners(self) -> list[tuple[Packed, Partner, TensorInfo | None]]:
        """Every partner that the schemes of the packed weights know, where it is there and where it is not."""
        return [
            (packed, partner, self._partner(packed.stem, partner))
            for packed in self.found
            for partner in packed.scheme.partners
        ]

    def _having(self, title: str, wanted: Partner) -> list[Packed]:
        return [
            packed
            for packed, partner, tensor in self._partners
            if tensor is not None and partner is wanted and packed.scheme.title == title
        ]

    def _in_need(self, partner: Partner, without: list[Packed], having: list[Packed]) -> Iterator[Packed]:
        if partner.need is Need.ALWAYS or self._is_of_method(partner) or self._is_asymmetric(partner):
            yield from without
        elif partner.need is Need.NESTED:
            yield from (packed for packed in without if self._is_nested(packed))
        elif having and self.settings.uniform:
            alike = {packed.alike for packed in having}
            yield from (item for item in without if item.alike in alike and not _is_unvisited(item, partner))

    def _is_of_method(self, partner: Partner) -> bool:
        # AutoAWQ's marlin kernel knows no zero points.
        marlin = str(self.settings.given.get("version")).lower() == "marlin"
        return self.settings.method in partner.methods and not marlin

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
        known: dict[tuple[object, ...], frozenset[tuple[int, ...]]] = {}
        for packed, partner, tensor in self._partners:
            # One number may be meant for the whole tensor, whatever the config says of the others.
            if tensor is None or partner.shapes is anything or tensor.numel == 1:
                continue
            codes = packed.codes
            key = (partner.shapes, codes.shape, codes.dtype.name, codes.name[len(packed.stem) :])
            expected = known.get(key)
            if expected is None:
                expected = known[key] = partner.shapes(codes, self.settings)
            if expected and tensor.shape not in expected:
                yield Misfit(packed, tensor, tuple(sorted(expected)))

    def orphans(self) -> Iterator[tuple[TensorInfo, str]]:
        """Partners whose codes are not there, each with the name of the codes.

        Only those that nothing but packed weights have, and those of modules that are packed in other layers.
        """
        names = self.tensors.keys()
        for name, tensor in (*self.tensors.items(), *self._flavours.items()):
            for ending in _partner_forms(name[name.rfind(".") + 1 :]):
                stem = name.removesuffix(ending)
                if stem != name and names.isdisjoint([stem + form for form in _CODES_OF[ending]]):
                    codes = self._codes_elsewhere.get((ending, _kind(stem)))
                    if codes is not None or ending in _TELLING:
                        yield tensor, stem + (codes or _CODES_OF[ending][0])

    @cached_property
    def _codes_elsewhere(self) -> dict[tuple[str, str], str]:
        """What codes are named that such a partner belongs to, by its ending and the kind of the module."""
        kinds = {(item.scheme.title, item.kind, item.codes.name[len(item.stem) :]) for item in self.found}
        return {(ending, kind): form for title, kind, form in kinds for ending in _ENDINGS[title]}


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


def _is_unvisited(packed: Packed, partner: Partner) -> bool:
    """True if this may be an expert that no token of the calibration reached: nothing of its inputs was measured."""
    measured = partner.endings[0].startswith((".input", ".activation", "_act"))
    return measured and "expert" in packed.stem


def _is_plain(tensor: TensorInfo) -> bool:
    """True if this is what most tensors are: a weight of more than a byte that is no column of packed bytes."""
    return tensor.dtype.bits > _ONE_BYTE and tensor.shape[-1:] != (1,) and tensor.name.endswith((".weight", "_proj"))


def _named(tensor: TensorInfo) -> Iterator[tuple[Scheme, str]]:
    """The schemes whose codes may be named and stored like this tensor, with its stem."""
    name = tensor.name
    for scheme, ending in _forms(name[name.rfind(".") + 1 :], tensor.dtype.name):
        if name.endswith(ending):
            yield scheme, name[: -len(ending)]


@lru_cache(maxsize=1024)
def _forms(leaf: str, dtype: str) -> tuple[tuple[Scheme, str], ...]:
    return tuple(
        (scheme, ending)
        for scheme in SCHEMES
        for ending in scheme.codes
        if dtype in scheme.dtypes and leaf.endswith(ending.rpartition(".")[2])
    )


@lru_cache(maxsize=1024)
def _partner_forms(leaf: str) -> tuple[str, ...]:
    return tuple(ending for ending in _PARTNER_ENDINGS if leaf.endswith(ending.rpartition(".")[2]))


def _kind(stem: str) -> str:
    return _NUMBER.sub("*", stem)
