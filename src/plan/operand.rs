//! What steps name: columns of buffers, weights, caches, tables.

use tealight_quant::BlockType;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(super) u32);

        impl $name {
            /// Position in the plan's list of such things.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A buffer of the plan.
    BufId;
    /// A weight of the plan.
    WeightId;
    /// A cache of the plan.
    CacheId;
    /// A table of rotation frequencies of the plan.
    TableId;
    /// A state of the plan.
    StateId;
}

/// Columns of a buffer: `heads` groups that lie `stride` apart, of each the `width` columns from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The buffer.
    pub buf: BufId,
    /// First column.
    pub start: u32,
    /// Columns per head.
    pub width: u32,
    /// Number of heads; 1 for plain columns.
    pub heads: u32,
    /// Columns from one head to the next; 0 when there is one head.
    pub stride: u32,
}

impl Operand {
    /// Plain columns `start..start + width` of this operand, which must be plain itself.
    #[must_use]
    pub fn columns(self, start: u32, width: u32) -> Self {
        debug_assert!(self.heads == 1 && start + width <= self.width);
        Self { start: self.start + start, width, ..self }
    }

    /// This plain operand seen as `n` adjacent heads of `width` columns.
    #[must_use]
    pub fn split(self, n: u32, width: u32) -> Self {
        debug_assert!(self.heads == 1 && n * width <= self.width);
        Self { width, heads: n, stride: if n == 1 { 0 } else { width }, ..self }
    }

    /// The first `width` columns of `n` heads that lie `stride` apart in this plain operand.
    #[must_use]
    pub fn strided(self, n: u32, width: u32, stride: u32) -> Self {
        debug_assert!(self.heads == 1 && n > 0 && (n - 1) * stride + width <= self.width);
        Self { width, heads: n, stride: if n == 1 { 0 } else { stride }, ..self }
    }

    /// Number of columns.
    pub const fn len(self) -> u32 {
        self.width * self.heads
    }

    /// Has it no columns?
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One past the last column.
    pub const fn end(self) -> u32 {
        self.start + (self.heads - 1) * self.stride + self.width
    }

    /// Do the columns follow one another without gaps?
    pub const fn is_contiguous(self) -> bool {
        self.heads == 1 || self.stride == self.width
    }

    /// First columns of the heads.
    pub fn head_starts(self) -> impl Iterator<Item = usize> {
        (0..self.heads).map(move |h| (self.start + h * self.stride) as usize)
    }
}

/// A named buffer of [rows, width] f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Role of its contents, unique in the plan.
    pub name: String,
    /// Columns.
    pub width: u32,
}

/// A weight that steps read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightRef {
    /// Name in the model file.
    pub name: String,
    /// Block format.
    pub ty: BlockType,
    /// Outermost first: a matrix is [out, in].
    pub shape: Vec<u64>,
}

impl WeightRef {
    /// Length of a row, the innermost dimension.
    pub fn row_len(&self) -> usize {
        self.shape.last().map_or(1, |&n| n as usize)
    }

    /// Rows of all outer dimensions.
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).map(|&n| n as usize).product()
    }

    /// Matrices of a stack, [matrices, out, in]; 1 for one matrix.
    pub fn n_matrix(&self) -> usize {
        self.shape.iter().rev().skip(2).map(|&n| n as usize).product()
    }

    /// Rows of one matrix of a stack.
    pub fn out_len(&self) -> usize {
        self.n_rows() / self.n_matrix().max(1)
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_len() / self.ty.block_len() * self.ty.block_bytes()
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        (self.row_bytes() * self.n_rows()) as u64
    }
}
