//! `tealight logits`.

use super::*;

fn written(args: &[&str], model: &str, tokens: &[u32]) -> Vec<f32> {
    let folder = TempDir::new("cli-logits");
    let path = folder.path().join("l.f32");
    let tokens = ids(tokens);
    let path_text = path.to_string_lossy().into_owned();
    let run = tealight([&["logits", model, "--tokens", &tokens, "-o", &path_text], args].concat());
    assert_eq!(run.quietly(), "");
    read_f32(&path)
}

fn check(found: &[f32], want: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), want.len(), "{what}");
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let error = found.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(error <= bound, "{what}: {error:e}");
}

#[test]
fn logits_equal_the_reference_however_they_are_fed() {
    for name in fixture_names() {
        let folder = fixtures().join(&name);
        let want = read_f32(&folder.join("logits.f32"));
        let tokens = tokens(&read_json(&folder.join("expect.json"))["tokens"]);
        let model = model(&name);
        check(&written(&["--exact"], &model, &tokens), &want, 1e-4, &name);
        check(&written(&["--exact", "--chunk", "7"], &model, &tokens), &want, 1e-4, &name);
        check(&written(&["-ctk", "f32", "-ctv", "f32", "-t", "3"], &model, &tokens), &want, 1e-3, &name);
        let n_vocab = want.len() / tokens.len();
        let last = written(&["--exact", "--last", "--chunk", "5"], &model, &tokens);
        check(&last, &want[want.len() - n_vocab..], 1e-4, &name);
    }
}

#[test]
fn standard_output_takes_them_too() {
    let m = model("qwen3");
    let bytes = tealight(["logits", &m, "--tokens", "1,2,3", "-o", "-"]).stdout;
    let floats: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(floats, written(&[], &m, &[1, 2, 3]));
}

#[test]
fn a_label_writes_what_is_inside() {
    let m = model("qwen3");
    // 4 heads of 32.
    let all = written(&["--label", "blk.1.q", "--exact"], &m, &[5, 6, 7]);
    assert_eq!(all.len(), 3 * 128);
    assert_eq!(written(&["--label", "blk.1.q", "--exact", "--last"], &m, &[5, 6, 7]), all[2 * 128..]);
    let logits = written(&["--exact"], &m, &[5, 6, 7]);
    assert_eq!(written(&["--label", "head.logits", "--exact"], &m, &[5, 6, 7]), logits);
    assert_eq!(written(&["--label", "head.logits", "--exact", "--last"], &m, &[5, 6, 7]), logits[2 * 376..]);
}

#[test]
fn a_prompt_is_its_tokens() {
    let m = model("llama31");
    let ids = tealight(["tokenize", "-q", &m, "Hello"]).quietly();
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let run = tealight(["logits", &m, "--prompt", "Hello", "-o", "-"]);
    assert_eq!(run.stdout.len(), ids.len() * 384 * 4);
    let floats: Vec<f32> = run.stdout.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(floats, written(&[], &m, &ids));
}

/// By the definition: the second half of each chunk, from the logits of whole chunks.
#[test]
fn perplexity_is_that_of_the_logits() {
    const N_CTX: usize = 32;
    let (m, folder) = (model("llama31"), TempDir::new("cli-nll"));
    let file = folder.path().join("t.txt");
    let text = "It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(8);
    std::fs::write(&file, &text).unwrap();
    let all = piped(["tokenize", "-q", &m], text.as_bytes()).quietly();
    let all: Vec<u32> = all.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let bos = all[0];
    let (mut sum, mut n) = (0.0, 0);
    for chunk in all.chunks_exact(N_CTX).take(3) {
        let mut chunk = chunk.to_vec();
        chunk[0] = bos;
        let logits = written(&["--exact"], &m, &chunk);
        let rows: Vec<_> = logits.chunks_exact(384).collect();
        for i in N_CTX / 2..N_CTX - 1 {
            let sum_exp: f64 = rows[i].iter().map(|x| f64::from(*x).exp()).sum();
            sum += sum_exp.ln() - f64::from(rows[i][chunk[i + 1] as usize]);
            n += 1;
        }
    }
    assert_eq!(n, 3 * 15);
    let want = (sum / f64::from(n)).exp();
    let file = file.to_string_lossy();
    let args = ["logits", "-q", &m, "--nll", "-f", &file];
    let run = |rest: &[&str]| tealight([&args[..], rest].concat());
    let line = run(&["--ctx", "32", "--chunks", "3", "--exact"]).quietly();
    let found = line.strip_prefix("Final estimate: PPL = ").and_then(|l| l.split_once(" +/- ")).expect("the last line");
    let found: f64 = found.0.parse().expect("a number");
    assert!((found / want - 1.0).abs() < 1e-4, "{found} {want}");
    // One scored token has a perplexity and no error of it.
    let one = run(&["--ctx", "4", "--chunks", "1"]).quietly();
    let one = one.strip_prefix("Final estimate: PPL = ").and_then(|l| l.strip_suffix('\n'));
    assert!(one.and_then(|x| x.parse::<f64>().ok()).is_some_and(|x| x >= 1.0), "{one:?}");
    assert!(run(&["--chunks", "0"]).error(2).contains("--chunks"));
    let text = run(&["--ctx", "5000"]).error(2);
    assert!(text.contains("two chunks of 5000") && text.contains("hint: "), "{text}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_no_file() {
    let folder = TempDir::new("cli-stop");
    let path = folder.path().join("l.f32");
    let tokens = ids(&[3; 20_000]);
    let mut child = command(["logits", &model("qwen3"), "--exact", "-t", "1", "--tokens", &tokens, "-o"])
        .arg(&path)
        .spawn()
        .expect("the binary starts");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    while files() == 0 {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    assert_eq!((child.wait().expect("an end").code(), files()), (Some(130), 0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_size_limit_is_an_error_and_leaves_no_file() {
    let folder = TempDir::new("cli-fsize");
    let path = folder.path().join("l.f32");
    let script = "ulimit -f 16; exec \"$0\" logits \"$1\" --tokens \"$2\" -o \"$3\"";
    let tokens = ids(&[3; 200]);
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tealight"), &model("qwen3"), &tokens]).arg(&path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert!(finish(command, None).error(5).contains("cannot write"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
