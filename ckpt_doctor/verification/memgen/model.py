"""A MemGen model as far as a checkpoint and one forward pass are concerned.

The modules bear MemGen's own names, so its state dicts fit, and compute what MemGen's compute where the saved
tensors take part: projections between the hidden sizes, a normalised and scaled bank of latent queries behind the
embeddings that the weaver reads, a classifier on the trigger's hidden states. Generation, masks and the decision where
memory is inserted have no tensors of their own and are left out.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch  # noqa: TID253 - the modules below are torch's; this file is not imported before a model is built
from torch import Tensor, nn  # noqa: TID253

BANKS = ("prompt", "inference")
"""The two banks of latent queries: one is woven in behind the prompt, one while the answer is generated."""


class MemGenWeaver(nn.Module):
    """A language model with an adapter, and the latent queries through which it is read.

    ``model`` is a ``peft.PeftModel`` of hidden size ``hidden``; ``lengths`` gives the number of latents of each bank.
    """

    def __init__(self, model: nn.Module, hidden: int, lengths: dict[str, int], *, norms: bool, scales: bool) -> None:
        super().__init__()
        self.model = model
        for bank in BANKS:
            self.register_parameter(f"{bank}_query_latents", nn.Parameter(torch.randn(lengths[bank], hidden)))
            if norms:
                self.add_module(f"{bank}_latent_ln", nn.LayerNorm(hidden))
            if scales:
                self.register_parameter(f"{bank}_latent_scale", nn.Parameter(torch.ones(1)))

    def queries(self, bank: str) -> Tensor:
        """The latents of a bank as the weaver gets them, ``[length, hidden]``."""
        latents: Tensor = getattr(self, f"{bank}_query_latents")
        norm = getattr(self, f"{bank}_latent_ln", None)
        scale = getattr(self, f"{bank}_latent_scale", None)
        latents = latents if norm is None else norm(latents)
        return latents if scale is None else latents * scale

    def forward(self, embeddings: Tensor, bank: str) -> Tensor:
        """Memory for what was read: ``[batch, tokens, hidden]`` to ``[batch, length, hidden]``."""
        embeddings = embeddings.to(self.model.get_input_embeddings().weight.dtype)  # type: ignore[operator]
        latents = self.queries(bank).to(embeddings.dtype).expand(len(embeddings), -1, -1)
        sequence = torch.cat((embeddings, latents), dim=1)
        return _last_hidden(self.model, inputs_embeds=sequence)[:, embeddings.shape[1] :]


class MemGenTrigger(nn.Module):
    """A language model with an adapter, and a classifier that says after which token memory is inserted.

    Without ``hidden`` there is no classifier, as in checkpoints of the versions that had none.
    """

    def __init__(self, model: nn.Module, hidden: int | None) -> None:
        super().__init__()
        self.model = model
        self.output_layer = None if hidden is None else nn.Linear(hidden, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Two logits for each token, ``[batch, tokens, 2]``; without a classifier the hidden states."""
        states = _last_hidden(self.model, input_ids=input_ids)
        return states if self.output_layer is None else self.output_layer(states.to(self.output_layer.weight.dtype))


class MemGenModel(nn.Module):
    """Reasoner, weaver and trigger, as many of them as the checkpoint is about.

    The three may be one model, of which one ``PeftModel`` holds both adapters. ``lora_notes`` says what could not be
    learnt about the adapters and was assumed.
    """

    def __init__(
        self,
        reasoner: nn.Module | None,
        weaver: MemGenWeaver | None,
        trigger: MemGenTrigger | None,
        *,
        hidden_sizes: tuple[int, int] | None,
        lora_notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        # Before the reasoner: where they share its modules, parameters are then named after the adapters' owners.
        self.weaver = weaver
        self.trigger = trigger
        self.reasoner = reasoner
        self.lora_notes = lora_notes
        if hidden_sizes is not None:
            of_reasoner, of_weaver = hidden_sizes
            self.reasoner_to_weaver = nn.Linear(of_reasoner, of_weaver)
            self.weaver_to_reasoner = nn.Linear(of_weaver, of_reasoner)

    def forward(self, input_ids: Tensor, *, adapter: bool = True) -> Tensor:
        """:meth:`weave`, or :meth:`judge` where there is only a trigger."""
        return self.judge(input_ids, adapter=adapter) if self.weaver is None else self.weave(input_ids, adapter=adapter)

    @torch.no_grad()
    def weave(self, input_ids: Tensor, *, adapter: bool = True) -> Tensor:
        """The reasoner's logits with memory from both banks woven in.

        ``input_ids`` is ``[batch, tokens]``, at least two tokens: the first half is taken for a prompt. The result is
        ``[batch, tokens + prompt latents + inference latents, vocabulary]``. ``adapter=False`` runs the weaver without
        its adapter, and everything else as before.
        """
        assert self.weaver is not None and self.reasoner is not None, "this checkpoint has no weaver"
        embeddings: Tensor = self.reasoner.get_input_embeddings()(input_ids)  # type: ignore[operator]
        half = input_ids.shape[1] // 2
        prompt, answer = embeddings[:, :half], embeddings[:, half:]
        with _with_adapter(self.weaver.model, "weaver", enabled=adapter):
            sequence = torch.cat((prompt, self._memory(prompt, "prompt"), answer), dim=1)
            sequence = torch.cat((sequence, self._memory(sequence, "inference")), dim=1)
        # In a shared model the adapter's layers are the reasoner's too, which is frozen and knows no adapter.
        with _with_adapter(self.weaver.model, "weaver", enabled=False):
            logits: Tensor = self.reasoner(inputs_embeds=sequence, use_cache=False).logits
        return logits

    @torch.no_grad()
    def judge(self, input_ids: Tensor, *, adapter: bool = True) -> Tensor:
        """What the trigger says of each token: ``[batch, tokens]`` to ``[batch, tokens, 2]``."""
        assert self.trigger is not None, "this checkpoint has no trigger"
        with _with_adapter(self.trigger.model, "trigger", enabled=adapter):
            states: Tensor = self.trigger(input_ids)
        return states

    def _memory(self, embeddings: Tensor, bank: str) -> Tensor:
        assert self.weaver is not None
        inwards, outwards = self.reasoner_to_weaver, self.weaver_to_reasoner
        memory = self.weaver(inwards(embeddings.to(inwards.weight.dtype)), bank)
        result: Tensor = outwards(memory.to(outwards.weight.dtype)).to(embeddings.dtype)
        return result


def _with_adapter(model: Any, name: str, *, enabled: bool) -> AbstractContextManager[None]:
    """Within it ``model``, a ``PeftModel``, runs with its adapter ``name``, or with none."""
    model.set_adapter(name)
    # disable_adapter() is typed as a plain generator.
    context: AbstractContextManager[None] = nullcontext() if enabled else model.disable_adapter()
    return context


def _last_hidden(model: nn.Module, **inputs: Tensor) -> Tensor:
    output = model(**inputs, output_hidden_states=True, use_cache=False)
    states: Tensor = output.hidden_states[-1]
    return states
