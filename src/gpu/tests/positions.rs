//! The choice of positions, and attention over those that were chosen.

use super::cases::{Case, SUMS};
use super::support::{Batch, Model, rows};
use crate::plan::{Attend, CacheSpec, CacheType, Select, Span, Step};

/// One choice, and attention by it.
#[derive(Clone, Copy)]
struct Shape {
    /// Heads of the choice, and columns of them.
    choosers: u32,
    width: u32,
    top: u32,
    heads: u32,
    kv_heads: u32,
    dims: [u32; 2],
    cache: CacheType,
}

/// Fewer positions than are chosen, more, and many more; several sequences.
fn batches() -> Vec<Batch> {
    let short = || vec![vec![0, 1, 0, 0, 1, 2], vec![1], vec![2, 2, 0], rows(20), vec![0, 1, 2]];
    [short(), vec![rows(300), rows(1), vec![1, 0, 1]]].concat()
}

/// Choices, and attention over what was chosen.
pub fn of_positions() -> Vec<Case> {
    let usual = Shape { choosers: 3, width: 32, top: 16, heads: 6, kv_heads: 2, dims: [32, 32], cache: CacheType::F32 };
    let shapes = [
        usual,
        // Half of all scores are 0: most of what is chosen is chosen by its place.
        Shape { choosers: 1, width: 4, top: 150, ..usual },
        Shape { top: 1, kv_heads: 6, ..usual },
        Shape { top: 70, heads: 11, kv_heads: 1, dims: [40, 160], ..usual },
        Shape { choosers: 9, width: 64, top: 65, heads: 3, kv_heads: 1, dims: [256, 288], ..usual },
        Shape { cache: CacheType::F16, ..usual },
    ];
    shapes.into_iter().flat_map(|shape| [false, true].map(|attends| case(shape, attends))).collect()
}

fn case(shape: Shape, attends: bool) -> Case {
    let Shape { choosers, width, top, heads, kv_heads, dims: [dk, dv], cache: ty } = shape;
    let (n_q, n_k, n_v) = (heads * dk, kv_heads * dk, kv_heads * dv);
    let n_choose = choosers * (width + 4);
    let (mut m, x) = Model::given(31, n_choose + choosers + width + 4 + n_q + n_k + n_v);
    let (chosen, o) = (m.plan.buffer("chosen", top + 3), m.plan.buffer("o", heads * dv + 3));
    let mut at = 0;
    let mut next = |n: u32| {
        at += n;
        x.columns(at - n, n)
    };
    // Heads of the choice lie apart.
    let q = next(n_choose).strided(choosers, width, width + 4);
    let (w, key, value) = (next(choosers), next(width), next(4));
    let full = |name: &str, k, v, heads| CacheSpec { name: name.into(), k, v, heads, span: Span::Full };
    let keys = m.plan.cache(full("index", width, 4, 1));
    m.plan.push(Step::Store { cache: keys, k: key, v: Some(value) });
    let scale = 1.0 / (width as f32).sqrt();
    let select = chosen.columns(2, top);
    m.plan.push(Step::Select(Select { q, w, cache: keys, out: select, scale }));
    let name = format!("the best {top} of {choosers} heads of {width}, {ty:?}");
    if !attends {
        let case = Case::new(name, m, select, 1e-6).on(batches());
        // Which neighbour a key rounds to may decide.
        return Case { cache: [CacheType::F32; 2], ..case };
    }
    let (q, k, v) = (next(n_q), next(n_k), next(n_v));
    let cache = m.plan.cache(full("kv", n_k, n_v, kv_heads));
    m.plan.push(Step::Store { cache, k: k.split(kv_heads, dk), v: Some(v) });
    let out = o.columns(1, heads * dv);
    let scale = 8.0 / (dk as f32).sqrt();
    let plain = Attend::plain(q.split(heads, dk), out, cache, [heads, kv_heads], scale, Span::Full);
    m.plan.push(Step::Attend(Box::new(Attend { select: Some(select), ..plain })));
    let tolerance = if ty == CacheType::F32 { SUMS } else { 1e-3 };
    let name = format!("attention over {name}, {heads} heads over {kv_heads} of {dk} and {dv}");
    let case = Case::new(name, m, out, tolerance).on(batches());
    Case { cache: [ty; 2], ..case }
}
