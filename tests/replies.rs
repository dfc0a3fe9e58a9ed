//! Recorded conversations survive a round trip: rendered by a family's template, then read back as its model's answer.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod common;

use common::{read_json, shared};
use serde_json::{Value, json};
use tealight::reply::{Format, Part, ToolCall};
use tealight::text::{ChatInput, ChatTemplate};

/// 2026-01-15 00:00:00, the clock of the recorded renderings.
const NOW_S: i64 = 1_768_435_200;

/// Texts that end an answer: as tokens they end the generation.
const ENDS: [&str; 17] = [
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_sentence>",
    "<seed:eos>",
    "<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|>",
    "[e~[",
    "<SPECIAL_12>",
    "<sep>",
    "<|user_end|>",
    "<|assistant_end|>",
    "<turn|>",
    "<|role_end|>",
];

fn render(template: &ChatTemplate, case: &Value, messages: &[Value], prompt: bool) -> Option<String> {
    let mut input = ChatInput::new(messages);
    input.tools = Some(&case["tools"]).filter(|t| !t.is_null());
    input.add_generation_prompt = prompt;
    input.bos_token = case["bos_token"].as_str().unwrap_or("");
    input.eos_token = case["eos_token"].as_str().unwrap_or("");
    input.extra = case["extra"].as_object().cloned().unwrap_or_default();
    input.now_s = Some(NOW_S);
    template.render(&input).ok()
}

/// What an assistant's message says, thinks and calls, as it is recorded.
fn recorded(message: &Value) -> (String, String, Vec<(String, Value)>) {
    let content = message["content"].as_str().unwrap_or_default();
    let (mut reasoning, mut text) = (message["reasoning_content"].as_str().unwrap_or_default(), content);
    if let Some((thought, rest)) = content.strip_prefix("<think>").and_then(|c| c.split_once("</think>")) {
        (reasoning, text) = (thought, rest);
    }
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|c| {
        let arguments = match &c["function"]["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            other => other.clone(),
        };
        (c["function"]["name"].as_str().unwrap().to_owned(), arguments)
    });
    (reasoning.trim().to_owned(), text.trim().to_owned(), calls.collect())
}

/// Reads one assistant's message back; `None` where the template leaves its calls and thoughts out.
fn round_trip(template: &ChatTemplate, source: &str, case: &Value, i: usize) -> Option<(usize, usize)> {
    let messages = case["messages"].as_array()?;
    let (reasoning, text, calls) = recorded(&messages[i]);
    let before = render(template, case, &messages[..i], true)?;
    let after = render(template, case, &messages[..=i], false)?;
    // Templates may end the prompt otherwise than they go on with an answer.
    let same = before.char_indices().zip(after.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let (prompt, answer) = after.split_at(same.unwrap_or(before.len().min(after.len())));
    let end = ENDS.iter().filter_map(|e| answer.find(e)).min().unwrap_or(answer.len());
    let answer = &answer[..end];
    let has_calls = calls.iter().all(|(name, _)| answer.contains(name.as_str()));
    let has_reasoning = !reasoning.is_empty() && answer.contains(&reasoning);
    if !(has_calls && !calls.is_empty()) && !has_reasoning {
        return None;
    }
    let format = Format::detect(source, &|_| false, Some(&case["tools"]).filter(|t| !t.is_null()));
    let mut parser = format.parser(prompt, 0);
    let mut parts: Vec<Part> = answer.split_inclusive(|_| true).flat_map(|c| parser.push(c, true)).collect();
    parts.extend(parser.finish());
    let (mut said, mut thought, mut called): (String, String, Vec<ToolCall>) = Default::default();
    for part in parts {
        match part {
            Part::Text(t) => said += &t,
            Part::Reasoning(t) => thought += &t,
            Part::Call(call) => called.push(call),
            _ => unreachable!(),
        }
    }
    let what = format!("{}: {answer:?}", case["case"]);
    if has_calls {
        let found: Vec<(String, Value)> = called.iter().map(|c| (c.name.clone(), c.arguments.clone())).collect();
        assert_eq!(found, calls, "{what}");
    }
    if has_reasoning {
        assert_eq!(thought.trim(), reasoning, "{what}");
    }
    // What the template drops or moves to the thoughts is not said; some write `None` for nothing.
    let is_said = said.trim() == text || said.is_empty() && !answer.contains(&text) || thought.trim() == text;
    assert!(is_said || text.is_empty() && matches!(said.trim(), "None" | "null"), "{what}: said {said:?}");
    Some((usize::from(has_calls && !calls.is_empty()), usize::from(has_reasoning)))
}

#[test]
fn recorded_calls_and_thoughts_survive_a_round_trip() {
    let Some(folder) = shared("templates") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "jinja"));
    paths.sort();
    let (mut with_calls, mut with_reasoning, mut n_call, mut n_reasoning) = (0, 0, 0, 0);
    for path in paths {
        let source = std::fs::read_to_string(&path).unwrap();
        let template = ChatTemplate::new(&source).unwrap();
        println!("{}", path.display());
        let (mut calls, mut thoughts) = (0, 0);
        for case in read_json(&path.with_extension("json")).as_array().unwrap() {
            let messages = case["messages"].as_array().unwrap();
            for i in (0..messages.len()).filter(|i| messages[*i]["role"] == json!("assistant")) {
                let (c, t) = round_trip(&template, &source, case, i).unwrap_or_default();
                calls += c;
                thoughts += t;
            }
        }
        println!("  {calls} with calls, {thoughts} with thoughts");
        with_calls += usize::from(calls > 0);
        with_reasoning += usize::from(thoughts > 0);
        n_call += calls;
        n_reasoning += thoughts;
    }
    println!(
        "{with_calls} templates, {n_call} messages with calls; {with_reasoning} templates, {n_reasoning} with thoughts"
    );
    assert!(with_calls >= 30 && n_call >= 120, "{with_calls} templates, {n_call} messages with calls");
    assert!(with_reasoning >= 12 && n_reasoning >= 30, "{with_reasoning} templates, {n_reasoning} with thoughts");
}
