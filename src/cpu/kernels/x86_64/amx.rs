//! AMX: products of 8-bit integers by tiles of 16 rows, for prompts. All else is AVX-512's.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

pub(super) mod panel;
mod whole;

/// Whether the processor has tiles of 8-bit integers, and the system lets this process use them: it saves their 8 KiB
/// for each thread that does, once it was asked to.
pub(super) fn is_available() -> bool {
    /// Bits of leaf 7: tiles, and products of their 8-bit integers.
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    /// Parts of a thread's state that the system must save: those of AVX-512, the layout of tiles, their data.
    const STATE: u64 = 0b111 << 5 | 1 << 17 | 1 << 18;
    let leaf_7 = __cpuid_count(7, 0);
    if leaf_7.edx & (TILE | INT8) != TILE | INT8 {
        return false;
    }
    // SAFETY: the caller has seen AVX-512, which the system can only announce where this instruction exists.
    let enabled = unsafe { xgetbv() };
    enabled & STATE == STATE && may_use_tiles()
}

#[target_feature(enable = "xsave")]
fn xgetbv() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tiles' data, for all threads of the process; says no where a thread's signal stack is too
/// small for it.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but a permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// Rows of a tile, at most.
const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile, at most.
const TILE_BYTES: usize = 64;

/// The layout of tiles: palette 1, then bytes of a row and rows of each. Intel SDM volume 1, chapter 18.
#[repr(C, align(64))]
struct Layout {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    n_row: [u8; 16],
}

/// The tiles of the running thread, laid out for products of activation rows; dropped, they hold nothing that a
/// change of threads would have to save.
struct Tiles {
    _thread: std::marker::PhantomData<*mut ()>,
}

/// Which tiles hold sums, [activation row][row of weights].
const SUMS: std::ops::Range<usize> = 0..4;
/// Activations, [row][column].
const X: std::ops::Range<usize> = 4..5;
/// Weights, [column / 4][row of weights][column % 4].
const W: std::ops::Range<usize> = 5..7;

impl Tiles {
    /// For products of [`TILE_ROWS`] activation rows over `n_col` columns, a multiple of 4 and at most [`TILE_BYTES`].
    ///
    /// # Safety
    /// [`is_available`] said yes.
    unsafe fn new(n_col: usize) -> Self {
        assert!((4..=TILE_BYTES).contains(&n_col) && n_col.is_multiple_of(4));
        let mut layout = Layout { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], n_row: [0; 16] };
        let shapes = [(SUMS, TILE_ROWS, TILE_BYTES), (X, TILE_ROWS, n_col), (W, n_col / 4, TILE_BYTES)];
        for (tiles, n_row, row_bytes) in shapes {
            layout.n_row[tiles.clone()].fill(n_row as u8);
            layout.row_bytes[tiles].fill(row_bytes as u16);
        }
        // SAFETY: the caller's promise; the layout is one of palette 1, its rows and bytes within the limits.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &layout, options(nostack, readonly)) };
        Self { _thread: std::marker::PhantomData }
    }

    /// Writes the products of activations and weights of the layout: `sums[t][r] = sum_k x[t, k] * w[r, k]` with
    /// `x[t, k]` at `x + t * x_stride + k` and `w[r, k]` at `w + k / 4 * w_stride + 4 * r + k % 4`.
    ///
    /// # Safety
    /// All these bytes can be read, and the rows of sums written.
    #[inline(always)]
    unsafe fn dots(&self, x: *const i8, x_stride: usize, w: *const i8, w_stride: usize, sums: *mut [i32; TILE_ROWS]) {
        // SAFETY: the caller's promise; `self` says that tiles are laid out.
        unsafe {
            asm!(
                "tileloadd tmm4, [{x} + {x_stride} * 1]",
                "tileloadd tmm5, [{w} + {w_stride} * 1]",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm4, tmm5",
                "tilestored [{sums} + {sum_stride} * 1], tmm0",
                x = in(reg) x,
                x_stride = in(reg) x_stride,
                w = in(reg) w,
                w_stride = in(reg) w_stride,
                sums = in(reg) sums,
                sum_stride = in(reg) TILE_BYTES,
                out("tmm0") _,
                out("tmm4") _,
                out("tmm5") _,
                options(nostack),
            );
        }
    }
}

/// Weights of 16 bits, `256 * high + low`, of 256 columns and 32 rows, as two tiles' worth side by side:
/// [column / 4][row][column % 4].
#[derive(Clone, Copy)]
struct Wide<'a> {
    low: &'a [[u8; 2 * TILE_BYTES]; 64],
    high: &'a [[u8; 2 * TILE_BYTES]; 64],
}

/// Products of weights of 16 bits: of the low bytes of the first 16 rows, of their high bytes, and the same of the
/// others, [activation row][row of weights].
type WideSums = [[[i32; TILE_ROWS]; TILE_ROWS]; 4];

impl Tiles {
    /// Writes the products of 256 columns, of tiles with all their columns; `x[t, k]` lies at `x + t * x_stride + k`.
    ///
    /// # Safety
    /// All these bytes can be read, and the layout is for [`TILE_BYTES`] columns.
    #[inline(always)]
    unsafe fn wide_dots(&self, x: *const i8, x_stride: usize, w: Wide<'_>, sums: &mut WideSums) {
        /// The products of 64 columns: where they begin in a row of activations, and in the weights.
        macro_rules! columns {
            ($x:literal, $w:literal) => {
                concat!(
                    "tileloadd tmm4, [{x} + {x_stride} * 1 + ",
                    $x,
                    "]\n",
                    "tileloadd tmm5, [{low} + {w_stride} * 1 + ",
                    $w,
                    "]\n",
                    "tdpbsud tmm0, tmm4, tmm5\n",
                    "tileloadd tmm6, [{high} + {w_stride} * 1 + ",
                    $w,
                    "]\n",
                    "tdpbssd tmm1, tmm4, tmm6\n",
                    "tileloadd tmm5, [{low} + {w_stride} * 1 + 64 + ",
                    $w,
                    "]\n",
                    "tdpbsud tmm2, tmm4, tmm5\n",
                    "tileloadd tmm6, [{high} + {w_stride} * 1 + 64 + ",
                    $w,
                    "]\n",
                    "tdpbssd tmm3, tmm4, tmm6",
                )
            };
        }
        // SAFETY: the caller's promise; `self` says that tiles are laid out.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                columns!(0, 0),
                columns!(64, 2048),
                columns!(128, 4096),
                columns!(192, 6144),
                "tilestored [{sums} + {sum_stride} * 1], tmm0",
                "tilestored [{sums} + {sum_stride} * 1 + 1024], tmm1",
                "tilestored [{sums} + {sum_stride} * 1 + 2048], tmm2",
                "tilestored [{sums} + {sum_stride} * 1 + 3072], tmm3",
                x = in(reg) x,
                x_stride = in(reg) x_stride,
                low = in(reg) w.low,
                high = in(reg) w.high,
                w_stride = in(reg) 2 * TILE_BYTES,
                sums = in(reg) sums,
                sum_stride = in(reg) TILE_BYTES,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a value exists only where the instruction does.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
