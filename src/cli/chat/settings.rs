//! `/set`: shows and changes how a conversation goes on, by the names of the flags.

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use tealight::Model;
use tealight::engine::GenerateOptions;
use tealight::error::printable;
use tealight::sample::{Mirostat, RANDOM_SEED};

use super::super::args::{AnswerArgs, Overflow};
use super::super::sampling::SamplingArgs;
use super::super::{Outcome, usage};
use super::view::Think;

/// How answers are made and shown.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) options: GenerateOptions,
    /// `None`: as the model does by itself, shown dim.
    pub(super) think: Option<Think>,
    pub(super) shows_timings: bool,
    pub(super) markdown: bool,
    pub(super) word_wrap: bool,
    /// What gives the answer its form, as it was typed.
    pub(super) form: Option<String>,
    /// The form is JSON, which is shown as it is.
    pub(super) is_json: bool,
}

/// The flags that may change in a conversation.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, args_override_self = true)]
struct Typed {
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Settings that are on or off.
const SWITCHES: [&str; 5] = ["ignore-eos", "special", "show-timings", "markdown", "word-wrap"];
/// Flags of answers that may be set; those of the sampler chain all may.
const OF_ANSWERS: [&str; 7] =
    ["predict", "reverse-prompt", "context-overflow", "json-schema", "grammar", "grammar-file", "regex"];

/// What a change of settings leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Done,
    /// It is the conversation's own.
    System(String),
    Think(String),
}

fn parser() -> clap::Command {
    // Variables have had their say when the conversation began.
    Typed::command().mut_args(|arg| arg.env(clap::builder::Resettable::Reset))
}

/// Long names of flags.
fn flags(command: &clap::Command) -> Vec<String> {
    command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect()
}

/// Every setting.
pub(super) fn names() -> impl Iterator<Item = String> {
    let mut sampling = flags(&SamplingArgs::augment_args(clap::Command::new("")));
    sampling.retain(|name| !SWITCHES.contains(&name.as_str()));
    let others = OF_ANSWERS.into_iter().chain(SWITCHES).chain(["think", "system", "reset"]);
    sampling.into_iter().chain(others.map(str::to_owned))
}

impl Settings {
    /// Does what stands behind `/set`; `NAME VALUE`.
    pub(super) fn change(&mut self, name: &str, value: &str, model: &Model) -> Outcome<Change> {
        let name = name.trim_start_matches('-').replace('_', "-").to_ascii_lowercase();
        // The words of ollama.
        let (name, value) = match (name.as_str(), value) {
            ("num-predict", value) => ("predict", value),
            ("wordwrap", "") => ("word-wrap", "on"),
            ("nowordwrap", "") => ("word-wrap", "off"),
            ("verbose", "") => ("show-timings", "on"),
            ("quiet", "") => ("show-timings", "off"),
            ("nothink", "") => ("think", "off"),
            ("think", "") => ("think", "on"),
            ("ctx-size" | "num-ctx" | "c", _) => {
                return Err(usage("the context has its length for good", "start `tealight chat` with `-c N`"));
            }
            (name, value) => (name, value),
        };
        match name {
            "system" | "system-prompt" => return Ok(Change::System(value.to_owned())),
            "think" => return Ok(Change::Think(value.to_owned())),
            _ => {}
        }
        if value.is_empty() {
            return Err(usage(
                format!("`/set {}` needs a value", printable(name)),
                "`/set` shows the settings and their values",
            ));
        }
        if SWITCHES.contains(&name) {
            let is_on = match value {
                "on" | "true" | "1" | "yes" => true,
                "off" | "false" | "0" | "no" => false,
                other => {
                    return Err(usage(
                        format!("`{name}` is on or off, not `{}`", printable(other)),
                        &format!("as in `/set {name} on`"),
                    ));
                }
            };
            match name {
                "ignore-eos" => self.options.sampling.ignore_eos = is_on,
                "special" => self.options.render_special = is_on,
                "show-timings" => self.shows_timings = is_on,
                "markdown" => self.markdown = is_on,
                _ => self.word_wrap = is_on,
            }
            return Ok(Change::Done);
        }
        self.flag(name, value, model)?;
        Ok(Change::Done)
    }

    /// Reads a value as the flag of that name does.
    fn flag(&mut self, name: &str, value: &str, model: &Model) -> Outcome {
        let is_list = matches!(name, "reverse-prompt" | "stop" | "logit-bias");
        let is_form = matches!(name, "json-schema" | "grammar" | "grammar-file" | "regex");
        if value == "none" && is_list {
            match name {
                "logit-bias" => self.options.sampling.logit_bias.clear(),
                _ => self.options.stop.clear(),
            }
            return Ok(());
        }
        if value == "none" && is_form {
            (self.options.grammar, self.form, self.is_json) = (None, None, false);
            return Ok(());
        }
        let matches = parser().try_get_matches_from([format!("--{name}={value}")]).map_err(|e| explained(name, &e))?;
        let is_given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        let (predict, stop, overflow) = (is_given("predict"), is_given("reverse_prompt"), is_given("context_overflow"));
        // An alias stands for one of the names.
        let given = parser()
            .get_arguments()
            .find(|a| is_given(a.get_id().as_str()))
            .and_then(|a| a.get_long().map(str::to_owned));
        if given.is_none_or(|flag| !names().any(|name| name == flag)) {
            return Err(usage(
                format!("`{}` cannot change in a conversation", printable(name)),
                "`/set` shows the settings",
            ));
        }
        let typed = Typed::from_arg_matches(&matches).map_err(|e| explained(name, &e))?;
        let mut options = self.options.clone();
        options.sampling = typed.sampling.apply(options.sampling, model)?;
        if predict {
            options.max_tokens = u32::try_from(typed.answer.predict).ok();
        }
        if overflow {
            options.overflow = typed.answer.context_overflow.into();
        }
        if stop {
            options.stop.extend(typed.answer.reverse_prompt.iter().cloned());
        }
        if let Some(form) = typed.answer.form.resolve()? {
            options.grammar = Some(form);
            self.form = Some(format!("{name}: {value}"));
            self.is_json = name == "json-schema";
        }
        self.options = options;
        Ok(())
    }

    /// Names and values of all settings, a line each.
    pub(super) fn show(&self) -> String {
        let s = &self.options.sampling;
        let switch = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(" ") };
        let think = match self.think {
            None => "as the model does",
            Some(Think::On) => "on",
            Some(Think::Off) => "off",
            Some(Think::Hide) => "hide",
        };
        let rows: Vec<(&str, String)> = vec![
            ("seed", if s.seed == RANDOM_SEED { "-1".into() } else { s.seed.to_string() }),
            ("temp", s.temp.to_string()),
            ("top-k", s.top_k.to_string()),
            ("top-p", s.top_p.to_string()),
            ("min-p", s.min_p.to_string()),
            ("top-n-sigma", s.top_n_sigma.to_string()),
            ("typical", s.typical.to_string()),
            ("xtc-probability", s.xtc_probability.to_string()),
            ("xtc-threshold", s.xtc_threshold.to_string()),
            ("repeat-last-n", s.repeat_last_n.to_string()),
            ("repeat-penalty", s.repeat_penalty.to_string()),
            ("presence-penalty", s.presence_penalty.to_string()),
            ("frequency-penalty", s.frequency_penalty.to_string()),
            ("dry-multiplier", s.dry_multiplier.to_string()),
            ("dry-base", s.dry_base.to_string()),
            ("dry-allowed-length", s.dry_allowed_length.to_string()),
            ("dry-penalty-last-n", s.dry_last_n.to_string()),
            ("dry-sequence-breaker", list(s.dry_breakers.iter().map(|b| format!("{b:?}")).collect())),
            ("dynatemp-range", s.dynatemp_range.to_string()),
            ("dynatemp-exp", s.dynatemp_exponent.to_string()),
            (
                "mirostat",
                match s.mirostat {
                    Mirostat::Off => "0",
                    Mirostat::V1 => "1",
                    Mirostat::V2 => "2",
                }
                .into(),
            ),
            ("mirostat-ent", s.mirostat_tau.to_string()),
            ("mirostat-lr", s.mirostat_eta.to_string()),
            ("adaptive-target", s.adaptive_target.to_string()),
            ("adaptive-decay", s.adaptive_decay.to_string()),
            ("samplers", s.samplers.iter().map(|name| name.name()).collect::<Vec<_>>().join(";")),
            ("logit-bias", list(s.logit_bias.iter().map(|(id, n)| format!("{id}{n:+}")).collect())),
            ("ignore-eos", switch(s.ignore_eos)),
            ("predict", self.options.max_tokens.map_or("-1".into(), |n| n.to_string())),
            ("reverse-prompt", list(self.options.stop.iter().map(|t| format!("{t:?}")).collect())),
            ("context-overflow", Overflow::from(self.options.overflow).to_string()),
            ("form", self.form.as_deref().map_or("none".into(), printable)),
            ("special", switch(self.options.render_special)),
            ("think", think.into()),
            ("show-timings", switch(self.shows_timings)),
            ("markdown", switch(self.markdown)),
            ("word-wrap", switch(self.word_wrap)),
        ];
        rows.iter().map(|(name, value)| format!("{name:21} {value}\n")).collect()
    }
}

/// A refusal of the parser of flags, in the words of a conversation.
fn explained(name: &str, error: &clap::Error) -> super::super::Failure {
    if error.kind() == clap::error::ErrorKind::UnknownArgument {
        return usage(format!("there is no setting `{}`", printable(name)), "`/set` shows the settings");
    }
    let text = error.render().to_string();
    let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    usage(text.to_owned(), "`tealight chat --help` says what the flags take")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a flag decides what `/set` does about it.
    #[test]
    fn every_flag_of_answers_is_a_setting_or_known_not_to_be() {
        let others = ["system-prompt", "system-prompt-file", "no-show-timings"];
        for flag in flags(&AnswerArgs::augment_args(clap::Command::new(""))) {
            let known = OF_ANSWERS.iter().chain(&SWITCHES).chain(&others).any(|name| *name == flag);
            assert!(known, "--{flag}: let `Settings::flag` apply it and list it in `OF_ANSWERS`, or in this test");
        }
        let mut all: Vec<_> = names().collect();
        let n = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), n);
    }
}
