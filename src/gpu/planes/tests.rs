//! Packing against the file's bytes, and the fragment of every format against `quant`'s dequantization.

use super::*;
use crate::gpu::compose::WEIGHTS;
use crate::gpu::pipelines::testing;
use tealight_quant::dequantize;
use wgpu::naga;

/// Every type with planes.
fn weight_types() -> Vec<BlockType> {
    BlockType::ALL.iter().copied().filter(|&ty| planes(ty).is_some()).collect()
}

/// Uniform bits by xorshift64*.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

/// Blocks of random bits whose weights are finite.
fn random_blocks(ty: BlockType, n_block: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; n_block * ty.block_bytes()];
    let mut values = vec![0.0; ty.block_len()];
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        loop {
            block.fill_with(|| random.bits() as u8);
            dequantize(ty, block, &mut values).unwrap();
            if values.iter().all(|v| v.is_finite()) {
                break;
            }
        }
    }
    bytes
}

/// Lengths of rows to try: odd for plain numbers, else such that blocks and units are cut in every way.
fn row_lens(ty: BlockType) -> Vec<usize> {
    match ty.block_len() {
        1 => vec![1, 31, 32, 77, 256],
        len => vec![len, 3 * len, 4 * len],
    }
}

fn packed(planes: &Planes, rows: &[u8], n_row: usize, row_len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut a = vec![0xaa; planes.a_bytes(n_row, row_len) as usize];
    let mut s = vec![0xaa; planes.s_bytes(n_row, row_len) as usize];
    planes.pack(rows, row_len, WriteOnly::from(&mut a[..]), WriteOnly::from(&mut s[..]));
    (a, s)
}

#[test]
fn types_of_weights_have_planes_and_others_not() {
    let without: Vec<_> = BlockType::ALL.iter().filter(|&&ty| planes(ty).is_none()).map(|ty| ty.name()).collect();
    assert_eq!(without, ["Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"]);
}

#[test]
fn planes_hold_the_bytes_of_the_file_and_padding() {
    let mut random = Random(7);
    for ty in weight_types() {
        let planes = planes(ty).unwrap();
        for (n_row, row_len) in row_lens(ty).into_iter().flat_map(|n| [(0, n), (1, n), (3, n), (4, n)]) {
            let rows = random_blocks(ty, n_row * row_len / ty.block_len(), &mut random);
            let (a, s) = packed(planes, &rows, n_row, row_len);
            assert!(a.len().is_multiple_of(16) && s.len().is_multiple_of(4), "{ty} {n_row} x {row_len}");
            let pad = a.len() + s.len() - rows.len();
            if planes.has_codes() {
                let most = (planes.unit_blocks - 1) * (ty.block_bytes() - planes.a_block);
                assert!(pad <= most, "{ty} {n_row} x {row_len}: {pad} bytes of padding");
            } else {
                assert_eq!(pad, n_row * (planes.groups_per_row(row_len) * GROUP_LEN - row_len) * ty.block_bytes());
            }
            let sorted = |parts: &[&[u8]]| {
                let mut bytes = parts.concat();
                bytes.sort_unstable();
                bytes
            };
            assert!(sorted(&[&a, &s]) == sorted(&[&rows, &vec![0; pad]]), "{ty} {n_row} x {row_len}: other bytes");
        }
    }
}

#[test]
fn pieces_at_whole_steps_make_the_same_planes() {
    let mut random = Random(8);
    for ty in weight_types() {
        let planes = planes(ty).unwrap();
        for row_len in row_lens(ty) {
            let n_row = 7;
            let row_bytes = row_len / ty.block_len() * ty.block_bytes();
            let rows = random_blocks(ty, n_row * row_len / ty.block_len(), &mut random);
            let whole = packed(planes, &rows, n_row, row_len);
            let (mut a, mut s) = (Vec::new(), Vec::new());
            for piece in rows.chunks(planes.row_step(row_len) * row_bytes) {
                let (piece_a, piece_s) = packed(planes, piece, piece.len() / row_bytes, row_len);
                a.extend(piece_a);
                s.extend(piece_s);
            }
            assert!(whole == (a, s), "{ty} {n_row} x {row_len}");
        }
    }
    let step = |ty, row_len| planes(ty).unwrap().row_step(row_len);
    assert_eq!(step(BlockType::Q4_0, 32 * 5), 2);
    assert_eq!(step(BlockType::Q4_0, 32 * 6), 1);
    assert_eq!(step(BlockType::Mxfp4, 32 * 6), 2);
    assert_eq!(step(BlockType::Q4K, 256 * 3), 1);
}

#[test]
fn the_text_of_every_format_is_valid() {
    for ty in weight_types() {
        let text = planes(ty).unwrap().add_to(Kernel::new("dequantize", WEIGHTS)).text();
        let module =
            naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{ty}: {}", e.emit_to_string(&text)));
        let flags = naga::valid::ValidationFlags::all();
        let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32);
        validator.validate(&module).unwrap_or_else(|e| panic!("{ty}: {}", e.emit_to_string(&text)));
    }
}

/// All weights of rows by the kernel `dequantize`, padding included.
fn on_gpu(
    gpu: &std::sync::Arc<crate::gpu::Gpu>,
    ty: BlockType,
    rows: &[u8],
    shape: [usize; 2],
    checked: bool,
) -> Vec<f32> {
    let [n_row, row_len] = shape;
    let planes = planes(ty).unwrap();
    let (mut a, mut s) = packed(planes, rows, n_row, row_len);
    for plane in [&mut a, &mut s] {
        plane.resize(plane.len().max(16), 0);
    }
    let mut tables = planes.tables();
    tables.resize(tables.len().max(4), 0);
    let n_group = n_row * planes.groups_per_row(row_len);
    let y = vec![0xff; n_group * GROUP_LEN * 4];
    let width = 3;
    let params = [n_group as u32, width, 0, 0];
    let none = [0; 16];
    let buffers: [&[u8]; 8] =
        [&a, &s, bytemuck::cast_slice(&tables), &none, &y, &none, bytemuck::cast_slice(&params), &none];
    let kernel = planes.add_to(Kernel::new("dequantize", WEIGHTS));
    let grid = [width, (n_group as u32).div_ceil(64 * width), 1];
    let back = testing::run(gpu, &kernel, &buffers, grid, checked);
    back[4].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn every_format_dequantizes_on_the_gpu_as_on_the_cpu() {
    let Some(gpu) = testing::gpu() else { return };
    let mut random = Random(9);
    for ty in weight_types() {
        let planes = planes(ty).unwrap();
        let row_len = if planes.has_codes() { 3 * ty.block_len() } else { 77 };
        // Enough runs of 8 that nearly all of the 2048 entries of the largest codebook occur.
        let n_row = (1_usize << 17).div_ceil(row_len) | 1;
        let rows = random_blocks(ty, n_row * row_len / ty.block_len(), &mut random);
        let mut want = vec![0.0; n_row * row_len];
        dequantize(ty, &rows, &mut want).unwrap();
        for checked in [true, false] {
            let got = on_gpu(&gpu, ty, &rows, [n_row, row_len], checked);
            let padded = got.len() / n_row;
            for (row, (want, got)) in want.chunks_exact(row_len).zip(got.chunks_exact(padded)).enumerate() {
                assert!(got[row_len..].iter().all(|&y| y == 0.0), "{ty}: padding");
                let len = ty.block_len().max(GROUP_LEN);
                let parts = want.chunks(len).zip(got.chunks(len));
                for (part, (want, got)) in parts.enumerate() {
                    let largest = want.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
                    // Subnormal numbers may be flushed.
                    let bound = 1e-6 * largest + f32::MIN_POSITIVE;
                    for (i, (want, got)) in want.iter().zip(got).enumerate() {
                        assert!(
                            (want - got).abs() <= bound,
                            "{ty} checked={checked} row {row} block {part} weight {i}: {got} instead of {want}"
                        );
                    }
                }
            }
        }
    }
}
