//! What a kernel needs beside its text: constants, parameters, sizes and grids, by kind of step.

pub(super) mod attend;
pub(super) mod experts;
pub(super) mod linear;
pub(super) mod positions;
pub(super) mod select;
pub(super) mod state;
