//! JSON as Python writes it: `Infinity`, `-Infinity` and `NaN` stand for numbers that JSON does not have.

use serde_json::{Error, Value};

/// The value of a file. Numbers that are none become texts of their names, so that whoever asks for a number is told.
///
/// # Errors
/// Where it is no JSON, not even Python's.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(e) => match quoted(bytes) {
            Some(text) => serde_json::from_slice(&text).map_err(|_| e),
            None => Err(e),
        },
    }
}

/// The file with such numbers in quotes, if there are any.
fn quoted(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let (mut rest, mut found) = (bytes, false);
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'"' {
            let text = &rest[..string_len(rest)];
            out.extend(text);
            rest = &rest[text.len()..];
        } else if let Some(name) = NAMES.iter().find(|n| rest.starts_with(n.as_bytes())) {
            out.push(b'"');
            out.extend(name.as_bytes());
            out.push(b'"');
            (rest, found) = (&rest[name.len()..], true);
        } else {
            out.push(byte);
            rest = behind;
        }
    }
    found.then_some(out)
}

/// Bytes of the string that stands at the beginning, with its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut escaped = false;
    for (i, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

const NAMES: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_json_lacks_become_their_names() {
        let value = parse(br#"{"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "Infinity \" NaN": 1}"#).unwrap();
        assert_eq!(value, json!({"a": [0.0, "Infinity"], "b": "-Infinity", "c": "NaN", "Infinity \" NaN": 1}));
        for text in ["", "{", r#"{"a": Infinit}"#, r#"{"a" NaN}"#, "\"Infinity", "\"\\"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
