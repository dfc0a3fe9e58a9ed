//! Steps that change a state: constants and parameters of the kernels, and how the work is cut into workgroups.

use crate::gpu::compose::{CONV, DELTA, Kernel, SCAN, SCAN_STEPS};

/// Numbers of a state that an invocation keeps in registers: more of them leave fewer workgroups at a time, fewer of
/// them make more parts to be summed for every row.
const REGISTERS: u32 = 16;

/// Invocations of a workgroup of `delta`, and of all others.
const DELTA_WG: u32 = 128;
const WG: u32 = 64;

/// How the `n` numbers of a state that are summed lie over registers and invocations of a workgroup of `wg`; `None`
/// where they are too many.
fn cut(n: u32, wg: u32) -> Option<[u32; 2]> {
    let parts = n.div_ceil(REGISTERS).max(1);
    (n > 0 && parts <= wg).then(|| [n.div_ceil(parts), parts])
}

/// Where a view's rows begin: numbers from one to the next, and the first column.
pub(in crate::gpu) type Columns = [u32; 2];

/// Parameters of `kernel/conv`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Conv {
    pub x: Columns,
    pub out: Columns,
    pub channels: u32,
    /// Inputs that are remembered.
    pub taps: u32,
    pub has_bias: u32,
    pub pad: u32,
}

impl Conv {
    /// The kernel, with a silu behind the sum or without.
    pub fn kernel(silu: bool) -> Kernel {
        Kernel::new("conv", CONV).with("math").set("ACT", silu.into())
    }

    /// Workgroups of the first dimension; there is one of the second for each row, and for each tap.
    pub const fn groups(&self) -> u32 {
        self.channels.div_ceil(WG)
    }
}

/// Parameters of `kernel/delta_gates`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Gates {
    /// Views: start, width, stride, row.
    pub decay: [u32; 4],
    pub beta: [u32; 4],
    pub n_decay: u32,
    /// Decays of a head.
    pub per: u32,
    pub heads: u32,
    pub pad: u32,
}

/// Parameters of `kernel/delta`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Delta {
    pub q: Columns,
    pub k: Columns,
    pub v: Columns,
    pub out: Columns,
    pub heads: u32,
    pub key_heads: u32,
    pub cyclic: u32,
    /// Numbers of a row of gates, and how many of them are decays.
    pub gates: [u32; 2],
    pub dv: u32,
    pub scale: f32,
    pub pad: u32,
}

impl Delta {
    /// The kernel for keys of `dk` numbers, and its workgroups; `None` where keys are too wide for it.
    pub fn kernel(&self, dk: u32) -> Option<(Kernel, [u32; 2])> {
        let [registers, parts] = cut(dk, DELTA_WG)?;
        let per_key = self.gates[1] != self.heads;
        let consts = [("DK", dk), ("REG", registers), ("PARTS", parts), ("PER_KEY", per_key.into())];
        let kernel = consts.into_iter().fold(Kernel::new("delta", DELTA), |k, (name, value)| k.set(name, value));
        Some((kernel, [self.dv.div_ceil(DELTA_WG / parts), self.heads]))
    }
}

/// Parameters of `kernel/scan_steps`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct ScanSteps {
    pub x: Columns,
    pub dt: Columns,
    pub out: Columns,
    pub heads: u32,
    pub channels: u32,
}

impl ScanSteps {
    /// The kernel.
    pub fn kernel() -> Kernel {
        Kernel::new("scan_steps", SCAN_STEPS).with("lib/state")
    }

    /// Workgroups of a row.
    pub const fn groups(&self) -> u32 {
        (self.heads * self.channels).div_ceil(WG)
    }
}

/// Parameters of `kernel/scan`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::gpu) struct Scan {
    pub x: Columns,
    pub b: Columns,
    pub c: Columns,
    pub out: Columns,
    pub heads: u32,
    /// Of a head.
    pub channels: u32,
    /// Heads that share b and c.
    pub per_group: u32,
    pub pad: u32,
}

impl Scan {
    /// The kernel for `n` numbers of a channel, with a rate for each of them or one for a head, and its workgroups;
    /// `None` where they are too many for it.
    pub fn kernel(&self, n: u32, wide: bool) -> Option<(Kernel, [u32; 2])> {
        let [registers, parts] = cut(n, WG)?;
        let consts = [("N", n), ("REG", registers), ("PARTS", parts), ("WIDE", wide.into())];
        let kernel = Kernel::new("scan", SCAN).with("lib/state");
        let kernel = consts.into_iter().fold(kernel, |k, (name, value)| k.set(name, value));
        Some((kernel, [(self.heads * self.channels).div_ceil(WG / parts), 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_state_has_its_register() {
        for wg in [WG, DELTA_WG] {
            for n in 1..=REGISTERS * wg {
                let [registers, parts] = cut(n, wg).unwrap();
                assert!(registers <= REGISTERS && (1..=wg).contains(&parts) && registers * parts >= n, "{n}");
            }
            assert_eq!((cut(REGISTERS * wg + 1, wg), cut(0, wg)), (None, None));
        }
    }
}
