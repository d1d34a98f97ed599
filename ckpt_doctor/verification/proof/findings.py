"""What was found out about a load, as findings of the rules CKD001 to CKD010."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.wording import counted, listed, shape
from ckpt_doctor.rules import TABLE
from ckpt_doctor.verification.names.wanted import Wanted


def finding(code: str, message: str, **details: Any) -> Finding:
    """A finding of the rule with this code; ``details`` as for ``Rule.finding``."""
    rule = next(listing for listing in TABLE if listing.code == code).load()
    return rule().finding(message, **details)


def not_restored(
    part: Part,
    tensors: Sequence[Wanted],
    untouched: int,
    packed: int,
    elsewhere: Sequence[tuple[str, str]],
    *,
    unadapted: bool,
    why: str = "",
) -> Finding:
    """CKD001: values that are nowhere in the model, or (``elsewhere``) not where its names say.

    ``why`` says what all of them have in common, where that is more than that they are absent.
    """
    are = "is" if len(tensors) == 1 else "are"
    message = f"{counted(len(tensors), 'tensor')} of the {part.name} ({listed(_names(tensors))}) "
    if why:
        message += f"{are} not restored: {why}."
    else:
        message += f"{are} {'not where names say' if elsewhere else 'nowhere'} in the loaded model."
    if elsewhere:
        first, place = elsewhere[0]
        message += f" The values of {len(elsewhere)} are in a parameter that others of its shape are named as well for"
        message += f" ({first} in {place}): values alone cannot tell whether the model wants them there."
    if untouched:
        message += f" {counted(untouched, 'parameter')} for them {'was' if untouched == 1 else 'were'} not written to:"
        message += " the loader did not open the file, or did not find the names."
    if packed:
        message += f" {counted(packed, 'parameter')} {'is' if packed == 1 else 'are'} quantised, so that nothing can be"
        message += " said about the values: judge the load of a model that is not."
    if unadapted:
        message += " The model has no PEFT adapter in it: the loader put none there, or merged it into the base, which"
        message += " can only be proved where --model makes that base: return the model before merge_and_unload()."
    return finding("CKD001", message, path=tensors[0].file.path, tensors=_names(tensors))


def shapes(pairs: Sequence[tuple[Wanted, str, tuple[int, ...]]]) -> Finding:
    """CKD004: tensors with the name and the shape of their parameter."""
    first, name, live = pairs[0]
    message = f"{first.tensor.name} is {shape(first.tensor.shape)}, and {name} in the model is {shape(live)}"
    message += f"; {counted(len(pairs) - 1, 'more tensor')} like this." if len(pairs) > 1 else "."
    message += " Rank, latent lengths, vocabulary and hidden sizes must be those of the training."
    evidence = {
        item.tensor.name: {"checkpoint": list(item.tensor.shape), "model": list(size)} for item, _, size in pairs[:20]
    }
    return finding(
        "CKD004", message, path=first.file.path, tensors=_names(item for item, _, _ in pairs), evidence=evidence
    )


def not_covered(names: Sequence[str], what: str) -> Finding:
    """CKD003: parameters without a tensor in the checkpoint."""
    message = f"{counted(len(names), 'parameter')} of {what} ({listed(names)}) "
    rest = "is not in the checkpoint, and keeps its initial value" if len(names) == 1 else ""
    message += f"{rest or 'are not in the checkpoint, and keep their initial values'}."
    return finding("CKD003", message, tensors=names)


def naive_load(part: Part, mapping: Mapping[str, str], adapter: str, path: str, folder: str) -> Finding:
    """CKD005: every key fits once the adapter's name is put back. ``path`` is the adapted module in the model."""
    first, second = _ends(*next(iter(mapping.items())))
    module = f"model.{path}" if path else "model"
    code = [
        "from peft import load_peft_weights, set_peft_model_state_dict",
        f"set_peft_model_state_dict({module}, load_peft_weights({folder!r}), adapter_name={adapter!r})",
    ]
    message = f"All {counted(len(mapping), 'key')} match once the adapter's name is put back: {first} -> "
    message += f"{second}. A loader that compares names with the live model finds none of them. It needs: "
    message += "; ".join(code) + "."
    evidence = {"mapping": dict(list(mapping.items())[:20]), "code": code, "adapter": adapter}
    return finding("CKD005", message, path=part.preferred[0].path, tensors=mapping, evidence=evidence)


def _ends(first: str, second: str) -> tuple[str, str]:
    """Both names from the module on in which they begin to differ."""
    words, others = first.split("."), second.split(".")
    common = 0
    while common < min(len(words), len(others)) and words[common] == others[common]:
        common += 1
    start = max(0, common - 2)
    lead = "…" if start else ""
    return lead + ".".join(words[start:]), lead + ".".join(others[start:])


def raised(loader: str, failure: str, place: str, wanted_file: str | None) -> Finding:
    """CKD002: the loader ended with an exception."""
    left = failure.startswith(("it called ", "its process "))
    message = f"{loader} did not return: {failure}" if left else f"{loader} ended with {failure.rstrip('.')}"
    message += f", at {place}." if place else "."
    evidence = {"error": failure, "place": place, "file": wanted_file}
    return finding("CKD002", message, evidence=evidence)


def idle(adapter: str, why: str, remedy: str, severity: Severity | None) -> Finding:
    """CKD006: an adapter that is there and not applied."""
    message = f"The adapter {adapter!r} is in the model, and {why}: the model computes as if it were not there. "
    message += f"The loader needs {remedy}."
    return finding("CKD006", message, severity=severity, evidence={"adapter": adapter, "remedy": remedy})


def partly_idle(adapter: str, modules: Sequence[str], of: int, why: str) -> Finding:
    """CKD006: an adapter that some of its modules do not apply."""
    message = f"The adapter {adapter!r} is {why} in {len(modules)} of the {counted(of, 'module')} that it adapts "
    message += f"({listed(modules)}): what was trained there is not applied."
    return finding("CKD006", message, evidence={"adapter": adapter, "modules": list(modules[:20])})


def combined(adapter: str, active: str, remedy: str) -> Finding:
    """CKD006: an adapter in the place of which another one is applied that may contain it."""
    message = (
        f"The adapter {adapter!r} is in the model, and {active!r} is applied in its place. If that was made out of "
    )
    message += f"it (add_weighted_adapter), this is as it should be; else the loader needs {remedy}."
    return finding("CKD006", message, evidence={"adapter": adapter, "active": active, "remedy": remedy})


def settings_differ(part: Part, adapter: str, scalings: Mapping[str, tuple[float, float]]) -> Finding:
    """CKD010: by module, the scaling of an adapter in the model, and what its config asks for."""
    live, asked = next(iter(scalings.values()))
    message = f"The model scales the adapter {adapter!r} by {live:.6g} in {counted(len(scalings), 'module')} "
    message += f"({listed(list(scalings))}), where the checkpoint's config asks for {asked:.6g} (lora_alpha, r, "
    message += (
        "use_rslora): the model computes something else than what was trained. The loader must build the adapter "
    )
    message += "from that config, and leave its scaling alone."
    evidence = {name: {"model": live, "config": asked} for name, (live, asked) in list(scalings.items())[:20]}
    path = part.config.path if part.config is not None else None
    return finding("CKD010", message, path=path, evidence={"adapter": adapter, "scaling": evidence})


def cast(tensors: Sequence[Wanted], dtypes: str, *, overflown: bool) -> Finding:
    """CKD008: values changed by conversions between ``dtypes``, such as ``float32 to bfloat16``."""
    message = f"{counted(len(tensors), 'tensor')} ({listed(_names(tensors))}) went from {dtypes}, "
    message += "and values became infinite." if overflown else "and values were rounded."
    severity = Severity.ERROR if overflown else None
    return finding("CKD008", message, path=tensors[0].file.path, tensors=_names(tensors), severity=severity)


def advised(problems: list[Finding], advice: Callable[[], str]) -> list[Finding]:
    """The findings, with ``advice`` behind the first of those that say that tensors have no place in the model.

    It is not asked for where there are none, or where one of them says already what to do.
    """
    if any("mapping" in item.evidence for item in problems):
        return problems
    for code in ("CKD001", "CKD002", "CKD003"):
        for number, item in enumerate(problems):
            if item.code == code:
                told = item._replace(message=f"{item.message} {advice()}".rstrip())
                return [*problems[:number], told, *problems[number + 1 :]]
    return problems


def _names(tensors: Iterable[Wanted]) -> list[str]:
    return [item.tensor.name for item in tensors]
