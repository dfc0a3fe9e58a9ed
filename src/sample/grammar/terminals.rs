//! Rules over characters as Lark for the engine.
//!
//! The engine cuts a text into terminals by the longest match, GBNF knows no terminals. So a grammar becomes either
//! one regular expression, where no rule needs itself, or rules over single characters. Of those, stretches are made
//! one terminal (a quoted string, a keyword: steps are then much faster) where this changes nothing: no text of any
//! terminal is the beginning of another text of any terminal, so that the longest match is the only one.

use std::collections::HashMap;
use std::fmt::Write;

use llguidance::derivre::{RegexAst, RegexBuilder};

use super::gbnf::{Node, Rules};

/// Characters of a regular expression at most; what is longer stays rules.
const MAX_REGEX: usize = 50_000;
/// Stretches that are tried at most: each is compared with all terminals.
const MAX_STRETCHES: usize = 64;
/// States that a comparison of two terminals may take.
const FUEL: u64 = 20_000;

/// The grammar as one terminal, where no rule needs itself.
pub(super) fn as_regex(rules: &Rules) -> Option<String> {
    let mut regexes = Regexes::new(rules);
    let regex = regexes.rule(rules.root)?;
    Some(if regex.is_empty() { "start: \"\"".into() } else { format!("start: /{regex}/") })
}

/// The grammar as rules over terminals.
pub(super) fn as_lark(rules: &Rules) -> String {
    let mut regexes = Regexes::new(rules);
    let stretches = Stretches::of(rules, &mut regexes);
    let mut out = String::new();
    let _ = writeln!(out, "start: r{}", rules.root);
    for (place, body) in rules.rules.iter().enumerate() {
        let _ = write!(out, "r{place}: ");
        write_node(&mut out, body, &stretches);
        out.push('\n');
    }
    out
}

/// Parts of rules as regular expressions.
struct Regexes<'r> {
    rules: &'r Rules,
    /// `None`: not known yet; `Some(None)`: the rule needs itself, or is too long.
    known: Vec<Option<Option<String>>>,
}

impl<'r> Regexes<'r> {
    fn new(rules: &'r Rules) -> Self {
        Self { rules, known: vec![None; rules.rules.len()] }
    }

    fn rule(&mut self, place: usize) -> Option<String> {
        if let Some(known) = &self.known[place] {
            return known.clone();
        }
        // Whoever comes here again meanwhile needs itself.
        self.known[place] = Some(None);
        let rules = self.rules;
        let regex = self.node(&rules.rules[place]);
        self.known[place] = Some(regex.clone());
        regex
    }

    fn node(&mut self, node: &Node) -> Option<String> {
        let out = match node {
            Node::Set(ranges) => set(ranges),
            Node::Rule(place) => self.rule(*place)?,
            Node::Seq(items) => self.all(items)?.concat(),
            Node::Alt(items) => format!("(?:{})", self.all(items)?.join("|")),
            Node::Repeat(item, min, max) => {
                let item = self.node(item)?;
                match max {
                    _ if item.is_empty() => item,
                    Some(max) => format!("(?:{item}){{{min},{max}}}"),
                    None => format!("(?:{item}){{{min},}}"),
                }
            }
        };
        Some(out).filter(|out| out.len() <= MAX_REGEX)
    }

    fn all(&mut self, items: &[Node]) -> Option<Vec<String>> {
        items.iter().map(|item| self.node(item)).collect()
    }
}

/// Stretches of sequences that are one terminal.
struct Stretches {
    /// The parts and their terminal.
    list: Vec<(Vec<Node>, String)>,
}

impl Stretches {
    fn of(rules: &Rules, regexes: &mut Regexes) -> Self {
        let (mut list, mut singles) = (Vec::new(), Vec::new());
        for body in &rules.rules {
            collect(body, regexes, &mut list, &mut singles);
        }
        let mut known = HashMap::new();
        let mut clash = |a: &String, b: &String| {
            *known.entry((a.clone(), b.clone())).or_insert_with(|| begins(a, b) || begins(b, a))
        };
        // One that collides with another terminal falls back into characters, which may collide in turn.
        loop {
            let clashing = list.iter().position(|(_, regex): &(Vec<Node>, String)| {
                let mut others = list.iter().map(|(_, other)| other).chain(&singles);
                others.any(|other| clash(regex, other))
            });
            let Some(i) = clashing else { break };
            let (items, _) = list.remove(i);
            items.iter().for_each(|item| all_sets(item, rules, &mut singles, &mut vec![false; rules.rules.len()]));
        }
        Self { list }
    }

    /// The stretch that `items` begin with: its length and its terminal.
    fn at(&self, items: &[Node]) -> Option<(usize, &str)> {
        let found = self.list.iter().filter(|(stretch, _)| items.starts_with(stretch));
        found.map(|(stretch, regex)| (stretch.len(), regex.as_str())).max_by_key(|(n, _)| *n)
    }
}

/// Finds stretches in a part, and the characters outside of them.
fn collect(node: &Node, regexes: &mut Regexes, list: &mut Vec<(Vec<Node>, String)>, singles: &mut Vec<String>) {
    match node {
        Node::Set(ranges) => push_new(singles, set(ranges)),
        Node::Rule(_) => {}
        Node::Alt(items) => items.iter().for_each(|item| collect(item, regexes, list, singles)),
        Node::Repeat(item, ..) => collect(item, regexes, list, singles),
        Node::Seq(items) => {
            let mut at = 0;
            while at < items.len() {
                at += match stretch(&items[at..], regexes, list) {
                    Some(n) => n,
                    None => {
                        collect(&items[at], regexes, list, singles);
                        1
                    }
                };
            }
        }
    }
}

/// The longest stretch at the start of `items` of which no text begins another.
fn stretch(items: &[Node], regexes: &mut Regexes, list: &mut Vec<(Vec<Node>, String)>) -> Option<usize> {
    let parts: Vec<String> = items.iter().map_while(|item| regexes.node(item)).collect();
    (2..=parts.len().min(40)).rev().find(|&n| {
        if list.iter().any(|(known, _)| known[..] == items[..n]) {
            return true;
        }
        let regex = parts[..n].concat();
        let is_new = list.len() < MAX_STRETCHES && regex.len() <= MAX_REGEX && !begins(&regex, &regex);
        if is_new {
            list.push((items[..n].to_vec(), regex));
        }
        is_new
    })
}

/// May a text of `a` be the beginning of a longer one of `b`? True also where that is not known.
fn begins(a: &str, b: &str) -> bool {
    let regex = |text: &str| RegexAst::Regex(text.to_owned());
    let longer = RegexAst::Concat(vec![regex(a), RegexAst::Regex("(?s:.+)".into())]);
    let mut builder = RegexBuilder::new();
    let both = builder.mk(&RegexAst::And(vec![longer, regex(b)]));
    let both = both.and_then(|both| builder.to_regex_limited(both, FUEL));
    both.map_or(true, |mut both| !both.always_empty())
}

/// The characters of a part and of all rules that it names.
fn all_sets(node: &Node, rules: &Rules, out: &mut Vec<String>, seen: &mut Vec<bool>) {
    match node {
        Node::Set(ranges) => push_new(out, set(ranges)),
        Node::Seq(items) | Node::Alt(items) => items.iter().for_each(|item| all_sets(item, rules, out, seen)),
        Node::Repeat(item, ..) => all_sets(item, rules, out, seen),
        Node::Rule(place) => {
            if !std::mem::replace(&mut seen[*place], true) {
                all_sets(&rules.rules[*place], rules, out, seen);
            }
        }
    }
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// One character, in hexadecimal: no character means anything but itself.
fn set(ranges: &[(u32, u32)]) -> String {
    let mut out = String::from("[");
    for (low, high) in ranges {
        let _ = if low == high { write!(out, "\\x{{{low:x}}}") } else { write!(out, "\\x{{{low:x}}}-\\x{{{high:x}}}") };
    }
    out.push(']');
    out
}

fn write_node(out: &mut String, node: &Node, stretches: &Stretches) {
    match node {
        Node::Set(ranges) => {
            let _ = write!(out, "/{}/", set(ranges));
        }
        Node::Rule(place) => {
            let _ = write!(out, "r{place}");
        }
        Node::Seq(items) if items.is_empty() => out.push_str("\"\""),
        Node::Seq(items) => {
            out.push('(');
            let mut at = 0;
            while at < items.len() {
                out.push_str(if at == 0 { "" } else { " " });
                match stretches.at(&items[at..]) {
                    Some((n, regex)) => {
                        let _ = write!(out, "/{regex}/");
                        at += n;
                    }
                    None => {
                        write_node(out, &items[at], stretches);
                        at += 1;
                    }
                }
            }
            out.push(')');
        }
        Node::Alt(items) => {
            out.push('(');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { " | " });
                write_node(out, item, stretches);
            }
            out.push(')');
        }
        Node::Repeat(item, min, max) => {
            out.push('(');
            write_node(out, item, stretches);
            let _ = match max {
                Some(0) => write!(out, ")~0"),
                Some(max) => write!(out, ")~{min}..{max}"),
                None if *min == 0 => write!(out, ")*"),
                None => {
                    out.push_str(")~");
                    let _ = write!(out, "{min} (");
                    write_node(out, item, stretches);
                    write!(out, ")*")
                }
            };
        }
    }
}
