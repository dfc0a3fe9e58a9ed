//! Answers that are taken apart while they are written.
#![cfg(feature = "grammar")]

use super::super::*;

/// An answer that a form makes, taken apart while it is written.
#[test]
fn an_answer_is_taken_apart_as_it_is_written() {
    use crate::reply::Format;
    use crate::sample::grammar::Grammar;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
    let model = crate::engine::Model::open(path, &crate::engine::ModelOptions::default()).unwrap();
    let call = r#"{\"name\": \"weather\", \"arguments\": {\"city\": \"K\"}}"#;
    let text = format!(r#"root ::= "<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{call}\n</tool_call>""#);
    let mut options = GenerateOptions::new(SampleOptions::default());
    options.grammar = Some(Grammar::gbnf(&text).unwrap());
    let mut session = model.session(&crate::engine::SessionOptions::default().with_ctx(250)).unwrap();
    let mut writer = Writer::new(&session, &[5, 6], &options).unwrap();
    writer.take_apart(Format::detect("<think><tool_call>", &|_| false, None).parser("", 0));
    let mut events = Vec::new();
    while let Some(event) = writer.next(&mut session, &mut |_, _| Ok(None)) {
        events.push(event.unwrap());
    }
    let of = |pick: fn(&Event) -> Option<&str>| events.iter().filter_map(pick).collect::<String>();
    assert_eq!(of(|e| if let Event::Reasoning(t) = e { Some(t) } else { None }), "Hm.");
    assert_eq!(of(|e| if let Event::Text(t) = e { Some(t) } else { None }), "I look.");
    assert_eq!(of(|e| if let Event::ToolCall(c) = e { Some(&c.name) } else { None }), "weather");
    assert!(matches!(events.last(), Some(Event::Stop(end)) if end.reason == StopReason::Complete), "{events:?}");
    assert!(events.iter().filter(|e| matches!(e, Event::Stop(_))).count() == 1);
}
