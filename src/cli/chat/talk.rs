//! A conversation: what each line does to it.

use std::path::Path;

use tealight::engine::{GenerateOptions, StopReason};
use tealight::error::printable;
use tealight::sample::RANDOM_SEED;
use tealight::sample::grammar::Grammar;
use tealight::text::Encode;
use tealight::{Chat, Model};

use super::super::args::ChatArgs;
use super::super::interrupt::Interrupt;
use super::super::model::{self, Subject};
use super::super::output::Output;
use super::super::screen::Look;
use super::super::{Failure, Outcome, answer, files as words, terminal, usage};
use super::command::{self, Action, Line};
use super::files::{self, Attachment};
use super::settings::{Change, Settings};
use super::status::{self, Context, Totals};
use super::view::{self, Shown, Think};

/// What comes after a line.
pub(super) enum Next {
    Ask,
    /// The next line begins with this text, and replaces the last question.
    Edit(String),
    Leave,
}

/// A conversation and how it is held.
pub(super) struct Talk<'a> {
    args: &'a ChatArgs,
    chat: Chat,
    settings: Settings,
    /// What computes.
    device: String,
    /// How often the last question has been asked again.
    n_repeat: u32,
    /// What goes with the next question.
    attachments: Vec<Attachment>,
    totals: Totals,
    /// The share of the context that has been warned of.
    warned: u32,
    /// A person can edit lines.
    pub(super) has_editor: bool,
}

/// Opens a model for a conversation.
pub(super) fn open(subject: &Subject, args: &ChatArgs, out: &Output, interrupt: &Interrupt) -> Outcome<Chat> {
    let model = answer::open(subject, &args.lora.resolve(args.compute.resolve()?), &args.start, out)?;
    let session = args.context.resolve(args.cache.resolve(args.compute.exact));
    {
        let _guard = interrupt.stoppable();
        answer::prepare(&model, &session, &args.start, interrupt, out)?;
    }
    let mut chat = model.chat(&session)?;
    answer::tell(&model, out);
    answer::check_context(&model, chat.session().n_ctx(), out);
    chat.set_cancel_token(interrupt.token());
    Ok(chat)
}

impl<'a> Talk<'a> {
    /// Holds a conversation by the settings of the command line.
    pub(super) fn new(chat: Chat, args: &'a ChatArgs, form: Option<Grammar>, out: &Output) -> Outcome<Self> {
        let model = chat.session().model();
        let settings = settings(args, args.answer.resolve(args.sampling.clone().resolve(model)?, form, false));
        let kernels = model.kernels()?;
        let device = if CPU_KERNELS.contains(&kernels.as_str()) { format!("CPU {kernels}") } else { kernels };
        let mut talk = Self {
            args,
            chat,
            settings,
            device,
            n_repeat: 0,
            attachments: Vec::new(),
            totals: Totals::default(),
            warned: 0,
            has_editor: false,
        };
        talk.apply_think(out);
        Ok(talk)
    }

    /// The conversation.
    pub(super) fn chat(&self) -> &Chat {
        &self.chat
    }

    fn model(&self) -> &Model {
        self.chat.session().model()
    }

    /// The model's name, as its file has it.
    fn name(&self) -> String {
        printable(&self.model().gguf().path().file_stem().unwrap_or_default().to_string_lossy())
    }

    /// What answers, in one line.
    pub(super) fn introduction(&self) -> String {
        format!("{} ({}, {} tokens)", self.name(), printable(&self.device), self.context().n_ctx)
    }

    fn context(&self) -> Context {
        Context { n_used: self.chat.session().tokens().len(), n_ctx: self.chat.session().n_ctx() }
    }

    /// Does what a line asks for.
    pub(super) fn turn(&mut self, line: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        match Line::of(line) {
            Line::Text if line.trim().is_empty() => Ok(Next::Ask),
            Line::Text => self.ask(line, out, interrupt),
            Line::Command(action, rest) => self.act(action, rest, out, interrupt),
            Line::Unknown(word, meant) => {
                let hint = meant.map_or("/help shows the commands".to_owned(), |name| format!("did you mean /{name}?"));
                Err(usage(format!("unknown command `{}`", printable(word)), &hint))
            }
        }
    }

    fn act(&mut self, action: Action, rest: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        match action {
            Action::Help => out.told(&command::help()),
            Action::Exit => return Ok(Next::Leave),
            Action::Clear => {
                self.chat.clear();
                self.attachments.clear();
                self.warned = 0;
                out.notice("a new conversation begins");
            }
            Action::Regen => {
                self.n_repeat += 1;
                self.answer(None, out, interrupt)?;
            }
            Action::Undo => match self.chat.undo() {
                Some(text) => out.notice(&format!("taken back: {}", printable(&text))),
                None => out.notice("there is nothing to take back"),
            },
            Action::Edit => return self.edit(rest, out, interrupt),
            Action::System => self.set_system(rest, out),
            Action::Set => self.set(rest, out)?,
            Action::Show => self.show(rest, out)?,
            Action::Save => self.save(&files::needed(rest, "/save")?, out)?,
            Action::Load => {
                let messages = files::load(&files::needed(rest, "/load")?)?;
                out.notice(&format!("the conversation goes on behind {}", counted(messages.len(), "message")));
                self.chat.set_messages(messages);
                (self.n_repeat, self.warned) = (0, 0);
            }
            Action::File => self.attach(rest, out)?,
            Action::Stats => out.told(&self.stats()),
            Action::Model if rest.is_empty() => out.told(&self.info()),
            Action::Model => self.change_model(&model::named(files::path(rest).as_os_str())?, out, interrupt)?,
            Action::Think => self.set_think(rest, out)?,
        }
        Ok(Next::Ask)
    }

    /// Asks, with what goes with the question.
    fn ask(&mut self, text: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        let question = files::question(&self.attachments, text);
        self.n_repeat = 0;
        let n_message = self.chat.messages().len();
        let answered = self.answer(Some(&question), out, interrupt);
        // A question that came to nothing may be asked again.
        if self.chat.messages().len() > n_message {
            self.attachments.clear();
        }
        answered.map(|()| Next::Ask)
    }

    /// The last question, changed.
    fn edit(&mut self, text: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        let last = self.chat.messages().iter().rev().find(|m| m["role"] == "user");
        let Some(last) = last.and_then(|m| m["content"].as_str()).map(str::to_owned) else {
            out.notice("there is no question to edit");
            return Ok(Next::Ask);
        };
        if !text.is_empty() {
            return self.replace(text, out, interrupt);
        }
        if !self.has_editor {
            return Err(usage("there is no editor here", "`/edit TEXT` replaces the last question by TEXT"));
        }
        Ok(Next::Edit(last))
    }

    /// Asks in place of the last question; if nothing comes of it, that stays.
    pub(super) fn replace(&mut self, text: &str, out: &mut Output, interrupt: &Interrupt) -> Outcome<Next> {
        let before = self.chat.messages().to_vec();
        self.chat.undo();
        let n_message = self.chat.messages().len();
        let asked = self.ask(text, out, interrupt);
        if self.chat.messages().len() == n_message {
            self.chat.set_messages(before);
        }
        asked
    }

    fn set_system(&mut self, text: &str, out: &Output) {
        let text = Some(text).filter(|t| !t.is_empty());
        self.chat.set_system(text);
        out.notice(if text.is_some() { "the system message is set" } else { "the system message is removed" });
    }

    fn set(&mut self, rest: &str, out: &Output) -> Outcome {
        // Ollama has a word before the names of parameters.
        let rest = rest.strip_prefix("parameter ").unwrap_or(rest).trim_start();
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match name {
            "" => out.told(&self.settings.show()),
            "reset" => {
                let model = self.model().clone();
                let form = self.args.answer.form.resolve()?;
                let sampling = self.args.sampling.clone().resolve(&model)?;
                self.settings = settings(self.args, self.args.answer.resolve(sampling, form, false));
                self.apply_think(out);
                out.notice("the settings are those of the start");
            }
            name => {
                let model = self.model().clone();
                match self.settings.change(name, value.trim(), &model)? {
                    Change::Done => out.notice(&format!("{} is set", printable(name))),
                    Change::System(text) => self.set_system(&text, out),
                    Change::Think(how) => self.set_think(&how, out)?,
                }
            }
        }
        Ok(())
    }

    fn set_think(&mut self, how: &str, out: &Output) -> Outcome {
        use clap::ValueEnum;
        if how.is_empty() {
            out.told(match self.settings.think {
                None => "the model thinks if it does so by itself; its thoughts are dim\n",
                Some(Think::On) => "the model is asked to think; its thoughts are dim\n",
                Some(Think::Off) => "the model is asked not to think\n",
                Some(Think::Hide) => "the model thinks if it does so by itself; its thoughts are hidden\n",
            });
            return Ok(());
        }
        let think = Think::from_str(how, true)
            .map_err(|_| usage(format!("`/think` does not take `{}`", printable(how)), "one of on, off and hide"))?;
        self.settings.think = Some(think);
        self.apply_think(out);
        out.notice(match think {
            Think::On => "the model is asked to think; its thoughts are shown",
            Think::Off => "the model is asked not to think",
            Think::Hide => "thoughts are hidden",
        });
        Ok(())
    }

    /// The variables by which the template lets a model think or not.
    fn switches(&self) -> Vec<&'static str> {
        let source = self.model().gguf().metadata().str("tokenizer.chat_template").ok().flatten().unwrap_or_default();
        THINK_VARIABLES.into_iter().filter(|name| names_variable(source, name)).collect()
    }

    /// Tells the template; says so if it knows no such switch.
    fn apply_think(&mut self, out: &Output) {
        let asked = match self.settings.think {
            Some(Think::On) => Some(true),
            Some(Think::Off) => Some(false),
            None | Some(Think::Hide) => None,
        };
        let known = self.switches();
        if asked.is_some() && known.is_empty() {
            out.notice("the chat template of this model has no switch for thinking: the model does as it does");
        }
        for name in known {
            self.chat.set_variable(name, asked.map(Into::into));
        }
    }

    fn attach(&mut self, rest: &str, out: &Output) -> Outcome {
        let attachment = Attachment::read(&files::needed(rest, "/file")?)?;
        let text = attachment.text();
        let n_token = self.model().encode(text.as_bytes(), Encode { add_special: false, parse_special: false })?.len();
        let size = words::size(text.len() as u64);
        self.attachments.push(attachment);
        let others = match self.attachments.len() {
            1 => String::new(),
            n => format!(", beside {}", counted(n - 1, "other file")),
        };
        out.notice(&format!("{size}, {} go with the next question{others}", counted(n_token, "token")));
        let room = self.chat.session().room();
        if n_token > room {
            out.warning(&format!("the context has room for {} only", counted(room, "token")));
        }
        Ok(())
    }

    fn save(&self, path: &Path, out: &Output) -> Outcome {
        files::save(path, self.model().gguf().path(), self.chat.messages())?;
        out.notice(&format!("{} written", counted(self.chat.messages().len(), "message")));
        Ok(())
    }

    /// Goes on with another model. The old one stays when that fails.
    fn change_model(&mut self, subject: &Subject, out: &Output, interrupt: &Interrupt) -> Outcome {
        let form = self.args.answer.form.resolve()?;
        let mut other = Self::new(open(subject, self.args, out, interrupt)?, self.args, form, out)?;
        other.chat.set_messages(self.chat.messages().to_vec());
        other.has_editor = self.has_editor;
        other.attachments = std::mem::take(&mut self.attachments);
        out.notice(&format!("{} goes on with the conversation; settings are those of the start", other.name()));
        *self = other;
        Ok(())
    }

    fn info(&self) -> String {
        let model = self.model();
        let gguf = model.gguf();
        let meta = gguf.metadata();
        let word = |key: &str| printable(meta.str(key).ok().flatten().unwrap_or("not said"));
        let file_type = meta.u64("general.file_type").ok().flatten().and_then(words::file_type).unwrap_or("not said");
        let bytes: u64 = gguf.tensors().iter().map(|t| t.bytes).sum();
        let Context { n_used, n_ctx } = self.context();
        format!(
            "file:          {}\nname:          {}\narchitecture:  {}\ntype:          {file_type}, {}\ncontext:       {n_used} of {n_ctx} tokens, trained for {}\ncomputes on:   {}\n",
            printable(&gguf.path().to_string_lossy()),
            word("general.name"),
            word("general.architecture"),
            words::size(bytes),
            model.n_ctx_train(),
            printable(&self.device),
        )
    }

    fn stats(&self) -> String {
        let context = self.context();
        format!(
            "{}context:  {} of {} tokens, {}%; {} of keys and values\n",
            self.totals.show(),
            context.n_used,
            context.n_ctx,
            context.percent(),
            words::size(self.chat.session().cache_bytes()),
        )
    }

    fn show(&self, what: &str, out: &Output) -> Outcome {
        let meta = self.model().gguf().metadata();
        let text = |key: &str| meta.str(key).map(|t| t.map(str::to_owned));
        let told = match what {
            "" | "info" => self.info(),
            "parameters" => self.settings.show(),
            "system" => {
                let system = self.chat.messages().iter().find(|m| m["role"] == "system");
                system.and_then(|m| m["content"].as_str()).unwrap_or("there is no system message").to_owned()
            }
            "template" => text("tokenizer.chat_template")?.unwrap_or("the file has no chat template".into()),
            "license" => {
                let keys = ["general.license", "general.license.name", "general.license.link"];
                let known: Vec<_> = keys.iter().filter_map(|key| text(key).ok().flatten()).collect();
                if known.is_empty() { "the file names no license".into() } else { known.join("\n") }
            }
            "messages" => {
                let shown = |m: &serde_json::Value| {
                    let role = m["role"].as_str().unwrap_or_default();
                    format!("[{role}]\n{}\n", m["content"].as_str().unwrap_or_default().trim_end())
                };
                self.chat.messages().iter().map(shown).collect::<Vec<_>>().join("\n")
            }
            other => {
                let hint = format!("one of {}", command::SHOWN.join(", "));
                return Err(usage(format!("there is nothing to show by the name of `{}`", printable(other)), &hint));
            }
        };
        out.told(&(told.trim_end().to_owned() + "\n"));
        Ok(())
    }

    /// Answers a question, or the last one once more.
    fn answer(&mut self, text: Option<&str>, out: &mut Output, interrupt: &Interrupt) -> Outcome {
        let mut options = self.settings.options.clone();
        if options.sampling.seed != RANDOM_SEED {
            // The same seed would give the same answer again.
            options.sampling.seed = options.sampling.seed.wrapping_add(self.n_repeat);
        }
        let shown = Shown {
            look: self.look(out),
            wraps: self.settings.word_wrap,
            hides_thoughts: self.settings.think == Some(Think::Hide),
        };
        let guard = interrupt.stoppable();
        let echo = terminal::without_echo_of_control();
        let model = self.model().clone();
        let summary = match text {
            Some(text) => view::stream(self.chat.say(text, &options)?, shown, out)?,
            None => {
                let Some(turn) = self.chat.regenerate(&options)? else {
                    out.notice("there is nothing to answer again");
                    return Ok(());
                };
                view::stream(turn, shown, out)?
            }
        };
        drop((guard, echo));
        out.end_turn()?;
        answer::tell(&model, out);
        let Some(summary) = summary else { return Ok(()) };
        if summary.reason == StopReason::Cancelled && summary.n_generated == 0 {
            let stays = if text.is_some() { "the question is not kept" } else { "the old one stays" };
            out.notice(&format!("stopped before the answer: {stays}"));
            return Err(Failure::Interrupted);
        }
        self.totals.add(&summary);
        let context = self.context();
        answer::report(&summary, context.n_ctx, false, out);
        if self.settings.shows_timings {
            out.timing(&status::line(&self.name(), context, (&summary).into(), &self.device, terminal::columns()));
        }
        // Of a context that is full the report has spoken.
        let warning = status::warning(context, &mut self.warned);
        if let Some(warning) = warning.filter(|_| summary.reason != StopReason::ContextFull) {
            out.warning(&warning);
        }
        match summary.reason {
            StopReason::Cancelled => Err(Failure::Interrupted),
            _ => Ok(()),
        }
    }

    fn look(&self, out: &Output) -> Look {
        match out.stdout_is_terminal() && !out.is_dumb() {
            false => Look::Raw,
            true if self.settings.is_json => Look::Raw,
            true if out.is_plain() || !self.settings.markdown => Look::Wrapped,
            true => Look::Styled,
        }
    }
}

/// The settings that the command line asks for.
fn settings(args: &ChatArgs, options: GenerateOptions) -> Settings {
    Settings {
        form: options.grammar.is_some().then(|| "as the command line has it".to_owned()),
        is_json: args.answer.form.json_schema.is_some(),
        options,
        think: args.view.think,
        shows_timings: args.answer.shows_timings(),
        markdown: !args.view.no_markdown,
        word_wrap: !args.view.no_word_wrap,
    }
}

/// What a CPU computes with; other names are those of GPUs.
const CPU_KERNELS: [&str; 8] = ["scalar", "avx2", "avxvnni", "avx512", "amx", "neon", "dotprod", "i8mm"];

/// What templates call the switch for thinking: Qwen, GLM, SmolLM and others; DeepSeek and Granite.
const THINK_VARIABLES: [&str; 2] = ["enable_thinking", "thinking"];

/// Whether a template has a variable of this name: the word alone, and no field of something.
fn names_variable(source: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    source.match_indices(name).any(|(at, _)| {
        let before = source[..at].chars().next_back();
        let after = source[at + name.len()..].chars().next();
        !before.is_some_and(|c| is_word(c) || matches!(c, '.' | '\'' | '"')) && !after.is_some_and(is_word)
    })
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::names_variable;

    #[test]
    fn a_variable_is_a_word_of_its_own() {
        for (source, name, is_there) in [
            ("{% if enable_thinking is defined %}", "enable_thinking", true),
            ("{% if enable_thinking is defined %}", "thinking", false),
            ("{%- if not thinking %}", "thinking", true),
            ("{{ message.thinking }}{{ m['thinking'] }}", "thinking", false),
            ("", "thinking", false),
        ] {
            assert_eq!(names_variable(source, name), is_there, "{source} {name}");
        }
    }
}
