//! One entry per family of checkpoints: data only. Sources: the models' code in transformers; confirmed byte by byte
//! against files of llama.cpp's converter (`tests/convert/`).

mod encoders;
mod experts;
mod gemma;
mod gpt;
mod hybrid;
mod llama;
mod others;
mod phi;
mod qwen;
mod recurrent;

use std::cmp::Reverse;

use super::hf::Folder;
use super::names::{Form, HfFamily};
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
    &llama::GRANITE4,
    &llama::APERTUS,
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
    &gemma::GEMMA3N,
    &gemma::GEMMA4,
    &phi::PHI2,
    &phi::PHI3,
    &others::OLMO2,
    &others::COMMAND_R,
    &others::COHERE2,
    &others::GLM,
    &others::CHATGLM,
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
    &gpt::FALCON,
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
    &hybrid::GRANITE4_MOE,
    &hybrid::GRANITE_HYBRID_DENSE,
    &recurrent::GRANITE_HYBRID,
    &hybrid::NEMOTRON_H_DENSE,
    &recurrent::NEMOTRON_H,
    &hybrid::FALCON_H1,
    &hybrid::KIMI_LINEAR,
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
    names.dedup();
    names
}

/// The family of a folder, by its class and, where that has several kinds of files, by what its layers are.
///
/// # Errors
/// [`ErrorKind::Model`] for a class that is not known, or for layers that are not told; file and key are named.
pub(super) fn of(folder: &Folder) -> Result<&'static HfFamily> {
    for family in ALL.iter().copied().filter(|f| f.names.contains(&folder.architecture.as_str())) {
        let Form { experts, states } = family.form;
        let fits = experts.map_or(Ok(true), |wanted| folder.has_experts().map(|found| found == wanted))?
            && states.map_or(Ok(true), |wanted| folder.has_states().map(|found| found == wanted))?;
        if fits {
            return Ok(family);
        }
    }
    find(&folder.architecture).map_err(|e| e.in_file(&folder.path.join("config.json")))
}

/// A family of a value of `architectures`.
fn find(name: &str) -> Result<&'static HfFamily> {
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

    #[test]
    fn every_architecture_that_runs_has_a_family() {
        for arch in arch::supported() {
            assert!(ALL.iter().any(|f| f.arch == arch), "{arch}");
        }
    }

    /// Of several families of one class the first that fits counts; all but the last must say which folders are theirs.
    #[test]
    fn a_class_of_several_families_tells_them_apart() {
        for (i, family) in ALL.iter().enumerate() {
            for later in &ALL[i + 1..] {
                let shared = family.names.iter().any(|n| later.names.contains(n));
                assert!(!shared || family.form != Form::ANY && family.form != later.form, "{:?}", family.names);
            }
        }
    }

    #[test]
    fn an_unknown_family_finds_its_neighbour() {
        let e = find("Qwen3NewForCausalLM").unwrap_err();
        assert!(e.to_string().contains("the nearest that can is Qwen3NextForCausalLM"), "{e}");
        assert!(e.hint().is_some_and(|h| h.contains("smollm3")));
    }
}
