//! The rows of a batch: all of them, those that are wanted, and those that attend together.

use std::ops::Range;

use super::{ATTEND_ROWS, FEW_TASKS};
use crate::cpu::attention;
use crate::cpu::pool::MAX_CHUNKS;
use crate::cpu::rows::RowList;
use crate::error::Result;
use crate::plan::{Attend, Plan, RowOrder, Rows};

/// Rows of one sequence that attend together.
pub(super) struct Tile {
    pub seq: usize,
    /// Indices into the order of the batch.
    pub rows: Range<usize>,
    /// Positions that the sequence holds when the batch is stored.
    pub len: u32,
}

/// The batch at hand.
#[derive(Default)]
pub(super) struct Batch {
    pub all: RowList,
    pub wanted: RowList,
    pub want: Vec<u32>,
    /// Rows grouped by sequence.
    pub order: RowOrder,
    /// Positions in that order.
    pub order_pos: Vec<u32>,
    pub tiles: Vec<Tile>,
}

impl Batch {
    /// The first row of each sequence.
    pub fn first_rows(&self) -> impl Iterator<Item = usize> {
        self.tiles
            .iter()
            .enumerate()
            .filter(|(i, t)| *i == 0 || self.tiles[i - 1].seq != t.seq)
            .map(|(_, t)| self.order.order[t.rows.start] as usize)
    }

    /// Into how many chunks the keys of each tile and head are cut: 1 where there are chunks enough without.
    pub fn n_part(&self, step: &Attend) -> usize {
        let parts = |t: &Tile| attention::parts(step, &self.order_pos[t.rows.clone()], t.len).len();
        let n_part = self.tiles.iter().map(parts).max().unwrap_or(1);
        let n_task = self.tiles.len() * attention::Share::count(step);
        if n_task < FEW_TASKS && n_task * n_part <= MAX_CHUNKS { n_part } else { 1 }
    }

    /// Takes over a batch; `lengths` are the positions that the sequences hold already.
    pub fn set(&mut self, plan: &Plan, rows: &Rows<'_>, lengths: &[u32]) -> Result<()> {
        self.order.set(plan, rows, lengths)?;
        self.all.clear();
        for i in 0..rows.token.len() {
            self.all.push(rows.token[i], rows.pos[i], rows.seq[i]);
        }
        self.wanted.clear();
        for &w in rows.want {
            let i = w as usize;
            self.wanted.push(rows.token[i], rows.pos[i], rows.seq[i]);
        }
        self.want.clear();
        self.want.extend_from_slice(rows.want);
        self.order_pos.clear();
        self.order_pos.extend(self.order.order.iter().map(|&row| rows.pos[row as usize]));
        self.tiles.clear();
        for (seq, range) in self.order.ranges.iter().enumerate() {
            let len = lengths[seq] + range.len() as u32;
            let tiles = range.clone().step_by(ATTEND_ROWS);
            self.tiles.extend(tiles.map(|i| Tile { seq, rows: i..(i + ATTEND_ROWS).min(range.end), len }));
        }
        Ok(())
    }
}
