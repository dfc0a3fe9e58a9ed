//! Kernels alone: row products from memory and from the second cache, panels, activations, each beside the limits of
//! the same run. `cargo bench --bench kernels -- [FORMAT|all] [MIB] [THREADS]`; the data (default 600 MiB) must be
//! larger than the last cache. With 0 MiB panels alone. `tealight bench --kernels` prints the same as tables.
#![allow(clippy::print_stdout)]

use tealight::engine::kernel_bench::{KernelBench, PROMPT_TOKENS};

fn main() -> tealight::Result<()> {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let only = args.next().filter(|a| a != "all");
    let mut number = |default| args.next().map_or(default, |a| a.parse().expect("a number"));
    let (mib, n_threads) = (number(600), number(1));
    let bench = KernelBench::new(n_threads, mib)?;
    let types = KernelBench::types();
    let types = types.iter().filter(|ty| only.as_deref().is_none_or(|o| o == ty.name()));
    if mib > 0 {
        println!("{:>8} {:>7} {:>8} {:>7} {:>9}", "set", "type", "GB/s", "share", "from L2");
        for set in KernelBench::sets() {
            for &ty in types.clone() {
                let s = bench.decode(set, ty)?;
                let share = 100.0 * s.bytes_per_s / s.read_bytes_per_s;
                let (rate, near) = (s.bytes_per_s / 1e9, s.cached_bytes_per_s / 1e9);
                println!("{set:>8} {ty:>7} {rate:>8.2} {share:>6.0}% {near:>9.2}");
            }
        }
        for set in KernelBench::sets() {
            let times = bench.activations(set)?;
            let times: Vec<_> = times.iter().map(|(name, s)| format!("{name} {:.2}", s * 1e6)).collect();
            println!("{set:>8}: a row of activations, us: {}", times.join(", "));
        }
    }
    println!("{:>8} {:>7}  GMAC/s and share of the limit for {PROMPT_TOKENS:?} rows of activations", "set", "type");
    for set in KernelBench::sets() {
        for &ty in types.clone() {
            let Some(s) = bench.prompt(set, ty)? else { continue };
            let peak = s.peak_macs_per_s;
            let rates = s.macs_per_s.map(|rate| format!("{:>6.1} {:>3.0}%", rate / 1e9, 100.0 * rate / peak));
            println!("{set:>8} {ty:>7}  {}  of {:.0}", rates.join("  "), peak / 1e9);
        }
    }
    Ok(())
}
