use super::*;
use std::time::Instant;

/// Numbers of many magnitudes, zeros, runs of one value and ties.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 9u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut number = |i: usize| match i / 256 % 8 {
        0 => 0.0,
        1 => (next() % 17) as f32 - 8.0,
        2 => f32::from_bits(next()) * 1e-20,
        3 => 0.75,
        4 => (next() as f32 / 1e9 - 1.0).powi(7),
        _ => next() as f32 / 2e9 - 0.5,
    };
    (0..n).map(&mut number).map(|v| if v.is_finite() { v } else { 1.0 }).collect()
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let (x, row_len) = (numbers(24 * 768), 768);
    let importance: Vec<f32> = numbers(row_len + 1024)[1024..].iter().map(|v| v.abs()).collect();
    for &ty in BlockType::ALL.iter().filter(|t| t.can_quantize()) {
        for importance in [None, Some(&importance[..])] {
            let bytes = |set| {
                let mut out = vec![0; x.len() / ty.block_len() * ty.block_bytes()];
                quantize_with(set, ty, &x, row_len, importance, &mut out).map(|()| out)
            };
            let want = bytes(Set::Baseline);
            for set in Set::available() {
                assert!(bytes(set) == want, "{ty} {set:?}");
            }
        }
    }
}

/// What this machine does with one thread, by type and instruction set, in million weights a second.
#[test]
#[ignore = "a measurement: run it in release mode with --nocapture on a quiet machine"]
#[allow(clippy::print_stdout)]
fn speed_of_every_instruction_set() {
    let row_len = 2048;
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // About normal, as trained weights are.
    let x: Vec<f32> = (0..32 * row_len).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.02 - 0.06).collect();
    let importance: Vec<f32> = (0..row_len).map(|_| uniform() + 0.01).collect();
    let mut sets: Vec<Set> = Set::available().collect();
    sets.reverse();
    println!("million weights a second, plain / with importance: {sets:?}");
    for &ty in BlockType::ALL.iter().filter(|t| t.can_quantize()) {
        let mut out = vec![0; x.len() / ty.block_len() * ty.block_bytes()];
        let mut speed = |set, importance| {
            // The first call makes the codebooks.
            quantize_with(set, ty, &x[..row_len], row_len, importance, &mut out[..ty.row_bytes(2048)? as usize])
                .ok()?;
            let (start, mut n) = (Instant::now(), 0);
            while start.elapsed().as_millis() < 150 {
                quantize_with(set, ty, &x, row_len, importance, &mut out).ok()?;
                n += x.len();
            }
            Some(n as f64 / start.elapsed().as_secs_f64() / 1e6)
        };
        let mut line = format!("{ty:8}");
        for &set in &sets {
            for importance in [None, Some(&importance[..])] {
                line += &speed(set, importance).map_or("        -".to_owned(), |speed| format!(" {speed:8.1}"));
            }
            line += "  ";
        }
        println!("{line}");
    }
}
