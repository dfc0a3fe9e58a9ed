//! A full context: stop, shift, error; and the parts of an answer that a conversation gives.

mod common;

use std::path::{Path, PathBuf};

use common::edit::{Edit, TempDir};
use serde_json::{Value, json};
use tealight::plan::CacheType;
use tealight::sample::SampleOptions;
use tealight::{
    Chat, ContextOverflow, ErrorKind, Event, GenerateOptions, Model, ModelOptions, Session, SessionOptions,
};
use tealight::{StopReason, Summary, Want};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn model(name: &str) -> Model {
    Model::open(fixture(name), &ModelOptions::default().with_threads(2)).unwrap()
}

fn options(max_tokens: u32, overflow: ContextOverflow) -> GenerateOptions {
    let mut sampling = SampleOptions::default();
    (sampling.seed, sampling.ignore_eos) = (7, true);
    let mut options = GenerateOptions::new(sampling);
    (options.max_tokens, options.overflow) = (Some(max_tokens), overflow);
    options
}

/// Text, what was left out, and the end of events that succeed.
fn collect(events: impl Iterator<Item = tealight::Result<Event>>) -> (String, Vec<(usize, usize)>, Summary) {
    let (mut text, mut left_out, mut end) = (String::new(), Vec::new(), None);
    for event in events {
        match event.unwrap() {
            Event::Text(t) => text += &t,
            Event::Shift { messages, tokens } => left_out.push((messages, tokens)),
            Event::Stop(summary) => end = Some(summary),
            _ => {}
        }
    }
    (text, left_out, end.expect("a summary"))
}

/// Kept in numbers that do not depend on how many tokens were read at once.
fn exact(n_ctx: u32) -> SessionOptions {
    SessionOptions::default().with_ctx(n_ctx).with_cache(CacheType::F32, CacheType::F32)
}

/// What a session would compute next is what a new one computes of the same tokens.
fn assert_as_new(session: &mut Session, model: &Model, n_ctx: u32) {
    let tokens = session.tokens().to_vec();
    let mut fresh = model.session(&exact(n_ctx)).unwrap();
    fresh.feed(&tokens[..tokens.len() - 1], u32::MAX, Want::None, &mut |_| {}).unwrap();
    session.rewind(tokens.len() - 1).unwrap();
    let last = &tokens[tokens.len() - 1..];
    let want = fresh.feed(last, 1, Want::Last, &mut |_| {}).unwrap().to_vec();
    let got = session.feed(last, 1, Want::Last, &mut |_| {}).unwrap();
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
}

#[test]
fn text_goes_on_without_its_beginning() {
    for name in ["llama31", "gemma3"] {
        let model = Model::open(fixture(name), &ModelOptions::default().with_exact(true)).unwrap();
        let mut session = model.session(&exact(40)).unwrap();
        let bos = model.vocab().unwrap().bos();
        let prompt: Vec<u32> = bos.into_iter().chain(20..40).collect();
        let (_, left_out, end) = collect(session.generate(&prompt, &options(100, ContextOverflow::Shift)).unwrap());
        assert_eq!((end.reason, end.n_generated), (StopReason::Length, 100), "{name}");
        assert!(left_out.len() >= 3 && left_out.iter().all(|(m, t)| *m == 0 && *t >= 19), "{name}: {left_out:?}");
        assert_eq!(session.tokens().first().copied(), bos.or(Some(session.tokens()[0])), "{name}");
        assert_as_new(&mut session, &model, 40);
    }
}

#[test]
fn text_stops_or_fails_in_a_full_context() {
    let model = model("llama31");
    let mut session = model.session(&SessionOptions::default().with_ctx(40)).unwrap();
    let prompt: Vec<u32> = (20..40).collect();
    let (text, left_out, end) = collect(session.generate(&prompt, &options(100, ContextOverflow::Stop)).unwrap());
    assert_eq!((end.reason, end.n_generated, left_out.len()), (StopReason::ContextFull, 21, 0));
    session.clear();
    let events: Vec<_> = session.generate(&prompt, &options(100, ContextOverflow::Error)).unwrap().collect();
    let said: String =
        events.iter().filter_map(|e| if let Ok(Event::Text(t)) = e { Some(t.as_str()) } else { None }).collect();
    assert_eq!(said, text, "what was written is not lost");
    let error = events.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("context is full") && error.hint().unwrap().contains("-c"), "{error}");
    assert_eq!(events.iter().filter(|e| e.is_err()).count(), 1);
}

fn chat(model: &Model, n_ctx: u32) -> Chat {
    let mut chat = model.chat(&SessionOptions::default().with_ctx(n_ctx)).unwrap();
    chat.set_system(Some("Be brief."));
    chat
}

#[test]
fn a_conversation_leaves_out_whole_turns_and_keeps_the_system_message() {
    let model = model("qwen3");
    let mut chat = chat(&model, 200);
    let options = options(12, ContextOverflow::Shift);
    let mut n_left_out = 0;
    for turn in 0..12 {
        let question = format!("Question {turn}, if you please?");
        let (_, left_out, end) = collect(chat.say(&question, &options).unwrap());
        assert_eq!(end.reason, StopReason::Length);
        n_left_out += left_out.iter().map(|l| l.0).sum::<usize>();
        assert_eq!(n_left_out % 2, 0, "a question and its answer go together");
        // What the model read is what a conversation of the rest would be.
        let mut visible = vec![chat.messages()[0].clone()];
        visible.extend_from_slice(&chat.messages()[1 + n_left_out..chat.messages().len() - 1]);
        let tokens = model.encode_chat(&visible).unwrap();
        assert!(chat.session().tokens().starts_with(&tokens), "turn {turn}");
    }
    assert!(n_left_out >= 4, "{n_left_out}");
    assert_eq!(chat.messages().len(), 1 + 24, "nothing that was said is lost");
    // Of one turn nothing can be left out.
    chat.clear();
    let error = chat.say(&"word ".repeat(300), &options).err().expect("too long");
    assert_eq!((error.kind(), chat.messages().len()), (ErrorKind::Usage, 1));
    // Nothing is left out for a question that does not fit anyway.
    collect(chat.say("First?", &options).unwrap());
    assert!(chat.say(&"word ".repeat(300), &options).is_err());
    collect(chat.say("Second?", &options).unwrap());
    let n = chat.messages().len() - 1;
    assert!(chat.session().tokens().starts_with(&model.encode_chat(&chat.messages()[..n]).unwrap()));
}

#[test]
fn an_answer_goes_on_when_turns_before_it_are_left_out() {
    let model = model("qwen3");
    let mut chat = chat(&model, 200);
    collect(chat.say("First?", &options(30, ContextOverflow::Stop)).unwrap());
    collect(chat.say("Second?", &options(20, ContextOverflow::Stop)).unwrap());
    let room = chat.session().room();
    let mut events = Vec::new();
    let mut turn = chat.say("Third?", &options(90, ContextOverflow::Shift)).unwrap();
    for event in turn.by_ref() {
        events.push(event.unwrap());
    }
    drop(turn);
    let at = events.iter().position(|e| matches!(e, Event::Shift { .. })).expect("a shift");
    assert!(events[..at].iter().any(|e| matches!(e, Event::Text(_))), "in the middle of the answer");
    let Some(Event::Stop(end)) = events.last() else { panic!("no end") };
    assert!(end.n_generated == 90 && end.n_generated > room, "{end:?}");
    let messages = chat.messages().to_vec();
    let Event::Shift { messages: n, .. } = events[at] else { unreachable!() };
    let visible = [&messages[..1], &messages[1 + n..messages.len() - 1]].concat();
    assert!(chat.session().tokens().starts_with(&model.encode_chat(&visible).unwrap()));
    let text: String =
        events.iter().filter_map(|e| if let Event::Text(t) = e { Some(t.as_str()) } else { None }).collect();
    assert_eq!(messages.last().unwrap()["content"], text);
    // Alone it stops.
    let (_, left_out, end) = collect(chat.say("Fourth?", &options(300, ContextOverflow::Shift)).unwrap());
    assert!(end.reason == StopReason::ContextFull && !left_out.is_empty(), "{end:?}");
}

#[test]
fn a_conversation_that_does_not_fit_says_what_helps() {
    let model = model("qwen3");
    let mut chat = chat(&model, 120);
    for overflow in [ContextOverflow::Stop, ContextOverflow::Error] {
        let error = chat.say(&"word ".repeat(200), &options(5, overflow)).err().expect("too long");
        assert!(error.hint().unwrap().contains("--context-overflow shift"), "{error}");
    }
    let error = chat.say("Hi", &options(300, ContextOverflow::Error)).unwrap().last().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(chat.messages().len(), 3, "the answer so far stays");
}

/// The fixture with a template that opens the thoughts itself.
fn thinking(folder: &TempDir) -> Model {
    let mut file = Edit::read(&fixture("qwen3"));
    let template = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}[{{ m.role }}]\
                    {{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]<think>\n{% endif %}";
    file.set("tokenizer.chat_template", template);
    let path = folder.path().join("thinking.gguf");
    file.write(&path);
    Model::open(path, &ModelOptions::default()).unwrap()
}

#[test]
fn thoughts_that_the_prompt_opens_are_events_of_their_own() {
    let folder = TempDir::new("thinking");
    let model = thinking(&folder);
    let mut chat = model.chat(&SessionOptions::default().with_ctx(200)).unwrap();
    let mut options = options(20, ContextOverflow::Stop);
    let events: Vec<Event> = chat.say("Hello", &options).unwrap().map(Result::unwrap).collect();
    let thoughts: String =
        events.iter().filter_map(|e| if let Event::Reasoning(t) = e { Some(t.as_str()) } else { None }).collect();
    assert!(!thoughts.is_empty() && !events.iter().any(|e| matches!(e, Event::Text(_))), "{events:?}");
    let message = chat.messages().last().unwrap();
    assert_eq!((&message["content"], &message["reasoning_content"]), (&"".into(), &thoughts.as_str().into()));
    chat.undo();
    options.plain = true;
    let (text, _, _) = collect(chat.say("Hello", &options).unwrap());
    assert_eq!(text.trim(), thoughts.trim());
}

#[test]
fn tools_go_to_the_template() {
    let folder = TempDir::new("tools");
    let model = thinking(&folder);
    let mut chat = model.chat(&SessionOptions::default().with_ctx(200)).unwrap();
    let refused =
        |tools: Value, chat: &mut Chat| assert_eq!(chat.set_tools(Some(tools)).unwrap_err().kind(), ErrorKind::Usage);
    refused(json!({}), &mut chat);
    refused(json!([{"function": {}}]), &mut chat);
    let n_before = {
        collect(chat.say("Hi", &options(1, ContextOverflow::Stop)).unwrap());
        chat.session().tokens().len()
    };
    chat.clear();
    chat.set_tools(Some(json!([{"type": "function", "function": {"name": "weather_in_a_city"}}]))).unwrap();
    collect(chat.say("Hi", &options(1, ContextOverflow::Stop)).unwrap());
    assert!(chat.session().tokens().len() > n_before);
}
