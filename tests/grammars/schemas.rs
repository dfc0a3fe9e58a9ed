//! Models with random weights, at temperature 1: what they finish is valid by an independent validator.

use serde_json::Value;
use tealight::StopReason;
use tealight::sample::grammar::Grammar;

use super::{model, options, write};

/// One schema for each thing that schemas are made of.
const SCHEMAS: [&str; 38] = [
    r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string","maxLength":8}},"required":["a","b"],"additionalProperties":false}"#,
    r##"{"$defs":{"p":{"type":"object","properties":{"x":{"$ref":"#/$defs/n"},"y":{"$ref":"#/$defs/n"}},"required":["x","y"],"additionalProperties":false},"n":{"type":"integer","minimum":-9,"maximum":99}},"type":"array","items":{"$ref":"#/$defs/p"},"minItems":1,"maxItems":3}"##,
    r#"{"enum":["red","green",7,null,true,2.5]}"#,
    r#"{"enum":[{"a":1,"b":[1,2]},["x",{"y":null}],"\"quoted\"\n"]}"#,
    r#"{"const":{"kind":"fixed","n":[1,2,3]}}"#,
    r#"{"type":"string","pattern":"^[A-Z]{2}-[0-9]{3,5}$"}"#,
    r#"{"type":"string","pattern":"^(\\d{3}|\\w+@\\s?)\\/[^\\s\"]{1,4}.$"}"#,
    r#"{"type":"string","pattern":"^a|b$","maxLength":9}"#,
    r#"{"type":"string","pattern":"^[\\s\\S]\\s[^\\S]\\S.$"}"#,
    r#"{"type":"string","pattern":"b{2}","maxLength":12}"#,
    r#"{"type":"string","minLength":3,"maxLength":6}"#,
    r#"{"oneOf":[{"type":"integer","minimum":1},{"type":"string","maxLength":4},{"type":"array","items":{"type":"boolean"},"maxItems":3}]}"#,
    r##"{"oneOf":[{"$ref":"#/$defs/cat"},{"$ref":"#/$defs/dog"}],"$defs":{"cat":{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer","minimum":0,"maximum":9}},"required":["kind","lives"],"additionalProperties":false},"dog":{"type":"object","properties":{"kind":{"const":"dog"},"tricks":{"type":"array","items":{"type":"string","maxLength":5},"maxItems":2}},"required":["kind"],"additionalProperties":false}}}"##,
    r#"{"anyOf":[{"type":"null"},{"type":"object","properties":{"v":{"type":"number"}},"required":["v"],"additionalProperties":false}]}"#,
    r#"{"type":["string","null"],"maxLength":5}"#,
    r#"{"type":"array","items":{"type":"integer","minimum":0,"maximum":9},"minItems":2,"maxItems":5}"#,
    r#"{"type":"array","prefixItems":[{"type":"integer"},{"type":"boolean"}],"items":{"type":"null"},"minItems":2,"maxItems":4}"#,
    r#"{"type":"array","prefixItems":[{"type":"boolean"},{"enum":["a","b"]}],"items":false,"minItems":2}"#,
    r#"{"type":"array","items":{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2},"maxItems":3}"#,
    r#"{"type":"integer","minimum":-17,"maximum":1234}"#,
    r#"{"type":"integer","exclusiveMinimum":5,"exclusiveMaximum":9}"#,
    r#"{"type":"number","minimum":0,"maximum":1}"#,
    r#"{"type":"number","minimum":-2.5,"maximum":10.25}"#,
    r#"{"type":"integer","multipleOf":7,"minimum":0,"maximum":100000}"#,
    r#"{"type":"number"}"#,
    r#"{"type":"string","format":"date"}"#,
    r#"{"type":"string","format":"date-time"}"#,
    r#"{"type":"object","properties":{"t":{"type":"string","format":"time"},"d":{"type":"string","format":"duration"}},"required":["t","d"],"additionalProperties":false}"#,
    r#"{"type":"object","properties":{"i":{"type":"string","format":"uuid"},"u":{"type":"string","format":"uri"}},"required":["i","u"],"additionalProperties":false}"#,
    r#"{"type":"object","properties":{"m":{"type":"string","format":"email"},"h":{"type":"string","format":"hostname"}},"required":["m","h"],"additionalProperties":false}"#,
    r#"{"type":"object","properties":{"4":{"type":"string","format":"ipv4"},"6":{"type":"string","format":"ipv6"}},"required":["4","6"],"additionalProperties":false}"#,
    r#"{"type":"object","properties":{"a":{"type":"integer","minimum":0,"maximum":9}},"additionalProperties":{"type":"boolean"},"maxProperties":3,"required":["a"]}"#,
    r#"{"type":"object","properties":{"id":{"type":"integer"}},"required":["id"]}"#,
    r##"{"$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer","minimum":0,"maximum":9},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"},"maxItems":2}},"required":["v"],"additionalProperties":false}},"$ref":"#/$defs/tree"}"##,
    r##"{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]},"v":{"type":"boolean"}},"required":["next","v"],"additionalProperties":false}"##,
    r##"{"allOf":[{"$ref":"#/$defs/a"},{"type":"object","properties":{"b":{"type":"boolean"}},"required":["b"]}],"$defs":{"a":{"type":"object","properties":{"a":{"type":"null"},"b":{},"c":{"enum":[1,2]}},"required":["a"],"additionalProperties":false}}}"##,
    r#"{"type":"object","patternProperties":{"^n_[a-z]{1,3}$":{"type":"integer","minimum":0,"maximum":9}},"additionalProperties":false,"maxProperties":3}"#,
    r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"array","items":[{"type":"integer"},{"type":"string","maxLength":3}],"additionalItems":false,"minItems":1}"#,
];

const MODELS: [&str; 5] = ["llama31", "qwen2", "gemma2", "phi2", "ministral3"];
const N_SEED: u32 = 200;

#[test]
fn every_finished_answer_is_valid() {
    let models = MODELS.map(model);
    let schemas: Vec<(Value, Grammar)> = SCHEMAS
        .iter()
        .map(|text| {
            (serde_json::from_str(text).unwrap(), Grammar::json_schema(text).unwrap_or_else(|e| panic!("{text}: {e}")))
        })
        .collect();
    let mut n_finished = vec![0; SCHEMAS.len()];
    let mut faults = Vec::new();
    for seed in 0..N_SEED {
        let i = seed as usize % SCHEMAS.len();
        let (schema, grammar) = &schemas[i];
        let model = &models[seed as usize % MODELS.len()];
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        let (text, reason) = match write(model, &options(grammar, seed, 400)) {
            Ok(answer) => answer,
            Err(e) => {
                faults.push(format!("{seed}: {}: {e}", SCHEMAS[i]));
                continue;
            }
        };
        if matches!(reason, StopReason::Length) {
            // Cut, but the beginning of what the schema allows: no error came, and it is the beginning of JSON.
            let end = serde_json::from_str::<Value>(&text).err();
            if end.is_some_and(|e| !e.is_eof()) && !text.ends_with('\u{fffd}') {
                faults.push(format!("{seed}: {}: cut answer is no prefix of JSON: {text}", SCHEMAS[i]));
            }
            continue;
        }
        n_finished[i] += 1;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if validator.is_valid(&value) => {}
            Ok(_) => faults.push(format!("{seed}: {}: invalid: {text}", SCHEMAS[i])),
            Err(e) => faults.push(format!("{seed}: {}: no JSON ({e}): {text}", SCHEMAS[i])),
        }
    }
    println!("finished by schema: {n_finished:?}, in all {} of {N_SEED}", n_finished.iter().sum::<i32>());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(n_finished.iter().sum::<i32>() > 120, "{n_finished:?}");
    assert!(n_finished.iter().filter(|n| **n > 0).count() >= 30, "{n_finished:?}");
}

#[test]
fn the_likeliest_tokens_keep_to_the_form_too() {
    let model = model("llama31");
    let grammar = Grammar::json_schema(SCHEMAS[1]).unwrap();
    let mut greedy = options(&grammar, 1, 400);
    greedy.sampling.temp = 0.0;
    let (text, reason) = write(&model, &greedy).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMAS[1]).unwrap()).unwrap();
    assert!(reason == StopReason::Length || validator.is_valid(&serde_json::from_str(&text).unwrap()), "{text}");
}

#[test]
fn a_form_that_is_complete_ends_the_answer_and_one_without_a_way_on_is_an_error() {
    let model = model("llama31");
    let yes = Grammar::regex("yes|no").unwrap();
    for seed in 0..8 {
        let (text, reason) = write(&model, &options(&yes, seed, 50)).unwrap();
        assert!(text == "yes" || text == "no", "{text}");
        assert_eq!(reason, StopReason::Complete);
    }
    let (text, reason) = write(&model, &options(&Grammar::regex("").unwrap(), 1, 50)).unwrap();
    assert_eq!((text.as_str(), reason), ("", StopReason::Complete));
    // Every token is forbidden by a bias.
    let mut stuck = options(&yes, 1, 50);
    stuck.sampling.logit_bias = (0..model.n_vocab()).map(|id| (id, f32::NEG_INFINITY)).collect();
    let error = write(&model, &stuck).unwrap_err();
    assert_eq!(error.kind(), tealight::ErrorKind::Usage);
    assert!(error.to_string().contains("dead end"), "{error}");
}
