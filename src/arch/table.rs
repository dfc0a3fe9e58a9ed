//! Every architecture that files name: what models it means, by which other names people call them, and why some do not
//! run. That one runs is not said here: the families say it.

use super::families;

/// An architecture of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Architecture {
    /// Value of `general.architecture`.
    pub name: &'static str,
    /// The models.
    pub models: &'static str,
    /// Other names that people and other programs use.
    pub aliases: &'static [&'static str],
    /// Why it does not run, where it does not and more is known than that.
    why: &'static str,
}

impl Architecture {
    /// Does it run?
    pub fn runs(&self) -> bool {
        families::find(self.name).is_some()
    }

    /// Why it does not run; `None` where it does.
    pub fn reason(&self) -> Option<&'static str> {
        (!self.runs()).then_some(if self.why.is_empty() { "no family describes it yet" } else { self.why })
    }
}

/// All architectures by name.
pub fn architectures() -> &'static [Architecture] {
    TABLE
}

/// The architecture of a name or alias, in any case.
pub fn find(name: &str) -> Option<&'static Architecture> {
    let is_it = |a: &&Architecture| std::iter::once(&a.name).chain(a.aliases).any(|n| n.eq_ignore_ascii_case(name));
    TABLE.iter().find(|a| a.name == name).or_else(|| TABLE.iter().find(is_it))
}

/// The architecture whose name or alias differs least from a word. Those that run come first among equals.
pub fn nearest(word: &str) -> &'static Architecture {
    let word: String = word.chars().take(MAX_WORD).flat_map(char::to_lowercase).collect();
    let distance = |a: &Architecture| std::iter::once(&a.name).chain(a.aliases).map(|n| edits(&word, n)).min();
    TABLE.iter().min_by_key(|a| (distance(a), !a.runs())).unwrap_or(&TABLE[0])
}

/// Characters of a word that are compared.
const MAX_WORD: usize = 64;

/// The least number of characters that are put in, left out or replaced to make one word of the other (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

const TWO_STACKS: &str = "an encoder and a decoder are two stacks, and plans have one";
const OF_IMAGES: &str = "it belongs to images or sound, not to text";
const DIFFUSION: &str = "it fills in tokens in any order, and answers are written one by one";
const RECURRENCE: &str = "its recurrence has no step yet";
const ENCODER: &str = "its attention or its position biases have no step yet";

macro_rules! table {
    ($($name:literal, $models:literal, [$($alias:literal),*] $(, $why:expr)?;)*) => {
        &[$(Architecture { name: $name, models: $models, aliases: &[$($alias),*], why: table!(@ $($why)?) }),*]
    };
    (@) => { "" };
    (@ $why:expr) => { $why };
}

#[rustfmt::skip]
const TABLE: &[Architecture] = table![
    "afmoe", "Arcee Trinity", ["trinity"];
    "apertus", "Apertus", [];
    "arcee", "Arcee AFM", ["afm"];
    "arctic", "Snowflake Arctic", ["snowflake-arctic"];
    "arwkv7", "ARWKV 7", [], RECURRENCE;
    "baichuan", "Baichuan 1", [];
    "bailingmoe", "Ling 1", ["ling"];
    "bailingmoe2", "Ling 2, Ring 2", ["ling2"];
    "bert", "BERT, RoBERTa, XLM-RoBERTa, bge, e5, MiniLM", ["roberta", "xlm-roberta", "bge", "bge-m3", "e5", "minilm"];
    "bitnet", "BitNet b1.58", [];
    "bloom", "BLOOM", [];
    "chameleon", "Chameleon", [];
    "chatglm", "ChatGLM 3, GLM-4-9B", ["chatglm3"];
    "clip", "projectors of vision models", ["mmproj"], OF_IMAGES;
    "codeshell", "CodeShell", [];
    "cogvlm", "CogVLM", [];
    "cohere2", "Command R7B, Command A", ["command-r7b", "command-a"];
    "command-r", "Command-R, Command-R+", ["cohere"];
    "dbrx", "DBRX", [];
    "deci", "DeciLM, Llama Nemotron", ["decilm"];
    "deepseek", "DeepSeek V1, DeepSeek MoE", [];
    "deepseek2", "DeepSeek V2, V3, R1, Kimi K2, GLM-4.7-Flash", ["deepseek-v2", "deepseek-v3", "deepseek-r1", "kimi-k2"];
    "deepseek32", "DeepSeek V3.2", ["deepseek-v3.2"];
    "dots1", "dots.llm1", [];
    "dream", "Dream", [], DIFFUSION;
    "ernie4_5", "ERNIE 4.5", ["ernie"];
    "ernie4_5-moe", "ERNIE 4.5 with experts", [];
    "eurobert", "EuroBERT", [];
    "exaone", "EXAONE 3", [];
    "exaone-moe", "EXAONE with experts", [];
    "exaone4", "EXAONE 4", [];
    "falcon", "Falcon 7B, 40B", [];
    "falcon-h1", "Falcon-H1", [];
    "gemma", "Gemma 1", [];
    "gemma-embedding", "EmbeddingGemma", ["embeddinggemma", "gemma_embedding"];
    "gemma2", "Gemma 2", [];
    "gemma3", "Gemma 3", [];
    "gemma3n", "Gemma 3n", [];
    "gemma4", "Gemma 4", [];
    "glm4", "GLM-4 of April 2025", ["glm"];
    "glm4moe", "GLM-4.5, 4.6", [];
    "gpt-oss", "gpt-oss", ["gptoss", "gpt_oss", "openai-moe"];
    "gpt2", "GPT-2", [];
    "gptj", "GPT-J", [];
    "gptneox", "GPT-NeoX, Pythia, Dolly", ["pythia"];
    "granite", "Granite 3", [];
    "granitehybrid", "Granite 4", ["granite4"];
    "granitemoe", "Granite 3 with experts", [];
    "grok", "Grok 1", [];
    "grovemoe", "GroveMoE", [];
    "hunyuan-dense", "Hunyuan, dense", ["hunyuan"];
    "hunyuan-moe", "Hunyuan A13B", [];
    "internlm2", "InternLM 2, 2.5", ["internlm"];
    "jais", "Jais", [];
    "jamba", "Jamba", [];
    "jina-bert-v2", "Jina embeddings 2", ["jina-bert"], ENCODER;
    "jina-bert-v3", "Jina embeddings 3", [], ENCODER;
    "kimi-linear", "Kimi Linear", [];
    "lfm2", "LFM2", [];
    "lfm2moe", "LFM2 with experts", [];
    "llada", "LLaDA", [], DIFFUSION;
    "llada-moe", "LLaDA with experts", [], DIFFUSION;
    "llama", "Llama 1 to 3.3, Mistral 7B, Mixtral, Yi, TinyLlama, R1 distills", ["llama2", "llama3", "mistral", "mixtral", "yi", "tinyllama", "smollm", "smollm2"];
    "llama-embed", "Llama that looks both ways", [];
    "llama4", "Llama 4", [];
    "mamba", "Mamba, FalconMamba", ["falcon-mamba"];
    "mamba2", "Mamba 2", [];
    "mimo2", "MiMo 2", [];
    "minicpm", "MiniCPM 1 and 2", [];
    "minicpm3", "MiniCPM 3", [];
    "minimax-m2", "MiniMax M2", ["minimax"];
    "mistral3", "Ministral 3, Mistral Small 3.x", ["ministral", "ministral3", "mistral-small"];
    "modern-bert", "ModernBERT", ["modernbert"];
    "mpt", "MPT", [];
    "nemotron", "Nemotron, Minitron", ["minitron"];
    "nemotron_h", "Nemotron-H", ["nemotron-h"];
    "nemotron_h_moe", "Nemotron 3 Nano", ["nemotron3"];
    "neo-bert", "NeoBERT", ["neobert"];
    "nomic-bert", "nomic-embed-text 1, 1.5", ["nomic", "nomic-embed"];
    "nomic-bert-moe", "nomic-embed-text 2", [];
    "olmo", "OLMo 1", [];
    "olmo2", "OLMo 2 and 3", ["olmo3"];
    "olmoe", "OLMoE", [];
    "openelm", "OpenELM", [];
    "opt", "OPT", [];
    "orion", "Orion", [];
    "pangu-embedded", "openPangu Embedded", ["pangu"];
    "phi2", "Phi-1, 1.5, 2", ["phi", "phi1"];
    "phi3", "Phi-3, 3.5, 4", ["phi3.5", "phi4"];
    "phimoe", "Phi-3.5-MoE", [];
    "plamo", "PLaMo", [];
    "plamo2", "PLaMo 2", [], RECURRENCE;
    "plamo3", "PLaMo 3", [];
    "plm", "PLM", [];
    "qwen", "Qwen 1", [];
    "qwen2", "Qwen 1.5, 2, 2.5, QwQ", ["qwen2.5", "qwq"];
    "qwen2moe", "Qwen 1.5 and 2 with experts", [];
    "qwen2vl", "Qwen 2 VL and 2.5 VL, their text parts", ["qwen2.5vl"];
    "qwen3", "Qwen 3, Qwen3-Embedding", [];
    "qwen35", "Qwen 3.5", ["qwen3.5"];
    "qwen35moe", "Qwen 3.5 with experts", [];
    "qwen3moe", "Qwen 3 with experts", [];
    "qwen3next", "Qwen3-Next", ["qwen3-next"];
    "qwen3vl", "Qwen 3 VL, its text part", [];
    "qwen3vlmoe", "Qwen 3 VL with experts", [];
    "refact", "Refact", [];
    "rnd1", "RND1", [], DIFFUSION;
    "rwkv6", "RWKV 6", ["rwkv"], RECURRENCE;
    "rwkv6qwen2", "QRWKV", [], RECURRENCE;
    "rwkv7", "RWKV 7", [], RECURRENCE;
    "seed_oss", "Seed-OSS", ["seed-oss"];
    "smallthinker", "SmallThinker", [];
    "smollm3", "SmolLM3", [];
    "stablelm", "StableLM 2 and 3B", [];
    "starcoder", "StarCoder", ["gpt_bigcode", "gptbigcode"];
    "starcoder2", "StarCoder 2", [];
    "step35", "Step 3.5", [];
    "t5", "T5, Flan-T5", ["flan-t5"], TWO_STACKS;
    "t5encoder", "encoders of T5", [], TWO_STACKS;
    "wavtokenizer-dec", "WavTokenizer", [], OF_IMAGES;
    "xverse", "XVERSE", [];
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_stands_in_the_table() {
        for name in crate::arch::supported() {
            let found = TABLE.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("`{name}` is missing"));
            assert!(found.runs() && found.reason().is_none());
        }
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name), "by name, each once");
        let mut words: Vec<&str> =
            TABLE.iter().flat_map(|a| std::iter::once(&a.name).chain(a.aliases)).copied().collect();
        words.sort_unstable();
        assert!(words.windows(2).all(|w| w[0] != w[1]), "a name means one architecture");
        let t5 = find("T5").unwrap();
        assert!(!t5.runs() && t5.reason().unwrap().contains("two stacks"));
    }

    #[test]
    fn names_aliases_and_neighbours_are_found() {
        assert_eq!(find("Mixtral").map(|a| a.name), Some("llama"));
        assert_eq!(find("qwen3").map(|a| a.name), Some("qwen3"));
        assert!(find("no such thing").is_none());
        for (word, near) in
            [("lama", "llama"), ("qwen4", "qwen2"), ("modernbert2", "modern-bert"), ("gpt-osss", "gpt-oss")]
        {
            assert_eq!(nearest(word).name, near, "{word}");
        }
        assert!(edits("kitten", "sitting") == 3 && edits("", "ab") == 2 && edits("ab", "") == 2);
        nearest(&"x".repeat(100_000));
    }
}
