//! Parameters of the kernels of experts.

/// Parameters of `shaders/kernel/route.wgsl`. Views are those of `shaders/rows.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Route {
    /// The router's numbers, the choice, its weights.
    pub a: [u32; 4],
    pub idx: [u32; 4],
    pub w: [u32; 4],
    /// Groups that are chosen from.
    pub used: u32,
    pub has_bias: u32,
    /// Are there factors of the experts' weights?
    pub has_own: u32,
    pub renorm: u32,
    pub eps: f32,
    pub scale: f32,
    /// Relative distance of what is near.
    pub limit: f32,
    pub pad: u32,
}

/// Parameters of products with the matrices of chosen experts; `Experts` of `shaders/experts.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Products {
    /// Rows of an expert's matrix, and groups of 32 weights in a row.
    pub rows: u32,
    pub groups: u32,
    /// Input in units of 4 numbers, or of 32 quantized ones: the first, and from row to row; pairs that share one.
    pub x_start: u32,
    pub x_row: u32,
    pub x_div: u32,
    /// Numbers from one result to the next.
    pub y_row: u32,
    pub n_used: u32,
    /// Experts of the chunk: the first, and their number.
    pub first: u32,
    pub count: u32,
    /// Workgroups of the grid's first dimension.
    pub grid_x: u32,
    /// The choice: first column, columns from row to row.
    pub idx_start: u32,
    pub idx_row: u32,
}

/// Parameters of `shaders/kernel/experts_gate.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Gate {
    /// Numbers of a result that count.
    pub n: u32,
    /// Numbers from one pair to the next, of gates, ups and results; the first of the ups.
    pub gate_row: u32,
    pub up_row: u32,
    pub up_start: u32,
    pub out_row: u32,
    pub n_used: u32,
    pub has_gate_bias: u32,
    pub has_up_bias: u32,
    /// Numbers from one expert's biases to the next.
    pub bias_row: u32,
    pub on_input: u32,
    /// The choice and its weights: first column, columns from row to row.
    pub idx_start: u32,
    pub idx_row: u32,
    pub w_start: u32,
    pub w_row: u32,
    pub pad: [u32; 2],
    /// Numbers of the activation.
    pub numbers: [f32; 4],
}

/// Parameters of `shaders/kernel/experts_sum.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Sum {
    /// View of the result.
    pub out: [u32; 4],
    /// Numbers of a result, and from one pair to the next.
    pub n: u32,
    pub row: u32,
    pub n_used: u32,
    pub has_bias: u32,
    pub on_input: u32,
    /// The choice and its weights: first column, columns from row to row.
    pub idx_start: u32,
    pub idx_row: u32,
    pub w_start: u32,
    pub w_row: u32,
    /// Factor of what is added.
    pub scale: f32,
    pub pad: [u32; 2],
}
