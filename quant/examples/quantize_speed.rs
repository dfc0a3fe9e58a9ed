//! Prints how many weights a second one thread quantizes, by type.
#![allow(clippy::print_stdout)]

use std::time::Instant;
use tealight_quant::{BlockType, quantize};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let row_len = 2048;
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // About normal, as trained weights are.
    let x: Vec<f32> = (0..32 * row_len).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.02 - 0.06).collect();
    let importance: Vec<f32> = (0..row_len).map(|_| uniform() + 0.01).collect();
    println!("{:8} {:>10} {:>10}  million weights a second, without and with importance", "", "", "");
    for &ty in BlockType::ALL.iter().filter(|t| t.can_quantize()) {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == ty.name()) {
            continue;
        }
        let mut out = vec![0; x.len() / ty.block_len() * ty.block_bytes()];
        let speed = [None, Some(&importance[..])].map(|importance| {
            let start = Instant::now();
            let mut n = 0;
            while start.elapsed().as_millis() < 300 {
                if quantize(ty, &x, row_len, importance, &mut out).is_err() {
                    return 0.0;
                }
                n += x.len();
            }
            n as f64 / start.elapsed().as_secs_f64() / 1e6
        });
        println!("{:8} {:10.1} {:10.1}", ty.name(), speed[0], speed[1]);
    }
}
