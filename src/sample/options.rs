//! Options of the chain, and the names of its samplers. Defaults are llama.cpp's.

use crate::error::{Error, ErrorKind, Result, printable};

/// The seed that stands for a random one.
pub const RANDOM_SEED: u32 = u32::MAX;

/// How the next token is chosen. Every value that switches a sampler off is named with it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SampleOptions {
    /// Seed of the random numbers; [`RANDOM_SEED`] takes one from the operating system.
    pub seed: u32,
    /// Temperature; 0 and below choose the likeliest token.
    pub temp: f32,
    /// Keeps the k likeliest tokens; 0 and below keep all.
    pub top_k: i32,
    /// Keeps the likeliest tokens that reach this sum of probabilities; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens of at least this share of the greatest probability; 0 keeps all.
    pub min_p: f32,
    /// Keeps the most typical tokens that pass this sum of probabilities; 1 keeps all.
    pub typical: f32,
    /// Keeps logits within so many standard deviations of the greatest; 0 and below keep all.
    pub top_n_sigma: f32,
    /// Probability that XTC leaves out the likeliest tokens; 0 is off.
    pub xtc_probability: f32,
    /// Least probability of tokens that XTC leaves out; above 0.5 is off.
    pub xtc_threshold: f32,
    /// Tokens at the end of the sequence that penalties look at; 0 is off, below 0 all of them.
    pub repeat_last_n: i32,
    /// Divides positive logits of repeated tokens and multiplies negative ones; 1 is off.
    pub repeat_penalty: f32,
    /// Taken off the logits of repeated tokens; 0 is off.
    pub presence_penalty: f32,
    /// Taken off the logits for each repetition; 0 is off.
    pub frequency_penalty: f32,
    /// Strength of DRY, which penalises tokens that would continue a repeated sequence; 0 is off.
    pub dry_multiplier: f32,
    /// Growth of DRY's penalty with each repeated token; below 1 is off.
    pub dry_base: f32,
    /// Repeated tokens that DRY lets pass.
    pub dry_allowed_length: u32,
    /// Tokens at the end of the sequence that DRY looks at; 0 is off.
    pub dry_last_n: u32,
    /// Texts across which DRY sees no repetition.
    pub dry_breakers: Vec<String>,
    /// Half the range of dynamic temperature; 0 is off.
    pub dynatemp_range: f32,
    /// How dynamic temperature follows entropy.
    pub dynatemp_exponent: f32,
    /// Mirostat in place of the chain.
    pub mirostat: Mirostat,
    /// The surprise that Mirostat aims at, in bits.
    pub mirostat_tau: f32,
    /// Mirostat's rate of learning.
    pub mirostat_eta: f32,
    /// The probability that adaptive-p aims at; below 0 is off.
    pub adaptive_target: f32,
    /// How adaptive-p forgets the tokens chosen before, 0 to 0.99.
    pub adaptive_decay: f32,
    /// Added to the logits of tokens, before everything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// The samplers of the chain, in order.
    pub samplers: Vec<SamplerName>,
    /// Never chooses a token that ends the generation.
    pub ignore_eos: bool,
    /// Tokens that top-p, min-p, typical and XTC leave at least.
    pub min_keep: usize,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            seed: RANDOM_SEED,
            temp: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical: 1.0,
            top_n_sigma: -1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_last_n: 64,
            dry_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: Mirostat::Off,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            logit_bias: Vec::new(),
            samplers: SamplerName::DEFAULT.to_vec(),
            ignore_eos: false,
            min_keep: 0,
        }
    }
}

impl SampleOptions {
    /// Checks that every number is one that the samplers can work with.
    ///
    /// # Errors
    /// Usage: a number that is none, infinite or out of range, by the name of its field.
    pub fn check(&self) -> Result<()> {
        match self.fault() {
            Some((name, found, expected)) => {
                let text = format!("sampling option `{name}` is {found}, expected {expected}");
                Err(Error::new(ErrorKind::Usage, text))
            }
            None => Ok(()),
        }
    }

    /// The first field that is out of range: its name, its value, what is expected.
    pub(crate) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let numbers = [
            ("temp", self.temp),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("typical", self.typical),
            ("top_n_sigma", self.top_n_sigma),
            ("xtc_probability", self.xtc_probability),
            ("xtc_threshold", self.xtc_threshold),
            ("repeat_penalty", self.repeat_penalty),
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
            ("dry_multiplier", self.dry_multiplier),
            ("dry_base", self.dry_base),
            ("dynatemp_range", self.dynatemp_range),
            ("dynatemp_exponent", self.dynatemp_exponent),
            ("mirostat_tau", self.mirostat_tau),
            ("mirostat_eta", self.mirostat_eta),
            ("adaptive_target", self.adaptive_target),
            ("adaptive_decay", self.adaptive_decay),
        ];
        if let Some((name, x)) = numbers.into_iter().find(|(_, x)| !x.is_finite()) {
            return Some((name, x.to_string(), "a finite number"));
        }
        // A penalty is a divisor.
        if self.repeat_penalty <= 0.0 {
            return Some(("repeat_penalty", self.repeat_penalty.to_string(), "a number above 0"));
        }
        if self.repeat_last_n < -1 {
            return Some(("repeat_last_n", self.repeat_last_n.to_string(), "-1 or above"));
        }
        // Minus infinity forbids a token.
        let mut biases = self.logit_bias.iter();
        let (_, bias) = biases.find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY)?;
        Some(("logit_bias", bias.to_string(), "a finite number or minus infinity"))
    }
}

/// Version of Mirostat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mirostat {
    /// The chain.
    #[default]
    Off,
    /// Mirostat: truncates by an estimate of Zipf's exponent.
    V1,
    /// Mirostat 2.0: truncates by surprise.
    V2,
}

macro_rules! samplers {
    ($($variant:ident = $name:literal, $letter:literal, [$($alias:literal),*], $doc:literal;)*) => {
        /// A sampler of the chain.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum SamplerName {
            $(#[doc = $doc] $variant,)*
        }

        impl SamplerName {
            /// Every sampler.
            pub const ALL: &'static [SamplerName] = &[$(SamplerName::$variant,)*];

            /// The name that [`parse_samplers`] reads.
            pub const fn name(self) -> &'static str {
                match self { $(SamplerName::$variant => $name,)* }
            }

            /// The letter that [`parse_sampler_letters`] reads.
            pub const fn letter(self) -> char {
                match self { $(SamplerName::$variant => $letter,)* }
            }

            const fn aliases(self) -> &'static [&'static str] {
                match self { $(SamplerName::$variant => &[$($alias),*],)* }
            }
        }
    };
}

samplers! {
    Penalties = "penalties", 'e', [], "Repetition, presence and frequency penalties.";
    Dry = "dry", 'd', [], "Penalty of repeated sequences.";
    TopNSigma = "top_n_sigma", 's', ["top-n-sigma", "top-nsigma", "topnsigma"], "Standard deviations below the greatest logit.";
    TopK = "top_k", 'k', ["top-k", "topk"], "The k likeliest.";
    TypP = "typ_p", 'y', ["typ-p", "typp", "typ", "typical", "typical-p", "typical_p"], "Locally typical.";
    TopP = "top_p", 'p', ["top-p", "topp", "nucleus"], "Nucleus.";
    MinP = "min_p", 'm', ["min-p", "minp"], "Share of the greatest probability.";
    Xtc = "xtc", 'x', [], "Exclusion of top choices.";
    Temperature = "temperature", 't', ["temp"], "Temperature, dynamic too.";
    AdaptiveP = "adaptive_p", 'a', ["adaptive-p", "adaptivep"], "Choice near a target probability; always the last.";
}

impl SamplerName {
    /// The chain of a fresh [`SampleOptions`].
    pub const DEFAULT: [SamplerName; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];
}

/// Reads a chain such as `top_k;top_p;temperature`. Names may have `-` for `_` or leave it out.
///
/// # Errors
/// Usage: an unknown name.
pub fn parse_samplers(text: &str) -> Result<Vec<SamplerName>> {
    let names = text.split(';').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let lower = name.to_ascii_lowercase();
            let known = SamplerName::ALL.iter().find(|s| s.name() == lower || s.aliases().contains(&lower.as_str()));
            known.copied().ok_or_else(|| unknown(name, SamplerName::ALL.iter().map(|s| s.name()).collect()))
        })
        .collect()
}

/// Reads a chain of letters such as `edskypmxt`.
///
/// # Errors
/// Usage: an unknown letter.
pub fn parse_sampler_letters(text: &str) -> Result<Vec<SamplerName>> {
    text.chars()
        .map(|letter| {
            let known = SamplerName::ALL.iter().find(|s| s.letter() == letter);
            known.copied().ok_or_else(|| {
                let all = SamplerName::ALL.iter().map(|s| format!("{} ({})", s.letter(), s.name()));
                unknown(&letter.to_string(), all.collect())
            })
        })
        .collect()
}

fn unknown<S: AsRef<str>>(name: &str, known: Vec<S>) -> Error {
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    Error::new(ErrorKind::Usage, format!("unknown sampler `{}`", printable(name)))
        .with_hint(format!("the samplers are {}", known.join(", ")))
}
