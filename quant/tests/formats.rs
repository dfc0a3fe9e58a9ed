//! Every block format equals ggml bit for bit.
#![allow(clippy::print_stderr)] // skipped tests say so

use sha2::{Digest, Sha256};
use std::path::PathBuf;
use tealight_quant::activations::{quantize_q8_0_activations, quantize_q8_1_activations, quantize_q8_k_activations};
use tealight_quant::{BlockType, dequantize, first_bad_scale};

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

fn values(ty: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    dequantize(ty, bytes, &mut out).unwrap();
    out
}

#[test]
fn every_type_of_the_fixtures_dequantizes_to_ggmls_bits() {
    let Some(dir) = fixtures("dequantization against ggml") else { return };
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("blocks.json")).unwrap()).unwrap();
    let mut n_type = 0;
    for (name, case) in index["blocks"].as_object().unwrap() {
        let ty = BlockType::from_id(case["type"].as_u64().unwrap().try_into().unwrap()).unwrap();
        assert_eq!(ty.name(), name);
        let bytes = std::fs::read(dir.join(case["file"].as_str().unwrap())).unwrap();
        let out = values(ty, &bytes);
        assert_eq!(sha256(bytemuck::cast_slice(&out)), case["f32_sha256"].as_str().unwrap(), "{name}");
        assert_eq!(first_bad_scale(ty, &bytes), None, "{name}");
        // blocks of a map lie at any address
        let moved: Vec<u8> = std::iter::once(0).chain(bytes).collect();
        assert!(values(ty, &moved[1..]).iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()), "{name} moved");
        n_type += 1;
    }
    assert_eq!(n_type, 27);
}

#[test]
fn activations_equal_those_of_ggmls_vector_code() {
    let Some(dir) = fixtures("activations against ggml") else { return };
    let x: Vec<f32> = std::fs::read(dir.join("activations.f32"))
        .unwrap()
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(bytemuck::cast_slice::<_, u8>(&quantize_q8_0_activations(&x)) == read("activations.q8_0.bin"));
    assert!(bytemuck::cast_slice::<_, u8>(&quantize_q8_1_activations(&x)) == read("activations.q8_1.bin"));
    assert!(bytemuck::cast_slice::<_, u8>(&quantize_q8_k_activations(&x)) == read("activations.q8_k.bin"));
}

/// A block from bytes given by position; the rest is zero.
fn block(ty: BlockType, bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut b = vec![0; ty.block_bytes()];
    for &(at, v) in bytes {
        b[at] = v;
    }
    b
}

/// f16: 0x3c is the upper byte of 1, 0x40 of 2, 0x38 of 0.5.
#[test]
fn small_blocks_give_values_worked_out_by_hand() {
    use BlockType as T;
    type Case<'a> = (T, &'a [(usize, u8)], &'a [(usize, f32)]);
    let cases: &[Case<'_>] = &[
        (T::Q4_0, &[(1, 0x40), (2, 0xf0)], &[(0, -16.0), (16, 14.0), (1, -16.0)]),
        (T::Q4_1, &[(1, 0x40), (3, 0x3c), (4, 0xf3)], &[(0, 7.0), (16, 31.0), (1, 1.0)]),
        (T::Q5_0, &[(1, 0x3c), (2, 1), (4, 1), (6, 0x21)], &[(0, 1.0), (16, 2.0), (1, -16.0)]),
        (T::Q5_1, &[(1, 0x3c), (3, 0x38), (5, 0x80), (23, 0xf0)], &[(31, 15.5), (15, 16.5), (0, 0.5)]),
        (T::Q8_0, &[(1, 0x38), (2, 0x80), (33, 127)], &[(0, -64.0), (31, 63.5)]),
        (T::Q1_0, &[(1, 0x3c), (3, 2)], &[(8, -1.0), (9, 1.0)]),
        (T::Q2_0, &[(1, 0x3c), (17, 0xe4)], &[(60, -1.0), (61, 0.0), (62, 1.0), (63, 2.0), (0, -1.0)]),
        // d = 1, dmin = 0.5; scale and min of elements 16..32: 3 and 2; element 16: quant 2
        (T::Q2K, &[(1, 0x23), (32, 2), (81, 0x3c), (83, 0x38)], &[(16, 5.0), (17, -1.0), (0, 0.0)]),
        // scale 0 is 0x21 - 32 = 1; quant 1 with the third bit clear: -3, set: 1
        (T::Q3K, &[(96, 1), (104, 2), (109, 0x3c), (32, 1), (33, 1), (1, 1)], &[(0, -3.0), (1, 1.0), (2, -4.0)]),
        // sub-block 4: scale = (9 & 15) | (64 >> 6) << 4 = 25 and min 0; sub-block 0: scale 0
        (T::Q4K, &[(1, 0x3c), (3, 0x3c), (12, 9), (4, 64), (80, 3)], &[(128, 75.0), (0, 0.0), (129, 0.0)]),
        // sub-block 1: scale 1, min 2, quant 1 + 16
        (T::Q5K, &[(1, 0x3c), (3, 0x3c), (5, 1), (9, 2), (16, 2), (48, 0x10)], &[(32, 15.0), (33, -2.0)]),
        // scale of elements 16..32 is -2; element 16 is 1 | 2 << 4 - 32 = 1
        (T::Q6K, &[(16, 1), (144, 2), (193, 0xfe), (209, 0x3c)], &[(16, -2.0), (17, 64.0), (0, -0.0)]),
        (T::Iq4Nl, &[(1, 0x3c), (2, 0x80)], &[(0, -127.0), (16, 1.0)]),
        // group 0 has scale 1 | 2 << 4 - 32 = 1
        (T::Iq4Xs, &[(1, 0x3c), (2, 2), (4, 1), (8, 0xf0)], &[(0, -127.0), (16, 113.0)]),
        // entry 0 of the codebook is eight times 8; signs of run 0: 1 and, for parity, 128
        (T::Iq2Xxs, &[(1, 0x3c), (6, 1)], &[(0, -1.0), (1, 1.0), (7, -1.0)]),
        // digits of 0xff: 2 first; of 0: 0
        (T::Tq1_0, &[(53, 0x3c), (0, 0xff)], &[(0, 1.0), (32, 1.0), (1, -1.0)]),
        (T::Tq2_0, &[(65, 0x3c), (0, 0x1b)], &[(0, 2.0), (32, 1.0), (64, 0.0), (96, -1.0)]),
        (T::Mxfp4, &[(0, 128), (1, 0xf7)], &[(0, 12.0), (16, -12.0), (1, 0.0)]),
        // scales: 0x38 is 1, halved for the doubled table; 0x7f counts as zero
        (T::Nvfp4, &[(0, 0x38), (1, 0x7f), (4, 0x91), (12, 0x11)], &[(0, 0.5), (8, -0.5), (16, 0.0)]),
        (T::F64, &[(7, 0xbf), (6, 0xf0)], &[(0, -1.0)]),
        (T::I8, &[(0, 0xff)], &[(0, -1.0)]),
        (T::I64, &[(2, 1)], &[(0, 65536.0)]),
        (T::Bf16, &[(1, 0x40)], &[(0, 2.0)]),
        (T::F16, &[(0, 1)], &[(0, 5.960_464_5e-8)]),
    ];
    for (ty, bytes, want) in cases {
        let got = values(*ty, &block(*ty, bytes));
        for &(i, want) in *want {
            assert_eq!(got[i].to_bits(), want.to_bits(), "{ty} element {i}: {} is not {want}", got[i]);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    assert!(dequantize(BlockType::Q4_0, &[0; 18], &mut [0.0; 31]).is_err());
    assert!(dequantize(BlockType::Q4_0, &[0; 17], &mut [0.0; 32]).is_err());
    let e = dequantize(BlockType::F32, &[0; 8], &mut [0.0; 3]).unwrap_err();
    assert_eq!(e.to_string(), "8 bytes of F32 are not 3 elements");
    assert!(dequantize(BlockType::Q6K, &[], &mut []).is_ok());
}

#[test]
fn a_scale_that_is_no_finite_number_is_found() {
    use BlockType as T;
    let cases = [(T::Q4_0, 1), (T::Q4_1, 3), (T::Q4K, 3), (T::Q6K, 209), (T::Q2K, 81), (T::Tq1_0, 53), (T::F16, 1)];
    for (ty, at) in cases {
        let mut bytes = vec![0; 3 * ty.block_bytes()];
        assert_eq!(first_bad_scale(ty, &bytes), None, "{ty}");
        bytes[2 * ty.block_bytes() + at] = 0xfc; // -inf
        assert_eq!(first_bad_scale(ty, &bytes), Some(2), "{ty}");
    }
    let mut iq1_m = vec![0; 56];
    (iq1_m[53], iq1_m[55]) = (0xc0, 0x70);
    assert_eq!(first_bad_scale(T::Iq1M, &iq1_m), Some(0));
    assert_eq!(first_bad_scale(T::Mxfp4, &block(T::Mxfp4, &[(0, 255)])), Some(0));
    assert_eq!(first_bad_scale(T::Q8K, &block(T::Q8K, &[(3, 0x7f), (2, 0x80)])), Some(0));
}

#[test]
fn activations_round_half_to_even_and_carry_nan() {
    let mut x = [0.0f32; 32];
    (x[0], x[1], x[2]) = (-127.0, 0.5, 1.5);
    let q8_0 = quantize_q8_0_activations(&x);
    assert_eq!((q8_0[0].d, &q8_0[0].qs[..4]), ([0, 0x3c], &[-127, 0, 2, 0][..]));
    let mut x = [0.25f32; 256];
    x[3] = 2.0;
    let q8_k = quantize_q8_k_activations(&x);
    assert_eq!((q8_k[0].scale(), q8_k[0].qs[3], q8_k[0].qs[0]), (-2.0 / 127.0, -127, -16));
    assert_eq!(i16::from_le_bytes(q8_k[0].bsums[0]), -127 - 15 * 16);
    x[200] = f32::NAN;
    assert!(quantize_q8_k_activations(&x)[0].scale().is_nan());
    assert_eq!(quantize_q8_1_activations(&[0.0; 64])[1].qs, [0; 32]);
}
