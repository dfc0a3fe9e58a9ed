use proptest::prelude::*;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use super::*;

/// A character and how it looks: bold, italic, code, heading.
type Look = (char, [bool; 4]);

/// Pieces with neighbours of one kind joined: where text was cut is no part of the result.
fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(text, style)), Piece::Text(more, other)) if *style == other => *text += &more,
            (Some(Piece::Code(text)), Piece::Code(more)) => *text += &more,
            (_, piece) => all.push(piece),
        }
    }
    all
}

fn read(text: &str) -> Vec<Piece> {
    let mut markdown = Markdown::default();
    let mut pieces = markdown.push(text);
    pieces.extend(markdown.finish());
    joined(pieces)
}

fn looks(pieces: &[Piece]) -> Vec<Look> {
    let of = |piece: &Piece| -> Vec<Look> {
        match piece {
            Piece::Text(text, s) => text.chars().map(|c| (c, [s.bold, s.italic, s.code, s.heading])).collect(),
            Piece::Code(text) => text.chars().map(|c| (c, [false, false, true, false])).collect(),
            _ => Vec::new(),
        }
    };
    pieces.iter().flat_map(of).filter(|(c, _)| !c.is_whitespace()).collect()
}

/// The same from another reader of Markdown.
fn expected(text: &str) -> Vec<Look> {
    let mut all = Vec::new();
    let mut depth = [0u32; 4];
    for event in Parser::new(text) {
        let is = depth.map(|n| n > 0);
        let mut put = |text: &str, is: [bool; 4]| all.extend(text.chars().map(|c| (c, is)));
        match event {
            Event::Start(Tag::Strong) => depth[0] += 1,
            Event::Start(Tag::Emphasis) => depth[1] += 1,
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => depth[2] += 1,
            Event::Start(Tag::Heading { .. }) => depth[3] += 1,
            Event::End(TagEnd::Strong) => depth[0] -= 1,
            Event::End(TagEnd::Emphasis) => depth[1] -= 1,
            Event::End(TagEnd::CodeBlock) => depth[2] -= 1,
            Event::End(TagEnd::Heading(_)) => depth[3] -= 1,
            Event::Text(text) => put(&text, is),
            Event::Code(text) => put(&text, [is[0], is[1], true, is[3]]),
            _ => {}
        }
    }
    all.retain(|(c, _)| !c.is_whitespace());
    all
}

/// A line of words and marks, which begins as a paragraph and is shorter than what is held back.
fn line() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec!["a", "word", "Über", "1", ",", "("]),
        3 => prop::sample::select(vec!["*", "**", "***", "_", "__"]),
        1 => prop::sample::select(vec!["`", "``", "\\*", "\\_", "\\`"]),
        3 => Just(" "),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| format!("x{}", parts.concat()))
}

/// A document of blocks that both readers know.
fn document() -> impl Strategy<Value = String> {
    let block = prop_oneof![
        line().prop_map(|l| l + "\n"),
        (1..=6usize, line()).prop_map(|(n, l)| format!("{} {l}\n", "#".repeat(n))),
        prop::collection::vec(line(), 1..4).prop_map(|all| all.iter().map(|l| format!("- {l}\n")).collect()),
        prop::collection::vec(line(), 1..4).prop_map(|all| all
            .iter()
            .enumerate()
            .map(|(i, l)| format!("{}. {l}\n", i + 1))
            .collect()),
        line().prop_map(|l| format!("> {l}\n")),
        prop::collection::vec(line(), 0..4).prop_map(|all| format!("```rust\n{}\n```\n", all.join("\n"))),
        Just("***\n".to_owned()),
    ];
    prop::collection::vec(block, 0..8).prop_map(|blocks| blocks.join("\n"))
}

/// What nobody would write.
fn noise() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a", "b c", "*", "**", "_", "`", "```", "~~~", "\\", "\n", "\n\n", "#", "# ", "> ", "- ", "-", "1. ", "  ",
        "|", "---", "🎉", "é", "世界", "\t",
    ]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_line_means_what_commonmark_says(text in line()) {
        prop_assert_eq!(looks(&read(&text)), expected(&text));
    }

    #[test]
    fn a_document_means_what_commonmark_says(text in document()) {
        prop_assert_eq!(looks(&read(&text)), expected(&text));
    }

    #[test]
    fn how_a_text_is_cut_changes_nothing(text in prop_oneof![document(), noise()], cuts in prop::collection::vec(1..9usize, 1..200)) {
        let chars: Vec<char> = text.chars().collect();
        let (mut markdown, mut pieces, mut at) = (Markdown::default(), Vec::new(), 0);
        for n in cuts.iter().cycle() {
            let end = (at + n).min(chars.len());
            pieces.extend(markdown.push(&chars[at..end].iter().collect::<String>()));
            at = end;
            if at == chars.len() {
                break;
            }
        }
        pieces.extend(markdown.finish());
        prop_assert_eq!(joined(pieces), read(&text));
    }

    #[test]
    fn no_letter_is_lost_or_added(text in noise()) {
        // The line of a fence may say more than a language.
        let text = text.replace(['~', '`'], "*");
        let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic() || *c == '🎉').collect::<String>();
        let mut shown = String::new();
        for piece in read(&text) {
            match piece {
                Piece::Text(text, _) | Piece::Code(text) | Piece::CodeBegin(text) => shown += &text,
                _ => {}
            }
        }
        prop_assert_eq!(letters(&shown), letters(&text));
    }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into(), Style::default())
}

fn bold(text: &str) -> Piece {
    Piece::Text(text.into(), Style { bold: true, ..Style::default() })
}

#[test]
fn blocks_have_their_pieces() {
    let check = |markdown: &str, pieces: &[Piece]| assert_eq!(read(markdown), pieces, "{markdown:?}");
    check("  - **a**:\tb", &[Piece::Lead(Lead::Indent(2)), Piece::Lead(Lead::Bullet), bold("a"), text(":\tb")]);
    check("*   **a**  b", &[Piece::Lead(Lead::Bullet), bold("a"), text("  b")]);
    check(
        "1.  a\n  b",
        &[Piece::Lead(Lead::Number("1.".into())), text("a"), Piece::LineEnd, Piece::Lead(Lead::Indent(2)), text("b")],
    );
    check("12) x", &[Piece::Lead(Lead::Number("12)".into())), text("x")]);
    check("2. ", &[Piece::Lead(Lead::Number("2.".into()))]);
    check("2.5 x", &[text("2.5 x")]);
    check("a\n---\nb", &[text("a"), Piece::LineEnd, Piece::Rule, text("b")]);
    check("> > q\n", &[Piece::Lead(Lead::Quote), Piece::Lead(Lead::Quote), text("q"), Piece::LineEnd]);
    check("| a | b |\n", &[Piece::Unwrapped, text("| a | b |"), Piece::LineEnd]);
    check("#tag", &[text("#tag")]);
    check("[text](https://a.b/c_d_e*)", &[text("[text](https://a.b/c_d_e*)")]);
    check(r"\(x\_1\) and \[y\]", &[text(r"\(x_1\) and \[y\]")]);
    check("5 * 3 * 2 _ a", &[text("5 * 3 * 2 _ a")]);
    let italic = |text: &str| Piece::Text(text.into(), Style { italic: true, ..Style::default() });
    check("x*a,***,", &[text("x"), italic("a,"), text("**,")]);
    check("snake_case_name", &[text("snake_case_name")]);
    check("**这是（重点）**说", &[bold("这是（重点）"), text("说")]);
    check("---", &[Piece::Rule]);
}

#[test]
fn code_is_what_stands_between_fences() {
    let code = |text: &str| Piece::Code(text.into());
    assert_eq!(
        read("1. do\n   ```sh x\n   ls\n     -l\n\n   ```\nend"),
        [
            Piece::Lead(Lead::Number("1.".into())),
            text("do"),
            Piece::LineEnd,
            Piece::CodeBegin("sh".into()),
            code("ls"),
            Piece::LineEnd,
            code("  -l"),
            Piece::LineEnd,
            Piece::LineEnd,
            Piece::CodeEnd,
            text("end"),
        ]
    );
    assert_eq!(
        read("~~~\n```\n~~\n**x**"),
        [
            Piece::CodeBegin(String::new()),
            code("```"),
            Piece::LineEnd,
            code("~~"),
            Piece::LineEnd,
            code("**x**"),
            Piece::LineEnd,
            Piece::CodeEnd
        ],
        "an open block is closed"
    );
    assert_eq!(read("```a``` b"), [Piece::Text("a".into(), Style { code: true, ..Style::default() }), text(" b")]);
    assert_eq!(read("a\n```"), [text("a"), Piece::LineEnd, text("```")]);
}

#[test]
fn text_waits_for_its_marker_no_longer_than_need_be() {
    let mut markdown = Markdown::default();
    assert_eq!(markdown.push("plain words come at on"), [text("plain words come at on")]);
    assert_eq!(markdown.push("ce **bo"), [text("ce ")]);
    assert_eq!(markdown.push("ld*"), []);
    assert_eq!(markdown.push("* t"), [bold("bold"), text(" t")]);
    assert_eq!(markdown.push("\n"), [Piece::LineEnd]);
    assert_eq!(markdown.push("**"), []);
    assert_eq!(markdown.push(&"x".repeat(MAX_HELD)), [text(&format!("**{}", "x".repeat(MAX_HELD)))]);
    assert_eq!(markdown.push("** y"), [text("** y")]);
    assert_eq!(markdown.push("\nthe last *"), [Piece::LineEnd, text("the last ")]);
    assert_eq!(markdown.finish(), [text("*")]);
}
