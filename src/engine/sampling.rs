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
    let number = |name: &str, slot: &mut f32| -> Result<()> {
        let key = format!("general.sampling.{name}");
        match meta.f32(&key)? {
            Some(x) if x.is_finite() => *slot = x,
            Some(x) => return Err(meta.key_error(&key, x, "a finite number")),
            None => {}
        }
        Ok(())
    };
    number("temp", &mut options.temp)?;
    number("top_p", &mut options.top_p)?;
    number("min_p", &mut options.min_p)?;
    number("xtc_probability", &mut options.xtc_probability)?;
    number("xtc_threshold", &mut options.xtc_threshold)?;
    number("penalty_repeat", &mut options.repeat_penalty)?;
    number("mirostat_tau", &mut options.mirostat_tau)?;
    number("mirostat_eta", &mut options.mirostat_eta)?;
    let integer = |name: &str, slot: &mut i32| -> Result<()> {
        let key = format!("general.sampling.{name}");
        if let Some(n) = meta.i64(&key)? {
            *slot = i32::try_from(n).map_err(|_| meta.key_error(&key, n, "an integer of 32 bits"))?;
        }
        Ok(())
    };
    integer("top_k", &mut options.top_k)?;
    integer("penalty_last_n", &mut options.repeat_last_n)?;
    let mut mirostat = 0;
    integer("mirostat", &mut mirostat)?;
    options.mirostat = match mirostat {
        0 => Mirostat::Off,
        1 => Mirostat::V1,
        2 => Mirostat::V2,
        n => return Err(meta.key_error("general.sampling.mirostat", n, "0, 1 or 2")),
    };
    if let Some(sequence) = meta.str("general.sampling.sequence")? {
        options.samplers = parse_samplers(sequence)
            .map_err(|e| meta.key_error("general.sampling.sequence", e, "names of samplers"))?;
    }
    Ok(options)
}
