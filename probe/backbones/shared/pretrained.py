"""Models of transformers with what makes their inputs: no code of others is run, nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from probe.core.errors import InputError

ASIDE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}
"""Where weights came from and which version wrote the file say nothing about the features."""


def require_name(name: str | None, backbone: str) -> str:
    """The model's name; refuses a backbone without one."""
    if name is None:
        raise InputError(f"backbone={backbone} needs a model, none is given: set backbone.name=<hub id or folder>")
    return name


def shown_as(name: str, pretrained: bool) -> str:
    """What tables call a model behind the name of its library: its id, or its folder without the way there."""
    return f"{Path(name).name if Path(name).is_dir() else name}{'' if pretrained else '-random'}"


def configuration(config: Any) -> dict[str, Any]:
    """What a configuration says of the features."""
    facts = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in facts.items() if key not in ASIDE}


def load_model(
    name: str, pretrained: bool, revision: str | None, seed: int, *, before: str, files: str, words: bool = False
) -> tuple[Any, list[str], Any]:
    """An `AutoModel`, the weights that its file lacks, and what makes its inputs.

    Args:
        name: Id on the hub, or a folder.
        pretrained: False draws random weights for the configuration.
        revision: Branch, tag or commit on the hub.
        seed: Of random weights.
        before: The class of transformers that makes the inputs, such as `AutoTokenizer`.
        files: What the error calls the files of these.
        words: With the output matrix, of the masked words of encoders or the next words of decoders.

    Raises:
        InputError: transformers is not installed, or the model cannot be had.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"backbone=huggingface needs transformers, which is not installed ({error}): pip install "
            "'probe-bench[transformers]'"
        ) from error
    # Said, since transformers asks at the terminal otherwise.
    source: Any = {"revision": revision, "trust_remote_code": False}
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            kind: Any = transformers.AutoModel
            if words:
                config = transformers.AutoConfig.from_pretrained(name, **source)
                kind = transformers.AutoModelForCausalLM if is_decoder(config) else transformers.AutoModelForMaskedLM
            if pretrained:
                # Code from the hub is never run, and weights are never unpickled.
                network, info = kind.from_pretrained(
                    name, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **source
                )
            else:
                info = {"missing_keys": []}
                config = transformers.AutoConfig.from_pretrained(name, **source)
                network = kind.from_config(config, trust_remote_code=False)
            made = getattr(transformers, before).from_pretrained(name, **source)
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise cannot_be_had(name, error, files) from error
    return network, sorted(info["missing_keys"]), made


def is_decoder(config: Any) -> bool:
    """Whether tokens see those before them alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    kind = config.model_type
    return bool(getattr(config, "is_decoder", False)) or (kind in CAUSAL and kind not in MASKED)


def cannot_be_had(name: str, why: object, files: str) -> InputError:
    """What is said of a model that is not there, or not whole."""
    return InputError(
        f"huggingface model {name} cannot be had ({' '.join(str(why).split())[:300]}): connect to the network once, or "
        f"give a folder with config.json, model.safetensors and {files}"
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Without what transformers says and draws while it loads a model: what matters of it is said by the caller."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
