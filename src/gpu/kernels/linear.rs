//! Parameters of the kernels over weights.

/// Parameters of products with a matrix and of embeddings; `Linear` of `shaders/linear.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Linear {
    /// Rows of the chunk, or of a head's matrix, and groups of 32 weights in a row.
    pub rows: u32,
    pub groups: u32,
    /// Input in units of 4 numbers, or of 32 quantized ones: the first, and from row to row of the batch.
    pub x_start: u32,
    pub x_row: u32,
    /// Output: first column of the chunk, and from row to row of the batch.
    pub y_start: u32,
    pub y_row: u32,
    pub bias_start: u32,
    pub has_bias: u32,
    pub scale: f32,
    pub add_scale: f32,
    /// Limits; 0 where there is none.
    pub clamp: f32,
    pub cap: f32,
    /// Workgroups of the grid's first dimension.
    pub grid_x: u32,
    /// First row of the table in the chunk.
    pub first: u32,
    /// Columns of a row of the table.
    pub row_len: u32,
    /// From head to head: units of the input, columns of the output.
    pub x_head: u32,
    pub y_head: u32,
    pub pad: [u32; 3],
}
