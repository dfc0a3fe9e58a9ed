//! Calls within a block, form by form. Whatever is not wholly understood is no call.

use serde_json::{Map, Value};

use super::ToolCall;
use super::literal::{self, Literals, Style};

/// How the text of a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// JSON objects, or lists of them, one after the other.
    Json,
    /// Objects with the name of the tool as their only key.
    Keyed,
    /// JSON, or `<function=NAME>` with `<parameter=KEY>`, or a name and `<arg_key>` with `<arg_value>`.
    Tagged,
    /// `<invoke name="NAME">` with `<parameter name="KEY">`; tags begin with this text.
    Invoke(&'static str),
    /// `NAME>` with JSON or `<parameter=KEY>` behind it.
    Function,
    /// A JSON list, or `NAME[CALL_ID]ID[ARGS]` and an object.
    Mistral,
    DeepSeek,
    Kimi,
    Solar,
    /// `call:NAME{..}` with strings between marks.
    Gemma(&'static str),
    /// `[name(key=value), ..]`.
    Python,
    /// JSON, or `name.call(key=value)`, or a program.
    PythonTag,
}

/// The calls of a block; `None` where it is not wholly of this form. Ids that are not given are empty.
pub(super) fn read(body: Body, text: &str, tools: Option<&Value>) -> Option<Vec<ToolCall>> {
    let calls = match body {
        Body::Json => json(text),
        Body::Keyed => keyed(text),
        Body::Tagged => match text.trim_start() {
            t if t.starts_with(['{', '[']) => json(t),
            t if t.starts_with("<function=") => functions(t, tools),
            t => arg_keys(t, tools).map(|call| vec![call]),
        },
        Body::Invoke(prefix) => invokes(text, prefix, tools),
        Body::Function => function(text, tools).map(|call| vec![call]),
        Body::Mistral => match text.trim_start() {
            t if t.starts_with(['{', '[']) => json(t),
            t => mistral(t).map(|call| vec![call]),
        },
        Body::DeepSeek => between(text, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", deepseek),
        Body::Kimi => between(text, "<|tool_call_begin|>", "<|tool_call_end|>", kimi),
        Body::Solar => between(text, "<|tool_call:begin|>", "<|tool_call:end|>", solar),
        Body::Gemma(mark) => gemma(text, mark).map(|call| vec![call]),
        Body::Python => python_list(text),
        Body::PythonTag => python_tag(text),
    };
    calls.filter(|calls| !calls.is_empty() && calls.iter().all(|c| !c.name.is_empty()))
}

fn call(id: &str, name: &str, arguments: Value) -> Option<ToolCall> {
    let arguments = match arguments {
        Value::Null => Value::Object(Map::new()),
        Value::String(text) => serde_json::from_str(&text).ok()?,
        other => other,
    };
    arguments.is_object().then(|| ToolCall { id: id.to_owned(), name: name.trim().to_owned(), arguments })
}

/// JSON values one after the other, with nothing but blanks, commas and semicolons between them.
fn values(text: &str) -> Option<Vec<Value>> {
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        if rest.is_empty() {
            return Some(found);
        }
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        found.push(stream.next()?.ok()?);
        rest = &rest[stream.byte_offset()..];
    }
}

/// Is a text the beginning of JSON that goes on?
pub(super) fn is_unfinished_json(text: &str) -> bool {
    let mut stream = serde_json::Deserializer::from_str(text.trim_start()).into_iter::<Value>();
    matches!(stream.find_map(Result::err), Some(e) if e.is_eof())
}

fn json(text: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for value in values(text)? {
        match value {
            Value::Array(items) => calls.extend(items.iter().map(object).collect::<Option<Vec<_>>>()?),
            value => calls.push(object(&value)?),
        }
    }
    Some(calls)
}

fn object(value: &Value) -> Option<ToolCall> {
    let value = if value["function"].is_object() { &value["function"] } else { value };
    let get = |keys: [&str; 3]| keys.iter().find_map(|key| value.get(*key));
    let name = get(["name", "tool_name", "function"])?.as_str()?;
    let arguments = get(["arguments", "parameters", "args"]).cloned().unwrap_or_default();
    let id = ["id", "tool_call_id"].iter().find_map(|key| value.get(*key)?.as_str());
    call(id.unwrap_or_default(), name, arguments)
}

fn keyed(text: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for value in values(text)? {
        let items = if value.is_array() { value } else { Value::Array(vec![value]) };
        for item in items.as_array()? {
            let (name, arguments) = item.as_object().filter(|o| o.len() == 1)?.iter().next()?;
            calls.push(call("", name, arguments.clone())?);
        }
    }
    Some(calls)
}

/// What a tag's text means: the tool's own definition says what is a string; else whatever reads as JSON or as a
/// Python list is that.
fn typed(text: &str, name: &str, key: &str, tools: Option<&Value>) -> Value {
    // Templates put a line end on either side.
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let of_name = |tool: &&Value| tool["name"] == name || tool["function"]["name"] == name;
    let tool = tools.and_then(Value::as_array).and_then(|t| t.iter().find(of_name));
    let schema = tool.map(|t| if t["function"].is_object() { &t["function"] } else { t });
    if schema.is_some_and(|s| s["parameters"]["properties"][key]["type"] == "string") {
        return text.into();
    }
    let listed = || literal::python(text).filter(|_| text.starts_with(['[', '{']) || matches!(text, "True" | "False"));
    serde_json::from_str(text).ok().or_else(listed).unwrap_or_else(|| text.into())
}

/// `<function=NAME>..</function>`, one after the other.
fn functions(text: &str, tools: Option<&Value>) -> Option<Vec<ToolCall>> {
    let mut rest = text.trim();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (body, behind) = rest.strip_prefix("<function=")?.split_once("</function>")?;
        calls.push(function(body, tools)?);
        rest = behind.trim_start();
    }
    Some(calls)
}

/// `NAME>` and what stands behind it.
fn function(text: &str, tools: Option<&Value>) -> Option<ToolCall> {
    let (name, body) = text.split_once('>')?;
    let name = name.trim().trim_matches('"');
    if body.trim_start().starts_with('{') {
        return call("", name, serde_json::from_str(body).ok()?);
    }
    let mut arguments = Map::new();
    let mut rest = body.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest.strip_prefix("<parameter=")?.split_once('>')?;
        let (value, behind) = behind.split_once("</parameter>")?;
        arguments.insert(key.to_owned(), typed(value, name, key, tools));
        rest = behind.trim_start();
    }
    call("", name, Value::Object(arguments))
}

fn invokes(text: &str, prefix: &str, tools: Option<&Value>) -> Option<Vec<ToolCall>> {
    let (open, close) = (format!("<{prefix}invoke name=\""), format!("</{prefix}invoke>"));
    let (open_key, close_key) = (format!("<{prefix}parameter name=\""), format!("</{prefix}parameter>"));
    let mut rest = text.trim();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (name, behind) = rest.strip_prefix(&open)?.split_once("\">")?;
        let (mut body, behind) = behind.split_once(&close)?;
        rest = behind.trim_start();
        let mut arguments = Map::new();
        body = body.trim_start();
        while !body.is_empty() {
            let (key, behind) = body.strip_prefix(&open_key)?.split_once('"')?;
            let (attributes, behind) = behind.split_once('>')?;
            let (value, behind) = behind.split_once(&close_key)?;
            let value = match attributes.trim() {
                "string=\"true\"" => value.into(),
                _ => typed(value, name, key, tools),
            };
            arguments.insert(key.to_owned(), value);
            body = behind.trim_start();
        }
        calls.push(call("", name, Value::Object(arguments))?);
    }
    Some(calls)
}

/// A name, then `<arg_key>` and `<arg_value>` in turn.
fn arg_keys(text: &str, tools: Option<&Value>) -> Option<ToolCall> {
    let n = text.find(['<', '\n']).unwrap_or(text.len());
    let (name, rest) = text.split_at(n);
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let mut arguments = Map::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let (key, behind) = rest.strip_prefix("<arg_key>")?.split_once("</arg_key>")?;
        let (value, behind) = behind.trim_start().strip_prefix("<arg_value>")?.split_once("</arg_value>")?;
        arguments.insert(key.to_owned(), typed(value, name, key, tools));
        rest = behind.trim_start();
    }
    call("", name, Value::Object(arguments))
}

fn mistral(text: &str) -> Option<ToolCall> {
    let n = text.find(['[', '{']).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(n);
    let mut id = "";
    if let Some(behind) = rest.strip_prefix("[CALL_ID]") {
        (id, rest) = behind.split_at(behind.find(['[', '{'])?);
    }
    let arguments = rest.strip_prefix("[ARGS]").unwrap_or(rest);
    call(id.trim(), name, serde_json::from_str(arguments.trim()).ok()?)
}

/// The calls between marks, with nothing but blanks outside of them. The last one may lack its end.
fn between(text: &str, open: &str, close: &str, read: fn(&str) -> Option<ToolCall>) -> Option<Vec<ToolCall>> {
    let mut rest = text.trim();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let body = rest.strip_prefix(open)?;
        let (body, behind) = body.split_once(close).unwrap_or((body, ""));
        calls.push(read(body)?);
        rest = behind.trim_start();
    }
    Some(calls)
}

/// `function<sep>NAME` and JSON in a fence, or `NAME<sep>` and JSON.
fn deepseek(text: &str) -> Option<ToolCall> {
    let (kind, rest) = text.split_once("<｜tool▁sep｜>")?;
    match rest.split_once("```json") {
        Some((name, fenced)) => {
            let body = fenced.trim_end().strip_suffix("```").unwrap_or(fenced);
            call("", name, serde_json::from_str(body.trim()).ok()?)
        }
        None => call("", kind, serde_json::from_str(rest.trim()).ok()?),
    }
}

/// `functions.NAME:0` and JSON.
fn kimi(text: &str) -> Option<ToolCall> {
    let (id, arguments) = text.split_once("<|tool_call_argument_begin|>")?;
    let id = id.trim();
    let name = id.strip_prefix("functions.").unwrap_or(id);
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    call(id, name, serde_json::from_str(arguments.trim()).ok()?)
}

fn solar(text: &str) -> Option<ToolCall> {
    let (id, rest) = text.split_once("<|tool_call:name|>")?;
    let (name, arguments) = rest.split_once("<|tool_call:args|>")?;
    call(id.trim(), name, serde_json::from_str(arguments.trim()).ok()?)
}

fn gemma(text: &str, mark: &str) -> Option<ToolCall> {
    let mut literals = Literals::new(text.trim().strip_prefix("call:")?, Style::Marked(mark));
    let name = literals.name()?.to_owned();
    if !literals.take("{") {
        return None;
    }
    let arguments = literals.entries(0)?;
    if !literals.is_at_end() {
        return None;
    }
    call("", &name, Value::Object(arguments))
}

fn python_list(text: &str) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    if text.starts_with("[{") || text.starts_with('{') {
        return json(text);
    }
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let mut literals = Literals::new(text, Style::Python);
    let mut calls = Vec::new();
    while !literals.is_at_end() {
        let (name, arguments) = literals.call()?;
        calls.push(call("", name, Value::Object(arguments))?);
        if !literals.take(",") && !literals.is_at_end() {
            return None;
        }
    }
    Some(calls)
}

fn python_tag(text: &str) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    if let Some(calls) = text.starts_with('{').then(|| json(text)).flatten() {
        return Some(calls);
    }
    let mut literals = Literals::new(text, Style::Python);
    if let Some((name, arguments)) = literals.call()
        && let Some(name) = name.strip_suffix(".call")
        && literals.is_at_end()
    {
        return Some(vec![call("", name, Value::Object(arguments))?]);
    }
    program(text)
}

/// A program for the tool that runs Python.
pub(super) fn program(text: &str) -> Option<Vec<ToolCall>> {
    let arguments = Map::from_iter([("code".to_owned(), text.into())]);
    (!text.is_empty()).then(|| vec![ToolCall { id: String::new(), name: "python".into(), arguments: arguments.into() }])
}
