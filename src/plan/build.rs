//! Building a plan step by step; `finish` verifies it.

use super::verify::{PlanError, liveness};
use super::{BufId, Buffer, CacheId, CacheSpec, Operand, Plan, RopeTable, Step, TableId, WeightId, WeightRef};

/// A plan in the making.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    caches: Vec<CacheSpec>,
    weights: Vec<WeightRef>,
    tables: Vec<RopeTable>,
    outputs: Vec<Operand>,
    sections: Vec<(usize, String)>,
    notes: Vec<String>,
}

impl PlanBuilder {
    /// Appends a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Everything from here on belongs to the section `name`.
    pub fn section(&mut self, name: impl Into<String>) {
        self.sections.push((self.steps.len(), name.into()));
    }

    /// The whole of a buffer named `name` with `width` columns. Buffers are reused by name from layer to
    /// layer; another width makes another buffer.
    pub fn buffer(&mut self, name: &str, width: u32) -> Operand {
        let taken = self.buffers.iter().any(|b| b.name == name && b.width != width);
        let name = if taken { format!("{name}.{width}") } else { name.to_owned() };
        let index = self.buffers.iter().position(|b| b.name == name).unwrap_or_else(|| {
            self.buffers.push(Buffer { name, width });
            self.buffers.len() - 1
        });
        Operand { buf: BufId(index as u32), start: 0, width, heads: 1, stride: 0 }
    }

    /// A weight by name; the same name is the same weight.
    pub fn weight(&mut self, weight: WeightRef) -> WeightId {
        let index = self.weights.iter().position(|w| w.name == weight.name).unwrap_or_else(|| {
            self.weights.push(weight);
            self.weights.len() - 1
        });
        WeightId(index as u32)
    }

    /// A rotation table; equal tables are shared.
    pub fn table(&mut self, table: RopeTable) -> TableId {
        let index = self.tables.iter().position(|t| *t == table).unwrap_or_else(|| {
            self.tables.push(table);
            self.tables.len() - 1
        });
        TableId(index as u32)
    }

    /// A cache by name; the first call decides its shape.
    pub fn cache(&mut self, spec: CacheSpec) -> CacheId {
        let index = self.caches.iter().position(|c| c.name == spec.name).unwrap_or_else(|| {
            self.caches.push(spec);
            self.caches.len() - 1
        });
        CacheId(index as u32)
    }

    /// Adds a result of the plan.
    pub fn output(&mut self, o: Operand) {
        self.outputs.push(o);
    }

    /// Something that the reader of the plan should know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Puts a Take right behind the last step that looks at other rows: the rest of the last layer runs on
    /// wanted rows only. The batch of a plan without Take keeps all its rows.
    pub fn take_wanted(&mut self) {
        let Some(last) = self.steps.iter().rposition(Step::mixes_rows) else { return };
        let widths: Vec<u32> = self.buffers.iter().map(|b| b.width).collect();
        let keep = liveness(&self.steps, &widths, &self.outputs).swap_remove(last);
        self.steps.insert(last + 1, Step::Take { keep });
        self.sections.iter_mut().filter(|s| s.0 > last).for_each(|s| s.0 += 1);
    }

    /// The verified plan.
    ///
    /// # Errors
    /// A rule of [`Plan`] does not hold: a fault of the lowering.
    pub fn finish(self) -> Result<Plan, PlanError> {
        let widths: Vec<u32> = self.buffers.iter().map(|b| b.width).collect();
        let live = liveness(&self.steps, &widths, &self.outputs);
        let Self { steps, buffers, caches, weights, tables, outputs, sections, notes } = self;
        let plan = Plan { steps, buffers, caches, weights, tables, outputs, sections, notes, live };
        plan.verify()?;
        Ok(plan)
    }
}
