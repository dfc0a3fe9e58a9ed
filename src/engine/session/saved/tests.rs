//! What is saved goes on as if nothing had been; what does not fit is refused by what differs.

use std::path::{Path, PathBuf};

use super::*;
use crate::engine::{ModelOptions, Want};
use crate::plan::{CacheType, SequenceMemory};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf")
}

fn model(name: &str) -> Model {
    Model::open(fixture(name), &ModelOptions::default().with_threads(2)).unwrap()
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tealight-saved-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + 11) % 300).collect()
}

fn feed(session: &mut Session, tokens: &[u32]) -> Vec<u32> {
    let rows = session.feed(tokens, 17, Want::All, &mut |_| {}).unwrap();
    rows.iter().map(|x| x.to_bits()).collect()
}

fn options(k: CacheType, v: CacheType) -> SessionOptions {
    SessionOptions::default().with_ctx(700).with_cache(k, v)
}

#[test]
fn a_restored_session_goes_on_bit_for_bit() {
    let folder = Folder::new("bits");
    let types = [(CacheType::F32, CacheType::F32), (CacheType::F16, CacheType::F16)];
    // Heads of these fixtures that are whole blocks of 32.
    let quantized = [(CacheType::Q8_0, CacheType::Q8_0), (CacheType::F16, CacheType::Q8_0)];
    let mut n_quantized = 0;
    for name in ["llama31", "gemma2", "gemma3", "phi35-long", "qwen3", "lfm2", "qwen35", "falcon-h1", "deepseek32"] {
        let model = model(name);
        for (k, v) in types.into_iter().chain(quantized) {
            let options = options(k, v);
            let Ok(mut session) = model.session(&options) else { continue };
            n_quantized += usize::from(v == CacheType::Q8_0);
            // Beyond the first block of rows and beyond the windows, and within them.
            for n in [1, 63, 150, 600] {
                session.clear();
                let (before, after) = (tokens(n), tokens(90));
                feed(&mut session, &before);
                let path = folder.file("s");
                let bytes = session.save(&path, &[]).unwrap();
                assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
                let want = feed(&mut session, &after);
                let mut restored = model.restore(&path, &options).unwrap();
                assert_eq!(restored.tokens(), before);
                assert_eq!(feed(&mut restored, &after), want, "{name}, {k:?} and {v:?}, {n} tokens");
                // The file is untouched by what was computed on its map.
                let mut again = model.restore(&path, &options).unwrap();
                assert_eq!(feed(&mut again, &after), want, "{name} once more");
                // One row back, as a chat goes to what two prompts have in common.
                let is_held = again.memory.nearest(n) == n;
                again.rewind(n as usize).unwrap();
                let got = feed(&mut again, &after);
                // A state that is not held is computed from its text, in other batches.
                assert!(got == want || !is_held, "{name} rewound");
            }
        }
    }
    assert!(n_quantized > 0, "no fixture has heads of whole blocks");
}

#[test]
fn a_session_that_goes_on_is_saved_over_the_file_that_it_computes_on() {
    let folder = Folder::new("over");
    let (model, options) = (model("gemma3"), options(CacheType::F16, CacheType::F16));
    let path = folder.file("s");
    let mut session = model.session(&options).unwrap();
    feed(&mut session, &tokens(100));
    session.save(&path, &[]).unwrap();
    let mut restored = model.restore(&path, &options).unwrap();
    feed(&mut restored, &tokens(3));
    restored.save(&path, &[]).unwrap();
    feed(&mut session, &tokens(3));
    let want = feed(&mut session, &tokens(40));
    assert_eq!(feed(&mut restored, &tokens(40)), want);
    assert_eq!(feed(&mut model.restore(&path, &options).unwrap(), &tokens(40)), want);
}

/// As sessions on a GPU are saved.
#[test]
fn a_file_without_rows_keeps_the_text_and_is_not_gone_on_from() {
    let folder = Folder::new("rowless");
    let (model, path) = (model("llama31"), folder.file("s"));
    let types = (CacheType::F16, CacheType::F16);
    let key = Key { model: model.identity(), plan: 1, types, kernels: "none".into() };
    let mut file = Vec::new();
    saved::write(&mut file, &key, 64, r#"{"messages":[{"role":"user"}]}"#, &[1, 2, 3], &[]).unwrap();
    std::fs::write(&path, file).unwrap();
    let saved = SavedSession::open(&path).unwrap();
    assert_eq!((saved.has_rows(), saved.tokens(), saved.messages().len()), (false, &[1, 2, 3][..], 1));
    let mut session = model.session(&options(CacheType::F16, CacheType::F16)).unwrap();
    feed(&mut session, &tokens(4));
    let error = session.restore(&saved).unwrap_err();
    assert!(error.to_string().contains("text alone") && session.tokens().len() == 4, "{error}");
    assert!(session.keeps_rows());
}

#[test]
fn messages_are_kept_and_only_the_owner_reads_them() {
    let folder = Folder::new("messages");
    let model = model("llama31");
    let mut session = model.session(&options(CacheType::F16, CacheType::F16)).unwrap();
    feed(&mut session, &tokens(5));
    let messages = [json!({"role": "user", "content": "Grüße\u{0}"})];
    session.save(&folder.file("s"), &messages).unwrap();
    let saved = SavedSession::open(&folder.file("s")).unwrap();
    assert_eq!((saved.messages(), saved.model_name()), (&messages[..], "model.gguf"));
    assert!(saved.has_rows() && saved.n_ctx() == 700 && saved.tokens().len() == 5);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(folder.file("s")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_says_what_differs() {
    let folder = Folder::new("misfit");
    let path = folder.file("s");
    let f16 = options(CacheType::F16, CacheType::F16);
    let llama = model("llama31");
    let mut session = llama.session(&f16).unwrap();
    feed(&mut session, &tokens(100));
    session.save(&path, &[]).unwrap();
    let refused = |model: &Model, options: &SessionOptions, words: &str| {
        let error = model.restore(&path, options).err().expect(words);
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        assert!(error.to_string().contains(words) && error.hint().is_some(), "{error}");
    };
    refused(&model("qwen3"), &f16, "another model, `model.gguf`");
    refused(&llama, &options(CacheType::F32, CacheType::F16), "keys in F16");
    refused(&llama, &f16.clone().with_ctx(99), "100 tokens, the context holds 99");
    let exact = Model::open(fixture("llama31"), &ModelOptions::default().with_exact(true)).unwrap();
    refused(&exact, &f16, "here exact computes");
    assert!(llama.restore(&path, &f16.clone().with_ctx(100)).is_ok(), "a full cache has no other places");

    let windowed = model("gemma3");
    let mut session = windowed.session(&f16).unwrap();
    feed(&mut session, &tokens(100));
    session.save(&path, &[]).unwrap();
    let narrow = crate::knobs::Knobs { n_ubatch: 64, ..Default::default() };
    let narrow = Model::open(fixture("gemma3"), &ModelOptions::default().with_knobs(narrow)).unwrap();
    let mut other = narrow.session(&f16).unwrap();
    let saved = SavedSession::open(&path).unwrap();
    if let Err(error) = other.restore(&saved) {
        assert!(error.to_string().contains("do not fit"), "{error}");
        assert!(other.tokens().is_empty(), "a session that took nothing is empty");
        feed(&mut other, &tokens(4));
    }
}

#[test]
fn a_copy_is_the_same_model_and_a_changed_weight_is_another() {
    let folder = Folder::new("identity");
    let whole = std::fs::read(fixture("qwen3")).unwrap();
    let path = folder.file("copy.gguf");
    std::fs::write(&path, &whole).unwrap();
    let open = |path: &Path| Model::open(path, &ModelOptions::default()).unwrap();
    let original = open(&fixture("qwen3"));
    assert_eq!(open(&path).identity(), original.identity());
    let tensor = original.gguf().tensor("blk.1.ffn_up.weight").unwrap();
    let mut changed = whole;
    changed[(tensor.offset + tensor.bytes / 2) as usize] ^= 1;
    let path = folder.file("changed.gguf");
    std::fs::write(&path, changed).unwrap();
    assert_ne!(open(&path).identity(), original.identity());
    assert_ne!(model("llama31").identity(), original.identity());
}

#[test]
fn hostile_files_are_refused_whole() {
    let folder = Folder::new("hostile");
    let (model, options) = (model("llama31"), options(CacheType::F16, CacheType::F16));
    let mut session = model.session(&options).unwrap();
    feed(&mut session, &tokens(70));
    session.save(&folder.file("s"), &[]).unwrap();
    let whole = std::fs::read(folder.file("s")).unwrap();
    let bad = folder.file("bad");
    let refused = |bytes: &[u8]| {
        std::fs::write(&bad, bytes).unwrap();
        let error = model.restore(&bad, &options).err().expect("a refusal");
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    };
    for n in [0, 1, 7, 8, 103, 104, 300, 4096, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..n]);
    }
    for at in (0..whole.len()).step_by(whole.len() / 97).filter(|at| whole[*at] != 0) {
        let mut bytes = whole.clone();
        bytes[at] = !bytes[at];
        refused(&bytes);
    }
    let error = |path: &Path| model.restore(path, &options).err().expect("a refusal");
    assert_eq!(error(&folder.file("absent")).kind(), ErrorKind::Io);
    assert!(error(&folder.0).to_string().contains("no regular file"));
}

/// Rows that lie about themselves under right checksums: nothing is read beyond them.
#[test]
fn lies_about_rows_under_right_checksums_are_refused() {
    let folder = Folder::new("lies");
    let (model, options) = (model("gemma3"), options(CacheType::F16, CacheType::F16));
    let mut session = model.session(&options).unwrap();
    feed(&mut session, &tokens(100));
    session.save(&folder.file("s"), &[]).unwrap();
    let saved = SavedSession::open(&folder.file("s")).unwrap();
    let bytes = |range: &std::ops::Range<usize>| saved.map[range.clone()].to_vec();
    let rows: Vec<_> = saved.contents.caches.iter().map(|c| (c.clone(), bytes(&c.k), bytes(&c.v))).collect();
    type Lie<'a> = &'a dyn Fn(&mut crate::cache::saved::RowsIn, &mut Vec<u8>, &mut Vec<u32>, usize);
    let lies: [(&str, Lie<'_>); 7] = [
        ("more rows than bytes", &|c, _, _, _| c.n_row = 1 << 20),
        ("rows that are no whole blocks", &|c, _, _, _| c.n_row -= 1),
        ("fewer rows than positions", &|c, k, _, _| {
            k.truncate(k.len() / c.n_row as usize * 64);
            c.n_row = 64;
        }),
        ("a position behind the end", &|c, _, _, _| c.first = 101),
        ("other slots", &|c, _, _, _| c.n_slot += 64),
        ("more tokens than rows", &|_, _, t, i| t.extend(vec![1; 500 * usize::from(i == 0)])),
        ("unknown tokens", &|_, _, t, _| t[0] = u32::MAX),
    ];
    for (what, lie) in lies {
        let mut rows = rows.clone();
        let mut tokens = saved.tokens().to_vec();
        rows.iter_mut().enumerate().for_each(|(i, (c, k, _))| lie(c, k, &mut tokens, i));
        let out: Vec<_> =
            rows.iter().map(|(c, k, v)| RowsOut { first: c.first, n_slot: c.n_slot, n_row: c.n_row, k, v }).collect();
        let mut file = Vec::new();
        saved::write(&mut file, &saved.contents.key, 700, "{}", &tokens, &out).unwrap();
        std::fs::write(folder.file("lie"), file).unwrap();
        let error = model.restore(&folder.file("lie"), &options).err().expect(what);
        assert_eq!(error.kind(), ErrorKind::Model, "{what}: {error}");
    }
}
