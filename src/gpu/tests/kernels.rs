//! Every kernel that a plan can ask for, without a GPU: the drivers of all platforms would take it.

use std::collections::HashSet;

use rayon::prelude::*;
use tealight_quant::BlockType;

use super::experts::{of_experts, of_format as experts_of_format, of_routes};
use super::fixtures::fixtures;
use super::positions::of_positions;
use super::states::of_states;
use super::support::{Model, formats};
use crate::gpu::compose::{FILES, Kernel, WEIGHTS};
use crate::gpu::kernels::attend::{Attend, CacheShape, Heads, Store, fits};
use crate::gpu::kernels::positions::{Chosen, Positions};
use crate::gpu::kernels::select::{MAX_K, Select};
use crate::gpu::lint::{Subgroups, check};
use crate::gpu::lower::{Grid, Variant, WholeMatrices, lower};
use crate::gpu::planes::planes;
use crate::plan::{self, Act, CacheSpec, CacheType, NormKind, Operand, Pairs, Plan, PoolKind, RopeTable, Span, Step};

const TYPES: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];

fn variants() -> Vec<Variant> {
    let flags = |i: u32| [1, 2, 4, 8].map(|bit| i & bit != 0);
    let variant = |[subgroups, int8_prompt, int8_decode, fuse]: [bool; 4]| Variant {
        subgroups,
        int8_prompt,
        int8_decode,
        max_groups: 65_535,
        max_binding: u64::MAX,
        fuse,
    };
    (0..16).map(|i| variant(flags(i))).collect()
}

/// Everything that steps over rows may be, on the given columns: `r` is read and written.
fn push_row_steps(m: &mut Model, r: Operand, y: Operand) {
    for (kind, width) in [NormKind::Rms, NormKind::Layer, NormKind::L2].into_iter().flat_map(|k| [(k, 64), (k, 256)]) {
        let norm = |out| Step::Norm { x: r, out, kind, eps: 1e-5, width, weight: None, bias: None };
        m.plan.push(norm(y));
        m.add(r, y, 1.0);
        m.plan.push(norm(r));
    }
    let xielu = Act::Xielu { positive: 0.9, negative: 0.8, beta: 0.5, eps: -1e-6 };
    let clamped = Act::ClampedSwiglu { alpha: 1.702, limit: 7.0 };
    for act in [Act::Silu, Act::Gelu, Act::GeluErf, Act::Relu, Act::Relu2, xielu, Act::Sigmoid, Act::Id, clamped] {
        m.plan.push(Step::Gate { x: r, out: y, act, by: None });
        m.plan.push(Step::Gate { x: r, out: r, act, by: Some(y) });
        m.plan.push(Step::Gate { x: y.columns(0, 1), out: r, act, by: Some(r) });
    }
    m.plan.push(Step::Softcap { x: r, out: r, cap: 30.0 });
    m.plan.push(Step::Softcap { x: r, out: y, cap: 30.0 });
    let weight = Some(m.vector(256));
    m.plan.push(Step::Scale { x: r, out: r, factor: 0.5, weight });
    m.plan.push(Step::Scale { x: r, out: r, factor: 0.5, weight: None });
    m.plan.push(Step::Rescale { x: r.split(4, 64), like: y.columns(0, 64), out: r.split(4, 64), eps: 1e-5 });
    m.plan.push(Step::Sparsify { x: r, out: r, n_std: 0.5 });
    let (coef, mixed) = (r.columns(0, 16), m.plan.buffer("mixed", 256));
    m.plan.push(Step::Mix { x: r.split(4, 64), coef, base: y.split(4, 64), out: mixed.split(4, 64), offset: 0.0 });
    let (x, coef) = (mixed.split(4, 64), mixed.columns(0, 16));
    m.plan.push(Step::Mix { x, coef, base: x, out: r.split(4, 64), offset: 0.0 });
    m.plan.push(Step::Add { x: r, y, out: r, scale: 0.5 });
}

/// Embeddings and products with matrices of one format, before and behind a Take.
fn of_format(ty: BlockType) -> Plan {
    let (mut m, x) = Model::given(1, 256);
    let (r, a, b) = (m.plan.buffer("r", 256), m.plan.buffer("a", 256), m.plan.buffer("b", 256));
    m.embed(ty, 2, r, 1.0, false);
    m.embed(ty, 2, r, 1.0, true);
    for taken in [false, true] {
        if taken {
            m.plan.push(Step::Take { keep: vec![x.buf, r.buf] });
        }
        m.linear(ty, x, a);
        m.linear(ty, x, b);
        m.add(r, b, 1.0);
        m.add(r, a, 1.0);
    }
    std::sync::Arc::into_inner(m.finish(r).0).unwrap()
}

/// All other steps; an input that is not aligned, too.
fn of_rows() -> Vec<Plan> {
    let finish = |m: Model, out| std::sync::Arc::into_inner(m.finish(out).0).unwrap();
    let mut plans = Vec::new();
    let (mut m, x) = Model::given(1, 256);
    let (r, y) = (m.plan.buffer("r", 256), m.plan.buffer("y", 256));
    m.plan.push(Step::Gate { x, out: r, act: Act::Silu, by: None });
    let table = m.plan.table(RopeTable { freqs: vec![1.0; 8], amp: 1.0 });
    for pairs in [Pairs::Adjacent, Pairs::Halves] {
        m.plan.push(Step::Rope { x: r.split(4, 64), out: r.split(4, 64), table, pairs });
    }
    push_row_steps(&mut m, r, y);
    m.linear(BlockType::F32, r.columns(1, 64), y.columns(0, 64));
    m.add(r.columns(0, 64), y.columns(0, 64), 1.0);
    m.plan.push(Step::Take { keep: vec![r.buf] });
    push_row_steps(&mut m, r, y);
    m.linear(BlockType::F32, r.columns(1, 64), y.columns(0, 64));
    plans.push(finish(m, y.columns(0, 64)));
    for kind in [PoolKind::Mean, PoolKind::First, PoolKind::Last] {
        let (mut m, x) = Model::given(1, 64);
        let y = m.plan.buffer("y", 64);
        m.plan.push(Step::Pool { x, out: y, kind });
        plans.push(finish(m, y));
    }
    plans
}

/// Kernels of a step of attention with its cache in every storage, for every number of rows.
fn of_attention(spec: &CacheSpec, step: &plan::Attend, found: &mut HashSet<Kernel>) {
    for types in TYPES.into_iter().flat_map(|k| TYPES.map(|v| [k, v])).filter(|&types| fits(spec, types).is_ok()) {
        let cache = CacheShape::new(spec, types, 64);
        let heads = Heads { row: 64, start: 0, stride: 64 };
        found.insert(Store { cache, k: heads, v: heads }.kernel());
        if step.select.is_some() {
            found.insert(Chosen::new(step, cache, [0; 3]).unwrap().kernel());
            continue;
        }
        let attend = Attend::new(step, cache, step.q.end(), step.out.end()).unwrap();
        found.extend((1..=64).map(|count| attend.kernel(attend.tile(count))));
        found.insert(attend.reduce_kernel());
    }
}

/// Kernels of a choice of positions.
fn of_choice(spec: &CacheSpec, step: &plan::Select, found: &mut HashSet<Kernel>) {
    for ty in TYPES.into_iter().filter(|&ty| fits(spec, [ty, CacheType::F32]).is_ok()) {
        let cache = CacheShape::new(spec, [ty, CacheType::F32], 64);
        found.extend(Positions::new(step, cache, [0; 3], 64).kernels());
    }
}

/// Attention with heads of these widths and `group` query heads for each head of keys.
fn attention(dims: [u32; 2], group: u32) -> (CacheSpec, plan::Attend) {
    let mut b = plan::PlanBuilder::default();
    let spec = CacheSpec { name: "kv".into(), k: 2 * dims[0], v: 2 * dims[1], heads: 2, span: Span::Full };
    let (cache, heads) = (b.cache(spec.clone()), 2 * group);
    let q = b.buffer("q", heads * dims[0]).split(heads, dims[0]);
    let out = b.buffer("o", heads * if dims[1] > 0 { dims[1] } else { 512 });
    (spec, plan::Attend::plain(q, out, cache, [heads, 2], 1.0, Span::Full))
}

fn collect(plan: &Plan, found: &mut HashSet<Kernel>) {
    for variant in variants() {
        // What the kernels cannot do is another test's business.
        let Ok(lowered) = lower(plan, plan.steps().len(), &variant, &WholeMatrices(plan)) else { continue };
        for dispatch in &lowered.dispatches {
            found.extend(dispatch.kernels.all().into_iter().cloned());
            match &dispatch.grid {
                Grid::Attend(step) => of_attention(&plan.caches()[step.cache.index()], step, found),
                Grid::Select(step) => of_choice(&plan.caches()[step.cache.index()], step, found),
                _ => {}
            }
        }
    }
}

fn every_kernel() -> HashSet<Kernel> {
    let mut found = HashSet::new();
    for ty in formats() {
        collect(&of_format(ty), &mut found);
        found.insert(planes(ty).unwrap().add_to(Kernel::new("dequantize", WEIGHTS)));
    }
    of_rows().iter().for_each(|plan| collect(plan, &mut found));
    of_states().iter().chain(&of_positions()).for_each(|case| collect(&case.plan, &mut found));
    for dims in [[64, 64], [128, 128], [256, 256], [512, 512], [192, 128], [32, 160], [4, 4]] {
        for group in [1, 7] {
            let (spec, step) = attention(dims, group);
            of_attention(&spec, &step, &mut found);
        }
    }
    let (spec, step) = attention([576, 0], 16);
    of_attention(&spec, &plan::Attend { v_prefix: Some(512), ..step }, &mut found);
    for k in [1, 2, MAX_K] {
        found.extend(Select::new(150_000, 150_000, 0, k).stages(1).map(|(kernel, _)| kernel));
    }
    let cases = of_routes().into_iter().chain(of_experts()).chain(formats().into_iter().map(experts_of_format));
    cases.for_each(|case| collect(&case.plan, &mut found));
    for fixture in fixtures() {
        collect(&fixture.plan, &mut found);
    }
    found
}

#[test]
fn every_kernel_that_a_plan_can_ask_for_is_one_for_every_driver() {
    let found = every_kernel();
    let judge = |kernel: &Kernel| {
        let subgroups = kernel.fragments.contains(&"reduce/subgroup");
        let findings = check(kernel, if subgroups { Subgroups::Yes } else { Subgroups::No });
        (!findings.is_empty()).then(|| format!("{}: {findings:?}", kernel.label()))
    };
    let wrong: Vec<String> = found.par_iter().filter_map(judge).collect();
    println!("{} kernels", found.len());
    assert!(wrong.is_empty(), "{} of {} kernels: {}", wrong.len(), found.len(), wrong[..wrong.len().min(3)].join("\n"));
}

#[test]
fn every_file_and_every_format_is_among_the_kernels() {
    let found = every_kernel();
    let mut used: HashSet<&str> = HashSet::from(["prelude"]);
    for kernel in &found {
        used.extend(kernel.fragments.iter().map(|f| f.split('@').next().unwrap()));
        used.extend(FILES.iter().map(|f| f.0).filter(|f| f.strip_prefix("kernel/") == Some(kernel.name)));
    }
    let unused: Vec<&str> = FILES.iter().map(|f| f.0).filter(|f| !used.contains(f)).collect();
    assert!(unused.is_empty(), "no kernel of the lint uses {unused:?}");

    let types = formats();
    assert_eq!(types.len(), 28);
    for ty in types {
        let layout = planes(ty).unwrap();
        let all = layout.add_to(Kernel::new("any", WEIGHTS)).fragments;
        let has = |name: &str, consts: &[(&'static str, u32)], fragment: &str| {
            found.iter().any(|k| {
                k.name == name
                    && all.iter().all(|f| k.fragments.contains(f))
                    && (fragment.is_empty() || k.fragments.contains(&fragment))
                    && consts.iter().all(|c| k.consts.contains(c))
            })
        };
        let int8 = if layout.has_codes() { &["", "_int8"][..] } else { &[""] };
        for flags in [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[t, a]| [("TAKEN", t), ("ADD", a)]) {
            for kind in int8 {
                assert!(has(&format!("matmul{kind}"), &flags, ""), "{ty} {flags:?} {kind}");
                for (cols, reduce) in [1, 2, 4, 8].map(|c| [(c, "reduce/tree"), (c, "reduce/subgroup")]).concat() {
                    let consts = [flags[0], flags[1], ("COLS", cols)];
                    assert!(has(&format!("matvec{kind}"), &consts, reduce), "{ty} {consts:?} {reduce} {kind}");
                }
            }
        }
        assert!(has("embed", &[("ADD", 0)], "") && has("embed", &[("ADD", 1)], "") && has("dequantize", &[], ""));
    }
}
