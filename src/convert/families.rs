//! One entry per family of checkpoints: data only. Sources: the models' code in transformers; confirmed byte by byte
//! against files of llama.cpp's converter (`tests/convert.rs`).

mod gemma;
mod llama;
mod phi;
mod qwen;

use super::names::HfFamily;
use crate::arch;
use crate::error::{Error, ErrorKind, Result, printable};

/// Every family.
pub(super) const ALL: &[&HfFamily] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI2,
    &phi::PHI3,
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
    let nearest = known.iter().max_by_key(|k| alike(k, name)).copied().unwrap_or_default();
    let message = format!(
        "the architecture `{}` cannot be converted; the nearest that can is {nearest}; known are {}",
        printable(name),
        known.join(", ")
    );
    let hint = format!("files of these architectures run: {}", arch::supported().join(", "));
    Err(Error::new(ErrorKind::Model, message).with_hint(hint))
}

/// Length of the longest common run of characters.
fn alike(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row = vec![0usize; b.len() + 1];
    let mut best = 0;
    for x in a.chars() {
        for (j, y) in b.iter().enumerate().rev() {
            row[j + 1] = if x.eq_ignore_ascii_case(y) { row[j] + 1 } else { 0 };
            best = best.max(row[j + 1]);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_becomes_an_architecture_that_runs() {
        for family in ALL {
            assert!(arch::supported().contains(&family.arch), "{:?}: {}", family.names, family.arch);
        }
        let mut names = supported();
        names.dedup();
        assert_eq!(names.len(), supported().len(), "two families of one name");
    }

    #[test]
    fn an_unknown_family_finds_its_neighbour() {
        let e = find("Qwen3NextForCausalLM").unwrap_err();
        assert!(e.to_string().contains("the nearest that can is Qwen3ForCausalLM"), "{e}");
        assert!(e.hint().is_some_and(|h| h.contains("smollm3")));
    }
}
