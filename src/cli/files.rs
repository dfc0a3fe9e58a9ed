//! Words for what stands in a model file.

use tealight::convert::recipe::Recipe;
use tealight::gguf::{Array, Value};

/// `general.file_type` of NVFP4, which nothing is quantized to by a recipe. Source: llama.cpp's `llama_ftype`.
const NVFP4: (u64, &str) = (39, "NVFP4");

/// Arrays up to this length are shown in full in JSON; longer ones are vocabularies.
const MAX_LIST: usize = 256;

/// The name of a `general.file_type`.
pub(crate) fn file_type(number: u64) -> Option<&'static str> {
    // llama.cpp marks a type that it has guessed by this bit.
    let number = number & !1024;
    let recipes = Recipe::ALL.iter().map(|r| (r.file_type().into(), r.name()));
    recipes.chain([NVFP4]).find(|(n, _)| *n == number).map(|(_, name)| name)
}

/// Bytes with a binary unit, as llama.cpp shows sizes.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let n = bytes as f64;
    match n {
        _ if n >= KIB.powi(3) => format!("{:.2} GiB", n / KIB.powi(3)),
        _ if n >= KIB.powi(2) => format!("{:.2} MiB", n / KIB.powi(2)),
        _ if n >= KIB => format!("{:.2} KiB", n / KIB),
        _ => format!("{bytes} B"),
    }
}

/// A count with a decimal unit, as people speak of parameters.
pub(crate) fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} B", n as f64 / 1e9),
        1_000_000.. => format!("{:.2} M", n as f64 / 1e6),
        1_000.. => format!("{:.2} K", n as f64 / 1e3),
        _ => n.to_string(),
    }
}

/// A value of metadata as JSON; long arrays as `{"array_of": type, "length": n}`.
pub(crate) fn json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::U64(v) => v.into(),
        Value::I64(v) => v.into(),
        Value::F64(v) => shortest(v).into(),
        Value::Bool(v) => v.into(),
        Value::Str(text) => String::from_utf8_lossy(text).into(),
        Value::Array(array) if is_short(array) => array.values().map(json).collect(),
        Value::Array(array) => serde_json::json!({"array_of": array.element(), "length": array.len()}),
        other => other.to_string().into(),
    }
}

/// A value of metadata on one line.
pub(crate) fn line(value: Value<'_>) -> String {
    match value {
        Value::F64(v) => shortest(v).to_string(),
        Value::Str(text) => {
            // A line shows 80 characters; four bytes each are enough.
            let shown = &text[..text.len().min(4 * 81)];
            tealight::error::printable(&String::from_utf8_lossy(shown))
        }
        Value::Array(array) if array.len() <= 8 && is_short(array) => {
            let all: Vec<_> = array.values().map(line).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Array(array) => format!("{} values of type {}", array.len(), array.element()),
        other => other.to_string(),
    }
}

fn is_short(array: Array<'_>) -> bool {
    array.len() <= MAX_LIST && array.element() != "array"
}

/// The number that the file's f32 stands for in decimal: 1e-5, not 9.999999747378752e-6.
fn shortest(v: f64) -> f64 {
    let narrow = v as f32;
    if f64::from(narrow) == v { narrow.to_string().parse().unwrap_or(v) } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(
            [size(0), size(1536), size(98_362_432), size(3 << 30)],
            ["0 B", "1.50 KiB", "93.81 MiB", "3.00 GiB"]
        );
        assert_eq!([count(999), count(134_515_008), count(7_241_732_096)], ["999", "134.52 M", "7.24 B"]);
    }

    #[test]
    fn a_guessed_file_type_has_its_name() {
        assert_eq!([file_type(15), file_type(1024 + 15), file_type(5)], [Some("Q4_K_M"), Some("Q4_K_M"), None]);
    }

    #[test]
    fn an_f32_shows_the_decimal_that_was_meant() {
        assert_eq!(shortest(f64::from(1e-5f32)), 1e-5);
        assert_eq!(shortest(0.1), 0.1);
    }
}
