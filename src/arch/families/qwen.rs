//! Qwen 2 and 3, dense.

use crate::arch::family::{Family, QkNorm};
use crate::plan::Pairs;

/// Qwen 1.5, 2 and 2.5. Source: transformers `modeling_qwen2.py`: biases on queries, keys and values.
pub const QWEN2: Family = Family {
    names: &["qwen2"],
    rope: Pairs::Halves,
    needs: &["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"],
    ..Family::LLAMA
};

/// Qwen 3. Source: transformers `modeling_qwen3.py`.
pub const QWEN3: Family = Family { names: &["qwen3"], rope: Pairs::Halves, qk_norm: QkNorm::PerHead, ..Family::LLAMA };
