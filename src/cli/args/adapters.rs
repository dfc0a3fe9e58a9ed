//! The adapters that change a model.

use std::path::PathBuf;

use clap::Args;
use tealight::{Adapter, ModelOptions};

/// Which adapters a model is opened with.
#[derive(Debug, Args)]
pub(crate) struct LoraArgs {
    /// LoRA adapter that changes the model, a GGUF file; repeatable
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub lora: Vec<PathBuf>,
    /// The same with a factor, as in `adapter.gguf:0.5`; repeatable
    #[arg(long, value_name = "FILE:SCALE", help_heading = "Model", value_parser = scaled)]
    pub lora_scaled: Vec<Adapter>,
}

impl LoraArgs {
    /// Adds the adapters to the options of a model.
    pub(crate) fn resolve(&self, options: ModelOptions) -> ModelOptions {
        let plain = self.lora.iter().map(Adapter::new);
        plain.chain(self.lora_scaled.iter().cloned()).fold(options, ModelOptions::with_adapter)
    }
}

/// `FILE:SCALE`; the file's name may have colons of its own.
fn scaled(text: &str) -> Result<Adapter, String> {
    let shape = || "expected FILE:SCALE, as in adapter.gguf:0.5".to_owned();
    let (path, scale) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty()).ok_or_else(shape)?;
    let scale = scale.parse().ok().filter(|s: &f32| s.is_finite()).ok_or_else(shape)?;
    Ok(Adapter::new(path).with_scale(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_stands_behind_the_last_colon() {
        let read = |text| scaled(text).map(|a| (a.path.to_string_lossy().into_owned(), a.scale));
        assert_eq!(read("a.gguf:0.5"), Ok(("a.gguf".into(), 0.5)));
        assert_eq!(read(r"C:\a.gguf:-2"), Ok((r"C:\a.gguf".into(), -2.0)));
        for wrong in ["a.gguf", "a.gguf:", ":0.5", "a.gguf:half", "a.gguf:inf", r"C:\a.gguf"] {
            assert!(read(wrong).unwrap_err().contains("FILE:SCALE"), "{wrong}");
        }
    }
}
