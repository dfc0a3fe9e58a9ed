//! One entry per family of checkpoints: data only. Sources: the models' code in transformers; confirmed byte by byte
//! against files of llama.cpp's converter (`tests/convert/`).

mod encoders;
mod experts;
mod gemma;
mod gpt;
mod llama;
mod others;
mod phi;
mod qwen;
mod recurrent;

use std::cmp::Reverse;

use super::names::HfFamily;
use crate::arch;
use crate::error::{Error, ErrorKind, Result, printable};

/// Every family.
pub(super) const ALL: &[&HfFamily] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &llama::ARCEE,
    &llama::GRANITE,
    &llama::MINICPM,
    &llama::INTERNLM2,
    &llama::BAICHUAN,
    &llama::OLMO,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN2_VL,
    &qwen::QWEN3_VL,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI2,
    &phi::PHI3,
    &others::OLMO2,
    &others::COMMAND_R,
    &others::COHERE2,
    &others::GLM4,
    &others::EXAONE4,
    &others::SEED_OSS,
    &others::ERNIE4_5,
    &others::HUNYUAN,
    &others::NEMOTRON,
    &others::STABLELM,
    &gpt::GPT2,
    &gpt::STARCODER,
    &gpt::STARCODER2,
    &gpt::NEOX,
    &gpt::BLOOM,
    &gpt::OPT,
    &gpt::MPT,
    &encoders::BERT,
    &encoders::ROBERTA,
    &encoders::NOMIC_BERT,
    &encoders::MODERN_BERT,
    &encoders::EUROBERT,
    &encoders::GEMMA_EMBEDDING,
    &experts::MIXTRAL,
    &experts::QWEN2,
    &experts::QWEN3,
    &experts::OLMOE,
    &experts::GRANITE,
    &experts::PHIMOE,
    &experts::MINIMAX,
    &experts::DOTS1,
    &experts::GLM4,
    &experts::DEEPSEEK2,
    &experts::GPT_OSS,
    &experts::LLAMA4,
    &recurrent::MAMBA,
    &recurrent::FALCON_MAMBA,
    &recurrent::MAMBA2,
    &recurrent::LFM2,
    &recurrent::QWEN35,
    &recurrent::QWEN35MOE,
    &recurrent::QWEN3_NEXT,
    &recurrent::LFM2MOE,
    &recurrent::JAMBA,
    &recurrent::GRANITE_HYBRID,
    &recurrent::NEMOTRON_H,
    &experts::GLM4_LITE,
    &experts::DEEPSEEK32,
    &experts::DEEPSEEK,
    &experts::ERNIE,
    &experts::HUNYUAN,
];

/// Names of the classes of models that can be converted, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<_> = ALL.iter().flat_map(|f| f.names.iter().copied()).collect();
    names.sort_unstable();
    names
}

/// The family of a value of `architectures`.
pub(super) fn find(name: &str) -> Result<&'static HfFamily> {
    if let Some(family) = ALL.iter().copied().find(|f| f.names.contains(&name)) {
        return Ok(family);
    }
    let known = supported();
    let nearest = known.iter().max_by_key(|k| (alike(k, name), Reverse(k.len()))).copied().unwrap_or_default();
    let message = format!(
        "the architecture `{}` cannot be converted; the nearest that can is {nearest}; known are {}",
        printable(name),
        known.join(", ")
    );
    let hint = format!("files of these architectures run: {}", arch::supported().join(", "));
    Err(Error::new(ErrorKind::Model, message).with_hint(hint))
}

/// How much of their beginnings two names share; classes end alike.
fn alike(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(x, y)| x.eq_ignore_ascii_case(y)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Architectures whose files run and whose folders cannot be converted yet: their checkpoints need words that
    /// these tables lack (numbers of xIELU from tensors, ChatGLM's layout, layers that keep a state, sizes of single
    /// layers), or cut numbers as no pre-tokenizer of GGUF does (Falcon).
    const FILES_ONLY: &[&str] =
        &["apertus", "chatglm", "falcon", "falcon-h1", "gemma3n", "gemma4", "kimi-linear", "nemotron_h"];

    #[test]
    fn every_architecture_that_runs_has_a_family() {
        for arch in arch::supported() {
            assert_ne!(ALL.iter().any(|f| f.arch == arch), FILES_ONLY.contains(&arch), "{arch}");
        }
        let mut names = supported();
        names.dedup();
        assert_eq!(names.len(), supported().len(), "two families of one name");
    }

    #[test]
    fn an_unknown_family_finds_its_neighbour() {
        let e = find("Qwen3NewForCausalLM").unwrap_err();
        assert!(e.to_string().contains("the nearest that can is Qwen3NextForCausalLM"), "{e}");
        assert!(e.hint().is_some_and(|h| h.contains("smollm3")));
    }
}
