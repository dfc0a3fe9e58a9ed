//! Every step on the device against the CPU: exact with numbers in f32, and no worse than the CPU's own quantization
//! of activations with int8.

use std::sync::Arc;

use rayon::prelude::*;
use tealight_quant::BlockType;

use super::cases::{Case, of_attention, of_format, of_steps};
use super::experts::{of_experts, of_routes};
use super::positions::of_positions;
use super::states::of_states;
use super::support::{Model, formats, mean_error, rows, worst};
use crate::gpu::pipelines::testing;
use crate::gpu::{Gpu, GpuOptions};
use crate::knobs::GpuVariant;
use crate::plan::{NormKind, Step};

/// Matrices in pieces of a few rows.
const SMALL_CHUNK: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags {
    plain: bool,
    int8: bool,
    checked: bool,
    small_chunks: bool,
}

const USUAL: Flags = Flags { plain: false, int8: false, checked: false, small_chunks: false };
const PLAIN: Flags = Flags { plain: true, small_chunks: true, ..USUAL };
const CHECKED: Flags = Flags { checked: true, ..PLAIN };
const INT8: Flags = Flags { int8: true, ..USUAL };

impl Flags {
    fn options(self) -> GpuOptions {
        GpuOptions {
            max_chunk: if self.small_chunks { SMALL_CHUNK } else { u64::MAX },
            checked: self.checked,
            variant: if self.plain { GpuVariant::Plain } else { GpuVariant::Auto },
            int8: [self.int8; 2],
            ..GpuOptions::default()
        }
    }

    /// Every combination. A plain device has no int8.
    fn all() -> Vec<Self> {
        let flags = |i: u32| [1, 2, 4, 8].map(|bit| i & bit != 0);
        let all = (0..16).map(|i| {
            let [plain, int8, checked, small_chunks] = flags(i);
            Self { plain, int8, checked, small_chunks }
        });
        all.filter(|f| !(f.plain && f.int8)).collect()
    }
}

/// What is wrong with a case under these flags.
fn findings(gpu: &Arc<Gpu>, case: &Case, flags: &[Flags]) -> Vec<String> {
    let script = case.script();
    let exact = script.on_cpu(&case.plan, case.weights.clone(), true);
    let scale = exact.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let mut found = Vec::new();
    for &flags in flags {
        let got = script.on_gpu(gpu, &case.plan, &*case.weights, &flags.options());
        let (largest, _) = worst(&exact, &got);
        let (limit, mean_limit) = match flags.int8 {
            false => (case.tolerance, f64::INFINITY),
            true => {
                let fast = script.on_cpu(&case.plan, case.weights.clone(), false);
                let on_cpu = mean_error(&exact, &fast);
                // Where the CPU keeps f32, the usual error of int8 is the bound.
                let is_quantized = on_cpu > f64::from(case.tolerance * scale) / 10.0;
                (8e-2, if is_quantized { 1.25 * on_cpu } else { f64::INFINITY })
            }
        };
        let mean = mean_error(&exact, &got);
        if largest > limit {
            let error = |i: usize| (exact[i] - got[i]).abs();
            let is_wrong = |i: &usize| error(*i) > limit * scale || error(*i).is_nan();
            let at = (0..exact.len()).find(is_wrong).expect("the worst one");
            found.push(format!(
                "{}, {flags:?}: {largest:.1e} of at most {limit:.1e}; first at {at} of {}: {} and not {}",
                case.name,
                exact.len(),
                got[at],
                exact[at]
            ));
        } else if mean > mean_limit {
            found.push(format!(
                "{}, {flags:?}: a mean error of {mean:.2e}, the CPU's int8 has {mean_limit:.2e}",
                case.name
            ));
        }
    }
    found
}

/// Checks cases under `flags`, and every fourth one under `rare` ones, too: with bounds checks software drivers compile
/// for long.
fn check(cases: Vec<Case>, flags: &[Flags], rare: &[Flags]) {
    let Some(gpu) = testing::gpu() else { return };
    let judge = |(i, case): (usize, &Case)| {
        let rare = if i % 4 == 0 { rare } else { &[] };
        findings(&gpu, case, &[flags, rare].concat())
    };
    let found: Vec<String> = cases.par_iter().enumerate().flat_map(judge).collect();
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), cases.len(), found.join("\n"));
}

fn all_formats() -> Vec<Case> {
    formats().into_iter().map(of_format).collect()
}

#[test]
fn matrices_of_every_format_and_size_are_exact() {
    check(all_formats(), &[USUAL, PLAIN], &[CHECKED]);
}

#[test]
fn int8_products_of_every_format_err_no_more_than_the_cpus() {
    check(all_formats(), &[INT8], &[]);
}

#[test]
fn what_is_no_number_does_not_become_one_by_int8() {
    let Some(gpu) = testing::gpu() else { return };
    for ty in [BlockType::Q4_0, BlockType::Q4_1] {
        let (mut m, x) = Model::given(1, 96);
        let y = m.plan.buffer("y", 10);
        let (third, kind, eps) = (x.columns(32, 32), NormKind::Rms, f32::NAN);
        m.plan.push(Step::Norm { x: third, out: third, kind, eps, width: 32, weight: None, bias: None });
        m.linear(ty, x, y);
        let case = Case::new(format!("{ty} of no numbers"), m, y, 0.0).on(vec![rows(1), rows(9)]);
        let got = case.script().on_gpu(&gpu, &case.plan, &*case.weights, &INT8.options());
        assert!(got.len() == 100 && got.iter().all(|y| y.is_nan()), "{}: {got:?}", case.name);
    }
}

#[test]
fn the_choice_of_experts_is_the_cpus() {
    check(of_routes(), &[USUAL], &[CHECKED]);
}

#[test]
fn experts_are_exact() {
    check(of_experts(), &[USUAL, PLAIN, INT8], &[CHECKED]);
}

#[test]
fn experts_of_every_format_are_exact() {
    check(formats().into_iter().map(super::experts::of_format).collect(), &[USUAL, INT8], &[]);
}

#[test]
fn every_step_is_exact() {
    check(of_steps(), &[USUAL, PLAIN, INT8], &[CHECKED]);
}

#[test]
fn every_step_with_a_state_is_exact() {
    check(of_states(), &[USUAL, PLAIN], &[CHECKED]);
}

#[test]
fn chosen_positions_are_the_same_and_attention_over_them_is_exact() {
    check(of_positions(), &[USUAL], &[CHECKED]);
}

#[test]
fn attention_over_every_cache_is_exact() {
    check(of_attention(), &[USUAL], &[CHECKED]);
}

#[test]
#[ignore = "takes minutes: cargo test --lib -- --ignored gpu::tests"]
fn every_case_holds_under_every_combination_of_options() {
    check(
        all_formats()
            .into_iter()
            .chain(of_steps())
            .chain(of_states())
            .chain(of_positions())
            .chain(of_attention())
            .collect(),
        &Flags::all(),
        &[],
    );
}
