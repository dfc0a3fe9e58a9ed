//! Flags of the sampler chain: llama.cpp's names, aliases and variables.

use clap::Args;
use tealight::Model;
use tealight::sample::{Mirostat, RANDOM_SEED, SampleOptions, parse_sampler_letters, parse_samplers};

use super::{Outcome, usage};

/// What the user has set; everything else is the model's or llama.cpp's default.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling (defaults in brackets; a model's file may bring its own)")]
pub(crate) struct SamplingArgs {
    /// Seed of the random numbers; -1 = a random one [-1]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub seed: Option<i64>,
    /// Temperature; 0 = always the likeliest token [0.8]
    #[arg(long, alias = "temperature", value_name = "T", env = "LLAMA_ARG_TEMPERATURE", hide_env = true)]
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    pub temp: Option<f32>,
    /// Keep the K likeliest tokens; 0 = all [40]
    #[arg(long, value_name = "K", env = "LLAMA_ARG_TOP_K", hide_env = true, allow_negative_numbers = true)]
    pub top_k: Option<i32>,
    /// Keep the likeliest tokens that reach probability P together; 1 = all [0.95]
    #[arg(long, value_name = "P", env = "LLAMA_ARG_TOP_P", hide_env = true, value_parser = finite)]
    pub top_p: Option<f32>,
    /// Keep tokens of at least P times the greatest probability; 0 = all [0.05]
    #[arg(long, value_name = "P", env = "LLAMA_ARG_MIN_P", hide_env = true, value_parser = finite)]
    pub min_p: Option<f32>,
    /// Keep logits within N standard deviations of the greatest; -1 = all [-1]
    #[arg(long, alias = "top-nsigma", value_name = "N", allow_negative_numbers = true, value_parser = finite)]
    pub top_n_sigma: Option<f32>,
    /// Locally typical sampling; 1 = off [1]
    #[arg(long, alias = "typical-p", value_name = "P", value_parser = finite)]
    pub typical: Option<f32>,
    /// Probability that the likeliest tokens are left out; 0 = off [0]
    #[arg(long, value_name = "P", value_parser = finite)]
    pub xtc_probability: Option<f32>,
    /// Least probability of tokens that XTC leaves out [0.1]
    #[arg(long, value_name = "P", value_parser = finite)]
    pub xtc_threshold: Option<f32>,
    /// Tokens that penalties look back at; 0 = none, -1 = all [64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub repeat_last_n: Option<i32>,
    /// Penalty of repeated tokens; 1 = off [1]
    #[arg(long, value_name = "X", env = "LLAMA_ARG_REPEAT_PENALTY", hide_env = true)]
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    pub repeat_penalty: Option<f32>,
    /// Penalty of tokens that occurred; 0 = off [0]
    #[arg(long, value_name = "X", env = "LLAMA_ARG_PRESENCE_PENALTY", hide_env = true)]
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    pub presence_penalty: Option<f32>,
    /// Penalty for each occurrence of a token; 0 = off [0]
    #[arg(long, value_name = "X", env = "LLAMA_ARG_FREQUENCY_PENALTY", hide_env = true)]
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    pub frequency_penalty: Option<f32>,
    /// Penalty of continued repetitions (DRY); 0 = off [0]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub dry_multiplier: Option<f32>,
    /// Growth of DRY's penalty per token [1.75]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub dry_base: Option<f32>,
    /// Repeated tokens that DRY lets pass [2]
    #[arg(long, value_name = "N")]
    pub dry_allowed_length: Option<u32>,
    /// Tokens that DRY looks back at; 0 = off [64]
    #[arg(long, value_name = "N")]
    pub dry_penalty_last_n: Option<u32>,
    /// Text across which DRY sees no repetition, repeatable; `none` = no such text [newline : " *]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub dry_sequence_breaker: Vec<String>,
    /// Range of dynamic temperature; 0 = off [0]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub dynatemp_range: Option<f32>,
    /// Exponent of dynamic temperature [1]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub dynatemp_exp: Option<f32>,
    /// Mirostat in place of the chain: 0 = off, 1, 2 [0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub mirostat: Option<u8>,
    /// Surprise that Mirostat aims at, tau [5]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub mirostat_ent: Option<f32>,
    /// Learning rate of Mirostat, eta [0.1]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub mirostat_lr: Option<f32>,
    /// Probability that adaptive-p aims at; -1 = off [-1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = finite)]
    pub adaptive_target: Option<f32>,
    /// How adaptive-p forgets, 0 to 0.99 [0.9]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub adaptive_decay: Option<f32>,
    /// Samplers in order, separated by `;` [penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature]
    #[arg(long, value_name = "NAMES")]
    pub samplers: Option<String>,
    /// Samplers in order, by letters [edskypmxt]
    #[arg(long, alias = "sampling-seq", value_name = "LETTERS", conflicts_with = "samplers")]
    pub sampler_seq: Option<String>,
    /// Add N to the logit of token ID: `ID+N` or `ID-N`, repeatable
    #[arg(short, long, value_name = "ID+N", value_parser = bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// Never end the answer before its limit
    #[arg(long)]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// What the user has set, over what the model's file says.
    pub(crate) fn resolve(self, model: &Model) -> Outcome<SampleOptions> {
        self.apply(model.sampling_defaults()?, model)
    }

    /// What the user has set, over these options.
    pub(crate) fn apply(self, options: SampleOptions, model: &Model) -> Outcome<SampleOptions> {
        let options = self.over(options)?;
        // Without biases nothing waits for the vocabulary.
        if !options.logit_bias.is_empty() {
            check_biases(&options, model.vocab()?.n_tokens())?;
        }
        Ok(options)
    }

    fn over(self, defaults: SampleOptions) -> Outcome<SampleOptions> {
        let mut o = defaults;
        if let Some(seed) = self.seed {
            o.seed = u32::try_from(seed).unwrap_or(RANDOM_SEED);
        }
        set(&mut o.temp, self.temp);
        set(&mut o.top_k, self.top_k);
        set(&mut o.top_p, self.top_p);
        set(&mut o.min_p, self.min_p);
        set(&mut o.top_n_sigma, self.top_n_sigma);
        set(&mut o.typical, self.typical);
        set(&mut o.xtc_probability, self.xtc_probability);
        set(&mut o.xtc_threshold, self.xtc_threshold);
        set(&mut o.repeat_last_n, self.repeat_last_n);
        set(&mut o.repeat_penalty, self.repeat_penalty);
        set(&mut o.presence_penalty, self.presence_penalty);
        set(&mut o.frequency_penalty, self.frequency_penalty);
        set(&mut o.dry_multiplier, self.dry_multiplier);
        set(&mut o.dry_base, self.dry_base);
        set(&mut o.dry_allowed_length, self.dry_allowed_length);
        set(&mut o.dry_last_n, self.dry_penalty_last_n);
        set(&mut o.dynatemp_range, self.dynatemp_range);
        set(&mut o.dynatemp_exponent, self.dynatemp_exp);
        set(&mut o.mirostat_tau, self.mirostat_ent);
        set(&mut o.mirostat_eta, self.mirostat_lr);
        set(&mut o.adaptive_target, self.adaptive_target);
        set(&mut o.adaptive_decay, self.adaptive_decay);
        if !self.dry_sequence_breaker.is_empty() {
            o.dry_breakers = self.dry_sequence_breaker;
            o.dry_breakers.retain(|text| text != "none");
        }
        set(&mut o.mirostat, self.mirostat.map(|n| [Mirostat::Off, Mirostat::V1, Mirostat::V2][usize::from(n)]));
        if let Some(names) = &self.samplers {
            o.samplers = parse_samplers(names)?;
        }
        if let Some(letters) = &self.sampler_seq {
            o.samplers = parse_sampler_letters(letters)?;
        }
        o.logit_bias.extend(self.logit_bias);
        o.ignore_eos |= self.ignore_eos;
        o.check()?;
        Ok(o)
    }
}

/// A bias of a token that the vocabulary does not have would do nothing.
fn check_biases(options: &SampleOptions, n_token: u32) -> Outcome {
    match options.logit_bias.iter().find(|(id, _)| *id >= n_token) {
        Some((id, _)) => {
            let text = format!("`--logit-bias` names token {id}, the vocabulary has {n_token} tokens");
            Err(usage(text, "`tealight tokenize --pieces` shows the ids of a text"))
        }
        None => Ok(()),
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn finite(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x: &f32| x.is_finite()).ok_or_else(|| "expected a number".to_owned())
}

/// `ID+N` or `ID-N`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let expected = || "expected ID+N or ID-N, such as 15043+1 or 2-100".to_owned();
    let at = text.find(['+', '-']).ok_or_else(expected)?;
    let id = text[..at].parse().map_err(|_| expected())?;
    // Only numbers: -inf, which forbids a token, is one here.
    let n: f32 = text[at..].parse().map_err(|_| expected())?;
    if n.is_nan() || n == f32::INFINITY { Err(expected()) } else { Ok((id, n)) }
}

#[cfg(test)]
mod tests {
    use tealight::sample::SamplerName;

    use super::*;

    #[test]
    fn biases_are_read_with_their_sign() {
        assert_eq!(bias("7+1.5"), Ok((7, 1.5)));
        assert_eq!(bias("7-inf"), Ok((7, f32::NEG_INFINITY)));
        for wrong in ["7", "+1", "x+1", "7+", "7+nan", "7+inf", "-1+2", ""] {
            assert!(bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_was_set_changes_the_defaults() {
        let mut of_the_model = SampleOptions::default();
        (of_the_model.temp, of_the_model.top_k) = (0.6, 20);
        let args = SamplingArgs { top_k: Some(3), samplers: Some("top_k;temp".into()), ..Default::default() };
        let resolved = args.over(of_the_model).ok().expect("sound options");
        assert_eq!((resolved.temp, resolved.top_k, resolved.seed), (0.6, 3, RANDOM_SEED));
        assert_eq!(resolved.samplers, [SamplerName::TopK, SamplerName::Temperature]);
    }

    #[test]
    fn the_word_none_leaves_no_breakers() {
        let args = SamplingArgs { dry_sequence_breaker: vec!["none".into()], seed: Some(-1), ..Default::default() };
        let resolved = args.over(SampleOptions::default()).ok().expect("sound options");
        assert!(resolved.dry_breakers.is_empty());
    }
}
