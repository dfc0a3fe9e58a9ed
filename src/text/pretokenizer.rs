//! The table of pre-tokenizers: `tokenizer.ggml.pre` to the patterns that cut text into words.
//!
//! Patterns are those of the models' own tokenizer files as llama.cpp names them; where its hand-written splitters
//! only approximate them (case classes of non-ASCII letters, marks), the model's definition is used.

/// One pass over the text: what matches and what lies between matches are the pieces for the next pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A pattern, and what follows its alternatives for white space.
    Pattern(String, Tail),
    /// Runs of digits in groups of three counted from the right.
    Threes,
    /// White space at the end of the piece: `\s+$`.
    TrailingSpace,
    /// Only what matches `\S+`; white space is dropped.
    Words,
}

/// The last alternatives of a pattern, which look ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    None,
    /// `\s+(?!\S)|\s+`: white space, but its last character goes to what follows.
    Leave,
    /// The same in powers of two: `\s{512}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`.
    Powers,
}

/// What a pre-tokenizer's name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Pre {
    pub(crate) steps: Vec<Step>,
    /// A word that is a token is not cut.
    pub(crate) ignore_merges: bool,
    pub(super) add_bos: bool,
    pub(super) clean_spaces: bool,
    /// Tokens are UTF-8 text, not the byte alphabet of GPT-2.
    pub(crate) raw: bool,
    /// Blanks are written as U+2581.
    pub(super) escape_blanks: bool,
    /// No default for the token that begins a sequence.
    pub(super) no_bos: bool,
    pub(super) add_sep: bool,
}

/// Names by the set of patterns that they share.
const GROUPS: &[(&[&str], &str)] = &[
    (
        &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        "llama3 I B",
    ),
    (&["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"], "qwen2 C"),
    (&["stablelm2", "megrez"], "qwen2"),
    (&["qwen35"], "qwen35 C"),
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
        ],
        "gpt2",
    ),
    (&["jina-v1-en", "jina-v2-code", "roberta-bpe"], "gpt2 S"),
    (&["trillion", "granite-docling"], "gpt2 C"),
    (&["starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"], "digit gpt2"),
    (&["command-r", "smollm"], "digit gpt2 C"),
    (&["falcon"], "falcon gpt2 three"),
    (&["default"], "default gpt2 digits three"),
    (&["deepseek-llm"], "newline cased punctuation trailing cjk2 digits C"),
    (&["deepseek-coder"], "newline letters marks cjk2 digit C"),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], "digits3 cjk dsmain C"),
    (&["spark2_5"], "digits3 cjk spark digit C"),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], "gpt4o C"),
    (&["tekken"], "tekken I B C"),
    (&["granite-embed-multi-97m"], "gpt4o I C"),
    (&["tiny_aya", "cohere2moe"], "threes gpt4o C"),
    (&["youtu"], "youtu gpt4o1 I C"),
    (&["chatglm-bpe"], "llama3 N"),
    (&["glm4", "glm5"], "llama3 N I"),
    (&["dbrx", "smaug-bpe"], "llama3"),
    (&["minicpm5"], "digits3 minicpm5 I"),
    (&["jais-2"], "jais2"),
    (&["poro-chat"], "bloom C"),
    (&["bloom", "gpt3-finnish"], "bloom"),
    (&["viking"], "bloom digit C"),
    (&["chameleon"], "sentinel image tabs digit ascii gpt2 B C"),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], "bailing C"),
    (&["seed-coder"], "seed C"),
    (&["ufakzeka"], "ufakzeka C"),
    (&["exaone-moe"], "exaonemoe"),
    (&["laguna"], "lines qwen2 C"),
    (&["gemma4"], "lines R E B"),
    (&["granite-embed-multi-311m"], "lines R E"),
    (&["sarvam-moe"], "lines R E C"),
    (&["superbpe"], "superbpe threes C"),
    (&["afmoe"], "threes asia dsmain C"),
    (&["kimi-k2"], "kimi C"),
    (&["whitespace"], "words R"),
];

const CONTRACTIONS: &str = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const NEWLINES: &str = r"\s*[\r\n]+";
/// Letters that may be upper case, and letters that may be lower case.
const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";

/// The pre-tokenizer of that name.
pub(crate) fn pre(name: &str) -> Option<Pre> {
    let (_, words) = GROUPS.iter().find(|(names, _)| names.contains(&name))?;
    let mut pre = Pre {
        steps: Vec::new(),
        ignore_merges: false,
        add_bos: false,
        clean_spaces: true,
        raw: false,
        escape_blanks: false,
        no_bos: false,
        add_sep: false,
    };
    for word in words.split(' ') {
        match word {
            "I" => pre.ignore_merges = true,
            "B" => pre.add_bos = true,
            "C" => pre.clean_spaces = false,
            "R" => pre.raw = true,
            "E" => pre.escape_blanks = true,
            "N" => pre.no_bos = true,
            "S" => pre.add_sep = true,
            word => pre.steps.push(step(word)?),
        }
    }
    Some(pre)
}

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(names, _)| names.iter().copied())
}

/// The known name nearest to `name` by edit distance.
pub(super) fn nearest(name: &str) -> &'static str {
    // Longer names than any known one need not be measured to their end.
    let name: String = name.chars().take(64).collect();
    names().min_by_key(|known| distance(&name, known)).unwrap_or("default")
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Letters, digits of the given form, symbols, newlines, white space: the shape that most patterns share.
fn llama3(letters: &str, digits: &str, symbols: &str) -> String {
    format!(r"(?:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}|{symbols}|{NEWLINES}")
}

/// Words that change from upper to lower case at most once, with `suffix`.
fn cased(suffix: &str, digits: &str) -> String {
    format!(
        r"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{suffix}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{suffix}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{NEWLINES}"
    )
}

fn step(name: &str) -> Option<Step> {
    const SYMBOLS: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
    let leave = |pattern: String| Step::Pattern(pattern, Tail::Leave);
    let plain = |pattern: &str| Step::Pattern(pattern.to_owned(), Tail::None);
    let contraction = format!("(?:{CONTRACTIONS})?");
    let dsmain = |symbols: &str| {
        leave(format!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{{|}}~][A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+|{symbols}"##
        ))
    };
    Some(match name {
        "gpt2" => leave(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+".to_owned()),
        "llama3" => leave(llama3(r"\p{L}+", r"\p{N}{1,3}", SYMBOLS)),
        "qwen2" => leave(llama3(r"\p{L}+", r"\p{N}", SYMBOLS)),
        "qwen35" => leave(llama3(r"[\p{L}\p{M}]+", r"\p{N}", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*")),
        "minicpm5" => leave(llama3(r"\p{L}+", r"\p{N}+", SYMBOLS)),
        "seed" => leave(llama3(r"\p{L}+", r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+")),
        "ufakzeka" => leave(format!(r"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{SYMBOLS}|{NEWLINES}")),
        "jais2" => Step::Pattern(llama3(r"\p{L}+", r"\p{N}{1,3}", SYMBOLS), Tail::Powers),
        "bailing" => leave(format!(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{SYMBOLS}|\s*[\r\n]"
        )),
        "exaonemoe" => leave(format!(
            r"(?:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]"
        )),
        "gpt4o" => leave(cased(&contraction, r"\p{N}{1,3}")),
        "gpt4o1" => leave(cased(&contraction, r"\p{N}")),
        "tekken" => leave(cased("", r"\p{N}")),
        "kimi" => leave(format!(
            r"\p{{Han}}+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}--\p{{Han}}]*[{LOWER}--\p{{Han}}]+{contraction}|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}--\p{{Han}}]+[{LOWER}--\p{{Han}}]*{contraction}|\p{{N}}{{1,3}}|{SYMBOLS}|{NEWLINES}"
        )),
        "dsmain" => dsmain(&format!(r" ?[\p{{P}}\p{{S}}]+[\r\n]*|{NEWLINES}")),
        "spark" => dsmain(r" ?[\p{P}\p{S}]+|[\r\n]"),
        "digit" => plain(r"\p{N}"),
        "digits" | "superbpe" => plain(r"\p{N}+"),
        "digits3" => plain(r"\p{N}{1,3}"),
        "three" => plain("[0-9][0-9][0-9]"),
        "threes" => Step::Threes,
        "newline" => plain(r"[\r\n]"),
        "letters" => plain(r"\s?\p{L}+"),
        "marks" => plain(r"\s?\p{P}+"),
        "falcon" => plain(r"[\p{P}\$\+<=>\^~\|`]+"),
        "default" => plain(r"[\p{P}\$\+<=>\^~\|]+"),
        "cjk" => plain(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
        "cjk2" => plain(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
        "cased" => Step::Pattern(format!(r"\s?[{DEEPSEEK_LETTERS}]+"), Tail::None),
        "punctuation" => plain(r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+"),
        "trailing" => Step::TrailingSpace,
        "youtu" => plain(
            r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",
        ),
        "bloom" => plain(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+"),
        "sentinel" => plain("<sentinel:[0-9]+>"),
        "image" => plain("(?:IMGIMG)(?:(?:A|B|C|D|E|F|G|H|I){1,4})Z"),
        "tabs" => plain("(?:[\t\n]|    |  )"),
        "ascii" => plain(r"[\p{P}!-/:-@\[-`{-~]"),
        "lines" => plain(r"[^\n]+|[\n]+"),
        "asia" => plain(
            r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{0E40}-\x{0E7F}\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+",
        ),
        "words" => Step::Words,
        _ => return None,
    })
}

/// The cased letters that deepseek-llm's tokenizer lists one by one.
const DEEPSEEK_LETTERS: &str = concat!(
    r"A-Za-z\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA}\x{01BC}-\x{01BF}\x{01C4}-\x{0293}",
    r"\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377}\x{037B}-\x{037D}\x{037F}\x{0386}\x{0388}-\x{038A}",
    r"\x{038C}\x{038E}-\x{03A1}\x{03A3}-\x{03F5}\x{03F7}-\x{0481}\x{048A}-\x{052F}\x{0531}-\x{0556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}",
    r"\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}",
    r"\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}",
    r"\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}",
    r"\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}",
    r"\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}",
    r"\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}",
    r"\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_steps() {
        for (names, words) in GROUPS {
            for name in *names {
                assert!(pre(name).is_some_and(|p| !p.steps.is_empty()), "{name}: {words}");
            }
        }
    }

    #[test]
    fn an_unknown_name_finds_its_neighbour() {
        assert_eq!(nearest("llama-bpe2"), "llama-bpe");
        assert_eq!(nearest("qwen-2"), "qwen2");
    }
}
