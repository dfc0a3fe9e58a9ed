//! Building a plan step by step; `finish` verifies it.

use super::verify::PlanError;
use super::{BufId, Buffer, CacheId, CacheSpec, Operand, Plan, RopeTable, StateId, StateSpec, Step};
use super::{TableId, WeightId, WeightRef};

/// A plan in the making.
#[derive(Debug)]
pub struct PlanBuilder {
    /// Not verified yet.
    plan: Plan,
}

impl Default for PlanBuilder {
    fn default() -> Self {
        let plan = Plan {
            steps: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            states: Vec::new(),
            weights: Vec::new(),
            tables: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            sections: Vec::new(),
            notes: Vec::new(),
        };
        Self { plan }
    }
}

impl PlanBuilder {
    /// Appends a step.
    pub fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    /// Everything from here on belongs to the section `name`.
    pub fn section(&mut self, name: impl Into<String>) {
        self.plan.sections.push((self.plan.steps.len(), name.into()));
    }

    /// The whole of a buffer named `name` with `width` columns. Buffers are reused by name from layer to
    /// layer; another width makes another buffer.
    pub fn buffer(&mut self, name: &str, width: u32) -> Operand {
        let taken = self.plan.buffers.iter().any(|b| b.name == name && b.width != width);
        let name = if taken { format!("{name}.{width}") } else { name.to_owned() };
        let index = self.plan.buffers.iter().position(|b| b.name == name).unwrap_or_else(|| {
            self.plan.buffers.push(Buffer { name, width });
            self.plan.buffers.len() - 1
        });
        Operand { buf: BufId(index as u32), start: 0, width, heads: 1, stride: 0 }
    }

    /// A weight by name; the same name is the same weight.
    pub fn weight(&mut self, weight: WeightRef) -> WeightId {
        let index = self.plan.weights.iter().position(|w| w.name == weight.name).unwrap_or_else(|| {
            self.plan.weights.push(weight);
            self.plan.weights.len() - 1
        });
        WeightId(index as u32)
    }

    /// A rotation table; equal tables are shared.
    pub fn table(&mut self, table: RopeTable) -> TableId {
        let index = self.plan.tables.iter().position(|t| *t == table).unwrap_or_else(|| {
            self.plan.tables.push(table);
            self.plan.tables.len() - 1
        });
        TableId(index as u32)
    }

    /// A cache by name; the first call decides its shape.
    pub fn cache(&mut self, spec: CacheSpec) -> CacheId {
        let index = self.plan.caches.iter().position(|c| c.name == spec.name).unwrap_or_else(|| {
            self.plan.caches.push(spec);
            self.plan.caches.len() - 1
        });
        CacheId(index as u32)
    }

    /// A state by name; the first call decides its form.
    pub fn state(&mut self, spec: StateSpec) -> StateId {
        let index = self.plan.states.iter().position(|s| s.name == spec.name).unwrap_or_else(|| {
            self.plan.states.push(spec);
            self.plan.states.len() - 1
        });
        StateId(index as u32)
    }

    /// Declares columns that are given with every row.
    pub fn input(&mut self, o: Operand) {
        self.plan.inputs.push(o);
    }

    /// Adds a result of the plan.
    pub fn output(&mut self, o: Operand) {
        self.plan.outputs.push(o);
    }

    /// Something that the reader of the plan should know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.plan.notes.push(text.into());
    }

    /// Puts a Take right behind the last step that looks at other rows: the rest of the last layer runs on
    /// wanted rows only. The batch of a plan without Take keeps all its rows.
    pub fn take_wanted(&mut self) {
        let Some(last) = self.plan.steps.iter().rposition(Step::mixes_rows) else { return };
        let keep = self.liveness().swap_remove(last);
        self.plan.steps.insert(last + 1, Step::Take { keep });
        self.plan.sections.iter_mut().filter(|s| s.0 > last).for_each(|s| s.0 += 1);
    }

    /// The verified plan.
    ///
    /// # Errors
    /// A rule of [`Plan`] does not hold: a fault of the lowering.
    pub fn finish(self) -> Result<Plan, PlanError> {
        self.plan.verify(&self.liveness())?;
        Ok(self.plan)
    }

    fn liveness(&self) -> Vec<Vec<BufId>> {
        self.plan.needed_after()
    }
}

#[cfg(test)]
mod tests {
    use tealight_quant::BlockType;

    use super::super::{Act, Index, Span};
    use super::*;

    /// A builder with an embedded buffer `x` of 8 columns.
    fn begun() -> (PlanBuilder, Operand) {
        let mut b = PlanBuilder::default();
        let x = b.buffer("x", 8);
        let table = b.weight(WeightRef { name: "t".into(), ty: BlockType::F32, shape: vec![4, 8] });
        b.push(Step::Embed { out: x, table, index: Index::Token, scale: 1.0, add: false });
        (b, x)
    }

    fn refused(b: PlanBuilder) -> String {
        b.finish().expect_err("an invalid plan").to_string()
    }

    fn gate(x: Operand, out: Operand) -> Step {
        Step::Gate { x, out, act: Act::Silu, by: None }
    }

    #[test]
    fn columns_that_nobody_wrote_are_refused() {
        let (mut b, x) = begun();
        let y = b.buffer("y", 8);
        b.push(gate(x.columns(0, 4), y.columns(0, 4)));
        b.push(Step::Add { x, y, out: x, scale: 1.0 });
        b.output(x);
        assert!(refused(b).contains("reads y, which nobody wrote"));
    }

    #[test]
    fn a_shifted_overlap_of_input_and_output_is_refused() {
        let (mut b, x) = begun();
        b.push(gate(x.columns(0, 4), x.columns(2, 4)));
        b.output(x);
        assert!(refused(b).contains("overwrites its input"));
    }

    #[test]
    fn a_result_that_nobody_reads_is_refused() {
        let (mut b, x) = begun();
        let y = b.buffer("y", 8);
        b.push(gate(x, y));
        b.output(x);
        assert!(refused(b).contains("of no use"));
    }

    #[test]
    fn a_matrix_of_another_width_is_refused() {
        let (mut b, x) = begun();
        let y = b.buffer("y", 3);
        let weight = b.weight(WeightRef { name: "w".into(), ty: BlockType::F32, shape: vec![3, 7] });
        let part = super::super::Part { out: y, weight, bias: None, scale: 1.0 };
        b.push(Step::Linear { x, parts: vec![part], clamp: None });
        b.output(y);
        assert!(refused(b).contains("matrix does not fit"));
    }

    #[test]
    fn attention_over_a_cache_that_nobody_filled_is_refused() {
        let (mut b, x) = begun();
        let out = b.buffer("o", 8);
        let cache = b.cache(CacheSpec { name: "kv0".into(), k: 8, v: 8, heads: 1, span: Span::Full });
        let attend = super::super::Attend::plain(x.split(1, 8), out, cache, [1, 1], 1.0, Span::Full);
        b.push(Step::Attend(Box::new(attend)));
        b.output(out);
        assert!(refused(b).contains("no earlier step filled"));
    }

    #[test]
    fn the_wanted_rows_are_taken_behind_the_last_step_that_mixes_rows() {
        let (mut b, x) = begun();
        let cache = b.cache(CacheSpec { name: "kv0".into(), k: 8, v: 8, heads: 1, span: Span::Full });
        b.push(Step::Store { cache, k: x, v: Some(x) });
        b.section("head");
        let y = b.buffer("y", 8);
        b.push(gate(x, y));
        b.output(y);
        b.take_wanted();
        let plan = b.finish().unwrap();
        assert!(matches!(&plan.steps()[2], Step::Take { keep } if keep == &[x.buf]));
        assert_eq!(plan.section_of(3), "head");
    }

    #[test]
    fn buffers_of_another_width_are_other_buffers() {
        let mut b = PlanBuilder::default();
        let (a, c) = (b.buffer("g", 8), b.buffer("g", 16));
        assert_ne!(a.buf, c.buf);
        assert_eq!(b.buffer("g", 8), a);
        assert_eq!(b.buffer("g", 16), c);
    }
}
