//! Quantizing gives ggml's bytes, and no number makes it panic.
#![allow(clippy::print_stderr)] // skipped tests say so

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tealight_quant::{BlockType, QuantizeErrorKind, dequantize, first_bad_scale, quantize};

/// The shared fixtures, or a line that says what is skipped.
fn fixtures(what: &str) -> Option<PathBuf> {
    let shared = match std::env::var_os("TEALIGHT_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let dir = shared.join("fixtures/quants");
    if !dir.is_dir() {
        eprintln!("skipped: {what}: no fixtures");
        return None;
    }
    Some(dir)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn numbers(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn quantized(ty: BlockType, x: &[f32], row_len: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let mut out = vec![0xa5; x.len() / ty.block_len() * ty.block_bytes()];
    quantize(ty, x, row_len, importance, &mut out).unwrap();
    out
}

#[test]
fn every_type_of_the_fixtures_has_ggmls_bytes() {
    let Some(dir) = fixtures("quantization against ggml") else { return };
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("blocks.json")).unwrap()).unwrap();
    let cases = &index["quantize"];
    let x = numbers(&dir.join(cases["input"].as_str().unwrap()));
    let importance = numbers(&dir.join(cases["imatrix"].as_str().unwrap()));
    let row_len = cases["row_length"].as_u64().unwrap() as usize;
    assert_eq!(row_len, importance.len());
    let (mut wrong, mut n_case) = (Vec::new(), 0);
    for (name, case) in cases["types"].as_object().unwrap() {
        let ty = *BlockType::ALL.iter().find(|t| t.name() == name).unwrap();
        for (form, importance) in [("plain", None), ("imatrix", Some(&importance[..]))] {
            let Some(want) = case.get(form).filter(|want| !want.is_null()) else {
                assert!(importance.is_none() && ty.needs_importance(), "{name} {form}");
                continue;
            };
            n_case += 1;
            let out = quantized(ty, &x, row_len, importance);
            if sha256(&out) == want["sha256"].as_str().unwrap() {
                continue;
            }
            let rows = out.chunks(out.len() / (x.len() / row_len));
            let hashes = want["row_sha256_16"].as_array().unwrap();
            let bad: Vec<usize> = (0..)
                .zip(rows.zip(hashes))
                .filter(|(_, (row, hash))| !sha256(row).starts_with(hash.as_str().unwrap()))
                .map(|(i, _)| i)
                .collect();
            wrong.push(format!("{name} {form}: rows {bad:?}"));
        }
    }
    assert!(wrong.is_empty(), "of {n_case} cases:\n{}", wrong.join("\n"));
    assert_eq!(n_case, 51);
}

/// About normal numbers, the same each time.
fn weights(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.02 - 0.06).collect()
}

fn types() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.iter().copied().filter(|t| t.can_quantize())
}

/// The mean squared error after a round trip, in units of the mean square.
fn relative_error(ty: BlockType, x: &[f32], row_len: usize, importance: Option<&[f32]>) -> f32 {
    let out = quantized(ty, x, row_len, importance);
    assert_eq!(first_bad_scale(ty, &out), None, "{ty}");
    let mut back = vec![0.0; x.len()];
    dequantize(ty, &out, &mut back).unwrap();
    let squares = |x: &mut dyn Iterator<Item = f32>| x.map(|v| v * v).sum::<f32>();
    squares(&mut x.iter().zip(&back).map(|(a, b)| a - b)) / squares(&mut x.iter().copied())
}

#[test]
fn more_bits_come_nearer_to_the_numbers() {
    let (x, row_len) = (weights(12 * 768, 5), 768);
    let importance: Vec<f32> = weights(row_len, 6).iter().map(|v| v * v + 1e-4).collect();
    for ty in types() {
        let bits = (ty.block_bytes() * 8) as f32 / ty.block_len() as f32;
        // The error of a uniform quantizer of normal numbers is about 2 * 4^-bits; simple formats of
        // few bits are worse, and one-bit ones far from the mean.
        let bound = if bits < 3.0 { 0.6 } else { 8.0 * 0.25f32.powf(bits) + 1e-5 };
        for importance in [None, Some(&importance[..])] {
            if importance.is_none() && ty.needs_importance() {
                continue;
            }
            let error = relative_error(ty, &x, row_len, importance);
            assert!(error < bound, "{ty}: {error} is not below {bound}");
        }
    }
}

#[test]
fn rows_do_not_know_of_each_other() {
    // Rows of 256 do not fill the batches that the quantizers work with.
    let (x, row_len) = (weights(7 * 256, 1), 256);
    let importance: Vec<f32> = weights(row_len, 2).iter().map(|v| v.abs()).collect();
    for ty in types() {
        let all = quantized(ty, &x, row_len, Some(&importance));
        let single: Vec<u8> =
            x.chunks(row_len).flat_map(|row| quantized(ty, row, row_len, Some(&importance))).collect();
        assert!(all == single, "{ty}");
    }
}

#[test]
fn columns_without_importance_give_way_to_others() {
    // Half of the columns do not matter: the error of the others must shrink.
    let (x, row_len) = (weights(8 * 512, 3), 512);
    let importance: Vec<f32> = (0..row_len).map(|i| if i % 2 == 0 { 1.0 } else { 1e-3 }).collect();
    let error = |ty, importance: Option<&[f32]>| {
        let mut back = vec![0.0; x.len()];
        dequantize(ty, &quantized(ty, &x, row_len, importance), &mut back).unwrap();
        x.iter().zip(&back).step_by(2).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
    };
    use BlockType as T;
    for ty in [T::Q4_0, T::Q4_1, T::Q2K, T::Q3K, T::Q4K, T::Q5K, T::Q6K, T::Iq4Nl, T::Iq4Xs, T::Iq3S, T::Iq2S, T::Iq1M]
    {
        let (with, without) = (error(ty, Some(&importance)), error(ty, None));
        assert!(with < without, "{ty}: {with} is not below {without}");
    }
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    use QuantizeErrorKind as K;
    let kind = |ty, n: usize, row_len, importance: Option<&[f32]>, n_bytes: usize| {
        quantize(ty, &vec![0.5; n], row_len, importance, &mut vec![0; n_bytes]).map_err(|e| e.kind)
    };
    assert_eq!(kind(BlockType::Q8K, 256, 256, None, 292), Err(K::Type));
    assert_eq!(kind(BlockType::I8, 4, 4, None, 4), Err(K::Type));
    assert_eq!(kind(BlockType::Iq2Xs, 256, 256, None, 74), Err(K::ImportanceMissing));
    assert_eq!(kind(BlockType::Q4_0, 64, 48, None, 36), Err(K::RowLength { n: 64, row_len: 48 }));
    assert_eq!(kind(BlockType::Q4_0, 96, 48, None, 54), Err(K::RowLength { n: 96, row_len: 48 }));
    assert_eq!(kind(BlockType::Q4_0, 32, 0, None, 18), Err(K::RowLength { n: 32, row_len: 0 }));
    assert_eq!(kind(BlockType::Q4_0, 32, 32, None, 17), Err(K::OutputLength { n: 32, n_bytes: 17 }));
    assert_eq!(kind(BlockType::Q4_0, 32, 32, Some(&[1.0]), 18), Err(K::ImportanceLength { n: 1, row_len: 32 }));
    assert_eq!(kind(BlockType::Q4K, 0, 0, None, 0), Ok(()));
    let message = quantize(BlockType::Iq1S, &[0.0; 256], 256, None, &mut [0; 50]).unwrap_err().to_string();
    assert_eq!(message, "IQ1_S needs an importance matrix");
}

#[test]
fn zeros_become_zeros() {
    for ty in types().filter(|&ty| ty != BlockType::Q1_0) {
        let mut back = vec![1.0; 768];
        dequantize(ty, &quantized(ty, &[0.0; 768], 256, Some(&[1.0; 256])), &mut back).unwrap();
        assert!(back.iter().all(|&v| v == 0.0), "{ty}");
    }
}

/// Numbers of any bits, the worst ones often.
fn any_number() -> impl Strategy<Value = f32> {
    let extreme =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-45, 1e-39, 0.0, -0.0, 1e20];
    prop_oneof![any::<u32>().prop_map(f32::from_bits), prop::sample::select(extreme.to_vec()), -1.0f32..1.0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_number_makes_quantizing_panic(
        x in prop::collection::vec(any_number(), 512),
        q in prop::collection::vec(any_number(), 256),
        // A few odd numbers among good ones get farther than nothing but odd ones.
        good in 0usize..512,
    ) {
        let mut x = x;
        for (x, v) in x.iter_mut().zip(weights(good, 4)) {
            *x = v;
        }
        for ty in types() {
            quantized(ty, &x, 256, Some(&q));
            if !ty.needs_importance() {
                let out = quantized(ty, &x, 256, None);
                // The rows are independent: the first is what it is alone.
                prop_assert_eq!(&out[..out.len() / 2], &quantized(ty, &x[..256], 256, None)[..], "{}", ty);
            }
        }
    }
}
