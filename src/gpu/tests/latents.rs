//! Caches whose values are the beginnings of keys.

use super::support::{Model, Wanted, backend, pass, rows};
use crate::gpu::pipelines::testing;
use crate::gpu::{GpuOptions, GpuSequence};
use crate::plan::{Attend, CacheSpec, CacheType, SequenceMemory, Span, Step};

#[test]
fn a_position_takes_the_numbers_of_its_key_and_no_more() {
    let Some(gpu) = testing::gpu() else { return };
    let (rank, rope, heads) = (64, 32, 4);
    let (mut m, x) = Model::given(1, (heads + 1) * (rank + rope));
    let out = m.plan.buffer("o", heads * rank);
    let spec = CacheSpec { name: "kv".into(), k: rank + rope, v: 0, heads: 1, span: Span::Full };
    let cache = m.plan.cache(spec);
    m.plan.push(Step::Store { cache, k: x.columns(heads * (rank + rope), rank + rope), v: None });
    m.plan.push(Step::Attend(Box::new(Attend {
        q: x.columns(0, heads * (rank + rope)).split(heads, rank + rope),
        out,
        cache,
        heads,
        kv_heads: 1,
        scale: 0.1,
        span: Span::Full,
        softcap: None,
        temper: None,
        alibi: None,
        sinks: None,
        v_prefix: Some(rank),
        select: None,
    })));
    let (plan, weights) = m.finish(out);
    let options = GpuOptions { n_batch: 256, ..GpuOptions::default() };
    let mut backend = backend(&gpu, &plan, &*weights, &options).unwrap();
    for (ty, bytes) in [(CacheType::F32, 4), (CacheType::F16, 2)] {
        let mut sequences = [GpuSequence::new(&gpu, &plan, 1024, 256, ty, ty).unwrap()];
        assert_eq!(sequences[0].bytes(), 256 * 96 * bytes);
        pass(&mut backend, &plan, &mut sequences, &[rows(256), rows(9)], Wanted::Last).unwrap();
        assert_eq!((sequences[0].len(), sequences[0].bytes()), (265, 512 * 96 * bytes));
    }
}
