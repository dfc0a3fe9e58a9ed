//! What is not supported is refused by its name and place, never ignored.

use tealight::ErrorKind;
use tealight::sample::grammar::Grammar;

fn check(result: tealight::Result<Grammar>, words: &[&str], of: &str) {
    let error = result.err().unwrap_or_else(|| panic!("taken: {of}"));
    assert_eq!(error.kind(), ErrorKind::Usage, "{of}: {error}");
    let text = format!("{error} {}", error.hint().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "{of}: {text} (expected `{word}`)");
    }
    assert!(!text.contains('\n'), "one line: {text}");
}

#[test]
fn every_keyword_that_is_not_supported_is_named() {
    let cases = [
        ("not", "{}"),
        ("if", "{}"),
        ("then", "{}"),
        ("else", "{}"),
        ("contains", "{}"),
        ("minContains", "1"),
        ("maxContains", "1"),
        ("uniqueItems", "true"),
        ("propertyNames", "{}"),
        ("dependencies", "{}"),
        ("dependentRequired", "{}"),
        ("dependentSchemas", "{}"),
        ("unevaluatedItems", "false"),
        ("unevaluatedProperties", "false"),
        ("$dynamicRef", "\"#a\""),
        ("$dynamicAnchor", "\"a\""),
        ("$recursiveRef", "\"#\""),
        ("contentEncoding", "\"base64\""),
        ("contentMediaType", "\"text/html\""),
        ("minLenght", "3"),
    ];
    for (keyword, value) in cases {
        let schema = format!(r#"{{"type":"object","properties":{{"a":{{"{keyword}":{value}}}}}}}"#);
        check(Grammar::json_schema(&schema), &[&format!("`{keyword}`"), "#/properties/a"], &schema);
    }
}

#[test]
fn values_of_keywords_are_checked() {
    let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(110), "}".repeat(110));
    let cases: [(&str, &[&str]); 30] = [
        ("", &["line 1, column 0"]),
        ("{\n \"type\": string}", &["line 2, column"]),
        ("7", &["an object, `true` or `false`"]),
        (r#"{"type":"float"}"#, &["`type`"]),
        (r#"{"type":[]}"#, &["`type`"]),
        (r#"{"enum":[]}"#, &["`enum`"]),
        (r#"{"required":"a"}"#, &["#/required"]),
        (r#"{"required":[1]}"#, &["`required`"]),
        (r#"{"properties":[]}"#, &["`properties`"]),
        (r#"{"anyOf":{}}"#, &["#/anyOf"]),
        (r#"{"anyOf":[]}"#, &["#/anyOf"]),
        (r#"{"minLength":-1}"#, &["`minLength`"]),
        (r#"{"maxItems":"3"}"#, &["`maxItems`"]),
        (r#"{"minItems":1e30}"#, &["`minItems`"]),
        (r#"{"minimum":"1"}"#, &["`minimum`"]),
        (r#"{"multipleOf":0}"#, &["`multipleOf`"]),
        (r#"{"pattern":"a("}"#, &["`pattern`", "column"]),
        (r#"{"pattern":"(?=a)b"}"#, &["look-around"]),
        (r#"{"pattern":"(a)\\1"}"#, &["backreference"]),
        (r#"{"pattern":"\\bword"}"#, &[r"\b"]),
        (r#"{"format":"iri"}"#, &["`iri`", "uuid"]),
        (r#"{"$ref":"https://example.com/s.json"}"#, &["elsewhere"]),
        (r##"{"$ref":"#/$defs/none"}"##, &["does not exist"]),
        (r##"{"$ref":"#none"}"##, &["does not exist"]),
        (r##"{"$ref":"#"}"##, &["refers to itself"]),
        (
            r##"{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
            &["refers to itself"],
        ),
        (r#"{"oneOf":[{"type":"string"},{"type":"string","maxLength":3}]}"#, &["`oneOf`", "overlap"]),
        (r#"{"type":"object","minProperties":3}"#, &["`minProperties`"]),
        ("false", &["nsatisfiable"]),
        (&deep, &["JSON schema"]),
    ];
    for (schema, words) in cases {
        check(Grammar::json_schema(schema), words, schema);
    }
    check(Grammar::json_schema(r#"{"properties":{"a":{"$id":"x"}}}"#), &["`$id`"], "nested id");
    check(Grammar::json_schema(&"[".repeat(100_000)), &["line 1"], "nested lists");
    check(Grammar::json_schema(&" ".repeat((4 << 20) + 1)), &["bytes"], "a long text");
    check(Grammar::json_schema(r#"{"type":"integer","minimum":3,"maximum":2}"#), &["JSON schema"], "empty range");
}

#[test]
fn places_in_grammars_are_told() {
    let nested = format!("root ::= {}\"a\"{}", "(".repeat(200), ")".repeat(200));
    let cases: [(&str, &[&str]); 34] = [
        ("", &["line 1, column 1", "`root`"]),
        ("# nothing\n", &["`root`"]),
        ("a ::= \"x\"", &["`root`"]),
        ("root = \"x\"", &["line 1, column 6", "`::=`"]),
        ("root ::= \"x", &["line 1, column 10", "never closed"]),
        ("root ::= \"x\n\"", &["line 1, column 10"]),
        ("root ::= [a-z", &["line 1, column 10", "never closed"]),
        ("root ::= (\"a\" | \"b\"", &["line 1, column 10", "never closed"]),
        ("root ::= \"a\" )", &["line 1, column 14"]),
        ("root ::= *", &["line 1, column 10", "repeats nothing"]),
        ("root ::= \"a\"\nroot ::= \"b\"", &["line 2, column 1", "twice"]),
        ("root ::= a\n  b ::= \"x\"\n", &["line 1, column 10", "`a` is not defined"]),
        ("root ::= \"a\"{", &["line 1, column 14", "count"]),
        ("root ::= \"a\"{3", &["line 1, column 15"]),
        ("root ::= \"a\"{5,2}", &["line 1, column 13", "least count"]),
        ("root ::= \"a\"{10001}", &["line 1, column 14", "10000"]),
        ("root ::= \"a\"{99999999999999999999}", &["10000"]),
        ("root ::= ((\"a\"{10000}){10000}){10000}", &["too many"]),
        ("root ::= [z-a]", &["line 1, column 11", "before it begins"]),
        ("root ::= []", &["line 1, column 10", "no character"]),
        (r"root ::= [^\x00-\U0010ffff]", &["line 1, column 10", "no character"]),
        (r#"root ::= "\q""#, &["line 1, column 11", r"\q"]),
        (r#"root ::= "\x4""#, &["line 1, column 11", "2 hexadecimal"]),
        (r#"root ::= "\U00110000""#, &["no character of Unicode"]),
        (r#"root ::= "\ud800""#, &["no character of Unicode"]),
        ("root ::= <|eot_id|>", &["line 1, column 10", "tokens"]),
        ("root ::= !<[5]>", &["tokens"]),
        ("root ::= root \"a\"", &["line 1, column 1", "never ends"]),
        ("root ::= a\na ::= \"(\" b\nb ::= a \")\"", &["never ends"]),
        ("root ::= \"a\" ; x", &["line 1, column 14"]),
        ("::= \"a\"", &["line 1, column 1", "name"]),
        ("root ::= \"a\\", &["line 1"]),
        ("\u{1b}[2J ::= \"a\"", &["line 1, column 1"]),
        (&nested, &["128 parentheses"]),
    ];
    for (grammar, words) in cases {
        check(Grammar::gbnf(grammar), words, grammar);
    }
}

#[test]
fn places_in_lark_and_in_regular_expressions_are_told() {
    check(Grammar::lark("start: foo\n"), &["grammar", "foo"], "an unknown rule");
    check(Grammar::lark("start: \"a\"\nb: (\"c\"\n"), &["line"], "an open parenthesis");
    check(Grammar::lark("begin: \"a\"\n"), &["start"], "no start");
    check(Grammar::regex("a(b"), &["line 1, column 2"], "an open group");
    check(Grammar::regex("ab\n[z-a]"), &["line 2, column 2"], "a reversed range");
    check(Grammar::regex("(?=a)b"), &["line 1, column 1"], "look-around");
    check(Grammar::regex(r"(a)\1"), &["line 1"], "a backreference");
    check(Grammar::regex("a|b$"), &["anchors"], "an anchor of one alternative");
    check(Grammar::regex(r"a\bc"), &["word boundaries"], "a word boundary");
}
