//! What people see of a conversation's state: one line under an answer, and figures of all of it.

use std::time::Duration;

use tealight::engine::Summary;
use tealight::error::printable;
use unicode_width::UnicodeWidthStr;

/// Squares of the meter.
const N_SQUARE: usize = 10;

/// How full a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) n_used: usize,
    pub(super) n_ctx: u32,
}

impl Context {
    /// In percent, rounded down: 100 is full.
    pub(super) fn percent(self) -> u32 {
        let percent = 100 * self.n_used as u64 / u64::from(self.n_ctx.max(1));
        u32::try_from(percent.min(100)).unwrap_or(100)
    }

    fn meter(self) -> String {
        // A context that holds something shows it.
        let full = (self.n_used * N_SQUARE).div_ceil(self.n_ctx.max(1) as usize).min(N_SQUARE);
        "▰".repeat(full) + &"▱".repeat(N_SQUARE - full)
    }
}

/// Tokens, and the time that they took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    read: (usize, Duration),
    written: (usize, Duration),
}

impl From<&Summary> for Rates {
    fn from(summary: &Summary) -> Self {
        Self { read: (summary.n_prompt, summary.prompt_time), written: (summary.n_generated, summary.generate_time) }
    }
}

/// The line under an answer, no longer than `columns`, where 0 is unknown.
pub(super) fn line(model: &str, context: Context, rates: Rates, device: &str, columns: usize) -> String {
    let columns = if columns == 0 { usize::MAX } else { columns };
    let figures = format!(
        "{} {}/{} | {} t/s, prompt {} | {}",
        context.meter(),
        context.n_used,
        context.n_ctx,
        rate(rates.written.0, rates.written.1),
        rate(rates.read.0, rates.read.1),
        printable(device),
    );
    let room = columns.saturating_sub(figures.width() + 3);
    match shortened(&printable(model), room) {
        Some(name) => format!("{name} | {figures}"),
        None => shortened(&figures, columns).unwrap_or_default(),
    }
}

/// Text of so many columns at most, with an ellipsis where it is cut; `None` if that would say nothing.
fn shortened(text: &str, columns: usize) -> Option<String> {
    if text.width() <= columns {
        return Some(text.to_owned());
    }
    let mut short = String::new();
    for c in text.chars() {
        let mut next = short.clone();
        next.push(c);
        if next.width() >= columns {
            break;
        }
        short = next;
    }
    (short.width() >= 3).then(|| short + "…")
}

fn rate(n: usize, time: Duration) -> String {
    if time.is_zero() { "-".into() } else { format!("{:.1}", n as f64 / time.as_secs_f64()) }
}

/// What to say of a context that nears its end, once at each of these shares.
pub(super) fn warning(context: Context, warned: &mut u32) -> Option<String> {
    let passed = [95, 80].into_iter().find(|share| context.percent() >= *share).unwrap_or(0);
    let before = std::mem::replace(warned, passed);
    (passed > before).then(|| {
        let Context { n_used, n_ctx } = context;
        format!(
            "the context is {}% full, {n_used} of {n_ctx} tokens: /undo and /clear make room, -c makes it larger",
            context.percent()
        )
    })
}

/// Figures of a whole conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    n_answer: u32,
    n_prompt: usize,
    n_generated: usize,
    prompt_time: Duration,
    generate_time: Duration,
    last: Option<Summary>,
}

impl Totals {
    pub(super) fn add(&mut self, summary: &Summary) {
        self.n_answer += 1;
        self.n_prompt += summary.n_prompt;
        self.n_generated += summary.n_generated;
        self.prompt_time += summary.prompt_time;
        self.generate_time += summary.generate_time;
        self.last = Some(summary.clone());
    }

    /// As lines.
    pub(super) fn show(&self) -> String {
        let mut text = format!(
            "answers:  {}\nread:     {} tokens in {:.2} s, {} t/s\nwritten:  {} tokens in {:.2} s, {} t/s\n",
            self.n_answer,
            self.n_prompt,
            self.prompt_time.as_secs_f64(),
            rate(self.n_prompt, self.prompt_time),
            self.n_generated,
            self.generate_time.as_secs_f64(),
            rate(self.n_generated, self.generate_time),
        );
        if let Some(last) = &self.last {
            text += &format!(
                "last:     {} tokens read, {} kept, {} written; end: {:?}; seed: {}\n",
                last.n_prompt, last.n_cached, last.n_generated, last.reason, last.seed
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_fills_and_warns_once() {
        let of = |n_used| Context { n_used, n_ctx: 1000 };
        assert_eq!(of(0).meter(), "▱▱▱▱▱▱▱▱▱▱");
        assert_eq!(of(1).meter(), "▰▱▱▱▱▱▱▱▱▱");
        assert_eq!(of(500).meter(), "▰▰▰▰▰▱▱▱▱▱");
        assert_eq!(of(1000).meter(), "▰▰▰▰▰▰▰▰▰▰");
        let mut warned = 0;
        let said: Vec<_> = [700, 800, 850, 960, 990, 100, 810].map(|n| warning(of(n), &mut warned).is_some()).to_vec();
        assert_eq!(said, [false, true, false, true, false, false, true]);
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let rates = Rates { read: (10, Duration::from_secs(2)), written: (20, Duration::from_secs(2)) };
        let context = Context { n_used: 512, n_ctx: 8192 };
        let of = |columns| line("Model-7B.Q4_K_M", context, rates, "CPU avx2", columns);
        let whole = "Model-7B.Q4_K_M | ▰▱▱▱▱▱▱▱▱▱ 512/8192 | 10.0 t/s, prompt 5.0 | CPU avx2";
        assert_eq!([of(0), of(200)], [whole, whole]);
        assert_eq!(of(60), "Mod… | ▰▱▱▱▱▱▱▱▱▱ 512/8192 | 10.0 t/s, prompt 5.0 | CPU avx2");
        assert!((1..200).all(|columns| of(columns).width() <= columns));
        assert!(!line("\u{1b}[2J", context, rates, "\u{1b}", 0).contains('\u{1b}'));
        for columns in 1..120 {
            let text = shortened("model 世界 of a long name", columns).unwrap_or_default();
            assert!(text.width() <= columns, "{columns}: {text}");
        }
        assert_eq!(shortened("abcdef", 5), Some("abcd…".into()));
        assert_eq!(shortened("abcdef", 3), None);
    }
}
