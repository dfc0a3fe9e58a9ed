//! The choice of positions, and attention over those that were chosen.

use super::{Grid, Kernels, Lowering};
use crate::gpu::kernels::attend::{self, CacheShape};
use crate::gpu::kernels::positions::Chosen;
use crate::plan::{Attend, CacheType, Select, Span};

impl Lowering<'_> {
    pub(super) fn select(&mut self, s: &Select) -> Result<(), String> {
        self.no_rows_behind_take()?;
        let spec = &self.plan.caches()[s.cache.index()];
        attend::fits(spec, [CacheType::F16; 2])?;
        if spec.heads != 1 || s.q.width != spec.k || s.w.len() != s.q.heads || spec.span != Span::Full {
            return Err("no kernel for chosen positions among keys of other forms".into());
        }
        if !s.w.is_contiguous() || !s.out.is_contiguous() {
            return Err("no kernel for chosen positions in columns that lie apart".into());
        }
        self.push(Kernels::OfSequence, vec![], vec![], Grid::Select(*s), 0);
        Ok(())
    }

    /// Can the kernel attend to what was chosen?
    pub(super) fn check_chosen(&self, a: &Attend) -> Result<(), String> {
        let Some(select) = a.select else { return Ok(()) };
        if select.buf == a.out.buf || !select.is_contiguous() {
            return Err("attention over chosen positions within one buffer".into());
        }
        let cache = CacheShape::new(&self.plan.caches()[a.cache.index()], [CacheType::F16; 2], 1);
        Chosen::new(a, cache, [0; 3]).map(drop)
    }
}
