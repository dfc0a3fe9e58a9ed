//! Text to tokens and back; chat templates.
//!
//! [`Vocab`] reads the vocabulary of a model file and encodes any bytes in time that grows no faster than n log n:
//! special tokens are cut out first (`special.rs`), text between them goes to the tokenizer of the file's kind (`bpe.rs`
//! behind the pre-tokenizers of `pretokenizer.rs` and `split.rs`, `spm.rs`, `wordpiece.rs`, `unigram.rs`,
//! `greedy.rs`). [`Decoder`] and [`StopStrings`] give text as it is generated. [`ChatTemplate`] renders conversations
//! and knows who wrote what, so that [`Vocab::encode_prompt`] never takes a control token from a message.
//!
//! Vocabularies and templates come from strangers: every index is checked, every loop is bounded, nothing recurses
//! deeper than a constant. The room knows nothing of tensors.

#![forbid(unsafe_code)]

mod bpe;
mod bytes;
mod detokenize;
mod ends;
mod greedy;
mod load;
mod pretokenizer;
mod special;
mod split;
mod spm;
mod stream;
mod table;
mod template;
mod tokens;
mod unigram;
mod vocab;
mod wordpiece;

pub(crate) use bytes::ALPHABET;
pub(crate) use pretokenizer::{Step, Tail, names as pre_tokenizers, pre as pre_tokenizer};
pub use stream::{Decoder, StopStrings};
pub use template::{ChatInput, ChatTemplate, Prompt, Trust};
pub use tokens::TokenKind;
pub use vocab::{Encode, Vocab, VocabKind};

/// Appends the byte tokens of `bytes`; a byte without one gives the unknown token, once for a run.
fn push_bytes(bytes: &[u8], byte_ids: &[u32; 256], unk: Option<u32>, out: &mut Vec<u32>) {
    let mut unknown = false;
    for byte in bytes {
        match byte_ids[usize::from(*byte)] {
            table::NONE if unknown => {}
            table::NONE => {
                out.extend(unk);
                unknown = true;
            }
            id => {
                out.push(id);
                unknown = false;
            }
        }
    }
}
