//! Chat templates: recorded renderings, the language, the origin of text, and programs from strangers.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod common;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{read_json, shared};
use proptest::prelude::*;
use serde_json::{Value, json};
use tealight::gguf::Gguf;
use tealight::text::{ChatInput, ChatTemplate, Trust};

/// 2026-01-15 00:00:00, the clock of the recorded renderings.
const NOW_S: i64 = 1_768_435_200;

fn input(case: &Value) -> ChatInput<'_> {
    let mut input = ChatInput::new(case["messages"].as_array().map_or(&[], Vec::as_slice));
    input.tools = Some(&case["tools"]).filter(|t| !t.is_null());
    input.add_generation_prompt = case["add_generation_prompt"] == json!(true);
    input.bos_token = case["bos_token"].as_str().unwrap_or("");
    input.eos_token = case["eos_token"].as_str().unwrap_or("");
    input.extra = case["extra"].as_object().cloned().unwrap_or_default();
    input.now_s = Some(NOW_S);
    input
}

/// What is wrong with the rendering of a case, if anything.
fn check_case(template: &ChatTemplate, case: &Value) -> Result<(), String> {
    let got = template.prompt(&input(case));
    match (case["rendered"].as_str(), got) {
        (Some(want), Ok(prompt)) => {
            let mut at = 0;
            for (range, _) in &prompt.parts {
                if range.start != at || range.is_empty() {
                    return Err(format!("parts do not cover the text at {at}"));
                }
                at = range.end;
            }
            if at != prompt.text.len() {
                return Err("parts end before the text".into());
            }
            if prompt.text == want {
                return Ok(());
            }
            let same = want.bytes().zip(prompt.text.bytes()).take_while(|(a, b)| a == b).count();
            let tail = |s: &str| String::from_utf8_lossy(&s.as_bytes()[same..s.len().min(same + 60)]).into_owned();
            Err(format!("differs at byte {same}: want {:?}, got {:?}", tail(want), tail(&prompt.text)))
        }
        (Some(_), Err(e)) => Err(format!("must render, but: {e}")),
        (None, Ok(_)) => Err(format!("must fail with {}", case["error"])),
        (None, Err(e)) => match case["error"].as_str().and_then(|e| e.strip_prefix("TemplateError: ")) {
            Some(raised) if !e.to_string().contains(raised) => Err(format!("lost the words {raised:?}: {e}")),
            _ => Ok(()),
        },
    }
}

#[test]
fn recorded_renderings_are_equal() {
    let Some(folder) = shared("templates") else { return };
    let (mut n_case, mut wrong) = (0, String::new());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "jinja")) {
        let source = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let template = match ChatTemplate::new(&source) {
            Ok(t) => t,
            Err(e) => {
                writeln!(wrong, "{name}: {e}").unwrap();
                continue;
            }
        };
        for case in read_json(&path.with_extension("json")).as_array().unwrap() {
            n_case += 1;
            if let Err(e) = check_case(&template, case) {
                writeln!(wrong, "{name} / {}: {e}", case["case"]).unwrap();
            }
        }
    }
    println!("{n_case} cases");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(n_case > 900, "only {n_case} cases found");
}

#[test]
fn templates_of_model_files_render_as_recorded() {
    let Some(folder) = shared("fixtures") else { return };
    let (mut n_case, mut wrong) = (0, String::new());
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let (model, expect) = (folder.join("model.gguf"), folder.join("expect.json"));
        if !model.is_file() || !expect.is_file() {
            continue;
        }
        let expect = read_json(&expect);
        let Some(cases) = expect["chat"].as_array() else { continue };
        let file = Arc::new(Gguf::open(&model).unwrap());
        let template = ChatTemplate::from_metadata(&file.metadata()).unwrap();
        let Some(template) = template else {
            writeln!(wrong, "{}: no template", folder.display()).unwrap();
            continue;
        };
        let vocab = tealight::text::Vocab::load(&file).unwrap();
        let token =
            |id: Option<u32>| id.map_or(String::new(), |id| String::from_utf8_lossy(vocab.token_text(id)).into_owned());
        for case in cases {
            let mut case = case.clone();
            case["bos_token"] = json!(token(vocab.bos()));
            case["eos_token"] = json!(token(vocab.eos()));
            n_case += 1;
            if let Err(e) = check_case(&template, &case) {
                writeln!(wrong, "{}: {e}", folder.display()).unwrap();
            }
        }
    }
    println!("{n_case} cases");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(n_case > 0);
}

fn render_with(source: &str, variables: Value) -> Result<String, String> {
    let mut input = ChatInput::new(&[]);
    input.extra = variables.as_object().cloned().unwrap_or_default();
    input.now_s = Some(NOW_S);
    ChatTemplate::new(source).and_then(|t| t.render(&input)).map_err(|e| e.to_string())
}

fn check(source: &str, want: &str) {
    let variables = json!({
        "n": 7, "s": "Hello World", "l": [3, 1, 2], "d": {"b": 1, "a": [1, "x"], "c": null}, "none_": null, "e": [],
        "u": [{"n": "x", "v": 1}, {"n": "y", "v": 2}, {"n": "x"}],
    });
    assert_eq!(render_with(source, variables).as_deref(), Ok(want), "{source}");
}

#[test]
fn expressions_mean_what_they_mean_in_jinja() {
    for (source, want) in [
        (
            "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1e20 }} {{ 0.1 + 0.2 }}",
            "3 -4 2 3.5 8 1e+20 0.30000000000000004",
        ),
        ("{{ 1 + (2 ~ 3 * 2) | int }}{{ '<' | safe + '>' ~ '<' }}", "27<&gt;&lt;"),
        (
            "{{ s[0] }}{{ s[-1] }}{{ s[::-1] }}{{ s[1:3] }}{{ l[1:] }}{{ l[::-1] }}{{ l[5:] }}{{ l[-9:9] }}",
            "HddlroW olleHel[1, 2][2, 1, 3][][3, 1, 2]",
        ),
        (
            "{{ d }} {{ l }} {{ (1,) }} {{ true }} {{ none }} {{ 'it\\'s' }} {{ ['it\\'s', 'a\"b'] }}",
            "{'b': 1, 'a': [1, 'x'], 'c': None} [3, 1, 2] (1,) True None it's [\"it's\", 'a\"b']",
        ),
        (
            "{{ d | tojson }}|{{ d | tojson(indent=2) }}",
            "{\"b\": 1, \"a\": [1, \"x\"], \"c\": null}|{\n  \"b\": 1,\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"c\": null\n}",
        ),
        (
            "{{ {'é': '\\u0001<'} | tojson }} {{ 'é😀' | tojson(ensure_ascii=true) }}",
            "{\"é\": \"\\u0001<\"} \"\\u00e9\\ud83d\\ude00\"",
        ),
        ("{{ d | tojson(separators=(',', ':'), sort_keys=true) }}", "{\"a\":[1,\"x\"],\"b\":1,\"c\":null}"),
        (
            "{{ missing }}|{{ missing is defined }}|{{ d.zz is undefined }}|{{ missing | default('x') }}|{{ none_ | d('y', true) }}",
            "|False|True|x|y",
        ),
        ("{{ 'a' if n > 6 else 'b' }}{{ 'c' if n < 6 }}{{ 1 < n <= 7 }}{{ not n == 7 or n }}", "aTrue7"),
        (
            "{{ 'lo' in s }} {{ 4 not in l }} {{ 'b' in d }} {{ n is odd }} {{ n is divisibleby 7 }} {{ n is not string }}",
            "True True True True True True",
        ),
        (
            "{{ u | selectattr('n', 'equalto', 'x') | list | length }} {{ u | map(attribute='n') | join(',') }} {{ u | rejectattr('v') | list | length }}",
            "2 x,y,x 1",
        ),
        (
            "{{ l | sort }} {{ l | sort(reverse=true) | first }} {{ l | max }} {{ l | sum }} {{ u | map(attribute='n') | unique | list }}",
            "[1, 2, 3] 3 3 6 ['x', 'y']",
        ),
        ("{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "a=[1, 'x'];b=1;c=None;"),
        ("{% for k, v in d.items() %}{{ k }}{{ loop.index }}{{ loop.last }} {% endfor %}", "b1False a2False c3True "),
        (
            "{{ '%s has %03d %.2f%%' % ('a', 5, 1.5) }} {{ '{} {x:>4} {0!r}'.format('p', x=3) }}",
            "a has 005 1.50% p    3 'p'",
        ),
        (
            "{{ ' x '.strip() }}{{ 'xxaxx'.strip('x') }}{{ 'a,b,c'.split(',', 1) }}{{ 'a  b'.split() }}{{ 'ab'.title() }}{{ s.replace('l', 'L', 1) }}",
            "xa['a', 'b,c']['a', 'b']AbHeLlo World",
        ),
        (
            "{{ s | upper }} {{ s | truncate(8, leeway=0) }} {{ 'a\nb' | indent(2) }} {{ s | wordcount }} {{ 'x' * 3 }} {{ [1] * 2 }}",
            "HELLO WORLD Hello... a\n  b 2 xxx [1, 1]",
        ),
        (
            "{{ '3' | int + 1 }} {{ '1.5' | float }} {{ 'z' | int(9) }} {{ 2.5 | round }} {{ -3 | abs }}",
            "4 1.5 9 2.0 3",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "15 Jan 2026"),
        ("{{ \"a\" \"b\" }} {{ '\\u00e9\\n' }}", "ab é\n"),
        (
            "{{ l | batch(2) | list }} {{ [1,2,3,4] | slice(3) | list }} {{ l | reverse | list }}",
            "[[3, 1], [2]] [[1, 2], [3], [4]] [2, 1, 3]",
        ),
        (
            "{{ u | groupby('n') | length }} {{ e | first is undefined }} {{ dict(a=1, b=2) }}",
            "2 True {'a': 1, 'b': 2}",
        ),
    ] {
        check(source, want);
    }
}

#[test]
fn statements_mean_what_they_mean_in_jinja() {
    for (source, want) in [
        ("a\n{% if true %}\n  b\n{% endif %}\nc\n", "a\n  b\nc"),
        ("  {% if true %}x{% endif %}  {#- c -#}  y", "x y".replace(' ', "").as_str()),
        ("{{ 1 }}\n{{ 2 }}  {%- if 1 %} 3{% endif -%}\n 4", "1\n2 34"),
        ("{%+ if true %} x{% endif %}\n\n{% raw %}{{ n }}{% endraw %}", " x\n{{ n }}"),
        ("{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "1"),
        ("{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "7"),
        (
            "{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% else %}none{% endfor %}",
            "1/2:3 2/2:2 ",
        ),
        ("{% for i in e %}x{% else %}none{% set n = 1 %}{% endfor %}{{ n }}", "none7"),
        ("{% for i in l %}{% break %}{% else %}left early{% endfor %}", "left early"),
        ("{% for i in l %}{{ i }}{% set b %}x{% break %}{% endset %}y{% endfor %}", "3"),
        ("{% raw %}\n{{ x }}{% endraw %}\ny", "\n{{ x }}y"),
        (
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "023",
        ),
        (
            "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1, 3, 4, c=5) }}",
            "12(){} 13(4,){'c': 5}",
        ),
        ("{% macro w() %}<{{ caller(n) }}>{% endmacro %}{% call(x) w() %}{{ x + 1 }}{% endcall %}", "<8>"),
        ("{% macro r(x) %}{{ x }}{% if x %}{{ r(x - 1) }}{% endif %}{% endmacro %}{{ r(3) }}", "3210"),
        (
            "{% set b %}a{{ n }}{% endset %}{{ b | upper }}{% filter upper %}q{% endfilter %}{% with z = 3 %}{{ z }}{% endwith %}{{ z }}",
            "A7Q3",
        ),
        (
            "{% for x in [[1, [2]], [3, []]] recursive %}{{ x[0] }}{% if x[1] %}({{ loop([[x[1][0], []]]) }}){% endif %}{% endfor %}",
            "1(2)3",
        ),
        ("{% generation %}g{% endgeneration %}{% set a, b = 1, 2 %}{{ a + b }}", "g3"),
        (
            "{% for i in l %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{% if loop.changed(i) %}!{% endif %}{% endfor %}",
            "a1!b32!a1!",
        ),
        ("{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "3|1|2"),
    ] {
        check(source, want);
    }
}

#[test]
fn what_python_refuses_is_refused_in_words() {
    for (source, words) in [
        ("{{ missing.x }}", "'missing' is undefined"),
        ("{{ raise_exception('no system\x1b[2J role') }}", "no system\\u{1b}[2J role"),
        ("\n\n{{ 1 / 0 }}", "line 3"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
        ("{{ none_ | length }}", "no len()"),
        ("{{ l.append(1) }}", "unsafe"),
        ("{{ s.__class__ }}", "unsafe"),
        ("{{ l | map('upper') | tojson }}", "not JSON serializable"),
        ("{% for x in none_ %}{% endfor %}", "not iterable"),
        ("{{ l[::0] }}", "step cannot be zero"),
        ("{{ -9223372036854775807 * 3 }}", "out of range"),
        ("{{ s | frobnicate }}", "frobnicate"),
        ("{% include 'x' %}", "not available"),
        ("{% if %}", "expected an expression"),
        ("{% break %}", "outside of a loop"),
        ("{% for x in l %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", "outside of a loop"),
        ("{{ 'a' % 1 }}", "not all arguments"),
        ("{{ 'abc", "not closed"),
        ("{% for x in l %}", "missing"),
        ("{{ range(1000000000) }}", "range"),
    ] {
        let got = render_with(source, json!({"s": "a", "l": [1], "none_": null}));
        assert!(got.as_ref().is_err_and(|e| e.contains(words)), "{source}: {got:?}");
    }
}

/// Every filter, method and test with every kind of receiver and argument: an answer or an error, never a panic.
#[test]
fn no_call_panics() {
    let values = [
        "missing",
        "none",
        "true",
        "-7",
        "1.5",
        "''",
        "'é%s{}\n x'",
        "'12'",
        "[]",
        "[3, 'b', none]",
        "{'é': [1]}",
        "u",
        "(1, 'a')",
        "range",
        "[[1, 2]]",
        "1e308",
    ];
    let args = [
        "",
        "'é'",
        "-1",
        "0",
        "'', ''",
        "3, 'x'",
        "[1]",
        "none",
        "2, true, 'é', 1",
        "attribute='n'",
        "'%s'",
        "'a.0'",
        "99999999999",
        "1e308",
    ];
    let names = "abs attr batch capitalize center count default dictsort escape first float format groupby indent int items join last length list lower map max min pprint reject rejectattr replace reverse round safe select selectattr slice sort string striptags sum title tojson trim truncate unique upper urlencode wordcount keys values from_json \
        strip lstrip rstrip split rsplit splitlines startswith endswith swapcase casefold find rfind index rindex isdigit isalpha isalnum isspace isupper islower isnumeric isdecimal isidentifier isascii zfill ljust rjust removeprefix removesuffix partition rpartition expandtabs get copy pop append \
        defined none boolean true integer number string mapping iterable sequence callable sameas odd even divisibleby eq ne lt ge in filter test";
    let (mut n_answer, mut n_error) = (0, 0);
    for name in names.split_whitespace() {
        let mut source = String::new();
        for value in values {
            for arg in args {
                for call in [
                    format!("{value} | {name}({arg})"),
                    format!("({value}).{name}({arg})"),
                    format!("{value} is {name}({arg})"),
                ] {
                    source = format!("{{{{ {call} }}}}");
                    match render_with(&source, json!({"u": [{"n": "x"}, {"n": "é"}]})) {
                        Ok(_) => n_answer += 1,
                        Err(_) => n_error += 1,
                    }
                }
            }
        }
        assert!(!source.is_empty());
    }
    for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
        for op in ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "if true else"] {
            n_answer += usize::from(render_with(&format!("{{{{ {a} {op} {b} }}}}"), json!({})).is_ok());
        }
        n_answer += usize::from(render_with(&format!("{{{{ ({a})[{b}] }}}}{{{{ ({a})[{b}:] }}}}"), json!({})).is_ok());
    }
    assert!(n_answer > 5000 && n_error > 5000, "{n_answer} answers, {n_error} errors");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_panics(pieces in proptest::collection::vec(0..PIECES.len(), 0..24), noise in "\\PC{0,12}") {
        let source: String = pieces.iter().map(|i| PIECES[*i]).collect();
        let _ = render_with(&source, json!({"s": "é x", "l": [1, "b"]}));
        let _ = render_with(&format!("{{{{ {noise} }}}}"), json!({}));
        let _ = render_with(&format!("{source}{{% {noise} %}}"), json!({}));
    }
}

/// What random templates are made of.
const PIECES: [&str; 60] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{-",
    "-}}",
    "{%-",
    "-%}",
    "+%}",
    "{%+",
    " if ",
    " else ",
    " elif ",
    " endif ",
    " for ",
    " x ",
    " in ",
    " endfor ",
    " set ",
    " endset ",
    " macro ",
    " endmacro ",
    " call ",
    " endcall ",
    " raw ",
    " endraw ",
    " s ",
    " l ",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    ".",
    "|",
    "~",
    "+",
    "-",
    "*",
    "%",
    "=",
    "==",
    "'é'",
    "\"",
    "'",
    "1",
    "-1",
    "1.5e3",
    " is ",
    " not ",
    " upper ",
    "\n",
    "  ",
    "é",
    "{% if s %}{{ s }}{% endif %}",
];

/// Programs that try to take all time, memory or stack.
#[test]
fn bombs_end_fast_with_an_error() {
    let many = |s: &str, n: usize| s.repeat(n);
    let sources = [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        "{% set s = 'ab' %}{% for i in range(99) %}{% set s = s ~ s %}{{ s }}{% endfor %}".to_owned()
            + &many("{% set s = s ~ s %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = s ~ s %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = s + s %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = s | replace('a', s) %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = s.join(s) %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = [s, s] | join %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s = '%s%s' % (s, s) %}", 60),
        "{% set s = 'ab' %}".to_owned() + &many("{% set s %}{{ s }}{{ s }}{% endset %}", 60),
        "{% set s = [1] %}".to_owned() + &many("{% set s = s + s %}", 60),
        "{% set s = [1] %}".to_owned() + &many("{% set s = [s, s] %}", 60) + "{{ s }}",
        "{% set s = [1] %}{% for i in range(99999) %}{% set ns = 1 %}{% endfor %}".to_owned()
            + &many("{% set s = [s] %}", 9000),
        "{{ 'x' * 10000000000 }}".to_owned(),
        "{{ [0] * 10000000000 }}".to_owned(),
        "{{ 'x'.ljust(10000000000) }}".to_owned(),
        "{{ '%99999999999s' % 1 }}".to_owned(),
        "{% set s = 'a\n' * 8000000 %}{{ s.splitlines() | length }}".to_owned(),
        "{% set s = 'a ' * 8000000 %}{% set t = s.split() %}{% set t = s | list %}".to_owned(),
        "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(a='x') %}{% for i in range(99999) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}".to_owned(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(x) %}{{ f(x ~ x) }}{{ f(x) }}{% endmacro %}{{ f('a') }}".to_owned(),
        many("{% for i in range(99999) %}", 6) + &many("{% endfor %}", 6),
        "{{ ".to_owned() + &many("(", 100_000) + &many(")", 100_000) + " }}",
        "{{ ".to_owned() + &many("[", 900) + &many("]", 900) + " }}",
        "{{ ".to_owned() + &many("-", 1900) + "1 }}",
        "{{ ".to_owned() + &many("not ", 100_000) + "1 }}",
        "{{ x".to_owned() + &many("[0]", 60_000) + " }}",
        "{{ 1".to_owned() + &many(" if 1 else 1", 300) + " }}",
        "{{ 1".to_owned() + &many(" + 1", 60_000) + " }}",
        many("{% if 1 %}", 5000) + &many("{% endif %}", 5000),
        "{# ".to_owned() + &many("x", 2_000_000) + " #}",
        "{% set s = [1] %}{% set t = [1] %}".to_owned() + &many("{% set s = [s, s] %}{% set t = [t, t] %}", 60) + "{{ s == t }}",
        "{% set s = [1] %}{% set t = [1] %}".to_owned()
            + &many("{% set s = [s, s] %}{% set t = [t, t] %}", 20)
            + "{% for i in range(99999) %}{% set x = s in [t, t] %}{% endfor %}",
        "{% set s = 'a' * 16000000 %}{{ s.strip('b' * 16000000 + 'a') }}".to_owned(),
        "{% set s = 'a' * 16000000 %}{% for i in range(99999) %}{% set x = (s ~ 'b') == (s ~ 'c') %}{% endfor %}".to_owned(),
        "{% set s = 'a' * 1000000 %}{% for c in s %}{% endfor %}{{ s | list | unique | list }}{{ range(99999) | unique | list }}".to_owned(),
        "{% for i in range(99999) %}{% set ns = namespace() %}{% endfor %}".repeat(50),
        "{% set a %}{{ 'x' * 16000000 }}".repeat(40) + &many("{% endset %}", 40),
    ];
    let mut slowest = Duration::ZERO;
    for source in &sources {
        let start = Instant::now();
        let result = render_with(source, json!({}));
        let (took, shown) = (start.elapsed(), &source[..source.len().min(90)]);
        assert!(result.is_err(), "{shown}: rendered {} bytes", result.map_or(0, |s| s.len()));
        assert!(took < Duration::from_secs(3), "{shown}: took {took:?}");
        slowest = slowest.max(took);
    }
    println!("slowest {slowest:?}");
    if let Some(peak_kb) = peak_memory_kb() {
        println!("peak memory {peak_kb} KB");
        assert!(peak_kb < 512 << 10, "peak memory {peak_kb} KB");
    }
}

#[test]
fn templates_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<ChatTemplate>();
    shared::<tealight::text::Vocab>();
}

/// Long chains that are no bomb: a flat chain costs no stack.
#[test]
fn long_flat_chains_run_on_an_ordinary_stack() {
    let sum = "{{ 1".to_owned() + &" + 1".repeat(900) + " }}";
    assert_eq!(render_with(&sum, json!({})).as_deref(), Ok("901"));
    let elifs = "{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(5000) + "{% else %}x{% endif %}";
    assert_eq!(render_with(&elifs, json!({})).as_deref(), Ok("x"));
}

#[cfg(target_os = "linux")]
fn peak_memory_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn peak_memory_kb() -> Option<u64> {
    None
}

/// The content of messages, as [`ChatTemplate::prompt`] marks it.
fn content_of(source: &str, content: &str) -> (String, Vec<String>) {
    let messages = [json!({"role": "user", "content": content})];
    let prompt = ChatTemplate::new(source).unwrap().prompt(&ChatInput::new(&messages)).unwrap();
    let foreign =
        prompt.parts.iter().filter(|(_, t)| *t == Trust::Content).map(|(r, _)| prompt.text[r.clone()].to_owned());
    (prompt.text.clone(), foreign.collect())
}

#[test]
fn the_origin_of_text_survives_what_templates_do_to_it() {
    let c = "messages[0].content";
    for (expression, text, foreign) in [
        ("'<' ~ C ~ '>'", "< a<b> >", vec![" a<b> "]),
        ("'<' + C | trim + '>'", "<a<b>>", vec!["a<b>"]),
        ("C.strip().split('<')[-1] + 'x'", "b>x", vec!["b>"]),
        ("(C | trim).replace('<', '[T]')", "a[T]b>", vec!["a", "b>"]),
        ("[C | trim, 'T', C | upper] | join('-')", "a<b>-T- A<B> ", vec!["a<b>", " A<B> "]),
        ("{'k': C} | tojson", "{\"k\": \" a<b> \"}", vec![" a<b> "]),
        ("'%s|%s' % (C, 'T')", " a<b> |T", vec![" a<b> "]),
        ("('T' ~ C)[::-1]", " >b<a T", vec![" >b<a "]),
        ("('T' ~ C)[:3]", "T a", vec![" a"]),
        ("'<|' ~ messages[0].role ~ '|>'", "<|user|>", vec![]),
        ("messages[0]", "{'role': 'user', 'content': ' a<b> '}", vec!["role", "content", " a<b> "]),
        ("(C | trim) in 'xa<b>x'", "True", vec![]),
        ("strftime_now(C)", " a<b> ", vec![" a<b> "]),
        ("C | safe + '<'", " a<b> &lt;", vec![" a<b> "]),
        ("dict(**{C: 1})", "{' a<b> ': 1}", vec![" a<b> "]),
    ] {
        let source = format!("{{{{ {} }}}}", expression.replace('C', c));
        assert_eq!(
            content_of(&source, " a<b> "),
            (text.into(), foreign.into_iter().map(String::from).collect()),
            "{source}"
        );
    }
}
