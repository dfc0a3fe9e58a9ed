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
const ENDS: [&str; 18] = [
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
    "<|tool_response>",
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

/// Reads one assistant's message back: how many have calls, and thoughts, that the template does not leave out.
fn round_trip(template: &ChatTemplate, source: &str, case: &Value, i: usize) -> Result<(usize, usize), String> {
    let messages = case["messages"].as_array().expect("messages");
    let (reasoning, text, calls) = recorded(&messages[i]);
    let rendered = render(template, case, &messages[..i], true).zip(render(template, case, &messages[..=i], false));
    // Some templates refuse a conversation that ends so.
    let Some((before, after)) = rendered else { return Ok((0, 0)) };
    // Templates may end the prompt otherwise than they go on with an answer: where they differ, no mark is cut.
    let same = before.char_indices().zip(after.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let at = match same {
        Some(at) => after[..at].rfind('<').filter(|open| !after[*open..at].contains('>')).unwrap_or(at),
        None => before.len().min(after.len()),
    };
    let (prompt, answer) = after.split_at(at);
    let end = ENDS.iter().filter_map(|e| answer.find(e)).min().unwrap_or(answer.len());
    let answer = answer[..end].trim_start_matches("<|CHATBOT_TOKEN|>");
    // Some call one tool at a time, so their templates leave out the others.
    let one = source.contains("<|channel|>") || source.contains("<|message_sep|>");
    let calls = if one { calls.into_iter().take(1).collect() } else { calls };
    let has_calls = !calls.is_empty() && calls.iter().all(|(name, _)| answer.contains(name.as_str()));
    // Tags that a template does not know are text to it.
    let known = !answer.contains("<think>") || source.contains("<think>") || source.contains("</think>");
    let has_reasoning = known && !reasoning.is_empty() && answer.contains(&reasoning);
    if !has_calls && !has_reasoning {
        return Ok((0, 0));
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
    let found: Vec<(String, Value)> = called.iter().map(|c| (c.name.clone(), c.arguments.clone())).collect();
    if has_calls && found != calls {
        return Err(format!("{what}: called {found:?}"));
    }
    if has_reasoning && thought.trim() != reasoning {
        return Err(format!("{what}: thought {thought:?}"));
    }
    // What the template drops or moves to the thoughts is not said; some write `None` for nothing.
    let is_said = said.trim() == text || said.is_empty() && !answer.contains(&text) || thought.trim() == text;
    let is_nothing = text.is_empty() && matches!(said.trim(), "None" | "null");
    if !is_said && !is_nothing {
        return Err(format!("{what}: said {said:?}"));
    }
    Ok((usize::from(has_calls), usize::from(has_reasoning)))
}

#[test]
fn recorded_calls_and_thoughts_survive_a_round_trip() {
    let Some(folder) = shared("templates") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "jinja"));
    paths.sort();
    let (mut with_calls, mut with_reasoning, mut n_call, mut n_reasoning) = (0, 0, 0, 0);
    let mut failures = Vec::new();
    for path in paths {
        let source = std::fs::read_to_string(&path).unwrap();
        let template = ChatTemplate::new(&source).unwrap();
        println!("{}", path.display());
        let (mut calls, mut thoughts) = (0, 0);
        for case in read_json(&path.with_extension("json")).as_array().unwrap() {
            let messages = case["messages"].as_array().unwrap();
            for i in (0..messages.len()).filter(|i| messages[*i]["role"] == json!("assistant")) {
                match round_trip(&template, &source, case, i) {
                    Ok((c, t)) => {
                        calls += c;
                        thoughts += t;
                    }
                    Err(wrong) => failures.push(format!("{}: {wrong}", path.display())),
                }
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
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(with_calls >= 30 && n_call >= 120, "{with_calls} templates, {n_call} messages with calls");
    assert!(with_reasoning >= 12 && n_reasoning >= 30, "{with_reasoning} templates, {n_reasoning} with thoughts");
}
