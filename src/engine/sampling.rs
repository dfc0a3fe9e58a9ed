//! What a file says about how its model wants to be sampled.

use super::load::Model;
use crate::error::Result;
use crate::gguf::Metadata;
use crate::sample::{Mirostat, SampleOptions, parse_samplers};

impl Model {
    /// llama.cpp's defaults, overridden by the `general.sampling.*` keys of the file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Model`] for a key of the wrong type or out of range, by name.
    pub fn sampling_defaults(&self) -> Result<SampleOptions> {
        read(self.gguf().metadata())
    }
}

fn read(meta: Metadata<'_>) -> Result<SampleOptions> {
    let mut options = SampleOptions::default();
    // What is checked after each key is that key's: the defaults are in range.
    let check = |key: &str, options: &SampleOptions| match options.fault() {
        Some((_, found, expected)) => Err(meta.key_error(key, found, expected)),
        None => Ok(()),
    };
    let mut number = |name: &str, slot: fn(&mut SampleOptions) -> &mut f32| -> Result<()> {
        let key = format!("general.sampling.{name}");
        if let Some(x) = meta.f32(&key)? {
            *slot(&mut options) = x;
        }
        check(&key, &options)
    };
    number("temp", |o| &mut o.temp)?;
    number("top_p", |o| &mut o.top_p)?;
    number("min_p", |o| &mut o.min_p)?;
    number("xtc_probability", |o| &mut o.xtc_probability)?;
    number("xtc_threshold", |o| &mut o.xtc_threshold)?;
    number("penalty_repeat", |o| &mut o.repeat_penalty)?;
    number("mirostat_tau", |o| &mut o.mirostat_tau)?;
    number("mirostat_eta", |o| &mut o.mirostat_eta)?;
    let mut integer = |name: &str, slot: fn(&mut SampleOptions) -> &mut i32| -> Result<()> {
        let key = format!("general.sampling.{name}");
        if let Some(n) = meta.i64(&key)? {
            *slot(&mut options) = i32::try_from(n).map_err(|_| meta.key_error(&key, n, "an integer of 32 bits"))?;
        }
        check(&key, &options)
    };
    integer("top_k", |o| &mut o.top_k)?;
    integer("penalty_last_n", |o| &mut o.repeat_last_n)?;
    options.mirostat = match meta.i64("general.sampling.mirostat")? {
        None | Some(0) => Mirostat::Off,
        Some(1) => Mirostat::V1,
        Some(2) => Mirostat::V2,
        Some(n) => return Err(meta.key_error("general.sampling.mirostat", n, "0, 1 or 2")),
    };
    if let Some(sequence) = meta.str("general.sampling.sequence")? {
        options.samplers = parse_samplers(sequence)
            .map_err(|e| meta.key_error("general.sampling.sequence", e, "names of samplers"))?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::error::ErrorKind;
    use crate::gguf::{Gguf, GgufWriter, KeyValue};

    /// What a file of one key says.
    fn of(label: &str, name: &str, value: impl Into<KeyValue>) -> Result<SampleOptions> {
        let mut writer = GgufWriter::new();
        writer.key(format!("general.sampling.{name}"), value.into());
        let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
        let path: PathBuf = std::env::temp_dir().join(format!("tealight-{label}-{}.gguf", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        read(gguf.metadata())
    }

    #[test]
    fn a_key_that_is_out_of_range_is_named() {
        let check = |name: &str, value: KeyValue, words: &str| {
            let error = of("sampling-wrong", name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model, "{name}");
            let text = error.to_string();
            assert!(text.contains(&format!("`general.sampling.{name}`")) && text.contains(words), "{text}");
        };
        check("penalty_repeat", 0f32.into(), "found 0, expected a number above 0");
        check("penalty_repeat", f32::NAN.into(), "found NaN, expected a finite number");
        check("temp", f32::INFINITY.into(), "found inf, expected a finite number");
        check("penalty_last_n", (-2i32).into(), "found -2, expected -1 or above");
        check("top_k", (1i64 << 40).into(), "an integer of 32 bits");
        check("mirostat", 3i32.into(), "0, 1 or 2");
        check("sequence", "top_k;magic".into(), "magic");
    }

    #[test]
    fn a_key_in_range_comes_before_the_default() {
        assert_eq!(of("sampling-right", "penalty_repeat", 1.25f32).unwrap().repeat_penalty, 1.25);
        assert_eq!(of("sampling-right-n", "penalty_last_n", -1i32).unwrap().repeat_last_n, -1);
        assert_eq!(of("sampling-right-m", "mirostat", 2i32).unwrap().mirostat, Mirostat::V2);
    }
}
