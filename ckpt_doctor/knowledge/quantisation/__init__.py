"""The tensors that quantisers write instead of a weight: codes, and the partners without which the codes mean nothing.

*run*: tiny models were saved by bitsandbytes 0.50.2, compressed-tensors 0.20.1, torchao 0.18.0, optimum-quanto 0.2.7,
hqq 0.2.8.post1, and MXFP4 and block-wise float8 were loaded by transformers 5.24.0, all on CPU. *read*: the modules of
gptqmodel 7.7.0, autoawq 0.2.9 and transformers 5.24.0 (EETQ, FBGEMM, BitNet), whose kernels need other machines.
"""

from .schemes import BNB_4BIT, CODE_ENDINGS, FLOAT8, INT8, SCHEMES, Need, Partner, Scheme
from .settings import Settings, mentions_quantiser, settings_of

__all__ = [
    "BNB_4BIT",
    "CODE_ENDINGS",
    "FLOAT8",
    "INT8",
    "SCHEMES",
    "Need",
    "Partner",
    "Scheme",
    "Settings",
    "mentions_quantiser",
    "settings_of",
]
