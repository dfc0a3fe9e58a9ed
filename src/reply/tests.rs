//! Answers of every family, split at every character, with control tokens and without; text that is none of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What a model says: its template's marks, the end of the prompt, the answer, and what is to be found.
struct Case {
    name: &'static str,
    template: &'static str,
    prompt: &'static str,
    answer: &'static str,
    reasoning: &'static str,
    text: &'static str,
    calls: Vec<(&'static str, Value)>,
}

fn tools() -> Value {
    let properties = json!({"city": {"type": "string"}, "days": {"type": "integer"}});
    json!([{"type": "function", "function": {"name": "weather", "parameters": {"properties": properties}}}])
}

fn koeln() -> Vec<(&'static str, Value)> {
    vec![("weather", json!({"city": "Köln", "days": 2}))]
}

fn cases() -> Vec<Case> {
    let case = |name, template, prompt, answer, reasoning, text, calls| Case {
        name,
        template,
        prompt,
        answer,
        reasoning,
        text,
        calls,
    };
    let two = || vec![("weather", json!({"city": "Köln", "days": 2})), ("time", json!({}))];
    vec![
        case(
            "plain",
            "{{ x }}",
            "",
            " <think>a</think> <tool_call> b\n",
            "",
            " <think>a</think> <tool_call> b\n",
            vec![],
        ),
        case(
            "qwen3",
            "<think><tool_call>",
            "<|im_start|>assistant\n",
            "<think>\nHm, {\"a\".\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\"}\n</tool_call>",
            "Hm, {\"a\".",
            "Let me see.",
            two(),
        ),
        case(
            "opened in the prompt",
            "<think>",
            "assistant\n<think>\n",
            "Hm.\n</think>\n\nYes <b>.\n",
            "Hm.",
            "Yes <b>.\n",
            vec![],
        ),
        case("closed in the prompt", "<think>", "<think>\n\n</think>\n\n", "Yes.", "", "Yes.", vec![]),
        case("no thoughts", "<think>", "<think>\n", "\n</think>\n\nYes.", "", "Yes.", vec![]),
        case("opened twice", "<think>", "<think>\n", "<think>\nHm.</think>Yes.", "Hm.", "Yes.", vec![]),
        case(
            "gigachat",
            "<|message_sep|> function call",
            "",
            "I look.<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}<|message_sep|>\n\n",
            "",
            "I look.",
            koeln(),
        ),
        case("thoughts alone", "<think>", "<think>\n", "Hm, and", "Hm, and", "", vec![]),
        case(
            "a mark in a string",
            "<tool_call>",
            "",
            "<tool_call>{\"name\": \"note\", \"arguments\": {\"text\": \"</tool_call> <tool_call>\"}}</tool_call> Done.",
            "",
            "Done.",
            vec![("note", json!({"text": "</tool_call> <tool_call>"}))],
        ),
        case(
            "text on both sides",
            "<tool_call>",
            "",
            "One.\n\n<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>\nTwo.",
            "",
            "One.\n\nTwo.",
            vec![("time", json!({}))],
        ),
        case(
            "qwen3-coder",
            "<tool_call>",
            "",
            "Now.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
            "",
            "Now.",
            koeln(),
        ),
        case(
            "a string that looks like a number",
            "<tool_call>",
            "",
            "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n</function>\n</tool_call>",
            "",
            "",
            vec![("weather", json!({"city": "12"}))],
        ),
        case(
            "glm",
            "<think><tool_call>",
            "<|assistant|>",
            "\n<think>Hm.</think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
            "Hm.",
            "",
            koeln(),
        ),
        case(
            "seed",
            "<seed:think><seed:tool_call>",
            "",
            "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=weather>\n<parameter=city>Köln</parameter>\n<parameter=days>2</parameter>\n</function>\n</seed:tool_call>",
            "Hm.",
            "",
            koeln(),
        ),
        case(
            "minimax m2",
            "<think><minimax:tool_call>",
            "ai\n<think>\n",
            "Hm.\n</think>\n\n<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">Köln</parameter>\n<parameter name=\"days\">2</parameter>\n</invoke>\n<invoke name=\"time\">\n</invoke>\n</minimax:tool_call>",
            "Hm.",
            "",
            two(),
        ),
        case(
            "deepseek v3",
            "<｜tool▁calls▁begin｜>",
            "",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Köln\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "",
            "",
            two(),
        ),
        case(
            "deepseek v3.1",
            "<think><｜tool▁calls▁begin｜>",
            "<｜Assistant｜><think>",
            "Hm.</think>I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Köln\", \"days\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "Hm.",
            "I look.",
            koeln(),
        ),
        case(
            "deepseek v4",
            "</think><｜DSML｜tool_calls>",
            "<｜Assistant｜></think>",
            "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Köln</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
            "",
            "",
            koeln(),
        ),
        case(
            "mistral, a list",
            "[TOOL_CALLS]",
            "[/INST]",
            "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}, \"id\": \"abc123de1\"}, {\"name\": \"time\", \"arguments\": {}}]",
            "",
            "",
            two(),
        ),
        case(
            "mistral, arguments",
            "[TOOL_CALLS][THINK]",
            "[/INST]",
            "[THINK]Hm.[/THINK]I look.[TOOL_CALLS]weather[CALL_ID]abc123de1[ARGS]{\"city\": \"Köln\", \"days\": 2}[TOOL_CALLS]time[ARGS]{}",
            "Hm.",
            "I look.",
            two(),
        ),
        case(
            "gpt-oss",
            "<|channel|><|message|>",
            "<|start|>assistant",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Köln\", \"days\": 2}<|call|>",
            "Hm.",
            "I look.",
            koeln(),
        ),
        case(
            "gpt-oss, to whom first",
            "<|channel|><|message|>",
            "<|start|>assistant",
            " to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Köln\", \"days\": 2}<|call|>",
            "",
            "",
            koeln(),
        ),
        case(
            "gpt-oss, two paragraphs",
            "<|channel|><|message|>",
            "<|start|>assistant",
            "<|channel|>commentary<|message|>First.<|end|><|start|>assistant<|channel|>final<|message|>Then.\n<|return|>",
            "",
            "First.\n\nThen.",
            vec![],
        ),
        case("gpt-oss, no channel", "<|channel|><|message|>", "", "Hello there.", "", "Hello there.", vec![]),
        case(
            "kimi",
            "<|tool_calls_section_begin|>",
            "",
            "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Köln\", \"days\": 2}<|tool_call_end|><|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
            "",
            "I look.",
            two(),
        ),
        case(
            "solar",
            "<|tool_call:begin|><|think|><|content|><|begin|>assistant",
            "<|begin|>assistant",
            "<|think|>Hm.<|end|><|begin|>assistant<|content|>I look.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>x1<|tool_call:name|>weather<|tool_call:args|>{\"city\": \"Köln\", \"days\": 2}<|tool_call:end|><|calls|>",
            "Hm.",
            "I look.",
            koeln(),
        ),
        case(
            "apertus",
            "<|tools_prefix|><|inner_prefix|>",
            "",
            "<|inner_prefix|>Hm.<|inner_suffix|>I look.<|tools_prefix|>[{\"weather\": {\"city\": \"Köln\", \"days\": 2}}, {\"time\": {}}]<|tools_suffix|>",
            "Hm.",
            "I look.",
            two(),
        ),
        case(
            "cohere",
            "<|START_ACTION|><|START_THINKING|><|START_TEXT|><|END_TEXT|>",
            "<|START_THINKING|>",
            "Hm.<|END_THINKING|><|START_ACTION|>[\n {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Köln\", \"days\": 2}}\n]<|END_ACTION|>",
            "Hm.",
            "",
            koeln(),
        ),
        case(
            "cohere says",
            "<|START_ACTION|><|START_THINKING|><|START_TEXT|><|END_TEXT|>",
            "<|START_THINKING|>",
            "Hm.<|END_THINKING|><|START_TEXT|>Yes.<|END_TEXT|>",
            "Hm.",
            "Yes.",
            vec![],
        ),
        case(
            "command r",
            "Write 'Action:'",
            "",
            "I look.\nAction:\n```json\n[{\"tool_name\": \"weather\", \"parameters\": {\"city\": \"Köln\", \"days\": 2}}]\n```",
            "",
            "I look.",
            koeln(),
        ),
        case(
            "nemotron",
            "<think><TOOLCALL>",
            "<think>\n",
            "Hm.\n</think>\n\n<TOOLCALL>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}]</TOOLCALL>",
            "Hm.",
            "",
            koeln(),
        ),
        case(
            "granite 3",
            "<|tool_call|><think></think><response></response>",
            "",
            "<think>Hm.</think>\n<response>Yes.</response>",
            "Hm.",
            "Yes.",
            vec![],
        ),
        case(
            "granite 3 calls",
            "<|tool_call|><think></think><response></response>",
            "",
            "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}]",
            "",
            "",
            koeln(),
        ),
        case(
            "functionary 3.1",
            "<function=",
            "",
            "I look.<function=weather>{\"city\": \"Köln\", \"days\": 2}</function><function=time>{}</function>",
            "",
            "I look.",
            two(),
        ),
        case(
            "functionary 3.2",
            ">>>all",
            "assistant\n\n>>>",
            "all\nI >>> look.>>>weather\n{\"city\": \"Köln\", \"days\": 2}>>>time\n{}",
            "",
            "I >>> look.",
            two(),
        ),
        case(
            "firefunction",
            "functools",
            "",
            "I look. functools[{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}]",
            "",
            "I look.",
            koeln(),
        ),
        case(
            "gemma 4",
            "<|tool_call><|channel>thought",
            "",
            "<|channel>thought\nHm.\n<channel|><|tool_call>call:weather{city:<|\"|>Köln<|\"|>,days:2}<tool_call|><|tool_call>call:time{}<tool_call|>",
            "Hm.",
            "",
            two(),
        ),
        case(
            "functiongemma",
            "<start_function_call>",
            "",
            "<start_function_call>call:note{list:[<escape>a, b<escape>,{x:true}],n:-1.5}<end_function_call>",
            "",
            "",
            vec![("note", json!({"list": ["a, b", {"x": true}], "n": -1.5}))],
        ),
        case(
            "lfm2",
            "<|tool_call_start|>",
            "",
            "<|tool_call_start|>[weather(city=\"Köln\", days=2), time()]<|tool_call_end|>I look.",
            "",
            "I look.",
            two(),
        ),
        case(
            "llama 3, json",
            "ipython<|python_tag|>",
            "",
            "{\"name\": \"weather\", \"parameters\": {\"city\": \"Köln\", \"days\": 2}}; {\"name\": \"time\", \"parameters\": {}}",
            "",
            "",
            two(),
        ),
        case(
            "llama 3, a built-in tool",
            "ipython<|python_tag|>",
            "",
            "<|python_tag|>brave_search.call(query=\"Köln, \\\"weather\\\"\")",
            "",
            "",
            vec![("brave_search", json!({"query": "Köln, \"weather\""}))],
        ),
        case(
            "llama 3, a program",
            "ipython<|python_tag|>",
            "",
            "<|python_tag|>print(2 + 2)\n",
            "",
            "",
            vec![("python", json!({"code": "print(2 + 2)"}))],
        ),
        case("llama 3, other json", "ipython", "", "{\"answer\": 42}", "", "{\"answer\": 42}", vec![]),
        case(
            "a broken call",
            "<tool_call>",
            "",
            "A\n<tool_call>{\"name\": }</tool_call> b",
            "",
            "A\n<tool_call>{\"name\": }</tool_call> b",
            vec![],
        ),
        case(
            "a call that is cut",
            "<tool_call>",
            "",
            "A <tool_call>{\"name\": \"x\", \"argu",
            "",
            "A <tool_call>{\"name\": \"x\", \"argu",
            vec![],
        ),
        case(
            "a call that lacks its end",
            "<tool_call>",
            "",
            "<tool_call>{\"name\": \"time\"}",
            "",
            "",
            vec![("time", json!({}))],
        ),
        case(
            "arguments that are none",
            "<tool_call>",
            "",
            "<tool_call>{\"name\": \"x\", \"arguments\": [1]}</tool_call>",
            "",
            "<tool_call>{\"name\": \"x\", \"arguments\": [1]}</tool_call>",
            vec![],
        ),
        case(
            "arguments in a string",
            "<tool_call>",
            "",
            "<tool_call>{\"name\": \"x\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
            "",
            "",
            vec![("x", json!({"a": 1}))],
        ),
    ]
}

/// The answer of pieces, each shown or a control token.
fn read(format: &Format, prompt: &str, pieces: &[(&str, bool)]) -> Vec<Part> {
    let mut parser = format.parser(prompt, 0);
    let mut parts: Vec<Part> = Vec::new();
    let given = pieces.iter().map(|(text, shown)| (text.to_string(), *shown));
    for part in given.flat_map(|(text, shown)| parser.push(&text, shown)).collect::<Vec<_>>() {
        parts.push(part);
    }
    parts.extend(parser.finish());
    parts
}

/// Reasoning, text and calls of parts.
fn sorted(parts: &[Part]) -> (String, String, Vec<ToolCall>) {
    let (mut reasoning, mut text, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Reasoning(t) => reasoning += t,
            Part::Text(t) => text += t,
            Part::Call(call) => calls.push(call.clone()),
        }
    }
    (reasoning, text, calls)
}

fn check(case: &Case, found: &(String, String, Vec<ToolCall>), how: &str) {
    let name = format!("{}, {how}", case.name);
    assert_eq!(found.0, case.reasoning, "{name}");
    assert_eq!(found.1, case.text, "{name}");
    let calls: Vec<_> = found.2.iter().map(|c| (c.name.as_str(), c.arguments.clone())).collect();
    assert_eq!(calls, case.calls, "{name}");
    assert!(found.2.iter().all(|c| !c.id.is_empty()), "{name}");
}

#[test]
fn answers_of_every_family_come_apart_however_they_are_split() {
    let tools = tools();
    for case in cases() {
        let format = Format::detect(case.template, &|_| false, Some(&tools));
        let whole = read(&format, case.prompt, &[(case.answer, true)]);
        check(&case, &sorted(&whole), "whole");
        let pieces: Vec<&str> = case.answer.split_inclusive(|_| true).collect();
        let pieces: Vec<(&str, bool)> = pieces.into_iter().map(|p| (p, true)).collect();
        check(&case, &sorted(&read(&format, case.prompt, &pieces)), "by characters");
        for (at, _) in case.answer.char_indices() {
            let (a, b) = case.answer.split_at(at);
            check(&case, &sorted(&read(&format, case.prompt, &[(a, true), (b, true)])), &format!("split at {at}"));
        }
    }
}

/// Texts that are one token where vocabularies have them.
const TOKENS: [&str; 14] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|call|>",
    "<|python_tag|>",
    "<|tool_calls_section_begin|>",
];

#[test]
fn marks_that_are_control_tokens_are_found_and_never_shown() {
    let tools = tools();
    for case in cases().iter().filter(|c| !matches!(c.name, "plain" | "a mark in a string") && !c.text.contains('<')) {
        let format = Format::detect(case.template, &|_| false, Some(&tools));
        let mut pieces = Vec::new();
        let mut rest = case.answer;
        while !rest.is_empty() {
            let next = TOKENS.iter().filter_map(|t| Some((rest.find(t)?, *t))).min();
            let (at, token) = next.unwrap_or((rest.len(), ""));
            pieces.extend([(&rest[..at], true), (token, false)].into_iter().filter(|p| !p.0.is_empty()));
            rest = &rest[at + token.len()..];
        }
        check(case, &sorted(&read(&format, case.prompt, &pieces)), "tokens");
    }
    // A control token that is no mark here is not text either.
    let format = Format::detect("<think>", &|_| false, None);
    let parts = read(&format, "", &[("a", true), ("<tool_call>", false), ("b", true)]);
    assert_eq!(parts, [Part::Text("a".into()), Part::Text("b".into())]);
}

#[test]
fn tokens_of_the_vocabulary_tell_a_form_that_the_template_does_not() {
    let format = Format::detect("{{ x }}", &|t| t == "<|tool_call_start|>", None);
    let parts = read(&format, "", &[("<|tool_call_start|>[time()]<|tool_call_end|>", true)]);
    assert!(matches!(&parts[..], [Part::Call(call)] if call.name == "time"), "{parts:?}");
    assert!(Format::detect("{{ x }}", &|_| false, None).is_plain());
}

#[test]
fn without_tools_json_is_an_answer() {
    let format = Format::detect("ipython", &|_| false, None);
    let text = "{\"name\": \"x\", \"parameters\": {}}";
    assert_eq!(read(&format, "", &[(text, true)]), [Part::Text(text.into())]);
}

#[test]
fn ids_are_the_models_own_or_nine_letters_and_digits() {
    let format = Format::detect("[TOOL_CALLS]", &|_| false, None);
    let mut parser = format.parser("", 7);
    parser.push("[TOOL_CALLS]a[CALL_ID]abc123de1[ARGS]{}[TOOL_CALLS]b[ARGS]{}", true);
    let (_, _, calls) = sorted(&parser.finish());
    let ids: Vec<&str> = calls.iter().map(|c| c.id.as_str()).collect();
    // The first call was given when the second one began.
    assert_eq!(ids, ["call00009"]);
    assert_eq!(calls[0].to_message()["function"]["name"], "b");
}

#[test]
fn deep_values_are_text_and_no_overflow() {
    for (template, open, close) in [
        ("<tool_call>", "<tool_call>", "</tool_call>"),
        ("<|tool_call>", "<|tool_call>call:f{a:", "}<tool_call|>"),
        ("<|tool_call_start|>", "<|tool_call_start|>[f(a=", ")]<|tool_call_end|>"),
    ] {
        let format = Format::detect(template, &|_| false, None);
        let answer = format!("{open}{}{close}", "[".repeat(200_000));
        let (_, text, calls) = sorted(&read(&format, "", &[(&answer, true)]));
        assert!(calls.is_empty() && text == answer, "{template}");
    }
}

/// A format that knows every form but those that exclude others.
fn all() -> Format {
    Format::detect("ipython functools Action:", &|_| true, Some(&tools()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_is_read_alike_however_it_is_split(
        words in proptest::collection::vec(prop_oneof![
            proptest::sample::select(vec![
                "<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"a\", \"arguments\": {}}", "[TOOL_CALLS]",
                "a[ARGS]{}", "<|tool_call>", "call:f{x:1}", "<tool_call|>", "<function=", "f>", "</function>", "\n", " ",
                "{", "}", "<|python_tag|>", "functools[", "<|", "ü", ">>>", "all\n", "<|channel|>", "final", "<|message|>", "<|end|>",
            ]).prop_map(str::to_owned),
            "[a-z ü<\\[{}\\n]{0,6}",
        ], 0..14),
        cuts in proptest::collection::vec(0usize..200, 0..6),
        which in 0usize..4,
    ) {
        let text = words.concat();
        let format = match which {
            0 => all(),
            1 => Format::detect("<|channel|><|message|>", &|_| false, None),
            2 => Format::detect(">>>all", &|_| false, None),
            _ => Format::plain(),
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).filter(|c| text.is_char_boundary(*c)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut at = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.push((&text[at..cut], true));
            at = cut;
        }
        let whole = sorted(&read(&format, "", &[(&text, true)]));
        let split = sorted(&read(&format, "", &pieces));
        prop_assert_eq!(&whole, &split);
        if which == 3 {
            prop_assert_eq!(whole.1, text);
        }
    }

    #[test]
    fn text_without_marks_comes_out_as_it_went_in(text in "[a-zA-Z0-9 .,!?äöü\\n\\t\"'()*#-]{0,80}") {
        // The whole of it, blanks at the end too.
        let pieces: Vec<(&str, bool)> = text.split_inclusive(' ').map(|p| (p, true)).collect();
        let (reasoning, found, calls) = sorted(&read(&all(), "", &pieces));
        prop_assert!(reasoning.is_empty() && calls.is_empty());
        prop_assert_eq!(found, text);
    }
}
