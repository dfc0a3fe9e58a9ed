//! Qwen 2 and 3, dense.

use crate::arch::family::{Family, QkNorm};
use crate::plan::Pairs;

/// Biases of queries, keys and values.
pub const QKV_BIASES: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"];

/// Qwen 1.5, 2 and 2.5. Source: transformers `modeling_qwen2.py`: biases on queries, keys and values. The text part of
/// Qwen 2 VL and 2.5 VL is the same: the sections of its rotation have equal positions in text.
pub const QWEN2: Family =
    Family { names: &["qwen2", "qwen2vl"], rope: Pairs::Halves, needs: &[QKV_BIASES], ..Family::LLAMA };

/// Qwen 3. Source: transformers `modeling_qwen3.py`. Also the text part of Qwen 3 VL: what its first layers add belongs
/// to images.
pub const QWEN3: Family =
    Family { names: &["qwen3", "qwen3vl"], rope: Pairs::Halves, qk_norm: QkNorm::PerHead, ..Family::LLAMA };
