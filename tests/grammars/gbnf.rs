//! GBNF: texts that grammars match and texts that they do not, token by token.

use tealight::sample::grammar::Grammar;

use super::{fixture, matches, table, take, vocab};

/// JSON, written anew after RFC 8259 with the names of llama.cpp's `json.gbnf`.
const JSON: &str = r#"
# A text of JSON that is an object or a list.
root   ::= object | array
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::= "{" ws ( member ( "," ws member )* )? "}" ws
member ::= string ":" ws value
array  ::= "[" ws ( value ( "," ws value )* )? "]" ws

string ::= "\"" (
    [^"\\\x7F\x00-\x1F]
  | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} )
)* "\"" ws
number ::= "-"? ( "0" | [1-9] [0-9]{0,15} ) ( "." [0-9]+ )? ( [eE] [-+]? [0-9]{1,3} )? ws

ws ::= | " " | "\n" [ \t]{0,20}
"#;

const ARITHMETIC: &str = r#"
root ::= expr "=" space? num "\n"
expr ::= expr [-+*/] term | term   # left recursion
term ::= num | "(" expr ")"
num ::= [0-9]+ ("." [0-9]{1,2})?
space ::= " "
"#;

fn check(grammar: &str, accepted: &[&str], refused: &[&str]) {
    let grammar_ = Grammar::parse(grammar).unwrap_or_else(|e| panic!("{grammar}: {e}"));
    for name in ["llama31", "gemma2"] {
        let (table, vocab) = (table(name), vocab(&fixture(name)));
        for text in accepted {
            let taken = take(&mut grammar_.guide(&table).unwrap(), &vocab, text);
            assert!(taken.2, "{name}: {grammar}: refused {text:?} behind {} of {} tokens", taken.0, taken.1);
        }
        for text in refused {
            assert!(!matches(&grammar_, &table, &vocab, text), "{name}: {grammar}: took {text:?}");
        }
    }
}

#[test]
fn json_is_json() {
    check(
        JSON,
        &[
            "{}",
            "[]",
            "{\"a\": 1, \"b\": [true, null, -0.5e+3, \"x\\n\\u00e9 \\\" é\"]}",
            "[[[[1]]], {\"\":{}}]",
            "{\n  \"a\": \"b\"\n}\n",
        ],
        &["", "1", "{\"a\"}", "[1,]", "[01]", "{\"a\":1,}", "[\"\\x\"]", "[\"a\nb\"]", "[tru]", "[1] [2]", "{'a':1}"],
    );
}

#[test]
fn rules_that_need_themselves_on_the_left_are_taken() {
    check(
        ARITHMETIC,
        &["1=1\n", "1+2*(3-4.25)=7\n", "((1))= 1\n", "12/3/4-5=6\n"],
        &["1+=2\n", "=1\n", "1=1", "(1=1\n", "1.234=1\n", "1=  1\n"],
    );
}

#[test]
fn items_and_repetitions_mean_what_they_say() {
    check("root ::= \"a\" \"b\"? \"c\"*", &["a", "ab", "abccc", "ac"], &["", "b", "abb", "acb"]);
    check("root ::= [ab]+ | \"\"", &["", "a", "abba"], &["c", "abc"]);
    check("root ::= \"x\"{3}", &["xxx"], &["xx", "xxxx", ""]);
    check("root ::= \"xy\"{2,}", &["xyxy", "xyxyxy"], &["xy", "xyx"]);
    check("root ::= (\"a\" | [0-9]){0,2}", &["", "a", "1a"], &["aaa", "b"]);
    check("root ::= . .", &["ab", "é\n", "日本"], &["a", "abc"]);
    check("root ::= [^a-c\\n]", &["d", "é", "😀"], &["a", "b", "\n", "dd"]);
    check(r#"root ::= "\x41\u00e9\U0001F600\t\"\\" [\]\-\[]"#, &["Aé😀\t\"\\]", "Aé😀\t\"\\-"], &["Aé😀\t\"\\x"]);
    check("root ::= item+\nitem ::= \"- \" [^\\n]{1,20} \"\\n\"", &["- a\n", "- a b\n- é\n"], &["- \n", "-a\n", "- a"]);
    check("root ::= [一-龥ぁ-ゖァ-ヶ]+ [αβ-δ]", &["日本語α", "ひらがなγ"], &["abcα", "日本", "日ε"]);
    // A longest match of terminals would take `if` and find no way on.
    check(
        "root ::= stmt\nstmt ::= \"if\" \"x\" | [a-z] \"fy\" | \"(\" stmt \")\"",
        &["ifx", "ify", "((ify))"],
        &["if", "(ifx"],
    );
    check("root ::= a\na ::= [a-z]* \"end\" | \"(\" a \")\"", &["end", "endend", "(aend)"], &["en", "(end"]);
    check("root ::= \"(\" root \")\" | ", &["", "()", "((()))"], &["(", "())"]);
    check("root ::= (\"a\" |) [b-]", &["ab", "-"], &["a"]);
}

#[test]
fn lark_is_told_from_gbnf() {
    let lark = "start: \"a\" | \"(\" start \")\"\n";
    check(lark, &["a", "((a))"], &["b", "(a", "()"]);
    check(&format!("%llguidance {{}}\n{lark}"), &["a", "(a)"], &["b"]);
}

#[test]
fn regular_expressions_match_whole_texts() {
    let (table, vocab) = (table("llama31"), vocab(&fixture("llama31")));
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (r"^\d{3}-[a-f/]+$", &["123-abc", "000-a/f"], &["12-a", "123-", "123-ag"]),
        ("(?i)yes|no", &["yes", "YES", "No"], &["y", "yesno"]),
        ("a*", &["", "aaa"], &["b"]),
        (r"[^\n]{2}é", &["abé"], &["aé", "\nbé"]),
        (r"x\$", &["x$"], &["x"]),
    ];
    for (regex, accepted, refused) in cases {
        let grammar = Grammar::regex(regex).unwrap_or_else(|e| panic!("{regex}: {e}"));
        accepted.iter().for_each(|t| assert!(matches(&grammar, &table, &vocab, t), "{regex}: {t:?}"));
        refused.iter().for_each(|t| assert!(!matches(&grammar, &table, &vocab, t), "{regex}: {t:?}"));
    }
}
